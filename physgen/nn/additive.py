r"""Log widths that are sums of functions of one parameter each, s_i(c) = Σ_j f_ij(c_j).

Where the width of a law falls by orders of magnitude somewhere in the prior, its logarithm is
steep there, which networks take long to learn. A generalised additive model (Hastie & Tibshirani
1986) finds it in seconds: f are piecewise linear between knots, with a penalty on their second
differences, by Fisher scoring of the normal likelihood of residuals, function after function. Each
function is taken only where it raises the likelihood of rows that are held out.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from physgen.nn.regression import least_squares, quadratic

__all__ = ["AdditiveWidths", "normal_law"]

ROUNDS = 4
"""In which means and widths are found given each other, at most."""
SMALLEST = 1e-5
"""Width around least squares, in units of z, at least."""
KNOTS = 65
PENALTIES = (0.3, 10.0, 300.0)
"""On second differences, which are tried."""
NARROWEST = 1e-3
"""What knots lie over, at least, so that they differ in float32."""
FEWEST, HELD_OUT = 500, 5
"""Rows, at least, and the part of them that is held out, 1/5."""
SWEEPS, STEPS = 2, 8
"""Rounds over all parameters; steps of Fisher scoring for a function."""
SURE = 3.0
"""Standard errors by which a function must raise the likelihood."""
NEAR = 3.0
"""Squares of residuals in units of the width above which steps grow as a logarithm."""


class AdditiveWidths(nn.Module):
    """Σ_j f_ij(c_j) for N columns, 0 at first.

    Args:
        condition: components of c, D.
        columns: N.
    """

    grid: Tensor
    values: Tensor

    def __init__(self, condition: int, columns: int) -> None:
        super().__init__()
        self.register_buffer("grid", torch.linspace(-1, 1, KNOTS).repeat(condition, 1))
        self.register_buffer("values", torch.zeros(condition, KNOTS, columns))

    def forward(self, c: Tensor) -> Tensor:
        """The sums at c (B, D), (B, N)."""
        return hats(self.at(c)).flatten(1) @ self.values.flatten(0, 1).to(c.dtype)

    def at(self, c: Tensor) -> Tensor:
        """Where c (B, D) lies among the knots, (B, D)."""
        return among(self.grid.to(c.dtype), c)

    @torch.no_grad()
    def fit(self, c: Tensor, e: Tensor) -> Tensor:
        """Take the functions from residuals, and return the log widths beside them, (N,).

        Called again, go on from them, with knots where they bend.

        Args:
            c: (n, D).
            e: (n, N).
        """
        e = e.double().square().clamp(min=1e-300)
        if len(e) < FEWEST:
            return 0.5 * e.mean(0).log()
        self.grid.copy_(even(c))
        if self.values.any():
            self.grid, self.values = bunched(self.grid, self.values)
        places = self.at(c.double()).unbind(1)
        functions = [Function(at, e) for at in places]
        values = self.values.double()
        parts = [f.of(v) for f, v in zip(functions, values, strict=True)]
        total = torch.stack(parts).sum(0)
        for _ in range(SWEEPS):
            for j, f in enumerate(functions):
                rest = total - parts[j]
                values[j] = f.best(values[j], rest)
                parts[j] = f.of(values[j])
                total = rest + parts[j]
        self.values.copy_(values)
        return constant(e, total)


def even(c: Tensor) -> Tensor:
    """Knots at equal distances over each component of c (n, D), (D, K)."""
    low = c.amin(0)
    high = torch.maximum(c.amax(0), low + NARROWEST)
    return low[:, None] + (high - low)[:, None] * torch.linspace(0, 1, KNOTS).to(c)


def among(grid: Tensor, c: Tensor) -> Tensor:
    """Where c (B, D) lies among knots (D, K), a knot being 1, (B, D)."""
    part = (c[..., None] - grid[:, :-1]) / grid.diff()
    return part.clamp(0, 1).sum(-1)


def bunched(grid: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Knots (D, K) at equal shares of the length and of ∫ √|f″|, and values (D, K, N) there."""
    wide = grid.diff()
    slope = values.diff(dim=1) / wide[..., None]
    bend = slope.diff(dim=1).abs().mean(-1) / (0.5 * (wide[:, 1:] + wide[:, :-1]))
    root = F.pad(bend.sqrt(), (1, 1))
    share = wide * (root[:, 1:] + root[:, :-1])
    share = share / share.sum(1, keepdim=True).clamp(min=1e-12) + wide / wide.sum(1, keepdim=True)
    part = F.pad(share.cumsum(1), (1, 0)) / share.sum(1, keepdim=True)
    at = among(part, torch.linspace(0, 1, KNOTS).to(part)[:, None].expand(-1, len(part))).T
    rows = hats(at)
    return (rows @ grid[..., None])[..., 0], rows @ values


