"""Showers in the format of the CaloChallenge (C. Krause et al. 2024, arXiv:2410.21611).

One HDF5 file, two arrays in its root, both compressed by gzip, no attributes::

    incident_energies  (N, 1)        MeV
    showers            (N, cells)    MeV, in the order (layer, α, r), r fastest

and in files from elsewhere others beside them, with a row a shower: *conditions*
(:mod:`physgen.formats.conditions`).

The cells are described by an XML file beside it (:mod:`physgen.formats.binning`). Known sizes: 368
cells for photons and 533 for pions (dataset 1, layers unlike one another), 45·16·9 = 6480
(dataset 2), 45·50·18 = 40500 (dataset 3).

**Read** into a dataset (θ, x): x are the showers, in MeV as they are, of shape (layers, α, r)
where all layers are alike and flat where they are not; θ = ln E, E in GeV, and the conditions;
``/aux`` keeps the incident energies in MeV and in the file's own type. So a file whose showers are
float32, or less, comes back value for value, bit for bit. Wider ones are rounded to the nearest
float32: a relative 6·10⁻⁸, and 0 below 10⁻⁴⁵ MeV.

The prior is a box in ln E. Dataset 1 has few energies, which repeat: the prior is discrete, its
energies are kept in the law's options, and the box spans them. Else it is log-uniform, and the box
is the range of the data, its ends rounded outward to one digit in E: so the parts of one sample,
for training and for testing, have one prior, and that of datasets 2 and 3 is 1 GeV to 1 TeV.

**Written** from such a dataset, from one of a simulator of showers (x in GeV), and from what a
surrogate has drawn of either: other parameters than ln E as arrays (N, 1) of their names.

No file is ever in the memory as a whole. HDF5 can only read whole chunks, and those of the files
in use are some hundred rows deep and few cells wide; so rows are read in bands of one chunk's
depth, and a shard is cut from its bands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from physgen.dataset import Blocks, Dataset, Rows, Shard, file_digest, refuse_overwriting
from physgen.dataset.guard import dataset, loaded, opened
from physgen.dataset.image import chunked, whole
from physgen.errors import DataError, StorageError, UsageError
from physgen.formats import Foreign, Progress
from physgen.formats.bands import Bands, Stamp, stamp
from physgen.formats.binning import Binning, read_binning, write_binning
from physgen.formats.conditions import Condition, conditions_of, values_of
from physgen.formats.tables.selection import words_of
from physgen.law import Law
from simulators.base import Array
from simulators.prior import Box
from simulators.shower.geometry import Geometry
from simulators.shower.materials import MATERIALS

__all__ = ["open_foreign", "write"]

NAME = "calochallenge"  # of the law's simulator, which is not ours
ENERGIES, SHOWERS = "incident_energies", "showers"
KEPT = "incident_energy"  # in /aux
MEV = {"MeV": 1.0, "GeV": 1000.0}
GEV = 1000.0  # MeV
MOST_DISTINCT = 64  # energies of a discrete prior
BAND_BYTES = 2**27
SCAN_ROWS = 2**16


@dataclass(frozen=True)
class ShowerFile:
    """The arrays of a file, looked at and not yet read.

    Attributes:
        path: the file.
        rows: number of showers.
        depth: rows of a band, which is read in one go.
        dtype: type of the showers.
        conditions: parameters besides ln E.
        stamp: what changes when the file does.
    """

    path: Path
    rows: int
    depth: int
    dtype: str
    conditions: tuple[Condition, ...]
    stamp: Stamp


def open_foreign(
    file: Path,
    /,
    *,
    binning: Path | None = None,
    particle: str | None = None,
    conditions: str | None = None,
    max_events: int | None = None,
) -> Foreign:
    """Make a dataset of showers of the CaloChallenge (arXiv:2410.21611).

    Args:
        file: HDF5 file.
        binning: XML file with the cells of the showers.
        particle: which of the binning's particles, where it has several.
        conditions: arrays of the file that are parameters besides ln E, as in t_up,angle; none
            for none; if not given, all that have a row a shower and at most eight columns.
        max_events: showers to read at most, the first ones; all if not given.

    Raises:
        DataError: a file or a binning that is not what it must be, or that do not fit together.
        StorageError: one that cannot be read.
        UsageError: no binning, or no such particle in it.

    Example:
        physgen import calochallenge dataset_2_1.hdf5 --binning binning_dataset_2.xml -o data.h5
    """
    if binning is None:
        raise UsageError(f"import: {NAME} needs --binning, the XML file with the cells")
    cells = read_binning(binning, particle)
    with opened(file) as hdf5:
        source, left = source_of(hdf5, file, cells.geometry, binning, conditions)
        prior, options = prior_of(hdf5[ENERGIES], file)
    pid = {} if cells.pid is None else {"pid": cells.pid}
    about_cells = {"binning": cells.geometry.to_json(), "particle": cells.particle, **pid}
    law = Law(
        simulator=NAME,
        prior=Box(ln_E=prior, **{c.parameter: c.bounds for c in source.conditions}),
        x_shape=cells.geometry.x_shape,
        support="nonnegative",
        options={**about_cells, "unit": "MeV", **options},
    )
    about = {"kind": "import", "format": NAME, "file": file.name, "sha256": file_digest(file)}
    bands = Bands(partial(band, source), source.rows, source.depth)
    exact = np.can_cast(source.dtype, "f4")
    notes = [] if exact else [f"showers rounded from {source.dtype} to float32"]
    if source.conditions:
        notes.append(f"theta is ln_E of /{ENERGIES}{places_in_words(source.conditions)}")
    if left:
        notes.append(f"left out: {', '.join(left)}")
    if max_events is not None and max_events < 1:
        raise UsageError(f"max_events: expected at least 1, got {max_events}")
    rows = min(source.rows, max_events or source.rows)
    return Foreign(law, rows, about, Cut(bands, law), "; ".join(notes))


def places_in_words(conditions: Sequence[Condition]) -> str:
    """Which parameter lies where, in words."""
    return "".join(f", {c.parameter} of /{c.array}" for c in conditions)


def source_of(
    hdf5: h5py.File, path: Path, geometry: Geometry, binning: Path, wanted: str | None
) -> tuple[ShowerFile, list[str]]:
    """The arrays of an open file, each guarded, and of the shapes they must have.

    Returns:
        These, and what else the file has that is left out.
    """
    energies, showers = array_of(hdf5, ENERGIES, path), array_of(hdf5, SHOWERS, path)
    rows = len(showers) if showers.ndim else 0
    if showers.ndim != 2 or rows < 1:
        raise DataError(f"{path}: /{SHOWERS}: expected (rows, cells), got {showers.shape}")
    if energies.ndim != 2 or len(energies) != rows or energies.shape[1] < 1:
        raise DataError(f"{path}: /{ENERGIES}: expected ({rows}, 1), got {energies.shape}")
    if showers.shape[1] != geometry.cells:
        raise DataError(
            f"{path}: showers of {showers.shape[1]} cells, and {binning} has {geometry.cells}; "
            "give the binning of this file"
        )
    most = max(1, BAND_BYTES // (showers.shape[1] * showers.dtype.itemsize))
    depth = min(most, showers.chunks[0] if showers.chunks else most)
    names = [] if wanted == "none" else words_of(wanted) if wanted else None
    found, left = conditions_of(hdf5, ENERGIES, SHOWERS, names)
    return ShowerFile(path, rows, depth, showers.dtype.name, tuple(found), stamp(path)), left


def array_of(hdf5: h5py.File, name: str, path: Path) -> h5py.Dataset:
    """An array of an open file, fit to be read."""
    if (found := dataset(hdf5, name)) is None:
        raise DataError(f"{path}: no /{name}; expected a file of the CaloChallenge")
    return found


def prior_of(energies: h5py.Dataset, path: Path) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The prior over ln E, and what the law says of it.

    Args:
        energies: (N, …), MeV, of which the first column counts.
        path: the file, for the message.

    Raises:
        DataError: an energy that is not a number above 0.
    """
    low, high = math.inf, 0.0
    distinct: set[float] | None = set()
    for start in range(0, len(energies), SCAN_ROWS):
        block = loaded(energies, start, start + SCAN_ROWS)[:, 0].astype(float)
        refuse_energies(block > 0, block, path, ENERGIES, "above 0", start)
        low, high = min(low, block.min()), max(high, block.max())
        if distinct is not None:
            distinct |= set(np.unique(block).tolist())
            distinct = distinct if len(distinct) <= MOST_DISTINCT else None
    if distinct and 2 * len(distinct) <= len(energies):
        return bounds_of_ln_e(low, high), {"prior": "discrete", "energies": sorted(distinct)}
    ends = outward(low, math.floor), outward(high, math.ceil)
    return bounds_of_ln_e(*ends), {"prior": "log-uniform"}


