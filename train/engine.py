"""The training loop.

Everything random in a step is a function of (seed, epoch, step, process), so a run that is killed and
resumed ends with the very weights of one that was not (on a CPU, with the same number of threads).
"""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from zenopt.core.errors import DataError
from zenopt.core.words import plural
from zenopt.train import checkpoint
from zenopt.train.checks import (
    check_finite,
    check_weights,
    compiling,
    find_run,
    last_good,
    report_broken,
    seed_step,
)
from zenopt.train.data import DataSet
from zenopt.train.distributed import World
from zenopt.train.errors import CheckpointError, DivergedError
from zenopt.train.evaluate import Evaluation, evaluate
from zenopt.train.folder import held
from zenopt.train.graphs import GraphedStep, check_graphs
from zenopt.train.layout import put_channels_last
from zenopt.train.loader import Batch, StepSampler, resident, test_loader, train_loader
from zenopt.train.loggers import Loggers
from zenopt.train.objective import Objective
from zenopt.train.optim import (
    MovingAverage,
    Stretch,
    build_optimizer,
    learning_rate,
    set_numbers,
    stretch_at,
    whole_run,
)
from zenopt.train.progress import Observer, Silent
from zenopt.train.recipe import Recipe
from zenopt.train.record import COLUMNS, logged, write_history, write_metrics
from zenopt.train.regularise import check_rates, prepare, set_rates

