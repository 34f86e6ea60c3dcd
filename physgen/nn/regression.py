"""Least squares of x on θ: what a normal law whose mean is quadratic in θ says."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["least_squares", "quadratic"]

MOST_QUADRATIC = 20
"""Parameters of which products are taken."""
ROWS_EACH = 10
"""Rows that a feature needs."""


def quadratic(c: Tensor) -> Tensor:
    """1, c and the products of two of its components, (B, D) → (B, 1 + D + D(D + 1)/2).

    Of more than 20 components only 1 and c.
    """
    linear = [torch.ones_like(c[:, :1]), c]
    if c.shape[1] > MOST_QUADRATIC:
        return torch.cat(linear, 1)
    i, j = torch.triu_indices(c.shape[1], c.shape[1])
    return torch.cat([*linear, c[:, i] * c[:, j]], 1)


def least_squares(c: Tensor, z: Tensor, width: Tensor | None = None) -> Tensor:
    """Weights W (k, d) of which quadratic(c) W is the mean of z (n, d) given c (n, D).

    Each column takes 1, or c too, or the products too, whichever has the least error of rows that
    are left out, one at a time; the other weights are 0. Of few rows there are no products, or
    only 1. A breath of a ridge takes what features have in common.

    Args:
        c: (n, D).
        z: (n, d).
        width: (n, d) of z around its mean; alike if None.
    """
    features, z = quadratic(c.double()), z.double()
    sizes = sorted({1, 1 + c.shape[1], features.shape[1]})
    if width is None:
        return of_left_out(features, z, sizes)
    weights = []
    for column, wide in zip(z.T, width.double().T, strict=True):
        unit = (wide * wide.reciprocal().square().mean().sqrt())[:, None]
        weights.append(of_left_out(features / unit, column[:, None] / unit, sizes))
    return torch.cat(weights, 1)


def of_left_out(features: Tensor, z: Tensor, sizes: list[int]) -> Tensor:
    """Least squares of z (n, d) on the first few of features (n, k), (k, d).

    Args:
        features: (n, k).
        z: (n, d).
        sizes: how many of the first ones each column may take.
    """
    n, k = features.shape
    weights, least = z.new_zeros(k, z.shape[1]), z.new_full((z.shape[1],), torch.inf)
    for used in sizes:
        if used > 1 and ROWS_EACH * used > n:
            continue
        some = features[:, :used]
        gram = some.T @ some
        gram.diagonal().add_(1e-9 * n)
        pull = torch.linalg.solve(gram, some.T)
        found, own = pull @ z, (some * pull.T).sum(1)
        left_out = (z - some @ found) / (1 - own).clamp(min=1e-9)[:, None]
        error = left_out.square().mean(0)
        weights[:used] = torch.where(error < least, found, weights[:used])
        least = torch.minimum(error, least)
    return weights
