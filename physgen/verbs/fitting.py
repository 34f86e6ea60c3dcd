"""What `fit` does whatever the family: data are looked at, epochs kept, the result is judged."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from physgen.checks.held_out import (
    auc_in_words,
    gap_in_words,
    held_out_warnings,
    overfitting,
    plain_loss,
    told_apart,
)
from physgen.dataset import Dataset
from physgen.dataset.assumptions import broken_assumptions, by_name
from physgen.dataset.fresh import FreshRows
from physgen.dataset.missing import missing_in_words, missing_warnings
from physgen.errors import TrainingDiverged, UsageError
from physgen.registry import name_of
from physgen.runtime.interrupt import Stop
from physgen.runtime.progress import bar, log
from physgen.runtime.ranks import ranks_now
from physgen.surrogates.base import Surrogate
from physgen.surrogates.checkpoint import save_surrogate
from physgen.training import Data, Fresh, InMemory, Streamed, Trainer, Training, split
from physgen.verbs.arguments import SurrogateLike
from physgen.verbs.fresh import FreshOptions
from physgen.verbs.opening import open_surrogate, remember_file
from physgen.verbs.resume import keep, resume_path
from physgen.verbs.running import headed, plural, warn_of_failed

__all__ = [
    "Material",
    "concluded",
    "opened_material",
    "shown_training",
    "started_from",
    "to_the_end",
]

RESUME = "add --resume to go on"
LONG = 0.5
"""Part of a training that it waits for fresh rows, above which that is told."""
REHEARSED, COMPILED = 32, 5.0
"""Rows of a training that only compiles, and CPU seconds that tell it from reading a cache."""


@dataclass
class Material:
    """What surrogates are trained on and judged by.

    Attributes:
        source: the dataset.
        train: rows to train on.
        val: held-out rows.
        some: the first rows of the dataset, which tell scales.
        training: options of the training.
        seed: of weights, order, noise and fresh rows.
        device: where the rows are.
        said: warnings.
        info: what a checkpoint says of it, as JSON data.
        fresh: what draws the rows of each epoch, if they are drawn anew.
    """

    source: Dataset
    train: Data
    val: InMemory
    some: InMemory
    training: Training
    seed: int
    device: torch.device
    said: list[str]
    info: dict[str, Any]
    fresh: FreshRows | None

    def trainer(self, surrogate: Surrogate, training: Training, stop: Stop) -> Trainer:
        """What trains a surrogate on it; its clock runs from here."""
        if any(objective.gradient for objective in surrogate.objectives()):
            with stop.at_once():
                self.rehearse(surrogate, training)
        rows = self.train, self.val
        return Trainer(surrogate, *rows, training, self.seed, some=self.some, ranks=ranks_now())

    def rehearse(self, surrogate: Surrogate, training: Training) -> None:
        """Train a copy on few rows, so that its code is compiled before a clock runs."""
        few, begun = self.some.spread(REHEARSED), time.process_time()
        short = replace(training, batch_size=REHEARSED // 2, epochs=1, max_minutes=0.0)
        with bar(None, f"compile {surrogate.name}") as move:
            move(0)
            next(iter(Trainer(copy.deepcopy(surrogate), few, few, short, ranks=ranks_now())))
        if (took := time.process_time() - begun) > COMPILED:
            log.info(
                "%s: compiled for %.0f CPU s, once and before the training", surrogate.name, took
            )

    def new(self, cls: type[Surrogate], config: Any) -> Surrogate:
        """A surrogate of random weights, its map of x fitted."""
        surrogate = cls.create(self.source.law, config, self.seed).to(self.device)
        surrogate.fit_transform(self.some.x, self.some.theta)
        return surrogate


@contextmanager
def opened_material(
    source: Dataset,
    training: Training,
    fresh: FreshOptions,
    seed: int,
    device: torch.device,
    path: Path | None,
) -> Iterator[Material]:
    """A dataset as what surrogates are trained on; what speaks against it is said."""
    warn_of_failed(source.name, source.failures)
    source.law.to_json()  # refuses a law that no surrogate can tell of, before the training
    train, val, some = split(source, training.validation, training.memory_gib, device)
    rows = len(train)
    told = fresh.told(source, seed, rows)
    info = {"training": asdict(training), "seed": seed, "data": source.origin()}
    info |= {"fresh": told} if told else {}
    if isinstance(train, Streamed):
        info["streamed"] = {"rows": rows, "held_out": len(val), "scales": len(some)}
        log.info(
            "%s: is larger than --memory-gib %g: streamed; %s validate, %s tell scales",
            source.name, training.memory_gib, plural(len(val), "row"), f"{len(some):,}",
        )  # fmt: skip
    said = warned(path, doubts(source, some))
    with fresh.opened(source, rows, training.epochs, seed) as drawn:
        train = Fresh(drawn, rows, device) if drawn else train
        yield Material(source, train, val, some, training, seed, device, said, info, drawn)


def doubts(source: Dataset, some: InMemory) -> Iterator[str]:
    """What the first rows say against a dataset, a line each."""
    theta, x = some.theta.cpu().numpy(), some.x.cpu().numpy()
    if all(part.proposal for part in source.parts):
        yield (
            f"all theta follow {source.proposal}, not the prior: away from these nothing is "
            "learnt; fit it on the first round, too"
        )
    yield from (by_name(line, source.columns) for line in broken_assumptions(source.law, x))
    yield from missing_warnings(source.law, theta, x)
    if words := missing_in_words(x):
        log.info(
            "%s: x: %s; log p is that of the others, which leaves out what the mask itself says "
            "of theta or of what is missing",
            source.name, words,
        )  # fmt: skip


def warned(path: Path | None, lines: Iterable[str]) -> list[str]:
    """The lines, each said to the user."""
    said = list(lines)
    for line in said:
        log.warning("%s", headed(path, line))
    return said


def started_from(
    given: SurrogateLike, cls: type[Surrogate], material: Material, **options: Any
) -> Surrogate:
    """A surrogate that goes on from the weights of another one of the same family.

    Args:
        given: the other one, or its checkpoint.
        cls: the family.
        material: what it is trained on.
        **options: of the family.

    Raises:
        UsageError: one of another family, or data that break what its own obeyed.
    """
    own = cls if ":" in name_of("surrogates", cls) else None
    parent = open_surrogate(given, str(material.device), family=own)
    if type(parent) is not cls:
        name = given if isinstance(given, Path) else "from_"
        raise UsageError(f"{name}: expected a checkpoint of {cls.name}, got {parent.name}")
    material.source.require_columns(parent.info.get("data"))
    surrogate = parent.at(material.source.law, **options).train()
    if (broken := surrogate.transform.breaks(material.some.x)).any():
        raise UsageError(
            f"from_: {int(broken.sum())} of {len(broken)} rows break what all x of its training "
            f"obeyed: {', '.join(surrogate.transform.told()[:3])}; train anew"
        )
    return surrogate


@contextmanager
def shown_training(trainer: Trainer, material: Material, label: str, stop: Stop) -> Iterator[None]:
    """A bar over a training, which a signal ends."""
    with bar(1, label) as move:

        def on_batch(progress: float) -> None:
            last = trainer.history[-1:]
            move(progress, "".join(f"epoch {e.epoch}: {e.val:.4f}" for e in last))
            trainer.ranks.check(stop)

        trainer.on_batch = on_batch
        if material.fresh:
            material.fresh.check = stop.check
        yield


def to_the_end(
    trainer: Trainer, info: dict[str, Any], path: Path | None, log_folder: Path | None, stop: Stop
) -> None:
    """Train, and keep each epoch; of a training that diverges the best weights.

    Raises:
        TrainingDiverged: a loss that is not finite.
    """
    try:
        for epoch in trainer:
            keep(trainer, epoch, info, path, log_folder)
            stop.hint = RESUME if path else stop.hint
    except TrainingDiverged:
        if trainer.history and path:
            history = [asdict(e) for e in trainer.history]
            save_surrogate(trainer.surrogate, path, info | {"history": history})
        raise


def concluded(
    trainer: Trainer, material: Material, info: dict[str, Any], path: Path | None
) -> Surrogate:
    """A trained surrogate: judged, written if there is a file, with its summary."""
    surrogate, history, seed = trainer.surrogate, trainer.history, material.seed
    some, val = ((rows.theta, rows.x) for rows in (material.some, material.val))
    seen = (trainer.seen.theta, trainer.seen.x) if trainer.seen else some
    surrogate.finalize(seed, *val)
    plain = plain_loss(surrogate, some, val)
    apart = told_apart(surrogate.eval(), *val, seed)
    gap = overfitting(surrogate, seen, val, seed)
    losses = [e.val for e in history]
    judged = held_out_warnings(surrogate, losses, plain, apart, gap, trainer.start)
    said = material.said + warned(path, (*judged, *surrogate.unsettled()))
    if words := surrogate.transform.words(material.source.columns):
        log.info("%s", headed(path, f"x is taken by {'; '.join(words)}"))
        info["x is taken by"] = words
    info |= {
        "history": [asdict(e) for e in history],
        "start": trainer.start if math.isfinite(trainer.start) else None,
        "held_out": apart,
        "overfitting": gap,
        "warnings": said,
        "simulations": len(material.source),
    }
    if material.fresh:
        drawn = material.fresh.drawn_by(len(history))
        info["fresh"] |= {"rows": drawn, "failed": material.fresh.failed}
        info["simulations"] += drawn
    surrogate.path, surrogate.info = None, info | surrogate.describe()
    if path:
        save_surrogate(surrogate, path, surrogate.info)
        remember_file(surrogate, path)
        resume_path(path).unlink(missing_ok=True)
    surrogate.summary = headed(path, in_words(trainer, material, apart, gap))
    return surrogate


def in_words(
    trainer: Trainer, material: Material, apart: dict[str, Any] | None, gap: dict[str, Any] | None
) -> str:
    """How a training went, in a line."""
    surrogate, history = trainer.surrogate, trainer.history
    kept = [(e.val, e.epoch) for e in history if e.best or surrogate.keeps_last]
    val, epoch = kept[-1] if kept else (trainer.start, 0)
    name, took = name_of("surrogates", type(surrogate)), history[-1].seconds
    said = [
        f"{name}, {plural(len(history), 'epoch')} in {took:.0f} s, "
        f"validation loss {val:.4f} {surrogate.unit} "
        + (f"(epoch {epoch})" if epoch else "(as it began: no epoch was better)")
        + (f", overfits by {gap_in_words(gap)}" if gap else "")
    ]
    if fresh := material.fresh:
        part = fresh.seconds / max(took, 1e-9)
        slow = f"; --workers or --reuse {fresh.reuse + 4} would help" if part > LONG else ""
        rows = plural(fresh.drawn_by(len(history)), "fresh row")
        said.append(f"{rows} ({part:.0%} of the time{slow})")
    if apart:
        said.append(f"samples told from held-out x: {auc_in_words(apart)}")
    return "; ".join(said)
