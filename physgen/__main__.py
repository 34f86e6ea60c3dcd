"""``python -m physgen``, and the command ``physgen``: signals are answered from the very start."""

import atexit
import gc
import signal

from physgen.runtime.interrupt import SIGNALS, end


def start() -> None:
    """Run the command line; a signal while it is still being imported ends it with one line."""
    for signum in SIGNALS:
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, end)
    atexit.register(gc.freeze)  # else Python's last collection walks all of torch: 0.4 CPU s
    from physgen.cli import main as command

    command(prog_name="physgen")


if __name__ == "__main__":
    start()
