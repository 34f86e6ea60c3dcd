"""The Ising model: perfect samples, the exact partition function, and checks of one by the other.

======================  ===================================================================
:class:`Ising`          the simulator (:mod:`.lattice`)
:mod:`.sampling`        perfect, Swendsen–Wang and heat-bath draws (numba kernels)
:mod:`.exact`           Kaufman's log Z on any torus, with derivatives
:mod:`.counting`        densities of states g(E) and g(E, M)
:mod:`.transfer`        the transfer matrix, with a field (numba kernels)
:mod:`.ensemble`        log Z and cumulants by whichever of these there is
:mod:`.inference`       exact posterior, floor of the loss, mutual information
:mod:`.observables`     what is measured on a lattice
:mod:`.responses`       magnetisation, χ, C and Binder's cumulant of many lattices
:mod:`.verification`    do lattices follow the law?
======================  ===================================================================
"""

from simulators.ising.lattice import Ising
from simulators.ising.observables import specific_heat, susceptibility
from simulators.moments import binder_cumulant

__all__ = ["Ising", "binder_cumulant", "specific_heat", "susceptibility"]
