"""``zenopt latency``: one JSON document, exit code 2 and one line for bad input."""

from __future__ import annotations

import json
import sys

import pytest

from zenopt.cli import main

STRUCTURE = "SuperConvK3BNRELU(3,8,2,1)SuperResK3K3(8,16,1,8,1)"


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    """Run the command line as the program does; return exit code, stdout, stderr."""
    try:
        main(["latency", *arguments])
        code = 0
    except SystemExit as error:
        code = int(error.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def test_predict(capsys) -> None:
    code, out, _ = run(capsys, "predict", STRUCTURE, "--device", "v100-fp16-b64-eager", "--json")
    content = json.loads(out)
    assert code == 0
    assert {"latency_ms", "device", "model", "in_range", "warnings"} <= set(content)
    assert content["device"] == "v100-fp16-b64-eager"
    assert content["model"] == "kernels"
    assert content["latency_ms"] > 0


def test_predict_preset_and_library_model(capsys) -> None:
    code, out, _ = run(capsys, "predict", "latency05ms", "--device", "v100-fp16-b64", "--json")
    assert code == 0
    assert json.loads(out)["resolution"] == 224
    code, out, _ = run(capsys, "predict", "torchvision:resnet18", "--device", "v100-fp16-b64-eager")
    assert code == 0
    assert "ms per image, predicted for v100-fp16-b64-eager" in out


def test_predict_published_structure_of_a_bundle(capsys, tmp_path) -> None:
    from zenopt.export.bundle import Bundle, write_bundle

    folder = write_bundle(Bundle(STRUCTURE, resolution=160, num_classes=10, use_se=True), tmp_path / "bundle")
    code, out, _ = run(capsys, "predict", str(folder), "--device", "v100-fp16-b64", "--json")
    assert code == 0
    from zenopt.latency import predict_latency_ms
    from zenopt.spaces.chain.architecture import Architecture

    expected = predict_latency_ms(Architecture.parse(STRUCTURE), "v100-fp16-b64", 160, 10, use_se=True)
    assert json.loads(out)["latency_ms"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--device", "gameboy"), "Unknown device profile 'gameboy'; known: "),
        (("--device", "v100-fp16-b64", "--resolution", "32"), "covers resolutions 128 to 528, got 32"),
        (("--device", "v100-fp16-b64", "--batch", "1"), "covers batch 64, got 1"),
        (("--device", "none/such.json"), "such.json cannot be read: No such file"),
    ],
)
def test_predict_refuses(capsys, arguments, message) -> None:
    code, out, err = run(capsys, "predict", STRUCTURE, *arguments)
    assert code == 2
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_predict_does_the_rough_thing_when_asked(capsys) -> None:
    code, out, _ = run(
        capsys, "predict", STRUCTURE, "--device", "v100-fp16-b64", "--resolution", "32", "--any-resolution",
        "--batch", "1", "--any-batch", "--json",
    )  # fmt: skip
    content = json.loads(out)
    assert code == 0
    assert not content["in_range"]
    assert "resolution 32 is outside" in content["warnings"][0]


def test_devices(capsys) -> None:
    code, out, _ = run(capsys, "devices", "--json")
    profiles = {row["name"]: row for row in json.loads(out)}
    assert code == 0
    assert {
        "v100-fp16-b64", "v100-fp16-b64-eager", "v100-fp16-b64-tensorrt", "t4-int8-b64", "pixel2-b1",
    } <= set(profiles)  # fmt: skip
    assert profiles["v100-fp16-b64-eager"]["data"]["networks"] == 18
    code, out, _ = run(capsys, "devices")
    assert code == 0
    assert "leave one network out" in out


def test_shares_add_up(capsys) -> None:
    for extra, rows in (((), 3), (("--layers",), 13)):
        code, out, _ = run(capsys, "shares", STRUCTURE, "--device", "v100-fp16-b64", "--json", *extra)
        content = json.loads(out)
        assert code == 0
        assert len(content) >= rows
        assert sum(row["share"] for row in content) == pytest.approx(1)