def hats(at: Tensor) -> Tensor:
    """Weights of the knots at places (...) among them, (..., K)."""
    return (1 - (at[..., None] - torch.arange(float(KNOTS)).to(at)).abs()).clamp(min=0)


def second_differences(like: Tensor) -> Tensor:
    """The quadratic form of squared second differences of K values, (K, K), typed like (...)."""
    second = torch.eye(KNOTS, dtype=like.dtype, device=like.device).diff(n=2, dim=0)
    return second.T @ second


def normal_law(
    widths: AdditiveWidths, c: Tensor, z: Tensor, rounds: int = ROUNDS
) -> tuple[Tensor, Tensor]:
    """The normal law of each column of z (n, d) given c (n, D), of which widths are fitted.

    Means are least squares, which weigh rows by their widths, and these are found given the means,
    in turn.

    Args:
        widths: what is fitted.
        c: (n, D).
        z: (n, d).
        rounds: in which they are, at most.

    Returns:
        W (k, d), where quadratic(c) W are the means, and s (d,), to which log widths are added.
    """
    width = None
    for _ in range(rounds):
        weights = least_squares(c, z, width)
        scale = widths.fit(c, z.double() - quadratic(c.double()) @ weights)
        if not widths.values.any():
            break
        width = (scale + widths(c)).exp().clamp(min=SMALLEST)
    return weights, scale.clamp(min=math.log(SMALLEST))


class Function:
    """A function of one parameter in the log widths of all columns.

    Args:
        at: (n,) where the parameter lies among the knots.
        e: (n, N) squares of residuals.
    """

    def __init__(self, at: Tensor, e: Tensor) -> None:
        self.e, self.trained = e, len(e) - len(e) // HELD_OUT
        self.left = at.long().clamp(max=KNOTS - 2)
        self.part = (at - self.left)[:, None]
        rows = torch.zeros(self.trained, KNOTS, dtype=e.dtype, device=e.device)
        left, part = self.left[: self.trained, None], self.part[: self.trained]
        rows.scatter_(1, left, 1 - part).scatter_(1, left + 1, part)
        second = second_differences(e)
        self.penalties = [penalty * second for penalty in PENALTIES]
        ridge = 1e-3 * torch.eye(KNOTS, dtype=e.dtype, device=e.device)
        gram = rows.T @ rows + ridge
        self.inverses = [torch.linalg.inv(gram + penalty) for penalty in self.penalties]

    def of(self, values: Tensor) -> Tensor:
        """The function at all rows, from its values (K, N) at the knots, (n, N)."""
        return values[self.left].lerp(values[self.left + 1], self.part)

    def gathered(self, rows: Tensor) -> Tensor:
        """The transpose of `of` for the rows that are trained on, (n′, N) → (K, N)."""
        left, part = self.left[: self.trained], self.part[: self.trained]
        total = rows.new_zeros(KNOTS, rows.shape[1])
        return total.index_add(0, left, rows * (1 - part)).index_add(0, left + 1, rows * part)

    def best(self, values: Tensor, rest: Tensor) -> Tensor:
        """New values (K, N) beside the log widths `rest` (n, N) of all else."""
        found = torch.zeros_like(values)
        loss = self.loss(rest)
        least = loss.mean(0)
        for penalty, inverse in zip(self.penalties, self.inverses, strict=True):
            tried = self.scored(values, rest, penalty, inverse)
            tried = tried - tried.mean(0)
            gain = loss - self.loss(rest + self.of(tried))
            sure = gain.mean(0) > SURE * gain.std(0) / math.sqrt(len(gain))
            taken = sure & (loss.mean(0) - gain.mean(0) < least)
            found = torch.where(taken, tried, found)
            least = torch.where(taken, loss.mean(0) - gain.mean(0), least)
        return found

    def scored(self, values: Tensor, rest: Tensor, penalty: Tensor, inverse: Tensor) -> Tensor:
        """Values (K, N) after some steps of Fisher scoring with a penalty (K, K)."""
        e, rest = self.e[: self.trained], rest[: self.trained]
        rest = rest + constant(e, rest)
        for _ in range(STEPS):
            u = e * (-2 * (rest + self.of(values)[: self.trained])).exp()
            excess = u.clamp(max=NEAR) + NEAR * (u / NEAR).clamp(min=1).log() - 1
            step = inverse @ (self.gathered(0.5 * excess) - penalty @ values)
            values = values + step.clamp(-1, 1)
        return values

    def loss(self, s: Tensor) -> Tensor:
        """−log p of held-out residuals by log widths s (n, N) but for a constant, (n″, N)."""
        k = self.trained
        s = s[k:] + constant(self.e[:k], s[:k])
        return 0.5 * self.e[k:] * (-2 * s).exp() + s


def constant(e: Tensor, s: Tensor) -> Tensor:
    """What is to be added to log widths s (n, N) of residuals of squares e (n, N), (N,)."""
    return 0.5 * (e * (-2 * s).exp()).mean(0).log()
