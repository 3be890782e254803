"""What a GPU does, in under nine minutes: tests, scores, trainings, latency; `docs/gpu.md` is written from it.

    make gpu                                   # or: python benchmarks/gpu.py --output gpu-results

Every section is a process of its own with a limit on its time. What it has measured so far lies in
OUTPUT/SECTION.json, and the page is written anew after every section: a run that is cut off leaves what it has.
Without a CUDA device it says so and does nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import multiprocessing
import os
import queue
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(Path(__file__).resolve().parent))

import trainings_per_hour  # noqa: E402
from parts import environment, write_json  # noqa: E402

#: The published CIFAR network of 1M parameters.
STRUCTURE = (
    "SuperConvK3BNRELU(3,88,1,1)SuperResK1K7K1(88,120,1,16,1)SuperResK1K7K1(120,192,2,16,3)"
    "SuperResK1K5K1(192,224,1,24,4)SuperResK1K5K1(224,96,2,24,2)SuperResK1K3K1(96,168,2,40,3)"
    "SuperResK1K3K1(168,112,1,48,3)SuperConvK1BNRELU(112,512,1,1)"
)
GPU = "cuda:0"
CALIBRATION_S = 25
Save = Callable[[dict[str, Any]], None]


# -- tests ----------------------------------------------------------------------------------------------------------


def run_tests(save: Save) -> None:
    """Run the quick tests marked `gpu`."""
    files = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*_gpu.py"))
    command = [sys.executable, "-m", "pytest", "-m", "gpu and not slow", "-q", "-rfE", "--tb=line", *files]
    lines: list[str] = []
    with subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line.rstrip())
            if line.startswith(("FAILED", "ERROR")) or re.search(r"\d+ (passed|failed|error)", line):
                failed = [own for own in lines if own.startswith(("FAILED", "ERROR"))]
                save({"last_line": line.strip(" =\n"), "failed": failed})


# -- scores ---------------------------------------------------------------------------------------------------------


def score_until(device: str, seconds: float, ready: Any, results: Any) -> None:
    """Score the published network at batch 64 with fresh seeds; put (scores, seconds) into the queue."""
    import torch

    from zenopt.proxies import score_architecture
    from zenopt.spaces.chain.architecture import Architecture

    torch.set_num_threads(1)
    architecture = Architecture.parse(STRUCTURE)

    def score(seed: int) -> None:
        score_architecture(
            architecture, "zen", resolution=32, num_classes=100, batch_size=64, seed=seed, device=device
        )

    for seed in range(3):
        score(seed)
    ready.wait(timeout=60)
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        score(os.getpid() + done)
        done += 1
    results.put((done, time.perf_counter() - began))


def scores_per_second(device: str, workers: int, seconds: float) -> float:
    context = multiprocessing.get_context("spawn")
    ready, results = context.Barrier(workers), context.Queue()
    processes = [
        context.Process(target=score_until, args=(device, seconds, ready, results), daemon=True)
        for _ in range(workers)
    ]
    for process in processes:
        process.start()
    found = []
    while len(found) < workers:
        try:
            found.append(results.get(timeout=1))
        except queue.Empty:
            if any(process.exitcode for process in processes):
                raise RuntimeError(f"a worker of {workers} on {device} failed") from None
    for process in processes:
        process.join()
    return sum(done / wall for done, wall in found)


def measure_scores(save: Save) -> None:
    """Zen-scores per second of 1, 2, 4, 8 workers on one GPU, and of one and of all cores."""
    rates: dict[str, float] = {}
    cores = os.cpu_count() or 1
    for device, workers in [(GPU, 1), ("cpu", 1), (GPU, 2), (GPU, 4), (GPU, 8), ("cpu", cores)]:
        rates[f"{device} x {workers}"] = scores_per_second(device, workers, 4)
        save({"batch": 64, "scores_per_second": rates})


def compare_distributions(save: Save) -> None:
    """Do scores of the GPU and of the CPU have one distribution? Kolmogorov and Smirnov's test of two samples."""
    import torch
    from scipy.stats import ks_2samp

    from zenopt.proxies import score_architecture
    from zenopt.spaces.chain.architecture import Architecture
    from zenopt.study.spec import StudySpec

    torch.set_num_threads(os.cpu_count() or 1)
    space = StudySpec.load("cifar-small").build_space()
    networks = {
        "cifar-small, initial": (space.parse(space.initial), 400),
        "1M": (Architecture.parse(STRUCTURE), 60),
    }
    settings: dict[str, Any] = {"resolution": 32, "num_classes": 10, "batch_size": 16}
    rows = []
    for name, (architecture, repeats) in networks.items():
        cpu, gpu = (
            score_architecture(architecture, "zen", repeats=repeats, seed=seed, device=device, **settings)
            for seed, device in ((1, "cpu"), (2, GPU))
        )
        found = ks_2samp(cpu.values, gpu.values)
        rows.append(
            {
                "network": name,
                "repeats": repeats,
                "cpu": [cpu.mean, cpu.std],
                "gpu": [gpu.mean, gpu.std],
                "distance": float(found.statistic),
                "p": float(found.pvalue),
            }
        )
        save({"rows": rows})


