"""Slice sampling (Neal, Ann. Statist. 31 (2003) 705) of many chains at once, by sbi.

One call of the log density moves all chains, so that a dear one is asked in large batches. sbi's
sampler draws from a generator of its own here, and begins with brackets that the caller chooses:
its default, 0.01, is stepped out of one by one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from physgen.sbi.manners import visiting
from simulators.base import Array

__all__ = ["slice_chains"]


def slice_chains(
    log_density: Callable[[Array], Array],
    start: Array,
    steps: int,
    *,
    thin: int,
    tuning: int,
    brackets: Array,
    seed: int,
    rng: np.random.Generator,
) -> Array:
    """The path of chains in an unbounded space.

    Args:
        log_density: u (C, D) → (C,), but for a constant.
        start: where they begin, (C, D).
        steps: draws of each that are kept.
        thin: draws that are made for each that is kept.
        tuning: steps at the beginning that tune the brackets.
        brackets: widths of the first brackets, (D,).
        seed: seed of what sbi draws from global generators.
        rng: random numbers of the chains.

    Returns:
        (C, steps, D) float64.
    """
    from sbi.samplers.mcmc import SliceSamplerVectorized

    with visiting(seed):
        sampler = SliceSamplerVectorized(
            log_density, start, len(start), thin, tuning, verbose=False, init_width=brackets
        )
        sampler.rng = np.random.RandomState(rng.integers(2**32))
        return sampler.run(steps * thin)
