"""The training loop.

Everything random in a step is a function of (seed, epoch, step, process), so a run that is killed and
resumed ends with the very weights of one that was not (on a CPU, with the same number of threads).
"""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from zenopt.core.errors import DataError
from zenopt.core.words import plural
from zenopt.train import checkpoint
from zenopt.train.data import DataSet
from zenopt.train.distributed import World
from zenopt.train.errors import CheckpointError, DivergedError
from zenopt.train.evaluate import Evaluation, evaluate
from zenopt.train.folder import check_free, held
from zenopt.train.layout import put_channels_last
from zenopt.train.loader import StepSampler, test_loader, train_loader
from zenopt.train.loggers import Loggers
from zenopt.train.objective import Objective
from zenopt.train.optim import REFERENCE_BATCH, MovingAverage, build_optimizer, learning_rate
from zenopt.train.progress import Observer, Silent
from zenopt.train.recipe import Recipe, differences
from zenopt.train.record import logged, write_history, write_metrics
from zenopt.train.regularise import prepare, set_drop_path

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
) -> RunResult:
    """Train a network, keeping `last.pt`, `best.pt`, `metrics.csv` and `metrics.json` in a folder.

    Args:
        network:
            A freshly built classifier for the data's classes; it is trained in place.
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

    Raises:
        DivergedError: A loss, weights or outputs are no longer numbers.
        TrainError: The disk is full, the folder already holds a run, or another command is at work in it.
        CheckpointError: The run in the folder is another one.
    """
    observer = observer or Silent()
    with contextlib.ExitStack() as stack:
        if world.is_first:
            stack.enter_context(held(output, note=observer.note))
        return _fit(
            stack,
            network,
            data,
            recipe,
            output,
            resolution,
            identity,
            world,
            seed,
            resume,
            workers,
            checkpoint_steps,
            teacher,
            loggers,
            observer,
        )


