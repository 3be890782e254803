"""Every command through its front door: what it prints, and how it refuses bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from zenopt import Architecture, count
from zenopt.cli import COMMANDS

STRUCTURE = "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,16,1,8,1)SuperResK1K5K1(16,24,2,8,2)SuperConvK1BNRELU(24,32,1,1)"


def test_help_imports_neither_torch_nor_optuna() -> None:
    code = (
        "import sys\nfrom zenopt.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as error:\n    assert not error.code\n"
        "print([name for name in ('torch', 'optuna', 'sqlalchemy', 'numpy') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
    for command in COMMANDS:
        assert command in result.stdout


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help(zenopt: Callable, command: str) -> None:
    result = zenopt(command, "--help")
    assert result.code == 0
    assert "Usage:" in result.out


def test_describe_json_has_the_costs(zenopt: Callable) -> None:
    content = zenopt("describe", STRUCTURE, "--resolution", "32", "--classes", "10", "--json").json
    costs = count(Architecture.parse(STRUCTURE), 32, 10)
    assert content["structure"] == STRUCTURE
    for key in ("params", "macs", "layers", "zennas_params", "zennas_flops"):
        assert content[key] == getattr(costs, key)
    assert content["output_shape"] == [32, 16, 16]
    assert sum(layer["params"] for layer in content["layer_table"]) == costs.params


def test_describe_verify_agrees_with_torch(zenopt: Callable) -> None:
    result = zenopt(
        "describe", STRUCTURE, "--resolution", "31", "--classes", "10", "--se", "--verify", "--json"
    )
    verify = result.json["verify"]
    assert verify["torch"]["params"] == verify["zenopt"]["params"] == verify["thop"]["params"]
    assert verify["torch"]["macs"] == verify["zenopt"]["macs"]
    assert verify["torch"]["note"] == "equal to ours"


def test_describe_prints_a_line_per_block_and_all_layers(zenopt: Callable) -> None:
    text = zenopt("describe", STRUCTURE, "--resolution", "32").out
    assert "SuperResK1K5K1(16,24,2,8,2)" in text and "pool, linear" in text
    assert zenopt("describe", STRUCTURE, "--layers").out.count("conv") > 15


def test_describe_shows_where_the_predicted_time_goes(zenopt: Callable) -> None:
    arguments = ("describe", STRUCTURE, "--resolution", "224", "--latency", "v100-fp16-b64-eager")
    content = zenopt(*arguments, "--json").json
    for rows in (content["layer_table"], content["block_table"]):
        assert sum(row["latency_ms"] for row in rows) == pytest.approx(content["latency_ms"])
        assert sum(row["latency_share"] for row in rows) == pytest.approx(1)
    assert len(content["block_table"]) < len(content["layer_table"])
    for more in ((), ("--layers",)):
        assert zenopt(*arguments, *more).out.splitlines()[0].split()[-2:] == ["ms", "share"]
    assert "latency_share" not in zenopt("describe", STRUCTURE, "--json").json["layer_table"][0]


def test_describe_repairs_input_channels_with_a_warning(zenopt: Callable) -> None:
    result = zenopt("describe", STRUCTURE.replace("(16,24", "(99,24"), "--json")
    assert result.code == 0
    assert result.json["structure"] == STRUCTURE
    assert "re-threaded" in result.err


def test_score_json_keys_and_determinism(zenopt: Callable) -> None:
    arguments = ("score", STRUCTURE, "--resolution", "8", "--batch-size", "4", "--repeats", "3", "--json")
    first, second = zenopt(*arguments).json, zenopt(*arguments).json
    assert {"proxy", "mean", "std", "values", "seconds"} <= first.keys()
    assert first["proxy"] == "zen" and len(first["values"]) == 3
    assert first["mean"] == pytest.approx(sum(first["values"]) / 3)
    assert first["values"] == second["values"]
    assert zenopt(*arguments, "--seed", "1").json["values"] != first["values"]


def test_score_reads_files_and_closed_form(zenopt: Callable, tmp_path: Path) -> None:
    path = tmp_path / "net.txt"
    path.write_text(STRUCTURE + "\n")
    result = zenopt("score", str(path), "--proxy", "zen-closed-form", "--resolution", "32", "--json")
    assert result.json["std"] == 0
    assert "zen-closed-form:" in zenopt("score", str(path), "--proxy", "zen-closed-form").out


def test_studies_lists_presets_and_stored_studies(zenopt: Callable, spec_file: Path) -> None:
    names = [spec["name"] for spec in zenopt("studies", "--json").json]
    assert {"demo", "cifar-params1m", "cifar-params2m", "latency01ms", "latency12ms", "flops400m"} <= set(
        names
    )
    assert "cifar-params1m" in zenopt("studies").out
    zenopt("optimize", "--study", str(spec_file), "--trials", "2", "--workers", "1", "--quiet")
    stored = zenopt("studies", "--storage", "sqlite:///zenopt.db", "--json").json
    assert [study["study"] for study in stored] == ["tiny"]


def test_proxies_are_listed(zenopt: Callable) -> None:
    names = {proxy["name"] for proxy in zenopt("proxies", "--json").json}
    assert {"zen", "zen-closed-form"} <= names


def test_search_export_and_status(zenopt: Callable, spec_file: Path) -> None:
    run = zenopt("optimize", "--study", str(spec_file), "--trials", "6", "--workers", "1", "--json")
    assert run.code == 0
    assert run.json["done"] == run.json["complete"] == 6
    status = zenopt("status", "--study", "tiny", "--json").json
    assert {key: status[key] for key in ("trials", "complete", "pruned", "running", "failed")} == {
        "trials": 6,
        "complete": 6,
        "pruned": 0,
        "running": 0,
        "failed": 0,
    }
    best = status["best"]
    assert {"number", "value", "structure", "params", "macs", "layers", "latency_ms"} <= best.keys()
    assert best["params"] == count(Architecture.parse(best["structure"]), 8, 10).params <= 30_000
    text = zenopt("status", "--study", "tiny").out
    assert best["structure"] in text and "6 complete" in text

    exported = zenopt("export-best", "--study", "tiny", "--output", "bundle", "--top", "3", "--json").json
    content = json.loads(Path("bundle/architecture.json").read_text())
    assert content["structure"] == exported["structure"] == Path("bundle/structure.txt").read_text().strip()
    assert len(content["candidates"]) == 3 and len(content["scores"]["values"]) == 8
    assert content["scores"]["mean"] == max(item["mean"] for item in content["candidates"])
    assert all(value <= 0 for value in content["constraints"].values())
    assert (
        zenopt("describe", "bundle", "--resolution", "8", "--json").json["structure"] == content["structure"]
    )
    again = zenopt("export-best", "--study", "tiny", "--output", "bundle")
    assert again.code == 2 and "--force" in again.err
    assert zenopt("export-best", "--study", "tiny", "--output", "bundle", "--force").code == 0


def test_a_stored_study_goes_on_by_its_name(zenopt: Callable, spec_file: Path) -> None:
    zenopt("optimize", "--study", str(spec_file), "--study-name", "mine", "--trials", "2", "--workers", "1")
    spec_file.unlink()
    run = zenopt("optimize", "--study-name", "mine", "--trials", "3", "--workers", "1", "--json").json
    assert run["trials"] == 5 and run["done"] == 3


def test_progress_lines_when_piped(zenopt: Callable, spec_file: Path) -> None:
    run = zenopt("optimize", "--study", str(spec_file), "--trials", "3", "--workers", "1")
    assert "Budget: params <= 30,000, layers <= 8" in run.err
    assert "\x1b" not in run.err + run.out
    assert "3 trials in" in run.out and "Best: trial" in run.out


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2"])
def test_other_samplers_join_the_same_study(zenopt: Callable, spec_file: Path, sampler: str) -> None:
    common = (
        "optimize",
        "--study",
        str(spec_file),
        "--workers",
        "1",
        "--set",
        "space.bounds=narrow",
        "--json",
    )
    zenopt(*common, "--trials", "2")
    run = zenopt(*common, "--trials", "12", "--sampler", sampler)
    assert run.code == 0, run.err
    assert run.json["trials"] == 14 and run.json["failed"] == 0
    assert run.json["pruned"] == 0 if sampler == "nsga2" else run.json["pruned"] >= 0


BAD_INPUT = [
    (("describe", ""), "neither a structure string"),
    (("describe", "Foo(1,2,3,4)"), "unknown block type 'Foo'"),
    (("describe", "SuperConvK3BNRELU(3,8,1)"), "takes 4 numbers"),
    (("describe", "SuperConvK3BNRELU(3,x,1,1)"), "integer from 1 to 65536, got 'x'"),
    (("describe", "SuperConvK3BNRELU(3,8,1,1)junk"), "position 26"),
    (("describe", "SuperConvK3BNRELU(3,8,1,0)"), "depth must be"),
    (("describe", "missing.txt"), "missing.txt"),
    (("describe", STRUCTURE, "--latency", "abacus"), "abacus"),
    (("describe", STRUCTURE, "--resolution", "0"), "--resolution"),
    (("score", STRUCTURE, "--proxy", "zeen"), "zen"),
    (("score", STRUCTURE, "--device", "cuda:7"), "cuda:7"),
    (("score", STRUCTURE, "--device", "toaster"), "toaster"),
    (("optimize",), "--study"),
    (("optimize", "--study", "nope"), "presets are"),
    (("optimize", "--study", "nope.yaml"), "nope.yaml does not exist"),
    (("optimize", "--study", "tiny.yaml", "--set", "budget.parms=1"), "did you mean 'params'"),
    (("optimize", "--study", "tiny.yaml", "--set", "budget.params=-1"), "budget.params"),
    (("optimize", "--study", "tiny.yaml", "--set", "budget.params"), "path=value"),
    (("optimize", "--study", "tiny.yaml", "--set", "budget.params=10", "--workers", "1"), "budget.params"),
    (("optimize", "--study", "tiny.yaml", "--device", "cuda:9"), "cuda:9"),
    (("optimize", "--study", "tiny.yaml", "--storage", "sqlite:////no/such/folder/x.db"), "/no/such/folder"),
    (("optimize", "--study", "tiny.yaml", "--storage", "nonsense://x"), "nonsense"),
    (("optimize", "--study", "tiny.yaml", "--storage", "memory:", "--workers", "2"), "one worker"),
    (("status", "--study", "x"), "does not exist"),
    (("status", "--study", "x", "--storage", "sqlite:///tiny.yaml"), "tiny.yaml"),
    (("export-best", "--study", "x", "--output", "y"), "does not exist"),
    (("nonsense",), "nonsense"),
]


@pytest.mark.parametrize(("arguments", "expected"), BAD_INPUT, ids=lambda item: " ".join(item)[:60])
def test_bad_input_is_one_clear_line(
    zenopt: Callable, spec_file: Path, arguments: tuple[str, ...], expected: str
) -> None:
    result = zenopt(*arguments)
    assert result.code == 2, result
    assert expected in result.err
    assert "Traceback" not in result.err
    assert result.err.strip().splitlines()[-1].startswith("Error: ")
    assert result.out == ""


def test_yaml_errors_name_file_and_line(zenopt: Callable, spec_file: Path) -> None:
    spec_file.write_text(spec_file.read_text().replace("resolution: 8", "resolutoin: 8"))
    result = zenopt("optimize", "--study", str(spec_file))
    assert result.code == 2 and "tiny.yaml" in result.err and "resolution" in result.err


def test_joining_with_another_budget_lists_the_fields(zenopt: Callable, spec_file: Path) -> None:
    zenopt("optimize", "--study", str(spec_file), "--trials", "1", "--workers", "1")
    result = zenopt(
        "optimize", "--study", str(spec_file), "--set", "budget.params=4e4", "--set", "resolution=16"
    )
    assert result.code == 2
    assert "budget.params: 30000.0 -> 40000.0" in result.err and "resolution: 8 -> 16" in result.err


def test_an_infeasible_study_exports_nothing(zenopt: Callable, spec_file: Path) -> None:
    arguments = ("--set", "budget.params=3000", "--sampler", "random", "--trials", "2", "--workers", "1")
    run = zenopt("optimize", "--study", str(spec_file), *arguments)
    assert run.code == 0 and "No feasible trial yet" in run.out
    result = zenopt("export-best", "--study", "tiny", "--output", "bundle")
    assert result.code == 2 and "no feasible trial among 2" in result.err
    assert not Path("bundle").exists()


def test_help_fits_a_terminal_of_80_columns_and_explains_every_option() -> None:
    import click
    from click.testing import CliRunner

    from zenopt.cli import cli

    commands = [(name, cli.get_command(click.Context(cli), name)) for name in COMMANDS]
    group = dict(commands)["latency"]
    assert isinstance(group, click.Group)
    commands += [(f"latency {name}", command) for name, command in group.commands.items()]
    for name, command in commands:
        assert command is not None
        text = CliRunner().invoke(command, ["--help"], terminal_width=80).output
        assert [line for line in text.splitlines() if len(line) > 80] == [], name
        for option in command.params:
            # Those of training are explained on a page of their own.
            if isinstance(option, click.Option) and name not in ("train", "evaluate", "deploy"):
                assert option.help, f"{name} {option.opts[0]} says nothing"
