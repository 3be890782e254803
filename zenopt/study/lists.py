"""Lists of architectures: drawn from a space, and as files."""

from __future__ import annotations

import csv
import io
import json
import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from zenopt.core.costs import COST_KINDS
from zenopt.core.errors import BudgetError, DataError, StructureError
from zenopt.core.files import Format, parse_json, read_text, rows_of
from zenopt.core.outputs import prepare_output
from zenopt.core.progress import SILENT, Progress
from zenopt.core.tables import STRUCTURE_COLUMNS, load_rows
from zenopt.core.text import one_line, shortened_path
from zenopt.latency.limits import Check
from zenopt.samplers.guided import draw_candidates
from zenopt.study.spec import StudySpec

#: A file with one architecture a line, CSV, or JSON.
LIST = Format("List of architectures", DataError, 64 * 2**20)
#: Draws for each architecture that is wanted, where those over the budget are skipped.
SKIPPED = 200
#: Ends of the names of files that can be written.
ENDINGS = (".csv", ".json", ".txt")


@dataclass(frozen=True)
class Sample:
    """An architecture and what it costs.

    Attributes:
        structure: Canonical text of the architecture.
        costs: ``params``, ``macs``, ... for one image, and ``latency_ms`` where the study names a device.
        is_feasible: Whether it keeps the study's budget.
        architecture: The architecture itself, to count, build or score.
    """

    structure: str
    costs: dict[str, float]
    is_feasible: bool
    architecture: Any = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"structure": self.structure, **self.costs, "feasible": self.is_feasible}


def draw_architectures(
    spec: StudySpec,
    count: int = 10,
    *,
    seed: int = 0,
    within_budget: bool = True,
    over_budget: Literal["shrink", "skip"] = "shrink",
    progress: Progress = SILENT,
) -> list[Sample]:
    """Draw different architectures of a study's space.

    A space that can be listed is drawn from uniformly. Elsewhere its family draws, and what is over the budget is
    shrunk into it, as searches begin, or skipped.

    Args:
        spec:
            Space, resolution and budget.
        count:
            How many; fewer are returned where no more are found.
        seed:
            Fixes the draw; a larger draw begins with a smaller one.
        within_budget:
            Whether they keep the spec's budget.
        over_budget:
            What becomes of draws that do not, where the space cannot be listed.
        progress:
            Is told of what is found in a list.

    Raises:
        BudgetError: If nothing is found within the budget.
    """
    space, limits = spec.build_space(), spec.limits()
    used = limits if within_budget else limits.unlimited()
    rng = random.Random(f"sample:{seed}")
    every = space.architectures()
    if every is None:
        progress.start(None, "")
        shrinks = over_budget == "shrink"
        found = draw_candidates(space, used, count, rng, draws=20 if shrinks else SKIPPED, shrinks=shrinks)
    else:
        listed = list(every)
        rng.shuffle(listed)
        progress.start(min(count, len(listed)), "architecture")
        found = []
        for own in islice((own for own in listed if used.check(own).is_feasible), count):
            found.append(own)
            progress.advance()
        if not found:
            raise BudgetError(f"None of the {len(listed):,} architectures of the space keeps the budget.")
    return [sample_of(spec, architecture) for architecture in found]


def sample_of(spec: StudySpec, architecture: Any) -> Sample:
    """Return an architecture with its costs by a study's resolution, classes and device."""
    check = spec.limits().check(architecture)
    return Sample(str(architecture), costs_of(check, spec.budget.counting), check.is_feasible, architecture)


def costs_of(check: Check, counting: str = "true") -> dict[str, float]:
    """Return the costs that are known, by name."""
    names = [*COST_KINDS, *(("zennas_params", "zennas_flops") if counting == "zennas" else ())]
    found = {name: getattr(check.costs, name) for name in names}
    if check.latency_ms is not None:
        found["latency_ms"] = check.latency_ms
    return {name: value for name, value in found.items() if not math.isnan(value)}


