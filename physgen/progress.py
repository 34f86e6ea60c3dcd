"""What long work says of itself while it runs: on stderr, and on a terminal only.

A line a stage goes to the logger ``physgen`` (shown by the command line, silent in a library); in
between a bar moves where stderr is a terminal.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

__all__ = ["bar", "log"]

log = logging.getLogger("physgen")


@contextmanager
def bar(length: float, label: str) -> Iterator[Callable[..., None]]:
    """A progress bar for the length of a block.

    Args:
        length: what `done` is when all is done.
        label: a few words before the bar.

    Yields:
        ``move(done, text="")``, to be called with how much is done and a few words after the bar.
    """
    hidden = not sys.stderr.isatty() or log.getEffectiveLevel() > logging.INFO
    with click.progressbar(
        length=1000,
        label=label,
        file=sys.stderr,
        hidden=hidden,
        item_show_func=lambda text: text,
    ) as shown:

        def move(done: float, text: str = "") -> None:
            shown.update(int(1000 * done / length) - shown.pos, text)

        yield move