# -- trainings ------------------------------------------------------------------------------------------------------

TRAINING_WAYS: list[tuple[str, list[str]]] = [
    ("fp32", ["precision.channels_last=false"]),
    ("fp32, channels-last", []),
    ("fp16, channels-last", ["precision.amp=fp16"]),
    ("bf16", ["precision.amp=bf16", "precision.channels_last=false"]),
    ("bf16, channels-last", ["precision.amp=bf16"]),
    ("bf16, channels-last, graphs", ["precision.amp=bf16", "precision.compile=graphs"]),
    ("bf16, channels-last, compiled", ["precision.amp=bf16", "precision.compile=true"]),
    ("bf16, channels-last, reduce-overhead", ["precision.amp=bf16", "precision.compile=reduce-overhead"]),
]
BATCH, IMAGES = 256, 25_600


def plain_loop(amp: bool) -> float:
    """Return images per second of a loop written for the purpose: images and labels on the GPU, no augmentation."""
    import torch

    from zenopt.nn import build_network
    from zenopt.spaces.chain.architecture import Architecture

    torch.manual_seed(0)
    network = build_network(Architecture.parse(STRUCTURE), num_classes=10).to(GPU).train()
    network = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    images = torch.randn(BATCH, 3, 32, 32, device=GPU).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (BATCH,), device=GPU)

    def steps(count: int) -> float:
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(count):
            with torch.autocast("cuda", dtype=torch.bfloat16, enabled=amp):
                loss = torch.nn.functional.cross_entropy(network(images), labels, label_smoothing=0.1)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        return count * BATCH / (time.perf_counter() - began)

    steps(20)
    return statistics.median(steps(50) for _ in range(3))


def measure_training(save: Save) -> None:
    """Images per second of the trainer, whole epochs of steps, beside a plain loop."""
    import tempfile

    import torch

    from zenopt.core.errors import ZenoptError
    from zenopt.train.data import open_data
    from zenopt.train.distributed import World
    from zenopt.train.engine import fit
    from zenopt.train.networks import NetworkSource
    from zenopt.train.recipe import load_recipe

    source = NetworkSource.from_structure(STRUCTURE, 32)
    data = open_data(f"synthetic:{IMAGES}")
    rows: dict[str, Any] = {}

    def keep(name: str, rate: float, **more: Any) -> None:
        rows[name] = {"images_per_second": rate, **more}
        save({"batch": BATCH, "images": IMAGES, "rows": rows})

    keep("plain loop, fp32, channels-last", plain_loop(False))
    keep("plain loop, bf16, channels-last", plain_loop(True))
    for name, overrides in TRAINING_WAYS:
        recipe = load_recipe(
            "basic", [f"batch_size={BATCH}", "evaluation.every_epochs=4", *overrides], epochs=4
        )
        # A way that fails must not take the others' numbers with it.
        with tempfile.TemporaryDirectory() as folder, contextlib.suppress(ZenoptError):
            rows[name] = {"error": "failed"}
            torch.manual_seed(0)
            began = time.perf_counter()
            history = fit(
                source.build(10), data, recipe, output=Path(folder) / "run", resolution=32, identity=source.facts(),
                world=World(0, 1, torch.device(GPU)),
            ).history  # fmt: skip
            rates = [row["images_per_second"] for row in history]
            keep(
                name, statistics.median(rates[1:]), first_epoch=rates[0], seconds=time.perf_counter() - began
            )


def measure_small_trainings(save: Save) -> None:
    """How many small trainings at once give most."""
    rows: list[dict[str, Any]] = []
    ways = trainings_per_hour.gpu_ways(os.cpu_count() or 1)
    for way in ways:
        rows.append(trainings_per_hour.measure(way, GPU, 5))
        save({"reference": ways[0].name, "rows": rows})


# -- latency --------------------------------------------------------------------------------------------------------


