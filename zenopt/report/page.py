"""The report as one HTML file: plotly.js, style and script inside, so that it opens anywhere without a network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from html import escape
from pathlib import Path

import yaml
from optuna.trial import TrialState
from plotly.offline import get_plotlyjs

from zenopt._version import __version__
from zenopt.report import cards
from zenopt.report.differences import differing_settings, summary_table
from zenopt.report.figure import Figure
from zenopt.report.networks import network_at
from zenopt.report.payload import pack, pack_text, study_payload
from zenopt.report.picture import draw
from zenopt.report.sections import TRAINED_GROUPS, Section, numbers_by_structure
from zenopt.report.svg import STYLE_FILE
from zenopt.report.training_figures import training_table
from zenopt.report.words import when

_ASSETS = Path(__file__).resolve().parent / "assets"
_SCRIPTS = ("panel.js", "trials.js", "report.js")
#: The page may run its own script and nothing else: a report that asks the network for anything is broken.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "form-action 'none'; base-uri 'none'"
)
#: Trials of a study whose pictures the page holds.
_PICTURES = 40


def render(sections: Sequence[Section], comparison: Sequence[Figure] = ()) -> str:
    """Return the page.

    Args:
        sections:
            One per study.
        comparison:
            Figures that show all of them, put first.
    """
    is_single = len(sections) == 1
    shown: dict[str, Figure] = {figure.key: figure for figure in comparison}
    body = [_comparison(sections, comparison)] if not is_single else []
    for index, section in enumerate(sections):
        prefix = "" if is_single else f"s{index}-"
        shown.update({prefix + figure.key: figure for figure in section.figures})
        body.append(_article(section, prefix, index, is_single=is_single))
    content = {
        "figures": {key: json.loads(figure.figure.to_json()) for key, figure in shown.items()},
        "studies": [_payload(section) for section in sections],
    }
    names = ", ".join(section.name for section in sections)
    style = (_ASSETS / "report.css").read_text(encoding="utf-8")
    script = "\n".join((_ASSETS / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="generator" content="zenopt {__version__}">
<title>{escape(names)} - zenopt report</title>
<link rel="icon" href="data:,">
<style>{style}</style>
<style id="picture-style">{STYLE_FILE.read_text(encoding="utf-8")}</style>
</head>
<body>
{_heading(sections)}
<noscript><p class="bad">The figures and the table of trials need JavaScript, which this browser has turned off;
numbers and pictures of networks do not.</p></noscript>
<p class="bad" id="too-old" hidden>This browser is too old to unpack the figures (it lacks DecompressionStream: Firefox
before 113, Safari before 16.4, Chrome before 80); numbers and pictures of networks are shown.</p>
{"".join(body)}
<p class="faint">Made by zenopt {__version__}. Scores of training-free proxies rank candidates; they are not accuracies.
Latencies are predicted unless they say otherwise.</p>
<aside id="panel" class="panel" hidden aria-label="Trial"></aside>
<script type="text/plain" id="plotly">{_packed_plotly()}</script>
<script type="text/plain" id="content">{pack(content)}</script>
<script>{script}</script>
</body>
</html>
"""


@cache
def _packed_plotly() -> str:
    return pack_text(get_plotlyjs())


def _payload(section: Section) -> dict[str, object]:
    """Return the section's trials for the script, with pictures of the best and of the front."""
    data = section.data
    wanted = dict.fromkeys(int(number) for number in _numbers_worth_a_picture(section))
    position = {int(number): index for index, number in enumerate(data.numbers)}
    pictures = {}
    can_draw = data.spec.why_no_networks() is None
    for number in list(wanted)[: _PICTURES if can_draw else 0]:
        if data.structures[position[number]] is not None:
            network = network_at(data, position[number])
            pictures[number] = draw(network.anatomy, network.title)
    notes = {item.network.number: item.title for item in section.chosen}
    return study_payload(data, section.trial_commands, pictures, notes)


def _numbers_worth_a_picture(section: Section) -> list[int]:
    data = section.data
    found = [item.network.number for item in section.chosen] + [item.number for item in section.networks]
    by_structure = numbers_by_structure(data)
    trained = [by_structure.get(network.structure) for item in section.trainings for network in item.networks]
    found += [number for number in trained if number is not None]
    return [*found, *(int(data.numbers[index]) for index in data.top(_PICTURES))]


