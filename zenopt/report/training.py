"""One HTML page about trainings of a network, with everything inside: how they went, and what the network confuses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import plotly.graph_objects as go
import torch
import yaml
from plotly.offline import get_plotlyjs

from zenopt._version import __version__
from zenopt.core.words import plural
from zenopt.report.anatomy import dissect
from zenopt.report.picture import draw
from zenopt.train.checkpoint import write_file
from zenopt.train.engine import RunResult
from zenopt.train.evaluate import Evaluation
from zenopt.train.networks import NetworkSource, shortened
from zenopt.train.timing import duration

_ASSETS = Path(__file__).resolve().parent / "assets"
#: Names of classes are words: on a phone they wrap, so that numbers stay in sight.
_STYLE = ".words th, .words td { white-space: normal; overflow-wrap: break-word; min-width: 3em; }"
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; "
    "base-uri 'none'"
)
#: Colours that can be told apart in the light, in the dark and by most eyes; one a run.
_COLOURS = ("#2f7fd0", "#d9822b", "#2a9464", "#a855a8", "#c2453d", "#8a8f98")
#: Classes up to which the matrix shows its numbers, bars are drawn, and the matrix is drawn at all.
_NUMBERED, _BARS, _MATRIX = 20, 40, 200
_CONFUSIONS = 15


def write_training_report(
    path: Path, runs: Sequence[RunResult], source: NetworkSource | None = None, *, name: str = ""
) -> None:
    """Write the page of one training, or of several of the same network with different seeds side by side.

    Args:
        path:
            The file; an older one is replaced by a whole one.
        runs:
            What they came to.
        source:
            The network, for its picture.
        name:
            What to call it; by default by its text.
    """
    metrics = runs[0].metrics
    parts = [_tiles(runs)]
    figures: dict[str, go.Figure] = {}
    if len(runs) > 1:
        parts.append(f'<h2 id="seeds">Seeds</h2>{_seeds(runs)}')
    if any(run.history for run in runs):
        curves = {
            "loss": (
                "Loss",
                _curves(runs, (("train", "train_loss"), ("test", "test_loss")), "cross-entropy"),
            ),
            "accuracy": ("Test accuracy", _curves(runs, (("top-1", "top1"), ("top-5", "top5")), "%")),
            # A schedule is the same for every seed.
            "rate": ("Learning rate", _curves(runs[:1], (("learning rate", "lr"),), "of the whole batch")),
            "speed": ("Speed", _curves(runs, (("training", "images_per_second"),), "images per second")),
        }
        figures |= {key: figure for key, (_, figure) in curves.items()}
        cards = "".join(_card(key, title, figure) for key, (title, figure) in curves.items())
        parts.append(f'<h2 id="curves">Curves</h2><div class="grid">{cards}</div>')
    confusion = _sum_of([run.confusion for run in runs])
    if confusion is not None:
        parts.append(_classes(confusion, runs[0].classes, figures, seeds=len(runs)))
    if source is not None:
        parts.append(_network(source, len(runs[0].classes)))
    recipe = yaml.safe_dump(metrics["recipe"], sort_keys=False, allow_unicode=True)
    parts.append(
        f'<h2 id="recipe">Recipe</h2><div class="card"><details><summary>All settings</summary>'
        f"<pre>{escape(recipe)}</pre></details></div>"
    )
    name = name or shortened(metrics["network"].get("text", "network"), 40)
    seeds = f"seed{'s' * (len(runs) > 1)} {', '.join(str(run.metrics['seed']) for run in runs)}"
    facts = (
        f"{metrics['data']}: {metrics['train_images']:,} training and {metrics['test_images']:,} test images of "
        f"{plural(metrics['classes'], 'class')}; {plural(metrics['epochs'], 'epoch')}, {seeds}."
    )
    _write(path, f"{name} on {metrics['data']}", "training report", facts, "".join(parts), figures)


def write_evaluation_report(
    path: Path, evaluation: Evaluation, classes: Sequence[str], *, title: str
) -> None:
    """Write the page of an evaluation: accuracies, each class, what is confused."""
    figures: dict[str, go.Figure] = {}
    tiles = _tile_row(
        (
            ("top-1", f"{evaluation.top1:.2f} %", ""),
            ("top-5", f"{evaluation.top5:.2f} %", ""),
            ("loss", f"{evaluation.loss:.4f}", ""),
            (
                "images",
                f"{evaluation.images:,}",
                f"{evaluation.images_per_second:,.0f} a second, forward alone",
            ),
        )
    )
    body = tiles + _classes(evaluation.confusion, classes, figures)
    _write(path, title, "evaluation report", f"{len(classes)} classes.", body, figures)


def _write(path: Path, title: str, kind: str, facts: str, body: str, figures: dict[str, go.Figure]) -> None:
    content = {key: json.loads(figure.to_json()) for key, figure in figures.items()}
    # "</script>" inside a JSON string would end the script element.
    packed = json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")
    style = (
        "".join((_ASSETS / name).read_text(encoding="utf-8") for name in ("report.css", "picture.css"))
        + _STYLE
    )
    links = (
        ("seeds", "Seeds"),
        ("curves", "Curves"),
        ("classes", "Classes"),
        ("network", "Network"),
        ("recipe", "Recipe"),
    )
    nav = "".join(f'<a href="#{key}">{text}</a>' for key, text in links if f'id="{key}"' in body)
    page = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="generator" content="zenopt {__version__}">
<title>{escape(title)} - zenopt {kind}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<header><p class="faint">zenopt {kind}</p><h1>{escape(title)}</h1><p class="faint">{escape(facts)}</p>
<nav>{nav}</nav></header>
<noscript><p class="bad">The figures need JavaScript, which this browser has turned off; numbers and tables do not.</p>
</noscript>
{body}
<p class="faint">Made by zenopt {__version__}.</p>
<script>{get_plotlyjs()}</script>
<script type="application/json" id="figures">{packed}</script>
<script>{(_ASSETS / "training.js").read_text(encoding="utf-8")}</script>
</body>
</html>
"""
    write_file(path, page.encode())


