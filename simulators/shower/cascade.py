"""The electromagnetic shower as a cascade of particles: a simulator without a likelihood.

An electron or photon of energy E strikes matter, and its Monte Carlo cascade
(:mod:`.transport`) is followed through t_up radiation lengths of dead material and then through a
calorimeter of equal layers, with nothing in front and nothing behind. x is what each layer gets.

θ = (ln E, t_up) and x mean what they mean to the simulator ``shower``, whose likelihood is exact,
but the two are different models of one thing: there the profile is a gamma distribution with
fluctuating parameters, here nothing is parametrised. Train on one and infer on the other, and the
error of a wrong model shows where the error of a surrogate does not.

The electrons per X₀ that a photon can scatter on, times r_e², are

    n = r_e² N_A Z X₀/A = 1 / (4α (Z + 1) ln(287/√Z)),

with Dahl's X₀ (Review of Particle Physics, Passage of particles through matter), so that a
material is its Z and its critical energy. A stochastic term c > 0 adds the sampling fluctuations
of the readout: a deposit ε becomes a Poisson number of exponential spots of mean energy e = c²/2,
which has mean ε and variance c²ε.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, sqrt
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from simulators.base import Array, JointObservable, Observable
from simulators.prior import Box
from simulators.shower import observables
from simulators.shower.materials import MATERIALS, Name
from simulators.shower.simulator import ENERGY, UPSTREAM

__all__ = ["Cascade"]

Particle = Literal["electron", "photon"]

CHARGES: dict[Particle, float] = {"electron": -1.0, "photon": 0.0}
FINE_STRUCTURE = 1 / 137.035999
MOST_ENERGY = 1e4  # GeV; far above, the radiation's suppression in matter would matter


@dataclass(frozen=True)
class Cascade:
    """Monte Carlo cascade: energy in the layers of a calorimeter, GeV, without a likelihood.

    Attributes:
        particle: what strikes the calorimeter, electron or photon.
        material: of the calorimeter and of the dead material: PbWO4, W, Pb or Fe.
        layers: number of layers (1 to 1000).
        thickness: of a layer, X₀ (0.01 to 100).
        resolution: stochastic term c of the readout, √GeV (0.01 to 1); 0 leaves the deposits
            as they are.
    """

    particle: Particle = "electron"
    material: Name = "PbWO4"
    layers: int = 25
    thickness: float = 1.0
    resolution: float = 0.0

    support: ClassVar[Literal["nonnegative"]] = "nonnegative"
    dtype: ClassVar[Literal["float32"]] = "float32"

    def __post_init__(self) -> None:
        """Refuse a configuration outside the documented ranges."""
        if self.particle not in CHARGES:
            raise ValueError(f"particle: expected electron or photon, got {self.particle!r}")
        if self.material not in MATERIALS:
            expected = ", ".join(get_args(Name))
            raise ValueError(f"material: expected one of {expected}, got {self.material!r}")
        if not 1 <= self.layers <= 1000:
            raise ValueError(f"layers: expected 1 to 1000, got {self.layers}")
        if not 0.01 <= self.thickness <= 100:
            raise ValueError(f"thickness: expected 0.01 to 100 X₀, got {self.thickness}")
        if self.resolution != 0 and not 0.01 <= self.resolution <= 1:
            raise ValueError(f"resolution: expected 0.01 to 1 √GeV, or 0, got {self.resolution}")

    @property
    def prior(self) -> Box:
        """Uniform: E from 1 to 100 GeV in its logarithm, t_up from 0 to 4 X₀."""
        return Box(ln_E=ENERGY, t_up=UPSTREAM)

    @property
    def x_shape(self) -> tuple[int]:
        """(layers,)."""
        return (self.layers,)

    @property
    def electrons(self) -> float:
        """Electrons per area in one X₀, times r_e²."""
        z = MATERIALS[self.material].z
        return 1 / (4 * FINE_STRUCTURE * (z + 1) * log(287 / sqrt(z)))

    @property
    def observables(self) -> dict[str, Observable]:
        """Energies, depths, width and sparsity."""
        return observables.of_layers(self.thickness * (np.arange(self.layers) + 0.5))

    @property
    def joint(self) -> dict[str, JointObservable]:
        """The part of the energy that is found."""
        return observables.of_energies(observables.flat)

    @property
    def provenance(self) -> dict[str, Any]:
        """How the showers are made, for the file."""
        from simulators.shower.transport import ELECTRON_CUT, PHOTON_CUT

        return {
            "model": "Rossi approximation B with multiple and Compton scattering",
            "electron_cut_GeV": ELECTRON_CUT,
            "photon_cut_GeV": PHOTON_CUT,
        }

    def sample(self, theta: Array, rng: np.random.Generator) -> Array:
        """One shower for each row of θ, (n, 2) → (n, layers), GeV.

        Shower i depends on θ_i, on i and on one key drawn from rng, and on nothing else.

        Raises:
            ValueError: θ of another shape, not finite, E above 10 TeV or t_up < 0.
        """
        from simulators.shower.transport import spots

        key = _key(rng)
        x = self._followed(theta, key)[:, 1:-1].copy()
        if self.resolution:
            spots(x, key, 0, self.resolution**2 / 2)
        return x

    def budget(self, theta: Array, rng: np.random.Generator) -> Array:
        """Where all of E goes, (n, 2) → (n, 1 + layers + 1), GeV.

        First what is lost in the dead material and back out of it, then the deposits before the
        readout's fluctuations, then what leaks out behind.

        Raises:
            ValueError: θ of another shape, not finite, E above 10 TeV or t_up < 0.
        """
        return self._followed(theta, _key(rng))

    def _followed(self, theta: Array, key: Array) -> Array:
        """The budget of the showers of a key."""
        from simulators.shower.transport import showers

        theta = _checked(theta)
        start = np.stack([np.exp(theta[:, 0]), theta[:, 1]], axis=1)
        charge, ec = CHARGES[self.particle], MATERIALS[self.material].critical_energy
        out = np.empty((len(theta), self.layers + 2))
        showers(out, start, key, 0, charge, self.electrons, ec, self.thickness)
        return out


def _key(rng: np.random.Generator) -> Array:
    """Two random uint64."""
    return rng.integers(0, 1 << 64, size=2, dtype=np.uint64)


def _checked(theta: Array) -> Array:
    """θ (n, 2) as float64.

    Raises:
        ValueError: θ of another shape, not finite, E above 10 TeV or t_up < 0.
    """
    theta = np.asarray(theta, dtype=float)
    if theta.ndim != 2 or theta.shape[1] != 2:
        raise ValueError(f"theta: expected shape (n, 2) for ln_E, t_up, got {theta.shape}")
    if not (np.all(np.isfinite(theta)) and np.all(theta[:, 0] <= log(MOST_ENERGY))):
        raise ValueError("theta: expected finite values and E up to 10 TeV, got others")
    if np.any(theta[:, 1] < 0):
        raise ValueError(f"theta: expected t_up ≥ 0, got {theta[:, 1].min():g}")
    return theta