def _heading(sections: Sequence[Section]) -> str:
    names = ", ".join(section.name for section in sections)
    if len(sections) > 1:
        links = [("#comparison", "Comparison")]
        links += [(f"#study-{index}", section.name) for index, section in enumerate(sections)]
    else:
        links = _links(sections[0])
    nav = "".join(f'<a href="{href}">{escape(text)}</a>' for href, text in links)
    read_at = when(min(section.data.read_at for section in sections))
    running = sum(int(section.data.in_state(TrialState.RUNNING).sum()) for section in sections)
    state = f", with {running} trial{'s' * (running > 1)} under way" if running else ""
    return (
        f'<header><p class="faint">zenopt report</p><h1>{escape(names)}</h1>'
        f'<p class="faint">Snapshot of {read_at}{state}.</p><nav>{nav}</nav></header>'
    )


def _links(section: Section) -> list[tuple[str, str]]:
    links = [("#best", section.chosen[0].title.split(",")[0])] if section.chosen else []
    links += [("#best", "Best")] if section.texts else []
    groups = dict.fromkeys(figure.group for figure in section.figures)
    links += [(f"#{group.lower()}", _LINKS.get(group, group)) for group in groups]
    if section.networks:
        links.append(("#networks", "Top networks" if section.front is None else "Its networks"))
    if section.shows_search:
        links.append(("#trials", "Trials"))
    return [*links, ("#spec", "Spec")]


def _article(section: Section, prefix: str, index: int, *, is_single: bool) -> str:
    parts = [f'<p class="faint">{escape(section.settings)}</p>', cards.tiles(section.tiles)]
    parts.append(cards.chosen(section.chosen, section.commands, section.trial_commands, prefix, index))
    parts.append(cards.texts(section.texts, prefix))
    parts += [cards.runs(section.runs), cards.learned(section.learned)]
    for group in dict.fromkeys(figure.group for figure in section.figures):
        own = [figure for figure in section.figures if figure.group == group]
        parts.append(f'<h2 id="{prefix}{group.lower()}">{escape(_GROUPS.get(group, group))}</h2>')
        first = cards.front(section.front) if group == "Front" and section.front is not None else ""
        parts.append(cards.figures(own, prefix, index, first))
        parts += [
            _training_card(section, item) for item in section.trainings if TRAINED_GROUPS[item.kind] == group
        ]
    if section.networks:
        title = "Top networks side by side" if section.front is None else "Networks along the front"
        parts.append(cards.networks(section.networks, prefix, index, title))
    if section.shows_search:
        parts.append(cards.trials(index, prefix))
    parts.append(_spec(section, prefix))
    content = "".join(parts)
    if is_single:
        return f'<article id="study-{index}">{content}</article>'
    return (
        f'<details class="study" id="study-{index}"><summary>Study {escape(section.name)}: all its figures, networks '
        f"and trials</summary>{content}</details>"
    )


_GROUPS = {
    "Trained": "The second stage: short trainings",
    "Verified": "Verification: what the score is worth",
    "Front": "The Pareto front",
    "Search": "The search",
    "Costs": "Score and costs",
    "Survivors": "What survives",
}
_LINKS = {"Front": "Pareto front", "Trained": "Second stage", "Verified": "Verification"}


def _training_card(section: Section, found: object) -> str:
    header, rows = training_table(found, numbers_by_structure(section.data))  # type: ignore[arg-type]
    return cards.trainings(found, header, rows)  # type: ignore[arg-type]


def _comparison(sections: Sequence[Section], comparison: Sequence[Figure]) -> str:
    """Return all studies at a glance: one table, what differs in their specs, shared figures, best networks."""
    header, rows = summary_table(sections)
    parts = [f'<h2 id="comparison">Comparison</h2><div class="card">{cards.table(header, rows)}</div>']
    differing = differing_settings(sections)
    if differing:
        parts.append(
            f'<details class="card"><summary>What differs in their specs ({len(differing[1])} fields)</summary>'
            f"{cards.table(*differing)}</details>"
        )
    parts.append(cards.figures(comparison, "", 0))
    pictures = [
        cards.picture(section.chosen[0].network, f"s{index}-", index, f"{section.name}, ")
        for index, section in enumerate(sections)
        if section.chosen
    ]
    if pictures:
        parts.append(
            f'<h2 id="best">The best network of each</h2><div class="nets">{"".join(pictures)}</div>'
        )
    return "".join((*parts, "<h2>Each study by itself</h2>"))


def _spec(section: Section, prefix: str) -> str:
    text = yaml.safe_dump(section.data.spec.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    errors = ""
    if section.data.errors:
        rows = [(f"{count:,}", message[:200]) for message, count in section.data.errors.most_common(8)]
        errors = f"<p>Failed trials by reason:</p>{cards.table(('trials', 'reason'), rows)}"
    return (
        f'<h2 id="{prefix}spec">Spec</h2><div class="card">{errors}<details><summary>The resolved study spec'
        f"</summary><pre>{escape(text)}</pre></details></div>"
    )
