r"""The Gaussian kernel of short vectors, beside a mixture of Gaussians in closed form.

A mixture of full covariance given θ (:mod:`physgen.nn.multivariate`) is fitted to x by its
likelihood. Noise turns it into another such mixture, so that its denoiser x̃ is a formula: of a law
N(m, Λ⁻¹), and where only some components of z are seen (E, diagonal, 1 of these and 0 of others),

    x̃ = m + α B⁻¹E(z − αm),   B = α²E + σ²Λ,   p(z) ∝ √(det Λ/det B) e^{−½(|u|² − α² uᵀB⁻¹u)/σ²},

with u = E(z − αm). The network learns what is left (:mod:`.known`), in units of the width of x
that is left given z.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from physgen.law import Law
from physgen.nn.densities import drawn_category
from physgen.nn.multivariate import MixtureNet, MultivariateMixture, require_short
from physgen.surrogates.diffusion.known import KnownDenoiser, KnownKernel
from physgen.surrogates.diffusion.schedule import alpha_sigma
from physgen.surrogates.diffusion.unet import Preset, preset_of

if TYPE_CHECKING:
    from physgen.surrogates.diffusion import DiffusionConfig

__all__ = ["Denoised", "MixtureDenoiser", "MixtureKernel", "positive_inverse"]

SIZE = 128
"""Numbers K d² of the matrices of a mixture, about: a step then costs as much as the network."""


class Denoised:
    """What a mixture says of x given its noised self z, in float64.

    Attributes:
        mean: (B, d) x̃.
        width: (B, d) standard deviations.

    Args:
        law: of x, (B, K) components.
        z: (B, d).
        log_snr: λ of z, (B,).
        part: (B, d) bool, the components of z that are seen.
    """

    def __init__(self, law: MultivariateMixture, z: Tensor, log_snr: Tensor, part: Tensor) -> None:
        alpha, sigma = (v[:, None, None] for v in alpha_sigma(log_snr.double()))
        seen, root = part.double()[:, None], law.precision_root.double()
        one = torch.eye(law.size, dtype=root.dtype, device=z.device)
        told = alpha[..., None] ** 2 * seen[..., None] * one
        inverse, log_det = positive_inverse(told + sigma[..., None] ** 2 * (root.mT @ root))
        u = seen * (z.double()[:, None] - alpha * law.mean)
        y = (inverse * u[..., None, :]).sum(-1)
        square = (u.square() - alpha**2 * u * y).sum(-1) / sigma[..., 0] ** 2
        log_p = law.log_weight - 0.5 * (square + log_det) - law.log_width.sum(-1)
        self.weight, self.means = log_p.softmax(-1), law.mean + alpha * y
        self.mean = (self.weight[..., None] * self.means).sum(1)
        spread = sigma**2 * (inverse * one).sum(-1) + (self.means - self.mean[:, None]).square()
        self.width = (self.weight[..., None] * spread).sum(1).sqrt()
        self.inverse, self.root = inverse, root
        self.seen, self.alpha, self.sigma = seen, alpha, sigma

    def spread(self, f: Tensor) -> Tensor:
        """Numbers f (B, d) in units of the widths, (B, d)."""
        return self.width * f

    def sample(self, generator: torch.Generator) -> Tensor:
        """One x for each row, (B, d).

        σ B⁻¹(αEε + σPᵀε′), with Λ = PᵀP, has the covariance σ²B⁻¹ of x, and takes no root of it.
        """

        def normal() -> Tensor:
            """Standard normal numbers, (B, K, d)."""
            return torch.randn(self.means.shape, generator=generator, device=self.means.device)

        of_prior = (self.root * normal()[..., None]).sum(-2)
        pulled = self.alpha * self.seen * normal() + self.sigma * of_prior
        x = self.means + self.sigma * (self.inverse * pulled[..., None, :]).sum(-1)
        uniforms = torch.rand(len(x), generator=generator, device=x.device)
        k = drawn_category(self.weight, uniforms)[:, None, None]
        return x.gather(1, k.expand(len(x), 1, x.shape[-1]))[:, 0]


def positive_inverse(a: Tensor) -> tuple[Tensor, Tensor]:
    """Inverse and log det of symmetric positive matrices (..., d, d) of few rows, (...).

    By d updates of rank one, of the whole batch at once (the sweep operator: Goodnight 1979, Am.
    Stat. 33, 149), with rows and columns scaled to a unit diagonal.
    """
    one = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    scale = (a * one).sum(-1) ** -0.5
    both = scale[..., :, None] * scale[..., None, :]
    a, log_det = a * both, -2 * scale.log().sum(-1)
    for k, unit in enumerate(one):
        row, column = a[..., k, :], a[..., :, k]
        pivot = a[..., k, k]
        log_det = log_det + pivot.log()
        column = (column - unit) / pivot[..., None]
        a = a - column[..., :, None] * (row + unit)[..., None, :]
    return a * both, log_det


class MixtureDenoiser(KnownDenoiser):
    """x̂(z, λ, c) of vectors: that of a mixture, and a network for the rest.

    Args:
        law: what x is.
        preset: sizes of the network.
        components: of the mixture.
    """

    def __init__(self, law: Law, preset: Preset, components: int) -> None:
        super().__init__(law, preset)
        self.mixture = MixtureNet(len(law.prior), law.size, components)

    def known(self, c: Tensor, whole: bool) -> MultivariateMixture:
        """The mixture given c (B, D)."""
        return self.mixture(c)

    def given(
        self, law: MultivariateMixture, z: Tensor, log_snr: Tensor, part: Tensor
    ) -> Denoised:
        """What it says of x given z (B, d) at λ (B,), of which `part` (B, d) is seen."""
        return Denoised(law, z, log_snr, part)


class MixtureKernel(KnownKernel):
    """The Gaussian kernel beside such a mixture.

    Args:
        law: what x is: short vectors of reals.
        config: the family's options.
    """

    def __init__(self, law: Law, config: DiffusionConfig) -> None:
        require_short(law)
        components = config.components or max(1, min(8, SIZE // law.size**2))
        preset = preset_of(law, config.network, config.grids)
        super().__init__(law, config, denoiser=MixtureDenoiser(law, preset, components))
