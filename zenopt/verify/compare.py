"""``zenopt verify``: a study's best networks trained beside baselines of the same budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zenopt.core.words import plural
from zenopt.study.spec import StudySpec
from zenopt.verify.linked import (
    Candidate,
    Place,
    TrainingStudy,
    Verified,
    best_rates,
    first_of_each,
    training_spec,
    verified,
)

SUFFIX = "verify"
RATES_SUFFIX = "verify-rates"


def compare(
    name: str,
    spec: StudySpec,
    candidates: Sequence[Candidate],
    place: Place,
    *,
    data: str,
    recipe: str = "basic",
    overrides: Sequence[str] = (),
    epochs: int = 6,
    seeds: int = 1,
    rates: Sequence[float] = (),
    pruner: str = "none",
    on_step: Callable[[str], None] = lambda line: None,
) -> list[Verified]:
    """Train networks and judge them on the test images; every training is a trial of the linked study ``NAME-verify``.

    Args:
        name:
            Name of the study.
        spec:
            Its spec.
        candidates:
            The networks.
        place:
            Where the trainings run.
        data:
            As ``zenopt train --data`` takes it.
        recipe, overrides, epochs:
            How to train.
        seeds:
            Trainings of each network.
        rates:
            Learning rates to choose from, for each label, on training images held back (study ``NAME-verify-rates``).
        pruner:
            What ends trainings early; pruned networks take no part in rank agreement.
        on_step:
            Told in words what comes next.

    Returns:
        The networks with their accuracies, best mean first.

    Raises:
        ZenoptError: If data, recipe or a rate is wrong, or a training could not be done.
    """
    training = {
        "data": data,
        "recipe": recipe,
        "overrides": list(overrides),
        "epochs": epochs,
        "pruner": {"name": pruner},
        "rates": [],
    }
    chosen = {candidate.label: rate for candidate in candidates for rate in rates[:1]}
    if len(rates) > 1:
        first = first_of_each(candidates)
        on_step(f"Choosing among {len(rates)} learning rates for {plural(len(first), 'kind')} of network.")
        own = training_spec(spec, **{**training, "held_back": 0.1})
        chosen.update(
            best_rates(TrainingStudy(own, place, f"{name}-{RATES_SUFFIX}", of=name).train(first, rates=rates))
        )
    linked = training_spec(spec, **{**training, "held_back": 0.0})
    networks = len({item.structure for item in candidates})
    on_step(f"Training {plural(networks, 'network')} for {plural(epochs, 'epoch')}.")
    return verified(
        TrainingStudy(linked, place, f"{name}-{SUFFIX}", of=name).train(
            candidates, seeds=range(seeds), rates=chosen
        )
    )
