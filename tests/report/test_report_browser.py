"""The report in a real browser: it draws, says nothing on the console, and fits the screen."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
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
@pytest.mark.parametrize("which", ["page", "single", "trained"])
def test_draws_without_errors_and_fits(
    chromium: Path, request: pytest.FixtureRequest, which: str, width: int, dark: bool
) -> None:
    seen = look(chromium, request.getfixturevalue(which), width, dark=dark)
    facts = seen.facts
    assert seen.console == []
    assert facts["width"] == width
    assert facts["scroll_width"] <= width, facts["wide"]
    assert facts["wide"] == []
    assert facts["drawn"] == facts["plots"] >= 5
    assert facts["outside"] == []
    assert facts["overlaps"] == []
    red, green, blue = (int(part) for part in facts["background"].removeprefix("rgb(").rstrip(")").split(","))
    assert (red + green + blue < 150) if dark else (red + green + blue > 600)
    assert seen.picture.stat().st_size > 20_000


@pytest.fixture(scope="module")
def single(study: optuna.Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("single") / "report.html"
    write_report([study], path, top=2)
    return path


@pytest.fixture(scope="module")
def trained(trained_study: optuna.Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trained") / "report.html"
    write_report([trained_study], path, top=2)
    return path


def test_a_click_on_a_point_opens_its_trial(chromium: Path, single: Path, study: optuna.Study) -> None:
    best = study.best_trial.number
    action = f"""
      const plot = document.querySelector('[data-figure="score-params"]');
      plot.emit("plotly_click", {{ points: [{{ customdata: {best}, data: plot.data[0] }}] }});
      const panel = document.getElementById("panel");
      const first = panel.textContent;
      const pictures = panel.querySelectorAll("svg.zp").length;
      panel.querySelector("[data-close]").click();
      const closed = panel.hidden;
      document.querySelector(".trials tbody tr:nth-child(3)").click();
      document.body.dataset.said = JSON.stringify({{ first, pictures, closed, second: panel.textContent }});
    """
    seen = look(chromium, single, 1280, action=action)
    assert seen.console == []
    said = json.loads(seen.facts["said"])
    trial = study.trials[best]
    for words in (
        f"Trial {best}",
        trial.user_attrs["structure"],
        f"{trial.user_attrs['params']:,}",
        "zenopt train ",
    ):
        assert words in said["first"]
    assert f"network-trial-{best} -o trial-{best}.svg" in said["first"] and "{number}" not in said["first"]
    assert said["pictures"] == 1 and said["closed"]
    ranked = sorted((t for t in study.trials if t.value is not None), key=lambda t: -t.value)
    assert f"Trial {ranked[2].number}" in said["second"]


def test_trials_are_sorted_filtered_and_saved(chromium: Path, single: Path, study: optuna.Study) -> None:
    action = """
      const place = document.querySelector("[data-trials]"), table = place.table;
      const heads = [...place.querySelectorAll("th")].map((head) => head.textContent);
      const cells = (column) => [...place.querySelectorAll("tbody tr")].map((row) => row.children[column].textContent);
      const said = { heads, rows: table.rows.length, best: cells(0)[0] };
      said.pages = place.querySelector(".bar").textContent;
      place.querySelectorAll("th button")[heads.indexOf("params")].click();
      said.params = cells(heads.indexOf("params"));
      const ask = (text) => {
        table.filter.value = text;
        table.update();
        return [table.rows.length, table.note.textContent];
      };
      said.over = ask("state=over params>500k");
      said.words = ask("SuperResK1K7K1 score>40");
      said.unknown = ask("nonsense<3");
      said.number = ask("params<many");
      said.none = ask("zzz");
      ask("state=candidate");
      zenopt.save = (blob, name) => { said.file = name; said.bytes = blob; };
      table.csv.click();
      said.bytes.text().then((text) => {
        said.lines = text.trim().split("\\n");
        said.lines = [said.lines.length, said.lines[0], said.lines[1]];
        document.body.dataset.said = JSON.stringify(said);
      });
    """
    said = json.loads(look(chromium, single, 1280, action=action).facts["said"])
    assert said["rows"] == 300 and said["best"] == str(study.best_trial.number)
    assert "1 to 25 of 300 trials" in said["pages"]
    params = [float(text.replace(",", "")) for text in said["params"]]
    assert params == sorted(params, reverse=True)
    trials = study.trials
    over = [t for t in trials if t.state == TrialState.PRUNED and t.user_attrs["params"] > 500_000]
    assert said["over"][0] == len(over) > 0
    words = [
        t for t in trials if "SuperResK1K7K1" in t.user_attrs.get("structure", "") and (t.value or 0) > 40
    ]
    assert said["words"][0] == len(words) > 0
    assert "No column nonsense; columns are trial, state, score" in said["unknown"][1]
    assert said["number"][1] == "many is no number." and said["none"] == [0, "No trial is left."]
    complete = sum(t.state == TrialState.COMPLETE for t in trials)
    count, header, first = said["lines"]
    assert (count, said["file"]) == (complete + 1, "cifar-trials.csv")
    assert header.startswith("trial,state,score,closed_form,params,") and header.endswith(",worker,structure")
    rows = list(csv.DictReader([header, first]))
    assert trials[int(rows[0]["trial"])].user_attrs["structure"] == rows[0]["structure"]


def test_studies_of_a_comparison_open_when_asked_for(chromium: Path, page: Path) -> None:
    action = """
      const before = document.documentElement.scrollHeight;
      const details = document.querySelector("details.study");
      details.addEventListener("toggle", () => setTimeout(() => {
        const plots = [...details.querySelectorAll(".plot")];
        const drawn = plots.filter((plot) => plot.querySelector("svg")).length;
        document.body.dataset.said = JSON.stringify({ before, plots: plots.length, drawn });
      }, 4000));
      details.open = true;
    """
    said = json.loads(look(chromium, page, 1280, action=action).facts["said"])
    # One screen after another of figures is what the details are for.
    assert said["before"] < 4500
    assert said["drawn"] == said["plots"] > 10


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
