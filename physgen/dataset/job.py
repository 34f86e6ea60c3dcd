"""The work folder of a dataset that is being written: ``.NAME.parts`` next to the output.

It holds the lock, the job's configuration with the time of the first start, and one HDF5 file for
each finished shard. Each shard appears by one rename, so what is listed is finished, whenever the
process died; the shard's rows depend on the configuration and its number alone, so what is missing
can be made by anyone later. The folder goes when the output is complete, its ``job.json`` first:
that is the moment from which the output counts as finished. A folder of this name that is a link,
or that holds what is not ours, is left alone.

The lock is the file system's, so that it ends with the process. Where there are none (NFS or
Lustre without them) it is a file instead, which says who holds it. The parts of an array job
(`physgen.dataset.array_job`) hold a lock each, and who finishes the output waits for all of them.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from physgen.dataset.files import (
    NO_LOCKS,
    read_bytes,
    refuse_overwriting,
    storage,
    write_bytes,
)
from physgen.dataset.schema import SCHEMA, Meta, dumps
from physgen.errors import DataError, SimulatorFailed, UsageError, as_written

__all__ = ["Job", "Shard", "created_now", "shards"]

LOCK = r"lock(?:-(\d+)-of-(\d+))?"
NAME = rf"(?:{LOCK}|soft-lock.*|holder(?:-\d+-of-\d+)?|merged|job\.json|\d{{8,}}\.h5)"
OURS = re.compile(rf"{NAME}|\.{NAME}\..+\.tmp")
"""Names of the files in a work folder, and of those that are being written."""
POLL = 0.2  # seconds, at most, between looks at a lock that is held


@dataclass(frozen=True)
class Shard:
    """Some consecutive rows of a dataset, made in one go.

    Attributes:
        number: 0, 1, 2, …
        start: its first row.
        stop: the row after its last.
        seed: its own random stream, a child of the dataset's seed.
    """

    number: int
    start: int
    stop: int
    seed: np.random.SeedSequence

    def __len__(self) -> int:
        return self.stop - self.start


def shards(rows: int, shard_rows: int, seed: int | None) -> list[Shard]:
    """A dataset's rows cut into shards, each with a child of its seed."""
    starts = range(0, rows, shard_rows)
    return [
        Shard(k, i, min(i + shard_rows, rows), np.random.SeedSequence(seed, spawn_key=(k,)))
        for k, i in enumerate(starts)
    ]


