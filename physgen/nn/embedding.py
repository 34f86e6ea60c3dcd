"""What a network that reads x is given: features that respect what x is.

On a torus the features are invariant under shifts, as p(x|θ) is: the mean over all sites of a
small network of each site's neighbourhood, which for nearest-neighbour couplings holds all that x
says of θ. Nonnegative x (showers) is shown as hits, as log(1 + x/s), s being the mean of each
component, and as the logarithm of its sum; all is standardised. The scales are learnt from the
training rows and saved with the weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from physgen.law import Law
from physgen.nn.blocks import as_field, convolution

__all__ = ["Features", "embedding"]

WIDTH, HIDDEN = 16, 64
TINY = 1e-6


class Features(nn.Module):
    """x (B, *x_shape) → (B, F) numbers of mean 0 and width 1 over the training rows.

    Args:
        law: what x follows.
        x: rows of training data.
    """

    unit: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, law: Law, x: Tensor) -> None:
        super().__init__()
        self.hits = law.support == "nonnegative"
        flat = x.flatten(1).float()
        self.register_buffer("unit", floored(flat.mean(0)))
        raw = self.raw(flat)
        self.register_buffer("mean", raw.mean(0))
        self.register_buffer("scale", floored(raw.std(0, correction=0)))
        self.size = raw.shape[1]

    def raw(self, flat: Tensor) -> Tensor:
        """The features of flat x (B, N) before they are standardised, (B, F)."""
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

    Args:
        law: of x on a lattice of one or two axes.
    """

    def __init__(self, law: Law) -> None:
        super().__init__()
        self.law = law
        self.sites = nn.Sequential(
            convolution(1, WIDTH, law), nn.ReLU(), nn.Conv2d(WIDTH, WIDTH, 1), nn.ReLU()
        )
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """The features of each x (B, *x_shape), (B, WIDTH)."""
        return self.out(self.sites(as_field(self.law, x.float())).mean((2, 3)))


def on_lattice(law: Law) -> bool:
    """Whether x is a field on a torus of two axes."""
    return law.periodic and len(law.x_shape) == 2 and law.support in ("spins", "levels", "reals")


def embedding(law: Law, x: Tensor) -> nn.Module:
    """A network from x (B, *x_shape) to features (B, F).

    Args:
        law: what x follows.
        x: rows of training data, for its scales.
    """
    if on_lattice(law):
        return Torus(law)
    first = Features(law, x)
    return nn.Sequential(first, nn.Linear(first.size, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, WIDTH))
