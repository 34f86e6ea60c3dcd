r"""What a level's latents z are, given θ and the levels above: p and q, and draws of them.

Real latents are normal. Discrete ones have no derivative, so that only the score function trains
what they are drawn from (:mod:`physgen.nn.score_function`):

- `CategoricalLatents`: at each site one of S states, z its one-hot vector. With one site and a
  Gaussian decoder p(x|θ) = Σ_k p(k|θ) N(x; μ_k(θ), Σ_k(θ)), a Gaussian mixture;
- `BinaryLatents`: at each site S independent ones.

Draws are made of standard normal numbers ε: of Φ(ε), which are uniform. A discrete latent is
drawn by inversion, or of several states as the largest of log p + Gumbel numbers −log(−log Φ(ε))
(Gumbel 1954; Maddison et al. 2014, arXiv:1411.0030).
"""

from __future__ import annotations

import abc
import itertools
import math
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

__all__ = [
    "BinaryLatents",
    "CategoricalLatents",
    "DiscreteLatents",
    "Drawn",
    "LatentLaw",
    "NormalLatents",
]


class Drawn(NamedTuple):
    """The latents of a level.

    Attributes:
        z: (B, S, *grid).
        kl: (B,) closed-form KL(q‖p) given the levels above; 0 without q.
        log_ratio: (B,) log p(z) − log q(z); 0 without q.
        log_drawn: (B,) log of the density or probability of z under what it was drawn from, up to
            a constant.
        v: (B, S, *grid) normal z in standard deviations of p, from its mean; else z.
    """

    z: Tensor
    kl: Tensor
    log_ratio: Tensor
    log_drawn: Tensor
    v: Tensor


class LatentLaw(abc.ABC):
    """A law of S latent numbers a site.

    Attributes:
        numbers: numbers that networks give for each.
    """

    numbers: ClassVar[int] = 1

    @abc.abstractmethod
    def draw(self, p: Tensor, q: Tensor | None, epsilon: Tensor, pathwise: bool = True) -> Drawn:
        """Draw z from q, or from p without it.

        Args:
            p: (B, `numbers` S, *grid) what the networks say of p.
            q: the same of q; of normal latents how it is displaced from p.
            epsilon: (B, S, *grid) standard normal numbers.
            pathwise: whether z has a derivative by p and q, where it can have one.
        """

    def states(self, latent: int, most: int) -> Tensor | None:
        """ε (n, S) by which each state of S latents of a site is drawn, whatever p and q are.

        None of reals, and of more states than `most`.
        """
        return None


class NormalLatents(LatentLaw):
    """Independent normal latents, by mean and log σ; q by Δμ/σ_p and log σ_q/σ_p."""

    numbers: ClassVar[int] = 2

    def draw(self, p: Tensor, q: Tensor | None, epsilon: Tensor, pathwise: bool = True) -> Drawn:
        """z (B, S, *grid) and what is to be said of it; see `LatentLaw`."""
        mean, log_sigma = bounded(p)
        none = epsilon.new_zeros(len(epsilon))
        if q is None:
            return Drawn(mean + log_sigma.exp() * epsilon, none, none, none, epsilon)
        shift, log_r = bounded(q)
        kl = 0.5 * (shift**2 + (2 * log_r).exp() - 1 - 2 * log_r).flatten(1).sum(1)
        v = shift + log_r.exp() * epsilon
        z, log_drawn = mean + log_sigma.exp() * v, none
        if not pathwise:
            z = z.detach()
            v = (z - mean) * (-log_sigma).exp()
            epsilon = (v - shift) * (-log_r).exp()
            log_drawn = -(0.5 * epsilon**2 + log_r + log_sigma).flatten(1).sum(1)
        log_ratio = (0.5 * (epsilon**2 - v**2) + log_r).flatten(1).sum(1)
        return Drawn(z, kl, log_ratio, log_drawn, v)


