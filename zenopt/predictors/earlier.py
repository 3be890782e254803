"""What was learned before, from other studies and tables: one more input, and the ranking a search begins with.

Values of different trainings do not compare, so none is told as if it were the study's own. A predictor is fitted to
each source, and what it expects of a network is a column of inputs. Its offset and scale are the source's own; how far
the source is to be trusted is learned from the study's trials, as it is with any ranking.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from zenopt.core.errors import PredictorError
from zenopt.predictors.inputs import Inputs
from zenopt.predictors.networks import Reader
from zenopt.predictors.observations import Observations
from zenopt.predictors.surrogate import Surrogate

GROUP = "earlier"
#: Networks of a source that are learned from; of more, random ones.
MOST = 500
#: Networks of a source without which it says nothing.
FEWEST = 4


class InformedReader:
    """Reads networks, and what earlier results say of them.

    Args:
        reader:
            Reads the networks.
        space:
            Parses the texts of earlier networks.
        earlier:
            Source -> text -> value, higher is better. The first source is what a search begins with.

    Raises:
        PredictorError: If a source has too few networks of the space.
    """

    def __init__(self, reader: Reader, space: Any, earlier: Mapping[str, Mapping[str, float]]) -> None:
        self._reader = reader
        self._space = space
        self._earlier = {source: dict(values) for source, values in earlier.items()}
        for source, values in self._earlier.items():
            if len(values) < FEWEST:
                raise PredictorError(
                    f"sampler.surrogate.warm_start: {source} has {len(values)} networks of the space with values; at "
                    f"least {FEWEST} are needed."
                )
        columns = [f"earlier {source}" for source in self._earlier]
        self.names = (*reader.names, *columns)
        self.groups = (*reader.groups, *(GROUP for _ in columns))
        self.ranking: str | None = columns[0]

    def read(self, architectures: Iterable[Any]) -> Inputs:
        """Return the inputs of networks; see :meth:`zenopt.predictors.networks.NetworkReader.read`."""
        learned = self._learned
        inputs = self._reader.read(architectures)
        columns = [surrogate.expected(inputs)[:, None] for surrogate in learned]
        return Inputs(self.names, self.groups, np.concatenate([inputs.matrix, *columns], axis=1))

    @cached_property
    def _learned(self) -> list[Surrogate]:
        found = []
        for values in self._earlier.values():
            texts = sorted(values)
            if len(texts) > MOST:
                texts = sorted(random.Random(0).sample(texts, MOST))
            inputs = self._reader.read([self._space.parse(text) for text in texts])
            surrogate = Surrogate(inputs, ranking=self._reader.ranking)
            surrogate.learn(Observations.of(inputs, texts, [values[text] for text in texts]))
            found.append(surrogate)
        return found
