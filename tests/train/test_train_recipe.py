from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from zenopt.core.errors import SpecError
from zenopt.train.recipe import RECIPES, Recipe, list_recipes, load_recipe


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_is_valid_and_described(name: str) -> None:
    assert load_recipe(name).description


def test_published_numbers() -> None:
    cifar = load_recipe("zennas-cifar")
    assert (cifar.epochs, cifar.batch_size, cifar.optimizer.lr, cifar.optimizer.weight_decay) == (
        1440,
        64,
        0.1,
        5e-4,
    )
    assert (cifar.model.bn_momentum, cifar.augment.mixup, cifar.schedule.warmup_epochs) == (0.01, 0.2, 5)
    imagenet = load_recipe("zennas-imagenet-distill")
    assert (imagenet.epochs, imagenet.optimizer.weight_decay, imagenet.crop_size) == (480, 4e-5, 320)
    assert imagenet.distill is not None
    assert imagenet.distill.teacher == "timm:tf_efficientnet_b3.ns_jft_in1k" and imagenet.distill.ratios == (
        16,
        32,
    )
    cells = load_recipe("awnas-cells")
    assert cells.optimizer.lr * cells.batch_size / 256 == pytest.approx(0.025, rel=1e-5)
    assert cells.schedule.final_lr * cells.batch_size / 256 == pytest.approx(0.001, rel=1e-5)


# Every field that the published descriptions and scripts name (docs/training.md lists what differs on purpose).
ZENNAS = {
    "optimizer.name": "sgd", "optimizer.momentum": 0.9, "optimizer.nesterov": True, "optimizer.lr": 0.1,
    "optimizer.decay_norm_and_bias": False, "schedule.name": "cosine", "schedule.warmup_epochs": 5,
    "schedule.final_lr": 0, "loss.label_smoothing": 0.1, "augment.mixup": 0.2, "augment.flip": 0.5, "augment.fill": 128,
    "augment.erasing.probability": 0.5, "augment.erasing.area": (0.02, 0.33), "augment.erasing.ratio": (0.3, 3.3),
    "model.init": "custom", "model.bn_momentum": 0.01,
}  # fmt: skip
ZENNAS_IMAGENET = ZENNAS | {
    "epochs": 480, "optimizer.weight_decay": 4e-5, "crop_size": 320, "augment.crop.kind": "random_resized",
    "augment.crop.scale": (0.08, 1.0), "augment.interpolation": "bicubic", "augment.policy": "autoaugment-imagenet",
    "augment.lighting": 0.1, "evaluation.crop_ratio": 0.875, "evaluation.interpolation": "bicubic",
}  # fmt: skip
TEACHER = {
    "distill.teacher": "timm:tf_efficientnet_b3.ns_jft_in1k", "distill.input_size": 320, "distill.ratios": (16, 32),
    "distill.feature_weight": 1, "distill.logit_weight": 1, "distill.temperature": 1,
}  # fmt: skip
ADLIK = ZENNAS_IMAGENET | TEACHER | {"precision.amp": "fp16", "sync_bn": True, "tensorboard": True}
ONESHOT = {
    "optimizer.name": "sgd", "optimizer.momentum": 0.9, "optimizer.nesterov": True, "optimizer.lr": 1.3 / 4,
    "batch_size": 1024, "optimizer.decay_norm_and_bias": False, "schedule.name": "cosine", "schedule.warmup_epochs": 5,
    "schedule.final_lr": 0, "loss.label_smoothing": 0.1, "augment.crop.kind": "random_resized",
    "augment.crop.scale": (0.08, 1.0), "augment.interpolation": "bilinear", "augment.flip": 0.5,
    "augment.lighting": 0.1, "augment.color_jitter.brightness": 0.4, "augment.color_jitter.contrast": 0.4,
    "augment.color_jitter.saturation": 0.4, "augment.color_jitter.hue": 0,
    "augment.mixup": None, "evaluation.crop_ratio": 0.875, "precision.amp": "fp16",
    "model.init": "oneshot", "model.dropout": None,
}  # fmt: skip
#: 0.025 -> 0.001 for batches of 64.
SEARCH = {
    "epochs": 50, "batch_size": 64, "optimizer.name": "sgd", "optimizer.lr": 0.025 * 256 / 64,
    "schedule.final_lr": 0.001 * 256 / 64, "schedule.name": "cosine", "schedule.warmup_epochs": 0,
    "optimizer.momentum": 0.9, "optimizer.decay_norm_and_bias": True, "optimizer.clip_norm": 5,
    "loss.label_smoothing": 0, "augment.crop.padding": 4, "augment.flip": 0.5, "model.init": "default",
}  # fmt: skip
PUBLISHED = {
    "zennas-cifar": ZENNAS | {
        "epochs": 1440, "batch_size": 64, "optimizer.weight_decay": 5e-4, "normalize": "zennas-cifar",
        "augment.crop.kind": "pad", "augment.crop.padding": 4, "augment.policy": "autoaugment-cifar10",
        "augment.lighting": 0, "crop_size": None,
    },
    "zennas-imagenet": ZENNAS_IMAGENET | {"batch_size": 256, "distill": None},
    "zennas-imagenet-distill": ZENNAS_IMAGENET | TEACHER | {"batch_size": 256},
    "adlik-imagenet-01ms": ADLIK | {"batch_size": 8 * 256},
    "adlik-imagenet-05ms": ADLIK | {"batch_size": 8 * 128},
    "oneshot-imagenet": ONESHOT | {"epochs": 360, "optimizer.weight_decay": 3e-5},
    "oneshot-supernet": ONESHOT | {"epochs": 120, "optimizer.weight_decay": 4e-5},
    "ofa": {
        "epochs": 605, "batch_size": 2048, "optimizer.name": "sgd", "optimizer.lr": 2.6 / 8, "optimizer.momentum": 0.9,
        "optimizer.nesterov": True, "optimizer.weight_decay": 3e-5, "optimizer.decay_norm_and_bias": False,
        "schedule.name": "cosine", "schedule.final_lr": 0, "loss.label_smoothing": 0.1, "model.init": "kaiming",
        "augment.crop.kind": "random_resized", "augment.crop.scale": (0.08, 1.0), "augment.flip": 0.5,
        "augment.color_jitter.brightness": 0.1255, "augment.color_jitter.saturation": 0.5,
        "augment.color_jitter.contrast": 0, "augment.color_jitter.hue": 0, "model.dropout": None,
        "evaluation.crop_ratio": 0.875,
    },
    "cell-search": SEARCH | {"optimizer.nesterov": True, "optimizer.weight_decay": 5e-4},
    "darts-search": SEARCH | {"optimizer.nesterov": False, "optimizer.weight_decay": 3e-4},
    "supernet": {
        "batch_size": 64, "optimizer.name": "adamw", "optimizer.lr": 0.008, "optimizer.weight_decay": 0.05,
        "optimizer.clip_norm": 1, "loss.label_smoothing": 0, "evaluation.crop_ratio": 1, "model.init": "default",
    },
    "awnas-cells": {
        "epochs": 600, "batch_size": 96, "optimizer.weight_decay": 3e-4, "optimizer.clip_norm": 5,
        "optimizer.momentum": 0.9, "optimizer.nesterov": False, "optimizer.decay_norm_and_bias": True,
        "schedule.warmup_epochs": 0, "loss.label_smoothing": 0, "loss.auxiliary.weight": 0.4, "model.drop_path": 0.2,
        "model.drop_path_ramp": "epoch", "model.dropout": 0.1, "augment.cutout": 16, "augment.crop.padding": 4,
        "augment.flip": 0.5, "augment.policy": None, "augment.mixup": None,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(list_recipes()) - {"basic"}))