def created_now() -> str:
    """The time in UTC, or what SOURCE_DATE_EPOCH says it is."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    now = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    return now.isoformat(timespec="seconds")


@dataclass(frozen=True)
class Job:
    """A dataset to be written: what will be in it, and what is done.

    Attributes:
        path: the output.
        rows: number of rows.
        shard_rows: rows in a shard, and in a chunk of the file.
        meta: its metadata.
        notes: what else the file's provenance is to say; the rows do not depend on it.
    """

    path: Path
    rows: int
    shard_rows: int
    meta: Meta
    notes: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def config(self) -> dict[str, Any]:
        """All that the bytes of the rows depend on, as JSON data."""
        config = {"schema": SCHEMA, "rows": self.rows, "shard_rows": self.shard_rows}
        return json.loads(dumps(config | self.meta.to_json()))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the configuration."""
        return hashlib.sha256(dumps(self.config).encode()).hexdigest()

    @property
    def folder(self) -> Path:
        """The work folder."""
        return self.path.with_name(f".{self.path.name}.parts")

    @property
    def file(self) -> Path:
        """The configuration and the time of the first start."""
        return self.folder / "job.json"

    @cached_property
    def shards(self) -> list[Shard]:
        """All shards, in order."""
        return shards(self.rows, self.shard_rows, self.meta.seed)

    def shard(self, number: int) -> Shard:
        """One of the shards."""
        return self.shards[number]

    def __len__(self) -> int:
        """Number of shards."""
        return -(-self.rows // self.shard_rows)

    def shard_file(self, number: int) -> Path:
        """The file of a finished shard."""
        return self.folder / f"{number:08d}.h5"

    def store(self, number: int, data: bytes) -> None:
        """Keep the file of a shard that is finished."""
        write_bytes(self.shard_file(number), data, sidecar=False, durable=False)

    def finished(self) -> list[int]:
        """Numbers of the shards that are finished."""
        return sorted(int(p.stem) for p in self.folder.glob("[0-9]*.h5") if OURS.fullmatch(p.name))

    def missing(self) -> list[int]:
        """Numbers of the shards that are not finished."""
        return sorted(set(range(len(self))).difference(self.finished()))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the output alone; if its rows are invalid, drop those that are finished.

        Those of a simulator that failed are kept: it can be mended, or its failures be left out.

        Raises:
            DataError: the job file is damaged.
            UsageError: another process holds it, or the work folder is not ours.
        """
        with self.lock():
            self.refuse_running()
            self.say_who()
            try:
                yield
            except SimulatorFailed:
                raise
            except DataError:  # the same rows would be refused again
                self.discard()
                raise
            finally:
                if self.folder.exists() and not (self.file.exists() and self.finished()):
                    self.discard()

    @contextmanager
    def lock(self, wait: float = 0.0) -> Iterator[None]:
        """Hold the work folder, which is made if there is none.

        Args:
            wait: seconds for another process that holds it to end.

        Raises:
            DataError: the job file is damaged.
            UsageError: another process holds it, or it is not ours.
        """
        end = time.monotonic() + wait
        with storage(self.folder):
            while True:
                self.refuse_strangers()
                self.folder.mkdir(exist_ok=True)
                try:
                    lock = locked_in(self.folder)
                    break
                except (Timeout, FileNotFoundError) as error:  # held, or removed by who held it
                    if time.monotonic() > end:
                        raise self.held_by(error) from None
                time.sleep(random.uniform(0, POLL))
        try:
            yield
        finally:
            lock.release()

    def held_by(self, error: Exception, part: str = "") -> Exception:
        """That another process holds the output, or a part of it, in one line."""
        if not isinstance(error, Timeout):
            return error
        soft = self.folder / f"soft-lock{part}"
        dead = f" (if it has ended, remove {soft})" if soft.exists() else ""
        return UsageError(
            f"{self.path}: {self.holder(part)} is writing it{dead}; wait for it, or choose "
            "another output"
        )

    def holder(self, part: str = "") -> str:
        """Who holds the output, or a part of it, in words."""
        file = self.folder / f"holder{part}"
        who = file.read_text() if file.exists() else "another process"
        return f"part {part[1:].replace('-of-', '/')}, {who}," if part else who

    def say_who(self, part: str = "") -> None:
        """Note that this process holds the output, or a part of it."""
        who = f"process {os.getpid()} on {socket.gethostname()}".encode()
        write_bytes(self.folder / f"holder{part}", who, sidecar=False, durable=not part)

    def parts(self) -> set[tuple[int, int]]:
        """The parts of array jobs, (i, n), that there have been in the work folder."""
        names = (p.name.removeprefix("soft-") for p in self.folder.iterdir())
        found = (re.fullmatch(LOCK, name) for name in names)
        return {(int(m[1]), int(m[2])) for m in found if m and m[1]}

    def refuse_running(self, *, but: int = 0) -> None:
        """Refuse to go on while parts of an array job run, `but` of so many; hold the lock.

        Raises:
            UsageError: one runs.
        """
        with storage(self.folder):
            for i, n in sorted(self.parts()):
                if n != but:
                    self.lock_part(i, n).release()

    def lock_part(self, i: int, n: int) -> BaseFileLock:
        """Hold a part of an array job.

        Raises:
            UsageError: another process holds it.
        """
        try:
            return locked_in(self.folder, f"-{i}-of-{n}")
        except Timeout as error:
            raise self.held_by(error, f"-{i}-of-{n}") from None

    def begin(self, force: bool) -> dict[str, Any]:
        """Start the job, or take it up where it was left.

        Returns:
            What the job file says: ``created``, when it was started first, and the ``notes`` that
            were made then.

        Raises:
            UsageError: the output exists, or the folder holds shards of another configuration.
        """
        before = self.load()
        if before and before["digest"] == self.digest:
            return before
        refuse_overwriting(self.path, force)
        if before and not force and (self.finished() or self.parts()):
            raise UsageError(
                f"{self.path}: {self.folder.name} holds unfinished rows with other "
                f"{', '.join(self.differences(before['config']))}; rerun that command to finish "
                "them, or --force to discard them"
            )
        self.refuse_running()
        for number in self.finished():
            self.shard_file(number).unlink()
        job = {
            "created": created_now(),
            "digest": self.digest,
            "config": self.config,
            "notes": dict(self.notes),
        }
        write_bytes(self.file, dumps(job).encode(), sidecar=False)
        return job

    def refuse_strangers(self) -> None:
        """Refuse a work folder that is a link, no folder, or not ours; nothing of it is touched.

        Raises:
            DataError: its job file is damaged.
            UsageError: any of the others.
        """
        folder = self.folder
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise UsageError(f"{folder}: expected a folder of unfinished rows; move it away")
        for entry in sorted(folder.iterdir()) if folder.exists() else ():
            plain = entry.is_file() or not entry.exists()  # a writer's temporary has gone
            if not OURS.fullmatch(entry.name) or entry.is_symlink() or not plain:
                raise UsageError(
                    f"{folder}: holds {entry.name!r}, which is not of unfinished rows; move it "
                    "away, or choose another output"
                )
        self.load()

    def load(self) -> dict[str, Any] | None:
        """What the job file says; None where there is none.

        Raises:
            DataError: it is damaged.
        """
        if not self.file.exists():
            return None
        with as_written(self.file, "is damaged; remove its folder to begin again"):
            found = json.loads(read_bytes(self.file))
            return {
                "created": datetime.fromisoformat(found["created"]).isoformat(),
                "digest": str(found["digest"]),
                "config": dict(found["config"]),
                "notes": dict(found["notes"]),
            }

    def differences(self, other: dict[str, Any]) -> list[str]:
        """Names of the parts of the configuration that another one has otherwise."""
        return sorted(k for k in self.config | other if self.config.get(k) != other.get(k))

    def discard(self) -> None:
        """Remove what is ours, the job file first, and the folder if nothing else is in it."""
        with storage(self.folder):
            self.file.unlink(missing_ok=True)
            for entry in sorted(self.folder.iterdir()):
                if OURS.fullmatch(entry.name):
                    entry.unlink(missing_ok=True)
            if not any(self.folder.iterdir()):
                self.folder.rmdir()


def locked_in(folder: Path, part: str = "") -> BaseFileLock:
    """A lock on a folder or on a part, held: of the file system, or a file where it has none.

    Raises:
        Timeout: another process holds it.
    """
    lock: BaseFileLock = FileLock(folder / f"lock{part}", timeout=0)
    try:
        lock.acquire()
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        lock = SoftFileLock(folder / f"soft-lock{part}", timeout=0)
        lock.acquire()
    return lock
