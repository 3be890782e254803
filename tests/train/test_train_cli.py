from __future__ import annotations

import json
import math
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from structures import TINY_QUARTERED

from zenopt.cli import main
from zenopt.cli.deploy import deploy_command
from zenopt.cli.evaluate import evaluate_command
from zenopt.cli.train import train_command
from zenopt.export.bundle import Bundle, write_bundle
from zenopt.train.distributed import World
from zenopt.train.errors import DivergedError
from zenopt.train.networks import NetworkSource
from zenopt.train.recipe import Recipe
from zenopt.train.run import evaluate_weights

TINY = TINY_QUARTERED
COMMON = ["--structure", TINY, "--resolution", "32", "--device", "cpu", "--data", "synthetic:128"]
SHORT = ["--data", "synthetic:64", "--epochs", "1", "--device", "cpu", "--set", "batch_size=16"]


def test_train_then_evaluate(tmp_path: Path) -> None:
    output = tmp_path / "run"
    arguments = [*COMMON, "--output", str(output), "--epochs", "2", "--set", "batch_size=32", "--json"]
    trained = CliRunner().invoke(train_command, arguments)
    assert trained.exit_code == 0, trained.output
    metrics = json.loads(trained.stdout)
    assert metrics == json.loads((output / "metrics.json").read_text())
    assert {path.name for path in output.iterdir()} >= {"last.pt", "best.pt", "metrics.csv", "report.html"}
    page = (output / "report.html").read_text()
    assert "Confusion" in page and "Learning rate" in page and "<script src=" not in page
    # The weights say which network they are of.
    evaluated = CliRunner().invoke(
        evaluate_command,
        ["--weights", str(output / "last.pt"), "--data", "synthetic:128", "--device", "cpu", "--json"],
    )
    assert evaluated.exit_code == 0, evaluated.output
    facts = json.loads(evaluated.stdout)
    assert facts["top1"] == metrics["top1"] and facts["images"] == 32
    assert facts["loss"] == pytest.approx(metrics["loss"])
    assert len(facts["per_class"]) == 10 and facts["images_per_second"] > 0


