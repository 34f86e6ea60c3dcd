"""Decoders of counts and of columns of different kinds: independent given h.

A layer and a linear map take h to the numbers of all laws (:mod:`physgen.nn.columns`); columns of
different kinds are a single site, counts may be a field.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from physgen.law import Law
from physgen.nn.blocks import FiLM, convolution, field_shape
from physgen.nn.columns import ColumnLaws, units_of_counts
from physgen.nn.mixtures import CountMixture
from physgen.surrogates.cvae.decoder import Decoder

__all__ = ["ColumnDecoder", "CountDecoder"]


class ColumnDecoder(Decoder):
    """Independent laws of the columns, each of its own support.

    Args:
        law: what x is.
        channels: channels C of the field h.
        components: laws in the mixture of a column that is no level.
    """

    def __init__(self, law: Law, channels: int, components: int) -> None:
        super().__init__()
        self.x_shape, self.laws = law.x_shape, ColumnLaws(law, components)
        self.film = FiLM(len(law.prior), channels)
        self.hidden = nn.Linear(channels, channels)
        self.head = nn.Linear(channels, self.laws.parameters_of_all)

    def raw(self, h: Tensor, c: Tensor) -> Tensor:
        """The numbers of all laws given h (B, K, C, 1, 1) and c (B, D), (B, K, P)."""
        gain, shift = self.film.coefficients(c)
        hidden = torch.addcmul(shift[:, None], h.flatten(2), gain[:, None])
        return self.head(F.silu(self.hidden(F.silu(hidden))))

    def fit(self, z: Tensor) -> None:
        """Take the units of counts from rows z (n, *x_shape)."""
        self.laws.fit(z)

    def log_prob(self, x: Tensor, h: Tensor, c: Tensor) -> Tensor:
        """Log p(x|h, c) of x (B, *x_shape) under each of h (B, K, C, 1, 1), (B, K)."""
        return self.laws.log_prob(self.raw(h, c), x.flatten(1)[:, None])

    def sample(self, h: Tensor, c: Tensor, generator: torch.Generator) -> Tensor:
        """One x for each field h (B, C, 1, 1), (B, *x_shape)."""
        drawn = self.laws.sample(self.raw(h[:, None], c)[:, 0], generator)
        return drawn.view(len(h), *self.x_shape)


class CountDecoder(Decoder):
    """Independent mixtures of logistic laws of log k, in units of the data.

    Args:
        law: what x is.
        channels: channels C of the field h.
        components: laws in a mixture.
    """

    middle: Tensor
    width: Tensor

    def __init__(self, law: Law, channels: int, components: int) -> None:
        super().__init__()
        self.law, self.numbers = law, CountMixture.parameters(components)
        self.hidden = convolution(channels, channels, law)
        self.head = convolution(channels, self.numbers * field_shape(law)[0], law)
        self.register_buffer("middle", torch.zeros(law.x_shape))
        self.register_buffer("width", torch.ones(law.x_shape))

    def fit(self, z: Tensor) -> None:
        """Take the units of counts from rows z (n, *x_shape)."""
        for buffer, found in zip((self.middle, self.width), units_of_counts(z), strict=True):
            buffer.copy_(found)

    def laws(self, h: Tensor) -> CountMixture:
        """The law of each component given h (B, C, H, W), (B, *x_shape)."""
        raw = self.head(F.silu(self.hidden(F.silu(h)))).unflatten(1, (self.numbers, -1))
        raw = raw.flatten(2).transpose(1, 2).reshape(len(h), *self.law.x_shape, self.numbers)
        return CountMixture(raw, self.middle, self.width)

    def log_prob(self, x: Tensor, h: Tensor, c: Tensor) -> Tensor:
        """Log p(x|h) of x (B, *x_shape) under each of h (B, K, C, H, W), (B, K)."""
        k = h.shape[1]
        log_p = self.laws(h.flatten(0, 1)).log_prob(x.repeat_interleave(k, 0))
        return log_p.flatten(1).sum(1).view(-1, k)

    def sample(self, h: Tensor, c: Tensor, generator: torch.Generator) -> Tensor:
        """One x for each field h (B, C, H, W), (B, *x_shape)."""
        return self.laws(h).sample(generator)
