"""A bundle of the network that trained best, instead of the one that scored best."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from train.recipe import Recipe
from train.verification import Verified
from zenopt.export import Bundle, versions, write_bundle
from zenopt.spec import StudySpec


def export_trained(
    spec: StudySpec,
    name: str,
    verified: Sequence[Verified],
    recipe: Recipe,
    data_name: str,
    folder: str | Path,
) -> Path:
    """Writes the first of the verified networks as a bundle, with all accuracies it was compared by.

    Args:
        spec:
            The study's spec.
        name:
            The study's name.
        verified:
            Networks with accuracies, best first.
        recipe:
            How they were trained.
        data_name:
            On what.
        folder:
            Where to write; a bundle that is there is replaced.

    Raises:
        BundleError: If the folder cannot be written.
    """
    best = verified[0]
    space = spec.build_space()
    check = spec.limits().check(space.parse(best.candidate.structure))
    bundle = Bundle(
        structure=best.candidate.structure,
        family=getattr(space, "family", "chain"),
        resolution=spec.resolution,
        num_classes=spec.num_classes,
        use_se=spec.use_se,
        costs={**check.costs.__dict__, **({"latency_ms": check.latency_ms} if check.latency_ms else {})},
        scores={
            "chosen_by": f"top-1 after {recipe.epochs} epochs on {data_name}",
            "top1": best.mean,
            "top1_seeds": list(best.top1),
            "found_by": best.candidate.label,
            "closed_form": best.candidate.facts["closed_form"],
        },
        constraints=check.violations,
        study=f"{name}-verify",
        spec=spec.model_dump(mode="json"),
        versions=versions(),
        seed=spec.seed,
        candidates=tuple(
            {
                "found_by": item.candidate.label,
                "structure": item.candidate.structure,
                "top1": list(item.top1),
                "pruned": item.pruned,
            }
            for item in verified
        ),
    )
    return write_bundle(bundle, folder, overwrite=True)
