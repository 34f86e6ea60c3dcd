r"""Mixtures of K laws of one number, from the numbers that a network gives.

    p(z) = Σ_k w_k f((z − m_k)/s_k)/s_k

with f a normal law, which is dense in all densities (mixture density networks: Bishop 1994, Aston
NCRG/94/004), or Student's, whose tails fall as a power (its ν is learnt). Counts 0, 1, 2, … have
mixtures of logistic laws F of y = log k, each count the mass between its neighbours' midpoints
(Salimans et al. 2017, arXiv:1701.05517):

    P(k) = F(log(k + ½)) − F(log(k − ½)),    P(0) = F(log ½),

which adds up to 1 whatever the weights. As σ(b) − σ(a) = σ(b) σ(−a) (1 − e^{a−b}) it is a sum of
logarithms without cancellation, however far in the tail.

Where a network gives 0 the mixture is a standard normal law to 1e-3 nats, with means a little
apart, so that the K laws can learn to differ.
"""

from __future__ import annotations

import abc
import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from physgen.nn.densities import (
    drawn_category,
    normal_log_density,
    student_log_density,
    student_stretch,
)
from physgen.nn.given_noise import noise_is_given

__all__ = ["CountMixture", "GaussianMixture", "Mixture", "StudentTMixture"]

NARROW = 10.0
"""Of −log s, and of log s."""
FEWEST, MOST_FREEDOM = 0.5, 100.0
"""Of Student's degrees of freedom: above, the law is normal to 1e-4 nats."""
APART = 0.85
"""Width of each of several laws at first: the narrower, the less normal all together."""
ROOT_2, TWO_OVER_ROOT_PI = math.sqrt(2), 2 / math.sqrt(math.pi)
REMOTE = 1e-30
"""The least mass of a tail."""
NEWTON, LONGEST, CLOSE = 12, 40, 1e-4
"""Steps to a quantile in a graph, and elsewhere at most; log odds so near need one more."""
LARGEST = 40.0
"""Of log k that is drawn: below 2⁶³."""


class Mixture(abc.ABC):
    """A mixture of K laws of one number.

    Args:
        raw: (..., nK): log weights, means, log widths, and what else a law has.
    """

    numbers: ClassVar[int] = 3

    def __init__(self, raw: Tensor) -> None:
        weight, mean, width, *self.more = raw.unflatten(-1, (self.numbers, -1)).unbind(-2)
        at, log_width = spread(mean.shape[-1], mean)
        self.log_weight = weight.log_softmax(-1)
        self.mean = mean + at
        self.log_width = log_width + NARROW * torch.tanh(width / NARROW)

    @classmethod
    def parameters(cls, components: int) -> int:
        """Numbers that a law of K components takes."""
        return cls.numbers * components

    @abc.abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """log p of z (...), 0 where z is not finite, (...)."""

    @abc.abstractmethod
    def sample(self, generator: torch.Generator) -> Tensor:
        """One z for each law, (...)."""

    def _mixed(self, log_f: Tensor) -> Tensor:
        """log Σ_k w_k f_k of log f (..., K), (...)."""
        return (self.log_weight + log_f).logsumexp(-1)

    def _component(self, generator: torch.Generator) -> Tensor:
        """One k for each law, (..., 1)."""
        return drawn_category(self.log_weight.exp(), uniform_for(self.mean, generator))[..., None]


