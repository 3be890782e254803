"""A Ray cluster of several nodes on this machine, of which nodes and the driver are killed."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from zenopt.storage import open_storage

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="kill -9 needs POSIX signals"),
]
ray = pytest.importorskip("ray", reason="ray is not installed")
pytest.importorskip("grpc", reason="grpcio is not installed: a SQLite file could not be served")

SPEC = """\
name: tiny
space:
  options: {stage_strides: [1, 2], slots: 2, max_depth: 2, max_width: 32, max_bottleneck: 16, max_head: 64}
  initial: "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,16,1,8,1)SuperResK3K3(16,16,2,8,1)SuperConvK1BNRELU(16,32,1,1)"
resolution: 8
num_classes: 10
budget: {params: 40000, layers: 8}
sampler: {name: random}
"""
#: A proxy in a file of the user's, which no node has.
SLOW = """\
import time

from zenopt.proxies import register_proxy


@register_proxy("slow")
def slow(probe):
    time.sleep(0.4)
    return float(sum(parameter.numel() for parameter in probe.network.parameters()))
"""


class Nodes:
    """A cluster: its head has room for no worker."""

    def __init__(self, count: int) -> None:
        from ray.cluster_utils import Cluster

        common = {"include_dashboard": False, "object_store_memory": 80 * 2**20}
        self._common: dict[str, Any] = {"object_store_memory": 80 * 2**20}
        self.cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 0, **common, "_system_config": {"worker_niceness": 0}},
        )
        self.nodes = [self.add() for _ in range(count)]

    def add(self) -> Any:
        return self.cluster.add_node(num_cpus=1, **self._common)

    def kill(self) -> None:
        """Kill a node with everything on it, and begin a new one."""
        self.cluster.remove_node(self.nodes.pop(0), allow_graceful=False)
        self.nodes.append(self.add())


@pytest.fixture
def nodes(request: pytest.FixtureRequest) -> Iterator[Nodes]:
    made = Nodes(getattr(request, "param", 2))
    yield made
    made.cluster.shutdown()


@pytest.fixture
def optimize(nodes: Nodes, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start ``zenopt optimize`` on the cluster, in a process group of its own."""
    started = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        (tmp_path / "tiny.yaml").write_text(SPEC)
        command = [sys.executable, "-m", "zenopt", "optimize", "--study", "tiny.yaml", "--storage", "x.db"]
        process = subprocess.Popen(
            [*command, "--on", f"ray:{nodes.cluster.address}", *arguments],
            cwd=tmp_path,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def trials(folder: Path) -> list[optuna.trial.FrozenTrial]:
    storage = open_storage(f"sqlite:///{folder}/x.db", create=False)
    return optuna.load_study(study_name="tiny", storage=storage).get_trials()


def finished(folder: Path) -> int:
    if not (folder / "x.db").exists():
        return 0
    try:
        return sum(trial.state.is_finished() for trial in trials(folder))
    except (KeyError, ValueError):
        return 0


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 400.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.2)


def test_nodes_and_the_driver_are_killed(nodes: Nodes, optimize: Callable, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "slow_proxy.py").write_text(SLOW)
    asked = ("--trials", "60", "--import", "code/slow_proxy.py", "--set", "proxy.name=slow", "--quiet")
    driver = optimize(*asked)
    wait_for(lambda: finished(tmp_path) >= 3, driver)
    # A new node takes its time to begin, in which the other one goes on.
    nodes.kill()
    wait_for(lambda: finished(tmp_path) >= 8, driver)
    os.killpg(driver.pid, signal.SIGKILL)
    driver = optimize(*asked)
    before = finished(tmp_path)
    wait_for(lambda: finished(tmp_path) >= before + 3, driver)
    nodes.kill()
    out, err = driver.communicate(timeout=600)
    assert driver.returncode == 0, err
    found = trials(tmp_path)
    assert [trial.number for trial in found] == list(range(60))
    assert {trial.state for trial in found} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert len({trial.user_attrs["run"].partition("/")[0] for trial in found}) == 1
    scored = Counter(
        trial.user_attrs["structure"]
        for trial in found
        if trial.state == TrialState.COMPLETE and "duplicate_of" not in trial.user_attrs
    )
    assert max(scored.values()) == 1

    # Ctrl-C, in the same cluster.
    driver = optimize("--trials", "500", *asked[2:-1])
    wait_for(lambda: finished(tmp_path) >= 62, driver)
    os.killpg(driver.pid, signal.SIGINT)
    out, err = driver.communicate(timeout=600)
    assert driver.returncode == 130, err
    assert "interrupted" in out and "Traceback" not in err
    assert all(trial.state.is_finished() for trial in trials(tmp_path))


