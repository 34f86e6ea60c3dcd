r"""Conditional diffusion: noise is taken away from x step by step, given θ.

Two kernels share one network, a U-Net with attention. The *Gaussian* one blurs spins or reals; the
*masked* one hides spins; the *hurdle* of nonnegative x is one of each. Each has a bound on log
p(x|θ) that training raises and samples at any number of steps; the first two have an unbiased
estimate of p of their finite chain, and the Gaussian one the probability-flow density as well.

A short real vector is denoised beside a mixture of Gaussians of full covariance that is fitted
with the network: what that knows in closed form no network has to learn (`mixture`). So is a map
on a torus beside a stationary Gaussian law, whose denoiser is the Wiener filter (`stationary`).

`schedule` says how noise grows, `denoiser` what the network predicts, `sampler` how to come back
(the reverse SDE and ODE), `likelihood` what x costs in nats (the ELBO and others); `gaussian`,
`mixture`, `stationary` (`known` has what these two share), `masked`, `hurdle` and `layered` put
them together on the network of `unet`, `cells` (with `grouped` hits) on one of a detector's cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, cast

import torch
from torch import Tensor, nn

from physgen.errors import UsageError
from physgen.law import Law
from physgen.nn.affine import AffineMap, stationary_map
from physgen.nn.measurement import Measurement
from physgen.nn.multivariate import is_short
from physgen.nn.seen_spins import SeenSpins
from physgen.nn.transforms import Related
from physgen.surrogates.base import (
    Likelihood,
    Noise,
    Restored,
    refuse_unknown_options,
)
from physgen.surrogates.diffusion import sampler, schedule
from physgen.surrogates.diffusion.cells import CellsKernel
from physgen.surrogates.diffusion.gaussian import STEPS, GaussianKernel
from physgen.surrogates.diffusion.hurdle import HurdleKernel
from physgen.surrogates.diffusion.known import KnownKernel
from physgen.surrogates.diffusion.layered import LayeredKernel
from physgen.surrogates.diffusion.masked import MaskedKernel
from physgen.surrogates.diffusion.mixture import MixtureKernel
from physgen.surrogates.diffusion.restoring import GUIDED, InverseProblem, restored
from physgen.surrogates.diffusion.stationary import StationaryKernel
from physgen.surrogates.diffusion.unet import preset_of
from physgen.surrogates.pruning import Part, Prunable
from simulators.base import Support

__all__ = ["Diffusion", "DiffusionConfig"]

MOST = 16
"""Components of x of which the mixture of full covariance is cheap beside the network."""
INPAINTED: Mapping[str, str] = {
    "masked": "the chain, with seen spins unmasked from the start: exact for the learnt law; for "
    "spins seen with noise, or of the colour that comes last, heat-bath sweeps of its odds, exact "
    "as sweeps grow, which R̂ watches"
}
SWEEPS = 50
"""Heat-bath sweeps, where there are any."""
MODES = 64
"""Of the mean along open axes."""
KINDS = {"bound": Likelihood.BOUND, "path": Likelihood.UNBIASED, "ode": Likelihood.ESTIMATE}


@dataclass(frozen=True)
class DiffusionConfig:
    """Options of the diffusion model.

    Attributes:
        kernel: what noise does: masked hides spins, gaussian blurs; auto masks spins. Nonnegative
            x has both, a hurdle, whatever is given here.
        network: size of the U-Net; auto is small, or wide where x is a single site (a vector).
        order: order of the masked kernel; checkerboard fills one colour in last, at once (right
            for nearest-neighbour couplings), auto does so where both sides are even.
        noise_schedule: how the Gaussian kernel's log-SNR falls.
        timesteps: steps of the Gaussian kernel's training bound; 0 for continuous time.
        loss: the bound, or the unweighted error of the noise (Gaussian kernel, fixed schedule).
        sampler: how to draw with the Gaussian kernel.
        steps: evaluations of the network for a sample, a path or a flow; 0 for 64, or one for
            each site of the masked kernel, of which posteriors take fewer.
        eta: noise of the sampler ddim, 0 to 1.
        estimator: what log p is: bound, path (unbiased for the chain of that many steps), or ode
            (probability flow, Gaussian kernel).
        trace: trace of the probability flow; Hutchinson's costs one backward pass and not one for
            each component of x, and its noise biases log p of spins upwards.
        showers: how the second of two stages sees a shower: as cells on their grid, or each cell
            as a channel of a single site, as in earlier versions.
        groups: groups of cells whose hits are drawn at once, each given those before, where cells
            are on their grid (at least 1).
        stages: of nonnegative x of three axes, layers first: the layers' energies and then their
            shares (two), or all cells in one; auto is two where the law does not declare its axes.
        head: density of a real vector on which the network improves: independent Gaussians, or a
            mixture of Gaussians with full covariances, fitted with it; auto is mixture up to 16
            components, if timesteps and loss are the defaults.
        components: Gaussians of that mixture; 0 for 1 to 8, fewer the longer the vector.
        spectrum: along which axes of real maps a Gaussian law of independent waves, fitted with
            it, stands beside the network: periodic, those along which shifts are symmetries, if
            timesteps and loss are the defaults; or none.
        grids: of the U-Net, each of half the sites a side; 0 for as many as `network` has, and
            more for large x that declares its axes.
    """

    kernel: Literal["auto", "masked", "gaussian"] = "auto"
    network: Literal["auto", "small", "medium", "large", "wide"] = "auto"
    order: Literal["auto", "checkerboard", "random"] = "auto"
    noise_schedule: schedule.ScheduleName = "learnt"
    timesteps: int = 0
    loss: Literal["bound", "simple"] = "bound"
    sampler: sampler.SamplerName = "ancestral"
    steps: int = 0
    eta: float = 0.0
    estimator: Literal["bound", "path", "ode"] = "bound"
    trace: Literal["exact", "hutchinson"] = "exact"
    showers: Literal["cells", "channels"] = "cells"
    groups: int = 4
    stages: Literal["auto", "one", "two"] = "auto"
    head: Literal["auto", "independent", "mixture"] = "auto"
    components: int = 0
    spectrum: Literal["periodic", "none"] = "periodic"
    grids: int = 0

    def __post_init__(self) -> None:
        """Refuse values outside the documented ranges."""
        for name in ("timesteps", "steps", "components", "grids"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected at least 0, got {getattr(self, name)}")
        if self.groups < 1:
            raise ValueError(f"groups: expected at least 1, got {self.groups}")
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta: expected 0 to 1, got {self.eta}")
        if self.loss == "simple" and self.noise_schedule == "learnt":
            raise ValueError("loss: simple needs a noise_schedule of cosine or linear")
        if self.head == "mixture" and (self.timesteps or self.loss == "simple"):
            raise ValueError("head: mixture needs the continuous bound (timesteps 0, loss bound)")


class Diffusion(Prunable):
    """Conditional diffusion with a Gaussian or a masked kernel."""

    name: ClassVar[str] = "diffusion"
    Config = DiffusionConfig
    supports: ClassVar[tuple[Support, ...]] = ("spins", "reals", "nonnegative")
    earlier_options: ClassVar[dict[str, Any]] = {
        "head": "independent", "showers": "channels", "spectrum": "none",
    }  # fmt: skip
    later_buffers: ClassVar[tuple[str, ...]] = (
        "enough", "kernel.denoiser.waves.affine.spectrum.reference",
    )  # fmt: skip
    fewer: ClassVar[tuple[int, ...]] = (1, 2, 4, 8, 16)
    leaves_out = True
    with_missing = ("reals",)
    inference_options: ClassVar[tuple[str, ...]] = (
        "sampler", "steps", "eta", "estimator", "trace",
    )  # fmt: skip

    def __init__(self, law: Law, config: DiffusionConfig) -> None:
        super().__init__(law, config)
        self.kernel = kernel_of(law, config)
        if self.kernel.transform:
            self.transform = self.kernel.transform(law)
        self.default_draws = self.kernel.draws
        self.take_at_most(self.kernel.draws)
        self.restorers = restorers_of(self.kernel)
        self._refuse()

    def fit_transform(self, x: Tensor, theta: Tensor | None = None) -> None:
        """Fit the map of x to rows of data (n, *x_shape), and where their θ (n, D) start it."""
        super().fit_transform(x, theta)
        if isinstance(self.kernel, CellsKernel | StationaryKernel):
            c = None if theta is None else self.rescale(theta.to(self.device))
            self.kernel.fit(self.transform(x.to(self.device)), c)

    def at(self, law: Law, **options: Any) -> Self:
        """As :meth:`Surrogate.at`, with as many grids as it has."""
        if law.x_shape != self.law.x_shape and isinstance(self.kernel, GaussianKernel):
            preset = preset_of(self.law, self.config.network, self.config.grids)
            options = {"grids": len(preset.channels)} | options
        return super().at(law, **options)

    @property
    def may_take_fewer(self) -> bool:
        """Whether log p is that of a law in closed form, and what little the network gains."""
        return isinstance(self.kernel, KnownKernel) and self.config.estimator == "bound"

    @property
    def parts(self) -> Mapping[str, Part]:
        """Those of the kernel beside a law in closed form."""
        return self.kernel.parts if isinstance(self.kernel, KnownKernel) else {}

    @property
    def bounded(self) -> Self:
        """With the bound as log p."""
        return self.using(estimator="bound")

    def using(self, **options: Any) -> Self:
        """As :meth:`Surrogate.using`; a kernel may refuse some samplers and estimators."""
        other = super().using(**options)
        if other.config.estimator != self.config.estimator:
            other.posterior_draws = other.most
        other._refuse()
        return other

    def for_posteriors(self) -> Self:
        """Masked chains of fewer steps, where the options leave their number open."""
        masked = isinstance(self.kernel, MaskedKernel) and self.config.estimator == "bound"
        if masked and not self.config.steps:
            return self.using(steps=cast("MaskedKernel", self.kernel).few_steps)
        return self

    def _refuse(self) -> None:
        if refused := self.kernel.refuse(self.config):
            kernel = type(self.kernel).__name__.removesuffix("Kernel").lower()
            raise UsageError(f"{self.name}: the {kernel} kernel has no {refused}")

    @property
    def _at_once(self) -> int:
        """Fewer where a row takes many steps in one batch."""
        return max(1, super()._at_once // self.kernel.width(self.config))

    @property
    def likelihood(self) -> Likelihood:
        """By the estimator."""
        return KINDS[self.config.estimator]

    @property
    def log_snr_ends(self) -> tuple[float, float] | None:
        """Those of the Gaussian kernel's schedule, where the map of x keeps noise independent."""
        if not isinstance(self.kernel, GaussianKernel) or self.law.missing:
            return None
        if self.transform.width(torch.zeros(self.law.x_shape, device=self.device)) is None:
            return None
        low, high = self.kernel.log_snrs(1, self.device).tolist()
        return low, high

    def _denoised(self, c: Tensor, z: Tensor, log_snr: Tensor) -> Tensor:
        alpha, _ = schedule.alpha_sigma(log_snr)
        return cast("GaussianKernel", self.kernel)._at_one(c)(alpha * z, log_snr)

    def samplers(self) -> Iterator[tuple[str, int, Self]]:
        """Every sampler of the kernel at 8 to 128 evaluations."""
        for name in self.kernel.samplers:
            ways = [self.using(sampler=name, steps=n) for n in (8, 16, 32, 64, 128)]
            found = {way.kernel.evaluations(way.config): way for way in ways}
            yield from ((name, evaluations, way) for evaluations, way in found.items())

    def _loss(self, c: Tensor, z: Tensor, generator: torch.Generator, progress: float) -> Tensor:
        return self.kernel.loss(c, z, generator)

    def _log_prob(self, c: Tensor, z: Tensor, noise: Noise, draws: int) -> tuple[Tensor, Tensor]:
        return self.kernel.log_prob(c, z, noise, draws, self.config)

    def _sample(self, c: Tensor, generator: torch.Generator) -> Tensor:
        kept = {}
        if isinstance(self.kernel, GaussianKernel) and isinstance(self.transform, Related):
            kept = {"kept": self.transform.kept}
        z = self.kernel.sample(c, generator, self.config, **kept)
        return z if self.kernel.transform else z.view(len(c), *self.law.x_shape)

    def _restore(
        self,
        c: Tensor,
        y: Tensor,
        measurement: Measurement,
        method: str,
        generator: torch.Generator,
        **options: Any,
    ) -> Restored:
        if isinstance(self.kernel, MaskedKernel):
            refuse_unknown_options(method, options, ("sweeps",))
            sweeps = int(options.get("sweeps", SWEEPS))
            found = self.kernel.restore(c, SeenSpins.of(y, measurement), generator, sweeps)
            return found._replace(x=found.x.view(-1, *self.law.x_shape))
        if not isinstance(self.kernel, GaussianKernel):
            return super()._restore(c, y, measurement, method, generator, **options)
        log_snrs = self.kernel.log_snrs(self.config.steps or STEPS, c.device)
        problem = InverseProblem(self.kernel, self.transform, log_snrs, c, y, measurement)
        return restored(problem, method, generator, **options)


