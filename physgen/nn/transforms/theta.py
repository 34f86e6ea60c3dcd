"""θ → the prior's own coordinates, as networks see them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from simulators.prior import Prior

__all__ = ["KNOWN", "Rescale", "coordinates"]

KNOWN = 5.0
"""Normal coordinates beyond which there is nothing to train on."""


class Coordinates(torch.autograd.Function):
    """θ (B, D) float64 → the prior's own coordinates c (B, D), with their derivative."""

    @staticmethod
    def forward(ctx: Any, theta: Tensor, prior: Prior) -> Tensor:
        """The coordinates, (B, D)."""
        ctx.prior, ctx.c = prior, prior.to_coordinates(theta.detach().cpu().numpy())
        return torch.from_numpy(ctx.c).to(theta.device)

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor, None]:
        """∂c/∂θ times what comes from above, (B, D)."""
        slope = torch.from_numpy(ctx.prior.slope(ctx.c.clip(*ctx.prior.ends)))
        return gradient[0] / slope.to(gradient[0].device), None


coordinates: Callable[[Tensor, Prior], Tensor] = Coordinates.apply
"""θ (B, D) float64, prior → c (B, D), with a derivative."""


class Rescale(nn.Module):
    """θ → the prior's own coordinates c, as networks see them.

    Of normal coordinates what lies beyond `KNOWN` counts as that.
    """

    low: Tensor
    high: Tensor

    def __init__(self, prior: Prior) -> None:
        super().__init__()
        self.prior = prior
        if prior.uniform:
            self.register_buffer("low", torch.tensor(prior.low, dtype=torch.float64))
            self.register_buffer("high", torch.tensor(prior.high, dtype=torch.float64))

    def forward(self, theta: Tensor) -> Tensor:
        """θ (B, D) in its units → c (B, D) float32; the map itself is made in float64."""
        theta = theta.double()
        if self.prior.uniform:
            return (2 * ((theta - self.low) / (self.high - self.low)) - 1).float()
        return coordinates(theta, self.prior).clamp(-KNOWN, KNOWN).float()
