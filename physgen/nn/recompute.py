r"""First derivatives of a log p by θ and x, at the memory of one chunk.

A log p that is averaged over many draws would keep the activations of every draw of every row
until it is differentiated. Here the forward pass keeps nothing but θ and x, and the backward pass
computes log p again, this time with a graph (*gradient checkpointing*: Chen et al. 2016,
arXiv:1604.06174): one more evaluation, the memory of one chunk, and the very value that an
evaluation without derivatives gives. The weights of a network get no gradient by it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from physgen.errors import UsageError

__all__ = ["recomputed"]

NAMES = ("theta", "x")


class Recomputed(torch.autograd.Function):
    """f(θ, x) of rows θ (n, D), x (n, …), (n,), whose derivative is that of a second pass."""

    @staticmethod
    def forward(
        ctx: Any, theta: Tensor, x: Tensor, f: Callable[[Tensor, Tensor], Tensor], who: str
    ) -> Tensor:
        """The values, (n,), without a graph."""
        ctx.save_for_backward(theta, x)
        ctx.f, ctx.who = f, who
        return f(theta.detach(), x.detach())

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        """What comes from above (n,) times ∂f/∂θ (n, D) and ∂f/∂x (n, …).

        Raises:
            UsageError: f has no derivative that autograd knows, or a second one is asked for.
        """
        if torch.is_grad_enabled():
            raise UsageError(
                f"{ctx.who}: log_prob has first derivatives only; leave out create_graph, and "
                "take second ones by differences of the first"
            )
        needed = ctx.needs_input_grad[:2]
        given = [
            t.detach().requires_grad_(n) for t, n in zip(ctx.saved_tensors, needed, strict=True)
        ]
        with torch.enable_grad():
            value = _value(ctx.f, given[0], given[1], ctx.who)
        wanted = {name: t for name, t in zip(NAMES, given, strict=True) if t.requires_grad}
        if not value.requires_grad:
            raise _no_gradient(ctx.who, ", ".join(wanted))
        slopes = torch.autograd.grad(value, [*wanted.values()], gradient, allow_unused=True)
        found = dict(zip(wanted, slopes, strict=True))
        if missing := [name for name, slope in found.items() if slope is None]:
            raise _no_gradient(ctx.who, ", ".join(missing))
        return found.get("theta"), found.get("x"), None, None


def _value(f: Callable[[Tensor, Tensor], Tensor], theta: Tensor, x: Tensor, who: str) -> Tensor:
    """f(θ, x), (n,); a value that leaves torch on its way is refused in one line."""
    try:
        return f(theta, x)
    except RuntimeError as error:
        if "requires grad" not in str(error):
            raise
        raise _no_gradient(who, "theta or x") from error


def _no_gradient(who: str, names: str) -> UsageError:
    return UsageError(
        f"{who}: its log p has no gradient by {names}: autograd does not see it; compute it with "
        "torch, or by differences with physgen.nn.differences.differentiable"
    )


recomputed: Callable[[Tensor, Tensor, Callable[[Tensor, Tensor], Tensor], str], Tensor]
"""θ (n, D), x (n, …), f and whose log p it is → f(θ, x), (n,), once differentiable."""
recomputed = Recomputed.apply
