"""Networks by name, and their scores and descriptions on the command line's road."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from zenopt.core.errors import BundleError, ProxyError, StructureError, UnknownNameError
from zenopt.export.bundle import Bundle, write_bundle
from zenopt.export.names import resolve
from zenopt.proxies import get_proxy
from zenopt.spaces.chain.architecture import Architecture
from zenopt.spaces.chain.zoo import card
from zenopt.spaces.nasbench201.architecture import CellArchitecture
from zenopt.study.scoring import score_target
from zenopt.study.targets import find_target

CHAIN = "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,16,1,8,1)SuperConvK1BNRELU(16,32,1,1)"
CELL = "|nor_conv_1x1~0|+|none~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|"


def score(name: str, proxy: str, **changes: Any) -> Any:
    options: dict[str, Any] = {
        "batch_size": 4,
        "repeats": 1,
        "gamma": 0.01,
        "seed": 0,
        "device": "cpu",
        "residual": None,
    }
    use_se = changes.pop("use_se", False)
    resolution = changes.pop("resolution", 16)
    found = find_target(name, resolution=resolution, num_classes=4, use_se=use_se)
    return score_target(found, get_proxy(proxy), **{**options, **changes})


def test_texts_files_and_bundles(tmp_path: Path) -> None:
    assert resolve(f" {CHAIN}\n").architecture == Architecture.parse(CHAIN)
    for name in (CELL, f"nasbench201:{CELL}"):
        named = resolve(name)
        assert named.architecture == CellArchitecture.parse(CELL)
        assert (named.text, named.family, named.resolution, named.num_classes) == (
            CELL,
            "nasbench201",
            32,
            10,
        )
    for text in (CHAIN, CELL, f"nasbench201:{CELL}"):
        path = tmp_path / "net.txt"
        path.write_text(text + "\n")
        assert resolve(str(path)) == resolve(text)
    for index, (text, family) in enumerate([(CHAIN, "chain"), (CELL, "nasbench201")]):
        folder = write_bundle(Bundle(text, 32, 10, family=family), tmp_path / f"bundle{index}")
        assert resolve(str(folder)).architecture == resolve(text).architecture
        assert resolve(str(folder / "architecture.json")).text == text
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleError, match="is not a bundle"):
        resolve(str(tmp_path / "empty"))


def test_published_networks() -> None:
    name = "zennet_cifar10_model_size05M"
    named = resolve(name)
    assert named.text == card(name).structure
    assert (named.resolution, named.num_classes) == (32, 10)


@pytest.mark.parametrize(
    ("name", "error", "complaint"),
    [
        ("", StructureError, "'' is neither a structure string"),
        ("missing.txt", StructureError, r"'missing\.txt' is neither.*timm:MODEL or torchvision:MODEL"),
        ("nasbench201:|none~0|", StructureError, "3 nodes"),
        ("superres:nonsense", StructureError, "nonsense|position"),
    ],
)
def test_what_is_none_of_these_is_named(name: str, error: type[Exception], complaint: str) -> None:
    with pytest.raises(error, match=complaint):
        resolve(name)


def test_a_file_without_a_structure_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "net.txt"
    path.write_text(str(path))
    with pytest.raises(StructureError, match="holds no structure string"):
        resolve(str(path))
    path.write_bytes(b"\xff\xfe(")
    with pytest.raises(StructureError, match="cannot be read"):
        resolve(str(path))


def test_torchvisions_models_are_scored() -> None:
    first = score("torchvision:squeezenet1_1", "params", resolution=32)
    assert first.mean == sum(p.numel() for p in resolve("torchvision:squeezenet1_1").build(4).parameters())
    scores = [score("torchvision:resnet18", "naswot", resolution=32, repeats=2) for _ in range(2)]
    assert scores[0].values == scores[1].values
    assert scores[0].values[0] != scores[0].values[1]
    with pytest.raises(UnknownNameError, match="torchvision has no model 'resnet19'; similar: resnet"):
        resolve("torchvision:resnet19").build(10)


def test_timms_models_are_scored() -> None:
    pytest.importorskip("timm")
    found = score("timm:resnet10t", "synflow-log", resolution=32)
    assert found.mean > 0
    with pytest.raises(UnknownNameError, match="timm has no model 'resnet10tt'"):
        resolve("timm:resnet10tt").build(10)


def test_options_that_do_not_fit_are_errors() -> None:
    with pytest.raises(ProxyError, match="is scored as it is"):
        score("torchvision:squeezenet1_1", "params", use_se=True)
    with pytest.raises(ProxyError, match="takes architectures of zenopt's own spaces"):
        score("torchvision:squeezenet1_1", "zen-closed-form")


@pytest.mark.parametrize("proxy", ["zen", "naswot", "snip", "synflow-log", "params", "synflow-expected"])
def test_cells_are_scored_by_any_proxy(proxy: str) -> None:
    found = score(CELL, proxy)
    assert found.values == score(f"nasbench201:{CELL}", proxy).values
