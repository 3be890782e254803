"""What a person names on the command line: a network with the resolution, classes and gates it is timed with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from zenopt.core.description import unit_names
from zenopt.core.errors import StructureError
from zenopt.core.paths import existing_path

if TYPE_CHECKING:
    from torch import nn

    from zenopt.latency.measure import Measurement
    from zenopt.latency.options import MeasureOptions
    from zenopt.latency.predict import Prediction
    from zenopt.latency.profile import DeviceProfile


@dataclass(frozen=True)
class Target:
    """A network to be timed.

    Attributes:
        text: Canonical text.
        architecture: Its architecture; ``None`` for a model of timm or torchvision.
        resolution: Side of the square input image in pixels.
        num_classes: Outputs of the classifier.
        use_se: Whether it has squeeze-excite gates.
    """

    text: str
    architecture: Any | None
    resolution: int
    num_classes: int
    use_se: bool

    def build(self) -> nn.Module:
        """Builds the network with its initial weights."""
        if self.architecture is None:
            from zenopt.export.names import resolve

            return resolve(self.text).build(self.num_classes)
        from zenopt.nn import build_network

        return build_network(self.architecture, num_classes=self.num_classes, use_se=self.use_se)

    def predict(self, profile: DeviceProfile, *, any_resolution: bool = False) -> Prediction:
        """Predicts the latency; a library's model is traced."""
        from zenopt.latency.predict import predict

        if self.architecture is None:
            from zenopt.latency.trace import predict_module

            return predict_module(self.build(), profile, self.resolution, any_resolution=any_resolution)
        return predict(
            self.architecture,
            profile,
            self.resolution,
            self.num_classes,
            self.use_se,
            any_resolution=any_resolution,
        )

    def shares(
        self, profile: DeviceProfile, *, by_layer: bool = False, any_resolution: bool = False
    ) -> list[dict[str, Any]]:
        """Returns ``name``, ``latency_ms`` and ``share`` of each block (or layer), the head last.

        Parts of a library's model are its direct children.
        """
        from zenopt.latency.predict import block_latencies, check_resolution, operation_latencies

        check_resolution(profile, self.resolution, any_resolution)
        if self.architecture is None:
            from zenopt.latency.trace import module_operation_latencies, step_names

            module = self.build()
            names = step_names(module)
            parts = module_operation_latencies(
                module, profile, self.resolution, any_resolution=any_resolution
            )
        else:
            parts = operation_latencies(
                self.architecture, profile, self.resolution, self.num_classes, self.use_se
            )
            names = unit_names(self.architecture)
        if by_layer:
            return [
                {
                    "name": f"{part.operation.block} {part.operation.role} {part.operation.kind} "
                    f"{part.operation.in_channels}->{part.operation.out_channels}",
                    "latency_ms": part.latency_ms,
                    "share": part.share,
                }
                for part in parts
            ]
        return [
            {
                "name": names[index] if index < len(names) else f"block {index}",
                "latency_ms": latency_ms,
                "share": share,
            }
            for index, (latency_ms, share) in block_latencies(parts).items()
        ]

    def measure(self, options: MeasureOptions, **cache: Any) -> Measurement:
        """Measures the latency; ``cache``: as in :func:`~zenopt.latency.measure.measure_architecture`."""
        from zenopt.latency.measure import measure_architecture, measure_module

        options = replace(options, resolution=self.resolution)
        if self.architecture is None:
            return measure_module(self.build(), options)
        return measure_architecture(
            self.architecture, options, num_classes=self.num_classes, use_se=self.use_se, **cache
        )


def find_target(
    name: str,
    *,
    resolution: int | None = None,
    num_classes: int | None = None,
    use_se: bool | None = None,
    stored: bool = False,
) -> Target:
    """Find a network by what a person typed.

    Args:
        name:
            A structure string, a bundle folder, a study preset or its YAML file (its initial structure is meant), or
            anything else that :func:`zenopt.export.names.resolve` knows.
        resolution, num_classes, use_se:
            Replace what the bundle, preset or family says.
        stored:
            Whether the name was read from a file; then no study file that it names imports anything.

    Raises:
        StructureError: If it is none of these.
    """
    found = _find(name, stored)
    return replace(
        found,
        resolution=found.resolution if resolution is None else resolution,
        num_classes=found.num_classes if num_classes is None else num_classes,
        use_se=found.use_se if use_se is None else use_se,
    )


def _find(name: str, stored: bool) -> Target:
    # Names are settled by rooms above this one; only people use names, so they are imported here.
    from zenopt.export.names import resolve

    path = existing_path(name)
    if path is not None and path.is_dir():
        from zenopt.export.bundle import read_bundle

        bundle = read_bundle(path)
        architecture = resolve(name).architecture
        return Target(bundle.structure, architecture, bundle.resolution, bundle.num_classes, bundle.use_se)
    from zenopt.study.spec import StudySpec, list_presets

    if name in list_presets() or name.endswith((".yaml", ".yml")):
        spec = StudySpec.load(name, stored=stored)
        space = spec.build_space()
        initial = getattr(space, "initial", None)
        if not isinstance(initial, str) or not initial:
            raise StructureError(f"Study {name} has no initial structure to time.")
        architecture = space.parse(initial)
        return Target(str(architecture), architecture, spec.resolution, spec.num_classes, spec.use_se)
    named = resolve(name)
    return Target(named.text, named.architecture, named.resolution, named.num_classes, False)