def test_shares_refuse_other_resolutions_unless_asked(capsys) -> None:
    arguments = ("shares", STRUCTURE, "--device", "v100-fp16-b64", "--resolution", "32")
    code, out, err = run(capsys, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "covers resolutions 128 to 528, got 32" in err
    assert run(capsys, *arguments, "--any-resolution")[0] == 0


def test_measure(capsys, tmp_path) -> None:
    arguments = (
        "measure", STRUCTURE, "--resolution", "16", "--classes", "10", "--threads", "1", "--batch", "2", "--seconds",
        "0.05", "--cache", str(tmp_path / "latency.db"), "--json",
    )  # fmt: skip
    code, out, _ = run(capsys, *arguments)
    first = json.loads(out)
    assert code == 0
    assert first["latency_ms"] == pytest.approx(first["batch_ms"] / 2)
    assert {"spread", "iterations", "environment"} <= set(first)
    assert json.loads(run(capsys, *arguments)[1])["is_cached"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--device", "cuda:99"), "Device 'cuda:99' is not available"),
        (("--device", "abacus"), "'abacus' is no device"),
        (("--clock", "cpu", "--threads", "2"), "one thread"),
        (("--onnxruntime", "--compile"), "cannot be combined"),
    ],
)
def test_measure_refuses(capsys, arguments, message) -> None:
    code, out, err = run(capsys, "measure", STRUCTURE, "--resolution", "16", "--no-cache", *arguments)
    assert code == 2
    assert out == ""
    assert message in err


SMALL_STUDY = """\
name: mine
space:
  options: {stage_strides: [1, 2], stem_stride: 1, slots: 2, max_width: 32, max_bottleneck: 16, max_depth: 2}
  initial: "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,8,1,8,1)SuperResK3K3(8,16,2,8,1)SuperConvK1BNRELU(16,16,1,1)"
resolution: 16
num_classes: 10
budget: {latency_ms: 1000.0, layers: 8}
latency: {device: mine.json, mode: table}
proxy: {name: zen-closed-form}
trials: 4
"""


def test_from_calibration_to_an_exported_network_that_keeps_its_budget(capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "mine.yaml").write_text(SMALL_STUDY)
    # The study names the profile that is only now made.
    code, out, err = run(
        capsys, "calibrate", "--study", "mine.yaml", "--batch", "2", "--threads", "1", "--clock", "cpu",
        "--seconds", "1", "--held-out", "3", "--output", "mine.json", "--json", "--force",
    )  # fmt: skip
    assert code == 0, err
    assert json.loads(out)["errors"]["noise_floor"]["visits"] >= 3
    assert (
        main_code("optimize", "--study", "mine.yaml", "--storage", "sqlite:///mine.db", "--workers", "1") == 0
    )
    capsys.readouterr()
    assert (
        main_code("export-best", "--study", "mine", "--storage", "sqlite:///mine.db", "--output", "best") == 0
    )
    content = json.loads((tmp_path / "best" / "architecture.json").read_text())
    assert content["costs"]["latency_kind"] == "measured"
    assert 0 < content["costs"]["latency_ms"] < 1000
    assert content["constraints"]["latency_ms"] < 0
    capsys.readouterr()
    code, out, _ = run(
        capsys, "measure", "best", "--batch", "2", "--threads", "1", "--seconds", "0.2", "--json"
    )
    assert code == 0
    assert json.loads(out)["structure"] == content["structure"]


def main_code(*arguments: str) -> int:
    """Run a command and return its exit code."""
    try:
        main(list(arguments))
    except SystemExit as error:
        return int(error.code or 0)
    return 0


