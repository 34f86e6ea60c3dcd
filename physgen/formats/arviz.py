"""Posteriors as ArviZ reads them: netCDF-4 of an InferenceData, written as the HDF5 that it is.

A group ``posterior`` has one variable a parameter, of dimensions (chain, draw) or (chain, draw,
observation) for several observations; ``sample_stats`` has ``lp``, the log density of each draw.
So ``arviz.from_netcdf("posterior.nc")`` reads it, and any reader of netCDF-4 (ArviZ needs
h5netcdf or netCDF4 for that: ``pip install 'physgen[arviz]'``). Nothing of ArviZ is needed to
write. https://python.arviz.org/en/stable/schema/schema.html
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import physgen
from physgen import dataset
from physgen.errors import DataError
from physgen.formats import Progress
from simulators.base import Array

__all__ = ["write"]


def write(
    data: Any,
    out: Path,
    *,
    force: bool = False,
    progress: Progress = lambda done: None,
) -> int:
    """Write a posterior as netCDF-4.

    Args:
        data: posterior, as infer wrote or returned it.
        out: netCDF file to write.
        force: whether to overwrite the file if it exists.
        progress: called with the part that is done, 0 to 1; may raise to stop.

    Returns:
        Number of observations.

    Raises:
        DataError: a file that is damaged, or no posterior.
        StorageError: the file system refused; nothing is left.
        UsageError: an output that exists.
    """
    dataset.refuse_overwriting(out, force)
    arrays, about = dataset.posterior_arrays(data)
    theta, chains = arrays["theta"], int(about.get("chains", 1))
    if theta.ndim != 3 or theta.shape[1] % chains or len(about["parameters"]) != theta.shape[2]:
        raise DataError(f"{data}: expected theta (observations, samples, parameters)")

    def shaped(values: Array) -> Array:
        rows = np.moveaxis(values.reshape(len(values), chains, -1), 0, -1)
        return rows[..., 0] if len(values) == 1 else rows

    units = about.get("units", [""] * theta.shape[2])
    posterior = {
        name: (shaped(theta[..., d]), {"units": units[d]})
        for d, name in enumerate(about["parameters"])
    }
    stats: dict[str, tuple[Array, dict[str, str]]] = {}
    if "log_prob" in arrays:
        stats["lp"] = shaped(arrays["log_prob"]), {"units": "nats"}
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", track_order=True) as file:
        group(file, "posterior", posterior, about)
        group(file, "sample_stats", stats, about)
    progress(1)
    dataset.write_bytes(out, buffer.getvalue(), sidecar=False)
    return len(theta)


def group(
    file: h5py.File,
    name: str,
    variables: Mapping[str, tuple[Array, dict[str, str]]],
    about: Mapping[str, Any],
) -> None:
    """A group of variables (chain, draw, …) that share their dimensions, with their attributes."""
    if not variables:
        return
    room = file.create_group(name, track_order=True)
    room.attrs["inference_library"] = "physgen"
    room.attrs["inference_library_version"] = physgen.__version__
    room.attrs["method"] = str(about.get("method", "grid"))
    shape = next(iter(variables.values()))[0].shape
    scales = []
    for dimension, size in zip(("chain", "draw", "observation"), shape, strict=False):
        scale = room.create_dataset(dimension, data=np.arange(size), track_times=False)
        scale.make_scale(dimension)
        scales.append(scale)
    for variable, (values, attributes) in variables.items():
        made = room.create_dataset(variable, data=values, track_times=False)
        made.attrs.update(attributes)
        for axis, scale in zip(made.dims, scales, strict=True):
            axis.attach_scale(scale)
