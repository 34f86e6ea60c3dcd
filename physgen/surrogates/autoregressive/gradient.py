"""The mean loss of levels and its gradient without autograd, by `compiled`."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from physgen.surrogates.autoregressive.conditional import FEW, Stage
from physgen.surrogates.autoregressive.site import LevelSite
from simulators.base import Array

if TYPE_CHECKING:
    from physgen.surrogates.autoregressive import Autoregressive

__all__ = ["LevelGradient"]

WIDEST = 128
"""Hidden units up to which it pays: of 192 autograd takes as long."""


class LevelGradient:
    """A :class:`physgen.surrogates.base.GradientFunction` of x of levels, on a CPU.

    Args:
        model: autoregression of levels.
        stages: all of its stages.
    """

    def __init__(self, model: Autoregressive, stages: list[Stage]) -> None:
        self.model, self.stages = model, stages

    @classmethod
    def of(cls, model: Autoregressive) -> Self | None:
        """That of a model; None of other x, devices and numbers, and of wide layers."""
        plain = model.device.type == "cpu" and model.here.dtype == torch.float32
        if not plain or model.config.hidden > WIDEST or model.columns is not None:
            return None
        stages = [stage for stage in model.stages if isinstance(stage, Stage)]
        whole = isinstance(model.site, LevelSite) and len(stages) == len(model.stages)
        return cls(model, stages) if whole else None

    @cached_property
    def compiled(self) -> list[CompiledStage]:
        """The stages as `compiled` takes them, from the first step on."""
        return [CompiledStage(stage) for stage in self.stages]

    @torch.no_grad()
    def __call__(
        self,
        theta: Tensor,
        x: Tensor,
        generator: torch.Generator,
        progress: float,
        part: float,
    ) -> Tensor:
        """The mean loss, (), of θ (B, D) and x (B, *x_shape)."""
        model, loss = self.model, 0.0
        c, values = model.rescale(theta), model.site.values(model.transform(x))
        field = model.field(values)
        for stage, compiled in zip(self.stages, self.compiled, strict=True):
            which = model.sites_of_step(stage, len(x), generator)
            scale = len(stage.sites) / which.shape[1] / len(x)
            loss += scale * compiled(values, field, which, c, scale * part)
        return torch.tensor(loss)


class CompiledStage:
    """A stage as `compiled` takes it."""

    def __init__(self, stage: Stage) -> None:
        from physgen.surrogates.autoregressive.compiled import Sizes, level_slopes

        self.level_slopes = level_slopes
        net, reference = stage.net, stage.reference[:, 0]
        self.parameters = list(net.parameters())
        (sites, hidden), blocks = net.place.shape, len(net.first)
        inputs, condition = net.enter.in_features, net.condition
        self.sizes = Sizes(sites, inputs, hidden, blocks, condition, FEW, net.outputs)
        self.sites, self.parents = array(stage.sites), array(stage.parents)
        self.reference = array(reference if stage.flips else reference[:0])

    def __call__(
        self, values: Tensor, field: Tensor, which: Tensor, c: Tensor, scale: float
    ) -> float:
        """The sum of −log p of some sites; `scale` times its gradient becomes the ``grad``.

        Args:
            values: (B, N).
            field: (B, N + 1, E).
            which: (B, m) or (1, m) numbers within the stage.
            c: (B, D).
            scale: of the gradient.
        """
        flat = torch.cat([w.flatten() for w in self.parameters])
        loss, slopes = self.level_slopes(
            array(values), array(field), self.sites, self.parents, self.reference,
            array(which), array(c), array(flat), self.sizes, scale,
        )  # fmt: skip
        parts = torch.from_numpy(slopes).split([w.numel() for w in self.parameters])
        for parameter, part in zip(self.parameters, parts, strict=True):
            if parameter.requires_grad:
                parameter.grad = part.view_as(parameter)
        return loss


def array(tensor: Tensor) -> Array:
    """A tensor (...) as numpy has it, in C order."""
    return tensor.contiguous().numpy()
