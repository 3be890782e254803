"""Reading of golden fixtures; a plain module, because parametrised tests need it before fixtures exist."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

FIXTURES = Path(__file__).resolve().parent / "fixtures"


@cache
def load_fixture(name: str) -> Any:
    """Return the content of ``fixtures/<name>.json``; shared, so do not change it."""
    return json.loads((FIXTURES / f"{name}.json").read_text(encoding="utf-8"))


def structures(space: str | None = None) -> list[dict[str, Any]]:
    """Return the structures with reference counts: all, or those of ``"superres"`` or ``"mobile"``."""
    wanted = {None: None, "superres": "XXBL", "mobile": "IDW_fixfc"}[space]
    return [record for record in load_fixture("zennas_structures") if wanted in (None, record["space"])]


def record_id(record: dict[str, Any]) -> str:
    """Return the name under which pytest shows a record."""
    return str(record.get("id", record["structure"]))
