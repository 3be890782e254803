"""The notebooks of examples/ run from top to bottom, and are kept without what running them leaves behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from notebooks import run_notebook

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
IDS = [path.name for path in NOTEBOOKS]


def cells(path: Path, kind: str) -> list[dict[str, Any]]:
    content = json.loads(path.read_text(encoding="utf-8"))
    return [cell for cell in content["cells"] if cell["cell_type"] == kind]


def test_there_are_notebooks() -> None:
    assert {"first_search.ipynb", "own_proxy.ipynb", "supernet.ipynb"} <= set(IDS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_outputs_are_stripped(path: Path) -> None:
    """Outputs would make every diff unreadable; the cells' ids stay, so that a diff is of the cells that changed."""
    content = json.loads(path.read_text(encoding="utf-8"))
    for cell in cells(path, "code"):
        assert cell["outputs"] == [] and cell["execution_count"] is None and cell["metadata"] == {}
        compile("".join(cell["source"]), path.name, "exec")
    assert set(content["metadata"]) == {"kernelspec", "language_info"}
    assert path.read_text(encoding="utf-8") == json.dumps(content, indent=1, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_the_site_shows_it(path: Path) -> None:
    assert (ROOT / "docs" / "notebooks" / path.name).resolve() == path
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert f"\nnotebooks/{path.stem}\n" in index


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_it_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed (the extra 'test')")
    pytest.importorskip("pandas", reason="pandas is not installed (the extra 'frame')")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(path, as_version=4)
    run_notebook(notebook, tmp_path)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    kinds = {kind for output in outputs for kind in output.get("data", ())}
    assert {"application/vnd.plotly.v1+json", "text/html"} <= kinds
    errors = "".join(output["text"] for output in outputs if output.get("name") == "stderr")
    assert "Traceback" not in errors, errors
