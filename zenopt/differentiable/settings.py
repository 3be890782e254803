"""How a search goes: a method as validated YAML, beside the recipe by which the weights are trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from zenopt.core.errors import SpecError
from zenopt.core.files import METHOD
from zenopt.core.text import quoted
from zenopt.core.yamlfile import Overrides, named_file, names_in, override, read_yaml
from zenopt.train.recipe import Fraction, Positive, Section

METHODS = Path(__file__).resolve().parent / "methods"


class Temperature(Section):
    """Of drawn weights: from the first epoch to the last."""

    start: Positive = 1.0
    end: Positive = 1.0
    decay: Literal["linear", "exponential"] = "linear"

    def at(self, epoch: int, epochs: int) -> float:
        """Return the temperature of an epoch, counted from 0."""
        share = epoch / max(1, epochs - 1)
        if self.decay == "linear":
            return self.start + (self.end - self.start) * share
        return float(self.start * (self.end / self.start) ** share)


class Alphas(Section):
    """What the weights of operations are computed of: drawn normally, then learned by Adam."""

    lr: Positive = 3e-4
    betas: tuple[Fraction, Fraction] = (0.5, 0.999)
    weight_decay: float = Field(default=1e-3, ge=0)
    deviation: float = Field(default=1e-3, ge=0)


class Cost(Section):
    """A term for the expected cost of the mixture.

    `multiply` is FBNet's: `loss * weight * log(cost)^power`, latencies in microseconds. `add` adds
    `weight * cost / cost of the dearest architecture`. `auto` is the latency of a study that names a device, else MACs.
    """

    kind: Literal["none", "auto", "latency_ms", "params", "macs"] = "none"
    form: Literal["add", "multiply"] = "add"
    weight: Positive = 1.0
    power: Positive = 0.6


class BetaDecay(Section):
    """Beta-DARTS: adds the mean of logsumexp(alpha), by a factor that rises linearly from 0 to `weight`."""

    weight: Positive = 50.0


class EigenvalueStop(Section):
    """Ends where the dominant eigenvalue of the Hessian of the held-back loss by alpha rises (Zela et al. 2020).

    The means of two windows of epochs are compared; where the earlier one falls below `ratio` times the later one, the
    architecture from before the later window is taken.
    """

    window: int = Field(default=5, ge=1)
    ratio: Fraction = 0.75
    images: int = Field(default=64, ge=2)
    iterations: int = Field(default=30, ge=1)


class SkipStop(Section):
    """Ends where a derived cell has more than `most` skip connections, and takes the architecture before."""

    most: int = Field(default=2, ge=0)


#: Sections that keep a search from collapsing, by the name under which one is switched on.
REGULARISERS = {"beta-decay": "beta_decay", "eigenvalue": "stop_by_eigenvalue", "skips": "stop_by_skips"}


class NetworkSize(Section):
    """Width and depth of the search network; none: as published. What they count is the family's own."""

    channels: Annotated[int, Field(ge=1)] | None = None
    cells: Annotated[int, Field(ge=1)] | None = None


class Method(Section):
    """How operations are found.

    `relaxation` says how alphas become weights of operations. `order` 2 judges them by weights one step ahead. With
    `level: single` they learn from the batches of the weights, otherwise from `held_back` of the training images, and
    not before `warmup` of the run.
    """

    description: str = ""
    relaxation: Literal["softmax", "gumbel", "gumbel-hard", "dirichlet"] = "softmax"
    order: Literal[1, 2] = 1
    level: Literal["bilevel", "single"] = "bilevel"
    held_back: Annotated[float, Field(gt=0, lt=1)] = 0.5
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    temperature: Temperature = Temperature()
    alphas: Alphas = Alphas()
    network: NetworkSize = NetworkSize()
    cost: Cost = Cost()
    beta_decay: BetaDecay | None = None
    stop_by_eigenvalue: EigenvalueStop | None = None
    stop_by_skips: SkipStop | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Method:
        if self.level == "single" and self.order == 2:
            raise ValueError("order 2 is of two levels; set level: bilevel, or order: 1")
        return self


def list_methods() -> list[str]:
    """Return the names of the methods that come with the package."""
    return names_in(METHODS)


def load_method(name: str, overrides: Overrides = (), regularisers: tuple[str, ...] = ()) -> Method:
    """Read and validate a method.

    Args:
        name:
            A name from :func:`list_methods`, or the path of a YAML file.
        overrides:
            Assignments such as ``"alphas.lr=1e-3"``, in order.
        regularisers:
            Those of :data:`REGULARISERS` to switch on, with the method's or the usual settings.

    Raises:
        SpecError: The method does not exist or is invalid; the line names file, line or path, and what is allowed.
    """
    source = read_yaml(named_file(name, METHODS, "Method"), METHOD)
    for regulariser in regularisers:
        if regulariser not in REGULARISERS:
            raise SpecError(
                f"Regulariser {quoted(regulariser)} does not exist; known: {', '.join(REGULARISERS)}."
            )
        if source.data.get(REGULARISERS[regulariser]) is None:
            source.data[REGULARISERS[regulariser]] = {}
    override(source, overrides)
    try:
        return Method.model_validate(source.data)
    except ValidationError as error:
        raise SpecError(source.explain(error, Method)) from None
