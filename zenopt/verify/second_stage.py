"""The second stage of a study: short trainings of its best networks of every class decide what is exported.

A score is not accuracy, and the best scores of a study are all of one kind (the deepest). So the best of each class are
trained for a few epochs with a learning rate that suits the class, the finalists among them with several seeds, all on
part of the training images and judged on the rest: the test images stay unseen. The winner is then trained on
everything, and its weights go into the bundle. Everything is recorded in a linked study, ``NAME-trained``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from filelock import FileLock, Timeout

from zenopt.core.errors import StudyError
from zenopt.core.words import plural
from zenopt.latency.limits import Limits
from zenopt.storage.history import top
from zenopt.storage.records import TrialRecord
from zenopt.study.spec import StudySpec
from zenopt.study.study import load_study, read_spec
from zenopt.train.data import open_data
from zenopt.train.errors import TrainError
from zenopt.train.recipe import Recipe, load_recipe
from zenopt.verify.contenders import RECORDED, candidate_of
from zenopt.verify.linked import Verified, verify
from zenopt.verify.trained_bundle import export_trained
from zenopt.verify.trainings import (
    Candidate,
    TrainedNetwork,
    choose_learning_rates,
    first_of_each,
    hold_back,
    train_briefly,
)

SUFFIX = "trained"
#: User attribute of the linked study: the networks compared, and where the winner's weights are.
WINNER_KEY = "zenopt:winner"
#: Depth classes of a study whose spec names none.
QUANTILES = (0.25, 0.5, 0.75, 1.0)
#: Trials that are looked through, best first, for candidates of the classes.
LOOKED_AT = 20_000


@dataclass(frozen=True)
class Winner:
    """What the second stage chose.

    Attributes:
        verified: Networks with their accuracies on held-back images, in percent, the winner first.
        weights: Checkpoint of the winner, trained on all training images.
        test_top1: Its accuracy on the test images, in percent; nothing was chosen by it.
        recipe: How all of them were trained; the winner at its class's learning rate.
        data: On what.
    """

    verified: list[Verified]
    weights: Path
    test_top1: float
    recipe: Recipe
    data: str

    def to_json(self) -> dict[str, Any]:
        """Returns all of it as plain data."""
        return {
            "verified": [asdict(item) for item in self.verified],
            "weights": str(self.weights.resolve()),
            "test_top1": self.test_top1,
            "recipe": self.recipe.model_dump(mode="json"),
            "data": self.data,
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Winner:
        """Returns what :meth:`to_json` wrote."""
        verified = [
            Verified(Candidate(**row["candidate"]), tuple(row["top1"]), row["pruned"], row["learning_rate"])
            for row in content["verified"]
        ]
        recipe = Recipe.model_validate(content["recipe"])
        return cls(verified, Path(content["weights"]), content["test_top1"], recipe, content["data"])


def run_second_stage(
    storage: optuna.storages.BaseStorage,
    name: str,
    spec: StudySpec,
    *,
    output: Path,
    devices: Sequence[str] = ("cpu",),
    workers: int = 1,
    url: str | None = None,
    on_result: Callable[[TrainedNetwork], None] = lambda row: None,
    on_step: Callable[[str, int], None] = lambda line, trainings: None,
) -> Winner:
    """Trains the best of every class, and the winner on all images; what is there already is not done again.

    Args:
        storage:
            The study's storage.
        name:
            Its name.
        spec:
            Its spec; ``training`` says how.
        output:
            Folder of the runs.
        devices:
            Torch devices, which take turns.
        workers:
            Trainings at a time, each in a process of its own.
        url:
            URL of the storage; needed for several workers.
        on_result:
            Told of every training.
        on_step:
            Told in words what comes next, and of how many trainings it consists.

    Raises:
        StudyError: If the study has no feasible trial.
        TrainError: If there is no data, training fails, or another command trains in the folder.
    """
    settings = spec.training
    if settings.data is None:
        raise TrainError("The second stage needs training.data, e.g. --set training.data=imagefolder:PATH.")
    recipe = load_recipe(settings.recipe, (), epochs=settings.epochs)
    data = open_data(settings.data)
    candidates = class_candidates(load_study(storage, name), spec, settings.per_class)
    common: dict[str, Any] = {"output": output, "devices": devices, "workers": workers}
    with _alone(output):
        first = first_of_each(candidates)
        if len(settings.rates) > 1:
            on_step(
                f"Choosing among {len(settings.rates)} learning rates for each of {plural(len(first), 'class')}.",
                len(settings.rates) * len(first),
            )
        rates = choose_learning_rates(
            first,
            data,
            recipe,
            settings.rates,
            resolution=spec.resolution,
            use_se=spec.use_se,
            held_back=settings.held_back,
            on_result=on_result,
            **common,
        )
        split = hold_back(data, settings.held_back)

        def judge(networks: Sequence[Candidate], seeds: int) -> list[Verified]:
            return verify(
                storage,
                name,
                spec,
                networks,
                split,
                recipe,
                seeds=range(seeds),
                pruner=settings.pruner,
                learning_rates=rates,
                on_result=on_result,
                suffix=SUFFIX,
                url=url,
                **common,
            )

        on_step(
            f"Training {plural(len(candidates), 'network')} of {plural(len(first), 'class')}.",
            len(candidates),
        )
        ranked = judge(candidates, 1)
        finalists = [item.candidate for item in ranked if item.top1][: settings.finalists]
        if not finalists:
            raise StudyError(f"Every training of study {name!r} was pruned; set training.pruner: none.")
        if settings.seeds > 1 and len(finalists) > 1:
            on_step(
                f"Training the best {len(finalists)} with {settings.seeds} seeds.",
                len(finalists) * settings.seeds,
            )
            judged = judge(finalists, settings.seeds)
            chosen = {item.candidate.structure for item in judged}
            ranked = judged + [item for item in ranked if item.candidate.structure not in chosen]
        on_step(f"Training the winner on all {len(data.train):,} images.", 1)
        own = {ranked[0].candidate.label: ranked[0].learning_rate}
        (row,) = train_briefly(
            [ranked[0].candidate],
            data,
            recipe,
            resolution=spec.resolution,
            use_se=spec.use_se,
            learning_rates=own,
            **common,
        )
    assert row.folder is not None
    winner = Winner(ranked, row.folder / "last.pt", row.top1, recipe, settings.data)
    load_study(storage, f"{name}-{SUFFIX}").set_user_attr(WINNER_KEY, winner.to_json())
    return winner


def read_winner(storage: optuna.storages.BaseStorage, name: str) -> Winner | None:
    """Returns what the second stage of a study chose; ``None`` if there was none or it was not finished."""
    names = {study.study_name for study in storage.get_all_studies()}
    if f"{name}-{SUFFIX}" not in names:
        return None
    found = load_study(storage, f"{name}-{SUFFIX}").user_attrs.get(WINNER_KEY)
    return None if found is None else Winner.from_json(found)


def decide(study: optuna.Study, by: str) -> Winner | None:
    """Returns the winner that is to be exported, or ``None`` where the score decides.

    Args:
        study:
            The study.
        by:
            ``"score"``, ``"training"``, or ``"auto"``: training where there was a second stage.

    Raises:
        StudyError: If training is to decide and there was no second stage, or it was not finished.
    """
    winner = None if by == "score" else read_winner(study._storage, study.study_name)
    if winner is None and by == "training":
        raise StudyError(
            f"Study {study.study_name!r} has no finished second stage; run zenopt optimize --study-name "
            f"{study.study_name} --trials 0 --set objective.then=train --set training.data=..., or call "
            "Result.train first."
        )
    return winner


def export_winner(
    study: optuna.Study, winner: Winner, folder: str | Path, *, overwrite: bool = False
) -> Path:
    """Writes the winner of a study's second stage as a bundle, with its weights in ``best.pt``.

    Raises:
        TrainError: If its weights are gone.
        BundleError: If the folder holds something, or cannot be written.
    """
    spec = read_spec(study)
    assert spec is not None
    if not winner.weights.is_file():
        raise TrainError(
            f"The weights of the winner of {study.study_name!r} are not at {winner.weights} any more; "
            f"export with --by score, or train again: zenopt optimize --study-name {study.study_name} --trials 0."
        )
    return export_trained(
        spec,
        f"{study.study_name}-{SUFFIX}",
        winner.verified,
        winner.recipe,
        winner.data,
        folder,
        judged_on=f"training images held back ({spec.training.held_back:g})",
        weights=winner.weights,
        test_top1=winner.test_top1,
        overwrite=overwrite,
    )


def class_candidates(study: optuna.Study, spec: StudySpec, per_class: int) -> list[Candidate]:
    """Returns the best feasible structures of every class, none twice.

    The classes are the spec's; without any, quarters of the study's networks by their number of convolutions.

    Raises:
        StudyError: If the study has no feasible trial.
    """
    space = spec.build_space()
    records: dict[str, TrialRecord] = {}
    for record in top(study, LOOKED_AT, ("structure", *RECORDED)):
        if record.structure is not None:
            records.setdefault(record.structure, record)
    if not records:
        raise StudyError(f"Study {study.study_name!r} has no feasible trial to train; search on.")
    limits = spec.limits()
    costs = {structure: limits.count(space.parse(structure)) for structure in records}
    classes = spec.class_limits() or _depth_classes(limits, [item.convs for item in costs.values()])
    found: dict[str, Candidate] = {}
    for label, own in classes:
        taken = 0
        for structure, record in records.items():
            if taken == per_class:
                break
            if structure not in found and own.keeps(costs[structure]):
                found[structure] = candidate_of(record, spec, label)
                taken += 1
    return list(found.values())


def _depth_classes(limits: Limits, convs: Sequence[int]) -> list[tuple[str, Limits]]:
    caps = sorted({int(cap) for cap in np.quantile(convs, QUANTILES, method="higher")})
    return [
        (f"convs <= {cap}", replace(limits, budget=replace(limits.budget, convs=float(cap)))) for cap in caps
    ]


@contextmanager
def _alone(output: Path) -> Iterator[None]:
    """Keeps two commands from writing the checkpoints of the same runs."""
    lock = FileLock(output / ".lock", timeout=0)
    try:
        output.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise TrainError(
            f"Another command is training in {output}; wait for it, or name another folder."
        ) from None
    except OSError as error:
        raise TrainError(f"Cannot write in {output}: {error.strerror or error}.") from None
    try:
        yield
    finally:
        lock.release()
