"""One guarded way into an HDF5 file that somebody else may have made.

HDF5 can be told by a file to read other files (external storage, external links, virtual
datasets), to run code that is not there (filter plug-ins), to follow pointers (soft links, strings
and objects of variable length) and to allocate far more than the file holds (a file of 209 kB
that declares 1 TB). None of that is needed here, so all of it is refused, before a value is read:
only hard links to plain numeric arrays all of whose chunks are there, and sizes that follow from
the bytes that are really stored.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np

from physgen.dataset.content import content_of
from physgen.dataset.files import NO_LOCKS, check_seal, require_file
from physgen.errors import DataError
from physgen.runtime.kinds import shortened
from simulators.base import Array

__all__ = [
    "arrays",
    "attribute",
    "container",
    "dataset",
    "metadata",
    "opened",
    "read_chosen",
    "schema_of",
    "what_is",
]

BRING_IN = "; physgen import arrays brings in what others wrote"
MAX_JSON = 2**20
MAX_NAMES = 256
MAX_CHUNK = 2**28
MAX_RATIO = 1100  # deflate reaches 1032
FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32, 32000}
HDF5_ERRORS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
)


def container(path: Path) -> Literal["HDF5", "JSON", "zip", "safetensors", "other"]:
    """What a file's content lies in, by its first or last bytes.

    Raises:
        DataError: not a regular file.
        StorageError: the file cannot be read.
    """
    require_file(path)
    if h5py.is_hdf5(path):
        return "HDF5"
    with path.open("rb") as file:
        head = file.read(9)
    if head[:1] == b"{":
        return "JSON"
    if is_safetensors(head, path.stat().st_size):
        return "safetensors"
    return "zip" if zipfile.is_zipfile(path) else "other"


def is_safetensors(head: bytes, size: int) -> bool:
    """Whether a file of a size begins with the length of a JSON header, and that."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size - 8


def what_is(path: Path) -> str:
    """What a file is, in words, by its content."""
    kind = container(path)
    if kind == "zip":
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if any(name.endswith("data.pkl") for name in names):
            return "a checkpoint of a surrogate or a network"
        numpy = any(name.endswith(".npy") for name in names)
        return f"{'arrays of NumPy' if numpy else 'an archive'}{BRING_IN}"
    if kind == "JSON":
        return "JSON, such as scores"
    if kind == "safetensors":
        return "tensors of a surrogate or a network"
    if kind == "other":
        readable, words = content_of(path)
        return f"{words}{BRING_IN if readable else ''}"
    name = schema_of(path).removeprefix("physgen/").partition("/")[0]
    known = {"1": "a dataset", "posterior": "a posterior", "latents": "latents"}
    return known.get(name, "restored x" if name == "restoration" else f"foreign HDF5{BRING_IN}")


def schema_of(path: Path) -> str:
    """What an HDF5 file says that it is, as in physgen/1; empty of all else."""
    if container(path) != "HDF5":
        return ""
    with opened(path, checked=True) as file:
        return str(attribute(file, "schema") or "")


@contextmanager
def opened(path: Path, checked: bool = False) -> Iterator[h5py.File]:
    """Open a file for reading, after its checksum has been compared.

    Args:
        path: the file.
        checked: whether the checksum has been compared before.

    Raises:
        DataError: the checksum differs, or HDF5 cannot read the file.
        StorageError: the file cannot be opened.
    """
    if not checked:
        check_seal(path)
    if container(path) != "HDF5" and content_of(path)[0] != "HDF5":
        raise DataError(f"{path}: expected an HDF5 file, got {what_is(path)}")
    try:
        with unguarded(path) as file:
            yield file
    except HDF5_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if "filter returned failure" in reason:
            reason = "a chunk is damaged; copy or make the file again"
        raise DataError(f"{path}: cannot be read as HDF5: {reason}") from error


def unguarded(path: Path) -> h5py.File:
    """An HDF5 file, open; without a lock where the file system has none.

    Nothing of ours is written to under its own name, so that reading needs none.
    """
    try:
        return h5py.File(path, "r")
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return h5py.File(path, "r", locking=False)


def member(group: h5py.Group, name: str) -> h5py.Dataset | h5py.Group | None:
    """What a path under a group leads to by hard links only; None where there is nothing."""
    for part in name.split("/"):
        link = group.get(part, getlink=True)
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise DataError(
                f"{group.file.filename}: /{name} is a {type(link).__name__}, not data in this "
                "file; copy the data in"
            )
        group = group[part]
    return group


def dataset(file: h5py.File, name: str) -> h5py.Dataset | None:
    """A plain numeric array whose stored bytes can hold what it declares; None if absent.

    Raises:
        DataError: anything else.
    """
    found = member(file, name)
    if found is None:
        return None
    if reason := objection(found):
        raise DataError(f"{file.filename}: /{name}: {reason}")
    return found


def real_numbers(dtype: np.dtype[Any]) -> bool:
    """Whether a type is one of real numbers of at most 64 bits."""
    return dtype.kind in "iuf" and dtype.itemsize <= 8 and not dtype.subdtype


