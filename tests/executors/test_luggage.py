"""Files that are brought to machines that lack them."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zenopt.core.errors import ExecutorError
from zenopt.executors.luggage import lacking, packed, unpack
from zenopt.study.files import files_of
from zenopt.study.spec import StudySpec


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@settings(max_examples=25, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["a", "b/c", "b/d.png", "e/f/g"]), st.binary(max_size=3000), min_size=1)
)
def test_a_folder_arrives_whole(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> None:
    folder = tmp_path_factory.mktemp("files")
    for name, content in files.items():
        path = folder / "here" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    # What is a link here is a file there.
    (folder / "here" / "link").symlink_to(folder / "here" / next(iter(files)))
    there = folder / "some" / "where" / "there"
    parts = list(packed(str(folder / "here"), chunk=1000))
    assert all(len(part) <= 1000 for part in parts)
    unpack(str(there), iter(parts))
    assert contents(there) == contents(folder / "here")
    assert not any(path.is_symlink() for path in there.rglob("*"))
    assert os.listdir(there.parent) == ["there"]


def test_folders_that_are_links_arrive_with_what_is_in_them(tmp_path: Path) -> None:
    images, here = tmp_path / "images", tmp_path / "here"
    (images / "cat").mkdir(parents=True)
    (images / "cat" / "1.png").write_bytes(b"a cat")
    here.mkdir()
    for name in ("train", "val"):
        (here / name).symlink_to(images)
    # One that leads round, and one that leads nowhere.
    (images / "cat" / "up").symlink_to(here)
    (here / "gone").symlink_to(tmp_path / "nowhere")
    unpack(str(tmp_path / "there"), packed(str(here)))
    assert contents(tmp_path / "there") == {"train/cat/1.png": b"a cat", "val/cat/1.png": b"a cat"}


def test_a_file_arrives_and_stays(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("a,b")
    parts = list(packed(str(tmp_path / "table.csv")))
    assert lacking((str(tmp_path / "table.csv"), str(tmp_path / "x.csv"))) == (str(tmp_path / "x.csv"),)
    unpack(str(tmp_path / "x.csv"), iter(parts))
    assert (tmp_path / "x.csv").read_text() == "a,b"
    # Another worker of the node was first.
    (tmp_path / "x.csv").write_text("mine")
    unpack(str(tmp_path / "x.csv"), iter(parts))
    assert (tmp_path / "x.csv").read_text() == "mine"


def test_what_cannot_be_put_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    wanted = str(tmp_path / "file" / "inside")
    with pytest.raises(ExecutorError, match=r"this node lacks .*inside.*; put it there yourself"):
        unpack(wanted, packed(str(tmp_path / "file")))


def test_an_archive_leads_nowhere_else(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w|") as archive:
        archive.addfile(tarfile.TarInfo("../outside"), io.BytesIO(b""))
    with pytest.raises(ExecutorError, match="cannot be put there"):
        unpack(str(tmp_path / "deep" / "place"), iter([buffer.getvalue()]))
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_files_of_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("images", "demo", "basic"):
        (tmp_path / name).mkdir()
    trained = ["objective.kind=train", "objective.then=null"]
    spec = StudySpec.load("cifar-small", [*trained, "training.data=imagefolder:images"])
    assert files_of(spec) == ("images",)
    assert files_of(StudySpec.load("cifar-small", [*trained, "training.data=synthetic:10"])) == ()
    (tmp_path / "net").mkdir()
    spec = StudySpec.load("cifar-small")
    proxy = spec.proxy.model_copy(update={"name": "supernet:net"})
    assert files_of(spec.model_copy(update={"proxy": proxy})) == ("net",)
    (tmp_path / "t.csv").write_text("arch_str,acc\n")
    table = ["objective.table=t.csv", "objective.column=acc", "sampler.surrogate.warm_start=[t.csv#acc]"]
    assert files_of(StudySpec.load("nasbench201-table", table)) == ("t.csv",)
