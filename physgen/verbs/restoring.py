"""Draws of x given y, made in blocks, here or on workers, and what is known of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from physgen.dataset.schema import as_type, x_type
from physgen.errors import UsageError
from physgen.law import Law
from physgen.runtime.engine import Engine
from physgen.verbs.measured import MeasuredRow
from physgen.verbs.theta_given_y import (
    ROUNDS,
    Proposals,
    as_given,
    by_exact_evidence,
    theta_scores,
)
from simulators.base import Array, Restorer

if TYPE_CHECKING:
    from physgen.surrogates.base import Surrogate

__all__ = ["EXACT", "DrawnRow", "RestoreTask", "drawn_rows"]

EXACT, PARTICLES, MASKED = "exact", "particles", "masked"
"""The method that is the simulator's own, and those that tell log p(y|θ)."""
BLOCK = 64
"""Draws of a block, which share their random numbers' seed."""
CONTROL, REFERENCE, THETA = 2**31, 2**31 + 1, 2**31 + 2
"""In the place of a block's number: x without y, exact draws, and θ of a row."""
SETS = 20
"""Sets of exact draws, which tell what chance does."""
PROPOSED, LEAST = 4, 240
"""Proposals of θ for each draw of it, where their weights come from the method's evidence, and at
least."""


class RestoreBlock(NamedTuple):
    """Draws of one row that are made at once.

    Attributes:
        number: the row.
        block: which of its blocks.
        theta: of each draw, (k, D).
        row: what was measured.
    """

    number: int
    block: int
    theta: Array
    row: MeasuredRow


class DrawnBlock(NamedTuple):
    """Draws x (k, *x_shape), and what the method says of each, (k,)."""

    x: Array
    told: Mapping[str, Array]


class DrawnRow(NamedTuple):
    """All draws of one row.

    Attributes:
        arrays: x (n, *x_shape), theta (n, D), exact moments, and what the method says.
        scores: beside the exact ones; empty where these are not known.
        told: where θ come from, in words.
        absent: why there are no scores.
    """

    arrays: Mapping[str, Array]
    scores: Mapping[str, Any]
    told: str
    absent: str


@dataclass(frozen=True)
class RestoreTask:
    """Makes the draws of a block: a function of the seed, the row and the block.

    Attributes:
        surrogate: the prior; None of the simulator's own method.
        exact: the simulator's own p(x|θ, y); None where there is none.
        law: of x.
        method: the way.
        tune: its options.
        seed: of all draws.
    """

    surrogate: Surrogate | None
    exact: Restorer | None
    law: Law
    method: str
    tune: Mapping[str, float]
    seed: int

    def __call__(self, block: RestoreBlock) -> DrawnBlock:
        """The draws."""
        if self.method == EXACT and self.exact:
            rng = np.random.default_rng([self.seed, block.number, block.block])
            x = exact_draws(self.exact, block.theta, block.row, 1, rng)[0][0]
            return DrawnBlock(as_type(x, x_type(self.law)), {})
        from physgen.nn.measurement import Measurement

        model, row = cast("Surrogate", self.surrogate), block.row
        options = {k: int(v) if float(v).is_integer() else v for k, v in self.tune.items()}
        found = model.restore(
            block.theta,
            np.broadcast_to(row.y, (len(block.theta), *row.y.shape)).copy(),
            Measurement(row.linear, row.noise),
            method=self.method,
            generator=torch_seed(self.seed, block.number, block.block),
            **options,
        )
        told = {name: value.double().cpu().numpy() for name, value in found.diagnostics.items()}
        return DrawnBlock(found.x.cpu().numpy(), told)


def torch_seed(*numbers: int) -> int:
    """A seed of torch that is a function of several numbers."""
    return int(np.random.SeedSequence(list(numbers)).generate_state(1, np.uint64)[0] >> 1)


def exact_draws(
    exact: Restorer, theta: Array, row: MeasuredRow, sets: int, rng: np.random.Generator
) -> tuple[Array, Array, Array, float]:
    """Sets of exact draws, one of each for each θ, and the exact moments over all θ.

    Args:
        exact: the simulator's p(x|θ, y).
        theta: (n, D).
        row: what was measured.
        sets: number of sets R.
        rng: random numbers.

    Returns:
        (R, n, *x_shape), mean and standard deviation (*x_shape,), and the error of the mean.
    """
    values, which = np.unique(theta, axis=0, return_inverse=True)
    out = np.empty((sets, len(theta), *row.linear.x_shape))
    mean, square, worst = np.zeros(row.linear.x_shape), np.zeros(row.linear.x_shape), 0.0
    for number, one in enumerate(values):
        mine = np.flatnonzero(which.ravel() == number)
        found = as_given(exact, one, row)
        some = found.sample(sets * len(mine), rng)
        out[:, mine] = some.reshape(sets, len(mine), *some.shape[1:])
        if sets > 1:
            (m, s), part = found.moments, len(mine) / len(theta)
            mean, square = mean + part * m, square + part * (s**2 + m**2)
            worst = max(worst, found.error)
    return out, mean, np.sqrt(np.clip(square - np.square(mean), 0, None)), worst


