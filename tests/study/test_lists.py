"""Lists of architectures: drawn within a budget, written, and read again."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from structures import TINY

import zenopt
from zenopt.core.errors import BudgetError, DataError, OutputError, StructureError
from zenopt.study.lists import draw_architectures, read_architectures, write_rows
from zenopt.study.spec import StudySpec

CELLS = StudySpec.of_space("nasbench201")


@pytest.mark.parametrize("name", ["nasbench201", "transnas-macro", "superres", "darts"])
def test_a_larger_draw_begins_with_a_smaller_one(name: str) -> None:
    spec = StudySpec.of_space(name)
    few, many = (draw_architectures(spec, count, seed=3) for count in (4, 9))
    assert many[:4] == few and len({item.structure for item in many}) == 9
    assert draw_architectures(spec, 4, seed=4) != few
    space = spec.build_space()
    for item in many:
        assert space.contains(item.architecture) and str(space.parse(item.structure)) == item.structure
        counted = zenopt.count(item.architecture, spec.resolution, spec.num_classes)
        assert item.costs["params"] == counted.params and item.costs["macs"] == counted.macs


@pytest.mark.parametrize("over_budget", ["shrink", "skip"])
def test_what_is_drawn_keeps_the_budget(tiny_spec: Callable[..., StudySpec], over_budget: str) -> None:
    spec = tiny_spec(budget={"params": 9000, "layers": 5})
    found = draw_architectures(spec, 12, over_budget=over_budget)  # type: ignore[arg-type]
    assert len(found) == 12 and all(item.is_feasible for item in found)
    assert all(item.costs["params"] <= 9000 and item.costs["layers"] <= 5 for item in found)
    # Without it, draws are over it, and say so.
    free = draw_architectures(spec, 12, within_budget=False)
    assert {item.is_feasible for item in free} >= {False}
    assert all(
        item.is_feasible == (item.costs["params"] <= 9000 and item.costs["layers"] <= 5) for item in free
    )
    skipped = draw_architectures(spec, 1, over_budget="skip")
    assert {item.structure for item in skipped} <= {
        item.structure for item in draw_architectures(spec, 100, within_budget=False)
    }


def test_a_listed_space_is_drawn_to_its_end() -> None:
    operations = ["none", "skip_connect", "nor_conv_1x1"]
    spec = StudySpec.of_space(
        "nasbench201", {"budget.params": 80_000, "space.options.operations": operations}
    )
    space, limits = spec.build_space(), spec.limits()
    fitting = {str(own) for own in space.architectures() if limits.check(own).is_feasible}
    found = draw_architectures(spec, 100_000)
    assert {item.structure for item in found} == fitting and len(found) == len(fitting) > 10
    assert len(fitting) < 3**6
    with pytest.raises(BudgetError, match="None of the 729"):
        draw_architectures(spec.overridden({"budget.params": 10}), 1)


def test_nothing_fits(tiny_spec: Callable[..., StudySpec]) -> None:
    with pytest.raises(BudgetError, match="of 200 keeps the budget"):
        draw_architectures(tiny_spec(budget={"params": 10}), 1, over_budget="skip")
    with pytest.raises(BudgetError, match="could be shrunk"):
        draw_architectures(tiny_spec(budget={"params": 10}), 1)


@pytest.mark.parametrize("ending", [".csv", ".json", ".txt"])
def test_what_is_written_is_read_again(tmp_path: Path, ending: str) -> None:
    found = draw_architectures(CELLS, 5)
    path = write_rows(tmp_path / "new" / f"cells{ending}", [item.to_json() for item in found])
    assert read_architectures(path, CELLS.build_space()) == [item.architecture for item in found]
    text = path.read_text()
    assert read_architectures("-", CELLS.build_space(), text) == [item.architecture for item in found]
    if ending == ".csv":
        first = next(csv.DictReader(text.splitlines()))
        assert float(first["params"]) == found[0].costs["params"] and first["feasible"] == "True"
    if ending == ".json":
        assert json.loads(text)[0] == found[0].to_json()


def test_lists_of_others(tmp_path: Path) -> None:
    one, two = (item.structure for item in draw_architectures(CELLS, 2))
    space = CELLS.build_space()
    table = gzip.compress(f"index,arch_str,acc\n0,{one},1\n1,{two},2\n2,{one},3\n".encode())
    (tmp_path / "table.csv.gz").write_bytes(table)
    (tmp_path / "list.txt").write_text(f"\ufeff# mine\n\n {one}\n{two}  \n{one}\n")
    for content in (tmp_path / "table.csv.gz", tmp_path / "list.txt"):
        assert [str(own) for own in read_architectures(content, space)] == [one, two]
    written = json.dumps({"architectures": [one, {"structure": two, "acc": 3}]})
    assert [str(own) for own in read_architectures("-", space, written)] == [one, two]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no architecture"),
        ("# nothing\n", "holds no architecture"),
        ("|none~0|\n", "line 1: "),
        (f"# a chain\n{TINY}\n", "line 2: "),
        ("[1, 2]", "item 1: expected a text"),
        ('{"structure": "x"}', 'a list "architectures"'),
        ("[", "not valid JSON"),
        ("structure,acc\nx\n", "row 2: expected 2 fields"),
        ("structure,acc\nx,1\n", "row 2: "),
    ],
)
def test_bad_lists_are_one_line(text: str, message: str) -> None:
    with pytest.raises((DataError, StructureError)) as caught:
        read_architectures("list.txt", CELLS.build_space(), text)
    assert message in str(caught.value) and "list.txt" in str(caught.value) and "\n" not in str(caught.value)


def test_bad_files_are_one_line(tmp_path: Path) -> None:
    space = CELLS.build_space()
    for path in (tmp_path / "none.txt", tmp_path / "none.csv", tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            read_architectures(path, space)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="columns are a, b"):
        read_architectures(tmp_path / "other.csv", space)
    with pytest.raises(OutputError, match="must end in"):
        write_rows(tmp_path / "x.yaml", [])


def test_from_python() -> None:
    found = zenopt.sample_architectures("demo", 3, overrides={"budget.params": 100_000})
    assert len(found) == 3 and all(item.costs["params"] <= 100_000 for item in found)
    assert zenopt.sample_architectures(StudySpec.of_space("darts"), 1)[0].architecture.family == "darts"
