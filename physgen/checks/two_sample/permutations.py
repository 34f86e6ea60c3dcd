r"""The null of two samples: pool them, and deal the rows out anew.

Every figure that compares two samples comes with what it would read if their laws were equal,
because none is zero at finite N: distances of histograms are biased upwards. That is had from
*permutations*: pool both samples, deal them out again at the same sizes, and compute the same
figure (Good, Permutation, Parametric and Bootstrap Tests of Hypotheses, 2005). Where row i of both
samples has the same θ, only the two rows of a *pair* may change places.

A test that is too weak also reads its null. So a *positive control* stands beside it: a sample in
which each component of x was dealt out anew among the rows, which keeps all its marginals and
destroys what ties components to one another and to θ. It must be told from the truth.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simulators.base import Array

__all__ = ["Tested", "deals", "first_of", "shuffle_components"]


class Tested(NamedTuple):
    """A figure, the mean and the 95 % point of its null, and the p-value of more than that."""

    value: float
    null: float
    null_95: float
    p_value: float

    @classmethod
    def of(cls, values: Array) -> Tested:
        """From values (1 + permutations,), the first of the samples as they are."""
        value, null = float(values[0]), values[1:]
        p = (1 + np.sum(null >= value)) / len(values)
        return cls(value, float(null.mean()), float(np.quantile(null, 0.95)), float(p))


def deals(
    n: int, m: int, rng: np.random.Generator, permutations: int = 200, *, paired: bool = False
) -> Array:
    """Rows of the pooled sample dealt out anew, (1 + permutations, n + m) int32.

    The first n of each line are the first sample; the first line is the samples as they are.

    Args:
        n: rows of the first sample.
        m: rows of the second sample, as many if paired.
        rng: random numbers.
        permutations: how often.
        paired: whether only row i of both samples may change places.
    """
    order = np.tile(np.arange(n + m, dtype=np.int32), (1 + permutations, 1))
    if not paired:
        rng.permuted(order[1:], axis=1, out=order[1:])
        return order
    swapped = n * rng.integers(2, size=(permutations, n), dtype=np.int32)
    order[1:] += np.concatenate([swapped, -swapped], 1)
    return order


def first_of(deal: Array, n: int) -> Array:
    """Labels of the pooled rows for each deal (P, N): 1 in the first sample of n, else 0."""
    labels = np.zeros(deal.shape, dtype=np.float32)
    np.put_along_axis(labels, deal[:, :n], 1, axis=1)
    return labels


def shuffle_components(x: Array, rng: np.random.Generator) -> Array:
    """The positive control: each component of x (n, …) dealt out anew among all rows."""
    return rng.permuted(x.reshape(len(x), -1), axis=0).reshape(x.shape)