@pytest.mark.slow
def test_sample_by_a_command_then_fit_and_plot(capsys, tmp_path, monkeypatch) -> None:
    pytest.importorskip("onnxscript")
    script = tmp_path / "phone.py"
    # A phone whose speed is the size of the file.
    script.write_text("import os, sys\nprint(os.path.getsize(sys.argv[1]) / 1e6, 'ms')\n")
    table, profile = tmp_path / "phone.csv", tmp_path / "phone.json"
    code, out, _ = run(
        capsys, "sample", "--study", "cifar-params1m", "--count", "1", "--output", str(table), "--json",
        "--command", f"{sys.executable} {script} {{onnx}}",
    )  # fmt: skip
    assert code == 0
    assert json.loads(out)["networks"] == 1
    line = table.read_text().splitlines()[1]
    assert line.endswith("32,100,0")
    assert float(line.rsplit(",", 4)[1]) > 0
    code, _, err = run(
        capsys, "fit", "--csv", str(table), "--output", str(profile), "--device-name", "A phone"
    )
    assert code == 2
    assert "at least 5 measured networks, got 1" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("calibrate", "--study", "cifar-params1m"),
        ("fit", "--csv", "none.csv", "--device-name", "x"),
        ("plot", "v100-fp16-b64-eager"),
        ("sample", "--study", "cifar-params1m", "--count", "1"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_before_any_work(capsys, tmp_path, arguments) -> None:
    (tmp_path / "file").write_text("")
    output = tmp_path / "file" / "deeper" / "x.json"
    code, out, err = run(capsys, *arguments, "--output", str(output))
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert f"Cannot write {output}: " in err


def test_folders_of_an_output_are_made(capsys, tmp_path) -> None:
    output = tmp_path / "new" / "folder" / "errors.json"
    assert run(capsys, "plot", "v100-fp16-b64-eager", "--output", str(output))[0] == 0
    assert output.is_file()
    code, _, err = run(capsys, "calibrate", "--output", str(tmp_path / "profile.txt"))
    assert code == 2
    assert "must end in .json" in err


def test_shares_of_a_library_model(capsys) -> None:
    pytest.importorskip("torchvision")
    code, out, _ = run(capsys, "shares", "torchvision:resnet18", "--device", "v100-fp16-b64", "--json")
    rows = json.loads(out)
    assert code == 0
    assert [row["name"] for row in rows][-2:] == ["avgpool", "fc"]
    assert "layer1.0" in {row["name"] for row in rows}
    assert sum(row["share"] for row in rows) == pytest.approx(1)


def test_fit_and_plot(capsys, tmp_path) -> None:
    from itertools import islice

    from zenopt.core.costs import count
    from zenopt.latency.stream import network_stream
    from zenopt.study.spec import StudySpec

    networks = list(
        islice(network_stream(StudySpec.load("cifar-params1m").build_space(), 32, 10, False, 0), 8)
    )
    table, profile = tmp_path / "phone.csv", tmp_path / "phone.json"
    rows = [f'"{network}",{count(network, 32, 10).macs / 1e8 + 0.1:.6f},32,10' for network in networks]
    table.write_text("structure,latency_ms,resolution,num_classes\n" + "\n".join(rows) + "\n")
    code, out, _ = run(
        capsys, "fit", "--csv", str(table), "--output", str(profile), "--device-name", "A phone", "--json"
    )
    content = json.loads(out)
    assert code == 0
    assert content["errors"]["mape"] < 0.01
    assert content["model"]["coefficients"]["gmacs"] == pytest.approx(10, rel=0.02)
    code, out, _ = run(
        capsys, "predict", str(networks[0]), "--resolution", "32", "--device", str(profile), "--json"
    )
    assert code == 0
    code, out, _ = run(capsys, "plot", str(profile), "--output", str(tmp_path / "figure.json"), "--json")
    assert json.loads(out)["networks"] == 8


def test_help_imports_neither_torch_nor_optuna() -> None:
    import subprocess

    code = (
        "import sys\nfrom zenopt.cli import main\n"
        "try:\n    main(['latency', '--help'])\nexcept SystemExit: pass\n"
        "print('imported:', sorted({'torch', 'optuna', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "imported: []" in done.stdout
    assert "calibrate" in done.stdout
