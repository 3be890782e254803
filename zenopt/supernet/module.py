"""The supernet as a network that ``zenopt.train`` trains: every batch takes other paths."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from zenopt.core.errors import CheckpointError, SpecError
from zenopt.core.seeds import derive_rng
from zenopt.core.text import shortened_path
from zenopt.core.words import plural
from zenopt.supernet.covering import covering, extreme
from zenopt.supernet.importance import groups_of, resorted
from zenopt.supernet.kernels import Kernels, KernelSizes
from zenopt.supernet.layers import Shapes, closing_norms, shapes_of
from zenopt.supernet.sampling import PathSampler
from zenopt.supernet.schedule import Timetable
from zenopt.supernet.shared import SharedWeights, new_layers, union
from zenopt.supernet.sharing import Extent, Leaders, curriculum, part_ways, widened
from zenopt.supernet.splits import WHOLE, Split
from zenopt.train.features import reduce_images

if TYPE_CHECKING:
    from zenopt.train.optim import MovingAverage

#: Parameters of the largest supernet that is built: 2 GiB of weights, and as much again for an optimiser.
MAX_PARAMS = 500_000_000


class Supernet(nn.Module):
    """All layers of a space at their largest, and which path comes next.

    Args:
        sampler:
            Draws paths of its space.
        num_classes:
            Outputs of the classifier.
        use_se:
            Whether optional squeeze-excite gates are built.
        kernels:
            Whether smaller kernels are the centres of larger ones, or centres transformed by learned matrices.
        sorts:
            Whether channels will be sorted by importance.
        teaches:
            Whether the largest network will be kept, as it is at a time, to teach others.
        split:
            What splits it into parts that share nothing.
        shares:
            Name of each phase of the training with what shares weights in it; nothing where none does.

    Attributes:
        batches: How many batches were trained on; saved with the weights, so that a resumed run takes the paths of an
            uninterrupted one.
        teacher: A copy of the layers as they were when the largest network became the teacher.
        parts: What stands before the names of the layers of each part; one empty text where it is not split.
        left_out: Tensors of the initial weights that no network of this space has.
        closing_norms: The layers that end bodies of residuals; with weights of 0, the bodies add nothing.
        timetable: Who draws the paths of which batch, where that is not the sampler alone.
        rank, processes: Which of the processes that train it this one is; each takes paths of its own.

    Raises:
        SpecError: If the space's bounds are so wide that the supernet would be too large, or kernels are to be
            transformed, channels sorted, or weights shared, where there is only one of them.
    """

    batches: torch.Tensor
    phase: torch.Tensor

    def __init__(
        self,
        sampler: PathSampler,
        num_classes: int,
        use_se: bool = False,
        kernels: Kernels = "centre",
        sorts: bool = False,
        teaches: bool = False,
        split: Split = WHOLE,
        shares: Sequence[tuple[str, Sequence[Extent]]] = (),
    ) -> None:
        super().__init__()
        self.sampler = sampler
        self.timetable = Timetable((), (sampler,))
        self.rank, self.processes = 0, 1
        self.left_out: tuple[str, ...] = ()
        self.num_classes = num_classes
        self.use_se = use_se
        if sorts and split.names:
            raise SpecError("A schedule that sorts channels is for a supernet that is not split.")
        self.split = split
        parts: dict[str, Shapes] = {}
        sizes = KernelSizes()
        closing: set[str] = set()
        self.params = 0
        for own in split.spaces(sampler.space):
            for found in covering(own):
                prefix = split.prefix(found)
                named = {
                    f"{prefix}{name}": shape for name, shape in shapes_of(found, num_classes, use_se).items()
                }
                sizes.add(named)
                before = parts.get(prefix, {})
                parts[prefix] = union((before, named))
                closing |= {f"{prefix}{name}" for name in closing_norms(found, use_se)}
                self.params += _count(parts[prefix]) - _count(before)
                if self.params > MAX_PARAMS:
                    # Said of the first ones already: to look at all of a wide space takes minutes.
                    raise SpecError(
                        f"The supernet of this space would have more than {MAX_PARAMS:,} parameters; narrow the space, "
                        "e.g. --set space.bounds=narrow."
                    )
        self.parts = tuple(parts)
        shapes = {name: shape for own in parts.values() for name, shape in own.items()}
        self._leaders = curriculum(shapes, shares, split)
        if self._leaders:
            shapes = widened(shapes, self._leaders[0])
            self.params = _count(shapes)
            sizes.share(self._leaders[0])
        layers = new_layers(shapes)
        if kernels == "transformed":
            matrices = sizes.add_matrices(layers)
            if not matrices:
                raise SpecError(
                    "Kernels 'transformed' need layers whose kernels have several sizes; this space has none. "
                    "Use centre."
                )
            self.params += matrices
        self._kernel_sizes = sizes
        self.layers = nn.ModuleDict(layers)
        # Parameters that learn nothing: they are saved, and processes do not exchange them as they do buffers.
        self.teacher = copy.deepcopy(self.layers).requires_grad_(False) if teaches else None
        self.closing_norms = [self.layers[name] for name in sorted(closing)]
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        if self._leaders:
            self.register_buffer("phase", torch.zeros((), dtype=torch.int64))
        self._judged = 0
        self._groups = list(groups_of(sampler.space, use_se)) if sorts else []
        if sorts and not self._groups:
            raise SpecError(
                "A schedule that sorts channels needs blocks of several inner widths; this space has none."
            )
        for index, group in enumerate(self._groups):
            self.register_buffer(f"order{index}", torch.arange(shapes[f"{group.made}.weight"][0]))

    @property
    def orders(self) -> dict[tuple[str, int], torch.Tensor]:
        """Tensor and dimension -> the order in which its channels are taken."""
        return {
            part: self.get_buffer(f"order{index}")
            for index, group in enumerate(self._groups)
            for part in group.parts
        }

    @property
    def leaders(self) -> Leaders:
        """Layer -> the one whose weights it has now."""
        return self._leaders[int(self.phase)] if self._leaders else {name: name for name in self.layers}

    def arranged(self, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return shared tensors with their channels in the order in which they are taken, copies where layers share."""
        own: dict[str, dict[str, torch.Tensor]] = {}
        for name, value in tensors.items():
            layer, _, tensor = name.rpartition(".")
            own.setdefault(layer, {})[tensor] = value
        found = {
            f"{name}.{tensor}": value
            for name, leader in self.leaders.items()
            for tensor, value in own[leader].items()
        }
        for (name, dimension), order in self.orders.items():
            found[name] = found[name].index_select(dimension, order.to(found[name].device))
        return found

    def sort(self, space: Any) -> None:
        """Sort channels by importance; what the narrowest blocks of a space take stays ahead."""
        ahead = {group.made: size for group, size in groups_of(space, self.use_se).items()}
        for index, group in enumerate(self._groups):
            order = self.get_buffer(f"order{index}")
            taken = self.get_parameter(f"layers.{group.taken}.weight")
            order.copy_(resorted(order, taken, ahead.get(group.made, len(order))))

    @torch.no_grad()
    def begin_with(self, weights: SharedWeights, folder: Path) -> None:
        """Take over the weights of another supernet, or what this one needs of them; parts those of a whole one.

        Args:
            weights:
                Its weights.
            folder:
                Where it was read, for messages.

        Raises:
            CheckpointError: If it does not hold all that this one has, tells other classes apart, or holds what this
                one would have to forget: its networks would compute something else.
        """
        where = f"The supernet in {shortened_path(folder)}"
        if weights.num_classes != self.num_classes:
            raise CheckpointError(
                f"{where} has {plural(weights.num_classes, 'class')}, this one has {self.num_classes}."
            )
        if weights.use_se and not self.use_se:
            raise CheckpointError(f"{where} has squeeze-excite gates, this one has none; set use_se=true.")
        taken: set[str] = set()
        for layer, module in self.layers.items():
            whole = self.split.whole(layer)
            for tensor, own in module.named_parameters():
                shape = tuple(own.shape)
                theirs, found = layer, weights.part(layer, tensor, shape)
                if found is None:
                    theirs, found = whole, weights.part(whole, tensor, shape)
                if found is not None:
                    own.copy_(found)
                    taken.add(f"{theirs}.{tensor}")
                elif tensor in ("weight", "bias"):  # a matrix of kernels that is new makes what there was
                    raise CheckpointError(
                        f"{where} is of another space, or has other parts: it has no {whole}.{tensor} of shape {shape}."
                    )
            for size in self._kernel_sizes.smaller(layer):
                matrix = f"kernel{size}"
                lost = next(
                    (f"{own}.{matrix}" for own in (layer, whole) if f"{own}.{matrix}" in weights.tensors),
                    None,
                )
                if lost is not None and matrix not in dict(module.named_parameters()):
                    raise CheckpointError(
                        f"{where} makes smaller kernels by learned matrices, e.g. {lost}, which this one has not; use "
                        "--kernels transformed."
                    )
        self._check_leaders(where)
        # Matrices that are not taken over either made the smaller kernels, or nothing here needs them.
        made = {f"{name.rpartition('.')[0]}.kernel" for name in taken}
        self.left_out = tuple(
            name for name in weights.tensors if name not in taken and name.rstrip("0123456789") not in made
        )

    def _check_leaders(self, where: str) -> None:
        """Find out whether layers that share at first have the weights of their leaders.

        Raises:
            CheckpointError: If one has others: they would be lost when it parts, as a copy of its leader.
        """
        for layer, leader in self.leaders.items():
            theirs = dict(self.layers[leader].named_parameters())
            if any(not torch.equal(own, theirs[name]) for name, own in self.layers[layer].named_parameters()):
                raise CheckpointError(
                    f"{where} has weights of their own for {layer} and {leader}, which the schedule lets share; name "
                    "one whose phases share nothing, or none."
                )

    def keep_teacher(self) -> None:
        """Let the networks as they are now be those that teach."""
        assert self.teacher is not None
        kept = _tensors(self.teacher)
        with torch.no_grad():
            for name, value in self.arranged(_tensors(self.layers)).items():
                kept[name].copy_(value)

    def taught(self, batch: int, images: torch.Tensor) -> torch.Tensor | None:
        """Return the probabilities of the classes that a teacher gives; ``None`` while there is none."""
        first = max((own for own in self.timetable.teachers if own <= batch), default=None)
        if first is None or self.teacher is None:
            return None
        space = self.timetable.teachers[first]
        largest = extreme(space, derive_rng(self.sampler.seed, first, "teacher"), largest=True)
        with torch.no_grad():
            weights = SharedWeights(_tensors(self.teacher), self.num_classes, self.use_se, split=self.split)
            # Not in training: the statistics are the batch's all the same, and nothing is dropped.
            return weights(largest, images, training=False).softmax(1)

    @property
    def shared(self) -> SharedWeights:
        """The weights as they are now; they learn through it."""
        tensors = _tensors(self.layers, self.leaders)
        return SharedWeights(tensors, self.num_classes, self.use_se, self.orders, self.split)

    def before_step(self, optimizer: torch.optim.Optimizer, average: MovingAverage | None) -> None:
        """Let layers part that share no longer; the training calls it before every step."""
        phase = self.timetable.phase(int(self.batches))
        if not self._leaders or phase == int(self.phase):
            return
        before = self.leaders
        self.phase.fill_(phase)
        part_ways(self.layers, before, self.leaders, optimizer, average, "layers.")

    def train(self, mode: bool = True) -> Supernet:
        """Set the mode; what is judged afterwards is judged on the same paths every time."""
        self._judged = 0
        super().train(mode)
        return self

    def training_loss(self, images: torch.Tensor, targets: torch.Tensor, smoothing: float) -> torch.Tensor:
        """Return the loss of the batch's paths.

        The mean over a sandwich, of which the first learns from the labels and the others from it; the sum over drawn
        paths, which learn from the labels, and as much from a teacher where there is one. A path counts as often as it
        was drawn, but for the largest of a sandwich, which counts once: published sandwiches add the gradients of all
        up, and those of what learns from itself are zero.

        Args:
            images:
                A ``batch x 3 x height x width`` tensor.
            targets:
                ``batch`` class numbers, or ``batch x classes`` probabilities.
            smoothing:
                Of the labels.
        """
        batch = int(self.batches)
        if batch in self.timetable.teachers:
            self.keep_teacher()
        if batch in self.timetable.sorts:
            self.sort(self.timetable.sorts[batch])
        images = reduce_images(images, self.timetable.side(batch, images.shape[-1]))
        sampler = self.timetable.at(batch)
        # A path that is drawn twice is computed once, and counts twice.
        paths = Counter(sampler.paths(self._turn(batch)))
        self.batches += 1
        shared = self.shared
        if sampler.sampling != "sandwich":
            known = self.taught(batch, images)
            losses = []
            for path, count in paths.items():
                logits = shared(path, images)
                losses.append(count * F.cross_entropy(logits, targets, label_smoothing=smoothing))
                if known is not None:
                    losses.append(count * F.cross_entropy(logits, known))
            return torch.stack(losses).sum()
        first = next(iter(paths))
        # While a schedule leaves little open, the largest may be the smallest, too: it has nothing to teach itself.
        paths[first] = 1
        logits = shared(first, images)
        losses = [F.cross_entropy(logits, targets, label_smoothing=smoothing)]
        taught = logits.detach().softmax(1)
        for path, count in paths.items():
            if path != first:
                losses.append(count * F.cross_entropy(shared(path, images), taught))
        return torch.stack(losses).sum() / paths.total()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits of one drawn path: of each batch another, the same ones after every epoch."""
        sampler = self.timetable.at(max(0, int(self.batches) - 1))
        path: Any = sampler.draw(self._turn(self._judged), "judged")
        self._judged += 1
        return self.shared(path, images, training=self.training)

    def _turn(self, batch: int) -> int:
        """Return whose turn it is: processes share the turns, as the parts of accumulated batches do."""
        return batch * self.processes + self.rank


def _tensors(layers: nn.ModuleDict, leaders: Leaders | None = None) -> dict[str, torch.Tensor]:
    """Return the tensors of layers by their names: their own, or those of their leaders."""
    return {
        f"{name}.{tensor}": value
        for name, leader in (leaders or {name: name for name in layers}).items()
        for tensor, value in layers[leader].named_parameters()
    }


def _count(shapes: Shapes) -> int:
    return sum(map(prod, shapes.values()))
