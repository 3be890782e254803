"""Guards: what keeps a search from exploiting the errors of its latency model.

A search moves to where its model is most wrong in its favour. Under a model of arithmetic and traffic it finds narrow
bottlenecks under wide outputs, thin 1x1 convolutions at high resolution and wide stems, which real kernels punish. Each
guard is a limit like any other: a signed relative violation, feasible when <= 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from zenopt.core.errors import BudgetError
from zenopt.latency.parts import network_parts
from zenopt.latency.predict import part_latency_ms, predict_latency_ms
from zenopt.latency.profile import DeviceProfile, load_profile
from zenopt.latency.ranges import outside_quantities

#: A second model of the same device and runtime may differ by this much.
DISAGREEMENT = 0.25


@dataclass(frozen=True)
class Guards:
    """Limits that a candidate keeps besides its latency budget; ``None`` switches one off.

    The defaults admit all published ZenNets of the latency family.

    Args:
        margin:
            Search to this share of the latency budget. Applied by whoever makes the budget, listed here so that all
            guards are seen together.
        counterpart:
            Profile to compare with: a name, ``"auto"`` for the one the profile names, or ``None``.
        disagreement:
            Largest relative difference between the two, ``larger / smaller - 1``. Needs a counterpart.
        budget_under_both:
            Whether the counterpart's prediction must keep the (unmargined) budget as well. Needs ``limit_ms``.
        outside_share:
            Largest share of the predicted time in convolutions outside the profile's measured range.
        max_expansion:
            Largest ratio of a block's output width to its bottleneck.
        min_bottleneck:
            Fewest bottleneck channels of a residual block.
        max_stem_width:
            Most output channels of the first block.

    Raises:
        BudgetError: If a value is not positive.
    """

    margin: float = 0.85
    counterpart: str | None = "auto"
    disagreement: float | None = DISAGREEMENT
    budget_under_both: bool = True
    outside_share: float | None = 0.25
    max_expansion: float | None = 8.0
    min_bottleneck: int | None = 32
    max_stem_width: int | None = 64

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and not isinstance(value, bool) and not value > 0:
                raise BudgetError(f"latency.guards.{field.name} must be a positive number, got {value!r}.")
        if self.margin > 1:
            raise BudgetError(f"latency.guards.margin must be at most 1, got {self.margin!r}.")


#: All guards off: what a search does that trusts its model.
NO_GUARDS = Guards(
    margin=1.0, counterpart=None, disagreement=None, budget_under_both=False, outside_share=None, max_expansion=None,
    min_bottleneck=None, max_stem_width=None,
)  # fmt: skip


def guard_violations(
    architecture: Any,
    profile: DeviceProfile | str,
    resolution: int,
    num_classes: int = 1000,
    use_se: bool = False,
    *,
    guards: Guards | None = None,
    limit_ms: float | None = None,
) -> dict[str, float]:
    """Return the signed relative violation of each guard, ``(used - limit) / limit``; feasible when <= 0.

    Args:
        architecture:
            An architecture of any family.
        profile:
            The profile the search predicts with.
        resolution:
            Side of the square input image in pixels.
        num_classes:
            Outputs of the classifier.
        use_se:
            Whether the network has squeeze-excite gates.
        guards:
            Which guards, and how strict; the defaults of :class:`Guards` if not given.
        limit_ms:
            Latency budget in ms per image, without margin.

    Raises:
        DeviceError: If a profile is unusable, or the counterpart is of another batch or number format.
    """
    guards = guards or Guards()
    profile = load_profile(profile)
    violations = dict(_structural(architecture, guards))
    second = _counterpart(profile, guards)
    if second is not None and (guards.disagreement is not None or guards.budget_under_both):
        arguments = (resolution, num_classes, use_se)
        own = predict_latency_ms(architecture, profile, *arguments)
        other = predict_latency_ms(architecture, second, *arguments, any_resolution=True)
        if guards.disagreement is not None:
            # A profile may say that something takes no time.
            difference = max(own, other) / max(min(own, other), 1e-9) - 1
            violations["latency_disagreement"] = (difference - guards.disagreement) / guards.disagreement
        if guards.budget_under_both and limit_ms is not None:
            violations["latency_counterpart_ms"] = (other - limit_ms) / limit_ms
    if guards.outside_share is not None:
        share = outside_share(architecture, profile, resolution, num_classes, use_se)
        violations["latency_outside_share"] = (share - guards.outside_share) / guards.outside_share
    return violations


def outside_share(
    architecture: Any,
    profile: DeviceProfile | str,
    resolution: int,
    num_classes: int = 1000,
    use_se: bool = False,
) -> float:
    """Return the share of the predicted time that is in convolutions outside the profile's measured range."""
    profile = load_profile(profile)
    outside = total = 0.0
    for part in network_parts(architecture, resolution, num_classes, use_se):
        total += part_latency_ms(profile, part)
        key = ("outside", part)
        if key not in profile.cache:
            operations = part.operations()
            times = profile.predictor.operation_times(operations)
            profile.cache[key] = sum(
                ms for op, ms in zip(operations, times, strict=True) if outside_quantities(op, profile)
            )
        outside += profile.cache[key]
    return outside / total if total > 0 else 0.0


def _counterpart(profile: DeviceProfile, guards: Guards) -> DeviceProfile | None:
    name = profile.counterpart if guards.counterpart == "auto" else guards.counterpart
    if not name:
        return None
    second = load_profile(name)
    if (second.batch, second.dtype) != (profile.batch, profile.dtype):
        raise BudgetError(
            f"Profiles {profile.name} (batch {profile.batch}, {profile.dtype}) and {second.name} "
            f"(batch {second.batch}, {second.dtype}) cannot be compared."
        )
    return second


def _structural(architecture: Any, guards: Guards) -> Mapping[str, float]:
    """Return the violations of the caps on shapes, for families that have such shapes."""
    found = architecture.guarded()
    violations: dict[str, float] = {}
    if guards.max_expansion is not None and "expansion" in found:
        violations["expansion"] = (found["expansion"] - guards.max_expansion) / guards.max_expansion
    if guards.min_bottleneck is not None and "bottleneck" in found:
        violations["bottleneck"] = (guards.min_bottleneck - found["bottleneck"]) / guards.min_bottleneck
    if guards.max_stem_width is not None and "stem_width" in found:
        violations["stem_width"] = (found["stem_width"] - guards.max_stem_width) / guards.max_stem_width
    return violations