def _tile_row(tiles: Sequence[tuple[str, str, str]]) -> str:
    found = "".join(
        f'<div class="tile"><span class="faint">{escape(label)}</span><b>{escape(number)}</b>'
        f'<span class="faint">{escape(remark)}</span></div>'
        for label, number, remark in tiles
    )
    return f'<div class="tiles">{found}</div>'


def _tiles(runs: Sequence[RunResult]) -> str:
    metrics = [run.metrics for run in runs]
    best = max((m["best"] for m in metrics), key=lambda row: row["top1"])
    several = f" +- {_spread([m['top1'] for m in metrics])}" if len(runs) > 1 else ""
    seconds = sum(m["seconds"] for m in metrics)
    rates = [row["images_per_second"] for run in runs for row in run.history]
    return _tile_row(
        (
            (
                "top-1, last epoch",
                f"{mean(m['top1'] for m in metrics):.2f}{several} %",
                "mean of the seeds" if several else "",
            ),
            ("best top-1", f"{best['top1']:.2f} %", f"at epoch {best['epoch']}, kept in best.pt"),
            ("top-5, last epoch", f"{mean(m['top5'] for m in metrics):.2f} %", ""),
            (
                "loss, training / test",
                f"{metrics[0]['train_loss']:.3f} / {metrics[0]['loss']:.3f}",
                "last epoch",
            ),
            ("training took", duration(seconds), f"{mean(rates):,.0f} images a second" if rates else ""),
        )
    )


def _spread(values: Sequence[float]) -> str:
    return f"{stdev(values):.2f}"


