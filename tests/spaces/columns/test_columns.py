"""A table's own columns as a space: rows are architectures without networks."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from known import table_path
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from zenopt.cli import main
from zenopt.core.budget import Budget
from zenopt.core.costs import count
from zenopt.core.description import describe
from zenopt.core.errors import DataError, SpecError, StructureError
from zenopt.dashboard.pages import StudyPage
from zenopt.latency.limits import Limits
from zenopt.predictors.networks import NetworkReader
from zenopt.spaces.columns.architecture import values_of_cell
from zenopt.spaces.columns.space import ColumnsSpace
from zenopt.spaces.tabular import space_table
from zenopt.storage import open_storage
from zenopt.study.spec import StudySpec
from zenopt.study.study import load_study

PARAMETERS = ["kind", "dim", "ratio"]
COSTS = {"params": {"column": "mparams", "factor": 1e6}, "macs": "macs"}


def rows() -> list[tuple[str, ...]]:
    """Return 36 settings of two kinds; the list of ratios has one to three entries."""
    found = []
    for kind in ("vit", "pit"):
        for dim in (16, 24, 32):
            for ratio in ("[2.0]", "[2.0, 3.5]", "[3.5, 2.0]", "[4, 4, 2]", "[4, 3.5, 2]", "[4]"):
                numbers = [float(own) for own in ratio.strip("[]").split(",")]
                size = dim * sum(numbers)
                score = 50 + dim / 4 + sum(numbers) - (kind == "pit") * 3 + 0.1 * (ratio == "[4]")
                found.append(
                    (kind, str(dim), ratio, f"{size / 1000:.6f}", f"{size * 100:.0f}", f"{score:.3f}")
                )
    return found


@pytest.fixture
def table(tmp_path: Path) -> Path:
    lines = [
        "kind,dim,ratio,mparams,macs,top1",
        *(f'{a},{b},"{c}",{d},{e},{f}' for a, b, c, d, e, f in rows()),
    ]
    path = tmp_path / "table.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def space(table: Path) -> ColumnsSpace:
    return ColumnsSpace(str(table), PARAMETERS, COSTS)


def spec_of(table: Path, **fields: Any) -> dict[str, Any]:
    return {
        "name": "columns",
        "space": {
            "name": "columns",
            "options": {"table": str(table), "parameters": PARAMETERS, "costs": COSTS},
        },
        "resolution": 32,
        "objective": {"kind": "table", "table": str(table), "column": "top1"},
        "trials": 12,
        **fields,
    }


@pytest.fixture
def zenopt(capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command; return its stdout, or its stderr where it is to fail."""

    def run(*arguments: str | Path, code: int = 0) -> str:
        capfd.readouterr()
        ended = 0
        try:
            main([str(own) for own in arguments])
        except SystemExit as error:
            ended = error.code if isinstance(error.code, int) else 1
        captured = capfd.readouterr()
        assert ended == code, captured.err
        return captured.err if code else captured.out

    return run


# -- text and cells ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "values"),
    [
        ("192", (192,)),
        ("4.0", (4,)),
        ("[3.5, 4.0]", (3.5, 4)),
        ("(1 2 3)", (1, 2, 3)),
        ("3,4.5", (3, 4.5)),
        ("['conv', \"skip\"]", ("conv", "skip")),
        ("[[(0,1),(2,3)],[(4,5)]]", (0, 1, 2, 3, 4, 5)),
        ("two words", ("two words",)),
        ("00012", ("00012",)),
        ("nan", ("nan",)),
        ("1e-4", (0.0001,)),
        ("[]", ()),
        (" ", ()),
    ],
)
def test_cells(cell: str, values: tuple[Any, ...]) -> None:
    found = values_of_cell(cell)
    assert found == values and list(map(type, found)) == list(map(type, values))


