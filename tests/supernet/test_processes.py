"""Supernets trained by several processes, each with paths of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from supernets import Killer, tiny_plan

from zenopt.supernet.files import read_supernet
from zenopt.supernet.module import Supernet
from zenopt.supernet.sampling import PathSampler
from zenopt.supernet.schedule import Schedule
from zenopt.supernet.training import SupernetPlan, check_recipe, last_weights, split, train_supernet
from zenopt.train.data import DataSet
from zenopt.train.distributed import World
from zenopt.train.optim import build_optimizer
from zenopt.train.recipe import Recipe
from zenopt.train.subsets import ChosenImages

ROOT = Path(__file__).resolve().parents[2]


def test_processes_share_the_turns() -> None:
    alone, *two = (tiny_plan("fair").build() for _ in range(3))
    for rank, network in enumerate(two):
        network.rank, network.processes = rank, 2
    turns = [network._turn(batch) for batch in range(3) for network in two]
    assert turns == [alone._turn(batch) for batch in range(6)] == list(range(6))


class _Recording(SupernetPlan):
    """A plan that keeps what it built."""

    def build(self) -> Supernet:
        network = super().build()
        object.__setattr__(self, "built", network)
        return network


def _one_of_two(rank: int, folder: str, data: DataSet, recipe: Recipe) -> None:
    """Train in one of two processes, and keep what it saw and what it ended with."""
    torch.set_num_threads(1)
    place = Path(folder)
    dist.init_process_group("gloo", init_method=f"file://{place / 'store'}", rank=rank, world_size=2)
    world = World(rank, 2, torch.device("cpu"))
    seen: list[tuple[Any, ...]] = []
    original = Supernet.training_loss

    def recorded(
        self: Supernet, images: torch.Tensor, targets: torch.Tensor, smoothing: float
    ) -> torch.Tensor:
        start = {name: value.clone() for name, value in self.state_dict().items()}
        seen.append((images.clone(), targets.clone(), smoothing, start))
        return original(self, images, targets, smoothing)

    Supernet.training_loss = recorded  # type: ignore[method-assign]
    plan = _recording()
    once = replace(data, train=ChosenImages(data.train, torch.arange(16)))  # a single step
    train_supernet(
        plan, once, recipe.model_copy(update={"epochs": 1}), output=place / "step", world=world, workers=0
    )
    torch.save({"seen": seen, "state": plan.built.state_dict()}, place / f"step{rank}.pt")  # type: ignore[attr-defined]

    parts = recipe.model_copy(update={"accumulate": 2})
    plan = _recording()
    train_supernet(plan, data, parts, output=place / "whole", world=world, workers=0)
    torch.save(plan.built.state_dict(), place / f"whole{rank}.pt")  # type: ignore[attr-defined]
    options: Any = {"output": place / "stopped", "world": world, "checkpoint_steps": 1, "workers": 0}
    try:
        train_supernet(_recording(), data, parts, **options, observer=Killer(7))
    except KeyboardInterrupt:
        train_supernet(_recording(), data, parts, **options, resume="must")
    dist.destroy_process_group()


def _recording() -> _Recording:
    plan = tiny_plan()
    return _Recording(plan.space, plan.space_name, plan.options, plan.limits, plan.sampling, plan.seed)


@pytest.mark.slow
def test_two_processes_train_two_paths(patches: DataSet, short: Recipe, tmp_path: Path, alone: World) -> None:
    data, recipe = split(patches, 0.2, tiny_plan()), check_recipe(short)
    torch.multiprocessing.spawn(_one_of_two, (str(tmp_path), data, recipe), nprocs=2)

    # A step is that of the mean of both gradients, where a path has none it counts as zero.
    kept = [torch.load(tmp_path / f"step{rank}.pt", weights_only=True) for rank in (0, 1)]
    sampler: PathSampler = tiny_plan().sampler
    paths = [sampler.paths(turn)[0] for turn in (0, 1)]
    assert paths[0] != paths[1]
    network = tiny_plan().build()
    gradients: dict[str, torch.Tensor] = {}
    missing = set()
    for own, path in zip(kept, paths, strict=True):
        (images, targets, smoothing, start), *more = own["seen"]
        assert not more and len(images) == 8
        network.load_state_dict(start)
        network.zero_grad()
        F.cross_entropy(network.shared(path, images), targets, label_smoothing=smoothing).backward()
        for name, parameter in network.named_parameters():
            if parameter.grad is None:
                missing.add(name)
            else:
                gradients[name] = gradients.get(name, 0) + parameter.grad / 2
    assert missing & set(gradients), "some weights are in one path only"
    optimizer = build_optimizer([network], recipe.optimizer, recipe.batch_size)
    optimizer.param_groups[0]["lr"] = optimizer.param_groups[-1]["lr"] = _first_rate(recipe)
    for name, parameter in network.named_parameters():
        parameter.grad = gradients.get(name)
    optimizer.step()
    for own in kept:
        for name, value in network.named_parameters():
            assert torch.allclose(own["state"][name], value, rtol=1e-4, atol=1e-6), name

    # Both end with the same weights: those of one process that takes as many paths one after another.
    ends = [torch.load(tmp_path / f"whole{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    parts = recipe.model_copy(update={"accumulate": 4})
    train_supernet(tiny_plan(), data, parts, output=tmp_path / "one", world=alone, workers=0)
    for name, value in last_weights(tmp_path / "one").items():
        assert torch.allclose(value, ends[0][f"layers.{name}"], rtol=1e-2, atol=1e-3), name
    # A stopped run goes on exactly, and the first process writes what judges paths.
    whole, stopped = (last_weights(tmp_path / folder) for folder in ("whole", "stopped"))
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)
    head = read_supernet(tmp_path / "stopped").weights.network(paths[0]).state_dict()["classifier.weight"]
    assert torch.equal(head, whole["classifier.weight"][:, : head.shape[1]])


def _first_rate(recipe: Recipe) -> float:
    """Return the rate of the only step of the only epoch; warm-up reaches its peak there."""
    return recipe.optimizer.lr * recipe.batch_size / 256


def _combined(kind: str) -> SupernetPlan:
    """Return the plan of a supernet whose training has phases, or paths of a walk."""
    plain = tiny_plan()
    if kind == "strolling":
        return replace(plain, sampling="strolling", band={"macs": (1.6e5, 4.8e5)})
    phases: dict[str, list[dict[str, Any]]] = {
        "teaches": [
            {"name": "largest", "epochs": 1, "largest": {"*": 1}, "teaches": True, "lr": 0.4},
            {"name": "all", "epochs": 1, "paths": 2, "lr": 0.1, "warmup_epochs": 0},
        ],
        "share": [{"name": "together", "epochs": 1, "share": ["parts"]}, {"name": "apart", "epochs": 1}],
    }
    schedule = Schedule.model_validate({"phases": phases[kind], "smallest_side": 0.5})
    split = ("stage1.block1.type",) if kind == "share" else ()
    return replace(plain, schedule=schedule, split=split)


def _combined_of_two(rank: int, folder: str, kind: str, data: DataSet, recipe: Recipe) -> None:
    """Train in one of two processes: to the end, and stopped in the second phase and resumed."""
    torch.set_num_threads(1)
    place = Path(folder)
    dist.init_process_group("gloo", init_method=f"file://{place / 'store'}", rank=rank, world_size=2)
    world = World(rank, 2, torch.device("cpu"))
    built: list[Supernet] = []
    build = SupernetPlan.build

    def kept(self: SupernetPlan) -> Supernet:
        built.append(build(self))
        return built[-1]

    SupernetPlan.build = kept  # type: ignore[method-assign]
    train_supernet(_combined(kind), data, recipe, output=place / "whole", world=world, workers=0)
    torch.save(built[-1].state_dict(), place / f"{rank}.pt")
    options: Any = {"output": place / "stopped", "world": world, "checkpoint_steps": 1, "workers": 0}
    with contextlib.suppress(KeyboardInterrupt):
        train_supernet(_combined(kind), data, recipe, **options, observer=Killer(5))
    train_supernet(_combined(kind), data, recipe, **options, resume="must")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["teaches", "strolling", "share"])
def test_processes_keep_one_supernet_whatever_is_trained(
    kind: str, patches: DataSet, short: Recipe, tmp_path: Path, alone: World
) -> None:
    """Eight steps: a teacher that is kept, a walk, parts that part; as one process takes them, and resumed."""
    plan = _combined(kind)
    data = split(patches, 0.2, plan)
    recipe = check_recipe(short.model_copy(update={"ema_decay": 0.9, "epochs": 2}))
    torch.multiprocessing.spawn(_combined_of_two, (str(tmp_path), kind, data, recipe), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    whole, stopped = (last_weights(tmp_path / name) for name in ("whole", "stopped"))
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)
    # The same steps as those of one process that takes as many paths one after another.
    parts = recipe.model_copy(update={"accumulate": 2})
    train_supernet(plan, data, parts, output=tmp_path / "one", world=alone, workers=0)
    for name, value in last_weights(tmp_path / "one").items():
        assert torch.allclose(value, whole[name], rtol=1e-2, atol=1e-3), name
    if kind == "teaches":
        taught = {name for name in first if name.startswith("teacher.")}
        assert any(
            not torch.equal(first[name], first[name.replace("teacher.", "layers.")]) for name in taught
        )
    if kind == "share":
        one, other = (f"stage1_block1_type={own}/stem/conv0.weight" for own in ("K1KXK1", "KXKX"))
        assert not torch.equal(whole[one], whole[other])


@pytest.mark.slow
def test_torchrun_trains_a_supernet(tmp_path: Path) -> None:
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "zenopt",
    ]
    words = [
        "supernet",
        "train",
        "--study",
        "nasbench-macro-table",
        "--set",
        "resolution=16",
        "--whole-space",
    ]
    options = ["--data", "synthetic:80", "--epochs", "1", "--recipe-set", "batch_size=32", "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*launcher, *words, *options, "--output", str(tmp_path / "net")],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.count("Drawn paths reach") == 1 and "shared by 2 processes" in done.stdout + done.stderr
    )
    assert read_supernet(tmp_path / "net").facts.sampling == "fair"
