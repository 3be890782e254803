"""Which network is trained: gates by choice, networks straight from a study's database, and what is recorded there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from structures import TINY_MOBILE

from zenopt.cli import cli
from zenopt.cli.deploy import deploy_command
from zenopt.cli.evaluate import evaluate_command
from zenopt.cli.train import train_command
from zenopt.core.errors import StudyError
from zenopt.export.bundle import Bundle, write_bundle
from zenopt.report.build import write_report
from zenopt.spaces.chain.zoo import WeightsNotFoundError, card, create, find_weights
from zenopt.storage import open_storage
from zenopt.study.exported import EXPORTED_KEY
from zenopt.study.search import run_search
from zenopt.study.spec import StudySpec
from zenopt.study.study import load_study, read_status
from zenopt.study.trained import choose, read_runs, record_training
from zenopt.train.errors import TrainError
from zenopt.train.networks import NetworkSource

GATED = TINY_MOBILE
PLAIN = "SuperConvK3BNRELU(3,8,2,1)SuperConvK1BNRELU(8,16,1,1)"
CELL = "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|none~1|none~2|"
SHORT = ["--data", "synthetic:64", "--epochs", "1", "--device", "cpu", "--set", "batch_size=32"]


def invoke(command: Any, *arguments: str | Path) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def has_gates(path: Path) -> bool:
    weights = torch.load(path, weights_only=True)["model"]
    return any(".gate." in key for key in weights)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    write_bundle(Bundle(structure=GATED, resolution=32, num_classes=10), tmp_path / "bundle")
    return tmp_path / "bundle"


def test_gates_are_chosen_for_bundle_structure_and_published_network(bundle: Path, tmp_path: Path) -> None:
    trained = invoke(train_command, "--bundle", bundle, "--se", "--output", tmp_path / "a", *SHORT)
    assert trained.exit_code == 0, trained.output
    assert has_gates(tmp_path / "a" / "best.pt")
    assert json.loads((tmp_path / "a" / "metrics.json").read_text())["network"]["use_se"] is True
    trained = invoke(train_command, "--bundle", bundle, "--output", tmp_path / "b", *SHORT)
    assert trained.exit_code == 0 and not has_gates(tmp_path / "b" / "best.pt")
    named = ["--structure", GATED, "--resolution", "32", "--se"]
    trained = invoke(train_command, *named, "--output", tmp_path / "c", *SHORT)
    assert trained.exit_code == 0 and has_gates(tmp_path / "c" / "best.pt")
    # A published network and a bundle keep their own choice unless told otherwise.
    model = "zennet_imagenet1k_flops400M_SE"
    assert (
        NetworkSource.from_model(model).use_se
        and not NetworkSource.from_model(model).with_gates(False).use_se
    )
    plan = invoke(
        train_command, "--model", model, "--no-se", "--resolution", "32", "--dry-run", "--json",
        *SHORT,
    )  # fmt: skip
    assert plan.exit_code == 0, plan.output
    # 1,000 classes fewer 990, and none of the gates.
    own = invoke(train_command, "--model", model, "--resolution", "32", "--dry-run", "--json", *SHORT)
    assert json.loads(plan.stdout)["params"] < json.loads(own.stdout)["params"]


def test_evaluating_and_deploying_choose_gates_too(bundle: Path, tmp_path: Path) -> None:
    network = NetworkSource.from_structure(GATED, 32, True).build(10)
    torch.save(network.state_dict(), tmp_path / "gated.pth")
    named = ["--bundle", bundle, "--weights", tmp_path / "gated.pth"]
    data = ["--data", "synthetic:64", "--device", "cpu"]
    refused = invoke(evaluate_command, *named, *data)
    assert "does not fit" in str(refused.exception)
    judged = invoke(evaluate_command, *named, "--se", *data, "--json")
    assert judged.exit_code == 0, judged.output
    deployed = invoke(
        deploy_command, *named, "--se", "--format", "torchscript", "--output", tmp_path / "out", "--json"
    )
    assert deployed.exit_code == 0, deployed.output
    facts = json.loads(deployed.stdout)
    assert [entry["file"] for entry in facts["files"]] == ["network.pt", "model.py"]
    assert facts["classes"] == [f"class {index}" for index in range(10)] and facts["mean"] is None
    # The weights of a run say it themselves.
    for command, more in ((evaluate_command, data), (deploy_command, ["--output", tmp_path / "x"])):
        wrong = invoke(command, "--weights", tmp_path / "gated.pth", "--se", *more)
        assert wrong.exit_code == 2 and "--se needs --bundle, --study, --structure or --model" in wrong.output


@pytest.mark.parametrize("gates", ["--se", "--no-se"])
@pytest.mark.parametrize(
    "network", [["--model", "torchvision:resnet18"], ["--structure", CELL], ["--structure", PLAIN]], ids=str
)
def test_gates_that_cannot_be_are_refused(network: list[str], gates: str, tmp_path: Path) -> None:
    refused = invoke(
        train_command, *network, "--resolution", "32", gates, "--output", tmp_path / "run", *SHORT
    )
    assert isinstance(refused.exception, TrainError)
    assert "Squeeze-excite gates cannot be chosen" in str(refused.exception)
    assert not (tmp_path / "run").exists()


def search(spec: StudySpec, url: str, name: str) -> None:
    run_search(spec, url, name, trials=6, timeout_s=None, workers=1, devices=("cpu",))


@pytest.mark.parametrize("family", ["superres", "nasbench201"])
def test_a_study_is_trained_from_its_database(
    tmp_path: Path, tiny_spec: Callable[..., StudySpec], family: str
) -> None:
    sections: dict[str, Any] = {}
    if family == "nasbench201":
        sections = {
            "space": {"name": "nasbench201"}, "budget": {}, "sampler": {"name": "random"},
            "proxy": {"name": "params", "batch_size": 2},
        }  # fmt: skip
    url = f"sqlite:///{tmp_path / 'zenopt.db'}"
    search(tiny_spec(**sections), url, "mine")
    study = load_study(open_storage(url), "mine")
    best = read_status(study).best
    assert best is not None
    where = ["--study", "mine", "--storage", url, "--resolution", "8"]
    trained = invoke(train_command, *where, "--output", tmp_path / "run", *SHORT)
    assert trained.exit_code == 0, trained.output
    assert f"Recorded beside trial {best.number} of study mine." in trained.stdout
    facts = torch.load(tmp_path / "run" / "best.pt", weights_only=True)["network"]
    assert facts["text"] == best.structure and facts["family"] == (
        "chain" if family == "superres" else family
    )
    (row,) = read_runs(load_study(open_storage(url), "mine"))
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert row["trial"] == best.number and row["top1"] == metrics["top1"] and row["best"] == metrics["best"]
    assert (
        row["recipe"] == "basic" and row["data"] == "synthetic:64" and row["folder"] == str(tmp_path / "run")
    )
    assert row["date"][:4].isdigit()
    # The weights of such a run are evaluated and deployed like any.
    judged = invoke(
        evaluate_command, "--weights", tmp_path / "run" / "best.pt", *SHORT[:2], "--device", "cpu", "--json"
    )
    assert json.loads(judged.stdout)["top1"] == metrics["best"]["top1"]
    # Another trial, by its number; a second training of the same folder replaces its record.
    other = next(n for n in range(6) if n != best.number and choose_quietly(study, n))
    again = [*where, "--trial", str(other), *SHORT]
    assert invoke(train_command, *again, "--output", tmp_path / "other").exit_code == 0
    assert invoke(train_command, *again, "--output", tmp_path / "other", "--auto-resume").exit_code == 0
    rows = read_runs(load_study(open_storage(url), "mine"))
    assert sorted(found["trial"] for found in rows) == sorted([best.number, other])
    assert rows == sorted(rows, key=lambda found: -found["top1"])


def test_what_was_exported_is_trained(tmp_path: Path, tiny_spec: Callable[..., StudySpec]) -> None:
    url = f"sqlite:///{tmp_path / 'zenopt.db'}"
    search(tiny_spec(), url, "mine")
    study = load_study(open_storage(url), "mine")
    best = choose(study)
    other = next(
        found
        for number in range(6)
        if choose_quietly(study, number) and (found := choose(study, number)).structure != best.structure
    )
    exported = {"structure": other.structure, "at": 0.0, "repeats": 0, "candidates": []}
    # A trial that was scored again, and a network that trainings chose.
    for trial in (other.trial, None):
        study.set_user_attr(EXPORTED_KEY, {**exported, "trial": trial})
        found = choose(load_study(open_storage(url), "mine"))
        assert (found.trial, found.structure) == (other.trial, other.structure)
    assert choose(study, best.trial).structure == best.structure
    study.set_user_attr(EXPORTED_KEY, {**exported, "trial": None, "structure": "brought"})
    assert choose(load_study(open_storage(url), "mine")).structure == best.structure


def choose_quietly(study: Any, number: int) -> bool:
    try:
        return bool(choose(study, number).structure)
    except StudyError:
        return False


def test_trials_and_studies_that_are_not_there(tmp_path: Path, tiny_spec: Callable[..., StudySpec]) -> None:
    url = f"sqlite:///{tmp_path / 'zenopt.db'}"
    search(tiny_spec(), url, "mine")

    def refused(*arguments: str) -> str:
        result = invoke(train_command, "--storage", url, *arguments, "--output", tmp_path / "run", *SHORT)
        assert result.exit_code != 0
        return result.output + str(result.exception)

    assert "has no trial 99; it has 6" in refused("--study", "mine", "--trial", "99")
    assert "No study 'other'" in refused("--study", "other")
    assert "--trial needs --study" in refused("--trial", "1", "--structure", PLAIN, "--resolution", "32")
    assert "exactly one of --bundle, --study, --structure and --model" in refused(
        "--study", "mine", "--structure", PLAIN
    )
    waiting = load_study(open_storage(url), "mine")
    waiting.enqueue_trial({})
    assert "Trial 6 of study 'mine' has no network (it is waiting)" in refused(
        "--study", "mine", "--trial", "6"
    )
    assert not (tmp_path / "run").exists()


def test_a_record_is_what_optuna_can_keep(tmp_path: Path, tiny_spec: Callable[..., StudySpec]) -> None:
    url = f"sqlite:///{tmp_path / 'zenopt.db'}"
    search(tiny_spec(), url, "mine")
    study = load_study(open_storage(url), "mine")
    metrics = {
        "top1": 50.0, "top5": 90.0, "best": {"epoch": 1, "top1": 50.0}, "epochs": 1, "seed": 0, "seconds": 1.0,
        "data": "synthetic", "network": {"use_se": False}, "recipe": {"optimizer": {"lr": 0.1}},
    }  # fmt: skip
    for top1 in (50.0, 60.0):
        record_training(study, 0, tmp_path / f"run{top1}", {**metrics, "top1": top1}, "basic")
    assert [row["top1"] for row in read_runs(study)] == [60.0, 50.0]
    # Whoever looks at the study sees them.
    shown = invoke(cli, "status", "--study", "mine", "--storage", url)
    assert "Trained by themselves" in shown.output and str(tmp_path / "run60.0") in shown.output.replace(
        "\n", ""
    )
    write_report([study], tmp_path / "report.html")
    assert "Trained by themselves" in (tmp_path / "report.html").read_text()


def test_published_weights_are_found_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "zennet_cifar10_model_size05M"
    monkeypatch.delenv("ZENOPT_WEIGHTS", raising=False)
    with pytest.raises(WeightsNotFoundError, match="set ZENOPT_WEIGHTS to a folder"):
        create(name, pretrained=True)
    with pytest.raises(WeightsNotFoundError, match="does not exist"):
        find_weights(name, tmp_path / "nothing.pth")
    with pytest.raises(WeightsNotFoundError, match=r"holds neither .*size05M\.pth"):
        find_weights(name, tmp_path)
    network = create(name)
    theirs = tmp_path / f"{name}_res32" / "best-params_rank0.pth"
    theirs.parent.mkdir()
    torch.save({"state_dict": network.state_dict()}, theirs)
    assert find_weights(name, tmp_path) == theirs
    torch.save(network.state_dict(), tmp_path / f"{name}.pth")
    assert find_weights(name, tmp_path) == tmp_path / f"{name}.pth"
    monkeypatch.setenv("ZENOPT_WEIGHTS", str(tmp_path))
    for pretrained in (True, tmp_path, tmp_path / f"{name}.pth", str(theirs)):
        found = create(name, pretrained=pretrained)
        assert all(torch.equal(a, b) for a, b in zip(found.parameters(), network.parameters(), strict=True))
    assert not torch.equal(next(create(name).parameters()), next(network.parameters()))
    judged = invoke(
        evaluate_command,
        "--model",
        name,
        "--pretrained",
        "--data",
        "synthetic:64",
        "--device",
        "cpu",
        "--json",
    )
    assert judged.exit_code == 0, judged.output


def test_a_published_network_is_judged_with_its_own_statistics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[list[float]] = []
    monkeypatch.setattr(
        "zenopt.train.loader.Normalise",
        lambda mean, std: used.append([*mean, *std]) or (lambda images: images),
    )
    name = "zennet_cifar10_model_size05M"
    assert (
        card(name).statistics == "zennas-cifar"
        and card("zennet_imagenet1k_latency01ms").statistics == "imagenet"
    )
    torch.save(create(name).state_dict(), tmp_path / "weights.pth")
    invoke(
        evaluate_command, "--model", name, "--weights", tmp_path / "weights.pth", "--data", "synthetic:64",
        "--device", "cpu",
    )  # fmt: skip
    assert used == [[0.4914, 0.4822, 0.4465, 0.2023, 0.1994, 0.2010]]


def test_library_weights_are_judged_as_their_authors_do() -> None:
    found = NetworkSource.from_model("torchvision:resnet50").published_evaluation()
    assert found.crop_size == 224 and found.crop_ratio == pytest.approx(224 / 232)
    assert found.interpolation == "bilinear" and found.statistics[0] == (0.485, 0.456, 0.406)
    pytest.importorskip("timm")
    found = NetworkSource.from_model("timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k").published_evaluation()
    assert found.statistics == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert found.interpolation == "bicubic" and found.crop_ratio == pytest.approx(0.9)
