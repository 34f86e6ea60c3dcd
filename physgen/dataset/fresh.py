"""Rows that are drawn as a training goes: those of an epoch are a function of (seed, epoch).

They are made shard by shard as a dataset's are, here when they are asked for, or in other
processes while the epoch before is trained on. Their random numbers are none of a dataset's,
whatever its seed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Self

import numpy as np

import simulators.base as declared
from physgen.dataset.job import Shard, shards
from physgen.dataset.schema import Rows, chunk_rows
from physgen.dataset.simulated import Simulate
from physgen.dataset.stream import joined
from physgen.dataset.writer import Checked
from physgen.errors import DataError
from physgen.registry import of_script
from physgen.runtime.engine import Engine, local_engine

__all__ = ["FreshRows"]

STREAM = 2**32 - 1
"""Of the random numbers of all that is drawn here; no dataset has so many shards."""


class FreshRows:
    """Draws the rows of each epoch; to be closed, or used in a ``with`` block.

    Args:
        make: draws a shard.
        rows: of an epoch.
        seed: of all epochs.
        epochs: after which no more rows are asked for.
        reuse: epochs that are trained on the same rows.
        workers: processes that draw the rows of the next epoch meanwhile; 0 for none.
        check: called between shards; what it raises ends the drawing.
        share: of the shards of a set those that this process draws; all by default.
        collect: the shards that it has drawn → those of all processes, in their order.

    Attributes:
        seconds: that the training has waited for rows, s.
        failed: draws of which the simulator made no x.
    """

    def __init__(
        self,
        make: Simulate,
        rows: int,
        seed: int,
        epochs: int,
        reuse: int = 1,
        workers: int = 0,
        check: Callable[[], None] = lambda: None,
        share: Callable[[list[Shard]], list[Shard]] = list,
        collect: Callable[[list[Rows]], list[Rows]] = list,
    ) -> None:
        self.task = Checked(make, make.law, make.law.simulator)
        self.rows, self.seed, self.reuse = rows, seed, reuse
        self.sets, self.check = self.set_of(epochs) + 1, check
        self.share, self.collect = share, collect
        self.shard_rows = declared.shard_rows(make.law.build()) or chunk_rows(make.law)
        self.seconds, self.failed = 0.0, 0
        self.opened = ExitStack()
        self.engine = self.opened.enter_context(local_engine(workers)) if workers else Engine()
        self.pending: dict[int, Iterator[tuple[int, Rows]]] = {}
        self.now: tuple[int, Rows] | None = None

    def set_of(self, epoch: int) -> int:
        """Number of the rows, from 0, that an epoch, from 1, is trained on."""
        return (epoch - 1) // self.reuse

    def drawn_by(self, epoch: int) -> int:
        """How many rows are asked for until an epoch, from 1, is over."""
        return self.rows * (self.set_of(epoch) + 1)

    def __call__(self, epoch: int) -> Rows:
        """The rows of an epoch, from 1.

        Raises:
            DataError: all of them have failed.
            SimulatorFailed: one has failed, and that is to stop.
        """
        number, begun = self.set_of(epoch), time.monotonic()
        if self.now is None or self.now[0] != number:
            rows = joined(self.collect(self.drawn(number)))
            self.failed += len(rows.failed or ())
            if not len(rows):
                raise DataError(f"{self.task.where}: all {self.rows} rows failed")
            self.now = number, replace(rows, failed=None)
        self.seconds += time.monotonic() - begun
        return self.now[1]

    def shards(self, number: int) -> list[Shard]:
        """The shards of a set of rows that this process draws."""
        made = self.share(shards(self.rows, self.shard_rows, self.seed))
        key = (STREAM, number)
        return [
            replace(s, seed=np.random.SeedSequence(self.seed, spawn_key=(*key, s.number)))
            for s in made
        ]

    def drawn(self, number: int) -> list[Rows]:
        """A set of rows; other processes then begin with the next, this one when it is asked for.

        Raises:
            PhysgenError: they die again and again.
        """
        name = self.task.where
        for k in (number, number + 1):
            if k not in self.pending and k < max(self.sets, number + 1):
                every = self.shards(k)
                self.pending[k] = self.engine.each(
                    self.task, every, lambda: self.check(), where=name, noun="shard",
                    script=of_script("simulators", name), window=len(every),
                )  # fmt: skip
        found = dict(self.pending.pop(number))
        return [found[k] for k in sorted(found)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.opened.__exit__(kind or GeneratorExit, value, trace)
