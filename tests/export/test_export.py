"""Bundles on disk."""

from __future__ import annotations

import json
import os
import re
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structures import TINY

from zenopt.core.errors import BundleError
from zenopt.export.bundle import Bundle, read_bundle, versions, write_atomically, write_bundle
from zenopt.spaces.chain.architecture import Architecture

STRUCTURE = TINY
BUNDLE = Bundle(
    structure=STRUCTURE,
    resolution=32,
    num_classes=7,
    use_se=True,
    costs={"params": 12_345, "latency_ms": 0.5},
    scores={"proxy": "zen", "search": 12.5, "mean": 12.25, "values": [12.0, 12.5]},
    constraints={"params": -0.25},
    study="mine",
    trial=17,
    spec={"name": "mine", "budget": {"params": 1e6}},
    versions={"zenopt": "1"},
    seed=3,
    candidates=({"trial": 17, "mean": 12.25}, {"trial": 4, "mean": 12.0}),
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    folder = write_bundle(BUNDLE, tmp_path / "deep" / "bundle")
    assert read_bundle(folder) == BUNDLE
    assert read_bundle(str(folder / "architecture.json")) == BUNDLE
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "architecture.json",
        "structure.txt",
    ]
    content = json.loads((folder / "architecture.json").read_text())
    assert content["schema_version"] == 1
    assert set(content) >= {
        *("structure", "resolution", "num_classes", "use_se", "costs", "scores", "constraints"),
        *("study", "trial", "spec", "versions", "seed"),
    }


def test_the_structure_file_holds_the_structure_alone(tmp_path: Path) -> None:
    folder = write_bundle(BUNDLE, tmp_path)
    assert (folder / "structure.txt").read_text() == STRUCTURE + "\n"
    assert str(Architecture.parse((folder / "structure.txt").read_text())) == STRUCTURE


@pytest.mark.parametrize("use_se", [False, True])
def test_the_readme_tells_facts_and_builds_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use_se: bool
) -> None:
    folder = write_bundle(replace(BUNDLE, use_se=use_se), tmp_path)
    text = (folder / "README.md").read_text()
    assert "Trial 17 of study `mine`." in text
    assert "| params | 12,345 |" in text
    assert STRUCTURE in text
    snippet = re.search(r"Or build it:\n\n((?: {4}.*\n)+)", text)
    assert snippet is not None
    monkeypatch.chdir(folder)
    found: dict[str, Any] = {}
    exec(re.sub(r"^ {4}", "", snippet.group(1), flags=re.MULTILINE), found)
    network = found["network"]
    assert (network.num_classes, network.use_se) == (7, use_se)
    assert str(network.architecture) == STRUCTURE


def test_an_older_bundle_is_replaced_only_when_asked(tmp_path: Path) -> None:
    write_bundle(BUNDLE, tmp_path)
    newer = replace(BUNDLE, trial=99)
    with pytest.raises(BundleError, match=r"holds a bundle already; use --force to replace it\.$"):
        write_bundle(newer, tmp_path)
    assert read_bundle(tmp_path) == BUNDLE
    write_bundle(newer, tmp_path, overwrite=True)
    assert read_bundle(tmp_path) == newer


@pytest.mark.parametrize("overwrite", [False, True])
def test_other_folders_are_left_alone(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(BundleError, match="is not empty and holds no bundle"):
        write_bundle(BUNDLE, tmp_path, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(BundleError, match=r"Cannot write bundle .*file: "):
        write_bundle(BUNDLE, tmp_path / "file")
    with pytest.raises(BundleError, match=r"Cannot write bundle .*inner: Not a directory"):
        write_bundle(BUNDLE, tmp_path / "file" / "inner")


def test_files_are_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    write_atomically(path, "old")

    def full_disk(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full_disk)
        with pytest.raises(OSError, match="No space left"):
            write_atomically(path, "new")
        with pytest.raises(BundleError, match=r"Cannot write bundle .*: No space left on device\.$"):
            write_bundle(BUNDLE, tmp_path / "bundle")
    assert path.read_text() == "old"
    assert sorted(found.name for found in tmp_path.iterdir()) == ["a.txt", "bundle"]
    # What a failed attempt left behind does not stop the next one.
    write_bundle(BUNDLE, tmp_path / "bundle")
    assert read_bundle(tmp_path / "bundle") == BUNDLE


@pytest.mark.parametrize("left", [["structure.txt"], [".structure.txt.a1b2"], ["structure.txt", "README.md"]])
def test_an_interrupted_export_can_be_repeated(tmp_path: Path, left: list[str]) -> None:
    for name in left:
        (tmp_path / name).write_text("half")
    write_bundle(BUNDLE, tmp_path)
    assert read_bundle(tmp_path) == BUNDLE


def test_a_folder_with_a_readme_of_its_own_is_no_interrupted_export(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(BundleError, match="holds no bundle"):
        write_bundle(BUNDLE, tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_files_are_as_readable_as_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "a.txt", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, r"schema_version is 2, this zenopt reads 1\.$"),
        ({"schema_version": None}, r"schema_version is None, this zenopt reads 1"),
        ({"structure": None}, r"architecture\.json: structure must be text, got None"),
        (
            {"resolution": "32"},
            r"resolution must be a whole number, got '32'",
        ),
        ({"resolution": True}, r"resolution must be a whole number, got True"),
        ({"num_classes": 0}, r"num_classes must be at least 1, got 0"),
        ({"use_se": 1}, r"use_se must be true or false, got 1"),
        ({"resolution": 10**9}, r"resolution must be at most 8192, got 1000000000"),
        ({"resolution": None}, r"resolution must be a whole number, got None"),
        ({"family": ["chain"]}, r"family must be text, got \['chain'\]"),
        ({"family": "a b"}, r"family must match .*, got 'a b'"),
        ({"trial": "../../x"}, r"trial must be a whole number, got '\.\./\.\./x'"),
        ({"study": 3}, r"study must be text, got 3"),
        ({"candidates": 3}, r"candidates must be a list, got 3"),
        ({"candidates": ["x"]}, r"candidates\.0 must be an object, got 'x'"),
        ({"scores": [1]}, r"scores must be an object, got \[1\]"),
        ({"block_modules": {"A": "os; rm -rf"}}, r"block_modules\.A must match .*, got 'os; rm -rf'"),
    ],
)
def test_damaged_bundles(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = write_bundle(BUNDLE, tmp_path) / "architecture.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(BundleError, match=message):
        read_bundle(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "\xff"])
def test_what_is_no_bundle(tmp_path: Path, text: str) -> None:
    (tmp_path / "architecture.json").write_text(text, encoding="latin-1")
    with pytest.raises(BundleError, match=r"architecture\.json: ") as caught:
        read_bundle(tmp_path)
    assert "\n" not in str(caught.value)


def test_missing_bundles(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "none"):
        with pytest.raises(BundleError, match=r" is not a bundle: it has no architecture\.json\.$"):
            read_bundle(place)


def test_keys_of_later_versions_are_ignored(tmp_path: Path) -> None:
    path = write_bundle(BUNDLE, tmp_path) / "architecture.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "colour": "red"}))
    assert read_bundle(tmp_path) == BUNDLE


def test_versions_name_what_computes_scores() -> None:
    found = versions()
    assert set(found) == {"zenopt", "python", "torch", "optuna", "numpy"}
    assert all(found.values())
