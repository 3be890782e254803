"""Blocks of a user's own reach zenopt: by an installed package, by a module that is named, never by a bundle alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from zenopt.cli import main
from zenopt.core.errors import BundleError, ExtensionError, ProxyError, StructureError, UnknownNameError
from zenopt.core.extensions import import_extension
from zenopt.export.bundle import Bundle, read_bundle, write_bundle
from zenopt.proxies import get_proxy
from zenopt.spaces import get_space
from zenopt.spaces.chain import architecture as registry
from zenopt.spaces.chain.architecture import Architecture, block_modules, block_types

BLOCK = """
from dataclasses import dataclass
from zenopt.spaces.chain.architecture import ResidualBlock, register_block
from zenopt.core.primitives import Relu, conv_norm

@register_block("OwnK{kernel}", kernel=(3, 5))
@dataclass(frozen=True)
class Own(ResidualBlock):
    kernel: int

    def expand(self):
        return (*conv_norm(self.in_channels, self.out_channels, self.kernel, self.stride), Relu(self.out_channels))
"""
TEXT = "SuperConvK3BNRELU(3,8,1,1)OwnK3(8,16,2,8,1)"


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    variants, modules = dict(registry._VARIANTS), set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    registry._VARIANTS.clear()
    registry._VARIANTS.update(variants)
    registry._load_entry_points.cache_clear()
    for name in set(sys.modules) - modules:
        if name.startswith("own_"):
            del sys.modules[name]


def write(folder: Path, name: str, text: str = BLOCK) -> Path:
    path = folder / f"{name}.py"
    path.write_text(text)
    return path


def test_a_file_is_imported_once_and_found_by_its_name(tmp_path: Path) -> None:
    path = write(tmp_path, "own_block")
    module = import_extension(str(path))
    assert import_extension(str(path)) is module is import_extension("own_block")
    assert str(Architecture.parse(TEXT)) == TEXT
    assert {"OwnK3", "OwnK5"} <= set(block_types())
    assert block_modules(["OwnK5", "SuperResK3K3", "Nothing"]) == {"OwnK5": "own_block"}


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        (
            "no_such_module",
            "Cannot import 'no_such_module': Python finds no such module; give the path of its",
        ),
        ("no/such.py", "there is no such file"),
        ("own module", "expected package.module, or the path of a .py file"),
        ("own-bad.py", "'own-bad' is no name for a module"),
        ("own_broken.py", "SyntaxError"),
        ("own_lacks.py", "No module named 'not_there_at_all'"),
        ("own_taken.py", "ValueError: Block type 'SuperResK3K3' is already registered"),
    ],
)
def test_what_cannot_be_imported_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "own-bad")
    write(tmp_path, "own_broken", "def:")
    write(tmp_path, "own_lacks", "import not_there_at_all")
    write(tmp_path, "own_taken", BLOCK.replace("OwnK{kernel}", "SuperResK{kernel}K{kernel}"))
    with pytest.raises(ExtensionError, match=complaint) as caught:
        import_extension(name)
    assert "\n" not in str(caught.value)


def test_another_module_of_that_name_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    import_extension(str(write(tmp_path, "own_twice")))
    with pytest.raises(ExtensionError, match="a module named 'own_twice' is loaded already"):
        import_extension(str(write(tmp_path / "other", "own_twice", "")))


def test_a_spec_that_names_a_broken_module_is_one_line(tmp_path: Path) -> None:
    import_extension(str(write(tmp_path, "own_first", "")))
    write(tmp_path, "own_broken", "def:")
    with pytest.raises(
        UnknownNameError, match="Space 'own_broken:Space': Cannot import 'own_broken': SyntaxErr"
    ):
        get_space("own_broken:Space")
    with pytest.raises(ProxyError, match="Proxy 'own_broken:p': Cannot import 'own_broken': SyntaxErr"):
        get_proxy("own_broken:p")


def test_blocks_of_installed_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    write(tmp_path, "own_packaged")
    points = [EntryPoint("own", "own_packaged", registry.ENTRY_POINT_GROUP)]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    registry._load_entry_points.cache_clear()
    Architecture.parse("SuperConvK3BNRELU(3,8,1,1)")
    assert "own_packaged" not in sys.modules
    assert str(Architecture.parse(TEXT)) == TEXT


def test_a_broken_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint("theirs", "own_nowhere:Block", registry.ENTRY_POINT_GROUP)]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    registry._load_entry_points.cache_clear()
    with pytest.raises(StructureError, match=r"Entry point 'theirs' of zenopt.blocks .* cannot be loaded"):
        Architecture.parse(TEXT)


def test_a_bundle_names_its_modules_and_imports_none(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "own_bundled")
    import_extension(str(path))
    folder = write_bundle(Bundle(TEXT, 16, 10), tmp_path / "bundle")
    assert read_bundle(folder).block_modules == {"OwnK3": "own_bundled"}
    assert "--import own_bundled" in (folder / "README.md").read_text()
    # As in a process that has not imported it.
    for name in ("OwnK3", "OwnK5"):
        del registry._VARIANTS[name]
    del sys.modules["own_bundled"]
    with pytest.raises(BundleError, match="If you trust it, give --import own_bundled"):
        read_bundle(folder)
    assert "own_bundled" not in sys.modules
    with pytest.raises(SystemExit) as caught:
        main(["describe", str(folder)])
    assert caught.value.code == 2
    assert capfd.readouterr().err.count("\n") == 1
    main(["describe", str(folder), "--import", str(path), "--json"])
    assert json.loads(capfd.readouterr().out)["structure"] == TEXT


def test_a_bundle_of_published_blocks_names_no_module(tmp_path: Path) -> None:
    folder = write_bundle(Bundle("SuperConvK3BNRELU(3,8,1,1)", 16, 10), tmp_path / "bundle")
    assert read_bundle(folder).block_modules is None
    content = json.loads((folder / "architecture.json").read_text())
    for wrong in (["custom"], {"A": 3}):
        (folder / "architecture.json").write_text(json.dumps({**content, "block_modules": wrong}))
        with pytest.raises(BundleError, match=r"block_modules(\.A)? must be (an object|text), got "):
            read_bundle(folder)
