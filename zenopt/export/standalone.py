"""A Python file that builds one network and needs nothing but torch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from zenopt.core.description import describe
from zenopt.core.errors import StructureError
from zenopt.core.primitives import (
    Activation,
    Branches,
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
from zenopt.export.bundle import Bundle, write_atomically
from zenopt.nn.modules import FUNCTIONS
from zenopt.spaces.registry import parse_architecture

_HEAD = '''"""A network found by zenopt; this file needs only torch.

{structure}

    network = build()
    network.load_state_dict(torch.load("best.pt", map_location="cpu", weights_only=True)["model"])
    logits = network(images)  # images: batch x 3 x {resolution} x {resolution}, normalised as in training
"""

import torch
from torch import nn

RESOLUTION = {resolution}  # pixels
NUM_CLASSES = {num_classes}
FEATURES = {features}  # channels that enter the classifier

# (name, inputs, layers) of every unit; inputs are counted back from the unit. A layer is one of
#   ("conv", in, out, kernel, stride, groups, bias, dilation)   ("norm", channels, eps, affine, tracks)
#   ("act", name)   ("pool", kind, kernel, stride, padding)   ("mean",)   ("identity",)   ("zero", stride, channels)
#   ("shuffle", groups)   ("slice", start, stop)   ("shift",)   ("gate", layers)
#   ("residual", body, projection)   an empty projection is the identity
#   ("branches", join, {{name: layers}})   ("graph", inputs, [(from, to, layers)], outputs)
UNITS = {units}
NECK = {neck}  # between pooling and classifier
'''

_CODE = """

def total(terms):
    result = terms[0]
    for term in terms[1:]:
        result = result + term
    return result


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)
{classes}

def layer(kind, *options):
    if kind == "conv":
        ins, outs, kernel, stride, groups, bias, dilation = options
        padding = dilation * (kernel - 1) // 2
        return nn.Conv2d(ins, outs, kernel, stride, padding, dilation, groups, bias)
    if kind == "norm":
        channels, eps, affine, tracks = options
        return nn.BatchNorm2d(channels, eps, affine=affine, track_running_stats=tracks)
{cases}    return getattr(nn, options[0])()  # act


def sequence(layers):
    return nn.Sequential(*(layer(*one) for one in layers))


def unit(layers):
    one = len(layers) == 1 and layers[0][0] in ("branches", "graph")
    return layer(*layers[0]) if one else sequence(layers)


class Network(nn.Module):
    def __init__(self, num_classes=NUM_CLASSES):
        super().__init__()
        for name, _, layers in UNITS:
            holder, dot, _ = name.partition(".")
            if dot and not hasattr(self, holder):
                self.add_module(holder, nn.ModuleList())
            getattr(self, holder).append(unit(layers)) if dot else self.add_module(name, unit(layers))
        if NECK:
            self.neck = sequence(NECK)
        self.classifier = nn.Linear(FEATURES, num_classes)

    def forward_features(self, x):
        maps = []
        for name, inputs, _ in UNITS:
            given = [maps[max(0, len(maps) + back)] for back in inputs] if maps else [x] * len(inputs)
            maps.append(self.get_submodule(name)(*given))
        return maps[-1]

    def forward(self, x):
        x = self.forward_features(x).mean(dim=(2, 3))
        if NECK:
            x = self.neck(x[:, :, None, None]).flatten(1)
        return self.classifier(x)


def build(num_classes=NUM_CLASSES):
    return Network(num_classes)


if __name__ == "__main__":
    network = build().eval()
    with torch.no_grad():
        print(tuple(network(torch.zeros(1, 3, RESOLUTION, RESOLUTION)).shape))
"""

#: Classes a file needs only if its network has such layers.
_CLASSES = {
    "gate": """

class Gate(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), *sequence(layers))

    def forward(self, x):
        return x * self.gate(x)
""",
    "residual": """

class Residual(nn.Module):
    def __init__(self, body, projection):
        super().__init__()
        self.body = sequence(body)
        self.projection = sequence(projection) if projection else None

    def forward(self, x):
        return self.body(x) + (x if self.projection is None else self.projection(x))
""",
    "branches": """

class Branches(nn.Module):
    def __init__(self, join, paths):
        super().__init__()
        self.join = join
        for name, layers in paths.items():
            self.add_module(name, sequence(layers))

    def forward(self, x):
        parts = [path(x) for path in self.children()]
        return torch.cat(parts, dim=1) if self.join == "concat" else total(parts)
""",
    "graph": """

class Graph(nn.Module):
    def __init__(self, inputs, edges, outputs):
        super().__init__()
        self.edges = nn.ModuleList(sequence(layers) for _, _, layers in edges)
        self.route = [(source, target) for source, target, _ in edges]
        self.outputs = outputs

    def forward(self, *inputs):
        values, terms = dict(enumerate(inputs)), {}
        for (source, target), edge in zip(self.route, self.edges):
            if source not in values:
                values[source] = total(terms.pop(source))
            terms.setdefault(target, []).append(edge(values[source]))
        values.update((place, total(found)) for place, found in terms.items())
        found = [values[place] for place in self.outputs]
        return found[0] if len(found) == 1 else torch.cat(found, dim=1)
