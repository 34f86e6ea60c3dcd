r"""Slopes between columns, sums of functions of one parameter each: L_ij(c) = Σ_d f_ijd(c_d).

A column regressed on earlier ones, with coefficients that vary with θ (varying-coefficient models,
Hastie & Tibshirani 1993): so a covariance that θ changes is known before any network is trained.
Few of the functions there could be are needed. Those whose score, times a polynomial of c_d, is
many standard errors from zero are tried, the surest first, and taken where they raise the normal
likelihood of rows that are held out.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from physgen.nn.additive import (
    FEWEST,
    HELD_OUT,
    KNOTS,
    NARROWEST,
    PENALTIES,
    SURE,
    AdditiveWidths,
    hats,
    second_differences,
)
from physgen.nn.regression import of_left_out

__all__ = ["AdditiveSlopes", "regressed"]

MOST = 32
"""Functions, at most."""
ROUNDS = 3
"""In which slopes and widths are found given each other."""
DEGREE, CANDIDATE = 3, 5.0
"""Of the polynomials; standard errors from which a function is tried."""


class AdditiveSlopes(nn.Module):
    """Σ_d f_ijd(c_d) for the pairs j < i of N columns, 0 at first.

    Args:
        condition: components of c, D.
        columns: N.
    """

    low: Tensor
    high: Tensor
    pair: Tensor
    parameter: Tensor
    values: Tensor

    def __init__(self, condition: int, columns: int) -> None:
        super().__init__()
        self.columns, self.pairs = columns, columns * (columns - 1) // 2
        functions = min(MOST, self.pairs * condition)
        self.register_buffer("low", -torch.ones(condition))
        self.register_buffer("high", torch.ones(condition))
        self.register_buffer("pair", torch.zeros(functions, dtype=torch.long))
        self.register_buffer("parameter", torch.zeros(functions, dtype=torch.long))
        self.register_buffer("values", torch.zeros(functions, KNOTS))

    def forward(self, c: Tensor) -> Tensor:
        """The sums at c (B, D), pair after pair of a lower triangle, (B, N(N − 1)/2)."""
        found = (hats(self.at(c)[:, self.parameter]) * self.values.to(c.dtype)).sum(-1)
        return found @ (self.pair[:, None] == torch.arange(self.pairs, device=c.device)).to(c)

    def at(self, c: Tensor) -> Tensor:
        """Where c (B, D) lies among the knots, (B, D)."""
        return ((c - self.low) / (self.high - self.low)).clamp(0, 1) * (KNOTS - 1)

    def pulls(self, c: Tensor, e: Tensor) -> Tensor:
        """What they add to columns of e (n, N) given c (n, D), (n, N)."""
        i, j = torch.tril_indices(self.columns, self.columns, -1)
        return torch.zeros_like(e).index_add(1, i, self(c) * e[:, j])

    @torch.no_grad()
    def fit(self, c: Tensor, e: Tensor, rest: Tensor, width: Tensor) -> None:
        """Take the functions, float64 throughout.

        Args:
            c: (n, D).
            e: (n, N) the columns.
            rest: (n, N) what constant slopes leave of them.
            width: (n, N) of the rest.
        """
        self.low.copy_(c.amin(0))
        self.high.copy_(torch.maximum(c.amax(0), self.low + NARROWEST))
        self.values.zero_()
        at, rest, taken = self.at(c), rest.clone(), 0
        for i, j, d in candidates(at, e, rest, width)[: 2 * len(self.values)]:
            if taken == len(self.values):
                return
            design = hats(at[:, d]) * (e[:, j] / width[:, i])[:, None]
            found = penalised(design, rest[:, i] / width[:, i])
            if found is None:
                continue
            rest[:, i] -= design @ found * width[:, i]
            self.values[taken], self.parameter[taken] = found.to(self.values.dtype), d
            self.pair[taken] = i * (i - 1) // 2 + j
            taken += 1


def regressed(
    slopes: AdditiveSlopes, widths: AdditiveWidths, c: Tensor, e: Tensor
) -> tuple[Tensor, Tensor]:
    """The law of each column of e given those before it and c, as far as it is normal.

    Args:
        slopes: what is fitted to how it depends on them.
        widths: what is fitted to what is left.
        c: (n, D).
        e: (n, N), in units of widths given c.

    Returns:
        Constant slopes (N(N − 1)/2,), to which those are added, and log widths (N,) likewise.
    """
    c, e = c.double(), e.double()
    n = e.shape[1]
    constant = constant_slopes(e)
    left = e - e @ constant.T
    rest, t = left, widths.fit(c, left)
    for _ in range(ROUNDS if len(e) >= FEWEST else 0):
        slopes.fit(c, e, left, (t + widths(c)).exp())
        if not slopes.values.any():
            break
        rest = left - slopes.pulls(c, e)
        t = widths.fit(c, rest)
    i, j = torch.tril_indices(n, n, -1)
    return constant[i, j], t


def constant_slopes(e: Tensor) -> Tensor:
    """Least squares of each column of e (n, N) on the nearest of those before it, (N, N).

    As many as have the least error of rows that are left out: 0, 1, 2, 4, … or all.
    """
    n = e.shape[1]
    slopes = e.new_zeros(n, n)
    for i in range(1, n):
        sizes = sorted({0, i, *(2**k for k in range(i.bit_length()))})
        found = of_left_out(e[:, :i].flip(1), e[:, i : i + 1], sizes)
        slopes[i, :i] = found[:, 0].flip(0)
    return slopes


def candidates(at: Tensor, e: Tensor, rest: Tensor, width: Tensor) -> list[tuple[int, int, int]]:
    """(i, j, d) of functions whose score is not by chance, the surest first.

    Args:
        at: (n, D) among the knots.
        e: (n, N).
        rest: (n, N).
        width: (n, N).
    """
    u = 2 * at / (KNOTS - 1) - 1
    score = rest / width.square()
    strongest = []
    for along in u.T:
        tests = []
        for power in range(1, 1 + DEGREE):
            shape = along**power
            seen = e * (shape - shape.mean())[:, None]
            spread = (score.square().T @ seen.square()).sqrt()
            tests.append((score.T @ seen).abs() / spread.clamp(min=1e-300))
        strongest.append(torch.stack(tests).amax(0).tril(-1))
    z = torch.stack(strongest, -1)
    order = z.flatten().argsort(descending=True)[: int((z > CANDIDATE).sum())]
    where = torch.unravel_index(order, z.shape)
    return list(zip(*(index.tolist() for index in where), strict=True))


def penalised(design: Tensor, y: Tensor) -> Tensor | None:
    """Values (K,) of a function with the least error of held-out rows; None if it is not less.

    Args:
        design: (n, K).
        y: (n,).
    """
    cut = len(y) - len(y) // HELD_OUT
    gram, pull = design[:cut].T @ design[:cut], design[:cut].T @ y[:cut]
    second = second_differences(y)
    found, best = None, 0.0
    for penalty in PENALTIES:
        ridge = penalty * second + 1e-3 * torch.eye(KNOTS).to(y)
        tried = torch.linalg.solve(gram + ridge, pull)
        gain = 0.5 * (y[cut:].square() - (y[cut:] - design[cut:] @ tried).square())
        mean = float(gain.mean())
        if mean > max(best, SURE * float(gain.std()) / math.sqrt(len(gain))):
            found, best = tried, mean
    return found