def test_a_bundle_for_other_classes_is_noticed(tmp_path: Path) -> None:
    write_bundle(Bundle(structure=TINY, resolution=32, num_classes=100), tmp_path / "bundle")
    result = CliRunner().invoke(
        train_command,
        ["--bundle", str(tmp_path / "bundle"), "--output", str(tmp_path / "run"), *SHORT],
    )
    assert result.exit_code == 0, result.output
    assert "for 100 classes; the classifier is built for the data's 10." in result.stderr
    assert "top-1" in result.stdout
    weights = torch.load(tmp_path / "run" / "best.pt", weights_only=True)["model"]
    assert weights["classifier.weight"].shape == (10, 16)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--data", "imagefolder:/nowhere"], "/nowhere does not exist"),
        (["--device", "cuda:99"], "'cuda:99' is not available"),
        (["--device", "gpu"], "'gpu' is not known"),
        (["--recipe", "nope"], "known: "),
        (["--structure", "SuperConvK3BNRELU(3,8)"], "SuperConvK3BNRELU"),
        (["--set", "distill={teacher: 'torchvision:nope'}"], "torchvision has no model 'nope'"),
        (["--set", "distill={teacher: 'bundle:/nowhere'}"], "/nowhere is not a bundle"),
        (["--set", "distill={teacher: zennet_cifar10_model_size1M}"], "needs distill.weights"),
        (["--output", "/proc/run"], "Cannot make the folder /proc/run"),
        (["--output", __file__], "is a file; name a folder for the run"),
        (["--model", "timm:resnet18"], "exactly one of"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", *COMMON, "--output", str(tmp_path / "run"), "--epochs", "1", *arguments])
    assert ended.value.code == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("Error: ") and says in error


def test_evaluate_needs_weights_that_fit(tmp_path: Path) -> None:
    def invoke(*arguments: str) -> str:
        result = CliRunner().invoke(
            evaluate_command, ["--data", "synthetic:64", "--device", "cpu", *arguments]
        )
        assert result.exception is not None
        return str(result.exception)

    assert "cannot be evaluated; give --weights FILE" in invoke("--structure", TINY, "--resolution", "32")
    assert "Name the network" in invoke()
    facts = {
        "network": NetworkSource.from_structure(TINY, 32).facts(),
        "recipe": Recipe().model_dump(mode="json"),
    }
    torch.save({**facts, "classes": ["a"], "statistics": "none", "model": {}}, tmp_path / "one.pt")
    source = ["--structure", TINY, "--resolution", "32", "--weights", str(tmp_path / "one.pt")]
    assert "is for 1 classes, synthetic:64 has 10" in invoke(*source)


def test_a_published_network_is_evaluated_on_its_crop(
    folder_data: Path, tmp_path: Path, alone: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def crop(image: torch.Tensor, crop_size: int, short_side: int, _interpolation: str) -> torch.Tensor:
        sizes.append((crop_size, short_side))
        return torch.zeros(3, crop_size, crop_size, dtype=torch.uint8)

    monkeypatch.setattr("zenopt.train.augment.resize_and_centre", crop)
    source = NetworkSource("structure", TINY, 16, crop_size=28)
    torch.save(source.build(2).state_dict(), tmp_path / "weights.pth")
    found, classes = evaluate_weights(
        source, f"imagefolder:{folder_data}", world=alone, weights=tmp_path / "weights.pth"
    )
    assert found.images == 8 and classes == ("dark", "light")
    assert set(sizes) == {(28, 32)}
    assert NetworkSource.from_model("zennet_imagenet1k_latency01ms").crop_size == 320


def test_fine_tuning_starts_from_weights(tmp_path: Path) -> None:
    frozen = [*SHORT, "--structure", TINY, "--resolution", "32", "--set", "optimizer.lr=1e-12"]
    network = NetworkSource.from_structure(TINY, 32).build(7)
    torch.save(network.state_dict(), tmp_path / "seven.pt")
    result = CliRunner().invoke(
        train_command, [*frozen, "--weights", str(tmp_path / "seven.pt"), "--output", str(tmp_path / "run")]
    )
    assert result.exit_code == 0, result.output
    assert "the classifier starts anew" in result.stderr
    tuned = torch.load(tmp_path / "run" / "last.pt", weights_only=True)["model"]
    for key, value in network.named_parameters():
        if not key.startswith("classifier"):
            assert torch.allclose(tuned[key], value, atol=1e-6), key


def test_a_torchvision_model_trains(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        train_command,
        ["--model", "torchvision:squeezenet1_1", "--resolution", "32", "--output", str(tmp_path), *SHORT],
    )
    assert result.exit_code == 0, result.output


def test_deploy_a_run(tmp_path: Path) -> None:
    output = tmp_path / "run"
    main(["train", *COMMON, "--output", str(output), "--epochs", "1", "--set", "batch_size=32"])
    arguments = [
        "--weights",
        str(output / "best.pt"),
        "--output",
        str(tmp_path / "out"),
        "--format",
        "torchscript",
    ]
    result = CliRunner().invoke(deploy_command, [*arguments, "--data", "synthetic:128", "--json"])
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts == json.loads((tmp_path / "out" / "deploy.json").read_text())
    script, page = facts["files"]
    assert script["max_relative_error"] < 1e-4 and script["top1"] == facts["top1"]
    assert page["file"] == "model.py" and (tmp_path / "out" / "model.py").is_file()
    assert facts["top1"] == json.loads((output / "metrics.json").read_text())["best"]["top1"]
    refused = CliRunner().invoke(deploy_command, [*arguments, "--int8"])
    assert "int8 needs --data" in str(refused.exception)


@pytest.mark.slow
def test_deploy_int8_keeps_the_accuracy(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    output = tmp_path / "run"
    learning = [
        "--epochs",
        "6",
        "--set",
        "batch_size=32",
        "--set",
        "optimizer.lr=0.4",
        "--set",
        "augment.flip=0",
    ]
    data = ["--data", "synthetic:640"]
    source = ["--structure", TINY, "--resolution", "32", "--device", "cpu"]
    main(["train", *source, *data, *learning, "--output", str(output)])
    result = CliRunner().invoke(
        deploy_command,
        ["--weights", str(output / "best.pt"), "--output", str(tmp_path / "out"), "--int8", *data, "--json"],
    )
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    top1 = {entry["format"]: entry.get("top1") for entry in facts["files"]}
    assert facts["top1"] > 40  # chance is 10
    assert top1["onnx"] == facts["top1"]
    assert abs(top1["onnx-int8"] - facts["top1"]) <= 5
    files = {entry["format"]: entry["bytes"] for entry in facts["files"] if "bytes" in entry}
    assert files["onnx-int8"] != files["onnx"]


def test_the_device_may_be_named_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZENOPT_DEVICE", "cuda:99")
    common = ["--structure", TINY, "--resolution", "32", "--output", str(tmp_path / "run"), *SHORT[:4]]
    refused = CliRunner().invoke(train_command, common)
    assert "'cuda:99' is not available" in str(refused.exception)
    # What is typed wins.
    assert CliRunner().invoke(train_command, [*common, "--device", "cpu"]).exit_code == 0


@pytest.mark.parametrize(
    "command", ["optimize", "verify", "score", "correlate", "export-best", "train", "evaluate"]
)
def test_every_command_with_a_device_reads_the_environment(command: str) -> None:
    import click

    from zenopt.cli import cli

    found = cli.get_command(click.Context(cli), command)
    assert found is not None
    (option,) = [parameter for parameter in found.params if "--device" in parameter.opts]
    assert option.envvar == "ZENOPT_DEVICE"


def test_several_seeds_are_several_runs_and_one_report(tmp_path: Path) -> None:
    common = ["--structure", TINY, "--resolution", "32", *SHORT, "--output", str(tmp_path / "run")]
    done = CliRunner().invoke(train_command, [*common, "--seed", "3", "--seed", "4", "--seed", "3"])
    assert done.exit_code == 0, done.output
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"seed3", "seed4", "report.html"}
    assert "seed 3: top-1" in done.stdout and "over 2 seeds" in done.stdout
    assert "<td>4</td>" in (tmp_path / "run" / "report.html").read_text()
    seeds = [json.loads((tmp_path / "run" / f"seed{n}" / "metrics.json").read_text())["seed"] for n in (3, 4)]
    assert seeds == [3, 4]
    again = CliRunner().invoke(
        train_command, [*common, "--seed", "3", "--seed", "4", "--auto-resume", "--json"]
    )
    assert [row["seed"] for row in json.loads(again.stdout)["runs"]] == [3, 4]


def test_a_report_that_a_crash_left_out_is_written_on_resuming(tmp_path: Path) -> None:
    common = ["--structure", TINY, "--resolution", "32", *SHORT, "--output", str(tmp_path / "run")]
    assert CliRunner().invoke(train_command, common).exit_code == 0
    for name in ("report.html", "metrics.json", "metrics.csv"):
        (tmp_path / "run" / name).unlink()
    done = CliRunner().invoke(train_command, [*common, "--auto-resume"])
    assert done.exit_code == 0, done.output
    for name in ("report.html", "metrics.json", "metrics.csv"):
        assert (tmp_path / "run" / name).stat().st_size > 100, name
    assert "Confusion" in (tmp_path / "run" / "report.html").read_text()


def test_a_learning_rate_that_diverges_is_one_line(tmp_path: Path) -> None:
    common = ["--structure", TINY, "--resolution", "32", "--data", "synthetic:320", "--device", "cpu"]
    hot = [
        "--epochs",
        "2",
        "--set",
        "optimizer.lr=5e4",
        "--set",
        "schedule.warmup_epochs=0",
        "--set",
        "batch_size=32",
    ]
    refused = CliRunner().invoke(train_command, [*common, *hot, "--output", str(tmp_path / "run")])
    assert isinstance(refused.exception, DivergedError), refused.exception
    message = str(refused.exception)
    assert "\n" not in message and message.endswith("A lower optimizer.lr helps.")
    best = tmp_path / "run" / "best.pt"
    if best.exists():
        judged = CliRunner().invoke(
            evaluate_command, ["--weights", str(best), "--data", "synthetic:320", "--device", "cpu", "--json"]
        )
        assert math.isfinite(json.loads(judged.stdout)["loss"])


def test_weights_without_numbers_are_told_apart_from_bad_ones(tmp_path: Path) -> None:
    network = NetworkSource.from_structure(TINY, 32).build(10)
    torch.nn.init.constant_(network.classifier.weight, float("nan"))
    torch.save(network.state_dict(), tmp_path / "nan.pth")
    judged = CliRunner().invoke(
        evaluate_command,
        [
            "--structure",
            TINY,
            "--resolution",
            "32",
            "--weights",
            str(tmp_path / "nan.pth"),
            *SHORT[:2],
            "--json",
        ],
    )
    assert "outputs on 16 of 16 test images are no numbers: these weights have diverged" in str(
        judged.exception
    )
    assert judged.stdout == ""


def test_a_share_of_the_data_is_trained_and_said(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        train_command,
        ["--structure", TINY, "--resolution", "32", "--data", "synthetic:640", "--share", "0.1", "--epochs", "1",
         "--device", "cpu", "--set", "batch_size=16", "--output", str(tmp_path / "run")],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (metrics["train_images"], metrics["test_images"]) == (60, 20)
    assert metrics["data"] == "synthetic:640 (share 0.1)"
    for share in ("0", "1.5", "nan"):
        wrong = CliRunner().invoke(train_command, ["--share", share, *SHORT, "--output", str(tmp_path / "x")])
        assert wrong.exit_code == 2 or "--share must be in (0, 1]" in str(wrong.exception)


def test_every_command_ends_with_the_next_one(tmp_path: Path) -> None:
    run = tmp_path / "my run"
    done = CliRunner().invoke(
        train_command, ["--structure", TINY, "--resolution", "32", *SHORT, "--output", str(run)]
    )
    lines = [
        line.removeprefix("Next:").split("#")[0].strip()
        for line in done.stdout.splitlines()
        if "zenopt " in line
    ]
    evaluate, deploy = (shlex.split(line) for line in lines)
    assert evaluate[:2] == ["zenopt", "evaluate"] and deploy[:2] == ["zenopt", "deploy"]
    judged = CliRunner().invoke(evaluate_command, evaluate[2:])
    assert judged.exit_code == 0, judged.output
    assert f"zenopt deploy --weights '{run / 'best.pt'}'" in judged.stdout
    written = CliRunner().invoke(deploy_command, [*deploy[2:4], "--format", "torchscript", *deploy[6:]])
    assert written.exit_code == 0, written.output
    command = shlex.split(next(line for line in written.stdout.splitlines() if "python -c" in line))
    assert command[1:3] == ["python", "-c"]
    subprocess.run([sys.executable, "-c", command[3]], check=True, cwd=tmp_path)
