"""Which networks a report shows large, and why: the best score, the winner of trainings, what was exported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import optuna

from zenopt.report.networks import Network, network_at
from zenopt.report.reading import StudyData
from zenopt.report.trainings import KINDS, Trainings, Winner
from zenopt.report.words import when
from zenopt.study.exported import Exported, read_export
from zenopt.study.spec import NO_CLASS


@dataclass(frozen=True)
class Chosen:
    """A network that is shown large.

    Attributes:
        key: ``"winner"``, ``"exported"`` or ``"best"``.
        title: What it is.
        reason: Why, in a few sentences.
        network: The network.
        header, rows: What it was compared with; nothing where the reason says it all.
    """

    key: str
    title: str
    reason: str
    network: Network
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()

    @property
    def is_trained(self) -> bool:
        """Whether trainings chose it."""
        return self.key == "winner"


def chosen_networks(
    study: optuna.Study, data: StudyData, trainings: Sequence[Trainings]
) -> tuple[Chosen, ...]:
    """Return the networks to show large: the one that is exported first, the best score last.

    Of several objectives no network is the best: only what trainings chose or what was exported is shown. Nothing is
    where the module of the study's space is not imported, so that networks cannot be taken apart.

    Args:
        study:
            The study that was searched.
        data:
            What was read of it.
        trainings:
            Its linked studies.
    """
    if data.spec.why_no_networks() is not None:
        return ()
    found: list[Chosen] = []
    exported = read_export(study)
    winner, kind = next(
        ((item.winner, item.kind) for item in trainings if item.winner is not None), (None, "")
    )
    if winner is not None:
        position = _position(data, winner.structure)
        if position is not None:
            found.append(_winner(network_at(data, position), winner, is_stage=kind == KINDS["trained"]))
    if exported is not None and (winner is None or exported.structure != winner.structure):
        position = _position(data, exported.structure, exported.trial)
        if position is not None:
            found.append(_exported(network_at(data, position), exported, data))
    if not data.is_multi:
        for position in data.top(1):
            best = network_at(data, position)
            if best.structure not in {item.network.structure for item in found}:
                found.append(_best(best, is_alone=not found, is_drawn=data.spec.objective.kind != "table"))
    return tuple(_marked(item, exported, data) for item in found)


def _position(data: StudyData, structure: str, number: int | None = None) -> int | None:
    """Return the trial of a number, or the best trial of a structure."""
    own = [position for position, text in enumerate(data.structures) if text == structure]
    numbered = [position for position in own if data.numbers[position] == number]
    scored = [position for position in data.ranked().tolist() if data.structures[position] == structure]
    return next(iter([*numbered, *scored, *own]), None)


def _winner(network: Network, winner: Winner, *, is_stage: bool) -> Chosen:
    seeds = len(winner.held_out)
    judged = f"{winner.mean:.2f} % on held-back images" + (f" (mean of {seeds} seeds)" if seeds > 1 else "")
    facts = (
        *network.facts,
        ("accuracy, held-back images", f"{winner.mean:.2f} %"),
        ("accuracy, test images", f"{winner.test_top1:.2f} %"),
    )
    if winner.expected is None:
        kinds = "networks" if winner.label == NO_CLASS else "classes"
        which = f"Of all {kinds} it trained best" + ("" if kinds == "networks" else f" ({winner.label})")
    else:
        which = f"A predictor that learned from all trainings expects most of it, {winner.expected:.2f} %"
    why = "A score is not an accuracy, so `export-best`" if is_stage else "`export-best`"
    reason = (
        f"{which}: {judged}; {winner.test_top1:.2f} % on the test images after training on all the rest. {why} writes "
        "this network, with its weights, unless `--by score` is given."
    )
    title = "Winner of the second stage" if is_stage else "Winner of the trainings"
    return Chosen("winner", title, reason, replace(network, facts=facts))


def _exported(network: Network, exported: Exported, data: StudyData) -> Chosen:
    rows = tuple(
        (
            str(item["trial"]),
            f"{item['search']:.3f}",
            f"{item['mean']:.3f} ± {item['std']:.3f}",
            "exported" if item["trial"] == exported.trial else "",
        )
        for item in exported.candidates
    )
    own = next((item for item in exported.candidates if item["trial"] == exported.trial), None)
    if own is None:
        return Chosen("exported", "Exported network", "Trainings chose it.", network)
    if exported.repeats <= 1:
        reason = f"The best score among {len(exported.candidates)}, {own['mean']:.3f}."
        return Chosen("exported", "Exported network", reason, network)
    reason = (
        f"The best {len(exported.candidates)} were scored again with {exported.repeats} fresh draws each; this one has "
        f"the best mean, {own['mean']:.3f}."
    )
    ranked = data.ranked()
    if len(ranked) and int(data.numbers[ranked[0]]) != exported.trial:
        first = f"trial {data.numbers[ranked[0]]}"
        reason += f" The search kept one draw of each, so its best score, {first}, was partly luck."
    return Chosen(
        "exported", "Exported network", reason, network, ("trial", "search score", "fresh mean", ""), rows
    )


def _best(network: Network, *, is_alone: bool, is_drawn: bool) -> Chosen:
    if not is_drawn:
        return Chosen("best", "Best network", "The best score of the search.", network)
    if not is_alone:
        return Chosen(
            "best",
            "Best score",
            "The best score of the search, one draw. It is not what `export-best` writes.",
            network,
        )
    reason = (
        "The best score of the search, one draw. `export-best` scores the best few again with fresh draws and exports "
        "the best mean, which may be another network."
    )
    return Chosen("best", "Best network", reason, network)


def _marked(chosen: Chosen, exported: Exported | None, data: StudyData) -> Chosen:
    """Say on what was exported when that was."""
    if exported is None or exported.structure != chosen.network.structure:
        return chosen
    is_best = len(data.ranked()) > 0 and data.structures[data.ranked()[0]] == chosen.network.structure
    title = "Best network, exported" if chosen.key == "exported" and is_best else chosen.title
    if chosen.key == "winner":
        title = f"{title}, exported"
    return replace(chosen, title=title, reason=f"{chosen.reason} Exported {when(exported.at)}.")
