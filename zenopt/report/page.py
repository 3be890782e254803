"""The report as one HTML file: plotly.js, style and script inside, so that it opens anywhere without a network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

import yaml
from optuna.trial import TrialState
from plotly.offline import get_plotlyjs

from zenopt._version import __version__
from zenopt.report.figures import Figure
from zenopt.report.picture import STYLE_FILE, draw
from zenopt.report.sections import Front, Network, Section, when

_ASSETS = Path(__file__).resolve().parent / "assets"
#: The page may run its own script and nothing else: a report that asks the network for anything is broken.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "form-action 'none'; base-uri 'none'"
)


def render(sections: Sequence[Section], comparison: Sequence[Figure] = ()) -> str:
    """Returns the page.

    Args:
        sections:
            One per study.
        comparison:
            Figures that show all of them, put first.
    """
    figures: dict[str, Figure] = {figure.key: figure for figure in comparison}
    body = []
    if comparison:
        body.append(f"<h2 id='comparison'>Comparison</h2>{_summary(sections)}{_figures(comparison, '')}")
    for index, section in enumerate(sections):
        prefix = f"s{index}-" if len(sections) > 1 else ""
        figures.update({prefix + figure.key: figure for figure in section.figures})
        body.append(_article(section, prefix, index, has_heading=len(sections) > 1))
    names = ", ".join(section.data.name for section in sections)
    content = {key: json.loads(figure.figure.to_json()) for key, figure in figures.items()}
    # "</script>" inside a JSON string would end the script element.
    packed = json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    style = (_ASSETS / "report.css").read_text(encoding="utf-8")
    script = (_ASSETS / "report.js").read_text(encoding="utf-8")
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
<noscript><p class="bad">The figures need JavaScript, which this browser has turned off; numbers, tables and
pictures of networks do not.</p></noscript>
{"".join(body)}
<p class="faint">Made by zenopt {__version__}. Scores of training-free proxies rank candidates; they are not accuracies.
Latencies are predicted unless they say otherwise.</p>
<script>{get_plotlyjs()}</script>
<script type="application/json" id="figures">{packed}</script>
<script>{script}</script>
</body>
</html>
"""


def _heading(sections: Sequence[Section]) -> str:
    names = ", ".join(section.data.name for section in sections)
    links = [("#comparison", "Comparison")] if len(sections) > 1 else []
    if len(sections) > 1:
        links += [(f"#study-{index}", section.data.name) for index, section in enumerate(sections)]
    else:
        has_front = sections[0].front is not None
        groups = dict.fromkeys(figure.group for figure in sections[0].figures)
        links += [("#best", "Best network")] if sections[0].networks and not has_front else []
        links += [(f"#{group.lower()}", _LINKS.get(group, group)) for group in groups]
        links += (
            [("#networks", "Its networks" if has_front else "Top networks")] if sections[0].networks else []
        )
        links += [("#spec", "Spec")]
    nav = "".join(f'<a href="{href}">{escape(text)}</a>' for href, text in links)
    read_at = when(min(section.data.read_at for section in sections))
    running = sum(int(section.data.in_state(TrialState.RUNNING).sum()) for section in sections)
    state = f", with {running} trial{'s' * (running > 1)} under way" if running else ""
    return (
        f'<header><p class="faint">zenopt report</p><h1>{escape(names)}</h1>'
        f'<p class="faint">Snapshot of {read_at}{state}.</p><nav>{nav}</nav></header>'
    )


def _article(section: Section, prefix: str, index: int, *, has_heading: bool) -> str:
    parts = [f'<article id="study-{index}">']
    if has_heading:
        parts.append(f"<h2>Study {escape(section.data.name)}</h2>")
    parts.append(f'<p class="faint">{escape(section.settings)}</p>')
    tiles = "".join(
        f'<div class="tile"><span class="faint">{escape(label)}</span><b>{escape(number)}</b>'
        f'<span class="faint">{escape(remark)}</span></div>'
        for label, number, remark in section.tiles
    )
    parts.append(f'<div class="tiles">{tiles}</div>')
    if section.networks and section.front is None:
        parts.append(_best(section.networks[0], prefix))
    for group in dict.fromkeys(figure.group for figure in section.figures):
        own = [figure for figure in section.figures if figure.group == group]
        parts.append(f'<h2 id="{prefix}{group.lower()}">{escape(_GROUPS.get(group, group))}</h2>')
        first = _front(section.front) if group == "Front" and section.front is not None else ""
        parts.append(_figures(own, prefix, first))
    if section.networks:
        title = "Top networks side by side" if section.front is None else "Networks along the front"
        parts.append(_networks(section.networks, prefix, title))
    parts.append(_spec(section, prefix))
    return "".join((*parts, "</article>"))


