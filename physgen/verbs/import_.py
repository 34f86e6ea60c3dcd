"""Make a dataset from a file in another format."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from physgen import dataset, formats
from physgen.dataset import Dataset, Meta
from physgen.priors import laws_in_words
from physgen.runtime.options import build, command_line, options
from physgen.verbs.running import headed, make_dataset, on_files, plural

__all__ = ["import_"]


@on_files("out", resumes=True)
def import_(
    format: str,
    file: Path | str,
    *,
    out: Path | str | None = None,
    force: bool = False,
    **given: Any,
) -> Dataset:
    """Make a dataset of (theta, x) from a file in another format.

    The same command after an interruption finishes the file.

    Args:
        format: arrays (npz, npy, HDF5, CSV, text, parquet, netCDF, ROOT), calochallenge (showers).
        file: file to read.
        out: HDF5 file to write.
        force: overwrite the file if it exists.
        **given: options of the format.

    Returns:
        The dataset, in memory or in its file.

    Example:
        physgen import arrays sims.npz -o data.h5 --prior a=0:1 --prior tau=loguniform:1e-3:1
    """
    reader = formats.room("import", format, formats.IMPORTS)
    paths = {o.name for o in options(reader.open_foreign) if "Path" in str(o.type)}
    given = {k: Path(v) if v and k in paths else v for k, v in given.items()}
    found = build(partial(reader.open_foreign, Path(file)), f"import {format}", given)
    told = {n: laws_in_words(v) if n == "prior" else v for n, v in given.items()}
    command = command_line("import", format, file, **told)
    meta = Meta(found.law, found.source, provenance=dataset.provenance(command))
    note = f"; {found.note}" if found.note else ""
    made, _ = make_dataset(out, found.rows, meta, found.make, f"import {format}", force=force)
    return Dataset(made, headed(out, f"{plural(len(made), 'row')} of {file}{note}"))
