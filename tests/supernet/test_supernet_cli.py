"""The whole way on the command line: train, search, export, fine-tune, rank; and what is wrong, in one line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import optuna
import pytest
import torch
import yaml
from commands import refusal, run
from supernets import TINY_OPTIONS

from zenopt.nn.weights import read_torch_file
from zenopt.storage import open_storage
from zenopt.study.spec import StudySpec
from zenopt.study.study import join_study, load_study

SPEC = {
    "name": "tiny",
    "space": {
        "name": "superres",
        "options": {
            name: list(value) if isinstance(value, tuple) else value for name, value in TINY_OPTIONS.items()
        },
        "initial": "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,16,2,8,1)SuperResK3K3(16,16,2,8,1)"
        "SuperConvK1BNRELU(16,32,1,1)",
    },
    "resolution": 16,
    "num_classes": 10,
    "budget": {"params": 60_000},
    "trials": 4,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a spec and the supernet of its space."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(SPEC))
    result = run(
        "supernet", "train", "--study", folder / "tiny.yaml", "--data", "synthetic:160", "--epochs", 1,
        "--device", "cpu", "--recipe-set", "batch_size=32", "--loader-workers", 0, "--output", folder / "net",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "held-back loss" in result.stderr and "test loss" not in result.stderr
    assert "Drawn paths reach" in result.output and "--set 'objective={kind: supernet" in result.output
    return folder


def searched(place: Path) -> list[object]:
    """Return the options that name a study by the supernet, which is made if need be."""
    storage = f"sqlite:///{place / 'studies.db'}"
    objective = f"objective={{kind: supernet, weights: {place / 'net'}}}"
    result = run(
        "optimize", "--study", place / "tiny.yaml", "--study-name", "by-net", "--storage", storage, "--set", objective,
        "--sampler", "aging", "--trials", 4, "--workers", 1, "--quiet",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return ["--study", "by-net", "--storage", storage]


@pytest.mark.slow
def test_search_export_and_fine_tune(place: Path) -> None:
    study = searched(place)
    trials = optuna.load_study(study_name="by-net", storage=str(study[3])).trials
    assert all(0 <= trial.values[0] <= 100 for trial in trials if trial.values)
    bundle = place / "bundle"
    exported = run("export-best", *study, "--output", bundle)
    assert exported.exit_code == 0, exported.output
    assert "with the weights it inherits, to" in exported.output
    assert "fresh draw" not in exported.output, "a path has one value"
    assert f"--weights {bundle / 'best.pt'} --data" in exported.output
    inherited = read_torch_file(bundle / "best.pt")["model"]
    assert all(bool(torch.isfinite(value).all()) for value in inherited.values() if value.is_floating_point())
    judged = run(
        "evaluate", "--weights", bundle / "best.pt", "--data", "synthetic:160", "--device", "cpu", "--json"
    )
    assert judged.exit_code == 0, judged.output
    tuned = run(
        "train", "--bundle", bundle, "--weights", bundle / "best.pt", "--data", "synthetic:160", "--epochs", 1,
        "--device", "cpu", "--output", place / "tuned", "--loader-workers", 0, "--set", "optimizer.lr=1e-9",
    )  # fmt: skip
    assert tuned.exit_code == 0, tuned.output
    started = read_torch_file(place / "tuned" / "best.pt")["model"]
    assert torch.allclose(started["classifier.weight"], inherited["classifier.weight"], atol=1e-4)
    bare = run("export-best", *study, "--output", bundle, "--force", "--no-weights", "--quiet")
    assert bare.exit_code == 0 and not (bundle / "best.pt").exists()


@pytest.mark.slow
def test_a_second_stage_trains_the_best_paths(place: Path, tmp_path: Path) -> None:
    storage = ("--storage", f"sqlite:///{tmp_path / 's.db'}")
    objective = f"objective={{kind: supernet, weights: {place / 'net'}, then: train}}"
    training = (
        "training={data: 'synthetic:160', epochs: 1, per_class: 3, finalists: 1, overrides: [batch_size=32]}"
    )
    searched = run(
        "optimize", "--study", place / "tiny.yaml", "--study-name", "two", *storage, "--set", objective,
        "--set", training, "--sampler", "aging", "--trials", 8, "--workers", 1, "--quiet", "--runs", tmp_path / "runs",
    )  # fmt: skip
    assert searched.exit_code == 0, searched.output
    study = optuna.load_study(study_name="two", storage=storage[1])
    values = {trial.user_attrs["structure"]: trial.values[0] for trial in study.trials if trial.values}
    linked = optuna.load_study(study_name="two-trained", storage=storage[1])
    trained = {trial.user_attrs["structure"] for trial in linked.trials}
    assert len(trained) == 3
    assert min(values[text] for text in trained) >= sorted(values.values())[-3]
    ranked = run("supernet", "rank", "--weights", place / "net", "--study", "two-trained", *storage, "--json")
    assert ranked.exit_code == 0, ranked.output
    assert json.loads(ranked.output)["networks"] == 3


@pytest.mark.slow
def test_a_supernet_in_parts_is_searched_ranked_and_exported(place: Path, tmp_path: Path) -> None:
    """Parts begin with the weights of the whole; what comes after them needs no other command."""
    net = tmp_path / "parts"
    trained = run(
        "supernet", "train", "--study", place / "tiny.yaml", "--data", "synthetic:160", "--epochs", 2,
        "--device", "cpu", "--split", "stage?.block1.type", "--schedule", "few-shot", "--initial-weights",
        place / "net", "--recipe-set", "batch_size=32", "--loader-workers", 0, "--output", net,
    )  # fmt: skip
    assert trained.exit_code == 0, trained.output
    assert "4 parts that share nothing, by stage1.block1.type, stage2.block1.type" in trained.output
    storage = f"sqlite:///{tmp_path / 'parts.db'}"
    found = run(
        "optimize", "--study", place / "tiny.yaml", "--study-name", "by-parts", "--storage", storage, "--set",
        f"objective={{kind: supernet, weights: {net}}}", "--sampler", "aging", "--trials", 4, "--workers", 1, "--quiet",
    )  # fmt: skip
    assert found.exit_code == 0, found.output
    bundle = tmp_path / "bundle"
    exported = run("export-best", "--study", "by-parts", "--storage", storage, "--output", bundle)
    assert exported.exit_code == 0 and "with the weights it inherits" in exported.output, exported.output
    value = max(
        trial.values[0]
        for trial in optuna.load_study(study_name="by-parts", storage=storage).trials
        if trial.values
    )
    assert read_torch_file(bundle / "best.pt")["top1"] == pytest.approx(value)
    scored = run("score", bundle, "--proxy", f"supernet:{net}", "--device", "cpu")
    assert scored.exit_code == 0 and f"{value:.2f}" in scored.output, scored.output


def test_accuracy_up_to_a_target_less_what_costs_take_off(place: Path, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'studies.db'}"
    objective = (
        f"objective={{kind: supernet, weights: {place / 'net'}, target: 1, balance: {{params: 2, macs: 1}}}}"
    )
    words = ("optimize", "--study", place / "tiny.yaml", "--study-name", "balanced", "--storage", storage)
    options = ("--set", objective, "--sampler", "random", "--trials", 4, "--workers", 1, "--quiet")
    assert "objective.balance: macs is no cost that the budget limits; it limits params" in refusal(
        *words, *options
    )
    done = run(*words, *options, "--set", "budget.macs=2e7")
    assert done.exit_code == 0, done.output
    study = optuna.load_study(study_name="balanced", storage=storage)
    valued = [trial for trial in study.trials if trial.values and "accuracy" in trial.user_attrs]
    assert valued
    for trial in valued:
        own = trial.user_attrs
        taken = 2 * own["params"] / 60_000 + own["macs"] / 2e7
        assert trial.values[0] == pytest.approx(min(own["accuracy"], 1) - taken)
    assert any(trial.user_attrs["accuracy"] > 1 for trial in valued), "one of 16 images is 6 %"
    alone = f"objective={{kind: supernet, weights: {place / 'net'}, target: 5}}"
    assert "objective.target needs objective.balance or a cost in objectives" in refusal(
        *words, "--set", alone
    )


def test_rank_by_a_table_and_by_trainings(place: Path, tmp_path: Path) -> None:
    texts = [
        f"SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,{width},2,8,1)SuperResK1K3K1({width},8,2,8,1)SuperConvK1BNRELU(8,{head},1,1)"
        for width, head in ((8, 16), (16, 16), (8, 32), (16, 32))
    ]
    table = tmp_path / "known.csv"
    table.write_text("structure,top1\n" + "".join(f'"{text}",{place}\n' for place, text in enumerate(texts)))
    found = run(
        "supernet", "rank", "--weights", place / "net", "--table", f"{table}#top1", "--json", "--resamples", 9
    )
    assert found.exit_code == 0, found.output
    facts = json.loads(found.output)
    assert facts["networks"] == 4 and facts["macs"]["kendall"]["value"] > 0
    shown = run(
        "supernet",
        "rank",
        "--weights",
        place / "net",
        "--table",
        f"{table}#top1",
        "--quiet",
        "--resamples",
        9,
    )
    assert "ranked by" in shown.output and "4 networks, judged on" in shown.output
    url = f"sqlite:///{tmp_path / 'known.db'}"
    objective = {"kind": "table", "table": str(table), "column": "top1"}
    storage = open_storage(url)
    join_study(StudySpec.load(place / "tiny.yaml", {"objective": objective}), storage, "known", "cpu")
    study = load_study(storage, "known")
    for value, text in enumerate(texts):
        # Two seeds at the rate that suits, another rate, and a proposal that was known: the first two count.
        rates = ((0.1, value - 0.5), (0.1, value + 0.5), (0.4, -value))
        for rate, own in rates:
            attributes = {"structure": text, "learning_rate": rate}
            study.add_trial(optuna.trial.create_trial(value=own, user_attrs=attributes))
        again = {"structure": text, "learning_rate": 0.1, "duplicate_of": 0}
        study.add_trial(optuna.trial.create_trial(value=99.0, user_attrs=again))
    storage.close()
    scores = tmp_path / "scores.csv"
    by_study = run(
        "supernet", "rank", "--weights", place / "net", "--study", "known", "--storage", url, "--quiet", "--scores",
        scores, "--resamples", 9,
    )  # fmt: skip
    assert by_study.exit_code == 0, by_study.output
    rows = list(csv.DictReader(scores.open(newline="")))
    assert {row["structure"]: float(row["known"]) for row in rows} == {
        text: value for value, text in enumerate(texts)
    }


@pytest.mark.slow
def test_small_cells_are_ranked_by_the_benchmarks_table(tmp_path: Path) -> None:
    small = "space.options={channels: 4, cells: 1}"
    trained = run(
        "supernet", "train", "--study", "nasbench201", "--set", small, "--set", "resolution=8", "--whole-space",
        "--data", "synthetic:80", "--epochs", 1, "--device", "cpu", "--loader-workers", 0, "--output", tmp_path / "net",
    )  # fmt: skip
    assert trained.exit_code == 0, trained.output
    assert f"--study nasbench201 --set '{small}' --set resolution=8 --study-name NAME" in trained.output
    names = ("skip_connect", "nor_conv_1x1", "nor_conv_3x3")
    cells = [f"|{name}~0|+|none~0|none~1|+|{name}~0|none~1|none~2|" for name in names]
    table = tmp_path / "known.csv"
    table.write_text("arch_str,top1\n" + "".join(f"{cell},{place}\n" for place, cell in enumerate(cells)))
    rank = ("supernet", "rank", "--weights", tmp_path / "net", "--table", f"{table}#top1", "--resamples", 9)
    found = run(*rank, "--json")
    assert found.exit_code == 0, found.output
    facts = json.loads(found.output)
    assert facts["networks"] == 3 and facts["params"]["kendall"]["value"] == 1


@pytest.mark.slow
def test_rank_over_epochs(place: Path, tmp_path: Path) -> None:
    net, plain = tmp_path / "net", place / "net"
    train = (
        "supernet",
        "train",
        "--study",
        place / "tiny.yaml",
        "--data",
        "synthetic:160",
        "--device",
        "cpu",
    )
    short = ("--recipe-set", "batch_size=64", "--loader-workers", 0)
    trained = run(*train, *short, "--epochs", 3, "--keep-every", 2, "--output", net)
    assert trained.exit_code == 0, trained.output
    assert sorted(path.name for path in net.glob("epoch-*")) == ["epoch-0002.pt"]
    assert (net / "epoch-0002.pt").stat().st_size < (net / "last.pt").stat().st_size / 2
    texts = [
        f"SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,{width},2,8,1)SuperResK1K3K1({width},8,2,8,1)SuperConvK1BNRELU(8,{head},1,1)"
        for width, head in ((8, 16), (16, 16), (8, 32), (16, 32))
    ]
    table = tmp_path / "known.csv"
    table.write_text("structure,top1\n" + "".join(f'"{text}",{value}\n' for value, text in enumerate(texts)))
    rank = ("supernet", "rank", "--table", f"{table}#top1", "--resamples", 20, "--weights")
    figure, scores = tmp_path / "epochs.html", tmp_path / "scores.csv"
    over = run(
        *rank, net, "--over-epochs", "--equal-macs", 0.5, "--figure", figure, "--scores", scores, "--quiet"
    )
    assert over.exit_code == 0, over.output
    lines = over.output.splitlines()
    assert [line.split()[0] for line in lines[2:6]] == ["epoch", "epoch", "params", "macs"], over.output
    assert "at equal MACs" in lines[0] and "4 networks, judged on" in over.output
    page = figure.read_text()
    assert "over the epochs of its training" in page and "supernet, equal MACs" in page and '"MACs"' in page
    assert scores.read_text().splitlines()[0] == "structure,supernet,known,epoch_2"
    facts = json.loads(run(*rank, net, "--over-epochs", "--json").output)
    assert [own["epoch"] for own in facts["epochs"]] == [2, 3]
    last = json.loads(run(*rank, net, "--json", "--figure", tmp_path / "one.json").output)
    assert last["supernet"] == facts["epochs"][1]["supernet"]
    drawn = json.loads((tmp_path / "one.json").read_text())["data"][0]
    assert sorted(drawn["text"]) == sorted(texts)
    assert "No weights of earlier epochs are kept in" in refusal(*rank, plain, "--over-epochs")
    assert ".html or .json" in refusal(*rank, net, "--figure", tmp_path / "one.gif")
    # A training under way has no end yet.
    (net / "supernet.pt").unlink()
    assert "half trained" in refusal(*rank, net)
    going = json.loads(run(*rank, net, "--over-epochs", "--json").output)
    assert [own["epoch"] for own in going["epochs"]] == [2]


def test_bad_input_is_one_line(place: Path, tmp_path: Path) -> None:
    train = ("supernet", "train", "--data", "synthetic:160", "--device", "cpu")
    assert "--output is needed" in refusal(*train, "--study", "cifar-small")
    assert "more than 500,000,000 parameters" in refusal(
        *train, "--study", "cifar-params1m", "--set", "num_classes=10", "--dry-run"
    )
    assert "alternatives only" in refusal(
        *train, "--study", "nasbench-macro-table", "--sampling", "sandwich", "--dry-run"
    )
    assert "Use centre" in refusal(*train, "--study", "nasbench201", "--kernels", "transformed", "--dry-run")
    assert "Schedule 'none' does not exist; known: channel-warm-up, few-shot, ofa, progressive" in refusal(
        *train, "--study", place / "tiny.yaml", "--schedule", "none", "--dry-run"
    )
    assert "Phase '200 %' of the schedule names '*.percent', which is no parameter" in refusal(
        *train, "--study", place / "tiny.yaml", "--schedule", "channel-warm-up", "--dry-run"
    )
    assert "Phase 'together' of the schedule shares parts, but this supernet is not split; name" in refusal(
        *train, "--study", place / "tiny.yaml", "--schedule", "few-shot", "--dry-run"
    )
    assert "The split names 'layer9', which is no parameter of this space; it has layer1" in refusal(
        *train, "--study", "nasbench-macro-table", "--split", "layer9", "--dry-run"
    )
    assert "has 6,561 parts; at most 128 are allowed" in refusal(
        *train, "--study", "nasbench-macro-table", "--split", "layer?", "--dry-run"
    )
    assert "is of another space, or has other parts: it has no stem/conv0.weight of shape" in refusal(
        *train, "--study", "nasbench-macro-table", "--initial-weights", place / "net", "--dry-run"
    )
    assert "There is no folder" in refusal(
        *train, "--study", place / "tiny.yaml", "--initial-weights", tmp_path / "none", "--dry-run"
    )
    assert "has 10 classes, the study's networks have 7" in refusal(
        *train, "--study", place / "tiny.yaml", "--set", "num_classes=7", "--dry-run"
    )
    assert "already" in refusal(*train, "--study", place / "tiny.yaml", "--output", place / "net")
    rank = ("supernet", "rank", "--weights")
    assert "There is no folder" in refusal(*rank, tmp_path / "none", "--table", "t.csv#a")
    assert "holds no supernet" in refusal(*rank, tmp_path, "--table", "t.csv#a")
    assert "either --table" in refusal(*rank, place / "net")
    assert "--table is CSV#COLUMN" in refusal(*rank, place / "net", "--table", "t.csv")
    assert "a supernet, which is no network" in refusal(
        "evaluate", "--weights", place / "net" / "last.pt", "--data", "synthetic:160"
    )


def test_what_finds_no_place_of_initial_weights_is_said(place: Path) -> None:
    words = (
        "supernet",
        "train",
        "--data",
        "synthetic:160",
        "--device",
        "cpu",
        "--study",
        place / "tiny.yaml",
    )
    begun = ("--initial-weights", place / "net", "--dry-run")
    fewer = (*words, *begun, "--set", "space.options.blocks=[SuperResK3K3]")
    said = " ".join(run(*fewer).output.split())
    assert (
        "Begins with the weights of " in said
        and "of no network here: " in said
        and ", e.g. stage1_block1_K1KXK1/" in said
    )
    facts = json.loads(run(*fewer, "--json").output)["initial_weights"]
    assert facts["folder"] == str(place / "net")
    assert facts["left_out"] and all("K1KXK1" in name for name in facts["left_out"])


def test_a_study_must_fit_the_supernet(place: Path, tmp_path: Path) -> None:
    optimize = (
        "optimize",
        "--storage",
        f"sqlite:///{tmp_path / 's.db'}",
        "--sampler",
        "aging",
        "--trials",
        1,
        "--study",
    )
    objective = ("--set", f"objective={{kind: supernet, weights: {place / 'net'}}}")
    own = (*optimize, place / "tiny.yaml", *objective)
    assert "The supernet does not hold" in refusal(*own, "--set", "space.options.max_width=24")
    assert "set resolution=16" in refusal(*own, "--set", "resolution=32")
    assert "trained with use_se False" in refusal(*own, "--set", "use_se=true")
    assert "does not hold" in refusal(
        *optimize, "nasbench201", *objective, "--set", "resolution=16", "--set", "proxy.name=params"
    )
    assert "needs the key weights" in refusal(
        *optimize, place / "tiny.yaml", "--set", "objective.kind=supernet"
    )
    assert "images, settling, amp, target and balance are keys of a supernet" in refusal(
        *optimize, place / "tiny.yaml", "--set", "objective.images=5"
    )


def test_a_space_without_a_supernet_is_refused_before_any_work(tmp_path: Path) -> None:
    reason = "The space nasbench101 has no supernet: widths of vertices depend on the whole graph"
    # The data is never looked at: there is none.
    train = ("supernet", "train", "--study", "nasbench101", "--data", f"cifar10:{tmp_path}/none", "--dry-run")
    assert reason in refusal(*train)
    search = ("optimize", "--study", "nasbench101", "--set", "objective={kind: supernet, weights: none}")
    assert reason in refusal(*search)
    template = ("init-study", "--space", "nasbench101", "--objective", "supernet")
    assert reason in refusal(*template)
    assert "has no search network" in refusal("differentiable", *train[2:])
