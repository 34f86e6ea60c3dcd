"""Physics simulators: θ in, x out. Usable alone with numpy, scipy and numba."""

from simulators.base import Box, Observable, Parameter, Simulator, Verdict

__all__ = ["Box", "Observable", "Parameter", "Simulator", "Verdict"]
