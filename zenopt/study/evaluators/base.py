"""The contract of an evaluator: what gives an architecture its value."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from math import inf
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from zenopt.core.errors import SpecError
from zenopt.core.score import Score
from zenopt.core.text import quoted

if TYPE_CHECKING:
    import optuna

    from zenopt.study.spec import StudySpec

Direction = Literal["maximize", "minimize"]
#: Told (step, value) during an evaluation; raises to end it.
Report = Callable[[int, float], None]


def ignore(step: int, value: float) -> None:
    """Let an evaluation go on."""


class Evaluator(ABC):
    """Gives architectures of one study their value; every worker makes its own.

    Args:
        spec:
            The resolved study spec.
        device:
            Torch device of the evaluations.
        folder:
            Where an evaluator may keep files, such as checkpoints of trainings.

    Attributes:
        keeps_files: Whether it writes to its folder.
        needs_networks: Whether an architecture must have a network.
        needs_supernet: Whether the space must have a supernet.
        gives_accuracies: Whether values are accuracies, so that the best ones are not all of one depth as with scores.
        default_options: What a study may set as ``objective.options``, with the values of what it leaves out.
        options: All of them, with the study's values.
    """

    keeps_files: ClassVar[bool] = False
    needs_networks: ClassVar[bool] = False
    needs_supernet: ClassVar[bool] = False
    gives_accuracies: ClassVar[bool] = False
    default_options: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    #: Trial user attribute that holds :meth:`identity`.
    identity_key: ClassVar[str] = "structure"

    def __init__(self, spec: StudySpec, device: str = "cpu", folder: Path = Path("runs")) -> None:
        self.spec = spec
        self.device = device
        self.folder = folder
        self.options = self.options_of(spec)

    @classmethod
    def options_of(cls, spec: StudySpec) -> dict[str, Any]:
        """Return :attr:`default_options` with the values of a study.

        Raises:
            SpecError: If the study sets one that there is not.
        """
        given = spec.objective.options
        unknown = sorted(set(given) - set(cls.default_options))
        if unknown:
            known = ", ".join(cls.default_options) or "none"
            raise SpecError(
                f"objective.options: {quoted(unknown[0])} is no option of {spec.objective.kind}, which has {known}."
            )
        return {**cls.default_options, **given}

    @classmethod
    @abstractmethod
    def direction(cls, spec: StudySpec) -> Direction:
        """Return which values are better."""

    @classmethod
    @abstractmethod
    def label(cls, spec: StudySpec) -> str:
        """Return what a value is, for people: ``"zen"``, ``"top-1 accuracy (%) on held-back images"``."""

    @classmethod  # noqa: B027
    def check(cls, spec: StudySpec) -> None:
        """Find out before a search whether everything the evaluations need is there.

        Raises:
            ZenoptError: If it is not.
        """

    @property
    def is_noisy(self) -> bool:
        """Whether a second evaluation of an architecture, with another seed, tells something new."""
        return True

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest value there can be."""
        return -inf, inf

    @property
    def last_step(self) -> int | None:
        """Step with which an evaluation ends, where steps are reported; nothing is pruned there."""
        return None

    def lists(self, architecture: Any) -> bool:
        """Return whether there is a value for the architecture at all."""
        return True

    def settings(self, trial: optuna.Trial, architecture: Any) -> dict[str, Any]:
        """Return what a trial decides besides the architecture; may ask the trial for further parameters."""
        return {}

    def identity(self, architecture: Any, settings: Mapping[str, Any]) -> str:
        """Return a text that is equal for evaluations that need not be done twice."""
        return str(architecture)

    @abstractmethod
    def evaluate(
        self,
        architecture: Any,
        *,
        seed: int,
        settings: Mapping[str, Any],
        repeats: int | None = None,
        report: Report = ignore,
    ) -> Score:
        """Return the value of an architecture.

        Args:
            architecture:
                What to evaluate.
            seed:
                Fixes every random number.
            settings:
                See :meth:`settings`.
            repeats:
                Fresh draws; by default the spec's.
            report:
                Told intermediate values, if there are any.

        Raises:
            EvaluationError: If there is none, for a reason of the architecture's own; the trial fails, the search goes
                on.
            ZenoptError: For any other reason; the search ends.
        """

    def attributes(self, score: Score, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is worth keeping with a trial besides its value."""
        found: dict[str, Any] = {
            "score_mean": score.mean,
            "score_std": score.std,
            "score_seconds": score.seconds,
        }
        if score.batch_size:
            found["score_batch"] = score.batch_size
        return {**found, "seed": score.seed, "device": score.device}
