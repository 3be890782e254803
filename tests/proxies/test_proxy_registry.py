"""The registry: names, declarations, loading."""

from __future__ import annotations

import subprocess
import sys

import pytest

from zenopt.core.errors import ProxyError, UnknownNameError
from zenopt.proxies import get_proxy, list_proxies, proxy_names, register_proxy
from zenopt.proxies.registry import PROXIES


@register_proxy("test-registry", "minimize", cost_class="closed form", deterministic=True)
def declared(probe: object) -> float:
    """Give one."""
    return 1.0


def undeclared(probe: object) -> float:
    return 1.0


def test_declaration_is_kept() -> None:
    proxy = get_proxy("test-registry")
    assert (proxy.direction, proxy.cost_class, proxy.kind) == ("minimize", "closed form", "network")
    assert proxy.description == "Give one"
    assert proxy.function is declared


def test_every_builtin_registers_under_its_name() -> None:
    assert PROXIES.built_in <= {proxy.name for proxy in list_proxies()}
    # Other tests register proxies of their own, which need no description.
    assert all(proxy.description for proxy in list_proxies() if proxy.name in PROXIES.built_in)


@pytest.mark.parametrize("name", ["test-registry", "zen"])
def test_duplicate_name_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match="already registered"):
        register_proxy(name)(undeclared)
    assert get_proxy(name).function is not undeclared


def test_unknown_name_lists_known_ones() -> None:
    with pytest.raises(
        UnknownNameError, match=r"did you mean 'zen-closed-form'.*Known proxies: az-nas-expressivity"
    ) as caught:
        get_proxy("zen-closed-from")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "declaration",
    [{"direction": "up"}, {"cost_class": "cheap"}, {"kind": "module"}, {"needs": ["money"]}],
)
def test_bad_declaration_is_an_error(declaration: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be one of"):
        register_proxy("test-bad", **declaration)  # type: ignore[arg-type]
    assert "test-bad" not in PROXIES.names()


def test_module_and_object() -> None:
    assert get_proxy("zenopt.proxies.zen:zen") is get_proxy("zen")
    with pytest.raises(ProxyError, match="decorate the function"):
        get_proxy(f"{__name__}:undeclared")
    with pytest.raises(ProxyError, match="Proxy 'no_such_package:thing': Cannot import"):
        get_proxy("no_such_package:thing")
    with pytest.raises(ProxyError, match="has no 'no_such_thing'"):
        get_proxy("zenopt.proxies.zen:no_such_thing")


def test_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint

    good = EntryPoint("test-registry", f"{__name__}:declared", PROXIES.group)
    other = EntryPoint("another-name", f"{__name__}:declared", PROXIES.group)
    monkeypatch.setattr(PROXIES, "_points", {p.name: p for p in (good, other)})
    assert "another-name" in proxy_names()
    known = PROXIES.get("test-registry")
    PROXIES.forget("test-registry")
    with pytest.raises(ProxyError, match="is not a proxy"):
        get_proxy("test-registry")
    PROXIES.add("test-registry", known, __name__)
    assert get_proxy("test-registry").function is declared
    with pytest.raises(ProxyError, match="use one name"):
        get_proxy("another-name")


def test_import_is_cheap() -> None:
    code = (
        "import sys, zenopt.proxies as p; p.proxy_names(); p.get_proxy('zen-closed-form'); "
        "sys.exit('torch' in sys.modules or 'optuna' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
