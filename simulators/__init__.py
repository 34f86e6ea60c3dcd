"""Physics simulators: θ in, x out. Usable alone with numpy, scipy and numba."""

from simulators.base import Observable, Simulator, Verdict
from simulators.prior import Box, Parameter, Prior

__all__ = ["Box", "Observable", "Parameter", "Prior", "Simulator", "Verdict"]
