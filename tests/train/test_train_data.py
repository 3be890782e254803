from __future__ import annotations

import hashlib
import io
import os
import pickle
import shutil
import socket
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from training import write_cifar

from zenopt.core.errors import DataError
from zenopt.train.data import DataSet, FileImages, Images, MemoryImages, open_data
from zenopt.train.download import download
from zenopt.train.loader import Key, StepSampler, TrainBatches, test_loader
from zenopt.train.recipe import Recipe, load_recipe
from zenopt.train.subsets import ChosenImages, share_of


def test_image_folder_in_memory(folder_data: Path) -> None:
    data = open_data(f"imagefolder:{folder_data}")
    assert data.classes == ("dark", "light")
    assert isinstance(data.train, MemoryImages)
    assert len(data.train) == 12 and len(data.test) == 8
    assert data.train.pixels.shape == (12, 3, 16, 16) and data.train.pixels.dtype == torch.uint8
    dark = data.train.pixels[data.train.labels == 0].float().mean()
    light = data.train.pixels[data.train.labels == 1].float().mean()
    assert dark < 60 < 180 < light


def test_images_beyond_the_memory_limit_stay_on_disk(folder_data: Path) -> None:
    data = open_data(f"imagefolder:{folder_data}", memory_limit=1000)
    assert isinstance(data.train, FileImages)
    kept = open_data(f"imagefolder:{folder_data}")
    for index in range(len(kept.train)):
        assert torch.equal(data.train.load(index), kept.train.load(index))


def test_val_serves_as_test(folder_data: Path) -> None:
    (folder_data / "test").rename(folder_data / "val")
    assert len(open_data(f"imagefolder:{folder_data}").test) == 8


def test_a_broken_image_is_named_skipped_and_counted(folder_data: Path) -> None:
    victim = folder_data / "train" / "dark" / "3.png"
    victim.write_bytes(victim.read_bytes()[:60])
    data = open_data(f"imagefolder:{folder_data}")
    assert len(data.train) == 11
    assert len(data.broken) == 1 and str(victim) in data.broken[0]
    # On disk it is met when its batch is made; the rest of the batch is as it was.
    lazy = open_data(f"imagefolder:{folder_data}", memory_limit=1000)
    batches = TrainBatches(lazy.train, 2, Recipe(), 16, "none")
    batch = batches[Key((0, 0, 0), list(range(12)), slice(0, 12))]
    assert len(batch.images) == len(batch.targets) == 11
    assert str(victim) in batch.broken[0]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("imagefolder", "allowed: imagefolder:PATH"),
        ("mnist:/tmp", "allowed: imagefolder:PATH"),
        ("imagefolder:/nowhere", "/nowhere does not exist"),
        ("imagefolder:FOLDER/notes.txt", "notes.txt is a file; name a folder"),
        ("imagefolder:FOLDER/single", "single/train holds 1 class folder; at least 2 are needed"),
        ("synthetic:x", "integer of at least 10"),
        ("imagenet:FOLDER", "2 class folders, ImageNet has 1000"),
    ],
)
def test_bad_names(folder_data: Path, name: str, says: str) -> None:
    (folder_data / "notes.txt").write_text("of mine")
    for part in ("train", "test"):
        (folder_data / "single" / part / "cats").mkdir(parents=True)
    with pytest.raises(DataError, match=says):
        open_data(name.replace("FOLDER", str(folder_data)))


def test_missing_split_and_unequal_classes(folder_data: Path) -> None:
    (folder_data / "test" / "light").rename(folder_data / "test" / "bright")
    with pytest.raises(DataError, match="'bright' is in one of them only"):
        open_data(f"imagefolder:{folder_data}")
    (folder_data / "test").rename(folder_data / "holdout")
    with pytest.raises(DataError, match="neither a folder 'test' nor 'val'"):
        open_data(f"imagefolder:{folder_data}")
    (folder_data / "train").rename(folder_data / "training")
    with pytest.raises(DataError, match="no folder 'train'"):
        open_data(f"imagefolder:{folder_data}")


@pytest.mark.parametrize("ten", [True, False])
def test_cifar_batches(tmp_path: Path, ten: bool) -> None:
    first = write_cifar(tmp_path, ten)
    data = open_data(f"cifar{'10' if ten else '100'}:{tmp_path}")
    assert len(data.train) == (100 if ten else 20) and len(data.test) == 20
    assert len(data.classes) == (10 if ten else 100)
    # CIFAR's rows hold the red plane, then green, then blue, each row by row.
    assert torch.equal(data.train.load(0).flatten(), torch.from_numpy(first[0]))


