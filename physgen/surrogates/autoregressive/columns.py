"""What a column of short x may hold, its law around a place that θ and earlier columns tell.

The value z of a column lies at a *place* y on a line: z itself of reals, its logarithm of what is
nonnegative, log(k + ½) of a count k. Its law has the numbers `raw` of a network in units of a
scale e^s around a location m; networks see r = (y − m) e^{−s}. Levels have no place.
"""

from __future__ import annotations

import abc

import torch
from torch import Tensor
from torch.nn import functional as F

from physgen.nn.hurdle import HurdleGamma, hits
from physgen.nn.mixtures import CountMixture, GaussianMixture, Mixture, StudentTMixture

__all__ = ["ColumnKind", "column_kind"]

FEW_LEVELS = 32
"""Values of a column, each of which is an input and has a log odds of its own, at most."""
FAR = 10.0
"""Where networks see r bent."""


class ColumnKind(abc.ABC):
    """A kind of columns; all tensors are of n columns of it, (B, n).

    Attributes:
        inputs: numbers that a network sees of a value, E.
        outputs: numbers of a law, R.
        placed: whether values have places.
        measured: whether places are measured in units of the data.
    """

    inputs: int = 1
    outputs: int
    placed: bool = True
    measured: bool = False

    def there(self, z: Tensor) -> Tensor:
        """Which values z (B, n) have a place, (B, n)."""
        return z.isfinite()

    def place(self, z: Tensor) -> Tensor:
        """y of values z (B, n), 0 where there is none, (B, n)."""
        return torch.where(self.there(z), z, 0.0)

    def code(self, z: Tensor, r: Tensor) -> Tensor:
        """What a network sees of values z (B, n) at r (B, n), (B, n, E)."""
        return bent(r)[..., None]

    @abc.abstractmethod
    def log_p(self, raw: Tensor, z: Tensor, location: Tensor, scale: Tensor) -> Tensor:
        """log p of z (B, n) by the numbers (B, n, R), m (B, n) and s (B, n), (B, n)."""

    @abc.abstractmethod
    def draw(
        self, raw: Tensor, location: Tensor, scale: Tensor, generator: torch.Generator
    ) -> Tensor:
        """z (B, n) of such laws."""


class RealColumns(ColumnKind):
    """Real numbers: a mixture of normal or of Student's laws of r.

    Args:
        law: of the mixture.
        components: how many.
    """

    def __init__(self, law: type[Mixture], components: int) -> None:
        self.law, self.outputs = law, law.parameters(components)

    def log_p(self, raw: Tensor, z: Tensor, location: Tensor, scale: Tensor) -> Tensor:
        """log p of z (B, n), 0 where it is not finite, (B, n)."""
        there = z.isfinite()
        r = (torch.where(there, z, 0.0) - location) * (-scale).exp()
        return torch.where(there, self.law(raw).log_prob(r) - scale, 0.0)

    def draw(
        self, raw: Tensor, location: Tensor, scale: Tensor, generator: torch.Generator
    ) -> Tensor:
        """z (B, n)."""
        return location + scale.exp() * self.law(raw).sample(generator)


class HurdleColumns(ColumnKind):
    """Nonnegative numbers by their logarithms, −∞ for 0: a hurdle, its means relative to m."""

    inputs = 2

    def __init__(self, components: int) -> None:
        self.outputs = HurdleGamma.parameters(components)

    def there(self, z: Tensor) -> Tensor:
        """Which values z (B, n) are hit, (B, n)."""
        return hits(z)

    def code(self, z: Tensor, r: Tensor) -> Tensor:
        """Whether z (B, n) is hit, as ±1, and r (B, n), (B, n, 2)."""
        hit = hits(z)
        return torch.stack([2 * hit.to(r.dtype) - 1, torch.where(hit, bent(r), 0.0)], -1)

    def log_p(self, raw: Tensor, z: Tensor, location: Tensor, scale: Tensor) -> Tensor:
        """log p of z (B, n), (B, n)."""
        return HurdleGamma(raw).log_prob(z - location)

    def draw(
        self, raw: Tensor, location: Tensor, scale: Tensor, generator: torch.Generator
    ) -> Tensor:
        """z (B, n)."""
        return HurdleGamma(raw).sample(generator) + location