def bounds_of_ln_e(low: float, high: float) -> tuple[Any, ...]:
    """The prior over ln E between two energies in MeV; a factor 2 each way about a single one."""
    wide = 2.0 if low == high else 1.0
    ends = math.log(low / wide / GEV), math.log(high * wide / GEV)
    return (*ends, "ln GeV", r"\ln E")


def outward(energy: float, to: Callable[[float], int]) -> float:
    """An energy rounded down, or up, to one digit."""
    power = 10.0 ** math.floor(math.log10(energy))
    return (min if to is math.floor else max)(energy, to(energy / power) * power)


def refuse_energies(
    good: Array, values: Array, path: Path, name: str, expected: str, first: int
) -> None:
    """Raise a DataError that names the first row with a number that is not what it must be.

    Args:
        good: whether each number (n, …) is in range; infinity and NaN never are.
        values: the numbers, of the same shape (n, …).
        path: the file.
        name: the array.
        expected: the range, in words.
        first: number of the first row.
    """
    good = good & (values < np.inf)
    if not good.all():
        at = np.unravel_index(int(np.argmin(good)), good.shape)
        raise DataError(
            f"{path}: row {first + int(at[0])}: {name}: expected finite energies {expected}, got "
            f"{values[at]:g} MeV; the file is damaged or not of the CaloChallenge"
        )


