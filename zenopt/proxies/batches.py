"""Minibatches for proxies from a data set: at random, or balanced over classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.dataloader import default_collate

from zenopt.core.errors import DataError


def draw_batch(
    source: Dataset[Any] | DataLoader[Any], batch_size: int, *, balanced: bool = False, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw one minibatch without reading the rest of the data.

    Args:
        source:
            A data set with a length whose items are ``(image, class)``, or a loader of one (its collate function is
            used, its order and batch size are not).
        batch_size:
            Number of samples, at most the length of the data set.
        balanced:
            Take equally many samples of every class; a remainder goes to the first classes drawn. The labels are read
            from ``targets`` or ``labels`` where the data set has them, else every item is.
        seed:
            Fixes the samples; the global random state is not touched.

    Returns:
        Images ``batch x ...`` and class indices ``batch``.

    Raises:
        DataError: If the data set has no length, is too small, or a class has too few samples.
    """
    collate = source.collate_fn if isinstance(source, DataLoader) else default_collate
    dataset: Any = source.dataset if isinstance(source, DataLoader) else source
    if not hasattr(dataset, "__len__"):
        raise DataError(f"{type(dataset).__name__} has no length, so that no samples can be drawn from it.")
    size = len(dataset)
    if not 1 <= batch_size <= size:
        raise DataError(f"batch_size must be from 1 to {size}, the size of the data set, got {batch_size}.")
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(size, generator=generator).tolist()
    chosen = _balance(order, _labels(dataset), batch_size) if balanced else order[:batch_size]
    images, labels = collate([dataset[index] for index in chosen])
    return images, torch.as_tensor(labels)


def _labels(dataset: Any) -> Sequence[int]:
    for name in ("targets", "labels"):
        found = getattr(dataset, name, None)
        if found is not None and len(found) == len(dataset):
            return [int(label) for label in found]
    return [int(dataset[index][1]) for index in range(len(dataset))]


def _balance(order: Sequence[int], labels: Sequence[int], batch_size: int) -> list[int]:
    members: dict[int, list[int]] = {}
    for index in order:
        members.setdefault(labels[index], []).append(index)
    share, rest = divmod(batch_size, len(members))
    chosen: list[int] = []
    for position, (label, indices) in enumerate(members.items()):
        wanted = share + (position < rest)
        if len(indices) < wanted:
            raise DataError(
                f"Class {label} has {len(indices)} samples, {wanted} are needed for a balanced batch."
            )
        chosen += indices[:wanted]
    # Mixed, so that parts of a split batch are balanced too on average.
    position_of = {index: position for position, index in enumerate(order)}
    return sorted(chosen, key=position_of.__getitem__)
