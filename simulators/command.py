"""Any program as a simulator: θ go into its command line, x is read from what it writes.

The program is run once a row, without a shell. Each run has a session of its own, so that a
time-out or an interruption ends all that it has started, and a folder of its own for what it
writes. A run that ends with an exit code, is killed, takes too long or writes no x is a row that
has failed, with its reason; the other rows are kept.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import string
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen, TimeoutExpired
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any, Literal

import numpy as np

from simulators.base import Array, CannotRun, RowsFailed
from simulators.columns import Columns, SupportLike

__all__ = ["READERS", "Command", "sizes"]

OWN = ("seed", "out")
"""Names in braces that are no parameters."""
SEEDS = 2**31
SHELL = ("|", "||", "&", "&&", ";", "<", ">", ">>", "2>", "2>&1", "|&", "&>")
"""Words that a program would take for arguments of its own."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)

Choose = Callable[[Sequence[str]], str]
"""Names of the arrays in a file → that of x."""


def read_npy(path: Path, choose: Choose) -> Array:
    """The array of a .npy file, or the chosen one of an .npz file, (…)."""
    found = np.load(path, allow_pickle=False)
    if isinstance(found, np.ndarray):
        return found
    with found:
        return found[choose(found.files)]


READERS: dict[bytes, Callable[[Path, Choose], Array]] = {
    b"\x93NUMPY": read_npy,
    b"PK\x03\x04": read_npy,
}
"""First bytes of a file → what reads it; physgen adds HDF5. All else is read as text."""


