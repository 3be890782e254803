"""Which network: from a bundle, a structure string, a published name, timm or torchvision."""

from __future__ import annotations

import contextlib
import socket
import textwrap
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, cast

from pydantic import Field
from torch import nn

from zenopt.core.costs import count
from zenopt.core.errors import StructureError, UnknownNameError
from zenopt.core.paths import existing_path
from zenopt.export.bundle import Bundle, FamilyName, Flag, Side
from zenopt.nn import build_network
from zenopt.nn.weights import count_classes, load_weights, matrices, read_weights
from zenopt.spaces.registry import parse_architecture
from zenopt.train.data import Statistics, StatisticsName
from zenopt.train.errors import TrainError


class PublishedEvaluation(NamedTuple):
    """How a library evaluates its own weights.

    Attributes:
        statistics: Means and deviations of the channels.
        crop_size: Side of the centre crop, pixels.
        crop_ratio: Crop / resized short side.
        interpolation: `bilinear` or `bicubic`.
    """

    statistics: Statistics
    crop_size: int
    crop_ratio: float
    interpolation: str


@dataclass(frozen=True)
class NetworkSource:
    """What is needed to build a network again; checkpoints hold it.

    Args:
        kind:
            `structure`, `timm` or `torchvision`; `supernet` is many networks, and none of them.
        text:
            The structure string, or the library's name of the model; of a supernet, its space and paths as JSON.
        resolution:
            The input side, pixels.
        use_se:
            Whether a structure is built with squeeze-excite.
        family:
            `chain`, or the space whose text the structure is.
        crop_size:
            The crop on which a published network was evaluated, pixels.
        statistics:
            The channel statistics with which a published network was trained, a key of
            :data:`zenopt.train.data.STATISTICS`; None where the data decides.
    """

    kind: Literal["structure", "timm", "torchvision", "supernet"]
    text: Annotated[str, Field(min_length=1)]
    resolution: Side
    use_se: Flag = False
    family: FamilyName = "chain"
    crop_size: Side | None = None
    statistics: StatisticsName | None = None

    @classmethod
    def from_structure(
        cls, structure: str, resolution: int, use_se: bool = False, family: str = "chain"
    ) -> NetworkSource:
        """Return the source of a structure string, in its canonical spelling."""
        return cls("structure", str(parse_architecture(family, structure)), resolution, use_se, family)

    @classmethod
    def from_bundle(cls, bundle: Bundle, resolution: int | None = None) -> NetworkSource:
        """Return the source of an exported network."""
        return cls.from_structure(
            bundle.structure, resolution or bundle.resolution, bundle.use_se, bundle.family
        )

    @classmethod
    def from_model(cls, name: str, resolution: int | None = None) -> NetworkSource:
        """Return the source of `timm:NAME`, `torchvision:NAME` or a published ZenNet.

        Raises:
            UnknownNameError: There is no such model.
        """
        kind, separator, inner = name.partition(":")
        if separator and kind in ("timm", "torchvision"):
            kind = cast("Literal['timm', 'torchvision']", kind)
            return cls(kind, inner, resolution or _library_resolution(kind, inner))
        from zenopt.spaces.chain import zoo as models

        card = models.card(name)
        crop_size = card.crop_size if resolution in (None, card.resolution) else None
        return cls(
            "structure",
            card.structure,
            resolution or card.resolution,
            card.use_se,
            crop_size=crop_size,
            statistics=card.statistics,
        )

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> NetworkSource:
        """Return the source that a checkpoint holds; it is checked by :func:`zenopt.train.checkpoint.read`.

        Raises:
            UnknownNameError: Its library has no model of this name.
            TrainError: It is a supernet.
        """
        # Those of later versions are left out.
        source = cls(**{field.name: facts[field.name] for field in fields(cls) if field.name in facts})
        if source.kind == "supernet":
            raise TrainError(
                "These are the weights of a supernet, which is no network; search it (objective.kind=supernet) and take "
                "one out of it with zenopt export-best."
            )
        if source.kind != "structure":
            # A name from a file must not make a library fetch anything.
            _library_resolution(source.kind, source.text)
        return source

    def facts(self) -> dict[str, Any]:
        """Return the source as plain data, for :meth:`from_facts`."""
        return asdict(self)

    @property
    def architecture(self) -> Any | None:
        """The architecture; None for a library's model, which is nothing but a module."""
        return parse_architecture(self.family, self.text) if self.kind == "structure" else None

    @property
    def has_zen_init(self) -> bool:
        """Whether it trains from Zen-NAS's initial weights."""
        architecture = self.architecture
        return architecture is not None and bool(architecture.zen_init)

    def published_evaluation(self) -> PublishedEvaluation:
        """Return how the authors of a library's own weights evaluate them."""
        if self.kind == "timm":
            import timm
            from timm.data import resolve_data_config

            settings = timm.get_pretrained_cfg(self.text)
            found = resolve_data_config({}, pretrained_cfg=settings.to_dict() if settings is not None else {})
            return PublishedEvaluation(
                (found["mean"], found["std"]),
                self.resolution,
                found["crop_pct"],
                "bicubic" if found["interpolation"] == "bicubic" else "bilinear",
            )
        import torchvision

        transforms = torchvision.models.get_model_weights(self.text).DEFAULT.transforms()
        crop, short_side = transforms.crop_size[0], transforms.resize_size[0]
        return PublishedEvaluation(
            (tuple(transforms.mean), tuple(transforms.std)),
            self.resolution,
            min(1.0, crop / short_side),
            transforms.interpolation.value if transforms.interpolation.value == "bicubic" else "bilinear",
        )

    def with_gates(self, use_se: bool | None) -> NetworkSource:
        """Return the source with squeeze-excite gates or without them; None keeps its own choice.

        Raises:
            TrainError: The network has no place for gates, so that there is nothing to choose.
        """
        if use_se is None:
            return self
        params = set()
        with contextlib.suppress(StructureError):  # a family without gates refuses to count them
            if self.architecture is not None:
                params = {
                    count(self.architecture, self.resolution, use_se=gates).params for gates in (True, False)
                }
        if len(params) < 2:
            raise TrainError(
                f"Squeeze-excite gates cannot be chosen (--se, --no-se) for {shortened(self.text)}: it has no place "
                "for them; networks of super-blocks with residual links have."
            )
        return replace(self, use_se=use_se)

    def build(self, num_classes: int, *, pretrained: bool = False, drop_path: float = 0.0) -> nn.Module:
        """Build the network.

        Args:
            num_classes:
                Outputs of the classifier. 0 keeps a library model's own.
            pretrained:
                Take the library's weights; a structure has none.
            drop_path:
                For timm's networks, which set it themselves.

        Raises:
            TrainError: The library is not installed, or its weights cannot be had.
        """
        if self.kind == "structure":
            return build_network(
                parse_architecture(self.family, self.text), num_classes=num_classes, use_se=self.use_se
            )
        try:
            if self.kind == "timm":
                import timm

                options: dict[str, Any] = {"drop_path_rate": drop_path} if drop_path else {}
                if num_classes:
                    options["num_classes"] = num_classes
                with _offline_at_once():
                    return timm.create_model(self.text, pretrained=pretrained, **options)
            import torchvision

            options = {"num_classes": num_classes} if num_classes else {}
            return torchvision.models.get_model(
                self.text, weights="DEFAULT" if pretrained else None, **options
            )
        # A download can fail in as many ways as there are libraries below it; all mean that the weights are not here.
        except Exception as error:
            if not pretrained:
                raise
            reason = textwrap.shorten(str(error), 120, placeholder=" ...")
            raise TrainError(
                f"The weights of {self.kind}:{self.text} are neither in the cache nor to be had; "
                f"give a local file. ({type(error).__name__}: {reason})"
            ) from None


