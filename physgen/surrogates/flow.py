r"""A conditional normalising flow: log p(x|θ) = log p(u) + log|det ∂u/∂x|, exact.

x goes through three kinds of invertible maps to u, whose components are independent:

1. the residuals of a mean that is quadratic in θ, by a lower triangular matrix: with these alone
   the flow is a normal law, the one that least squares give, where training begins;
2. layers, each of which shifts a component, scales it and passes it through a rational-quadratic
   spline (Durkan et al. 2019, arXiv:1906.04032), by numbers that a masked network gives of θ and
   of the components before it (Papamakarios et al. 2017, arXiv:1705.07057). Every second layer
   has the opposite order. Networks and splines are those of zuko;
3. a base law, Student's t of learnt degrees of freedom for each component: splines are straight
   beyond their bounds, so the base decides about the tails.

Networks work in float32, the maps in the type of z: float32 in training, else float64. A flow is
drawn by its inverse, which takes a pass of the networks for each component (autoregressive) or
only for each half of them (coupling).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from physgen.errors import UsageError
from physgen.law import Law
from physgen.nn.densities import normal_log_density, student_log_density, student_stretch
from physgen.nn.regression import least_squares, quadratic
from physgen.nn.transforms import finite_part
from physgen.surrogates.base import Likelihood, Noise
from physgen.surrogates.hamiltonian import Differentiable
from simulators.base import Support

__all__ = ["Flow", "FlowConfig"]

MOST = 64
"""Components of x: each is a pass of the networks when x is drawn."""
MOST_SEEN = 10.0
"""Size that a network sees of however large a component."""
LARGEST = 4.0
"""Largest logarithm of a layer's scale."""
NEARLY_NORMAL, MOST_DEGREES = 30.0, 1e4
"""Degrees of freedom at the start, and of what counts as normal."""


@dataclass(frozen=True)
class FlowConfig:
    """Options of the flow, for vectors of at most 64 real numbers.

    Attributes:
        transform: what a layer does with each component: spline shifts it, scales it and passes it
            through a spline; affine only shifts and scales.
        passes: passes of the networks that it takes to draw a layer, 2 or more: 2 is a coupling
            flow, the fastest; 0 takes one for each component, the most expressive.
        layers: layers, in alternating order (at least 1).
        hidden: units of a hidden layer of their networks (at least 1).
        depth: hidden layers of their networks (at least 1).
        bins: bins of a spline (at least 2).
        tails: base law: student, whose tails are learnt for each component, or gaussian.

    Example:
        physgen fit flow data.h5 -o flow.pt --max-minutes 3
    """

    transform: Literal["spline", "affine"] = "spline"
    passes: int = 0
    layers: int = 3
    hidden: int = 128
    depth: int = 2
    bins: int = 8
    tails: Literal["student", "gaussian"] = "student"

    def __post_init__(self) -> None:
        """Refuse values outside the documented ranges."""
        least = {"passes": 0, "layers": 1, "hidden": 1, "depth": 1, "bins": 2}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name}: expected at least {low}, got {getattr(self, name)}")
        if self.passes == 1:
            raise ValueError("passes: expected 0, or at least 2: in one pass nothing sees another")


