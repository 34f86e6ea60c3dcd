"""The click command of a verb, made from its signature and docstring.

Positional parameters become arguments, keyword-only ones options; types, defaults and help come
from the annotations and the docstring. ``simulate``, ``fit`` and ``import`` are groups of
commands, one for each simulator, family or format, whose own options are read in the same way,
those of a user's own class included.
"""

from __future__ import annotations

import inspect
import logging
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from json import dumps
from typing import TYPE_CHECKING, Any, NoReturn, get_origin

import click

import physgen
from physgen.cli.parameters import (
    parameter,
    shared_options,
    type_in_words,
    unspeakable,
)
from physgen.errors import DataError, Interrupted, PhysgenError, StorageError, UsageError
from physgen.registry import COMMAND, Kind, find, targets
from physgen.runtime.interrupt import end_without_a_word
from physgen.runtime.kinds import members
from physgen.runtime.options import REQUIRED, Option, example, options, summary
from physgen.runtime.ranks import first_of_all, require_together, wait_for_the_word
from physgen.runtime.terminal import printable

if TYPE_CHECKING:
    from physgen.verbs.products import Product

__all__ = ["adapted", "command", "command_of_verb", "in_json"]


class Command(click.Command):
    """A command that refuses an option given twice where one value is meant."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse what follows the command's name.

        Raises:
            click.UsageError: an option that was given twice, too.
        """
        *_, order = self.make_parser(ctx).parse_args(args=list(args))
        for given in order:
            once = isinstance(given, click.Option) and not (given.multiple or given.is_flag)
            if once and order.count(given) > 1 and not ctx.resilient_parsing:
                raise click.UsageError(f"Option {given.opts[-1]!r} was given twice.", ctx)
        return super().parse_args(ctx, args)


def command(
    verb: Callable[..., Product], name: str, bound: Mapping[str, str] | None = None, *more: Any
) -> click.Command:
    """The command of a verb.

    Args:
        verb: the function.
        name: the command's name.
        bound: arguments that are known already.
        *more: classes whose options the command takes too.
    """
    bound = bound or {}
    parameters = inspect.signature(verb).parameters.values()
    positional = {p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD}
    mine = [o for o in options(verb) if o.name not in bound]
    every = [o for cls in more for o in options(cls)]
    own, extra = ([o for o in some if not unspeakable(o)] for some in (mine, every))
    silent = [o for o in [*mine, *every] if unspeakable(o)]
    if needed := [o for o in silent if o.default is REQUIRED]:
        raise UsageError(
            f"{name}: option {needed[0].name!r} is of type {type_in_words(needed[0].type)}, which "
            "text cannot tell; give it a default, or a type such as float or tuple[float, ...]"
        )
    names = [*(o.name for o in (*own, *extra)), *(str(p.name) for p in shared_options())]
    if clash := [option for option in names if names.count(option) > 1]:
        raise UsageError(f"{name}: an option of its own must not be called {clash[0]!r}")
    about = summary(more[-1] if more else verb)
    shown = (example(more[-1]) if more else "") or adapted(example(verb), name, bound)
    return Command(
        name,
        params=[
            *(parameter(o, o.name in positional) for o in own),
            *(parameter(o, False) for o in extra),
            *shared_options(),
        ],
        callback=callback_of(verb, bound, own, extra),
        help=about + in_python_alone(silent),
        short_help=about.partition("\n")[0],
        epilog=f"\b\nExample:\n  {shown}",
    )


def in_python_alone(silent: Sequence[Option]) -> str:
    """What help says of options that text cannot tell."""
    names = ", ".join(o.name for o in silent)
    return f"\n\nIn Python alone, and here at their defaults: {names}." if names else ""


def adapted(text: str, name: str, bound: Mapping[str, str]) -> str:
    """An example of a verb, told with the simulator or family of this command."""
    everywhere = -1 if name.replace("-", "_").isidentifier() else 1  # in the names of files too
    return text.replace(text.split()[2], name, everywhere) if bound else text