def measure_latency(save: Save) -> None:
    """Latency of three networks, then a calibration and its errors."""
    from zenopt.latency.calibrate import calibrate
    from zenopt.latency.measure import measure_architecture
    from zenopt.latency.options import MeasureOptions
    from zenopt.spaces.chain.architecture import Architecture
    from zenopt.study.spec import StudySpec

    found: dict[str, Any] = {"measured": [], "calibrated": []}
    small = StudySpec.load("cifar-small")
    networks = {
        "cifar-small, initial": small.build_space().parse(small.build_space().initial),
        "1M": Architecture.parse(STRUCTURE),
    }
    for name, architecture in networks.items():
        for batch, dtype in ((1, "fp32"), (64, "fp32"), (64, "fp16")):
            options = MeasureOptions(
                device=GPU, batch=batch, resolution=32, dtype=dtype, max_seconds=3, min_seconds=0.5
            )
            own = measure_architecture(architecture, options, num_classes=10)
            found["measured"].append(
                {
                    "network": name, "batch": batch, "dtype": dtype, "batch_ms": own.batch_ms, "spread": own.spread,
                    "standard_error": own.standard_error, "is_stable": own.is_stable,
                }
            )  # fmt: skip
            save(found)
    for preset, batch in (("cifar-params1m", 64), ("cifar-small", 256)):
        spec = StudySpec.load(preset)
        options = MeasureOptions(device=GPU, batch=batch, resolution=spec.resolution)
        profile = calibrate(
            spec.build_space(),
            options,
            name=f"here-{preset}",
            num_classes=spec.num_classes,
            seconds=CALIBRATION_S,
            held_out=20,
        )
        errors = {key: value for key, value in profile.errors.items() if key != "held_out"}
        found["calibrated"].append(
            {
                "preset": preset,
                "batch": batch,
                "device": profile.device,
                "seconds": CALIBRATION_S,
                "errors": errors,
            }
        )
        save(found)


# -- the whole ------------------------------------------------------------------------------------------------------

#: What is done, in this order, and within how many seconds. Together under nine minutes, with what starting takes.
SECTIONS: dict[str, tuple[Callable[[Save], None], float]] = {
    "scores": (measure_scores, 80),
    "training": (measure_training, 80),
    "tests": (run_tests, 105),
    "latency": (measure_latency, 105),
    "small": (measure_small_trainings, 110),
    "distribution": (compare_distributions, 45),
}


def do_section(name: str, output: Path) -> None:
    """Do one section in this process, keeping what it has after every step."""
    began = time.perf_counter()

    def save(content: dict[str, Any]) -> None:
        write_json(output / f"{name}.json", {**content, "seconds": round(time.perf_counter() - began, 1)})

    SECTIONS[name][0](save)


def run_section(name: str, output: Path, limit: float) -> str:
    """Run one section as a process; return how it ended."""
    command = [sys.executable, str(Path(__file__).resolve()), "--section", name, "--output", str(output)]
    process = subprocess.Popen(command, cwd=ROOT, preexec_fn=os.setpgrp)
    try:
        code = process.wait(timeout=limit)
        return "whole" if code == 0 else f"failed (exit code {code})"
    except subprocess.TimeoutExpired:
        return f"cut off after {limit:.0f} s"
    finally:
        # The group is the section's own: its workers end with it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _read(output: Path, name: str) -> dict[str, Any] | None:
    path = output / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _score_lines(found: dict[str, Any]) -> list[str]:
    rates = found["scores_per_second"]
    one, cpu = rates.get(f"{GPU} x 1"), rates.get("cpu x 1")
    lines = ["| workers | scores/s | times one worker on the GPU | times one CPU core |", "|---|---|---|---|"]
    for name, rate in rates.items():
        ratios = [f"{rate / base:.2f}" if base else "" for base in (one, cpu)]
        lines.append(f"| {name} | {rate:.1f} | {ratios[0]} | {ratios[1]} |")
    return lines


def _training_lines(found: dict[str, Any]) -> list[str]:
    rows = found["rows"]
    lines = ["| training | images/s | times the plain loop in bf16 |", "|---|---|---|"]
    base = rows.get("plain loop, bf16, channels-last", {}).get("images_per_second", math.nan)
    for name, row in rows.items():
        if "error" in row:
            lines.append(f"| {name} | {row['error']} | |")
            continue
        lines.append(f"| {name} | {row['images_per_second']:,.0f} | {row['images_per_second'] / base:.2f} |")
    return lines


