r"""Mixtures of Gaussians of full covariance, and of Student's t, from a network's numbers.

A component has a triangular factor of its precision: with A strictly lower triangular,

    r = D⁻¹ (1 − A)(x − m),    log p(x) = Σ_i log f(r_i) − log D_ii,

each component of x regressed on those before it, D the widths that are left (Pourahmadi 1999,
Biometrika 86, 677). So a density is a product and no inverse, whatever the correlations, and a
draw is a forward substitution. f is the standard normal law, or Student's t.

The marginal law of some of x is known in closed form where f is normal. With P = D⁻¹(1 − A), u =
x − m, and what is missing at its conditional mean, which is where |P u|² is least,

    log p(x_o) = log p(x_o, x_m) + ½ |m| log 2π − ½ log det (PᵀP)_mm.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from physgen.errors import UsageError
from physgen.law import Law
from physgen.nn.blocks import ResidualLayers, field_shape
from physgen.nn.densities import (
    drawn_category,
    normal_log_density,
    student_log_density,
    student_stretch,
)
from physgen.nn.recorded import all_hold

__all__ = ["MixtureNet", "MultivariateMixture", "components_for", "is_short", "require_short"]

LARGEST = 7.0
"""Of |log D|."""
LONGEST = 64
"""Components of x of which there is a full covariance."""
LEAST_FREEDOM = 1.0
"""Of Student's degrees of freedom."""


