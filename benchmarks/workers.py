"""Trials per second of one and of two workers on measured scoring, in one run.

    python benchmarks/workers.py --seconds 30 --rounds 2

Rounds alternate between one and two workers on fresh SQLite studies. Every worker has one torch thread and scores the
same published network (1M parameters, 32 pixels, batch 16) with fresh seeds, so that all trials cost the same. Only
trials that end in the last so many seconds count: starting processes and importing torch do not.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
from pathlib import Path

STRUCTURE = (
    "SuperConvK3BNRELU(3,88,1,1)SuperResK1K7K1(88,120,1,16,1)SuperResK1K7K1(120,192,2,16,3)"
    "SuperResK1K5K1(192,224,1,24,4)SuperResK1K5K1(224,96,2,24,2)SuperResK1K3K1(96,168,2,40,3)"
    "SuperResK1K3K1(168,112,1,48,3)SuperConvK1BNRELU(112,512,1,1)"
)


def work(url: str, deadline: float) -> None:
    """One worker: asks, scores, records and tells until the deadline."""
    import optuna
    import torch
    from optuna.distributions import CategoricalDistribution

    from zenopt.proxies import score_architecture
    from zenopt.spaces.chain.architecture import Architecture
    from zenopt.spaces.chain.superres import SuperResSpace
    from zenopt.storage import open_storage

    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space, architecture = SuperResSpace(), Architecture.parse(STRUCTURE)
    study = optuna.load_study(
        study_name="benchmark", storage=open_storage(url), sampler=optuna.samplers.RandomSampler(seed=0)
    )
    params = space.encode(architecture)
    while time.time() < deadline:
        trial = study.ask()
        # The real search's writes: about forty parameters a trial, of one fixed architecture.
        for name in params:
            trial._suggest(name, CategoricalDistribution([params[name]]))
        score = score_architecture(architecture, "zen", resolution=32, num_classes=100, seed=trial.number)
        trial.set_user_attr("score_mean", score.mean)
        study.tell(trial, score.mean)


def rate(workers: int, seconds: float) -> float:
    """Return trials per second of so many workers, after all of them have begun."""
    import optuna

    from zenopt.storage import open_storage

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'benchmark.db'}"
        storage = open_storage(url)
        optuna.create_study(study_name="benchmark", storage=storage, direction="maximize")
        context = multiprocessing.get_context("spawn")
        deadline = time.time() + seconds + 8
        processes = [context.Process(target=work, args=(url, deadline)) for _ in range(workers)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        trials = optuna.load_study(study_name="benchmark", storage=storage).get_trials()
        ends = sorted(trial.datetime_complete.timestamp() for trial in trials if trial.datetime_complete)
        inside = [end for end in ends if end >= deadline - seconds]
        return (len(inside) - 1) / (inside[-1] - inside[0])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    rates: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(options.rounds):
        for workers, found in rates.items():
            found.append(rate(workers, options.seconds))
            print(f"{workers} worker(s): {found[-1]:.2f} trials/s", flush=True)
    ratios = [two / one for one, two in zip(rates[1], rates[2], strict=True)]
    print(
        f"two workers / one worker: {statistics.median(ratios):.2f} (rounds: {', '.join(f'{r:.2f}' for r in ratios)})"
    )


if __name__ == "__main__":
    main()
