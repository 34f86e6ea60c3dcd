"""What long work says of itself while it runs: on stderr, on a terminal or in a notebook.

A line a stage goes to the logger ``physgen`` (shown by the command line, silent in a library); in
between a bar moves where somebody looks at stderr, and elsewhere, as in a file, such a line comes
every half minute.
"""

from __future__ import annotations

import importlib
import logging
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO, cast

import click

from physgen.runtime.terminal import printable

__all__ = ["bar", "log"]

log = logging.getLogger("physgen")
EVERY = 30.0
"""Seconds between two lines where no bar can move."""
CODES = re.compile(r"\x1b\[[?\d;]*[a-zA-Z]")
"""What moves a terminal's cursor and colours its text, which a notebook would print."""


class Notebook:
    """A line of a notebook that is written over, as a terminal's is."""

    def __init__(self) -> None:
        self.shown = importlib.import_module("IPython.display")
        self.line = ""
        self.handle = self.shown.display(self.shown.Pretty(""), display_id=True)

    def write(self, text: str) -> int:
        """Write text without a terminal's codes; a carriage return begins the line again."""
        plain = CODES.sub("", text)
        self.line = plain.rpartition("\r")[2] if "\r" in plain else self.line + plain
        return len(text)

    def flush(self) -> None:
        """Show the line."""
        self.handle.update(self.shown.Pretty(self.line.rstrip()))

    def isatty(self) -> bool:
        """It moves, so a bar may."""
        return True


@contextmanager
def bar(length: float | None, label: str) -> Iterator[Callable[..., None]]:
    """A progress bar for the length of a block; lines every half minute where none can move.

    Args:
        length: what `done` is when all is done; None if that is not known: then only words move.
        label: a few words before the bar.

    Yields:
        ``move(done, text="")``, to be called with how much is done and a few words after the bar.
    """
    in_notebook = "ipykernel" in sys.modules
    if not (in_notebook or sys.stderr.isatty()):
        yield line_by_line(length, label)
        return
    quiet = log.level > logging.INFO
    template = "%(label)s  [%(bar)s]  %(info)s" if length else "%(label)s  %(info)s"
    with click.progressbar(
        length=1000,
        label=printable(label),
        file=cast(TextIO, Notebook()) if in_notebook and not quiet else sys.stderr,
        hidden=quiet,
        show_percent=bool(length),
        show_eta=bool(length),
        bar_template=template,
        item_show_func=lambda text: text,
    ) as line:

        def move(done: float, text: str = "") -> None:
            steps = int(1000 * done / length) - line.pos if length else 0
            line.update(steps, printable(text))
            if not steps:
                line.render_progress()

        yield move


def line_by_line(length: float | None, label: str) -> Callable[..., None]:
    """What tells the logger how much is done, every half minute: ``move(done, text="")``."""
    begun = told = time.monotonic()

    def move(done: float, text: str = "") -> None:
        nonlocal told
        now = time.monotonic()
        if now - told < EVERY or done == length:
            return
        told, part = now, done / length if length else 0
        words = [f"{part:.0%}, {(now - begun) * (1 / part - 1):.0f} s left"] if part else []
        log.info("%s: %s", label, ", ".join([*words, *([text] if text else [])]))

    return move
