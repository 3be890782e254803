"""What short trainings and an export have found, as text and as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from zenopt.cli.options import table, wrapped
from zenopt.study.trained import RUN_HEADER, run_row

if TYPE_CHECKING:
    from zenopt.report.trainings import Trainings, Winner
    from zenopt.study.exported import Exported

#: Networks that are listed.
_LINES = 12


def describe_trainings(found: Trainings) -> str:
    """Return the trainings of a study: a line of counts, the winner, and networks by accuracy."""
    is_own = found.name == found.parent
    what = (
        f"Trainings of study {found.name}"
        if is_own
        else f"Study {found.name}, {found.kind} of {found.parent}"
    )
    what = f"{what}: {found.summary()}"
    lines = [wrapped(f"{what}; data: {found.data or 'unknown'}.")]
    winner = found.winner
    if winner is not None:
        seeds = f" (mean of {len(winner.held_out)} seeds)" if len(winner.held_out) > 1 else ""
        # Else nobody would see why it is not the one with the best mean.
        expected = "" if winner.expected is None else f" ({winner.expected:.2f} % expected, the most)"
        lines.append(
            wrapped(
                f"Winner: {_name_of(winner, found)}top-1 {winner.mean:.2f} % on held-back images{seeds}{expected}, "
                f"{winner.test_top1:.2f} % on the test images"
            )
        )
        lines += [f"      {winner.structure}", f"      weights: {winner.weights}"]
    elif found.kind == "second stage":
        lines.append("No winner yet: the second stage is not finished.")
    rows = [
        (
            *([network.label] if found.has_classes else []),
            *([str(network.number)] if is_own else []),
            f"{network.mean:.2f}" if network.finished else "-",
            " ".join(f"{value:.2f}" for value in network.finished) or network.runs[-1].state.name.lower(),
            f"{network.learning_rate:g}",
            f"{network.facts['closed_form']:.2f}" if "closed_form" in network.facts else "-",
            *(f"{network.facts[key]:,.0f}" if key in network.facts else "-" for key in ("params", "macs")),
        )
        for network in found.networks[:_LINES]
    ]
    names = [*(["class"] if found.has_classes else []), *(["trial"] if is_own else [])]
    lines.append(table(rows, (*names, "top-1 %", "each seed", "lr", "closed form", "params", "MACs")))
    if len(found.networks) > _LINES:
        lines.append(f"... and {len(found.networks) - _LINES} more (--json lists all)")
    return "\n".join(lines)


def _name_of(winner: Winner, found: Trainings) -> str:
    if found.has_classes:
        return f"class {winner.label}, "
    # Elsewhere the numbers are not those of the search.
    own = found.networks if found.name == found.parent else ()
    return next((f"trial {network.number}, " for network in own if found.is_winner(network)), "")


def describe_runs(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return networks of the study that were trained in full, ``zenopt train --study``, best first."""
    rows = [run_row(run) for run in runs[:_LINES]]
    return f"Trained by themselves:\n{table(rows, RUN_HEADER)}"


def trainings_json(found: Trainings) -> dict[str, Any]:
    """Return the trainings of a study as plain data."""
    content = asdict(found)
    for network, plain in zip(found.networks, content["networks"], strict=True):
        plain["mean"] = network.mean if network.finished else None
        # What only a report knows, which reads the search as well.
        del plain["score"]
        for run, row in zip(network.runs, plain["runs"], strict=True):
            row["state"] = run.state.name.lower()
    return content


def describe_export(exported: Exported) -> str:
    """Return the last export in two lines."""
    from zenopt.report.words import when

    if exported.is_trained:
        how = "trainings chose it"
    else:
        own = next(item for item in exported.candidates if item["trial"] == exported.trial)
        how = f"trial {exported.trial}, "
        if exported.repeats > 1:
            how += (
                f"best mean of {exported.repeats} fresh draws among {len(exported.candidates)}: "
                f"{own['mean']:.3f} +- {own['std']:.3f} (search {own['search']:.3f})"
            )
        else:
            how += f"best score among {len(exported.candidates)}: {own['mean']:.3f}"
    return f"Exported {when(exported.at)}: {how}\n      {exported.structure}"