def objection(data: Any, readable: Callable[[np.dtype[Any]], bool] = real_numbers) -> str | None:
    """Why an object may not be read; None if it may.

    Args:
        data: what a file has.
        readable: which types may be.
    """
    if not isinstance(data, h5py.Dataset):
        return "expected an array, got a group or a type"
    if not readable(data.dtype):
        return f"expected real numbers of at most 64 bits, got {data.dtype}"
    if not data.id.get_type().equal(h5py.h5t.py_create(data.dtype)):
        return f"its numbers are not laid out as {data.dtype}; write them as NumPy does"
    if data.shape is None:
        return "expected an array, got an empty dataspace"
    plan = data.id.get_create_plist()
    if plan.get_external_count() or plan.get_layout() == h5py.h5d.VIRTUAL:
        return "its data lie in another file; copy them into this one"
    if unknown := {plan.get_filter(i)[0] for i in range(plan.get_nfilters())} - FILTERS:
        return f"filter {min(unknown)} is not read here; write it with gzip or none"
    declared = math.prod(data.shape) * data.dtype.itemsize
    if plan.get_layout() != h5py.h5d.CHUNKED:
        stored = data.id.get_storage_size()
        return None if stored == declared else f"declares {declared} bytes and holds {stored}"
    return chunk_objection(data, declared)


def chunk_objection(data: h5py.Dataset, declared: int) -> str | None:
    """Why a chunked array may not be read; None if it may.

    HDF5 reads zeros, without a word, where it does not find a chunk. So every chunk that the shape
    asks for is looked up as reading will look it up: a list of the chunks that are there may name
    some that a damaged index does not lead to.
    """
    chunk = math.prod(data.chunks) * data.dtype.itemsize
    if chunk > MAX_CHUNK:
        return f"chunks of {chunk} bytes; at most {MAX_CHUNK} are read"
    found: list[Any] = []
    data.id.chunk_iter(found.append)
    sizes = [info.size for info in found]
    counts = [-(-n // c) for n, c in zip(data.shape, data.chunks, strict=True)]
    if len(found) != math.prod(counts):
        return f"holds {len(found)} of {math.prod(counts)} chunks: incomplete; make the file again"
    if sizes and (max(sizes) > 1.01 * chunk + 1024 or declared > MAX_RATIO * sum(sizes)):
        return f"declares {declared} bytes and holds {sum(sizes)}"
    if any(info.filter_mask for info in found):
        return "a chunk was stored without its filters: damaged; make the file again"
    for place in np.ndindex(*counts):
        at = tuple(i * c for i, c in zip(place, data.chunks, strict=True))
        if not reachable(data, at):
            return f"its index does not lead to the chunk at {at}: damaged; make the file again"
    return None


def reachable(data: h5py.Dataset, at: tuple[int, ...]) -> bool:
    """Whether reading finds the chunk that begins at a place; nothing of it is read."""
    try:
        data.id.read_direct_chunk(at, out=bytearray())
    except ValueError:  # it is longer than nothing
        return True
    except (OSError, RuntimeError):
        return False
    return False


def read_chosen(path: Path, choose: Callable[[Sequence[str]], str]) -> Array:
    """One array (…) of a file that a program has written.

    Args:
        path: the file.
        choose: names of what the file holds → the one to read, which may be in a group.
    """
    with opened(path) as file:
        found = dataset(file, name := choose(list(file)))
        if found is None:
            raise DataError(f"{path}: no {name}; it has {shortened(list(file))}")
        return loaded(found)


def arrays(file: h5py.File, where: str) -> dict[str, h5py.Dataset]:
    """Name → array of all members of a group, each guarded; empty where there is no group."""
    group = file if where == "/" else member(file, where)
    if group is None:
        return {}
    if not isinstance(group, h5py.Group) or len(group) > MAX_NAMES:
        raise DataError(f"{file.filename}: /{where}: expected a group of at most {MAX_NAMES}")
    names = [n for n in group if not (where == "/" and n == "meta")]
    path = "" if where == "/" else f"{where}/"
    return {name: dataset(file, path + name) for name in names}


def attribute(file: h5py.File, name: str) -> str | int | None:
    """A root attribute that is one short text or one integer; None where it is absent."""
    if name not in file.attrs:
        return None
    found = h5py.h5a.open(file.id, name.encode())
    plain = found.dtype.kind in "Siu" or h5py.check_string_dtype(found.dtype)
    value = file.attrs[name] if plain and found.shape == () else None
    if value is None or len(str(value)) > 1024:
        raise DataError(f"{file.filename}: attribute {name!r}: expected one text or integer")
    if isinstance(value, bytes):
        return value.decode()
    return value if isinstance(value, str) else int(value)


def metadata(file: h5py.File) -> tuple[str, dict[str, Any]]:
    """The text of /meta/json and what it says.

    Raises:
        DataError: no such text, more than 1 MiB of it, or not a JSON object.
    """
    found = member(file, "meta/json")
    if not isinstance(found, h5py.Dataset) or found.dtype.kind != "S" or found.shape != ():
        raise DataError(f"{file.filename}: /meta/json: expected one text of fixed length")
    plan = found.id.get_create_plist()
    if plan.get_external_count() or plan.get_layout() not in (
        h5py.h5d.CONTIGUOUS,
        h5py.h5d.COMPACT,
    ):
        raise DataError(f"{file.filename}: /meta/json: its data lie in another file")
    if (size := found.dtype.itemsize) > MAX_JSON:
        raise DataError(f"{file.filename}: /meta/json: {size} bytes; at most {MAX_JSON} are read")
    text = bytes(found[()]).decode()
    data = json.loads(text, parse_constant=refuse_constant)
    if not isinstance(data, dict):
        raise DataError(f"{file.filename}: /meta/json: expected a JSON object")
    return text, data


def refuse_constant(name: str) -> float:
    """NaN and Infinity are not JSON."""
    raise ValueError(f"{name} is not JSON")


def loaded(data: h5py.Dataset, start: int = 0, stop: int | None = None) -> Array:
    """Rows (n, …) of an array in native byte order."""
    values = data[start:stop] if data.shape else data[()]
    values = np.asarray(values)
    return values.astype(values.dtype.newbyteorder("="), copy=False)