def callback_of(
    verb: Callable[..., Product],
    bound: Mapping[str, str],
    own: Sequence[Option],
    extra: Sequence[Option],
) -> Callable[..., None]:
    """Call a verb, print its result, and turn its errors into one line and an exit code."""
    pairs = {o.name for o in (*own, *extra) if get_origin(members(o.type)[0]) is Mapping}
    defaults = {o.name: o.default for o in extra}

    def callback(json: bool, quiet: bool, verbose: bool, debug: bool, **given: Any) -> None:
        level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
        logging.getLogger("physgen").setLevel(level)
        given = {k: (dict(v) or None) if k in pairs else v for k, v in given.items()}
        chosen = {k: v for k, v in given.items() if k not in defaults or v != defaults[k]}
        try:
            require_together(verb)
            product = verb(**bound, **chosen)
            if first_of_all():
                click.echo(in_json(product) if json else printable(product.summary))
            if fault := getattr(product, "fault", ""):
                raise DataError(fault)
        except (PhysgenError, OSError, KeyboardInterrupt) as error:
            if debug:
                click.echo(printable(traceback.format_exc()), err=True)
            fail(error)

    return callback


def in_json(product: Product) -> str:
    """What a product says of itself, as one JSON document."""
    from physgen.verbs.inspect import document

    return dumps(document(product), indent=2, allow_nan=False)


def fail(error: BaseException) -> NoReturn:
    """End with an expected error: one line on stderr, and its exit code."""
    if isinstance(error, KeyboardInterrupt):
        error = Interrupted()
    if isinstance(error, OSError):
        error = StorageError(f"{error.filename or 'storage'}: {error.strerror or error}")
    if getattr(error, "silent", False):
        wait_for_the_word()
    else:
        end_without_a_word()
        click.echo(printable(f"Error: {' '.join(str(error).split())}"), err=True)
    sys.exit(error.exit_code if isinstance(error, PhysgenError) else 1)


class Named(click.Group):
    """The commands of a verb, one for each registered name and for any ``package.module:Class``.

    Args:
        verb: the function.
        kind: what its first argument names.
        more: classes or functions whose options its commands take, given a name.
        listed: whether a name is one of those that the verb takes.
    """

    def __init__(
        self,
        verb: Callable[..., Product],
        kind: Kind,
        more: Callable[[str], list[Any]],
        listed: Callable[[str], bool] = lambda name: True,
    ) -> None:
        text = summary(verb)
        super().__init__(
            verb.__name__.removesuffix("_"),
            help=text,
            short_help=text.partition("\n")[0],
            epilog=f"\b\nExample:\n  {example(verb)}",
            subcommand_metavar=f"{kind[:-1].upper()} [OPTIONS]",
        )
        self.verb, self.kind, self.more, self.listed = verb, kind, more, listed

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The registered names."""
        return sorted(filter(self.listed, targets(self.kind)))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name."""
        first = next(iter(inspect.signature(self.verb).parameters))
        try:
            more = self.more(cmd_name)
            return command(self.verb, cmd_name, {first: cmd_name}, *more)
        except (PhysgenError, TypeError) as error:
            fail(error)


class Simulators(Named):
    """The commands of `simulate`; options alone mean that of an external program."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the program's command before options that come first."""
        first = args[0] if args else ""
        if first.startswith("-") and first not in ctx.help_option_names:
            args = ["command", *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The registered names, and that of an external program."""
        return sorted(["command", *super().list_commands(ctx)])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name."""
        return super().get_command(ctx, COMMAND if cmd_name == "command" else cmd_name)


class Families(Named):
    """The commands of `fit`: a family, or the best of all."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The registered names, and auto."""
        return sorted(["auto", *super().list_commands(ctx)])


def of_simulator(name: str) -> list[Any]:
    """The class whose options `simulate` takes."""
    return [find("simulators", name)]


def of_family(name: str) -> list[Any]:
    """The classes whose options `fit` takes."""
    from physgen.training import Training
    from physgen.verbs.auto import AutoConfig

    return [Training, AutoConfig if name == "auto" else find("surrogates", name).Config]


def of_format(name: str) -> list[Any]:
    """The function whose options `import` takes."""
    from physgen.formats import IMPORTS, room

    return [room("import", name, IMPORTS).open_foreign]


def can_be_imported(name: str) -> bool:
    """Whether `import` takes a format."""
    from physgen.formats import IMPORTS, offers

    return offers(name, IMPORTS)


def command_of_verb(name: str) -> click.Command:
    """The command of a verb, or the group of its commands."""
    verb = getattr(physgen, f"{name}_" if name == "import" else name)
    if name == "simulate":
        return Simulators(verb, "simulators", of_simulator)
    if name == "fit":
        return Families(verb, "surrogates", of_family)
    if name == "import":
        return Named(verb, "formats", of_format, can_be_imported)
    return command(verb, name)
