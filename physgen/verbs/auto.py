"""`fit auto`: the families that take a law are raced, and the best trained to the end.

Successive halving (Jamieson & Talwalkar 2016, arXiv:1502.07943): each heat is a whole training,
its rate falling to zero, so that what is compared has settled; those that are left go on by a warm
restart (Loshchilov & Hutter 2017, arXiv:1608.03983) to three times its length. What is compared is
log p of the same held-out rows, in nats a row and raw units of x, row by row. A lower bound counts
as what it is, and so does the rough log Z of a family whose own is costly.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from physgen.checks.held_out import overfitting, row_losses
from physgen.errors import DataError, Interrupted, PhysgenError, UsageError
from physgen.law import Law
from physgen.registry import find, targets
from physgen.runtime.interrupt import Stop
from physgen.runtime.options import build
from physgen.runtime.progress import log
from physgen.surrogates.base import Likelihood, Surrogate
from physgen.training import Trainer, Training
from physgen.verbs.fitting import Material, shown_training

__all__ = ["AutoConfig", "auto_table", "raced"]

LENGTHS, FINALISTS = (1, 3, 9), 2
"""Lengths of the heats and of the whole, in units; how many come into the second heat."""
SCORED, CHUNK, SECONDS = 500, 100, 5.0
"""Held-out rows by which entries are compared, and how many of them at once; CPU time after which
no more are looked at, where the length of the race is set in minutes, s."""
WITHOUT_END = 100_000
"""Epochs, where minutes alone end a training."""
LEAST_HELD_OUT, ENOUGH_HELD_OUT = 2, 20
"""Held-out rows without which families cannot be compared, and below which it is chance."""


@dataclass(frozen=True)
class AutoConfig:
    """Try all families that take the data in short heats, and train the best to the end.

    --max-minutes limits the whole race; --epochs counts those of the winner, 30 if neither is
    given.

    Attributes:
        families: those to try; all that are registered if empty.

    Example:
        physgen fit auto data.h5 -o best.pt --max-minutes 5
    """

    families: tuple[str, ...] = ()


@dataclass
class Entry:
    """One who races.

    Attributes:
        family: its name.
        options: those that are not its defaults.
        reason: why it is out, if it has failed.
        scores: log p of held-out rows after each heat, (n,) each.
        gap: how much it overfits, as `overfitting` tells.
        samples_per_second: that it draws, a CPU second.
    """

    family: str
    options: Mapping[str, Any]
    reason: str = ""
    scores: list[Tensor] = field(default_factory=list)
    gap: Mapping[str, Any] | None = None
    samples_per_second: float = math.nan
    trainer: Trainer = field(init=False, repr=False)

    @property
    def label(self) -> str:
        """Its family and options."""
        return " ".join([self.family, *(f"{k}={v}" for k, v in self.options.items())])

    def behind(self, winner: Entry) -> tuple[float, float]:
        """How much lower its log p is than another's in the last heat of both, and the error."""
        last = min(len(self.scores), len(winner.scores)) - 1
        pair = self.scores[last], winner.scores[last]
        n = min(map(len, pair))
        difference = pair[1][:n] - pair[0][:n]
        return float(difference.mean()), float(difference.std() / math.sqrt(n))

    def to_json(self, winner: Entry) -> dict[str, Any]:
        """Its row of the table, as JSON data."""
        row: dict[str, Any] = {"family": self.family, "options": dict(self.options)}
        if self.reason or not self.scores:
            return row | ({"reason": self.reason} if self.reason else {})
        behind, se = self.behind(winner)
        surrogate, last = self.trainer.surrogate, self.trainer.history[-1]
        return row | {
            "heats": len(self.scores),
            "epochs": last.epoch,
            "log_p": float(self.scores[-1].mean()),
            "behind": behind,
            "se": se,
            "overfitting": self.gap and self.gap["gap"],
            "cpu_seconds": last.cpu_seconds,
            "log_p_kind": "rough" if surrogate.keeps_last else str(surrogate.likelihood),
            "samples_per_second": self.samples_per_second,
        }


class Clock:
    """How much of the time for a race is left.

    Args:
        limit: seconds in all; 0 for no limit.
    """

    def __init__(self, limit: float) -> None:
        self.limit, self.begun = limit, time.monotonic()

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return max(1.0, self.limit - (time.monotonic() - self.begun))

    def share(self, heat: int, waiting: int) -> float:
        """Seconds for the next entry of a heat, 1 or 2, of those that still wait for it."""
        first, second, rest = (b - a for a, b in pairwise((0, *LENGTHS)))
        own = second if heat > 1 else first
        later = rest + (FINALISTS * second if heat == 1 else 0)
        return self.left * own / (own * waiting + later)


