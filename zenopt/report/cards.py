"""Pieces of the report's page: cards of networks, figures and tables, as HTML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from zenopt.report.choices import Chosen
from zenopt.report.commands import filled
from zenopt.report.figure import Figure
from zenopt.report.networks import Front, Network
from zenopt.report.picture import draw
from zenopt.report.trainings import Trainings
from zenopt.study.trained import RUN_HEADER, run_row


def tiles(found: Iterable[tuple[str, str, str]]) -> str:
    """Return numbers with a label and a remark each."""
    cells = "".join(
        f'<div class="tile"><span class="faint">{escape(label)}</span><b>{escape(number)}</b>'
        f'<span class="faint">{escape(remark)}</span></div>'
        for label, number, remark in found
    )
    return f'<div class="tiles">{cells}</div>'


def table(header: Sequence[str], rows: Iterable[Sequence[str]], css: str = "") -> str:
    """Return a table that scrolls sideways where it is wide; rows that end in a word are marked."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(
        f"<tr{' class=marked' if row[-1] in ('winner', 'exported') else ''}>"
        f"{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll {css}"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def figures(found: Sequence[Figure], prefix: str, study: int, first: str = "") -> str:
    """Return figures as a grid of cards; a click on their points opens trials of the study at a position."""
    cards = []
    # Cards stand in pairs, the last three of an odd number in one row, so that no place stays empty.
    narrow = [figure.key for figure in found if not figure.least_width and not figure.is_wide]
    count = len(narrow) + bool(first)
    thirds = set(narrow[-3:]) if count % 2 and count >= 3 and not (first and count == 3) else set()
    for figure in found:
        style = f"min-height:{int(figure.figure.layout.height)}px"
        style += f";min-width:{figure.least_width}px" if figure.least_width else ""
        is_wide = figure.least_width or figure.is_wide or count == 1
        wide = " wide" if is_wide else " third" if figure.key in thirds else ""
        cards.append(
            f'<figure class="card{wide}" id="{prefix}fig-{figure.key}"><h3>{escape(figure.title)}</h3>'
            f'<div class="scroll"><div class="plot" data-figure="{prefix}{figure.key}" data-study="{study}" '
            f'style="{style}" role="img" aria-label="{escape(figure.title)}"></div></div>'
            f"<figcaption>{escape(figure.caption)}</figcaption></figure>"
        )
    return f'<div class="grid">{first}{"".join(cards)}</div>'


def chosen(
    found: Sequence[Chosen],
    commands: Sequence[tuple[str, str]],
    trial_commands: Sequence[tuple[str, str]],
    prefix: str,
    study: int,
) -> str:
    """Return the networks that are shown large: a single one beside its picture, several in columns."""
    if not found:
        return ""
    parts = []
    for item in found:
        content = [f"<p>{prose(item.reason)}</p>"]
        if item.rows:
            content.append(table(item.header, item.rows))
        content.append(f'<div class="facts">{_facts(item.network)}</div>')
        content.append(code("Structure", item.network.structure, "structure"))
        if len(found) == 1:
            network = item.network
            own = [
                (label, filled(command, network.number, network.structure))
                for label, command in trial_commands[1:]
            ]
            content += [code(label, command) for label, command in (*commands, *own)]
        heading = f"<h3>{escape(item.title)}</h3>" if len(found) > 1 else ""
        parts.append(
            f'<div class="chosen"><div class="card">{heading}{"".join(content)}</div>'
            f"{picture(item.network, prefix, study)}</div>"
        )
    title = found[0].title
    if len(found) > 1:
        title = "Winner and best score" if found[0].is_trained else "Exported and best network"
        lines = "".join(code(label, command) for label, command in commands)
        parts.append(f'<div class="card next">{lines}</div>')
    columns = f"n{min(len(found), 3)}"
    return f'<h2 id="{prefix}best">{escape(title)}</h2><div class="choices {columns}">{"".join(parts)}</div>'


def prose(text: str) -> str:
    """Return text in which what stands between backquotes is code."""
    pieces = text.split("`")
    return "".join(
        f'<code class="inline">{escape(piece)}</code>' if index % 2 else escape(piece)
        for index, piece in enumerate(pieces)
    )