@dataclass(frozen=True)
class Command:
    """A program that is run once a row, with theta in its command line.

    Each name in braces is a parameter, for which --prior gives a law or --fix a value. {seed} is
    a random integer below 2**31, and {out} a file to write x into: text, .npy, .npz or
    HDF5, by its content; an ending may follow, as in {out}.npy. Without {out} x is what the
    program prints. Text holds the numbers of x, separated by blanks, commas or line ends; #
    begins a comment. There is no shell: for a pipe write sh -c '... | ...', and {{ for a brace.

    Runs that fail, or take longer than --timeout, are failed rows: see --on-error.

    Attributes:
        command: the program and its arguments, as in './sim {a} {tau} {seed} {out}'.
        x_shape: shape of x, as in 40 or 16,16; that of the columns if these are told.
        array: name of the array that is x, where {out} is a file of several.
        timeout: seconds after which a run is ended; as long as it takes if not given.
        support: the values of x: reals, nonnegative, counts, spins (-1 or +1) or levels:K of 0 to
            K - 1; or of each column, as in hits=levels:10,energy=nonnegative or levels:2*5,reals.
        levels: K, where the support is levels: x is one of the integers 0 to K - 1.
        dtype: type in which reals are kept; told by the first rows if not given.
        axes: what each axis of x is, as in channel,open: channel (only first), open, periodic.

    Raises:
        ValueError: a command without parameters, or what is no shape or time.

    Example:
        physgen simulate --command './sim {a} {seed}' --prior a=0:1 --x-shape 40 -n 1000 -o sim.h5
    """

    command: str
    x_shape: str | int | tuple[int, ...] | None = None
    array: str | None = None
    timeout: float | None = None
    support: SupportLike = "reals"
    levels: int = 0
    dtype: Literal["float32", "float64"] | None = None
    axes: str | None = None

    shard_rows = 16

    def __post_init__(self) -> None:
        """Refuse a command that is none; make a tuple of the shape and text of the support."""
        columns = Columns.of(self.support)
        object.__setattr__(self, "support", columns.text)
        object.__setattr__(self, "x_shape", sizes(self.x_shape or columns.size or None))
        if self.timeout is not None and not self.timeout > 0:
            raise ValueError(f"timeout: expected seconds above 0, got {self.timeout}")
        if not self.theta_names:
            raise ValueError(
                f"command: expected a parameter in braces, as in {{a}}, got {self.command!r}"
            )

    @cached_property
    def words(self) -> list[str]:
        """The program and its arguments, with names in braces.

        Raises:
            ValueError: quotes that do not close, no program, or what a shell would do.
        """
        try:
            words = shlex.split(self.command)
        except ValueError as error:
            raise ValueError(f"command: {error}: {self.command!r}") from error
        if shell := [word for word in words if word in SHELL]:
            raise ValueError(
                f"command: {shell[0]} is of a shell, and there is none: write sh -c '...' around "
                "all of the command"
            )
        if not words:
            raise ValueError("command: expected a program and its arguments, got nothing")
        return words

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names in braces, in their order.

        Raises:
            ValueError: braces that do not close, or hold more than a name.
        """
        found: dict[str, None] = {}
        for word in self.words:
            try:
                parts = list(string.Formatter().parse(word))
            except ValueError as error:
                raise ValueError(f"command: {error} in {word!r}") from error
            for _, name, how, conversion in parts:
                if name is None:
                    continue
                if how or conversion or not name.isidentifier():
                    raise ValueError(
                        f"command: expected a name alone in braces, as in {{a}}, got {word!r}; "
                        "write {{ and }} for braces of the program's own"
                    )
                found[name] = None
        return tuple(found)

    @property
    def theta_names(self) -> tuple[str, ...]:
        """The parameters: all names in braces but seed and out."""
        return tuple(name for name in self.names if name not in OWN)

    def sample(self, theta: Array, rng: np.random.Generator) -> Array:
        """One run for each row of θ, (n, D) → (n, *x_shape).

        Raises:
            CannotRun: the program cannot be started.
            KeyboardInterrupt: a signal has ended a run.
            RowsFailed: some runs have failed.
        """
        seeds = rng.integers(SEEDS, size=len(theta)).tolist()
        x, failed = np.zeros((len(theta), *sizes(self.x_shape))), {}
        with Runs() as runs:
            for i, (row, seed) in enumerate(zip(theta.tolist(), seeds, strict=True)):
                values = dict(zip(self.theta_names, map(repr, row), strict=True))
                try:
                    x[i] = self.one(runs, values | {"seed": str(seed)})
                except RunFailed as error:
                    failed[i] = str(error)
                if runs.signum:
                    break
        if failed:
            raise RowsFailed(x, failed)
        return x

    def one(self, runs: Runs, values: Mapping[str, str]) -> Array:
        """X of one run, (*x_shape).

        Raises:
            RunFailed: it has failed, or what it wrote is not x.
        """
        if "out" not in self.names:
            return self.of_text(runs.run(self.filled(values), self.timeout))
        with TemporaryDirectory(prefix="physgen-", ignore_cleanup_errors=True) as folder:
            out = Path(folder) / "out"
            words = self.filled({**values, "out": str(out)})
            runs.run(words, self.timeout, printed=False)
            return self.of_file(written(out))

    def filled(self, values: Mapping[str, str]) -> list[str]:
        """The program and its arguments, with values for the names."""
        return [word.format(**values) for word in self.words]

    def of_file(self, path: Path) -> Array:
        """X of a file that the program wrote, (*x_shape)."""
        with path.open("rb") as file:
            head = file.read(8)
        reader = next((READERS[mark] for mark in READERS if head.startswith(mark)), None)
        if reader is None:
            return self.of_text(path.read_bytes())
        try:
            found = reader(path, self.chosen)
        except RunFailed:
            raise
        except Exception as error:  # whatever a damaged file breaks
            reason = str(error).replace(str(path), "{out}")
            raise RunFailed(f"cannot read {{out}}: {reason}") from error
        if found.dtype.kind not in "biuf":
            raise RunFailed(f"expected real numbers in {{out}}, got {found.dtype}")
        shape, size = sizes(self.x_shape), int(np.prod(sizes(self.x_shape)))
        if found.shape not in (shape, (1, *shape), (size,)):
            raise RunFailed(f"expected x of shape {shape}, got {found.shape}")
        return found.reshape(shape)

    def chosen(self, names: Sequence[str]) -> str:
        """Which of the arrays in a file is x."""
        if self.array or len(names) == 1:
            return self.array or names[0]
        raise RunFailed(f"name one array of {{out}}, which holds {', '.join(names[:9])}")

    def of_text(self, text: bytes) -> Array:
        """X of text, (*x_shape)."""
        words = re.sub(r"#[^\r\n]*", "", text.decode(errors="replace")).replace(",", " ").split()
        shape = sizes(self.x_shape)
        try:
            values = np.array([number(word) for word in words])
        except ValueError as error:
            raise RunFailed(f"expected numbers: {error}") from error
        if len(values) != np.prod(shape):
            raise RunFailed(f"expected {np.prod(shape)} numbers, got {len(values)}")
        return values.reshape(shape)


class RunFailed(Exception):
    """Why a run has given no x."""


class Runs:
    """Runs of programs, one at a time: SIGINT and SIGTERM end the one that runs, then the rest.

    Attributes:
        signum: the signal that has arrived; None before.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self.process: Popen[bytes] | None = None
        self.before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Runs:
        if threading.current_thread() is threading.main_thread():
            found = {s: signal.signal(s, self.handle) for s in SIGNALS}
            self.before = {s: h or signal.SIG_DFL for s, h in found.items()}
        return self

    def __exit__(self, *raised: object) -> None:
        for signum, handler in self.before.items():
            signal.signal(signum, handler)
        if self.signum:  # now to whom it was meant for
            try:
                signal.raise_signal(self.signum)
            finally:
                raise KeyboardInterrupt

    def handle(self, signum: int, frame: FrameType | None) -> None:
        """Note a signal, and end the program that runs."""
        self.signum = signum
        self.kill()

    def kill(self) -> None:
        """End the program that runs, and all that it has started."""
        if self.process and self.process.returncode is None:
            with suppress(ProcessLookupError):  # it has just ended
                os.killpg(self.process.pid, signal.SIGKILL)

    def run(self, words: Sequence[str], timeout: float | None, printed: bool = True) -> bytes:
        """What a program prints; nothing if that is not asked for.

        Raises:
            CannotRun: it cannot be started.
            RunFailed: it ends with an exit code or by a signal, or takes too long.
        """
        try:
            self.process = process = Popen(
                words, stdin=DEVNULL, stdout=PIPE if printed else DEVNULL, stderr=PIPE,
                start_new_session=True,
            )  # fmt: skip
        except (OSError, ValueError) as error:
            raise CannotRun(cannot_run(words[0], error)) from error
        with process:
            try:
                if self.signum:  # it came while the program was started
                    self.kill()
                out, err = process.communicate(timeout=timeout)
            except TimeoutExpired:
                self.kill()
                raise RunFailed(f"took longer than {timeout:g} s") from None
            except BaseException:
                self.kill()
                raise
        if process.returncode:
            raise RunFailed(ended(process.returncode, err))
        return out or b""


