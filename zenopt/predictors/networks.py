"""What a predictor reads of the networks of any space, from the contract of families alone.

Groups of inputs:

- ``genes``: the parameters, where all are categories or numbers of few values;
- ``shape``: what the family says of its networks' shape, else depths, widths and kernels at every map size;
- ``costs``: logarithms of params and multiply-adds;
- ``scores``: closed forms of training-free scores;
- ``paths``: the paths through cells, where networks have any (:mod:`zenopt.predictors.paths`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf, log
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from zenopt.core.costs import count
from zenopt.core.errors import ProxyError, StructureError
from zenopt.core.text import shortened
from zenopt.predictors.inputs import Inputs
from zenopt.predictors.paths import COLUMNS, PATHS, path_columns
from zenopt.spaces.shape import shape_profile

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Array = NDArray[np.float64]

#: A space in which a number has more values than this has no genes: equal numbers mean little there.
FEW_VALUES = 16
#: Numbers whose largest value is this many times the smallest one are read as logarithms.
LOG_RANGE = 4
#: Closed forms that are scores; others of a family are corrections.
SCORES = ("zen", "synflow")
#: Images in the batch whose scores are predicted.
BATCH_SIZE = 64
#: Smallest map whose layers are looked at, in pixels of its side.
SMALLEST_SIDE = 2


class Reader(Protocol):
    """Reads networks of a space.

    Attributes:
        names, groups: Of the inputs, see :class:`~zenopt.predictors.inputs.Inputs`.
        ranking: Inputs whose larger values are thought better before anything is trained, see
            :mod:`zenopt.predictors.ranking`; ``None`` where none is.
    """

    names: tuple[str, ...]
    groups: tuple[str, ...]
    ranking: str | None

    def read(self, architectures: Iterable[Any]) -> Inputs:
        """Return the inputs of networks."""


class NetworkReader:
    """Reads the networks of a space.

    Args:
        space:
            The space, of any family.
        resolution:
            Side of the square input image in pixels.
        num_classes:
            Outputs of the classifier.
        use_se:
            Whether squeeze-excite gates are counted.
    """

    def __init__(self, space: Any, resolution: int, num_classes: int, use_se: bool = False) -> None:
        self._space = space
        self._resolution = resolution
        self._num_classes = num_classes
        self._use_se = use_se
        self._levels = max(1, (resolution // SMALLEST_SIDE).bit_length())
        self._genes = _gene_columns(space.distributions)
        initial = space.parse(space.initial)
        self._type = type(initial)
        self._scores = tuple(name for name in SCORES if name in type(initial).closed_forms)
        self._has_paths = space.has_networks and path_columns(initial) is not None
        groups = {
            "genes": [name for names in self._genes.values() for name in names],
            "shape": list(self._shape(initial)),
            "costs": ["log params", "log MACs"],
            "scores": list(self._scores),
            PATHS: [f"{PATHS} {number}" for number in range(1, COLUMNS + 1)] if self._has_paths else [],
        }
        self.names = tuple(name for names in groups.values() for name in names)
        self.groups = tuple(group for group, names in groups.items() for _ in names)
        #: What stands for numbers that a network has not; fixed by the first networks that are read.
        self._floors: Array | None = None
        self.ranking: str | None = initial.ranking or None

    def read(self, architectures: Iterable[Any]) -> Inputs:
        """Return the inputs of networks, which must be inside the space.

        A number that a network has not (a score that fails) is below all that the first networks read have.

        Raises:
            StructureError: If a network is outside the space, or of another family.
        """
        rows = [self._row(architecture) for architecture in architectures]
        matrix = np.array(rows, dtype=np.float64).reshape(len(rows), len(self.names))
        if self._floors is None:
            self._floors = np.array([_floor(column) for column in matrix.T])
        missing = ~np.isfinite(matrix)
        if missing.any():
            matrix = np.where(missing, self._floors, matrix)
        return Inputs(self.names, self.groups, matrix)

    def _row(self, architecture: Any) -> list[float]:
        if not isinstance(architecture, self._type):
            raise StructureError(
                f"{shortened(str(architecture))} is no network of the space: expected {self._type.__name__}, got "
                f"{type(architecture).__name__}."
            )
        costs = count(architecture, self._resolution, self._num_classes, use_se=self._use_se)
        shape = list(self._shape(architecture).values())
        row = [
            *self._read_genes(architecture),
            *shape,
            *(log(cost) if cost > 0 else -inf for cost in (costs.params, costs.macs)),
            *(self._score(architecture, name) for name in self._scores),
            *self._paths(architecture),
        ]
        if len(row) != len(self.names):
            raise StructureError(
                f"{architecture} has {len(shape)} shape features, other networks of the space "
                f"{self.groups.count('shape')}."
            )
        return row

    def _shape(self, architecture: Any) -> Mapping[str, float]:
        own: dict[str, float] = architecture.shape_features()
        return own or shape_profile(architecture, self._resolution, self._levels)

    def _paths(self, architecture: Any) -> list[float]:
        if not self._has_paths:
            return []
        found = path_columns(architecture)
        return [0.0] * COLUMNS if found is None else found.tolist()

    def _score(self, architecture: Any, name: str) -> float:
        try:
            found = architecture.closed_form(
                name, resolution=self._resolution, num_classes=self._num_classes, batch_size=BATCH_SIZE
            )
        except ProxyError:
            # E.g. nothing flows from input to output.
            return -inf
        return -inf if found is None else float(found)

    def _read_genes(self, architecture: Any) -> list[float]:
        if not self._genes:
            return []
        params = self._space.encode(architecture)
        return [
            value
            for name in self._genes
            for value in _gene_values(self._space.distributions[name], params.get(name))
        ]


def _gene_columns(distributions: Mapping[str, BaseDistribution]) -> dict[str, list[str]]:
    """Return names of columns by parameter; none where a parameter has many values."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    found: dict[str, list[str]] = {}
    for name, distribution in distributions.items():
        if isinstance(distribution, CategoricalDistribution):
            found[name] = [f"{name}={choice}" for choice in distribution.choices]
        elif (
            isinstance(distribution, IntDistribution)
            and (distribution.high - distribution.low) // distribution.step < FEW_VALUES
        ):
            # A parameter that is not in use has no value, which is no number.
            found[name] = [name, f"{name} in use"]
        else:
            return {}
    return found


def _gene_values(distribution: Any, value: Any) -> list[float]:
    from optuna.distributions import CategoricalDistribution

    if isinstance(distribution, CategoricalDistribution):
        return [float(choice == value) for choice in distribution.choices]
    if value is None:
        return [0.0, 0.0]
    is_log = distribution.low > 0 and distribution.high >= LOG_RANGE * distribution.low
    return [log(value) if is_log else float(value), 1.0]


def _floor(column: Array) -> float:
    finite = column[np.isfinite(column)]
    if not finite.size:
        return 0.0
    # As far below the least as a tenth of all are apart: the worst there is, but no outlier.
    return float(finite.min() - 0.1 * (finite.max() - finite.min()))
