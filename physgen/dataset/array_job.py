"""One part of an array job: some shards of a dataset, made beside others on other machines.

Part i of n makes the shards k with k mod n = i − 1, into the work folder that all parts share, and
joins nothing; whoever writes the output later makes what is missing. The parts hold a lock each,
and the output's only while they begin. A part drops nothing of what others have made, whatever
happens to it.

Where a file system's locks do not reach other machines, the output may be finished, or begun anew,
while a part still runs: each shard that it stores is held against the job file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from physgen.dataset.files import storage
from physgen.dataset.job import Job
from physgen.errors import StorageError, UsageError
from physgen.runtime.kinds import excerpt

__all__ = ["ArrayJob", "array_part"]

BEGIN_WAIT = 60.0  # seconds, while other parts begin


def array_part(given: Sequence[int] | str) -> tuple[int, int]:
    """Which part of how many, (i, n) with 1 ≤ i ≤ n, of these or of text as in 2/4.

    Raises:
        UsageError: something else.
    """
    words = re.split(r"[/,]", given) if isinstance(given, str) else given
    try:
        i, n = (int(word) for word in words)
    except (TypeError, ValueError):
        i, n = 0, 0
    if not 1 <= i <= n:
        raise UsageError(f"part: expected I/N with 1 <= I <= N, as in 2/4, got {excerpt(given)}")
    return i, n


@dataclass(frozen=True)
class ArrayJob(Job):
    """A dataset of which one part is made here.

    Attributes:
        part: which part of how many, (i, n).
    """

    part: tuple[int, int] = (1, 1)

    @property
    def numbers(self) -> range:
        """Numbers of the shards of this part."""
        i, n = self.part
        return range(i - 1, len(self), n)

    @property
    def part_rows(self) -> int:
        """Number of rows of this part."""
        return sum(len(self.shard(k)) for k in self.numbers)

    def missing(self) -> list[int]:
        """Numbers of the shards of this part that are not finished."""
        return sorted(set(self.numbers).difference(self.finished()))

    def store(self, number: int, data: bytes) -> None:
        """Keep the file of a shard that is finished.

        Raises:
            UsageError: the job has ended, or is another one now.
        """
        self.require_same()
        try:
            super().store(number, data)
        except StorageError:
            self.require_same()
            raise
        self.require_same()

    def require_same(self) -> None:
        """Refuse to go on where the job has ended, or is another one now.

        Raises:
            UsageError: it has.
        """
        found = self.load()
        if not found or found["digest"] != self.digest:
            i, n = self.part
            raise UsageError(
                f"{self.path}: was finished or begun anew while part {i}/{n} ran; there is "
                "nothing left to do for it"
            )

    @contextmanager
    def held(self, force: bool) -> Iterator[None]:
        """Hold this part; the job is begun by the first one.

        Args:
            force: whether to discard the output and the unfinished rows of another configuration.

        Raises:
            UsageError: this part runs already, or others of another number of parts, or the
                output exists, or the folder holds shards of another configuration.
        """
        with self.lock(BEGIN_WAIT):
            try:
                self.refuse_running(but=self.part[1])
                self.refuse_finished(force)
                self.begin(force)
                lock = self.lock_part(*self.part)
            finally:
                self.leave_nothing()
            self.say_who("-{}-of-{}".format(*self.part))
        try:
            yield
        finally:
            lock.release()
            if self.folder.exists() and not self.file.exists():
                with self.lock(BEGIN_WAIT):
                    self.leave_nothing()

    def refuse_finished(self, force: bool) -> None:
        """Refuse a part of an output that is there, and whole.

        Raises:
            UsageError: it is.
        """
        if self.path.is_file() and not self.load() and not force:
            i, n = self.part
            raise UsageError(
                f"{self.path}: exists, so that there is nothing left to do for part {i}/{n}; for "
                "another dataset choose another output, or --force to overwrite it"
            )

    def leave_nothing(self) -> None:
        """Remove a folder of no job; the lock is held."""
        with storage(self.folder):
            if not self.file.exists():
                self.discard()
