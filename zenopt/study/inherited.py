"""Weights that the best network of a study has already: those it inherits from the supernet it was judged in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zenopt.study.evaluators import make_evaluator
from zenopt.study.evaluators.supernet import SupernetEvaluator
from zenopt.study.spec import StudySpec


def write_inherited(spec: StudySpec, architecture: Any, folder: Path, device: str = "cpu") -> Path | None:
    """Write a network with its weights from the study's supernet as ``best.pt``; ``None`` where there is no supernet.

    The statistics of batch normalisation are its own. ``zenopt evaluate`` and ``zenopt train --weights`` take the file.

    Args:
        spec:
            The study's spec.
        architecture:
            The network.
        folder:
            A bundle's folder.
        device:
            Torch device on which the statistics are computed.

    Raises:
        CheckpointError: If the supernet is missing or does not hold the network.
    """
    evaluator = make_evaluator(spec, device)
    if not isinstance(evaluator, SupernetEvaluator):
        return None
    from zenopt.train import checkpoint
    from zenopt.train.networks import NetworkSource

    judge, facts = evaluator.judge, evaluator.supernet.facts
    network = judge.network(architecture)
    top1 = judge.accuracy_of(network)
    source = NetworkSource.from_structure(
        str(architecture), spec.resolution, spec.use_se, architecture.family
    )
    content = {
        "network": source.facts(),
        "recipe": facts.recipe.model_dump(mode="json"),
        "classes": facts.classes,
        "statistics": facts.statistics,
        "seed": facts.seed,
        "model": {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()},
        "epoch": facts.recipe.epochs,
        "top1": top1,
    }
    path = folder / checkpoint.BEST
    checkpoint.save(path, content)
    return path
