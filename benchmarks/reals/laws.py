"""Simulators of real x, of counts and of mixed rows, each with its exact log p(x|θ).

Each is a class as a user would write it: a prior, a shape, `sample` and `log_prob`. The first four
are problems of the field (Lueckmann et al. 2021, arXiv:2101.04653): two moons, the Gaussian
mixture, SLCP and the linear Gaussian with a uniform prior.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import stats
from scipy.special import gammaln, logsumexp

from simulators import Box, Prior
from simulators.base import Array
from simulators.oscillator import Oscillator

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def normal_log_density(x: Array, mean: Array, sd: Array | float) -> Array:
    """Log density of a normal law at x (…), of mean (…) and standard deviation (…)."""
    return -0.5 * ((x - mean) / sd) ** 2 - np.log(sd) - HALF_LOG_2PI


@dataclass(frozen=True)
class TwoCrescents:
    """A crescent in the plane, which θ moves such that the posterior is two of them.

    x = (r cos a + 1/4, r sin a) + s(θ) with a uniform over half a turn and r normal around 0.1. In
    polar coordinates the density is closed: p(r)/(π |r|), r < 0 on the left.

    Attributes:
        noise: standard deviation of r, the width of the crescent.
    """

    noise: float = 0.01

    prior: ClassVar[Prior] = Box(theta1=(-1.0, 1.0), theta2=(-1.0, 1.0))
    x_shape: ClassVar[tuple[int, ...]] = (2,)

    def centre(self, theta: Array) -> Array:
        """Where r = 0 lies, (n, 2) → (n, 2)."""
        a, b = theta.T
        return np.stack([0.25 - abs(a + b) / math.sqrt(2), (b - a) / math.sqrt(2)], 1)

    def sample(self, theta: Array, rng: np.random.Generator) -> Array:
        """One x for each row of θ, (n, 2) → (n, 2)."""
        a = rng.uniform(-np.pi / 2, np.pi / 2, len(theta))
        r = rng.normal(0.1, self.noise, len(theta))
        return self.centre(theta) + np.stack([r * np.cos(a), r * np.sin(a)], 1)

    def log_prob(self, theta: Array, x: Array) -> Array:
        """Exact log p(x|θ) in nats, θ (n, 2), x (n, 2) → (n,)."""
        off = x - self.centre(theta)
        r = np.hypot(*off.T)
        signed = np.where(off[:, 0] > 0, r, -r)
        return normal_log_density(signed, 0.1, self.noise) - np.log(np.pi * r)


@dataclass(frozen=True)
class TwoWidths:
    """x ~ ½ N(θ, 1) + ½ N(θ, 0.1²), one of the two for all components.

    Attributes:
        size: number of components of x and of parameters.
    """

    size: int = 2

    widths: ClassVar[tuple[float, ...]] = (1.0, 0.1)

    @property
    def prior(self) -> Prior:
        """Uniform on [−10, 10] for each parameter."""
        return Box(**{f"theta{d}": (-10.0, 10.0) for d in range(1, self.size + 1)})

    @property
    def x_shape(self) -> tuple[int, ...]:
        """(size,)."""
        return (self.size,)

    def sample(self, theta: Array, rng: np.random.Generator) -> Array:
        """One x for each row of θ, (n, D) → (n, D)."""
        width = rng.choice(self.widths, (len(theta), 1))
        return theta + width * rng.standard_normal(theta.shape)

    def log_prob(self, theta: Array, x: Array) -> Array:
        """Exact log p(x|θ) in nats, θ (n, D), x (n, D) → (n,)."""
        each = [normal_log_density(x, theta, width).sum(-1) for width in self.widths]
        return logsumexp(each, axis=0) - math.log(len(self.widths))


@dataclass(frozen=True)
class Slcp:
    """Four draws of a 2-d normal law, its mean and covariance nonlinear in five parameters.

    Mean (θ1, θ2), standard deviations θ3² and θ4², correlation tanh θ5: a simple likelihood with a
    complex posterior of four modes (Papamakarios, Sterratt & Murray 2019, arXiv:1805.07226).
    """

    prior: ClassVar[Prior] = Box(**{f"theta{d}": (-3.0, 3.0) for d in range(1, 6)})
    x_shape: ClassVar[tuple[int, ...]] = (8,)
    dtype: ClassVar[str] = "float64"
    """Some widths are 1e-6, at means of 3."""

    def sample(self, theta: Array, rng: np.random.Generator) -> Array:
        """One x for each row of θ, (n, 5) → (n, 8): the four draws one after another."""
        rho = np.tanh(theta[:, None, 4])
        first, second = rng.standard_normal((2, len(theta), 4))
        second = rho * first + second / np.cosh(theta[:, None, 4])
        widths = theta[:, None, 2:4] ** 2
        return (theta[:, None, :2] + widths * np.stack([first, second], -1)).reshape(-1, 8)

    def log_prob(self, theta: Array, x: Array) -> Array:
        """Exact log p(x|θ) in nats, θ (n, 5), x (n, 8) → (n,)."""
        widths = theta[:, None, 2:4] ** 2
        u, v = np.moveaxis((x.reshape(-1, 4, 2) - theta[:, None, :2]) / widths, -1, 0)
        sech = 1 / np.cosh(theta[:, 4])
        v = (v - np.tanh(theta[:, None, 4]) * u) / sech[:, None]
        scale = np.log(widths).sum((1, 2)) + np.log(sech)
        return -0.5 * (u**2 + v**2).sum(-1) - 4 * (scale + 2 * HALF_LOG_2PI)


@dataclass(frozen=True)
class LinearUniform:
    """x = θ + σ ε, ε standard normal, θ uniform.

    Attributes:
        size: number of components of x and of parameters.
        noise: σ.
    """

    size: int = 10
    noise: float = math.sqrt(0.1)

    @property
    def prior(self) -> Prior:
        """Uniform on [−1, 1] for each parameter."""
        return Box(**{f"theta{d}": (-1.0, 1.0) for d in range(1, self.size + 1)})

    @property
    def x_shape(self) -> tuple[int, ...]:
        """(size,)."""
        return (self.size,)

    def sample(self, theta: Array, rng: np.random.Generator) -> Array:
        """One x for each row of θ, (n, D) → (n, D)."""
        return theta + self.noise * rng.standard_normal(theta.shape)

    def log_prob(self, theta: Array, x: Array) -> Array:
        """Exact log p(x|θ) in nats, θ (n, D), x (n, D) → (n,)."""
        return normal_log_density(x, theta, self.noise).sum(-1)


@dataclass(frozen=True)
class CauchyNoise:
    """Three values around one θ, with Cauchy noise.

    Attributes:
        noise: half width at half maximum.
    """

    noise: float = 0.1

    prior: ClassVar[Prior] = Box(theta=(-1.0, 1.0))
    x_shape: ClassVar[tuple[int, ...]] = (3,)

    def sample(self, theta: Array, rng: np.random.Generator) -> Array:
        """One x for each row of θ, (n, 1) → (n, 3)."""
        return theta + self.noise * rng.standard_cauchy((len(theta), 3))

    def log_prob(self, theta: Array, x: Array) -> Array:
        """Exact log p(x|θ) in nats, θ (n, 1), x (n, 3) → (n,)."""
        t = (x - theta) / self.noise
        return -(np.log1p(t**2) + math.log(math.pi * self.noise)).sum(-1)


@dataclass(frozen=True)
class PoissonCounts:
    """Counts of a decaying source, λ_i = rate · decay^i: of 0 to more than 1,000.

    Attributes:
        size: number of counts.
    """

    size: int = 4

    prior: ClassVar[Prior] = Box(rate=(1.0, 1000.0), decay=(0.2, 1.0))
    support: ClassVar[str] = "counts"

    @property
    def x_shape(self) -> tuple[int, ...]:
        """(size,)."""
        return (self.size,)

    def rates(self, theta: Array) -> Array:
        """Expected counts, (n, 2) → (n, size)."""
        return theta[:, :1] * theta[:, 1:] ** np.arange(self.size)

    def sample(self, theta: Array, rng: np.random.Generator) -> Array:
        """One x for each row of θ, (n, 2) → (n, size) integers."""
        return rng.poisson(self.rates(theta))

    def log_prob(self, theta: Array, x: Array) -> Array:
        """Exact log p(x|θ) in nats, θ (n, 2), x (n, size) → (n,)."""
        rates = self.rates(theta)
        return (x * np.log(rates) - rates - gammaln(x + 1.0)).sum(-1)


@dataclass(frozen=True)
class BitsAndReals:
    """Five choices, each like the one before or made anew, and two times that depend on them.

    Bits are 1 with probability p; with probability ½ a bit repeats the one before. With b their
    mean, y1 ~ N(m + b, 0.3²) and y2 ~ N(m y1 (2 b_5 − 1), (0.2 + b)²).
    """

    prior: ClassVar[Prior] = Box(p=(0.1, 0.9), m=(-2.0, 2.0))
    x_shape: ClassVar[tuple[int, ...]] = (7,)
    support: ClassVar[tuple[str, ...]] = ("levels:2",) * 5 + ("reals",) * 2
    repeat: ClassVar[float] = 0.5

    def sample(self, theta: Array, rng: np.random.Generator) -> Array:
        """One x for each row of θ, (n, 2) → (n, 7): bits, then reals."""
        p, m = theta.T
        bits = (rng.random((len(theta), 5)) < p[:, None]).astype(float)
        again = rng.random((len(theta), 5)) < self.repeat
        for i in range(1, 5):
            bits[:, i] = np.where(again[:, i], bits[:, i - 1], bits[:, i])
        b, sign = bits.mean(-1), 2 * bits[:, 4] - 1
        first, second = rng.standard_normal((2, len(theta)))
        y = m + b + 0.3 * first
        return np.column_stack([bits, y, m * y * sign + (0.2 + b) * second])

    def log_prob(self, theta: Array, x: Array) -> Array:
        """Exact log p(x|θ) in nats, θ (n, 2), x (n, 7) → (n,)."""
        p, m = theta.T
        bits, (y1, y2) = x[:, :5], x[:, 5:].T
        alone = np.where(bits == 1, p[:, None], 1 - p[:, None])
        same = bits[:, 1:] == bits[:, :-1]
        later = (1 - self.repeat) * alone[:, 1:] + self.repeat * same
        b, sign = bits.mean(-1), 2 * bits[:, 4] - 1
        reals = normal_log_density(y1, m + b, 0.3) + normal_log_density(y2, m * y1 * sign, 0.2 + b)
        return np.log(alone[:, 0]) + np.log(later).sum(-1) + reals


@dataclass(frozen=True)
class RedOscillator(Oscillator):
    """The damped oscillator, its noise remembering the time before: AR(1) with ρ unknown.

    Noise has the stationary standard deviation σ; ρ is the correlation of neighbouring times.
    """

    @property
    def prior(self) -> Prior:
        """That of the oscillator, and a uniform ρ."""
        white = {p.name: (p.law, p.unit, p.latex) for p in super().prior.parameters}
        return Prior(**white, rho=(stats.uniform(0, 0.9), "", r"\rho"))

    def sample(self, theta: Array, rng: np.random.Generator) -> Array:
        """One x for each row of θ, (n, 7) → (n, size)."""
        rho = theta[:, 6]
        noise = rng.standard_normal((len(theta), self.size))
        for i in range(1, self.size):
            noise[:, i] = rho * noise[:, i - 1] + np.sqrt(1 - rho**2) * noise[:, i]
        return self.mean(theta[:, :6]) + theta[:, 4, None] * noise

    def log_prob(self, theta: Array, x: Array) -> Array:
        """Exact log p(x|θ) in nats, θ (n, 7), x (n, size) → (n,)."""
        sd, rho = theta[:, 4], theta[:, 6, None]
        r = x - self.mean(theta[:, :6])
        new = (r[:, 1:] - rho * r[:, :-1]) / np.sqrt(1 - rho**2)
        first = normal_log_density(r[:, 0], 0.0, sd)
        later = normal_log_density(new, 0.0, sd[:, None]) - 0.5 * np.log1p(-(rho**2))
        return first + later.sum(-1)


@dataclass(frozen=True)
class GaussianField:
    """A periodic map whose Fourier modes are independent: P(k) = A² |k|^(−n), P(0) = A².

    With an orthonormal transform log p is a sum over modes, |k| in waves across the map.

    Attributes:
        size: sites along one axis.
    """

    size: int = 16

    support: ClassVar[str] = "reals"
    symmetries: ClassVar[tuple[str, ...]] = ("shift", "reflect", "transpose", "flip")
    axes: ClassVar[tuple[str, ...]] = ("periodic", "periodic")

    @property
    def prior(self) -> Prior:
        """Log-uniform amplitude A, uniform slope n."""
        return Prior(amplitude=(stats.loguniform(0.5, 2), "", "A"), slope=(0.5, 3.0, "", "n"))

    @property
    def x_shape(self) -> tuple[int, ...]:
        """(size, size)."""
        return (self.size, self.size)

    def power(self, theta: Array) -> Array:
        """Variance of each mode, (n, 2) → (n, size, size)."""
        k = self.size * np.fft.fftfreq(self.size)
        square = k[:, None] ** 2 + k**2
        square[0, 0] = 1
        amplitude, slope = theta.T[..., None, None]
        return amplitude**2 * square ** (-slope / 2)

    def sample(self, theta: Array, rng: np.random.Generator) -> Array:
        """One x for each row of θ, (n, 2) → (n, size, size)."""
        white = rng.standard_normal((len(theta), *self.x_shape))
        return np.fft.ifft2(np.sqrt(self.power(theta)) * np.fft.fft2(white)).real

    def log_prob(self, theta: Array, x: Array) -> Array:
        """Exact log p(x|θ) in nats, θ (n, 2), x (n, size, size) → (n,)."""
        power = self.power(theta)
        modes = abs(np.fft.fft2(x, norm="ortho")) ** 2 / power + np.log(power)
        return -0.5 * modes.sum((1, 2)) - self.size**2 * HALF_LOG_2PI
