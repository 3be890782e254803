"""What the last trainings of a search are best spent on: finalists, or whatever tells most about which is best.

    python benchmarks/final_choice.py FOLDER [--tables T,...] [--noise S] [--trainings N,...] [--further N] [--seeds N]

Searches tables of FOLDER (as ``learned_search.py`` names them) where every look shows the table's value plus noise of
S points, as a short training does. After N looks at networks, ``--further`` looks at known ones are left:

    nothing     none; the best posterior mean wins
    finalists   the best by posterior mean, half as many as there are looks, twice each; the best mean wins
    gain        one after another, each at the network by which the winner's expected value grows most; best posterior
                mean wins (``training.again: gain``)

Printed is how many points the winner is, in the table, below the best network that was looked at: mean and its
standard error over seeds. Every seed searches another random 60 % of the rows.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from learned_search import Task

from zenopt.predictors.observations import Observations
from zenopt.predictors.surrogate import Surrogate

ROWS = 0.6
RULES = ("nothing", "finalists", "gain")


class Search:
    """A learned search of a table whose values are seen through noise."""

    def __init__(self, task: Task, noise: float, seed: int) -> None:
        self.candidates = task.gathered()
        self.true = np.array([task.values[text] for text in self.candidates.texts])
        self.noise = noise
        self.rng = np.random.default_rng(seed)
        self.surrogate = self._new()
        self.places: list[int] = []
        self.seen: list[float] = []

    def _new(self) -> Surrogate:
        return Surrogate(self.candidates.inputs, ranking=self.candidates.reader.ranking)

    def look(self, place: int) -> float:
        return float(self.true[place] + self.noise * self.rng.normal())

    def learned(self, places: Sequence[int], seen: Sequence[float], surrogate: Surrogate) -> Surrogate:
        index = np.array(places, dtype=np.intp)
        texts = [self.candidates.texts[place] for place in places]
        surrogate.learn(Observations.of(self.candidates.inputs.rows(index), texts, np.array(seen)))
        return surrogate

    def go_on(self, trainings: int, begin: int = 4) -> None:
        inputs, texts = self.candidates.inputs, self.candidates.texts
        while len(self.places) < trainings:
            if len(self.places) < begin:
                place = self.surrogate.begin(inputs, begin, self.rng, self.places)[0]
            else:
                place = self.learned(self.places, self.seen, self.surrogate).propose(inputs, texts)[0]
            self.places.append(place)
            self.seen.append(self.look(place))

    def below_best(self, rule: str, further: int) -> float:
        """Return how far the winner by a rule is from the best network that was looked at."""
        places, seen = list(self.places), list(self.seen)
        different = list(dict.fromkeys(places))

        def means() -> dict[int, float]:
            surrogate = self.learned(places, seen, self._new())
            inputs = self.candidates.inputs.rows(np.array(different, dtype=np.intp))
            found = surrogate.predict(inputs, [self.candidates.texts[place] for place in different])
            return dict(zip(different, found.mean.tolist(), strict=True))

        if rule == "finalists":
            expected = means()
            finalists = sorted(different, key=lambda place: -expected[place])[: max(1, further // 2)]
            for number in range(further):
                places.append(finalists[number % len(finalists)])
                seen.append(self.look(places[-1]))
            values = {own: [v for p, v in zip(places, seen, strict=True) if p == own] for own in finalists}
            winner = max(finalists, key=lambda own: float(np.mean(values[own])))
        else:
            for _ in range(further if rule == "gain" else 0):
                again = self.learned(places, seen, self._new()).repeats()[0]
                places.append(places[again])
                seen.append(self.look(places[-1]))
            expected = means()
            winner = max(different, key=lambda place: expected[place])
        return float(self.true[winner] - self.true[different].max())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tables", default="macro cifar10,nasbench201 cifar100,mnasnet imagenet")
    parser.add_argument("--noise", type=float, default=1.5, help="of one look, in points")
    parser.add_argument("--trainings", default="13,28")
    parser.add_argument("--further", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=20)
    arguments = parser.parse_args()
    trainings = [int(text) for text in arguments.trainings.split(",")]
    print(f"| table | trainings | {' | '.join(RULES)} |\n|---|---|{'---|' * len(RULES)}")
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.tables.split(","):
            task = Task.of(arguments.folder, name.strip(), None)
            found: dict[tuple[int, str], list[float]] = {}
            for seed in range(arguments.seeds):
                search = Search(task.part(ROWS, seed, Path(folder) / "part.csv"), arguments.noise, seed)
                for count in trainings:
                    search.go_on(count)
                    for rule in RULES:
                        found.setdefault((count, rule), []).append(search.below_best(rule, arguments.further))
            for count in trainings:
                cells = (
                    f"{-np.mean(own):.2f} ± {np.std(own) / np.sqrt(len(own)):.2f}"
                    for own in (found[count, rule] for rule in RULES)
                )
                print(f"| {name.strip()} | {count} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
