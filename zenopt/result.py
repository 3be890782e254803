"""What a study has found: candidates, figures, reports, trainings and bundles, from one object."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import optuna
from optuna.trial import TrialState

from zenopt.core.costs import COST_KINDS
from zenopt.core.errors import StudyError, ZenoptError
from zenopt.core.words import plural
from zenopt.core.yamlfile import Overrides
from zenopt.report.analysis import pareto_front, survivors
from zenopt.report.figure import Figure
from zenopt.report.figures import against_costs, closed_form, costs_of, progress
from zenopt.report.objective_figures import front_figures, hypervolume_figures
from zenopt.report.reading import NUMBERS, StudyData, read_study
from zenopt.study.search import SearchResult, settings_kept
from zenopt.study.spec import StudySpec
from zenopt.study.study import read_spec

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from zenopt.verify.derive import Derived
    from zenopt.verify.final import Winner
    from zenopt.verify.linked import Training

#: Costs of a candidate, of the attributes a trial has.
_COSTS = (*COST_KINDS, "latency_ms", "zennas_params", "zennas_flops")


@dataclass(frozen=True)
class Candidate:
    """A scored architecture within the budget.

    Attributes:
        trial: Number of its trial.
        score: Its objective value, one draw of the search.
        structure: Canonical text of the architecture.
        costs: ``params``, ``macs``, ``layers`` and, where known, ``latency_ms`` (predicted) and others.
        architecture: The architecture itself, to count, build or score.
        spec: The spec of the study it came from, which says at what resolution it is built.
    """

    trial: int
    score: float
    structure: str
    costs: dict[str, float]
    architecture: Any = field(repr=False)
    spec: StudySpec | None = field(default=None, repr=False, compare=False)

    def _repr_html_(self) -> str:
        """Return the candidate as a card with its picture, as notebooks show it."""
        from zenopt.report.anatomy import dissect
        from zenopt.report.card import card

        facts = [("score", f"{self.score:.4f}")]
        facts += [
            (key.replace("_", " "), f"{value:,.5g}" if isinstance(value, float) else f"{value:,}")
            for key, value in self.costs.items()
        ]
        spec, anatomy, lines = self.spec, None, []
        if spec is not None:
            anatomy = dissect(
                self.architecture,
                spec.resolution,
                spec.num_classes,
                use_se=spec.use_se,
                device=spec.limits().device,
            )
            gates = ", use_se=True" if spec.use_se else ""
            lines.append(
                f"zenopt.nn.build_network(candidate.architecture, num_classes={spec.num_classes}{gates})"
            )
        return card(f"Trial {self.trial}", facts, anatomy=anatomy, structure=self.structure, following=lines)


class Result:
    """What a study has found so far.

    The study is read once, when something is first asked of it, with queries that leave out what nobody shows;
    :meth:`refresh` reads it again.

    Args:
        study:
            A study made by zenopt.
        run:
            What the run that made this result did; ``None`` where a stored study was loaded.
    """

    def __init__(self, study: optuna.Study, run: SearchResult | None = None) -> None:
        self.study = study
        self.run = run
        self._data: StudyData | None = None

    def __repr__(self) -> str:
        data = self.data
        if data.is_multi:
            names = ", ".join(data.spec.objectives)
            front = f"{plural(len(data.front), 'network')} on the front of {names}"
            return f"<Result of {self.name!r}: {plural(data.size, 'trial')}, {front}>"
        ranked = data.ranked()
        best = f"best {data.values[ranked[0]]:.4g}" if len(ranked) else "nothing within the budget yet"
        return f"<Result of {self.name!r}: {plural(data.size, 'trial')}, {best}>"

    def _repr_html_(self) -> str:
        """Return the study as a card with its best network, as notebooks show it."""
        from zenopt.report.card import card, tile_facts
        from zenopt.report.choices import chosen_networks
        from zenopt.report.networks import best_networks
        from zenopt.report.trainings import read_trainings
        from zenopt.report.words import search_tiles

        trainings = read_trainings(self.study)
        chosen = chosen_networks(self.study, self.data, trainings)
        networks = [item.network for item in chosen] or list(best_networks(self.data, 1))
        what = chosen[0].title if chosen else "Best score of the front"
        lines = [
            "result.best",
            'result.plot_pareto("macs")',
            'result.report("report.html")',
            'result.export("bundle")',
        ]
        return card(
            f"Study {self.name}",
            tile_facts(search_tiles(self.data, trainings)),
            anatomy=networks[0].anatomy if networks else None,
            structure=networks[0].structure if networks else "",
            following=lines if networks else ["result.refresh()"],
            note=f"{what}: {networks[0].title}." if networks else "",
        )

    @property
    def name(self) -> str:
        """Name of the study."""
        return self.study.study_name

    @property
    def data(self) -> StudyData:
        """The study as columns, as reports read it."""
        if self._data is None:
            self._data = read_study(self.study, time.time())
        return self._data

    @property
    def spec(self) -> StudySpec:
        """The spec stored with the study."""
        spec = read_spec(self.study)
        assert spec is not None
        return spec

    def refresh(self) -> Result:
        """Forget what was read, so that trials added since are seen; return itself."""
        self._data = None
        return self

    @property
    def best(self) -> Candidate:
        """The best candidate by the search's own scores; :meth:`export` scores the best few again.

        Of several objectives, the one of the front with the best score.

        Raises:
            StudyError: If nothing in the study is within the budget.
        """
        return self.top(1)[0]

    def top(self, count: int) -> list[Candidate]:
        """Return the best candidates of distinct structure, best first; of several objectives, those of the front.

        Raises:
            StudyError: If nothing in the study is within the budget.
        """
        positions = self.data.top(count)
        if not positions:
            raise StudyError(
                f"Study {self.name!r} has no candidate within the budget ({self.data.size} trials)."
            )
        return self._candidates(positions)

    @property
    def pareto(self) -> list[Candidate]:
        """The front of score against params, by ascending params; :meth:`front` takes other costs.

        Of a study with several objectives, the front of all of them, best score first.
        """
        if self.data.is_multi:
            return self._candidates([int(position) for position in self.data.front])
        return self.front("params")

    def front(self, cost: str) -> list[Candidate]:
        """Return the candidates that nothing beats in both score and a cost, by ascending cost.

        Args:
            cost:
                ``"params"``, ``"macs"``, ``"layers"``, ``"latency_ms"``, ... in true counts, whatever the budget uses.

        Raises:
            StudyError: If the study does not know this cost.
        """
        data = self.data
        if cost not in _COSTS or not np.isfinite(data.columns[cost]).any():
            known = [name for name in _COSTS if np.isfinite(data.columns[name]).any()]
            raise StudyError(
                f"Study {self.name!r} has no cost {cost!r}; it has {', '.join(known) or 'none yet'}."
            )
        values = data.columns[cost]
        positions = np.flatnonzero(data.scored & np.isfinite(values))
        found = positions[pareto_front(values[positions], data.values[positions], data.maximize)]
        return self._candidates(
            [int(position) for position in found if data.structures[position] is not None]
        )

    def frame(self) -> pd.DataFrame:
        """Return one row per trial: number, state, value, feasible, costs, score, seconds, structure.

        ``value`` is the score; further objectives are among the costs, and ``front`` says what no other candidate
        beats in all of them. Parameters are left out; the structure says the same in one column.

        Raises:
            ZenoptError: If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise ZenoptError(
                "Result.frame() needs the package pandas (pip install zenopt[frame])."
            ) from None
        data = self.data
        states = {state.value: state.name for state in TrialState}
        columns = {key: data.columns[key] for key in NUMBERS if np.isfinite(data.columns[key]).any()}
        if data.is_multi:
            columns["front"] = np.isin(np.arange(data.size), data.front)
        return pd.DataFrame(
            {
                "number": data.numbers,
                "state": [states[int(value)] for value in data.states],
                "value": data.values,
                "feasible": data.feasible,
                **columns,
                "seconds": data.ended - data.started,
                "structure": data.structures,
            }
        )

    def plot_history(self, over: str = "trials") -> go.Figure:
        """Return the scores and the best so far over ``"trials"``, or the best over ``"time"``."""
        return self._figure(progress(self.data), f"best-{over}")

    def plot_hypervolume(self, over: str = "trials") -> go.Figure:
        """Return the share of the objectives' box that the front dominates, over ``"trials"`` or ``"time"``.

        Raises:
            StudyError: If the study has a single objective.
        """
        if not self.data.is_multi:
            raise StudyError(f"Study {self.name!r} has a single objective; plot_history() shows its best.")
        return self._figure(hypervolume_figures(self.data), f"hypervolume-{over}")

    def plot_feasible(self) -> go.Figure:
        """Return the share of trials within the budget over the search."""
        return self._figure(progress(self.data), "feasible")

    def plot_pareto(self, cost: str = "params") -> go.Figure:
        """Return all candidates in score against a cost, with budget and front.

        Params and MACs are the counts that the budget is written in. Where the cost is an objective, the front is that
        of all objectives.

        Raises:
            StudyError: If the study does not know this cost; the message lists those it knows.
        """
        key = cost.replace("_", "-")
        if cost in self.spec.objectives[1:]:
            return self._figure(front_figures(self.data), f"front-score-{key}")
        known = costs_of(self.data)
        if cost not in known:
            have = ", ".join(known) or "none yet"
            raise StudyError(f"Study {self.name!r} has no figure of the cost {cost!r}; it has {have}.")
        return self._figure(against_costs(self.data), f"score-{key}")

    def plot_closed_form(self) -> go.Figure:
        """Return closed-form against measured scores.

        Raises:
            StudyError: If fewer than three candidates have both.
        """
        return self._figure(closed_form(self.data), "closed-form")

    def plot_stages(self, what: str = "width") -> go.Figure:
        """Return what survives per stage over the search.

        Args:
            what:
                ``"width"``, ``"bottleneck"``, ``"depth"``, ``"kernel"`` or ``"type"``.

        Raises:
            StudyError: If the study has too few candidates (20) or its space no stages.
        """
        from zenopt.report.stage_figures import stage_figures

        history = survivors(self.data)
        return self._figure([] if history is None else stage_figures(history), f"stage-{what}")

    def plot_importances(self) -> go.Figure:
        """Return the parameters that move the score most.

        Raises:
            StudyError: If the study has too few candidates to say.
        """
        from zenopt.report.importances import importances, read_parameters
        from zenopt.report.stage_figures import importance_figure

        sample = read_parameters(self.study, self.data)
        weights = importances(self.data, sample)
        return self._figure(
            [importance_figure(weights, len(sample.trials))] if weights else [], "importances"
        )

    def plot_parallel(self) -> go.Figure:
        """Return the candidates over score, costs and the most important parameters, one line a candidate.

        Raises:
            StudyError: If the study has too few candidates to say which parameters are important.
        """
        from zenopt.report.importances import importances, read_parameters
        from zenopt.report.parallel import parallel_figure

        sample = read_parameters(self.study, self.data)
        return self._figure(parallel_figure(self.data, sample, importances(self.data, sample)), "parallel")

    def plot_timeline(self) -> go.Figure:
        """Return the trials by worker over time.

        Raises:
            StudyError: If no trial has started.
        """
        from zenopt.report.timeline import timeline

        return self._figure(timeline(self.data), "timeline")

    def report(self, path: str | Path, compare: Sequence[Result] = ()) -> Path:
        """Write the study as one HTML file, as ``zenopt report`` does, and return its path.

        Args:
            path:
                The file; an older one is replaced.
            compare:
                More studies, of any storage, to put beside this one.
        """
        from zenopt.report.build import write_report

        write_report([self.study, *(other.study for other in compare)], path)
        return Path(path)

    def train(
        self,
        data: str,
        *,
        runs: str | Path = "runs",
        devices: Sequence[str] = ("cpu",),
        overrides: Overrides = (),
        on_result: Callable[[Training], None] = lambda row: None,
    ) -> Winner:
        """Train the best of every class briefly, as the second stage of a study does.

        What was trained before is read, not trained again; :meth:`export` then writes the winner with its weights.

        Args:
            data:
                As ``zenopt train --data`` takes it, e.g. ``"imagefolder:PATH"``.
            runs:
                Folder of the trainings.
            devices:
                Torch devices, which take turns.
            overrides:
                Assignments such as ``"training.epochs=12"``, or a mapping such as ``{"training.epochs": 12}``.
            on_result:
                Told of every training.

        Returns:
            All networks with their accuracies on held-back images, best first, and where the winner's weights are.

        Raises:
            ZenoptError: If there is no feasible trial, the data cannot be read, or training fails.
        """
        from zenopt.verify.final import finish, run_second_stage
        from zenopt.verify.linked import Place

        spec = self.spec.overridden(overrides).overridden({"training.data": data})
        place = Place(self.study._storage, None, Path(runs), devices, 1, on_result=on_result)
        run = finish if spec.objective.kind == "train" else run_second_stage
        with settings_kept():
            optuna.logging.set_verbosity(optuna.logging.WARNING)
            return run(self.name, spec, place)

    @property
    def winner(self) -> Winner | None:
        """What short trainings chose, or ``None`` where there were none."""
        from zenopt.verify.final import read_winner

        return read_winner(self.study._storage, self.name)

    def derive(
        self,
        count: int = 1,
        *,
        by: Literal["auto", "score", "training"] = "auto",
        candidates: int = 5,
        repeats: int = 8,
        device: str = "cpu",
    ) -> list[Derived]:
        """Return the best architectures, chosen as :meth:`export` chooses; :meth:`top` takes the search's own values.

        Args:
            count:
                How many; fewer are returned where there are no more.
            by:
                What decides, as in :meth:`export`.
            candidates:
                How many of the best are scored again, at least ``count``.
            repeats:
                Fresh draws of each.
            device:
                Torch device.

        Raises:
            ZenoptError: If nothing is within the budget, or trainings are to decide and there were none.
        """
        from zenopt.verify.derive import derive_best

        found = derive_best(self.study, count, by=by, candidates=candidates, repeats=repeats, device=device)
        return list(found.best)

    def export(
        self,
        folder: str | Path,
        *,
        by: Literal["auto", "score", "training"] = "auto",
        top: int = 5,
        repeats: int = 8,
        device: str = "cpu",
        overwrite: bool = False,
    ) -> Path:
        """Write the best network as a bundle.

        By score the best candidates are scored again, and the best fresh mean wins.

        Args:
            folder:
                Where; made if missing.
            by:
                What decides: the ``"score"``, the ``"training"`` of a second stage, or ``"auto"``: training where there
                was any.
            top:
                How many of the best to score again.
            repeats:
                Fresh draws of each.
            device:
                Torch device.
            overwrite:
                Replace a bundle that is there.

        Returns:
            The folder.

        Raises:
            ZenoptError: If nothing is within the budget, or the folder cannot be written.
        """
        from zenopt.export.bundle import read_bundle, write_bundle
        from zenopt.study.best import make_bundle, rescore_top
        from zenopt.study.exported import record_export
        from zenopt.verify.final import decide, export_winner

        winner = decide(self.study, by)
        if winner is not None:
            written = export_winner(self.study, winner, folder, overwrite=overwrite)
        else:
            spec, candidates = rescore_top(self.study, count=top, repeats=repeats, device=device)
            written = write_bundle(make_bundle(self.study, spec, candidates), folder, overwrite=overwrite)
        record_export(self.study, read_bundle(written))
        return written

    def _candidates(self, positions: Sequence[int]) -> list[Candidate]:
        data = self.data
        space = data.spec.build_space()
        found = []
        for position in positions:
            values = {key: float(data.columns[key][position]) for key in _COSTS}
            costs = {
                key: value if key in ("latency_ms", "depth_to_width") else int(value)
                for key, value in values.items()
                if np.isfinite(value)
            }
            structure = str(data.structures[position])
            score = float(data.values[position])
            found.append(
                Candidate(
                    int(data.numbers[position]), score, structure, costs, space.parse(structure), data.spec
                )
            )
        return found

    def _figure(self, figures: Sequence[Figure], key: str) -> go.Figure:
        for figure in figures:
            if figure.key == key:
                return figure.titled()
        has = (
            f"it has {', '.join(figure.key for figure in figures)}"
            if figures
            else "too few candidates for it"
        )
        raise StudyError(f"Study {self.name!r} has no figure {key!r}: {has}.")
