"""How many small trainings a machine does in an hour: processes side by side, threads, number formats, CUDA graphs.

    python benchmarks/trainings_per_hour.py                        # on the CPU
    python benchmarks/trainings_per_hour.py --device cuda:0        # on a GPU

Every way trains a network of `cifar-small` with the recipe `basic` in as many processes as it says; images count
from the moment at which all of them are in their loops, and evaluations count as time. Rounds go through all
ways in turn. On a machine that others use, images per CPU second are the figure to read: what is done with a
second of processor time. A training is 6 epochs of 8,000 images, as in the preset.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import queue
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

IMAGES, EPOCHS = 8000, 6
#: 10 convolutions; about as much as the preset `cifar-small` allows.
STRUCTURE = (
    "SuperConvK3BNRELU(3,16,1,1)SuperResK3K3(16,16,1,8,1)SuperResK3K3(16,40,2,16,1)SuperResK3K3(40,64,2,16,1)"
    "SuperResK3K3(64,64,2,16,1)SuperConvK1BNRELU(64,128,1,1)"
)
#: Steps before the count: kernels are chosen, memory is taken, graphs are captured in the first ones.
WARM_STEPS = {"cpu": 2, "cuda": 60}


@dataclass(frozen=True)
class Way:
    """A way of training: so many processes of so many threads, and what the recipe and the loop do differently."""

    name: str
    processes: int = 1
    threads: int = 1
    overrides: tuple[str, ...] = ()
    resident_data: bool = True


def cpu_ways() -> list[Way]:
    bf16 = ("precision.amp=bf16",)
    return [
        Way("1 x 1 thread"),
        Way("1 x 1 thread, contiguous", overrides=("precision.channels_last=false",)),
        Way("1 x 1 thread, bf16", overrides=bf16),
        Way("1 x 2 threads", threads=2),
        Way("2 x 1 thread", processes=2),
        Way("2 x 1 thread, bf16", processes=2, overrides=bf16),
    ]


def gpu_ways(most: int) -> list[Way]:
    graphs, bf16 = ("precision.compile=graphs",), ("precision.amp=bf16",)
    found = [
        Way("1 process, batches made on the CPU", resident_data=False),
        Way("1 process"),
        Way("1 process, graphs", overrides=graphs),
        Way("1 process, graphs, bf16", overrides=graphs + bf16),
    ]
    for count in (4, 8, 16):
        if count <= most:
            found.append(Way(f"{count} processes, graphs", count, overrides=graphs))
            found += [Way(f"{count} processes", count)] if count <= 8 else []
    return [
        *found,
        Way("1 process, torch.compile reduce-overhead", overrides=("precision.compile=reduce-overhead",)),
    ]


def train(way: Way, device: str, seconds: float, ready: Any, results: Any) -> None:
    """Train until the time is over; put (images, wall seconds, CPU seconds) into the queue."""
    import torch

    from zenopt.train.data import open_data
    from zenopt.train.distributed import World
    from zenopt.train.engine import fit
    from zenopt.train.networks import NetworkSource
    from zenopt.train.progress import Silent
    from zenopt.train.recipe import load_recipe

    torch.set_num_threads(way.threads)
    kind = torch.device(device).type
    recipe = load_recipe("basic", way.overrides, epochs=1000)
    source = NetworkSource.from_structure(STRUCTURE, 32)
    warm = WARM_STEPS[kind]

    class Stop(Exception):
        pass

    class Until(Silent):
        began = cpu = 0.0
        steps = first = 0

        def start(self, epoch: int, epochs: int, steps: int, step: int = 0) -> None:
            self.steps = (epoch - 1) * steps

        def step(self, step: int, loss: float, lr: float) -> None:
            done = self.steps + step
            if not self.began and done >= warm:
                ready.wait(timeout=240)
                self.began, self.cpu, self.first = time.perf_counter(), time.process_time(), done
            elif self.began and time.perf_counter() - self.began >= seconds:
                spent = time.perf_counter() - self.began, time.process_time() - self.cpu
                results.put(((done - self.first) * recipe.batch_size, *spent))
                raise Stop

    with tempfile.TemporaryDirectory() as folder:
        try:
            torch.manual_seed(0)
            fit(
                source.build(10), open_data(f"synthetic:{IMAGES}"), recipe, output=Path(folder) / "run",
                resolution=32, identity=source.facts(), world=World(0, 1, torch.device(device)), observer=Until(),
                resident_data=way.resident_data,
            )  # fmt: skip
        except Stop:
            pass


def measure(way: Way, device: str, seconds: float) -> dict[str, Any]:
    """Return what a way does: images per second of all its processes, and of a second of processor time."""
    context = multiprocessing.get_context("spawn")
    ready, results = context.Barrier(way.processes), context.Queue()
    processes = [
        context.Process(target=train, args=(way, device, seconds, ready, results), daemon=True)
        for _ in range(way.processes)
    ]
    for process in processes:
        process.start()
    found = []
    try:
        while len(found) < way.processes:
            try:
                found.append(results.get(timeout=1))
            except queue.Empty:
                if any(process.exitcode for process in processes):
                    return {**asdict(way), "error": "a process failed"}
    finally:
        for process in processes:
            process.join(timeout=10 if len(found) == way.processes else 0)
            if process.is_alive():
                process.kill()
    rate = sum(images / wall for images, wall, _ in found)
    return {
        **asdict(way),
        "images_per_second": rate,
        "images_per_cpu_second": sum(images for images, _, _ in found) / sum(cpu for _, _, cpu in found),
        "trainings_per_hour": 3600 * rate / (IMAGES * EPOCHS),
    }


def table(rows: list[dict[str, Any]], reference: str) -> str:
    """Return the medians over rounds as Markdown; ratios are to one way in the same round."""
    rounds: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if "error" not in row:
            rounds.setdefault(row["name"], []).append(row)
    lines = [
        "| way | images/s | trainings/h | times | images per CPU second | times |",
        "|---|---|---|---|---|---|",
    ]
    base = rounds.get(reference, [])
    for name, own in rounds.items():
        pairs = list(zip(own, base, strict=False))
        cells = [
            statistics.median(row[key] for row in own) for key in ("images_per_second", "trainings_per_hour")
        ]
        cpu = statistics.median(row["images_per_cpu_second"] for row in own)
        wall_ratio, cpu_ratio = (
            statistics.median(one[key] / two[key] for one, two in pairs) if pairs else float("nan")
            for key in ("images_per_second", "images_per_cpu_second")
        )
        lines.append(
            f"| {name} | {cells[0]:,.0f} | {cells[1]:,.1f} | {wall_ratio:.2f} | {cpu:,.0f} | {cpu_ratio:.2f} |"
        )
    lines += [f"| {row['name']} | {row['error']} | | | | |" for row in rows if "error" in row]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each way in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, help="write the numbers as JSON, after every way")
    args = parser.parse_args()
    ways = cpu_ways() if args.device == "cpu" else gpu_ways(os.cpu_count() or 1)
    reference = ways[0].name
    rows = []
    for _ in range(args.rounds):
        for way in ways:
            rows.append(measure(way, args.device, args.seconds))
            if args.output:
                args.output.write_text(
                    json.dumps({"device": args.device, "reference": reference, "rows": rows}, indent=1)
                )
    print(table(rows, reference))


if __name__ == "__main__":
    main()
