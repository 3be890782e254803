from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import numpy as np
import optuna
import pytest
from report_pages import content_of

from zenopt.cli import cli
from zenopt.report import write_report
from zenopt.report.commands import storage_words, study_commands, trial_commands
from zenopt.report.figure import new_figure
from zenopt.report.payload import study_payload
from zenopt.report.reading import StudyData, read_study


@pytest.fixture(scope="module")
def data(study: optuna.Study) -> StudyData:
    return read_study(study, 0.0)


def test_every_trial_is_in_the_page(study: optuna.Study, data: StudyData, tmp_path: Path) -> None:
    write_report([study], tmp_path / "report.html", top=2)
    (found,) = content_of((tmp_path / "report.html").read_text(encoding="utf-8"))["studies"]
    columns = {key: values for key, _, values in found["columns"]}
    assert columns["trial"] == list(range(300))
    assert columns["score"][study.best_trial.number] == pytest.approx(study.best_trial.value, rel=1e-6)
    states = [found["states"][index] for index in found["state"]]
    assert states[-1] == "running" and states[7] == "over budget" and states[150] == "failed"
    for number in (0, 5, study.best_trial.number):
        blocks = "".join(
            found["structures"]["blocks"][index] for index in found["structures"]["items"][number]
        )
        assert blocks == data.structures[number]
    assert found["structures"]["items"][-1] is None
    assert found["limits"] == {"zennas_params": 1e6, "layers": 18}
    assert str(study.best_trial.number) in found["pictures"]
    assert found["notes"] == {str(study.best_trial.number): "Best network"}
    assert len(found["workers"]) == 3


def test_numbers_keep_their_digits(data: StudyData) -> None:
    values = np.array(data.values)
    values[:6] = [1.23456789e-5, 1e9 + 1, -0.0, 123456.789, np.inf, 0.1]
    changed = data.__class__(**{**data.__dict__, "values": values})
    columns = {key: found for key, _, found in study_payload(changed, [], {}, {})["columns"]}
    assert columns["score"][:6] == [1.234568e-05, 1000000001, 0, 123456.8, None, 0.1]


def test_the_commands_exist(study: optuna.Study, data: StudyData) -> None:
    commands = [*study_commands(study, data), *trial_commands(study, data)]
    assert len(commands) == 5
    for _, command in commands:
        words = shlex.split(
            command.replace("{structure}", "SuperConvK3BNRELU(3,8,1,1)").replace("{number}", "3")
        )
        assert words[0] == "zenopt"
        found = cli.get_command(click.Context(cli), words[1])
        assert found is not None, command
        known = {name for parameter in found.params for name in parameter.opts}
        assert {word for word in words[2:] if re.match(r"--?[a-z]", word)} <= known, command
    engine_words = storage_words(study)
    assert (
        engine_words.startswith(" --storage sqlite:////")
        and engine_words in dict(commands)["Export the best network"]
    )


def test_commands_import_what_the_report_did(study: optuna.Study, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    (section,) = write_report([study], path, top=1, imports=["my.blocks", "my blocks.py"])
    commands = [*section.commands, *section.trial_commands]
    assert all(command.endswith(" --import my.blocks --import 'my blocks.py'") for _, command in commands)
    assert "--import my.blocks --import" in path.read_text(encoding="utf-8")
    assert "--import" not in "".join(command for _, command in write_report([study], path)[0].commands)


def test_a_long_title_of_an_axis_is_broken() -> None:
    title = new_figure(
        "trial", "top-1 accuracy (%) on 10 % of the training images, held back"
    ).layout.yaxis.title
    assert title.text == "top-1 accuracy (%) on 10 % of the<br>training images, held back"
