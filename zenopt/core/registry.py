"""One way to find things by name: a decorator, entry points of installed packages, and ``package.module:object``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, Literal, TypeVar

from zenopt.core.errors import ExtensionError, UnknownNameError, ZenoptError
from zenopt.core.extensions import MissingModuleError, import_named, load_object
from zenopt.core.text import QUOTED, quoted, quoted_list

T = TypeVar("T")
_Registered = TypeVar("_Registered")


@dataclass(frozen=True)
class Origin:
    """Where something that has a name comes from.

    Attributes:
        how: ``"built in"``; ``"entry point"`` of an installed package; ``"import"``: by a module of this run.
        package: The package: ``"zenopt"``, an installed distribution, or that of the module.
        module: The module that registers it.
    """

    how: Literal["built in", "entry point", "import"]
    package: str
    module: str

    def __str__(self) -> str:
        return {"built in": "built in", "entry point": f"package {self.package}"}.get(
            self.how, f"module {self.module}"
        )


def origin_of_point(point: EntryPoint) -> Origin:
    """Return where an entry point comes from."""
    module = point.value.partition(":")[0]
    return Origin("entry point", point.dist.name if point.dist else module.partition(".")[0], module)


def origin_of_module(module: str) -> Origin:
    """Return where what a module has registered comes from."""
    package = module.partition(".")[0]
    return Origin("built in" if package == "zenopt" else "import", package, module)


class Registry(Generic[T]):
    """Things of one kind by name.

    Args:
        kind:
            What they are, in one word, for messages: ``"sampler"``.
        group:
            Entry-point group in which installed packages name theirs; each is loaded when it is asked for.
        built_in:
            Name -> module that registers it when it is imported, so that one can be had without the others.
        prefixes:
            Beginning of a name, e.g. ``"learned:"`` -> ``module:function`` that is called with the whole name.
        convert:
            Called with an object that was found by ``package.module:object``, its name, and whether a person has named
            it in this run; returns the thing, or raises.
        error:
            Raised where a module cannot be loaded.

    Example:
        .. code-block:: python

            SAMPLERS: Registry[Callable[..., BaseSampler]] = Registry("sampler", "zenopt.samplers")

            @SAMPLERS.register("mine")
            def make(spec, worker): ...
    """

    def __init__(
        self,
        kind: str,
        group: str,
        built_in: Mapping[str, str] | None = None,
        *,
        prefixes: Mapping[str, str] | None = None,
        convert: Callable[[Any, str, bool], T] | None = None,
        error: type[ZenoptError] = UnknownNameError,
    ) -> None:
        self.kind = kind
        self.group = group
        self._built_in = dict(built_in or {})
        self._prefixes = dict(prefixes or {})
        self._convert = convert
        self._error = error
        self._found: dict[str, T] = {}
        self._modules: dict[str, str | None] = {}

    def register(self, name: str) -> Callable[[_Registered], _Registered]:
        """Return a decorator that registers what it decorates.

        Raises:
            ValueError: If the name is taken.
        """

        def add(thing: _Registered) -> _Registered:
            self.add(name, thing, getattr(thing, "__module__", None))  # type: ignore[arg-type]
            return thing

        return add

    def add(self, name: str, thing: T, module: str | None = None) -> None:
        """Register a thing under a name; ``module`` is where it comes from.

        Raises:
            ValueError: If the name is taken.
        """
        if self._found.get(name, thing) is not thing or self._built_in.get(name, module) != module:
            raise ValueError(f"A {self.kind} named {name!r} is already registered.")
        self._found[name] = thing
        self._modules[name] = module

    @property
    def built_in(self) -> frozenset[str]:
        """Names that come with zenopt."""
        return frozenset(self._built_in)

    def forget(self, name: str) -> None:
        """Unregister a name; for tests, and for modules that are loaded again."""
        self._found.pop(name, None)

    def names(self) -> list[str]:
        """Return all known names, sorted, without loading anything."""
        return sorted({*self._built_in, *self._found, *self._points})

    def registered(self) -> list[T]:
        """Return what has been registered so far."""
        return list(self._found.values())

    def get(self, name: str, *, stored: bool = False) -> T:
        """Find a thing.

        Args:
            name:
                A known name, or ``package.module:object``.
            stored:
                Whether the name was read from a file or database; then no module is imported for it.

        Raises:
            UnknownNameError: If there is none; the message lists the known names.
            MissingModuleError: If a stored name is of a module that was not imported in this run.
        """
        if name not in self._found and name in self._built_in:
            import_module(self._built_in[name])
        if name not in self._found and name in self._points:
            self._load_point(self._points[name])
        if name in self._found:
            return self._found[name]
        for prefix, path in self._prefixes.items():
            if name.startswith(prefix):
                module, _, attribute = path.partition(":")
                made: T = getattr(import_module(module), attribute)(name)
                return made
        if ":" in name:
            return self._load(name, stored)
        close = get_close_matches(name[:QUOTED], self.names(), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        raise UnknownNameError(
            f"Unknown {self.kind} {quoted(name)}{hint} Known {plural(self.kind)}: "
            f"{quoted_list(self.names(), 190)}."
        )

    def origin(self, name: str) -> Origin:
        """Return where a known name comes from, without loading anything."""
        if name in self._built_in:
            return Origin("built in", "zenopt", self._built_in[name])
        if name in self._points:
            return origin_of_point(self._points[name])
        thing = self._found.get(name)
        return origin_of_module(str(self._modules.get(name) or getattr(thing, "__module__", "?")))

    def _load(self, name: str, stored: bool) -> T:
        try:
            if not stored:
                import_named(name)
            found, is_named = load_object(name)
        except MissingModuleError as error:
            raise MissingModuleError(f"{self.kind.capitalize()} {error}") from None
        except ExtensionError as error:
            raise self._error(f"{self.kind.capitalize()} {quoted(name)}: {error}") from None
        if self._convert is not None:
            return self._convert(found, name, is_named)
        if not is_named:
            # A stored name could be that of any object of a loaded module.
            raise self._error(
                f"{self.kind.capitalize()} {quoted(name)} was read, not asked for: name it yourself, e.g. with --set."
            )
        thing: T = found
        return thing

    def _load_point(self, point: EntryPoint) -> None:
        try:
            import_named(point.value)
            found, _ = load_object(point.value)
            thing = found if self._convert is None else self._convert(found, point.value, True)
        except ExtensionError as error:
            raise self._error(f"Entry point {point.name!r} of {self.group}: {error}") from None
        own = getattr(thing, "name", point.name)
        if isinstance(own, str) and own != point.name:
            raise self._error(
                f"Entry point {point.name!r} of {self.group} registers {own!r}; use one name for both."
            )
        self._found.setdefault(point.name, thing)

    @cached_property
    def _points(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self.group)}


def plural(kind: str) -> str:
    """Return the plural of a kind: proxy -> proxies."""
    return f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"
