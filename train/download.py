"""CIFAR-10 and CIFAR-100 from their home page, where the network allows it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zenopt.core.errors import DataError

TIMEOUT_S = 30.0  # without a byte


def download(name: str) -> bool:
    """Fetch the archive of `cifar10:PATH` or `cifar100:PATH` into PATH and unpack it, unless it is there.

    The archive is checked against its published checksum before it is unpacked, and the unpacked files against theirs;
    no file is unpickled here. An archive that somebody put into PATH by hand is taken.

    Returns:
        Whether anything was fetched or unpacked.

    Raises:
        DataError: The data set has no download, or the network or the disk does not allow it.
    """
    from torchvision.datasets import CIFAR10, CIFAR100
    from torchvision.datasets.utils import check_integrity, download_and_extract_archive

    kind, _, path = name.partition(":")
    sets = {"cifar10": CIFAR10, "cifar100": CIFAR100}
    if kind not in sets or not path:
        raise DataError(f"--download is for cifar10:PATH and cifar100:PATH, --data is {name!r}.")
    source, root = sets[kind], Path(path)
    folder = root / source.base_folder
    files = [*source.train_list, *source.test_list, (source.meta["filename"], source.meta["md5"])]
    # PATH may be the folder of the files itself, as for reading.
    if any(all(check_integrity(str(at / file), md5) for file, md5 in files) for at in (folder, root)):
        return False
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _timeout(TIMEOUT_S):
            download_and_extract_archive(source.url, str(root), filename=source.filename, md5=source.tgz_md5)
    # torchvision reports a checksum that does not fit as RuntimeError; all else is the network's or the disk's.
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__
        raise DataError(
            f"{source.url} cannot be fetched into {root}: {reason}. Without a network, put {source.filename} there and "
            "run the same command."
        ) from None
    return True


@contextmanager
def _timeout(seconds: float) -> Iterator[None]:
    """Limit how long sockets wait: torchvision's download has no limit of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
