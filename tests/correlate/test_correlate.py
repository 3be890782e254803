"""From a table to statistics: sampling, measuring, caching, resuming, the command and its figure."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.utils import save_image
from training import write_cifar

from zenopt.cli import main
from zenopt.core.costs import count
from zenopt.core.errors import DataError
from zenopt.core.score import Score
from zenopt.core.tables import load_table
from zenopt.correlate import Measurement, measure
from zenopt.correlate.batch import make_minibatch
from zenopt.correlate.sample import draw_sample
from zenopt.correlate.score_cache import ScoreCache
from zenopt.proxies import draw_batch
from zenopt.proxies.evaluation import evaluate
from zenopt.spaces.nasbench201.architecture import CellArchitecture
from zenopt.spaces.nasbench201.space import NasBench201Space
from zenopt.train.data import open_training_images

CHAIN = "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,{},1,8,1)SuperConvK1BNRELU({},32,1,1)"
DEAD = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Twelve cells whose accuracy is their params, another column its negative; the last one has no second number."""
    rng, space = random.Random(0), NasBench201Space()
    cells = [DEAD, *dict.fromkeys(str(space.draw(rng)) for _ in range(11))]
    rows = [(text, count(CellArchitecture.parse(text), 32, 10).params) for text in cells]
    lines = [
        f"{index},{text},{params},{-params if index < 11 else ''}"
        for index, (text, params) in enumerate(rows)
    ]
    path = tmp_path / "table.csv"
    path.write_text("arch_index,arch_str,a_test,b_test\n" + "\n".join(lines) + "\n")
    return path


@pytest.fixture
def correlate(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Any]:
    def run(*arguments: str) -> Any:
        capfd.readouterr()
        code = 0
        try:
            main(["correlate", "--cache", str(tmp_path / "scores.db"), "--classes", "4", *arguments])
        except SystemExit as error:
            code = int(error.code or 0)
        captured = capfd.readouterr()
        assert code == 0, captured.err
        return json.loads(captured.out) if "--json" in arguments else captured.out

    return run


def test_the_command_reports_every_data_set_and_proxy(
    correlate: Callable[..., Any], table: Path, tmp_path: Path
) -> None:
    figure = tmp_path / "figure.html"
    arguments = ("--table", str(table), "--proxies", "params,synflow-expected", "--resamples", "50")
    found = correlate(*arguments, "--figure", str(figure), "--json")
    assert set(found["results"]) == {"a_test", "b_test"}
    params = found["results"]["a_test"]["params"]
    assert {"spearman", "low", "high", "kendall", "n", "failed"} <= params.keys()
    assert params["spearman"] == params["kendall"] == params["top_overlap"] == pytest.approx(1)
    assert (params["n"], params["failed"]) == (11, 0)
    assert found["results"]["b_test"]["params"]["spearman"] == pytest.approx(-1)
    # The dead cell has no flow; it is counted, and ranks last, where its params put it too.
    assert found["results"]["a_test"]["synflow-expected"]["failed"] >= 1
    page = figure.read_text()
    assert "synflow-expected" in page and "b_test" in page and 'src="http' not in page
    told = correlate(*arguments).splitlines()
    assert told[0] == "a_test" and told[3].split()[:2] == ["params", "1.000"] and "b_test" in told


