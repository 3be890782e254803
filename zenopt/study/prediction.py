"""What a study has learned says of networks: the predictor of the learned search, fitted to any study."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from zenopt.core.errors import StudyError
from zenopt.core.seeds import derive_rng
from zenopt.core.text import quoted
from zenopt.predictors.earlier import GROUP, InformedReader
from zenopt.predictors.networks import NetworkReader, Reader
from zenopt.predictors.surrogate import Surrogate
from zenopt.samplers.guided import draw_candidates
from zenopt.samplers.told import ToldPopulation
from zenopt.study.earlier import earlier_results

if TYPE_CHECKING:
    import optuna

    from zenopt.latency.limits import Limits
    from zenopt.study.spec import StudySpec

#: Random networks within the budget whose spread is the unit of the inputs, beside those that were trained.
REFERENCE = 256
#: Full trainings without which nothing is said.
FEWEST = 4


@dataclass(frozen=True)
class NetworkPrediction:
    """What is expected of one network.

    Attributes:
        structure: Its canonical text.
        mean: Expected value of a training, in units of the study's values.
        low, high: Interval of what one training will show.
        learned_from: Trainings that the prediction rests on.
        trained: How many of them were of this network.
    """

    structure: str
    mean: float
    low: float
    high: float
    learned_from: int
    trained: int

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


@dataclass(frozen=True)
class StudyPrediction:
    """Predictions, and what they rest on.

    Attributes:
        networks: In the order they were asked for.
        full, short: Full trainings that were learned from, and shorter ones.
        record: Which inputs the predictor reads, with the evidence.
    """

    networks: tuple[NetworkPrediction, ...]
    full: int
    short: int
    record: str


class LearnedStudy:
    """The predictor, fitted to all trials a study has told.

    Args:
        study, spec:
            The study.

    Raises:
        StudyError: If the study has too few values to learn from.
        SpecError, PredictorError: If the study's settings name earlier results that are not there.
    """

    def __init__(self, study: optuna.Study, spec: StudySpec) -> None:
        # A table lists what was trained; a prediction is for what was not.
        space, limits = spec.space.build(), spec.limits()
        self._reader = _reader(spec, space, limits)
        self._evaluator = spec.evaluator()(spec)
        self._sign = 1.0 if spec.direction() == "maximize" else -1.0
        told = ToldPopulation(study, space, self._reader, self._evaluator.last_step)
        told.sync()
        if len(told.full) < FEWEST:
            raise StudyError(
                f"A prediction needs {FEWEST} trials with values to learn from, study {quoted(study.study_name)} has "
                f"{len(told.full)}."
            )
        rng = derive_rng(spec.seed, 0, "reference")
        reference = self._reader.read(draw_candidates(space, limits, REFERENCE, rng, draws=4))
        self._told = told
        self._observations = told.observations()
        ranking = spec.sampler.surrogate.ranking
        self._surrogate = Surrogate(
            reference.join(self._observations.inputs),
            ranking={"auto": self._reader.ranking, "none": None}.get(ranking, ranking),
            groups=spec.sampler.surrogate.inputs,
        )
        self._surrogate.learn(self._observations)

    def predict(self, architectures: Sequence[Any], *, probability: float = 0.9) -> StudyPrediction:
        """Predict the score of networks of the family; the space may be left, as far as its parameters go.

        Raises:
            StructureError: If a network is of another family.
        """
        texts = [str(own) for own in architectures]
        found = self._surrogate.predict(self._reader.read(architectures), texts, probability=probability)
        trained = [own.text for own in self._told.told]
        networks = []
        lowest, highest = self._evaluator.bounds
        for index, text in enumerate(texts):
            # The scale on which the predictor works goes on beyond what accuracies can be.
            mean, *ends = (
                min(max(self._sign * float(own[index]), lowest), highest)
                for own in (found.mean, found.training_low, found.training_high)
            )
            networks.append(
                NetworkPrediction(text, mean, min(ends), max(ends), len(trained), trained.count(text))
            )
        full = len(self._told.full)
        return StudyPrediction(tuple(networks), full, len(trained) - full, self._surrogate.record())

    def repeats(self, count: int, among: Collection[str]) -> list[str]:
        """Return the networks of which one training more tells most about which of some is best, by text.

        A network is there as often as it is worth training at the same time, with other seeds.
        """
        return [str(self._observations.networks[place]) for place in self._surrogate.repeats(count, among)]


def predict_networks(
    study: optuna.Study, spec: StudySpec, architectures: Sequence[Any], *, probability: float = 0.9
) -> StudyPrediction:
    """Predict the score of networks from the trials of a study, whatever sampler proposed them.

    Args:
        study, spec:
            The study.
        architectures:
            Networks of the family; a space may be left, as far as its parameters go.
        probability:
            Of the intervals.

    Raises:
        StudyError: If the study has too few values to learn from.
        StructureError: If a network is of another family.
        SpecError, PredictorError: If the study's settings name earlier results that are not there.
    """
    return LearnedStudy(study, spec).predict(architectures, probability=probability)


def _reader(spec: StudySpec, space: Any, limits: Limits) -> Reader:
    """Return what reads networks; earlier results only where the study's settings name them as inputs or ranking.

    What is told of a study is to be told of it alone, and where its sources are no more.
    """
    reader = NetworkReader(space, limits.resolution, limits.num_classes, limits.use_se)
    settings = spec.sampler.surrogate
    if GROUP in settings.inputs or settings.ranking.startswith(f"{GROUP} "):
        earlier = earlier_results(spec)
        return InformedReader(reader, space, earlier) if earlier else reader
    return reader
