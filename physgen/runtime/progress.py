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
def bar(length: float | None, label: str) -> Iterator[Callable[..., None]]:
    """A progress bar for the length of a block.

    Args:
        length: what `done` is when all is done; None if that is not known: then only words move.
        label: a few words before the bar.

    Yields:
        ``move(done, text="")``, to be called with how much is done and a few words after the bar.
    """
    hidden = not sys.stderr.isatty() or log.getEffectiveLevel() > logging.INFO
    template = "%(label)s  [%(bar)s]  %(info)s" if length else "%(label)s  %(info)s"
    with click.progressbar(
        length=1000,
        label=label,
        file=sys.stderr,
        hidden=hidden,
        show_percent=bool(length),
        show_eta=bool(length),
        bar_template=template,
        item_show_func=lambda text: text,
    ) as shown:

        def move(done: float, text: str = "") -> None:
            steps = int(1000 * done / length) - shown.pos if length else 0
            shown.update(steps, text)
            if not steps:
                shown.render_progress()

        yield move