def test_a_training_goes_on_from_its_last_epoch(nodes: Nodes, optimize: Callable, tmp_path: Path) -> None:
    settings = (
        "objective.kind=train",
        "training.data=synthetic:2000",
        "training.epochs=12",
        "sampler.name=aging",
        "training.held_back=0.5",
    )
    options = [part for setting in settings for part in ("--set", setting)]
    driver = optimize("--trials", "2", "--workers", "1", "--quiet", *options)

    def epochs() -> dict[str, list[list[str]]]:
        found = {}
        for path in tmp_path.glob("runs/tiny/*/metrics.csv"):
            with path.open() as file:
                found[path.parent.name] = list(csv.reader(file))
        return found

    wait_for(lambda: any(len(rows) >= 3 for rows in epochs().values()), driver)
    busy = next(node for node in nodes.nodes if _has_worker(node))
    nodes.cluster.remove_node(busy, allow_graceful=False)
    nodes.nodes.remove(busy)
    before = epochs()
    wait_for(lambda: finished(tmp_path) >= 1, driver)
    first = next(trial for trial in trials(tmp_path) if trial.state == TrialState.COMPLETE)
    after = epochs()[first.user_attrs["training_run"]]
    rows = before[first.user_attrs["training_run"]]
    # Seconds and losses of what was trained before the kill are those of then; nothing was trained twice.
    assert len(rows) >= 3 and after[: len(rows) - 1] == rows[: len(rows) - 1]
    assert [row[0] for row in after[1:]] == [str(epoch) for epoch in range(1, 13)]
    assert sorted(first.intermediate_values) == list(range(1, 13))
    os.killpg(driver.pid, signal.SIGKILL)


def _can_hide() -> bool:
    return shutil.which("unshare") is not None and not subprocess.call(
        ["unshare", "-m", "-u", "mount", "-t", "tmpfs", "none", "/mnt"], stderr=subprocess.DEVNULL
    )


@pytest.mark.skipif(not _can_hide(), reason="needs mount namespaces, which only root has")
@pytest.mark.parametrize("nodes", [0], indirect=True)
def test_images_and_the_storage_are_brought_to_a_node_that_lacks_them(
    nodes: Nodes, optimize: Callable, folder_data: Path, tmp_path: Path
) -> None:
    far = tmp_path / "far"
    far.mkdir()
    folder_data.rename(far / "images")
    # In namespaces of its own: there the folder is empty, and the machine has another name.
    start = f"exec ray start --address={nodes.cluster.address} --num-cpus=2 --block"
    join = f"hostname far && mount -t tmpfs none {far} && {start}"
    node = subprocess.Popen(
        ["unshare", "-m", "-u", "sh", "-c", join],
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    settings = (
        "sampler.name=aging",
        "objective.kind=train",
        "training.epochs=1",
        "training.data=imagefolder:far/images",
        "num_classes=2",
    )
    try:
        ray.init(address=nodes.cluster.address, logging_level="error")
        try:
            wait_for(lambda: len([found for found in ray.nodes() if found["Alive"]]) == 2, node)
        finally:
            ray.shutdown()
        driver = optimize(
            "--trials", "2", "--workers", "2", *(part for text in settings for part in ("--set", text))
        )
        _, err = driver.communicate(timeout=600)
        assert driver.returncode == 0, err
        first = trials(tmp_path)[0]
        assert first.state == TrialState.COMPLETE
        # Its worker did not open the SQLite file, which is of another machine: the driver has served it.
        assert first.user_attrs["worker"].startswith("far")
    finally:
        os.killpg(node.pid, signal.SIGKILL)


def _has_worker(node: Any) -> bool:
    parent = node.all_processes["raylet"][0].process.pid
    text = subprocess.run(
        ["ps", "-o", "args=", "--ppid", str(parent)], capture_output=True, text=True, check=True
    ).stdout
    return "ray::Actor" in text or "ray::zenopt-" in text
