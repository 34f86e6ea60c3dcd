r"""The Gaussian kernel of maps along whose axes shifts are symmetries, beside the Wiener filter.

A stationary Gaussian law of x given θ (:mod:`physgen.nn.stationary`), of power P for each wave, is
fitted by its likelihood. Of z = αx + σε a wave has the power v = α²P + σ², so that

    x̃ = μ + Qᵀ (αP/v) Q (z − αμ),      cov[x|z] = Qᵀ (σ²P/v) Q,

and the network learns what is left (:mod:`.known`), each wave in units of the width that is left
of it. Of a Gaussian field, whatever its spectrum, nothing is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from physgen.law import Law
from physgen.nn.affine import AffineMap
from physgen.nn.stationary import StationaryLaw, StationaryNet
from physgen.surrogates.diffusion.known import KnownDenoiser, KnownKernel
from physgen.surrogates.diffusion.schedule import alpha_sigma
from physgen.surrogates.diffusion.unet import Preset, preset_of

if TYPE_CHECKING:
    from physgen.surrogates.diffusion import DiffusionConfig

__all__ = ["StationaryDenoiser", "StationaryKernel", "Wiener"]


class Wiener:
    """What a stationary Gaussian law says of x given its noised self z.

    Attributes:
        mean: (B, d) x̃.
        width: (B, d) standard deviations of waves.

    Args:
        law: of x.
        z: (B, d).
        log_snr: λ of z, (B,).
        part: (B, d) bool, the components of z that are seen; all, where the law has waves.
    """

    def __init__(self, law: StationaryLaw, z: Tensor, log_snr: Tensor, part: Tensor) -> None:
        alpha, sigma = (v[:, None] for v in alpha_sigma(log_snr))
        middle, power = law.mean.flatten(1), (2 * law.log_width).exp().flatten(1)
        told = alpha * part
        v = told * alpha * power + sigma**2
        self.mean = middle + law.waves(told * power / v * law.waves(z - alpha * middle), True)
        self.width, self.law = sigma * (power / v).sqrt(), law

    def spread(self, f: Tensor) -> Tensor:
        """Numbers f (B, d), each wave in units of its width, (B, d)."""
        return self.law.waves(self.width * self.law.waves(f), True)

    def sample(self, generator: torch.Generator) -> Tensor:
        """One x for each row, (B, d)."""
        white = torch.randn(self.mean.shape, generator=generator, device=self.mean.device)
        return self.mean + self.law.waves(self.width * white, True)


class StationaryDenoiser(KnownDenoiser):
    """x̂(z, λ, c) of maps: the Wiener filter, and a network for the rest.

    Args:
        law: what x is.
        preset: sizes of the network.
        affine: the network of that law.
    """

    def __init__(self, law: Law, preset: Preset, affine: AffineMap) -> None:
        super().__init__(law, preset)
        self.waves = StationaryNet(affine, len(law.prior))

    def known(self, c: Tensor, whole: bool) -> StationaryLaw:
        """The stationary law given c (B, D); of independent sites where x is not whole."""
        return self.waves(c, whole)

    def given(self, law: StationaryLaw, z: Tensor, log_snr: Tensor, part: Tensor) -> Wiener:
        """What it says of x given z (B, d) at λ (B,), of which `part` (B, d) is seen."""
        return Wiener(law, z, log_snr, part)


class StationaryKernel(KnownKernel):
    """The Gaussian kernel beside such a law.

    Args:
        law: what x is: real maps.
        config: the family's options.
        affine: the network of that law.
    """

    draws: ClassVar[int] = 32
    denoiser: StationaryDenoiser

    def __init__(self, law: Law, config: DiffusionConfig, affine: AffineMap) -> None:
        preset = preset_of(law, config.network, config.grids)
        super().__init__(law, config, denoiser=StationaryDenoiser(law, preset, affine))

    @property
    def parts(self) -> dict[str, list[nn.Module]]:
        """Those of all known laws, and the network beside the regressions of this one."""
        return super().parts | {"the law's network": self.denoiser.waves.affine.last}

    def fit(self, z: Tensor, c: Tensor | None) -> None:
        """Take where the law starts from rows z (n, *x_shape) and their c (n, D), if known."""
        if c is not None:
            self.denoiser.waves.fit(z, c)