class MultivariateMixture:
    """A mixture of K laws of d components, each with a mean and a full covariance.

    Args:
        raw: (..., `parameters`(d, K)): a location, log widths and regressions that all share, then
            of each law its weight, its mean, log widths and regressions from there, and with tails
            log degrees of freedom.
        size: d.
        tails: whether f is Student's t.
    """

    def __init__(self, raw: Tensor, size: int, tails: bool = False) -> None:
        self.raw, self.size, self.tails = raw, size, tails
        pairs = size * (size - 1) // 2
        location, width, slope, each = raw.split(
            [size, size, pairs, raw.shape[-1] - 2 * size - pairs], -1
        )
        components = each.shape[-1] // (1 + (2 + tails) * size + pairs)
        sizes = [1, size, size, pairs] + [size] * tails
        parts = each.unflatten(-1, (components, -1)).split(sizes, -1)
        self.log_weight = parts[0][..., 0].log_softmax(-1)
        self.mean = location[..., None, :] + parts[1]
        self.log_width = LARGEST * torch.tanh((width[..., None, :] + parts[2]) / LARGEST)
        table = places(size, raw.device)
        self.regression = F.pad(slope[..., None, :] + parts[3], (0, 1))[
            ..., table.flatten()
        ].unflatten(-1, (size, size))
        if tails:
            self.freedom = freedom(parts[4])

    @staticmethod
    def parameters(size: int, components: int, tails: bool = False) -> int:
        """Numbers that a mixture of so many laws of d components takes."""
        pairs = size * (size - 1) // 2
        return 2 * size + pairs + components * (1 + (2 + tails) * size + pairs)

    @property
    def precision_root(self) -> Tensor:
        """P = D⁻¹ (1 − A), of PᵀP the precision, (..., K, d, d)."""
        one = torch.eye(self.size, dtype=self.mean.dtype, device=self.mean.device)
        return (one - self.regression) * (-self.log_width).exp()[..., None]

    @property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each component of x, (..., d) each."""
        one = torch.eye(self.size, dtype=self.mean.dtype, device=self.mean.device)
        told, rows = one, [one[:1].expand(*self.regression.shape[:-2], 1, -1)]
        for i in range(1, self.size):
            told = (self.regression[..., i, :i, None] * torch.cat(rows, -2)).sum(-2, keepdim=True)
            rows.append(one[i : i + 1] + told)
        variance = (torch.cat(rows, -2).square() * (2 * self.log_width).exp()[..., None, :]).sum(
            -1
        )
        weight = self.log_weight.exp()[..., None]
        mean = (weight * self.mean).sum(-2)
        spread = variance + (self.mean - mean[..., None, :]).square()
        return mean, (weight * spread).sum(-2).sqrt()

    def detach(self) -> MultivariateMixture:
        """The same laws as constants."""
        return MultivariateMixture(self.raw.detach(), self.size, self.tails)

    def repeat(self, times: int) -> MultivariateMixture:
        """Each law of the batch (B, …) so many times, one after another."""
        return MultivariateMixture(self.raw.repeat_interleave(times, 0), self.size, self.tails)

    def log_prob(self, x: Tensor, part: Tensor | None = None) -> Tensor:
        """log p of x (..., d), or of some of its components, (...).

        Args:
            x: (..., d), anything finite where a component does not count.
            part: (..., d) bool, the components that count; None for all.
        """
        u = x[..., None, :] - self.mean
        if part is None or all_hold(part):
            log_p = self._log_density(u)
        else:
            log_p = self._log_marginal(u, part[..., None, :])
        return (self.log_weight + log_p).logsumexp(-1)

    def _log_density(self, u: Tensor) -> Tensor:
        """log p of x − m (..., K, d) in each component, (..., K)."""
        rest = u - (self.regression * u[..., None, :]).sum(-1)
        r = rest * (-self.log_width).exp()
        log_f = student_log_density(r, self.freedom) if self.tails else normal_log_density(r)
        return (log_f - self.log_width).sum(-1)

    def _log_marginal(self, u: Tensor, part: Tensor) -> Tensor:
        """The same of the components of a part (..., 1, d), (..., K)."""
        root = self.precision_root.double()
        seen = torch.where(part, u, 0.0).double()
        missing = root * ~part[..., None, :]
        gram = missing.mT @ missing + torch.diag_embed(part.expand(u.shape).double())
        factor = torch.linalg.cholesky(gram)
        seen_part = (root * seen[..., None, :]).sum(-1)
        pulled = -(missing.mT @ seen_part[..., None])
        r = seen_part + (missing @ torch.cholesky_solve(pulled, factor))[..., 0]
        log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        many = part.sum(-1)
        log_p = -0.5 * r.square().sum(-1) - self.log_width.sum(-1) - log_det
        return (log_p - 0.5 * many * math.log(2 * math.pi)).to(u.dtype)

    def sample(self, generator: torch.Generator) -> Tensor:
        """One x for each mixture of the batch (B, …), (B, …, d)."""
        shape, device = self.log_weight.shape[:-1], self.mean.device
        uniforms = torch.rand(shape, generator=generator, device=device)
        k = drawn_category(self.log_weight.exp(), uniforms)[..., None, None]

        def of_one(values: Tensor) -> Tensor:
            """Those (…, K, d) of the component that was drawn, (…, d)."""
            return values.gather(-2, k.expand(*shape, 1, values.shape[-1]))[..., 0, :]

        rest = torch.randn((*shape, self.size), generator=generator, device=device)
        if self.tails:
            rest = rest * student_stretch(of_one(self.freedom), generator)
        rest = rest * of_one(self.log_width).exp()
        rows = of_one(self.regression.flatten(-2)).unflatten(-1, (self.size, self.size))
        u = rest[..., :1]
        for i in range(1, self.size):
            told = (rows[..., i, :i] * u).sum(-1, keepdim=True)
            u = torch.cat([u, rest[..., i : i + 1] + told], -1)
        return of_one(self.mean) + u


class MixtureNet(nn.Module):
    """θ → a mixture, by a residual network and, to where all its components are, a linear map.

    Args:
        inputs: components of c.
        size: components d of x.
        components: K.
        tails: as for `MultivariateMixture`.
        given: numbers that move the laws besides c.
        hidden: width of the network.
        blocks: residual blocks in it.
    """

    def __init__(
        self,
        inputs: int,
        size: int,
        components: int,
        tails: bool = False,
        given: int = 0,
        hidden: int = 128,
        blocks: int = 2,
    ) -> None:
        super().__init__()
        self.size, self.tails = size, tails
        self.location = nn.Linear(inputs, size)
        nn.init.zeros_(self.location.weight)
        self.layers = ResidualLayers(inputs, hidden, blocks)
        self.of_given = nn.Linear(given, hidden) if given else None
        self.head = nn.Linear(hidden, MultivariateMixture.parameters(size, components, tails))

    def forward(self, c: Tensor, given: Tensor | None = None) -> MultivariateMixture:
        """The mixture of each c (B, D), (B,); or of each of K given (B, K, C), (B, K)."""
        hidden, location = self.layers(c), self.location(c)
        if given is not None and self.of_given is not None:
            hidden, location = hidden[:, None] + self.of_given(given), location[:, None]
        raw = self.head(F.silu(hidden)).float()
        location = location.float().expand(*raw.shape[:-1], -1)
        raw = raw + F.pad(location, (0, raw.shape[-1] - self.size))
        return MultivariateMixture(raw, self.size, self.tails)


def is_short(law: Law) -> bool:
    """Whether x is a vector of few enough components for a full covariance."""
    return math.prod(field_shape(law)[1:]) == 1 and law.size <= LONGEST


def require_short(law: Law) -> None:
    """Refuse what is none.

    Raises:
        UsageError: a lattice, or too many components.
    """
    if not is_short(law):
        raise UsageError(
            f"a mixture of full covariance: expected x of up to {LONGEST} unordered components, "
            f"got shape {law.x_shape}; take head independent"
        )


def components_for(size: int, numbers: int = 100) -> int:
    """Components 1 to 8 of mixtures of vectors of d components, so that there are few numbers."""
    return max(1, min(8, numbers // (size * (size + 3) // 2)))


def places(size: int, device: torch.device) -> Tensor:
    """Where each entry of a strictly lower triangular matrix lies in a list, (d, d).

    All others are at its end.
    """
    table = torch.full((size, size), size * (size - 1) // 2)
    row, column = torch.tril_indices(size, size, -1)
    table[row, column] = torch.arange(len(row))
    return table.to(device)


def freedom(raw: Tensor) -> Tensor:
    """Degrees of freedom ν of a network's numbers (...), (...)."""
    return LEAST_FREEDOM + (raw + 2).clamp(max=8.0).exp()
