"""Spaces by name."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

import pytest

from zenopt.core.errors import UnknownNameError
from zenopt.spaces import get_space, list_spaces, register_space
from zenopt.spaces.chain.mobile import MobileSpace
from zenopt.spaces.chain.superres import SuperResSpace
from zenopt.spaces.registry import SPACES


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SPACES, "_found", dict(SPACES._found))


def test_built_in_spaces() -> None:
    assert {"superres", "mobile"} <= set(list_spaces())
    assert get_space("superres") is SuperResSpace
    assert get_space("mobile") is MobileSpace


def test_a_space_of_ones_own() -> None:
    @register_space("mine")
    def make(**options: Any) -> SuperResSpace:
        return SuperResSpace(slots=1, **options)

    assert get_space("mine")().slots == 1
    assert "mine" in list_spaces()
    # Importing a module twice registers the same object twice.
    register_space("mine")(make)
    with pytest.raises(ValueError, match="A space named 'mine' is already registered"):
        register_space("mine")(SuperResSpace)


def test_built_in_names_are_taken_even_before_they_are_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SPACES, "_found", {})
    with pytest.raises(ValueError, match="A space named 'mobile' is already registered"):
        register_space("mobile")(SuperResSpace)


def test_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("theirs", "zenopt.spaces.chain.superres:SuperResSpace", SPACES.group)
    monkeypatch.setattr(SPACES, "_points", {"theirs": point})
    assert "theirs" in list_spaces()
    assert get_space("theirs") is SuperResSpace


def test_objects_by_path() -> None:
    assert get_space("zenopt.spaces.chain.superres:SuperResSpace") is SuperResSpace
    with pytest.raises(
        UnknownNameError,
        match="Space 'no_such_module:Space': Cannot import 'no_such_module': Python finds no such module",
    ):
        get_space("no_such_module:Space")
    with pytest.raises(UnknownNameError, match=r"Module 'zenopt\.spaces' has no 'Nothing'"):
        get_space("zenopt.spaces:Nothing")


@pytest.mark.parametrize("path", ["zenopt.spaces:", ":Space", ":", "..spaces:Space", "zenopt.spaces:a..b"])
def test_malformed_paths(path: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        get_space(path)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(
        UnknownNameError, match=r"Unknown space 'superes'; did you mean 'superres'\? Known spaces: "
    ):
        get_space("superes")