class GaussianMixture(Mixture):
    """Normal laws."""

    def log_prob(self, z: Tensor) -> Tensor:
        """log p of z (...), 0 where z is not finite, (...)."""
        there = z.isfinite()
        r = (torch.where(there, z, 0.0)[..., None] - self.mean) * (-self.log_width).exp()
        return torch.where(there, self._mixed(normal_log_density(r) - self.log_width), 0.0)

    def sample(self, generator: torch.Generator) -> Tensor:
        """One z for each law, (...)."""
        k = self._component(generator)
        return chosen(self.mean, k) + chosen(self.log_width, k).exp() * normal_for(
            self.mean, generator
        )

    def to_normal(self, z: Tensor) -> Tensor:
        """The normal score of each z (...), Φ⁻¹(F(z)) with F its distribution function, (...)."""
        below, above, _ = self._masses(z)
        tail = torch.special.ndtri(torch.minimum(below, above))
        return torch.where(below < above, tail, -tail)

    def from_normal(self, r: Tensor) -> Tensor:
        """The z (...) whose normal score is r (...): Newton's steps, halves if they do not shrink.

        It lies between the least and the greatest of the z that single laws would give. Where laws
        lie far apart steps are many; a graph has so few that some of these are off.
        """
        every = self.mean + self.log_width.exp() * r[..., None]
        low, high = every.amin(-1), every.amax(-1)
        weight = self.log_weight.exp()
        z = (weight * every).sum(-1)
        wanted = torch.erfc(-r / ROOT_2).log() - torch.erfc(r / ROOT_2).log()
        given, move = noise_is_given(), 2 * (high - low)
        for _ in range(NEWTON if given else LONGEST):
            below, above, density = self._masses(z)
            excess = below.log() - above.log() - wanted
            low, high = torch.where(excess < 0, z, low), torch.where(excess < 0, high, z)
            step, close = z - excess * below * above / density, excess.abs() < CLOSE
            well = (step > low) & (step < high) & ((step - z).abs() < move / 2)
            then = torch.where(well | close, step, (low + high) / 2)
            z, move = then, (then - z).abs()
            if not given and close.all():
                break
        return z

    def _masses(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """F(z) and 1 − F(z), each as precise where it is small, and the density, (...) each."""
        narrow, weight = (-self.log_width).exp() / ROOT_2, self.log_weight.exp()
        r = (z[..., None] - self.mean) * narrow
        masses = torch.erfc(-r), torch.erfc(r), (-r.square()).exp() * narrow * TWO_OVER_ROOT_PI
        below, above, density = ((weight * m).sum(-1).clamp(min=REMOTE) / 2 for m in masses)
        return below, above, density


class StudentTMixture(Mixture):
    """Student's laws, log ν learnt besides mean and width."""

    numbers: ClassVar[int] = 4

    def __init__(self, raw: Tensor) -> None:
        super().__init__(raw)
        low, high = math.log(FEWEST), math.log(MOST_FREEDOM)
        self.freedom = (low + (high - low) * torch.sigmoid(self.more[0])).exp()

    def log_prob(self, z: Tensor) -> Tensor:
        """log p of z (...), 0 where z is not finite, (...)."""
        there = z.isfinite()
        r = (torch.where(there, z, 0.0)[..., None] - self.mean) * (-self.log_width).exp()
        log_f = student_log_density(r, self.freedom) - self.log_width
        return torch.where(there, self._mixed(log_f), 0.0)

    def sample(self, generator: torch.Generator) -> Tensor:
        """One z for each law, (...)."""
        k = self._component(generator)
        stretch = student_stretch(chosen(self.freedom, k), generator)
        r = normal_for(self.mean, generator) * stretch
        return chosen(self.mean, k) + chosen(self.log_width, k).exp() * r


class CountMixture(Mixture):
    """Logistic laws of log k, for counts k = 0, 1, 2, ….

    Args:
        raw: (..., 3K): log weights, means and log widths, in units of `width` from `mean`.
        mean: (...) of log k in the data.
        width: (...) of log k in the data.
        most: the largest count there is, to which all above is added; none if None.
    """

    def __init__(
        self,
        raw: Tensor,
        mean: Tensor | float = 0.0,
        width: Tensor | float = 1.0,
        most: int | None = None,
    ) -> None:
        super().__init__(raw)
        self.middle, self.unit, self.most = mean, width, most
        self.log_width = self.log_width + math.log(math.sqrt(3) / math.pi)  # of logistic laws

    def log_prob(self, z: Tensor) -> Tensor:
        """log P of counts z (...), 0 where z is not finite, (...)."""
        there = z.isfinite()
        k, scale = torch.where(there, z, 1.0), (-self.log_width).exp()
        low = k.clamp(min=1) - 0.5
        step = (low.reciprocal().log1p() / self.unit)[..., None] * scale
        above = (((low.log() - self.middle) / self.unit)[..., None] - self.mean) * scale
        first = ((math.log(0.5) - self.middle) / self.unit * torch.ones_like(k))[..., None]
        nothing = F.logsigmoid((first - self.mean) * scale)
        more = F.logsigmoid(-above)
        log_f = more + F.logsigmoid(above + step) + log1mexp(step)
        if self.most is not None:
            log_f = torch.where(k[..., None] >= self.most, more, log_f)
        return torch.where(
            there, self._mixed(torch.where(k[..., None] < 0.5, nothing, log_f)), 0.0
        )

    def sample(self, generator: torch.Generator) -> Tensor:
        """One count for each law, (...)."""
        k, u = self._component(generator), uniform_for(self.mean, generator)
        y = chosen(self.mean, k) + chosen(self.log_width, k).exp() * (u.log() - (1 - u).log())
        log_count = (y.double() * self.unit + self.middle).clamp(max=LARGEST)
        count = (log_count.exp() + 0.5).floor().to(y.dtype)  # float32 would draw even ones alone
        return count if self.most is None else count.clamp(max=self.most)


def spread(components: int, like: Tensor) -> tuple[Tensor, float]:
    """Means (K,) and log width of K equal normal laws that are a standard one together, nearly."""
    at = torch.special.ndtri((torch.arange(components, device=like.device) + 0.5) / components)
    width = APART if components > 1 else 1.0
    room = math.sqrt(1 - width**2)
    return at * room / at.square().mean().sqrt().clamp(min=1e-3), math.log(width)


def log1mexp(x: Tensor) -> Tensor:
    """log(1 − e^{−x}) of x (...) > 0, (...)."""
    return (-torch.expm1(-x)).log()


def chosen(values: Tensor, k: Tensor) -> Tensor:
    """Of values (..., K) those of components k (..., 1), (...)."""
    return values.gather(-1, k)[..., 0]


def uniform_for(like: Tensor, generator: torch.Generator) -> Tensor:
    """Numbers in [0, 1) for laws (..., K), (...)."""
    return torch.rand(like.shape[:-1], generator=generator, device=like.device)


def normal_for(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers for laws (..., K), (...)."""
    return torch.randn(like.shape[:-1], generator=generator, device=like.device)
