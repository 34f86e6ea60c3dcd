"""Particle showers: a fluctuating shape whose likelihood is exact, and a Monte Carlo cascade.

======================  ===================================================================
:class:`Shower`         layer energies given (ln E, t_up) (:mod:`.simulator`)
:class:`ShowerEnergy`   layer energies given ln E alone
:class:`ShowerVoxel`    cells of a cylinder given (ln E, t_up)
:class:`Cascade`        layer energies by a Monte Carlo cascade, without a likelihood
:mod:`.gflash`          the shape of a shower and how it fluctuates
:mod:`.compound`        the law of a cell's energy
:mod:`.readout`         gains, dead rows, and log p given the rates (numba kernels)
:mod:`.likelihood`      exact log p: a quadrature over a shower's shapes
:mod:`.integrand`       log p given a shape (numba kernels)
:mod:`.geometry`        layers, rings and azimuths
:mod:`.materials`       constants of absorbers
:mod:`.observables`     what is measured of a shower
:mod:`.imported`        the same of showers of a file from elsewhere
:mod:`.verification`    do showers follow the law?
======================  ===================================================================
"""

from simulators.shower.cascade import Cascade
from simulators.shower.geometry import Geometry
from simulators.shower.simulator import Shower, ShowerEnergy, ShowerVoxel

__all__ = ["Cascade", "Geometry", "Shower", "ShowerEnergy", "ShowerVoxel"]
