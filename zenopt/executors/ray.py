"""Workers as actors of a Ray cluster. Ray places them; what they do is in the database, as with any worker.

A driver hands out trials by the lease and asks for nothing else: which ones they are, workers find out from the study.
Actors are detached from their driver: where it is killed, they notice, finish their trial or put it back, and end.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, ClassVar, TypeVar

from zenopt.core.errors import ExecutorError, StudyError
from zenopt.core.extensions import know_again
from zenopt.core.text import one_line, quoted
from zenopt.executors import EXECUTORS
from zenopt.executors.actor import Actor, News
from zenopt.executors.base import Ended, Executor, Job
from zenopt.executors.code import user_modules
from zenopt.executors.luggage import packed
from zenopt.executors.proxy import LocalFile, Proxy, absolute_url, check_serving, serve_file
from zenopt.executors.resources import Resources, bytes_of, number
from zenopt.storage import parse_url

T = TypeVar("T")
R = TypeVar("R")

_NAMESPACE = "zenopt"
#: Seconds a lease is to last, and between calls that tell workers that their driver lives.
_LEASE_S, _PING_S = 1.0, 5.0
_CONNECT_S = 5.0
#: Seconds for actors of an earlier driver to be gone.
_TAKEOVER_S = 20.0
_STORE_BYTES = 100 * 2**20
_logger = logging.getLogger(__name__)


@dataclass
class _Hired:
    """An actor as its driver sees it."""

    index: int
    handle: Any
    hello: Any
    turn: Any = None
    identity: str | None = None
    node: str = ""
    lease: int = 0
    leased_at: float = 0.0
    trial_s: float = field(default=_LEASE_S)


@EXECUTORS.register("ray")
class RayActors(Executor):
    """Actors of the Ray cluster at an address, at ``RAY_ADDRESS``, of this machine, or of one begun for the run."""

    takes: ClassVar[tuple[str, ...] | None] = None

    def __init__(self, address: str = "", resources: Resources | None = None) -> None:
        super().__init__(address, resources)
        try:
            import ray as found
        except ImportError:
            raise ExecutorError(
                "--on ray needs Ray, which is not installed; run: pip install 'zenopt[ray]'"
            ) from None
        ray: Any = found
        self._ray = ray
        self._hired: dict[int, _Hired] = {}
        self._unclaimed: int | None = None
        self._is_stopping = False
        # Begun when the first worker has joined that is on another machine than a SQLite file.
        self._proxy: tuple[str, Proxy] | None = None
        # Parts of archives of files that some node lacks; in the cluster's memory until the run is over.
        self._sent: dict[str, list[Any]] = {}
        self._over = threading.Event()
        own = self.resources
        self._needs: dict[str, float] = {"CPU": 1.0 if own.cpu is None else own.cpu}
        if own.gpu:
            self._needs["GPU"] = own.gpu
        for name, text in own.others.items():
            self._needs[name] = bytes_of(name, text) if name == "memory" else number(name, text)

    def check(self, url: str, devices: Sequence[str]) -> None:
        if url.startswith("memory:"):
            raise StudyError(
                "A study in memory has one worker, here; on Ray it needs a storage file or database."
            )
        self.check_workers(devices)
        if parse_url(url).kind == "sqlite" and any(
            node["NodeManagerHostname"] != socket.gethostname() for node in self._nodes()
        ):
            check_serving()

    def check_workers(self, devices: Sequence[str]) -> None:
        if not self.resources.gpu and any(device != "cpu" for device in devices):
            raise ExecutorError(
                "--on ray: Ray hands out the GPUs; ask for one by --resources gpu=1 (or a fraction), not by --device."
            )
        self._connect()
        if not any(self._fits(node) for node in self._nodes()):
            there = "; ".join(
                f"{node['NodeManagerAddress']}: {_shown(node['Resources'])}" for node in self._nodes()
            )
            raise ExecutorError(
                f"--resources {self.resources}: no node of the cluster has that; there are {there}."
            )

    def devices(self, devices: Sequence[str]) -> Sequence[str]:
        """Return the one GPU that Ray shows a worker, or the CPU."""
        return ("cuda:0",) if self.resources.gpu else ("cpu",)

    def capacity(self, devices: Sequence[str]) -> int:
        """Return how many workers fit on the nodes there are."""
        return max(1, sum(self._fits(node) for node in self._nodes()))

    def open(self, job: Job) -> list[str]:
        self._connect()
        ended = self._end_earlier(job.run)
        self._file = LocalFile.of(job.url)
        self._job = replace(job, url=absolute_url(job.url), threads=self.resources.threads, notes=None)
        threading.Thread(target=self._ping, name="zenopt-ray", daemon=True).start()
        return ended

    def start(self, indices: Sequence[int]) -> None:
        options = self._options()
        for index in indices:
            name = f"zenopt-{self._job.run}-{index}-{secrets.token_hex(2)}"
            hire = self._ray.remote(Actor).options(
                **options, name=name, namespace=_NAMESPACE, lifetime="detached", max_concurrency=8
            )
            handle = hire.remote(self._job, index, self._job.devices[0], os.getcwd(), self._file)
            self._hired[index] = _Hired(index, handle, handle.hello.remote())

    def poll(self, seconds: float) -> list[Ended]:
        deadline = time.monotonic() + seconds
        found: list[Ended] = []
        # New leases are given at once; what they are for is looked at once in a while.
        while self._hired and not found and (left_s := deadline - time.monotonic()) > 0:
            waiting = {
                hired.hello if hired.turn is None else hired.turn: hired for hired in self._hired.values()
            }
            ready, _ = self._ray.wait(list(waiting), timeout=left_s)
            found += [item for reference in ready if (item := self._hear(waiting[reference], reference))]
        return found

    def _hear(self, hired: _Hired, reference: Any) -> Ended | None:
        """Take what a worker says: who it is, that it wants more to do, or that it is over."""
        try:
            news = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            return self._lost(hired, error)
        if isinstance(news, tuple):
            hired.identity, hired.node, lacking, lacks_storage = news
            if lacking:
                self._send(hired, lacking)
            if lacks_storage:
                hired.handle.reach.remote(self._served())
            self._lease(hired)
            return None
        if news.reason is None:
            self._lease(hired, news)
            return None
        self._dismiss(hired)
        text = f"on {hired.node} {news.text}" if news.reason == "crashed" else news.text
        return Ended(hired.index, news.reason, text, news.error, hired.identity)

    def refill(self, left: Callable[[], int]) -> int:
        # Only this thread hands out leases.
        self._unclaimed = max(0, left() - sum(hired.lease for hired in self._hired.values()))
        return self._unclaimed

    def stop(self) -> None:
        self._is_stopping = True
        for hired in self._hired.values():
            if hired.identity is None:
                # Not placed yet, or not begun: it would wait for room for ever.
                self._ray.kill(hired.handle)
            else:
                hired.handle.stop.remote()

    def close(self) -> list[str]:
        self._over.set()
        killed = [hired.identity for hired in self._hired.values() if hired.identity is not None]
        for hired in list(self._hired.values()):
            self._dismiss(hired)
        if self._proxy is not None:
            self._proxy[1].close()
        return killed

    def map(
        self,
        function: Callable[[T], R],
        items: Iterable[T],
        workers: int | None,
        modules: tuple[str, ...] = (),
    ) -> Iterator[tuple[int, R]]:
        self._connect()
        task: Any = self._ray.remote(_call).options(**self._options(), max_retries=3)
        waiting = enumerate(items)
        running: dict[Any, int] = {}
        try:
            while True:
                most = workers or self.capacity(())
                for index, item in islice(waiting, max(0, most - len(running))):
                    running[task.remote(function, item, modules)] = index
                if not running:
                    return
                ready, _ = self._ray.wait(list(running), timeout=1.0)
                for reference in ready:
                    index = running.pop(reference)
                    try:
                        result = self._ray.get(reference)
                    except self._ray.exceptions.RayTaskError as error:
                        raise error.cause if isinstance(error.cause, Exception) else error from None
                    yield index, result
        finally:
            for reference in running:
                self._ray.cancel(reference, force=True)

    def _served(self) -> str:
        """Return the URL by which other machines reach the SQLite file of the study."""
        if self._proxy is None:
            host = self._ray.util.get_node_ip_address()
            self._proxy = serve_file(self._job.url, self._job.synchronous, host)
        return self._proxy[0]

    def _send(self, hired: _Hired, files: Sequence[str]) -> None:
        """Send files to a node that lacks them; every worker there asks, and the first puts them in their place."""
        for text in files:
            if text not in self._sent:
                self._sent[text] = [self._ray.put(part) for part in packed(text)]
        hired.handle.bring.remote({text: self._sent[text] for text in files})

    def _options(self) -> dict[str, Any]:
        needs = dict(self._needs)
        options = {"num_cpus": needs.pop("CPU"), "num_gpus": needs.pop("GPU", 0)}
        if "memory" in needs:
            options["memory"] = needs.pop("memory")
        return {**options, "resources": needs}

    def _lease(self, hired: _Hired, news: News | None = None) -> None:
        """Give a worker as many trials as last about a second, or let it go."""
        if news is not None and hired.lease:
            hired.trial_s = max(1e-3, (time.monotonic() - hired.leased_at) / hired.lease)
        count = max(1, round(_LEASE_S / hired.trial_s))
        if self._unclaimed is not None:
            # At the end everybody is to have something to do.
            share = -(-self._unclaimed // (2 * len(self._hired)))
            count = min(count, share)
            self._unclaimed -= count
        if self._is_stopping:
            count = 0
        hired.lease, hired.leased_at = count, time.monotonic()
        hired.turn = hired.handle.turn.remote(count)

    def _lost(self, hired: _Hired, error: Exception) -> Ended:
        self._dismiss(hired)
        if self._is_stopping:
            return Ended(hired.index, "finished", identity=hired.identity)
        where = f" on {hired.node}" if hired.node else ""
        broken = isinstance(
            error, self._ray.exceptions.RuntimeEnvSetupError | self._ray.exceptions.RayTaskError
        )
        reason = (
            one_line(str(error).strip().splitlines()[-1], 200) if str(error).strip() else type(error).__name__
        )
        if broken:
            return Ended(hired.index, "refused", f"it cannot begin{where}: {reason}", "ExecutorError")
        text = f"{where.strip()} was lost with its process or node ({type(error).__name__})".strip()
        return Ended(hired.index, "lost", text, identity=hired.identity)

    def _dismiss(self, hired: _Hired) -> None:
        self._hired.pop(hired.index, None)
        self._ray.kill(hired.handle)

    def _ping(self) -> None:
        while not self._over.wait(_PING_S):
            for hired in list(self._hired.values()):
                try:
                    if hired.identity is not None:
                        hired.handle.ping.remote()
                except Exception as error:
                    # An actor that just went, or a cluster that is busy, must not end all later signs.
                    _logger.debug("No sign of life to worker %d: %r", hired.index, error)

    def _end_earlier(self, run: str) -> list[str]:
        """End what an earlier driver of the run has left."""
        found = []
        for actor in self._ray.util.list_named_actors(all_namespaces=True):
            if actor["namespace"] != _NAMESPACE or not actor["name"].startswith(f"zenopt-{run}-"):
                continue
            try:
                handle = self._ray.get_actor(actor["name"], _NAMESPACE)
            except ValueError:
                continue  # it ended after it was listed
            try:
                identity, *_ = self._ray.get(handle.hello.remote(), timeout=_TAKEOVER_S)
            except self._ray.exceptions.RayError:
                # It ended by itself meanwhile, or was never placed.
                self._ray.kill(handle)
                continue
            self._ray.kill(handle)
            found.append(identity)
            deadline = time.monotonic() + _TAKEOVER_S
            while time.monotonic() < deadline:
                try:
                    self._ray.get(handle.ping.remote(), timeout=1.0)
                except self._ray.exceptions.GetTimeoutError:
                    continue
                except self._ray.exceptions.RayError:
                    break
        return found

    def _connect(self) -> None:
        if self._ray.is_initialized():
            return
        address = self.address or os.environ.get("RAY_ADDRESS", "")
        if address and address not in ("auto", "local"):
            _check_address(address)
        # Ray would announce both on stderr.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        common: dict[str, Any] = {
            "logging_level": "error",
            "log_to_driver": True,
            "runtime_env": {"py_modules": user_modules(), "excludes": ["__pycache__"]},
        }
        try:
            self._ray.init(address=address or "auto", **common)
        except ConnectionError as error:
            if address not in ("", "local"):
                raise ExecutorError(
                    f"--on ray: no Ray cluster at {quoted(address)} ({one_line(str(error), 200)})."
                ) from None
            _begin(self._ray, common)
        except Exception as error:
            if isinstance(error, RuntimeError | ValueError):
                raise ExecutorError(f"--on ray: {one_line(str(error), 300)}") from None
            raise

    def _nodes(self) -> list[Mapping[str, Any]]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def _fits(self, node: Mapping[str, Any]) -> int:
        """Return how many workers fit on a node that runs nothing else."""
        has = node["Resources"]
        return min(
            (int(has.get(name, 0.0) / need + 1e-9) for name, need in self._needs.items() if need), default=1
        )


def _begin(ray: Any, common: Mapping[str, Any]) -> None:
    ray.init(
        address="local",
        include_dashboard=False,
        object_store_memory=_STORE_BYTES,
        # Workers compete with nobody here but their raylet; by default they would yield to everything else.
        _system_config={"worker_niceness": 0},
        **common,
    )


def _check_address(address: str) -> None:
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65_536:
        raise ExecutorError(f"--on ray: {quoted(address)} is no HOST:PORT.")
    try:
        # Ray itself would try for minutes.
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()
    except OSError as error:
        raise ExecutorError(
            f"--on ray: no Ray cluster at {quoted(address)} ({error.strerror or error}); begin one by: ray start --head"
        ) from None


def _shown(resources: Mapping[str, float]) -> str:
    own = {
        name: value
        for name, value in sorted(resources.items())
        if not name.startswith(("node:", "object_store_memory"))
    }
    return ", ".join(
        f"{name.lower() if name in ('CPU', 'GPU') else name}={value:g}" for name, value in own.items()
    )


def _call(function: Callable[[T], R], item: T, modules: tuple[str, ...]) -> R:
    know_again(modules)
    return function(item)
