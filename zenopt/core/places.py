"""Where zenopt keeps its own files."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def _studies() -> Path:
    # In a checkout `zenopt/studies` is a link, of which git for Windows makes a text file.
    inside = PACKAGE / "studies"
    return inside if inside.is_dir() else PACKAGE.parent / "studies"


STUDIES_FOLDER = _studies()
DEVICES_FOLDER = PACKAGE / "latency" / "devices"
