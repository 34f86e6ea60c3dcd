"""What a callable takes, read from its signature and its docstring.

One reader for every place where Python meets the command line: the fields of a simulator or of a
family's configuration, and the parameters of a verb. The name, type and default come from the
signature; the help text comes from the ``Args:`` or ``Attributes:`` section of the docstring. What
several verbs take is declared once, as a TypedDict of ``Annotated[type, help]``, and taken as
``**name: Unpack[ThatDict]``.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, Unpack, get_args, get_origin, get_type_hints

from physgen.errors import UsageError

__all__ = [
    "REQUIRED",
    "Option",
    "build",
    "command_line",
    "example",
    "options",
    "resolved",
    "summary",
]

REQUIRED = inspect.Parameter.empty
T = TypeVar("T")


@dataclass(frozen=True)
class Option:
    """One option of a callable.

    Attributes:
        name: the keyword.
        type: its annotation, evaluated; `REQUIRED` where there is none.
        default: its default; `REQUIRED` where there is none.
        help: its text in the docstring; empty where there is none.
    """

    name: str
    type: Any
    default: Any
    help: str


def entries_of(docstring: str | None) -> dict[str, str]:
    """Name → text of the entries under ``Args:`` or ``Attributes:`` of a docstring."""
    section = re.search(
        r"^(?:Args|Attributes):\n((?:[ \t]+.*\n?|\n)+)", inspect.cleandoc(docstring or ""), re.M
    )
    if not section:
        return {}
    entries = re.findall(r"^(\w+):((?:.*\n?)(?:[ \t]+.*\n?)*)", textwrap.dedent(section[1]), re.M)
    return {name: " ".join(text.split()) for name, text in entries}


def summary(target: Callable[..., Any]) -> str:
    """The head of a docstring: what comes before its sections."""
    text = inspect.cleandoc(target.__doc__ or "")
    return re.split(r"^\w+:\n", text, maxsplit=1, flags=re.M)[0].strip()


def example(target: Callable[..., Any]) -> str:
    """What stands under ``Example:`` in a docstring; empty where there is nothing."""
    found = re.search(r"^Example:\n\s+(.+)", inspect.cleandoc(target.__doc__ or ""), re.M)
    return found[1] if found else ""


def options(target: Callable[..., Any]) -> tuple[Option, ...]:
    """The named options of a function or of a class's constructor, in order.

    What a class says of its options adds to what its bases say.
    """
    ancestors = reversed(target.__mro__) if inspect.isclass(target) else [target]
    text = {name: item for a in ancestors for name, item in entries_of(a.__doc__).items()}
    found: list[Option] = []
    for p in inspect.signature(target, eval_str=True).parameters.values():
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
            found.append(Option(p.name, type_of(p), p.default, text.get(p.name, "")))
        elif get_origin(p.annotation) is Unpack:
            found += shared(get_args(p.annotation)[0])
    return tuple(found)


def shared(declared: type[Any]) -> Iterator[Option]:
    """The options of a TypedDict, each ``Annotated[type, help]``; none of them is required."""
    for name, hint in get_type_hints(declared, include_extras=True).items():
        kind, text = get_args(hint)
        yield Option(name, kind, False if kind is bool else None, text)


def type_of(parameter: inspect.Parameter) -> Any:
    """The annotation of a parameter, or the type of its default."""
    if parameter.annotation is REQUIRED and parameter.default not in (REQUIRED, None):
        return type(parameter.default)
    return parameter.annotation


def resolved(target: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """All options with their values: the given ones, and the defaults of the rest."""
    return {o.name: given.get(o.name, o.default) for o in options(target)}


def build(target: Callable[..., T], label: str, given: Mapping[str, Any]) -> T:
    """Call `target` with the given options.

    Raises:
        UsageError: an option that it does not have, one that it needs, or a value it refuses.
    """
    known = {o.name: o for o in options(target)}
    if unknown := [name for name in given if name not in known]:
        raise UsageError(f"{label}: no option {unknown[0]!r}; it has {', '.join(known) or 'none'}")
    for name, value in given.items():
        choices = get_args(known[name].type) if get_origin(known[name].type) is Literal else ()
        if choices and value not in choices:
            expected = ", ".join(map(str, choices))
            raise UsageError(f"{label}: {name}: expected one of {expected}, got {value!r}")
    if missing := [
        o.name for o in known.values() if o.default is REQUIRED and o.name not in given
    ]:
        raise UsageError(f"{label}: option {missing[0]!r} is required")
    try:
        return target(**given)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{label}: {error}") from error


def command_line(verb: str, *arguments: object, **given: Any) -> str:
    """A verb's call as the shell would have it; options that are None or false are left out."""
    words = ["physgen", verb, *map(str, arguments)]
    for name, value in given.items():
        flag = "-n" if name == "n" else f"--{name.removesuffix('_').replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif isinstance(value, Mapping):
            words += [f"{flag} {key}={in_words(item)}" for key, item in value.items()]
        elif value is not None and value is not False:
            words.append(f"{flag} {in_words(value)}")
    return " ".join(words)


def in_words(value: Any) -> str:
    """A value as the command line spells it."""
    if isinstance(value, slice):
        return ":".join("" if v is None else str(v) for v in (value.start, value.stop))
    if isinstance(value, list):
        return ",".join(map(str, value))
    return ":".join(map(str, value)) if isinstance(value, tuple) else str(value)
