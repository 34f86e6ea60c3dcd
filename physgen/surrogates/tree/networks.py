"""What the stages of a tree share: contexts, scales, and the law of a split."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from physgen.nn.blocks import ResidualLayers, ResidualMLP
from physgen.nn.given_noise import noise_is_given
from physgen.nn.halving import HalvingLevel
from physgen.nn.layer_energies import masked_moments
from physgen.nn.recorded import is_recorded
from physgen.nn.split_law import SplitLaw, spots

__all__ = ["CONTEXT", "Context", "Scale", "SplitNet", "finite", "halved_energies", "mean_tilt"]

CONTEXT = 16
"""Features of a context vector, one for each place."""
TYPICAL = math.log(0.455)
"""Log of the median of χ² of one degree of freedom."""


def finite(values: Tensor) -> Tensor:
    """Values (...), 0 where they are not finite."""
    return torch.where(values.isfinite(), values, 0.0)


def halved_energies(pieces: Tensor, y: Tensor, level: HalvingLevel) -> Tensor:
    """log E of a level's pieces (..., P) and how they split, y (..., S) → the next one's."""
    parent = pieces[..., level.cut]
    return level.split(pieces, parent + F.logsigmoid(y), parent + F.logsigmoid(-y))


class Context(nn.Module):
    """What all that is known says of each place of each layer.

    Args:
        known: numbers that are known.
        layers: L.
        places: of a layer, P.
        hidden: units of a layer.
        blocks: residual blocks of two layers.
    """

    def __init__(self, known: int, layers: int, places: int, hidden: int, blocks: int) -> None:
        super().__init__()
        self.places = places
        self.layers = ResidualLayers(known, hidden, blocks)
        self.weight = nn.Parameter(torch.randn(layers, hidden, places * CONTEXT) / hidden**0.5)
        self.bias = nn.Parameter(torch.randn(layers, 1, places * CONTEXT))

    def forward(self, inputs: Tensor, turn: Tensor, which: Tensor) -> Tensor:
        """The context of each place of some layers.

        Args:
            inputs: (G, B, I) what is known, in some turns.
            turn: (n,) which of these is each layer's.
            which: (n,) layers.

        Returns:
            (B, n, P, CONTEXT).
        """
        h = self.layers(inputs)[turn]
        context = torch.baddbmm(self.bias[which], h, self.weight[which])
        return context.transpose(0, 1).unflatten(2, (self.places, CONTEXT))


class SplitNet(nn.Module):
    """The law of a split, from numbers of its place: what a network adds to where it starts.

    The network says of how many spots a parent is and how they fall, and then what else differs.

    Args:
        inputs: numbers I.
        components: of its Betas, K.
        hidden: units of a layer.
        blocks: residual blocks of two layers.
    """

    spot: Tensor

    def __init__(self, inputs: int, components: int, hidden: int, blocks: int) -> None:
        super().__init__()
        outputs, self.components = 2 + SplitLaw.parameters(components), components
        self.register_buffer("spot", torch.zeros(()))
        self.straight = nn.Linear(inputs + 3, outputs)
        self.curved = ResidualMLP(inputs + 3, outputs, hidden, blocks)
        nn.init.zeros_(self.straight.weight)
        nn.init.zeros_(self.straight.bias)

    def fit(self, splits: list[tuple[Tensor, Tensor, Tensor]]) -> None:
        """Take the energy of a spot from log E of parents (...), y (...) and tilt of splits."""
        each = [spot_energy(*split) for split in splits]
        self.spot.copy_(torch.cat(each).median() - TYPICAL)

    def forward(self, inputs: Tensor, log_e: Tensor, tilt: Tensor) -> SplitLaw:
        """The laws of splits (...).

        Args:
            inputs: (..., I) numbers of their places.
            log_e: (...) of their parents.
            tilt: log odds of their halves, to start from, of a shape that broadcasts.
        """
        log_k = finite(log_e) - self.spot
        tilt = tilt.expand_as(log_k)
        inputs = torch.cat([inputs, torch.stack([0.3 * log_k, log_k.sigmoid(), tilt], -1)], -1)
        raw = self.straight(inputs) + self.curved(inputs)
        law = spots(log_k + raw[..., 0], tilt + raw[..., 1], self.components)
        return SplitLaw(law + raw[..., 2:])

    def sample(
        self, inputs: Tensor, log_e: Tensor, tilt: Tensor, generator: torch.Generator
    ) -> Tensor:
        """y of splits (...), −∞ of parents without energy; arguments as those of `forward`."""
        if noise_is_given():  # a graph computes all of them, whatever their parents have
            return self(inputs, log_e, tilt).sample(generator)
        there = log_e > -torch.inf
        law = self(inputs[there], log_e[there], tilt.expand_as(log_e)[there])
        return torch.full_like(log_e, -torch.inf).masked_scatter(there, law.sample(generator))

    def score(self, inputs: Tensor, log_e: Tensor, tilt: Tensor, y: Tensor) -> Tensor:
        """log p of splits y (B, …) of parents with energy, summed, (B,); the others are certain.

        Args:
            inputs: (B, …, I) numbers of their places.
            log_e: (B, …) of their parents.
            tilt: log odds of their halves, of a shape that broadcasts.
            y: (B, …).
        """
        there = log_e > -torch.inf
        if is_recorded():  # a graph computes all of them, whatever their parents have
            log_p = torch.where(there, self(inputs, log_e, tilt).log_prob(y), 0.0)
        else:
            law = self(inputs[there], log_e[there], tilt.expand_as(log_e)[there])
            log_p = torch.zeros_like(log_e).masked_scatter(there, law.log_prob(y[there]))
        return log_p.flatten(1).sum(1)


def spot_energy(log_e: Tensor, y: Tensor, tilt: Tensor) -> Tensor:
    """log E (s − m)²/(m (1 − m)) of shares s around m = σ(tilt), (n,), whatever is finite of it.

    Args:
        log_e: (...) of parents.
        y: (...) of splits.
        tilt: (...).
    """
    m = tilt.sigmoid()
    value = log_e + ((y.sigmoid() - m).square() / (m * (1 - m))).log()
    return value[value.isfinite()]


def mean_tilt(log_e: Tensor, y: Tensor) -> Tensor:
    """Log odds of the mean share of parents with energy, log E and y (n, ...), (...)."""
    there = log_e.isfinite()
    share = torch.where(there, y.sigmoid(), 0.0).sum(0) + 1
    return (share / (there.sum(0) + 2)).logit()


class Scale(nn.Module):
    """log E of pieces in units of their spread over the training data.

    Args:
        shape: of pieces.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("std", torch.ones(shape))

    def fit(self, log_e: Tensor) -> None:
        """Take mean and spread where there is energy, of log E (n, *shape)."""
        mean, std = masked_moments(log_e)
        self.mean.copy_(mean)
        self.std.copy_(std)

    def forward(self, log_e: Tensor) -> Tensor:
        """log E (B, *shape) → the same, −∞ without energy."""
        return (log_e - self.mean) / self.std
