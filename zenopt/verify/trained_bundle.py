"""A bundle of the network that trained best, instead of the one that scored best."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zenopt.export.bundle import Bundle, versions, write_bundle
from zenopt.nn.weights import read_torch_file
from zenopt.study.spec import StudySpec
from zenopt.train import checkpoint
from zenopt.train.recipe import Recipe
from zenopt.verify.linked import Verified


def export_trained(
    spec: StudySpec,
    name: str,
    verified: Sequence[Verified],
    recipe: Recipe,
    data_name: str,
    folder: str | Path,
    *,
    judged_on: str = "test images",
    weights: Path | None = None,
    test_top1: float | None = None,
    overwrite: bool = True,
) -> Path:
    """Writes the first of the verified networks as a bundle, with all accuracies it was compared by.

    Args:
        spec:
            The study's spec.
        name:
            Name of the linked study that holds the accuracies.
        verified:
            Networks with accuracies, best first.
        recipe:
            How they were trained.
        data_name:
            On what.
        folder:
            Where to write.
        judged_on:
            The images of the accuracies, in words.
        weights:
            ``last.pt`` of a training of the network; the bundle gets its weights as ``best.pt``.
        test_top1:
            Accuracy of these weights on the test images, in percent.
        overwrite:
            Replace a bundle that is there.

    Raises:
        BundleError: If the folder holds something else, or cannot be written.
        CheckpointError: If the weights cannot be read.
    """
    best = verified[0]
    content = None if weights is None else _judged_weights(weights, test_top1)
    space = spec.build_space()
    architecture = space.parse(best.candidate.structure)
    check = spec.limits().check(architecture)
    trained: dict[str, Any] = {} if test_top1 is None else {"test_top1": test_top1}
    bundle = Bundle(
        structure=best.candidate.structure,
        family=architecture.family,
        resolution=spec.resolution,
        num_classes=spec.num_classes,
        use_se=spec.use_se,
        costs={**check.costs.__dict__, **({"latency_ms": check.latency_ms} if check.latency_ms else {})},
        scores={
            "chosen_by": f"top-1 after {recipe.epochs} epochs on {data_name}, {judged_on}",
            "top1": best.mean,
            "top1_seeds": list(best.top1),
            "learning_rate": best.learning_rate,
            "found_by": best.candidate.label,
            "closed_form": best.candidate.facts.get("closed_form"),
            **trained,
        },
        constraints=check.violations,
        study=name,
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
    written = write_bundle(bundle, folder, overwrite=overwrite)
    if content is not None:
        checkpoint.save(written / checkpoint.BEST, content)
    return written


def _judged_weights(path: Path, top1: float | None) -> dict[str, Any]:
    """Returns the weights of a run's ``last.pt`` that are judged, as ``best.pt`` holds them."""
    saved = read_torch_file(path)
    # Where a moving average is kept, it is what was evaluated.
    model = saved["ema"]["state"] if saved.get("ema") else saved["model"]
    facts = {key: saved[key] for key in ("network", "recipe", "classes", "statistics", "seed")}
    return {**facts, "model": model, "epoch": saved["state"]["epoch"], "top1": top1}