class DiscreteLatents(LatentLaw):
    """Latents of few states, by their log odds."""

    @abc.abstractmethod
    def log_probabilities(self, raw: Tensor) -> Tensor:
        """Log probabilities of the n states of each of m latents, (B, m, n, *grid)."""

    @abc.abstractmethod
    def chosen(self, log_q: Tensor, uniform: Tensor) -> Tensor:
        """The states drawn, one-hot (B, m, n, *grid), by uniform numbers (B, S, *grid)."""

    @abc.abstractmethod
    def values(self, one_hot: Tensor) -> Tensor:
        """z (B, S, *grid) of states (B, m, n, *grid)."""

    def draw(self, p: Tensor, q: Tensor | None, epsilon: Tensor, pathwise: bool = True) -> Drawn:
        """z (B, S, *grid) and what is to be said of it; see `LatentLaw`."""
        log_p = self.log_probabilities(p)
        log_q = log_p if q is None else self.log_probabilities(q)
        uniform = 0.5 * torch.erfc(-epsilon / math.sqrt(2))
        one_hot = self.chosen(log_q.detach(), uniform).to(log_p.dtype)
        z = self.values(one_hot)
        terms = (log_q.exp() * (log_q - log_p), one_hot * (log_p - log_q), one_hot * log_q)
        kl, log_ratio, log_drawn = (term.flatten(1).sum(1) for term in terms)
        return Drawn(z, kl, log_ratio, log_drawn, z)


class CategoricalLatents(DiscreteLatents):
    """One of S states at each site."""

    def log_probabilities(self, raw: Tensor) -> Tensor:
        """Of the numbers that networks give (B, S, *grid), (B, m, n, *grid)."""
        return raw.log_softmax(1)[:, None]

    def chosen(self, log_q: Tensor, uniform: Tensor) -> Tensor:
        """The states drawn, (B, m, n, *grid)."""
        largest = (log_q[:, 0] - (-uniform.log()).log()).argmax(1, keepdim=True)
        states = torch.arange(uniform.shape[1], device=uniform.device)
        return (largest == states.view(-1, *[1] * (uniform.ndim - 2)))[:, None]

    def values(self, one_hot: Tensor) -> Tensor:
        """z of states (B, m, n, *grid), (B, S, *grid)."""
        return one_hot[:, 0]

    def states(self, latent: int, most: int) -> Tensor | None:
        """ε by which each state is drawn, (n, S)."""
        if latent > most:
            return None
        return torch.where(torch.eye(latent) > 0, math.inf, -math.inf)


class BinaryLatents(DiscreteLatents):
    """S independent bits at each site, 0 or 1."""

    def log_probabilities(self, raw: Tensor) -> Tensor:
        """Of the numbers that networks give (B, S, *grid), (B, m, n, *grid)."""
        return torch.nn.functional.logsigmoid(torch.stack([-raw, raw], 2))

    def chosen(self, log_q: Tensor, uniform: Tensor) -> Tensor:
        """The states drawn, (B, m, n, *grid)."""
        least = torch.finfo(uniform.dtype).tiny  # so that a uniform number of 0 is always 1
        one = uniform < log_q[:, :, 1].exp().clamp(min=least)
        return torch.stack([~one, one], 2)

    def values(self, one_hot: Tensor) -> Tensor:
        """z of states (B, m, n, *grid), (B, S, *grid)."""
        return one_hot[:, :, 1]

    def states(self, latent: int, most: int) -> Tensor | None:
        """ε by which each state is drawn, (n, S)."""
        if 2**latent > most:
            return None
        return torch.tensor(list(itertools.product((math.inf, -math.inf), repeat=latent)))


def bounded(moments: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log σ, kept within ±5, (B, C, *grid) each, of moments (B, 2C, *grid)."""
    mean, log_sigma = moments.chunk(2, dim=1)
    return mean, 5 * torch.tanh(log_sigma / 5)
