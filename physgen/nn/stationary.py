r"""Gaussian laws that are the same at all sites along some axes: independent waves.

    z ~ N(μ, Qᵀ diag(P) Q),      log p(z) = −½ Σ_k [w_k²/P_k + log 2πP_k],   w = Q (z − μ)

with Q the orthonormal transform to waves along those axes, and μ and the power P functions of θ.
Noise adds to P, so that what z says of a noised self is the Wiener filter of each wave.

log P starts as a sum of smooth functions of the wave number b(k) times quadratics in θ,

    log P_k(θ) = Σ_ij A_ij φ_i(θ) b_j(k),

by the likelihood itself. Each w² is P times a χ² of one degree of freedom, of which the Fisher
information of log P is ½ whatever P is, so that a step of Fisher scoring is least squares of the
responses log P + w²/P − 1 (a generalised linear model: Nelder & Wedderburn 1972, J. R. Stat. Soc.
A 135, 370). A network (:class:`physgen.nn.affine.AffineMap`) learns what is left.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from physgen.nn.affine import AffineMap, Grid, Spectrum, frequencies
from physgen.nn.densities import normal_log_density
from physgen.nn.regression import least_squares, quadratic

__all__ = ["StationaryLaw", "StationaryNet"]

DEGREE = 5
"""Of log P in the logarithm of the wave number."""
MOST = 1 << 23
"""Numbers of z, rows times components, that regressions look at."""
LARGEST = 32.0
"""Of |log P| that regressions say, beyond which float32 has no room for what networks add."""
ROUNDS = 5
"""Steps of Fisher scoring."""
ALIKE = 1e-6
"""Relative size of what is left of functions that others tell."""
LOG_CHI2 = math.log(2) + 0.5772156649
"""−E log χ² of one degree of freedom."""


@dataclass(frozen=True)
class StationaryLaw:
    """Such a law for each row of a batch.

    Attributes:
        mean: μ, (B, C, n).
        log_width: ½ log P of each wave, (B, C, n).
        spectrum: the transform to waves; None where each site is one.
    """

    mean: Tensor
    log_width: Tensor
    spectrum: Spectrum | None

    def waves(self, r: Tensor, back: bool = False) -> Tensor:
        """Q r, or Qᵀ r, of (B, N)."""
        if self.spectrum is None:
            return r
        with torch.autocast(r.device.type, enabled=False):  # waves of half precision are noise
            return self.spectrum.transform(r.view(self.mean.shape), back).flatten(1)

    @property
    def of_sites(self) -> StationaryLaw:
        """Independent sites of the same mean and variance."""
        if self.spectrum is None:
            return self
        axes = [2 + axis for axis, wave in enumerate(self.spectrum.along) if wave]
        power = (2 * self.log_width).exp().unflatten(2, self.spectrum.shape)
        width = 0.5 * power.mean(axes, keepdim=True).log().expand_as(power).flatten(2)
        return StationaryLaw(self.mean, width, None)

    @property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each component, (B, N) each."""
        return self.mean.flatten(1), self.of_sites.log_width.exp().flatten(1)

    def log_prob(self, z: Tensor, part: Tensor) -> Tensor:
        """log p of z (B, N), or of some of its independent sites, `part` (B, N), (B,)."""
        log_width = self.log_width.flatten(1)
        white = self.waves(z - self.mean.flatten(1)) * (-log_width).exp()
        return ((normal_log_density(white) - log_width) * part).sum(1)

    def white(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """u (B, N) of z (B, N), standard normal by this law, and log|det ∂u/∂z|, (B,).

        A component that is not finite has no volume, and stays what it is.
        """
        there, log_width = z.isfinite(), self.log_width.flatten(1)
        r = torch.where(there, z, 0.0) - self.mean.flatten(1)
        u = self.waves(self.waves(r) * (-log_width).exp(), True)
        return torch.where(there, u, z), -(log_width * there).sum(1)

    def coloured(self, u: Tensor) -> Tensor:
        """The inverse, u (B, N) → z (B, N)."""
        width = self.log_width.flatten(1).exp()
        return self.mean.flatten(1) + self.waves(self.waves(u) * width, True)

    def sample(self, generator: torch.Generator) -> Tensor:
        """One z for each row, (B, N)."""
        white = torch.randn(self.mean.shape, generator=generator, device=self.mean.device)
        return self.mean.flatten(1) + self.waves((white * self.log_width.exp()).flatten(1), True)

    def detach(self) -> StationaryLaw:
        """The same laws as constants."""
        return StationaryLaw(self.mean.detach(), self.log_width.detach(), self.spectrum)

    def repeat(self, times: int) -> StationaryLaw:
        """Each law of the batch so many times, one after another."""
        mean, log_width = (v.repeat_interleave(times, 0) for v in (self.mean, self.log_width))
        return StationaryLaw(mean, log_width, self.spectrum)


class StationaryNet(nn.Module):
    """c → a stationary law: regressions, and a network for the rest.

    Args:
        affine: the network, which is the identity at first.
        condition: components of c.
    """

    functions: Tensor
    location: Tensor
    power: Tensor

    def __init__(self, affine: AffineMap, condition: int) -> None:
        super().__init__()
        self.affine = affine
        features = quadratic(torch.zeros(1, condition)).shape[1]
        b, modes = wave_functions(affine.grid, affine.grid.shape), affine.location_modes
        self.register_buffer("functions", b, persistent=False)
        # torch has no types for this call
        self.register_load_state_dict_post_hook(functions_of_the_reference)  # type: ignore[no-untyped-call]
        for name, of in (("location", modes), ("power", b)):
            zeros = torch.zeros(features, affine.channels, len(of), dtype=torch.float64)
            self.register_buffer(name, zeros)

    def forward(self, c: Tensor, whole: bool = True) -> StationaryLaw:
        """The law of each c (B, D); independent sites where z is not whole.

        Each wave has something of all components.
        """
        with torch.autocast(c.device.type, enabled=False):
            location, scale, gain = self.affine.coefficients(c)
            mean, log_power = (v.to(location.dtype) for v in self._regressed(c))
        log_power = log_power.clamp(-LARGEST, LARGEST)
        log_width = scale + 0.5 * log_power - (0 if gain is None else gain)
        found = StationaryLaw(location + mean, log_width, self.affine.spectrum)
        return found if whole else found.of_sites

    def _regressed(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """What regressions say of μ and log P at c (B, D), (B, C, n) each."""
        features = quadratic(c.double())
        location, power = (
            torch.tensordot(features, weights, 1) for weights in (self.location, self.power)
        )
        return location @ self.affine.location_modes.double(), power @ self.functions

    @torch.no_grad()
    def fit(self, z: Tensor, c: Tensor) -> None:
        """Regress μ and log P of rows z (n, *x_shape) on c (n, D); not of z that is not whole."""
        if not z.isfinite().all():
            return
        z = z.flatten(1)
        z = z[: max(1, MOST // z.shape[1])].view(
            -1, self.affine.channels, self.affine.grid.positions
        )
        c = c[: len(z)]
        modes = self.affine.location_modes.double()
        amplitude = torch.cat([part.double() @ modes.T for part in z.split(1024)]) / z.shape[2]
        width: Tensor | None = None
        for _ in range(2):  # means weigh by the power of the slowest waves
            self.location.copy_(
                least_squares(c, amplitude.flatten(1), width).view_as(self.location)
            )
            self._fit_power(z, c)
            log_power = torch.tensordot(quadratic(c.double()), self.power, 1) @ self.functions
            slowest = log_power[..., self.functions[DEGREE + 1] > 0].mean(2, keepdim=True)
            width = (0.5 * slowest).exp().expand_as(amplitude).flatten(1)

    def _fit_power(self, z: Tensor, c: Tensor) -> None:
        """Regress log P of z (n, C, n′), whose mean is known, on c (n, D).

        In orthonormal functions, for then least squares of each amplitude is that of all.
        """
        square = torch.cat(list(self._squares(z, c))).double()
        least = 1e-12 * square.mean().clamp(min=torch.finfo(square.dtype).tiny)
        unit = orthonormal(self.functions)
        response = (square.clamp(min=least).log() + LOG_CHI2) @ unit.T
        for _ in range(ROUNDS):
            weights = least_squares(c, response.flatten(1))
            amplitude = (quadratic(c.double()) @ weights).view(response.shape)
            off = square * (-(amplitude @ unit)).exp() - 1
            response = amplitude + off @ unit.T
        to_functions = unit @ torch.linalg.pinv(self.functions)
        self.power.copy_(weights.view(-1, *response.shape[1:]) @ to_functions)

    def _squares(self, z: Tensor, c: Tensor) -> Iterator[Tensor]:
        """w² of the waves of rows z (n, C, n′) less their mean at c (n, D), in parts."""
        for part, at in zip(z.split(1024), c.split(1024), strict=True):
            law = self(at)
            yield law.waves((part - law.mean).flatten(1)).view_as(part).square()


def functions_of_the_reference(net: StationaryNet, _: object) -> None:
    """Functions of the size that weights were trained at, once that is read."""
    if net.affine.spectrum is not None:
        shape = tuple(net.affine.spectrum.reference.tolist())
        net.functions.copy_(wave_functions(net.affine.grid, shape))


def wave_functions(grid: Grid, reference: tuple[int, ...]) -> Tensor:
    """Smooth functions of the wave number and of the place along other axes, (F, n) float64.

    Of the logarithm of the lattice's |k|² = Σ 4 sin²(πν), smoothed where it is 0, Chebyshev
    polynomials; where it is 0; the parts of |k|² along each axis; and the place and its square.
    What they are at a wave number is a matter of the shape that they were made for, `reference`.
    """
    along = torch.tensor(grid.alike)
    slowest = 4 * math.sin(math.pi / max(reference)) ** 2
    axes, known = (positions(shape, grid.alike) for shape in (grid.shape, reference))
    step, place = axes[:, along], axes[:, ~along]
    square = step.sum(1)
    log_k = (square + slowest).log()
    low, high = (known[:, along].sum(1) + slowest).log().aminmax()
    angle = (2 * (log_k - low) / (high - low).clamp(min=1e-9) - 1).clamp(-1, 1).acos()
    degrees = torch.arange(DEGREE + 1, dtype=torch.float64)
    part = step / square.clamp(min=1e-9)[:, None]
    rows = [torch.cos(degrees[:, None] * angle), (square == 0).double()[None]]
    return torch.cat([*rows, part.T[:-1], place.T, place.T.square()])


def positions(shape: tuple[int, ...], alike: tuple[bool, ...]) -> Tensor:
    """4 sin²(πν) of each wave along some axes, places from −1 to 1 along others, (n, axes)."""
    each = [
        4 * (math.pi * frequencies(n, True)).sin().square() if wave else torch.linspace(-1, 1, n)
        for n, wave in zip(shape, alike, strict=True)
    ]
    return torch.cartesian_prod(*(v.double() for v in each)).view(-1, len(each))


def orthonormal(functions: Tensor) -> Tensor:
    """Orthonormal rows that span those of functions (F, n), (rank, n)."""
    _, size, rows = torch.linalg.svd(functions, full_matrices=False)
    return rows[size > ALIKE * size[0]]