def build_teacher(name: str, weights: str | None, input_size: int | None) -> tuple[nn.Module, int]:
    """Build a teacher with its weights, and return it with its input side.

    Args:
        name:
            `timm:NAME`, `torchvision:NAME`, `bundle:FOLDER`, or a published ZenNet.
        weights:
            A local file. None takes a library's own weights (from its cache or by download).
        input_size:
            The side to feed it, pixels; None takes the one it was made for.

    Raises:
        TrainError, CheckpointError, UnknownNameError: The teacher or its weights cannot be had.
    """
    if name.startswith("bundle:"):
        from zenopt.export.bundle import read_bundle

        folder = Path(name.removeprefix("bundle:"))
        bundle = read_bundle(folder)
        source = NetworkSource.from_bundle(bundle)
        path = Path(weights) if weights else folder / "best.pt"
        if existing_path(str(path)) is None:
            raise TrainError(f"Teacher {name} has no weights: {path} does not exist; set distill.weights.")
    else:
        source = NetworkSource.from_model(name)
        if source.kind == "structure" and weights is None:
            raise TrainError(
                f"Teacher {name} needs distill.weights: a local ZenNAS checkpoint (the links are dead)."
            )
        path = Path(weights) if weights else Path()
    if weights is None and source.kind != "structure":
        teacher = source.build(0, pretrained=True)
    else:
        tensors = read_weights(path)
        # A few library networks end in a convolution; they are built for the library's own number of classes.
        teacher = source.build(count_classes(tensors, f"File {path}") if matrices(tensors) else 0)
        load_weights(teacher, path)
    return teacher, input_size or source.resolution


@contextlib.contextmanager
def _offline_at_once() -> Iterator[None]:
    """Look into the hub's cache alone where its host has no address: otherwise it retries for a minute.

    The hub itself only knows an environment variable, read when it is imported.
    """
    try:
        from huggingface_hub import constants
    except ImportError:
        yield
        return
    before = constants.HF_HUB_OFFLINE
    if not urllib.request.getproxies():
        try:
            socket.getaddrinfo(urllib.parse.urlsplit(constants.ENDPOINT).hostname, 443)
        except OSError:
            constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def shortened(text: str, length: int = 80) -> str:
    """Return a text cut to a length, for messages and titles."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


def _library_resolution(kind: str, name: str) -> int:
    if kind == "timm":
        try:
            import timm
        except ImportError:
            raise TrainError(f"Model timm:{name} needs the package timm, which is not installed.") from None
        if not timm.is_model(name.partition(".")[0]):
            close = ", ".join(timm.list_models(f"*{name.partition('.')[0][:8]}*")[:8])
            raise UnknownNameError(f"timm has no model {name!r}; similar: {close or 'none'}.")
        settings = timm.get_pretrained_cfg(name)
        return int(settings.input_size[-1]) if settings is not None else 224
    import torchvision

    if name not in torchvision.models.list_models():
        raise UnknownNameError(f"torchvision has no model {name!r}; see torchvision.models.list_models().")
    return 299 if name == "inception_v3" else 224
