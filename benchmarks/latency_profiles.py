"""Fits the profiles of devices that only published figures speak about, and writes their JSON files.

Needs timm (for the GENets) besides zenopt and torchvision. The published latencies and ZenNet structures are in
``tests/fixtures/latency/published.json``; with ``--fixture`` the terms of all networks are written beside them, so that
tests can repeat every fit without building a network.

    python benchmarks/latency_kernels.py TABLE && python benchmarks/latency_profiles.py [--write] [--fixture]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torchvision
from torch import nn

from zenopt.core.lowering import lower
from zenopt.latency.fit import coefficients_json, errors_of, fit_relative, leave_one_out, term_matrix
from zenopt.latency.kernelmodel import operation_kernel
from zenopt.latency.kernels import load_library
from zenopt.latency.operations import Operation, layer_operation
from zenopt.latency.profile import BYTES_PER_NUMBER, DEVICES_FOLDER, SCHEMA_VERSION, profile_from_json
from zenopt.latency.ranges import measured_ranges
from zenopt.latency.trace import trace_operations
from zenopt.spaces.chain.architecture import Architecture

FIXTURES = Path(__file__).resolve().parents[1] / "tests" / "fixtures" / "latency"
LIBRARY = "v100-trt-conv-fp16"
KERNELS = "kernel_ms"
SOURCE = "Published latencies of ZenNets and EfficientNets (Lin et al. 2021)"
SOURCE_V100 = SOURCE + ", ResNets, MobileNetV2 and GENets (Lin et al. 2020)"


@dataclass(frozen=True)
class Recipe:
    """What to fit, and what the profile says of itself."""

    name: str
    column: str
    device: str
    runtime: str
    batch: int
    dtype: str
    terms: tuple[str, ...]
    source: str
    notes: str
    left_out: str = ""
    counterpart: str = ""


RECIPES = (
    Recipe(
        "v100-fp16-b64", "v100_ms", "NVIDIA V100", "PyTorch eager", 64, "fp16",
        ("dense_gmacs", "depthwise_gmacs", "traffic_gb"), SOURCE_V100,
        "Three constants: two arithmetic rates and the traffic of every layer.",
        "flops900M_SE: its published 0.55 ms equals its T4 value, and fits to all others give 0.41 ms",
        "v100-fp16-b64-eager",
    ),
    Recipe(
        "v100-fp16-b64-eager", "v100_ms", "NVIDIA V100", "PyTorch eager", 64, "fp16",
        (KERNELS, "elementwise_gb", "gate_gb"), SOURCE_V100,
        "Every convolution at its kernel-library time, plus the traffic of what an eager runtime does not fuse.",
        "flops900M_SE: its published 0.55 ms equals its T4 value, and fits to all others give 0.41 ms",
        "v100-fp16-b64",
    ),
    Recipe(
        "t4-int8-b64", "t4_ms", "NVIDIA T4", "TensorRT int8", 64, "int8",
        ("dense_gmacs", "depthwise_gmacs", "traffic_gb", "gate_gb"), SOURCE,
        "Four constants from twelve networks; little more than an interpolation between them.",
    ),
    Recipe(
        "pixel2-b1", "pixel2_ms", "Google Pixel 2", "single image, as published", 1, "fp32",
        ("gmacs", "traffic_gb"), SOURCE,
        "From twelve networks; number format and runtime were not published, fp32 is assumed.",
    ),
)  # fmt: skip


def torchvision_networks() -> dict[str, tuple[Callable[[], nn.Module], int]]:
    models = torchvision.models
    return {
        "ResNet-34": (models.resnet34, 224),
        "ResNet-152": (models.resnet152, 224),
        "MobileNetV2-1.4": (partial(models.mobilenet_v2, width_mult=1.4), 224),
        "EfficientNet-B2": (models.efficientnet_b2, 260),
        "EfficientNet-B3": (models.efficientnet_b3, 300),
        "EfficientNet-B5": (models.efficientnet_b5, 456),
        "EfficientNet-B6": (models.efficientnet_b6, 528),
    }


def operations_of(name: str, entry: dict[str, Any]) -> tuple[Operation, ...]:
    """Lower or trace a published network at its own resolution."""
    if "structure" in entry:
        layers = lower(Architecture.parse(entry["structure"]), entry["resolution"], use_se=entry["use_se"])
        return tuple(map(layer_operation, layers))
    known = torchvision_networks()
    if name in known:
        make, resolution = known[name]
        return trace_operations(make(), resolution)
    import timm

    # timm's names: GENet-light, -normal and -large are gernet_s, _m and _l.
    make = partial(
        timm.create_model, {"light": "gernet_s", "normal": "gernet_m", "large": "gernet_l"}[name[6:]]
    )
    return trace_operations(make(), entry["resolution"])


def matrix_of(networks: Sequence[Sequence[Operation]], recipe: Recipe) -> np.ndarray:
    terms = [term for term in recipe.terms if term != KERNELS]
    matrix = term_matrix(networks, terms, recipe.batch, BYTES_PER_NUMBER[recipe.dtype])
    if KERNELS not in recipe.terms:
        return matrix
    library = load_library(LIBRARY)
    kernel_ms = [
        sum(
            library.time_ms(operation_kernel(op, recipe.batch)) for op in ops if op.kind in ("conv", "linear")
        )
        for ops in networks
    ]
    return np.column_stack([np.array(kernel_ms) / recipe.batch, matrix])


def fit_profile(
    recipe: Recipe, published: dict[str, Any], operations: dict[str, tuple[Operation, ...]]
) -> Any:
    names = [name for name, entry in published.items() if entry.get(recipe.column) is not None]
    times = np.array([published[name][recipe.column] for name in names])
    networks = [operations[name] for name in names]
    matrix = matrix_of(networks, recipe)
    values = fit_relative(matrix, times)
    held_out = leave_one_out(matrix, times)
    coefficients = dict(coefficients_json(recipe.terms, values))
    model: dict[str, Any] = {"kind": "additive", "coefficients": coefficients}
    if KERNELS in recipe.terms:
        factor = coefficients.pop(KERNELS)
        model = {
            "kind": "kernels", "library": LIBRARY, "dense": factor, "depthwise": factor, "fused": False,
            "coefficients": coefficients,
        }  # fmt: skip
    rows = zip(names, times, held_out, strict=True)
    resolutions = [published[name]["resolution"] for name in names]
    return {
        "schema_version": SCHEMA_VERSION,
        "name": recipe.name,
        "device": recipe.device,
        "runtime": recipe.runtime,
        "batch": recipe.batch,
        "dtype": recipe.dtype,
        # Networks of 192 to 528 pixels were seen; arithmetic and traffic carry a little further down.
        "resolutions": [128, max(resolutions)],
        "model": model,
        "data": {
            "source": recipe.source,
            "left_out": recipe.left_out,
            "networks": {name: {"published_ms": t, "held_out_ms": float(f"{p:.4g}")} for name, t, p in rows},
        },
        "errors": {"protocol": "leave one network out", **errors_of(held_out, times).to_json()},
        "validity": {"latency_ms": [float(times.min()), float(times.max())], **measured_ranges(networks)},
        "counterpart": recipe.counterpart,
        "environment": {},
        "created": date.today().isoformat(),
        "notes": recipe.notes,
    }


def tensorrt_profile() -> Any:
    """The kernel library itself, with everything that fuses fused; what does not is priced as a memory-bound kernel."""
    library = load_library(LIBRARY)
    dense = library.parameters["dense"]
    dense_errors = library.errors["dense"]["held-out shapes, 20 %"]
    depthwise_errors = library.errors["depthwise"]["held-out shapes, 20 %"]
    return {
        "schema_version": SCHEMA_VERSION,
        "name": "v100-fp16-b64-tensorrt",
        "device": "NVIDIA V100",
        "runtime": "TensorRT",
        "batch": 64,
        "dtype": "fp16",
        "resolutions": [32, 480],
        "model": {
            "kind": "kernels", "library": LIBRARY, "dense": 1.0, "depthwise": 1.0, "fused": True,
            "coefficients": {"elementwise_gb": dense["memory"], "elementwise_count": dense["launch"]},
        },
        "data": dict(library.data),
        "errors": {
            "protocol": "single kernels of held-out shapes; no whole network was measured",
            "mape": dense_errors["mape"],
            "kernels": {"dense": dense_errors, "depthwise": depthwise_errors},
        },
        "validity": {},
        "counterpart": "",
        "environment": {},
        "created": date.today().isoformat(),
        "notes": "Sum of kernel times with BN, ReLU and additions fused, as an inference engine would run the network.",
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the profiles into the package")
    parser.add_argument(
        "--fixture", action="store_true", help="write the terms of all networks for the tests"
    )
    options = parser.parse_args()
    published = json.loads((FIXTURES / "published.json").read_text())
    operations = {name: operations_of(name, entry) for name, entry in published.items()}
    terms: dict[str, Any] = {}
    for content in [fit_profile(recipe, published, operations) for recipe in RECIPES] + [tensorrt_profile()]:
        profile_from_json(content)  # refuses to write what it could not read
        print(content["name"], json.dumps(content["model"]), json.dumps(content["errors"]))
        if options.write:
            (DEVICES_FOLDER / f"{content['name']}.json").write_text(json.dumps(content, indent=1) + "\n")
    for recipe in RECIPES:
        names = [name for name, entry in published.items() if entry.get(recipe.column) is not None]
        terms[recipe.name] = {
            "terms": recipe.terms,
            "networks": names,
            "published_ms": [published[name][recipe.column] for name in names],
            "matrix": matrix_of([operations[name] for name in names], recipe).tolist(),
        }
    if options.fixture:
        (FIXTURES / "terms.json").write_text(json.dumps(terms) + "\n")


if __name__ == "__main__":
    main()
