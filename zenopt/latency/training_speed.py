"""How fast a network trains on one CPU core, roughly: whether a laptop will do.

Fitted by ``benchmarks/training_speed.py`` to training steps (forward, backward, SGD; fp32, one thread) of ten networks
of the presets, 2.4 to 781 million multiply-adds, on one core of a shared x86-64 server: predicted over measured is
0.70 to 1.21. A GPU trains the same networks many times as fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

#: Seconds of a training step for one image: per multiply-add, and per byte of activations.
SECONDS_PER_MAC, SECONDS_PER_BYTE = 7.69e-11, 2.79e-9
#: Images/s of a core from which a laptop trains a small data set in an evening, and below which no CPU is any good.
LAPTOP, GPU_ONLY = 100.0, 15.0
#: Images of a data set such as CIFAR, for an idea of an epoch.
_EPOCH = 50_000


@dataclass(frozen=True)
class TrainingSpeed:
    """The expected speed of training.

    Attributes:
        images_per_second: On one CPU core; good to a factor of about two.
        kind: ``"laptop"``, ``"workstation"`` or ``"gpu"``: the least that trains it in reasonable time.
    """

    images_per_second: float
    kind: str

    @property
    def text(self) -> str:
        """The speed in words."""
        speed = self.images_per_second
        advice = {
            "laptop": "fine on a laptop",
            "workstation": "slow on a laptop; better on many cores or a GPU",
            "gpu": "needs a GPU",
        }[self.kind]
        hours = _EPOCH / speed / 3600
        epoch = f"{hours * 60:.0f} min" if hours < 1.5 else f"{hours:.0f} h"
        if hours < 1.5 / 60:
            epoch = f"{hours * 3600:.0f} s"
        return (
            f"about {float(f'{speed:.1g}' if speed < 10 else f'{speed:.2g}'):,g} images/s on one CPU core "
            f"({_EPOCH:,} images in {epoch}): {advice}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the speed as plain data."""
        return {"images_per_second_per_core": round(self.images_per_second, 1), "kind": self.kind}


def training_speed(macs: int, activation_bytes: int) -> TrainingSpeed:
    """Return the expected training speed of a network.

    Args:
        macs:
            Multiply-adds for one image.
        activation_bytes:
            Bytes of its activations for one image, in fp32.
    """
    speed = 1.0 / (SECONDS_PER_MAC * macs + SECONDS_PER_BYTE * activation_bytes)
    kind = "laptop" if speed >= LAPTOP else "workstation" if speed >= GPU_ONLY else "gpu"
    return TrainingSpeed(speed, kind)
