"""What can go wrong, each with the exit code of the command line.

::

    PhysgenError            1   expected error: what, where, how to mend
    ├── UsageError          2   the call itself is wrong
    ├── DataError           3   a file or its values are invalid
    │   └── SimulatorFailed     a simulator gave no x for a row; what is finished is kept
    ├── TrainingDiverged    4   the loss is no longer a number; the last good checkpoint is kept
    ├── StorageError       74   the disk or the file system refused
    ├── RankLost           75   another process of a training is gone; start all again, resuming
    └── Interrupted       130   stopped by a signal (143 for SIGTERM); rerun to resume
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

__all__ = [
    "DataError",
    "Interrupted",
    "PhysgenError",
    "RankLost",
    "SimulatorFailed",
    "StorageError",
    "TrainingDiverged",
    "UsageError",
    "as_written",
]


class PhysgenError(Exception):
    """An expected error: one line that says what, where and how to mend it.

    Attributes:
        exit_code: of the command line.
        silent: whether another process has said it already.
    """

    exit_code: int = 1
    silent: bool = False


class UsageError(PhysgenError):
    """The call is wrong: an unknown name, an option out of range, an output that exists."""

    exit_code = 2


class DataError(PhysgenError):
    """A file, or a value in it, is not what it must be."""

    exit_code = 3


class SimulatorFailed(DataError):
    """A simulator raised, or gave a row that cannot be; finished rows are kept."""


class TrainingDiverged(PhysgenError):
    """The loss or a weight is NaN or infinite; the last good checkpoint is kept."""

    exit_code = 4


class StorageError(PhysgenError):
    """The disk is full, or the file system refused to read or write."""

    exit_code = 74


class RankLost(PhysgenError):
    """Another process of the same training has ended, or does not answer."""

    exit_code = 75


class Interrupted(PhysgenError):
    """Stopped by a signal; what is finished is kept, and the same command resumes."""

    signals: ClassVar[dict[int, str]] = {2: "SIGINT", 15: "SIGTERM"}

    def __init__(
        self, signum: int = 2, where: str = "", hint: str = "rerun the same command to resume"
    ) -> None:
        super().__init__(
            f"{where + ': ' if where else ''}interrupted by {self.signals.get(signum, signum)}; "
            f"{hint}"
        )
        self.exit_code = 128 + signum
        self.parts = signum, where, hint

    def __reduce__(self) -> tuple[type[Interrupted], tuple[int, str, str]]:
        """Of what it is made again in another process: not of its text."""
        return type(self), self.parts


@contextmanager
def as_written(path: Path | str, what: str = "is not as physgen wrote it") -> Iterator[None]:
    """Turn whatever a file's unexpected content breaks into a DataError with the path."""
    try:
        yield
    except PhysgenError as error:
        if isinstance(error, DataError) and str(path) not in str(error):
            raise DataError(f"{path}: {error}") from error
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise DataError(f"{path}: {what}: {reason}") from error
