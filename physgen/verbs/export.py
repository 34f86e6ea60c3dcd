"""Write a dataset or a posterior in another format."""

from __future__ import annotations

import time
from pathlib import Path

from physgen import formats
from physgen.errors import UsageError
from physgen.runtime.interrupt import interruptible
from physgen.runtime.options import options
from physgen.runtime.progress import bar
from physgen.verbs.arguments import AnyProduct
from physgen.verbs.products import Exported
from physgen.verbs.running import on_files, plural

__all__ = ["export"]


@on_files("out", "binning")
def export(
    data: AnyProduct,
    *,
    format: str,
    out: Path | str,
    binning: Path | str | None = None,
    force: bool = False,
) -> Exported:
    """Write a dataset or a posterior in another format.

    Args:
        data: dataset of a simulator, of a surrogate, or imported; or posterior.
        format: npz, csv, parquet, netcdf or root (columns or arrays, with their law as JSON where
            the format can have it); calochallenge (showers; arXiv:2410.21611); arviz (netCDF of a
            posterior).
        out: file to write.
        binning: XML file to write the cells of the showers to (calochallenge).
        force: overwrite the files if they exist.

    Returns:
        The file, and a line about it.

    Example:
        physgen export data.h5 --format calochallenge -o showers.hdf5
    """
    writer = formats.room("export", format, formats.EXPORTS)
    own = {name: value for name, value in (("binning", binning),) if value is not None}
    if unknown := own.keys() - {option.name for option in options(writer.write)}:
        raise UsageError(f"export: {format} has no option {min(unknown)!r}; leave it out")
    begun, path = time.monotonic(), Path(out)
    with (
        interruptible(f"{out}: export", "nothing was written") as stop,
        bar(1, f"export {format}") as move,
    ):

        def progress(done: float) -> None:
            stop.check()
            move(done)

        rows = writer.write(data, path, force=force, progress=progress, **own)
    seconds, name = time.monotonic() - begun, getattr(data, "path", data) or "memory"
    return Exported(path, f"{out}: {plural(rows, 'row')} of {name} in {seconds:.1f} s")
