"""What an option may be: one value of a kind, given in Python, read from text, kept as JSON data.

===========================  =====================================  ====================
annotation                   taken in Python                        as text
===========================  =====================================  ====================
``int``, ``float``           any number that is one, NumPy's too    ``3``, ``0.5``
``bool``, ``str``, ``Path``  these; 0 or 1; a path, with ``~``      ``true``, ``a``
``Literal``, an ``Enum``     a choice; a member, its value or name  the value, or name
``tuple``, ``list``          a list, tuple or array of its kinds    ``1,2,3``
``slice``                    consecutive rows, or one               ``0:3``, ``3``
``Mapping``, ``dict``        names with values of its kind
a union, ``None`` included   the first of its kinds that takes it   as these, ``none``
===========================  =====================================  ====================

What is taken is unambiguous: 100.0 is a whole number and 1.5 is none; of rows, 3 is row 3 alone,
and (0, 3) is refused, which may mean rows 0 to 2 or rows 0 and 3.
"""

from __future__ import annotations

import difflib
import math
import os
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from numbers import Integral, Real
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

__all__ = [
    "as_json_data",
    "bare",
    "did_you_mean",
    "excerpt",
    "has_text",
    "members",
    "parsed",
    "shortened",
    "spelt",
    "taken",
    "taken_rows",
    "worded",
]

MOST_SHOWN = 60
NAMED = 12
"""Words that a message tells, at most."""
MOST_FLOAT = int(sys.float_info.max)
SEQUENCES = (tuple, list, Sequence)
MAPPINGS = (dict, Mapping)


def members(kind: Any) -> tuple[Any, ...]:
    """The kinds that a union is of; of anything else itself."""
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def excerpt(value: object) -> str:
    """A value in one line of an error, cut short."""
    text = " ".join(repr(value).split())
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 10]} …"


def shortened(words: Sequence[str]) -> str:
    """The first of many words, and the last, for a message."""
    return ", ".join(words if len(words) <= NAMED else [*words[: NAMED - 1], "…", words[-1]])


def did_you_mean(word: object, known: Iterable[object]) -> str:
    """Words for an error: what may have been meant, or nothing."""
    names = {str(name).lower(): str(name) for name in known}
    found = difflib.get_close_matches(str(word).lower(), list(names), 1)
    return f"; did you mean {names[found[0]]!r}?" if found else ""


def spelt(member: Enum) -> str:
    """How text and files spell a member: by its value, if that is text, or by its name."""
    return str(member.value) if isinstance(member.value, str) else member.name


def worded(value: Any, between: str = ",") -> str:
    """A value as text that `parsed` reads; items of a sequence with something between them."""
    if isinstance(value, Enum):
        return spelt(value)
    if isinstance(value, slice):
        return ":".join("" if v is None else str(v) for v in (value.start, value.stop))
    return between.join(map(worded, value)) if isinstance(value, list | tuple) else str(value)


def as_json_data(value: Any, *, null: bool = False) -> Any:
    """A value as JSON data: members as they are spelt, sequences and arrays as lists.

    Args:
        value: what it is made of.
        null: whether a number that is not finite, which JSON does not have, becomes None.

    Raises:
        ValueError: such a number, else.
        TypeError: what JSON does not have.
    """
    value = bare(value)
    if isinstance(value, Enum):
        return spelt(value)
    if isinstance(value, float) and not math.isfinite(value):
        if null:
            return None
        raise ValueError(f"expected a finite number, got {value}")
    if isinstance(value, bool | int | float | str | None):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: as_json_data(item, null=null) for key, item in value.items()}
    if isinstance(value, list | tuple) or hasattr(value, "tolist"):
        return [as_json_data(item, null=null) for item in as_list(value)]
    raise TypeError(
        f"expected numbers, text, or tuples and lists of these, got {type(value).__name__}"
    )


def bare(value: Any) -> Any:
    """A scalar of NumPy or torch as Python's own; all else as it is."""
    scalar = hasattr(value, "item") and getattr(value, "ndim", None) == 0
    return value.item() if scalar else value


def as_list(value: Any) -> list[Any]:
    """The items of a list, a tuple, a range or an array.

    Raises:
        ValueError: something else.
    """
    if isinstance(value, list | tuple | range):
        return list(value)
    if hasattr(value, "tolist") and getattr(value, "ndim", 0) > 0:
        return list(value.tolist())
    raise ValueError(f"expected a list or a tuple, got {excerpt(value)}")


