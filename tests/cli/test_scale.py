"""``zenopt scale``: costs before and after, a new bundle, other families."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from zenopt import Architecture, count
from zenopt.export.bundle import Bundle, read_bundle, write_bundle
from zenopt.spaces import get_space

TEXT = "SuperConvK3BNRELU(3,16,1,1)SuperResK3K3(16,32,2,16,2)SuperConvK1BNRELU(32,64,1,1)"
CELL = "|skip_connect~0|+|none~0|none~1|+|none~0|none~1|nor_conv_3x3~2|"


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    write_bundle(Bundle(TEXT, resolution=40, num_classes=7, use_se=True), "small")
    return "small"


def test_costs_before_and_after(zenopt: Callable, bundle: str) -> None:
    found = zenopt("scale", bundle, "--width", "1.5", "--depth", "2", "--resolution", "1.2", "--json").json
    assert found["resolution"] == 48 and found["output"] is None
    assert found["before"] == vars(count(Architecture.parse(TEXT), 40, 7, use_se=True))
    assert found["after"] == vars(count(Architecture.parse(found["structure"]), 48, 7, use_se=True))
    text = zenopt("scale", bundle, "--width", "1.5")
    assert f"{found['before']['params']:,}" in text.out and "images/s" in text.out
    assert "Next:  zenopt scale small --width 1.5 --output DIR" in text.err


def test_a_scaled_bundle_is_a_bundle(zenopt: Callable, bundle: str) -> None:
    result = zenopt("scale", bundle, "--to", "params=60e3", "--output", "larger", "--json")
    made = read_bundle("larger")
    assert made.structure == result.json["structure"]
    assert (made.num_classes, made.use_se, made.resolution) == (7, True, result.json["resolution"])
    assert 40_000 < result.json["after"]["params"] <= 60_000 == 6e4
    assert "Scaled from bundle `small`" in Path("larger/README.md").read_text()
    done = subprocess.run(
        [sys.executable, "model.py"], cwd="larger", capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "(1, 7)"
    again = zenopt("scale", bundle, "--width", "2", "--output", "larger")
    assert again.code == 2 and "--force" in again.err
    assert zenopt("scale", bundle, "--width", "2", "--output", "larger", "--force").code == 0
    assert zenopt("describe", "larger", "--json").json["structure"] != made.structure


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "give factors"),
        (("--width", "2", "--to", "macs=1e9"), "give factors"),
        (("--to", "macs"), "expected macs=VALUE"),
        (("--to", "macs=nan"), "expected macs=VALUE"),
        (("--to", "layers=5"), "expected macs=VALUE"),
        (("--to", "macs=5"), "No scaling of this network uses at most 5"),
        (("--width", "inf"), "not a finite number"),
        (("--width", "0"), "--width"),
        (("--width", "1e5"), "out_channels"),
    ],
)
def test_bad_requests(zenopt: Callable, bundle: str, arguments: tuple[str, ...], complaint: str) -> None:
    result = zenopt("scale", bundle, *arguments)
    assert result.code == 2 and complaint in result.err and "Traceback" not in result.err


def test_other_families_need_a_space_that_scales(zenopt: Callable) -> None:
    for network in (f"nasbench-macro:{get_space('nasbench-macro')().initial}", "torchvision:resnet18"):
        result = zenopt("scale", network, "--width", "2")
        assert result.code == 2 and "Only chains of super-blocks can be scaled" in result.err


def test_cells_are_scaled_by_channels_and_cells(
    zenopt: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    scaled = zenopt(
        "scale", f"nasbench201:{CELL}", "--width", "2", "--depth", "0.2", "--output", "cell", "--json"
    )
    assert json.loads(Path("cell/architecture.json").read_text())["family"] == "nasbench201"
    described = zenopt("describe", "cell", "--json").json
    assert described["structure"] == f"C32N1{CELL}" and scaled.json["after"]["params"] > 50_000
