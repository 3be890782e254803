"""The contract of an executor: how workers are started, followed and ended, wherever they are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, TypeVar

from zenopt.core.errors import ExecutorError, StudyError
from zenopt.executors.resources import Resources

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Post:
    """What a worker knows of its run.

    Attributes:
        index: Number of the worker within the run; never given twice.
        device: Torch device it computes on.
        threads: Torch threads it may use.
        url: Storage URL as this worker reaches it.
        claim: Asked before every trial: whether there is one left, and time for it.
        should_stop: Whether the run is to end now.
    """

    index: int
    device: str
    threads: int
    url: str
    claim: Callable[[], bool]
    should_stop: Callable[[], bool]


class Notes(Protocol):
    """What is kept with a run in its study."""

    @property
    def notes(self) -> Mapping[str, Any]:
        """What was kept, also by an earlier driver."""
        ...

    def note(self, **notes: Any) -> None:
        """Keep something."""
        ...

    def ask_to_stop(self) -> None:
        """Tell workers that read the study that the run is to end."""
        ...


@dataclass(frozen=True)
class Job:
    """What the workers of a run do.

    Attributes:
        work: Called in every worker with ``argument`` and its :class:`Post`; a function of a module.
        argument: What it works on; can be pickled.
        url: Storage URL of the study.
        study: Name of the study.
        run: Id of the run; equal to that of a run whose driver was killed, where this one takes it over.
        devices: Torch devices, shared out round-robin.
        threads: Torch threads of each worker, where no resources are asked for.
        deadline: ``time.time()`` after which no further trial begins, or ``None``.
        modules: What a worker must import first; see :func:`zenopt.core.extensions.know_again`.
        files: Files and folders that workers read; an executor may bring them to machines that lack them.
        synchronous: Durability of SQLite.
        folder: Folder in which workers write files.
        notes: Where an executor may keep with the run what the next driver of it must know.
    """

    work: Callable[[Any, Post], None]
    argument: Any
    url: str
    study: str
    run: str
    devices: Sequence[str] = ("cpu",)
    threads: int = 1
    deadline: float | None = None
    modules: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    synchronous: str = "NORMAL"
    folder: str = "runs"
    notes: Notes | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Ended:
    """A worker that is no more.

    Attributes:
        index: Its number.
        reason: ``finished``: it found nothing more to do; ``refused``: bad input, the text is for people;
            ``crashed``: a fault; ``lost``: it was killed, or its machine died.
        text: What is to be said of it.
        error: Name of the error's class, where it was refused.
        identity: Its :class:`zenopt.storage.Worker` as text, where it is known: its trial goes back to the queue.
    """

    index: int
    reason: Literal["finished", "refused", "crashed", "lost"]
    text: str = ""
    error: str = ""
    identity: str | None = None


class Executor(ABC):
    """Runs workers somewhere. One object is for one run.

    Args:
        address:
            What follows the name in ``--on NAME:ADDRESS``.
        resources:
            What each worker takes.

    Attributes:
        takes: Resources it understands besides ``cpu`` and ``gpu``; ``()`` if it takes none at all, ``None`` if any.
        replaces: Whether another worker is started for one that was lost.
        is_elsewhere: Whether workers may be on other machines.
    """

    takes: ClassVar[tuple[str, ...] | None] = ()
    replaces: ClassVar[bool] = True
    is_elsewhere: ClassVar[bool] = True

    def __init__(self, address: str = "", resources: Resources | None = None) -> None:
        self.address = address
        self.resources = resources or Resources()

    def check(self, url: str, devices: Sequence[str]) -> None:
        """Find out before anything is stored whether workers can be started, and reach the storage.

        Raises:
            ZenoptError: If not.
        """
        if url.startswith("memory:"):
            raise StudyError("A study in memory has one worker; use a storage file or database for more.")

    def check_workers(self, devices: Sequence[str]) -> None:  # noqa: B027
        """Find out whether there can be workers with such devices and resources.

        Raises:
            ZenoptError: If not.
        """

    def devices(self, devices: Sequence[str]) -> Sequence[str]:
        """Return the devices of workers, given those of the command line."""
        return devices

    def capacity(self, devices: Sequence[str]) -> int:
        """Return how many workers there is room for now, those that run included; may change."""
        return 1

    @abstractmethod
    def open(self, job: Job) -> list[str]:
        """Make ready to start workers.

        Returns:
            The workers that an earlier driver of the run has left and that were ended now, each as the text of its
            :class:`zenopt.storage.Worker`.

        Raises:
            ZenoptError: If it cannot be done.
        """

    def running(self) -> set[int]:
        """Return the numbers of workers of an earlier driver that go on; asked before the first :meth:`start`."""
        return set()

    def begun(self) -> int:
        """Return the first number that no worker of an earlier driver had; asked before the first :meth:`start`."""
        return max(self.running(), default=-1) + 1

    @abstractmethod
    def start(self, indices: Sequence[int]) -> None:
        """Start workers of these numbers."""

    @abstractmethod
    def poll(self, seconds: float) -> list[Ended]:
        """Wait at most so long, and return the workers that have ended since the last call."""

    def waiting(self) -> str | None:
        """Return in words how many workers have not begun, and why, where that is known; ``None``: all have."""
        return None

    @abstractmethod
    def refill(self, left: Callable[[], int]) -> int:
        """Set how many trials may still be begun: before the first worker, and when some were lost with theirs.

        Without a call there is no limit.

        Args:
            left:
                Called while no worker can claim a trial; returns how many are not finished.

        Returns:
            How many nobody has begun.
        """

    @abstractmethod
    def stop(self) -> None:
        """Ask every worker to end after its trial, or after the epoch of its training."""

    @abstractmethod
    def close(self) -> list[str]:
        """End what still runs, at once, and let go of everything; return the workers that were ended, as text."""

    def describe(self, workers: int | None, runs: str) -> str:
        """Return what would be submitted for so many workers, where it is a script.

        Raises:
            ExecutorError: If it is none.
        """
        raise ExecutorError("--dry-run prints the script of --on slurm; here nothing is submitted.")

    def map(
        self,
        function: Callable[[T], R],
        items: Iterable[T],
        workers: int | None,
        modules: tuple[str, ...] = (),
    ) -> Iterator[tuple[int, R]]:
        """Call a function of a module with every item, on so many workers; yield position and result as they come.

        Raises:
            ZenoptError: What the function raised.
        """
        raise StudyError(f"Executor {type(self).__name__} runs studies alone; choose processes or ray.")
