"""Torch modules for primitive nodes: the same description that is counted is what gets built."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import nn

from zenopt.core.errors import StructureError
from zenopt.core.primitives import (
    ZENNAS_EPS,
    Activation,
    Branches,
    Choice,
    Conv,
    GlobalPool,
    Graph,
    Identity,
    Node,
    Norm,
    Pool,
    Residual,
    Shift,
    Shuffle,
    Slice,
    SqueezeExcite,
    Zero,
)

BN_EPS = ZENNAS_EPS

FUNCTIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hardswish": nn.Hardswish,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "hardsigmoid": nn.Hardsigmoid,
}


class DropPath(nn.Module):
    """A module whose paths a training recipe may drop at random, image by image (stochastic depth)."""

    def __init__(self) -> None:
        super().__init__()
        # 0 unless a training recipe asks for it (zenopt.train.regularise sets it).
        self.drop_path = 0.0

    def dropped(self, x: torch.Tensor) -> torch.Tensor:
        """Return the map with each image's part kept with probability ``1 - drop_path``, and scaled accordingly."""
        if not self.training or self.drop_path == 0.0:
            return x
        keep = 1.0 - self.drop_path
        mask = torch.empty((len(x), 1, 1, 1), dtype=x.dtype, device=x.device).bernoulli_(keep)
        return x * (mask / keep)


class ResidualModule(DropPath):
    """Adds a (projected) input to what the body makes of it.

    Args:
        body:
            Main path.
        projection:
            Shortcut; ``None`` is the identity.
    """

    def __init__(self, body: nn.Sequential, projection: nn.Sequential | None) -> None:
        super().__init__()
        # ZenNAS registers the body before the projection; initialisation draws random numbers in this order.
        self.body = body
        self.projection = projection

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.projection is None else self.projection(x)
        return self.dropped(self.body(x)) + shortcut


class SqueezeExciteModule(nn.Module):
    """Scales channels by a gate computed from their means (see :class:`zenopt.core.primitives.SqueezeExcite`)."""

    def __init__(self, node: SqueezeExcite) -> None:
        super().__init__()
        layers = build_nodes(node.expand(), use_se=False, residual=True)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), *layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(x)


class ZeroModule(nn.Module):
    """Multiplies by zero: gradients are zeros rather than absent, and a NaN stays one."""

    def __init__(self, stride: int, out_channels: int | None = None) -> None:
        super().__init__()
        self.stride = stride
        self.out_channels = out_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        zeros = x[..., :: self.stride, :: self.stride] * 0.0
        # Another width than the input's: one map of zeros stands for all.
        return zeros if self.out_channels is None else zeros[:, :1].expand(-1, self.out_channels, -1, -1)


class ShuffleModule(nn.Module):
    """Regroups channels (see :class:`zenopt.core.primitives.Shuffle`)."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(1, (self.groups, -1)).transpose(1, 2).flatten(1, 2)


class SliceModule(nn.Module):
    """Takes a range of channels."""

    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self.start, self.stop = start, stop

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, self.start : self.stop]


class ShiftModule(nn.Module):
    """Moves the map by one pixel up and to the left; zeros come in from below and from the right."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]


