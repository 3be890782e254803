"""The evaluator ``train``: accuracy on images held back, after a short training by a recipe.

Every epoch is reported, so that pruners can end a training early; a training that was cut off goes on from its last
checkpoint. The test images stay unseen: they judge what was chosen, once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zenopt.core.errors import EvaluationError, SpecError
from zenopt.core.score import Score
from zenopt.study.evaluators.base import Direction, Evaluator, Report, ignore
from zenopt.study.registries import EVALUATORS

if TYPE_CHECKING:
    import optuna

    from zenopt.study.spec import StudySpec
    from zenopt.train.data import DataSet
    from zenopt.train.networks import NetworkSource
    from zenopt.train.recipe import Recipe

#: Parameter of a study whose trials choose the learning rate themselves.
RATE_PARAMETER = "training.rate"
#: Study user attribute: class label -> learning rate.
RATES_KEY = "zenopt:rates"
#: Trial user attributes that say how a network is trained; a trial that is queued brings them along.
SEED_KEY, LEARNING_RATE_KEY, LABEL_KEY = "training_seed", "learning_rate", "label"
#: Trial user attribute that is equal where nothing need be trained again.
RUN_KEY = "training_run"


@EVALUATORS.register("train")
class TrainEvaluator(Evaluator):
    """Trains networks as the spec's ``training`` section says."""

    keeps_files = True
    needs_networks = True
    gives_accuracies = True
    identity_key = RUN_KEY

    @classmethod
    def direction(cls, spec: StudySpec) -> Direction:
        return "maximize"

    @classmethod
    def label(cls, spec: StudySpec) -> str:
        return f"top-1 accuracy (%) on {judged_on(spec)}"

    @classmethod
    def check(cls, spec: StudySpec) -> None:
        if spec.training.data is None:
            raise SpecError(
                "Trainings need training.data, e.g. --set training.data=imagefolder:PATH or cifar10:PATH."
            )
        evaluator = cls(spec)
        _ = evaluator.recipe, evaluator.data

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe, at its own learning rate."""
        from zenopt.train.recipe import load_recipe

        return load_recipe(
            self.spec.training.recipe, self.spec.training.overrides, epochs=self.spec.training.epochs
        )

    @property
    def bounds(self) -> tuple[float, float]:
        return 0.0, 100.0

    @property
    def last_step(self) -> int | None:
        return self.recipe.epochs

    @cached_property
    def all_data(self) -> DataSet:
        """All training images, and the test images."""
        from zenopt.train.data import open_data

        assert self.spec.training.data is not None
        return open_data(self.spec.training.data)

    @cached_property
    def data(self) -> DataSet:
        """Training images, and those that judge."""
        share = self.spec.training.held_back
        from zenopt.train.subsets import hold_back

        return hold_back(self.all_data, share) if share else self.all_data

    def settings(self, trial: optuna.Trial, architecture: Any) -> dict[str, Any]:
        """Return seed, learning rate and class label: a queued trial's own, else by the spec."""
        known = trial.user_attrs
        label = known.get(LABEL_KEY) or self.spec.class_label(architecture)
        rate = known.get(LEARNING_RATE_KEY)
        rates = self.spec.training.rates
        if rate is None and self.spec.training.rate_by == "parameter" and len(rates) > 1:
            rate = trial.suggest_categorical(RATE_PARAMETER, rates)
        if rate is None:
            chosen = trial.study.user_attrs.get(RATES_KEY, {})
            rate = chosen.get(label, rates[0] if rates else self.recipe.optimizer.lr)
        return {SEED_KEY: known.get(SEED_KEY, 0), LEARNING_RATE_KEY: float(rate), LABEL_KEY: label}

    def identity(self, architecture: Any, settings: Mapping[str, Any]) -> str:
        """Return the name of the run's folder."""
        return run_name(
            self.source(architecture),
            self.data,
            self.recipe.at_rate(settings[LEARNING_RATE_KEY]),
            settings[SEED_KEY],
        )

    def source(self, architecture: Any) -> NetworkSource:
        """Return the network to be trained."""
        from zenopt.train.networks import NetworkSource

        return NetworkSource.from_structure(
            str(architecture), self.spec.resolution, self.spec.use_se, architecture.family
        )

    def evaluate(
        self,
        architecture: Any,
        *,
        seed: int,
        settings: Mapping[str, Any],
        repeats: int | None = None,
        report: Report = ignore,
    ) -> Score:
        score, _ = self.run(architecture, settings, self.data, report)
        return score

    def run(
        self, architecture: Any, settings: Mapping[str, Any], data: DataSet, report: Report = ignore
    ) -> tuple[Score, Path]:
        """Train an architecture on a data set; return its accuracy on the test part, and the folder of the run.

        Args:
            architecture:
                What to train.
            settings:
                See :meth:`settings`.
            data:
                :attr:`data`, or :attr:`all_data` for the final training.
            report:
                Told the accuracy after every epoch; raises to end the training there.

        Raises:
            EvaluationError: If the training diverged.
            TrainError: If it could not be done.
        """
        import torch

        from zenopt.train.distributed import World
        from zenopt.train.errors import DivergedError
        from zenopt.train.progress import EpochReporter
        from zenopt.train.run import train

        recipe = self.recipe.at_rate(settings[LEARNING_RATE_KEY])
        source, training_seed = self.source(architecture), int(settings[SEED_KEY])
        folder = self.folder / run_name(source, data, recipe, training_seed)
        try:
            history = train(
                source,
                data,
                recipe,
                output=folder,
                world=World(0, 1, torch.device(self.device)),
                seed=training_seed,
                resume="auto",
                workers=0,  # trainings run side by side
                observer=EpochReporter(report),
            ).history
        except DivergedError as error:
            raise EvaluationError(str(error)) from None
        # Epochs that an earlier run did are told as well, so that every trial has its whole curve.
        curve = {row["epoch"]: row["top1"] for row in history if row["top1"] is not None}
        value = curve[max(curve)]
        score = Score(
            value,
            seconds=sum(row["seconds"] for row in history),
            source=self.label(self.spec),
            values=(value,),
            resolution=self.spec.resolution,
            seed=training_seed,
            device=self.device,
            curve=curve,
        )
        return score, folder

    def attributes(self, score: Score, settings: Mapping[str, Any]) -> dict[str, Any]:
        return {
            **super().attributes(score, settings),
            "seconds": score.seconds,
            "epochs": self.recipe.epochs,
            "data": self.data.name,
        }


def judged_on(spec: StudySpec) -> str:
    """Return which images judge, in words."""
    share = spec.training.held_back
    return f"{100 * share:g} % of the training images, held back" if share else "test images"


def run_name(source: NetworkSource, data: DataSet, recipe: Recipe, seed: int) -> str:
    """Return the name of the folder of a training: equal for equal networks, images, recipes and seeds."""
    key = hashlib.sha256(f"{source}{data.name}{recipe.model_dump_json()}".encode()).hexdigest()[:16]
    return f"{key}-seed{seed}"
