"""A network with the resolution, classes and gates it is timed with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from zenopt.core.description import unit_names

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
        """Build the network with its initial weights."""
        if self.architecture is None:
            from zenopt.nn.libraries import library_model

            return library_model(self.text, self.num_classes)
        from zenopt.nn import build_network

        return build_network(self.architecture, num_classes=self.num_classes, use_se=self.use_se)

    def predict(self, profile: DeviceProfile, *, any_resolution: bool = False) -> Prediction:
        """Predict the latency; a library's model is traced."""
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
        """Return ``name``, ``latency_ms`` and ``share`` of each block (or layer), the head last.

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
        """Measure the latency; ``cache``: as in :func:`~zenopt.latency.measure.measure_architecture`."""
        from zenopt.latency.measure import measure_architecture, measure_module

        options = replace(options, resolution=self.resolution)
        if self.architecture is None:
            return measure_module(self.build(), options)
        return measure_architecture(
            self.architecture, options, num_classes=self.num_classes, use_se=self.use_se, **cache
        )
