"""A score learned from architectures whose accuracy is known: a Gaussian process on ranks of proxies and on features.

``zenopt correlate --learn FILE`` writes one, and ``learned:FILE`` is then a proxy like any other. Rasmussen & Williams,
"Gaussian Processes for Machine Learning", 2006, chapters 2 and 5: the mean of the posterior, with

    k(a, b) = s2 ( exp(-|a - b|^2 / (2 l^2 d)) + c a.b / d ),  plus noise n s2 on the diagonal,

for d standardised inputs. l, c and n are those of a grid with the largest marginal likelihood, s2 follows from them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, TypeAdapter, model_validator

from zenopt.core.errors import ProxyError, ZenoptError
from zenopt.core.files import LEARNED, read_json, validated
from zenopt.core.text import quoted
from zenopt.predictors.ensemble import ScoreTable, ranks
from zenopt.predictors.features import architecture_features
from zenopt.proxies.registry import Proxy, ScoreSettings, get_proxy

PREFIX = "learned:"
FORMAT = "zenopt learned score 1"
#: A process needs memory for all pairs of what it learns from.
MAX_LEARNED = 4000
#: Learned scores that a learned score may be learned from, one from the other.
MAX_NESTED = 4

LENGTHS = (math.inf, 0.5, 1.0, 2.0, 4.0)
SLOPES = (0.0, 0.3, 3.0)
NOISES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LearnedScore:
    """A fitted process.

    Attributes:
        references: For every proxy its oriented scores of what was learned from, ascending; failures are ``-inf``.
        features: Names of the features that are read beside the proxies.
        mean, scale: Of the inputs, to standardise them.
        inputs: Standardised inputs of what was learned from, ``count x inputs``.
        weights: One weight per row of ``inputs``.
        length, slope, noise: l, c and n of the kernel.
        settings: What proxies are computed with: ``resolution``, ``num_classes``, ``batch_size``.
        facts: Where it was learned, for people.
    """

    references: Mapping[str, Array] = field(repr=False)
    features: tuple[str, ...]
    mean: Array = field(repr=False)
    scale: Array = field(repr=False)
    inputs: Array = field(repr=False)
    weights: Array = field(repr=False)
    length: float
    slope: float
    noise: float
    settings: Mapping[str, int] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def predict(self, table: ScoreTable, features: Sequence[Mapping[str, float]] | None = None) -> Array:
        """Return a score per architecture, higher is better; about -0.5 is the worst and 0.5 the best it learned from.

        Args:
            table:
                Scores of the proxies it was fitted with.
            features:
                Features of the same architectures, where it was fitted with features.
        """
        raw = _inputs(self.references, self.features, table, features)
        found = (raw - self.mean) / self.scale
        kernel = _kernel(
            _distances(found, self.inputs), found @ self.inputs.T, self.length, self.slope, found.shape[1]
        )
        return np.asarray(kernel @ self.weights, dtype=np.float64)

    def score(self, architecture: Any, settings: ScoreSettings) -> float:
        """Return the score of one architecture; its proxies are computed on noise, as they were when it was fitted."""
        # Imported late: closed-form inputs need no torch.
        from zenopt.proxies.score import score_architecture

        table: dict[str, list[float | None]] = {}
        for name in self.references:
            try:
                found = score_architecture(
                    architecture,
                    name,
                    resolution=self.settings["resolution"],
                    num_classes=self.settings["num_classes"],
                    batch_size=self.settings["batch_size"],
                    seed=settings.seed,
                    device=settings.device,
                )
                table[name] = [found.mean]
            except ProxyError:
                # As in a table of scores: what a proxy fails on ranks last.
                table[name] = [None]
        own = architecture_features(architecture, self.settings["resolution"], self.settings["num_classes"])
        missing = [name for name in self.features if name not in own]
        if missing:
            raise ProxyError(
                f"This learned score is for another family of architectures: {type(architecture).__name__} has no "
                f"{quoted(missing[0])}."
            )
        return float(self.predict(table, [own])[0])

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "format": FORMAT,
            "facts": dict(self.facts),
            "settings": dict(self.settings),
            "kernel": {
                # JSON has no infinity: null is a linear kernel.
                "length": None if math.isinf(self.length) else self.length,
                "slope": self.slope,
                "noise": self.noise,
            },
            "features": list(self.features),
            "references": {
                name: [None if math.isinf(value) else value for value in values.tolist()]
                for name, values in self.references.items()
            },
            "mean": self.mean.tolist(),
            "scale": self.scale.tolist(),
            "inputs": self.inputs.tolist(),
            "weights": self.weights.tolist(),
        }


def fit_learned(
    table: ScoreTable,
    truth: Sequence[float],
    features: Sequence[Mapping[str, float]] | None = None,
    *,
    settings: Mapping[str, int] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> LearnedScore:
    """Fit a process to the ranks of a truth.

    Args:
        table:
            Scores of architectures whose truth is known; judge the result on others. May be empty with features.
        truth:
            E.g. accuracies, more is better.
        features:
            Features of the same architectures.
        settings, facts:
            Kept with the result.

    Raises:
        ProxyError: If there is nothing to learn from, or too much.
    """
    count = len(truth)
    if not 3 <= count <= MAX_LEARNED:
        raise ProxyError(
            f"A learned score needs 3 to {MAX_LEARNED:,} architectures to learn from, got {count:,}."
        )
    names = tuple(features[0]) if features else ()
    if not table and not names:
        raise ProxyError("A learned score needs at least one proxy or feature.")
    references = {name: np.sort(_oriented(name, scores)) for name, scores in table.items()}
    raw = _inputs(references, names, table, features)
    mean, scale = raw.mean(axis=0), raw.std(axis=0)
    scale[scale < 1e-12] = 1.0
    inputs = (raw - mean) / scale
    wanted = (ranks(list(truth)) - 1) / (count - 1) - 0.5
    distances, products = _distances(inputs, inputs), inputs @ inputs.T
    best: tuple[float, tuple[float, float, float], Array] | None = None
    for length, slope, noise in product(LENGTHS, SLOPES, NOISES):
        if math.isinf(length) and slope != SLOPES[-1]:
            # A linear kernel has no other part that its slope could be compared with.
            continue
        kernel = _kernel(distances, products, length, slope, inputs.shape[1])
        kernel[np.diag_indices(count)] += noise
        lower = np.linalg.cholesky(kernel)
        half = np.linalg.solve(lower, wanted)
        # Minus the log marginal likelihood at the best s2, constants left out.
        loss = 0.5 * count * math.log(float(half @ half)) + float(np.log(np.diag(lower)).sum())
        if best is None or loss < best[0]:
            best = loss, (length, slope, noise), np.linalg.solve(lower.T, half)
    assert best is not None
    length, slope, noise = best[1]
    return LearnedScore(
        references, names, mean, scale, inputs, best[2], length, slope, noise, settings or {}, facts or {}
    )


def learned_proxy(name: str) -> Proxy:
    """Return the proxy of ``learned:FILE``.

    Raises:
        ProxyError: If the file cannot be read or holds no learned score.
    """
    path = Path(name.removeprefix(PREFIX))
    try:
        stamp = path.stat().st_mtime_ns
    except (OSError, ValueError) as error:
        raise LEARNED.unreadable(path, error) from None
    model = read_learned(path, stamp)
    return Proxy(
        name=name,
        direction="maximize",
        cost_class="forward" if model.references else "closed form",
        needs=(),
        kind="architecture",
        description=f"Learned from {len(model.inputs)} architectures",
        function=model.score,
        deterministic=all(get_proxy(own, stored=True).deterministic for own in model.references),
        version=str(stamp),
    )


Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Vector = list[Finite]


class LearnedFile(BaseModel):
    """A learned score as its file has it; ``length`` null is a linear kernel, a null reference a failure."""

    class Kernel(BaseModel):
        # Its square must still be a number.
        length: Annotated[float, Field(strict=True, gt=1e-12, le=1e12, allow_inf_nan=False)] | None
        slope: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
        noise: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]

    class Settings(BaseModel):
        resolution: Annotated[int, Field(strict=True, ge=1, le=8192)]
        num_classes: Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
        batch_size: Annotated[int, Field(strict=True, ge=1, le=65_536)]

    kernel: Kernel
    settings: Settings
    references: dict[str, list[Finite | None]] = Field(max_length=1000)
    features: list[str] = Field(max_length=10_000)
    mean: Vector
    scale: Vector
    inputs: list[Vector] = Field(max_length=MAX_LEARNED)
    weights: Vector
    facts: dict[str, Any]

    @model_validator(mode="after")
    def _check_shapes(self) -> LearnedFile:
        width = len(self.references) + len(self.features)
        for what, found, wanted in (
            ("mean", len(self.mean), width),
            ("scale", len(self.scale), width),
            ("inputs", len(self.inputs), len(self.weights)),
            *(("every row of inputs", len(row), width) for row in self.inputs),
            *(("every list of references", len(own), len(self.weights)) for own in self.references.values()),
        ):
            if found != wanted:
                raise ValueError(f"{what} must have {wanted:,} numbers, got {found:,}")
        if not width or not self.weights:
            raise ValueError("it was learned from nothing")
        if not all(self.scale):
            raise ValueError("scale must not be 0")
        return self


_ADAPTER = TypeAdapter(LearnedFile)
#: Files that are being read: a score may be learned from others, but not from itself.
_OPEN: set[Path] = set()


@lru_cache(maxsize=8)
def read_learned(path: Path, stamp: int) -> LearnedScore:
    """Read a learned score once per version of its file.

    Raises:
        ProxyError: If it cannot be read or is damaged, or names a proxy that is not known.
    """
    content = read_json(path, LEARNED)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise LEARNED.refusal(path, "it is no learned score; zenopt correlate --learn writes one")
    read = validated(_ADAPTER, content, path, LEARNED)
    if path.resolve() in _OPEN or len(_OPEN) > MAX_NESTED:
        raise LEARNED.refusal(path, "it is learned from itself, or from too long a row of others")
    _OPEN.add(path.resolve())
    try:
        for name in read.references:
            get_proxy(name, stored=True)
    except ZenoptError as error:
        raise LEARNED.refusal(path, str(error)) from None
    finally:
        _OPEN.remove(path.resolve())
    references = {
        # Sorted, as the shares that a score beats are read off it.
        name: np.sort([-math.inf if value is None else value for value in values])
        for name, values in read.references.items()
    }
    return LearnedScore(
        references,
        tuple(read.features),
        mean=np.array(read.mean),
        scale=np.array(read.scale),
        inputs=np.array(read.inputs),
        weights=np.array(read.weights),
        length=math.inf if read.kernel.length is None else read.kernel.length,
        slope=read.kernel.slope,
        noise=read.kernel.noise,
        settings=read.settings.model_dump(),
        facts=read.facts,
    )


def _inputs(
    references: Mapping[str, Array],
    names: Sequence[str],
    table: ScoreTable,
    features: Sequence[Mapping[str, float]] | None,
) -> Array:
    missing = [name for name in references if name not in table]
    if missing or (names and features is None):
        raise ProxyError(f"The scores of {', '.join(missing) or 'features'} are needed, and were not given.")
    columns = [_rank_among(references[name], _oriented(name, table[name])) for name in references]
    columns += [np.array([own[name] for own in features or ()], dtype=float) for name in names]
    return np.stack(columns, axis=1)


def _rank_among(reference: Array, scores: Array) -> Array:
    """Return 0 (worst) ... 1 (best): the share of the reference that a score beats, ties counting half."""
    below, up_to = np.searchsorted(reference, scores, "left"), np.searchsorted(reference, scores, "right")
    return np.asarray((below + up_to) / (2 * len(reference)), dtype=np.float64)


def _oriented(name: str, scores: Sequence[float | None]) -> Array:
    sign = 1.0 if get_proxy(name).direction == "maximize" else -1.0
    return np.array(
        [-math.inf if score is None or not math.isfinite(score) else sign * score for score in scores]
    )


def _distances(a: Array, b: Array) -> Array:
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None, :] - 2 * a @ b.T
    return np.asarray(np.maximum(squares, 0.0), dtype=np.float64)


def _kernel(distances: Array, products: Array, length: float, slope: float, width: int) -> Array:
    linear = slope * products / width
    if math.isinf(length):
        return linear
    return np.asarray(np.exp(-distances / (2 * length**2 * width)) + linear, dtype=np.float64)
