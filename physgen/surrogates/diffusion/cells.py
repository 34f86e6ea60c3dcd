r"""Showers cell by cell: the layers' energies, which cells are hit, how each layer is shared out.

    p(x|θ) = p(E|θ) · P(hits|E, θ) · p(shares|hits, E, θ) · |∂(E, shares)/∂x|

E are a chain of hurdles (:mod:`physgen.nn.energy_chain`), whose log p is exact. *Hits* are drawn
in a few groups, each at once given those before, so that theirs is exact too: given what causes a
shower its cells are nearly independent, and what is drawn tells the cause.

*Shares* w_i of a layer add up to one, which ties each to all others. A random factor e^s unties
them: y_i = log w_i + s are as many free numbers as there are hits. With s ~ N(0, 1/k), and k the
number of parts of which the energy is made, independent parts make cells that are nearly
independent (exactly, for Gamma laws and a Gamma factor). As |∂(log E, y)/∂(log x, s)| = 1,

    log p(shares|…) ≥ E_s [log p(y|hits, E, θ) − log q(s)],

with equality where p(y) is the law of such y (an *augmented* variable: Huang et al. 2020,
arXiv:2002.07101). Drawn y make shares by a softmax, whatever s was.

Each y has a mixture of Gaussians given hits, E and θ, fitted by its own likelihood, and what its
distribution function makes of y is nearly a standard normal number (a monotone map, as that of
Ho et al. 2019, arXiv:1902.00275). These numbers are what the *diffusion* is of: its network, which
sees all cells, learns how they differ from independent normal ones. Along the angle φ, tan φ =
σ/α, the flow moves such numbers hardly at all, so that few steps of it do.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from physgen.law import Law
from physgen.nn.cells import CellNet, RingProfile
from physgen.nn.densities import normal_log_density
from physgen.nn.energy_chain import EnergyChain
from physgen.nn.hurdle import shown
from physgen.nn.layer_energies import CellShares
from physgen.nn.mixtures import GaussianMixture
from physgen.surrogates.base import Noise
from physgen.surrogates.diffusion.gaussian import GaussianKernel
from physgen.surrogates.diffusion.grouped import GroupedHits
from physgen.surrogates.diffusion.likelihood import mean, quiet, times, total
from physgen.surrogates.diffusion.sampler import integrate, sampler
from physgen.surrogates.diffusion.schedule import alpha_sigma, rows_like

if TYPE_CHECKING:
    from physgen.surrogates.diffusion import DiffusionConfig

__all__ = ["CellsKernel"]

LAWS = 4
"""Gaussians of the mixture of a share."""
STEPS = 4
"""Evaluations of the network for the shares of one shower, where the options do not say."""
ONE_OF = 4
"""Rows of a training step, one of which shows the diffusion what it may gain."""
MANY = 1e3
"""Parts of a cell, to a network."""
PARTS = (1.0, 1e6)
"""Of which a layer's energy is made."""
SIZES = {"small": (16, 1), "medium": (24, 2), "large": (48, 3), "wide": (32, 1)}
"""Features of a cell and blocks of the networks, by name."""


class CellDenoiser(nn.Module):
    """x̂ = αz + σF of nearly standard normal numbers of cells: F = 0 where they are just that.

    Args:
        net: F.
    """

    def __init__(self, net: CellNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, z: Tensor, log_snr: Tensor, c: Tensor) -> Tensor:
        """x̂ of z (B, L, A, R) at λ (B,) given what is known of cells c, as `more`."""
        alpha, sigma = (rows_like(v, z) for v in alpha_sigma(log_snr))
        return alpha * z + sigma * self.more(z, log_snr, c)

    def more(self, z: Tensor, log_snr: Tensor, c: Tensor) -> Tensor:
        """F of z (B, L, A, R) at λ (B,), (B, L, A, R).

        Args:
            z: noised numbers.
            log_snr: λ.
            c: (B, L, A, R, 1 + C) what is known of cells; the first number says whether a cell
                counts, and the others are 0 to the network.
        """
        condition = torch.stack([log_snr / 8, *alpha_sigma(log_snr)], 1)
        seen = torch.cat([z[..., None] * c[..., :1], c], -1)
        return self.net(seen, condition)[..., 0].float() * c[..., 0]


