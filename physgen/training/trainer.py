"""The training loop.

AdamW (Loshchilov & Hutter 2017, arXiv:1711.05101) with warm-up and a cosine or constant rate,
clipped gradients, and an exponential moving average of the weights, which is what is validated and
kept. The validation noise is fixed, since free noise would hide progress. All random numbers of
epoch e are a function of (seed, e), so that the state of a run is its weights, its optimisers and
its history; a run that was killed goes on from its last whole epoch and ends bit-equal on the CPU,
where its length is set in epochs and not in minutes.

A training whose validation loss no longer falls goes back to its best weights and *cools*: its
rate falls from there to zero within a few epochs, as it would have at the end (early stopping
alone would keep weights of a high rate).

Several processes may train one model (`physgen.runtime.ranks`): each takes its part of the rows of
every batch, and what decides on how the training goes on is the same in all.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector
from torch.optim.adamw import adamw

from physgen.errors import TrainingDiverged
from physgen.nn.transforms import Symmetries
from physgen.runtime.memory import keep_freed_memory
from physgen.runtime.ranks import ALONE, Ranks
from physgen.surrogates.base import StepsFunction, Surrogate
from physgen.training.data import Data, Fresh, InMemory, Streamed
from physgen.training.options import Epoch, Training

__all__ = ["Trainer"]

CHECK_EVERY = 32
"""Steps between looks at the loss, since each look waits for the device; as many at most are taken
at once by an objective that can."""
VALIDATION_BATCH, NUMBERS = 1024, 2**21
"""Rows that are validated at a time; numbers of x in these, of a streamed file, and in steps that
are taken at once, at most."""
SEEN = 10_000  # rows of the training that are looked at after each epoch, at most
PATIENT_STEPS, PATIENT_EPOCHS = 500, 5
"""What a training waits for an improvement, in steps and in epochs, at least."""
SETTLED, COOLING = 0.25, 0.25
"""Part of a training before which nothing is told of its validation loss; epochs in which the rate
falls to zero, as a part of those before."""


class Trainer:
    """Trains a surrogate, an epoch for each step of the iteration; stop iterating to stop.

    Args:
        surrogate: what to train, on its device; it holds the averaged weights of the best epoch,
            those that it came with if no epoch is better, or those of the last one if it says so.
        train: training rows.
        val: validation rows.
        config: options.
        seed: seed of order, augmentation and noise.
        on_batch: called after each step with the part of training done, 0 to 1; what it raises
            ends the training.
        some: training rows to look at after each epoch, where those of an epoch are not in memory.
        ranks: the processes that train it together; each has all rows.

    Attributes:
        start: validation loss of the weights that the surrogate came with, nats a row; infinite
            where it does not count.

    Raises:
        TrainingDiverged: a loss that is not finite; `surrogate` keeps the last good weights.
    """

    def __init__(
        self,
        surrogate: Surrogate,
        train: Data,
        val: InMemory,
        config: Training,
        seed: int = 0,
        on_batch: Callable[[float], None] = lambda progress: None,
        some: InMemory | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        keep_freed_memory()
        self.surrogate, self.train, self.val = surrogate, train, val
        self.config, self.seed, self.on_batch, self.ranks = config, seed, on_batch, ranks
        self.seen = self._looked_at(some)
        ranks.unite(surrogate.state_dict())
        self.live = copy.deepcopy(surrogate)
        self.average = copy.deepcopy(surrogate).requires_grad_(False)
        objectives = list(self.live.objectives())
        if config.compile or config.precision == "bf16":
            objectives = [o._replace(gradient=None, steps=None) for o in objectives]
        self.optimisers = [
            torch.optim.AdamW(o.parameters, lr=0.0, weight_decay=config.weight_decay, fused=True)
            for o in objectives
        ]
        losses = [torch.compile(o.loss) if config.compile else o.loss for o in objectives]
        self.parts = list(zip(objectives, losses, self.optimisers, strict=True))
        single = len(objectives) == 1 and ranks.world == 1
        self.steps = objectives[0].steps if single else None
        self.pairs = [
            (list(average), list(live))
            for average, live in (
                (self.average.parameters(), self.live.parameters()),
                (self.average.buffers(), self.live.buffers()),
            )
        ]
        few = max(1, NUMBERS // surrogate.law.size) if isinstance(train, Streamed) else math.inf
        self.validation_batch = int(min(VALIDATION_BATCH, few))
        self.symmetries = Symmetries(surrogate.law)
        self.history: list[Epoch] = []
        self.start = math.inf
        self.step = self.begun = self._in_epoch = self._plateau = 0
        self.steps_per_epoch = math.ceil(len(train) / config.batch_size)
        self._start_clock()

    def __iter__(self) -> Iterator[Epoch]:
        if not (self.history or self.surrogate.keeps_last):
            self.start = self._validate(self.val)
        while not self.finished:
            train = self._epoch(len(self.history) + 1)
            val = self._validate(self.val)
            best = val < min([self.start, *(e.val for e in self.history)])
            if best or self.surrogate.keeps_last:
                self.surrogate.load_state_dict(self.average.state_dict())
            lr = self.optimisers[0].param_groups[0]["lr"]
            kept = None if isinstance(self.train, Fresh) else self.seen
            seen = self._validate(kept) if kept else None
            self._look_at_clock()
            self.history.append(
                Epoch(len(self.history) + 1, train, val, lr, *self._elapsed(), best, seen)
            )
            self._in_epoch = 0
            if self.plateau == len(self.history):
                self.live.load_state_dict(self.surrogate.state_dict())
                self.average.load_state_dict(self.surrogate.state_dict())
            yield self.history[-1]

    def extend(self, epochs: int, max_minutes: float) -> None:
        """Go on after the end, to another length in all, with the rate that belongs there.

        A warm restart (Loshchilov & Hutter 2017, arXiv:1608.03983).

        Args:
            epochs: in all.
            max_minutes: in all; 0 for no limit.
        """
        self.config = replace(self.config, epochs=epochs, max_minutes=max_minutes)
        self.begun = len(self.history)
        self._start_clock()

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, time is up, or the rate has fallen after a plateau.

        Not before the first epoch, of one step at least, however late it is.
        """
        done = len(self.history)
        cooled = self.plateau and done >= self.plateau + self._cooling
        return done >= self.config.epochs or (done > 0 and self._out_of_time()) or bool(cooled)

    @property
    def patience(self) -> int:
        """Epochs without improvement that are waited for; 0 for ever."""
        if self.config.patience >= 0:
            return self.config.patience
        few = math.ceil(PATIENT_STEPS / self.steps_per_epoch)
        return 0 if self.surrogate.keeps_last else max(PATIENT_EPOCHS, few)

    @property
    def plateau(self) -> int:
        """The epoch by which patience had run out; 0 if it has not."""
        best = 0
        for epoch in self.history[self.begun :] if self.patience else ():
            if epoch.best or self._done(epoch) < SETTLED:
                best = epoch.epoch
            if epoch.epoch - max(best, self.begun) >= self.patience:
                return epoch.epoch
        return 0

    @property
    def _cooling(self) -> int:
        """Epochs in which the rate falls after a plateau."""
        return math.ceil(COOLING * self.plateau)

    def _done(self, epoch: Epoch) -> float:
        """Part of the training that was done after an epoch, 0 to 1."""
        limit = 60 * self.config.max_minutes
        return max(epoch.epoch / self.config.epochs, epoch.seconds / limit if limit else 0.0)

    @property
    def progress(self) -> float:
        """Part of the training done, in steps or in time, whichever is further, 0 to 1."""
        limit = 60 * self.config.max_minutes
        in_time = self._elapsed()[0] / limit if limit else 0.0
        steps = self.config.epochs * self.steps_per_epoch
        done = len(self.history) * self.steps_per_epoch + self._in_epoch  # rows that fail included
        return min(1.0, max(done / steps, in_time))

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        if self._plateau:
            done = len(self.history) - self._plateau + self._in_epoch / self.steps_per_epoch
            return self.history[self._plateau - 1].lr * falling(done / self._cooling)
        warm = min(1.0, (self.step + 1) / max(1, self.config.warm_up_steps))
        cosine = falling(self.progress) if self.config.schedule == "cosine" else 1.0
        return self.config.learning_rate * warm * cosine

    def _looked_at(self, rows: InMemory | None) -> InMemory | None:
        """As many training rows as are held out; none of a family whose loss does not tell."""
        if rows is None or self.surrogate.keeps_last:
            return None
        return rows.spread(min(SEEN, len(self.val)))

    def _start_clock(self) -> None:
        """Count time from now, and what earlier processes have used."""
        last = self.history[-1] if self.history and self.ranks.first else None
        wall, cpu = (last.seconds, last.cpu_seconds) if last else (0.0, 0.0)
        self._origin = time.monotonic() - wall, time.process_time() - cpu
        self._look_at_clock()

    def _look_at_clock(self) -> None:
        """Note the wall time of the first process, and the CPU time of all."""
        wall, cpu = time.monotonic() - self._origin[0], time.process_time() - self._origin[1]
        self._now = self.ranks.total(wall if self.ranks.first else 0.0, cpu)

    def _elapsed(self) -> tuple[float, float]:
        """Wall and CPU seconds of training, those of earlier processes included."""
        return self._now[0], self._now[1]

    def _out_of_time(self) -> bool:
        limit = 60 * self.config.max_minutes
        return 0 < limit <= self._elapsed()[0]

    def _epoch(self, number: int) -> float:
        """One pass over the training rows; the mean loss."""
        data, self._in_epoch = self.train.of_epoch(number), 0
        self._plateau = self.plateau
        if isinstance(data, InMemory):
            self.seen = self._looked_at(data)
        rng = np.random.default_rng([self.seed, number])
        generator = torch.Generator(self.surrogate.device)
        generator.manual_seed(self.ranks.stream(int(rng.integers(2**63))))
        self.live.train()
        total, rows = torch.zeros((), device=self.surrogate.device), 0
        batch = self.config.batch_size
        most = min(CHECK_EVERY, max(1, NUMBERS // (batch * self.surrogate.law.size)))
        for theta, x in data.batches(most * batch if self.steps else batch, rng):
            rows += len(x)
            if self.steps:
                total += self._take_steps(self.steps, theta, x, generator)
            else:
                self._take_step(theta, x, generator, total)
            if self.steps or self.step % CHECK_EVERY == 0:
                self._finite(total, "training loss")
            self.on_batch(self.progress)
            if self.config.max_minutes:
                self._look_at_clock()
            if self._out_of_time():
                break
        state = self.live.state_dict()
        buffers = {name: state[name] for name, _ in self.live.named_buffers() if name in state}
        self.ranks.unite(buffers, self.live.chain_buffers)
        torch._foreach_copy_(*self.pairs[1])
        return self._finite(total, "training loss") / rows

    def _take_step(
        self, theta: Tensor, x: Tensor, generator: torch.Generator, total: Tensor
    ) -> None:
        """A step of each objective down its gradient over a batch.

        Args:
            theta: (B, D), of all processes.
            x: (B, *x_shape).
            generator: random numbers of this process.
            total: (), to which the losses of its rows are added.
        """
        n = len(x)
        theta, x = self.ranks.share(theta), self.ranks.share(x)
        x = self.symmetries(x, generator) if self.config.augment else x
        for objective, loss, optimiser in self.parts:
            for parameter in objective.parameters:
                parameter.grad = None
            if len(x):
                given, part = (theta, x, generator, self.progress), len(x) / n
                if objective.gradient:
                    value = objective.gradient(*given, part)
                else:
                    value = self._autocast(loss, *given).mean()
                    (value * part).backward()
                total += len(x) * value.detach()
            self.ranks.add_up(objective.parameters)
            descend(objective.parameters, optimiser, self.rate, self.config.clip)
        self.step, self._in_epoch = self.step + 1, self._in_epoch + 1
        self._update_average()

    @torch.no_grad()
    def _take_steps(
        self, steps: StepsFunction, theta: Tensor, x: Tensor, generator: torch.Generator
    ) -> float:
        """Steps of the one objective over several batches, all at once.

        Args:
            steps: of the objective.
            theta: (n, D), of batches one after another.
            x: (n, *x_shape).
            generator: random numbers.

        Returns:
            The sum of the losses of all rows.
        """
        from physgen.nn.descent import Descent

        (objective, _, optimiser), batch, done = self.parts[0], self.config.batch_size, self.step
        places = torch.arange(x[0].numel()).expand(math.ceil(len(x) / batch), -1)
        if self.config.augment:
            x = self.symmetries.flipped(x, generator)
            places = self.symmetries.places(len(places), generator)
        rates, kept = np.empty((2, len(places)))
        for k in range(len(places)):
            rates[k] = self.rate
            self.step, self._in_epoch = self.step + 1, self._in_epoch + 1
            kept[k] = self._kept
        states, group = moments(optimiser, objective.parameters), optimiser.param_groups[0]
        group["lr"], (beta1, beta2) = float(rates[-1]), group["betas"]
        first, second = ([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq"))
        moved: list[list[Tensor]] = [[*objective.parameters], self.pairs[0][0], first, second]
        flat = [parameters_to_vector(tensors) for tensors in moved]
        weights, average, mean, square = (a.numpy() for a in flat)
        descent = Descent(
            weights, average, mean, square, rates, kept, done, self.config.clip,
            beta1, beta2, group["eps"], group["weight_decay"],
        )  # fmt: skip
        total = steps(theta, x, places, batch, generator, descent)
        for tensors, values in zip(moved, flat, strict=True):
            parts = values.split([t.numel() for t in tensors])
            for tensor, part in zip(tensors, parts, strict=True):
                tensor.copy_(part.view_as(tensor))
        torch._foreach_add_([state["step"] for state in states], len(places))
        return total

    @property
    def _kept(self) -> float:
        """Part of the average that a step keeps, from 0 up, so that the start is forgotten."""
        return min(self.config.ema, self.step / (self.step + 10))

    @torch.no_grad()
    def _update_average(self) -> None:
        """Exponential moving average of the weights."""
        kept, weights = self.pairs[0]
        torch._foreach_lerp_(kept, weights, 1 - self._kept)

    @torch.no_grad()
    def _validate(self, rows: InMemory) -> float:
        """Mean validation loss of the averaged weights over some rows, with fixed noise."""
        self.average.eval()
        generator = torch.Generator(self.surrogate.device)
        generator.manual_seed(self.ranks.stream(self.seed))
        rng = np.random.default_rng(self.seed)
        loss = self.average.validation_loss
        total = torch.zeros((), device=self.surrogate.device, dtype=torch.float64)
        for theta, x in rows.batches(self.validation_batch, rng):
            theta, x = self.ranks.share(theta), self.ranks.share(x)
            if len(x):
                total += self._autocast(loss, theta, x, generator).double().sum()
        return self._finite(total, "validation loss") / len(rows)

    def _autocast(self, loss: Callable[..., Tensor], *args: Any) -> Tensor:
        """The loss, with the networks in bf16 where that is asked for."""
        device, asked = self.surrogate.device.type, self.config.precision
        bf16 = asked == "bf16" or (asked == "auto" and device == "cuda")
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            return loss(*args)

    def _finite(self, total: Tensor, what: str) -> float:
        """A total over all processes.

        Raises:
            TrainingDiverged: it is not finite.
        """
        (value,) = self.ranks.total(float(total))
        if not math.isfinite(value):
            raise TrainingDiverged(
                f"{what} is not finite in epoch {len(self.history) + 1}; the weights of the best "
                f"epoch are kept; try a learning rate below {self.config.learning_rate:g}"
            )
        return value

    def state(self) -> dict[str, Any]:
        """All that a new process needs to go on from the last whole epoch."""
        return {
            "best": self.surrogate.state_dict(),
            "live": self.live.state_dict(),
            "average": self.average.state_dict(),
            "optimisers": [o.state_dict() for o in self.optimisers],
            "step": self.step,
            "begun": self.begun,
            "start": self.start,
            "history": [asdict(e) for e in self.history],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.surrogate.load_state_dict(state["best"])
        self.live.load_state_dict(state["live"])
        self.average.load_state_dict(state["average"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.step, self.begun = int(state["step"]), int(state.get("begun", 0))
        self.start = float(state.get("start", math.inf))
        if not 0 <= self.begun <= self.step:
            raise ValueError(f"begun: expected 0 to {self.step}, got {self.begun}")
        self.history = [Epoch(**e) for e in state["history"]]
        self._start_clock()


def falling(part: float) -> float:
    """Half a cosine, from 1 to 0, as a part goes from 0 to 1."""
    return 0.5 * (1 + math.cos(math.pi * min(1.0, part)))


@torch.no_grad()
def descend(
    parameters: list[nn.Parameter], optimiser: torch.optim.Optimizer, rate: float, clip: float
) -> None:
    """A step of AdamW down a clipped gradient; a weight without a gradient stays.

    As ``clip_grad_norm_`` and ``optimiser.step`` would, at half the cost for small weights.

    Args:
        parameters: (...) each, with their gradients.
        optimiser: of one group, which keeps the moments.
        rate: the learning rate.
        clip: largest norm of the gradient.
    """
    group = optimiser.param_groups[0]
    group["lr"] = rate  # which is kept with its state
    moved = [p for p in parameters if p.grad is not None]
    if not moved:
        return
    gradients = [p.grad for p in moved if p.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    states = moments(optimiser, moved)
    beta1, beta2 = group["betas"]
    adamw(
        list(moved),
        gradients,
        [s["exp_avg"] for s in states],
        [s["exp_avg_sq"] for s in states],
        [],
        [s["step"] for s in states],
        fused=True,
        grad_scale=(norm / clip).clamp_(min=1.0),
        amsgrad=False,
        beta1=beta1,
        beta2=beta2,
        lr=rate,
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        maximize=False,
    )


def moments(
    optimiser: torch.optim.Optimizer, parameters: Sequence[Tensor]
) -> list[dict[str, Tensor]]:
    """What an optimiser keeps of each parameter: moments of its shape, steps (); at first 0."""
    states = [optimiser.state[p] for p in parameters]
    for parameter, state in zip(parameters, states, strict=True):
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros(2, *parameter.shape).to(parameter)
    return states