def test_a_cifar_pickle_cannot_run_code(tmp_path: Path) -> None:
    write_cifar(tmp_path, True)
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self):  # type: ignore[no-untyped-def]
            return (Path.touch, (marker,))

    (tmp_path / "cifar-10-batches-py" / "data_batch_2").write_bytes(pickle.dumps({b"data": Evil()}))
    with pytest.raises(DataError, match="data_batch_2: it is not a CIFAR batch: it asks for "):
        open_data(f"cifar10:{tmp_path}")
    assert not marker.exists()


def test_cifar_missing_file(tmp_path: Path) -> None:
    write_cifar(tmp_path, True)
    (tmp_path / "cifar-10-batches-py" / "data_batch_4").unlink()
    with pytest.raises(DataError, match="data_batch_4 is missing"):
        open_data(f"cifar10:{tmp_path}")


def test_every_epoch_sees_every_image_once_and_in_another_order() -> None:
    sampler = StepSampler(images=60, batch_size=20, seed=3)
    epochs = []
    for epoch in range(2):
        sampler.epoch = epoch
        epochs.append([index for key in sampler for index in key.indices[key.part]])
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(60))
    assert epochs[0] != epochs[1]


def test_parts_of_processes_and_accumulation_make_up_the_batch() -> None:
    whole = list(StepSampler(64, 16, seed=0))
    parts = [list(StepSampler(64, 16, 0, rank, 2, 2)) for rank in range(2)]
    for step, key in enumerate(whole):
        pieces = [piece.part for rank in parts for piece in rank[2 * step : 2 * step + 2]]
        assert sorted(i for piece in pieces for i in key.indices[piece]) == sorted(key.indices)
    with pytest.raises(DataError, match="multiple of 3"):
        StepSampler(64, 16, 0, 0, 3)


def test_two_processes_see_the_images_of_one(patches) -> None:  # type: ignore[no-untyped-def]
    recipe = load_recipe("zennas-cifar", ["augment.mixup=null"])
    batches = TrainBatches(patches.train, 4, recipe, 16, "none")
    indices = list(range(32))
    whole = batches[Key((0, 1, 2), indices, slice(0, 32))]
    halves = [batches[Key((0, 1, 2), indices, part)] for part in (slice(0, 16), slice(16, 32))]
    assert torch.equal(whole.images, torch.cat([half.images for half in halves]))
    assert torch.equal(whole.targets, torch.cat([half.targets for half in halves]))
    assert not torch.equal(whole.images, batches[Key((0, 1, 3), indices, slice(0, 32))].images)


