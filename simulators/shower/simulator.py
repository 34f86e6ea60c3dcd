r"""Showers with an exact likelihood: GFlash's fluctuating shape, laid down in exponential spots.

A particle of energy E, behind t_up radiation lengths of dead material whose deposit is lost,
starts a shower (a photon after a depth t₀ ~ Exp(9/7 X₀)). The shower has a shape of its own
(:mod:`.gflash`); its energy comes in N ~ Poisson(E/e) spots of mean e = c²/2 (:mod:`.compound`);
a cell takes the part F_l of the depth and G_r/n_α of the radius and azimuth. So given the shape
all cells are independent, and log p(x|θ) is a two-dimensional integral (:mod:`.likelihood`).
Options make the readout a harder one, whose law is exact as well (:mod:`.readout`): layers' gains
that fluctuate and are correlated, and dead rows of cells.

=======================  =========================  =========================================
:class:`Shower`          θ = (ln E, t_up)           25 layers of 1 X₀
:class:`ShowerEnergy`    θ = ln E                   the same
:class:`ShowerVoxel`     θ = (ln E, t_up)           a grid of layers, azimuths and rings
=======================  =========================  =========================================
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numba import njit

from simulators.base import Array, Bins, JointObservable, Observable, Verdict
from simulators.prior import Box
from simulators.shower import gflash, observables
from simulators.shower.geometry import Geometry
from simulators.shower.likelihood import log_likelihood
from simulators.shower.materials import MATERIALS, Material, Name
from simulators.shower.published import THRESHOLD, cell_energy_bins
from simulators.shower.readout import Readout, read

__all__ = ["Shower", "ShowerEnergy", "ShowerVoxel"]

ENERGY = (0.0, math.log(100.0), "ln GeV", r"\ln E")
UPSTREAM = (0.0, 4.0, "X₀", r"t_\mathrm{up}")


class Layout(NamedTuple):
    """A calorimeter's cells, and which showers it is for.

    Attributes:
        grid: layers, azimuths, rings.
        thickness: of a layer, X₀.
        ring: width of a ring, in `unit`.
        unit: R_M or mm.
        energy: of the prior, GeV.
        threshold: readout threshold, GeV.
    """

    grid: tuple[int, int, int]
    thickness: float
    ring: float = 0.5
    unit: Literal["R_M", "mm"] = "R_M"
    energy: tuple[float, float] = (1.0, 100.0)
    threshold: float = 0.0


LAYOUTS: dict[str, Layout] = {
    "mini": Layout((12, 8, 6), 2.0),
    "calochallenge": Layout((45, 16, 9), 0.8),
    "calochallenge-2": Layout((45, 16, 9), 0.8, 4.65, "mm", (1.0, 1000.0), THRESHOLD),
    "calochallenge-3": Layout((45, 50, 18), 0.8, 2.325, "mm", (1.0, 1000.0), THRESHOLD),
}
BLOCK = 2**21
"""Cells that are held at once."""
FEW = 4.0
"""Spots to a cell below which they are thrown one by one."""


@dataclass(frozen=True)
class GFlash:
    """What all of these showers share.

    Attributes:
        material: of the calorimeter.
        particle: what starts the shower; a photon's log p is a further integral, and dearer.
        resolution: the stochastic term c in √GeV: σ/E = c/√E of a contained shower (positive).
        threshold: readout threshold, GeV; a cell at or below it reads 0 (0, or at least
            that of the layout, which 0 stands for).
        gain_spread: σ of ln of the gain that multiplies a layer's cells, another one in each
            shower (0 to 0.2).
        gain_correlation: ρ of these logarithms between neighbouring layers, ρ^k between layers k
            apart (0 to 0.6).
        dead: probability that the cells of a layer and an azimuth read 0, each row of each shower
            by itself (at least 0, less than 1).
    """

    material: Name = "PbWO4"
    particle: Literal["electron", "photon"] = "electron"
    resolution: float = 0.10
    threshold: float = 0.0
    gain_spread: float = 0.0
    gain_correlation: float = 0.0
    dead: float = 0.0

    support: ClassVar[Literal["nonnegative"]] = "nonnegative"
    dtype: ClassVar[Literal["float32"]] = "float32"

    def __post_init__(self) -> None:
        """Refuse a configuration outside the documented ranges."""
        if self.material not in MATERIALS:
            raise ValueError(
                f"material: expected one of {', '.join(MATERIALS)}, got {self.material!r}"
            )
        if self.particle not in ("electron", "photon"):
            raise ValueError(f"particle: expected electron or photon, got {self.particle!r}")
        if not 0 < self.resolution < math.inf:
            raise ValueError(f"resolution: expected a positive number, got {self.resolution}")
        if not 0 <= self.threshold < math.inf:
            raise ValueError(f"threshold: expected at least 0, got {self.threshold}")
        if not 0 <= self.gain_spread <= 0.2:
            raise ValueError(f"gain_spread: expected 0 to 0.2, got {self.gain_spread}")
        if not 0 <= self.gain_correlation <= 0.6:
            raise ValueError(f"gain_correlation: expected 0 to 0.6, got {self.gain_correlation}")
        if self.gain_correlation and not self.gain_spread:
            raise ValueError(
                f"gain_correlation: expected 0 without gain_spread, got {self.gain_correlation}"
            )
        if not 0 <= self.dead < 1:
            raise ValueError(f"dead: expected at least 0 and less than 1, got {self.dead}")

    # --- what it is -------------------------------------------------------------------------

    @property
    def prior(self) -> Box:
        """Uniform: ln E on [ln 1, ln 100] in GeV, t_up on [0, 4] X₀."""
        return Box(ln_E=ENERGY, t_up=UPSTREAM)

    @property
    def grid(self) -> tuple[int, int, int]:
        """Layers, azimuths, rings."""
        return (25, 1, 1)

    @property
    def thickness(self) -> float:
        """Of a layer, X₀."""
        return 1.0

    @property
    def edges(self) -> Array:
        """Radii of the rings, R_M, (R + 1,)."""
        return np.array([0.0, np.inf])

    @property
    def x_shape(self) -> tuple[int, ...]:
        """(layers,)."""
        return self.grid[:1]

    @property
    def medium(self) -> Material:
        """The material's constants."""
        return MATERIALS[self.material]

    @property
    def spot(self) -> float:
        """e = c²/2, the mean energy of a spot, GeV."""
        return self.resolution**2 / 2

    @property
    def cut(self) -> float:
        """The threshold in the precision of x, so that a cell at it is never taken for a hit."""
        return float(np.float32(max(self.threshold, self.least_threshold)))

    @property
    def least_threshold(self) -> float:
        """Of the readout, whatever `threshold` is, GeV."""
        return 0.0

    @property
    def depth(self) -> Array:
        """Depth of the layers' centres behind the calorimeter's front, X₀, (L,)."""
        return self.thickness * (np.arange(self.grid[0]) + 0.5)

    @property
    def provenance(self) -> dict[str, Any]:
        """How the samples are made, for the file."""
        return {"model": "GFlash, compound Poisson", "spot_GeV": self.spot}

    @property
    def observables(self) -> dict[str, Observable]:
        """Energies, depths, widths and sparsity."""
        return observables.of_layers(self.depth)

    @property
    def joint(self) -> dict[str, JointObservable]:
        """The part of the energy that is found."""
        return observables.of_energies(observables.flat)

    # --- θ, sampling, and the exact answer ----------------------------------------------------

    def parameters(self, theta: Array) -> tuple[Array, Array]:
        """ln E in ln GeV and t_up in X₀ of each row of θ (n, D), (n,) each.

        Raises:
            ValueError: θ of another shape, not finite, or an energy too low for a shower.
        """
        theta = np.asarray(theta, dtype=float)
        d, names = len(self.prior), ", ".join(self.prior.names)
        if theta.ndim != 2 or theta.shape[1] != d:
            raise ValueError(f"theta: expected shape (n, {d}) for {names}, got {theta.shape}")
        if not np.all(np.isfinite(theta)):
            raise ValueError("theta: expected finite values, got NaN or infinity")
        least = math.log(self.medium.critical_energy) + gflash.LOG_Y_MIN
        if len(theta) and theta[:, 0].min() < least:
            raise ValueError(f"ln_E: expected at least {least:.3g}, got {theta[:, 0].min():.3g}")
        if d > 1 and len(theta) and theta[:, 1].min() < 0:
            raise ValueError(f"t_up: expected at least 0 X₀, got {theta[:, 1].min():.3g}")
        return theta[:, 0], theta[:, 1] if d > 1 else np.zeros(len(theta))

    def sample(self, theta: Array, rng: np.random.Generator) -> Array:
        """One shower for each row of θ, (n, D) → (n, *x_shape) float32, GeV."""
        step = max(1, BLOCK // math.prod(self.grid))
        parts = [self._block(theta[i : i + step], rng) for i in range(0, len(theta), step)]
        return np.concatenate([np.zeros((0, *self.x_shape), np.float32), *parts])

    def _block(self, theta: Array, rng: np.random.Generator) -> Array:
        rate = self.rates(theta, rng)
        if rate.shape[2] == 1:
            x = self.spot * rng.standard_gamma(rng.poisson(rate)).astype(np.float32)
            x = x.reshape(len(x), *self.grid)
        else:
            x = np.zeros((len(rate), *self.grid), np.float32)
            _spots(rate, self.spot, FEW, rng, x)
        read(x, self.gain_spread, self.gain_correlation, self.dead, rng)
        x[x <= self.cut] = 0
        return x.reshape(len(x), *self.x_shape)

    def rates(self, theta: Array, rng: np.random.Generator) -> Array:
        """The mean number of spots in each ring of a shower with a shape of its own, (n, L, R)."""
        log_e, start = self.parameters(theta)
        log_y = log_e - math.log(self.medium.critical_energy)
        t, alpha = gflash.draw(log_y, self.medium.z, rng)
        if self.particle == "photon":
            start = start - rng.exponential(gflash.PHOTON_DEPTH, len(start))
        layers = np.arange(self.grid[0] + 1) * self.thickness
        share = gflash.fractions(t, alpha, start[:, None] + layers)
        rate = (np.exp(log_e) / self.spot)[:, None] * share
        if self.grid[2] == 1:
            return rate[..., None]
        depth = start[:, None] + self.depth
        z = self.medium.z
        return rate[..., None] * gflash.ring_shares(t, alpha, log_e, log_y, z, depth, self.edges)

    def log_prob(self, theta: Array, x: Array) -> Array:
        """Exact log p(x|θ) in nats a shower, (n,).

        The density is with respect to counting measure at 0 and Lebesgue measure in GeV above the
        threshold, for each cell.

        Raises:
            ValueError: θ or x of another shape, or x that is negative.
        """
        return self._log_prob(theta, x)

    def _log_prob(self, theta: Array, x: Array, order: int = 0) -> Array:
        x = self.checked(x)
        log_e, start = self.parameters(theta)
        y = x.reshape(len(x), *self.grid).astype(float) / self.spot
        readout = Readout(
            self.cut / self.spot,
            float(self.gain_spread),
            float(self.gain_correlation),
            float(self.dead),
        )
        log_p = log_likelihood(
            log_e,
            start,
            y,
            thickness=self.thickness,
            edges=self.edges,
            spot=self.spot,
            readout=readout,
            material=self.medium,
            photon=self.particle == "photon",
            order=order,
        )
        return log_p - (y > readout.threshold).sum((1, 2, 3)) * math.log(self.spot)

    def entropy(
        self, n: int, rng: np.random.Generator, prior: Box | None = None
    ) -> tuple[float, float]:
        """The floor of any surrogate's expected NLL, −E[log p(x|θ)] over the prior, by simulation.

        Args:
            n: showers to average over.
            rng: random numbers.
            prior: of θ; the simulator's own if None.

        Returns:
            the entropy in nats a shower, and its standard error.
        """
        theta = (prior or self.prior).sample(n, rng)
        nll = -self.log_prob(theta, self.sample(theta, rng))
        return float(nll.mean()), float(nll.std(ddof=1) / math.sqrt(n))

    def verify(self, theta: Array, x: Array) -> list[Verdict]:
        """Whether x (n, *x_shape) follows p(x|θ), by ranks among showers drawn at the same θ."""
        from simulators.shower import verification

        return verification.verify(self, theta, self.checked(x))

    def checked(self, x: Array) -> Array:
        """X as it is, (n, *x_shape).

        Raises:
            ValueError: another shape, or values that are negative or not finite.
        """
        x = np.asarray(x)
        if x.shape[1:] != self.x_shape:
            shape = ", ".join(map(str, self.x_shape))
            raise ValueError(f"x: expected shape (n, {shape}), got {x.shape}")
        if not np.all((x >= 0) & (x < np.inf)):
            raise ValueError("x: expected energies of at least 0, got others")
        return x


@dataclass(frozen=True)
class Shower(GFlash):
    """Electromagnetic shower in 25 layers of 1 X₀, behind dead material; log p is exact."""


@dataclass(frozen=True)
class ShowerEnergy(GFlash):
    """Electromagnetic shower in 25 layers of 1 X₀, of energy alone; log p is exact."""

    @property
    def prior(self) -> Box:
        """Uniform: ln E on [ln 1, ln 100] in GeV."""
        return Box(ln_E=ENERGY)


@dataclass(frozen=True)
class ShowerVoxel(GFlash):
    """Electromagnetic shower on a grid of layers, azimuths and rings; log p is exact.

    Attributes:
        layout: mini, 12 × 8 × 6 cells in layers of 2 X₀, or calochallenge, 45 × 16 × 9 in layers
            of 0.8 X₀, rings of 0.5 R_M, 1 to 100 GeV; or the cells of a dataset of the
            CaloChallenge, calochallenge-2, 45 × 16 × 9 with rings of 4.65 mm, or calochallenge-3,
            45 × 50 × 18 with rings of 2.325 mm, 1 GeV to 1 TeV, with its readout threshold of
            15.15 keV at least.
    """

    material: Name = "W"
    layout: Literal["mini", "calochallenge", "calochallenge-2", "calochallenge-3"] = "mini"

    def __post_init__(self) -> None:
        """Refuse a configuration outside the documented ranges."""
        super().__post_init__()
        if self.layout not in LAYOUTS:
            raise ValueError(f"layout: expected one of {', '.join(LAYOUTS)}, got {self.layout!r}")
        if 0 < self.threshold < self.least_threshold:
            raise ValueError(
                f"threshold: expected 0, which is that of the layout, or at least "
                f"{self.least_threshold}, got {self.threshold}"
            )

    @property
    def prior(self) -> Box:
        """Uniform: ln E on the range of the layout, t_up on [0, 4] X₀."""
        low, high = map(math.log, LAYOUTS[self.layout].energy)
        return Box(ln_E=(low, high, *ENERGY[2:]), t_up=UPSTREAM)

    @property
    def grid(self) -> tuple[int, int, int]:
        """Layers, azimuths, rings."""
        return LAYOUTS[self.layout].grid

    @property
    def thickness(self) -> float:
        """Of a layer, X₀."""
        return LAYOUTS[self.layout].thickness

    @property
    def least_threshold(self) -> float:
        """The layout's own readout threshold, GeV."""
        return LAYOUTS[self.layout].threshold

    @property
    def edges(self) -> Array:
        """Radii of the rings, R_M, (R + 1,)."""
        layout = LAYOUTS[self.layout]
        unit = self.medium.moliere_radius if layout.unit == "mm" else 1.0
        return layout.ring / unit * np.arange(self.grid[2] + 1)

    @property
    def x_shape(self) -> tuple[int, ...]:
        """(layers, azimuths, rings)."""
        return self.grid

    @cached_property
    def geometry(self) -> Geometry:
        """The cells, radii in the layout's unit."""
        layout = LAYOUTS[self.layout]
        return Geometry.cylinder(*layout.grid, layout.ring, layout.unit)

    @property
    def observables(self) -> dict[str, Observable]:
        """Energies, depths, widths, sparsity, occupancy and centres of energy."""
        return observables.of_cells(self.geometry, "GeV", self.depth, self.millimetres)

    @property
    def cell_bins(self) -> Bins:
        """Those of the CaloChallenge, of energies of cells."""
        return cell_energy_bins(self.geometry, self.millimetres, 1000.0)

    @property
    def millimetres(self) -> float:
        """The unit of the geometry's radii, mm."""
        return self.medium.moliere_radius if self.geometry.unit == "R_M" else 1.0

    @property
    def joint(self) -> dict[str, JointObservable]:
        """The part of the energy that is found."""
        return observables.of_energies(self.geometry.layer_energies)


@njit(cache=True)
def _spots(rate: Array, spot: float, few: float, rng: np.random.Generator, x: Array) -> None:
    """Lay down spots at rates (n, L, R) in cells x (n, L, A, R), which are zero.

    A ring's spots fall on its azimuths alike: thrown one by one if there are less than `few` to a
    cell, else as many independent Poisson numbers, which is the same law.
    """
    _, layers, azimuths, rings = x.shape
    for i in range(len(x)):
        for layer in range(layers):
            for ring in range(rings):
                mean = rate[i, layer, ring] / azimuths
                if mean < few:
                    for _ in range(rng.poisson(mean * azimuths)):
                        a = min(int(azimuths * rng.random()), azimuths - 1)
                        x[i, layer, a, ring] += spot * rng.standard_exponential()
                else:
                    for a in range(azimuths):
                        x[i, layer, a, ring] = spot * rng.standard_gamma(rng.poisson(mean))