_GROUPS = {
    "Front": "The Pareto front",
    "Search": "The search",
    "Costs": "Score and costs",
    "Survivors": "What survives",
}

_LINKS = {"Front": "Pareto front"}


def _front(front: Front) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in front.header)
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in front.rows)
    note = f"{front.size} networks that no other one beats in all of {front.words}, best score first"
    if len(front.rows) < front.size:
        note += f"; {len(front.rows)} of them, evenly along the front (zenopt status --json lists all)"
    return (
        f'<div class="card"><h3>Members</h3><div class="scroll tall"><table><thead><tr>{head}</tr></thead>'
        f'<tbody>{rows}</tbody></table></div><p class="faint">{escape(note)}.</p></div>'
    )


def _figures(figures: Sequence[Figure], prefix: str, first: str = "") -> str:
    cards = "".join(
        f'<figure class="card" id="{prefix}fig-{figure.key}"><h3>{escape(figure.title)}</h3>'
        f'<div class="plot" data-figure="{prefix}{figure.key}" '
        f'style="min-height:{int(figure.figure.layout.height)}px" role="img" aria-label="{escape(figure.title)}"></div>'
        f"<figcaption>{escape(figure.caption)}</figcaption></figure>"
        for figure in figures
    )
    return f'<div class="grid">{first}{cards}</div>'


def _best(network: Network, prefix: str) -> str:
    rows = "".join(
        f"<tr><td>{escape(label)}</td><td>{escape(text)}</td></tr>" for label, text in network.facts
    )
    return (
        f'<h2 id="{prefix}best">Best network</h2><div class="grid">'
        f'<div class="card"><div class="scroll"><table><tbody>{rows}</tbody></table></div>'
        f'<p class="faint">Structure string:</p><code class="structure">{escape(network.structure)}</code></div>'
        f"{_picture(network, prefix, 'best')}</div>"
    )


def _networks(networks: Sequence[Network], prefix: str, heading: str) -> str:
    head = "".join(f"<th>{rank}.</th>" for rank in range(1, len(networks) + 1))
    rows = "".join(
        f"<tr><td>{escape(label)}</td>"
        + "".join(f"<td>{escape(network.facts[row][1])}</td>" for network in networks)
        + "</tr>"
        for row, (label, _) in enumerate(networks[0].facts)
    )
    pictures = "".join(_picture(network, prefix, str(rank)) for rank, network in enumerate(networks, start=1))
    return (
        f'<h2 id="{prefix}networks">{heading}</h2>'
        f'<div class="card scroll"><table><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
        f'<p></p><div class="nets">{pictures}</div>'
    )


def _picture(network: Network, prefix: str, rank: str) -> str:
    title = f"{rank}. {network.title}" if rank.isdigit() else network.title
    name = f"{prefix}network-trial-{network.number}"
    return (
        f'<figure class="card">{draw(network.anatomy, title)}<figcaption>'
        f'<button type="button" data-save="{escape(name)}">Save as SVG</button>'
        f"<details><summary>Structure string</summary>"
        f'<code class="structure">{escape(network.structure)}</code></details></figcaption></figure>'
    )


def _summary(sections: Sequence[Section]) -> str:
    labels = [label for label, _, _ in sections[0].tiles]
    head = "".join(f"<th>{escape(label)}</th>" for label in labels)
    rows = []
    for section in sections:
        tiles = {label: number for label, number, _ in section.tiles}
        cells = "".join(f"<td>{escape(tiles.get(label, '-'))}</td>" for label in labels)
        rows.append(f"<tr><td>{escape(section.data.name)}</td>{cells}</tr>")
    return (
        f'<div class="card scroll"><table><thead><tr><th>study</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div><p></p>"
    )


def _spec(section: Section, prefix: str) -> str:
    text = yaml.safe_dump(section.data.spec.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    errors = ""
    if section.data.errors:
        rows = "".join(
            f"<tr><td>{count:,}</td><td>{escape(message[:200])}</td></tr>"
            for message, count in section.data.errors.most_common(8)
        )
        errors = (
            f'<p>Failed trials by reason:</p><div class="scroll"><table><tbody>{rows}</tbody></table></div>'
        )
    return (
        f'<h2 id="{prefix}spec">Spec</h2><div class="card">{errors}<details><summary>The resolved study spec'
        f"</summary><pre>{escape(text)}</pre></details></div>"
    )
