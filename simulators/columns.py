"""What each component of x may be: one support for all, or columns of different kinds.

A simulator declares one support, or one for each column, with or without their names::

    support = "nonnegative"
    support = {"hits": "levels:10", "energy": "nonnegative", "t": "reals"}
    support = {"bits": ("levels:2", 5), "t": "reals"}      # bits_0 … bits_4, t
    support = ["levels:2"] * 5 + ["reals"] * 2
    support = "hits=levels:10,energy=nonnegative,t=reals"  # as on a command line
    support = "levels:2*5,reals*2"
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal, TypeAlias, get_args

__all__ = [
    "KINDS",
    "MOST_LEVELS",
    "SUPPORTS",
    "Columns",
    "Support",
    "SupportLike",
    "levels_of",
    "supports_in_words",
]

Support = Literal["spins", "levels", "nonnegative", "reals", "counts", "mixed"]
SUPPORTS: tuple[Support, ...] = get_args(Support)
SupportLike: TypeAlias = str | Mapping[str, Any] | Sequence[Any]
"""What declares it: one for all, or those of the columns."""
KINDS = ("reals", "nonnegative", "counts", "levels:K")
"""What a column of mixed x may be."""
MOST_LEVELS = 2**15


@dataclass(frozen=True)
class Columns:
    """The supports of the columns of x.

    Attributes:
        supports: of each column; of one kind that all components have, that alone.
        names: of the columns; empty where they have none.
        one: whether one support was given for all, whatever their number.

    Raises:
        ValueError: a support that there is none, or names of which two are the same.
    """

    supports: tuple[str, ...]
    names: tuple[str, ...] = ()
    one: bool = False

    def __post_init__(self) -> None:
        """Refuse supports that there are not, and names that are no names of columns."""
        if not self.supports:
            raise ValueError("support: expected that of each column, got none")
        several = len(set(self.supports)) > 1
        for kind in dict.fromkeys(self.supports):
            refuse_unknown(kind, several)
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"support: expected different names, got {', '.join(self.names)}")

    @classmethod
    def of(cls, given: Any) -> Columns:
        """What a simulator or a user declares, in any of the forms above.

        Raises:
            ValueError: what is none of them.
        """
        if isinstance(given, str) and not set(given) & set("=,*"):
            return cls((given,), one=True)
        pairs = [pair for item in items_of(given) for pair in columns_in_block(*item)]
        names = tuple(name for name, _ in pairs)
        if any(names) and not all(names):
            raise ValueError(f"support: expected names of all columns or of none, got {given!r}")
        return cls(tuple(kind for _, kind in pairs), names if all(names) else ())

    @property
    def text(self) -> str:
        """All of it as one text that `of` reads."""
        return self.supports[0] if self.one else supports_in_words(self.supports, self.names)

    def of_names(self, names: Sequence[str]) -> Columns:
        """The same in the order of the columns of a file, which may have names.

        Raises:
            ValueError: columns that are called otherwise.
        """
        if not self.names or not names or self.names == tuple(names):
            return self
        if sorted(self.names) != sorted(names):
            missing = [name for name in names if name not in self.names]
            others = [name for name in self.names if name not in names]
            wrong = [f"{', '.join(missing)} missing"] if missing else []
            wrong += [f"{', '.join(others)} unknown"] if others else []
            raise ValueError(
                f"support: expected one for each of {', '.join(names)}, all in one text with "
                f"commas between, got {self.text}: {'; '.join(wrong)}"
            )
        known = dict(zip(self.names, self.supports, strict=True))
        return Columns(tuple(known[name] for name in names), tuple(names))

    def require_size(self, size: int) -> None:
        """Refuse x of another number of components.

        Raises:
            ValueError: it is.
        """
        if self.size not in (0, size):
            raise ValueError(
                f"support: expected one for each of the {size} components of x, got {self.size}"
            )

    @property
    def size(self) -> int:
        """Number of columns; 0 where one support is that of all."""
        return 0 if self.one else len(self.supports)

    @property
    def support(self) -> Support:
        """The support of x as a whole."""
        kinds = set(self.supports)
        found: Any = min(kinds).partition(":")[0] if len(kinds) == 1 else "mixed"
        return found

    @property
    def levels(self) -> int:
        """K, where all are levels of one number; else 0."""
        return levels_of(self.supports[0]) if len(set(self.supports)) == 1 else 0

    @property
    def mixed(self) -> tuple[str, ...]:
        """The support of each column, where they are of several kinds; else empty."""
        return self.supports if self.support == "mixed" else ()


def items_of(given: Any) -> Iterator[tuple[str, Any]]:
    """Name or nothing, and support, of each column or block.

    Raises:
        ValueError: neither text, nor a mapping, nor a sequence.
    """
    if isinstance(given, Mapping):
        yield from ((str(name), kind) for name, kind in given.items())
    elif isinstance(given, str):
        for word in given.split(","):
            name, _, kind = word.strip().rpartition("=")
            what, _, times = kind.partition("*")
            yield name, (what, times) if times else what
    elif isinstance(given, Sequence):
        yield from (("", kind) for kind in given)
    else:
        raise ValueError(
            "support: expected one, or one of each column, as in {'hits': 'levels:10', 't': "
            f"'reals'}}, got {given!r}"
        )


def columns_in_block(name: str, kind: Any) -> Iterator[tuple[str, str]]:
    """Name and support of each column of a block: ``("levels:2", 5)`` is five columns.

    Raises:
        ValueError: what is no support, or no number of columns.
    """
    what, times = kind if isinstance(kind, list | tuple) and len(kind) == 2 else (kind, None)
    if isinstance(times, str) and times.isdecimal():
        times = int(times)
    whole = isinstance(times, int) and not isinstance(times, bool) and times > 0
    if not isinstance(what, str) or not (times is None or whole):
        raise ValueError(
            "support: expected that of a column, as in 'reals', or of several, as in "
            f"('levels:2', 5), got {kind!r}"
        )
    if times is None:
        yield name, what
    else:
        yield from ((f"{name}_{i}" if name else "", what) for i in range(times))


def refuse_unknown(kind: str, several: bool) -> None:
    """Refuse a support that there is none, or not as one of several columns.

    Raises:
        ValueError: either.
    """
    name, _, number = kind.partition(":")
    if several and name == "spins":
        raise ValueError("support: spins are not for single columns; declare levels:2, of 0 and 1")
    known = name in SUPPORTS and name != "mixed" and (not number or name == "levels")
    if not known or (several and name == "levels" and not number):
        expected = KINDS if several else (*(s for s in SUPPORTS if s != "mixed"), "levels:K")
        raise ValueError(f"support: expected one of {', '.join(expected)}, got {kind!r}")
    if number:
        refuse_levels(int(number) if number.isdecimal() else -1, kind)


def refuse_levels(levels: int, given: object) -> None:
    """Refuse levels of which there are too few or too many.

    Raises:
        ValueError: either, with what to declare instead.
    """
    if not 2 <= levels <= MOST_LEVELS:
        more = "; of more declare counts, which have no limit" if levels > MOST_LEVELS else ""
        raise ValueError(f"levels: expected 2 to {MOST_LEVELS}, got {given}{more}")


def levels_of(kind: str) -> int:
    """K of a support ``levels:K``; 0 of any other."""
    number = kind.partition(":")[2]
    return int(number) if number else 0


def supports_in_words(supports: Sequence[str], names: Sequence[str] = ()) -> str:
    """Supports of columns as one text that `Columns.of` reads."""
    if names:
        return ",".join(f"{n}={kind}" for n, kind in zip(names, supports, strict=True))
    runs = [(kind, len(list(run))) for kind, run in groupby(supports)]
    return ",".join(f"{kind}*{n}" if n > 1 else kind for kind, n in runs)
