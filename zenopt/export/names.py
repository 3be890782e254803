"""Networks by name: what can be scored and described, whatever family it belongs to.

A name is a structure string, a NAS-Bench-201 string, a file or bundle that holds one, a published ZenNet
(:mod:`zenopt.spaces.chain.zoo`), ``SPACE:TEXT`` (``nasbench201:|nor_conv_3x3~0|+...``), ``timm:MODEL`` or
``torchvision:MODEL``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zenopt.core.errors import StructureError
from zenopt.core.files import STRUCTURE, read_text
from zenopt.core.paths import existing_path
from zenopt.core.text import quoted
from zenopt.export.bundle import ARCHITECTURE_FILE, read_bundle
from zenopt.spaces.chain.zoo import card, list_models
from zenopt.spaces.registry import get_space, list_spaces, parse_architecture, recognise, space_of

if TYPE_CHECKING:
    from torch import nn

LIBRARIES = ("timm", "torchvision")


@dataclass(frozen=True)
class Named:
    """What a name means.

    Attributes:
        text: Canonical text.
        family: ``"chain"`` for super-blocks, the name of a space, or a library.
        architecture: The architecture; ``None`` for a library's model, which is nothing but a module.
        resolution: Side of the input image in pixels where nobody says another.
        num_classes: Outputs of the classifier where nobody says another number.
        use_se: Whether it has squeeze-excite gates where nobody says.
    """

    text: str
    family: str
    architecture: Any | None
    resolution: int = 224
    num_classes: int = 1000
    use_se: bool = False

    def build(self, num_classes: int, *, use_se: bool = False) -> nn.Module:
        """Build the network, with PyTorch's (or the library's) initial weights.

        Raises:
            UnknownNameError: If the library is missing or does not know the model.
        """
        if self.architecture is None:
            from zenopt.nn.libraries import library_model

            return library_model(self.text, num_classes)
        from zenopt.nn import build_network

        return build_network(self.architecture, num_classes=num_classes, use_se=use_se)


def resolve(name: str, *, stored: bool = False) -> Named:
    """Find out what a name means.

    Args:
        name:
            See the module's text.
        stored:
            Whether the name was read from a file; then it is no path of another one.

    Raises:
        StructureError: If it is none of these, or what it holds is malformed.
        UnknownNameError: If a library or a published network is named that does not exist.
        BundleError: If a bundle is damaged.
    """
    text = name.strip()
    found = None if _is_path_with_brackets(text, stored) else _of_text(text)
    if found is not None:
        return found
    path = None if stored else existing_path(text)
    if path is not None:
        return _of_path(path)
    if text in list_models():
        known = card(text)
        found = _of_family("chain", known.structure)
        return replace(found, resolution=known.resolution, num_classes=known.num_classes, use_se=known.use_se)
    raise StructureError(
        f"{quoted(name)} is neither a structure string nor a readable file, bundle, published network, SPACE:TEXT "
        f"(spaces: {', '.join(list_spaces())}), timm:MODEL or torchvision:MODEL."
    )


def prefix_of(architecture: Any) -> str:
    """Return what :func:`resolve` needs before an architecture's text: ``"SPACE:"``, or nothing where that is plain."""
    found = _of_text(str(architecture))
    return "" if found is not None and found.family == architecture.family else f"{architecture.family}:"


def _is_path_with_brackets(text: str, stored: bool) -> bool:
    return not stored and "(" in text and existing_path(text) is not None


def _of_text(text: str) -> Named | None:
    """Return what a text is that names no file: an architecture, ``SPACE:TEXT`` or a library's model."""
    prefix, colon, rest = text.partition(":")
    if colon and prefix in LIBRARIES:
        return Named(text, prefix, None)
    if colon and prefix in list_spaces():
        return _of_family(prefix, rest)
    family = recognise(text)
    if family is not None or "(" in text:
        return _of_family(family or "chain", text)
    return None


def _of_family(family: str, text: str) -> Named:
    return named_of(parse_architecture(family, text))


def named_of(architecture: Any) -> Named:
    """Return an architecture with the defaults of its family."""
    space = get_space(space_of(architecture.family))
    return Named(
        str(architecture),
        architecture.family,
        architecture,
        getattr(space, "default_resolution", 224),
        getattr(space, "default_num_classes", 1000),
    )


def _of_path(path: Path) -> Named:
    if path.is_dir() or path.name == ARCHITECTURE_FILE:
        bundle = read_bundle(path)
        return replace(
            _of_family(bundle.family, bundle.structure),
            resolution=bundle.resolution,
            num_classes=bundle.num_classes,
            use_se=bundle.use_se,
        )
    found = _of_text(read_text(path, STRUCTURE).strip())
    if found is None:
        # What a file holds is a text, never again the name of a file.
        raise STRUCTURE.refusal(path, "it holds no structure string")
    return found
