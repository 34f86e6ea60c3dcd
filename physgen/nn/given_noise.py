"""Random numbers that are given instead of drawn, so that what is drawn from them can be repeated.

Within `GivenNoise` whatever torch would draw comes from two arrays of one row for each row of the
batch: standard normal numbers, and uniform ones in [0, 1). Bernoulli numbers are u < p. Gamma
numbers are those of Marsaglia & Tsang (2000, ACM Trans. Math. Softw. 26, 363), whose rejection is
written out `TRIES` times: all of them fail for one number in 10⁸. Poisson numbers are the inverse
of their distribution function up to a mean of `FEW`; beyond it that is an expansion in a normal
number (Giles 2016, ACM Trans. Math. Softw. 42, 7), of a law that differs by 5 · 10⁻⁵ at most in
total variation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, _get_current_function_mode

from physgen.errors import UsageError

__all__ = ["GivenNoise", "NoiseLaw", "noise_is_given"]

NoiseLaw = Literal["normal", "uniform"]
TRIES = 6
"""Each of which fails with a probability below 0.05."""
FEW, TERMS = 16.0, 46
"""Mean up to which Poisson numbers are an inverse, and the terms that it takes."""
LEAST = 2.0**-25
"""Of uniform numbers whose logarithm is taken: half of the least of float32 above 0."""


class GivenNoise(TorchFunctionMode):
    """A context in which torch's random numbers are given.

    Args:
        deal: law, first column, last column + 1 → numbers (B, columns).

    Attributes:
        taken: columns that were used of each law.
    """

    def __init__(self, deal: Callable[[NoiseLaw, int, int], Tensor]) -> None:
        super().__init__()
        self.deal = deal
        self.taken: dict[NoiseLaw, int] = {"normal": 0, "uniform": 0}

    def numbers(self, law: NoiseLaw, shape: tuple[int, ...]) -> Tensor:
        """The next numbers of a law, of a shape (B, …).

        Raises:
            UsageError: a shape of another batch.
        """
        start, many = self.taken[law], math.prod(shape[1:])
        self.taken[law] = start + many
        found = self.deal(law, start, start + many)
        if not shape or len(found) != shape[0]:
            raise UsageError(f"draws {shape} random numbers for a batch of {len(found)} rows")
        return found.reshape(shape)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """What a function of torch gives, its random numbers replaced."""
        kwargs = kwargs or {}
        if func in DRAWS:
            return DRAWS[func](self, *args, **kwargs)
        if any(isinstance(a, torch.Generator) for a in (*args, *kwargs.values())):
            raise UsageError(f"draws by torch's {func.__name__}, which takes other numbers")
        return func(*args, **kwargs)


def noise_is_given() -> bool:
    """Whether random numbers are given now, so that all of them must be asked of torch."""
    return isinstance(_get_current_function_mode(), GivenNoise)


def of_shape(law: NoiseLaw) -> Callable[..., Tensor]:
    """Numbers of a shape that is given as torch takes it."""

    def draw(noise: GivenNoise, *size: Any, **kwargs: Any) -> Tensor:
        shape = size or (kwargs["size"],)
        whole = tuple(shape[0]) if isinstance(shape[0], tuple | list) else shape
        return noise.numbers(law, whole)

    return draw


def like(law: NoiseLaw) -> Callable[..., Tensor]:
    """Numbers of a tensor's shape."""
    return lambda noise, values, **kwargs: noise.numbers(law, tuple(values.shape))


def bernoulli(noise: GivenNoise, p: Tensor, **kwargs: Any) -> Tensor:
    """1 with probability p (B, …), else 0."""
    return (noise.numbers("uniform", tuple(p.shape)) < p).to(p.dtype)


def uniform(
    noise: GivenNoise, values: Tensor, low: float = 0, high: float = 1, **kwargs: Any
) -> Tensor:
    """Numbers between two bounds, of the shape of values (B, …), which stay as they are."""
    return low + (high - low) * noise.numbers("uniform", tuple(values.shape))


def standard_gamma(noise: GivenNoise, shape: Tensor, **kwargs: Any) -> Tensor:
    """Gamma numbers of scale 1 and of these shapes a (B, …).

    Below a = 1 those of a + 1, times u^{1/a}.
    """
    batch, *rest = shape.shape
    d = torch.where(shape < 1, shape + 1, shape)[:, None] - 1 / 3
    x = noise.numbers("normal", (batch, TRIES, *rest))
    v = (1 + x / (9 * d).sqrt()) ** 3
    log_v = v.clamp(min=LEAST).log()
    log_u = noise.numbers("uniform", (batch, TRIES, *rest)).clamp(min=LEAST).log()
    accepted = (v > 0) & (log_u < 0.5 * x**2 + d * (1 - v + log_v))
    value = torch.ones_like(shape)
    for found, one in zip(v.unbind(1), accepted.unbind(1), strict=True):
        value = torch.where(one, found, value)  # the last that is accepted: as good as the first
    u = noise.numbers("uniform", (batch, *rest)).clamp(min=LEAST)
    return d[:, 0] * value * torch.where(shape < 1, (u.log() / shape).exp(), 1.0)


def poisson(noise: GivenNoise, rate: Tensor, *_: Any, **kwargs: Any) -> Tensor:
    """Poisson numbers of these means (B, …)."""
    size = tuple(rate.shape)
    few = poisson_inverse(noise.numbers("uniform", size), rate.clamp(max=FEW))
    many = poisson_expansion(noise.numbers("normal", size), rate.clamp(min=FEW))
    return torch.where(rate < FEW, few, many)


def poisson_inverse(u: Tensor, rate: Tensor) -> Tensor:
    """How many values of the distribution function of means (…) lie below u (…), (…)."""
    p, count = (-rate).exp(), torch.zeros_like(rate)
    for k in range(1, TERMS + 1):
        u = u - p
        count = count + (u >= 0)
        p = p * (rate / k)
    return count


def poisson_expansion(z: Tensor, rate: Tensor) -> Tensor:
    """Numbers of the same probability as normal ones z (…) have, of means (…), (…)."""
    root, square = rate.sqrt(), z**2
    value = rate + root * z + (2 + square) / 6 - z * (2 + square) / (72 * root)
    value = value + (square * (7 + 3 * square) - 16) / (810 * rate)
    return value.floor().clamp(min=0)


DRAWS: dict[Any, Callable[..., Tensor]] = {
    torch.rand: of_shape("uniform"),
    torch.randn: of_shape("normal"),
    torch.rand_like: like("uniform"),
    torch.randn_like: like("normal"),
    torch.bernoulli: bernoulli,
    torch.Tensor.bernoulli: bernoulli,
    torch.Tensor.uniform_: uniform,
    torch._standard_gamma: standard_gamma,
    torch.poisson: poisson,
}
"""What draws random numbers in torch, drawn from those that are given."""