class BranchesModule(nn.Module):
    """Sums or concatenates several paths from one input."""

    def __init__(self, paths: dict[str, nn.Module], join: str) -> None:
        super().__init__()
        self.join = join
        for name, path in paths.items():
            self.add_module(name, path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = [path(x) for path in self.children()]
        return torch.cat(parts, dim=1) if self.join == "concat" else _total(parts)


class GraphModule(DropPath):
    """A cell (see :class:`zenopt.core.primitives.Graph`); drop-path drops edges that compute something."""

    def __init__(self, graph: Graph, edges: Iterable[nn.Module]) -> None:
        super().__init__()
        self.edges = nn.ModuleList(edges)
        self.inputs = graph.inputs
        self.outputs = graph.outputs
        self.route = [(edge.source, edge.target) for edge in graph.edges]
        # A skipped edge is the cell's own shortcut: without it a dropped cell would give zeros.
        self.can_drop = [
            edge.drops and any(not isinstance(node, Identity | Zero) for node in edge.nodes)
            for edge in graph.edges
        ]

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        places: dict[int, list[torch.Tensor]] = {}
        values = dict(enumerate(inputs * self.inputs if len(inputs) < self.inputs else inputs))
        for (source, target), edge, can_drop in zip(self.route, self.edges, self.can_drop, strict=True):
            if source not in values:
                values[source] = _total(places.pop(source))
            term = edge(values[source])
            places.setdefault(target, []).append(self.dropped(term) if can_drop else term)
        values.update((place, _total(terms)) for place, terms in places.items())
        found = [values[place] for place in self.outputs]
        return found[0] if len(found) == 1 else torch.cat(found, dim=1)


class OneInput(nn.Module):
    """A module of several inputs as one of its last; the others are zeros.

    Args:
        module:
            What takes several inputs.
        shapes:
            Shapes of the others, without the batch.
    """

    def __init__(self, module: nn.Module, shapes: Iterable[tuple[int, ...]]) -> None:
        super().__init__()
        self.module = module
        self.shapes = tuple(shapes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.module(*(x.new_zeros((len(x), *shape)) for shape in self.shapes), x)


#: Builds what stands for an open choice: called with it and the module of each of its alternatives.
OpenChoice = Callable[[Choice, list[nn.Module]], nn.Module]


def build_nodes(
    nodes: Iterable[Node], *, use_se: bool, residual: bool, open_choice: OpenChoice | None = None
) -> nn.Sequential:
    """Build modules for primitive nodes.

    Args:
        nodes:
            What a unit's ``expand`` returned.
        use_se:
            Whether optional squeeze-excite nodes are built or left out.
        residual:
            Whether residual links are built; if not, the body stays in sequence and the projection disappears.
        open_choice:
            Builds what stands for a choice; without it choices are refused.

    Raises:
        StructureError: If a choice is open or a node's type is unknown.
    """
    build = partial(build_nodes, use_se=use_se, residual=residual, open_choice=open_choice)
    modules: list[nn.Module] = []
    for node in nodes:
        if isinstance(node, SqueezeExcite):
            if use_se or not node.optional:
                modules.append(SqueezeExciteModule(node))
        elif isinstance(node, Residual):
            body = build(node.body)
            if residual:
                projection = build(node.projection)
                modules.append(ResidualModule(body, projection if len(projection) else None))
            else:
                modules.extend(body)
        elif isinstance(node, Branches):
            paths = {name: build(path) for name, path in node.named()}
            modules.append(BranchesModule(dict(paths), node.join))
        elif isinstance(node, Graph):
            edges = [build(edge.nodes) for edge in node.edges]
            modules.append(GraphModule(node, edges))
        elif isinstance(node, Choice) and open_choice is not None:
            modules.append(open_choice(node, [build(part) for _, part in node.alternatives]))
        else:
            modules.append(_build_simple(node))
    return nn.Sequential(*modules)


def build_unit(
    nodes: tuple[Node, ...], *, use_se: bool, residual: bool, open_choice: OpenChoice | None = None
) -> nn.Module:
    """Build the module of a unit: a sequence, or the cell itself where it is nothing else."""
    built = build_nodes(nodes, use_se=use_se, residual=residual, open_choice=open_choice)
    return built[0] if len(nodes) == 1 and isinstance(nodes[0], Graph | Branches) else built


def _build_simple(node: Node) -> nn.Module:
    if isinstance(node, Conv):
        return nn.Conv2d(
            node.in_channels,
            node.out_channels,
            node.kernel,
            stride=node.stride,
            padding=node.dilation * (node.kernel - 1) // 2,
            dilation=node.dilation,
            groups=node.groups,
            bias=node.bias,
        )
    if isinstance(node, Norm):
        norm = nn.BatchNorm2d(
            node.channels, eps=node.eps, affine=node.affine, track_running_stats=node.tracks
        )
        if not node.removable:
            norm.is_removable = False  # type: ignore[assignment]
        return norm
    if isinstance(node, Activation):
        return FUNCTIONS[node.function]()
    if isinstance(node, Pool):
        if node.kind == "max":
            return nn.MaxPool2d(node.kernel, node.stride, node.padding)
        return nn.AvgPool2d(node.kernel, node.stride, node.padding, count_include_pad=False)
    if isinstance(node, GlobalPool):
        return nn.AdaptiveAvgPool2d(1)
    if isinstance(node, Identity):
        return nn.Identity()
    if isinstance(node, Zero):
        return ZeroModule(node.stride, node.out_channels)
    if isinstance(node, Shuffle):
        return ShuffleModule(node.groups)
    if isinstance(node, Slice):
        return SliceModule(node.start, node.stop)
    if isinstance(node, Shift):
        return ShiftModule()
    if isinstance(node, Choice):
        raise StructureError(f"The choice {node.name} is open; an architecture must pick one.")
    raise StructureError(f"Cannot build a node of type {type(node).__name__}.")


def _total(terms: list[torch.Tensor]) -> torch.Tensor:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