def _fit(
    stack: contextlib.ExitStack,
    network: nn.Module,
    data: DataSet,
    recipe: Recipe,
    output: Path,
    resolution: int,
    identity: dict[str, Any],
    world: World,
    seed: int,
    resume: str,
    workers: int,
    checkpoint_steps: int,
    teacher: tuple[nn.Module, int] | None,
    loggers: Sequence[str],
    observer: Observer,
) -> RunResult:
    device, crop_size, classes = world.device, recipe.crop_size or resolution, data.classes
    facts = {
        "network": identity,
        "recipe": recipe.model_dump(mode="json"),
        "classes": list(classes),
        "statistics": data.statistics,
        "seed": seed,
        "images": [len(data.train), len(data.test)],
    }
    saved = _find_run(output, resume, facts)

    # 1. The network, its losses, its optimiser.
    generator = torch.Generator().manual_seed(seed)
    network = prepare(network, recipe.model, generator, sync_bn=recipe.sync_bn).to(device)
    channels_last = recipe.precision.channels_last
    if channels_last:
        network = put_channels_last(network, device)
    if teacher is not None:
        teacher = (teacher[0].to(device), teacher[1])
    _seed_step(seed, (0, 0), world.rank)
    objective = Objective(network, recipe, len(classes), resolution, teacher).to(device)
    optimizer = build_optimizer([network, objective.extras], recipe.optimizer, recipe.batch_size)
    amp = AMP[recipe.precision.amp] if recipe.precision.amp else None
    scaler = torch.amp.GradScaler(device.type, enabled=amp is torch.float16)
    average = MovingAverage(network, recipe.ema_decay) if recipe.ema_decay else None
    judged = copy.deepcopy(network) if average else network  # what is evaluated and kept as `best`

    # 2. Where the run stands.
    state = RunState()
    if saved is not None:
        with checkpoint.restoring(output / checkpoint.LAST):
            network.load_state_dict(saved["model"])
            objective.extras.load_state_dict(saved["extras"])
            checkpoint.check_optimizer(saved["optimizer"], optimizer)
            optimizer.load_state_dict(saved["optimizer"])
            scaler.load_state_dict(saved["scaler"])
            if average is not None:
                judged.load_state_dict(saved["ema"]["state"])
                average.updates = saved["ema"]["updates"]
                average.state = {key: value.to(device) for key, value in saved["ema"]["state"].items()}
            state = RunState(**saved["state"])
            if state.confusion is not None and len(state.confusion) != len(classes):
                raise ValueError(f"a confusion matrix of {len(state.confusion)} classes")
        if not world.is_first:
            state.loss_sum = 0.0  # the first process holds the sum of all
        observer.note(f"Resumed after {plural(state.epoch, 'epoch')} and {plural(state.step, 'step')}.")

    # 3. The data, and the module whose gradients are averaged over processes.
    sampler = StepSampler(len(data.train), recipe.batch_size, seed, world.rank, world.size, recipe.accumulate)
    if state.step and state.step >= sampler.steps:
        raise CheckpointError(
            f"{output / checkpoint.LAST} stands at step {state.step} of an epoch of {sampler.steps} steps."
        )
    pin = device.type == "cuda"
    batches = train_loader(data, recipe, crop_size=crop_size, sampler=sampler, workers=workers, pin=pin)
    test_batches = test_loader(
        data, recipe, crop_size=crop_size, rank=world.rank, world=world.size, workers=min(workers, 2), pin=pin
    )
    model: nn.Module = objective
    if world.size > 1:
        model = DistributedDataParallel(objective, device_ids=[device] if device.type == "cuda" else None)
    if recipe.precision.compile:
        model = torch.compile(model)  # type: ignore[assignment]
    rates = {
        "steps_per_epoch": sampler.steps,
        "epochs": recipe.epochs,
        "peak": recipe.optimizer.lr * recipe.batch_size / REFERENCE_BATCH,
        "final": recipe.schedule.final_lr * recipe.batch_size / REFERENCE_BATCH,
        "schedule": recipe.schedule,
    }
    wanted = [*loggers, *(["tensorboard"] if recipe.tensorboard else [])] if world.is_first else []
    log = stack.enter_context(
        Loggers(
            wanted,
            folder=output,
            title=output.name,
            config={**facts, "data": data.name, "classes": len(classes)},
            first_step=state.epoch,
            note=observer.note,
        )
    )
    if state.history:
        log.log(state.epoch, logged(state.history[-1]))  # a crash may have come between checkpoint and log
    broken = set(data.broken)
    evaluation = None

    def keep() -> None:
        """Write `last.pt`: everything the run needs to go on exactly."""
        if world.is_first:
            content = {
                **facts,
                "model": network.state_dict(),
                "extras": objective.extras.state_dict(),
                "optimizer": optimizer.state_dict(),
                "scaler": scaler.state_dict(),
                "ema": {"updates": average.updates, "state": average.state} if average else None,
                "state": dict(vars(state)),
            }
            checkpoint.save(output / checkpoint.LAST, content)

    own_images = len(range(world.rank, len(data.test), world.size))

    def tell(done: int) -> None:
        observer.work("test images", done, own_images)

    # 4. The loop.
    while state.epoch < recipe.epochs:
        observer.start(state.epoch + 1, recipe.epochs, sampler.steps, state.step)
        if recipe.model.drop_path and recipe.model.drop_path_ramp == "epoch":
            set_drop_path(network, recipe.model.drop_path, state.epoch / recipe.epochs)
        sampler.epoch, sampler.first_step = state.epoch, state.step
        objective.train()
        precise = torch.float32 if device.type == "mps" else torch.float64  # Apple's GPUs have no float64
        loss_sum = torch.tensor(state.loss_sum, dtype=precise, device=device)
        started, images_done = time.perf_counter(), 0
        parts = iter(batches)
        for step in range(state.step, sampler.steps):
            lr = learning_rate(state.epoch * sampler.steps + step, **rates)  # type: ignore[arg-type]
            for group in optimizer.param_groups:
                group["lr"] = lr
            _seed_step(seed, (state.epoch, step), world.rank)  # drop-path and dropout
            for turn in range(recipe.accumulate):
                batch = next(parts)
                _report_broken(batch.broken, broken, observer)
                if not len(batch.images):
                    raise DataError(
                        f"None of the images of step {step} of epoch {state.epoch + 1} can be decoded."
                    )
                images = batch.images.to(device, non_blocking=True)
                targets = batch.targets.to(device, non_blocking=True)
                if channels_last:
                    images = images.contiguous(memory_format=torch.channels_last)
                # Gradients are exchanged once a step, with the last part.
                wait = world.size > 1 and turn < recipe.accumulate - 1
                with model.no_sync() if wait else contextlib.nullcontext():  # type: ignore[operator]
                    with torch.autocast(device.type, dtype=amp, enabled=amp is not None):
                        loss = model(images, targets) / recipe.accumulate
                    scaler.scale(loss).backward()
                loss_sum += loss.detach() / world.size
                images_done += len(images) * world.size
            if recipe.optimizer.clip_norm is not None:
                scaler.unscale_(optimizer)
                torch.nn.utils.clip_grad_norm_(objective.parameters(), recipe.optimizer.clip_norm)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
            if average is not None:
                average.update(network)
            # A loss that is no number stays in the sum; looking at it makes a GPU wait, so there only now and then.
            last = step == sampler.steps - 1
            if device.type == "cpu" or step % 20 == 0 or last:
                _check_finite(loss_sum, output, state.epoch, step, lr)
                observer.step(step + 1, float(loss.detach()) * recipe.accumulate, lr)
            if (step + 1) % checkpoint_steps == 0 and not last:
                _check_finite(loss_sum, output, state.epoch, step, lr)
                _check_weights(network, output, state.epoch)
                state.step, state.loss_sum = step + 1, float(world.sum(loss_sum))
                keep()
                if not world.is_first:
                    state.loss_sum = 0.0
                loss_sum.fill_(state.loss_sum)
        seconds = time.perf_counter() - started
        _check_weights(network, output, state.epoch)

        # 5. The end of an epoch: evaluate, record, keep.
        state.epoch, state.step, state.loss_sum = state.epoch + 1, 0, 0.0
        state.seconds += seconds
        evaluation = None
        if state.epoch % recipe.evaluation.every_epochs == 0 or state.epoch == recipe.epochs:
            if average is not None:
                judged.load_state_dict(average.state)
            evaluation = evaluate(
                judged,
                test_batches,
                num_classes=len(classes),
                resolution=resolution,
                world=world,
                amp=amp,
                on_batch=tell,
            )
            tell(own_images)
            _report_broken(evaluation.broken, broken, observer)
            if evaluation.undefined:
                raise DivergedError(
                    f"The network's outputs on {evaluation.undefined} of {evaluation.images} test images are no "
                    f"numbers after epoch {state.epoch} (lr {lr:.4g}); {_last_good(output)}. "
                    "A lower optimizer.lr helps."
                )
            state.confusion = evaluation.confusion
        row = {
            "epoch": state.epoch,
            "step": state.epoch * sampler.steps,
            "lr": lr,
            "train_loss": float(world.sum(loss_sum)) / sampler.steps,
            "test_loss": evaluation.loss if evaluation else None,
            "top1": evaluation.top1 if evaluation else None,
            "top5": evaluation.top5 if evaluation else None,
            "images_per_second": images_done / seconds,
            "seconds": seconds,
        }
        state.history.append(row)
        if evaluation and (state.best is None or evaluation.top1 > state.best["top1"]):
            state.best = row
            if world.is_first:
                content = {
                    **facts,
                    "model": judged.state_dict(),
                    "epoch": state.epoch,
                    "top1": evaluation.top1,
                }
                checkpoint.save(output / checkpoint.BEST, content)
        keep()
        metrics = _metrics(state, facts, broken, data)
        if world.is_first:
            write_history(output, state.history)
            write_metrics(output, metrics)
            log.log(state.epoch, logged(row))
        observer.end(row)
    metrics = _metrics(state, facts, broken, data)
    if world.is_first and evaluation is None:
        # The run was complete; whatever ended it may have come between its last checkpoint and these files.
        write_history(output, state.history)
        write_metrics(output, metrics)
    world.wait()
    return RunResult(metrics, evaluation, state.history, state.confusion, classes)


