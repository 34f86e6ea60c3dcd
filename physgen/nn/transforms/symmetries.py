"""The group of symmetries that a law of x declares."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from physgen.law import Law
from simulators.base import Symmetry

__all__ = ["Symmetries"]


class Symmetries:
    """Random elements of the symmetry group that a law declares, for augmentation.

    ``shift`` translates along periodic axes, ``reflect`` mirrors each axis, ``transpose``
    exchanges them, ``flip`` changes the sign of x; channels stay where they are. A batch draws one
    move of the axes, each row its own sign: cheap, and over many batches uniform on the group.
    """

    def __init__(self, law: Law) -> None:
        self.names: tuple[Symmetry, ...] = law.symmetries
        self.axes = tuple(1 + axis for axis in law.spatial or range(len(law.x_shape)))
        self.shifts = {1 + axis: law.x_shape[axis] for axis in law.shifted}
        self.orders = list(itertools.permutations(self.axes))

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """x (B, *x_shape) → g·x with a random g."""
        steps, mirrored, order = self._moves(generator)
        if self.shifts:
            x = x.roll(steps, [*self.shifts])
        if "reflect" in self.names:
            x = x.flip(mirrored)
        if "transpose" in self.names:
            x = x.movedim(self.axes, order)
        if "flip" in self.names:
            shape = (len(x), *[1] * (x.ndim - 1))
            sign = torch.randint(2, shape, generator=generator, device=generator.device)
            x = x * (2 * sign - 1).to(x.dtype)
        return x

    def _moves(self, generator: torch.Generator) -> tuple[list[int], list[int], tuple[int, ...]]:
        """Random steps along periodic axes, axes that are mirrored, and an order of the axes.

        They are read at once, for each look at a number waits for the device.
        """
        mirrors = len(self.axes) if "reflect" in self.names else 0
        orders = [len(self.orders)] if "transpose" in self.names else []
        highs = [*self.shifts.values(), *[2] * mirrors, *orders]
        if not highs:
            return [], [], self.axes
        device = generator.device
        drawn = torch.randint(2**62, (len(highs),), generator=generator, device=device)
        found = [i % n for i, n in zip(drawn.tolist(), highs, strict=True)]
        k = len(self.shifts)
        mirrored = list(itertools.compress(self.axes, found[k : k + mirrors]))
        return found[:k], mirrored, self.orders[found[-1]] if orders else self.axes

    def images(self, x: Tensor) -> list[Tensor]:
        """x (B, *x_shape) under every reflection, transposition and flip; shifts are left out."""
        images = [x]
        if "reflect" in self.names:
            for axis in self.axes:
                images += [image.flip(axis) for image in images]
        if "transpose" in self.names:
            images = [i.movedim(self.axes, order) for order in self.orders for i in images]
        if "flip" in self.names:
            images += [-image for image in images]
        return images