def test_the_text_is_canonical(space: ColumnsSpace) -> None:
    text = "kind=pit dim=24 ratio=2,3.5"
    for other in (text, "  dim=24.0   ratio=2.0,3.5 kind=pit "):
        found = space.parse(other)
        assert str(found) == text and found == space.parse(text) and hash(found) == hash(space.parse(text))
    assert all(str(space.parse(str(own))) == str(own) for own in space.architectures())
    for wrong in (
        "kind=pit dim=24",
        "kind=pit dim=24 ratio=2 dim=3",
        "kind=pit dim=24 ratio=2 x=1",
        "pit",
        "",
    ):
        with pytest.raises(StructureError):
            space.parse(wrong)


def test_names_and_words_of_any_characters(tmp_path: Path) -> None:
    path = tmp_path / "odd.csv"
    path.write_text('my op,n,top1\n"a b=c%",1,2\n"ü",2,3\n"(x) y",3,4\n')
    space = ColumnsSpace(str(path), ["my op", "n"])
    texts = [str(own) for own in space.architectures()]
    assert texts[0] == "my%20op=a%20b%3Dc%25 n=1" and len(texts) == 3
    for text in texts:
        assert ColumnsSpace.recognises(text) and str(space.parse(text)) == text
        assert str(space.decode(space.encode(space.parse(text)))) == text


# -- parameters and moves ------------------------------------------------------------------------------------------


def test_parameters(space: ColumnsSpace) -> None:
    assert space.distributions == {
        "kind": CategoricalDistribution(("pit", "vit")),
        "dim": IntDistribution(16, 32, step=8),
        "ratio.1": CategoricalDistribution((2, 3.5, 4)),
        "ratio.2": CategoricalDistribution((None, 2, 3.5, 4)),
        "ratio.3": CategoricalDistribution((None, 2)),
    }
    found = list(space.architectures())
    assert len(found) == len(rows())
    for own in found:
        params = space.encode(own)
        assert space.decode(params) == own and space.is_complete(params) and space.contains(own)
    assert space.encode(space.parse("kind=pit dim=24 ratio=4"))["ratio.2"] is None


def test_numbers_of_many_values_are_ranges(tmp_path: Path) -> None:
    path = tmp_path / "wide.csv"
    path.write_text("lr,width,top1\n" + "".join(f"{i / 7:.4f},{i * i},{i}\n" for i in range(80)))
    space = ColumnsSpace(str(path), ["lr", "width"])
    assert space.distributions == {"lr": FloatDistribution(0.0, 11.2857), "width": IntDistribution(0, 6241)}
    assert str(space.decode({"lr": 5.0, "width": 35 * 35 + 4})) == "lr=5 width=1225"
    with pytest.raises(StructureError, match="allowed is 0 to 6241"):
        space.decode({"lr": 5.0, "width": 9999})


def test_other_values_are_the_nearest_row(space: ColumnsSpace) -> None:
    params = {"kind": "vit", "dim": 24, "ratio.1": 4, "ratio.2": 4, "ratio.3": None}
    unlisted = space.parse("kind=vit dim=24 ratio=4,4")
    assert not space.contains(unlisted) and space.encode(unlisted) == params
    # One entry less or one more differ by as much as any word; the first of the table is taken.
    assert str(space.decode(params)) == "kind=vit dim=24 ratio=4,4,2"
    with pytest.raises(StructureError, match="dim is 17; allowed are 16, 24, 32"):
        space.encode(space.parse("kind=vit dim=17 ratio=4"))
    with pytest.raises(StructureError, match="ratio has 4 values; at most 3"):
        space.encode(space.parse("kind=vit dim=16 ratio=4,4,4,4"))