def test_the_last_line_names_no_score_that_ranks_backwards(
    table: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def told(column: str, *more: str) -> str:
        arguments = ("--table", str(table), "--proxies", "params", "--columns", column, "--resamples", "50")
        main(["correlate", *arguments, "--cache", str(tmp_path / "scores.db"), *more])
        return capfd.readouterr().err

    assert "--set proxy.name=params" in told("a_test")
    backwards = told("b_test")
    assert "None of these scores" in backwards and "proxy.name" not in backwards
    assert f"--study nasbench201-table --sampler surrogate --set objective.table={table}" in backwards
    assert told("b_test", "--quiet") == ""


def test_columns_and_rows_can_be_chosen(correlate: Callable[..., Any], table: Path) -> None:
    arguments = ("--table", str(table), "--proxies", "params", "--resamples", "0", "--json")
    found = correlate(*arguments, "--columns", "a_test")
    assert found["results"]["a_test"]["params"]["n"] == 12
    assert found["results"]["a_test"]["params"]["low"] is None
    assert list(correlate(*arguments, "--sample", "5")["results"]) == ["a_test", "b_test"]
    in_one_word = ("--table", f"{table}#a_test", *arguments[2:])
    assert correlate(*in_one_word)["results"] == found["results"]
    # A file's own name may have a # in it.
    odd = table.rename(table.with_name("odd#a_test"))
    assert list(correlate("--table", str(odd), *arguments[2:])["results"]) == ["a_test", "b_test"]


def test_a_direction_is_accounted_for(correlate: Callable[..., Any], tmp_path: Path) -> None:
    """A proxy that is better when lower correlates positively with what it is right about."""
    module = tmp_path / "lowproxy.py"
    module.write_text(
        "from zenopt.proxies import register_proxy\n"
        "@register_proxy('few-params', 'minimize', deterministic=True)\n"
        "def few(probe):\n"
        "    return float(sum(p.numel() for p in probe.network.parameters()))\n"
    )
    path = tmp_path / "chains.csv"
    rows = [f'"{CHAIN.format(width, width)}",{-width}' for width in (8, 16, 24, 32)]
    path.write_text("structure,top1\n" + "\n".join(rows) + "\n")
    import sys

    sys.path.insert(0, str(tmp_path))
    try:
        found = correlate(
            "--space", "superres", "--table", str(path), "--proxies", "lowproxy:few,zen", "--resamples", "0",
            "--resolution", "8", "--batch-size", "2", "--json",
        )  # fmt: skip
    finally:
        sys.path.remove(str(tmp_path))
    results = found["results"]["top1"]
    assert results["few-params"]["spearman"] == pytest.approx(1)
    assert results["zen"]["spearman"] < 0


def test_samples_nest_and_need_numbers(table: Path) -> None:
    known, space = load_table(table), NasBench201Space()
    small = draw_sample(known, ["a_test"], space, 4, seed=1)
    assert draw_sample(known, ["a_test"], space, 9, seed=1)[:4] == small
    assert draw_sample(known, ["a_test"], space, 4, seed=2) != small
    assert len(draw_sample(known, ["a_test", "b_test"], space, None, seed=0)) == 11
    with pytest.raises(DataError, match="has 11 architectures with numbers in a_test, b_test; 12 are needed"):
        draw_sample(known, ["a_test", "b_test"], space, 12, seed=0)


def test_scores_are_kept_and_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [CellArchitecture(("skip_connect",) * 5 + (name,)) for name in ("none", "nor_conv_1x1")]
    settings = Measurement(make_minibatch(None, 4, 8, 4, seed=0), num_classes=4)
    with ScoreCache(tmp_path / "scores.db") as cache:
        first = measure(cells[:1], ["snip", "params"], settings, cache)

    # The package gives its function the module's name.
    module = import_module("zenopt.correlate.measure")
    asked: list[Any] = []

    def counting(network: Any, *rest: Any, **options: Any) -> Any:
        asked.append([proxy.name for proxy in rest[2]])
        return evaluate(network, *rest, **options)

    monkeypatch.setattr(module, "evaluate", counting)
    with ScoreCache(tmp_path / "scores.db") as cache:
        second = measure(cells, ["snip", "params"], settings, cache)
        assert asked == [["snip"]]
        other = Measurement(make_minibatch(None, 4, 8, 4, seed=1), num_classes=4)
        measure(cells[:1], ["snip"], other, cache)
        assert len(asked) == 2
    assert second["snip"][str(cells[0])] == first["snip"][str(cells[0])]
    # An architecture's score does not depend on what else is scored, nor on the order.
    assert measure(cells[::-1], ["snip"], settings)["snip"][str(cells[0])].value == pytest.approx(
        first["snip"][str(cells[0])].value
    )


def test_scores_that_come_in_another_order_are_the_same(tmp_path: Path) -> None:
    cells = [CellArchitecture(("skip_connect",) * 5 + (name,)) for name in ("none", "nor_conv_1x1", "none")]
    settings = Measurement(make_minibatch(None, 4, 8, 4, seed=0), num_classes=4)

    def backwards(function: Any, items: Any) -> Any:
        for index, item in reversed(list(enumerate(items))):
            yield index, function(item)

    with ScoreCache(tmp_path / "scores.db") as cache:
        found = measure(cells, ["snip", "params"], settings, cache, spread=backwards)
        kept = cache.get(settings.identity(), "snip")
    plain = measure(cells, ["snip", "params"], settings)
    for name, by_structure in plain.items():
        assert {text: score.value for text, score in found[name].items()} == {
            text: score.value for text, score in by_structure.items()
        }
    assert set(kept) == {str(cell) for cell in cells}


def test_failures_are_kept_as_such(tmp_path: Path) -> None:
    settings = Measurement(make_minibatch(None, 4, 8, 4, seed=0), num_classes=4)
    dead = CellArchitecture.parse(DEAD)
    with ScoreCache(tmp_path / "scores.db") as cache:
        scores = measure([dead], ["synflow-log", "synflow-expected", "jacob_cov"], settings, cache)
    for by_structure in scores.values():
        assert by_structure[DEAD].value is None
        assert by_structure[DEAD].error
    with ScoreCache(tmp_path / "scores.db") as cache:
        assert cache.get(settings.identity(), "jacob_cov")[DEAD] == scores["jacob_cov"][DEAD]


def test_builds_differ_where_they_should() -> None:
    batch = make_minibatch(None, 4, 8, 4, seed=0)
    cell = CellArchitecture(("nor_conv_3x3",) * 6)
    values = {
        build: measure([cell], ["synflow", "snip"], Measurement(batch, 4, build=build))
        for build in ("official", "zero-cost")
    }
    assert values["official"]["synflow"][str(cell)].value != values["zero-cost"]["synflow"][str(cell)].value


def test_a_cache_keeps_settings_apart(tmp_path: Path) -> None:
    with ScoreCache(tmp_path / "scores.db") as cache:
        cache.put({"a": 1, "b": 2}, "net", {"p": Score(1.5, 0.1), "q": Score(None, 0.2, "no")})
        assert cache.get({"b": 2, "a": 1}, "p") == {"net": Score(1.5, 0.1, source="p")}
        assert cache.get({"a": 1}, "p") == {}
        assert cache.get({"a": 1, "b": 2}, "q")["net"].error == "no"


def test_images_are_balanced_and_normalised(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    for label in ("cat", "dog"):
        (tmp_path / "train" / label).mkdir(parents=True)
        for index in range(6):
            save_image(
                torch.rand(3, 10, 12, generator=generator), tmp_path / "train" / label / f"{index}.png"
            )
    images = open_training_images(f"imagefolder:{tmp_path}")
    batch = make_minibatch(images, 8, 8, 2, seed=0)
    assert batch.inputs.shape == (8, 3, 8, 8)
    assert batch.targets.sum() == 4
    assert batch.inputs.mean((0, 2, 3)).abs().max() < 1e-5
    assert batch.inputs.std((0, 2, 3)).sub(1).abs().max() < 1e-5
    assert batch.fingerprint() == make_minibatch(images, 8, 8, 2, seed=0).fingerprint()
    assert batch.fingerprint() != make_minibatch(images, 8, 8, 2, seed=1).fingerprint()
    # Without a folder 'train', the classes are in the folder itself; torchvision reads the same.
    assert (
        batch.fingerprint()
        == make_minibatch(
            open_training_images(f"imagefolder:{tmp_path / 'train'}"), 8, 8, 2, seed=0
        ).fingerprint()
    )
    resized = transforms.Compose([transforms.Resize((8, 8)), transforms.ToTensor()])
    inputs, targets = draw_batch(ImageFolder(str(tmp_path / "train"), resized), 8, balanced=True, seed=0)
    mean, deviation = inputs.mean((0, 2, 3), keepdim=True), inputs.std((0, 2, 3), keepdim=True)
    assert torch.equal(batch.inputs, (inputs - mean) / deviation)
    assert torch.equal(batch.targets, targets)
    with pytest.raises(DataError, match="has more classes than the 1 outputs"):
        make_minibatch(images, 8, 8, 1, seed=0)


def test_every_kind_of_data_that_trains_can_be_drawn_from(
    correlate: Callable[..., Any], tmp_path: Path
) -> None:
    rng = random.Random(0)
    cells = [NasBench201Space().draw(rng) for _ in range(3)]
    (tmp_path / "table.csv").write_text(
        "arch_str,acc\n" + "".join(f"{cell},{i}\n" for i, cell in enumerate(cells))
    )
    write_cifar(tmp_path, ten=True)
    for data in (f"cifar10:{tmp_path}", "synthetic:40"):
        found = correlate(
            "--table", str(tmp_path / "table.csv"), "--proxies", "snip", "--data", data, "--classes", "10",
            "--batch-size", "10", "--resolution", "8", "--resamples", "0", "--json",
        )  # fmt: skip
        assert found["data"] == data
        assert found["results"]["acc"]["snip"]["n"] == 3


@pytest.mark.parametrize("data", ["imagefolder:", "cifar10:x", "x"])
def test_unknown_data_is_an_error(data: str) -> None:
    with pytest.raises(DataError, match=r"allowed: imagefolder:PATH|folder x does not exist"):
        open_training_images(data)


def test_an_empty_folder_or_class_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there are no folders of classes in"):
        open_training_images(f"imagefolder:{tmp_path}")
    (tmp_path / "cat").mkdir()
    with pytest.raises(DataError, match="class 'cat' has no images"):
        open_training_images(f"imagefolder:{tmp_path}")


def test_combinations_are_judged_on_what_they_did_not_see(
    correlate: Callable[..., Any], tmp_path: Path
) -> None:
    """The truth is a weighted sum of two size measures' ranks: learned weights must find it on the unseen half."""
    rng, space = random.Random(3), NasBench201Space()
    cells = list(dict.fromkeys(space.draw(rng) for _ in range(60)))
    table_path, scores_path = tmp_path / "table.csv", tmp_path / "scores.csv"

    def truth(cell: CellArchitecture) -> float:
        return count(cell, 32, 10).params / 1e5 + rng.gauss(0, 1)

    table_path.write_text("arch_str,acc\n" + "".join(f"{cell},{truth(cell)}\n" for cell in cells))
    found = correlate(
        "--table", str(table_path), "--proxies", "params,synflow-expected,random", "--resamples", "20",
        "--combine", "--scores", str(scores_path), "--resolution", "8", "--batch-size", "2", "--json",
    )  # fmt: skip
    results = found["results"]["acc"]
    assert "vote" not in results
    assert results["learned-ranks"]["n"] == len(cells) - len(cells) // 2
    assert (
        results["learned-ranks"]["spearman"]
        > results["mean-rank"]["spearman"]
        > results["random"]["spearman"]
    )
    # The predictor of the learned search reads the shape as well, and the truth is one of it.
    assert results["surrogate"]["n"] == len(cells) - len(cells) // 2
    assert results["surrogate"]["spearman"] > results["mean-rank"]["spearman"]
    assert found["splits"]["acc"]["surrogate"]["mean"] > 0.7
    assert set(found["surrogate_reads"]["acc"]) <= {"genes", "shape", "costs", "scores", "paths", "proxies"}
    weights = found["learned_weights"]["acc"]
    assert weights["params"] > 2 * abs(weights["random"])
    written = load_table(scores_path)
    assert written.structures == tuple(dict.fromkeys(written.structures))
    assert len(written.column("params")) == len(cells)
    assert len(written.column("synflow-expected")) == len(cells) - results["synflow-expected"]["failed"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--proxies", ","), "--proxies needs at least one name"),
        (("--proxies", "params", "--columns", ""), "--columns needs at least one name"),
        (("--proxies", "params", "--table", "t.csv#a", "--columns", "b"), "--table names column 'a' already"),
        (("--proxies", "params", "--scores", "file/x.csv"), "Cannot write file/x.csv: "),
        (("--proxies", "params", "--figure", "file/x.html"), "Cannot write file/x.html: "),
        (("--proxies", "parms"), "Unknown proxy 'parms'"),
        (
            ("--proxies", "params", "--inputs", "genes"),
            "--inputs says what a combination may read; add --combine",
        ),
        (
            ("--proxies", "params", "--combine", "--inputs", "genes,gene"),
            "inputs: no group is called 'gene'; there are genes, shape, costs, scores, paths.",
        ),
        (
            ("--proxies", "params", "--space", "superres"),
            "table.csv: row 2: Block 0 at position 0: cannot read",
        ),
    ],
)
def test_bad_requests_are_found_before_anything_is_scored(
    table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    complaint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("no folder")
    cache = tmp_path / "scores.db"
    with pytest.raises(SystemExit) as caught:
        main(["correlate", "--table", str(table), "--cache", str(cache), *arguments])
    assert caught.value.code == 2
    assert complaint in capfd.readouterr().err
    assert not cache.exists()
