"""Make a dataset from a file in another format."""

from __future__ import annotations

from pathlib import Path

from physgen import dataset, formats
from physgen.dataset import Dataset, Meta
from physgen.runtime.options import command_line
from physgen.runtime.progress import bar
from physgen.verbs.running import headed, on_files, plural, require

__all__ = ["import_"]


@on_files("out", resumes=True)
def import_(
    format: str,
    file: Path | str,
    *,
    out: Path | str | None = None,
    binning: Path | str | None = None,
    particle: str | None = None,
    max_events: int | None = None,
    force: bool = False,
) -> Dataset:
    """Make a dataset of (theta, x) from a file in another format.

    The same command after an interruption finishes the file.

    Args:
        format: calochallenge (showers; arXiv:2410.21611).
        file: file to read.
        out: HDF5 file to write.
        binning: XML file with the cells of the showers.
        particle: which of the particles in it, if there are several.
        max_events: rows to read at most, the first ones; all if not given.
        force: overwrite the file if it exists.

    Returns:
        The dataset, in memory or in its file.

    Example:
        physgen import calochallenge dataset_2_1.hdf5 --binning binning_dataset_2.xml -o data.h5
    """
    reader = formats.room("import", format, formats.IMPORTS)
    require(max_events=(max_events, 1))
    found = reader.open_foreign(file, binning=binning, particle=particle)
    n = min(found.rows, max_events or found.rows)
    command = command_line(
        "import", format, file, binning=binning, particle=particle, max_events=max_events
    )
    meta = Meta(found.law, found.source, provenance=dataset.provenance(command))
    note = f"; {found.note}" if found.note else ""
    text = headed(out, f"{plural(n, 'row')} of {file}{note}")
    with bar(n, f"import {format}") as move:
        if out is None:
            return Dataset(dataset.gather(n, meta, found.make, progress=move), text)
        written = dataset.write(out, n, meta, found.make, force=force, progress=move)
    return Dataset(written.path, text)
