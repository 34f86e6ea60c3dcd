"""The decoder of columns of different kinds: independent given h.

A layer and a linear map take h to the numbers of all laws (:mod:`physgen.nn.columns`).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from physgen.law import Law
from physgen.nn.blocks import FiLM
from physgen.nn.columns import ColumnLaws
from physgen.surrogates.cvae.decoder import Decoder

__all__ = ["ColumnDecoder"]


class ColumnDecoder(Decoder):
    """Independent laws of the columns, each of its own support.

    Args:
        law: what x is.
        channels: channels C of the field h.
        components: laws in the mixture of a column that is no level.
    """

    begins_with_data: ClassVar[bool] = True

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

    def fit(self, z: Tensor, x: Tensor) -> None:
        """Take the units of counts from rows z (n, *x_shape)."""
        self.laws.fit(z)

    def log_prob(self, x: Tensor, h: Tensor, c: Tensor) -> Tensor:
        """Log p(x|h, c) of x (B, *x_shape) under each of h (B, K, C, 1, 1), (B, K)."""
        return self.laws.log_prob(self.raw(h, c), x.flatten(1)[:, None])

    def sample(self, h: Tensor, c: Tensor, generator: torch.Generator) -> Tensor:
        """One x for each field h (B, C, 1, 1), (B, *x_shape)."""
        drawn = self.laws.sample(self.raw(h[:, None], c)[:, 0], generator)
        return drawn.view(len(h), *self.x_shape)
