"""What a site may hold: levels, a count, a real number, or one behind a hurdle.

A site's *value* is what is drawn there, its *code* how a network sees it, and *raw* what a network
gives for its law.
"""

from __future__ import annotations

import abc

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from physgen.nn.columns import units_of_counts
from physgen.nn.densities import drawn_category, normal_log_density
from physgen.nn.hurdle import HurdleGamma, shown
from physgen.nn.mixtures import GaussianMixture
from physgen.surrogates.autoregressive.columns import CountColumns

__all__ = ["CountSite", "HurdleSite", "LevelSite", "RealSite", "Site"]


Offset = tuple[Tensor, Tensor]
NARROW = 10.0
"""Of log widths, either way."""


class Site(nn.Module, abc.ABC):
    """The law of a site.

    Attributes:
        inputs: numbers of a value's code, E.
        outputs: numbers of a law, R.
        straight: how many of them, the first ones, depend on what is seen along straight lines
            besides.
    """

    inputs: int
    outputs: int

    @property
    def straight(self) -> int:
        """All of them."""
        return self.outputs

    @abc.abstractmethod
    def values(self, z: Tensor) -> Tensor:
        """Values (B, N) of z (B, *x_shape)."""

    @abc.abstractmethod
    def numbers(self, values: Tensor) -> Tensor:
        """z (B, N) of values (B, N)."""

    @abc.abstractmethod
    def code(self, values: Tensor) -> Tensor:
        """Values (...) as code, (..., E)."""

    @abc.abstractmethod
    def log_p(self, raw: Tensor, values: Tensor) -> Tensor:
        """log p of values (...) under laws (..., R)."""

    @abc.abstractmethod
    def draw(self, raw: Tensor, uniforms: Tensor, generator: torch.Generator | None) -> Tensor:
        """A value from each law (..., R), from uniform numbers (...) and more random ones."""

    def fit(self, values: Tensor) -> None:
        """Take units from values (n, N) of data; none by default."""
        return

    def reference(self, values: Tensor, offset: Offset | None) -> Tensor:
        """log p of values (...) under a law that may be near theirs, (...); 0 for none.

        Args:
            values: (...).
            offset: what θ tells of their locations and log scales, (...) each.
        """
        return torch.zeros_like(values, dtype=torch.float32)


class LevelSite(Site):
    """K values: log odds against the first. Code is ±1 where K = 2, else one-hot.

    Args:
        levels: K.
        spins: whether the values are −1 and +1.
    """

    table: Tensor

    def __init__(self, levels: int, spins: bool) -> None:
        super().__init__()
        table = torch.eye(levels) if levels > 2 else torch.tensor([[-1.0], [1.0]])
        self.register_buffer("table", table, persistent=False)
        self.spins, self.inputs, self.outputs = spins, table.shape[1], levels - 1

    def values(self, z: Tensor) -> Tensor:
        """The number of each value of z (B, *x_shape), 0 … K − 1, (B, N)."""
        z = z.flatten(1)
        return ((z + 1) / 2 if self.spins else z).round().long()

    def numbers(self, values: Tensor) -> Tensor:
        """Spins or levels of values (B, N), (B, N)."""
        return (2 * values - 1 if self.spins else values).float()

    def code(self, values: Tensor) -> Tensor:
        """A row of the table for each of values (...), (..., E)."""
        return self.table[values]

    def log_p_of_all(self, raw: Tensor) -> Tensor:
        """log p of every value, (..., K)."""
        return F.pad(raw.float(), (1, 0)).log_softmax(-1)

    def log_p(self, raw: Tensor, values: Tensor) -> Tensor:
        """log p of values (...) by their log odds (..., K − 1), (...)."""
        return self.log_p_of_all(raw).gather(-1, values[..., None])[..., 0]

    def draw(self, raw: Tensor, uniforms: Tensor, generator: torch.Generator | None) -> Tensor:
        """Values by the inverse distribution function of uniform numbers (...), (...)."""
        return drawn_category(self.log_p_of_all(raw).exp(), uniforms)


class HurdleSite(Site):
    """A nonnegative number: its logarithm, −∞ for 0 (:mod:`physgen.nn.hurdle`).

    Args:
        components: Gamma laws of the mixture.
    """

    inputs = 2

    def __init__(self, components: int) -> None:
        super().__init__()
        self.outputs = HurdleGamma.parameters(components)

    def values(self, z: Tensor) -> Tensor:
        """z (B, *x_shape) itself, (B, N)."""
        return z.flatten(1)

    def numbers(self, values: Tensor) -> Tensor:
        """Values (B, N) themselves."""
        return values

    def code(self, values: Tensor) -> Tensor:
        """Whether there is a hit, and its logarithm, of values (...), (..., 2)."""
        return shown(values[..., None], -1)

    def log_p(self, raw: Tensor, values: Tensor) -> Tensor:
        """log p of values (...) under laws (..., R), (...)."""
        return HurdleGamma(raw.float()).log_prob(values)

    def draw(self, raw: Tensor, uniforms: Tensor, generator: torch.Generator | None) -> Tensor:
        """A value from each law (..., R): Gamma numbers have no simple inverse."""
        if generator is None:
            raise TypeError("a hurdle is drawn from a generator")
        return HurdleGamma(raw.float()).sample(generator)