# -- files ------------------------------------------------------------


def write_rows(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows about architectures; each has a ``structure``.

    Args:
        path:
            A file whose name ends in ``.csv`` (columns by key), ``.json`` (a list of objects) or ``.txt`` (the
            architectures alone, one a line).
        rows:
            The rows.

    Raises:
        OutputError: If the name ends otherwise, or the file cannot be written.
    """
    path = prepare_output(path, ENDINGS)
    text = io.StringIO()
    if path.suffix == ".csv":
        columns = dict.fromkeys(key for row in rows for key in row)
        writer = csv.DictWriter(text, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    elif path.suffix == ".json":
        json.dump(list(rows), text, indent=2, allow_nan=False)
        text.write("\n")
    else:
        text.writelines(f"{row['structure']}\n" for row in rows)
    path.write_text(text.getvalue(), encoding="utf-8")
    return path


def read_architectures(path: str | Path, space: Any, text: str | None = None) -> list[Any]:
    """Return the architectures of a file, equal ones once.

    Args:
        path:
            A file of one architecture a line (empty lines and those that begin with ``#`` are skipped), a CSV file with
            a column ``structure`` or ``arch_str``, or JSON: a list of texts or of objects with a ``structure``.
        space:
            Reads the texts; all must be in it.
        text:
            The content, where it was read already, e.g. from a pipe; ``path`` is then its name in messages.

    Raises:
        DataError: If the file cannot be read, or holds no architecture.
        StructureError: If a text is malformed, or outside the space; says where it stands.
    """
    name = shortened_path(path)
    found: dict[str, Any] = {}
    for place, written in _texts(path, space, text):
        try:
            architecture = space.parse(written)
            space.encode(architecture)
        except StructureError as error:
            raise StructureError(one_line(f"{name}, {place}: {error}", 390)) from None
        found.setdefault(str(architecture), architecture)
    if not found:
        raise LIST.refusal(path, "it holds no architecture")
    return list(found.values())


def _texts(path: str | Path, space: Any, text: str | None) -> Iterator[tuple[str, str]]:
    """Yield the texts of a list, each with the place where it stands."""
    if text is None and str(path).endswith((".csv", ".csv.gz")):
        yield from _of_rows(load_rows(path), path, space)
        return
    text = read_text(path, LIST) if text is None else text.removeprefix("\ufeff")
    begin = text.lstrip()
    if begin.startswith(("[", "{")):
        yield from _of_json(parse_json(begin, path, LIST), path)
    elif set(begin.partition("\n")[0].strip().split(",")) & set(STRUCTURE_COLUMNS):
        yield from _of_rows(rows_of(csv.DictReader(io.StringIO(begin)), path, LIST), path, space)
    else:
        for number, line in enumerate(text.splitlines(), start=1):
            if line.strip() and not line.lstrip().startswith("#"):
                yield f"line {number}", line.strip()


def _of_rows(rows: Iterable[Mapping[str, str]], path: str | Path, space: Any) -> Iterator[tuple[str, str]]:
    for number, row in enumerate(rows, start=2):
        text = space.text_of_row(row)
        if text is None:
            raise LIST.refusal(
                path, f"no architecture; columns are {', '.join(map(str, row))}", f"row {number}:"
            )
        yield f"row {number}", text


def _of_json(content: Any, path: str | Path) -> Iterator[tuple[str, str]]:
    items = content.get("architectures") if isinstance(content, dict) else content
    if not isinstance(items, list):
        raise LIST.refusal(path, 'expected a list, or an object with a list "architectures"')
    for number, item in enumerate(items, start=1):
        text = item.get("structure") if isinstance(item, dict) else item
        if not isinstance(text, str):
            raise LIST.refusal(path, 'expected a text, or an object with a "structure"', f"item {number}:")
        yield f"item {number}", text
