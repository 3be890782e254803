"""Recipes: everything that decides how a network is trained, as validated YAML.

A recipe says nothing about machines: `batch_size` counts the images of one optimiser step over all processes and
accumulated parts, so the same recipe means the same optimisation on one CPU or on eight GPUs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from zenopt.core.changing import Changing, MayChange, at, changing, check_range
from zenopt.core.errors import SpecError
from zenopt.core.files import RECIPE
from zenopt.core.yamlfile import Overrides, named_file, names_in, override, read_yaml

RECIPES = Path(__file__).resolve().parent / "recipes"
DEFAULT_RECIPE = "basic"

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
# These may change from epoch to epoch, `{start: 0, every: 1, add: 0.01, max: 0.2}`.
ChangingFraction = Annotated[float, Field(ge=0, le=1), MayChange()]
ChangingProbability = Annotated[float, Field(ge=0, lt=1), MayChange()]
ChangingPositive = Annotated[float, Field(gt=0), MayChange()]
ChangingWeight = Annotated[float, Field(ge=0), MayChange()]
Range = tuple[Positive, Positive]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Optimizer(Section):
    """`lr` and `Schedule.final_lr` are per 256 images of a step: the rate used is `lr * batch_size / 256`."""

    name: str = "sgd"  # sgd, adamw, rmsprop, or timm:NAME
    lr: Positive = 0.1
    momentum: ChangingFraction = 0.9
    nesterov: bool = True
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    alpha: Fraction = 0.9  # smoothing of RMSprop's squared gradient
    eps: Positive = 1e-8
    weight_decay: ChangingWeight = 5e-4
    decay_norm_and_bias: bool = False
    clip_norm: ChangingPositive | None = None

    @model_validator(mode="after")
    def _known(self) -> Optimizer:
        known = ("sgd", "adamw", "rmsprop")
        if self.name not in known and not self.name.startswith("timm:"):
            raise ValueError(f"optimizer name is {self.name!r}; allowed: {', '.join(known)}, timm:NAME")
        if isinstance(self.momentum, Changing) and self.name != "sgd":
            raise ValueError(f"momentum changes over a run with name: sgd, not {self.name}")
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

    weight: ChangingWeight = 0.4
    ratio: int = Field(default=4, ge=1)


class Loss(Section):
    label_smoothing: ChangingProbability = 0.1
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
    magnitude: Annotated[int, Field(ge=0, le=30), MayChange()] = 9


class ColorJitter(Section):
    brightness: float = Field(default=0.4, ge=0)
    contrast: float = Field(default=0.4, ge=0)
    saturation: float = Field(default=0.4, ge=0)
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0


class Erasing(Section):
    probability: ChangingFraction = 0.5
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
    cutout: Annotated[int, Field(ge=1), MayChange()] | None = None  # side of one square hole, pixels
    mixup: ChangingPositive | None = None  # alpha of Beta(alpha, alpha), one draw per batch
    cutmix: ChangingPositive | None = None  # with both, each batch takes one of them at random


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
    dropout: ChangingProbability | None = None  # before the classifier; None: the network's own
    bn_momentum: Annotated[float, Field(gt=0, le=1)] | None = None
    drop_path: ChangingProbability = 0.0
    drop_path_ramp: Literal["depth", "epoch", "none"] = "depth"

    @model_validator(mode="after")
    def _one_ramp(self) -> Model:
        if isinstance(self.drop_path, Changing) and self.drop_path_ramp == "epoch":
            raise ValueError("drop_path changes by itself; set drop_path_ramp: none, or depth")
        return self


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
    feature_weight: ChangingWeight = 1.0
    logit_weight: ChangingWeight = 1.0
    temperature: ChangingPositive = 1.0


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
        check_range(self, self.epochs - 1, "epoch")
        return self

    def at_epoch(self, epoch: int) -> Recipe:
        """Return the recipe of an epoch, counted from 0: numbers that change over the run have its values."""
        return at(self, epoch)

    def changing(self) -> dict[str, Changing]:
        """Return the numbers that change over the run, by dotted path."""
        return dict(changing(self))

    def changes(self) -> list[str]:
        """Return what changes over the run, in words."""
        return [f"{path} {own.words('epoch')}" for path, own in self.changing().items()]

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
        "model.drop_path": recipe.model.drop_path != 0,
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
