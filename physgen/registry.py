"""Names → classes: the simulators and the surrogate families that can be called by name.

A third kind, ``imported``, are the laws of imported files, which no simulator here can draw: the
class, built of the law's options, declares what is measured of their x as a simulator would
(:mod:`simulators.base`).

A name is one of the tables below, an entry point of the group ``physgen.simulators`` or
``physgen.surrogates`` in any installed package, or ``package.module:Class`` of anything that
Python can import, the current folder included. Nothing is imported before it is asked for.
"""

from __future__ import annotations

import importlib
import sys
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from physgen.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["find", "targets"]

Kind = Literal["simulators", "surrogates", "imported"]

BUILT_IN: dict[Kind, dict[str, str]] = {
    "simulators": {
        "cascade": "simulators.shower:Cascade",
        "gaussian": "simulators.gaussian:LinearGaussian",
        "ising": "simulators.ising:Ising",
        "shower": "simulators.shower:Shower",
        "shower-energy": "simulators.shower:ShowerEnergy",
        "shower-voxel": "simulators.shower:ShowerVoxel",
    },
    "surrogates": {
        "autoregressive": "physgen.surrogates.autoregressive:Autoregressive",
        "cvae": "physgen.surrogates.cvae:CVAE",
        "diffusion": "physgen.surrogates.diffusion:Diffusion",
        "gan": "physgen.surrogates.gan:GAN",
        "rbm": "physgen.surrogates.rbm:RBM",
    },
    "imported": {
        "calochallenge": "simulators.shower.imported:ImportedShowers",
    },
}


def targets(kind: Kind) -> dict[str, str]:
    """Every registered name of a kind → its ``module:Class``."""
    plugins = {e.name: e.value for e in entry_points(group=f"physgen.{kind}")}
    return plugins | BUILT_IN[kind]


def find(kind: Kind, name: str) -> type[Any]:
    """The class that a name stands for.

    Args:
        kind: ``simulators``, ``surrogates`` or ``imported``.
        name: a registered name, or ``package.module:Class``.

    Raises:
        UsageError: an unknown name, or a module or class that cannot be imported.
    """
    known = targets(kind)
    target = known.get(name, name)
    module, colon, attribute = target.partition(":")
    if not colon:
        raise UsageError(
            f"{kind}: unknown {name!r}; expected one of {', '.join(sorted(known))}, "
            "or package.module:Class"
        )
    try:
        with current_folder_on_path():
            return getattr(importlib.import_module(module), attribute)
    except Exception as error:  # whatever importing a user's module raises is told in one line
        reason = f"{type(error).__name__}: {error}"
        raise UsageError(f"{kind}: cannot import {target!r}: {reason}") from error


@contextmanager
def current_folder_on_path() -> Iterator[None]:
    """Let imports see the current folder, as ``python -m`` does and a console script does not."""
    here = str(Path.cwd())
    if here in sys.path:
        yield
        return
    sys.path.append(here)
    try:
        yield
    finally:
        sys.path.remove(here)
