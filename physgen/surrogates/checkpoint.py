"""Checkpoints of surrogates: weights and data, never code (:mod:`physgen.nn.tensors`).

The JSON text says which family it is, by its name and by its class, with its options, its law, how
it was trained and its provenance. A checkpoint is data and must not choose what code runs: a class
outside the registry is imported on the caller's word only, never because a file names it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from physgen.errors import DataError, UsageError, as_written
from physgen.law import Law
from physgen.nn.tensors import load_tensors, save_tensors
from physgen.registry import class_path, find, registered, require_own_name
from physgen.runtime.options import build
from physgen.surrogates.base import Surrogate

__all__ = ["load_surrogate", "require_weights", "save_surrogate"]


def save_surrogate(surrogate: Surrogate, path: Path, info: dict[str, Any]) -> None:
    """Write a surrogate, with what is to be known of its making.

    Args:
        surrogate: what to save.
        path: where; replaced at once or not at all.
        info: JSON data: training options, history, data digest, provenance.

    Raises:
        StorageError: the file cannot be written.
        UsageError: a family that goes by the name of another one, and would be read as that.
    """
    require_own_name(type(surrogate))
    save_tensors(path, surrogate.state_dict(), info | surrogate.describe())


def load_surrogate(
    path: Path, device: torch.device, family: str | type[Surrogate] | None = None
) -> tuple[Surrogate, dict[str, Any]]:
    """Read a surrogate and what is known of its making.

    Args:
        path: a checkpoint.
        device: where to put the weights.
        family: the class of the surrogate, or where it is, ``package.module:Class``, for one
            outside the registry that the caller trusts.

    Returns:
        the surrogate in evaluation mode, with its `path` and `info`, and that info.

    Raises:
        DataError: a file that is no checkpoint, is damaged, or does not fit its own description.
        UsageError: a family outside the registry for which nobody vouches, or one that is not
            that of the file.
    """
    weights, info = load_tensors(path)
    if "family" not in info:
        raise DataError(
            f"{path}: expected a surrogate, as fit writes it, got a network of another kind; "
            "infer and calibrate take those of infer --network"
        )
    with as_written(path, "weights do not fit the family they name"):
        where = info.get("class")
        cls = family_of(path, str(info["family"]), where and str(where), family)
        config = build(cls.Config, info["family"], cls.earlier_options | info["options"])
        surrogate = cls.create(Law.from_json(info["law"]), config)
        begin = {k: v for k, v in surrogate.state_dict().items() if k in cls.later_buffers}
        weights = begin | {as_named_now(name, cls): w for name, w in weights.items()}
        require_weights(path, surrogate, weights, info)
        surrogate.load_state_dict(weights)
    surrogate.path, surrogate.info = path, info
    return surrogate.to(device).eval(), info


def as_named_now(name: str, cls: type[Surrogate]) -> str:
    """The name that a weight of an earlier version has now."""
    for earlier, now in cls.earlier_names.items():
        if name.startswith(earlier):
            return now + name.removeprefix(earlier)
    return name


def require_weights(
    path: Path, surrogate: Surrogate, weights: dict[str, Any], info: dict[str, Any]
) -> None:
    """Refuse weights of a family that was then another than it is now.

    Args:
        path: their file, for messages.
        surrogate: whose they are to be.
        weights: named tensors.
        info: what is known of their making.

    Raises:
        DataError: some are missing, or there are others.
    """
    changed = sorted(surrogate.state_dict().keys() ^ weights.keys())
    of = info.get("provenance") or {}
    if not (changed and of):
        return
    by = str(of.get("version")) + (f", commit {str(of['git'])[:7]}" if "git" in of else "")
    more = f" and {len(changed) - 1} others" if len(changed) > 1 else ""
    raise DataError(
        f"{path}: was trained when {surrogate.name} was another network; expected the weights of "
        f"this version, got those of {by}, which differ in {changed[0]}{more}: fit again, or use "
        "that version"
    )


def family_of(
    path: Path, name: str, where: str | None, vouched: str | type[Surrogate] | None = None
) -> type[Surrogate]:
    """The family of a checkpoint: one of the registry, one that is vouched for, or one imported.

    Args:
        path: the checkpoint, for messages.
        name: the family's name, as the file has it.
        where: its ``module:Class``, as the file has it; None in files of early versions.
        vouched: what the caller vouches for.

    Raises:
        UsageError: none of these, or another family than the file's.
    """
    if vouched is not None:
        return _of_the_file(path, name, where, vouched)
    known = registered("surrogates", name)
    if known and (where is None or _top(where) == _top(known)):
        return find("surrogates", name)
    for cls in _subclasses(Surrogate):  # type: ignore[type-abstract]  # none is made of it
        if where and class_path(cls) == where and getattr(cls, "name", None) == name:
            return cls
    flag = (where or "package.module:Class").replace("__main__:", "package.module:")
    raise UsageError(
        f"{path}: is of the family {where or name}, outside the registry; add --family {flag} "
        f"(in Python family={flag.rpartition(':')[2]}) if you trust it"
    )


def _of_the_file(
    path: Path, name: str, where: str | None, vouched: str | type[Surrogate]
) -> type[Surrogate]:
    """The class that is vouched for, if it is the file's."""
    cls = find("surrogates", vouched) if isinstance(vouched, str) else vouched
    if not (isinstance(cls, type) and issubclass(cls, Surrogate)):
        raise UsageError(f"family: expected a subclass of Surrogate, got {vouched!r}")
    here = class_path(cls)
    same = where in (None, here, f"__main__:{cls.__qualname__}")  # of a script, in itself
    if known := registered("surrogates", name):  # whose class may have moved
        same = same or (find("surrogates", name) is cls and _top(where) == _top(known))
    if not same or cls.name != name:
        raise UsageError(f"{path}: is of the family {where or name}, not {here}")
    return cls


def _top(where: str | None) -> str:
    """The package that a ``package.module:Class`` lies in."""
    return (where or "").partition(":")[0].partition(".")[0]


def _subclasses(cls: type[Surrogate]) -> Iterator[type[Surrogate]]:
    """All that is derived from a class, as far as it has been imported."""
    for derived in cls.__subclasses__():
        yield derived
        yield from _subclasses(derived)
