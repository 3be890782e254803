"""A score learned from known accuracies: what it learns, how it is kept, and that it is a proxy like any other."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structures import TINY_DEEP

from zenopt.cli import main
from zenopt.core.costs import count
from zenopt.core.errors import ProxyError
from zenopt.core.statistics import spearman
from zenopt.predictors.features import architecture_features
from zenopt.predictors.learned import LearnedScore, fit_learned
from zenopt.proxies import get_proxy, score_architecture
from zenopt.spaces.nasbench201.architecture import CellArchitecture
from zenopt.spaces.nasbench201.space import NasBench201Space
from zenopt.study.spec import StudySpec


def cells(number: int, seed: int = 0) -> list[CellArchitecture]:
    rng, space = random.Random(seed), NasBench201Space()
    return list(dict.fromkeys(space.draw(rng) for _ in range(2 * number)))[:number]


def truth(cell: CellArchitecture) -> float:
    """Best in the middle: no weighting of ranks can say that."""
    own = architecture_features(cell, 32, 10)
    return -abs(own["most convolutions on a path"] - 1.4) + 0.1 * own["live nor_conv_3x3"]


def test_features_of_a_cell_are_those_of_its_open_paths() -> None:
    cell = CellArchitecture.parse(
        "|nor_conv_3x3~0|+|none~0|avg_pool_3x3~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"
    )
    own = architecture_features(cell, 32, 10)
    # Open are the skip 0-3 and 0-1-2-3; of the six edges 02 and 13 are on no open path.
    assert own["paths"] == 2 and own["paths of skips"] == 1 and own["dead edges"] == 2
    assert own["most convolutions on a path"] == 2 and own["fewest convolutions on a path"] == 0
    assert own["live nor_conv_3x3"] == own["live nor_conv_1x1"] == own["live avg_pool_3x3"] == 1
    assert own["paths with pooling"] == own["poolings on paths"] == 1
    dead = architecture_features(CellArchitecture(("nor_conv_3x3",) * 3 + ("none",) * 3), 32, 10)
    assert dead["is connected"] == 0 and dead["live nor_conv_3x3"] == 0


def test_features_of_a_chain_are_its_size(tmp_path: Path) -> None:
    from zenopt.spaces.chain.architecture import Architecture

    chain = Architecture.parse(TINY_DEEP)
    own, costs = architecture_features(chain, 32, 10), count(chain, 32, 10)
    assert own["log params"] == pytest.approx(np.log(costs.params))
    assert own["log MACs"] == pytest.approx(np.log(costs.macs))
    assert own["log convolutions"] == pytest.approx(np.log(6))


def test_a_process_learns_what_ranks_cannot_say() -> None:
    known, unseen = cells(120), cells(100, seed=1)
    table = {"params": [float(count(cell, 32, 10).params) for cell in known]}
    others = {"params": [float(count(cell, 32, 10).params) for cell in unseen]}
    features, hidden = ([architecture_features(cell, 32, 10) for cell in group] for group in (known, unseen))
    wanted = [truth(cell) for cell in unseen]
    with_features = fit_learned(table, [truth(cell) for cell in known], features)
    found = spearman(with_features.predict(others, hidden), wanted)
    alone = spearman(fit_learned(table, [truth(cell) for cell in known]).predict(others), wanted)
    assert found is not None and alone is not None
    assert found > 0.95 > alone + 0.1
    # What is nothing but noise is learned as such: no confident nonsense.
    rng = random.Random(0)
    noise = fit_learned(table, [rng.random() for _ in known], features).predict(others, hidden)
    assert noise.std() < 0.1


def test_failures_and_directions_count() -> None:
    """Failures rank last; a proxy that is better when lower is turned round."""
    table: dict[str, list[float | None]] = {"synflow-log": [None, 1.0, 2.0, 3.0, 4.0, 5.0]}
    model = fit_learned(table, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    found = model.predict({"synflow-log": [None, 0.5, 2.5, 9.0]})
    assert found.tolist() == sorted(found.tolist()) and found[0] < found[3]


def test_too_little_or_nothing_to_learn_from_is_an_error() -> None:
    with pytest.raises(ProxyError, match="needs 3 to 4,000 architectures to learn from, got 2"):
        fit_learned({"params": [1.0, 2.0]}, [1.0, 2.0])
    with pytest.raises(ProxyError, match="at least one proxy or feature"):
        fit_learned({}, [1.0, 2.0, 3.0])
    model = fit_learned({"params": [1.0, 2.0, 3.0]}, [1.0, 2.0, 3.0])
    with pytest.raises(ProxyError, match="scores of params are needed"):
        model.predict({"macs": [1.0]})


def saved(folder: Path, model: LearnedScore) -> Path:
    path = folder / "model.json"
    path.write_text(json.dumps(model.to_json(), allow_nan=False))
    return path


def a_model() -> LearnedScore:
    known = cells(40)
    table: dict[str, list[float | None]] = {
        "params": [float(count(cell, 32, 10).params) for cell in known],
        "synflow-expected": [None if index < 3 else float(index) for index in range(40)],
    }
    return fit_learned(
        table, [truth(cell) for cell in known], [architecture_features(cell, 32, 10) for cell in known],
        settings={"resolution": 32, "num_classes": 10, "batch_size": 2},
    )  # fmt: skip


def test_a_file_gives_the_same_score(tmp_path: Path, tiny_spec: Callable[..., StudySpec]) -> None:
    model = a_model()
    name = f"learned:{saved(tmp_path, model)}"
    cell = cells(1, seed=5)[0]
    proxy = get_proxy(name)
    assert (proxy.cost_class, proxy.kind, proxy.direction) == ("forward", "architecture", "maximize")
    score = score_architecture(cell, name, resolution=32, num_classes=10, batch_size=2)
    table: dict[str, Any] = {
        own: [_score(cell, own)] for own in ("params", "synflow-expected")
    }  # fmt: skip
    assert score.mean == pytest.approx(model.predict(table, [architecture_features(cell, 32, 10)])[0])
    # A spec takes it as a proxy or as a guide.
    spec = tiny_spec(space={"name": "nasbench201"}, budget={}, proxy={"name": name})
    assert spec.proxy.name == name


def _score(cell: CellArchitecture, name: str) -> float | None:
    try:
        return score_architecture(cell, name, resolution=32, num_classes=10, batch_size=2).mean
    except ProxyError:
        return None


def test_a_learned_score_of_another_family_says_so(tmp_path: Path) -> None:
    from zenopt.spaces.chain.architecture import Architecture

    model = a_model()
    own = fit_learned({}, [1.0, 2.0, 3.0], [architecture_features(cell, 32, 10) for cell in cells(3)])
    path = saved(tmp_path, LearnedScore(**{**vars(own), "settings": model.settings}))
    with pytest.raises(ProxyError, match="for another family of architectures: Architecture has no 'live"):
        score_architecture(
            Architecture.parse("SuperConvK3BNRELU(3,8,1,1)"), f"learned:{path}", resolution=32, num_classes=10
        )


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "cannot be read: No such file"),
        ("{", "not valid JSON"),
        ("[]", "is no learned score; zenopt correlate --learn writes one"),
        ('{"format": "zenopt learned score 1"}', "kernel is missing"),
        ("short", "inputs must have 40 numbers, got 39"),
        ("text", r"mean\.0 must be a number, got 'x'"),
    ],
)
def test_bad_files_are_one_line(tmp_path: Path, content: str | None, complaint: str) -> None:
    path = tmp_path / "model.json"
    plain = a_model().to_json()
    texts = {
        "short": json.dumps({**plain, "inputs": plain["inputs"][:-1]}),
        "text": json.dumps({**plain, "mean": ["x"] * len(plain["mean"])}),
    }
    if content is not None:
        path.write_text(texts.get(content, content))
    with pytest.raises(ProxyError, match=complaint) as caught:
        get_proxy(f"learned:{path}")
    assert "\n" not in str(caught.value)


def test_the_command_learns_judges_and_writes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "table.csv"
    table.write_text("arch_str,acc\n" + "".join(f"{cell},{truth(cell)}\n" for cell in cells(90)))
    model = tmp_path / "model.json"
    common = ["correlate", "--table", str(table), "--cache", str(tmp_path / "c.db"), "--resamples", "20"]
    main([
        *common, "--proxies", "params,synflow-expected", "--features", "--combine", "--train", "50",
        "--learn", str(model), "--json",
    ])  # fmt: skip
    found = json.loads(capfd.readouterr().out)
    results = found["results"]["acc"]
    assert results["learned-process"]["n"] == results["learned-ranks"]["n"] == 40
    assert results["learned-process"]["spearman"] > results["learned-ranks"]["spearman"] + 0.1
    split = found["splits"]["acc"]["learned-process"]
    assert (split["train"], split["test"], split["repeats"]) == (50, 40, 20)
    assert split["low"] <= split["mean"] <= split["high"]
    main([*common, "--proxies", f"learned:{model}", "--json"])
    learned = json.loads(capfd.readouterr().out)["results"]["acc"][f"learned:{model}"]
    assert learned["n"] == 90 and learned["spearman"] > 0.95
    main([*common, "--proxies", "params", "--combine", "--train", "50"])
    assert "acc, learned-process: " in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--features"], "--features and --train are for what is learned"),
        (["--train", "20"], "--features and --train are for what is learned"),
        (["--learn", "x.json", "--train", "20"], "--learn takes all"),
        (["--learn", "x.json"], "--learn learns one column; name it with --columns, one of acc1, acc2"),
        (["--learn", "table.csv/x.json", "--columns", "acc1"], "Cannot write table.csv/x.json: "),
        (["--learn", "x.json", "--columns", "acc1", "--build", "zero-cost"], "use --build official"),
        (["--combine", "--train", "30"], "Of 30 architectures 3 to 28 can be learned from, not 30"),
    ],
)
def test_bad_requests_are_one_line(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    complaint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("table.csv").write_text(
        "arch_str,acc1,acc2\n" + "".join(f"{cell},{truth(cell)},1\n" for cell in cells(30))
    )
    with pytest.raises(SystemExit) as caught:
        main(["correlate", "--table", "table.csv", "--proxies", "params", "--resamples", "0", *arguments])
    assert caught.value.code == 2
    assert complaint in capfd.readouterr().err
