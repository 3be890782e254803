"""Which study a command is about: the one that is named, or the only one there is."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from zenopt.cli.options import F
from zenopt.core.errors import StorageError, StudyError
from zenopt.core.text import printable, quoted
from zenopt.core.words import plural

if TYPE_CHECKING:
    import optuna

    from zenopt.progress.panel import Panel
    from zenopt.study.spec import StudySpec

#: Studies that an error lists; a storage may hold thousands.
_LISTED = 12


class _SeveralStudiesError(click.ClickException):
    exit_code = 2


def chosen_study(storage: optuna.storages.BaseStorage, name: str | None) -> optuna.Study:
    """Return the study of a name; without one, the only study that a search made.

    What ``zenopt verify`` and second stages keep beside a study (``NAME-verify``, ``NAME-trained``) is none of its own.

    Args:
        storage:
            An open storage.
        name:
            What ``--study`` gave.

    Raises:
        StudyError: If there is none.
        ClickException: If there are several; the message lists the command to type for each.
    """
    from zenopt.study.study import load_study

    return load_study(storage, name if name is not None else _only(storage))


def searched_study(
    storage: optuna.storages.BaseStorage, name: str | None, panel: Panel, doing: str
) -> optuna.Study:
    """Return the chosen study; of one that holds trainings, the study whose networks they are.

    Args:
        storage, name:
            As for :func:`chosen_study`.
        panel:
            Says that another study is meant than was named.
        doing:
            What is done with it, e.g. ``"exporting from"``.

    Raises:
        StudyError, ClickException: As :func:`chosen_study` does.
    """
    from zenopt.report.trainings import parent_of
    from zenopt.study.study import load_study

    study = chosen_study(storage, name)
    parent = parent_of(study)
    if parent is None:
        return study
    panel.note(f"Study {study.study_name} holds trainings of study {parent}: {doing} {parent}.")
    return load_study(storage, parent)


def _only(storage: optuna.storages.BaseStorage) -> str:
    from zenopt.study.study import SPEC_KEY
    from zenopt.verify.linked import LINK_KEY

    studies = storage.get_all_studies()
    searches = (
        study for study in studies if SPEC_KEY in study.user_attrs and LINK_KEY not in study.user_attrs
    )
    ours = sorted(study.study_name for study in searches)
    names = ours or sorted(study.study_name for study in studies)
    if not names:
        raise StudyError("The storage holds no study yet; run zenopt optimize first.")
    if len(names) == 1:
        return names[0]
    typed = typed_command()
    lines = [f"    {typed} --study {shlex.quote(name)}" for name in names[:_LISTED]]
    more = [f"    ... and {len(names) - _LISTED} more"] if len(names) > _LISTED else []
    # Several lines, unlike other errors: each is a command to copy.
    raise _SeveralStudiesError(
        "\n".join(
            [
                f"The storage holds {plural(len(names), 'study')}; name one of them:",
                *map(printable, lines),
                *more,
            ]
        )
    )


def chosen_spec(name: str, storage: str, overrides: Sequence[str] = ()) -> StudySpec:
    """Return the spec of a preset, a file, or a stored study.

    Raises:
        SpecError: If it is a preset or a file and something is wrong with it.
        StudyError, StorageError: If it is neither, and no stored study either.
    """
    from zenopt.study.spec import StudySpec, meant_preset, names_spec
    from zenopt.study.study import load_study, open_existing, read_spec

    if names_spec(name):
        return StudySpec.load(name, overrides)
    try:
        study = load_study(open_existing(storage), name)
    except (StorageError, StudyError) as error:
        words = f"{quoted(name)} is no preset{meant_preset(name)}, and no stored study either: {error}"
        raise type(error)(words) from None
    spec = read_spec(study)
    assert spec is not None
    return spec.overridden(overrides) if overrides else spec


def spec_options(study_help: str) -> Callable[[F], F]:
    """Add ``--study`` and ``--space``, read by :func:`named_spec`."""

    def add(function: F) -> F:
        of_space = click.option(
            "--space", metavar="SPACE", help="A space instead, at its own resolution and without a budget."
        )
        return click.option("--study", metavar="PRESET|FILE|NAME", help=study_help)(of_space(function))

    return add


def named_spec(
    study: str | None, space: str | None, storage: str, overrides: Sequence[str] = ()
) -> StudySpec:
    """Return the spec that ``--study`` or ``--space`` names.

    Raises:
        UsageError: If neither or both are given.
        ZenoptError: If there is no such study or space, or a value is wrong.
    """
    from zenopt.study.spec import StudySpec

    if (study is None) == (space is None):
        raise click.UsageError("give either --study PRESET|FILE|NAME, or --space SPACE.")
    return (
        StudySpec.of_space(str(space), overrides) if study is None else chosen_spec(study, storage, overrides)
    )


def typed_command() -> str:
    """Return the present command as it was typed, passwords in storage URLs left out."""
    from zenopt.storage import mask_password

    context = click.get_current_context()
    words = context.find_root().meta.get(TYPED_KEY, context.command_path.split()[1:])
    return shlex.join(["zenopt", *(mask_password(word) if "://" in word else word for word in words)])


#: Where the command line keeps its arguments.
TYPED_KEY = "zenopt.typed"
