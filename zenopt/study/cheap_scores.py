"""The cheap score of a guide, as a spec describes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from zenopt.core.errors import ProxyError
from zenopt.core.seeds import derive_seed
from zenopt.spaces.tabular import space_table

if TYPE_CHECKING:
    from zenopt.study.spec import StudySpec


@dataclass(frozen=True)
class TableScore:
    """Reads scores from a table; called with an architecture, higher is better, ``None`` where it lists none."""

    space: Any
    path: str
    column: str
    is_reversed: bool = False

    @cached_property
    def _known(self) -> Mapping[str, float]:
        return space_table(self.space, self.path).column(self.column)

    def __call__(self, architecture: Any) -> float | None:
        found = self._known.get(str(architecture))
        return -found if found is not None and self.is_reversed else found


@dataclass(frozen=True)
class ProxyScore:
    """Computes a proxy; called with an architecture, higher is better, ``None`` where it fails.

    The weights of an architecture derive from the seed and its text, so that every worker gets the same score.
    """

    proxy: str
    resolution: int
    num_classes: int
    batch_size: int
    seed: int

    def __call__(self, architecture: Any) -> float | None:
        # Imported late: a sampler can be made, and a study planned, without torch.
        from zenopt.proxies import get_proxy, score_architecture

        proxy = get_proxy(self.proxy, stored=True)
        try:
            score = score_architecture(
                architecture,
                proxy,
                resolution=self.resolution,
                num_classes=self.num_classes,
                batch_size=self.batch_size,
                seed=derive_seed(self.seed, 0, f"guide:{architecture}"),
            )
        except ProxyError:
            # E.g. no flow reaches the output: the worst there is, but no reason to stop.
            return None
        return score.mean if proxy.direction == "maximize" else -score.mean


def cheap_score(spec: StudySpec) -> TableScore | ProxyScore:
    """Return the cheap score of a spec whose sampler has a guide."""
    guide = spec.sampler.guide
    assert guide is not None
    if guide.table is not None:
        assert guide.column is not None
        return TableScore(spec.space.build(), guide.table, guide.column, guide.direction == "minimize")
    assert guide.proxy is not None
    return ProxyScore(
        guide.proxy, guide.resolution or spec.resolution, spec.num_classes, guide.batch_size, spec.seed
    )
