"""What a study asks of a space is a property of the space's contract, not its name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zenopt.cli.correlate import _preset
from zenopt.spaces.columns.space import ColumnsSpace
from zenopt.spaces.registry import SPACES
from zenopt.study.spec import StudySpec


class MyRows(ColumnsSpace):
    """Rows of a table by another name."""


@pytest.fixture
def name() -> Iterator[str]:
    SPACES.add("rows-of-mine", MyRows)
    yield "rows-of-mine"
    SPACES.forget("rows-of-mine")


def test_a_space_that_shares_the_table_of_the_objective_reads_it(name: str, tmp_path: Path) -> None:
    for file in ("one.csv", "other.csv"):
        (tmp_path / file).write_text("width,top1\n1,50\n2,70\n")
    one, other = (str(tmp_path / file) for file in ("one.csv", "other.csv"))

    def table_of(**options: Any) -> str:
        content = {
            "name": "mine", "resolution": 32, "sampler": {"name": "random"},
            "space": {"name": name, "options": {"parameters": ["width"], **options}},
            "objective": {"kind": "table", "table": one, "column": "top1"},
        }  # fmt: skip
        spec = StudySpec.validated_data(content)
        # What is stored says it, so that a stored spec is the same.
        assert StudySpec.model_validate(spec.model_dump(mode="json")) == spec
        return str(spec.space.options["table"])

    assert table_of() == one and table_of(table=other) == other


def test_presets_that_search_a_space_are_found_by_what_they_say() -> None:
    found = {
        space: _preset(space, "proxy")
        for space in ("superres", "nasbench201", "nasbench101", "darts", "mnasnet")
    }
    assert found == {
        "superres": "cifar-params1m", "nasbench201": "nasbench201", "nasbench101": "nasbench101",
        "darts": "darts-cells", "mnasnet": None,
    }  # fmt: skip
    assert _preset("mnasnet", "table") == "mnasnet-table"
