"""Blocks of posteriors that are finished, kept beside the output until all are."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from typing import Any

from physgen import dataset
from physgen.dataset.files import storage
from physgen.errors import UsageError, as_written
from physgen.posterior.blocks import Block
from physgen.runtime.progress import log
from simulators.base import Array

__all__ = ["UnfinishedBlocks"]

EVERY = 5.0
"""Seconds between two times that finished blocks are written, at least: blocks may be quick."""
KIND, PARTS = "posterior-block", ("arrays", "told", "grids")
OURS = re.compile(r"\d+\.h5(\.sha256)?|\.\d+\.h5\..*tmp")
"""Names of the files of blocks, and of what a kill leaves of them."""


class UnfinishedBlocks:
    """Finished blocks of the posteriors of an output, a file each in a folder beside it.

    Args:
        out: the output.
        identity: what makes these posteriors what they are, as JSON data.
    """

    def __init__(self, out: Path, identity: Mapping[str, Any]) -> None:
        self.out, self.identity = out, dict(identity)
        self.folder = out.with_name(f"{out.name}.blocks")
        self.waiting: list[tuple[int, Block]] = []
        self.written = time.monotonic()

    def begun(self, resume: bool, force: bool) -> dict[int, Block]:
        """The blocks that are there, by their first row; none to begin.

        Raises:
            DataError: one that is damaged.
            UsageError: nothing to resume, or other posteriors that are in the way.
        """
        files = self.files()
        if resume and not files:
            raise UsageError(f"{self.folder}: nothing to resume; run without --resume")
        if resume:
            found = dict(map(self.read, files))
            log.info("%s: resumed after %d blocks of rows", self.out, len(found))
            return found
        if files and not force:
            raise UsageError(
                f"{self.folder}: an interrupted inference; add --resume, or --force to drop it"
            )
        self.drop()
        return {}

    @contextmanager
    def on_end(self) -> Iterator[None]:
        """Write what waits when the work ends before all is done."""
        try:
            yield
        except BaseException:
            self.write()
            raise

    def keep(self, first: int, block: Block) -> None:
        """Keep a block, whose first observation this is."""
        self.waiting.append((first, block))
        if time.monotonic() - self.written > EVERY:
            self.write()

    def write(self) -> None:
        """Write the blocks that wait, each as a whole file.

        Raises:
            StorageError: the file system refused.
        """
        if self.waiting:
            with storage(self.folder):
                self.folder.mkdir(exist_ok=True)
        while self.waiting:
            first, block = self.waiting[-1]
            arrays = {f"{p}.{n}": a for p in PARTS for n, a in getattr(block, p).items()}
            about = {
                "identity": self.identity,
                "first": first,
                "chains": block.chains,
                "types": [[name, str(a.dtype)] for name, a in arrays.items()],
            }
            path = self.folder / f"{first}.h5"
            dataset.write_arrays(path, arrays, about, kind=KIND, force=True)
            self.waiting.pop()
        self.written = time.monotonic()

    def read(self, path: Path) -> tuple[int, Block]:
        """The first row of a block, and the block.

        Raises:
            DataError: a file that is damaged.
            UsageError: a block of other posteriors.
        """
        arrays, about = dataset.read_arrays(path, KIND)
        with as_written(path):
            theirs = about["identity"]
            if changed := [k for k in self.identity if self.identity[k] != theirs.get(k)]:
                raise UsageError(
                    f"{self.folder}: an interrupted inference that differs in "
                    f"{', '.join(changed)}; give the same options, or --force to drop it"
                )
            parts: dict[str, dict[str, Array]] = {part: {} for part in PARTS}
            for name, kind in about["types"]:
                part, _, rest = name.partition(".")
                parts[part][rest] = arrays[name].astype(kind)
            return int(about["first"]), Block(**parts, chains=int(about["chains"]))

    def files(self) -> list[Path]:
        """The files of blocks.

        Raises:
            UsageError: something else is in the folder's place, or in it.
        """
        if not self.folder.exists():
            return []
        with storage(self.folder):
            found = sorted(self.folder.iterdir()) if self.folder.is_dir() else [self.folder]
        if strangers := [path for path in found if not OURS.fullmatch(path.name)]:
            raise UsageError(
                f"{strangers[0]}: is in the way of blocks of {self.out.name}, and not physgen's; "
                "move it away, or choose another output"
            )
        return [path for path in found if path.suffix == ".h5"]

    def drop(self) -> None:
        """Remove the blocks, and their folder."""
        if self.files() or self.folder.exists():
            with storage(self.folder):
                rmtree(self.folder)
