"""The report in a real browser: it draws, says nothing on the console, and fits the screen."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from report_browser import look

from zenopt.report import write_report


@pytest.fixture(scope="module")
def page(
    study: optuna.Study,
    latency_study: optuna.Study,
    multi_study: optuna.Study,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    path = tmp_path_factory.mktemp("browser") / "report.html"
    write_report([study, latency_study, multi_study], path, top=3)
    return path


@pytest.mark.parametrize(("width", "dark"), [(400, True), (1280, False)])
def test_draws_without_errors_and_fits(chromium: Path, page: Path, width: int, dark: bool) -> None:
    seen = look(chromium, page, width, dark=dark)
    facts = seen.facts
    assert seen.console == []
    assert facts["width"] == width
    assert facts["scroll_width"] <= width, facts["wide"]
    assert facts["wide"] == []
    assert facts["drawn"] == facts["plots"] > 15
    assert facts["outside"] == []
    assert facts["overlaps"] == []
    red, green, blue = (int(part) for part in facts["background"].removeprefix("rgb(").rstrip(")").split(","))
    assert (red + green + blue < 150) if dark else (red + green + blue > 600)
    assert seen.picture.stat().st_size > 20_000


def test_the_browser_check_sees_what_is_wrong(chromium: Path, tmp_path: Path) -> None:
    page = tmp_path / "broken.html"
    page.write_text(
        "<!DOCTYPE html><html><body><div style='width:900px'>wide</div>"
        "<script>console.error('broken on purpose')</script></body></html>",
        encoding="utf-8",
    )
    seen = look(chromium, page, 400, height=400)
    assert any("broken on purpose" in line for line in seen.console)
    assert seen.facts["scroll_width"] > 400
    assert seen.facts["wide"]