def restorers_of(kernel: nn.Module) -> Mapping[str, str]:
    """How x is drawn given y: by the kernels of spins and of whole reals."""
    if isinstance(kernel, MaskedKernel):
        return INPAINTED
    if not isinstance(kernel, GaussianKernel):
        return {}
    law = kernel.law
    return GUIDED if law.support == "reals" and not law.missing else {}


def kernel_of(
    law: Law, config: DiffusionConfig
) -> MaskedKernel | GaussianKernel | HurdleKernel | LayeredKernel | CellsKernel:
    """The kernel that the support of x and the options ask for.

    Raises:
        UsageError: a masked kernel for what is no spins, or a mixture for what are no reals.
    """
    if config.head == "mixture" and law.support != "reals":
        raise UsageError(f"diffusion: head mixture: not for {law.support} x; expected reals")
    if config.kernel == "masked" and law.support != "spins":
        raise UsageError(f"masked kernel: not for {law.support} x; expected spins")
    if law.support == "nonnegative":
        if not in_two_stages(law, config):
            return HurdleKernel(law, config)
        return (CellsKernel if config.showers == "cells" else LayeredKernel)(law, config)
    if law.support == "reals" and has_mixture(law, config):
        return MixtureKernel(law, config)
    if affine := stationary_beside(law, config):
        return StationaryKernel(law, config, affine)
    masked = law.support == "spins" and config.kernel != "gaussian"
    return MaskedKernel(law, config) if masked else GaussianKernel(law, config)