class ScoresKernel(GaussianKernel):
    """The Gaussian kernel of nearly standard normal numbers of cells, given what is known of them.

    Its condition c is (B, L, A, R, 1 + C).
    """

    denoiser: CellDenoiser

    def gain(self, c: Tensor, x: Tensor, t: Tensor, epsilon: Tensor, part: Tensor) -> Tensor:
        """Nats that the network gains over independent normal numbers, (B,).

        That is the bound less their log density: ½(−λ′) α² Σ F (2(σx − αε) − F), at one time.

        Args:
            c: (B, L, A, R, 1 + C).
            x: (B, L, A, R).
            t: (B,).
            epsilon: (B, L, A, R) standard normal.
            part: (B, L, A, R) the numbers that count.
        """
        log_snr, slope = (v.clone() for v in self.schedule.slope(t))
        alpha, sigma = alpha_sigma(rows_like(log_snr, x))
        f = self.denoiser.more(alpha * x + sigma * epsilon, log_snr, c)
        less = total(f * (2 * (sigma * x - alpha * epsilon) - f), part)
        value = 0.5 * slope * log_snr.sigmoid() * less
        quiet(value, log_snr, slope)
        return value

    def sample(
        self,
        c: Tensor,
        generator: torch.Generator,
        config: DiffusionConfig,
        kept: Tensor | None = None,
    ) -> Tensor:
        """One x for each row of c, (B, L, A, R), in equal steps of the angle φ.

        An ancestral step takes x of independent normal numbers given z, moved by what the network
        adds, and not its mean: where that adds nothing, any number of steps is right.
        """

        def normal(like: Tensor) -> Tensor:
            return torch.randn(like.shape, generator=generator, device=like.device)

        def denoise(z: Tensor, log_snr: Tensor) -> Tensor:
            x = self.denoiser(z, log_snr.expand(len(z)), c)
            _, sigma = alpha_sigma(log_snr)
            return x + sigma * normal(z) if config.sampler == "ancestral" else x

        solver = sampler(config.sampler, config.eta)
        steps = self.evaluations(config) // solver.evaluations
        low, high = self.schedule.low, self.schedule.high
        first, last = (math.atan(math.exp(-v / 2)) for v in (low, high))
        angles = torch.linspace(first, last, steps + 1, device=c.device)
        start = normal(torch.empty(len(c), *self.law.x_shape, device=c.device))
        return integrate(solver, denoise, start, -2 * angles.tan().log(), normal)


class Expected(NamedTuple):
    """What energies and θ say of cells.

    Attributes:
        cells: (B, L, A, R, 2) how many parts of its layer fall on a cell, as networks see it.
        middle: (B, L, 1, R) where y lies, about.
        width: (B, L, 1, R) how wide y is, about.
    """

    cells: Tensor
    middle: Tensor
    width: Tensor