def code(label: str, text: str, css: str = "command") -> str:
    """Return a text to copy, with its button."""
    return (
        f'<div class="copy"><span class="faint">{escape(label)}</span><button type="button" data-copy>Copy</button>'
        f'<code class="{css}">{escape(text)}</code></div>'
    )


def texts(found: Sequence[tuple[str, str]], prefix: str) -> str:
    """Return the best architectures as texts to copy; nothing where there are none."""
    if not found:
        return ""
    lines = "".join(code(title, text, "structure") for title, text in found)
    return f'<h2 id="{prefix}best">Best of the search</h2><div class="card">{lines}</div>'


def runs(found: Sequence[Mapping[str, Any]]) -> str:
    """Return the networks of a study that were trained by themselves, ``zenopt train --study``."""
    if not found:
        return ""
    rows = [run_row(run) for run in found]
    return f'<h2>Trained by themselves</h2><div class="card">{table(RUN_HEADER, rows)}</div>'


def learned(record: Mapping[str, Any]) -> str:
    """Return what a search that learns says of its predictor: which inputs it reads, and on what evidence."""
    if not record:
        return ""
    candidates = record.get("candidates")
    among = f", among {candidates:,} candidates" if isinstance(candidates, int) else ""
    begins = record.get("begins_with")
    first = f" It began with the ranking by {escape(str(begins))}." if begins else ""
    text = str(record.get("record") or "nothing yet: too few trials")
    return (
        '<h2>What the search has learned</h2><div class="card">'
        f"<p>A predictor learned from {escape(str(record.get('learned_from', 0)))} trials proposes what is expected to "
        f"improve most{among}.{first} Inputs and evidence (log marginal likelihood against the best):</p>"
        f"<pre>{escape(text)}</pre></div>"
    )


def networks(found: Sequence[Network], prefix: str, study: int, heading: str) -> str:
    """Return networks side by side: a table of their facts, and their pictures."""
    header = ("", *(f"{rank}." for rank in range(1, len(found) + 1)))
    rows = [
        (label, *(network.facts[row][1] for network in found))
        for row, (label, _) in enumerate(found[0].facts)
    ]
    pictures = "".join(
        picture(network, prefix, study, f"{rank}. ") for rank, network in enumerate(found, start=1)
    )
    return (
        f'<h2 id="{prefix}networks">{escape(heading)}</h2><div class="card">{table(header, rows)}</div>'
        f'<div class="nets">{pictures}</div>'
    )


def picture(network: Network, prefix: str, study: int, title: str = "") -> str:
    """Return the picture of a network with its buttons; ``title`` stands before what says which trial it is."""
    name = f"{prefix}network-trial-{network.number}"
    drawn = draw(network.anatomy, f"{title}{network.title}")
    return (
        f'<figure class="card picture"><div class="tall">{drawn}</div><figcaption>'
        f'<button type="button" data-save="{escape(name)}">Save as SVG</button> '
        f'<button type="button" data-study="{study}" data-open="{network.number}">Open trial</button>'
        "</figcaption></figure>"
    )


def front(found: Front) -> str:
    """Return the members of a front as a card."""
    note = f"{found.size} networks that no other one beats in all of {found.words}, best score first"
    if len(found.rows) < found.size:
        note += f"; {len(found.rows)} of them, evenly along the front (zenopt status --json lists all)"
    return (
        f'<div class="card"><h3>Members</h3>{table(found.header, found.rows, "long")}'
        f'<p class="faint">{escape(note)}.</p></div>'
    )


def trainings(found: Trainings, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return the networks that were trained as a card."""
    note = f"Study {found.name}: {found.summary()}, trained on {found.data or 'unknown data'}."
    return (
        f'<div class="card wide"><h3>Networks by accuracy</h3>{table(header, rows, "long")}'
        f'<p class="faint">{escape(note)}</p></div>'
    )


def trials(index: int, prefix: str) -> str:
    """Return the place of a study's table of trials, which the page's script fills."""
    return (
        f'<h2 id="{prefix}trials">Trials</h2><div class="card trials" data-trials="{index}">'
        "<noscript>The table of trials needs JavaScript.</noscript></div>"
    )


def _facts(network: Network) -> str:
    return "".join(
        f"<div><span>{escape(label)}</span><b>{escape(text)}</b></div>" for label, text in network.facts
    )
