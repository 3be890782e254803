"""What commands of ``zenopt latency`` share: how networks are run, and how errors are told."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from zenopt.cli.options import device_option
from zenopt.core.words import plural

if TYPE_CHECKING:
    from zenopt.latency.options import MeasureOptions

F = TypeVar("F", bound=Callable[..., Any])


def run_options(function: F) -> F:
    """Add the options that say how a network is run, read by :func:`measure_options`."""
    for option in reversed(
        (
            device_option("cpu", "cpu, cuda:N or mps."),
            click.option(
                "--batch", type=click.IntRange(1, 65_536), default=1, show_default=True, help="Images per run.",
            ),
            click.option(
                "--dtype", type=click.Choice(["fp32", "fp16", "bf16"]), default="fp32", show_default=True,
                help="Number format.",
            ),
            click.option("--threads", type=click.IntRange(1, 1024), help="CPU threads; else torch's own choice."),
            click.option("--channels-last", is_flag=True, help="Use the channels-last memory format."),
            click.option("--compile", "compiled", is_flag=True, help="Run through torch.compile."),
            click.option("--onnxruntime", is_flag=True, help="Run in onnxruntime instead of torch."),
            click.option(
                "--clock", type=click.Choice(["wall", "cpu"]), default="wall", show_default=True,
                help="cpu: processor time of this process, for busy machines; needs --threads 1.",
            ),
        )
    ):  # fmt: skip
        function = option(function)
    return function


def measure_options(values: dict[str, Any], resolution: int, **more: Any) -> MeasureOptions:
    """Return the measuring options of a command that has :func:`run_options`."""
    from zenopt.latency.options import MeasureOptions

    return MeasureOptions(
        device=values["device"],
        batch=values["batch"],
        resolution=resolution,
        dtype=values["dtype"],
        threads=values["threads"],
        channels_last=values["channels_last"],
        compile=values["compiled"],
        runtime="onnxruntime" if values["onnxruntime"] else "torch",
        clock=values["clock"],
        **more,
    )


#: ``--force`` of the commands that make a profile.
force_option = click.option(
    "--force", is_flag=True, help="Write the profile even if its predictions are of no use."
)


def error_text(what: str, errors: Any) -> str:
    """Return the errors of a profile in a line."""
    text = f"{what}: mean error {errors['mape']:.1%}"
    if "max" in errors:
        rank = "undefined" if errors["spearman"] is None else f"{errors['spearman']:.3f}"
        text += (
            f", largest {errors['max']:.0%}, {errors['within_10']:.0%} within 10%, "
            f"Spearman {rank} ({plural(errors['networks'], 'network')})"
        )
    return text


def without_lists(data: Any) -> dict[str, Any]:
    """Return the data of a profile without the long lists."""
    kept = {key: value for key, value in data.items() if not isinstance(value, dict)}
    if isinstance(data.get("networks"), dict):
        kept["networks"] = len(data["networks"])
    return kept
