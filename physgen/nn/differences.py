"""The derivative by θ of any log p, by central differences.

Two evaluations a parameter, the same for every family and for exact likelihoods; for samplers that
ask for derivatives. With common random numbers a simulated log p is smooth in θ, so that a
difference is one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["differentiable"]

STEP = 1e-3
"""Half of a central difference, in widths of the prior."""


class Differences(torch.autograd.Function):
    """f(θ) of rows θ (N, D) with a derivative by central differences inside a box."""

    @staticmethod
    def forward(
        ctx: Any, theta: Tensor, f: Callable[[Tensor], Tensor], low: Tensor, high: Tensor
    ) -> Tensor:
        """The values, (N,)."""
        ctx.save_for_backward(theta.detach())
        ctx.f, ctx.low, ctx.high = f, low, high
        return f(theta.detach()).to(theta.dtype)

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor, None, None, None]:
        """∂f/∂θ (N, D) times what comes from above (N,)."""
        (theta,) = ctx.saved_tensors
        theta = theta.double()
        slopes = []
        for d, width in enumerate(ctx.high - ctx.low):
            up, down = theta.clone(), theta.clone()
            up[:, d] = (theta[:, d] + STEP * width).clamp(max=ctx.high[d])
            down[:, d] = (theta[:, d] - STEP * width).clamp(min=ctx.low[d])
            slopes.append((ctx.f(up) - ctx.f(down)) / (up - down)[:, d])
        slope = torch.stack(slopes, -1).nan_to_num(0.0, 0.0, 0.0).to(gradient[0].dtype)
        return gradient[0][:, None] * slope, None, None, None


differentiable: Callable[[Tensor, Callable[[Tensor], Tensor], Tensor, Tensor], Tensor]
"""θ (N, D), f, and the box's ends (D,) each → f(θ), (N,), of the type of θ."""
differentiable = Differences.apply
