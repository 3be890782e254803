"""A Python file that builds one network and needs nothing but torch."""

from __future__ import annotations

from pathlib import Path

from zenopt.core.primitives import Conv, Node, Norm, Relu, Residual, SqueezeExcite
from zenopt.export.bundle import Bundle, write_atomically
from zenopt.nn.modules import BN_EPS
from zenopt.spaces.chain.architecture import Architecture

_TEMPLATE = '''"""A network found by zenopt; this file needs only torch.

{structure}

    network = build()
    network.load_state_dict(torch.load("best.pt", map_location="cpu", weights_only=True)["model"])
    logits = network(images)  # images: batch x 3 x {resolution} x {resolution}, normalised as in training
"""

import torch
from torch import nn

RESOLUTION = {resolution}  # pixels
NUM_CLASSES = {num_classes}
OUT_CHANNELS = {out_channels}

# One list per super-block. A layer is one of
#   ("conv", in, out, kernel, stride, groups, bias)   ("norm", channels)   ("relu",)   ("se", channels, reduced)
#   ("residual", body, projection)   an empty projection is the identity
BLOCKS = {blocks}


def norm(channels):
    return nn.BatchNorm2d(channels, eps={eps!r})


class SqueezeExcite(nn.Module):
    def __init__(self, channels, reduced):
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, reduced, 1, bias=False),
            norm(reduced),
            nn.ReLU(),
            nn.Conv2d(reduced, channels, 1, bias=False),
            norm(channels),
            nn.Sigmoid(),
        )

    def forward(self, x):
        return x * self.gate(x)


class Residual(nn.Module):
    def __init__(self, body, projection):
        super().__init__()
        self.body = sequence(body)
        self.projection = sequence(projection) if projection else None

    def forward(self, x):
        return self.body(x) + (x if self.projection is None else self.projection(x))


def layer(kind, *options):
    if kind == "conv":
        in_channels, out_channels, kernel, stride, groups, bias = options
        padding = (kernel - 1) // 2
        return nn.Conv2d(in_channels, out_channels, kernel, stride, padding, groups=groups, bias=bias)
    return {{"norm": norm, "relu": nn.ReLU, "se": SqueezeExcite, "residual": Residual}}[kind](*options)


def sequence(layers):
    return nn.Sequential(*(layer(*one) for one in layers))


class Network(nn.Module):
    def __init__(self, num_classes=NUM_CLASSES):
        super().__init__()
        self.blocks = nn.ModuleList(sequence(block) for block in BLOCKS)
        self.classifier = nn.Linear(OUT_CHANNELS, num_classes)

    def forward_features(self, x):
        for block in self.blocks:
            x = block(x)
        return x

    def forward(self, x):
        return self.classifier(self.forward_features(x).mean(dim=(2, 3)))


def build(num_classes=NUM_CLASSES):
    return Network(num_classes)


if __name__ == "__main__":
    network = build().eval()
    with torch.no_grad():
        print(tuple(network(torch.zeros(1, 3, RESOLUTION, RESOLUTION)).shape))
'''


def model_source(
    architecture: Architecture, *, resolution: int, num_classes: int, use_se: bool = False
) -> str:
    """Return the text of the file; its state_dict has the keys of :func:`zenopt.nn.build_network`'s network."""
    blocks = "[\n"
    for block in architecture.blocks:
        rows = "".join(f"        {_literal(node)!r},\n" for node in _kept(block.expand(), use_se))
        blocks += f"    [  # {block}\n{rows}    ],\n"
    blocks += "]"
    return _TEMPLATE.format(
        structure=str(architecture),
        resolution=resolution,
        num_classes=num_classes,
        out_channels=architecture.out_channels,
        blocks=blocks,
        eps=BN_EPS,
    )


def write_model_file(
    architecture: Architecture, file: Path, *, resolution: int, num_classes: int, use_se: bool = False
) -> Path:
    """Write the file of :func:`model_source`; it replaces an older one only when it is whole."""
    text = model_source(architecture, resolution=resolution, num_classes=num_classes, use_se=use_se)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, text)
    return file


def write_bundle_model(bundle: Bundle, folder: Path) -> None:
    """Write ``model.py`` into a bundle's folder, where its family is that of chains."""
    if bundle.family == "chain":
        write_model_file(
            Architecture.parse(bundle.structure),
            folder / "model.py",
            resolution=bundle.resolution,
            num_classes=bundle.num_classes,
            use_se=bundle.use_se,
        )


def _kept(nodes: tuple[Node, ...], use_se: bool) -> list[Node]:
    kept: list[Node] = []
    for node in nodes:
        if isinstance(node, Residual):
            body = tuple(inner for inner in node.body if use_se or not isinstance(inner, SqueezeExcite))
            kept.append(Residual(body, node.projection))
        elif use_se or not isinstance(node, SqueezeExcite):
            kept.append(node)
    return kept


def _literal(node: Node) -> tuple[object, ...]:
    if isinstance(node, Conv):
        return ("conv", node.in_channels, node.out_channels, node.kernel, node.stride, node.groups, node.bias)
    if isinstance(node, Norm):
        return ("norm", node.channels)
    if isinstance(node, Relu):
        return ("relu",)
    if isinstance(node, SqueezeExcite):
        return ("se", node.channels, node.reduced)
    return (
        "residual",
        [_literal(inner) for inner in node.body],
        [_literal(inner) for inner in node.projection],
    )