def _seeds(runs: Sequence[RunResult]) -> str:
    rows = [
        (
            str(run.metrics["seed"]),
            f"{run.metrics['top1']:.2f}",
            f"{run.metrics['best']['top1']:.2f}",
            str(run.metrics["best"]["epoch"]),
            f"{run.metrics['top5']:.2f}",
            f"{run.metrics['train_loss']:.4f}",
            f"{run.metrics['loss']:.4f}",
            duration(run.metrics["seconds"]),
        )
        for run in runs
    ]
    for name, combine in (("mean", mean), ("std", stdev)):
        columns = [
            [run.metrics["top1"] for run in runs],
            [run.metrics["best"]["top1"] for run in runs],
            [run.metrics["top5"] for run in runs],
        ]
        top1, best, top5 = (f"{combine(column):.2f}" for column in columns)
        rows.append((name, top1, best, "", top5, "", "", ""))
    header = ("seed", "top-1 %", "best %", "at epoch", "top-5 %", "train loss", "test loss", "time")
    return f'<div class="card scroll">{_table(header, rows)}</div>'


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _card(key: str, title: str, figure: go.Figure, caption: str = "") -> str:
    return (
        f'<figure class="card"><h3>{escape(title)}</h3><div class="plot" data-figure="{key}" '
        f'style="min-height:{int(figure.layout.height)}px" role="img" aria-label="{escape(title)}"></div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _curves(runs: Sequence[RunResult], lines: Sequence[tuple[str, str]], unit: str) -> go.Figure:
    """Return lines over epochs; of several runs a colour each, and a dash for each line."""
    figure = go.Figure()
    dashes = ("solid", "dot")
    for number, run in enumerate(runs):
        for index, (name, key) in enumerate(lines):
            rows = [row for row in run.history if row[key] is not None]
            label = name if len(runs) == 1 else f"seed {run.metrics['seed']}, {name}"
            colour = _COLOURS[(number if len(runs) > 1 else index) % len(_COLOURS)]
            figure.add_scatter(
                x=[row["epoch"] for row in rows],
                y=[row[key] for row in rows],
                name=label,
                mode="lines+markers" if len(rows) < 30 else "lines",
                line={"color": colour, "dash": dashes[index] if len(runs) > 1 else "solid", "width": 2},
                marker={"size": 5},
                hovertemplate=f"epoch %{{x}}<br>{escape(label)} %{{y:.5~g}}<extra></extra>",
            )
    # Few epochs would get ticks between them, written as the same whole number twice.
    last = max((row["epoch"] for run in runs for row in run.history), default=1)
    step = {"dtick": 1} if last <= 10 else {}
    figure.update_xaxes(title_text="epoch", tickformat="d", **step)
    figure.update_yaxes(title_text=unit)
    figure.update_layout(
        height=300,
        margin={"l": 56, "r": 12, "t": 12, "b": 44},
        showlegend=len(figure.data) > 1,
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0},
    )
    return figure


