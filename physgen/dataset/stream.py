"""Going through a file that is larger than the memory: in its order, or to train on it.

Rows at random places are slow to read from compressed chunks (some thousand a second), and rows in
the file's order are no random batches. Between the two: read some random chunks whole, shuffle
their rows together, cut batches. Every row comes exactly once an epoch, and every batch is full
but the last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain, pairwise
from pathlib import Path

import numpy as np

from physgen.dataset.guard import opened
from physgen.dataset.job import Shard
from physgen.dataset.reader import Contents, contents, interval
from physgen.dataset.schema import Failed, Meta, Rows
from physgen.errors import DataError, UsageError

__all__ = ["Blocks", "InOrder", "Stream"]

SEGMENT = 1024  # rows read in one go from a file without chunks


class Blocks:
    """All rows in their order, of a file a chunk at a time, checked as `read` checks them.

    Args:
        source: rows in memory, or a dataset's path; its checksum is compared once, here.

    Attributes:
        rows: number of rows.
        step: rows in a block, the last one excepted.
        meta: the file's metadata; None in a foreign file.
        aux: names of auxiliary arrays.

    Raises:
        DataError: a file that is damaged, hostile or not a dataset.
        StorageError: the file cannot be opened.
    """

    def __init__(self, source: str | Path | Rows) -> None:
        self.step: int
        self.rows: int
        self.meta: Meta | None
        self.aux: list[str]
        self.source = source if isinstance(source, Rows) else Path(source)
        if isinstance(self.source, Rows):
            self.step, self.rows, self.meta = SEGMENT, len(self.source), self.source.meta
            self.aux = list(self.source.aux)
            return
        with opened(self.source) as file:
            found = contents(file, self.source)
            self.step = (found.fields["x"].chunks or (SEGMENT,))[0]
            self.rows, self.meta = found.rows, found.meta
            self.aux = [name[4:] for name in found.fields if name.startswith("aux/")]

    def __iter__(self) -> Iterator[Rows]:
        if isinstance(self.source, Rows):
            yield from (self.source[slice(*part)] for part in segments(0, self.rows, self.step))
            return
        with opened(self.source, checked=True) as file:
            found = contents(file, self.source)
            for part in segments(0, self.rows, self.step):
                yield found.checked(*part)


class InOrder:
    """Makes the shards of a dataset from rows that there are; they are asked for in order.

    Args:
        sources: rows in memory or datasets' paths, one after another; what of auxiliary arrays
            only some of them have is left out.
        failed: draws that failed, kept beside the first rows.
    """

    def __init__(self, sources: Sequence[Path | Rows], failed: Failed | None = None) -> None:
        every = [Blocks(source) for source in sources]
        self.blocks = chain.from_iterable(every)
        self.aux = set.intersection(*(set(blocks.aux) for blocks in every))
        self.rest: list[Rows] = []
        self.failed, self.stop = failed, 0

    def __call__(self, shard: Shard) -> Rows:
        """The rows of a shard."""
        while self.stop < shard.stop:
            block = next(self.blocks)
            self.stop += len(block)
            if self.stop > shard.start:
                aux = {name: block.aux[name] for name in self.aux}
                self.rest.append(replace(block, aux=aux))
        rows = joined(self.rest)
        start, stop = (len(rows) - self.stop + place for place in (shard.start, shard.stop))
        self.rest = [rows[stop:]]
        return replace(rows[start:stop], failed=None if shard.number else self.failed)


class Stream:
    """Batches (θ, x) of a file, or of several, in random order, in bounded memory.

    Its length is the number of batches in an epoch.

    Args:
        path: the dataset, or several; their checksums are compared once, here.
        batch_size: rows in a batch.
        rows: consecutive rows to use, of each dataset; all by default.
        buffer_chunks: number of chunks that are shuffled together.

    Attributes:
        rows: number of rows in an epoch.
        meta: the first file's metadata; None in a foreign file.

    Raises:
        DataError: a file that is damaged, hostile or holds no θ.
        StorageError: the file cannot be opened.
        UsageError: no such rows, or sizes below 1.
    """

    def __init__(
        self,
        path: str | Path | Sequence[Path],
        batch_size: int,
        *,
        rows: slice | Sequence[slice] | None = None,
        buffer_chunks: int = 8,
    ) -> None:
        if min(batch_size, buffer_chunks) < 1:
            raise UsageError("batch_size, buffer_chunks: expected at least 1")
        self.paths = [Path(path)] if isinstance(path, str | Path) else list(path)
        self.batch_size, self.buffer_chunks = batch_size, buffer_chunks
        which = rows if isinstance(rows, Sequence) else [rows] * len(self.paths)
        self.segments: list[tuple[int, int, int]] = []
        metas: list[Meta | None] = []
        for i, (one, some) in enumerate(zip(self.paths, which, strict=True)):
            with opened(one) as file:
                found = contents(file, one)
                if "theta" not in found.fields:
                    raise DataError(f"{one}: no /theta; training needs pairs (theta, x)")
                start, stop = interval(some, found.rows)
                chunk = (found.fields["x"].chunks or (SEGMENT,))[0]
            self.segments += [(i, *part) for part in segments(start, stop, chunk)]
            metas.append(found.meta)
        self.rows: int = sum(stop - start for _, start, stop in self.segments)
        self.meta = metas[0]

    def __len__(self) -> int:
        return -(-self.rows // self.batch_size)

    def batches(self, rng: np.random.Generator) -> Iterator[Rows]:
        """One epoch.

        Args:
            rng: decides on the order.

        Yields:
            Rows with x and θ, checked as `read` checks them.
        """
        order = rng.permutation(len(self.segments))
        with ExitStack() as stack:
            files = [stack.enter_context(opened(path, checked=True)) for path in self.paths]
            found = [only_pairs(contents(*pair)) for pair in zip(files, self.paths, strict=True)]
            rest: list[Rows] = []
            for first in range(0, len(order), self.buffer_chunks):
                chosen = [self.segments[k] for k in order[first : first + self.buffer_chunks]]
                fresh = joined([found[i].checked(*part) for i, *part in chosen])
                rows = joined([*rest, fresh[rng.permutation(len(fresh))]])
                full = len(rows) - len(rows) % self.batch_size
                for start in range(0, full, self.batch_size):
                    yield rows[start : start + self.batch_size]
                rest = [rows[full:]]
            if len(rest[0]):
                yield rest[0]


def segments(start: int, stop: int, chunk: int) -> list[tuple[int, int]]:
    """The parts of [start, stop) that lie in one chunk each."""
    cuts = [start, *range((start // chunk + 1) * chunk, stop, chunk), stop]
    return list(pairwise(cuts))


def only_pairs(found: Contents) -> Contents:
    """Only θ and x of a file."""
    return Contents(found.path, {k: found.fields[k] for k in ("theta", "x")}, found.meta)


def joined(parts: Sequence[Rows]) -> Rows:
    """Rows (n, …), one after another; what only some of them have is left out."""
    if len(parts) == 1:
        return parts[0]
    arrays = [p.arrays() for p in parts]
    names = [name for name in arrays[0] if all(name in a for a in arrays)]
    every = {name: np.concatenate([a[name] for a in arrays]) for name in names}
    aux = {k.removeprefix("aux/"): v for k, v in every.items() if k.startswith("aux/")}
    failed = Failed.joined([p.failed for p in parts])
    return Rows(every["x"], every.get("theta"), aux, parts[0].meta, failed=failed)
