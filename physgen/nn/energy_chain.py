r"""A chain of energies: p(E|θ) = Π_l p(E_l | E_<l, θ), each a hurdle of Gamma laws.

Energies of a vector often have causes in common (a shower's depth and shape), given which they are
independent. What earlier energies say of the causes is then a sum of what each of them says,

    log p(E_<l | causes) = Σ_{k<l} log p(E_k | causes),

so that one network for all l sees a running sum of features of the energies so far, the place l
and θ (sums of features: Zaheer et al. 2017, arXiv:1703.06114). It corrects a law that roots of
energies tell, whose noise is the same at all energies where these are sums of many small ones
(Anscombe 1948, Biometrika 35, 246): √E_l is near a normal number of mean m and width w, linear in
the roots before it, with slopes that θ changes. With r = m/w and ρ = (r + √(r² + 4))/2 that is

    log E_l ≈ 2 log(w ρ),      shape of a Gamma law ≈ (ρ² + 1)/4,      log ρ = asinh(r/2),

which are its moments for large r and r = 0; the odds of any energy are logistic in log E_l.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from physgen.nn.column_places import FARTHEST, ColumnPlaces
from physgen.nn.energy_draws import LARGEST, PART, SMALL, ChainArrays, drawn_energies
from physgen.nn.given_noise import noise_is_given
from physgen.nn.hurdle import LEAST, MOST, HurdleGamma, hits
from physgen.nn.regression import quadratic

__all__ = ["EnergyChain"]

FEATURES = 3
"""Of an energy, as the network sees it."""
ROWS = 20_000
"""From which the start is found, at most."""
STEPS = 12
"""Of Newton's method."""
NARROW = 12.0
"""Of log shapes, at most: a relative width of 0.25 %."""
FEW = 256
"""Rows that numba draws, at most."""


