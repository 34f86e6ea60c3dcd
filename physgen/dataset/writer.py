"""Writing a dataset: shards in any order by any number of processes, then one file.

Each shard is a pure function of the configuration and its number. It is drawn, checked and
compressed where it is made, and stored as a file of its own; the compressed chunks are then copied
unread into the one file, in order. So the bytes of a dataset do not depend on the number of
processes, on their order, or on how often they were killed. Shards are not forced to the disk one
by one; when a job is taken up again they are read and compared with their digests instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from physgen.dataset.array_job import ArrayJob
from physgen.dataset.files import (
    file_digest,
    publish,
    storage,
    sync,
)
from physgen.dataset.guard import HDF5_ERRORS, unguarded
from physgen.dataset.image import Output, chunked, failed_arrays, failed_in, image, label
from physgen.dataset.job import Job, Shard, shards
from physgen.dataset.schema import (
    SCHEMA,
    Failed,
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
from physgen.registry import of_script
from physgen.runtime.engine import Engine
from physgen.runtime.interrupt import Stop, interruptible
from simulators.base import Array

__all__ = ["Written", "gather", "write", "write_part"]

Make = Callable[[Shard], Rows]


@dataclass(frozen=True)
class Written:
    """A dataset that has been written.

    Attributes:
        path: the file.
        rows: rows in it: fewer than were asked for, where some failed and were left out.
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
    engine: Engine | None = None,
    notes: Mapping[str, Any] | None = None,
    force: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Written:
    """Write a dataset of `n` rows; called again after an interruption, finish it.

    Args:
        path: the file to write.
        n: number of rows.
        meta: the law they follow, who draws them, the seed.
        make: the rows of a shard, θ included: pure in the shard, and picklable for workers.
        shard_rows: rows in a shard; by default about 1 MiB of x.
        engine: where shards are made, here if None; the bytes do not depend on it.
        notes: what else the file's provenance is to say; the rows do not depend on it.
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
    require_positive(rows=n, shard_rows=shard_rows)
    job = Job(Path(path), n, min(n, shard_rows or chunk_rows(meta.law)), meta, notes or {})
    with job.locked():
        record = job.begin(force)
        task = ShardImage(make, meta.law, str(job.path), job.shard_rows)
        with interruptible(str(path)) as stop:
            resumed = sum(task.resume(job, k, stop) for k in job.finished())
            make_missing(job, task, engine or Engine(), stop, progress)
            written = assembled(job, record, stop)
        job.discard()
    return Written(job.path, *written, time.perf_counter() - begun, resumed)


def write_part(
    path: str | Path,
    n: int,
    meta: Meta,
    make: Make,
    part: tuple[int, int],
    *,
    shard_rows: int | None = None,
    engine: Engine | None = None,
    notes: Mapping[str, Any] | None = None,
    force: bool = False,
    progress: Callable[[int], None] | None = None,
) -> ArrayJob:
    """Make one part of what `write` would write, and keep it for that; arguments as there.

    Args:
        path: the file that will be written.
        n: number of rows of the whole.
        meta: the law they follow, who draws them, the seed.
        make: the rows of a shard.
        part: which part of how many, (i, n).
        shard_rows: rows in a shard.
        engine: where shards are made, here if None.
        notes: what else the file's provenance is to say.
        force: whether to overwrite the file if it exists, and to discard the unfinished rows of
            another configuration.
        progress: called with the number of finished rows of this part.

    Returns:
        The job: what of it is finished now.

    Raises:
        DataError: rows that cannot follow the law; what others have made is kept.
        Interrupted: SIGINT or SIGTERM; what is finished is kept.
        StorageError: the file system refused; what is finished is kept.
        UsageError: the output exists, is being written, or was begun with another configuration.
    """
    require_positive(rows=n, shard_rows=shard_rows)
    size = min(n, shard_rows or chunk_rows(meta.law))
    job = ArrayJob(Path(path), n, size, meta, notes or {}, part)
    others = n - job.part_rows
    move = None if progress is None else lambda done: progress(done - others)
    with job.held(force), interruptible(str(path)) as stop:
        task = ShardImage(make, meta.law, str(path), size)
        for number in set(job.numbers).intersection(job.finished()):
            task.resume(job, number, stop)
        make_missing(job, task, engine or Engine(), stop, move)
    return job


def require_positive(**given: int | None) -> None:
    """Refuse sizes below 1; None is one that is not given."""
    for name, value in given.items():
        if value is not None and value < 1:
            raise UsageError(f"{name}: expected at least 1, got {value}")


def gather(
    n: int,
    meta: Meta,
    make: Make,
    *,
    shard_rows: int | None = None,
    engine: Engine | None = None,
    notes: Mapping[str, Any] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Rows:
    """The rows that `write` would write, in memory; arguments and errors as there."""
    every = shards(n, min(n, shard_rows or chunk_rows(meta.law)), meta.seed)
    name, task, parts, done = str(meta.source.get("name", "rows")), Checked(make, meta.law), {}, 0
    with interruptible(name, "nothing was kept") as stop:
        for i, made in each_shard(engine or Engine(), task, every, stop):
            parts[i], done = made, done + len(every[i])
            if progress:
                progress(done)
    rows = joined([parts[i] for i in range(len(every))])
    refuse_empty(len(rows), rows.failed, name)
    return replace(rows, meta=completed(meta, notes or {}, len(rows), rows.failed))


def completed(meta: Meta, notes: Mapping[str, Any], rows: int, failed: Failed | None) -> Meta:
    """The metadata of a dataset that is done: with what was noted, and what has failed."""
    told = failed.to_json(rows) if failed else meta.failed
    return replace(meta, provenance={**meta.provenance, **notes}, failed=told)


def refuse_empty(rows: int, failed: Failed | None, where: str) -> None:
    """Refuse a dataset all of whose rows have failed."""
    if failed and not rows:
        raise DataError(f"{where}: all {len(failed)} rows failed: {failed.messages[0]}")


def checked_shard(rows: Rows, shard: Shard, law: Law, where: str) -> Rows:
    """The rows of a shard as a file stores them, refused if they are others than they must be."""
    left_out = len(rows.failed or ())
    if len(shard) not in (len(rows), len(rows) + left_out) or rows.theta is None:
        raise DataError(
            f"{where}: shard {shard.number}: expected {len(shard)} rows with theta, got "
            f"{len(rows)} {'without theta' if rows.theta is None else 'rows'}"
        )
    return validated(rows, law, where, shard.start)


def each_shard(
    engine: Engine, task: Checked, shards: list[Shard], stop: Stop
) -> Iterator[tuple[int, Any]]:
    """(position, what a task makes) of each of some shards, as they are made."""
    script = of_script("simulators", task.law.simulator)
    about: dict[str, Any] = {"where": stop.where, "noun": "shard", "hint": stop.hint}
    return engine.each(task, shards, stop.check, script=script, **about)


def make_missing(
    job: Job, task: ShardImage, engine: Engine, stop: Stop, progress: Callable[[int], None] | None
) -> None:
    """Make the shards that are missing, and store them in the work folder."""
    missing = [job.shard(k) for k in job.missing()]
    done = job.rows - sum(map(len, missing))
    if progress and done:
        progress(done)
    for i, data in each_shard(engine, task, missing, stop):
        job.store(missing[i].number, data)
        done += len(missing[i])
        if progress:
            progress(done)


@dataclass(frozen=True)
class Checked:
    """Makes a shard as a file would store it; what a worker runs.

    Attributes:
        make: the rows of a shard.
        law: what they follow.
        where: what is made, for messages.
    """

    make: Make
    law: Law
    where: str = "x"

    def __call__(self, shard: Shard) -> Any:
        """The rows of a shard."""
        return checked_shard(self.make(shard), shard, self.law, self.where)


@dataclass(frozen=True)
class ShardImage(Checked):
    """Makes a shard as the bytes of its file, which only this process writes.

    Attributes:
        shard_rows: rows of a whole shard.
    """

    shard_rows: int = 1

    def __call__(self, shard: Shard) -> bytes:
        """The HDF5 image of a shard."""
        rows: Rows = super().__call__(shard)
        return image(rows.arrays(), self.shard_rows, rows.failed)

    def resume(self, job: Job, number: int, stop: Stop) -> int:
        """Rows of a shard that an earlier start has stored; a damaged one is removed.

        So is one with rows that failed, of which now something else is to be made.
        """
        stop.check()
        path, shard = job.shard_file(number), job.shard(number)
        try:
            with unguarded(path) as shard_file:
                failed = failed_in(shard_file)
                extra = failed_arrays(failed) if failed else {}
                digest = block_digest({**good_rows(shard_file), **extra})
                as_asked = not failed or failed.on_error == getattr(self.make, "on_error", "")
                if as_asked and digest == bytes(shard_file.attrs["digest"]).decode():
                    return len(shard)
        except HDF5_ERRORS:  # cut short when the power failed
            pass
        path.unlink()
        return 0


def names(file: h5py.File) -> list[str]:
    """Names of a shard's arrays, in the file's order."""
    return ["theta", "x", *(f"aux/{name}" for name in file.get("aux", ()))]


def good_rows(file: h5py.File) -> dict[str, Array]:
    """Name → values (n, …) of the rows in the file of a shard."""
    return {n: file[n][: int(file.attrs["rows"])] for n in names(file)}


def assembled(job: Job, record: Mapping[str, Any], stop: Stop) -> tuple[int, int, str, str]:
    """Copy the finished shards into the output and give it its name.

    Returns:
        Rows, bytes, SHA-256 of them, SHA-256 of the content.
    """
    temporary = job.folder / "merged"
    with storage(job.path):
        temporary.unlink(missing_ok=True)
        with Output(temporary, "x+") as output:
            with h5py.File(output, "w") as file:
                rows, failed = outcome(job)
                if failed:
                    digests = repack(job, rows, failed, file, output, stop)
                else:
                    digests = [copy(job, k, file, output, stop) for k in range(len(job))]
                meta = completed(job.meta, record["notes"], rows, failed)
                meta_json = dumps(meta.to_json())
                content = content_digest(meta_json, digests)
                label(file, SCHEMA, meta_json, record["created"], content)
                file.attrs["n_rows"] = rows
                if job.meta.seed is not None:
                    file.attrs["seed"] = np.bytes_(str(job.meta.seed).encode())
            output.check()
            sync(output)
        size, digest = temporary.stat().st_size, file_digest(temporary)
        publish(temporary, job.path, digest)
    return rows, size, digest, content


def outcome(job: Job) -> tuple[int, Failed | None]:
    """Number of rows in all shards, and the draws for which the simulator gave no x.

    Raises:
        DataError: no row is left.
    """
    rows, parts = 0, []
    for number in range(len(job)):
        with unguarded(job.shard_file(number)) as shard_file:
            rows += int(shard_file.attrs["rows"])
            parts.append(failed_in(shard_file))
    failed = Failed.joined(parts)
    refuse_empty(rows, failed, str(job.path))
    return rows, failed


def repack(
    job: Job, total: int, failed: Failed, file: h5py.File, output: Output, stop: Stop
) -> list[str]:
    """Write the rows of all shards in full chunks, and what failed; return the blocks' digests."""
    step, done, digests = min(job.shard_rows, total), 0, []
    for block in blocks(job, step, stop):
        for name, values in block.items():
            if done == 0:
                chunked(file, name, (total, *values.shape[1:]), values.dtype, step)
            file[name][done : done + len(values)] = values
        done += len(block["x"])
        digests.append(block_digest(block))
        output.check()
    arrays, _ = failed.coded()
    for name, values in arrays.items():
        packed = {"compression": "gzip", "compression_opts": 1, "fletcher32": True}
        file.create_dataset(name, data=values, track_times=False, **packed)
    return [*digests, block_digest(arrays)]


