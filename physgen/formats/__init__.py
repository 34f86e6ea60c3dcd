"""Formats of other packages: each a module here, read into a dataset or written from one.

A format that can be read offers ``open_foreign(file, binning=…, particle=…)``, which gives a
:class:`Foreign`: the law of its rows, and a function that makes any shard of them, so that the
house's writer does the rest. One that can be written offers ``write(data, out, binning=…,
force=…, progress=…)``. Nothing of a format is imported before it is asked for by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

from physgen.dataset import Rows, Shard
from physgen.errors import UsageError
from physgen.law import Law

__all__ = ["EXPORTS", "IMPORTS", "Foreign", "room"]

IMPORTS = ("calochallenge",)
EXPORTS = ("calochallenge", "arviz")


@dataclass(frozen=True)
class Foreign:
    """A file of another format, looked at but not yet read.

    Attributes:
        law: what its rows follow.
        rows: number of rows.
        source: what a dataset's metadata say of it.
        make: the rows of a shard: pure in the shard, and picklable.
        note: what is lost in reading it; empty if nothing is.
    """

    law: Law
    rows: int
    source: Mapping[str, Any]
    make: Callable[[Shard], Rows]
    note: str = ""


def room(verb: str, name: str, known: tuple[str, ...]) -> ModuleType:
    """The module of a format.

    Args:
        verb: what is asked for, for the message.
        name: the format.
        known: those that the verb can do.

    Raises:
        UsageError: none of them.
    """
    if name not in known:
        raise UsageError(f"{verb}: format: expected one of {', '.join(known)}, got {name!r}")
    return import_module(f"physgen.formats.{name}")
