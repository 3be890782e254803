"""The published ZenNets by name.

The original weight links are dead, so weights come from a local file: a ZenNAS checkpoint or one of ours. A folder of
such files may be named once and for all in the environment variable ``ZENOPT_WEIGHTS``.

Example:
    .. code-block:: python

        zenopt.spaces.chain.zoo.list_models("zennet_imagenet1k_latency*")
        network = zenopt.spaces.chain.zoo.create("zennet_imagenet1k_latency01ms", pretrained="latency01ms.pth")
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from zenopt.core.errors import UnknownNameError, ZenoptError
from zenopt.core.text import QUOTED, quoted

if TYPE_CHECKING:
    from torch import nn


class WeightsNotFoundError(ZenoptError):
    """The weights of a published network are not where they were looked for."""


@dataclass(frozen=True)
class ModelCard:
    """What a published network is.

    Attributes:
        name: ZenNAS's name, without its ``_res224`` or ``_res32``, which :func:`card` accepts too.
        structure: Structure string.
        num_classes: Outputs of the published classifier.
        resolution: Side of the input in pixels.
        crop_size: Side of the centre crop it was evaluated on, reduced to the resolution by bilinear interpolation.
        use_se: Whether it was trained with squeeze-excite gates.
        statistics: Channel statistics of its training, a key of :data:`zenopt.train.data.STATISTICS`.
    """

    name: str
    structure: str
    num_classes: int
    resolution: int
    crop_size: int
    use_se: bool = False
    statistics: Literal["imagenet", "zennas-cifar"] = "imagenet"


_CIFAR = {
    "model_size05M": (
        "SuperConvK3BNRELU(3,64,1,1)SuperResK1K5K1(64,168,1,16,3)SuperResK1K3K1(168,80,2,32,4)"
        "SuperResK1K5K1(80,112,2,16,3)SuperResK1K5K1(112,144,1,24,3)SuperResK1K3K1(144,32,2,40,1)"
        "SuperConvK1BNRELU(32,512,1,1)"
    ),
    "model_size1M": (
        "SuperConvK3BNRELU(3,88,1,1)SuperResK1K7K1(88,120,1,16,1)SuperResK1K7K1(120,192,2,16,3)"
        "SuperResK1K5K1(192,224,1,24,4)SuperResK1K5K1(224,96,2,24,2)SuperResK1K3K1(96,168,2,40,3)"
        "SuperResK1K3K1(168,112,1,48,3)SuperConvK1BNRELU(112,512,1,1)"
    ),
    "model_size2M": (
        "SuperConvK3BNRELU(3,32,1,1)SuperResK1K5K1(32,120,1,40,1)SuperResK1K5K1(120,176,2,32,3)"
        "SuperResK1K7K1(176,272,1,24,3)SuperResK1K3K1(272,176,1,56,3)"
        "SuperResK1K3K1(176,176,1,64,4)SuperResK1K5K1(176,216,2,40,2)"
        "SuperResK1K3K1(216,72,2,56,2)SuperConvK1BNRELU(72,512,1,1)"
    ),
}
_IMAGENET = {
    "flops400M_SE": (
        "SuperConvK3BNRELU(3,16,2,1)SuperResIDWE1K7(16,40,2,40,1)SuperResIDWE1K7(40,64,2,64,1)"
        "SuperResIDWE4K7(64,96,2,96,5)SuperResIDWE2K7(96,224,2,224,5)"
        "SuperConvK1BNRELU(224,2048,1,1)"
    ),
    "flops600M_SE": (
        "SuperConvK3BNRELU(3,24,2,1)SuperResIDWE1K7(24,48,2,48,1)SuperResIDWE2K7(48,72,2,72,1)"
        "SuperResIDWE6K7(72,96,2,88,5)SuperResIDWE4K7(96,192,2,168,5)"
        "SuperConvK1BNRELU(192,2048,1,1)"
    ),
    "flops900M_SE": (
        "SuperConvK3BNRELU(3,16,2,1)SuperResIDWE1K7(16,48,2,72,1)SuperResIDWE2K7(48,72,2,64,3)"
        "SuperResIDWE2K7(72,152,2,144,3)SuperResIDWE2K7(152,360,2,352,4)"
        "SuperResIDWE4K7(360,288,1,264,3)SuperConvK1BNRELU(288,2048,1,1)"
    ),
    "latency01ms": (
        "SuperConvK3BNRELU(3,24,2,1)SuperResK3K3(24,32,2,64,1)SuperResK5K5(32,64,2,32,1)"
        "SuperResK5K5(64,168,2,96,1)SuperResK1K5K1(168,320,1,120,1)"
        "SuperResK1K5K1(320,640,2,304,3)SuperResK1K5K1(640,512,1,384,1)"
        "SuperConvK1BNRELU(512,2384,1,1)"
    ),
    "latency02ms": (
        "SuperConvK3BNRELU(3,24,2,1)SuperResK1K5K1(24,32,2,32,1)SuperResK1K7K1(32,104,2,64,1)"
        "SuperResK1K5K1(104,512,2,160,1)SuperResK1K5K1(512,344,1,192,1)"
        "SuperResK1K5K1(344,688,2,320,4)SuperResK1K5K1(688,680,1,304,3)"
        "SuperConvK1BNRELU(680,2552,1,1)"
    ),
    "latency03ms": (
        "SuperConvK3BNRELU(3,24,2,1)SuperResK1K5K1(24,64,2,32,1)SuperResK1K3K1(64,128,2,128,1)"
        "SuperResK1K7K1(128,432,2,128,1)SuperResK1K5K1(432,272,1,160,1)"
        "SuperResK1K5K1(272,848,2,384,4)SuperResK1K5K1(848,848,1,320,3)"
        "SuperResK1K5K1(848,456,1,320,3)SuperConvK1BNRELU(456,6704,1,1)"
    ),
    "latency05ms": (
        "SuperConvK3BNRELU(3,8,2,1)SuperResK1K7K1(8,64,2,32,1)SuperResK1K3K1(64,152,2,128,1)"
        "SuperResK1K5K1(152,640,2,192,4)SuperResK1K5K1(640,640,1,192,2)"
        "SuperResK1K5K1(640,1536,2,384,4)SuperResK1K5K1(1536,816,1,384,3)"
        "SuperResK1K5K1(816,816,1,384,3)SuperConvK1BNRELU(816,5304,1,1)"
    ),
    "latency08ms": (
        "SuperConvK3BNRELU(3,16,2,1)SuperResK1K5K1(16,64,2,64,1)SuperResK1K3K1(64,240,2,128,2)"
        "SuperResK1K7K1(240,640,2,160,3)SuperResK1K7K1(640,768,1,192,4)"
        "SuperResK1K5K1(768,1536,2,384,5)SuperResK1K5K1(1536,1536,1,384,3)"
        "SuperResK1K5K1(1536,2304,1,384,5)SuperConvK1BNRELU(2304,4912,1,1)"
    ),
    "latency12ms": (
        "SuperConvK3BNRELU(3,32,2,1)SuperResK1K5K1(32,80,2,32,1)SuperResK1K7K1(80,432,2,128,5)"
        "SuperResK1K7K1(432,640,2,192,3)SuperResK1K7K1(640,1008,1,160,5)"
        "SuperResK1K7K1(1008,976,1,160,4)SuperResK1K5K1(976,2304,2,384,5)"
        "SuperResK1K5K1(2304,2496,1,384,5)SuperConvK1BNRELU(2496,3072,1,1)"
    ),
}


def _cards() -> dict[str, ModelCard]:
    cards = [
        ModelCard(f"zennet_cifar{classes}_{size}", structure, classes, 32, 32, statistics="zennas-cifar")
        for classes in (10, 100)
        for size, structure in _CIFAR.items()
    ]
    for name, structure in _IMAGENET.items():
        # The 12 ms network alone was evaluated on a larger crop.
        crop = 380 if name == "latency12ms" else 320
        cards.append(ModelCard(f"zennet_imagenet1k_{name}", structure, 1000, 224, crop, name.endswith("_SE")))
    return {card.name: card for card in cards}


_CARDS = _cards()


def list_models(pattern: str = "*") -> list[str]:
    """Return the names that match a glob pattern, sorted."""
    return sorted(name for name in _CARDS if fnmatchcase(name, pattern))


def card(name: str) -> ModelCard:
    """Return what is known of a published network.

    Raises:
        UnknownNameError: There is none of that name.
    """
    known = _CARDS.get(re.sub(r"_res(32|224)$", "", name))
    if known is None:
        close = get_close_matches(name[:QUOTED], _CARDS, n=3, cutoff=0.5) or list_models()
        raise UnknownNameError(
            f"Model {quoted(name)} is not known; similar: {', '.join(close)} (timm:NAME, torchvision:NAME)."
        )
    return known


#: Environment variable: a folder with weights of published networks.
WEIGHTS_VARIABLE = "ZENOPT_WEIGHTS"
_SUFFIXES = (".pth", ".pt", ".safetensors")


def find_weights(name: str, place: str | Path | None = None) -> Path:
    """Return the file with a published network's weights.

    Args:
        name:
            One of :func:`list_models`.
        place:
            The file itself, or a folder with ``NAME.pth`` (or .pt, .safetensors; ZenNAS's spelling with ``_res224``
            too) or in the layout of ZenNAS's own cache (``[iccv2021_]NAME_res224/student_best-params_rank0.pth``).
            None takes the folder that the environment variable ``ZENOPT_WEIGHTS`` names.

    Raises:
        UnknownNameError: There is no such network.
        WeightsNotFoundError: There is no such file; the message says what was looked for.
    """
    found = card(name)
    if place is None:
        place = os.environ.get(WEIGHTS_VARIABLE, "")
        if not place:
            raise WeightsNotFoundError(
                f"Weights of {found.name} are not at hand: the original links are dead. Name a file or folder, or set "
                f"{WEIGHTS_VARIABLE} to a folder with {found.name}.pth."
            )
    path = Path(place).expanduser()
    if not path.is_dir():
        if not path.is_file():
            raise WeightsNotFoundError(f"Weights of {found.name}: {path} does not exist.")
        return path
    zennas = f"{found.name}_res{found.resolution}"
    files = [path / f"{stem}{suffix}" for stem in (found.name, zennas) for suffix in _SUFFIXES]
    files += [
        path / f"{prefix}{zennas}" / f"{kind}best-params_rank0.pth"
        for prefix in ("", "iccv2021_")
        for kind in ("", "student_")
    ]
    existing = next((file for file in files if file.is_file()), None)
    if existing is None:
        raise WeightsNotFoundError(
            f"Weights of {found.name}: {path} holds neither {found.name}.pth (.pt, .safetensors) nor a folder {zennas} "
            "as ZenNAS keeps it."
        )
    return existing


def create(
    name: str,
    *,
    pretrained: bool | str | Path = False,
    weights: str | Path | None = None,
    num_classes: int | None = None,
) -> nn.Module:
    """Build a published network.

    Args:
        name:
            One of :func:`list_models`; ZenNAS's own spelling with ``_res224`` is accepted.
        pretrained:
            A ZenNAS checkpoint, a state_dict of ours, or a folder that :func:`find_weights` looks through; True takes
            the folder of ``ZENOPT_WEIGHTS``. False leaves PyTorch's initial weights.
        weights:
            The same as a file for `pretrained`.
        num_classes:
            Outputs of the classifier; the published number unless given.

    Raises:
        UnknownNameError: There is no such network.
        WeightsNotFoundError: The weights are not there.
        CheckpointError: They are unreadable, or for another number of classes.
    """
    from zenopt.nn import build_network
    from zenopt.nn.weights import load_weights
    from zenopt.spaces.chain.architecture import Architecture

    found = card(name)
    network = build_network(
        Architecture.parse(found.structure), num_classes=num_classes or found.num_classes, use_se=found.use_se
    )
    if weights is not None:
        load_weights(network, Path(weights))
    elif pretrained is not False:
        load_weights(network, find_weights(name, None if pretrained is True else pretrained))
    return network
