r"""Showers as layer energies, and shares of them: an invertible map with its exact volume.

A shower x (L, A, R) of nonnegative cells becomes

    log E_l,  E_l = Σ_i x_li,   and   y_li = logit(x_li / R_li),   R_li = Σ_{j ≥ i} x_lj,

the *stick-breaking* of each layer's energy, cell by cell in their order. The last cell that is hit
takes what is left, so that the cells of a layer add up to its energy whatever the y are. (For
independent Gamma cells of one scale, the parts that are broken off are independent of one another
and of E_l.) With M hits in a layer, the map of (x_1, …, x_M) to (log E, y_1, …, y_{M−1}) has

    log|det| = −log E − Σ_{i < M} [log R_i + log u_i (1 − u_i)],   u_i = x_i/R_i.

The split of energies and shares is that of CaloFlow (Krause & Shih 2021, arXiv:2106.05285) and
CaloDREAM (Favaro et al. 2024, arXiv:2405.09629).
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from physgen.law import Law
from physgen.nn.transforms.related import Threshold

__all__ = ["CellShares", "LayerEnergies", "Layers", "masked_log", "masked_moments"]

TINY = 1e-300


class LayerEnergies(Threshold):
    """A map of showers whose first L numbers are log E − μ of the layers.

    Args:
        law: of nonnegative x, layers first.
    """

    energy: Tensor
    precision: ClassVar[torch.dtype] = torch.float32

    def __init__(self, law: Law) -> None:
        super().__init__()
        self.x_shape, self.layers = law.x_shape, law.x_shape[0]
        self.register_buffer("energy", torch.zeros(self.layers, dtype=self.precision))

    def fit(self, x: Tensor) -> None:
        """Take μ, the mean of log E, from rows of data (n, *x_shape)."""
        super().fit(x)
        self.energy.copy_(masked_moments(masked_log(self._cells(x).sum(-1)))[0])

    def _cells(self, x: Tensor) -> Tensor:
        """x as (B, L, A·R), float64."""
        return x.double().reshape(len(x), self.layers, -1)


class Layers(LayerEnergies):
    """z = (log E − μ, (y − m)/s): (B, L, A, R) → (B, L + L·A·R), float32.

    Numbers that do not exist are −∞: log E of a layer without energy, y of a cell without hit; y
    of a layer's last hit, which its energy tells, is +∞.

    Args:
        law: of showers of three axes, layers first.
    """

    mean: Tensor
    std: Tensor
    usual: Tensor

    def __init__(self, law: Law) -> None:
        super().__init__(law)
        self.cells = law.size // self.layers
        self.register_buffer("mean", torch.zeros(self.layers, self.cells))
        self.register_buffer("std", torch.ones(self.layers, self.cells))
        self.register_buffer("usual", torch.zeros(self.layers, dtype=torch.long))

    def fit(self, x: Tensor) -> None:
        """Take means and widths from rows of data (n, L, A, R), and the cell most often hit."""
        super().fit(x)
        mean, std = masked_moments(self._split(x)[1])
        self.mean.copy_(mean)
        self.std.copy_(std)
        self.usual.copy_((self._cells(x) > 0).sum(0).argmax(-1))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, L, A, R) → z (B, L + L·A·R)."""
        log_e, y = self._split(x)
        return torch.cat([log_e - self.energy, ((y - self.mean) / self.std).flatten(1)], 1).float()

    def inverse(self, z: Tensor) -> Tensor:
        """z (B, L + L·A·R) → x (B, L, A, R).

        A layer with energy and without hit puts it in the cell that is hit most often.
        Without energy hits are dropped; the last hit of a layer takes what is left of it.
        """
        log_e, y = z[:, : self.layers].double() + self.energy, z[:, self.layers :].double()
        y = y.unflatten(1, (self.layers, self.cells))
        hit, energy = y > -math.inf, log_e.exp()
        empty = (~hit.any(-1))[..., None] & (
            torch.arange(self.cells, device=z.device) == self.usual[:, None]
        )
        hit = hit | empty
        last = hit & (hit.flip(-1).cumsum(-1).flip(-1) == 1)
        u = torch.where(last, 1.0, torch.where(hit, (y * self.std + self.mean).sigmoid(), 0.0))
        left = torch.cat([torch.ones_like(u[..., :1]), (1 - u[..., :-1]).cumprod(-1)], -1)
        return (energy[..., None] * u * left).view(-1, *self.x_shape).float()

    def log_det(self, x: Tensor) -> Tensor:
        """log|det ∂z/∂x|, (B,)."""
        cells = self._cells(x)
        rest = cells.flip(-1).cumsum(-1).flip(-1)
        u = cells / rest.clamp(min=TINY)
        inner = (cells > 0) & (u < 1)
        u = torch.where(inner, u, 0.5)
        volume = torch.where(inner, rest, 1.0).log() + (u * (1 - u)).log() + self.std.log()
        energy = rest[..., 0]
        log_e = torch.where(energy > 0, energy, 1.0).log()
        return -log_e.sum(1) - torch.where(inner, volume, 0.0).flatten(1).sum(1)

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """log E (B, L) and y (B, L, A·R), ±∞ where there is none, and of no gradient there."""
        cells = self._cells(x)
        rest = cells.flip(-1).cumsum(-1).flip(-1)
        after = torch.cat([rest[..., 1:], torch.zeros_like(rest[..., :1])], -1)
        inner = (cells > 0) & (after > 0)
        y = torch.where(inner, cells, 1.0).log() - torch.where(inner, after, 1.0).log()
        end = torch.where(cells > 0, math.inf, -math.inf)
        return masked_log(rest[..., 0]), torch.where(inner, y, end)