def _latency_lines(found: dict[str, Any]) -> list[str]:
    lines = [
        "| network | batch | format | ms a batch | spread | standard error |",
        "|---|---|---|---|---|---|",
    ]
    for row in found["measured"]:
        lines.append(
            f"| {row['network']} | {row['batch']} | {row['dtype']} | {row['batch_ms']:.3f} | {row['spread']:.1%} "
            f"| {row['standard_error']:.2%} |"
        )
    if found["calibrated"]:
        lines += [
            "",
            "Calibrated (`zenopt latency calibrate`), judged on 20 networks that played no part; the goal "
            "on a quiet GPU is a Spearman correlation of .99 and 95 % within 10 %:",
            "",
            "| space | batch | Spearman | within 10 % | mean error |",
            "|---|---|---|---|---|",
        ]
    for row in found["calibrated"]:
        errors = row["errors"]
        lines.append(
            f"| {row['preset']} | {row['batch']} | {errors['spearman']:.3f} | {errors['within_10']:.0%} "
            f"| {errors['mape']:.1%} |"
        )
    return lines


def _distribution_lines(found: dict[str, Any]) -> list[str]:
    lines = [
        "| network | scores each | CPU, mean and deviation | GPU | distance | p |",
        "|---|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        cpu, gpu = (f"{row[key][0]:.3f} +- {row[key][1]:.3f}" for key in ("cpu", "gpu"))
        lines.append(
            f"| {row['network']} | {row['repeats']} | {cpu} | {gpu} | {row['distance']:.3f} | {row['p']:.2g} |"
        )
    return lines


def _test_lines(found: dict[str, Any]) -> list[str]:
    return [f"`{found['last_line']}`", *(f"- `{line}`" for line in found["failed"])]


PAGE: dict[str, tuple[str, Callable[[dict[str, Any]], list[str]]]] = {
    "scores": ("Zen-scores of the published 1M-parameter network, batch 64, a second", _score_lines),
    "distribution": (
        "Are scores of the GPU those of the CPU? (Kolmogorov and Smirnov's test of two samples; a small p says no)",
        _distribution_lines,
    ),
    "training": ("Training the same network: images a second, batches of 256", _training_lines),
    "small": (
        "Small trainings at once (`cifar-small`, 6 epochs of 8,000 images)",
        lambda found: trainings_per_hour.table(found["rows"], found["reference"]).splitlines(),
    ),
    "latency": ("Latency", _latency_lines),
    "tests": ("Tests marked `gpu`", _test_lines),
}


def page(facts: dict[str, Any], ends: dict[str, str], found: dict[str, dict[str, Any] | None]) -> str:
    """Return `docs/gpu.md`."""
    lines = [
        "# On a GPU",
        "",
        "Written by `make gpu` from what it measured; the raw numbers lie in its output folder. "
        f"{facts['device']} ({facts['memory_gib']} GiB), {facts['cores']} CPU cores, Python {facts['python']}, "
        f"PyTorch {facts['torch']}, CUDA {facts['cuda']}, {facts['date']}.",
    ]
    for name, (title, write) in PAGE.items():
        lines += ["", f"## {title}", ""]
        content = found.get(name)
        lines += write(content) if content is not None else ["Nothing was measured."]
        if ends.get(name, "whole") != "whole":
            lines += ["", f"This section {ends[name]}."]
    return "\n".join(lines) + "\n"


def write_page(output: Path, path: Path, facts: dict[str, Any], ends: dict[str, str]) -> None:
    """Write the page from the results that are there."""
    found = {name: _read(output, name) for name in SECTIONS}
    write_json(output / "gpu.json", {"environment": facts, "ends": ends, **found})
    text = page(facts, ends, found)
    longer = output / "cells" / "cells.md"  # of `make gpu-long`
    if longer.is_file():
        text += f"\n## Supernets and cells\n\n{longer.read_text(encoding='utf-8')}"
    path.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("gpu-results"))
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "gpu.md")
    parser.add_argument("--sections", default=",".join(SECTIONS), help="which, in which order")
    parser.add_argument("--section", help=argparse.SUPPRESS)
    args = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        print(f"No CUDA device here (torch {torch.__version__}): nothing to measure.")
        return
    args.output.mkdir(parents=True, exist_ok=True)
    if args.section:
        do_section(args.section, args.output)
        return
    names = args.sections.split(",")
    unknown = sorted(set(names) - set(SECTIONS))
    if unknown:
        parser.error(f"unknown section {unknown[0]!r}; known: {', '.join(SECTIONS)}")
    # Whoever ends this process ends the section's, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    facts, ends = environment(GPU), {}
    began = time.perf_counter()
    for name in names:
        (args.output / f"{name}.json").unlink(missing_ok=True)
        print(f"== {name}", flush=True)
        ends[name] = run_section(name, args.output, SECTIONS[name][1])
        print(f"== {name}: {ends[name]} ({time.perf_counter() - began:.0f} s so far)", flush=True)
        write_page(args.output, args.page, facts, ends)
    print(f"Written: {args.page}, {args.output}/gpu.json")


if __name__ == "__main__":
    main()