def test_moves_lead_to_the_nearest_rows(space: ColumnsSpace) -> None:
    own = space.parse("kind=vit dim=24 ratio=4")
    near = space.neighbours(own)
    assert own not in near and all(space.contains(other) for other in near)
    # Half the range of a column is half a word away, so other dims come first.
    assert {str(other) for other in near[:2]} == {"kind=vit dim=16 ratio=4", "kind=vit dim=32 ratio=4"}
    found = {space.mutate(own, random.Random(seed)) for seed in range(200)}
    assert found == set(near)
    # Every row can be reached.
    seen, new = {own}, {own}
    while new:
        new = {other for item in new for other in space.neighbours(item)} - seen
        seen |= new
    assert len(seen) == len(rows())


# -- costs ---------------------------------------------------------------------------------------------------------


def test_costs_are_the_tables(space: ColumnsSpace, table: Path) -> None:
    for row, own in zip(rows(), space.architectures(), strict=True):
        costs = count(own, 32)
        assert (costs.params, costs.macs) == (round(float(row[3]) * 1e6), int(row[4])) and isnan(costs.layers)
    assert isnan(count(space.parse("kind=vit dim=24 ratio=4,4"), 32).params)
    # A search begins with the most expensive row, and shrinks past all others.
    assert space.initial == "kind=vit dim=32 ratio=4,4,2"
    limits = Limits(Budget(macs=9600), 32)
    fitted = limits.closest_fit(space, space.parse(space.initial))
    assert count(fitted, 32).macs == 9600
    bare = ColumnsSpace(str(table), PARAMETERS)
    assert bare.initial == str(next(bare.architectures())) and bare.shrink(bare.parse(bare.initial)) is None


def test_rows_of_equal_settings_are_one(tmp_path: Path) -> None:
    path = tmp_path / "seeds.csv"
    path.write_text("dim,seed,params,top1\n8,0,100,50\n8,1,102,60\n16,0,200,70\n")
    space = ColumnsSpace(str(path), ["dim"], {"params": "params"})
    assert [(str(own), count(own, 32).params) for own in space.architectures()] == [
        ("dim=8", 101),
        ("dim=16", 200),
    ]
    only = ColumnsSpace(str(path), ["dim"], where=["seed=1"])
    assert [str(own) for own in only.architectures()] == ["dim=8"]
    assert only.text_of_row({"dim": "16", "seed": "0"}) is None


def test_predictors_read_rows(space: ColumnsSpace, table: Path) -> None:
    reader = NetworkReader(space, 32, 10)
    found = reader.read(space.architectures())
    assert {"genes", "shape", "costs"} == set(found.groups) and reader.ranking == "log MACs"
    assert len(np.unique(found.matrix, axis=0)) == len(rows())
    own = space.parse("kind=pit dim=24 ratio=2,3.5").shape_features()
    assert own["ratio"] == 2.75 and own["ratio length"] == 2 and own["kind pit"] == 1 and own["kind vit"] == 0
    assert NetworkReader(ColumnsSpace(str(table), PARAMETERS), 32, 10).ranking is None


def test_there_is_no_network(space: ColumnsSpace) -> None:
    own = space.parse(space.initial)
    with pytest.raises(StructureError, match="it has no network"):
        describe(own)
    assert own.closed_form("zen", resolution=32) is None and not space.has_networks


