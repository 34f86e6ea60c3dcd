"""Formats of other packages: each a module here, read into a dataset or written from one.

A format that can be read offers ``open_foreign(file, /, *, …)``, with options of its own, which
gives a :class:`Foreign`: the law of its rows, and a function that makes any shard of them, so that
the house's writer does the rest. One that can be written offers ``write(data, out, force=…,
progress=…)``, and options of its own that the verb knows; it returns a number of rows, or a line,
and leaves nothing where it raises. With ``takes_trained`` its data are a surrogate or a network,
opened. Other packages add formats by entry points of the group ``physgen.formats``, each a module
or an object with one of the two or both. Nothing of a format is imported before it is asked for by
name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from physgen.dataset import Rows, Shard
from physgen.errors import UsageError
from physgen.law import Law
from physgen.registry import find, targets

__all__ = ["EXPORTS", "IMPORTS", "Foreign", "Progress", "offers", "room"]

IMPORTS, EXPORTS = "open_foreign", "write"
"""What a format offers that can be read, and one that can be written."""

Progress = Callable[[float], None]
"""What a writer calls with the part that is done, 0 to 1; it may raise to stop."""


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


def room(verb: str, name: str, ability: str) -> Any:
    """The module or object of a format.

    Args:
        verb: what is asked for, for the message.
        name: a registered format, or ``package.module:object``.
        ability: what it must offer, `IMPORTS` or `EXPORTS`.

    Raises:
        UsageError: an unknown format, one that cannot be imported, or one that does not offer it.
    """
    known = targets("formats")
    found = find("formats", name) if name in known or ":" in name else None
    if hasattr(found, ability):
        return found
    able = ", ".join(n for n in sorted(known) if offers(n, ability))
    raise UsageError(f"{verb}: format: expected one of {able}, got {name!r}")


def offers(name: str, ability: str) -> bool:
    """Whether a registered format has an ability; not if it cannot be imported."""
    try:
        return hasattr(find("formats", name), ability)
    except UsageError:
        return False
