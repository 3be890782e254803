"""Recipes: everything that decides how a network is trained, as validated YAML.

A recipe says nothing about machines: `batch_size` counts the images of one optimiser step over all processes and
accumulated parts, so the same recipe means the same optimisation on one CPU or on eight GPUs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from zenopt.core.errors import SpecError
from zenopt.core.files import RECIPE
from zenopt.core.yamlfile import Overrides, named_file, names_in, override, read_yaml

RECIPES = Path(__file__).resolve().parent / "recipes"
DEFAULT_RECIPE = "basic"

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Range = tuple[Positive, Positive]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Optimizer(Section):
    """`lr` and `Schedule.final_lr` are per 256 images of a step: the rate used is `lr * batch_size / 256`."""

    name: str = "sgd"  # sgd, adamw, rmsprop, or timm:NAME
    lr: Positive = 0.1
    momentum: Fraction = 0.9
    nesterov: bool = True
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    alpha: Fraction = 0.9  # smoothing of RMSprop's squared gradient
    eps: Positive = 1e-8
    weight_decay: float = Field(default=5e-4, ge=0)
    decay_norm_and_bias: bool = False
    clip_norm: Positive | None = None

    @model_validator(mode="after")
    def _known(self) -> Optimizer:
        known = ("sgd", "adamw", "rmsprop")
        if self.name not in known and not self.name.startswith("timm:"):
            raise ValueError(f"optimizer name is {self.name!r}; allowed: {', '.join(known)}, timm:NAME")
        return self


class Schedule(Section):
    """The learning rate of every optimiser step: linear warm-up, then the named decay."""

    name: Literal["cosine", "linear", "step", "constant"] = "cosine"
    warmup_epochs: float = Field(default=5, ge=0)
    final_lr: float = Field(default=0.0, ge=0)
    milestones: tuple[Fraction, ...] = (0.5, 0.75)  # of the whole run; for `step`
    factor: Positive = 0.1  # for `step`


class Auxiliary(Section):
    """A second classifier in training (aw_nas, DARTS).

    Families that have one (DARTS cells) say what it is and where it stands; other networks get it on the deepest
    feature map at a down-sampling ratio.
    """

    weight: Positive = 0.4
    ratio: int = Field(default=4, ge=1)


class Loss(Section):
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    auxiliary: Auxiliary | None = None


class Crop(Section):
    """How an image becomes the input's size.

    `pad`: `padding` black pixels a side are added, and the size cut out again at random. `random_resized`:
    a random part (share of the area in `scale`, aspect in `ratio`) is resized to the input size.
    """

    kind: Literal["pad", "random_resized"] = "pad"
    padding: int = Field(default=4, ge=0)
    scale: Range = (0.08, 1.0)
    ratio: Range = (0.75, 1.3333)


class RandAugment(Section):
    ops: int = Field(default=2, ge=1)
    magnitude: int = Field(default=9, ge=0, le=30)


class ColorJitter(Section):
    brightness: float = Field(default=0.4, ge=0)
    contrast: float = Field(default=0.4, ge=0)
    saturation: float = Field(default=0.4, ge=0)
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0


class Erasing(Section):
    probability: Fraction = 0.5
    area: Range = (0.02, 0.33)
    ratio: Range = (0.3, 3.3)


class Augment(Section):
    """What happens to a training image, in this order."""

    crop: Crop = Crop()
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    flip: Fraction = 0.5
    policy: (
        Literal[
            "autoaugment-cifar10", "autoaugment-imagenet", "autoaugment-svhn", "randaugment", "trivialaugment"
        ]
        | None
    ) = None
    fill: int = Field(default=0, ge=0, le=255)  # grey level of what a policy's shears and shifts uncover
    randaugment: RandAugment = RandAugment()
    color_jitter: ColorJitter | None = None
    lighting: float = Field(default=0.0, ge=0)  # standard deviation of AlexNet's PCA noise; 0.1 is usual
    erasing: Erasing | None = None
    cutout: int | None = Field(default=None, ge=1)  # side of one square hole, pixels
    mixup: Positive | None = None  # alpha of Beta(alpha, alpha), one draw per batch
    cutmix: Positive | None = None  # with both, each batch takes one of them at random


class Evaluation(Section):
    """Test images: short side resized to `ceil(crop / crop_ratio)`, centre crop.

    An image of just the crop's size is used as it is.
    """

    crop_ratio: Annotated[float, Field(gt=0, le=1)] = 0.875
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    every_epochs: int = Field(default=1, ge=1)


Init = Literal[
    "custom",  # Zen-NAS's for its networks
    "default",  # what the layers draw themselves
    "shortcuts",  # the same, but every residual begins as its shortcut
    "msra-prelu", "xavier", "fan-out", "fan-out-0.1", "fan-out-0.001",  # Zen-NAS's others
    "kaiming",  # ResNet's
    "normal",  # N(0, 0.01)
    "oneshot",  # the MXNet one-shot system's
]  # fmt: skip


class Model(Section):
    init: Init = "custom"
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = (
        None  # before the classifier; None: the network's own
    )
    bn_momentum: Annotated[float, Field(gt=0, le=1)] | None = None
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    drop_path_ramp: Literal["depth", "epoch"] = "depth"


class Precision(Section):
    amp: Literal["fp16", "bf16"] | None = None
    channels_last: bool = False
    # true: torch.compile. For small networks on a GPU: reduce-overhead, the same with CUDA graphs; graphs, a CUDA graph
    # of the step as it is, which needs no compiler.
    compile: bool | Literal["reduce-overhead", "graphs"] = False


class Distill(Section):
    """A frozen teacher: `timm:NAME`, `torchvision:NAME`, `bundle:FOLDER` or a published ZenNet's name."""

    teacher: str
    weights: str | None = None  # a local state_dict; none: the library's own, from its cache or download
    input_size: int | None = Field(default=None, ge=8)  # pixels; none: what the teacher was made for
    ratios: tuple[int, ...] = (16, 32)
    feature_weight: float = Field(default=1.0, ge=0)
    logit_weight: float = Field(default=1.0, ge=0)
    temperature: Positive = 1.0


