"""Physics simulators: θ in, x out. Usable alone with numpy, scipy and numba."""

from simulators.base import Observable, Simulator, Verdict
from simulators.parameter import Parameter
from simulators.prior import Box, Prior

__all__ = ["Box", "Observable", "Parameter", "Prior", "Simulator", "Verdict"]