def test_test_images_are_resized_and_centred(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for name in ("a", "b"):
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            # Left half black, right half white: the centre crop keeps the border in the middle.
            pixels = np.zeros((40, 80, 3), np.uint8)
            pixels[:, 40:] = 255
            Image.fromarray(pixels).save(folder / "0.png")
    data = open_data(f"imagefolder:{tmp_path}")
    recipe = load_recipe("basic", ["normalize=none"])
    (batch,) = list(test_loader(data, recipe, crop_size=28, batch_size=8))
    # ceil(28 / 0.875) = 32 for the short side of 40.
    assert batch.images.shape == (2, 3, 28, 28)
    assert batch.images[:, :, :, :12].max() < 0.1 and batch.images[:, :, :, 16:].min() > 0.9


def test_a_pipe_among_images_is_skipped_and_not_waited_for(folder_data: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    os.mkfifo(folder_data / "train" / "dark" / "pipe.png")
    for limit in (10**9, 10):
        data = open_data(f"imagefolder:{folder_data}", memory_limit=limit)
        assert len(data.train) == (12 if limit > 10 else 13)
        if limit > 10:
            assert len(data.broken) == 1 and "pipe.png: no regular file" in data.broken[0]


def uneven() -> DataSet:
    """Three classes of 100, 40 and 1 training images; every image says its place."""
    labels = torch.tensor([0] * 100 + [1] * 40 + [2])
    pixels = torch.arange(141, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 2, 2).contiguous()
    part = MemoryImages(pixels, labels)
    return DataSet("uneven", ("a", "b", "c"), part, part, "none")


def test_a_share_is_of_every_class_and_always_the_same() -> None:
    data = uneven()
    tenth, half = share_of(data, 0.1), share_of(data, 0.5)
    assert torch.bincount(tenth.train.labels).tolist() == [10, 4, 1]
    assert torch.bincount(half.test.labels).tolist() == [50, 20, 1]
    assert tenth.name == "uneven (share 0.1)" and share_of(data, 1) is data

    def places(part: Images) -> list[int]:
        return [int(part.load(index)[0, 0, 0]) for index in range(len(part))]

    assert places(tenth.train) == places(share_of(uneven(), 0.1).train)
    # Larger shares go on from smaller ones; images come in the order of the whole.
    assert set(places(tenth.train)) < set(places(half.train)) and places(half.train) == sorted(
        places(half.train)
    )
    assert places(tenth.train) != list(range(15)), "drawn, not the first ones"


def test_a_share_of_images_on_disk_is_that_of_images_in_memory(folder_data: Path) -> None:
    kept, left = (open_data(f"imagefolder:{folder_data}", memory_limit=limit) for limit in (10**9, 10))
    kept, left = share_of(kept, 0.5), share_of(left, 0.5)
    assert isinstance(kept.train, MemoryImages) and isinstance(left.train, ChosenImages)
    assert len(left.train) == 6 and torch.equal(left.train.labels, kept.train.labels)
    assert all(torch.equal(left.train.load(index), kept.train.load(index)) for index in range(6))


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(DataError, match=r"--share must be in \(0, 1\]"):
        share_of(uneven(), share)


def archive(folder: Path) -> tuple[bytes, dict[str, str]]:
    """Return a small archive in CIFAR-10's layout, and the checksum of each of its files."""
    inner = folder / "cifar-10-batches-py"
    inner.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
        content = {
            b"data": rng.integers(0, 255, (10, 3072), dtype=np.uint8),
            b"labels": list(range(10)),
        }
        (inner / name).write_bytes(pickle.dumps(content))
    (inner / "batches.meta").write_bytes(
        pickle.dumps({b"label_names": [f"c{i}".encode() for i in range(10)]})
    )
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as file:
        file.add(inner, inner.name)
    sums = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in inner.iterdir()}
    shutil.rmtree(inner)
    return packed.getvalue(), sums


def test_cifar_is_fetched_checked_and_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision.datasets.utils
    from torchvision.datasets import CIFAR10

    content, sums = archive(tmp_path / "made")
    fetched = []

    def serve(url: str, filename: str, *_: object) -> None:
        fetched.append(url)
        Path(filename).write_bytes(content)

    monkeypatch.setattr(torchvision.datasets.utils, "_urlretrieve", serve)
    monkeypatch.setattr(torchvision.datasets.utils, "_get_redirect_url", lambda url, **_: url)
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(content).hexdigest())
    for name in ("train_list", "test_list"):
        monkeypatch.setattr(CIFAR10, name, [[file, sums[file]] for file, _ in getattr(CIFAR10, name)])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": sums["batches.meta"]})
    name = f"cifar10:{tmp_path / 'here'}"
    assert download(name) and not download(name)
    data = open_data(name)
    assert len(data.train) == 50 and data.classes[3] == "c3" and len(fetched) == 1
    # What a kill left half unpacked is unpacked again, from the archive that is there.
    (tmp_path / "here" / "cifar-10-batches-py" / "data_batch_3").write_bytes(b"half")
    assert download(name) and len(open_data(name).train) == 50 and len(fetched) == 1
    # The folder of the files itself may be named.
    assert not download(f"cifar10:{tmp_path / 'here' / 'cifar-10-batches-py'}")
    # An archive with another checksum is not unpacked.
    monkeypatch.setattr(CIFAR10, "tgz_md5", "0" * 32)
    with pytest.raises(DataError, match="cannot be fetched into"):
        download(f"cifar10:{tmp_path / 'else'}")
    assert not (tmp_path / "else" / "cifar-10-batches-py").exists()


def test_without_a_network_a_download_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import urllib.error

    import torchvision.datasets.utils

    def unreachable(*_: object) -> None:
        assert socket.getdefaulttimeout() == 30.0
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(torchvision.datasets.utils, "_urlretrieve", unreachable)
    monkeypatch.setattr(torchvision.datasets.utils, "_get_redirect_url", lambda url, **_: url)
    with pytest.raises(DataError) as raised:
        download(f"cifar100:{tmp_path}")
    message = str(raised.value)
    assert "cannot be fetched" in message and "Name or service not known" in message and "\n" not in message
    assert "put cifar-100-python.tar.gz there" in message and str(tmp_path) in message
    assert socket.getdefaulttimeout() is None
    with pytest.raises(
        DataError, match=r"--download is for cifar10:PATH and cifar100:PATH, --data is 'synthetic'"
    ):
        download("synthetic")
