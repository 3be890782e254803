"""Model cards: a folder that the Hugging Face hub shows and timm loads. Files only; nothing is uploaded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from zenopt.core.description import describe
from zenopt.core.errors import BundleError
from zenopt.core.words import plural, rounded
from zenopt.export.bundle import Bundle, write_atomically
from zenopt.export.standalone import write_model_file
from zenopt.latency.training_speed import training_speed
from zenopt.spaces.registry import parse_architecture

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
#: Costs that people read first, with what they are called.
_COSTS = (
    ("params", "parameters"),
    ("macs", "multiply-adds"),
    ("layers", "layers"),
    ("convs", "convolutions"),
)


@dataclass(frozen=True)
class Trained:
    """Weights of a network and what they expect of images.

    Attributes:
        weights: State of the network, by key.
        classes: Names of the classes, in the order of the logits.
        mean, std: Of the channels, for images in [0, 1].
        crop_ratio: Crop over resized short side.
        interpolation: Of the resizing.
        top1: Accuracy on test images, in percent, if known.
    """

    weights: dict[str, Any]
    classes: Sequence[str]
    mean: Sequence[float]
    std: Sequence[float]
    crop_ratio: float = 0.875
    interpolation: str = "bilinear"
    top1: float | None = None


def write_card(
    bundle: Bundle,
    folder: str | Path,
    *,
    name: str,
    trained: Trained | None = None,
    license: str | None = None,
) -> Path:
    """Write a model card: ``README.md``, ``config.json``, ``model.py`` and, of a trained network, its weights.

    Args:
        bundle:
            Which network.
        folder:
            Where; made if missing. Files of an older card are replaced.
        name:
            What the card is called.
        trained:
            Weights; without them the card describes an architecture.
        license:
            Identifier of the weights' licence, e.g. ``"apache-2.0"``.

    Raises:
        BundleError: If the folder cannot be written.
    """
    folder = Path(folder)
    architecture = parse_architecture(bundle.family, bundle.structure)
    classes = bundle.num_classes if trained is None else len(trained.classes)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if trained is not None:
            _write_weights(folder / WEIGHTS_FILE, trained.weights)
        config = _config(bundle, describe(architecture).features, classes, trained, license)
        write_atomically(folder / CONFIG_FILE, json.dumps(config, indent=2) + "\n")
        write_model_file(
            architecture,
            folder / "model.py",
            resolution=bundle.resolution,
            num_classes=classes,
            use_se=bundle.use_se,
        )
        write_atomically(folder / "README.md", _readme(bundle, name, classes, trained, license))
    except OSError as error:
        raise BundleError(f"Cannot write model card {folder}: {error.strerror or error}.") from None
    return folder


def _write_weights(path: Path, weights: dict[str, Any]) -> None:
    from safetensors.torch import save_file

    temporary = path.with_name(f".{path.name}")
    save_file({key: tensor.contiguous() for key, tensor in weights.items()}, temporary, {"format": "pt"})
    temporary.replace(path)


def _config(
    bundle: Bundle, features: int, classes: int, trained: Trained | None, license: str | None
) -> dict[str, Any]:
    """Return what timm reads: which model to build, and what it expects of images."""
    expected: dict[str, Any] = {
        "input_size": [3, bundle.resolution, bundle.resolution],
        "fixed_input_size": False,
        "num_classes": classes,
        "pool_size": None,
        "classifier": "classifier",
        "license": license,
    }
    if trained is not None:
        expected |= {
            "mean": list(trained.mean),
            "std": list(trained.std),
            "crop_pct": trained.crop_ratio,
            "interpolation": trained.interpolation,
        }
    return {
        "architecture": "zenopt_network",
        "num_classes": classes,
        "num_features": features,
        "model_args": {"family": bundle.family, "structure": bundle.structure, "use_se": bundle.use_se},
        **({} if trained is None else {"label_names": list(trained.classes)}),
        "pretrained_cfg": expected,
    }


def _readme(bundle: Bundle, name: str, classes: int, trained: Trained | None, license: str | None) -> str:
    front: dict[str, Any] = {
        "library_name": "timm",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "timm", "zenopt", "zen-nas", "neural-architecture-search"],
    }
    if license is not None:
        front["license"] = license
    costs = bundle.costs or {}
    rows = [("input", f"{bundle.resolution} x {bundle.resolution} px"), ("classes", f"{classes:,}")]
    rows += [(words, rounded(costs[key])) for key, words in _COSTS if key in costs]
    if "macs" in costs and "activation_bytes" in costs:
        rows.append(("training", training_speed(costs["macs"], costs["activation_bytes"]).text))
    if trained is not None and trained.top1 is not None:
        rows.append(("top-1 on test images", f"{trained.top1:.2f} %"))
    table = "\n".join(f"| {what} | {value} |" for what, value in rows)
    origin = bundle.origin or (
        f"It is trial {bundle.trial} of the study `{bundle.study}`." if bundle.trial is not None else ""
    )
    pretrained = "" if trained is None else ", pretrained=True"
    if trained is None:
        alone = "from model import build\n\nmodel = build()"
        state = "The card has no weights: it describes an architecture to be trained."
    else:
        alone = (
            "from model import build\nfrom safetensors.torch import load_file\n\nmodel = build()\n"
            f'model.load_state_dict(load_file("{WEIGHTS_FILE}"))'
        )
        low, high = (", ".join(f"{value:.4f}" for value in values) for values in (trained.mean, trained.std))
        state = (
            f"Images are resized to a short side of the crop over {trained.crop_ratio:g} ({trained.interpolation}), "
            f"cropped in the centre, scaled to [0, 1] and normalised with mean ({low}) and standard deviation ({high})."
        )
    return f"""---
{yaml.safe_dump(front, sort_keys=False).strip()}
---

# {name}

An image classifier with {plural(classes, "class")}, found by training-free neural architecture search with zenopt
([Zen-NAS](https://arxiv.org/abs/2102.01063) as an Optuna study). {origin}

| | |
|---|---|
{table}

{state}

## Use

With timm and zenopt, in the folder above this one:

```python
import timm
import zenopt.export.timm_model  # makes timm know these networks

model = timm.create_model("local-dir:{name}"{pretrained})
```

With nothing but torch{"" if trained is None else " and safetensors"}, in this folder:

```python
{alone}
```

## Architecture

```text
{bundle.structure}
```
"""