class CellShares(LayerEnergies):
    """z = (log E − μ, log x_i/E), and −∞ without energy or hit: (B, L, A, R) → (B, L + L·A·R).

    Of a layer's M shares, which add up to one, M − 1 are free: with a factor e^s that is random,
    (log x, s) ↦ (log E, log x_i/E + s) has the volume 1, and `log_det` is that of log x.

    Args:
        law: of showers of three axes, layers first.
    """

    precision: ClassVar[torch.dtype] = torch.float64

    def forward(self, x: Tensor) -> Tensor:
        """x (B, L, A, R) → z (B, L + L·A·R), float32."""
        cells = self._cells(x)
        energy = cells.sum(2)
        total = torch.where(energy > 0, energy, 1.0)[..., None]
        shares = masked_log(cells / total).flatten(1)
        return torch.cat([masked_log(energy) - self.energy, shares], 1).float()

    def inverse(self, z: Tensor) -> Tensor:
        """z (B, L + L·A·R) → x (B, L, A, R): what is hit shares the energy of its layer."""
        energy = (z[:, : self.layers].double() + self.energy).exp()
        y = z[:, self.layers :].double().unflatten(1, (self.layers, -1))
        bare = (y == -math.inf).all(2, keepdim=True)
        shares = torch.where(bare, 0.0, torch.where(bare, 0.0, y).softmax(2))
        return (energy[..., None] * shares).view(-1, *self.x_shape).float()

    def log_det(self, x: Tensor) -> Tensor:
        """log|det ∂z/∂x| = −Σ log x over hits, (B,)."""
        cells = self._cells(x).flatten(1)
        return -torch.where(cells > 0, cells, 1.0).log().sum(1)


def masked_log(values: Tensor) -> Tensor:
    """log of values (...) ≥ 0, −∞ of 0, and of no gradient there."""
    zero = values == 0
    return torch.where(zero, -math.inf, torch.where(zero, 1.0, values).log())


def masked_moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of what is finite in each column (n, …); 0 and 1 of nothing."""
    there = values.isfinite()
    count = there.sum(0).clamp(min=1)
    mean = torch.where(there, values, 0.0).sum(0) / count
    variance = torch.where(there, values - mean, 0.0).square().sum(0) / count
    return mean, torch.where(variance > 0, variance.sqrt(), 1.0)