class AskedRow:
    """One row in the making: its θ, round by round, and what is drawn at each.

    Args:
        task: what draws.
        row: what was measured.
        n: draws of it.
        number: which row it is.

    Attributes:
        words: what θ follow.
        proposals: of θ that are yet to be weighed; None where they are told or drawn already.
        truth: the exact p(θ|y), where θ is not told and it is known.

    Raises:
        UsageError: θ is not known, and neither is p(y|θ).
    """

    def __init__(self, task: RestoreTask, row: MeasuredRow, n: int, number: int) -> None:
        self.task, self.row, self.n, self.number = task, row, n, number
        self.proposals: Proposals | None = None
        self.truth, self.words, self.made = None, "told", list[DrawnBlock]()
        if row.theta is not None:
            self.theta = np.tile(row.theta, (n, 1))
            return
        rng = np.random.default_rng([task.seed, number, THETA])
        self.truth = by_exact_evidence(task.exact, row, task.law)
        if task.method == PARTICLES or (task.method == MASKED and self.truth is None):
            self.proposals = Proposals(task.law.prior, rng)
            self.theta = np.empty((0, len(task.law.prior)))
            self.words = f"p(θ|y) of the evidence of {task.method}"
        elif self.truth is not None:
            self.theta = self.truth.sample(n, rng)[0]
            self.words = "p(θ|y) of the exact evidence"
        else:
            raise UsageError(
                "theta: is not known, and neither is p(y|theta) by this method; give --theta"
            )

    def blocks(self) -> list[RestoreBlock]:
        """What is to be drawn next; of θ that are known in one round, else in several."""
        theta = self.theta
        if self.proposals:
            theta = self.proposals.more(-(-max(LEAST, PROPOSED * self.n) // ROUNDS))
            self.theta = np.concatenate([self.theta, theta])
        return [
            RestoreBlock(self.number, len(self.made) + b, theta[start : start + BLOCK], self.row)
            for b, start in enumerate(range(0, len(theta), BLOCK))
        ]

    def add(self, made: Sequence[DrawnBlock]) -> None:
        """Take what was drawn of the blocks of a round.

        Raises:
            UsageError: the method does not tell the evidence of θ that are to be weighed.
        """
        self.made += made
        if self.proposals:
            if "log_evidence" not in made[0].told:
                raise UsageError(
                    f"theta: is not known, nor is p(y|theta) to {self.task.method} here; give "
                    "--theta"
                )
            self.proposals.told(np.concatenate([m.told["log_evidence"] for m in made]))

    def drawn(self) -> DrawnRow:
        """All draws, and how far they are from the exact ones."""
        arrays: dict[str, Array] = {
            "x": np.concatenate([m.x for m in self.made]),
            "theta": self.theta,
            **{k: np.concatenate([m.told[k] for m in self.made]) for k in self.made[0].told},
        }
        scores: dict[str, Any] = {}
        absent = "the simulator does not know the exact p(x|θ, y)"
        if self.proposals:
            arrays = self.proposals.posterior(arrays, self.n)
        if self.task.exact:
            try:
                moments, scores = beside_exact(self.task, self.task.exact, self, arrays)
                arrays |= moments
            except (UsageError, ValueError) as error:
                absent = str(error).removeprefix("method exact: ")
        return DrawnRow(arrays, scores, self.words, absent)


def drawn_rows(
    task: RestoreTask,
    rows: Sequence[MeasuredRow],
    n: int,
    first: int,
    there: Engine,
    tick: Callable[[float], None],
) -> list[DrawnRow]:
    """The draws of all rows, and how far they are from the exact ones.

    Args:
        task: what draws.
        rows: what was measured.
        n: draws of each row.
        first: which of all rows the first is.
        there: where blocks are drawn.
        tick: is told the part that is done, and may raise.
    """
    from physgen.runtime.blocks import all_blocks

    asked = [AskedRow(task, row, n, first + i) for i, row in enumerate(rows)]
    rounds = ROUNDS if any(one.proposals for one in asked) else 1
    for turn in range(rounds):
        going = [one for one in asked if one.proposals or not turn]
        todo = [one.blocks() for one in going]

        def tick_round(part: float, turn: int = turn) -> None:
            tick((turn + part) / rounds)

        made = iter(all_blocks(there, task, [b for mine in todo for b in mine], tick_round))
        for one, mine in zip(going, todo, strict=True):
            one.add([next(made) for _ in mine])
    return [one.drawn() for one in asked]


def beside_exact(
    task: RestoreTask, exact: Restorer, asked: AskedRow, arrays: Mapping[str, Array]
) -> tuple[dict[str, Array], dict[str, Any]]:
    """The exact moments (*x_shape,) of x given y, and how far draws are from them.

    Raises:
        UsageError: the exact p(x|y) is not known.
    """
    from physgen.checks.restoration import Reference, restoration_scores

    theta, row, number = arrays["theta"], asked.row, asked.number
    if asked.proposals and asked.truth is None:
        raise UsageError("θ is not known, and neither is the exact p(y|θ)")
    rng = np.random.default_rng([task.seed, number, REFERENCE])
    sets, mean, sd, error = exact_draws(exact, theta, row, SETS, rng)
    if asked.proposals:  # draws of one θ are copies of one x
        _, kept, which = np.unique(theta, axis=0, return_index=True, return_inverse=True)
        sets = sets[:, kept[which.ravel()]]
    if not sd.any():
        raise UsageError("y tells all of x, and nothing is left to compare")
    without = None
    if task.surrogate:
        seed = torch_seed(task.seed, number, CONTROL)
        without = task.surrogate.sample(theta, seed).cpu().numpy()
    scores = restoration_scores(arrays["x"], Reference(mean, sd, error, sets), task.law, without)
    if asked.proposals:
        scores["theta"] = theta_scores(arrays, asked.truth, task.law.prior)
    return {"exact_mean": mean, "exact_sd": sd}, scores