class Residuals(nn.Module):
    """z → e^{−s} (1 − A)(z − W φ(c)), A strictly lower triangular, φ quadratic.

    Args:
        size: components of z.
        condition: components of c.
    """

    def __init__(self, size: int, condition: int) -> None:
        super().__init__()
        features = quadratic(torch.zeros(1, condition)).shape[1]
        self.mean = nn.Parameter(torch.zeros(features, size))
        self.lower = nn.Parameter(torch.zeros(size, size))
        self.log_width = nn.Parameter(torch.zeros(size))

    @torch.no_grad()
    def fit(self, c: Tensor, z: Tensor, part: Tensor) -> None:
        """Take the normal law of rows c (n, D) and z (n, d), of the components `part` (d,)."""
        weights = least_squares(c, z)
        rest = z.double() - quadratic(c.double()) @ weights
        covariance = rest.T @ rest / len(z)
        covariance.diagonal().add_(torch.where(part, 1e-10, 1.0))
        factor = torch.linalg.cholesky(covariance)
        width = factor.diagonal()
        inverse = torch.linalg.inv(factor / width)
        self.mean.copy_(weights)
        self.log_width.copy_(width.log())
        self.lower.copy_(-inverse.tril(-1))

    def parts(self, c: Tensor, part: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """W φ(c) (B, d), A (d, d) of the components `part` (d,) alone, and s (d,)."""
        triangle = self.lower.tril(-1) * (part[:, None] & part)
        mean = quadratic(c).to(dtype) @ self.mean.to(dtype)
        return mean, triangle.to(dtype), self.log_width.to(dtype)

    def forward(self, c: Tensor, z: Tensor, part: Tensor) -> tuple[Tensor, Tensor]:
        """u (B, d) and the logarithm of its slopes (d,), of c (B, D), z (B, d) and part (d,)."""
        mean, triangle, log_width = self.parts(c, part, z.dtype)
        rest = torch.where(part, z - mean, 0.0)
        return (rest - rest @ triangle.T) * (-log_width).exp(), -log_width

    def inverse(self, c: Tensor, u: Tensor, part: Tensor) -> Tensor:
        """z (B, d) of c (B, D), u (B, d) and part (d,)."""
        mean, triangle, log_width = self.parts(c, part, u.dtype)
        one = torch.eye(len(part), dtype=u.dtype, device=u.device)
        return (u * log_width.exp()) @ torch.linalg.inv(one - triangle).T + mean


class Layer(nn.Module):
    """One map of each component given θ and the components before it.

    Args:
        group: (d,) in which pass a component is drawn: it sees those of earlier ones.
        condition: components of c.
        config: options of the flow.
    """

    part: Tensor

    def __init__(self, group: Tensor, condition: int, config: FlowConfig) -> None:
        super().__init__()
        nets, transforms = zuko_modules()
        self.passes = int(group.max()) + 1
        self.bins = config.bins if config.transform == "spline" else 0
        self.spline = transforms.MonotonicRQSTransform
        outputs = 2 + max(0, 3 * self.bins - 1)
        sees = torch.cat([group[:, None] > group, torch.ones(len(group), condition) > 0], 1)
        hidden = [config.hidden] * config.depth
        self.net = nets.MaskedMLP(sees.repeat_interleave(outputs, 0), hidden, nn.SiLU)
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def maps(self, c: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Any]:
        """Shift and log scale of each component (B, d) each, and its spline or None."""
        seen = torch.cat([(u / (1 + u.abs() / MOST_SEEN)).float(), c], 1)
        raw = self.net(seen).to(u.dtype).unflatten(1, (u.shape[1], -1))
        shift, scale = raw[..., 0], LARGEST * (raw[..., 1] / LARGEST).tanh()
        if not self.bins:
            return shift, scale, None
        parts = raw[..., 2:].split([self.bins, self.bins, self.bins - 1], -1)
        return shift, scale, self.spline(*parts)

    def forward(self, c: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """v (B, d) and the logarithm of its slopes (B, d), of c (B, D) and u (B, d)."""
        shift, scale, spline = self.maps(c, u)
        v = u * scale.exp() + shift
        if spline is None:
            return v, scale
        v, slope = spline.call_and_ladj(v)
        return v, scale + slope

    def inverse(self, c: Tensor, v: Tensor, part: Tensor) -> Tensor:
        """u (B, d) of c (B, D) and v (B, d); 0 of components that are not in `part` (d,)."""
        u = torch.zeros_like(v)
        for _ in range(self.passes):
            shift, scale, spline = self.maps(c, u)
            scaled = v if spline is None else spline.inv(v)
            u = torch.where(part, (scaled - shift) * (-scale).exp(), 0.0)
        return u


class Base(nn.Module):
    """Independent components: Student's t of learnt degrees of freedom, or standard normal.

    Args:
        size: components.
        heavy: whether it has tails.
    """

    def __init__(self, size: int, *, heavy: bool) -> None:
        super().__init__()
        start = torch.full((size,), math.log(NEARLY_NORMAL))
        self.log_degrees = nn.Parameter(start) if heavy else None

    @property
    def degrees(self) -> Tensor:
        """Degrees of freedom of each component, (d,) float64."""
        assert self.log_degrees is not None  # noqa: S101
        return self.log_degrees.double().exp().clamp(max=MOST_DEGREES)

    def log_prob(self, u: Tensor) -> Tensor:
        """Log p of each component of u (B, d), (B, d)."""
        if self.log_degrees is None:
            return normal_log_density(u)
        return student_log_density(u, self.degrees)

    def sample(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """u of the shape of like (B, d)."""
        options: dict[str, Any] = {"generator": generator, "device": like.device}
        normal = torch.randn(like.shape, **options)
        if self.log_degrees is None:
            return normal
        return normal * student_stretch(self.degrees.float().expand(like.shape), generator)


class Flow(Differentiable):
    """Normalising flow p(x|θ) of real vectors."""

    name: ClassVar[str] = "flow"
    Config = FlowConfig
    supports: ClassVar[tuple[Support, ...]] = ("reals",)
    leaves_out: ClassVar[bool] = True
    part: Tensor

    def __init__(self, law: Law, config: FlowConfig) -> None:
        super().__init__(law, config)
        if law.size > MOST:
            raise UsageError(
                f"flow: not for x of {law.size} components; expected at most {MOST}; take cvae or "
                "diffusion"
            )
        condition, count = len(law.prior), law.size
        passes = min(config.passes or count, count)
        group = torch.arange(count) * passes // count
        self.residuals = Residuals(count, condition)
        self.chain = nn.ModuleList(
            Layer(group.flip(0) if i % 2 else group, condition, config)
            for i in range(config.layers)
        )
        self.base = Base(count, heavy=config.tails == "student")
        self.register_buffer("part", torch.ones(count, dtype=torch.bool))

    @property
    def layers(self) -> list[Layer]:
        """From x to the base."""
        return [layer for layer in self.chain if isinstance(layer, Layer)]

    @property
    def likelihood(self) -> Likelihood:
        """By change of variables."""
        return Likelihood.EXACT

    @classmethod
    def candidates(cls, law: Law) -> Iterable[Mapping[str, Any]]:
        """Splines, and what only shifts and scales, which is faster."""
        return [{}, {"transform": "affine"}]

    def fit_transform(self, x: Tensor, theta: Tensor | None = None) -> None:
        """Fit the map of x to rows of data (n, *x_shape), and begin with a normal law of them.

        Args:
            x: rows of data.
            theta: their parameters (n, D); without them the law's mean and width are 0 and 1.
        """
        super().fit_transform(x, theta)
        z, part = finite_part(self.transform(x.to(self.device)).flatten(1))
        self.part.copy_(part[0])
        if theta is not None:
            self.residuals.fit(self.rescale(theta.to(self.device)), z, self.part)

    def score(self, c: Tensor, z: Tensor) -> Tensor:
        """Log p(z|c) of c (B, D) and z (B, *x_shape), (B,)."""
        u = torch.where(self.part, finite_part(z.flatten(1))[0], 0.0)
        u, slope = self.residuals(c, u, self.part)
        for layer in self.layers:
            u = torch.where(self.part, u, 0.0)
            u, more = layer(c, u)
            slope = slope + more
        return torch.where(self.part, self.base.log_prob(u) + slope, 0.0).sum(1)

    def _loss(self, c: Tensor, z: Tensor, generator: torch.Generator, progress: float) -> Tensor:
        return -self.score(c, z)

    def _log_prob(self, c: Tensor, z: Tensor, noise: Noise, draws: int) -> tuple[Tensor, Tensor]:
        value = self.score(c, z.double())
        return value, torch.zeros_like(value)

    def _sample(self, c: Tensor, generator: torch.Generator) -> Tensor:
        u = self.base.sample(c.new_zeros(len(c), self.law.size), generator)
        u = torch.where(self.part, u, 0.0).double()
        for layer in reversed(self.layers):
            u = layer.inverse(c, u, self.part)
        return self.residuals.inverse(c, u, self.part).view(len(c), *self.law.x_shape)


def zuko_modules() -> tuple[Any, Any]:
    """The modules ``nn`` and ``transforms`` of zuko.

    Raises:
        UsageError: it is not installed.
    """
    try:
        from zuko import nn as nets
        from zuko import transforms
    except ImportError as error:
        raise UsageError("flow: needs zuko; pip install 'physgen[flow]'") from error
    return nets, transforms