def taken(kind: Any, value: Any) -> Any:
    """A value given in Python as one of its kind; as it is where nothing is known of the kind.

    Raises:
        ValueError: what is none, with what was expected.
    """
    kinds = members(kind)
    value = bare(value)
    if type(value) in kinds and not isinstance(value, slice):
        return value
    rules = [_rule(k) for k in kinds if k is not types.NoneType]
    errors = []
    for rule in rules:
        if rule is None:  # this kind takes what it likes
            return value
        try:
            return rule(value)
        except ValueError as error:
            errors.append(error)
    raise errors[0] if len(errors) == 1 else _unexpected(kinds, value)


def parsed(kind: Any, text: str) -> Any:
    """A value that text tells, as one of its kind.

    Raises:
        ValueError: text that tells none, with what was expected.
    """
    kinds = [k for k in members(kind) if k is not types.NoneType]
    if len(kinds) < len(members(kind)) and text.strip().lower() == "none":
        return None
    for k in sorted(kinds, key=lambda k: k is str):
        try:
            return taken(k, _unspelt(k, text))
        except ValueError as error:
            if len(kinds) == 1:
                raise error from None
    raise _unexpected(kinds, text)


def has_text(kind: Any) -> bool:
    """Whether text can tell a value of a kind."""
    kinds = [k for k in members(kind) if k is not types.NoneType]
    return all(
        k in (int, float, bool, str, Path, slice)
        or get_origin(k) is Literal
        or _is_enum(k)
        or (_many_words(k) and all(map(_one_word, _items(k))))
        for k in kinds
    )


def taken_rows(value: Any) -> slice | None:
    """Consecutive rows: a slice, a range, text as in ``0:3``, or the number of one row.

    Raises:
        ValueError: what is none of these, or does not say which of two things it means.
    """
    given, value = value, bare(value)
    if isinstance(value, str):
        value = _rows_in_text(value)
    if isinstance(value, range) and value.step == 1 and 0 <= value.start <= value.stop:
        value = slice(value.start, value.stop)
    if isinstance(value, slice) and value.step in (None, 1):
        start, stop = (v if v is None else _integer(v) for v in (value.start, value.stop))
        return slice(start, stop)
    if value is None:
        return None
    if not isinstance(value, bool) and isinstance(value, Integral):
        return slice(int(value), None if value == -1 else int(value) + 1)
    expected = "expected consecutive rows, as in slice(0, 10), '0:10', or 3 for one"
    if isinstance(value, tuple | list) or hasattr(value, "tolist"):
        index = excerpt(list(value)) if isinstance(value, tuple | list) else "index"
        expected += f"; others are physgen.Dataset(file)[{index}]"
    raise ValueError(f"{expected}; got {excerpt(given)}")


def _rows_in_text(text: str) -> Any:
    """What text says of rows."""
    words = text.split(":")
    try:
        found = [int(word) if word.strip() else None for word in words]
    except ValueError:
        found = []
    if len(found) == 1 and found[0] is not None:
        return found[0]
    if len(found) != 2:
        raise ValueError(f"expected START:STOP, as in 0:10, got {excerpt(text)}")
    return slice(*found)


