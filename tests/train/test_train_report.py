"""The page about a training: what is on it, and what a browser makes of it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from report_browser import look
from structures import TINY_MOBILE

from zenopt.report.training import _curves, write_evaluation_report, write_training_report
from zenopt.train.engine import RunResult
from zenopt.train.evaluate import Evaluation
from zenopt.train.networks import NetworkSource

CLASSES = ("airplane", "bird", "<b>cat</b> & co", "a class with quite a long name")
SOURCE = NetworkSource.from_structure(TINY_MOBILE, 32, use_se=True)
CELL = NetworkSource.from_structure(
    "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|none~1|none~2|", 32, family="nasbench201"
)


def result(
    seed: int = 0, classes: tuple[str, ...] = CLASSES, source: NetworkSource = SOURCE, epochs: int = 5
) -> RunResult:
    history: list[dict[str, Any]] = [
        {
            "epoch": epoch, "step": 10 * epoch, "lr": 0.1 / epoch, "train_loss": 2.0 / epoch,
            "test_loss": 2.1 / epoch if epoch != 2 else None, "top1": 50.0 + epoch + seed if epoch != 2 else None,
            "top5": 90.0 + epoch if epoch != 2 else None, "images_per_second": 100.0 * epoch, "seconds": 3.0,
        }
        for epoch in range(1, epochs + 1)
    ]  # fmt: skip
    count = len(classes)
    confusion = 3 * torch.ones(count, count, dtype=torch.long) + 20 * torch.eye(count, dtype=torch.long)
    confusion[0, 1] = 17
    metrics = {
        "top1": history[-1]["top1"], "top5": history[-1]["top5"], "loss": 0.42, "train_loss": 0.4, "seed": seed,
        "best": {"epoch": epochs, "top1": 55.0 + seed, "top5": 95.0}, "epochs": epochs, "steps": 50, "seconds": 15.0,
        "train_images": 1000, "test_images": 200, "broken_images": 0, "classes": count, "data": "imagefolder:/data/<x>",
        "network": source.facts(), "recipe": {"epochs": epochs, "optimizer": {"lr": 0.1}},
    }  # fmt: skip
    return RunResult(metrics, None, history, confusion, classes)


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids |= {value for name, value in attrs if name == "id" and value}
        if tag not in ("meta", "link", "br", "rect", "line"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("rect", "line"):
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def without_scripts(path: Path) -> str:
    return re.sub(r"<script.*?</script>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("source", [SOURCE, CELL, None], ids=["chain", "cell", "library"])
def test_a_page_is_whole_and_says_what_was_trained(
    tmp_path: Path, seeds: int, source: NetworkSource | None
) -> None:
    path = tmp_path / "report.html"
    write_training_report(path, [result(seed) for seed in range(seeds)], source, name="demo, trial 7,")
    body = without_scripts(path)
    assert "<script src=" not in path.read_text(encoding="utf-8") and 'href="http' not in body
    tags = _Tags()
    tags.feed(body)
    assert not tags.wrong and not tags.open
    assert ("seeds" in tags.ids) == (seeds > 1) and ("network" in tags.ids) == (source is not None)
    assert {"curves", "classes", "recipe"} <= tags.ids
    for link in re.findall(r'<a href="#([^"]+)"', body):
        assert link in tags.ids
    assert "demo, trial 7, on imagefolder:/data/&lt;x&gt;" in body and "<b>cat" not in body
    assert ("<svg" in body) == (source is not None)
    for key in ("loss", "accuracy", "rate", "classes", "confusion"):
        assert f'data-figure="{key}"' in body
    # The hardest class comes first, with what it is taken for: 23 of 46 airplanes are airplanes, 17 birds.
    rows = re.findall(r"<tr><td>([^<]*)</td><td>([^<]*)</td><td>([^<]*)</td><td>([^<]*)</td></tr>", body)
    assert rows[0] == ("airplane", str(46 * seeds), "50.0", f"bird ({17 * seeds})")
    assert ("airplane", "bird", str(17 * seeds), "37.0") in rows
    if seeds > 1:
        assert "<td>mean</td><td>56.00</td>" in body and "<td>std</td><td>1.00</td>" in body


def test_many_classes_have_a_table_and_no_unreadable_figure(tmp_path: Path) -> None:
    names = tuple(f"class {index}" for index in range(300))
    write_training_report(tmp_path / "many.html", [result(classes=names)], SOURCE)
    body = without_scripts(tmp_path / "many.html")
    assert 'data-figure="confusion"' not in body and 'data-figure="classes"' not in body
    assert body.count("<td>class 299</td>") >= 1 and "Commonest mistakes" in body


def test_a_class_without_images_and_an_evaluation(tmp_path: Path) -> None:
    confusion = torch.tensor([[3, 1], [0, 0]])
    found = Evaluation(75.0, 100.0, 0.5, 4, 10.0, confusion)
    write_evaluation_report(tmp_path / "page.html", found, ["seen", "never"], title="best.pt on x")
    body = without_scripts(tmp_path / "page.html")
    assert "75.00 %" in body and "best.pt on x" in body and 'id="curves"' not in body
    assert "<td>never</td><td>0</td><td>-</td><td>-</td>" in body


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (400, False), (400, True)])
@pytest.mark.parametrize(
    "classes", [CLASSES, tuple(f"number {index}" for index in range(100))], ids=["4", "100"]
)
def test_a_browser_draws_the_page(
    chromium: Path, tmp_path: Path, width: int, dark: bool, classes: tuple[str, ...]
) -> None:
    path = tmp_path / "report.html"
    write_training_report(path, [result(seed, classes) for seed in range(3)], SOURCE)
    seen = look(chromium, path, width, dark=dark, height=5000)
    assert seen.facts["drawn"] == seen.facts["plots"] >= 5, seen.console
    assert seen.facts["scroll_width"] <= width and not seen.facts["wide"] and not seen.console
    assert not seen.facts["outside"] and not seen.facts["overlaps"]
    assert (seen.facts["background"] == "rgb(15, 18, 22)") == dark


@pytest.mark.parametrize(("epochs", "step"), [(2, 1), (30, None)])
def test_few_epochs_have_a_tick_each(epochs: int, step: int | None) -> None:
    figure = _curves([result(epochs=epochs)], (("train", "train_loss"),), "loss")
    assert figure.layout.xaxis.dtick == step
