"""The registry of proxies: names, directions and where their functions are. Imports neither torch nor optuna.

A proxy is a training-free score of a network. Built-in families are imported when one of their names is asked for;
third-party ones come from the entry-point group ``zenopt.proxies`` or are named as ``package.module:object``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from zenopt.core.errors import ProxyError
from zenopt.core.registry import Registry
from zenopt.core.text import quoted
from zenopt.proxies.catalogue import BUILTIN, Summary

Direction = Literal["maximize", "minimize"]
CostClass = Literal["closed form", "forward", "backward"]
Kind = Literal["network", "architecture"]
#: What the shared passes can compute; see :mod:`zenopt.proxies.passes`.
Feature = Literal["weights", "activations", "hessian", "jacobian"]

NEEDS = ("data", "labels", "gradients")

#: Built-in name -> module that registers it, so that one proxy can be had without importing the others.
_BUILTIN = {name: f"zenopt.proxies.{summary.module}" for name, summary in BUILTIN.items()}


@dataclass(frozen=True)
class ScoreSettings:
    """What a proxy of architectures is told beside the architecture.

    Attributes:
        resolution: Side of the square input image in pixels.
        num_classes: Outputs of the classifier.
        batch_size: Images in the batch.
        gamma: Size of the input perturbation (Zen-scores).
        seed, repeat: Together they fix every random number of one score.
        device: A torch device, as text.
        residual: Whether residual links are built.
        use_se: Whether squeeze-excite gates are built.
    """

    resolution: int
    num_classes: int
    batch_size: int
    gamma: float
    seed: int
    repeat: int
    device: str
    residual: bool
    use_se: bool


@dataclass(frozen=True)
class Proxy:
    """A registered proxy.

    Attributes:
        name: Its name on the command line and in study specs.
        direction: ``"maximize"`` if a better network has a higher score, else ``"minimize"``.
        cost_class: ``"closed form"`` (no tensors), ``"forward"`` or ``"backward"`` passes.
        needs: Any of ``"data"``, ``"labels"``, ``"gradients"``; noise and random labels serve where none are given.
        kind: ``"network"`` proxies score any ``nn.Module``; ``"architecture"`` proxies need an architecture.
        description: One line for people.
        function: Called with a :class:`~zenopt.proxies.probe.Probe` (network) or with an architecture and
            :class:`ScoreSettings` (architecture); returns a number.
        on_architecture: A cheaper way to the same score that takes an architecture and :class:`ScoreSettings`.
        residual: Whether an architecture is scored with residual links unless the caller says.
        deterministic: Whether the score depends on no random number, so that repeats would agree.
        shares: Which shared passes it reads (see :mod:`zenopt.proxies.passes`), so that they are planned together.
        per_layer: For a score that is a sum over layers, what each layer adds, by its name; called with a Probe.
        version: Which version of a file it was read from; scores of another one are not its own.
        own_resolution: Side of the images that it brings along, pixels: resolution, classes and gates that it is asked
            for are not looked at. ``None`` where it has no images of its own.
    """

    name: str
    direction: Direction
    cost_class: CostClass
    needs: tuple[str, ...]
    kind: Kind
    description: str
    function: Callable[..., float]
    on_architecture: Callable[[Any, ScoreSettings], float] | None = None
    residual: bool = True
    deterministic: bool = False
    shares: tuple[Feature, ...] = ()
    per_layer: Callable[..., dict[str, Any]] | None = None
    version: str = ""
    own_resolution: int | None = None


_F = TypeVar("_F", bound=Callable[..., float])


def _as_proxy(found: Any, name: str, is_named: bool) -> Proxy:
    if isinstance(found, Proxy):
        return found
    proxy = proxy_of(found)
    if proxy is None:
        raise ProxyError(
            f"{quoted(name)} is not a proxy; decorate the function with zenopt.proxies.register_proxy(name, direction)."
        )
    return proxy


PROXIES: Registry[Proxy] = Registry(
    "proxy",
    "zenopt.proxies",
    _BUILTIN,
    # Learned, from files and folders, in rooms above this one.
    prefixes={
        "learned:": "zenopt.predictors.learned:learned_proxy",
        "supernet:": "zenopt.supernet.proxy:supernet_proxy",
    },
    convert=_as_proxy,
    error=ProxyError,
)


def register_proxy(
    name: str,
    direction: Direction = "maximize",
    *,
    cost_class: CostClass = "forward",
    needs: Iterable[str] = (),
    kind: Kind = "network",
    description: str = "",
    on_architecture: Callable[[Any, ScoreSettings], float] | None = None,
    residual: bool = True,
    deterministic: bool = False,
    shares: Iterable[Feature] = (),
) -> Callable[[_F], _F]:
    """Register a function as a proxy.

    Args:
        name:
            Name to find it by.
        direction:
            ``"maximize"`` or ``"minimize"``.
        cost_class:
            ``"closed form"``, ``"forward"`` or ``"backward"``.
        needs:
            Any of ``"data"``, ``"labels"``, ``"gradients"``.
        kind:
            ``"network"``: the function takes a :class:`~zenopt.proxies.probe.Probe`. ``"architecture"``: it takes an
            architecture and :class:`ScoreSettings`.
        description:
            One line; by default the first line of the function's docstring.
        on_architecture:
            For a network proxy, a cheaper way to the same score that takes an architecture and :class:`ScoreSettings`.
        residual:
            Whether architectures are scored with residual links by default.
        deterministic:
            Whether no random number enters.
        shares:
            Which shared passes the function reads: any of ``"weights"``, ``"activations"``, ``"hessian"``,
            ``"jacobian"``. A hint: what is not declared is computed when asked for.

    Returns:
        The decorator; it gives the function back unchanged.

    Raises:
        ValueError: If the name is taken or a declaration is not one of those allowed.

    Example:
        .. code-block:: python

            @register_proxy("conv-count", cost_class="closed form", deterministic=True)
            def conv_count(probe):
                return sum(isinstance(module, nn.Conv2d) for module in probe.network.modules())
    """
    _check_declared("direction", direction, ("maximize", "minimize"))
    _check_declared("cost_class", cost_class, ("closed form", "forward", "backward"))
    _check_declared("kind", kind, ("network", "architecture"))
    needs = tuple(needs)
    for need in needs:
        _check_declared("needs", need, NEEDS)

    def register(function: _F) -> _F:
        first_line = next(iter((function.__doc__ or "").strip().splitlines()), "")
        summary = description or first_line.replace("``", "").removesuffix(".")
        proxy = Proxy(
            name, direction, cost_class, needs, kind, summary, function, on_architecture, residual, deterministic,
            tuple(shares), getattr(function, "per_layer", None),
        )  # fmt: skip
        PROXIES.add(name, proxy, function.__module__)
        return function

    return register


def get_proxy(name: str, *, stored: bool = False) -> Proxy:
    """Find a proxy.

    Args:
        name:
            A built-in or registered name, the name of an entry point, ``package.module:object``, ``learned:FILE`` (see
            :mod:`zenopt.predictors.learned`), or ``supernet:DIR`` (see :mod:`zenopt.supernet.proxy`).
        stored:
            Whether the name was read from a file or database; then no module is imported for it.

    Raises:
        UnknownNameError: If there is none; the message lists the known names.
        ProxyError: If ``package.module:object`` or an entry point cannot be loaded or is no proxy.
        MissingModuleError: If a stored name is of a module that was not imported in this run.
    """
    return PROXIES.get(name, stored=stored)


def proxy_names() -> list[str]:
    """Return the names of all known proxies without loading them."""
    return PROXIES.names()


def check_proxy(name: str, *, stored: bool = False) -> None:
    """Find out whether there is a proxy of a name, as :func:`get_proxy` does; a built-in one is not loaded for it."""
    direction_of(name, stored=stored)


def direction_of(name: str, *, stored: bool = False) -> Direction:
    """Return which scores of a proxy are better; a built-in one is not loaded for it.

    Raises:
        UnknownNameError, ProxyError, MissingModuleError: As :func:`get_proxy` does.
    """
    return (BUILTIN.get(name) or get_proxy(name, stored=stored)).direction


def summaries() -> list[Summary | Proxy]:
    """Return what people are told of every known proxy, sorted by name, without loading the built-in ones."""
    return [summary_of(name) for name in proxy_names()]


def summary_of(name: str) -> Summary | Proxy:
    """Return what people are told of a proxy; a built-in one is not loaded for it."""
    return BUILTIN.get(name) or get_proxy(name)


def list_proxies() -> list[Proxy]:
    """Load and return all known proxies, sorted by name."""
    return [get_proxy(name) for name in proxy_names()]


def proxy_of(function: Any) -> Proxy | None:
    """Return the proxy that a function was registered as, if any."""
    return next((proxy for proxy in PROXIES.registered() if proxy.function is function), None)


def _check_declared(what: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"A proxy's {what} must be one of {', '.join(map(repr, allowed))}, got {value!r}.")