def blocks(job: Job, step: int, stop: Stop) -> Iterator[dict[str, Array]]:
    """The rows (n, …) of all shards, so many at a time; fewer in the last block."""
    rest: dict[str, Array] = {}
    for number in range(len(job)):
        stop.check()
        with unguarded(job.shard_file(number)) as shard_file:
            fresh = good_rows(shard_file)
        rest = {n: np.concatenate([rest[n], fresh[n]]) if rest else fresh[n] for n in fresh}
        while len(rest["x"]) >= step:
            yield {n: values[:step] for n, values in rest.items()}
            rest = {n: values[step:] for n, values in rest.items()}
    if len(rest["x"]):
        yield rest


def copy(job: Job, number: int, file: h5py.File, output: Output, stop: Stop) -> str:
    """Copy the chunks of one shard, unread; return the digest of its rows."""
    stop.check()
    with unguarded(job.shard_file(number)) as shard_file:
        if number == 0:
            for n in names(shard_file):
                shape = (job.rows, *shard_file[n].shape[1:])
                chunked(file, n, shape, shard_file[n].dtype, job.shard_rows)
        if signature(shard_file) != signature(file):
            raise DataError(
                f"{job.path}: shard {number}: its arrays differ in name, type or shape from those "
                "of shard 0; make all alike"
            )
        for n in names(shard_file):
            at = (0,) * shard_file[n].ndim
            mask, chunk = shard_file[n].id.read_direct_chunk(at)
            file[n].id.write_direct_chunk((number * job.shard_rows, *at[1:]), chunk, mask)
        output.check()
        return bytes(shard_file.attrs["digest"]).decode()


def signature(file: h5py.File) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """Name → type and shape of a row, of each array."""
    return {n: (file[n].dtype, file[n].shape[1:]) for n in names(file)}
