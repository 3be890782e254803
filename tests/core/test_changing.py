from __future__ import annotations

from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError

from zenopt.core.changing import MOST_TRIALS, Changing, MayChange, at, changing, check_range
from zenopt.core.yamlfile import Source

NUMBERS = st.floats(-1e6, 1e6)
STEPS = st.one_of(
    st.builds(lambda add: {"add": add}, NUMBERS), st.builds(lambda mul: {"mul": mul}, st.floats(0.01, 3))
)


class Inner(BaseModel, extra="forbid"):
    share: Annotated[float, Field(ge=0, lt=1), MayChange()] = 0.1
    count: Annotated[int, Field(ge=1), MayChange()] | None = None
    fixed: float = 1.0


class Outer(BaseModel, extra="forbid"):
    inner: Inner = Inner()
    length: int = 3


def of(**fields: Any) -> Outer:
    return Outer.model_validate({"inner": fields})


@pytest.mark.parametrize(
    ("value", "numbers", "expected"),
    [
        ({"start": 0.0, "add": 0.1}, [0, 1, 5], [0.0, 0.1, 0.5]),
        ({"start": 1.0, "every": 10, "mul": 0.5}, [0, 9, 10, 25], [1.0, 1.0, 0.5, 0.25]),
        ({"start": 1.0, "add": -0.5, "min": 0.25}, [1, 2, 100], [0.5, 0.25, 0.25]),
        ({"start": 2, "every": 3, "add": 1, "max": 4}, [2, 3, 6, 9], [2, 3, 4, 4]),
        # 3 x 1.5 x 1.5 = 6.75: an integer stays one.
        ({"start": 3, "mul": 1.5}, [0, 1, 2], [3, 4, 7]),
        ({"start": 1.0, "mul": 2, "max": 8.0}, [2, 3, MOST_TRIALS], [4.0, 8.0, 8.0]),
        ({"start": 1, "mul": 0.5}, [1, MOST_TRIALS], [0, 0]),
    ],
)
def test_values(value: dict[str, Any], numbers: list[int], expected: list[float]) -> None:
    found = [Changing(**value).at(number) for number in numbers]
    assert found == pytest.approx(expected)
    assert {type(own) for own in found} == {type(value["start"])}


@given(st.floats(0, 1e6), STEPS, st.integers(1, 100), st.integers(0, 10_000), st.integers(0, 10_000))
def test_values_rise_or_fall_all_the_way_and_change_only_at_steps(
    start: float, step: dict[str, float], every: int, one: int, other: int
) -> None:
    own = Changing(start=start, every=every, **step)
    one, other = sorted((one, other))
    assert own.at(0) == start and own.at(one) == own.at(one - one % every)
    rises = step.get("add", step.get("mul", 1) - 1) >= 0
    assert own.at(one) <= own.at(other) if rises else own.at(one) >= own.at(other)


@given(st.floats(0.1, 10), STEPS, st.integers(1, 100), st.integers(0, MOST_TRIALS), st.data())
def test_bounds_hold_and_json_keeps_everything(
    start: float, step: dict[str, float], every: int, number: int, data: st.DataObject
) -> None:
    low, high = data.draw(st.floats(0, start)), data.draw(st.floats(start, 100))
    own = Changing(start=start, every=every, min=low, max=high, **step)
    assert low <= own.at(number) <= high
    assert Changing.model_validate_json(own.model_dump_json(exclude_none=True)).at(number) == own.at(number)


def test_words() -> None:
    assert Changing(start=0.2, every=5, add=-0.01, min=0).words("epoch") == (
        "from 0.2, plus -0.01 every 5 epochs, at least 0"
    )
    assert Changing(start=1, mul=0.5, max=2).words("trial") == "from 1, times 0.5 every trial, at most 2"


def test_settings_of_a_time_are_plain_and_constant_ones_are_the_same_object() -> None:
    constant = of(share=0.5)
    assert at(constant, 7) is constant and not dict(changing(constant))
    moving = of(share={"start": 0, "add": 0.25}, count={"start": 1, "every": 2, "add": 1})
    assert at(moving, 3) == of(share=0.75, count=2)
    assert isinstance(at(moving, 0).inner.share, float)
    assert list(dict(changing(moving))) == ["inner.share", "inner.count"]
    assert Outer.model_validate(moving.model_dump(mode="json")) == moving
    assert Outer.model_validate_json(moving.model_dump_json()) == moving


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ({"start": 0, "add": 1, "mul": 2}, ["inner.share", "either the key add or the key mul"]),
        ({"start": 0}, ["either the key add or the key mul"]),
        ({"start": 0, "add": 1, "every": 0}, ["inner.share.every", "greater than or equal to 1", "got 0"]),
        ({"start": 0, "add": 1, "every": 1.5}, ["inner.share.every", "valid integer"]),
        ({"start": 0, "ad": 1}, ["unknown key (did you mean 'add'?)", "start, every, add, mul, min, max"]),
        ({"start": 2, "add": 1}, ["inner.share", "less than 1, got 2"]),
        ({"start": 0.5, "add": 0.1, "max": 0.4}, ["min, start and max must be in this order"]),
        ({"start": "0", "add": 1}, ["inner.share.start", "must be a number", "got '0'"]),
        ({"start": True, "add": 1}, ["inner.share.start", "must be a number"]),
        ({"start": 0, "add": float("nan")}, ["inner.share.add", "must be a number"]),
        ({"start": 0.5, "mul": 0}, ["inner.share.mul", "greater than 0"]),
        ({"start": 0.5, "mul": 10**400}, ["inner.share.mul", "must be a number"]),
        ({"add": 1}, ["inner.share.start", "this key is required"]),
    ],
)
def test_mistakes_are_said_in_one_line(value: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ValidationError) as caught:
        of(share=value)
    line = Source("x.yaml", {}).explain(caught.value, Outer)
    assert all(part in line for part in parts), line
    assert "\n" not in line


def test_what_cannot_change_says_so() -> None:
    with pytest.raises(ValidationError) as caught:
        of(fixed={"start": 0, "add": 1})
    line = Source("x.yaml", {}).explain(caught.value, Outer)
    assert line == "x.yaml: inner.fixed: expected a number; this setting cannot change over a run."


def test_a_range_that_is_left_says_when_and_what_helps() -> None:
    with pytest.raises(
        ValueError, match=r"^inner.share would be 1 after 20 epochs .*less than 1.*give it a max$"
    ):
        check_range(of(share={"start": 0, "every": 2, "add": 0.1}), 30, "epoch")
    check_range(of(share={"start": 0, "every": 2, "add": 0.1}), 19, "epoch")
    with pytest.raises(ValueError, match=r"would be -0.2 after 3 trials .*give it a min$"):
        check_range(of(share={"start": 0.4, "add": -0.2}), MOST_TRIALS, "trial")
    with pytest.raises(ValueError, match=r"inner.count would be 0 after 5 trials .*give it a min$"):
        check_range(of(count={"start": 4, "mul": 0.6}), MOST_TRIALS, "trial")
    check_range(of(share={"start": 0.4, "mul": 0.5}), MOST_TRIALS, "trial")
    assert 0 < Changing(start=0.4, mul=0.5).at(MOST_TRIALS) < 1e-300
