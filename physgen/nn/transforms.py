"""Invertible maps between data space and the standardised space in which networks live.

θ is mapped from the prior's box to [−1, 1]^D, x by a map that its support asks for. Where the map
of x is not volume-preserving, log p(x) = log p(z) + log|det ∂z/∂x|: the maps carry that term, so
that every log p that leaves a surrogate is in the raw units of x.
"""

from __future__ import annotations

import abc

import torch
from torch import Tensor, nn

from physgen.law import Law
from simulators.base import Box, Symmetry, to_cube

__all__ = [
    "Identity",
    "LogHurdle",
    "Rescale",
    "Standardise",
    "Symmetries",
    "Transform",
    "for_support",
]

TINY = 1e-300


class Rescale(nn.Module):
    """c = 2 (θ − low)/(high − low) − 1: the prior's box onto [−1, 1]^D."""

    low: Tensor
    high: Tensor

    def __init__(self, prior: Box) -> None:
        super().__init__()
        self.register_buffer("low", torch.tensor(prior.low, dtype=torch.float64))
        self.register_buffer("high", torch.tensor(prior.high, dtype=torch.float64))

    def forward(self, theta: Tensor) -> Tensor:
        """θ (B, D) in its units → c (B, D) float32; the scaling itself is done in float64."""
        return to_cube(theta.double(), self.low, self.high).float()


class Transform(nn.Module, abc.ABC):
    """An invertible map z(x) with its volume."""

    @abc.abstractmethod
    def fit(self, x: Tensor) -> None:
        """Take what there is to learn from rows of data (n, *x_shape)."""

    @abc.abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """x (B, *x_shape) → z (B, …), float32."""

    @abc.abstractmethod
    def inverse(self, z: Tensor) -> Tensor:
        """z (B, …) → x (B, *x_shape)."""

    @abc.abstractmethod
    def log_det(self, x: Tensor) -> Tensor:
        """log|det ∂z/∂x|, (B,), or () where it is the same for all x."""

    def read_out(self, x: Tensor) -> Tensor:
        """x (B, *x_shape) as a detector would tell it: nothing changes by default."""
        return x


class Threshold(Transform):
    """A map of x ≥ 0 that knows the least x above 0 in its training data: what was read out."""

    least: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("least", torch.zeros(()))

    def fit(self, x: Tensor) -> None:
        """Take the least x above 0 of rows of data (n, *x_shape)."""
        self.least.copy_(torch.where(x > 0, x, torch.inf).min())

    def read_out(self, x: Tensor) -> Tensor:
        """What of x (B, *x_shape) is below the least that was ever read out is 0."""
        return torch.where(x < self.least, 0, x)


class Identity(Transform):
    """z = x, for spins and levels: counting measure, no volume term."""

    def fit(self, x: Tensor) -> None:
        """Nothing to learn of rows (n, *x_shape)."""

    def forward(self, x: Tensor) -> Tensor:
        """x (B, *x_shape) as float32."""
        return x.float()

    def inverse(self, z: Tensor) -> Tensor:
        """z (B, *x_shape) itself."""
        return z

    def log_det(self, x: Tensor) -> Tensor:
        """log|det ∂z/∂x| = 0, ()."""
        return torch.zeros(())


class Standardise(Transform):
    """z = (x − μ)/σ for each component, μ and σ from the training data."""

    mean: Tensor
    std: Tensor

    def __init__(self, x_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(x_shape))
        self.register_buffer("std", torch.ones(x_shape))

    def fit(self, x: Tensor) -> None:
        """Take μ and σ from rows of data (n, *x_shape); a constant component keeps σ = 1.

        So does one that varies by less than float32 can divide by.
        """
        std, mean = torch.std_mean(x.double(), dim=0, correction=0)
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 1e-30, std, 1.0))

    def forward(self, x: Tensor) -> Tensor:
        """X → z, (B, *x_shape) float32."""
        return (x.float() - self.mean) / self.std

    def inverse(self, z: Tensor) -> Tensor:
        """z (B, *x_shape) → x."""
        return z * self.std + self.mean

    def log_det(self, x: Tensor) -> Tensor:
        """log|det ∂z/∂x| = −Σ log σ, the same for all x, ()."""
        return -self.std.double().log().sum()


class LogHurdle(Threshold):
    """z = log x − μ for each component of x ≥ 0, and −∞ where x is 0; μ from the training data.

    Volumes are those of the components above 0: the others are atoms.
    """

    mean: Tensor

    def __init__(self, x_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(x_shape))

    def fit(self, x: Tensor) -> None:
        """Take μ from rows of data (n, *x_shape): the mean of log x above 0.

        A component that is never above 0 takes the mean of all others.
        """
        super().fit(x)
        hit, log_x = x > 0, x.double().clamp(min=TINY).log()
        count, total = hit.sum(0), torch.where(hit, log_x, 0.0).sum(0)
        everywhere = total.sum() / count.sum().clamp(min=1)
        self.mean.copy_(torch.where(count > 0, total / count.clamp(min=1), everywhere))

    def forward(self, x: Tensor) -> Tensor:
        """X → z, (B, *x_shape) float32; of no gradient where x is 0."""
        atom = x == 0
        return torch.where(atom, -torch.inf, torch.where(atom, 1.0, x.float()).log() - self.mean)

    def inverse(self, z: Tensor) -> Tensor:
        """z (B, *x_shape) → x; −∞ → 0."""
        return (z + self.mean).exp()

    def log_det(self, x: Tensor) -> Tensor:
        """log|det ∂z/∂x| = −Σ log x over what is above 0, (B,)."""
        x = x.double()
        return -torch.where(x > 0, x, 1.0).log().flatten(1).sum(1)


def for_support(law: Law) -> Transform:
    """The map that the support of x asks for."""
    if law.support == "nonnegative":
        return LogHurdle(law.x_shape)
    discrete = law.support in ("spins", "levels")
    return Identity() if discrete else Standardise(law.x_shape)


class Symmetries:
    """Random elements of the symmetry group that a law declares, for augmentation.

    ``shift`` translates on the torus, ``reflect`` mirrors each axis, ``transpose`` exchanges the
    two axes, ``flip`` changes the sign of x. A batch draws one move of the axes, each row its own
    sign: cheap, and over many batches uniform on the group.
    """

    def __init__(self, law: Law) -> None:
        self.names: tuple[Symmetry, ...] = law.symmetries
        self.axes = tuple(range(1, 1 + len(law.x_shape)))
        self.x_shape = law.x_shape

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """x (B, *x_shape) → g·x with a random g."""

        def integer(high: int) -> int:
            return int(torch.randint(high, (), generator=generator, device=generator.device))

        if "shift" in self.names:
            x = x.roll([integer(n) for n in self.x_shape], self.axes)
        if "reflect" in self.names:
            x = x.flip([a for a in self.axes if integer(2)])
        if "transpose" in self.names and integer(2):
            x = x.transpose(1, 2)
        if "flip" in self.names:
            shape = (len(x), *[1] * len(self.axes))
            sign = torch.randint(2, shape, generator=generator, device=generator.device)
            x = x * (2 * sign - 1).to(x.dtype)
        return x

    def images(self, x: Tensor) -> list[Tensor]:
        """x (B, *x_shape) under every reflection, transposition and flip; shifts are left out."""
        images = [x]
        if "reflect" in self.names:
            for axis in self.axes:
                images += [image.flip(axis) for image in images]
        if "transpose" in self.names:
            images += [image.transpose(1, 2) for image in images]
        if "flip" in self.names:
            images += [-image for image in images]
        return images