class RealSite(Site):
    """A real number: a mixture of normal laws of (x − m) e^{−s}, with m and s of its own.

    Args:
        components: normal laws of the mixture.
    """

    inputs, straight = 1, 1

    def __init__(self, components: int) -> None:
        super().__init__()
        self.outputs = 2 + GaussianMixture.parameters(components)

    def values(self, z: Tensor) -> Tensor:
        """z (B, *x_shape) itself, (B, N)."""
        return z.flatten(1)

    def numbers(self, values: Tensor) -> Tensor:
        """Values (B, N) themselves."""
        return values

    def code(self, values: Tensor) -> Tensor:
        """Values (...), 0 where there is no density, (..., 1)."""
        return torch.where(values.isfinite(), values, 0.0)[..., None]

    def log_p(self, raw: Tensor, values: Tensor) -> Tensor:
        """log p of values (...) under laws (..., R), 0 where they are not finite, (...)."""
        m, s, mixture = around_location(raw.float())
        there = values.isfinite()
        r = (torch.where(there, values, 0.0) - m) * (-s).exp()
        return torch.where(there, mixture.log_prob(r) - s, 0.0)

    def draw(self, raw: Tensor, uniforms: Tensor, generator: torch.Generator | None) -> Tensor:
        """A value from each law (..., R)."""
        if generator is None:
            raise TypeError("a real number is drawn from a generator")
        m, s, mixture = around_location(raw.float())
        return m + s.exp() * mixture.sample(generator)

    def reference(self, values: Tensor, offset: Offset | None) -> Tensor:
        """log p of values (...) under a standard normal law, (...)."""
        return torch.where(values.isfinite(), normal_log_density(values), 0.0)


class CountSite(Site):
    """A count: a mixture of logistic laws of its logarithm, around a location and with a scale.

    Networks see log(k + ½) in units of all the data.

    Args:
        components: laws of the mixture.
        sites: N.
    """

    inputs, straight = 1, 1
    middle: Tensor
    width: Tensor
    typical: Tensor

    def __init__(self, components: int, sites: int) -> None:
        super().__init__()
        self.kind = CountColumns(components)
        self.outputs = 2 + self.kind.outputs
        self.register_buffer("middle", torch.zeros(()))
        self.register_buffer("width", torch.ones(()))
        self.register_buffer("typical", torch.zeros(sites))

    @torch.no_grad()
    def fit(self, values: Tensor) -> None:
        """Take the units, and what is typical of each site, from counts (n, N)."""
        middle, width = units_of_counts(values.flatten())
        self.middle.copy_(middle)
        self.width.copy_(width)
        self.typical.copy_((self.kind.place(values.double()).mean(0) - middle) / self.width)

    def values(self, z: Tensor) -> Tensor:
        """z (B, *x_shape) itself, (B, N)."""
        return z.flatten(1)

    def numbers(self, values: Tensor) -> Tensor:
        """Values (B, N) themselves."""
        return values

    def code(self, values: Tensor) -> Tensor:
        """log(k + ½) of counts (...) in units of the data, (..., 1)."""
        return ((self.kind.place(values) - self.middle) / self.width)[..., None]

    def units(self, m: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Locations and log scales (...) in units of log k, (...) each."""
        return self.middle + self.width * m, self.width.log() + NARROW * torch.tanh(s / NARROW)

    def log_p(self, raw: Tensor, values: Tensor) -> Tensor:
        """log P of counts (...) under laws (..., R), (...)."""
        raw = raw.float()
        return self.kind.log_p(raw[..., 2:], values, *self.units(raw[..., 0], raw[..., 1]))

    def draw(self, raw: Tensor, uniforms: Tensor, generator: torch.Generator | None) -> Tensor:
        """A count from each law (..., R)."""
        if generator is None:
            raise TypeError("a count is drawn from a generator")
        raw = raw.float()
        return self.kind.draw(raw[..., 2:], *self.units(raw[..., 0], raw[..., 1]), generator)

    def reference(self, values: Tensor, offset: Offset | None) -> Tensor:
        """log P of counts (...) as if each were drawn by itself, (...)."""
        m, s = offset or (torch.zeros_like(values), torch.zeros_like(values))
        nothing = m.new_zeros(*m.shape, self.kind.outputs)
        return self.kind.log_p(nothing, values, *self.units(m, s))


def around_location(raw: Tensor) -> tuple[Tensor, Tensor, GaussianMixture]:
    """m and s of laws (..., R), (...) each, and the mixture around m in units of e^s."""
    m, s = raw[..., 0], NARROW * torch.tanh(raw[..., 1] / NARROW)
    return m, s, GaussianMixture(raw[..., 2:])