def raced(
    material: Material, config: AutoConfig, epochs_given: bool, state: Any, stop: Stop
) -> tuple[Trainer, dict[str, Any]]:
    """The training of the winner, to be gone on with, and how the race went, as JSON data.

    Args:
        material: what is trained on.
        config: which families.
        epochs_given: whether the caller has set the epochs of the winner.
        state: of the winner's interrupted training; None to begin.
        stop: tested after each step.

    Raises:
        UsageError: no family takes these data, or too few rows are held out to compare them.
    """
    training = material.training
    if training.max_minutes and not epochs_given:
        training = replace(training, epochs=WITHOUT_END)
    if state:
        return race_resumed(material, config, training, state[1], stop)
    clock = Clock(60 * training.max_minutes)
    entries = list(entered(material, config, training, stop))
    left = [e for e in entries if not e.reason]
    if len(left) > 1:
        look_at_held_out(material)
    for heat in range(1, len(LENGTHS)) if len(left) > 1 else ():
        for k, entry in enumerate(left):
            seconds = clock.share(heat, len(left) - k) if clock.limit else 0.0
            run_heat(entry, heat, seconds, material, training.epochs, stop)
        left = sorted((e for e in left if not e.reason), key=worst_last, reverse=True)[:FINALISTS]
    if not left:
        reasons = "; ".join(f"{e.label}: {e.reason}" for e in entries)
        raise UsageError(f"auto: no family takes these data: {reasons}")
    winner = left[0]
    spent = winner.trainer.history[-1].seconds if winner.trainer.history else 0.0
    minutes = (spent + clock.left) / 60 if clock.limit else 0.0
    winner.trainer.extend(training.epochs, minutes)
    order = sorted(entries, key=lambda e: (len(e.scores), worst_last(e)), reverse=True)
    rows = [e.to_json(winner) for e in sorted(order, key=lambda e: e is not winner)]
    return winner.trainer, {"rows": SCORED, "minutes": minutes, "entries": rows}


def look_at_held_out(material: Material) -> None:
    """Refuse a race that too few rows would decide, and say so of one that few do.

    Raises:
        UsageError: one row.
    """
    if (n := len(material.val)) < LEAST_HELD_OUT:
        raise UsageError(
            f"auto: expected at least {LEAST_HELD_OUT} held-out rows to compare families by, got "
            f"{n}; take more rows, or name one family"
        )
    if n < ENOUGH_HELD_OUT:
        line = (
            f"the families were compared by {n} held-out rows alone, so that which is the best is "
            "chance; take more rows, or --validation 0.3"
        )
        log.warning("auto: %s", line)
        material.said.append(line)


def worst_last(entry: Entry) -> float:
    """What entries are ordered by: mean log p of held-out rows in the last heat."""
    return float(entry.scores[-1].mean()) if entry.scores else -math.inf


def race_resumed(
    material: Material,
    config: AutoConfig,
    training: Training,
    then: Mapping[str, Any],
    stop: Stop,
) -> tuple[Trainer, dict[str, Any]]:
    """The interrupted training of a winner, and how the race went.

    Args:
        material: what is trained on.
        config: which families may be.
        training: its options.
        then: what is kept beside its state.
        stop: tested after each step.

    Raises:
        UsageError: a training that is no winner's, or of a family that nobody vouches for.
    """
    if not (table := then.get("auto")):
        name = then["family"]
        raise UsageError(f"auto: what was interrupted is a training of {name}; resume that")
    name = table["entries"][0]["family"]
    if name not in (config.families or targets("surrogates")):
        raise UsageError(f"auto: the winner of what was interrupted is {name}; give --families")
    cls = find("surrogates", name)
    surrogate = material.new(cls, build(cls.Config, name, then["options"]))
    trainer = material.trainer(surrogate, training, stop)
    trainer.extend(training.epochs, float(table["minutes"]))
    return trainer, dict(table)


def entered(
    material: Material, config: AutoConfig, training: Training, stop: Stop
) -> Iterator[Entry]:
    """All who would race; those that do not take the data with the reason.

    Raises:
        UsageError: a name among those that were asked for that is no family's.
    """
    for name in config.families:
        find("surrogates", name)
    for name in config.families or sorted(targets("surrogates")):
        for options in candidates_of(name, material.source.law):
            entry = Entry(name, options)
            try:
                cls = find("surrogates", name)
                surrogate = material.new(cls, build(cls.Config, name, options))
                entry.trainer = material.trainer(surrogate, training, stop)
                if surrogate.likelihood is Likelihood.NONE:
                    entry.reason = "has no log p to compare"
            except Interrupted:
                raise
            except Exception as error:  # whatever a family raises is its reason
                entry.reason = told(error).removeprefix(f"{name}: ")
            yield entry


