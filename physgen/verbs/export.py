"""Write a dataset, a posterior or a surrogate in another format."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Unpack

from physgen import formats
from physgen.errors import UsageError
from physgen.runtime.interrupt import interruptible
from physgen.runtime.options import options
from physgen.runtime.progress import bar
from physgen.verbs.arguments import AnyProduct, FamilyLike, SamplerOptions
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
    family: FamilyLike | None = None,
    force: bool = False,
    **use: Unpack[SamplerOptions],
) -> Exported:
    """Write a dataset, a posterior or a surrogate in another format.

    Args:
        data: dataset of a simulator, of a surrogate, or imported; posterior; or surrogate.
        format: npz, csv, parquet, netcdf or root (columns or arrays, with their law as JSON where
            the format can have it); calochallenge (showers; arXiv:2410.21611); arviz (netCDF of a
            posterior); of a surrogate onnx (a graph that draws x from theta and random numbers)
            or safetensors (its weights, which physgen opens as it does the checkpoint).
        out: file to write.
        binning: XML file to write the cells of the showers to (calochallenge).
        family: package.module:Class of a family outside the registry; a checkpoint does not import
            code by itself.
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

        given = what_is_written(format, writer, data, family=family, **use)
        told = writer.write(given, path, force=force, progress=progress, **own)
    seconds, name = time.monotonic() - begun, getattr(data, "path", data) or "memory"
    line = f"{plural(told, 'row')} of {name}" if isinstance(told, int) else f"{name}: {told}"
    return Exported(path, f"{out}: {line} in {seconds:.1f} s")


def what_is_written(format: str, writer: Any, data: Any, **options: Any) -> Any:
    """What a format is given: a surrogate or a network, opened, or the data as they are.

    Raises:
        UsageError: something else where it wants these, or their options where it does not.
    """
    if not getattr(writer, "takes_trained", False):
        for name in (name for name, value in options.items() if value is not None):
            raise UsageError(f"export: {format}: {name} is an option of surrogates; leave it out")
        return data
    from physgen.verbs.opening import open_source

    source = open_source(data, "cpu" if isinstance(data, Path) else "auto", **options)
    trained = source.surrogate or source.network
    if trained is None:
        raise UsageError(f"export: {format}: expected a surrogate, got {source.path}")
    return trained