def _sum_of(confusions: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
    known = [confusion for confusion in confusions if confusion is not None]
    return torch.stack(known).sum(0) if known else None


def _classes(
    confusion: torch.Tensor, classes: Sequence[str], figures: dict[str, go.Figure], *, seeds: int = 1
) -> str:
    """Return the section about classes: a table of all, the accuracies as bars, the matrix, the commonest mistakes."""
    counts = confusion.double()
    totals, hits = counts.sum(1), counts.diagonal()
    shares = (100 * hits / totals.clamp(min=1)).tolist()
    wrong = counts.clone()
    wrong.fill_diagonal_(0)
    order = sorted(
        (index for index in range(len(classes)) if totals[index] > 0), key=lambda index: shares[index]
    )
    rows = []
    for index in order:
        worst = int(wrong[index].argmax())
        mistaken = f"{classes[worst]} ({int(wrong[index, worst])})" if wrong[index, worst] > 0 else "-"
        rows.append((classes[index], f"{int(totals[index]):,}", f"{shares[index]:.1f}", mistaken))
    rows += [(classes[index], "0", "-", "-") for index in range(len(classes)) if totals[index] == 0]
    cards = []
    if 0 < len(order) <= _BARS:
        figures["classes"] = _bars([classes[index] for index in order], [shares[index] for index in order])
        cards.append(
            _card("classes", "Accuracy of each class", figures["classes"], "The hardest class below.")
        )
    header = ("class, hardest first", "images", "accuracy %", "most often taken for")
    cards.append(
        f'<div class="card"><h3>Classes</h3><div class="scroll tall words">{_table(header, rows)}</div></div>'
    )
    if len(classes) <= _MATRIX:
        figures["confusion"] = _matrix(confusion, classes)
        cards.append(
            _card(
                "confusion",
                "Confusion",
                figures["confusion"],
                "% of the images of a true class (row) that the network takes for a class (column).",
            )
        )
    mistakes = _mistakes(wrong, totals, classes)
    if mistakes:
        names = ("true class", "taken for", "images", "% of the class")
        commonest = _table(names, mistakes)
        cards.append(
            f'<div class="card"><h3>Commonest mistakes</h3><div class="scroll words">{commonest}</div></div>'
        )
    note = f'<p class="faint">Counted over the last epochs of all {seeds} seeds.</p>' if seeds > 1 else ""
    return f'<h2 id="classes">Classes</h2>{note}<div class="grid">{"".join(cards)}</div>'


def _bars(names: Sequence[str], shares: Sequence[float]) -> go.Figure:
    figure = go.Figure(
        go.Bar(
            x=list(shares),
            y=_labels(names, 18),
            orientation="h",
            marker={"color": _COLOURS[0]},
            text=[f"{share:.1f}" for share in shares],
            textposition="auto",
            hovertemplate="%{y}: %{x:.2f} %<extra></extra>",
        )
    )
    figure.update_xaxes(range=[0, 100], title_text="%")
    figure.update_yaxes(type="category", automargin=True)
    figure.update_layout(
        height=max(220, 80 + 20 * len(names)), margin={"l": 8, "r": 12, "t": 8, "b": 44}, bargap=0.25
    )
    return figure


def _labels(names: Sequence[str], length: int) -> list[str]:
    """Return names for an axis: plotly takes them for markup, and equal ones for one."""
    cut = [escape(shortened(name, length)) for name in names]
    return [name if cut.count(name) == 1 else f"{name} {index}" for index, name in enumerate(cut)]


def _matrix(confusion: torch.Tensor, classes: Sequence[str]) -> go.Figure:
    counts = confusion.double()
    shares = 100 * counts / counts.sum(1, keepdim=True).clamp(min=1)
    names = _labels(classes, 14)
    is_numbered = len(classes) <= _NUMBERED
    figure = go.Figure(
        go.Heatmap(
            z=shares.tolist(),
            x=names,
            y=names,
            customdata=confusion.tolist(),
            zmin=0,
            zmax=100,
            xgap=1 if is_numbered else 0,
            ygap=1 if is_numbered else 0,
            showscale=not is_numbered,
            text=[["" if value < 0.5 else f"{value:.0f}" for value in row] for row in shares.tolist()],
            texttemplate="%{text}" if is_numbered else None,
            hovertemplate="true %{y}<br>taken for %{x}<br>%{z:.1f} % (%{customdata:,} images)<extra></extra>",
        )
    )
    figure.update_xaxes(
        title_text="taken for", type="category", tickangle=-45, automargin=True, showgrid=False
    )
    figure.update_yaxes(
        title_text="true", type="category", autorange="reversed", automargin=True, showgrid=False
    )
    figure.update_layout(height=min(640, 240 + 20 * len(classes)), margin={"l": 8, "r": 8, "t": 8, "b": 8})
    return figure


def _mistakes(wrong: torch.Tensor, totals: torch.Tensor, classes: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the pairs of classes that are confused most often."""
    count = min(_CONFUSIONS, wrong.numel())
    values, places = wrong.flatten().topk(count)
    found: list[tuple[str, ...]] = []
    for value, place in zip(values.tolist(), places.tolist(), strict=True):
        true, taken = divmod(place, len(classes))
        if value > 0:
            found.append(
                (classes[true], classes[taken], f"{int(value):,}", f"{100 * value / totals[true].item():.1f}")
            )
    return found


def _network(source: NetworkSource, classes: int) -> str:
    architecture: Any = source.architecture
    if architecture is None:
        name = escape(f"{source.kind}:{source.text}")
        return f'<h2 id="network">Network</h2><div class="card"><p>{name}</p></div>'
    anatomy = dissect(architecture, source.resolution, classes, use_se=source.use_se)
    gates = "with squeeze-excite gates" if source.use_se else "without squeeze-excite gates"
    facts = f"{anatomy.params:,} params, {anatomy.macs / 1e6:,.1f} M MACs at {source.resolution} px, {gates}."
    return (
        f'<h2 id="network">Network</h2><div class="grid"><figure class="card">{draw(anatomy)}</figure>'
        f'<div class="card"><p>{escape(facts)}</p><p class="faint">Structure string:</p>'
        f'<code class="structure">{escape(source.text)}</code></div></div>'
    )
