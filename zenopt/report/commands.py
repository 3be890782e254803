"""The command lines that go on from a study or one of its trials, ready to be copied."""

from __future__ import annotations

import shlex

import optuna

from zenopt.export.names import prefix_of
from zenopt.report.reading import StudyData
from zenopt.storage import mask_password
from zenopt.storage.tables import engine_of
from zenopt.storage.urls import DEFAULT_STORAGE


def storage_words(study: optuna.Study) -> str:
    """Return the option that names a study's storage, empty for the default one; a password is masked."""
    engine = engine_of(study._storage)
    if engine is None:
        return ""
    url = mask_password(engine.url.render_as_string(hide_password=True))
    return "" if url == DEFAULT_STORAGE else f" --storage {shlex.quote(url)}"


def study_commands(study: optuna.Study, data: StudyData) -> list[tuple[str, str]]:
    """Return (what it does, command) of what may be done with a study's result."""
    if not data.spec.has_networks:
        return []
    name, storage = shlex.quote(study.study_name), storage_words(study)
    folder, run = shlex.quote(f"{study.study_name}-bundle"), shlex.quote(f"runs/{study.study_name}")
    return [
        ("Export the best network", f"zenopt export-best --study {name}{storage} --output {folder}"),
        (
            "Train it",
            f"zenopt train --bundle {folder} --data imagefolder:PATH --output {run}",
        ),
    ]


def filled(command: str, number: int, structure: str) -> str:
    """Return a command of :func:`trial_commands` for a trial."""
    return command.replace("{number}", str(number)).replace("{structure}", structure)


def trial_commands(study: optuna.Study, data: StudyData) -> list[tuple[str, str]]:
    """Return (what it does, command) for a trial; ``{number}`` and ``{structure}`` stand for its own."""
    name, storage, spec = shlex.quote(study.study_name), storage_words(study), data.spec
    if not spec.has_networks:
        return []
    gates = " --se" if spec.use_se else ""
    structure = "'{structure}'"
    if spec.why_no_networks() is None:
        space = spec.build_space()
        structure = f"'{prefix_of(space.parse(space.initial))}{{structure}}'"
    return [
        (
            "Train this network",
            f"zenopt train --structure {structure} --resolution {spec.resolution}{gates} "
            f"--data imagefolder:PATH --output runs/{name}-{{number}}",
        ),
        (
            "Describe it block by block",
            f"zenopt describe {structure} --resolution {spec.resolution} --classes {spec.num_classes}{gates}",
        ),
        (
            "Write its picture",
            f"zenopt report --study {name}{storage} --figure network-trial-{{number}} -o trial-{{number}}.svg",
        ),
    ]
