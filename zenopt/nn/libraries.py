"""Networks of timm and torchvision by name: ``timm:resnet18``."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from zenopt.core.errors import UnknownNameError
from zenopt.core.text import QUOTED, quoted

if TYPE_CHECKING:
    from torch import nn


def library_model(text: str, num_classes: int) -> nn.Module:
    """Build a library's model, with the library's initial weights.

    Args:
        text:
            ``timm:MODEL`` or ``torchvision:MODEL``.
        num_classes:
            Outputs of its classifier.

    Raises:
        UnknownNameError: If the library is missing or does not know the model.
    """
    library, _, name = text.partition(":")
    try:
        if library == "timm":
            import timm

            if not timm.is_model(name):
                raise UnknownNameError(_unknown(library, name, timm.list_models()))
            model: nn.Module = timm.create_model(name, pretrained=False, num_classes=num_classes)
            return model
        from torchvision import models

        if name not in models.list_models():
            raise UnknownNameError(_unknown(library, name, models.list_models()))
        # GoogLeNet and Inception return a tuple in training unless told otherwise.
        options = {"aux_logits": False} if name in ("googlenet", "inception_v3") else {}
        found: nn.Module = models.get_model(name, weights=None, num_classes=num_classes, **options)
        return found
    except ImportError as error:
        raise UnknownNameError(f"{library}:{name} needs the package {library}: {error}.") from None


def _unknown(library: str, name: str, known: list[str]) -> str:
    close = get_close_matches(name[:QUOTED], known, n=3)
    hint = f"; similar: {', '.join(close)}" if close else ""
    return f"{library} has no model {quoted(name)}{hint}."
