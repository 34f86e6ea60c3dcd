"""Names → classes: the simulators, surrogate families and formats that can be called by name.

A name is one of the tables below, an entry point of the group ``physgen.simulators``,
``physgen.surrogates`` or ``physgen.formats`` in any installed package, or
``package.module:Class`` of anything that Python can import, the current folder included. A format
is a module rather than a class. Nothing is imported before it is asked for.

A fourth kind, ``imported``, are the laws of imported files, which no simulator here can draw: the
class, built of the law's options, declares what is measured of their x as a simulator would
(:mod:`simulators.base`).
"""

from __future__ import annotations

import functools
import importlib
import sys
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from physgen.errors import UsageError
from physgen.runtime.kinds import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "BUILT_IN",
    "COMMAND",
    "KINDS",
    "class_path",
    "find",
    "name_of",
    "of_script",
    "registered",
    "require_own_name",
    "targets",
]

Kind = Literal["simulators", "surrogates", "formats", "imported"]
KINDS: tuple[Kind, ...] = ("simulators", "surrogates", "formats")
"""What `inspect` lists."""

BUILT_IN: dict[Kind, dict[str, str]] = {
    "simulators": {
        "cascade": "simulators.shower:Cascade",
        "gaussian": "simulators.gaussian:LinearGaussian",
        "gaussian-field": "simulators.field:GaussianField",
        "ising": "simulators.ising:Ising",
        "lognormal-field": "simulators.field:LognormalField",
        "oscillator": "simulators.oscillator:Oscillator",
        "phi4": "simulators.field:Phi4",
        "shower": "simulators.shower:Shower",
        "shower-energy": "simulators.shower:ShowerEnergy",
        "shower-voxel": "simulators.shower:ShowerVoxel",
    },
    "surrogates": {
        "autoregressive": "physgen.surrogates.autoregressive:Autoregressive",
        "cvae": "physgen.surrogates.cvae:CVAE",
        "diffusion": "physgen.surrogates.diffusion:Diffusion",
        "flow": "physgen.surrogates.flow:Flow",
        "gan": "physgen.surrogates.gan:GAN",
        "rbm": "physgen.surrogates.rbm:RBM",
        "tree": "physgen.surrogates.tree:Tree",
    },
    "formats": {
        "arrays": "physgen.formats.arrays",
        "arviz": "physgen.formats.arviz",
        "calochallenge": "physgen.formats.calochallenge",
        "csv": "physgen.formats.tables.text",
        "netcdf": "physgen.formats.tables.netcdf",
        "npz": "physgen.formats.tables.npz",
        "onnx": "physgen.formats.onnx",
        "parquet": "physgen.formats.tables.parquet",
        "root": "physgen.formats.tables.root",
        "safetensors": "physgen.formats.safetensors",
    },
    "imported": {
        "calochallenge": "simulators.shower.imported:ImportedShowers",
    },
}

COMMAND = "simulators.command:Command"
"""An external program as a simulator. It has no name in the tables, so that no file can make it
run: what a law in a file is built of without the caller's word stands there."""


def targets(kind: Kind) -> dict[str, str]:
    """Every registered name of a kind → its ``module:Class``, or its module."""
    plugins = {e.name: e.value for e in entry_points(group=f"physgen.{kind}")}
    return plugins | BUILT_IN[kind]


def registered(kind: Kind, name: str) -> str | None:
    """What a registered name stands for, or None; a search of all packages only if it must be."""
    return BUILT_IN[kind].get(name) or (None if ":" in name else targets(kind).get(name))


def find(kind: Kind, name: str) -> Any:
    """The class that a name stands for, or the module of a format.

    Args:
        kind: ``simulators``, ``surrogates``, ``formats`` or ``imported``.
        name: a registered name, or ``package.module:Class``.

    Raises:
        UsageError: an unknown name, or a module or class that cannot be imported.
    """
    known = registered(kind, name)
    target = known or name
    module, colon, attribute = target.partition(":")
    if not (colon or known):
        if Path(name).is_file():
            raise UsageError(f"{kind}: {name} is a file; the name of one of them comes first")
        raise UsageError(
            f"{kind}: unknown {name!r}; expected one of {', '.join(sorted(targets(kind)))}, "
            f"or package.module:Class{did_you_mean(name, targets(kind))}"
        )
    try:
        with current_folder_on_path():
            found = importlib.import_module(module)
            return functools.reduce(getattr, attribute.split(".") if attribute else [], found)
    except Exception as error:  # whatever importing a user's module raises is told in one line
        reason = f"{type(error).__name__}: {error}"
        raise UsageError(f"{kind}: cannot import {target!r}: {reason}") from error


def name_of(kind: Kind, cls: type[Any]) -> str:
    """The name of a class: a registered one, or its ``module:Class``.

    Args:
        kind: ``simulators`` or ``surrogates``.
        cls: a class that can be found again under that name.

    Raises:
        UsageError: a class that is not at the top of its module.
    """
    ours = cls.__module__.startswith(("physgen.", "simulators."))
    for name, target in (BUILT_IN[kind] if ours else targets(kind)).items():
        if target.partition(":")[2] == cls.__name__ and find(kind, name) is cls:
            return name
    name = class_path(cls)
    if getattr(sys.modules.get(cls.__module__), cls.__qualname__, None) is not cls:
        raise UsageError(f"{name}: cannot be found again; define it at the top of its module")
    return name


def of_script(kind: Kind, name: str) -> dict[str, Any]:
    """The class of a name, by its name in the caller's script if it is defined there."""
    module, _, attribute = name.partition(":")
    return {attribute: find(kind, name)} if module == "__main__" else {}


def class_path(cls: type[Any]) -> str:
    """Where a class can be found again, ``package.module:Class``."""
    return f"{cls.__module__}:{cls.__qualname__}"


def require_own_name(cls: type[Any]) -> None:
    """Refuse a surrogate family that goes by the name of another one.

    Its files would be read as the other's.

    Args:
        cls: a family, registered or not.

    Raises:
        UsageError: no name, or one that the registry gives to another class.
    """
    name = getattr(cls, "name", None)
    if not isinstance(name, str) or not name:
        raise UsageError(f"{class_path(cls)}: expected a name, as in name = {cls.__name__!r}")
    known = registered("surrogates", name)
    if known and find("surrogates", name) is not cls:
        raise UsageError(
            f"{class_path(cls)}: goes by the name {name!r} of {known}, and "
            f"its files would be read as such; give it its own, as in name = "
            f"{cls.__name__.lower()!r}"
        )


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
