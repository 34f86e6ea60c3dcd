"""Posteriors of many observations: blocks of rows as tasks of an engine, and what is kept of each.

A posterior takes half a megabyte on its fine grid, or four thousand draws, so that those of many
observations are never held at once. Of each are kept the draws that were asked for, moments, what
the method says of its work and, as long as they are small, the nodes of its grid; what else is
asked of a density, the model answers again (:meth:`Inference.log_joint`).

The rows of a block are fixed, whoever runs it and wherever, and its random numbers are a function
of the seed and its first row: so results do not depend on the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from physgen.posterior.base import APART, Posterior, ahead, rms
from physgen.posterior.density import AT_ONCE, GRID_ARRAYS, GridPosterior
from physgen.posterior.grid import VALUES, fine_points
from physgen.posterior.methods import Inference, Tell
from physgen.runtime.blocks import Here, each_block, nothing
from physgen.runtime.engine import Engine
from simulators.base import Array

__all__ = ["Block", "block_rows", "infer_posteriors", "mixture"]

ROWS = {"grid": 250, "mcmc": 100, "draws": 50, "abc": 1000}
"""Observations of a block at most, by what finds their posteriors."""
FEW = 20
"""The same of all other methods, which are dear."""
KEPT = 2**24
"""Bytes of grids that are kept, at most."""


class Block(NamedTuple):
    """What is kept of the posteriors of n observations.

    Attributes:
        arrays: theta (n, k, D), log_prob (n, k), mean, sd and mean_error (n, D).
        told: what the method says of its own work, (n, …) each.
        grids: those of `GRID_ARRAYS`, if the posteriors are on grids; empty if not.
        chains: in how many chains, one after another, the draws come.
    """

    arrays: Mapping[str, Array]
    told: Mapping[str, Array]
    grids: Mapping[str, Array]
    chains: int


class RowsOf(NamedTuple):
    """Rows of x.

    Attributes:
        number: which of all rows the first is.
        x: (n, *x_shape).
    """

    number: int
    x: Array


@dataclass(frozen=True)
class BlockTask:
    """Makes the posteriors of a block of rows.

    Attributes:
        inference: what finds them.
        tell: is told often how far it is, and may raise.
    """

    inference: Inference
    tell: Tell

    def __call__(self, rows: RowsOf) -> Block:
        """What is kept of the posteriors of rows of x."""
        first, x = rows
        options = self.inference.options
        posterior, *others = self.inference.posteriors(x, first, self.tell)
        rng = np.random.default_rng(options.seed)
        return block_of(posterior, others, options.samples, rng, first)


def block_of(
    posterior: Posterior, others: list[Posterior], k: int, rng: np.random.Generator, first: int
) -> Block:
    """What is kept of posteriors and their k draws.

    Args:
        posterior: of n observations.
        others: posteriors from which draws come in equal parts; itself if there are none.
        k: draws of each.
        rng: random numbers of all observations.
        first: which of these the first is.
    """
    alone = isinstance(posterior, GridPosterior) and not others
    each = k * (posterior.mean.shape[1] + 1) if alone else APART
    others = others or [posterior]
    theta = mixture(others, k, ahead(rng, first * each))
    arrays = {
        "theta": theta,
        "log_prob": posterior.log_prob(theta),
        "mean": posterior.mean,
        "sd": posterior.sd,
        "mean_error": rms(np.stack([p.mean - posterior.mean for p in others]), 0),
    }
    grids = posterior.alike() if isinstance(posterior, GridPosterior) else ()
    chains = posterior.chains_in(k) if len(others) == 1 else 1
    named = dict(zip(GRID_ARRAYS, grids, strict=False))
    return Block(arrays, dict(posterior.diagnostics), named, chains)


def mixture(parts: list[Posterior], k: int, rng: np.random.Generator) -> Array:
    """Draws (n, k, D) that come from each of several posteriors in equal parts."""
    theta = np.concatenate([p.sample(-(-k // len(parts)), rng) for p in parts], 1)
    if len(parts) > 1:
        theta = rng.permutation(theta, axis=1)
    return theta[:, :k]


def block_rows(inference: Inference, size: int) -> int:
    """How many observations a block has, of x with so many components."""
    most = min(ROWS.get(inference.sampler, FEW), max(1, VALUES // size))
    if inference.sampler != "grid":
        return most
    return max(1, min(most, AT_ONCE // fine_points(inference.dims)))


def infer_posteriors(
    inference: Inference,
    x: Array,
    engine: Engine | None = None,
    *,
    tell: Tell = nothing,
    progress: Callable[[int], None] = lambda done: None,
    done: Mapping[int, Block] = MappingProxyType({}),
    keep: Callable[[int, Block], None] = lambda first, block: None,
) -> Block:
    """The posteriors of rows of x, or of all rows as one observation.

    Args:
        inference: what finds them.
        x: observations (n, *x_shape) that follow its law's shape and support.
        engine: where blocks of them are run; in this process if None.
        tell: is told often how far it is, and may raise.
        progress: is told how many posteriors there are, and may raise.
        done: blocks that were kept before, by their first row.
        keep: is given each other block, and its first row.

    Raises:
        UsageError: a method that cannot do what is asked, or sbi is not installed.
        DataError: log p is NaN or infinite.
    """
    iid = inference.options.iid
    n, step = (1, len(x)) if iid else (len(x), block_rows(inference, x[0].size))
    items = [RowsOf(i, x[i : i + step]) for i in range(0, len(x), step) if i not in done]
    joined, task = _Joined(n), BlockTask(inference, Here(tell))
    for first, block in done.items():
        joined.put(first, block)
    for position, block in each_block(engine, task, items, lambda: progress(joined.done)):
        first = items[position].number
        joined.put(first, block)
        keep(first, block)
        progress(joined.done)
    return joined.block()


class _Joined:
    """Blocks, put at their places in arrays of all n observations."""

    def __init__(self, n: int) -> None:
        self.n, self.chains, self.done = n, 1, 0
        self.arrays: dict[str, Array] = {}
        self.told: dict[str, Array] = {}
        self.grids: dict[int, Mapping[str, Array]] = {}
        self.small = True

    def put(self, first: int, block: Block) -> None:
        """Keep a block, whose first observation this is."""
        for mine, theirs in ((self.arrays, block.arrays), (self.told, block.told)):
            for name, values in theirs.items():
                if name not in mine:
                    mine[name] = np.empty((self.n, *values.shape[1:]), values.dtype)
                mine[name][first : first + len(values)] = values
        self.chains, self.done = block.chains, self.done + len(block.arrays["mean"])
        self.grids[first] = block.grids
        held = sum(values.nbytes for grid in self.grids.values() for values in grid.values())
        self.small = self.small and held <= KEPT
        if not self.small:
            self.grids.clear()

    def block(self) -> Block:
        """All of them; without their grids where these are large."""
        grids = [self.grids[first] for first in sorted(self.grids)]
        found = dict(self._wide(grids)) if grids and grids[0] else {}
        return Block(self.arrays, self.told, found, self.chains)

    @staticmethod
    def _wide(grids: list[Mapping[str, Array]]) -> Iterator[tuple[str, Array]]:
        """The grids of all, the last node repeated where others have more."""
        most = max(grid[GRID_ARRAYS[0]].shape[-1] for grid in grids)
        for name, axis in zip(GRID_ARRAYS, (2, 1), strict=True):
            yield name, np.concatenate([_wider(grid[name], most, axis) for grid in grids])


def _wider(values: Array, m: int, axis: int) -> Array:
    """Values (n, …) with as many as m along each axis from one on, the last one repeated."""
    more = [(0, 0)] * axis + [(0, m - size) for size in values.shape[axis:]]
    return np.pad(values, more, "edge")