""",
}

#: What ``layer`` does for each kind but convolutions, norms and activations.
_CASES = {
    "gate": "return Gate(*options)",
    "residual": "return Residual(*options)",
    "branches": "return Branches(*options)",
    "graph": "return Graph(*options)",
    "mean": "return nn.AdaptiveAvgPool2d(1)",
    "identity": "return nn.Identity()",
    "pool": """name, kernel, stride, padding = options
        if name == "max":
            return nn.MaxPool2d(kernel, stride, padding)
        return nn.AvgPool2d(kernel, stride, padding, count_include_pad=False)""",
    "zero": """stride, width = options
        return Function(lambda x: x[:, :1, ::stride, ::stride].expand(-1, width, -1, -1) * 0.0)""",
    "shuffle": "return Function(lambda x: x.unflatten(1, (options[0], -1)).transpose(1, 2).flatten(1, 2))",
    "slice": "return Function(lambda x: x[:, options[0] : options[1]])",
    "shift": "return Function(lambda x: nn.functional.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:])",
}


def model_source(architecture: Any, *, resolution: int, num_classes: int, use_se: bool = False) -> str:
    """Return the text of the file; its state_dict has the keys of :func:`zenopt.nn.build_network`'s network."""
    description = describe(architecture)
    used: set[str] = set()
    units = "[\n"
    for name, unit in zip(description.names, description.units, strict=True):
        rows = "".join(f"        {row!r},\n" for row in _literals(unit.expand(), use_se, used))
        units += f"    ({name!r}, {unit.inputs!r}, [  # {unit}\n{rows}    ]),\n"
    units += "]"
    head = _HEAD.format(
        structure=str(architecture),
        resolution=resolution,
        num_classes=num_classes,
        features=description.features,
        units=units,
        neck=_literals(description.neck, use_se, used),
    )
    classes = "".join(text for kind, text in _CLASSES.items() if kind in used)
    cases = "".join(
        f'    if kind == "{kind}":\n        {text}\n' for kind, text in _CASES.items() if kind in used
    )
    return head + _CODE.replace("{classes}", classes).replace("{cases}", cases)


def write_model_file(
    architecture: Any, file: Path, *, resolution: int, num_classes: int, use_se: bool = False
) -> Path:
    """Write the file of :func:`model_source`; it replaces an older one only when it is whole."""
    text = model_source(architecture, resolution=resolution, num_classes=num_classes, use_se=use_se)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, text)
    return file


def write_bundle_model(bundle: Bundle, folder: Path) -> Path:
    """Write ``model.py`` into a bundle's folder."""
    return write_model_file(
        parse_architecture(bundle.family, bundle.structure),
        folder / "model.py",
        resolution=bundle.resolution,
        num_classes=bundle.num_classes,
        use_se=bundle.use_se,
    )


def _literals(nodes: Iterable[Node], use_se: bool, used: set[str]) -> list[tuple[Any, ...]]:
    """Return nodes as tuples of plain values, and note their kinds."""
    rows = [
        _literal(node, use_se, used)
        for node in nodes
        if use_se or not (isinstance(node, SqueezeExcite) and node.optional)
    ]
    used.update(row[0] for row in rows)
    return rows


def _literal(node: Node, use_se: bool, used: set[str]) -> tuple[Any, ...]:
    def inner(part: tuple[Node, ...]) -> list[tuple[Any, ...]]:
        return _literals(part, use_se, used)

    if isinstance(node, Conv):
        shape = (node.in_channels, node.out_channels, node.kernel, node.stride, node.groups)
        return ("conv", *shape, node.bias, node.dilation)
    if isinstance(node, Norm):
        return ("norm", node.channels, node.eps, node.affine, node.tracks)
    if isinstance(node, Activation):
        return ("act", FUNCTIONS[node.function].__name__)
    if isinstance(node, SqueezeExcite):
        return ("gate", inner(node.expand()))
    if isinstance(node, Pool):
        return ("pool", node.kind, node.kernel, node.stride, node.padding)
    if isinstance(node, GlobalPool):
        return ("mean",)
    if isinstance(node, Identity):
        return ("identity",)
    if isinstance(node, Zero):
        return ("zero", node.stride, node.width)
    if isinstance(node, Shuffle):
        return ("shuffle", node.groups)
    if isinstance(node, Slice):
        return ("slice", node.start, node.stop)
    if isinstance(node, Shift):
        return ("shift",)
    if isinstance(node, Residual):
        return ("residual", inner(node.body), inner(node.projection))
    if isinstance(node, Branches):
        return ("branches", node.join, {name: inner(path) for name, path in node.named()})
    if isinstance(node, Graph):
        edges = [(edge.source, edge.target, inner(edge.nodes)) for edge in node.edges]
        return ("graph", node.inputs, edges, node.outputs)
    raise StructureError(f"Cannot write a node of type {type(node).__name__}.")
