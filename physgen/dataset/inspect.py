"""What a file says of itself, and whether that is so.

Verifying reads every value. A damaged file that has no checksum can crash the HDF5 library (one of
2,036 mutations did), so that is done in a process of its own, which prints the description, or
the objection, as JSON.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py

from physgen.dataset.files import check_seal
from physgen.dataset.guard import arrays, attribute, loaded, member, metadata, opened
from physgen.dataset.reader import Contents, contents
from physgen.dataset.schema import block_digest, content_digest
from physgen.errors import DataError, PhysgenError, StorageError

__all__ = ["describe"]

BLOCK = 1024  # rows read in one go from a file without chunks


def describe(path: str | Path, verify: bool = False) -> dict[str, Any]:
    """What a file holds, as JSON data.

    Args:
        path: any physgen file, or a foreign one that `read` can read.
        verify: whether to read and check every value, in another process.

    Raises:
        DataError: a file that is damaged, hostile or not what it says.
        StorageError: the file cannot be opened.
    """
    if verify:
        return verified(Path(path))
    return description(Path(path), verify=False)


def verified(path: Path) -> dict[str, Any]:
    """The description of a file by a process that checks every value."""
    name = print_description.__name__
    code = f"import sys; from {__name__} import {name}; {name}(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"code {done.returncode}"])[-1]
        raise DataError(f"{path}: reading it ended the process ({reason}): damaged; make it again")
    found: dict[str, Any] = json.loads(done.stdout)
    if "error" in found:
        kind = StorageError if found["code"] == StorageError.exit_code else DataError
        raise kind(found["error"])
    return found


def description(path: Path, verify: bool) -> dict[str, Any]:
    """The description of a file, by this process."""
    seal = check_seal(path)
    with opened(path, checked=True) as file:
        schema = attribute(file, "schema")
        found = {
            "path": str(path),
            "bytes": path.stat().st_size,
            "sidecar": seal,
            "schema": schema,
            "created": attribute(file, "created"),
            "content_sha256": attribute(file, "content_sha256"),
            "verified": verify,
        }
        if schema is None and member(file, "x") is None:
            return found  # a foreign file
        if not re.fullmatch(r"physgen/\w+/1", str(schema)):
            return found | dataset_description(contents(file, path), found, verify)
        fields, (text, meta) = arrays(file, "/"), metadata(file)
        if verify:
            values = {name: loaded(fields[name]) for name in sorted(fields)}
            refuse_other_content(path, found, content_digest(text, [block_digest(values)]))
        return found | {"arrays": table(fields), "meta": meta}


def dataset_description(found: Contents, claims: dict[str, Any], verify: bool) -> dict[str, Any]:
    """What is particular to a dataset."""
    if verify:
        step = (found.fields["x"].chunks or (BLOCK,))[0]
        starts = range(0, found.rows, step)
        ends = (min(i + step, found.rows) for i in starts)
        digests = [
            block_digest(found.checked(*se).arrays()) for se in zip(starts, ends, strict=True)
        ]
        if (failed := found.failed()) is not None:
            digests.append(block_digest(failed.coded()[0]))
        if found.meta:
            refuse_other_content(found.path, claims, content_digest(found.meta_json, digests))
    own = found.meta.to_json() if found.meta else {}
    return {"rows": found.rows, "arrays": table(found.fields | found.lost), **own}


def refuse_other_content(path: Path, claims: dict[str, Any], content: str) -> None:
    """Refuse a file whose content is not what it says."""
    if claims["content_sha256"] != content:
        raise DataError(f"{path}: its values differ from its content_sha256; make it again")


def table(fields: dict[str, h5py.Dataset]) -> dict[str, Any]:
    """Name → shape, type and bytes of each array."""
    return {
        name: {
            "shape": list(data.shape),
            "dtype": str(data.dtype),
            "chunk_rows": data.chunks[0] if data.chunks else None,
            "bytes": data.nbytes,
            "stored": data.id.get_storage_size(),
        }
        for name, data in fields.items()
    }


def print_description(path: str) -> None:
    """Print the verified description of a file, or the objection to it, as JSON."""
    try:
        found = description(Path(path), verify=True)
    except PhysgenError as error:
        found = {"error": str(error), "code": error.exit_code}
    sys.stdout.write(json.dumps(found))
