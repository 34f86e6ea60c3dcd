"""Building HDF5 files where nothing can go wrong: in memory, or on an output that never fails.

When a write fails under it, HDF5 cannot close the file and ends the process. So a small file is
built in memory and written as bytes, and a large one is built on an `Output`, which keeps the
error for later and lets HDF5 believe that all is well. The time is stored nowhere but in
``created``, so that the same content gives the same bytes.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from physgen.dataset.files import beside, clear, file_digest, publish, storage, sync
from physgen.dataset.schema import Failed, block_digest
from simulators.base import Array

__all__ = ["Output", "chunked", "image", "label", "whole"]


def image(arrays: Mapping[str, Array], rows: int, failed: Failed | None = None) -> bytes:
    """The HDF5 file of one shard: each array (n, …) is one compressed chunk, zero-padded."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, values in arrays.items():
            data = chunked(file, name, (rows, *values.shape[1:]), values.dtype, rows)
            data[: len(values)] = values
        extra = failed_arrays(failed) if failed else {}
        for name, values in extra.items():
            file.create_dataset(name, data=values, track_times=False)
        file.attrs["rows"] = len(arrays["x"])
        file.attrs["digest"] = np.bytes_(block_digest({**arrays, **extra}).encode())
    return buffer.getvalue()


def failed_arrays(failed: Failed) -> dict[str, Array]:
    """Failed draws as arrays (F, …), their messages and what was done as JSON text (k,)."""
    arrays, texts = failed.coded()
    text = json.dumps([failed.on_error, texts]).encode()
    return arrays | {"failed/text": np.frombuffer(text, np.uint8)}


def failed_in(part: h5py.File) -> Failed | None:
    """The failed draws in the file of a shard."""
    if "failed" not in part:
        return None
    on_error, texts = json.loads(part["failed/text"][:].tobytes())
    return Failed.of(part["failed/theta"][:], part["failed/message"][:], texts, on_error)


def chunked(
    file: h5py.File,
    name: str,
    shape: tuple[int, ...],
    dtype: Any,
    rows: int,
    packed: bool = True,
) -> h5py.Dataset:
    """A new array in chunks of some rows: fletcher32 and, if packed, gzip 1, no shuffle."""
    return file.create_dataset(
        name,
        shape=shape,
        dtype=dtype,
        chunks=(rows, *shape[1:]),
        fletcher32=True,
        track_times=False,
        **({"compression": "gzip", "compression_opts": 1} if packed else {}),
    )


class Output(io.FileIO):
    """A file for HDF5 that never fails: it keeps the first error and drops what follows."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all of `data`, or note why not."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while rest and self.error is None:
                rest = rest[super().write(rest) or 0 :]
        except OSError as error:
            self.error = error
        return size

    def truncate(self, size: int | None = None) -> int:
        """Set the length, or note why not."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0

    def check(self) -> None:
        """Raise the error that was kept, if there is one."""
        if self.error is not None:
            raise self.error


@contextmanager
def whole(path: Path, sidecar: bool = True) -> Iterator[tuple[h5py.File, Output]]:
    """A large HDF5 file in the making: it has its name when the block has ended.

    Args:
        path: the file; replaced if it exists.
        sidecar: whether it has a checksum beside it.

    Yields:
        The file, and the output under it, to be checked after each chunk.

    Raises:
        StorageError: the file system refused; nothing is left of it.
    """
    with storage(path), beside(path) as temporary:
        clear(path)
        with Output(temporary, "x+") as output:
            with h5py.File(output, "w") as file:
                yield file, output
            output.check()
            sync(output)
        publish(temporary, path, file_digest(temporary) if sidecar else "")


def label(file: h5py.File, schema: str, meta_json: str, created: str, content: str) -> None:
    """Store what every physgen file says of itself."""
    text = meta_json.encode()
    kind = h5py.string_dtype("utf-8", len(text))
    file.create_dataset("meta/json", data=np.array(text, dtype=kind), track_times=False)
    for name, value in {"schema": schema, "created": created, "content_sha256": content}.items():
        file.attrs[name] = np.bytes_(value.encode())
    file.attrs["complete"] = 1
