r"""A chain of energies: p(E|θ) = Π_l p(E_l | E_<l, θ), each a hurdle of Gamma laws.

Energies of a vector often have causes in common (a shower's depth and shape), given which they are
independent. What earlier energies say of the causes is then a sum of what each of them says,

    log p(E_<l | causes) = Σ_{k<l} log p(E_k | causes),

so that one network, with weights shared by all l, sees a running sum of learnt functions of the
energies so far, the place l and θ (a sum as that of Zaheer et al. 2017, arXiv:1703.06114). It
corrects a law that least squares tell: log E_l on the energies before it and on θ, its width
as a function of that mean, and the odds of any energy at all.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from physgen.nn.hurdle import LEAST, MOST, HurdleGamma, hits
from physgen.nn.regression import of_left_out, quadratic

__all__ = ["EnergyChain"]

FEATURES = 3
"""Of an energy, as networks see it."""
ROWS = 10_000
"""From which the start is found, at most."""
LARGEST = 30.0
"""Of a root of an energy, in units of what is typical."""
CHI_SQUARE = 1.27
"""−⟨log χ²⟩ of one degree of freedom."""
WIDTHS = (0.02, 3.0)
"""Of log E around least squares."""


class EnergyChain(nn.Module):
    """p(E|θ) of L energies, in u = log E − μ, which is −∞ without energy.

    Args:
        layers: L.
        condition: components of c.
        components: Gamma laws of a mixture, K.
        hidden: units of a layer.
        blocks: residual blocks of two layers.
    """

    straight: Tensor
    width: Tensor
    odds: Tensor
    before: Tensor

    def __init__(
        self,
        layers: int,
        condition: int,
        components: int = 3,
        hidden: int = 96,
        blocks: int = 2,
    ) -> None:
        super().__init__()
        self.layers, self.components = layers, components
        known = quadratic(torch.zeros(1, condition)).shape[1]
        self.register_buffer("straight", torch.zeros(layers, known + FEATURES * layers))
        self.register_buffer("width", torch.tensor([[0.0, 0.0]]).repeat(layers, 1))
        self.register_buffer("odds", torch.zeros(layers, 2))
        before = torch.ones(layers, layers).tril(-1).repeat_interleave(FEATURES, 1)
        self.register_buffer("before", before, persistent=False)
        self.shares = uniform(layers, FEATURES, hidden, size=layers)
        self.gain = nn.Parameter(torch.ones(layers, hidden))
        self.told = uniform(layers, known, hidden, size=known)
        self.start = nn.Linear(2, hidden)
        self.first = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(blocks))
        self.second = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(blocks))
        self.leave = nn.Linear(hidden, HurdleGamma.parameters(components))
        self.last = nn.Parameter(torch.zeros(layers, HurdleGamma.parameters(components)))
        for zero in (self.leave.weight, self.leave.bias):
            nn.init.zeros_(zero)

    @torch.no_grad()
    def fit(self, u: Tensor, c: Tensor | None) -> None:
        """Take the law at which the chain starts.

        Args:
            u: (n, L) of data.
            c: (n, D); None if unknown.
        """
        u = u[:ROWS].double()
        known = self.straight.shape[1] - FEATURES * self.layers
        q = u.new_zeros(len(u), known) if c is None else quadratic(c[:ROWS].double())
        q[:, 0] = 1
        seen = features(u)
        for layer, hit in enumerate(hits(u).T):
            past = seen[:, :layer].flip(1).flatten(1)
            design, y = torch.cat([q, past], 1)[hit], torch.where(hit, u[:, layer], 0.0)
            sizes = sorted({1, known, *(known + FEATURES * k for k in doubled(layer))})
            found = of_left_out(design, y[hit, None], sizes)[:, 0] if hit.any() else q[0] * 0
            weights = torch.cat([q, past], 1).new_zeros(known + FEATURES * layer)
            weights[: len(found)] = found
            mean = torch.cat([q, past], 1) @ weights
            self.straight[layer, :known] = weights[:known].float()
            backwards = weights[known:].view(layer, FEATURES).flip(0).flatten()
            self.straight[layer, known : known + FEATURES * layer] = backwards.float()
            self.width[layer] = width_of(mean[hit], (y - mean)[hit]).float()
            self.odds[layer] = odds_of(mean, hit).float()

    def log_p(self, c: Tensor, u: Tensor) -> Tensor:
        """log p of each of u (B, L) given those before it and c (B, D), (B, L).

        It is the log density of u, or log P(no energy) where u is −∞.
        """
        seen = features(u)
        shares = torch.einsum("blf,lfh->blh", seen, self.shares)
        sums = F.pad(shares.cumsum(1)[:, :-1], (0, 0, 1, 0))
        q = quadratic(c)
        known = q.shape[1]
        mean = q @ self.straight[:, :known].T
        mean = mean + seen.flatten(1) @ (self.straight[:, known:] * self.before).T
        told = torch.einsum("bq,lqh->blh", q, self.told)
        return HurdleGamma(self.raw(mean, sums, told, slice(None))).log_prob(u)

    def raw(self, mean: Tensor, sums: Tensor, told: Tensor, which: slice) -> Tensor:
        """The numbers of the laws of some n layers, (B, n, R).

        Args:
            mean: (B, n) of u, by least squares.
            sums: (B, n, H) of earlier layers.
            told: (B, n, H) by θ.
            which: the layers.
        """
        log_width = self.width[which, 0] + self.width[which, 1] * mean
        log_width = log_width.clamp(*(math.log(w) for w in WIDTHS))
        odds = self.odds[which, 0] + self.odds[which, 1] * mean
        h = sums * self.gain[which] + told + self.start(torch.stack([mean, log_width], -1))
        for first, second in zip(self.first, self.second, strict=True):
            h = h + second(F.silu(first(F.silu(h))))
        raw = self.leave(F.silu(h)) + self.last[which]
        return raw + around(odds, mean, log_width, self.components)

    def sample(self, c: Tensor, generator: torch.Generator) -> Tensor:
        """One u for each row of c (B, D), layer after layer, (B, L)."""
        q = quadratic(c)
        known = q.shape[1]
        mean = q @ self.straight[:, :known].T
        told = torch.einsum("bq,lqh->blh", q, self.told)
        sums, drawn = torch.zeros_like(told[:, :1]), []
        for layer in range(self.layers):
            one = slice(layer, layer + 1)
            raw = self.raw(mean[:, one], sums, told[:, one], one)
            u = HurdleGamma(raw).sample(generator)
            drawn.append(u)
            seen = features(u)
            sums = sums + seen @ self.shares[layer]
            weights = self.straight[:, known:].unflatten(1, (-1, FEATURES))[:, layer]
            later = torch.arange(self.layers, device=c.device) > layer
            mean = mean + seen[:, 0] @ (weights * later[:, None]).T
        return torch.cat(drawn, 1)


def features(u: Tensor) -> Tensor:
    """u (...) as numbers that a network can take: hit or not, log and root of E, (..., 3)."""
    hit = hits(u)
    log = torch.where(hit, u, 0.0)
    root = torch.where(hit, (0.5 * log).exp().clamp(max=LARGEST), 0.0)
    return torch.stack([hit.to(u.dtype), log, root], -1)


def around(odds: Tensor, mean: Tensor, log_width: Tensor, components: int) -> Tensor:
    """The numbers of a hurdle of K Gamma laws of a width around a mean, (..., 1 + 3K).

    Args:
        odds: (...) log odds of any energy.
        mean: (...) of log E.
        log_width: (...) of log E.
        components: K.
    """
    middle, half = (MOST + LEAST) / 2, (MOST - LEAST) / 2
    part = (-2 * log_width - middle) / half
    shape = middle - 1 + half * torch.atanh(part.clamp(-0.95, 0.95))
    apart = torch.linspace(-0.5, 0.5, components).to(mean) if components > 1 else mean.new_zeros(1)
    means = mean[..., None] + apart * log_width.exp()[..., None]
    one = torch.ones_like(means)
    return torch.cat([odds[..., None], 0 * one, shape[..., None] * one, means], -1)


def uniform(*shape: int, size: int) -> nn.Parameter:
    """Weights (...), uniform within ±1/√size."""
    return nn.Parameter((2 * torch.rand(shape) - 1) / math.sqrt(size))


def doubled(n: int) -> list[int]:
    """1, 2, 4, … below n, and n."""
    return [*(2**k for k in range(n.bit_length()) if 2**k < n), *([n] if n else [])]


def width_of(mean: Tensor, rest: Tensor) -> Tensor:
    """Intercept and slope of log |rest| (n,), as a width, on the mean (n,), (2,)."""
    if len(rest) < 20:
        return mean.new_tensor([0.0, 0.0])
    design = torch.stack([torch.ones_like(mean), mean], 1)
    log = 0.5 * (rest.square().clamp(min=1e-8).log() + CHI_SQUARE)
    return of_left_out(design, log[:, None], [1, 2])[:, 0]


def odds_of(mean: Tensor, hit: Tensor) -> Tensor:
    """Logistic regression of hits (n,) on the mean (n,), by Newton's method, (2,)."""
    design = torch.stack([torch.ones_like(mean), mean], 1)
    part = (hit.double().sum() + 0.5) / (len(hit) + 1)
    found = torch.stack([part.logit(), mean.new_zeros(())])
    if hit.all() or not hit.any():
        return found
    for _ in range(8):
        p = (design @ found).sigmoid()
        curvature = (design * (p * (1 - p))[:, None]).T @ design + torch.eye(2).to(mean)
        step = torch.linalg.solve(curvature, design.T @ (hit.double() - p))
        found = found + step.clamp(-2, 2)
    return found
