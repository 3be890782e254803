"""Device profiles: everything known about a device's speed, in one JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, TypeAdapter

from zenopt.core.errors import DeviceError, UnknownNameError
from zenopt.core.files import PROFILE, read_json, validated
from zenopt.core.outputs import prepare_output
from zenopt.core.text import quoted, quoted_list
from zenopt.latency.models import LatencyModel, make_model

SCHEMA_VERSION = 1
DEVICES_FOLDER = Path(__file__).resolve().parent / "devices"
BYTES_PER_NUMBER = {"fp32": 4.0, "fp16": 2.0, "bf16": 2.0, "int8": 1.0}
MAX_BATCH = 65_536


def _pair(value: Any) -> Any:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError("must be [lowest, highest]")
    return tuple(value)


Side = Annotated[int, Field(strict=True, ge=1, le=65_536)]
Bound = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1)]


@dataclass(frozen=True, eq=False)
class DeviceProfile:
    """A device, how it was run, and a model of its latency.

    Attributes:
        name: Name of the profile.
        device: The device in words.
        runtime: What executed the networks, e.g. ``"PyTorch eager"``.
        batch: Images per forward. Latencies are milliseconds **per image** at this batch.
        dtype: Number format of the networks: ``fp32``, ``fp16``, ``bf16`` or ``int8``.
        resolutions: Smallest and largest input side, in pixels, the profile covers.
        model: The model as stored; ``kind`` names it.
        data: What was measured, by whom, and what was left out.
        errors: Errors on networks the model was not fitted to, and how they were obtained.
        validity: ``[lowest, highest]`` of each quantity seen while fitting, e.g. ``latency_ms``.
        environment: Versions, threads and so on where the profile was measured.
        created: Date, ``YYYY-MM-DD``.
        notes: One line for people.
        counterpart: Another profile of the same device and runtime, made another way: a search is checked against it.
    """

    name: Text
    device: Text
    batch: Annotated[int, Field(strict=True, ge=1, le=MAX_BATCH)]
    dtype: Literal["fp32", "fp16", "bf16", "int8"]
    resolutions: Annotated[tuple[Side, Side], BeforeValidator(_pair)]
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    errors: Mapping[str, Any]
    validity: Mapping[str, Annotated[tuple[Bound, Bound], BeforeValidator(_pair)]]
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
        """Return the profile as it is written to a file."""
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
        """Write the profile as JSON.

        Raises:
            DeviceError: If the file cannot be written.
        """
        path = prepare_output(path)
        try:
            path.write_text(json.dumps(self.to_json(), indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise DeviceError(f"Cannot write device profile {path}: {error.strerror}.") from error


def list_profiles() -> list[str]:
    """Return the names of the profiles that come with zenopt."""
    return sorted(path.stem for path in DEVICES_FOLDER.glob("*.json"))


def load_profile(name_or_path: str | Path | DeviceProfile) -> DeviceProfile:
    """Return the profile of a given name, or reads one from a file.

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
            f"Unknown device profile {quoted(text)}; known: {', '.join(list_profiles())}, or the path of a .json file."
        )
    try:
        # The time of change is part of the key, so that a profile calibrated again is read again.
        stamp = path.stat().st_mtime_ns
    except (OSError, ValueError) as error:
        raise PROFILE.unreadable(path, error) from None
    return _read(path, stamp)


@lru_cache(maxsize=64)
def _read(path: Path, changed: int) -> DeviceProfile:
    return _from_json(read_json(path, PROFILE), path)


def profile_from_json(content: Any) -> DeviceProfile:
    """Make a profile from what :meth:`DeviceProfile.to_json` returned.

    Raises:
        DeviceError: If a key is missing, unknown or of the wrong kind.
    """
    return _from_json(content, "as JSON")


def _from_json(content: Any, path: object) -> DeviceProfile:
    if not isinstance(content, Mapping):
        raise PROFILE.refusal(path, "expected a JSON object")
    version = content.get("schema_version")
    if version != SCHEMA_VERSION:
        raise PROFILE.refusal(
            path, f"schema_version is {quoted(version)}, this zenopt reads {SCHEMA_VERSION}"
        )
    known = {own.name for own in fields(DeviceProfile)}
    required = (own.name for own in fields(DeviceProfile) if own.default is own.default_factory is MISSING)
    missing = [key for key in required if key not in content]
    unknown = sorted(set(content) - known - {"schema_version"})
    if missing or unknown:
        raise PROFILE.refusal(
            path, f"missing keys: {quoted_list(missing)}; unknown keys: {quoted_list(unknown)}"
        )
    values = {key: value for key, value in content.items() if key in known}
    return validated(_ADAPTER, values, path, PROFILE)


_ADAPTER = TypeAdapter(DeviceProfile)
