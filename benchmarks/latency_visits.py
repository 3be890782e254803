"""How many visits a block table needs: held-out errors by visits per network and block, on this machine.

Visits networks of a study and all their blocks in turn, writes every visit to a file, then plays calibration again and
again: half of the networks are fitted with a few visits drawn at random, the others (their blocks with as many visits)
are predicted and compared with what all their visits agree on.

    python benchmarks/latency_visits.py --output visits.jsonl [--networks 44] [--passes 16] [--clock cpu]
    python benchmarks/latency_visits.py --read visits.jsonl
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from itertools import islice
from pathlib import Path

from zenopt.latency.fit import errors_of
from zenopt.latency.models import AdditiveModel
from zenopt.latency.options import MeasureOptions
from zenopt.latency.parts import Network, Part
from zenopt.latency.stream import network_stream
from zenopt.latency.table import TableModel
from zenopt.latency.tablefit import Samples, fit_table
from zenopt.latency.visits import Bench, combined_ms, scatter_of, standard_error_of
from zenopt.study.spec import StudySpec

DRAWS = 20
FITTED = 22


def draw_networks(study: str, count: int, classes: int) -> list[Network]:
    """Return the networks that are visited."""
    spec = StudySpec.load(study)
    stream = network_stream(spec.build_space(), spec.resolution, classes, spec.use_se, 0)
    return [Network(network, spec.resolution, classes, spec.use_se) for network in islice(stream, count)]


def collect(networks: list[Network], options: MeasureOptions, passes: int, output: Path) -> None:
    """Visits networks and blocks in turn; a line of JSON per pass: milliseconds per image by name."""
    bench = Bench(options)
    subjects = {str(network.architecture): network for network in networks}
    subjects |= {part.name: part for network in networks for part in network.parts()}  # type: ignore[misc]
    with output.open("w", encoding="utf-8") as file:
        for number in range(passes):
            times = {name: float(f"{bench.visit(subject):.5g}") for name, subject in subjects.items()}
            file.write(json.dumps(times) + "\n")
            file.flush()
            print(f"pass {number + 1} of {passes} over {len(subjects)}", flush=True)


def play(
    networks: list[Network], visits: dict[str, list[float]], count: int, batch: int, rng: random.Random
) -> tuple[list[float], list[float], list[float]]:
    """Fit some networks with ``count`` visits of everything; return table, additive and true times of the others."""
    drawn = {name: rng.sample(times, count) for name, times in visits.items()}
    order = rng.sample(networks, len(networks))
    fitted, tested = order[:FITTED], order[FITTED:]
    parts: dict[Part, list[float]] = {
        part: drawn[part.name] for network in fitted for part in network.parts()
    }
    fit = fit_table(Samples({n: drawn[str(n.architecture)] for n in fitted}, parts), batch, 4.0)
    additive = AdditiveModel(fit.coefficients, batch, 4.0)
    model = TableModel(fit.blocks, fit.scale, additive, fit.visit_scatter, fit.additive_scatter)
    for part in {part for network in tested for part in network.parts()} - set(parts):
        model.blocks[part.name] = model.believed_ms(part, combined_ms(drawn[part.name]), count)
    return (
        [sum(model.part_ms(part) for part in network.parts()) for network in tested],
        [additive.constant_ms + sum(additive.operation_times(network.operations())) for network in tested],
        [combined_ms(visits[str(network.architecture)]) for network in tested],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", default="cifar-params1m")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--networks", type=int, default=44)
    parser.add_argument("--passes", type=int, default=16)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--read", type=Path)
    options = parser.parse_args()
    networks = draw_networks(options.study, options.networks, options.classes)
    if options.read is None:
        if options.output is None:
            parser.error("give --output or --read")
        run = MeasureOptions(
            batch=options.batch, resolution=networks[0].resolution, threads=1, clock=options.clock
        )
        collect(networks, run, options.passes, options.output)
    path = options.read or options.output
    passes = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    visits = {name: [times[name] for times in passes] for name in passes[0]}
    whole = {str(network.architecture) for network in networks}
    scatter = scatter_of([visits[name] for name in whole])
    blocks = scatter_of([times for name, times in visits.items() if name not in whole])
    print(
        f"{len(passes)} visits; they scatter by {scatter:.1%} (networks) and {blocks:.1%} (blocks); "
        f"standard error of a network's truth {standard_error_of(scatter, len(passes)):.1%}"
    )
    for count in (1, 2, 3, 5, 8, len(passes)):
        if count > len(passes):
            continue
        rng = random.Random(0)
        draws = [play(networks, visits, count, options.batch, rng) for _ in range(DRAWS)]
        for name, index in (("table", 0), ("additive", 1)):
            errors = [errors_of(draw[index], draw[2]) for draw in draws]
            mean = {
                key: statistics.fmean(getattr(e, key) for e in errors)
                for key in ("mape", "within_10", "spearman")
            }
            print(
                f"{count:3} visits, {name:8}: mean error {mean['mape']:.1%}, within 10 % {mean['within_10']:.0%}, "
                f"Spearman {mean['spearman']:.3f}"
            )


if __name__ == "__main__":
    main()
