"""What a network that reads x is given: features that respect what x is.

On a torus the features are invariant under shifts, as p(x|θ) is: the mean over all sites of a
small network of each site's neighbourhood, which for nearest-neighbour couplings holds all that x
says of θ. Other x that declares its axes, as a series does, is seen by residual convolutions on
coarser and coarser grids, beside a linear map. Nonnegative x (showers) is shown as hits, as
log(1 + x/s), s being the mean of each component, and as the logarithm of its sum; counts and
columns of different kinds as in :mod:`physgen.nn.columns`; all is standardised. The scales are
learnt from the training rows and saved with the weights.

Where components may be missing, x comes with its mask: what is missing is 0, and the mask is seen
too, so that it may tell of θ.

All this is done in float32, so x comes scaled: `scaled_for` fits the map that takes x, of any
size, to numbers near 1.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from physgen.law import Law
from physgen.nn.blocks import (
    Convolution,
    convolution,
    field_shape,
    periodic_axes,
)
from physgen.nn.columns import ColumnCode
from physgen.nn.ranges import Ranges
from physgen.nn.transforms import Rescale, Transform, finite_part, for_support

__all__ = ["Features", "embedding", "scaled_for", "with_mask"]

WIDTH, HIDDEN = 16, 64
"""Features, and units of a hidden layer."""
WIDE, CHANNELS, FEWEST = 32, 32, 8
"""Of a `Pyramid`: features, channels, and sites along each axis at its top, at most."""
FURTHER = 2
"""Further convolutions of a `Torus` that declares axes."""
TINY = 1e-6


class Relative(Transform):
    """z = x/s, x ≥ 0, s the mean of all components in the training data: what is 0 stays 0."""

    mean: Tensor

    def __init__(self, law: Law) -> None:
        super().__init__()
        self.register_buffer("mean", torch.ones((), dtype=torch.float64))
        self.ranges = Ranges(law.x_shape)

    def fit(self, x: Tensor) -> None:
        """Take s from rows of data (n, *x_shape); 1 where all are 0."""
        mean = x.double().nanmean()
        self.mean.copy_(torch.where(mean > 0, mean, 1.0))
        self.ranges.fit(x)

    def unlike(self, x: Tensor, first: int = 0) -> Iterator[str]:
        """What of x (n, *x_shape), from row `first` on, is unlike all x of the training."""
        return self.ranges.unlike(x, first)

    def forward(self, x: Tensor) -> Tensor:
        """X → z, (B, *x_shape) float32."""
        return (x.double() / self.mean).float()

    def inverse(self, z: Tensor) -> Tensor:
        """z (B, *x_shape) → x float64."""
        return z.double() * self.mean

    def log_det(self, x: Tensor) -> Tensor:
        """log|det ∂z/∂x| = −N log s, ()."""
        return -x[0].numel() * self.mean.log()


def scaled_for(law: Law, x: Tensor, theta: Tensor | None = None) -> Transform:
    """The map of x that embeddings and flows of float32 stand behind, fitted.

    Args:
        law: what x follows.
        x: rows of training data, (n, *x_shape).
        theta: their parameters (n, D), given which a map may be chosen.
    """
    found = Relative(law) if law.support == "nonnegative" else for_support(law)
    found.fit(x)
    if theta is not None:
        found.choose(x, Rescale(law.prior)(theta))
    return found


def with_mask(law: Law, x: Tensor) -> Tensor:
    """Scaled x (B, *x_shape), 0 for what does not count; where it may be missing with its mask.

    Returns:
        (B, *x_shape), or (B, 2, *x_shape) of values and mask; of counts and mixed x their code,
        (B, E).
    """
    if law.support in ("counts", "mixed"):
        return ColumnCode(law).to(x.device)(x)
    value, part = finite_part(x)
    return torch.stack([value, part.to(value.dtype)], 1) if law.missing else value


class Features(nn.Module):
    """x (B, *x_shape) → (B, F) numbers of mean 0 and width 1 over the training rows.

    Args:
        law: what x follows.
        x: rows of training data, with their masks if components may be missing.
    """

    unit: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, law: Law, x: Tensor) -> None:
        super().__init__()
        self.hits, self.masked = law.support == "nonnegative", law.missing
        flat = x.flatten(1).float()
        mean = flat.mean(0)
        if self.masked:
            value, part = mean.chunk(2)
            mean = value / part.clamp(min=TINY)
        self.register_buffer("unit", floored(mean))
        raw = self.raw(flat)
        self.register_buffer("mean", raw.mean(0))
        self.register_buffer("scale", floored(raw.std(0, correction=0)))
        self.size = raw.shape[1]

    def raw(self, flat: Tensor) -> Tensor:
        """The features of flat x (B, N) before they are standardised, (B, F)."""
        if self.masked:
            value, part = flat.chunk(2, 1)
            return torch.cat([self.of_values(value), part], 1)
        return self.of_values(flat)

    def of_values(self, flat: Tensor) -> Tensor:
        """The features of flat x (B, N) without a mask, (B, F)."""
        if not self.hits:
            return flat
        total = flat.sum(1, keepdim=True) / self.unit.sum()
        return torch.cat([(flat / self.unit).log1p(), (flat > 0).float(), (total + TINY).log()], 1)

    def forward(self, x: Tensor) -> Tensor:
        """The features of each x (B, *x_shape), (B, F)."""
        return (self.raw(x.flatten(1).float()) - self.mean) / self.scale


def floored(scale: Tensor) -> Tensor:
    """Scales (...) to divide by, (...): 1 where there is none."""
    return torch.where(scale > 1e-30, scale, 1.0)


class Torus(nn.Module):
    """x on a torus → (B, WIDTH), invariant under shifts.

    A site sees its neighbours, and where axes are declared theirs, too.

    Args:
        law: of x on a lattice.
    """

    def __init__(self, law: Law) -> None:
        super().__init__()
        channels, *self.grid = field_shape(law)
        further = [convolution(WIDTH, WIDTH, law) for _ in range(FURTHER if law.axes else 0)]
        self.sites = nn.Sequential(
            convolution(channels * (1 + law.missing), WIDTH, law),
            nn.ReLU(),
            *itertools.chain.from_iterable((layer, nn.ReLU()) for layer in further),
            convolution(WIDTH, WIDTH, law, 1),
            nn.ReLU(),
        )
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """The features of each x (B, *x_shape), (B, WIDTH)."""
        sites = self.sites(x.float().view(len(x), -1, *self.grid))
        return self.out(sites.flatten(2).mean(2))


class Pyramid(nn.Module):
    """x with an order → (B, WIDE): residual convolutions down to few sites, and a linear map.

    Args:
        law: of x on a lattice.
        features: the numbers that are seen of x, standardised.
    """

    columns: Tensor

    def __init__(self, law: Law, features: Features) -> None:
        super().__init__()
        grid = field_shape(law)[1:]
        self.features, self.grid = features, grid
        sites, columns = math.prod(grid), torch.arange(features.size)
        if features.hits:  # their sum has no place
            columns = columns[columns != 2 * law.size]
        self.register_buffer("columns", columns, persistent=False)
        periodic = periodic_axes(law)
        self.enter = Convolution(len(columns) // sites, CHANNELS, 3, periodic)
        self.down, self.keep = nn.ModuleList(), nn.ModuleList()
        while max(grid) > FEWEST:
            self.down.append(Convolution(CHANNELS, CHANNELS, 3, periodic, 2))
            self.keep.append(Convolution(CHANNELS, CHANNELS, 3, periodic))
            grid = tuple(-(-n // 2) for n in grid)
        self.hidden = nn.Linear(CHANNELS * math.prod(grid), HIDDEN)
        self.out = nn.Linear(HIDDEN, WIDE)
        self.linear = nn.Linear(features.size, WIDE)

    def forward(self, x: Tensor) -> Tensor:
        """The features of each x (B, *x_shape), (B, WIDE)."""
        seen = self.features(x)
        h = self.enter(seen[:, self.columns].reshape(len(x), -1, *self.grid))
        for down, keep in zip(self.down, self.keep, strict=True):
            h = down(F.silu(h))
            h = h + keep(F.silu(h))
        return self.linear(seen) + self.out(F.silu(self.hidden(F.silu(h).flatten(1))))


def on_torus(law: Law) -> bool:
    """Whether x is a field on a torus."""
    return bool(law.spatial) and law.periodic and law.support in (
        "spins", "levels", "reals", "counts",
    )  # fmt: skip


def embedding(law: Law, x: Tensor) -> nn.Module:
    """A network from x (B, *x_shape) to features (B, F).

    Args:
        law: what x follows.
        x: rows of training data, for its scales, as `with_mask` gives them.
    """
    if on_torus(law):
        return Torus(law)
    first = Features(law, x)
    if law.axes and law.spatial:
        return Pyramid(law, first)
    return nn.Sequential(first, nn.Linear(first.size, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, WIDTH))
