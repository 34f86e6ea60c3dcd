r"""Where columns lie: location, width and slopes of N columns as functions of θ.

    y_i = m_i + e^{s_i} (Σ_{j<i} L_ij e_j + e^{t_i} r_i),      e_j = (y_j − m_j) e^{−s_j},

so that any law that is Gaussian given θ is white in r, whatever its mean and covariance. What
least squares find in seconds comes first, and a network of θ adds to it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from physgen.nn.additive import AdditiveWidths, normal_law
from physgen.nn.regression import least_squares, of_left_out, quadratic
from physgen.nn.slopes import AdditiveSlopes, regressed

__all__ = ["FARTHEST", "AdditivePlaces", "ColumnPlaces"]

SHARP = 4.0
"""By which the first layer of θ is steeper than usual: laws bend within parts of the prior."""
WIDEST = 16.0
"""Of |s| and |t|, which up to half of it stay what they are."""
FARTHEST = 20.0
"""Widths beyond which a value pulls no more at the location of later ones."""
CHI_SQUARE = 1.27
"""−⟨log χ²⟩ of one degree of freedom."""
SMALLEST = 1e-4
"""Width in units of the data, at least."""
MOST = 256
"""Slopes of a column that may be linear in θ, with the constant ones."""


class ColumnPlaces(nn.Module):
    """Location, scale and slopes of N columns as functions of θ.

    Args:
        condition: components of c.
        columns: N.
        hidden: units of a layer.
        blocks: residual blocks of two layers.
    """

    below: Tensor
    straight: Tensor

    def __init__(self, condition: int, columns: int, hidden: int, blocks: int = 2) -> None:
        super().__init__()
        self.columns = columns
        row, column = torch.tril_indices(columns, columns, -1)
        below = torch.zeros(columns, columns, dtype=torch.long)
        below[row, column] = torch.arange(1, 1 + len(row))
        self.register_buffer("below", below, persistent=False)
        outputs, features = 3 * columns + len(row), quadratic(torch.zeros(1, condition)).shape[1]
        self.register_buffer("straight", torch.zeros(outputs, features))
        self.enter = nn.Linear(condition, hidden)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, hidden)
            )
            for _ in range(blocks)
        )
        self.leave = nn.Linear(hidden, outputs)
        for start in (self.leave.weight, self.leave.bias):
            nn.init.zeros_(start)
        with torch.no_grad():  # each unit bends somewhere in the prior
            self.enter.weight *= SHARP
            bend = 2 * torch.rand(hidden, condition) - 1
            self.enter.bias.copy_((self.enter.weight * bend).sum(1))

    @torch.no_grad()
    def fit(self, c: Tensor, y: Tensor) -> None:
        """Start at least squares of y (n, N) given c (n, D): quadratic in c, slopes linear."""
        n, q = self.columns, quadratic(c)
        mean = least_squares(c, y)
        off = y - q @ mean
        scale = log_width(c, off)
        e = (off * (-q @ scale).exp()).clamp(-FARTHEST, FARTHEST)
        left, slopes = linear_slopes(c, e)
        start = torch.cat(
            [mean.T, scale.T, log_width(c, left).T, slopes.new_zeros(len(slopes), q.shape[1])]
        )
        start[3 * n :, : slopes.shape[1]] = slopes
        self.straight.copy_(start)

    def start(self, c: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """m, s and t (B, N) each, and slopes (B, N(N − 1)/2) before the network, of c (B, D)."""
        m, s, t, slopes = F.linear(quadratic(c), self.straight).split(self.sizes, 1)
        return m, s, t, slopes

    @property
    def sizes(self) -> list[int]:
        """How many numbers are m, s, t and slopes."""
        n = self.columns
        return [n, n, n, n * (n - 1) // 2]

    def forward(self, c: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """m, s and t (B, N) each, and L (B, N, N), of c (B, D).

        The network moves m in units of the width that the start has there.
        """
        h = self.enter(c)
        for block in self.blocks:
            h = h + block(h)
        m, s, t, slopes = self.start(c)
        moves, *more = self.leave(F.silu(h)).split(self.sizes, 1)
        m = m + limited(s).exp() * moves
        s, t, slopes = (a + b for a, b in zip((s, t, slopes), more, strict=True))
        slopes = F.pad(slopes, (1, 0))[:, self.below.flatten()]
        return m, limited(s), limited(t), slopes.unflatten(1, (self.columns, self.columns))


class AdditivePlaces(ColumnPlaces):
    """The same, whose widths and slopes start as sums of functions of a parameter each.

    Args:
        condition: components of c.
        columns: N.
        hidden: units of a layer.
    """

    def __init__(self, condition: int, columns: int, hidden: int) -> None:
        super().__init__(condition, columns, hidden)
        self.widths, self.conditional = (AdditiveWidths(condition, columns) for _ in range(2))
        self.slopes = AdditiveSlopes(condition, columns)

    def fit(self, c: Tensor, y: Tensor, some: Tensor | None = None) -> None:
        """Start at the normal law of places y (n, N) of some columns (N,) given c (n, D)."""
        some = torch.ones_like(y[0], dtype=torch.bool) if some is None else some
        weights, scale = normal_law(self.widths, c, torch.where(some, y, 0.0))
        self.widths.values.mul_(some)
        off = y.double() - quadratic(c.double()) @ weights
        e = torch.where(some, off * (-scale - self.widths(c.double())).exp(), 0.0)
        slopes, left = regressed(self.slopes, self.conditional, c, e.clamp(-FARTHEST, FARTHEST))
        self.conditional.values.mul_(some)
        with torch.no_grad():
            n, start = self.columns, self.straight
            start[:n] = torch.where(some[:, None], weights.T.to(start.dtype), start[:n])
            start[n : 2 * n, 0] = torch.where(some, scale.to(start.dtype), start[n : 2 * n, 0])
            start[2 * n : 3 * n, 0] = torch.where(some, left.to(start.dtype), 0.0)
            start[3 * n :, 0] = slopes

    def start(self, c: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """m, s and t (B, N) each, and slopes (B, N(N − 1)/2) before the network, of c (B, D)."""
        m, s, t, slopes = super().start(c)
        return m, s + self.widths(c), t + self.conditional(c), slopes + self.slopes(c)


def log_width(c: Tensor, rest: Tensor) -> Tensor:
    """Weights W (k, N), where quadratic(c) W are log widths of columns `rest` (n, N), c (n, D)."""
    square = rest.square()
    weights = least_squares(c, 0.5 * (square.clamp(min=SMALLEST**2).log() + CHI_SQUARE))
    excess = (square * (-2 * quadratic(c) @ weights).exp()).mean(0)
    weights[0] += 0.5 * excess.clamp(min=SMALLEST).log()
    return weights


def linear_slopes(c: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
    """Least squares of each column of e (n, N) on those before it, by slopes linear in c (n, D).

    As many of the nearest, and with or without c, as have the least error of rows left out.

    Returns:
        What they leave, (n, N), and weights of 1 and c (N(N − 1)/2, 1 + D), pair after pair of a
        lower triangle.
    """
    left, weights = e.clone(), [e.new_zeros(0, 1 + c.shape[1])]
    for i in range(1, e.shape[1]):
        near = e[:, :i].flip(1)
        sizes = {0, i, *(2**k for k in range(i.bit_length()))}
        parts = [near]
        if i * (1 + c.shape[1]) <= MOST:
            parts += [near * along[:, None] for along in c.T]
            sizes.add(i * len(parts))
        design = torch.cat(parts, 1)
        found = of_left_out(design, e[:, i : i + 1], sorted(sizes))
        left[:, i] -= (design @ found)[:, 0]
        some = F.pad(found.view(len(parts), i).T.flip(0), (0, 1 + c.shape[1] - len(parts)))
        weights.append(some)
    return left, torch.cat(weights)


def limited(s: Tensor) -> Tensor:
    """s (...) within ±16, bent there only."""
    return s * (1 + (s / WIDEST) ** 8) ** (-1 / 8)