def band(source: ShowerFile, start: int, stop: int) -> tuple[Array, ...]:
    """One band of rows, checked.

    Returns:
        Energies (n, 1) in the file's type and showers (n, cells) float32, both in MeV; and the
        conditions (n, K) float64 if there are any.

    Raises:
        DataError: a number that is no energy, or a file that is another one than before.
    """
    if stamp(source.path) != source.stamp:
        raise DataError(f"{source.path}: was changed while it was read; import it again")
    with opened(source.path, checked=True) as hdf5:
        energies = loaded(hdf5[ENERGIES], start, stop)[:, :1]
        more = values_of(hdf5, source.conditions, start, stop) if source.conditions else None
        showers = loaded(hdf5[SHOWERS], start, stop)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        rounded = showers.astype(np.float32, copy=False)
        wrong = ~((showers.min(axis=1) >= 0) & (rounded.max(axis=1) < np.inf))
    if wrong.any():
        row = int(np.argmax(wrong))
        value = showers[row : row + 1]
        refuse_energies((value >= 0) & np.isfinite(rounded[row]), value, source.path, SHOWERS,
               "of at least 0", start + row)  # fmt: skip
    return (energies, rounded) if more is None else (energies, rounded, more)


@dataclass
class Cut:
    """Makes a shard of a dataset from the bands that it lies in: picklable, pure in the shard.

    Attributes:
        bands: energies (n, 1), showers (n, cells) and conditions (n, K) of the file.
        law: the law of its rows.
    """

    bands: Bands
    law: Law

    def __call__(self, shard: Shard) -> Rows:
        """The rows of a shard."""
        energies, showers, *more = self.bands[shard.start : shard.stop]
        x = showers.reshape(-1, *self.law.x_shape)
        ln_e = np.log(energies.astype(float) / GEV)  # within a digit of the box
        theta = np.concatenate([ln_e, *more], axis=1)
        theta = np.clip(theta, self.law.prior.low, self.law.prior.high)
        return Rows(x, theta, {KEPT: energies[:, 0]})


def write(
    data: Any,
    out: Path,
    *,
    binning: Path | None = None,
    force: bool = False,
    progress: Progress = lambda done: None,
) -> int | str:
    """Write a dataset of showers as a file of the CaloChallenge.

    Args:
        data: dataset, in memory or a file, whose θ has ln E and whose x are energies of cells.
        out: HDF5 file to write.
        binning: XML file to write the cells to.
        force: whether to overwrite the files if they exist.
        progress: called with the part that is done, 0 to 1; may raise to stop.

    Returns:
        Number of showers; in words, and where each parameter lies, if there are others than ln E.

    Raises:
        DataError: a dataset that is damaged, or not one of showers, or with a parameter that has
            the name of an array of the format.
        StorageError: the file system refused; nothing is left.
        UsageError: an output that exists, or a binning that nobody knows.
    """
    for made in filter(None, (out, binning)):
        if not made.absolute().parent.is_dir():
            raise StorageError(f"{made}: no folder {made.parent}; make it first")
        refuse_overwriting(made, force)
    source = Dataset(data)
    blocks, path = Blocks(source.path or source.rows), source.where
    law = law_of_showers(blocks, path)
    cells, others = cells_of(law, path) if binning else None, other_parameters(law, path)
    with whole(out) as (hdf5, output):
        shape, step = (blocks.rows, law.size), min(blocks.step, blocks.rows)
        showers, done = chunked(hdf5, SHOWERS, shape, np.float32, step), 0
        energies, more = list[Array](), list[Array]()
        for rows in blocks:
            showers[done : done + len(rows)] = in_mev(rows.x, law).reshape(len(rows), -1)
            output.check()
            energies.append(incident(rows, law, path))
            more.append(rows.labels(path)[:, list(others.values())])
            done += len(rows)
            progress(done / blocks.rows)
        columns = dict(zip(others, float32_if_exact(np.concatenate(more)).T, strict=True))
        for name, column in {ENERGIES: np.concatenate(energies), **columns}.items():
            shape, step = (done, 1), min(SCAN_ROWS, done)
            chunked(hdf5, name, shape, column.dtype, step)[:] = column[:, None]
    if binning and cells:
        (particle, geometry, pid), unit = cells
        write_binning(binning, geometry, particle, unit, pid)
    where = ", ".join(f"{name} in /{name}" for name in others)
    return f"{blocks.rows:,} rows, ln_E in /{ENERGIES}, {where}" if where else blocks.rows


