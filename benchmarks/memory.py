"""Memory and speed where data are larger than the memory: `python -m benchmarks.memory`.

Trainings on a file of 20 GB (sparse showers of 6,480 voxels, whose rows repeat, so that it takes
little room on a disk), steps a second streamed and in memory, and pages of large posteriors. Each
figure is of a process of its own: peak resident memory in GB, CPU seconds. Prints Markdown tables.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

VOXELS = (45, 16, 9)
UNIQUE, CHUNK = 256, 64  # rows of the file that differ; rows in one chunk


def showers(path: Path, rows: int) -> None:
    """A dataset of sparse x ≥ 0, 2 % of which are not 0, whose rows repeat."""
    import physgen
    from physgen.dataset import Meta, Rows, write
    from physgen.law import Law
    from simulators.prior import Box

    law = Law("elsewhere", Box(a=(0.0, 1.0)), VOXELS, support="nonnegative")

    def shard(part: physgen.dataset.Shard) -> Rows:
        rng = np.random.default_rng(part.seed)
        theta = rng.random((len(part), 1))
        energy = rng.exponential(1 + theta[..., None, None], (len(part), *VOXELS))
        hit = rng.random(energy.shape) < 0.02
        return Rows(np.where(hit, np.round(energy, 2), 0).astype(np.float32), theta)

    small = path.with_suffix(".small")
    write(small, UNIQUE, Meta(law, seed=1), shard, shard_rows=CHUNK, force=True)
    grown(small, path, rows // UNIQUE)


def grown(small: Path, path: Path, times: int) -> None:
    """The rows of a file so many times, chunks copied as they are; without a checksum."""
    from physgen.dataset.image import chunked, label

    with h5py.File(small) as source, h5py.File(path, "w") as file:
        rows = len(source["x"])
        for name in ("theta", "x"):
            old = source[name]
            new = chunked(file, name, (times * rows, *old.shape[1:]), old.dtype, old.chunks[0])
            for start in range(0, rows, old.chunks[0]):
                at = (start, *[0] * (old.ndim - 1))
                mask, chunk = old.id.read_direct_chunk(at)
                for k in range(times):
                    new.id.write_direct_chunk((k * rows + start, *at[1:]), chunk, mask)
        words = [source.attrs[n].decode() for n in ("schema", "created", "content_sha256")]
        label(file, words[0], bytes(source["meta/json"][()]).decode(), *words[1:])
        file.attrs["n_rows"] = times * rows
