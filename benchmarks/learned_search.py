"""How many trainings a search needs until it has found the best networks of public tables.

    python benchmarks/learned_search.py FOLDER [--tables T,...] [--methods M,...] [--seeds N] [--evaluations N]
        [--rows S] [--macs-share S] [--minutes M] [--json FILE] [--figure HTML]

FOLDER holds the tables; where each comes from stands in ``zenopt/studies/*-table.yaml``. An evaluation is a network
that was not evaluated before; what a table does not list costs nothing. With ``--rows 0.6`` every seed has another
random part of the table, so that searches look for different networks: on a whole table some of them have little that
is random. ``--macs-share 0.5`` sets a budget, here the median of the multiply-adds. Optuna's ``gp`` is slow: leave it
out with ``--methods``, or give it fewer seeds in a run of its own; ``--json`` keeps what earlier runs wrote of other
methods and tables, and ``--figure`` draws all of it: the regret over evaluations, a panel for each table.

``--tables unseen`` searches the columns by which nothing was chosen: no input, no ranking, no setting.

``--predict 50,100`` judges the predictor instead: of so many random networks of a table it learns, and of the others
Kendall's correlation with their values is printed, and the share that lies in its 90 % intervals. ``--without
paths`` leaves a group of inputs out, here and in searches; ``graph_encodings.py`` says what that one is worth.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from scipy.stats import kendalltau

from zenopt.core.tables import Table
from zenopt.predictors.networks import NetworkReader
from zenopt.predictors.observations import Observations
from zenopt.predictors.surrogate import Surrogate
from zenopt.samplers.candidates import Candidates, gather
from zenopt.samplers.surrogate import SurrogateSampler
from zenopt.spaces.tabular import space_table
from zenopt.study.sampling import make_sampler, needs_all_slots
from zenopt.study.spec import StudySpec

#: Name -> preset, file, column, further settings.
TABLES: dict[str, tuple[str, str, str]] = {
    "nasbench201 cifar10": ("nasbench201-table", "nb201_accuracy.csv.gz", "cifar10_test"),
    "nasbench201 cifar100": ("nasbench201-table", "nb201_accuracy.csv.gz", "cifar100_test"),
    "nasbench201 imagenet16": ("nasbench201-table", "nb201_accuracy.csv.gz", "imagenet16_test"),
    "macro cifar10": ("nasbench-macro-table", "tables/nas_bench_macro_cifar10.csv.gz", "mean_acc"),
    "mnasnet imagenet": ("mnasnet-table", "tables/accel_nasbench_imagenet.csv.gz", "imagenet_val_top1"),
    "transnas-macro scene": (
        "transnas-macro-table",
        "tables/transnas_bench_101_macro.csv.gz",
        "class_scene_val",
    ),
    "transnas-macro jigsaw": (
        "transnas-macro-table",
        "tables/transnas_bench_101_macro.csv.gz",
        "jigsaw_val",
    ),
    "transnas-micro scene": (
        "transnas-micro-table",
        "tables/transnas_bench_101_micro.csv.gz",
        "class_scene_val",
    ),
    "sizes cifar10": ("sizes-table", "tables/nats_bench_sss_cifar10.csv.gz", "cifar10_test_90ep"),
    "darts cifar10": ("darts-table", "tables/oncenas_darts_545.csv.gz", "valid_acc50"),
}
#: Columns that no input, ranking or setting was chosen by.
UNSEEN_TABLES = {
    "transnas-macro autoencoder": (
        "transnas-macro-table",
        "tables/transnas_bench_101_macro.csv.gz",
        "autoencoder_val",
    ),
    "darts nb301": ("darts-table", "tables/nas_bench_301_725.csv.gz", "cifar10_val"),
    "vit cifar100": ("vit-table", "tables/vit_bench_101.csv.gz", "cifar100_acc"),
    "vit flowers": ("vit-table", "tables/vit_bench_101.csv.gz", "flowers_kd_acc"),
    "vit chaoyang": ("vit-table", "tables/vit_bench_101.csv.gz", "chaoyang_acc"),
    "vit imagenet": ("vit-table", "tables/vit_bench_101.csv.gz", "imagenet_supernet_acc"),
}
#: Methods that are a sampler with settings of its own; the others are a sampler's name.
SETTINGS: dict[str, dict[str, Any]] = {
    "aging": {"name": "aging", "population": 64, "tournament": 10},
    "aging-10": {"name": "aging", "population": 10, "tournament": 3},
}
METHODS = ("random", "tpe", "gp", "aging", "zen", "surrogate")
#: Proposals without a new network after which a search is given up.
PATIENCE = 500
#: Shares of the table that count as found.
SHARES = (0.0, 0.001, 0.01)
#: Networks that a prediction is judged on.
UNSEEN = 2000
#: Evaluations after which the regret is printed.
REGRET_AT = (10, 20, 50, 100)
#: Of the figure: panels in a row, colours of the methods, and what counts as found, in points.
COLUMNS = 3
COLOURS = ("#7f7f7f", "#e69f00", "#cc79a7", "#0072b2", "#009e73", "#d55e00")
FLOOR = 0.01


@dataclass
class Task:
    """One column of one table.

    Attributes:
        spec: The study; its space is what the table lists.
        values: Within the budget, by text.
        candidates: Of the learned search; gathered when it is first asked for.
        without: Groups of inputs that it may not read.
    """

    spec: StudySpec
    space: Any
    values: Mapping[str, float]
    candidates: Candidates | None = None
    without: Sequence[str] = ()

    @property
    def groups(self) -> list[str]:
        """Groups of inputs that the learned search may read."""
        return [name for name in self.gathered().inputs.group_names if name not in self.without]

    def part(self, rows: float, seed: int, file: Path) -> Task:
        """Return the task of a random part of the table, which is written to a file."""
        texts = sorted(self.values)
        chosen = np.random.default_rng(seed).permutation(len(texts))[: round(rows * len(texts))]
        kept = {texts[index]: self.values[texts[index]] for index in sorted(chosen.tolist())}
        with file.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerows([("structure", "value"), *kept.items()])
        spec = self.spec.overridden({"objective.table": str(file), "objective.column": "value"})
        whole = self.gathered()
        places = [index for index, text in enumerate(whole.texts) if text in kept]
        inputs, names = whole.inputs.rows(places), tuple(whole.texts[index] for index in places)
        candidates = Candidates(names, inputs, whole.reader, is_whole=True)
        return Task(spec, spec.build_space(), kept, candidates, self.without)

    def gathered(self) -> Candidates:
        """Return the candidates of the learned search."""
        if self.candidates is None:
            limits = self.spec.limits()
            reader = NetworkReader(self.space, limits.resolution, limits.num_classes)
            self.candidates = gather(self.space, limits, reader, 10_000, random.Random(0))
        return self.candidates

    @classmethod
    def of(cls, folder: Path, name: str, macs_share: float | None) -> Task:
        """Read a table; with a share of its networks, by multiply-adds, as the budget."""
        preset, file, column = (TABLES | UNSEEN_TABLES)[name]
        settings: dict[str, Any] = {"objective.table": str(folder / file), "objective.column": column}
        spec = StudySpec.load(preset, settings)
        space, limits = spec.build_space(), spec.limits()
        table: Table = space_table(space.space, folder / file)
        values = table.column(column)
        listed = {str(own): own for own in space.architectures()}
        if macs_share is not None:
            macs = [limits.count(own).macs for own in listed.values()]
            spec = spec.overridden({"budget.macs": float(np.quantile(macs, macs_share))})
            space, limits = spec.build_space(), spec.limits()
        if limits.budget.limits():
            listed = {text: own for text, own in listed.items() if limits.check(own).is_feasible}
        return cls(spec, space, {text: values[text] for text in listed})

    def sampler(self, method: str, seed: int) -> tuple[optuna.samplers.BaseSampler, bool]:
        """Return a sampler, and whether it wants all slots."""
        settings = SETTINGS.get(method, {"name": method})
        spec = self.spec.overridden({"sampler": settings, "seed": seed})
        if method != "surrogate":
            return make_sampler(spec), needs_all_slots(spec)
        limits, candidates = spec.limits(), self.gathered()
        return SurrogateSampler(
            self.space, limits, seed=seed, candidates=candidates, inputs=self.groups
        ), False

    def search(
        self, method: str, seed: int, evaluations: int, told: Mapping[str, float] | None = None
    ) -> dict[str, float]:
        """Return what was told of each network, in the order of evaluation, up to the best of the table.

        Random search draws from the table: of spaces that a table lists little of, uniform parameters hit nothing.

        Args:
            method, seed:
                What searches.
            evaluations:
                Most networks.
            told:
                What the search is told instead of the table's values.
        """
        values = self.values if told is None else told
        best = max(values.values())
        if method == "random":
            order = np.random.default_rng(seed).permutation(list(values)).tolist()
            ends = next(index for index, text in enumerate(order, start=1) if values[text] == best)
            return {text: values[text] for text in order[: min(evaluations, ends)]}
        sampler, all_slots = self.sampler(method, seed)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        found: dict[str, float] = {}
        idle = 0
        while len(found) < evaluations and idle < PATIENCE:
            trial = study.ask()
            architecture = self.space.suggest(trial, all_slots=all_slots)
            text = str(architecture)
            if text not in values:
                if method == "gp" and found:
                    # It reads completed trials alone, and would propose the same again and again.
                    study.tell(trial, float(np.median(list(found.values()))))
                else:
                    study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                idle += 1
                continue
            study.tell(trial, values[text])
            idle = idle + 1 if text in found else 0
            found.setdefault(text, values[text])
            if found[text] == best:
                break
        return found


def summary(tasks: Sequence[Task], runs: Sequence[Sequence[float]], evaluations: int) -> dict[str, Any]:
    """Return quartiles of the evaluations until the best shares, and mean regrets."""
    ordered = [np.sort(np.array(list(task.values.values())))[::-1] for task in tasks]
    until = {}
    for share in SHARES:
        levels = [own[max(0, round(share * len(own)) - 1)] for own in ordered]
        counts = [
            next((n for n, value in enumerate(run, start=1) if value >= level), evaluations + 1)
            for run, level in zip(runs, levels, strict=True)
        ]
        until[share] = [float(q) for q in np.quantile(counts, (0.25, 0.5, 0.75))]
    regret = {
        n: float(
            np.mean([own[0] - max(run[:n], default=own[-1]) for run, own in zip(runs, ordered, strict=True)])
        )
        for n in REGRET_AT
    }
    left = np.array([_regrets(run, own[0], evaluations) for run, own in zip(runs, ordered, strict=True)])
    curve = np.quantile(left, (0.25, 0.5, 0.75), axis=0).round(5).tolist()
    return {"until": until, "regret": regret, "curve": curve, "seeds": len(runs), "limit": evaluations}


def _regrets(run: Sequence[float], best: float, evaluations: int) -> NDArray[np.float64]:
    """Return how far the best value so far is from the best of the table, after every evaluation."""
    so_far = np.maximum.accumulate(np.array(run[:evaluations]))
    return best - np.concatenate([so_far, np.full(evaluations - len(so_far), so_far[-1])])


def draw(results: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Write the regret over evaluations, median and quartiles over seeds, as a page of its own."""
    from plotly.subplots import make_subplots

    rows = -(-len(results) // COLUMNS)
    figure = make_subplots(
        rows=rows,
        cols=COLUMNS,
        subplot_titles=list(results),
        horizontal_spacing=0.07,
        vertical_spacing=0.14 / rows * 2,
    )
    shown: set[str] = set()
    for place, by_method in enumerate(results.values()):
        cell = {"row": place // COLUMNS + 1, "col": place % COLUMNS + 1}
        for method in (name for name in METHODS if name in by_method):
            low, middle, high = (np.maximum(line, FLOOR).tolist() for line in by_method[method]["curve"])
            x = list(range(1, len(middle) + 1))
            colour = COLOURS[METHODS.index(method)]
            figure.add_scatter(
                x=[*x, *reversed(x)], y=[*high, *reversed(low)], fill="toself", fillcolor=colour, opacity=0.15,
                line={"width": 0}, hoverinfo="skip", showlegend=False, **cell,
            )  # fmt: skip
            figure.add_scatter(
                x=x, y=middle, name=method, mode="lines", line={"color": colour, "width": 2},
                legendgroup=method, showlegend=method not in shown, **cell,
            )  # fmt: skip
            shown.add(method)
    longest = max(own["limit"] for by_method in results.values() for own in by_method.values())
    figure.update_xaxes(range=[0, longest])
    figure.update_yaxes(type="log", dtick=1, range=[np.log10(FLOOR), 1.0])
    figure.update_annotations(font_size=13)
    height = 130 + 270 * rows
    figure.update_layout(
        title={"text": "Points below the best of the table over evaluations", "y": 1 - 14 / height, "yanchor": "top"},
        template="plotly_white", width=1050, height=height, margin={"l": 50, "r": 20, "t": 110, "b": 40},
        legend={"orientation": "h", "y": 1 + 30 / (height - 150), "yanchor": "bottom", "x": 0},
    )  # fmt: skip
    figure.write_html(path, include_plotlyjs=True, config={"displayModeBar": False})


def predictions(task: Task, trained: int, seeds: int) -> tuple[float, float]:
    """Return Kendall's correlation and the coverage of 90 % intervals on networks that were not learned from."""
    candidates = task.gathered()
    values = np.array([task.values[text] for text in candidates.texts])
    kendalls, covered = [], []
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(values))
        known, unseen = order[:trained], order[trained : trained + UNSEEN]
        surrogate = Surrogate(candidates.inputs, groups=task.groups)
        texts = [candidates.texts[index] for index in known]
        surrogate.learn(Observations.of(candidates.inputs.rows(known), texts, values[known]))
        found = surrogate.predict(candidates.inputs.rows(unseen))
        kendalls.append(kendalltau(found.mean, values[unseen]).statistic)
        inside = (values[unseen] >= found.training_low) & (values[unseen] <= found.training_high)
        covered.append(inside.mean())
    return float(np.mean(kendalls)), float(np.mean(covered))


def kept_results(
    path: Path | None, about: dict[str, Any], parser: argparse.ArgumentParser
) -> dict[str, dict[str, Any]]:
    """Return what an earlier run has kept in a file, by table and method; it must be about the same."""
    if path is None or not path.is_file():
        return {}
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if kept["about"] != about:
        parser.error(f"{path} holds results of {kept['about']}, not of {about}.")
    found: dict[str, dict[str, Any]] = kept["results"]
    return found


def keep_results(path: Path | None, about: dict[str, Any], results: dict[str, dict[str, Any]]) -> None:
    """Write results for a later run, where there is a file for them."""
    if path is not None:
        path.write_text(json.dumps({"about": about, "results": results}) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tables", default=",".join(TABLES))
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--evaluations", type=int, default=150)
    parser.add_argument("--rows", type=float)
    parser.add_argument("--macs-share", type=float)
    parser.add_argument("--minutes", type=float, help="No further seed begins after this time per table.")
    parser.add_argument("--predict", metavar="N[,N...]")
    parser.add_argument(
        "--without", metavar="G[,G...]", default="", help="Groups of inputs that are not read."
    )
    parser.add_argument("--json", type=Path, help="What it holds of other methods and tables is kept.")
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    methods = arguments.methods.split(",")
    limit = arguments.evaluations
    folder = tempfile.TemporaryDirectory()
    about = {"rows": arguments.rows, "macs_share": arguments.macs_share}
    results = kept_results(arguments.json, about, parser)
    tables = UNSEEN_TABLES if arguments.tables == "unseen" else filter(None, arguments.tables.split(","))
    for name in tables:
        task = Task.of(arguments.folder, name.strip(), arguments.macs_share)
        task.without = arguments.without.split(",")
        print(f"\n{name}: {len(task.values):,} networks", flush=True)
        if arguments.predict is not None:
            for trained in map(int, arguments.predict.split(",")):
                if 2 * trained > len(task.values):
                    continue
                kendall, covered = predictions(task, trained, arguments.seeds)
                print(f"{trained:10} learned from: Kendall {kendall:.3f}, in the interval {covered:.1%}")
            continue
        print(
            f"{'':10} {'best':>14} {'0.1 %':>14} {'1 %':>14}   regret after "
            + " ".join(f"{n:>7}" for n in REGRET_AT)
        )
        for method in methods:
            runs: list[list[float]] = []
            tasks: list[Task] = []
            start, cpu = time.monotonic(), time.process_time()
            for seed in range(arguments.seeds):
                seconds = arguments.minutes and arguments.minutes * 60 / len(methods)
                if runs and seconds and time.monotonic() - start > seconds:
                    break
                file = Path(folder.name) / f"{name}-{seed}.csv"
                tasks.append(task if arguments.rows is None else task.part(arguments.rows, seed, file))
                runs.append(list(tasks[-1].search(method, seed, limit).values()))
            found = summary(tasks, runs, limit)
            found["cpu_s_per_proposal"] = (time.process_time() - cpu) / max(1, sum(map(len, runs)))
            results.setdefault(name.strip(), {})[method] = found
            keep_results(arguments.json, about, results)
            print(
                f"{method:10} "
                + " ".join(f"{_shown(found['until'][share], limit):>14}" for share in SHARES)
                + "                "
                + " ".join(f"{found['regret'][n]:7.3f}" for n in REGRET_AT)
                + f"   {len(runs)} seeds, {found['cpu_s_per_proposal'] * 1e3:.0f} ms per proposal",
                flush=True,
            )
    if arguments.figure is not None:
        draw(results, arguments.figure)


def _shown(quartiles: Sequence[float], limit: int) -> str:
    low, median, high = (f"{q:.0f}" if q <= limit else f">{limit}" for q in quartiles)
    return f"{median} [{low}-{high}]"


if __name__ == "__main__":
    main()