AMP = {"fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass
class RunState:
    """Where a run stands: `epoch` epochs are done, and `step` steps of the next one.

    Attributes:
        loss_sum: Sum over the steps done in the current epoch of the loss, averaged over processes.
        history: A row for each epoch done.
        best: The row of the best top-1 so far.
        confusion: Of the last evaluation.
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] | None = None
    confusion: torch.Tensor | None = None


@dataclass(frozen=True)
class RunResult:
    """What a run came to.

    Attributes:
        metrics: What `metrics.json` holds.
        evaluation: The last evaluation; None if the run was already complete.
        history: A row for each epoch.
        confusion: Of the last evaluation, `classes x classes` counts; rows are true classes.
        classes: Their names.
    """

    metrics: dict[str, Any]
    evaluation: Evaluation | None
    history: list[dict[str, Any]]
    confusion: torch.Tensor | None
    classes: tuple[str, ...]


def fit(
    network: nn.Module,
    data: DataSet,
    recipe: Recipe,
    *,
    output: Path,
    resolution: int,
    identity: dict[str, Any],
    world: World,
    seed: int = 0,
    resume: Literal["never", "must", "auto"] = "never",
    workers: int = 0,
    checkpoint_steps: int = 1000,
    teacher: tuple[nn.Module, int] | None = None,
    loggers: Sequence[str] = (),
    observer: Observer | None = None,
    resident_data: bool = True,
    stretches: Sequence[Stretch] = (),
    on_epoch: Callable[[int, Mapping[str, torch.Tensor]], None] | None = None,
) -> RunResult:
    """Train a network, keeping `last.pt`, `best.pt`, `metrics.csv` and `metrics.json` in a folder.

    Args:
        network:
            A freshly built classifier for the data's classes; it is trained in place. If it has a method
            `before_step(optimizer, average)`, that is called before every step.
        data:
            Training and test images.
        recipe:
            How to train.
        output:
            The folder of the run; made if need be.
        resolution:
            The network's input side, pixels.
        identity:
            What the network is (see `NetworkSource.facts`); kept in checkpoints, and compared on resume.
        world:
            The processes of the run, and this one's device.
        seed:
            Of initial weights, order and augmentation.
        resume:
            `never` refuses a folder that holds a run, `must` continues it, `auto` continues it if there is one.
        workers:
            Loader processes; they change the speed alone.
        checkpoint_steps:
            Steps of an epoch between two writings of `last.pt`; it is also written after every epoch.
        teacher:
            A teacher with its weights and its input side, when the recipe distils.
        loggers:
            Told of every epoch, besides the run's own files: names of :data:`zenopt.train.loggers.LOGGERS`.
        observer:
            Shown the progress.
        resident_data:
            On a GPU, keep images that lie in memory there, and make batches there; the batches are the same.
        stretches:
            Parts of the run with learning-rate schedules of their own, in order; by default it has the recipe's alone.
        on_epoch:
            Called in the first process after every epoch, before `last.pt` is written, with the number of epochs done
            and the weights that are judged: what it keeps of an epoch is there once the run goes on from that epoch.

    Raises:
        DivergedError: A loss, weights or outputs are no longer numbers.
        TrainError: The disk is full, the folder already holds a run, or another command is at work in it.
        CheckpointError: The run in the folder is another one.
    """
    observer = observer or Silent()
    with contextlib.ExitStack() as stack:
        if world.is_first:
            stack.enter_context(held(output, note=observer.note))
        run = _Run(network, data, recipe, output, resolution, identity, world, seed, observer)
        saved = find_run(output, resume, run.facts)
        run.build(teacher)
        if saved is not None:
            run.restore(saved)
        run.open_data(workers, resident_data, stretches)
        run.distribute()
        wanted = [*loggers, *(["tensorboard"] if recipe.tensorboard else [])] if world.is_first else []
        log = stack.enter_context(
            Loggers(
                wanted,
                folder=output,
                title=output.name,
                config={**run.facts, "data": data.name, "classes": len(data.classes)},
                first_step=run.state.epoch,
                note=observer.note,
            )
        )
        return run.train(log, checkpoint_steps, on_epoch)


class _Run:
    """A training: built, put where an earlier one stopped, and taken on epoch by epoch.

    The arguments are those of :func:`fit`. `judged` is what is evaluated and kept as `best`: the network, or its
    moving average. `model` is what a step runs: the network with its losses, over processes and compiled as the recipe
    says.
    """

    def __init__(
        self,
        network: nn.Module,
        data: DataSet,
        recipe: Recipe,
        output: Path,
        resolution: int,
        identity: dict[str, Any],
        world: World,
        seed: int,
        observer: Observer,
    ) -> None:
        self.network, self.data, self.recipe, self.output = network, data, recipe, output
        self.resolution, self.world, self.seed, self.observer = resolution, world, seed, observer
        self.device = world.device
        self.amp = AMP[recipe.precision.amp] if recipe.precision.amp else None
        self.state = RunState()
        #: The recipe of the current epoch.
        self.now = recipe.at_epoch(0)
        self.changing = recipe.changing()
        self.broken = set(data.broken)
        self.evaluation: Evaluation | None = None
        self.facts = {
            "network": identity,
            "recipe": recipe.model_dump(mode="json"),
            "classes": list(data.classes),
            "statistics": data.statistics,
            "seed": seed,
            "images": [len(data.train), len(data.test)],
        }
        if recipe.precision.compile == "graphs":
            check_graphs(recipe, world)

    # -- before the first step --------------------------------------------------------------------------------------

    def build(self, teacher: tuple[nn.Module, int] | None) -> None:
        """Make the network ready, its losses, its optimiser."""
        recipe, device = self.recipe, self.device
        generator = torch.Generator().manual_seed(self.seed)
        check_rates(self.network, recipe.model)
        self.network = prepare(self.network, self.now.model, generator, sync_bn=recipe.sync_bn).to(device)
        self.channels_last = recipe.precision.channels_last
        if self.channels_last:
            self.network = put_channels_last(self.network, device)
        if teacher is not None:
            teacher = (teacher[0].to(device), teacher[1])
        seed_step(self.seed, (0, 0), self.world.rank)
        classes = len(self.data.classes)
        self.objective = Objective(self.network, recipe, classes, self.resolution, teacher).to(device)
        self.optimizer = build_optimizer(
            [self.network, self.objective.extras], self.now.optimizer, recipe.batch_size
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.amp is torch.float16)
        self.average = MovingAverage(self.network, recipe.ema_decay) if recipe.ema_decay else None
        self.judged = copy.deepcopy(self.network) if self.average else self.network
        self.before_step: Callable[..., None] | None = getattr(self.network, "before_step", None)

    def restore(self, saved: dict[str, Any]) -> None:
        """Put everything where a checkpoint says."""
        with checkpoint.restoring(self.output / checkpoint.LAST):
            self.network.load_state_dict(saved["model"])
            self.objective.extras.load_state_dict(saved["extras"])
            checkpoint.check_optimizer(saved["optimizer"], self.optimizer)
            self.optimizer.load_state_dict(saved["optimizer"])
            self.scaler.load_state_dict(saved["scaler"])
            if self.average is not None:
                self.judged.load_state_dict(saved["ema"]["state"])
                self.average.updates = saved["ema"]["updates"]
                self.average.state = {
                    key: value.to(self.device) for key, value in saved["ema"]["state"].items()
                }
            state = RunState(**saved["state"])
            if state.confusion is not None and len(state.confusion) != len(self.data.classes):
                raise ValueError(f"a confusion matrix of {len(state.confusion)} classes")
        if not self.world.is_first:
            state.loss_sum = 0.0  # the first process holds the sum of all
        self.state = state
        done = f"{plural(state.epoch, 'epoch')} and {plural(state.step, 'step')}"
        self.observer.note(f"Resumed after {done}.")

    def open_data(self, workers: int, resident_data: bool, stretches: Sequence[Stretch]) -> None:
        """Open the batches; say how the learning rate goes over them."""
        data, recipe, world, state = self.data, self.recipe, self.world, self.state
        crop_size = recipe.crop_size or self.resolution
        self.sampler = StepSampler(
            len(data.train), recipe.batch_size, self.seed, world.rank, world.size, recipe.accumulate
        )
        if state.step and state.step >= self.sampler.steps:
            path, steps = self.output / checkpoint.LAST, self.sampler.steps
            raise CheckpointError(f"{path} stands at step {state.step} of an epoch of {steps} steps.")
        self.stretches = stretches or (whole_run(recipe, self.sampler.steps),)
        on_gpu = self.device.type == "cuda"
        placed = resident(data, recipe, crop_size, self.device) if on_gpu and resident_data else None
        pin = on_gpu and placed is None
        workers = workers if placed is None else 0
        self.batches = train_loader(
            placed or data, recipe, crop_size=crop_size, sampler=self.sampler, workers=workers, pin=pin
        )
        self.test_batches = test_loader(
            placed or data,
            recipe,
            crop_size=crop_size,
            rank=world.rank,
            world=world.size,
            workers=min(workers, 2),
            pin=pin,
        )
        self.own_images = len(range(world.rank, len(data.test), world.size))

    def distribute(self) -> None:
        """Make the module whose gradients are averaged over processes; compile it, if the recipe says so."""
        device, precision = self.device, self.recipe.precision
        self.model: nn.Module = self.objective
        if self.world.size > 1:
            # Processes of a network that makes its own loss train other parts of it in the same step: what one of them
            # lacks counts as a gradient of zero, what all of them lack has none.
            has_parts = hasattr(self.network, "training_loss")
            self.model = DistributedDataParallel(
                self.objective,
                device_ids=[device] if device.type == "cuda" else None,
                find_unused_parameters=has_parts,
            )
        self.backward: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = self._backward
        if precision.compile == "graphs":
            self.backward = GraphedStep(self._backward, self.objective, device)
        elif precision.compile:
            mode = None if precision.compile is True else precision.compile
            self.model = torch.compile(self.model, mode=mode)  # type: ignore[assignment]

    # -- the loop ---------------------------------------------------------------------------------------------------

    def train(
        self,
        log: Loggers,
        checkpoint_steps: int,
        on_epoch: Callable[[int, Mapping[str, torch.Tensor]], None] | None = None,
    ) -> RunResult:
        """Do the epochs that are left."""
        state, world = self.state, self.world
        if state.history:
            # A crash may have come between checkpoint and log.
            log.log(state.epoch, logged(state.history[-1]))
        while state.epoch < self.recipe.epochs:
            row = self._epoch(checkpoint_steps)
            state.history.append(row)
            self._keep_best(row)
            if on_epoch is not None and world.is_first:
                on_epoch(state.epoch, self.average.state if self.average else self.network.state_dict())
            self._keep()
            metrics = _metrics(state, self.facts, self.broken, self.data)
            if world.is_first:
                write_history(self.output, state.history, (*COLUMNS, *self.changing))
                write_metrics(self.output, metrics)
                log.log(state.epoch, logged(row))
            self.observer.end(row)
        metrics = _metrics(state, self.facts, self.broken, self.data)
        if world.is_first and self.evaluation is None:
            # The run was complete; whatever ended it may have come between its last checkpoint and these files.
            write_history(self.output, state.history, (*COLUMNS, *self.changing))
            write_metrics(self.output, metrics)
        world.wait()
        return RunResult(metrics, self.evaluation, state.history, state.confusion, self.data.classes)

    def _epoch(self, checkpoint_steps: int) -> dict[str, Any]:
        """Train an epoch, or what is left of it, and evaluate; return its row of the history."""
        state, recipe, sampler = self.state, self.recipe, self.sampler
        self.observer.start(state.epoch + 1, recipe.epochs, sampler.steps, state.step)
        self._take_numbers()
        sampler.epoch, sampler.first_step = state.epoch, state.step
        self.objective.train()
        # Apple's GPUs have no float64.
        precise = torch.float32 if self.device.type == "mps" else torch.float64
        self.loss_sum = torch.tensor(state.loss_sum, dtype=precise, device=self.device)
        started, self.images_done = time.perf_counter(), 0
        parts = iter(self.batches)
        lr = 0.0
        for step in range(state.step, sampler.steps):
            lr = self._step(step, parts)
            last = step == sampler.steps - 1
            if (step + 1) % checkpoint_steps == 0 and not last:
                self._keep_amid(step, lr)
        seconds = time.perf_counter() - started
        check_weights(self.network, self.output, state.epoch)
        state.epoch, state.step, state.loss_sum = state.epoch + 1, 0, 0.0
        state.seconds += seconds
        self.evaluation = found = self._evaluate(lr) if self._is_judged() else None
        return {
            "epoch": state.epoch,
            "step": state.epoch * sampler.steps,
            "lr": lr,
            "train_loss": float(self.world.sum(self.loss_sum)) / sampler.steps,
            "test_loss": found.loss if found else None,
            "top1": found.top1 if found else None,
            "top5": found.top5 if found else None,
            "images_per_second": self.images_done / seconds,
            "seconds": seconds,
            **{path: float(own.at(state.epoch - 1)) for path, own in self.changing.items()},
        }

    def _take_numbers(self) -> None:
        """Give network, losses and optimiser the numbers of the epoch that begins; batches know theirs."""
        recipe, epoch = self.recipe, self.state.epoch
        ramps = bool(recipe.model.drop_path) and recipe.model.drop_path_ramp == "epoch"
        before, self.now = self.now, recipe.at_epoch(epoch)
        if self.now is recipe and not ramps:
            return
        set_rates(self.network, self.now.model, epoch / recipe.epochs)
        self.objective.take(self.now)
        set_numbers(self.optimizer, self.now.optimizer)
        parts = [(own.model, own.loss, own.distill) for own in (before, self.now)]
        if isinstance(self.backward, GraphedStep) and (ramps or parts[0] != parts[1]):
            self.backward.forget()  # these are constants of the graph

    def _step(self, step: int, parts: Iterator[Batch]) -> float:
        """Take one step of the optimiser; return its learning rate."""
        state, recipe = self.state, self.recipe
        number = state.epoch * self.sampler.steps + step
        stretch = stretch_at(self.stretches, number)
        if stretch.is_new and number == stretch.start:
            self.optimizer.state.clear()
        lr = learning_rate(number, stretch, recipe)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        if self.before_step is not None:
            self.before_step(self.optimizer, self.average)
        seed_step(self.seed, (state.epoch, step), self.world.rank)  # drop-path and dropout
        if recipe.precision.compile == "reduce-overhead":
            torch.compiler.cudagraph_mark_step_begin()
        for turn in range(recipe.accumulate):
            images, targets = self._batch(next(parts), step)
            # Gradients are exchanged once a step, with the last part.
            wait = self.world.size > 1 and turn < recipe.accumulate - 1
            with self.model.no_sync() if wait else contextlib.nullcontext():  # type: ignore[operator]
                loss = self.backward(images, targets)
            self.loss_sum += loss / self.world.size
            self.images_done += len(images) * self.world.size
        if (clip_norm := self.now.optimizer.clip_norm) is not None:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.objective.parameters(), clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(self.network)
        # A loss that is no number stays in the sum; looking at it makes a GPU wait, so there only now and then.
        if self.device.type == "cpu" or step % 20 == 0 or step == self.sampler.steps - 1:
            check_finite(self.loss_sum, self.output, state.epoch, step, lr)
            self.observer.step(step + 1, float(loss) * recipe.accumulate, lr)
        return lr

    def _batch(self, batch: Batch, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images and targets on the device."""
        report_broken(batch.broken, self.broken, self.observer)
        if not len(batch.images):
            raise DataError(
                f"None of the images of step {step} of epoch {self.state.epoch + 1} can be decoded."
            )
        images = batch.images.to(self.device, non_blocking=True)
        targets = batch.targets.to(self.device, non_blocking=True)
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return images, targets

    def _backward(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Add the gradients of a part of a step; return its loss, as a share of the step's."""
        is_compiled = self.model is not self.objective and bool(self.recipe.precision.compile)
        with compiling(is_compiled, self.device):
            with torch.autocast(self.device.type, dtype=self.amp, enabled=self.amp is not None):
                loss = self.model(images, targets) / self.recipe.accumulate
            self.scaler.scale(loss).backward()
        return loss.detach()

    def _is_judged(self) -> bool:
        state, recipe = self.state, self.recipe
        return state.epoch % recipe.evaluation.every_epochs == 0 or state.epoch == recipe.epochs

    def _evaluate(self, lr: float) -> Evaluation:
        """Judge the network after an epoch."""
        if self.average is not None:
            self.judged.load_state_dict(self.average.state)

        def tell(done: int) -> None:
            self.observer.work(f"{self.data.judged_on} images", done, self.own_images)

        found = evaluate(
            self.judged,
            self.test_batches,
            num_classes=len(self.data.classes),
            resolution=self.resolution,
            world=self.world,
            amp=self.amp,
            on_batch=tell,
        )
        tell(self.own_images)
        report_broken(found.broken, self.broken, self.observer)
        if found.undefined:
            raise DivergedError(
                f"The network's outputs on {found.undefined} of {found.images} {self.data.judged_on} "
                f"images are no numbers after epoch {self.state.epoch} (lr {lr:.4g}); {last_good(self.output)}. "
                "A lower optimizer.lr helps."
            )
        self.state.confusion = found.confusion
        return found

    # -- checkpoints ------------------------------------------------------------------------------------------------

    def _keep_amid(self, step: int, lr: float) -> None:
        """Write `last.pt` in the middle of an epoch."""
        state = self.state
        check_finite(self.loss_sum, self.output, state.epoch, step, lr)
        check_weights(self.network, self.output, state.epoch)
        state.step, state.loss_sum = step + 1, float(self.world.sum(self.loss_sum))
        self._keep()
        if not self.world.is_first:
            state.loss_sum = 0.0
        self.loss_sum.fill_(state.loss_sum)

    def _keep(self) -> None:
        """Write `last.pt`: everything the run needs to go on exactly."""
        if self.world.is_first:
            average = self.average
            content = {
                **self.facts,
                "model": self.network.state_dict(),
                "extras": self.objective.extras.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "ema": {"updates": average.updates, "state": average.state} if average else None,
                "state": dict(vars(self.state)),
            }
            checkpoint.save(self.output / checkpoint.LAST, content)

    def _keep_best(self, row: dict[str, Any]) -> None:
        """Write `best.pt` if the epoch is the best so far."""
        state, top1 = self.state, row["top1"]
        if top1 is None or (state.best is not None and top1 <= state.best["top1"]):
            return
        state.best = row
        if self.world.is_first:
            content = {**self.facts, "model": self.judged.state_dict(), "epoch": state.epoch, "top1": top1}
            checkpoint.save(self.output / checkpoint.BEST, content)


def _metrics(state: RunState, facts: dict[str, Any], broken: set[str], data: DataSet) -> dict[str, Any]:
    judged = [row for row in state.history if row["top1"] is not None]
    last = judged[-1] if judged else {}
    return {
        "top1": last.get("top1"),
        "top5": last.get("top5"),
        "loss": last.get("test_loss"),
        "train_loss": state.history[-1]["train_loss"] if state.history else None,
        "best": {"epoch": state.best["epoch"], "top1": state.best["top1"], "top5": state.best["top5"]}
        if state.best
        else None,
        "epochs": state.epoch,
        "steps": state.history[-1]["step"] if state.history else 0,
        "seconds": state.seconds,
        "train_images": len(data.train),
        "test_images": len(data.test),
        "broken_images": len(broken),
        "classes": len(data.classes),
        "data": data.name,
        "network": facts["network"],
        "seed": facts["seed"],
        "recipe": facts["recipe"],
    }
