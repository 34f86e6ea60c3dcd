"""Rows that a simulator makes, shard by shard: pure in the shard, and picklable.

A simulator may fail: raise, or give x that cannot be. A batch that raises is drawn once more, row
by row at the same θ from other random numbers, so that the rows that raise are known and the x
that are kept are not picked. x that is not finite or outside the support is seen in the batch.
What becomes of such rows is the caller's choice:

- ``stop``: none of the shard is kept.
- ``skip``: they are left out, and their θ and the reason kept beside the rows.
- ``redraw``: so they are, and θ and x drawn again, from random numbers of (shard, attempt).

Either way the rows follow p(θ | success), which is the prior only if failure does not depend on θ.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

import simulators.base as declared
from physgen.dataset.assumptions import float_type
from physgen.dataset.dataset import as_array
from physgen.dataset.job import Shard
from physgen.dataset.proposal import Proposal
from physgen.dataset.schema import Failed, Rows, cast, faults, numeric, refuse
from physgen.errors import DataError, SimulatorFailed
from physgen.law import Law
from simulators.base import Array, Simulator

__all__ = ["Manners", "OnError", "Simulate", "drawn"]

OnError = Literal["stop", "skip", "redraw"]
ATTEMPTS = 100  # of drawing a row again
LONGEST = 160  # characters of a message
MEND = "; mend it and rerun to go on, or add --on-error skip or redraw"


@dataclass(frozen=True)
class Simulate:
    """Makes a shard of a dataset by simulation: picklable, and pure in the shard.

    Attributes:
        law: what to draw from.
        on_error: what to do about rows that fail.
        proposal: what θ are drawn from, if not from the prior.
    """

    law: Law
    on_error: OnError = "stop"
    proposal: Proposal | None = None

    def __call__(self, shard: Shard) -> Rows:
        """θ from the prior or a proposal, x from the simulator, each with a stream of its own.

        Raises:
            SimulatorFailed: a row that fails, if that is to stop; one that fails again and again.
        """
        theta, x, why = self.draw(len(shard), shard.seed, shard.start)
        lost = [(theta[why != ""], why[why != ""])]
        for attempt in range(ATTEMPTS * (self.on_error == "redraw")):
            bad = np.flatnonzero(why != "")
            if not len(bad):
                break
            theta[bad], fresh, why[bad] = self.draw(len(bad), child(shard.seed, 2, attempt))
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
        rows = Rows(x[good], theta[good])
        if not len(messages):
            return rows
        thetas = np.concatenate([theta for theta, _ in lost])
        return replace(rows, failed=Failed(thetas, tuple(messages), self.on_error))

    def draw(
        self, n: int, seed: np.random.SeedSequence, first: int = 0
    ) -> tuple[Array, Array, Array]:
        """θ (n, D), x (n, *x_shape), and why a row failed, (n,) text, empty where it did not."""
        law, simulator = self.law, self.law.build()
        theta = (self.proposal or law.prior).sample(n, np.random.default_rng(child(seed, 0)))
        why = np.full(n, "", dtype=object)
        try:
            rng = np.random.default_rng(child(seed, 1))
            x = drawn(simulator, theta.copy(), rng, law.simulator)
        except SimulatorFailed as error:
            if self.on_error == "stop":
                raise SimulatorFailed(f"{error}{MEND}") from error
            x, why = row_by_row(law, simulator, theta, np.random.default_rng(child(seed, 3)))
        stored = cast(Rows(x, theta), law, law.simulator)
        if self.on_error == "stop":
            refuse(stored, law, law.simulator, first, MEND, SimulatorFailed)
        for fault, bad in faults(stored, law):
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
    """
    try:
        x: Any = simulator.sample(theta, rng)
    except (Exception, SystemExit) as error:  # whatever a user's code raises is told in one line
        raise SimulatorFailed(f"{name}: sample raised {type(error).__name__}: {error}") from error
    if isinstance(x, np.ma.MaskedArray):
        x = np.ma.filled(x.astype(float), np.nan)
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
            why[i] = "".join(c if c.isprintable() else " " for c in text)[:LONGEST]
    return x, why


@dataclass(frozen=True)
class Manners:
    """How a simulator behaves on a few rows.

    Attributes:
        changes_theta: whether it changes the θ that it is given.
        reproducible: whether the same θ and rng give the same x.
        dtype: the floating type in which that x keeps its digits.
    """

    changes_theta: bool
    reproducible: bool
    dtype: Literal["float32", "float64"]

    @classmethod
    def of(cls, simulator: Simulator, theta: Array, name: str = "simulator") -> Manners:
        """Those seen at some θ (n, D), which is not changed.

        Raises:
            DataError: what `sample` returns is no array of numbers.
            SimulatorFailed: it raises.
        """
        given = theta.copy()
        x = drawn(simulator, given, np.random.default_rng(2), name)
        again = drawn(simulator, theta.copy(), np.random.default_rng(2), name)
        same = np.array_equal(x, again, equal_nan=True)
        return cls(not np.array_equal(given, theta), same, float_type(x))
