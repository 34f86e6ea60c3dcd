"""An option of a function as a parameter of click: its type, its flag, what help shows of it."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click

from physgen.runtime.kinds import has_text, members, parsed, spelt, worded
from physgen.runtime.options import REQUIRED, Option

__all__ = ["parameter", "shared_options", "type_in_words", "unspeakable"]

SHORT = {"out": "-o", "n": "-n"}


class Pair(click.ParamType[Any]):
    """``name=value``, or ``name=law``."""

    def __init__(self, of: Callable[[str], Any], name: str) -> None:
        self.of, self.name = of, name

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Any]:
        """The name, and its number or law."""
        name, text = (part.strip() for part in str(value).partition("=")[::2])
        try:
            found = self.of(text)
        except ValueError as error:
            self.fail(f"expected {self.name}, got {value!r}: {error}", param, ctx)
        if not name:
            self.fail(f"expected {self.name}, got {value!r}", param, ctx)
        return name, found


def free_law(text: str) -> Any:
    """A law of a parameter, as text has it.

    Raises:
        ValueError: none, or a number.
    """
    from simulators.parameter import law_of

    found = law_of(text)
    if isinstance(found, float):
        raise ValueError("one value is not LOW:HIGH; see --fix")
    return found


class WholeNumber(click.ParamType[int]):
    """A whole number, in digits or as in 1e5."""

    name = "integer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number."""
        try:
            return int(value)
        except ValueError:
            with contextlib.suppress(ValueError):
                if (number := float(value)).is_integer():
                    return int(number)
        raise click.BadParameter(f"{value!r} is not a valid integer.", ctx, param)


class Spelt(click.ParamType[Any]):
    """A value of a kind that text can tell: a list with commas, rows, a choice, a union.

    Args:
        kind: what annotates the option.
    """

    def __init__(self, kind: Any) -> None:
        self.kind = kind
        self.name = self.metavar = spelling(kind)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value."""
        try:
            return parsed(self.kind, value) if isinstance(value, str) else value
        except ValueError as error:
            self.fail(str(error), param, ctx)


def spelling(kind: Any) -> str:
    """How help shows what may be written."""
    names = {slice: "START:STOP", int: "INTEGER", float: "FLOAT", bool: "BOOLEAN", str: "TEXT"}
    kinds = [k for k in members(kind) if k is not types.NoneType]
    if len(kinds) > 1:
        said = list(map(spelling, kinds))  # of which text and lists say more than needs be
        return "|".join(s for s in said if s != "TEXT" and f"{s},..." not in said) or "TEXT"
    if isinstance(kinds[0], type) and issubclass(kinds[0], Enum):
        return f"[{'|'.join(map(spelt, kinds[0]))}]"
    items = [spelling(k) for k in get_args(kinds[0]) if k is not ...]
    return ",".join([*items, "..."] if len(items) == 1 else items) or names.get(kinds[0], "VALUE")


def click_type(annotation: Any) -> tuple[Any, bool]:
    """The click type of an annotation, and whether the option may be repeated.

    Raises:
        TypeError: an annotation that no option can have.
    """
    kinds = [k for k in members(annotation) if k is not types.NoneType]
    kind = Path if Path in kinds else kinds[0]
    if get_origin(kind) is Literal:
        return click.Choice(get_args(kind)), False
    if get_origin(kind) is Mapping:
        number = get_args(kind)[1] is float
        return Pair(float, "NAME=VALUE") if number else Pair(free_law, "NAME=LAW"), True
    if kind is Path or kind == Sequence[Path]:
        return click.Path(path_type=Path), kind is not Path
    if kind is REQUIRED:
        return str, False
    if kinds == [int]:
        return WholeNumber(), False
    if kinds in ([float], [str], [bool]):
        return kind, False
    if has_text(annotation):
        return Spelt(annotation), False
    if str in kinds:  # what else it may be is for Python
        return str, False
    raise TypeError(f"no option can have the type {type_in_words(annotation)}")


def type_in_words(kind: Any) -> str:
    """An annotation as it is written."""
    return kind.__qualname__ if isinstance(kind, type) else str(kind)


def unspeakable(option: Option) -> bool:
    """Whether an option can be given in Python alone."""
    try:
        click_type(option.type)
    except TypeError:
        return True
    return False


def parameter(option: Option, positional: bool) -> click.Parameter:
    """One option of a function as a parameter of a command."""
    kind, multiple = click_type(option.type)
    if positional:
        required, nargs = option.default is REQUIRED, -1 if multiple else 1
        return click.Argument([option.name], type=kind, required=required, nargs=nargs)
    flag = f"--{option.name.removesuffix('_').replace('_', '-')}"
    names = [option.name, *([SHORT[option.name]] if option.name in SHORT else []), flag]
    if kind is bool:
        either = option.default or types.NoneType in members(option.type)
        switch = f"{flag}/--no-{flag[2:]}" if either else flag
        return click.Option(
            [option.name, switch], is_flag=True, default=option.default, help=option.help
        )
    required = option.default is REQUIRED or option.name == "out"  # a command keeps what it makes
    has_default = not required and option.default not in (None, "")
    default: Any = worded(option.default) if isinstance(kind, Spelt) else option.default
    return click.Option(
        names,
        type=kind,
        multiple=multiple,
        required=required,
        show_default=has_default,
        help=option.help,
        metavar=getattr(kind, "metavar", "PATH" if isinstance(kind, click.Path) else None),
        **({"default": default} if has_default else {}),
    )


def shared_options() -> list[click.Parameter]:
    """The options that every command has."""
    return [
        click.Option(["json", "--json"], is_flag=True, help="Print the result as JSON."),
        click.Option(["quiet", "-q", "--quiet"], is_flag=True, help="Only warnings and results."),
        click.Option(["verbose", "-v", "--verbose"], is_flag=True, help="More of what is done."),
        click.Option(["debug", "--debug"], is_flag=True, help="Show the traceback of an error."),
    ]
