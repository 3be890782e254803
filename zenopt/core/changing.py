"""Numbers that change over a run: by a step every so many epochs of a training, or trials of a study.

Such a number is a function of how many epochs or trials came before, and of nothing else: what goes on with a run finds
it where it was. (aw_nas calls such settings schedulable.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import copysign, inf
from sys import float_info
from typing import Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    PlainValidator,
    ValidationError,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from zenopt.core.words import plural

#: Largest number that is read.
_LARGEST = 1e300


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
        raise ValueError("this must be a number")
    return value


_Number = Annotated[float, PlainValidator(_number)]
_Settings = TypeVar("_Settings", bound=BaseModel)

#: More trials than any study has: up to there a setting must keep its range.
MOST_TRIALS = 10**9


class Changing(BaseModel):
    """A number that changes over a run.

    After each ``every`` epochs or trials ``add`` is added, or it is multiplied by ``mul``; it stays within ``min`` and
    ``max`` where they are given. A ``start`` without a fraction is rounded where the setting is an integer.

    Example:
        .. code-block:: python

            Changing(start=0.3, every=50, mul=0.5, min=0.01).at(100)  # 0.075
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    start: _Number
    every: int = Field(1, ge=1, strict=True)
    add: _Number | None = None
    mul: Annotated[_Number, Field(gt=0)] | None = None
    min: _Number | None = None
    max: _Number | None = None

    @model_validator(mode="after")
    def _check(self) -> Changing:
        if (self.add is None) == (self.mul is None):
            raise ValueError("a number that changes needs either the key add or the key mul")
        low, high = self._bounds
        if not low <= self.start <= high:
            raise ValueError("min, start and max must be in this order")
        return self

    @property
    def _bounds(self) -> tuple[float, float]:
        return -inf if self.min is None else self.min, inf if self.max is None else self.max

    @classmethod
    def of(cls, value: float | Changing) -> Changing:
        """Return a number as one that changes, by nothing if it is a plain one."""
        return value if isinstance(value, Changing) else cls.model_construct(start=value, add=0)

    def at(self, number: int) -> Any:
        """Return its value after so many epochs or trials: an integer if it starts with one, else a float."""
        times = number // self.every
        if self.add is not None:
            value = self.start + self.add * times
        else:
            assert self.mul is not None
            try:
                value = self.start * float(self.mul) ** times
            except OverflowError:
                value = self.start * inf if self.start else 0.0
            if value == 0 and self.start:
                # What is halved ever again is never nothing, but for the computer's smallest number.
                value = copysign(float_info.min, self.start)
        low, high = self._bounds
        value = min(max(value, low), high)
        return round(value) if isinstance(self.start, int) and abs(value) != inf else value

    def words(self, unit: str) -> str:
        """Return it in words; ``unit`` is an epoch or a trial."""
        step = f"plus {self.add:g}" if self.add is not None else f"times {self.mul:g}"
        often = f"every {unit}" if self.every == 1 else f"every {plural(self.every, unit)}"
        ends = [f"at least {self.min:g}"] if self.min is not None else []
        ends += [f"at most {self.max:g}"] if self.max is not None else []
        return ", ".join([f"from {self.start:g}", f"{step} {often}", *ends])


class MayChange:
    """Marks a number of some settings as one that may change: ``Annotated[float, Field(ge=0), MayChange()]``.

    Whoever computes with settings reads those :func:`at` an epoch or a trial, which are plain numbers; so the field's
    type is that of a number.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def validate(value: Any, number: Any) -> Any:
            if not isinstance(value, Mapping | Changing):
                return number(value)
            found = Changing.model_validate(value)
            return found.model_copy(update={"start": number(found.start)})

        return core_schema.no_info_wrap_validator_function(
            validate,
            handler(source),
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda value: value.model_dump(exclude_none=True) if isinstance(value, Changing) else value
            ),
        )


def at(settings: _Settings, number: int) -> _Settings:
    """Return settings as they are after so many epochs or trials; the very same ones where nothing changes."""
    update: dict[str, Any] = {}
    for name, value in settings:
        now = value
        if isinstance(value, Changing):
            now = value.at(number)
        elif isinstance(value, BaseModel):
            now = at(value, number)
        if now is not value:
            update[name] = now
    return settings.model_copy(update=update) if update else settings


def changing(settings: BaseModel, prefix: str = "") -> Iterator[tuple[str, Changing]]:
    """Yield the numbers that change, by dotted path."""
    for name, value in settings:
        if isinstance(value, Changing):
            yield prefix + name, value
        elif isinstance(value, BaseModel):
            yield from changing(value, f"{prefix}{name}.")


def check_range(settings: BaseModel, last: int, unit: str) -> None:
    """Find out whether all numbers that change stay what they may be, up to the last epoch or trial.

    They rise or fall all the way, so that the last one tells.

    Raises:
        ValueError: If one does not; says when it leaves its range.
    """
    changes = dict(changing(settings))
    if not changes or _refusal(settings, last) is None:
        return
    low, high = 0, last
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _refusal(settings, middle) else (middle + 1, high)
    path, message = _refusal(settings, low) or ("", "")
    when = f"after {plural(low, unit)}"
    if path not in changes:
        raise ValueError(f"{when}: {path and f'{path}: '}{message}")
    found = changes[path]
    bound = "min" if found.at(low) < found.start else "max"
    raise ValueError(f"{path} would be {found.at(low):g} {when} ({message}); give it a {bound}")


def _refusal(settings: BaseModel, number: int) -> tuple[str, str] | None:
    """Return which setting is refused at a time, and why."""
    try:
        type(settings).model_validate(at(settings, number).model_dump())
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        message = str(problem["msg"]).removeprefix("Value error, ")
        return ".".join(map(str, problem["loc"])), message[0].lower() + message[1:]
    return None
