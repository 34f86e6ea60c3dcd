"""x ≥ 0: a logarithm, and an atom at 0."""

from __future__ import annotations

import torch
from torch import Tensor

from physgen.errors import DataError
from physgen.law import Law
from physgen.nn.transforms.related import Related, Threshold

__all__ = ["LogHurdle"]

TINY = 1e-300


class LogHurdle(Related, Threshold):
    """z = log x − μ for each component of x ≥ 0, and −∞ where x is 0; μ from the training data.

    Volumes are those of the components above 0: the others are atoms. A component that others tell
    is −∞ too, as if never hit; one that is missing is NaN.
    """

    mean: Tensor

    def __init__(self, law: Law) -> None:
        super().__init__(law)
        self.register_buffer("mean", torch.zeros(law.x_shape, dtype=torch.float64))

    def fit(self, x: Tensor) -> None:
        """Take μ from rows of data (n, *x_shape): the mean of log x above 0.

        A component that is never above 0 takes the mean of all others.
        """
        Related.fit(self, x)
        Threshold.fit(self, x)
        if (self.coefficients < 0).any() or (self.offset < -TINY).any():
            raise DataError(
                f"x >= 0 with components that others tell by differences: "
                f"{', '.join(self.told()[:3])}; leave them out of x"
            )
        hit, log_x = x > 0, x.double().clamp(min=TINY).log()
        count, total = hit.sum(0), torch.where(hit, log_x, 0.0).sum(0)
        everywhere = total.sum() / count.sum().clamp(min=1)
        self.mean.copy_(torch.where(count > 0, total / count.clamp(min=1), everywhere))

    def forward(self, x: Tensor) -> Tensor:
        """X → z, (B, *x_shape) float32; of no gradient where x is 0."""
        atom, gone = (x == 0) | ~self.kept, x.isnan()
        log_x = torch.where(atom | gone, 1.0, x).log()
        z = torch.where(atom, -torch.inf, log_x - self.mean)
        return torch.where(gone, torch.nan, z).float()

    def inverse(self, z: Tensor) -> Tensor:
        """z (B, *x_shape) → x; −∞ → 0."""
        return self.completed((z + self.mean).exp())

    def log_det(self, x: Tensor) -> Tensor:
        """log|det ∂z/∂x| = −Σ log x over what is above 0, (B,)."""
        x = x.double()
        return -torch.where((x > 0) & self.kept, x, 1.0).log().flatten(1).sum(1)
