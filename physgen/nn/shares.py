r"""Showers as layer energies, and shares down a binary tree: an invertible map with its volume.

A shower x (L, A, R) of nonnegative cells becomes

    log E_l,  E_l = Σ_i x_li,   and   y = log(x_left / x_right)  of each split,

where a layer's rings are halved until each piece is one ring, and then each ring's azimuths. A
split of a parent p gives its left half the share s = σ(y); 0 and 1 are y = ∓∞. Each split of two
halves with energy has the volume of (x_left, x_right) → (p, y),

    log|det| = −log p − log s (1 − s),

so that of the whole is −Σ log E_l and their sum. Other x than showers are of one ring and azimuth
(a vector is all layers), or of several axes in the place of the azimuth.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from physgen.law import Law
from physgen.nn.halving import HalvingLevel, halvings
from physgen.nn.layer_energies import LayerEnergies, masked_log

__all__ = ["Shares", "shower_shape"]


def shower_shape(law: Law) -> tuple[int, int, int]:
    """Layers, azimuths and rings of x."""
    layers, *rest = law.x_shape
    rings = rest[-1] if rest else 1
    return layers, math.prod(rest[:-1]), rings


class Shares(LayerEnergies):
    """z = (log E − μ, y): (B, L, A, R) → (B, L·A·R), float32.

    log E of a layer without energy is −∞, and so is y of a split of nothing. Of a layer splits
    come level by level, those of rings first; then those of azimuths, in a level ring by ring.

    Args:
        law: of nonnegative x, layers first.
    """

    path: Tensor

    def __init__(self, law: Law) -> None:
        super().__init__(law)
        self.shape, self.dtype = shower_shape(law), getattr(torch, law.dtype)
        self.rings = nn.ModuleList(halvings(self.shape[2]))
        self.azimuths = nn.ModuleList(halvings(self.shape[1]))
        self.register_buffer("path", self.paths(), persistent=False)

    @property
    def splits(self) -> int:
        """Of a layer."""
        return self.shape[1] * self.shape[2] - 1

    def forward(self, x: Tensor) -> Tensor:
        """x (B, *x_shape) → z (B, L + L·(A·R − 1))."""
        cells = self._cells(x)
        left, right = self.halves(cells)
        both = (left > 0) & (right > 0)
        y = (torch.where(both, left, 1.0) / torch.where(both, right, 1.0)).log()
        y = torch.where(both, y, torch.where(left > 0, math.inf, -math.inf))
        log_e = masked_log(cells.sum(-1)) - self.energy
        return torch.cat([log_e, y.flatten(1)], 1).float()

    def inverse(self, z: Tensor) -> Tensor:
        """z (B, L + L·(A·R − 1)) → x (B, *x_shape): shares multiplied along each cell's path."""
        layers = self.shape[0]
        energy = (z[:, :layers].double() + self.energy).exp()
        y = z[:, layers:].double().unflatten(1, (layers, self.splits))
        share = torch.cat([y.sigmoid(), (-y).sigmoid(), torch.ones_like(energy)[..., None]], -1)
        cells = energy[..., None] * share[..., self.path].prod(-1)
        return cells.view(-1, *self.x_shape).to(self.dtype)

    def log_det(self, x: Tensor) -> Tensor:
        """log|det ∂z/∂x|, (B,)."""
        cells = self._cells(x)
        energy, (left, right) = cells.sum(-1), self.halves(cells)
        both = (left > 0) & (right > 0)
        part, other = torch.where(both, left, 0.5), torch.where(both, right, 0.5)
        volume = ((part + other) / part / other).log()
        volume = torch.where(both, volume, 0.0).flatten(1).sum(1)
        return volume - torch.where(energy > 0, energy, 1.0).log().sum(1)

    def halves(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """What the left and the right half of each split get, (..., splits), of cells (..., A·R).

        Sums are taken from the cells up, so that what is 0 stays so.
        """
        pieces, found = cells.unflatten(-1, self.shape[1:]).transpose(-1, -2), []
        for level in upwards(self.azimuths):
            pieces, *both = level.joined(pieces)
            found.append([half.flatten(-2) for half in both])
        pieces = pieces[..., 0]
        for level in upwards(self.rings):
            pieces, *both = level.joined(pieces)
            found.append(both)
        empty = cells[..., :0]
        left, right = ([side[i] for side in reversed(found)] for i in (0, 1))
        return torch.cat([empty, *left], -1), torch.cat([empty, *right], -1)

    def paths(self) -> Tensor:
        """Places of the shares whose product is each cell's, (A·R, depth), among (s, 1 − s, 1)."""
        one = torch.eye(self.shape[1] * self.shape[2])
        each = [on.nonzero()[:, 0] for on in torch.cat(self.halves(one), 1)]
        return nn.utils.rnn.pad_sequence(each, batch_first=True, padding_value=2 * self.splits)


def upwards(levels: nn.ModuleList) -> list[HalvingLevel]:
    """The levels of a tree, the finest first."""
    return [level for level in reversed(levels) if isinstance(level, HalvingLevel)]
