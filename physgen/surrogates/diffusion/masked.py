r"""The masked (absorbing-state) kernel for spins: noise hides sites, the network fills them in.

A random order of the sites is drawn; the network sees the first of them and gives the odds of the
others. With N sites, and k of them visible,

    −log p(x) ≤ Σ_k E_order [mean over hidden sites i of −log p(x_i|x_visible, θ)],

the bound of absorbing diffusion in continuous time, with the mask count in place of the time
(Austin et al. 2021, arXiv:2107.03006; Hoogeboom et al. 2022, arXiv:2110.02037). Given its order,
a chain that fills in one site after another is an exactly normalised law; over random orders the
mean of its p(x) is the model's.

Noise may hide fine detail first. In the order ``checkerboard`` one colour of the sites is hidden
before any of the other, and filled in last, at once: given their neighbours those spins are
independent, for nearest-neighbour couplings, so that half of the entropy is modelled exactly and
a chain takes N/2 + 1 evaluations. ``random`` makes no such assumption.

Sites that are filled in at once miss what ties them together, the less the farther they are apart
and the more are known. So a chain of fewer steps goes from coarse to fine, from a site drawn at
random on, with ever more sites a step. For posteriors 2.5 √(sites of the first colour) steps are
enough: there the bound is no looser, and log p differs between orders no more, than with one site
a step in random orders.

Spins that were seen are unmasked from the start, and the chain goes on from there: p(hidden|seen)
is what the network was trained for, in the order ``random`` for every mask. In the order
``checkerboard`` that holds for seen spins of the first colour; one of the other, y_l, tells

    p(x_i|others, y) ∝ p(x_i|first colour) Π_l p(y_l|first colour)

of a spin of the first, by which heat-bath sweeps draw each, all from the network's own odds: exact
for the learnt law as sweeps grow, if its odds are those of one law. What is seen with noise is
taken in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from physgen.law import Law
from physgen.nn.blocks import field_shape, stages_of
from physgen.nn.recorded import is_recorded
from physgen.nn.seen_spins import SeenSpins, r_hat_of_rows
from physgen.surrogates.base import Noise, Restored
from physgen.surrogates.diffusion.likelihood import log_mean, mean, times
from physgen.surrogates.diffusion.unet import UNet, preset_of

if TYPE_CHECKING:
    from physgen.surrogates.diffusion import DiffusionConfig

__all__ = ["MaskedKernel"]


FEW = 2.5
"""Evaluations of a chain for the root of the sites of the first colour, for posteriors."""


class FromCoarse(nn.Module):
    """Orders of the sites of a grid from coarse to fine, from any of them on.

    Args:
        grid: sites along each axis.
        channels: how often the grid is repeated.
    """

    stage: Tensor
    place: Tensor
    shift: Tensor

    def __init__(self, grid: tuple[int, ...], channels: int) -> None:
        super().__init__()
        stage = stages_of(grid, 0).view(grid).repeat(*[2] * len(grid))
        places = torch.arange(stage.numel()).view(stage.shape)
        inner = places[tuple(slice(n) for n in grid)].flatten().repeat(channels)
        self.levels = int(stage.max()) + 1
        self.register_buffer("stage", stage.flatten(), persistent=False)
        self.register_buffer("place", inner, persistent=False)
        self.register_buffer("shift", places[grid] - inner, persistent=False)

    def forward(self, numbers: Tensor, first: Tensor) -> Tensor:
        """Numbers (..., N) in [0, 1) as others whose order it is, from sites (...) on."""
        at = self.place + self.shift[first].unsqueeze(-1)
        return (self.stage[at] + numbers) / self.levels


class MaskedKernel(nn.Module):
    """The masked kernel.

    Attributes:
        draws: orders that a log p takes where the caller does not choose.
        samplers: ways to draw.
        transform: the map of x that it wants; None for that of the support.

    Args:
        law: what x is; its support must be spins.
        config: the family's options.
        dense: whether every site is a channel of one field, with weights of its own.
        given: further components of the condition c.
    """

    draws: ClassVar[int] = 2
    samplers: ClassVar[tuple[str, ...]] = ("ancestral",)
    transform: ClassVar[None] = None
    stage: Tensor

    def __init__(
        self, law: Law, config: DiffusionConfig, *, dense: bool = False, given: int = 0
    ) -> None:
        super().__init__()
        self.law = law
        channels, *grid = field_shape(law)
        even = channels == 1 and all(n % 2 == 0 for n in grid)
        split = config.order == "checkerboard" or (config.order == "auto" and even)
        stage = stages_of(tuple(grid), 1 + split).repeat(channels)
        self.register_buffer("stage", stage, persistent=False)
        self.coarse = FromCoarse(tuple(grid), channels) if split else None
        self.sites = law.size
        self.early = int((self.stage == 0).sum()) if split else self.sites
        shape = replace(law, support="reals") if dense else law
        n, *grid = field_shape(shape)
        self.field = (2 * n, *grid)
        preset = preset_of(shape, config.network, config.grids)
        self.net = UNet(shape, 2 * n, n, len(law.prior) + given + 1, preset)

    def logits(self, x: Tensor, visible: Tensor, c: Tensor, which: Tensor | None = None) -> Tensor:
        """Log odds of +1 at all sites given the visible ones, (B, N).

        Args:
            x: (B, N), or some that have several conditions each.
            visible: of the same shape.
            c: (B, D).
            which: the x of each condition, (B,); None for each its own.
        """
        field = torch.stack([x * visible, visible], 1).view(len(x), *self.field)
        seen = 2 * visible.mean(1, keepdim=True) - 1
        condition = torch.cat([c, seen if which is None else seen[which]], 1)
        return self.net(field, condition, which).float().flatten(1)

    def ranks(self, numbers: Tensor) -> Tensor:
        """The place of each site in an order, from random numbers (..., N) in [0, 1)."""
        order = (numbers + self.stage).argsort(-1)
        places = torch.arange(self.sites, device=order.device).expand_as(order)
        return torch.empty_like(order).scatter_(-1, order, places)

    def coarse_ranks(self, numbers: Tensor) -> Tensor:
        """As `ranks` of numbers (..., N), coarse to fine where one colour comes last."""
        if self.coarse is None:
            return self.ranks(numbers)
        return self.ranks(self.coarse(numbers, (numbers + self.stage).argmin(-1)))

    def order(self, config: DiffusionConfig) -> Callable[[Tensor], Tensor]:
        """The order of a chain, as ranks of random numbers (..., N) in [0, 1)."""
        return self.coarse_ranks if config.steps else self.ranks

    def hidden_nats(self, x: Tensor, ranks: Tensor, count: Tensor, c: Tensor) -> Tensor:
        """Mean of −log p(x_i|visible) over hidden sites of the stage to come, (B,).

        Args:
            x: (B, N).
            ranks: (B, N).
            count: (B,) sites that are visible.
            c: (B, D).
        """
        visible = ranks < count[:, None]
        late = count >= self.early
        asked = ~visible & ((ranks < self.early) | late[:, None])
        nats = -F.logsigmoid(x * self.logits(x, visible.to(x.dtype), c))
        return (nats * asked).sum(1) / asked.sum(1)

    def loss(self, c: Tensor, z: Tensor, generator: torch.Generator) -> Tensor:
        """The bound at one random mask for each row, mask counts spread evenly, (B,)."""
        x, device = z.flatten(1), z.device
        shift = torch.rand(1, generator=generator, device=device)
        count = (times(shift, len(x))[0] * self.sites).long().clamp(max=self.sites - 1)
        count = torch.where(count >= self.early, self.early, count)
        numbers = torch.rand(x.shape, generator=generator, device=device)
        return self.sites * self.hidden_nats(x, self.ranks(numbers), count, c)

    def evaluations(self, config: DiffusionConfig) -> int:
        """Evaluations of the network for one sample."""
        return len(self.cuts(config.steps)) - 1

    def width(self, config: DiffusionConfig) -> int:
        """A chain goes step by step."""
        return 1

    def refuse(self, config: DiffusionConfig) -> str:
        """What in the options this kernel cannot do; empty if nothing is."""
        if config.sampler not in self.samplers:
            return f"sampler {config.sampler}"
        return "estimator ode" if config.estimator == "ode" else ""

    def log_prob(
        self, c: Tensor, z: Tensor, noise: Noise, draws: int, config: DiffusionConfig
    ) -> tuple[Tensor, Tensor]:
        """log p(x|c) by the estimator of the options, and its error, (B,) each.

        A draw is one order, and a whole chain: the bound is the mean of log p(x|order), the path
        the log of the mean.
        """
        x, which = z.flatten(1), None
        if not is_recorded():  # a graph holds for any rows
            first, which = distinct_rows(
                torch.cat([noise.index[:, None].to(x.device).double(), x], 1)
            )
            which = (which[:, None] * draws + torch.arange(draws, device=x.device)).flatten()
            x, noise = x[first], replace(noise, index=noise.index[first.cpu()])
        ranks = self.order(config)(noise.uniform(draws, self.sites)).flatten(0, 1)
        x, given = (v.repeat_interleave(draws, 0) for v in (x, c))
        log_p = self._chain(given, x, ranks, self.cuts(config.steps), which).view(-1, draws)
        if config.estimator == "path":
            return log_mean(log_p)
        return mean(log_p)

    def _chain(
        self, c: Tensor, x: Tensor, ranks: Tensor, cuts: list[int], which: Tensor | None
    ) -> Tensor:
        """log p(x|order) of the chain that makes these cuts, (B,).

        Args:
            c: (B, D).
            x: some lattices (n, N).
            ranks: of their sites, (n, N).
            cuts: visible sites before each evaluation, and N.
            which: the lattice of each c, (B,); None for each its own.
        """
        log_p = torch.zeros(len(c), device=x.device, dtype=torch.float64)
        for low, high in pairwise(cuts):
            visible = (ranks < low).to(x.dtype)
            if low or which is None:
                log_odds = self.logits(x, visible, c, which)
            else:  # before any site is visible x does not matter
                first, alike = distinct_rows(c)
                log_odds = self.logits(x, visible, c[first], which[first])[alike]
            asked = torch.where((ranks >= low) & (ranks < high), x, 0.0)
            asked = asked if which is None else asked[which]
            log_p += (F.logsigmoid(asked * log_odds) * asked.square()).sum(1)
        return log_p

    def cuts(self, steps: int) -> list[int]:
        """Visible sites before each evaluation of a chain, and N at its end; 0 steps for all."""
        late = self.early < self.sites
        most = self.early if not steps else min(self.early, max(1, steps - late))
        cuts = [0]
        for i in range(1, most):
            cuts.append(max(cuts[-1] + 1, round(self.early * (i / most) ** 2)))
        return [*cuts, *([self.early] if late else []), self.sites]

    @property
    def few_steps(self) -> int:
        """Evaluations of a chain that are enough for posteriors."""
        return min(self.early, round(FEW * math.sqrt(self.early))) + (self.early < self.sites)

    def restore(
        self, c: Tensor, seen: SeenSpins, generator: torch.Generator, sweeps: int
    ) -> Restored:
        """Spins (B, N) at c (B, D) given what was seen of them."""
        first = self.stage == 0 if self.early < self.sites else torch.ones_like(self.stage) > 0
        known = seen.clamped & first
        numbers = torch.rand(len(c), self.sites, generator=generator, device=c.device)
        ranks, start = self.ranks(numbers - known.float()), int(known.sum())
        x, log_p = seen.value * known, torch.zeros(len(c), dtype=torch.float64)
        for k in range(self.early):
            odds = self.logits(x * (ranks < k), (ranks < k).to(x.dtype), c)
            if k < start:  # what the chain says of y
                log_p += (F.logsigmoid(x * odds) * (ranks == k)).sum(1).cpu()
            else:
                x = torch.where(ranks == k, drawn_spins(odds + 2 * seen.field, generator), x)
        told = {}
        asked = bool((seen.clamped & ~first).any() or seen.field.any())
        if asked:
            free = (first & ~seen.clamped).nonzero()[:, 0]
            series = []
            for _ in range(sweeps):
                for i in free[torch.randperm(len(free), generator=generator, device=c.device)]:
                    x = self._heat_bath(x, int(i), c, first, seen, generator)
                series.append((x * first).sum(1))
            watched = torch.stack(series[len(series) // 5 :])
            told["r_hat"] = r_hat_of_rows(watched, torch.cat([c, seen.value + seen.field], 1))
        else:
            told["log_evidence"] = log_p
        if self.early < self.sites:
            odds = self.logits(x, first.to(x.dtype).expand_as(x), c)
            x = seen.held(torch.where(first, x, drawn_spins(odds + 2 * seen.field, generator)))
        return Restored(x, told)

    def _heat_bath(
        self,
        x: Tensor,
        i: int,
        c: Tensor,
        first: Tensor,
        seen: SeenSpins,
        generator: torch.Generator,
    ) -> Tensor:
        """x (B, N) with spin i of the first colour drawn given all others of it, and y."""
        visible = first.to(x.dtype).expand_as(x).clone()
        hidden = visible.clone()
        hidden[:, i] = 0
        if self.early == self.sites:
            odds = self.logits(x * hidden, hidden, c)[:, i]
        else:
            up, down = x * first, x * first
            up[:, i], down[:, i] = 1, -1
            many = torch.cat([x * hidden, up, down]), torch.cat([hidden, visible, visible])
            own, *late = self.logits(*many, c.repeat(3, 1)).chunk(3)
            heard = [(heard_of(odds, seen) * ~first).sum(1) for odds in late]
            odds = own[:, i] + heard[0] - heard[1]
        x = x.clone()
        x[:, i] = drawn_spins(odds + 2 * seen.field[:, i], generator)
        return x

    def sample(self, c: Tensor, generator: torch.Generator, config: DiffusionConfig) -> Tensor:
        """One x for each row of c: the chain, drawn, (B, N)."""
        numbers = torch.rand(len(c), self.sites, generator=generator, device=c.device)
        ranks = self.order(config)(numbers)
        x = torch.zeros(ranks.shape, device=c.device)
        for low, high in pairwise(self.cuts(config.steps)):
            p = self.logits(x, (ranks < low).to(x.dtype), c).sigmoid()
            drawn = 2 * torch.bernoulli(p, generator=generator) - 1
            x = torch.where((ranks >= low) & (ranks < high), drawn, x)
        return x


def distinct_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Where each distinct row of (B, D) is first, (n,), and which of these each row is, (B,)."""
    unique, which = rows.unique(dim=0, return_inverse=True)
    places = torch.arange(len(rows), device=rows.device)
    first = places.new_full((len(unique),), len(rows))
    return first.scatter_reduce(0, which, places, "amin"), which


def drawn_spins(log_odds: Tensor, generator: torch.Generator) -> Tensor:
    """Spins of these log odds (...), (...)."""
    return 2 * torch.bernoulli(log_odds.sigmoid(), generator=generator) - 1


def heard_of(log_odds: Tensor, seen: SeenSpins) -> Tensor:
    """log p(y_i) of spins of log odds (B, N), but for constants, (B, N)."""
    up, down = F.logsigmoid(log_odds), F.logsigmoid(-log_odds)
    noisy = torch.logaddexp(up + seen.field, down - seen.field)
    return torch.where(seen.clamped, F.logsigmoid(seen.value * log_odds), noisy)