class EnergyChain(nn.Module):
    """p(E|θ) of L energies, in u = log E − μ, which is −∞ without energy.

    Args:
        layers: L.
        condition: components of c.
        components: Gamma laws of a mixture, K.
        hidden: units of a layer, H.
        blocks: residual blocks of two layers.
    """

    odds: Tensor
    most: Tensor

    def __init__(
        self, layers: int, condition: int, components: int = 3, hidden: int = 64, blocks: int = 1
    ) -> None:
        super().__init__()
        self.layers, self.condition, self.components = layers, condition, components
        outputs = HurdleGamma.parameters(components)
        known = quadratic(torch.zeros(1, condition)).shape[1]
        self.places = ColumnPlaces(condition, layers, hidden)
        self.places.straight[:layers, 0] = 1  # √E of what is typical, until it is fitted
        self.register_buffer("odds", torch.zeros(layers, 2))
        self.register_buffer("most", torch.tensor(NARROW))
        self.shares = weights_within(layers, FEATURES, hidden, size=layers)
        self.gain = nn.Parameter(torch.ones(layers, hidden))
        self.told = weights_within(layers, known, hidden, size=known)
        self.near = nn.Linear(2, hidden)
        self.first = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(blocks))
        self.second = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(blocks))
        self.leave = nn.Linear(hidden, outputs)
        self.last = nn.Parameter(torch.zeros(layers, outputs))
        for zero in (self.leave.weight, self.leave.bias):
            nn.init.zeros_(zero)

    @torch.no_grad()
    def fit(self, u: Tensor, c: Tensor | None) -> None:
        """Take the law at which the chain starts.

        Args:
            u: (n, L) of data.
            c: (n, D); None if unknown.
        """
        u = u[:ROWS]
        c = u.new_zeros(len(u), self.condition) if c is None else c[:ROWS]
        self.places.fit(c.double(), root(u.double()))
        mean = self.started(c, u)[0].double()
        found = [logistic(m, hit) for m, hit in zip(mean.T, hits(u).T, strict=True)]
        self.odds.copy_(torch.stack(found))

    def log_p(self, c: Tensor, u: Tensor) -> Tensor:
        """log p of each of u (B, L) given those before it and c (B, D), (B, L).

        It is the log density of u, or log P(no energy) where u is −∞.
        """
        with torch.autocast(u.device.type, enabled=False):  # half precision is many widths
            mean, shape, e = self.started(c, u)
        shares = torch.einsum("blf,lfh->blh", features(u, e), self.shares)
        sums = F.pad(shares.cumsum(1)[:, :-1], (0, 0, 1, 0))
        return self.law(mean, shape, sums, self.of_theta(c), slice(None)).log_prob(u)

    def started(self, c: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log E and log shape at which laws start, and e, of c (B, D) and u (B, L), (B, L) each.

        e is the root of an energy in units of its width given θ.
        """
        m, s, t, slopes = self.places(c)
        e = standard_root(u, m, s)
        mean, shape = moments_of_square(m + s.exp() * (slopes @ e[..., None])[..., 0], s + t)
        return mean, shape, e

    def of_theta(self, c: Tensor) -> Tensor:
        """What c (B, D) tells the network of each layer, (B, L, H)."""
        return torch.einsum("bq,lqh->blh", quadratic(c), self.told)

    def law(
        self, mean: Tensor, shape: Tensor, sums: Tensor, told: Tensor, which: slice
    ) -> HurdleGamma:
        """The laws of some n layers.

        Args:
            mean: (B, n) of log E, at the start.
            shape: (B, n) logarithms, likewise.
            sums: (B, n, H) of what earlier layers say.
            told: (B, n, H) by θ.
            which: the layers.
        """
        near = self.near(torch.stack([mean, SMALL * shape], -1))
        h = sums * self.gain[which] + told + near
        for first, second in zip(self.first, self.second, strict=True):
            h = h + second(F.silu(first(F.silu(h))))
        raw = self.leave(F.silu(h)).to(mean.dtype) + self.last[which]
        odds = self.odds[which, 0] + self.odds[which, 1] * mean
        return HurdleGamma(raw + around(odds, mean, shape, self.components, self.most), self.most)

    def sample(self, c: Tensor, generator: torch.Generator) -> Tensor:
        """One u for each row of c (B, D), layer after layer, (B, L)."""
        m, s, t, slopes = self.places(c)
        if len(c) <= FEW and c.device.type == "cpu" and not noise_is_given():
            seed = int(torch.randint(2**31, (), generator=generator))
            arrays = (
                contiguous_array(v) for v in (m, s, t, slopes, self.of_theta(c) + self.near.bias)
            )
            return torch.from_numpy(drawn_energies(seed, self.arrays(), *arrays))
        told, unit = self.of_theta(c), s.exp()
        sums, drawn, seen = torch.zeros_like(told[:, :1]), [], torch.zeros_like(m[:, :0])
        for layer in range(self.layers):
            one = slice(layer, layer + 1)
            pull = (slopes[:, layer, :layer] * seen).sum(1, keepdim=True)
            start = moments_of_square(m[:, one] + unit[:, one] * pull, s[:, one] + t[:, one])
            u = self.law(*start, sums, told[:, one], one).sample(generator)
            e = standard_root(u, m[:, one], s[:, one])
            sums = sums + features(u, e) @ self.shares[layer]
            seen = torch.cat([seen, e], 1)
            drawn.append(u)
        return torch.cat(drawn, 1)

    def arrays(self) -> ChainArrays:
        """The weights as arrays."""
        first, second = (
            [[getattr(layer, part) for layer in layers] for part in ("weight", "bias")]
            for layers in (self.first, self.second)
        )
        hidden = self.gain.shape[1]
        shapes = ((hidden, hidden), (hidden,))
        stacked = (
            torch.stack(some) if some else self.gain.new_zeros(0, *shape)
            for some, shape in zip([*first, *second], 2 * shapes, strict=True)
        )
        last = self.last + self.leave.bias
        before = (self.odds, self.shares, self.gain, self.near.weight)
        return ChainArrays(
            *(
                contiguous_array(v)
                for v in (*before, *stacked, self.leave.weight, last, self.most.view(1))
            )
        )

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *rest: Any
    ) -> None:
        """Take what is in the file; chains of before were as wide as other hurdles."""
        state_dict.setdefault(prefix + "most", torch.tensor(MOST))
        super()._load_from_state_dict(state_dict, prefix, *rest)


def contiguous_array(values: Tensor) -> NDArray[Any]:
    """A tensor (...) as an array (...) in the order of C."""
    return np.ascontiguousarray(values.detach().numpy())


def root(u: Tensor) -> Tensor:
    """√E of u (...), 0 without energy."""
    hit = hits(u)
    half = (0.5 * torch.where(hit, u, 0.0)).clamp(max=math.log(LARGEST))
    return torch.where(hit, half.exp(), 0.0)


def standard_root(u: Tensor, m: Tensor, s: Tensor) -> Tensor:
    """√E of u (...) in units of e^s around m, (...)."""
    return ((root(u) - m) * (-s).exp()).clamp(-FARTHEST, FARTHEST)


def features(u: Tensor, e: Tensor) -> Tensor:
    """Energies u (...) as the network sees them, (..., 3): e, hit or not, and the logarithm.

    Args:
        u: (...).
        e: (...) roots, standardised.
    """
    hit = hits(u)
    return torch.stack([e, hit.to(e.dtype), SMALL * torch.where(hit, u, 0.0)], -1)


def moments_of_square(m: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """log E and log shape of a Gamma law near y² of normal y of mean m and log width s, (...)."""
    log_rho = torch.asinh(0.5 * m * (-s).exp())
    return 2 * (s + log_rho), (0.25 * (1 + (2 * log_rho).exp())).log()


def around(odds: Tensor, mean: Tensor, shape: Tensor, components: int, most: Tensor) -> Tensor:
    """The numbers of a hurdle of K Gamma laws around a mean, (..., 1 + 3K).

    Args:
        odds: (...) log odds of any energy.
        mean: (...) of log E.
        shape: (...) logarithms of shapes.
        components: K.
        most: () of log shapes.
    """
    middle, half = (most + LEAST) / 2, (most - LEAST) / 2
    part = ((shape - middle) / half).clamp(-PART, PART)
    shape = middle - 1 + half * torch.atanh(part)
    apart = (torch.arange(components).to(mean) + 0.5) / components - 0.5
    means = mean[..., None] + apart * (-0.5 * (middle + half * part)).exp()[..., None]
    shapes = shape[..., None].expand_as(means)
    return torch.cat([odds[..., None], torch.zeros_like(means), shapes, means], -1)


def logistic(x: Tensor, hit: Tensor) -> Tensor:
    """Logistic regression of hits (n,) on x (n,) by Newton's method: intercept and slope, (2,)."""
    part = (hit.sum() + 0.5) / (len(hit) + 1)
    found = torch.stack([part.to(x).logit(), x.new_zeros(())])
    if hit.all() or not hit.any():
        return found
    design = torch.stack([torch.ones_like(x), x], 1)
    for _ in range(STEPS):
        p = (design @ found).sigmoid()
        curvature = (design * (p * (1 - p))[:, None]).T @ design + torch.eye(2).to(x)
        step = torch.linalg.solve(curvature, design.T @ (hit.to(x) - p))
        found = found + step.clamp(-2, 2)
    return found


def weights_within(*shape: int, size: int) -> nn.Parameter:
    """Weights (...), uniform within ±1/√size."""
    return nn.Parameter((2 * torch.rand(shape) - 1) / math.sqrt(size))
