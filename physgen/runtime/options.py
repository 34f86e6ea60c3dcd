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
import sys
import textwrap
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, TypeVar, Unpack, get_args, get_origin, get_type_hints

from physgen.errors import UsageError
from physgen.runtime.kinds import near, plain, taken, worded

__all__ = [
    "REQUIRED",
    "Option",
    "build",
    "command_line",
    "example",
    "kept_options",
    "options",
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
    made = default_factories(target)
    found: list[Option] = []
    for p in signature_of(target).parameters.values():
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
            default = made[p.name]() if p.name in made else p.default
            found.append(Option(p.name, type_of(p), default, text.get(p.name, "")))
        elif get_origin(p.annotation) is Unpack:
            found += shared(get_args(p.annotation)[0])
    return tuple(found)


def signature_of(target: Callable[..., Any]) -> inspect.Signature:
    """A signature with its annotations evaluated; one that cannot be stays text."""
    try:
        return inspect.signature(target, eval_str=True)
    except Exception:  # a name that only a type checker imports, or is local to a function
        found = inspect.signature(target)
    names = vars(sys.modules.get(getattr(target, "__module__", ""), inspect))

    def evaluated(annotation: Any) -> Any:
        try:
            return eval(annotation, dict(names)) if isinstance(annotation, str) else annotation
        except Exception:
            return annotation

    every = [p.replace(annotation=evaluated(p.annotation)) for p in found.parameters.values()]
    return found.replace(parameters=every)


def default_factories(target: Callable[..., Any]) -> dict[str, Callable[[], Any]]:
    """Field → what makes its default, of a dataclass whose fields have such."""
    if not (inspect.isclass(target) and is_dataclass(target)):
        return {}
    return {f.name: f.default_factory for f in fields(target) if callable(f.default_factory)}


def shared(declared: type[Any]) -> Iterator[Option]:
    """The options of a TypedDict, each ``Annotated[type, help]``; none of them is required."""
    for name, hint in get_type_hints(declared, include_extras=True).items():
        kind, text = get_args(hint)
        yield Option(name, kind, False if kind is bool else None, text)


def type_of(parameter: inspect.Parameter) -> Any:
    """The annotation of a parameter, or the type of its default."""
    default = parameter.default
    if parameter.annotation is not REQUIRED or default is REQUIRED or default is None:
        return parameter.annotation
    items = {type(item) for item in default} if isinstance(default, tuple) else set()
    return types.GenericAlias(tuple, (*items, ...)) if len(items) == 1 else type(default)


def kept_options(
    target: Callable[..., Any], label: str, given: Mapping[str, Any]
) -> dict[str, Any]:
    """All options as JSON data: those given, and the defaults of the rest.

    A default that JSON does not have is left out: what builds the target again has it, too.

    Raises:
        UsageError: a given value that JSON does not have.
    """
    found = {}
    for option in options(target):
        value = given.get(option.name, option.default)
        try:
            found[option.name] = kept(option.type, value)
        except (TypeError, ValueError) as error:
            if value is not option.default:
                raise UsageError(f"{label}: {option.name}: {error}") from error
    return found


def kept(kind: Any, value: Any) -> Any:
    """A value as JSON data, from which it comes back as what it is.

    Raises:
        ValueError: what is none of its kind, or not finite.
        TypeError: what JSON does not have, or has otherwise.
    """
    value = taken(kind, value)
    data = plain(value)
    if type(taken(kind, data)) is not type(value):
        raise TypeError(
            f"a file keeps no {type(value).__name__}; annotate the option as float, "
            "tuple[float, ...] or another kind of numbers or text"
        )
    return data


def build(
    target: Callable[..., T], label: str, given: Mapping[str, Any], others: Iterable[str] = ()
) -> T:
    """Call `target` with the given options, each taken as one of its kind.

    Args:
        target: what to call.
        label: what to call it in messages.
        given: the options, as Python or as JSON has them.
        others: names that the caller takes besides, which may have been meant.

    Raises:
        UsageError: an option that it does not have, one that it needs, or a value it refuses.
    """
    known = {o.name: o for o in options(target)}
    if unknown := [name for name in given if name not in known]:
        names = ", ".join(known) or "none"
        meant = near(unknown[0], [*known, *others])
        raise UsageError(f"{label}: no option {unknown[0]!r}; it has {names}{meant}")
    if missing := [
        o.name for o in known.values() if o.default is REQUIRED and o.name not in given
    ]:
        raise UsageError(f"{label}: option {missing[0]!r} is required")
    values = {}
    for name, value in given.items():
        try:
            values[name] = taken(known[name].type, value)
        except ValueError as error:
            raise UsageError(f"{label}: {name}: {error}") from error
    try:
        return target(**values)
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
            words += [f"{flag} {key}={worded(item, ':')}" for key, item in value.items()]
        elif value is not None and value is not False:
            words.append(f"{flag} {worded(value)}")
    return " ".join(words)
