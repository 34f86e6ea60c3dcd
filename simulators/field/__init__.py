"""Periodic maps of real numbers: Gaussian and log-normal fields with an exact p(x|θ), and φ⁴.

==========================  ===============================================================
:class:`GaussianField`      a random field of independent Fourier modes (:mod:`.gaussian`)
:class:`LognormalField`     its exponential (:mod:`.lognormal`)
:class:`Phi4`               an interacting field, known up to its normalisation (:mod:`.phi4`)
:mod:`.hmc`                 hybrid Monte Carlo and clusters (numba kernels)
:mod:`.modes`               Fourier modes of a map, by their momentum
:mod:`.inference`           exact posterior, floor of the loss, mutual information
:mod:`.observables`         what is measured on a map
:mod:`.verification`        do maps follow the law?
==========================  ===============================================================
"""

from simulators.field.gaussian import GaussianField
from simulators.field.lognormal import LognormalField
from simulators.field.phi4 import Phi4
from simulators.moments import binder_cumulant

__all__ = ["GaussianField", "LognormalField", "Phi4", "binder_cumulant"]
