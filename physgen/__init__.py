"""Simulation-based inference for physics simulators, scored against the exact answer.

The verbs simulate, inspect, fit, sample, infer, validate, calibrate, compare, report, import,
export and demo take files and make files; `read` and `load` bring a dataset's rows and a surrogate
into memory, `as_simulator` makes of one a simulator for other packages. Nothing heavy is imported
before it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

HOMES = {
    "physgen.api": (
        "Result", "calibrate", "compare", "export", "fit", "import_", "infer", "inspect",
        "report", "sample", "simulate", "validate",
    ),
    "physgen.dataset": ("read", "read_arrays"),
    "physgen.verbs.opening": ("load",),
    "physgen.sbi.simulator": ("as_simulator",),
    "physgen.verbs.demo": ("demo",),
}  # fmt: skip

__all__ = sorted(["__version__", *(name for names in HOMES.values() for name in names)])


def __getattr__(name: str) -> Any:
    """The public name, from where it lives."""
    for module, names in HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'physgen' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