def _find_run(output: Path, resume: str, facts: dict[str, Any]) -> dict[str, Any] | None:
    """Return the checkpoint to continue from, after checking that it is of the same run."""
    if not check_free(output, resume):
        return None
    path = output / checkpoint.LAST
    saved = checkpoint.read(path, checkpoint.RUN)
    if len(saved["classes"]) != len(facts["classes"]):
        raise CheckpointError(
            f"{path} is of a run with {len(saved['classes'])} classes, the data here has {len(facts['classes'])}."
        )
    known = [key for key in facts if key in saved]
    different = differences({key: saved[key] for key in known}, {key: facts[key] for key in known})
    if different:
        raise CheckpointError(
            f"{path} is of another run: {', '.join(different)} differ; choose another --output, or the same settings."
        )
    return saved


def _seed_step(seed: int, place: Sequence[int], rank: int) -> None:
    """Seed torch's global generator, from which drop-path and dropout draw, for one step of one process."""
    state = torch.tensor([seed, *place, rank], dtype=torch.int64)
    mixed = 0
    for number in state.tolist():
        mixed = (mixed * 6364136223846793005 + number + 1442695040888963407) % 2**63
    torch.manual_seed(mixed)


def _check_finite(loss_sum: torch.Tensor, output: Path, epoch: int, step: int, lr: float) -> None:
    if not torch.isfinite(loss_sum):
        place = f"epoch {epoch + 1}, step {step + 1} (lr {lr:.4g})"
        raise DivergedError(
            f"The loss is no longer a number at {place}; {_last_good(output)}. A lower optimizer.lr helps."
        )


def _check_weights(network: nn.Module, output: Path, epoch: int) -> None:
    """Keep weights that are no numbers out of checkpoints: the loss of the step that made them was still one."""
    # The statistics of batch normalisation too: once infinite, they stay so.
    state = network.state_dict().values()
    if not all(bool(torch.isfinite(value).all()) for value in state if value.is_floating_point()):
        raise DivergedError(
            f"The weights are no longer numbers in epoch {epoch + 1}; {_last_good(output)}. A lower optimizer.lr helps."
        )


def _last_good(output: Path) -> str:
    path = output / checkpoint.LAST
    return f"the last good checkpoint is {path}" if path.is_file() else "no checkpoint was written before"


def _report_broken(found: Sequence[str], known: set[str], observer: Observer) -> None:
    for name in found:
        if name not in known:
            known.add(name)
            observer.note(f"Skipped a broken image: {name}")


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