def test_every_published_field(name: str) -> None:
    recipe = load_recipe(name)
    found = {}
    for path in PUBLISHED[name]:
        value: object = recipe
        for part in path.split("."):
            value = getattr(value, part)
        found[path] = value
    assert found == {
        path: pytest.approx(value) if isinstance(value, float) else value
        for path, value in PUBLISHED[name].items()
    }


def write(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            "epochs: 3\noptimizer:\n  lrr: 1\n",
            ["mine.yaml, line 3", "optimizer.lrr", "did you mean 'lr'", "momentum"],
        ),
        ("epochs: 3\nbatch: 1\n", ["line 2", "batch", "allowed: description, epochs, batch_size"]),
        (
            "augment:\n  crop: {kind: pad, pading: 2}\n",
            ["line 2", "augment.crop.pading", "padding, scale, ratio"],
        ),
        ("epochs: 0\n", ["line 1", "epochs", "greater than or equal to 1", "got 0"]),
        ("schedule: {name: exponential}\n", ["schedule.name", "'cosine', 'linear', 'step' or 'constant'"]),
        ("optimizer: {name: lion}\n", ["allowed: sgd, adamw, rmsprop, timm:NAME"]),
        ("batch_size: 10\naccumulate: 3\n", ["10 is not a multiple of accumulate 3"]),
        ("epochs: [\n", ["not valid YAML"]),
        ("- 1\n", ["expected keys and values"]),
    ],
)
def test_mistakes_say_where_and_what_is_allowed(tmp_path: Path, text: str, parts: list[str]) -> None:
    with pytest.raises(SpecError) as raised:
        load_recipe(write(tmp_path, text))
    message = str(raised.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_overrides_and_their_mistakes() -> None:
    recipe = load_recipe(
        "basic", ["optimizer.lr=2e-1", "distill={teacher: 'torchvision:resnet18'}"], epochs=7
    )
    assert recipe.optimizer.lr == 0.2 and recipe.epochs == 7
    assert recipe.distill is not None and recipe.distill.temperature == 1.0
    with pytest.raises(SpecError, match=r"--set.*optimizer\.lrr"):
        load_recipe("basic", ["optimizer.lrr=1"])
    with pytest.raises(SpecError, match="path=value"):
        load_recipe("basic", ["optimizer"])
    with pytest.raises(SpecError, match=r"known: .*basic"):
        load_recipe("nothing")


def test_a_recipe_survives_json() -> None:
    for name in list_recipes():
        recipe = load_recipe(name)
        assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe


def test_recipes_are_package_data() -> None:
    assert (RECIPES / "basic.yaml").is_file()


def test_every_field_is_documented_in_the_training_page() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "training.md").read_text(encoding="utf-8")

    def names(model: type[BaseModel]) -> list[str]:
        found = []
        for name, field in model.model_fields.items():
            found.append(name)
            for option in (field.annotation, *getattr(field.annotation, "__args__", ())):
                if isinstance(option, type) and issubclass(option, BaseModel):
                    found += names(option)
        return found

    missing = [name for name in names(Recipe) if f"`{name}`" not in page]
    assert not missing
