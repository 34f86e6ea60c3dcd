"""Ctrl-C and SIGTERM as a flag that is tested where stopping is safe.

A KeyboardInterrupt that is raised inside HDF5's callbacks is swallowed there, and one that is
raised in the middle of an optimiser step leaves half a state. So a loop that must end cleanly
runs in ``with interruptible(where) as stop`` and calls ``stop.check()`` between its steps. Batch
systems announce the end of a job by SIGTERM, hence both signals. A second signal ends the process
at once. Where nothing is lost by it, ``with stop.at_once():`` ends the work in its midst. A signal
that arrives after the last check stops the work on leaving the block, or is told
to the block around it: it is never lost.

Outside such blocks the command line answers by `end`, from its very start.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from physgen.errors import Interrupted

__all__ = ["SIGNALS", "Stop", "end", "end_without_a_word", "interruptible"]

RESUME = "rerun the same command to resume"
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether a signal has asked to stop.

    Attributes:
        where: what is being done, for the message.
        hint: how to go on, for the message.
        signum: the signal that arrived; None before.
        raises: whether a signal raises KeyboardInterrupt.
    """

    def __init__(self, where: str = "", hint: str = RESUME) -> None:
        self.where, self.hint = where, hint
        self.signum: int | None = None
        self.raises = False

    def handle(self, signum: int, frame: FrameType | None) -> None:
        """Note the signal; at the second one end the process."""
        if self.signum is not None:
            os._exit(128 + signum)
        self.signum = signum
        if self.raises:
            raise KeyboardInterrupt

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """End the work in its midst, if a signal arrives in this block or has arrived."""
        self.check()
        self.raises = True
        try:
            yield
        finally:
            self.raises = False

    def check(self) -> None:
        """Stop here if a signal has arrived.

        Raises:
            Interrupted: a signal has arrived.
        """
        if self.signum is not None:
            raise Interrupted(self.signum, self.where, self.hint)


@contextmanager
def interruptible(where: str = "", hint: str = RESUME) -> Iterator[Stop]:
    """Turn SIGINT and SIGTERM into a flag for the length of a block.

    Outside the main thread, where Python handles no signals, the flag is never set.

    Args:
        where: what is being done, for the message.
        hint: how to go on, for the message.

    Yields:
        The flag.

    Raises:
        Interrupted: a signal has arrived that no check has told of.
    """
    stop = Stop(where, hint)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {s: signal.signal(s, stop.handle) or signal.SIG_DFL for s in SIGNALS}
    try:
        yield stop
    except KeyboardInterrupt:  # whoever raised it, here or in a program, noted the signal before
        stop.check()
        raise
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    outer = before[signal.Signals(stop.signum)] if stop.signum else None
    if stop.signum and isinstance(getattr(outer, "__self__", None), Stop):
        signal.raise_signal(stop.signum)
    else:
        stop.check()


def end_without_a_word() -> None:
    """Let a signal end the process at once where `end` would answer: why it ends has been said."""
    for signum in SIGNALS:
        if signal.getsignal(signum) is end:
            signal.signal(signum, lambda signum, frame: os._exit(128 + signum))


def end(signum: int, frame: FrameType | None) -> NoReturn:
    """Say in one line that a signal ends the process, and end it; at once at a second signal.

    So it does at once where Python would drop the exception, as in a callback of a library.
    """
    end_without_a_word()
    error = Interrupted(signum, hint="rerun the same command")
    sys.unraisablehook = lambda dropped: os._exit(error.exit_code)
    os.write(2, f"Error: {error}\n".encode())
    raise SystemExit(error.exit_code)
