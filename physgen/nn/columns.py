"""Columns of different kinds, as networks see them and as they give a law of each.

A real column is seen as z, a nonnegative one as whether it is hit and the logarithm, a count k as
log(k + ½) in units of the data, one of two levels as ±1, of a few one-hot, and of many as a number
from −1 to 1. Given the numbers of a network the columns are independent: mixtures of
normal laws, hurdles of mixtures of Gamma laws, mixtures of logistic laws of log k, and categories.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from physgen.law import Law
from physgen.nn.densities import drawn_category
from physgen.nn.hurdle import HurdleGamma, shown
from physgen.nn.mixtures import CountMixture, GaussianMixture
from physgen.nn.transforms import finite_part
from simulators.columns import levels_of

__all__ = ["ColumnCode", "ColumnLaws", "units_of_counts"]

ONE_HOT = 32
"""Levels that are seen one-hot, at most."""
LEAST = 1e-3
"""Width of log counts, at least."""


class Grouped(nn.Module):
    """Columns of z in groups of one support; of counts mean and width of log(k + ½) in the data.

    Args:
        law: what x is.
    """

    middle: Tensor
    width: Tensor
    order: Tensor

    def __init__(self, law: Law) -> None:
        super().__init__()
        supports = np.array(law.component_supports)
        self.groups = {
            kind: torch.from_numpy(np.flatnonzero(supports == kind))
            for kind in dict.fromkeys(law.component_supports)
        }
        order = torch.cat(list(self.groups.values())).argsort()
        self.register_buffer("order", order, persistent=False)
        counts = len(self.groups.get("counts", ()))
        self.register_buffer("middle", torch.zeros(counts))
        self.register_buffer("width", torch.ones(counts))

    def fit(self, z: Tensor) -> None:
        """Take mean and width of log counts of rows z (n, *x_shape)."""
        if "counts" in self.groups:
            middle, width = units_of_counts(z.flatten(1)[:, self.groups["counts"].to(z.device)])
            self.middle.copy_(middle)
            self.width.copy_(width)

    def parts(self, z: Tensor) -> Iterator[tuple[str, Tensor]]:
        """The support of each group, and its columns of flat z (..., N), (..., n)."""
        for kind, at in self.groups.items():
            yield kind, z[..., at.to(z.device)]


def units_of_counts(z: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and width of log(k + ½) of counts z (n, …), (…) each."""
    width, mean = torch.std_mean((z.double() + 0.5).log(), 0, correction=0)
    return mean, width.clamp(min=LEAST)


class ColumnCode(Grouped):
    """z (B, *x_shape) as numbers of about unit size, (B, E).

    Attributes:
        size: E.
    """

    def __init__(self, law: Law) -> None:
        super().__init__(law)
        self.size = sum(len(at) * self.numbers(kind) for kind, at in self.groups.items())

    @staticmethod
    def numbers(kind: str) -> int:
        """Numbers that one column of a support is seen as."""
        levels = levels_of(kind)
        return levels if 2 < levels <= ONE_HOT else 1 + (kind == "nonnegative")

    def forward(self, z: Tensor) -> Tensor:
        """The code of each z (B, *x_shape), (B, E); 0 for what others tell."""
        found = [self.coded(kind, part).flatten(1) for kind, part in self.parts(z.flatten(1))]
        return torch.cat(found, 1)

    def coded(self, kind: str, z: Tensor) -> Tensor:
        """Columns of one support (B, n) as code, (B, n …)."""
        if kind == "nonnegative":
            return shown(z)
        if kind == "counts":
            return ((z + 0.5).log() - self.middle) / self.width
        levels = levels_of(kind)
        if 2 < levels <= ONE_HOT:
            return F.one_hot(z.long(), levels).float()
        return 2 * z / (levels - 1) - 1 if levels else finite_part(z)[0]


class ColumnLaws(Grouped):
    """A law of each column from the numbers of a network, independent of each other.

    Args:
        law: what x is.
        components: laws in the mixture of a column that is no level.

    Attributes:
        parameters_of_all: numbers that the laws of all columns take, P.
    """

    def __init__(self, law: Law, components: int) -> None:
        super().__init__(law)
        self.sizes = {
            "reals": GaussianMixture.parameters(components),
            "nonnegative": HurdleGamma.parameters(components),
            "counts": CountMixture.parameters(components),
        }
        self.widths = [len(at) * self.numbers(kind) for kind, at in self.groups.items()]
        self.parameters_of_all = sum(self.widths)

    def numbers(self, kind: str) -> int:
        """Numbers that the law of a column of a support takes."""
        return self.sizes.get(kind) or levels_of(kind) - 1

    def laws(self, raw: Tensor) -> Iterator[tuple[str, Any]]:
        """The support of each group, and its laws (..., n) from raw (..., P)."""
        for kind, part in zip(self.groups, raw.float().split(self.widths, -1), strict=True):
            numbers = part.unflatten(-1, (-1, self.numbers(kind)))
            if kind == "counts":
                yield kind, CountMixture(numbers, self.middle, self.width)
            elif kind in self.sizes:
                yield kind, (GaussianMixture if kind == "reals" else HurdleGamma)(numbers)
            else:
                yield kind, Categories(numbers)

    def log_prob(self, raw: Tensor, z: Tensor) -> Tensor:
        """log p of z (..., N) under laws raw (..., P), (...)."""
        pairs = zip(self.laws(raw), self.parts(z), strict=True)
        found = [law.log_prob(part).sum(-1) for (_, law), (_, part) in pairs]
        return torch.stack(found).sum(0)

    def sample(self, raw: Tensor, generator: torch.Generator) -> Tensor:
        """One z for each of raw (..., P), (..., N)."""
        found = [law.sample(generator) for _, law in self.laws(raw)]
        return torch.cat(found, -1)[..., self.order]


class Categories:
    """K levels, by their log odds against the first.

    Args:
        raw: (..., K − 1).
    """

    def __init__(self, raw: Tensor) -> None:
        self.log_p = F.pad(raw, (1, 0)).log_softmax(-1)

    def log_prob(self, z: Tensor) -> Tensor:
        """log P of levels z (...), (...)."""
        shape = torch.broadcast_shapes(z.shape, self.log_p.shape[:-1])
        log_p = self.log_p.expand(*shape, self.log_p.shape[-1])
        return log_p.gather(-1, z.long().expand(shape)[..., None])[..., 0]

    def sample(self, generator: torch.Generator) -> Tensor:
        """One level for each law, (...)."""
        p = self.log_p.exp()
        uniforms = torch.rand(p.shape[:-1], generator=generator, device=p.device)
        return drawn_category(p, uniforms).float()
