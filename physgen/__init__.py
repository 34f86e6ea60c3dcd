"""Simulation-based inference for physics simulators, scored against the exact answer.

The verbs simulate, inspect, fit, sample, infer, restore, validate, calibrate, compare, latents,
report, explore, import, export, merge and demo take objects or files, and return what the next one
takes; with ``out=`` they write it, too. `dataset_of` makes a dataset of arrays that there are.
`read` and `load` bring a dataset's rows and a surrogate into memory, `as_simulator` makes of one a
simulator for other packages, `as_prior` of its prior a distribution. Nothing heavy is imported
before it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from physgen.dataset import Dataset, Rows, read, read_arrays
    from physgen.posterior.inferred import InferredPosterior
    from physgen.sbi.prior import as_prior
    from physgen.sbi.simulator import as_simulator
    from physgen.surrogates.base import Surrogate
    from physgen.verbs.calibrate import calibrate
    from physgen.verbs.compare import compare
    from physgen.verbs.dataset_of import dataset_of
    from physgen.verbs.demo import demo
    from physgen.verbs.explore import explore
    from physgen.verbs.export import export
    from physgen.verbs.fit import fit
    from physgen.verbs.import_ import import_
    from physgen.verbs.infer import infer
    from physgen.verbs.inspect import inspect
    from physgen.verbs.latents import latents
    from physgen.verbs.merge import merge
    from physgen.verbs.opening import load, save
    from physgen.verbs.products import Page, Scores
    from physgen.verbs.report import report
    from physgen.verbs.restore import restore
    from physgen.verbs.restored import RestoredRows
    from physgen.verbs.sample import sample
    from physgen.verbs.simulate import simulate
    from physgen.verbs.validate import validate

__version__ = "0.1.0"

VERBS = (
    "simulate", "fit", "sample", "infer", "restore", "validate", "calibrate", "compare",
    "latents", "report", "explore", "inspect", "import_", "export", "merge", "demo",
)  # fmt: skip
HOMES = {verb: f"physgen.verbs.{verb}" for verb in VERBS} | {
    "Dataset": "physgen.dataset",
    "InferredPosterior": "physgen.posterior.inferred",
    "Page": "physgen.verbs.products",
    "RestoredRows": "physgen.verbs.restored",
    "Rows": "physgen.dataset",
    "Scores": "physgen.verbs.products",
    "Surrogate": "physgen.surrogates.base",
    "as_prior": "physgen.sbi.prior",
    "as_simulator": "physgen.sbi.simulator",
    "dataset_of": "physgen.verbs.dataset_of",
    "load": "physgen.verbs.opening",
    "read": "physgen.dataset",
    "read_arrays": "physgen.dataset",
    "save": "physgen.verbs.opening",
}
"""Public name → the module where it lives, imported when it is asked for."""

__all__ = [
    "Dataset",
    "InferredPosterior",
    "Page",
    "RestoredRows",
    "Rows",
    "Scores",
    "Surrogate",
    "__version__",
    "as_prior",
    "as_simulator",
    "calibrate",
    "compare",
    "dataset_of",
    "demo",
    "explore",
    "export",
    "fit",
    "import_",
    "infer",
    "inspect",
    "latents",
    "load",
    "merge",
    "read",
    "read_arrays",
    "report",
    "restore",
    "sample",
    "save",
    "simulate",
    "validate",
]

if not TYPE_CHECKING:  # a type checker must not take every name for one of ours

    def __getattr__(name: str) -> Any:
        """The public name, from where it lives."""
        if name in HOMES:
            return getattr(import_module(HOMES[name]), name)
        raise AttributeError(f"module 'physgen' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
