"""Notebooks that are run with nothing shared: neither settings and history, nor ports that others may take."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest


def notebook_of(*codes: str) -> Any:
    """Return a notebook with a cell for each piece of code."""
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed (the extra 'test')")
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in codes])


def run_notebook(notebook: Any, folder: Path) -> None:
    """Run the cells of a notebook, which then have their outputs, in the folder ``notebook`` of a folder."""
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed (the extra 'test')")
    Config = pytest.importorskip("traitlets.config", reason="traitlets is not installed").Config
    pytest.importorskip("ipykernel", reason="ipykernel is not installed (the extra 'test')")
    place = folder / "notebook"
    place.mkdir(exist_ok=True)
    # Names of sockets have room for about a hundred characters.
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="k") as sockets:
        patch.delenv("ZENOPT_STORAGE", raising=False)
        for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "MPLCONFIGDIR"):
            patch.setenv(name, str(folder / name.lower()))
        patch.setenv("JUPYTER_RUNTIME_DIR", sockets)
        own = {} if os.name == "nt" else {"transport": "ipc", "ip": f"{sockets}/kernel"}
        nbclient.NotebookClient(
            notebook,
            config=Config({"KernelManager": own}),
            timeout=1200,
            startup_timeout=300,
            iopub_timeout=300,  # of a busy machine; after that, what a cell shows is lost
            kernel_name="python3",
            resources={"metadata": {"path": str(place)}},
        ).execute()
