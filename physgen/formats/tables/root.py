"""ROOT, by uproot: the branches of a TTree, or the fields of an RNTuple.

Where a file has several trees, arrays are called ``tree/branch``. Branches whose rows have other
lengths, and those of objects, are refused by name; records are read field by field. uproot opens
nothing but the file, and no branch's name is evaluated as an expression.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from physgen.dataset.files import whole_file
from physgen.dataset.guard import MAX_CHUNK
from physgen.errors import DataError
from physgen.formats import Progress
from physgen.formats.bands import Bands
from physgen.formats.tables.base import BAND_BYTES, Table, column, columns_of, extra, json_text
from physgen.formats.tables.exportable import Exportable
from physgen.runtime.kinds import shortened
from simulators.base import Array

__all__ = ["RootTable", "write"]

ABOUT = "physgen"
TREES = ("TTree", "TNtuple", "TNtupleD")
NTUPLES = ("ROOT::RNTuple", "ROOT::Experimental::RNTuple")
Place = tuple[str, str, str]  # tree, branch, field


class RootTable(Table):
    """The branches of a ROOT file's trees."""

    def examine(self) -> None:
        """Look at the file."""
        uproot = extra("uproot", self.path)
        source = self.resources.enter_context(self.path.open("rb"))
        self.file = self.resources.enter_context(uproot.open(source, array_cache=None))
        if (declared := self.file.file.fEND) > self.stamp.size:
            raise DataError(f"declares {declared} bytes and holds {self.stamp.size}: damaged")
        self.places: dict[str, Place] = {}
        self.bands: dict[tuple[Place, ...], Bands] = {}
        kinds = self.file.classnames(recursive=True)
        if any(key.startswith(f"{ABOUT};") for key, kind in kinds.items() if kind == "TObjString"):
            self.about = json_text(str(self.file[ABOUT]))
        self.trees = {
            key.partition(";")[0]: self.file[key]
            for key, kind in reversed(kinds.items())  # the newest cycle of a name is the first
            if kind in TREES + NTUPLES
        }
        if not self.trees:
            raise DataError(f"no TTree or RNTuple; it has {shortened(list(kinds)) or 'nothing'}")
        for name, tree in reversed(self.trees.items()):
            for branch in tree.keys(recursive=True, full_paths=True):
                self.look(name, branch, f"{name}/" if len(self.trees) > 1 else "")

    def look(self, tree: str, branch: str, before: str) -> None:
        """Note a branch, or the fields of its records."""
        found = self.trees[tree][branch]
        if len(getattr(found, "branches", ())):
            return  # what is in it comes by itself
        dtype = row_of_branch(found) if hasattr(found, "interpretation") else row_of_field(found)
        rows = self.trees[tree].num_entries
        if isinstance(dtype, str):
            self.add(before + branch, np.dtype(object), (), dtype)
            return
        for field, kind in columns_of(dtype).items() or [("", dtype)]:
            name = f"{before}{branch}/{field}" if field else before + branch
            self.add(name, kind.base, (rows, *kind.shape))
            self.places[name] = tree, branch, field

    def load(self, names: Sequence[str], start: int, stop: int) -> dict[str, Array]:
        """Rows of some branches, (n, …)."""
        found: dict[str, Array] = {}
        for tree in {self.places[name][0] for name in names}:
            some = [name for name in names if self.places[name][0] == tree]
            places = tuple(self.places[name] for name in some)
            if places not in self.bands:
                if len(self.bands) > 3:
                    self.bands.pop(next(iter(self.bands)))
                row = max(1, sum(self.arrays[name].row_bytes for name in some))
                rows, depth = self.trees[tree].num_entries, self.depth(places, row)
                self.bands[places] = Bands(partial(self.band, places), rows, depth)
            found |= zip(some, self.bands[places][start:stop], strict=True)
        return found

    def depth(self, places: Sequence[Place], row: int) -> int:
        """Rows that are read in one go: some megabytes, and whole pieces of branches."""
        pieces = [
            int(np.diff(branch.entry_offsets).max(initial=1))
            for branch in (self.trees[tree][name] for tree, name, _ in places)
            if hasattr(branch, "entry_offsets")
        ]
        return max(1, min(max(BAND_BYTES // row, *pieces, 1), MAX_CHUNK // row))

    def band(self, places: Sequence[Place], start: int, stop: int) -> tuple[Array, ...]:
        """Rows of some branches of a tree, (n, …) each."""
        return tuple(
            column(self.values(tree, branch, start, stop), field) for tree, branch, field in places
        )

    def values(self, tree: str, branch: str, start: int, stop: int) -> Array:
        """Rows of a branch, (n, …)."""
        found, bounds = self.trees[tree][branch], {"entry_start": start, "entry_stop": stop}
        if hasattr(found, "interpretation"):
            return np.asarray(found.array(library="np", array_cache=None, **bounds))
        return np.asarray(extra("awkward", self.path).to_numpy(found.array(**bounds)))


def row_of_branch(branch: Any) -> np.dtype[Any] | str:
    """The type of a row of a branch, or why it has none."""
    try:
        found = branch.interpretation
    except (ValueError, NotImplementedError):
        return "of a kind that is not read here; save numbers"
    if hasattr(found, "to_dtype"):
        return np.dtype(found.to_dtype)
    jagged = type(found).__name__ == "AsJagged"
    why = "rows have other lengths; save arrays of one length" if jagged else "expected numbers"
    return f"{why}, got {branch.typename}"


def row_of_field(field: Any) -> np.dtype[Any] | str:
    """The type of a row of an RNTuple's field, or why it has none."""
    shape: tuple[int, ...] = ()
    form = field.to_akform()[0].contents[0]
    while hasattr(form, "size"):
        form, shape = form.content, (*shape, form.size)
    try:
        return np.dtype((np.dtype(form.primitive), shape))
    except AttributeError:
        return f"rows have other lengths, or are no numbers, got {field.typename}"


def write(
    data: Any,
    out: Path,
    *,
    force: bool = False,
    progress: Progress = lambda done: None,
) -> int:
    """Write a dataset or the draws of a posterior as ROOT: a TTree, ``data``.

    The law is in the file as a TObjString, ``physgen``. ROOT keeps the time of writing, so the
    same content gives other bytes.

    All else is as :mod:`physgen.formats.tables` says.
    """
    uproot = extra("uproot", out)
    source = Exportable.of(data)

    def branches(block: Mapping[str, Array]) -> dict[str, Array]:
        return {k.replace("/", "_"): v for k, v in source.split(block).items()}

    none = source.none
    types = {name: np.dtype((v.dtype, v.shape[1:])) for name, v in branches(none).items()}
    source.require_own_names([*source.names, *(n.replace("/", "_") for n in source.arrays)])
    with whole_file(out, force) as file, uproot.recreate(file) as made:
        made[ABOUT] = source.text
        tree = made.mktree("data", types)
        tree.compression = {
            branch: uproot.ZLIB(1) if name in source.packed else None
            for name in source.arrays
            for branch in branches({name: none[name]})
        }
        for block in source.blocks(progress):
            tree.extend(branches(block))
    return source.rows
