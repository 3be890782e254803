"""Independent trainings in several processes: short runs of small networks keep no more than one core busy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

import torch

from zenopt.core.extensions import know_again, named_by_person
from zenopt.study.search import available_cores
from zenopt.train.errors import TrainError

Job = TypeVar("Job")
Result = TypeVar("Result")


def run_jobs(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    *,
    workers: int = 1,
    on_result: Callable[[Result], None] | None = None,
) -> list[Result]:
    """Calls a function once for each job.

    Args:
        function:
            A module's function; it and its jobs travel to other processes where there are several workers.
        jobs:
            What it is called with.
        workers:
            Processes; one works here. Each has its share of the cores as torch threads.
        on_result:
            Told of each result as it comes.

    Returns:
        The results in the order of the jobs.

    Raises:
        TrainError: If a process died. Whatever a job raises is raised here, after jobs that had begun are done.
    """
    tell = on_result or (lambda result: None)
    if workers == 1 or len(jobs) < 2:
        results = []
        for job in jobs:
            results.append(function(job))
            tell(results[-1])
        return results
    workers = min(workers, len(jobs))
    # Threads of torch do not survive a fork, and a GPU's context does not either.
    pool = ProcessPoolExecutor(
        workers,
        mp_context=get_context("spawn"),
        initializer=_prepare,
        initargs=(max(1, available_cores() // workers), named_by_person()),
    )
    found: dict[int, Result] = {}
    try:
        places = {pool.submit(function, job): place for place, job in enumerate(jobs)}
        for future in as_completed(places):
            found[places[future]] = future.result()
            tell(found[places[future]])
    except BrokenProcessPool:
        raise TrainError(
            "A training process died (out of memory?); run the command again to go on."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
    return [found[place] for place in range(len(jobs))]


def _prepare(threads: int, names: tuple[str, ...]) -> None:
    torch.set_num_threads(threads)
    know_again(names)
