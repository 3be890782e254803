"""Choosing by trainings: finalists with several seeds, then the winner on all training images.

A score is not accuracy, and the best scores of a study are all of one kind (the deepest). So the best of each class are
trained for a few epochs with a learning rate that suits the class, the finalists among them with several seeds, all on
part of the training images and judged on the rest: the test images stay unseen. The winner is then trained on
everything, and its weights go into the bundle. A study with the evaluator ``train`` chooses its own winner in
the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import optuna
from optuna.trial import TrialState
from pydantic import Field, TypeAdapter, ValidationError

from zenopt.core.errors import StudyError
from zenopt.core.files import first_problem
from zenopt.core.words import plural
from zenopt.export.bundle import write_bundle
from zenopt.study.bundles import bundle_of
from zenopt.study.evaluators.train import (
    LABEL_KEY,
    LEARNING_RATE_KEY,
    SEED_KEY,
    judged_on,
)
from zenopt.study.prediction import FEWEST, predict_networks
from zenopt.study.spec import StudySpec
from zenopt.study.study import load_study, read_spec
from zenopt.train import checkpoint
from zenopt.train.errors import TrainError
from zenopt.train.folder import held
from zenopt.train.recipe import Recipe
from zenopt.verify.again import train_again
from zenopt.verify.candidates import class_candidates, facts_of
from zenopt.verify.linked import (
    Candidate,
    Place,
    TrainingStudy,
    Verified,
    best_rates,
    class_of,
    first_of_each,
    training_spec,
    verified,
)

SUFFIX = "trained"
#: User attribute of the study of the trainings: the networks compared, and where the winner's weights are.
WINNER_KEY = "zenopt:winner"
#: User attribute of a study that trains: its finalists, and among how many networks they were chosen.
FINALISTS_KEY = "zenopt:finalists"


@dataclass(frozen=True)
class Winner:
    """What trainings chose.

    Attributes:
        verified: Networks with their accuracies on held-back images, in percent, the winner first.
        weights: Checkpoint of the winner, trained on all training images.
        test_top1: Its accuracy on the test images, in percent; nothing was chosen by it.
        recipe: How all of them were trained; the winner at its class's learning rate.
        data: On what.
    """

    verified: Annotated[list[Verified], Field(min_length=1)]
    weights: Path
    test_top1: float
    recipe: Recipe
    data: str

    def to_json(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return {
            "verified": [asdict(item) for item in self.verified],
            "weights": str(self.weights.resolve()),
            "test_top1": self.test_top1,
            "recipe": self.recipe.model_dump(mode="json"),
            "data": self.data,
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Winner:
        """Return what :meth:`to_json` wrote."""
        try:
            return _WINNER.validate_python(content)
        except ValidationError as error:
            place, problem = first_problem(error)
            raise StudyError(f"The winner that is stored cannot be read: {place}: {problem}.") from None


_WINNER = TypeAdapter(Winner)


def run_second_stage(
    name: str, spec: StudySpec, place: Place, on_step: Callable[[str], None] = lambda line: None
) -> Winner:
    """Train the best of every class, and the winner on all images; what is there already is not done again.

    Args:
        name:
            Name of the study.
        spec:
            Its spec; ``training`` says how.
        place:
            Where.
        on_step:
            Told in words what comes next.

    Raises:
        StudyError: If the study has no feasible trial, or no training came to its end.
        TrainError: If a training could not be done.
        ZenoptError: If data or recipe are missing or malformed.
    """
    trainings = TrainingStudy(training_spec(spec), place, f"{name}-{SUFFIX}", of=name)
    settings = spec.training
    candidates = class_candidates(load_study(place.storage, name), spec, settings.per_class)
    first = first_of_each(candidates)
    rates = {item.label: rate for item in first for rate in settings.rates[:1]}
    if len(settings.rates) > 1:
        on_step(
            f"Choosing among {len(settings.rates)} learning rates for each of {plural(len(first), 'class')}."
        )
        rates.update(best_rates(trainings.train(first, rates=settings.rates)))
    on_step(f"Training {plural(len(candidates), 'network')} of {plural(len(first), 'class')}.")
    ranked = verified(trainings.train(candidates, rates=rates))
    return choose(trainings, ranked, rates, on_step)


def finish(
    name: str, spec: StudySpec, place: Place, on_step: Callable[[str], None] = lambda line: None
) -> Winner:
    """Choose the winner of a study whose trials are trainings; see :func:`run_second_stage`.

    Finalists are the networks with the best means over their seeds; where the sampler learned from the trainings, those
    of best posterior mean: one short training scatters, and the largest of many numbers is a lucky one. A choice
    that was cut off goes on with the same finalists, whatever their further seeds have shown, until more networks are
    known.
    """
    trainings = TrainingStudy(spec, place, name)
    found: dict[str, list[tuple[float, optuna.trial.FrozenTrial]]] = {}
    for trial in trainings.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        structure = trial.user_attrs.get("structure")
        if structure is not None and trial.value is not None and "duplicate_of" not in trial.user_attrs:
            found.setdefault(structure, []).append((trial.value, trial))
    if not found:
        raise StudyError(f"Study {name!r} has no finished training to choose from; train on.")
    ranked: list[Verified] = []
    rates: dict[str, float] = {}
    for structure, rows in found.items():
        best = max(rows, key=lambda row: row[0])[1].user_attrs
        # Each network keeps the rate it did best with.
        rates[structure] = float(best[LEARNING_RATE_KEY])
        label, number = class_of(best[LABEL_KEY]), min(trial.number for _, trial in rows)
        own = tuple(
            value for value, trial in rows if trial.user_attrs[LEARNING_RATE_KEY] == best[LEARNING_RATE_KEY]
        )
        candidate = Candidate(label, structure, facts_of(structure, spec), number)
        ranked.append(Verified(candidate, own, 0, rates[structure]))
    ranked.sort(key=lambda item: -item.mean)
    finalists = min(spec.training.finalists, len(ranked))
    begun = trainings.study.user_attrs.get(FINALISTS_KEY, {})
    if begun.get("networks") == len(ranked) and len(begun["structures"]) == finalists:
        places = {structure: place for place, structure in enumerate(begun["structures"])}
        ranked.sort(key=lambda item: places.get(item.candidate.structure, finalists))
        return choose(trainings, ranked, rates, on_step)
    if spec.sampler.name == "surrogate" and len(ranked) >= FEWEST:
        architectures = [trainings.space.parse(item.candidate.structure) for item in ranked]
        expected = {
            own.structure: own.mean for own in predict_networks(trainings.study, spec, architectures).networks
        }
        ranked.sort(key=lambda item: -expected[item.candidate.structure])
    chosen = [item.candidate.structure for item in ranked[:finalists]]
    trainings.study.set_user_attr(FINALISTS_KEY, {"networks": len(ranked), "structures": chosen})
    return choose(trainings, ranked, rates, on_step)


def choose(
    trainings: TrainingStudy,
    ranked: list[Verified],
    rates: dict[str, float],
    on_step: Callable[[str], None] = lambda line: None,
) -> Winner:
    """Train some of the networks with further seeds, and the winner among them on all images.

    These are the best, each with every seed; or, where ``training.again`` is ``gain``, what tells most.

    Args:
        trainings:
            The study of the trainings.
        ranked:
            Networks with their accuracies, best first.
        rates:
            Learning rate by label or structure.
        on_step:
            Told in words what comes next.

    Raises:
        StudyError: If none of them was trained to the end.
    """
    settings, name = trainings.spec.training, trainings.name
    finalists = [item.candidate for item in ranked if item.top1][: settings.finalists]
    if not finalists:
        raise StudyError(
            f"No training of study {name!r} came to its end; set training.pruner: none, or lower rates."
        )
    several = settings.seeds > 1 and len(finalists) > 1
    # Of fewer networks there is nothing to learn.
    if several and settings.again == "gain" and sum(bool(item.top1) for item in ranked) >= FEWEST:
        ranked = train_again(trainings, ranked, len(finalists) * (settings.seeds - 1), on_step)
    elif several:
        on_step(f"Training the best {len(finalists)} with {settings.seeds} seeds.")
        # Every seed counts: the mean of those that a pruner let live would be that of the lucky ones.
        whole = trainings.unpruned()
        judged = verified(whole.train(finalists, seeds=range(settings.seeds), rates=rates))
        chosen = {item.candidate.structure for item in judged}
        ranked = judged + [item for item in ranked if item.candidate.structure not in chosen]
    evaluator, best = trainings.evaluator, ranked[0]
    on_step(f"Training the winner on all {len(evaluator.all_data.train):,} images.")
    options = {SEED_KEY: 0, LEARNING_RATE_KEY: best.learning_rate, LABEL_KEY: best.candidate.label}
    progress, done = trainings.place.progress, 0
    progress.start(evaluator.recipe.epochs, "epoch")

    def show(epoch: int, top1: float) -> None:
        nonlocal done
        progress.advance(epoch - done, on_test_images=f"{top1:.2f} %")
        done = epoch

    # A second command waits, and reads what the first one made.
    with held(trainings.folder, wait=True):
        score, folder = evaluator.run(
            trainings.space.parse(best.candidate.structure), options, evaluator.all_data, show
        )
    assert settings.data is not None
    winner = Winner(ranked, folder / "last.pt", score.mean, evaluator.recipe, settings.data)
    trainings.study.set_user_attr(WINNER_KEY, winner.to_json())
    return winner


def read_winner(storage: optuna.storages.BaseStorage, name: str) -> Winner | None:
    """Return what trainings chose for a study; ``None`` if there were none, or they were not finished."""
    names = {study.study_name for study in storage.get_all_studies()}
    for own in (f"{name}-{SUFFIX}", name):
        found = load_study(storage, own).user_attrs.get(WINNER_KEY) if own in names else None
        if found is not None:
            return Winner.from_json(found)
    return None


def decide(study: optuna.Study, by: str) -> Winner | None:
    """Return the winner that is to be exported, or ``None`` where the score decides.

    Args:
        study:
            The study.
        by:
            ``"score"``, ``"training"``, or ``"auto"``: training where there was any.

    Raises:
        StudyError: If training is to decide and there was none, or it was not finished.
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
    """Write the winner of a study's trainings as a bundle, with its weights in ``best.pt``.

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
    own = study.study_name if spec.objective.kind == "train" else f"{study.study_name}-{SUFFIX}"
    return export_trained(
        spec, own, winner.verified, winner.recipe, winner.data, folder,
        judged=judged_on(spec), weights=winner.weights, test_top1=winner.test_top1, overwrite=overwrite,
    )  # fmt: skip


def export_trained(
    spec: StudySpec,
    name: str,
    networks: list[Verified],
    recipe: Recipe,
    data: str,
    folder: str | Path,
    *,
    judged: str = "test images",
    weights: Path | None = None,
    test_top1: float | None = None,
    overwrite: bool = True,
) -> Path:
    """Write the first of some trained networks as a bundle, with all accuracies it was compared by.

    Args:
        spec:
            The spec of the searched study.
        name:
            Name of the study that holds the accuracies.
        networks:
            Networks with accuracies, best first.
        recipe:
            How they were trained.
        data:
            On what.
        folder:
            Where to write.
        judged:
            The images of the accuracies, in words.
        weights:
            ``last.pt`` of a training of the network; the bundle gets its weights as ``best.pt``.
        test_top1:
            Accuracy of these weights on the test images, in percent.
        overwrite:
            Replace a bundle that is there.

    Raises:
        BundleError: If the folder holds something else, or cannot be written.
        CheckpointError: If the weights cannot be read.
    """
    best = networks[0]
    content = None if weights is None else _judged_weights(weights, test_top1)
    bundle = bundle_of(
        spec,
        spec.build_space().parse(best.candidate.structure),
        study=name,
        scores={
            "chosen_by": f"top-1 after {plural(recipe.epochs, 'epoch')} on {data}, {judged}",
            "top1": best.mean,
            "top1_seeds": list(best.top1),
            "learning_rate": best.learning_rate,
            "found_by": best.candidate.label,
            "closed_form": best.candidate.facts.get("closed_form"),
            **({} if test_top1 is None else {"test_top1": test_top1}),
        },
        candidates=[
            {
                "found_by": item.candidate.label,
                "structure": item.candidate.structure,
                "top1": list(item.top1),
                "pruned": item.pruned,
            }
            for item in networks
        ],
    )
    written = write_bundle(bundle, folder, overwrite=overwrite)
    if content is not None:
        checkpoint.save(written / checkpoint.BEST, content)
    return written


def _judged_weights(path: Path, top1: float | None) -> dict[str, Any]:
    """Return the weights of a run's ``last.pt`` that are judged, as ``best.pt`` holds them."""
    saved = checkpoint.read(path, checkpoint.RUN)
    # Where a moving average is kept, it is what was evaluated.
    model = saved["ema"]["state"] if saved.get("ema") else saved["model"]
    facts = {key: saved[key] for key in ("network", "recipe", "classes", "statistics", "seed")}
    return {**facts, "model": model, "epoch": saved["state"]["epoch"], "top1": top1}