def in_two_stages(law: Law, config: DiffusionConfig) -> bool:
    """Whether nonnegative x is layers' energies first, and then how these are shared out.

    Raises:
        UsageError: that was asked for, of x that does not have three axes.
    """
    if config.stages == "two" and len(law.x_shape) != 3:
        raise UsageError(
            f"diffusion: stages two: not for x of shape {law.x_shape}; expected three axes, "
            "layers first"
        )
    undeclared = len(law.x_shape) == 3 and not law.spatial
    return config.stages == "two" or (config.stages == "auto" and undeclared)


def is_continuous(config: DiffusionConfig) -> bool:
    """Whether training minimises the continuous bound, as what stands beside a law has to."""
    return config.timesteps == 0 and config.loss == "bound"


def stationary_beside(law: Law, config: DiffusionConfig) -> AffineMap | None:
    """What a Gaussian law of waves beside the network is made of, of real maps; else None."""
    wanted = config.spectrum == "periodic" and is_continuous(config)
    return stationary_map(law, MODES) if wanted else None


def has_mixture(law: Law, config: DiffusionConfig) -> bool:
    """Whether real x gets a mixture of full covariance."""
    if config.head != "auto":
        return config.head == "mixture"
    return is_continuous(config) and is_short(law) and law.size <= MOST
