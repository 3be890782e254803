"""The loop of a differentiable search: weights and alphas take turns, and every epoch says what would be derived.

Everything random in a step is a function of (seed, epoch, step), so a search that is killed and resumed ends with the
very alphas of one that was not (on a CPU, with the same number of threads).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F

from zenopt.core.errors import CheckpointError
from zenopt.core.words import plural
from zenopt.differentiable.bilevel import gradients, unrolled
from zenopt.differentiable.cost import CostTable, with_cost
from zenopt.differentiable.curve import logged, row_text
from zenopt.differentiable.files import COLUMNS, EpochRow, SearchState, find_search, save
from zenopt.differentiable.held_back import HeldBackSampler
from zenopt.differentiable.network import Mixture
from zenopt.differentiable.plan import SearchPlan
from zenopt.differentiable.regularisers import beta_decay, dominant_eigenvalue, epoch_to_return_to
from zenopt.differentiable.relaxations import Weights
from zenopt.train import checkpoint
from zenopt.train.checks import check_finite, check_weights, report_broken, seed_step
from zenopt.train.data import DataSet
from zenopt.train.engine import AMP
from zenopt.train.features import reduce_images
from zenopt.train.folder import held
from zenopt.train.layout import put_channels_last
from zenopt.train.loader import Batch, StepSampler, resident, train_loader
from zenopt.train.loggers import Loggers
from zenopt.train.optim import build_optimizer, learning_rate, set_numbers, whole_run
from zenopt.train.progress import Observer, Silent
from zenopt.train.record import write_history, write_metrics
from zenopt.train.regularise import prepare

#: Which of a step's draws: those of the weights' batch, those of the alphas'.
_OF_WEIGHTS, _OF_ALPHAS = 0, 1


@dataclass(frozen=True)
class SearchResult:
    """What a search came to.

    Attributes:
        architecture: What was derived.
        epoch: After which epoch.
        curve: A row for each epoch.
        facts: What was searched, and how.
        seconds: Of all epochs.
        was_ended: Whether a rule ended it before its last epoch.
    """

    architecture: Any
    epoch: int
    curve: list[EpochRow]
    facts: dict[str, Any]
    seconds: float
    was_ended: bool


def search(
    plan: SearchPlan,
    data: DataSet,
    *,
    output: Path,
    device: torch.device,
    resume: Literal["never", "must", "auto"] = "never",
    workers: int = 0,
    checkpoint_steps: int = 1000,
    loggers: Sequence[str] = (),
    observer: Observer | None = None,
    on_epoch: Callable[[int], None] | None = None,
) -> SearchResult:
    """Search, keeping `last.pt`, `metrics.csv` and `metrics.json` in a folder.

    Args:
        plan:
            What is searched, and how.
        data:
            Training images for the weights; its test part is held back from them, for the alphas.
        output:
            The folder of the search; made if need be.
        device:
            Where to compute.
        resume:
            `never` refuses a folder that holds a run, `must` continues it, `auto` continues it if there is one.
        workers:
            Loader processes; they change the speed alone.
        checkpoint_steps:
            Steps of an epoch between two writings of `last.pt`; it is also written after every epoch.
        loggers:
            Told of every epoch: names of :data:`zenopt.train.loggers.LOGGERS`.
        observer:
            Shown the progress.
        on_epoch:
            Called after every epoch, with how many are done.

    Raises:
        DivergedError: A loss or weights are no longer numbers.
        TrainError: The disk is full, the folder already holds a run, or another command is at work in it.
        CheckpointError: The run in the folder is another one.
    """
    observer = observer or Silent()
    with ExitStack() as stack:
        stack.enter_context(held(output, note=observer.note))
        run = Search(plan, data, output, device, observer)
        saved = find_search(output, resume, run.facts)
        run.build()
        if saved is not None:
            run.restore(saved)
        run.open_data(workers)
        config = {**run.facts, "classes": len(data.classes)}
        log = stack.enter_context(
            Loggers(
                [*loggers, *(["tensorboard"] if plan.recipe.tensorboard else [])],
                folder=output,
                title=output.name,
                config=config,
                first_step=run.state.epoch,
                note=observer.note,
            )
        )
        return run.search(log, checkpoint_steps, on_epoch)


class Search:
    """A search: built, put where an earlier one stopped, and taken on epoch by epoch.

    The arguments are those of :func:`search`.
    """

    def __init__(
        self, plan: SearchPlan, data: DataSet, output: Path, device: torch.device, observer: Observer
    ) -> None:
        self.plan, self.data, self.output, self.device, self.observer = plan, data, output, device, observer
        self.method, self.recipe = plan.method, plan.recipe
        #: The recipe of the current epoch.
        self.now = plan.recipe.at_epoch(0)
        self.changing = plan.recipe.changing()
        self.amp = AMP[plan.recipe.precision.amp] if plan.recipe.precision.amp else None
        self.facts = plan.facts(data)
        self.state = SearchState()
        self.broken = set(data.broken)
        self.costs: CostTable | None = None
        if self.method.cost.kind != "none":
            assert plan.measure is not None
            self.costs = CostTable.measured(plan.opened, plan.measure)

    # -- before the first step --------------------------------------------------------------------------------------

    def build(self) -> None:
        """Make the network and both optimisers."""
        recipe = self.recipe
        model = self.plan.build()
        generator = torch.Generator().manual_seed(self.plan.seed)
        model.network = prepare(model.network, self.now.model, generator)  # type: ignore[assignment]
        self.model = model.to(self.device)
        if recipe.precision.channels_last:
            put_channels_last(model.network, self.device)
        self.weights = list(model.network.parameters())
        self.alphas = list(model.alphas.values())
        self.optimizer = build_optimizer([model.network], self.now.optimizer, recipe.batch_size)
        own = self.method.alphas
        self.alpha_optimizer = torch.optim.Adam(
            self.alphas, lr=own.lr, betas=own.betas, weight_decay=own.weight_decay
        )

    def restore(self, saved: Any) -> None:
        """Put everything where a checkpoint says."""
        with checkpoint.restoring(self.output / checkpoint.LAST):
            self.model.load_state_dict(saved["model"])
            for key, optimizer in (("optimizer", self.optimizer), ("alpha_optimizer", self.alpha_optimizer)):
                checkpoint.check_optimizer(saved[key], optimizer)
                optimizer.load_state_dict(saved[key])
            self.state = saved["state"]
            self.state.check(self.plan.opened.choices, self.recipe.epochs)
        done = f"{plural(self.state.epoch, 'epoch')} and {plural(self.state.step, 'step')}"
        self.observer.note(f"Resumed after {done}.")

    def open_data(self, workers: int = 0) -> None:
        """Open the batches of weights and alphas."""
        data, recipe, seed = self.data, self.recipe, self.plan.seed
        self.crop_size = crop_size = recipe.crop_size or self.plan.resolution
        is_gpu = self.device.type == "cuda"
        placed = resident(data, recipe, crop_size, self.device) if is_gpu else None
        if placed is not None:
            data, workers = placed, 0
        pin = is_gpu and placed is None
        self.held_back = replace(data, train=data.test)
        self.sampler = StepSampler(len(data.train), recipe.batch_size, seed)
        if self.state.step and self.state.step >= self.sampler.steps:
            path, steps = self.output / checkpoint.LAST, self.sampler.steps
            raise CheckpointError(f"{path} stands at step {self.state.step} of an epoch of {steps} steps.")
        self.batches = train_loader(
            data, recipe, crop_size=crop_size, sampler=self.sampler, workers=workers, pin=pin
        )
        # Another order than that of the weights' images.
        self.held_sampler = HeldBackSampler(
            len(data.test), recipe.batch_size, seed + 2**31, self.sampler.steps
        )
        self.held_batches = train_loader(
            self.held_back,
            recipe,
            crop_size=crop_size,
            sampler=self.held_sampler,  # type: ignore[arg-type]
            workers=workers,
            pin=pin,
        )

    # -- the loop ---------------------------------------------------------------------------------------------------

    def search(
        self, log: Loggers, checkpoint_steps: int, on_epoch: Callable[[int], None] | None = None
    ) -> SearchResult:
        """Do the epochs that are left."""
        state, epochs = self.state, self.recipe.epochs
        if state.curve:
            # A crash may have come between checkpoint and log.
            log.log(state.epoch, self._logged(state.curve[-1]))
        while state.epoch < epochs and state.taken is None:
            row = self._epoch(checkpoint_steps)
            state.curve.append(row)
            state.taken = self._taken()
            self._keep()
            log.log(state.epoch, self._logged(row))
            self.observer.note(row_text(row, epochs))
            if on_epoch is not None:
                on_epoch(state.epoch)
        result = self._result()
        rows = [{**row.model_dump(), **self._settings(row)} for row in state.curve]
        write_history(self.output, rows, (*COLUMNS, *self.changing))
        write_metrics(
            self.output,
            {
                "architecture": str(result.architecture),
                "epoch": result.epoch,
                "was_ended": result.was_ended,
                "seconds": result.seconds,
                "choices": self.plan.opened.choices,
                "curve": rows,
                **self.facts,
            },
        )
        return result

    def _settings(self, row: EpochRow) -> dict[str, float]:
        """Return the settings that change over the search as they were in an epoch."""
        return {path: float(own.at(row.epoch - 1)) for path, own in self.changing.items()}

    def _logged(self, row: EpochRow) -> dict[str, float | None]:
        settings = {f"settings/{path}": value for path, value in self._settings(row).items()}
        return {**logged(row, self.plan.opened.choices), **settings}

    def _result(self) -> SearchResult:
        state = self.state
        epoch = state.taken or state.epoch
        derived = self.plan.opened.derive(state.curve[epoch - 1].probabilities)
        return SearchResult(
            derived, epoch, state.curve, self.facts, state.seconds, was_ended=state.taken is not None
        )

    def _epoch(self, checkpoint_steps: int) -> EpochRow:
        """Do an epoch, or what is left of it; return its row of the curve."""
        state, steps = self.state, self.sampler.steps
        self.observer.start(state.epoch + 1, self.recipe.epochs, steps, state.step)
        for sampler in (self.sampler, self.held_sampler):
            sampler.epoch, sampler.first_step = state.epoch, state.step
        precise = torch.float32 if self.device.type == "mps" else torch.float64
        self.sums = torch.tensor(state.sums, dtype=precise, device=self.device)
        self.temperature = self.method.temperature.at(state.epoch, self.recipe.epochs)
        self.now = self.recipe.at_epoch(state.epoch)
        if self.now is not self.recipe:
            set_numbers(self.optimizer, self.now.optimizer)
        started = time.perf_counter()
        self.model.train()
        lr = 0.0
        for step, (images, held_back) in enumerate(self._pairs(), start=state.step):
            lr = self._step(step, images, held_back)
            if (step + 1) % checkpoint_steps == 0 and step < steps - 1:
                check_weights(self.model, self.output, state.epoch)
                state.step, state.sums = step + 1, self.sums.tolist()
                self._keep()
        if not self._alphas_learn_apart:
            self._judge()
        seconds = time.perf_counter() - started
        check_weights(self.model, self.output, state.epoch)
        eigenvalue = self._eigenvalue()
        sums = self.sums.tolist()
        state.epoch, state.step, state.sums = state.epoch + 1, 0, [0.0] * 6
        state.seconds += seconds
        return self._row(lr, sums, seconds, eigenvalue)

    @property
    def _alphas_learn(self) -> bool:
        return self.state.epoch >= self.method.warmup * self.recipe.epochs

    @property
    def _alphas_learn_apart(self) -> bool:
        """Whether alphas learn from held-back images in this epoch."""
        return self.method.level == "bilevel" and self._alphas_learn

    def _pairs(self) -> Iterator[tuple[Batch, Batch | None]]:
        if self._alphas_learn_apart:
            yield from zip(self.batches, self.held_batches, strict=True)
        else:
            yield from ((batch, None) for batch in self.batches)

    def _step(self, step: int, batch: Batch, held_batch: Batch | None) -> float:
        """Take a step of the alphas and one of the weights; return the learning rate of the weights."""
        state, steps = self.state, self.sampler.steps
        lr = learning_rate(state.epoch * steps + step, whole_run(self.recipe, steps), self.recipe)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        pair = self._placed(batch)
        if held_batch is not None:
            self._step_alphas(step, pair, self._placed(held_batch))
        joint = self.method.level == "single" and self._alphas_learn
        mixture = self._draw(step, _OF_WEIGHTS)
        if not joint:
            mixture = {name: Weights(own.values.detach(), own.drawn) for name, own in mixture.items()}
        loss = self._loss(mixture, *pair, of=_OF_WEIGHTS)
        parameters = [*self.weights, *(self.alphas if joint else ())]
        self._set(parameters, gradients(self._with_terms(loss, mixture) if joint else loss, parameters))
        if (clip_norm := self.now.optimizer.clip_norm) is not None:
            torch.nn.utils.clip_grad_norm_(self.weights, clip_norm)
        self.optimizer.step()
        if joint:
            self.alpha_optimizer.step()
        if self.device.type == "cpu" or step % 20 == 0 or step == self.sampler.steps - 1:
            check_finite(self.sums.sum(), self.output, state.epoch, step, lr)
            self.observer.step(step + 1, float(loss.detach()), lr)
        return lr

    def _step_alphas(
        self, step: int, pair: tuple[torch.Tensor, torch.Tensor], held_pair: tuple[torch.Tensor, torch.Tensor]
    ) -> None:
        def held_loss() -> torch.Tensor:
            mixture = self._draw(step, _OF_ALPHAS)
            return self._with_terms(self._loss(mixture, *held_pair, of=_OF_ALPHAS), mixture)

        if self.method.order == 1:
            found = gradients(held_loss(), self.alphas)
        else:

            def train_loss() -> torch.Tensor:
                return self._loss(self._draw(step, _OF_WEIGHTS), *pair)

            _, found = unrolled(self.alphas, self.optimizer, train_loss, held_loss)
        self._set(self.alphas, found)
        self.alpha_optimizer.step()

    @staticmethod
    def _set(parameters: Sequence[torch.Tensor], found: Sequence[torch.Tensor]) -> None:
        for parameter, gradient in zip(parameters, found, strict=True):
            parameter.grad = gradient

    def _draw(self, step: int, which: int) -> dict[str, Weights]:
        seed_step(self.plan.seed, (self.state.epoch, step, which), 0)
        return self.model.draw(self.temperature)

    def _loss(
        self, mixture: Mixture, images: torch.Tensor, targets: torch.Tensor, of: int | None = None
    ) -> torch.Tensor:
        """Return the loss of a batch; ``of`` says to which sums it adds."""
        with torch.autocast(self.device.type, dtype=self.amp, enabled=self.amp is not None):
            logits = self.model(images, mixture)
            loss = F.cross_entropy(logits, targets, label_smoothing=self.now.loss.label_smoothing)
        if of is not None:
            labels = targets if targets.ndim == 1 else targets.argmax(1)
            own = self.sums[3 * of : 3 * of + 3]
            own[0] += loss.detach() * len(images)
            own[1] += (logits.detach().argmax(1) == labels).sum()
            own[2] += len(images)
        return loss

    def _with_terms(self, loss: torch.Tensor, mixture: Mixture) -> torch.Tensor:
        """Return the loss of alphas: with the terms for cost and beta decay that the method has."""
        if self.costs is not None:
            loss = with_cost(loss, self.costs, mixture, self.method.cost)
        if self.method.beta_decay is not None:
            factor = self.method.beta_decay.weight * self.state.epoch / self.recipe.epochs
            loss = loss + factor * beta_decay(self.alphas)
        return loss

    def _placed(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        report_broken(batch.broken, self.broken, self.observer)
        images = batch.images.to(self.device, non_blocking=True)
        images = reduce_images(images, self.plan.resolution)
        if self.recipe.precision.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return images, batch.targets.to(self.device, non_blocking=True)

    # -- after an epoch ---------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _judge(self) -> None:
        """Sum losses and correct images of held-back batches, with weights of operations without chance."""
        self.model.eval()
        self.held_sampler.first_step = 0
        for held_batch in self.held_batches:
            self._loss(self.model.expected(), *self._placed(held_batch), of=_OF_ALPHAS)
        self.model.train()

    def _eigenvalue(self) -> float | None:
        options = self.method.stop_by_eigenvalue
        if options is None:
            return None
        sampler = StepSampler(len(self.data.test), options.images, self.plan.seed)
        batches = train_loader(self.held_back, self.recipe, crop_size=self.crop_size, sampler=sampler)
        self.model.eval()
        loss = self._loss(self.model.expected(), *self._placed(next(iter(batches))))
        found = dominant_eigenvalue(loss, self.alphas, options.iterations)
        self.model.train()
        return found

    def _taken(self) -> int | None:
        architectures = [self.plan.opened.derive(row.probabilities) for row in self.state.curve]
        eigenvalues = [row.eigenvalue for row in self.state.curve if row.eigenvalue is not None]
        return epoch_to_return_to(self.method, self.plan.opened, architectures, eigenvalues)

    def _row(self, lr: float, sums: list[float], seconds: float, eigenvalue: float | None) -> EpochRow:
        state = self.state
        probabilities = self.model.probabilities()
        derived = self.plan.opened.derive(probabilities)
        entropies = [-sum(p * math.log(p) for p in own if p > 0) for own in probabilities.values()]
        with torch.no_grad():
            expected = None if self.costs is None else float(self.costs.expected(self.model.expected()))
        return EpochRow(
            epoch=state.epoch,
            step=state.epoch * self.sampler.steps,
            lr=lr,
            temperature=self.temperature,
            train_loss=sums[0] / sums[2],
            train_top1=100 * sums[1] / sums[2],
            held_back_loss=sums[3] / sums[5],
            held_back_top1=100 * sums[4] / sums[5],
            entropy=sum(entropies) / len(entropies),
            expected_cost=expected,
            eigenvalue=eigenvalue,
            skips=self.plan.opened.skips(derived),
            value=self.plan.value(derived),
            architecture=str(derived),
            probabilities=probabilities,
            seconds=seconds,
        )

    def _keep(self) -> None:
        save(self.output, self.facts, self.model, self.optimizer, self.alpha_optimizer, self.state)

    def seconds_per_step(self, steps: int = 2) -> float:
        """Return how long a step of the last epoch takes, the first one left out; nothing is written."""
        self.state.epoch = self.recipe.epochs - 1
        self.temperature = self.method.temperature.end
        self.sums = torch.zeros(6, device=self.device)
        times = []
        for step, (batch, held_batch) in enumerate(islice(self._pairs(), steps + 1)):
            started = time.perf_counter()
            self._step(step, batch, held_batch)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            times.append(time.perf_counter() - started)
        return min(times[1:] or times)


def estimated_seconds(plan: SearchPlan, data: DataSet, device: torch.device) -> float:
    """Return about how long a search takes, from a few steps that are then forgotten."""
    run = Search(plan, data, Path(), device, Silent())
    run.build()
    run.open_data()
    return run.seconds_per_step() * run.sampler.steps * plan.recipe.epochs