def cannot_run(program: str, error: Exception) -> str:
    """Why a program cannot be started, and what to write instead."""
    reason = getattr(error, "strerror", None) or error
    here = "/" not in program and Path(program).is_file()
    if here:
        return f"command: {program}: {reason}; of a program in this folder, write ./{program}"
    return (
        f"command: {program}: {reason}; expected a program, by its path or on PATH, that may be "
        "executed (there is no shell; sh -c '...' starts one)"
    )


def ended(code: int, err: bytes) -> str:
    """How a run ended that did not end well, with the last line of what it complained of."""
    lines = err.decode(errors="replace").strip().splitlines()
    last = f": {lines[-1].strip()}" if lines else ""
    if code > 0:
        return f"exit code {code}{last}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"killed by {name}{last}"


def number(word: str) -> float:
    """The number that a word is; one with underscores, which Python would read, is none.

    Raises:
        ValueError: it is no number.
    """
    return float(word.replace("_", "?"))


def written(out: Path) -> Path:
    """The file that a program has written, whatever the ending that it gave to its name.

    Raises:
        RunFailed: none, or several.
    """
    found = sorted(p for p in out.parent.iterdir() if p.name.startswith(out.name) and p.is_file())
    if out in found:
        return out
    if len(found) != 1:
        names = ", ".join("{out}" + p.name.removeprefix(out.name) for p in found)
        raise RunFailed(f"wrote several files, {names}" if found else "wrote no file {out}")
    return found[0]


def sizes(shape: Any) -> tuple[int, ...]:
    """A shape as a tuple, of a number, several, or text such as 16,16.

    Raises:
        ValueError: something else.
    """
    several = shape.split(",") if isinstance(shape, str) else shape
    try:
        found = tuple(int(n) for n in several) if np.iterable(several) else (int(several),)
    except (TypeError, ValueError):
        found = ()
    if not found or min(found) < 1:
        raise ValueError(f"x_shape: expected positive sizes, as in 40 or 16,16, got {shape!r}")
    return found