def _integer(value: Any) -> int:
    value = bare(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1:
        return int(value)
    raise ValueError(f"expected a whole number, got {excerpt(value)}")


def _float(value: Any) -> float:
    value = bare(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if abs(value) > 2**53 and (abs(value) > MOST_FLOAT or float(value) != value):
            raise ValueError(f"expected a number that 64 bits hold, got {excerpt(value)}")
        return float(value)
    if isinstance(value, Real) and not isinstance(value, bool):
        return float(value)
    raise ValueError(f"expected a number, got {excerpt(value)}")


def _bool(value: Any) -> bool:
    if isinstance(value, bool) or (isinstance(value, int) and value in (0, 1)):
        return bool(value)
    raise ValueError(f"expected True or False, got {excerpt(value)}")


def _str(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise ValueError(f"expected text, got {excerpt(value)}")


def _path(value: Any) -> Path:
    if isinstance(value, str | os.PathLike) and isinstance(path := os.fspath(value), str) and path:
        return Path(path).expanduser()
    raise ValueError(f"expected a path, got {excerpt(value)}")


SIMPLE: dict[Any, Callable[[Any], Any]] = {
    int: _integer, float: _float, bool: _bool, str: _str, Path: _path, slice: taken_rows,
}  # fmt: skip
WORDS = {
    int: "a whole number", float: "a number", bool: "True or False", str: "text", Path: "a path",
    slice: "rows", types.NoneType: "None",
}  # fmt: skip


def _rule(kind: Any) -> Callable[[Any], Any] | None:
    """What takes values of one kind; None where anything goes."""
    origin = get_origin(kind)
    if kind in SIMPLE:
        return SIMPLE[kind]
    if origin is Literal or _is_enum(kind):
        return lambda value: _chosen(kind, value)
    if _many_words(kind):
        return lambda value: _sequence(kind, value)
    if kind in MAPPINGS or origin in MAPPINGS:
        return lambda value: _mapping(kind, value)
    return None


def _chosen(kind: Any, value: Any) -> Any:
    """One of a few choices."""
    if _is_enum(kind):
        names = {spelt(m): m for m in kind}
        every = [*names.items(), *((m.value, m) for m in kind), *kind.__members__.items()]
    else:
        names = {str(choice): choice for choice in get_args(kind)}
        every = [*((choice, choice) for choice in get_args(kind)), *names.items()]
    for known, choice in every:
        if value is choice or (type(known) is type(value) and known == value):
            return choice
    raise ValueError(
        f"expected one of {', '.join(names)}, got {excerpt(value)}{did_you_mean(value, names)}"
    )


def _sequence(kind: Any, value: Any) -> Any:
    """A list or a tuple, of its kinds."""
    items, kinds = as_list(value), _items(kind)
    if _many(kind):
        kinds = kinds * len(items)
    if len(kinds) != len(items):
        raise ValueError(f"expected {len(kinds)} values, got {len(items)}: {excerpt(value)}")
    found = [taken(k, item) for k, item in zip(kinds, items, strict=True)]
    return found if (get_origin(kind) or kind) is list else tuple(found)


def _many(kind: Any) -> bool:
    """Whether a kind of sequence holds any number of one kind."""
    return (get_origin(kind) or kind) is not tuple or not get_args(kind) or ... in get_args(kind)


def _items(kind: Any) -> tuple[Any, ...]:
    """The kinds of a sequence's items; of any number of them the one kind that they have."""
    found = tuple(k for k in get_args(kind) if k not in (..., ()))
    return found or ((Any,) if _many(kind) else ())


def _mapping(kind: Any, value: Any) -> Any:
    """Names with values of a kind; a pair of names is written with a colon."""
    item = (*get_args(kind), Any, Any)[1]
    if not isinstance(value, Mapping):
        raise ValueError(f"expected values by name, as in {{'a': 0.4}}, got {excerpt(value)}")
    found = {}
    for key, one in value.items():
        name = ":".join(key) if isinstance(key, tuple) and all(map(_is_text, key)) else key
        if not _is_text(name):
            raise ValueError(f"expected names, got {excerpt(key)}")
        try:
            found[name] = taken(item, one)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return found


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Enum)


def _one_word(kind: Any) -> bool:
    """Whether a value of a kind is one word among others."""
    return has_text(kind) and not any(map(_many_words, members(kind)))


def _many_words(kind: Any) -> bool:
    return kind in SEQUENCES or get_origin(kind) in SEQUENCES


def _unspelt(kind: Any, text: str) -> Any:
    """What a text is, before it is held to its kind."""
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            return text
    if kind is bool:
        known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        return known.get(text.strip().lower(), text)
    if get_origin(kind) is Literal:
        return {str(choice): choice for choice in get_args(kind)}.get(text, text)
    if _many_words(kind):
        words = [word.strip() for word in text.split(",")] if text.strip() else []
        kinds = _items(kind) * (len(words) if _many(kind) else 1)
        if len(kinds) != len(words):
            raise ValueError(f"expected {len(kinds)} values, as in 1,2, got {excerpt(text)}")
        return [parsed(k, word) for k, word in zip(kinds, words, strict=True)]
    return text


def _unexpected(kinds: Sequence[Any], value: Any) -> ValueError:
    words = [WORDS.get(k) or getattr(k, "__name__", str(k)) for k in kinds]
    return ValueError(f"expected {' or '.join(words)}, got {excerpt(value)}")
