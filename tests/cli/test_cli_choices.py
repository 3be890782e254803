"""A study that need not be named, numbers that are none, folders that are full, and what to type next."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from zenopt.latency.training_speed import TrainingSpeed

RUN = ("--workers", "1", "--trials", "2")


@pytest.fixture
def one_study(zenopt: Callable, spec_file: Path) -> Callable:
    """A storage with a single study, in the working folder."""
    assert zenopt("optimize", "--study", str(spec_file), *RUN, "--quiet").code == 0
    return zenopt


def test_the_only_study_need_not_be_named(one_study: Callable) -> None:
    assert one_study("status", "--json").json["study"] == "tiny"
    assert one_study("watch", "--timeout", "0").code == 0
    assert one_study("export-best", "--output", "bundle", "--repeats", "1", "--json").json["study"] == "tiny"
    assert one_study("report", "-o", "page.html", "--json").json["studies"] == ["tiny"]
    assert "tiny" in one_study("predict", "bundle").err


def test_linked_studies_are_no_choice(one_study: Callable) -> None:
    import optuna

    from zenopt.storage import open_storage

    optuna.create_study(storage=open_storage("sqlite:///zenopt.db"), study_name="tiny-verify")
    assert one_study("status", "--json").json["study"] == "tiny"


def test_of_several_studies_the_commands_to_type_are_listed(one_study: Callable, spec_file: Path) -> None:
    one_study("optimize", "--study", str(spec_file), "--study-name", "the other", *RUN, "--quiet")
    for typed in (
        "status",
        "watch --timeout 0",
        "report -o page.html",
        "predict NETWORK",
        "export-best --output bundle",
        "verify --data synthetic",
    ):
        result = one_study(*typed.split())
        assert result.code == 2 and result.out == ""
        assert result.err.splitlines()[-3:] == [
            "Error: The storage holds 2 studies; name one of them:",
            f"    zenopt {typed} --study 'the other'",
            f"    zenopt {typed} --study tiny",
        ]
    assert not Path("bundle").exists()


def test_a_password_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    import click

    from zenopt.cli import cli
    from zenopt.cli.study_choice import TYPED_KEY, typed_command

    with click.Context(cli) as context:
        context.meta[TYPED_KEY] = ["status", "--storage", "postgresql://me:secret@host/db"]
        assert "secret" not in typed_command() and "host/db" in typed_command()


def test_an_empty_storage_says_so(zenopt: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from zenopt.storage import open_storage

    monkeypatch.chdir(tmp_path)
    open_storage("sqlite:///zenopt.db").get_all_studies()
    result = zenopt("status")
    assert result.code == 2 and "no study yet; run zenopt optimize first" in result.err


def test_a_preset_or_study_that_is_neither_says_both(zenopt: Callable, one_study: Callable) -> None:
    result = zenopt("sample", "--study", "demoo", "-n", "1")
    assert result.code == 2 and result.out == ""
    assert result.err.splitlines() == [
        "Error: 'demoo' is no preset (did you mean 'demo'?), and no stored study either: "
        "No study 'demoo' in this storage; stored studies: tiny."
    ]
    missing = zenopt("sample", "--study", "tny", "-n", "1", "--storage", "sqlite:///other.db")
    assert missing.code == 2 and missing.err.startswith(
        "Error: 'tny' is no preset, and no stored study either: "
    )
    assert "'sqlite:///other.db': the file does not exist" in missing.err and not Path("other.db").exists()


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-1", "0"])
@pytest.mark.parametrize(
    ("arguments", "zero_is_fine"),
    [
        (("optimize", "--study", "tiny.yaml", "--timeout"), False),
        (("watch", "--timeout"), True),
        (("watch", "--interval"), False),
        (("score", "SuperConvK3BNRELU(3,8,1,1)", "--gamma"), False),
        (("latency", "calibrate", "--output", "x.json", "--seconds"), False),
        (("latency", "measure", "SuperConvK3BNRELU(3,8,1,1)", "--seconds"), False),
        (("verify", "--data", "synthetic", "--rate"), False),
        (("correlate", "--table", "t.csv", "--proxies", "params", "--top"), False),
    ],
    ids=lambda item: " ".join(item) if isinstance(item, tuple) else "",
)
def test_numbers_that_are_none_are_refused(
    zenopt: Callable, spec_file: Path, arguments: tuple[str, ...], zero_is_fine: bool, value: str
) -> None:
    if value == "0" and zero_is_fine:
        return
    result = zenopt(*arguments, value)
    assert result.code == 2 and f"Invalid value for '{arguments[-1]}'" in result.err, result.err
    assert not Path("zenopt.db").exists()


@pytest.mark.parametrize("timeout", [float("nan"), float("inf"), -1.0, 0.0])
def test_the_api_refuses_them_too(tiny_spec: Callable, timeout: float) -> None:
    import zenopt as package
    from zenopt.core.errors import StudyError

    with pytest.raises(StudyError, match="timeout must be a positive number of seconds"):
        package.optimize(tiny_spec(), "memory:", timeout=timeout)


def test_every_command_ends_with_the_next_one(zenopt: Callable, spec_file: Path) -> None:
    def next_of(*arguments: str) -> list[str]:
        result = zenopt(*arguments)
        assert result.code == 0, result.err
        assert "Next:" not in result.out
        lines = [line for line in result.err.splitlines() if line.startswith("Next:")]
        assert len(lines) == 1
        return [part.partition("#")[0].strip() for part in result.err.partition("Next:")[2].splitlines()]

    run = ("optimize", "--study", str(spec_file), *RUN)
    expected = [
        "zenopt status --study tiny",
        "zenopt report --study tiny",
        "zenopt export-best --study tiny --output tiny-bundle",
    ]
    assert next_of(*run) == expected
    elsewhere = next_of(*run, "--storage", "sqlite:///other.db")
    assert elsewhere[0] == "zenopt status --study tiny --storage sqlite:///other.db"
    assert next_of("status") == expected[1:]
    assert next_of("watch", "--timeout", "0") == expected[1:]
    exported = next_of("export-best", "--output", "tiny-bundle", "--repeats", "1")
    assert exported == [
        "zenopt describe tiny-bundle",
        "zenopt train --bundle tiny-bundle --data imagefolder:PATH --output runs/tiny",
    ]
    assert next_of("studies") == ["zenopt optimize --study demo"]
    assert next_of("studies", "--storage", "sqlite:///zenopt.db")[0].startswith("zenopt status --study tiny")
    for silent in (("--quiet",), ("--json",)):
        assert "Next:" not in zenopt(*run, *silent).err
        assert (
            "Next:"
            not in zenopt("export-best", "--output", "other", "--force", "--repeats", "1", *silent).err
        )


def test_a_suggested_command_can_be_typed(zenopt: Callable, spec_file: Path) -> None:
    """Every suggestion parses: its command and options exist."""
    import shlex

    import click

    from zenopt.cli import cli

    zenopt("optimize", "--study", str(spec_file), *RUN, "--quiet")
    for arguments in (
        ("status",),
        ("export-best", "--output", "b", "--repeats", "1"),
        ("studies",),
        ("proxies",),
    ):
        for line in zenopt(*arguments).err.partition("Next:")[2].splitlines():
            program, name, *rest = shlex.split(line, comments=True)
            assert program == "zenopt"
            command = cli.get_command(click.Context(cli), name)
            assert command is not None
            command.make_parser(click.Context(command)).parse_args(rest)


DEEP = """\
name: deep
space: {name: superres, options: {stage_strides: [1, 2, 2, 2], stem_stride: 1}}
resolution: 32
num_classes: 10
budget: {params: 3.0e+5, macs: 50.0e+6}
proxy: {name: zen-closed-form}
trials: 2
"""


@pytest.mark.parametrize(
    ("change", "warned"),
    [
        ((), True),
        (("--set", "budget.layers=18"), False),
        (("--set", "budget.convs=20"), False),
        (("--set", "space.options.slots=2", "--set", "space.options.max_depth=2"), False),
        (("--set", "proxy.name=params"), False),
        (("--set", "classes=[{convs: 10}, {layers: 9}]"), False),
        (("--set", "classes=[{convs: 10}, {params: 1e5}]"), True),
    ],
    ids=lambda item: " ".join(item) if isinstance(item, tuple) else "",
)
def test_a_study_without_a_depth_limit_is_warned_of(
    zenopt: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: tuple[str, ...], warned: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("deep.yaml").write_text(DEEP)
    result = zenopt("optimize", "--study", "deep.yaml", "--workers", "1", "--trials", "1", *change)
    assert result.code == 0, result.err
    found = [line for line in result.err.splitlines() if "nothing limits depth" in line]
    assert len(found) == warned
    if warned:
        assert found[0].startswith("Warning: ") and "--set budget.layers=18" in found[0]
        # Before the search, not after it.
        assert result.err.index("nothing limits depth") < result.err.index("Study deep in")


def test_a_bundle_is_described_and_scored_as_it_says(zenopt: Callable, tmp_path: Path) -> None:
    from zenopt import Architecture, count
    from zenopt.export.bundle import Bundle, write_bundle

    text = "SuperConvK3BNRELU(3,8,1,1)SuperResIDWE2K3(8,16,2,16,1)SuperConvK1BNRELU(16,32,1,1)"
    folder = str(write_bundle(Bundle(text, resolution=40, num_classes=7, use_se=True), tmp_path / "bundle"))
    architecture = Architecture.parse(text)
    for name in (folder, f"{folder}/architecture.json"):
        found = zenopt("describe", name, "--json").json
        costs = count(architecture, 40, 7, use_se=True)
        assert (found["macs"], found["params"]) == (costs.macs, costs.params)
    assert (found["resolution"], found["num_classes"], found["use_se"]) == (40, 7, True)
    assert "at                40 px, 7 classes, squeeze-excite" in zenopt("describe", folder).out
    plain = zenopt("describe", folder, "--no-se", "--resolution", "32", "--classes", "10", "--json").json
    assert plain["macs"] == count(architecture, 32, 10).macs
    options = ("--batch-size", "2", "--json")
    own = zenopt("score", folder, *options).json
    asked = zenopt("score", text, "--resolution", "40", "--classes", "7", "--se", *options).json
    assert own["mean"] == asked["mean"] and (own["resolution"], own["use_se"]) == (40, True)
    assert own["mean"] != zenopt("score", folder, "--no-se", *options).json["mean"]
    assert "at 40 px, 7 classes, squeeze-excite" in zenopt("score", folder, "--batch-size", "2").out


def test_training_speed_is_told(zenopt: Callable) -> None:
    small = zenopt("describe", "cifar-small")
    assert "images/s on one CPU core" in small.out and "fine on a laptop" in small.out
    large = zenopt("describe", "zennet_imagenet1k_flops900M_SE", "--json").json["training"]
    assert large["kind"] == "gpu" and large["images_per_second_per_core"] < 10


def test_a_pattern_that_matches_no_model_is_said(zenopt: Callable) -> None:
    found = zenopt("models", "list")
    assert found.code == 2 and "no published network matches 'list'" in found.err


def test_next_steps_keep_the_imports(zenopt: Callable, tmp_path: Path) -> None:
    module = tmp_path / "nothing_of_note.py"
    module.write_text("")
    shown = zenopt("models", "*size05M", "--import", str(module)).err
    assert shown.splitlines()[0].split("  # ")[0].rstrip().endswith(f"--import {module}")
    assert "--import" not in zenopt("models", "*size05M").err


def test_an_unknown_sampler_is_said_once(zenopt: Callable) -> None:
    found = zenopt("optimize", "--study", "demo", "--sampler", "nsgaii")
    assert found.code == 2 and "nsga2" in found.err and "Known samplers" not in found.err


def test_a_sampler_of_ones_own_is_named_on_the_command_line(
    zenopt: Callable, spec_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = "from optuna.samplers import RandomSampler\nclass OwnSampler(RandomSampler):\n    pass\n"
    (tmp_path / "own_samplers.py").write_text(code)
    command = ("optimize", "--study", str(spec_file), "--storage", "memory:", *RUN)
    for name, known in (("own_samplers:OwnSampler", ("--import", "own_samplers.py")), ("QMCSampler", ())):
        found = zenopt(*command, "--sampler", name, *known)
        assert found.code == 0 and f"sampler {name}" in found.err


def test_a_study_without_a_spec_names_no_command_that_needs_one(
    zenopt: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import optuna

    import zenopt as package
    from zenopt.spaces.nasbench201.space import NasBench201Space

    monkeypatch.chdir(tmp_path)
    space, limits = NasBench201Space(), package.Limits(package.Budget(), resolution=32, num_classes=10)
    study = optuna.create_study(
        study_name="by hand",
        storage="sqlite:///zenopt.db",
        direction="maximize",
        sampler=package.ZenSampler(space, limits),
    )
    study.optimize(lambda trial: float(str(space.suggest(trial)).count("3x3")), n_trials=2)
    found = zenopt("status")
    assert found.code == 0 and "was not made by zenopt optimize" in found.out
    assert "Next:  zenopt describe '|" in found.err and "zenopt report" not in found.err
    for command in (("report",), ("export-best", "--output", "bundle")):
        refused = zenopt(*command)
        assert refused.code == 2 and "zenopt status and Optuna's own tools read it" in refused.err


def test_commands_to_type_are_quoted(one_study: Callable, spec_file: Path) -> None:
    Path("zenopt.db").unlink()
    one_study("optimize", "--study", str(spec_file), "--study-name", "the other", *RUN, "--quiet")
    assert "zenopt export-best --study 'the other' --output 'the other-bundle'" in one_study("status").err
    found = one_study("export-best", "--output", "bundle", "--repeats", "1")
    assert "--output 'runs/the other'" in found.err


def test_a_table_that_is_missing_says_how_to_name_it(
    zenopt: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = zenopt("optimize", "--study", "nasbench-macro-table", "--trials", "2", "--workers", "1")
    assert found.code == 2 and "--set objective.table=PATH" in found.err


def test_a_sampler_that_finds_nothing_within_the_budget_gets_advice(
    zenopt: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ("optimize", "--study", "demo", "--sampler", "random", "--trials", "3", "--workers", "1")
    found = zenopt(*command, "--set", "budget.params=2e4", "--logger", "csv")
    assert found.code == 0 and "No feasible trial yet." in found.out
    assert "--sampler zen" in found.err
    assert "Log of the trials: runs/demo/log.csv" in found.out and Path("runs/demo/log.csv").is_file()


def test_commands_of_latency_are_listed_whole(zenopt: Callable) -> None:
    assert "..." not in zenopt("latency", "--help").out.partition("Commands:")[2]


def test_epochs_of_a_tiny_network_take_seconds() -> None:
    assert "(50,000 images in 20 s)" in TrainingSpeed(2500.0, "laptop").text
    assert "(50,000 images in 2 min)" in TrainingSpeed(500.0, "laptop").text


def test_status_shows_the_counts_that_the_budget_is_of(zenopt: Callable, spec_file: Path) -> None:
    done = zenopt("optimize", "--study", str(spec_file), *RUN, "--set", "budget.counting=zennas")
    assert done.code == 0, done.err
    assert re.search(r"by the budget's \(ZenNAS's\) counts [\d,]+ params, [\d,]+ MACs", done.out)


@pytest.mark.parametrize(
    "command", ["train", "score", "correlate", "supernet train", "supernet rank", "supernet paths"]
)
def test_a_seed_that_no_generator_takes_is_refused(zenopt: Callable, command: str) -> None:
    result = zenopt(*command.split(), "--seed", str(2**63))
    assert (
        result.code == 2
        and "Invalid value for '--seed': 9223372036854775808 is not below 2^63." in result.err
    )
