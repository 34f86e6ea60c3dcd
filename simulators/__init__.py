"""Physics simulators: θ in, x out. Usable alone with numpy, scipy and numba."""

from simulators.base import CannotRun, Observable, RowsFailed, Simulator, Verdict
from simulators.command import Command
from simulators.parameter import Parameter
from simulators.prior import Box, Prior

__all__ = [
    "Box",
    "CannotRun",
    "Command",
    "Observable",
    "Parameter",
    "Prior",
    "RowsFailed",
    "Simulator",
    "Verdict",
]
