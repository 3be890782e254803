"""One way to find things by name: a decorator, entry points of installed packages, and ``package.module:object``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from zenopt.core.errors import UnknownNameError
from zenopt.core.extensions import load_object

T = TypeVar("T")
_Registered = TypeVar("_Registered")


class Registry(Generic[T]):
    """Things of one kind by name.

    Args:
        kind:
            What they are, in one word, for messages: ``"sampler"``.
        group:
            Entry-point group in which installed packages name theirs; each is loaded when it is asked for.
        built_in:
            Name -> module that registers it when it is imported, so that one can be had without the others.

    Example:
        .. code-block:: python

            SAMPLERS: Registry[SamplerFactory] = Registry("sampler", "zenopt.samplers", {"zen": "zenopt.samplers.zen"})

            @SAMPLERS.register("mine")
            def make(spec): ...
    """

    def __init__(self, kind: str, group: str, built_in: Mapping[str, str] | None = None) -> None:
        self.kind = kind
        self.group = group
        self._built_in = dict(built_in or {})
        self._found: dict[str, T] = {}

    def register(self, name: str) -> Callable[[_Registered], _Registered]:
        """Return a decorator that registers what it decorates.

        Raises:
            ValueError: If the name is taken.
        """

        def add(thing: _Registered) -> _Registered:
            module = getattr(thing, "__module__", None)
            if self._found.get(name, thing) is not thing or self._built_in.get(name, module) != module:
                raise ValueError(f"A {self.kind} named {name!r} is already registered.")
            self._found[name] = thing  # type: ignore[assignment]
            return thing

        return add

    def names(self) -> list[str]:
        """Return all known names, sorted, without loading anything."""
        return sorted({*self._built_in, *self._found, *self._points})

    def get(self, name: str) -> T:
        """Find a thing.

        Args:
            name:
                A known name, or ``package.module:object``.

        Raises:
            UnknownNameError: If there is none; the message lists the known names.
        """
        if name not in self._found and name in self._built_in:
            import_module(self._built_in[name])
        if name not in self._found and name in self._points:
            self.register(name)(load_object(self._points[name].value, self.kind))
        if name in self._found:
            return self._found[name]
        if ":" in name:
            found: T = load_object(name, self.kind)
            return found
        close = get_close_matches(name, self.names(), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        raise UnknownNameError(f"Unknown {self.kind} {name!r}{hint} Known: {', '.join(self.names())}")

    def origin(self, name: str) -> str:
        """Return where a known name comes from: ``"zenopt"``, a package, or the module that registered it."""
        if name in self._built_in:
            return "zenopt"
        if name in self._points:
            return str(self._points[name].value.partition(":")[0])
        return str(getattr(self._found.get(name), "__module__", "?"))

    @cached_property
    def _points(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self.group)}
