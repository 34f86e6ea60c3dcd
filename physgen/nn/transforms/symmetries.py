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
        self.shape = law.x_shape
        self.axes = tuple(1 + axis for axis in law.spatial or range(len(law.x_shape)))
        self.shifts = {1 + axis: law.x_shape[axis] for axis in law.shifted}
        self.orders = list(itertools.permutations(self.axes))
        mirrors = [2] * len(self.axes) if "reflect" in self.names else []
        orders = [len(self.orders)] if "transpose" in self.names else []
        self.choices = [*self.shifts.values(), *mirrors, *orders]

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """x (B, *x_shape) → g·x with a random g."""
        steps, mirrored, order = self._moves(generator)
        if self.shifts:
            x = x.roll(steps, [*self.shifts])
        if "reflect" in self.names:
            x = x.flip(mirrored)
        if "transpose" in self.names:
            x = x.movedim(self.axes, order)
        return self.flipped(x, generator)

    def flipped(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """x (B, *x_shape), each row with a random sign where that is a symmetry."""
        if "flip" not in self.names:
            return x
        shape = (len(x), *[1] * (x.ndim - 1))
        sign = torch.randint(2, shape, generator=generator, device=generator.device)
        return x * (2 * sign - 1).to(x.dtype)

    def places(self, count: int, generator: torch.Generator) -> Tensor:
        """Which site's value each site takes in so many random moves of the axes, (count, N)."""
        drawn, k, shape = self._drawn(count, generator).cpu(), len(self.shifts), self.shape
        drawn %= torch.tensor(self.choices, dtype=torch.int64)
        sites = torch.stack(torch.meshgrid(*map(torch.arange, shape), indexing="ij")).flatten(1)
        at = dict(enumerate(sites.expand(count, *sites.shape).unbind(1), 1))
        if "transpose" in self.names:
            order = torch.tensor(self.orders)[drawn[:, -1]]
            at |= {axis: sites[order[:, i] - 1] for i, axis in enumerate(self.axes)}
        if "reflect" in self.names:
            for i, axis in enumerate(self.axes, k):
                mirrored = shape[axis - 1] - 1 - at[axis]
                at[axis] = torch.where(drawn[:, i, None] == 1, mirrored, at[axis])
        for i, (axis, n) in enumerate(self.shifts.items()):
            at[axis] = (at[axis] - drawn[:, i, None]) % n
        place = torch.zeros(count, sites.shape[1], dtype=torch.int64)
        for axis, n in enumerate(shape, 1):
            place = n * place + at[axis]
        return place

    def _moves(self, generator: torch.Generator) -> tuple[list[int], list[int], tuple[int, ...]]:
        """Random steps along periodic axes, axes that are mirrored, and an order of the axes.

        They are read at once, for each look at a number waits for the device.
        """
        if not self.choices:
            return [], [], self.axes
        drawn = self._drawn(1, generator)[0].tolist()
        found = [i % n for i, n in zip(drawn, self.choices, strict=True)]
        k = len(self.shifts)
        mirrored = found[k : k + len(self.axes)] if "reflect" in self.names else []
        order = self.orders[found[-1]] if "transpose" in self.names else self.axes
        return found[:k], list(itertools.compress(self.axes, mirrored)), order

    def _drawn(self, count: int, generator: torch.Generator) -> Tensor:
        """Random numbers of so many moves, to be taken modulo their choices."""
        shape, device = (count, len(self.choices)), generator.device
        return torch.randint(2**62, shape, generator=generator, device=device)

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