class Recipe(Section):
    description: str = ""
    epochs: int = Field(default=30, ge=1)
    batch_size: int = Field(default=128, ge=1)
    accumulate: int = Field(default=1, ge=1)
    # Side of the crop that the data pipeline delivers, pixels. The network's resolution unless given; where
    # larger, images are reduced to the resolution by bilinear interpolation (the published nets: crop 320,
    # then 224).
    crop_size: int | None = Field(default=None, ge=8)
    normalize: Literal["auto", "imagenet", "cifar10", "cifar100", "zennas-cifar", "none"] = "auto"
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    loss: Loss = Loss()
    augment: Augment = Augment()
    evaluation: Evaluation = Evaluation()
    model: Model = Model()
    precision: Precision = Precision()
    distill: Distill | None = None
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    sync_bn: bool = False
    tensorboard: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of accumulate {self.accumulate}"
            )
        return self

    def at_rate(self, lr: float) -> Recipe:
        """Return the recipe with another learning rate, for 256 images a step."""
        return self.model_copy(update={"optimizer": self.optimizer.model_copy(update={"lr": lr})})


def list_recipes() -> list[str]:
    """Return the names of the recipes that come with the package."""
    return names_in(RECIPES)


def load_recipe(name: str = DEFAULT_RECIPE, overrides: Overrides = (), **fields: Any) -> Recipe:
    """Read and validate a recipe.

    Args:
        name:
            A name from :func:`list_recipes`, or the path of a YAML file.
        overrides:
            Assignments such as ``"optimizer.lr=0.2"``, in order, whose values are read as YAML; or a mapping.
        fields:
            Top-level fields that replace the file's, e.g. ``epochs=3``.

    Raises:
        SpecError: The recipe does not exist or is invalid; the line names file, line or path, and what is allowed.
    """
    source = read_yaml(named_file(name, RECIPES, "Recipe"), RECIPE)
    override(source, overrides)
    for key, value in fields.items():
        source.data[key] = value
        source.overridden.add((key,))
    try:
        return Recipe.model_validate(source.data)
    except ValidationError as error:
        raise SpecError(source.explain(error, Recipe)) from None


def of_single_networks(recipe: Recipe) -> list[str]:
    """Return the fields of a recipe that ask for what only the training of a single network has."""
    asked = {
        "loss.auxiliary": recipe.loss.auxiliary is not None,
        "distill": recipe.distill is not None,
        "model.drop_path": recipe.model.drop_path > 0,
        "model.dropout": recipe.model.dropout is not None,
        "model.bn_momentum": recipe.model.bn_momentum is not None,
        "precision.compile": bool(recipe.precision.compile),
        "sync_bn": recipe.sync_bn,
    }
    return [name for name, is_asked in asked.items() if is_asked]


def without_custom_init(recipe: Recipe) -> Recipe:
    """Return a recipe for weights that networks share: PyTorch's initial ones unless it names others.

    Zen-NAS's initial weights count on residuals that begin as their shortcuts.
    """
    if recipe.model.init != "custom":
        return recipe
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"init": "default"})})


def differences(one: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return the dotted paths at which two nested mappings differ."""
    paths: list[str] = []
    for key in sorted({*one, *other}):
        a, b = one.get(key), other.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            paths += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            paths.append(f"{prefix}{key}")
    return paths