class CountColumns(ColumnKind):
    """Counts: a mixture of logistic laws of log k.

    Args:
        components: of the mixture.
        most: the largest count there is; none if None.
    """

    measured = True

    def __init__(self, components: int, most: int | None = None) -> None:
        self.outputs, self.most = CountMixture.parameters(components), most

    def place(self, z: Tensor) -> Tensor:
        """log(k + ½) of counts z (B, n), (B, n)."""
        return (z + 0.5).log()

    def log_p(self, raw: Tensor, z: Tensor, location: Tensor, scale: Tensor) -> Tensor:
        """log P of counts z (B, n), (B, n)."""
        return CountMixture(raw, location, scale.exp(), self.most).log_prob(z)

    def draw(
        self, raw: Tensor, location: Tensor, scale: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Counts (B, n)."""
        return CountMixture(raw, location, scale.exp(), self.most).sample(generator)


class LevelColumns(ColumnKind):
    """K levels by their log odds against the first; seen as ±1 where K = 2, else one-hot.

    Args:
        levels: K.
        spins: whether they are −1 and +1.
    """

    placed = False

    def __init__(self, levels: int, spins: bool = False) -> None:
        self.levels, self.spins, self.outputs = levels, spins, levels - 1
        self.inputs = levels if levels > 2 else 1

    def number(self, z: Tensor) -> Tensor:
        """0 … K − 1 of z (B, n)."""
        return ((z + 1) / 2 if self.spins else z).round().long()

    def there(self, z: Tensor) -> Tensor:
        """None of z (B, n) has a place, (B, n)."""
        return torch.zeros_like(z, dtype=torch.bool)

    def code(self, z: Tensor, r: Tensor) -> Tensor:
        """±1, or one-hot, of z (B, n), (B, n, E)."""
        number = self.number(z)
        if self.levels == 2:
            return (2 * number - 1).to(r.dtype)[..., None]
        values = torch.arange(self.levels, device=z.device)
        return (number[..., None] == values).to(r.dtype)

    def log_p(self, raw: Tensor, z: Tensor, location: Tensor, scale: Tensor) -> Tensor:
        """log P of z (B, n), (B, n)."""
        log_p = F.pad(raw, (1, 0)).log_softmax(-1)
        return log_p.gather(-1, self.number(z)[..., None])[..., 0]

    def draw(
        self, raw: Tensor, location: Tensor, scale: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Levels (B, n)."""
        below = F.pad(raw, (1, 0)).log_softmax(-1).exp().cumsum(-1)[..., :-1]
        u = torch.rand(raw.shape[:-1], generator=generator, device=raw.device)
        number = (u[..., None] >= below).sum(-1).to(raw.dtype)
        return 2 * number - 1 if self.spins else number


def bent(r: Tensor) -> Tensor:
    """r (...), beyond about 10 widths bent towards a limit, as networks should see it."""
    return r / (1 + (r / FAR).square()).sqrt()


def column_kind(support: str, site: str, components: int) -> ColumnKind:
    """The kind of columns of a support.

    Args:
        support: reals, nonnegative, counts, spins or levels:K.
        site: of reals, gaussian or student.
        components: laws in a mixture.
    """
    if support == "reals":
        law = StudentTMixture if site == "student" else GaussianMixture
        return RealColumns(law, components)
    if support == "nonnegative":
        return HurdleColumns(components)
    if support == "counts":
        return CountColumns(components)
    levels = 2 if support == "spins" else int(support.partition(":")[2])
    if levels > FEW_LEVELS:
        return CountColumns(components, levels - 1)
    return LevelColumns(levels, support == "spins")
