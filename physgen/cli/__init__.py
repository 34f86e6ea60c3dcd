"""The command line: a command for each verb of the package (:mod:`physgen.cli.commands`).

A command is made when it is called, and with it what the verb needs is imported; the help of all
reads their docstrings alone.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

import click
from click.shell_completion import get_completion_class

import physgen
from physgen.runtime.terminal import printable

__all__ = ["main"]


@click.command(epilog='\b\nExample:\n  eval "$(physgen completion bash)"')
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes a shell complete names, for its start-up file."""
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click has all three
    click.echo(kind(main, {}, "physgen", "_PHYSGEN_COMPLETE").source())


class Commands(Mapping[str, click.Command]):
    """Name → command, made when it is asked for, so that nothing is imported before."""

    def __init__(self) -> None:
        self.made = {"completion": completion}

    def __iter__(self) -> Iterator[str]:
        return iter([verb.removesuffix("_") for verb in physgen.VERBS] + ["completion"])

    def __len__(self) -> int:
        return len(physgen.VERBS) + 1

    def __getitem__(self, name: str) -> click.Command:
        if name not in self.made:
            if name not in list(self):
                raise KeyError(name)
            from physgen.cli.commands import command_of_verb

            self.made[name] = command_of_verb(name)
        return self.made[name]


def short_help(name: str) -> str:
    """The first line of a verb's docstring, read without importing what the verb needs."""
    verb = f"{name}_" if name == "import" else name
    source = files("physgen.verbs").joinpath(f"{verb}.py").read_text("utf-8")
    found = re.search(rf'^def {verb}\(.*?"""(.*?)$', source, re.DOTALL | re.MULTILINE)
    return found[1] if found else ""


class Verbs(click.Group):
    """All verbs."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The verbs, with a line each."""
        names = [name for name in self.list_commands(ctx) if name != "completion"]
        lines = [(name, short_help(name)) for name in names]
        about = completion.get_short_help_str(formatter.width)
        with formatter.section("Commands"):
            formatter.write_dl(sorted([*lines, ("completion", about)]))

    def invoke(self, ctx: click.Context) -> Any:
        """Run one; what click objects to is shown as all else."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            from physgen.runtime.ranks import first_of_all, wait_for_the_word

            if not first_of_all():
                wait_for_the_word()
                sys.exit(error.exit_code)
            said = error.format_message()
            if isinstance(error, click.NoSuchOption) and (meant := by_initials(error)):
                said = f"No such option {error.option_name!r}. Did you mean {meant[0]!r}?"
                raise click.UsageError(said, error.ctx) from None
            if printable(said) == said:
                raise
            raise click.UsageError(printable(said), error.ctx) from None


def by_initials(error: click.NoSuchOption) -> list[str]:
    """The options whose words begin with the letters given: --learning-rate for --lr."""
    params = error.ctx.command.params if error.ctx else []
    flags = [flag for param in params for flag in param.opts if flag.startswith("--")]
    letters = error.option_name.lstrip("-")
    return [f for f in flags if "".join(word[:1] for word in f[2:].split("-")) == letters]


class Line(logging.Formatter):
    """A record as its message alone."""

    def format(self, record: logging.LogRecord) -> str:
        """The message, as a terminal may have it."""
        return printable(super().format(record))


@click.group(
    cls=Verbs,
    commands=Commands(),
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "PHYSGEN"},
)
@click.version_option(physgen.__version__, prog_name="physgen")
def main() -> None:
    """Simulation-based inference, scored against the exact answer.

    A simulator draws x from theta; a surrogate learns to; a posterior turns either around; a check
    asks whether it did so rightly.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(Line("%(message)s"))
    logging.getLogger("physgen").handlers = [handler]


main.epilog = "\b\nExample:\n  physgen demo -o demo/"
