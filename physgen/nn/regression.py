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


def least_squares(c: Tensor, z: Tensor) -> Tensor:
    """Weights W (k, d) of which quadratic(c) W is the mean of z (n, d) given c (n, D).

    Of few rows those of the products, or of all but 1, are 0. A breath of a ridge takes what
    features have in common.
    """
    features = quadratic(c.double())
    n, k = features.shape
    used = next((m for m in (k, 1 + c.shape[1]) if ROWS_EACH * m <= n), 1)
    some = features[:, :used]
    gram = some.T @ some
    gram.diagonal().add_(1e-9 * n)
    weights = z.new_zeros(k, z.shape[1], dtype=torch.float64)
    weights[:used] = torch.linalg.solve(gram, some.T @ z.double())
    return weights
