"""What a predictor gains by reading cells as graphs: paths, and two graph networks, on public tables.

    python benchmarks/graph_encodings.py FOLDER [--tables T,...] [--trained N,...] [--networks N,...] [--seeds N]

FOLDER is that of ``learned_search.py``. Of so many random networks of a table the predictor of the learned search
learns, without and with the paths through cells. Printed is Kendall's correlation with the values of other networks, in
brackets the difference to the predictor without paths on the same networks, with its 95 % interval over seeds.
After ``--networks`` trainings two graph networks learn, too: ``gcn``, graph convolutions along and against the edges,
and ``gates``, operations as gates on what flows (Ning et al., ECCV 2020), each trained with a hinge loss on pairs.
``mean`` with one is the mean of its ranks and twice those of the predictor with paths.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from learned_search import TABLES, Task
from numpy.typing import NDArray
from scipy.stats import kendalltau, rankdata
from torch import Tensor, nn

from zenopt.core.cells import Sketch, Step, sketches_of
from zenopt.predictors.observations import Observations
from zenopt.predictors.paths import PATHS
from zenopt.predictors.surrogate import Surrogate

#: Tables of networks of cells.
CELLS = ("nasbench201", "transnas-micro", "darts")
#: Networks that are judged.
UNSEEN = 1000
#: Training of a graph network: steps over all that is known, and what the hinge wants of a pair.
STEPS, RATE, DECAY, MARGIN = 200, 5e-3, 1e-3, 0.1
WIDTH, LAYERS = 64, 3


@dataclass
class Cells:
    """One cell of many networks, as tensors.

    Attributes:
        operations: ``networks x operations``, 0 where there is none.
        edges: ``networks x (operations + 1) x (inputs + operations)``: what leads to each operation and to the output.
        kinds: Number of operations there are, with none.
    """

    operations: Tensor
    edges: Tensor
    kinds: int

    def rows(self, index: NDArray[np.intp]) -> Cells:
        """Return the cell of some of the networks."""
        return Cells(self.operations[index], self.edges[index], self.kinds)

    @property
    def inputs(self) -> int:
        """Inputs of the cell."""
        return self.edges.shape[2] - self.operations.shape[1]


def cells_of(architectures: Sequence[Any]) -> list[Cells]:
    """Return the cells of networks, each kind of cell for all of them."""
    sketches = [[sketch for _, sketch in sketches_of(own)] for own in architectures]
    # Where normal and reduction cell are drawn alike, both are there nevertheless.
    most = max(map(len, sketches))
    return [_cells([own[min(kind, len(own) - 1)] for own in sketches]) for kind in range(most)]


def _cells(sketches: Sequence[Sketch]) -> Cells:
    """Return cells whose operations are on edges."""
    steps = [_live(own) for own in sketches]
    words = sorted({step.label for own in steps for step in own})
    inputs, size = sketches[0].inputs, max(map(len, steps))
    operations = np.zeros((len(steps), size), dtype=np.int64)
    edges = np.zeros((len(steps), size + 1, inputs + size), dtype=np.float32)
    for row, (sketch, own) in enumerate(zip(sketches, steps, strict=True)):
        last = len(sketch.places) - 1
        ends = sketch.steps[-1].sources if sketch.is_joined else (last,)
        for index, step in enumerate(own):
            operations[row, index] = 1 + words.index(step.label)
            (source,) = step.sources
            if source < inputs:
                edges[row, index, source] = 1.0
            edges[row, index, inputs:][[i for i, other in enumerate(own) if other.target == source]] = 1.0
            edges[row, size, inputs + index] = float(step.target in ends)
    return Cells(torch.from_numpy(operations), torch.from_numpy(edges), len(words) + 1)


def _live(sketch: Sketch) -> list[Step]:
    """Return the operations on paths from an input to the output."""
    last = len(sketch.places) - 1
    reached, needed = set(range(sketch.inputs)), {last}
    for step in sketch.steps:
        if reached & set(step.sources):
            reached.add(step.target)
    for step in reversed(sketch.steps):
        if step.target in needed:
            needed |= set(step.sources)
    return [
        step
        for step in sketch.steps
        if step.sources[0] in reached
        and step.target in needed
        and not (sketch.is_joined and step.target == last)
    ]


class Gates(nn.Module):
    """What flows through a cell, gated by each operation."""

    def __init__(self, cells: Cells) -> None:
        super().__init__()
        self.inputs = nn.Parameter(0.5 * torch.randn(cells.inputs, WIDTH // 2))
        self.gate = nn.Embedding(cells.kinds, WIDTH // 2)
        self.flow = nn.Linear(WIDTH // 2, WIDTH // 2, bias=False)

    def forward(self, cells: Cells) -> Tensor:
        count, size = cells.operations.shape
        gates = torch.sigmoid(self.gate(cells.operations))
        states = [own.expand(count, -1) for own in self.inputs]
        for index in range(size):
            # Steps are sorted by their targets: all that leads to one comes before it.
            entering = cells.edges[:, index, : len(states)]
            found = torch.einsum("bj,bjd->bd", entering, torch.stack(states, 1))
            states.append(gates[:, index] * self.flow(found))
        return torch.einsum("bj,bjd->bd", cells.edges[:, size], torch.stack(states, 1))


class Convolutions(nn.Module):
    """Means over neighbours, along the edges and against them."""

    def __init__(self, cells: Cells) -> None:
        super().__init__()
        self.embedding = nn.Embedding(cells.kinds + cells.inputs + 1, WIDTH)
        self.along = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS))
        self.against = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS))

    def forward(self, cells: Cells) -> Tensor:
        count, size = cells.operations.shape
        ends = torch.arange(cells.kinds, cells.kinds + cells.inputs + 1).expand(count, -1)
        labels = torch.cat([ends[:, :-1], cells.operations, ends[:, -1:]], 1)
        there = torch.ones(count, labels.shape[1], 1)
        there[:, cells.inputs : cells.inputs + size, 0] = (cells.operations > 0).float()
        links = torch.eye(labels.shape[1]).repeat(count, 1, 1)
        links[:, cells.inputs :, : cells.inputs + size] += cells.edges
        back = links.transpose(1, 2)
        links, back = (own / own.sum(-1, keepdim=True) for own in (links, back))
        states = self.embedding(labels) * there
        for along, against in zip(self.along, self.against, strict=True):
            states = 0.5 * there * (torch.relu(along(links @ states)) + torch.relu(against(back @ states)))
        return states.sum(1) / there.sum(1)


class Ranker(nn.Module):
    """A network for each cell, and a score of what they say together."""

    def __init__(self, make: Callable[[Cells], nn.Module], cells: Sequence[Cells]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(make(own) for own in cells)
        self.head = nn.Sequential(nn.LazyLinear(WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1))

    def forward(self, cells: Sequence[Cells]) -> Tensor:
        found = [network(own) for network, own in zip(self.networks, cells, strict=True)]
        scores: Tensor = self.head(torch.cat(found, 1))[:, 0]
        return scores


def ranked(
    make: Callable[[Cells], nn.Module],
    cells: Sequence[Cells],
    known: NDArray[np.intp],
    values: NDArray[np.float64],
    unseen: NDArray[np.intp],
    seed: int,
) -> NDArray[np.float64]:
    """Return the scores of unseen networks after training on the known ones."""
    torch.manual_seed(seed)
    seen = [own.rows(known) for own in cells]
    model = Ranker(make, seen)
    model(seen)
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    is_better = torch.from_numpy(values[:, None] > values).float()
    for _ in range(STEPS):
        scores = model(seen)
        loss = (torch.relu(MARGIN - scores[:, None] + scores) * is_better).sum() / is_better.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return np.asarray(model([own.rows(unseen) for own in cells]), dtype=np.float64)


def judged(
    task: Task, cells: Sequence[Cells] | None, trained: int, seeds: int
) -> tuple[dict[str, list[float]], float]:
    """Return Kendall's correlations by predictor and seed, and the share of seeds in which paths were read."""
    candidates = task.gathered()
    values = np.array([task.values[text] for text in candidates.texts])
    found: dict[str, list[float]] = {}
    read = []
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(values))
        known, unseen = order[:trained], order[trained : trained + UNSEEN]
        texts = [candidates.texts[index] for index in known]
        said: dict[str, NDArray[np.float64]] = {}
        for name, without in (("without paths", (PATHS,)), ("with paths", ())):
            groups = [own for own in candidates.inputs.group_names if own not in without]
            surrogate = Surrogate(candidates.inputs, groups=groups)
            surrogate.learn(Observations.of(candidates.inputs.rows(known), texts, values[known]))
            said[name] = surrogate.predict(candidates.inputs.rows(unseen)).mean
        read.append(PATHS in surrogate.reads)
        if cells is not None:
            for name, make in (("gates", Gates), ("gcn", Convolutions)):
                said[name] = ranked(make, cells, known, values[known], unseen, seed)
                said[f"mean with {name}"] = rankdata(said[name]) + 2 * rankdata(said["with paths"])
        for name, scores in said.items():
            found.setdefault(name, []).append(float(kendalltau(scores, values[unseen]).statistic))
    return found, float(np.mean(read))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tables", default=",".join(name for name in TABLES if name.startswith(CELLS)))
    parser.add_argument("--trained", default="24,50,100,150")
    parser.add_argument("--networks", default="24,100")
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with_networks = set(filter(None, arguments.networks.split(",")))
    for name in arguments.tables.split(","):
        task = Task.of(arguments.folder, name.strip(), None)
        cells = cells_of([task.space.parse(text) for text in task.gathered().texts])
        print(f"\n{name.strip()}: {len(task.values):,} networks", flush=True)
        for trained in arguments.trained.split(","):
            own = cells if trained in with_networks else None
            found, read = judged(task, own, int(trained), arguments.seeds)
            base = np.array(found["without paths"])
            words = []
            for kind, kendalls in found.items():
                gain = np.array(kendalls) - base
                spread = 1.96 * gain.std(ddof=1) / len(gain) ** 0.5
                difference = "" if kind == "without paths" else f" ({gain.mean():+.3f} ± {spread:.3f})"
                words.append(f"{kind} {np.mean(kendalls):.3f}{difference}")
            print(f"{trained:>5} learned from: {', '.join(words)}; paths read in {read:.0%}", flush=True)


if __name__ == "__main__":
    main()