def candidates_of(name: str, law: Law) -> Sequence[Mapping[str, Any]]:
    """The sets of options of a family that race; one of a family that cannot be imported."""
    try:
        return list(find("surrogates", name).candidates(law))
    except UsageError:
        return [{}]


def told(error: Exception) -> str:
    """An error in one line, with its type if it is none of ours."""
    text = " ".join(str(error).split())
    return text if isinstance(error, PhysgenError) else f"{type(error).__name__}: {text}"


def run_heat(
    entry: Entry, heat: int, seconds: float, material: Material, epochs: int, stop: Stop
) -> None:
    """Train an entry to the length of a heat and score it; what fails is out.

    Args:
        entry: who.
        heat: 1 or 2.
        seconds: that it gets; 0 for no limit.
        material: what it is trained on.
        epochs: of the winner in all.
        stop: tested after each step.
    """
    trainer = entry.trainer
    spent = trainer.history[-1].seconds if trainer.history else 0.0
    length = math.ceil(epochs * LENGTHS[heat - 1] / LENGTHS[-1])
    trainer.extend(length, (spent + seconds) / 60 if seconds else 0.0)
    try:
        with shown_training(trainer, material, f"heat {heat}: {entry.label}", stop):
            for _ in trainer:
                pass
        score(entry, material, SECONDS if seconds else math.inf)
    except Interrupted:
        raise
    except Exception as error:  # whatever a family raises is its reason
        entry.reason = told(error)
        log.warning("%s: %s", entry.label, entry.reason)
        return
    log.info("heat %d: %s: %.3f nats a row", heat, entry.label, worst_last(entry))


@torch.no_grad()
def score(entry: Entry, material: Material, seconds: float) -> None:
    """Measure what an entry says of held-out rows, for some CPU seconds, and how fast it draws."""
    surrogate, rows = entry.trainer.surrogate.eval(), material.val.spread(SCORED)
    begun, parts = time.process_time(), []
    for k, (theta, x) in enumerate(zip(rows.theta.split(CHUNK), rows.x.split(CHUNK), strict=True)):
        parts.append(log_p_of(surrogate, theta, x, k * CHUNK, material.seed))
        if time.process_time() - begun > seconds:
            break
    entry.scores.append(torch.cat(parts))
    if not entry.scores[-1].isfinite().all():
        raise DataError("log p of held-out rows is not finite")
    begun = time.process_time()
    surrogate.sample(rows.theta[:CHUNK], material.seed)
    entry.samples_per_second = min(CHUNK, len(rows)) / max(time.process_time() - begun, 1e-9)
    seen, val = entry.trainer.seen or material.some, material.val
    pairs = [(r.theta, r.x) for r in (seen, val)]
    entry.gap = overfitting(surrogate, pairs[0], pairs[1], material.seed)


def log_p_of(surrogate: Surrogate, theta: Tensor, x: Tensor, first: int, seed: int) -> Tensor:
    """Log p of rows (n,), of which the first has a number, as posteriors would have it."""
    if surrogate.keeps_last:
        return -row_losses(surrogate, theta, x, seed)
    index = torch.arange(first, first + len(x))
    draws = surrogate.posterior_draws
    return surrogate.log_prob_with_error(theta, x, draws=draws, seed=seed, index=index).value


HEAD = (
    "family", "heats", "epochs", "log p", "behind", "overfits", "CPU s", "log p is", "samples/s",
)  # fmt: skip


def auto_table(told: Mapping[str, Any]) -> Iterator[str]:
    """How a race went, as lines of a table; the winner first.

    Args:
        told: as from `raced`.
    """
    rows = [HEAD, *(entry_cells(entry) for entry in told["entries"])]
    lengths = [max(len(row[k]) for row in rows if len(row) > 2) for k in range(len(HEAD))]
    lengths[0] = max(len(row[0]) for row in rows)
    for row in rows:
        yield "  ".join(cell.ljust(n) for cell, n in zip(row, lengths, strict=False)).rstrip()


def entry_cells(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """One row of the table."""
    label = " ".join([entry["family"], *(f"{k}={v}" for k, v in entry["options"].items())])
    if reason := entry.get("reason"):
        return label, f"out: {reason}"
    if "log_p" not in entry:
        return label, "the only one that takes the data"
    gap = entry["overfitting"]
    return (
        label,
        str(entry["heats"]),
        str(entry["epochs"]),
        f"{entry['log_p']:.3f}",
        f"{entry['behind']:.3f} ± {entry['se']:.3f}" if entry["behind"] or entry["se"] else "best",
        "" if gap is None else f"{gap:.3f}",
        f"{entry['cpu_seconds']:.0f}",
        entry["log_p_kind"],
        f"{entry['samples_per_second']:.2g}"
        if entry["samples_per_second"] < 100
        else f"{entry['samples_per_second']:,.0f}",
    )
