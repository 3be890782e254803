"""Device profiles: everything known about a device's speed, in one JSON file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from zenopt.core.errors import DeviceError, UnknownNameError, ZenoptError
from zenopt.core.outputs import prepare_output
from zenopt.latency.models import LatencyModel, make_model

SCHEMA_VERSION = 1
DEVICES_FOLDER = Path(__file__).resolve().parent / "devices"
BYTES_PER_NUMBER = {"fp32": 4.0, "fp16": 2.0, "bf16": 2.0, "int8": 1.0}
MAX_BATCH = 65_536
_KEYS = {
    "schema_version", "name", "device", "runtime", "batch", "dtype", "resolutions", "model", "data", "errors",
    "validity", "environment", "created", "notes", "counterpart",
}  # fmt: skip
_REQUIRED = (
    "schema_version",
    "name",
    "device",
    "batch",
    "dtype",
    "resolutions",
    "model",
    "data",
    "errors",
    "validity",
)


@dataclass(frozen=True, eq=False)
class DeviceProfile:
    """A device, how it was run, and a model of its latency.

    Attributes:
        name: Name of the profile.
        device: The device in words.
        runtime: What executed the networks, e.g. ``"PyTorch eager"``.
        batch: Images per forward. Latencies are milliseconds **per image** at this batch.
        dtype: Number format of the networks: ``fp32``, ``fp16``, ``bf16`` or ``int8``.
        resolutions: Smallest and largest input side, in pixels, the profile speaks about.
        model: The model as stored; ``kind`` names it.
        data: What was measured, by whom, and what was left out.
        errors: Errors on networks the model was not fitted to, and how they were obtained.
        validity: ``[lowest, highest]`` of each quantity seen while fitting, e.g. ``latency_ms``.
        environment: Versions, threads and so on where the profile was measured.
        created: Date, ``YYYY-MM-DD``.
        notes: One line for people.
        counterpart: Another profile of the same device and runtime, made another way: a search is checked against it.
    """

    name: str
    device: str
    batch: int
    dtype: str
    resolutions: tuple[int, int]
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    errors: Mapping[str, Any]
    validity: Mapping[str, tuple[float, float]]
    runtime: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)
    created: str = ""
    notes: str = ""
    counterpart: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_model", make_model(self.model, self.batch, BYTES_PER_NUMBER[self.dtype]))
        object.__setattr__(self, "_cache", {})

    @property
    def predictor(self) -> LatencyModel:
        """The model, ready to use."""
        return self._model  # type: ignore[attr-defined]

    @property
    def is_calibrated(self) -> bool:
        """Whether it was made by calibrating a device, so that there is something to measure on."""
        return "options" in self.environment

    @property
    def cache(self) -> dict[Any, Any]:
        """Times of blocks already seen; filled by :mod:`zenopt.latency.predict`."""
        return self._cache  # type: ignore[attr-defined]

    def to_json(self) -> dict[str, Any]:
        """Returns the profile as it is written to a file."""
        return {
            "schema_version": SCHEMA_VERSION,
            "name": self.name,
            "device": self.device,
            "runtime": self.runtime,
            "batch": self.batch,
            "dtype": self.dtype,
            "resolutions": list(self.resolutions),
            "model": dict(self.model),
            "data": dict(self.data),
            "errors": dict(self.errors),
            "validity": {key: list(value) for key, value in self.validity.items()},
            "counterpart": self.counterpart,
            "environment": dict(self.environment),
            "created": self.created,
            "notes": self.notes,
        }

    def save(self, path: str | Path) -> None:
        """Writes the profile as JSON.

        Raises:
            DeviceError: If the file cannot be written.
        """
        path = prepare_output(path)
        try:
            path.write_text(json.dumps(self.to_json(), indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise DeviceError(f"Cannot write device profile {path}: {error.strerror}.") from error


def list_profiles() -> list[str]:
    """Returns the names of the profiles that come with zenopt."""
    return sorted(path.stem for path in DEVICES_FOLDER.glob("*.json"))


def load_profile(name_or_path: str | Path | DeviceProfile) -> DeviceProfile:
    """Returns the profile of a given name, or reads one from a file.

    Args:
        name_or_path:
            A name from :func:`list_profiles`, or a path (anything with a folder or the ending ``.json``).

    Raises:
        UnknownNameError: If no profile has this name; the message lists the known ones.
        DeviceError: If the file is missing, damaged or of an unknown version.
    """
    if isinstance(name_or_path, DeviceProfile):
        return name_or_path
    text = str(name_or_path)
    if text in list_profiles():
        path = DEVICES_FOLDER / f"{text}.json"
    elif text.endswith(".json") or "/" in text or "\\" in text:
        path = Path(text)
    else:
        raise UnknownNameError(
            f"Unknown device profile {text!r}; known: {', '.join(list_profiles())}, or the path of a .json file."
        )
    try:
        # The time of change is part of the key, so that a profile calibrated again is read again.
        return _read(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise DeviceError(f"Cannot read device profile {path}: {error.strerror}.") from error


@lru_cache(maxsize=64)
def _read(path: Path, changed: int) -> DeviceProfile:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise DeviceError(f"Device profile {path} is not valid JSON: {error}.") from error
    try:
        return profile_from_json(content)
    except ZenoptError as error:
        raise DeviceError(f"Device profile {path}: {str(error).rstrip('.')}.") from error


def profile_from_json(content: Any) -> DeviceProfile:
    """Makes a profile from what :meth:`DeviceProfile.to_json` returned.

    Raises:
        DeviceError: If a key is missing, unknown or of the wrong kind.
    """
    if not isinstance(content, Mapping):
        raise DeviceError("expected a JSON object")
    version = content.get("schema_version")
    if version != SCHEMA_VERSION:
        raise DeviceError(f"schema_version is {version!r}, this zenopt reads {SCHEMA_VERSION}")
    missing = [key for key in _REQUIRED if key not in content]
    unknown = sorted(set(content) - _KEYS)
    if missing or unknown:
        raise DeviceError(
            f"missing keys: {', '.join(missing) or 'none'}; unknown keys: {', '.join(unknown) or 'none'}"
        )
    for key in ("model", "data", "errors", "validity"):
        _expect(isinstance(content[key], Mapping), key, "an object", content[key])
    for key in ("name", "device", "dtype"):
        _expect(isinstance(content[key], str) and content[key] != "", key, "a text", content[key])
    _expect(
        content["dtype"] in BYTES_PER_NUMBER,
        "dtype",
        f"one of {', '.join(BYTES_PER_NUMBER)}",
        content["dtype"],
    )
    batch = content["batch"]
    _expect(_is_whole(batch, MAX_BATCH), "batch", f"a whole number from 1 to {MAX_BATCH}", batch)
    resolutions = content["resolutions"]
    _expect(
        isinstance(resolutions, list) and len(resolutions) == 2 and all(_is_whole(r, 65_536) for r in resolutions),
        "resolutions", "[smallest, largest] side in pixels", resolutions,
    )  # fmt: skip
    for key, value in content["validity"].items():
        _expect(
            isinstance(value, list) and len(value) == 2 and all(_is_number(number) for number in value),
            f"validity.{key}", "[lowest, highest]", value,
        )  # fmt: skip
    return DeviceProfile(
        name=content["name"],
        device=content["device"],
        batch=batch,
        dtype=content["dtype"],
        resolutions=(resolutions[0], resolutions[1]),
        model=dict(content["model"]),
        data=dict(content["data"]),
        errors=dict(content["errors"]),
        validity={key: (value[0], value[1]) for key, value in content["validity"].items()},
        runtime=str(content.get("runtime", "")),
        environment=dict(content.get("environment") or {}),
        created=str(content.get("created", "")),
        notes=str(content.get("notes", "")),
        counterpart=str(content.get("counterpart", "")),
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any, largest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= largest


def _expect(condition: bool, key: str, wanted: str, value: Any) -> None:
    if not condition:
        text = repr(value)
        raise DeviceError(f"{key} must be {wanted}, got {text if len(text) <= 60 else text[:57] + '...'}")
