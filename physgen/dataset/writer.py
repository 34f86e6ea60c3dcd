"""Writing a dataset: shards in any order by any number of processes, then one file.

Each shard is a pure function of the configuration and its number. It is drawn, checked and
compressed where it is made, and stored as a file of its own; the compressed chunks are then copied
unread into the one file, in order. So the bytes of a dataset do not depend on the number of
processes, on their order, or on how often they were killed. Shards are not forced to the disk one
by one; when a job is taken up again they are read and compared with their digests instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np

from physgen.dataset.files import (
    file_digest,
    publish,
    storage,
    sync,
    write_bytes,
)
from physgen.dataset.guard import HDF5_ERRORS, unguarded
from physgen.dataset.image import Output, chunked, image, label
from physgen.dataset.job import Job, Shard, shards
from physgen.dataset.pool import run
from physgen.dataset.reader import read
from physgen.dataset.schema import (
    SCHEMA,
    Meta,
    Rows,
    block_digest,
    chunk_rows,
    content_digest,
    dumps,
    validated,
)
from physgen.dataset.stream import joined
from physgen.errors import DataError, UsageError
from physgen.law import Law
from physgen.runtime.interrupt import Stop, interruptible

__all__ = ["Written", "gather", "write"]

Make = Callable[[Shard], Rows]


@dataclass(frozen=True)
class Written:
    """A dataset that has been written.

    Attributes:
        path: the file.
        rows: rows in it.
        bytes: its size.
        sha256: SHA-256 of its bytes, as in the sidecar.
        content_sha256: SHA-256 of its metadata and values.
        seconds: time it took, this time.
        resumed: rows that were there from an earlier start.
    """

    path: Path
    rows: int
    bytes: int
    sha256: str
    content_sha256: str
    seconds: float
    resumed: int = 0


def write(
    path: str | Path,
    n: int,
    meta: Meta,
    make: Make,
    *,
    shard_rows: int | None = None,
    workers: int = 1,
    force: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Written:
    """Write a dataset of `n` rows; called again after an interruption, finish it.

    Args:
        path: the file to write.
        n: number of rows.
        meta: the law they follow, who draws them, the seed.
        make: the rows of a shard, θ included: pure in the shard, and picklable for `workers` > 1.
        shard_rows: rows in a shard; by default about 1 MiB of x.
        workers: number of processes; the bytes do not depend on it.
        force: whether to overwrite the file if it exists, and to discard the unfinished rows of
            another configuration.
        progress: called with the number of finished rows whenever it grows.

    Raises:
        DataError: rows that cannot follow the law.
        Interrupted: SIGINT or SIGTERM; what is finished is kept.
        StorageError: the file system refused; what is finished is kept.
        UsageError: the output exists, is being written, or was begun with another configuration.
    """
    begun = time.perf_counter()
    for name, value in (
        ("rows", n),
        ("shard_rows", 1 if shard_rows is None else shard_rows),
        ("workers", workers),
    ):
        if value < 1:
            raise UsageError(f"{name}: expected at least 1, got {value}")
    job = Job(Path(path), n, min(n, shard_rows or chunk_rows(meta.law)), meta)
    with job.locked():
        created = job.begin(force)
        part = Part(job, make)
        with interruptible(str(path)) as stop:
            resumed = sum(part.resume(k, stop) for k in job.finished())
            run(part, job, workers, stop, progress)
            written = merge(job, created, stop)
        job.discard()
    return Written(job.path, n, *written, time.perf_counter() - begun, resumed)


def gather(
    n: int,
    meta: Meta,
    make: Make,
    *,
    shard_rows: int | None = None,
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> Rows:
    """The rows that `write` would write, in memory; arguments and errors as there."""
    if workers > 1:
        with TemporaryDirectory(prefix="physgen-") as folder:
            path = Path(folder) / "rows.h5"
            write(path, n, meta, make, shard_rows=shard_rows, workers=workers, progress=progress)
            return read(path)
    parts = []
    with interruptible(str(meta.source.get("name", "rows")), "nothing was kept") as stop:
        for shard in shards(n, min(n, shard_rows or chunk_rows(meta.law)), meta.seed):
            stop.check()
            parts.append(checked_shard(make(shard), shard, meta.law, "x"))
            if progress:
                progress(shard.stop)
    return replace(joined(parts), meta=meta)


def checked_shard(rows: Rows, shard: Shard, law: Law, where: str) -> Rows:
    """The rows of a shard as a file stores them, refused if they are others than they must be."""
    if len(rows) != len(shard) or rows.theta is None:
        raise DataError(
            f"{where}: shard {shard.number}: expected {len(shard)} rows with theta, got "
            f"{len(rows)} {'without theta' if rows.theta is None else 'rows'}"
        )
    return validated(rows, law, where, shard.start)


@dataclass(frozen=True)
class Part:
    """Makes shards and stores them: what a worker runs."""

    job: Job
    make: Make

    def __call__(self, number: int) -> None:
        """Make one shard and store it in the work folder."""
        job, shard = self.job, self.job.shard(number)
        arrays = checked_shard(self.make(shard), shard, job.meta.law, str(job.path)).arrays()
        write_bytes(job.part(number), image(arrays, job.shard_rows), sidecar=False, durable=False)

    def resume(self, number: int, stop: Stop) -> int:
        """Rows of a shard that an earlier start has stored; a damaged one is removed."""
        stop.check()
        file, shard = self.job.part(number), self.job.shard(number)
        try:
            with unguarded(file) as part:
                digest = block_digest({n: part[n][: len(shard)] for n in names(part)})
                if digest == bytes(part.attrs["digest"]).decode():
                    return len(shard)
        except HDF5_ERRORS:  # cut short when the power failed
            pass
        file.unlink()
        return 0


def names(part: h5py.File) -> list[str]:
    """Names of a shard's arrays, in the file's order."""
    return ["theta", "x", *(f"aux/{name}" for name in part.get("aux", ()))]


def merge(job: Job, created: str, stop: Stop) -> tuple[int, str, str]:
    """Copy the finished shards into the output and give it its name.

    Returns:
        Bytes, SHA-256 of them, SHA-256 of the content.
    """
    temporary = job.folder / "merged"
    with storage(job.path):
        temporary.unlink(missing_ok=True)
        with Output(temporary, "x+") as output:
            with h5py.File(output, "w") as file:
                digests = [copy(job, k, file, output, stop) for k in range(len(job))]
                meta_json = dumps(job.meta.to_json())
                content = content_digest(meta_json, digests)
                label(file, SCHEMA, meta_json, created, content)
                file.attrs["n_rows"] = job.rows
                if job.meta.seed is not None:
                    file.attrs["seed"] = np.bytes_(str(job.meta.seed).encode())
            output.check()
            sync(output)
        size, digest = temporary.stat().st_size, file_digest(temporary)
        publish(temporary, job.path, digest)
    return size, digest, content


def copy(job: Job, number: int, file: h5py.File, output: Output, stop: Stop) -> str:
    """Copy the chunks of one shard, unread; return the digest of its rows."""
    stop.check()
    with unguarded(job.part(number)) as part:
        if number == 0:
            for n in names(part):
                shape = (job.rows, *part[n].shape[1:])
                chunked(file, n, shape, part[n].dtype, job.shard_rows)
        if signature(part) != signature(file):
            raise DataError(
                f"{job.path}: shard {number}: its arrays differ in name, type or shape from those "
                "of shard 0; make all alike"
            )
        for n in names(part):
            at = (0,) * part[n].ndim
            mask, chunk = part[n].id.read_direct_chunk(at)
            file[n].id.write_direct_chunk((number * job.shard_rows, *at[1:]), chunk, mask)
        output.check()
        return bytes(part.attrs["digest"]).decode()


def signature(file: h5py.File) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """Name → type and shape of a row, of each array."""
    return {n: (file[n].dtype, file[n].shape[1:]) for n in names(file)}