class CellsKernel(nn.Module):
    """Energies, hits and shares, cell by cell.

    Attributes:
        draws: times that a log p takes where the caller does not choose.
        samplers: ways to draw what is real.
        transform: the map of x that it wants.

    Args:
        law: of showers of three axes, layers first.
        config: the family's options.
    """

    draws: ClassVar[int] = 16
    samplers: ClassVar[tuple[str, ...]] = GaussianKernel.samplers
    transform: ClassVar[type[CellShares]] = CellShares
    parts: Tensor

    def __init__(self, law: Law, config: DiffusionConfig) -> None:
        super().__init__()
        self.shape, self.layers = law.x_shape, law.x_shape[0]
        told = len(law.prior) + 2 * self.layers
        channels, blocks = SIZES["small" if config.network == "auto" else config.network]

        def net(inputs: int, outputs: int, condition: int) -> CellNet:
            return CellNet(
                law.x_shape, periodic(law), inputs, outputs, condition, channels, blocks
            )

        self.energies = EnergyChain(self.layers, len(law.prior))
        self.profile = RingProfile(self.layers, self.shape[2], told)
        self.hits = GroupedHits(law.x_shape, config.groups, net(4, 1, told + config.groups))
        self.head = net(3, GaussianMixture.parameters(LAWS), told)
        reals = replace(law, support="reals", symmetries=(), axes=())
        denoiser = CellDenoiser(net(2 + channels, 1, 3))
        self.shares = ScoresKernel(reals, config, denoiser=denoiser)
        self.register_buffer("parts", torch.ones(self.layers))

    def fit(self, z: Tensor, c: Tensor | None) -> None:
        """Take where energies and shares start, and of how many parts energies are made.

        If k parts fall on two halves of a layer alike, the difference of their shares has the
        variance 1/(k + 1). Halves are every second row of cells; k goes as the energy.

        Args:
            z: (n, L + L·A·R) of data.
            c: (n, D); None if unknown.
        """
        u, y = z[:, : self.layers], z[:, self.layers :].view(-1, *self.shape)
        self.energies.fit(u, c)
        sign = 1.0 - 2 * (torch.arange(self.shape[1], device=z.device) % 2)
        difference = (y.exp().sum(3) * sign).sum(2)
        lit = (y > -math.inf).flatten(2).sum(2) > 1
        count = lit.sum(0).clamp(min=1)
        fair = (difference * lit).sum(0) / count
        excess = (difference.square() - fair.square()) * torch.where(lit, u, 0.0).exp() * lit
        self.parts.copy_(count / excess.sum(0).clamp(min=1 / PARTS[1]))
        if c is not None:
            told, shares = torch.cat([c, shown(u)], 1).to(self.parts.dtype), y.exp().sum(2)
            self.profile.fit(told, self._log_parts(u).exp()[..., None] * shares)

    def loss(self, c: Tensor, z: Tensor, generator: torch.Generator) -> Tensor:
        """The bound, at one random group of hits and one random time for each row, (B,)."""
        u, lit, told, hit, y, part = self._split(c, z)
        known = self._known(u, told)
        loss = -self.energies.log_p(c, u).sum(1)
        shift = torch.randint(self.hits.groups, (1,), generator=generator, device=z.device)
        group = (torch.arange(len(z), device=z.device) + shift) % self.hits.groups
        loss = loss - self.hits.groups * self.hits.log_p(hit, lit, group, told, known.cells)
        normal, epsilon = (
            torch.randn(v.shape, generator=generator, device=z.device) for v in (u, y)
        )
        seen, mixture = self._head(hit, part, told, known)
        factor, log_q = self._factor(u, part, normal)
        first, r = self._scores(mixture, known, y + factor, part)
        loss = loss - first + log_q
        some = slice(0, None, ONE_OF)
        seen, r, part, epsilon = (v[some].detach() for v in (seen, r, part, epsilon))
        t = times(torch.rand(1, generator=generator, device=z.device), len(r))[0]
        gain = torch.zeros_like(loss)
        gain[some] = self.shares.gain(seen, r, t, epsilon, part) * len(loss) / len(r)
        return loss - gain

    def evaluations(self, config: DiffusionConfig) -> int:
        """Evaluations of the shares' network for one sample."""
        return self.shares.evaluations(few(config))

    def width(self, config: DiffusionConfig) -> int:
        """No more than one evaluation at once."""
        return 1

    def refuse(self, config: DiffusionConfig) -> str:
        """What in the options this kernel cannot do; empty if nothing is."""
        return "" if config.estimator == "bound" else f"estimator {config.estimator}"

    def log_prob(
        self, c: Tensor, z: Tensor, noise: Noise, draws: int, config: DiffusionConfig
    ) -> tuple[Tensor, Tensor]:
        """The bound on log p(x|c) and its error, (B,) each."""
        u, lit, told, hit, y, part = self._split(c, z)
        known = self._known(u, told)
        value = self.energies.log_p(c, u).sum(1)
        value = value + self.hits.log_prob(hit, lit, told, known.cells)
        seen, mixture = self._head(hit, part, told, known)
        many = (v.repeat_interleave(draws, 0) for v in (u, y, part, seen, mixture, *known))
        u, y, part, seen, mixture, *rest = many
        half = noise.normal((draws + 1) // 2, self.layers, stream=2)
        normal = torch.stack([half, -half], 2).flatten(1, 2)[:, :draws].flatten(0, 1)
        factor, log_q = self._factor(u, part, normal)
        first, r = self._scores(mixture, Expected(*rest), y + factor, part)
        t = times(noise.uniform(1, stream=1)[:, 0], draws).flatten()
        epsilon = noise.normal(draws, *self.shape).flatten(0, 1)
        gain = self.shares.gain(seen, r, t, epsilon, part)
        shares, error = mean((first - log_q + gain).view(-1, draws).double())
        return value + shares, error

    def sample(self, c: Tensor, generator: torch.Generator, config: DiffusionConfig) -> Tensor:
        """One z for each row of c, (B, L + L·A·R)."""
        u = self.energies.sample(c, generator)
        told = torch.cat([c, shown(u)], 1)
        known = self._known(u, told)
        hit = self.hits.sample(u > -math.inf, told, known.cells, generator)
        seen, mixture = self._head(hit, several(hit), told, known)
        r = self.shares.sample(seen, generator, few(config))
        y = GaussianMixture(mixture).from_normal(r) * known.width + known.middle
        return torch.cat([u, torch.where(hit, y, -math.inf).flatten(1)], 1)

    def _log_parts(self, u: Tensor) -> Tensor:
        """log k of layers of energies u (B, L), (B, L)."""
        k = self.parts * torch.where(u > -math.inf, u, 0.0).exp()
        return k.clamp(*PARTS).log()

    def _known(self, u: Tensor, told: Tensor) -> Expected:
        """What energies u (B, L) and told (B, D) say of cells."""
        log_k = self._log_parts(u)[..., None, None]
        log_parts = log_k + self.profile(told)[:, :, None] - math.log(self.shape[1])
        parts = log_parts.exp()
        cells = torch.stack([log_parts / 3, parts.clamp(max=MANY).sqrt() / 5], -1)
        middle = (parts + 0.5).log() - log_k
        return Expected(cells.expand(-1, *self.shape, -1), middle, 1 / (1 + parts).sqrt())

    def _split(
        self, c: Tensor, z: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """log E, whether there is any, the condition with it, hits, y, and which y count."""
        u, y = z[:, : self.layers], z[:, self.layers :].view(-1, *self.shape)
        hit = y > -math.inf
        told = torch.cat([c, shown(u)], 1)
        return u, u > -math.inf, told, hit, torch.where(hit, y, 0.0), several(hit)

    def _head(
        self, hit: Tensor, part: Tensor, told: Tensor, known: Expected
    ) -> tuple[Tensor, Tensor]:
        """What is known of cells, (B, L, A, R, 1 + C), and the numbers of their mixtures."""
        signs = (2.0 * hit - 1)[..., None].to(known.cells.dtype)
        h = self.head.features(torch.cat([signs, known.cells], -1), told)
        return torch.cat([part[..., None].to(h.dtype), h], -1), self.head.leave(h)

    def _factor(self, u: Tensor, part: Tensor, normal: Tensor) -> tuple[Tensor, Tensor]:
        """s of layers of energies u (B, L), (B, L, 1, 1), and log q of those that count, (B,)."""
        log_k = self._log_parts(u)
        log_q = normal_log_density(normal) + 0.5 * log_k
        counted = part.flatten(2).any(2)
        return (normal * (-log_k / 2).exp())[..., None, None], (log_q * counted).sum(1)

    def _scores(
        self, mixture: Tensor, known: Expected, y: Tensor, part: Tensor
    ) -> tuple[Tensor, Tensor]:
        """log p of y (B, L, A, R) by the mixtures, (B,), and its normal scores (B, L, A, R)."""
        law = GaussianMixture(mixture)
        y = torch.where(part, (y - known.middle) / known.width, 0.0)
        log_p = total(law.log_prob(y) - known.width.log(), part)
        return log_p, law.to_normal(y) * part


def few(config: DiffusionConfig) -> DiffusionConfig:
    """The options with the number of steps that this kernel takes by default."""
    return replace(config, steps=config.steps or STEPS)


def several(hit: Tensor) -> Tensor:
    """Hits (B, L, A, R) that have others in their layer: a single one takes all of it."""
    return hit & (hit.flatten(2).sum(2) > 1)[..., None, None]


def periodic(law: Law) -> tuple[bool, ...]:
    """Which axes are so; of x that does not declare it, the second, an azimuth."""
    if law.axes:
        return tuple(axis == "periodic" for axis in law.axes)
    return (False, True, False)
