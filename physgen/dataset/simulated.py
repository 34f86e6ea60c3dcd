"""Rows that a simulator makes, shard by shard: pure in the shard, and picklable.

A simulator may fail: say of which rows it has no x (`simulators.base.RowsFailed`), raise, or give
x that cannot be. A batch that raises is drawn once more, row by row at the same θ from other
random numbers, so that the rows that raise are known and the x that are kept are not picked. x
that is not finite or outside the support is seen in the batch. What becomes of such rows is the
caller's choice:

- ``stop``: none of the shard is kept.
- ``skip``: they are left out, and their θ and the reason kept beside the rows.
- ``redraw``: so they are, and θ and x drawn again, from random numbers of (shard, attempt); of θ
  that are given, x alone.

Either way the rows follow p(θ | success), which is the prior only if failure does not depend on θ.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

import simulators.base as declared
from physgen.dataset.assumptions import float_type
from physgen.dataset.dataset import as_array
from physgen.dataset.guard import read_chosen
from physgen.dataset.job import Shard
from physgen.dataset.proposal import ThetaSource
from physgen.dataset.schema import Failed, Rows, cast, faults, numeric, refuse
from physgen.errors import DataError, SimulatorFailed, UsageError
from physgen.law import Law
from simulators.base import Array, CannotRun, RowsFailed, Simulator
from simulators.command import READERS

__all__ = ["Manners", "OnError", "Simulate", "drawn"]

OnError = Literal["stop", "skip", "redraw"]
ATTEMPTS = 100  # of drawing a row again
LONGEST = 160  # characters of a message
READERS[b"\x89HDF\r\n\x1a\n"] = read_chosen
PATIENCE = 60.0  # seconds of a first look after which there is no second
MEND = "; mend it and rerun to go on, or add --on-error skip or redraw"


@dataclass(frozen=True)
class Simulate:
    """Makes a shard of a dataset by simulation: picklable, and pure in the shard.

    Attributes:
        law: what to draw from.
        on_error: what to do about rows that fail.
        theta_from: where θ are taken from, if not from the prior.
        device: where x are drawn, which has no effect on them.
    """

    law: Law
    on_error: OnError = "stop"
    theta_from: ThetaSource | None = None
    device: str = "cpu"

    def __call__(self, shard: Shard) -> Rows:
        """θ from the prior or a proposal, x from the simulator, each with a stream of its own.

        Raises:
            SimulatorFailed: a row that fails, if that is to stop; one that fails again and again.
        """
        rows = np.arange(shard.start, shard.stop)
        theta, x, why = self.draw(rows, shard.seed)
        lost = [(theta[why != ""], why[why != ""])]
        for attempt in range(ATTEMPTS * (self.on_error == "redraw")):
            bad = np.flatnonzero(why != "")
            if not len(bad):
                break
            theta[bad], fresh, why[bad] = self.draw(rows[bad], child(shard.seed, 2, attempt))
            x = x.astype(np.result_type(x, fresh))  # a copy, wide enough
            x[bad] = fresh
            still = bad[why[bad] != ""]
            lost.append((theta[still], why[still]))
        good = why == ""
        if self.on_error == "redraw" and not good.all():
            row = shard.start + int(np.argmin(good))
            raise SimulatorFailed(
                f"{self.law.simulator}: row {row}: {why[~good][0]}, {ATTEMPTS} times in a row; "
                "narrow the prior, or take --on-error skip"
            )
        messages = np.concatenate([messages for _, messages in lost])
        found = Rows(x[good], theta[good])
        if not len(messages):
            return found
        thetas = np.concatenate([theta for theta, _ in lost])
        return replace(found, failed=Failed(thetas, tuple(messages), self.on_error))

    def theta(self, rows: Array, rng: np.random.Generator) -> Array:
        """θ of the rows of these numbers, (n,) → (n, D)."""
        if self.theta_from:
            return self.theta_from.at(rows, rng)
        return self.law.prior.sample(len(rows), rng)

    def draw(self, rows: Array, seed: np.random.SeedSequence) -> tuple[Array, Array, Array]:
        """What becomes of the rows of these numbers, (n,).

        Returns:
            θ (n, D), x (n, *x_shape), and why a row failed, (n,) text, empty where it did not.
        """
        law, first = self.law, int(rows[0])
        simulator = declared.on_device(law.build(), self.device)
        theta = self.theta(rows, np.random.default_rng(child(seed, 0)))
        why = np.full(len(rows), "", dtype=object)
        try:
            rng = np.random.default_rng(child(seed, 1))
            x = drawn(simulator, theta.copy(), rng, law.simulator)
        except SimulatorFailed as error:
            known = error.__cause__ if isinstance(error.__cause__, RowsFailed) else None
            if self.on_error == "stop":
                raise SimulatorFailed(
                    f"{failed_in_words(error, law.simulator, first)}{MEND}"
                ) from error
            if known:
                x, why = as_array(known.x), np.array([cleaned(w) for w in known.why], object)
            else:
                x, why = row_by_row(law, simulator, theta, np.random.default_rng(child(seed, 3)))
        stored = cast(Rows(x, theta), law, law.simulator)
        names = declared.declared_columns(simulator).names
        if self.on_error == "stop":
            refuse(stored, law, law.simulator, first, MEND, SimulatorFailed, names)
        for fault, bad in faults(stored, law, names):
            why[bad & (why == "")] = fault
        return theta, x, why


def child(seed: np.random.SeedSequence, *path: int) -> np.random.SeedSequence:
    """A stream of its own, whoever asks and how often."""
    return np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, *path))


def drawn(
    simulator: Simulator, theta: Array, rng: np.random.Generator, name: str = "simulator"
) -> Array:
    """x (n, *x_shape) of a simulator at θ (n, D), which it may change.

    Raises:
        DataError: what it returns is no array of numbers.
        SimulatorFailed: it raises.
        UsageError: it says that it can make no row at all.
    """
    try:
        x: Any = simulator.sample(theta, rng)
    except CannotRun as error:
        raise UsageError(f"{name}: {error}") from error
    except (Exception, SystemExit) as error:  # whatever a user's code raises is told in one line
        raise SimulatorFailed(f"{name}: sample raised {type(error).__name__}: {error}") from error
    try:
        return as_array(x)
    except Exception as error:
        shape = (len(theta), *declared.x_shape(simulator))
        raise DataError(
            f"{name}: sample: expected an array of numbers of shape {shape}, got "
            f"{type(x).__name__}{f' of {x.dtype}' if hasattr(x, 'dtype') else ''}"
        ) from error


def row_by_row(
    law: Law, simulator: Simulator, theta: Array, rng: np.random.Generator
) -> tuple[Array, Array]:
    """x (n, *x_shape), 0 where sample raised, and what it raised (n,), empty where it did not."""
    x, why = np.zeros((len(theta), *law.x_shape)), np.full(len(theta), "", dtype=object)
    for i in range(len(theta)):
        try:
            one = drawn(simulator, theta[i : i + 1].copy(), rng, law.simulator)
            x[i] = numeric(one, (1, *law.x_shape), f"{law.simulator}: x")[0]
        except SimulatorFailed as error:
            text = f"{type(error.__cause__).__name__}: {error.__cause__}"
            why[i] = cleaned(text)
    return x, why


def failed_in_words(error: SimulatorFailed, name: str, first: int) -> str:
    """What a simulator raised, and the first of the rows of which it says that they failed."""
    failed = error.__cause__
    if not isinstance(failed, RowsFailed):
        return str(error)
    row = min(failed.reasons)
    many = f"{len(failed.reasons)} of {len(failed.x)} rows"
    return f"{name}: row {first + row}: {cleaned(failed.reasons[row])} ({many})"


def cleaned(text: str) -> str:
    """A reason as a file and a terminal may have it."""
    return "".join(c if c.isprintable() else " " for c in text)[:LONGEST]


@dataclass(frozen=True)
class Manners:
    """How a simulator behaves on a few rows.

    Attributes:
        changes_theta: whether it changes the θ that it is given.
        reproducible: whether the same θ and rng give the same x; None if that was not looked at.
        random: whether two rows of one θ differ; true where equal ones would prove nothing.
        dtype: the floating type in which that x keeps its digits.
    """

    changes_theta: bool
    reproducible: bool | None
    random: bool
    dtype: Literal["float32", "float64"]

    @classmethod
    def of(cls, simulator: Simulator, theta: Array, name: str = "simulator") -> Manners:
        """Those seen at some θ (n, D), which is not changed.

        The last row is taken where the first is, to see whether they differ. A simulator that
        takes minutes is not asked twice.

        Raises:
            DataError: what `sample` returns is no array of numbers.
            SimulatorFailed: it raises.
            UsageError: it says that it can make no row at all.
        """
        pair = len(theta) > 2
        theta = np.concatenate([theta[:-1], theta[:1]]) if pair else theta
        given, begun = theta.copy(), time.perf_counter()
        x = drawn_or_nan(simulator, given, name)
        slow = time.perf_counter() - begun > PATIENCE
        again = None if slow else drawn_or_nan(simulator, theta.copy(), name)
        same = None if again is None else np.array_equal(x, again, equal_nan=True)
        differ = not pair or (x == np.floor(x)).all() or not np.array_equal(x[0], x[-1])
        return cls(not np.array_equal(given, theta), same, bool(differ), float_type(x))

    @property
    def complaints(self) -> Iterator[str]:
        """What it does that it should not, a line each."""
        if self.changes_theta:
            yield "sample changes its theta; it is given a copy"
        if self.reproducible is False:
            yield (
                "sample gives another x for the same theta and rng: this file cannot be made "
                "again; draw from rng alone (a command: from its {seed})"
            )
        if not self.random:
            yield (
                "two rows of one theta have the same x: if that is not as it should be, draw from "
                "rng (a command: from its {seed})"
            )


def drawn_or_nan(simulator: Simulator, theta: Array, name: str) -> Array:
    """x (n, *x_shape) of a simulator at θ (n, D), from random numbers that are always the same."""
    try:
        return drawn(simulator, theta, np.random.default_rng(2), name)
    except SimulatorFailed as error:
        if not isinstance(error.__cause__, RowsFailed):
            raise
        x = np.array(error.__cause__.x, dtype=float)
        x[error.__cause__.why != ""] = np.nan
        return x
