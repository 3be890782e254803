"""What every worker of a search does, wherever it runs: trials, until there is none left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import optuna

from zenopt.executors.base import Post
from zenopt.executors.runs import RUN_KEY, mark_of
from zenopt.storage import JOIN_PATIENCE_S, open_storage
from zenopt.study.objective import Objective, run_trial
from zenopt.study.pruners import make_pruner
from zenopt.study.sampling import make_sampler
from zenopt.study.spec import StudySpec
from zenopt.study.study import load_study


@dataclass(frozen=True)
class Search:
    """What a worker is to search.

    Attributes:
        spec: The resolved spec.
        name: Name of the study.
        run: Id of the run.
        synchronous: SQLite's durability.
        folder: Where evaluators keep files.
    """

    spec: StudySpec
    name: str
    run: str
    synchronous: str = "NORMAL"
    folder: str = "runs"


def work(
    search: Search,
    post: Post,
    storage: optuna.storages.BaseStorage | None = None,
    after_trial: Callable[[], None] = lambda: None,
    after_step: Callable[[], None] = lambda: None,
) -> None:
    """Add trials while there are any to claim; ``storage`` is opened where it is not given."""
    import torch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if storage is None:
        storage = open_storage(post.url, synchronous=search.synchronous, wait_s=JOIN_PATIENCE_S)
    torch.set_num_threads(post.threads)
    study = load_study(storage, search.name, make_sampler(search.spec, post.index), make_pruner(search.spec))
    objective = Objective(search.spec, study, post.device, post.should_stop, Path(search.folder), after_step)
    attributes = {RUN_KEY: mark_of(search.run, post.index)}
    while not post.should_stop() and post.claim():
        state = run_trial(
            study, objective, only_queued=search.spec.sampler.name == "queue", attributes=attributes
        )
        if state is None:
            return
        after_trial()