# -- what is wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "needs|names: in space.options.table"),
        ({"parameters": "dim"}, "must be a list of texts"),
        ({"parameters": ["dim", "dim"]}, "names one twice"),
        ({"parameters": ["dim"], "costs": {"size": "macs"}}, "costs.size is no cost; allowed: params"),
        ({"parameters": ["dim"], "costs": {"macs": 3}}, "must be a column or"),
        ({"parameters": ["dim"], "costs": {"macs": {"column": "macs", "factor": "1e6x"}}}, "positive number"),
        ({"parameters": ["dim"], "costs": {"macs": {"column": "macs", "factr": 2}}}, "must be a column or"),
    ],
)
def test_wrong_options(table: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        ColumnsSpace(**({"table": str(table), **options} if options else {}))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"parameters": ["nix"]}, "no column 'nix'; it has kind, dim"),
        ({"parameters": ["dim"], "costs": {"macs": "nix"}}, "space.options.costs: .* no column 'nix'"),
        ({"parameters": ["dim"], "costs": {"macs": "kind"}}, "row 2: kind must be a number"),
        ({"parameters": ["dim"], "where": ["dim=3"]}, "no rows that meet"),
        ({"parameters": ["dim"], "where": ["nix=3"]}, "expected COLUMN=VALUE"),
        ({"parameters": ["dim"], "initial": "dim=3"}, "has no row 'dim=3' to start from"),
    ],
)
def test_what_the_table_has_not(table: Path, options: dict[str, Any], words: str) -> None:
    # Nothing is read before it is needed.
    space = ColumnsSpace(str(table), **options)
    with pytest.raises((SpecError, DataError, StructureError), match=words):
        _ = space.initial


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"objective": {"kind": "proxy"}}, "objective.kind proxy needs networks"),
        ({"objective": {"kind": "train"}}, "objective.kind train needs networks"),
        ({"latency": {"device": "v100-fp16-b64"}}, "latency needs networks"),
        (
            {"sampler": {"name": "zen", "guide": {"proxy": "naswot", "moves": 4}}},
            "sampler.guide.proxy needs networks",
        ),
    ],
)
def test_what_needs_networks_is_refused(table: Path, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        StudySpec.validated_data(spec_of(table, **fields))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"budget": {"layers": 3}}, "budget.layers is set but nothing records"),
        ({"objectives": ["score", "layers"]}, "nothing records layers"),
    ],
)
def test_costs_that_nobody_records(table: Path, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        StudySpec.validated_data(spec_of(table, **fields)).check()


# -- studies -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["surrogate", "zen", "aging", "random", "tpe", "nsga2", "gp"])
def test_every_sampler_searches(
    zenopt: Callable[..., str], table: Path, tmp_path: Path, sampler: str
) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(json.dumps(spec_of(table, budget={"macs": 16000.0}, sampler={"name": sampler})))
    url = f"sqlite:///{tmp_path / 'study.db'}"
    found = json.loads(zenopt("optimize", "--study", path, "--storage", url, "--workers", "1", "--json"))
    assert found["done"] == 12 and found["failed"] == 0
    listed = {
        str(own): count(own, 32).macs for own in ColumnsSpace(str(table), PARAMETERS, COSTS).architectures()
    }
    assert listed[found["best"]["structure"]] <= 16000


def test_a_study_from_search_to_report(zenopt: Callable[..., str], table: Path, tmp_path: Path) -> None:
    path, url = tmp_path / "study.yaml", f"sqlite:///{tmp_path / 'study.db'}"
    path.write_text(json.dumps(spec_of(table, sampler={"name": "surrogate"})))
    of = ("--study", "columns", "--storage", url)
    zenopt("optimize", "--study", path, "--storage", url, "--workers", "1", "--quiet")
    predicted = json.loads(
        zenopt("predict", *of, "kind=vit dim=32 ratio=4,4,2", "dim=16 kind=pit ratio=4,4", "--json")
    )
    high, low = predicted["networks"]
    assert (
        high["mean"] > low["mean"] and low["structure"] == "kind=pit dim=16 ratio=4,4" and low["trained"] == 0
    )
    assert "ratio is missing" in zenopt("predict", *of, "dim=16 kind=pit", code=2)
    for command in (
        ("export-best", "--output", tmp_path / "bundle"),
        ("train", "--data", "synthetic:8", "--output", tmp_path / "run"),
        ("verify", "--data", "synthetic:8", "--epochs", "1"),
        ("report", "--figure", "network", "-o", tmp_path / "best.svg"),
    ):
        assert "has no networks to build, train or draw" in zenopt(command[0], *of, *command[1:], code=2)
    assert "has no networks" in zenopt("describe", "dim=16 kind=pit", "--layers", code=2)
    # What has been found can be looked at where the table is not.
    table.unlink()
    assert "kind=vit dim=32 ratio=4,4,2" in zenopt("status", *of) and "export-best" not in zenopt(
        "status", *of
    )
    zenopt("report", *of, "-o", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.index("Best of the search") < page.index("kind=vit dim=32 ratio=4,4,2")
    assert "no pictures of networks: The space columns" in page
    assert "zenopt export-best" not in page and "zenopt train" not in page
    note = dashboard_note(url)
    assert "kind=vit dim=32 ratio=4,4,2" in note and "No candidate" not in note
    assert "cannot be read" in zenopt("predict", *of, "kind=vit dim=32 ratio=4,4,2", code=2)


def dashboard_note(url: str) -> str:
    """Return what the dashboard says of the study, from a copy of its trials."""
    source = load_study(open_storage(url), "columns")
    shown = optuna.create_study(direction="maximize", study_name="columns")
    shown.add_trials(source.get_trials())
    StudyPage(shown, source, None).update()
    attributes = shown._storage.get_study_system_attrs(shown._study_id)
    return "".join(str(value) for key, value in attributes.items() if key.startswith("dashboard:note"))


def test_a_table_is_named_once(table: Path) -> None:
    content = spec_of(table)
    del content["space"]["options"]["table"]
    spec = StudySpec.validated_data(content)
    assert spec.build_space().contains(spec.build_space().parse("kind=vit dim=32 ratio=4,4,2"))
    # One of its own stays: it may have parameters that the accuracies' has not.
    content["space"]["options"]["table"] = "other.csv"
    assert StudySpec.validated_data(content).space.options["table"] == "other.csv"


@pytest.mark.parametrize(("where", "rows"), [("autoformer", 126), ("pit", 54)])
def test_the_preset_of_vision_transformers(
    zenopt: Callable[..., str], tmp_path: Path, where: str, rows: int
) -> None:
    table = table_path("vit_bench_101.csv.gz")
    chosen = (f"objective.table={table}", f"space.options.where=[space={where}]")
    spec = StudySpec.load("vit-table", chosen)
    accuracies = space_table(spec.space.build(), table).column("cifar100_kd_acc")
    assert len(accuracies) == rows
    found = json.loads(
        zenopt(
            "optimize", "--study", "vit-table", "--set", chosen[0], "--set", chosen[1], "--trials", "12",
            "--workers", "1", "--storage", f"sqlite:///{tmp_path / 'study.db'}", "--json",
        )
    )  # fmt: skip
    assert found["done"] == 12 and found["failed"] == 0
    assert found["best"]["value"] >= sorted(accuracies.values())[-rows // 5]


def test_the_preset_of_vision_transformers_reads_lists(tmp_path: Path) -> None:
    path = tmp_path / "vit.csv"
    path.write_text(
        "space,dim,depth,mlp_ratio,num_heads,cifar100_kd_acc\n"
        'autoformer,192,2,"[3.5, 4.0]","[4, 3]",75.5\n'
        'autoformer,240,3,"[4.0, 4.0, 3.5]","[3, 3, 3]",76\n'
        'pit,16,"[1, 4, 2]",4,"[2, 4, 8]",70\n'
    )
    spec = StudySpec.load("vit-table", [f"objective.table={path}"])
    spec.check()
    assert list(map(str, spec.build_space().architectures())) == [
        "dim=192 depth=2 mlp_ratio=3.5,4 num_heads=4,3",
        "dim=240 depth=3 mlp_ratio=4,4,3.5 num_heads=3,3,3",
    ]


def test_a_public_table() -> None:
    space = ColumnsSpace(
        str(table_path("vit_bench_101.csv.gz")), ["space", "dim", "depth", "mlp_ratio", "num_heads"]
    )
    found = list(space.architectures())
    assert len(found) == len(set(map(str, found))) >= 170
    assert all(space.decode(space.encode(own)) == own for own in found)
    assert {"depth.3", "mlp_ratio.14", "num_heads.14"} <= set(space.distributions)