def other_parameters(law: Law, path: Path) -> dict[str, int]:
    """Name → column of θ of the parameters besides ln E.

    Raises:
        DataError: one with the name of an array of the format.
    """
    others = {name: i for i, name in enumerate(law.prior.names) if name != "ln_E"}
    if taken := others.keys() & {ENERGIES, SHOWERS}:
        raise DataError(f"{path}: parameter {min(taken)}: the format's own array; rename it")
    return others


def float32_if_exact(values: Array) -> Array:
    """Numbers (n, K) as float32 where this loses nothing, else as they are."""
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    return narrow if np.array_equal(narrow, values) else values


def law_of_showers(blocks: Blocks, path: Path) -> Law:
    """The law of a dataset, if it is one of showers."""
    law = blocks.meta.law if blocks.meta else None
    if law is None or law.support != "nonnegative" or "ln_E" not in law.prior.names:
        got = f"one of {law.simulator}" if law else "a file without metadata"
        raise DataError(
            f"{path}: expected a dataset of showers, energies x given theta with ln_E; got {got}"
        )
    if unit_of(law) not in MEV:
        raise DataError(f"{path}: unit: expected MeV or GeV, got {unit_of(law)}")
    return law


def unit_of(law: Law) -> str:
    """The unit of x: what the law says, else that of our simulators."""
    return str(law.options.get("unit", "GeV"))


def in_mev(x: Array, law: Law) -> Array:
    """Showers (n, …) in MeV, of x in the law's unit; those of an imported file as they are."""
    return x * np.float32(MEV[unit_of(law)])


def incident(rows: Rows, law: Law, path: Path) -> Array:
    """Incident energies, (n,) in MeV: those that were imported, or float32 from ln E."""
    if law.simulator == NAME and KEPT in rows.aux:
        return rows.aux[KEPT]
    ln_e = rows.labels(path)[:, law.prior.names.index("ln_E")]
    return (np.exp(ln_e) * GEV).astype(np.float32)


def cells_of(law: Law, path: Path) -> tuple[Binning, float]:
    """The cells of a law for its particle, and the unit of the radii in mm.

    Raises:
        DataError: cells that are not those of x.
        UsageError: a simulator that does not say which cells it has.
    """
    simulator = law.build_if_known()
    geometry = getattr(simulator, "geometry", None)
    if "binning" in law.options:
        try:
            geometry = Geometry.from_json(law.options["binning"])
        except ValueError as error:
            raise DataError(f"{path}: metadata: {error}") from error
    if geometry is None:
        raise UsageError(f"{path}: --binning: {law.simulator} does not say which cells it has")
    if geometry.cells != law.size:
        raise DataError(f"{path}: x of {law.size} cells, and its geometry has {geometry.cells}")
    units = {"mm": 1.0}
    if material := getattr(simulator, "material", None):
        units["R_M"] = MATERIALS.get(material, material).moliere_radius
    if geometry.unit not in units:
        raise DataError(f"{path}: its radii are in {geometry.unit}, not known here in mm")
    pid = law.options.get("pid")
    if not (pid is None or type(pid) is int):
        raise DataError(f"{path}: metadata: pid: expected an integer, got {pid!r}")
    particle = str(law.options.get("particle", "electron"))
    return Binning(particle, geometry, pid), units[geometry.unit]
