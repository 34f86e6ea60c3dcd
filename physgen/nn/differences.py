"""The derivative by θ of any log p, by central differences.

Two evaluations a parameter, the same for every family and for exact likelihoods; for samplers that
ask for derivatives. With common random numbers a simulated log p is smooth in θ, so that a
difference is one. Differences are taken in the prior's own coordinates, in which no parameter has
a size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from physgen.nn.transforms import coordinates
from simulators.prior import Prior

__all__ = ["by_coordinates", "differentiable"]

STEP = 2e-3
"""Half of a central difference, in coordinates: a thousandth of a uniform prior's width."""


class Differences(torch.autograd.Function):
    """f(c) of rows c (N, D) with a derivative by central differences inside a box."""

    @staticmethod
    def forward(
        ctx: Any, c: Tensor, f: Callable[[Tensor], Tensor], low: Tensor, high: Tensor
    ) -> Tensor:
        """The values, (N,)."""
        ctx.save_for_backward(c.detach())
        ctx.f, ctx.low, ctx.high = f, low, high
        return f(c.detach()).to(c)

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor, None, None, None]:
        """∂f/∂c (N, D) times what comes from above (N,)."""
        (c,) = ctx.saved_tensors
        c = c.double()
        slopes = []
        for d in range(c.shape[1]):
            up, down = c.clone(), c.clone()
            up[:, d] = (c[:, d] + STEP).clamp(max=ctx.high[d])
            down[:, d] = (c[:, d] - STEP).clamp(min=ctx.low[d])
            slopes.append((ctx.f(up) - ctx.f(down)).to(c) / (up - down)[:, d])
        slope = torch.stack(slopes, -1).nan_to_num(0.0, 0.0, 0.0).to(gradient[0].dtype)
        return gradient[0][:, None] * slope, None, None, None


differentiable: Callable[[Tensor, Callable[[Tensor], Tensor], Tensor, Tensor], Tensor]
"""Coordinates c (N, D), f, and their ends (D,) each → f(c), (N,), of the type of c."""
differentiable = Differences.apply


def by_coordinates(theta: Tensor, f: Callable[[Tensor], Tensor], prior: Prior) -> Tensor:
    """f(θ) of rows θ (N, D) with a derivative by θ, (N,) of the type of θ.

    Args:
        theta: in their units; what lies outside of the prior counts as its nearest bound.
        f: θ (N, D) float64 on the CPU → (N,).
        prior: in whose coordinates differences are taken.
    """

    def of_coordinates(c: Tensor) -> Tensor:
        return f(torch.from_numpy(prior.from_coordinates(c.cpu().numpy())))

    low, high = torch.from_numpy(prior.ends)
    c = coordinates(theta.double(), prior)
    return differentiable(c, of_coordinates, low, high).to(theta)
