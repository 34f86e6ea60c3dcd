"""Small files: named arrays (posterior samples), and JSON data (scores).

Those of arrays share the dataset's checksums, metadata and guarded reading, and have no rows and
no law. Those of JSON carry the SHA-256 of their content, as ``content_sha256`` among their data.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from physgen.dataset.files import (
    read_bytes,
    refuse_overwriting,
    require_file,
)
from physgen.dataset.guard import (
    arrays,
    attribute,
    container,
    loaded,
    metadata,
    opened,
    refuse_constant,
    schema_of,
    what_is,
)
from physgen.dataset.image import label, whole
from physgen.dataset.job import created_now
from physgen.dataset.schema import block_digest, content_digest, dumps, numeric
from physgen.errors import DataError, UsageError, as_written
from simulators.base import Array

__all__ = [
    "is_posterior",
    "posterior_arrays",
    "read_arrays",
    "read_scores",
    "sealed",
    "write_arrays",
]

MAX_SCORES = 2**26  # bytes
SEAL = "content_sha256"


def write_arrays(
    path: str | Path,
    arrays: Mapping[str, Array],
    meta_json: Mapping[str, Any],
    *,
    kind: str,
    force: bool = False,
) -> None:
    """Write a small product, such as posterior samples: named arrays and their metadata.

    Args:
        path: the file to write.
        arrays: name → numbers of any shape (…).
        meta_json: JSON data.
        kind: what the file is; its schema is ``physgen/<kind>/1``.
        force: whether to overwrite the file if it exists.

    Raises:
        DataError: an array that is not of real numbers.
        StorageError: the file system refused.
        UsageError: the output exists, or the metadata are not JSON.
    """
    path = Path(path)
    refuse_overwriting(path, force)
    plain = {k: numeric(v, np.shape(v), f"{path}: {k}", copy=False) for k, v in arrays.items()}
    text = dumps(meta_json)
    content = content_digest(text, [block_digest(dict(sorted(plain.items())))])
    with whole(path) as (file, output):
        for name, values in plain.items():
            packed = {"compression": "gzip", "compression_opts": 1, "fletcher32": True}
            options = packed if values.size and values.ndim else {}
            file.create_dataset(name, data=values, track_times=False, **options)
            output.check()
        label(file, f"physgen/{kind}/1", text, created_now(), content)


def read_arrays(
    path: str | Path, kind: str, but: Collection[str] = ()
) -> tuple[dict[str, Array], dict[str, Any]]:
    """The arrays (…) and the metadata that `write_arrays` wrote.

    Args:
        path: the file.
        kind: what it must be.
        but: names of arrays that are not read.

    Raises:
        DataError: a file that is damaged, hostile or of another kind.
        StorageError: the file cannot be opened.
    """
    path, expected = Path(path).expanduser(), f"physgen/{kind}/1"
    with opened(path) as file:
        if (schema := attribute(file, "schema")) != expected:
            raise DataError(
                f"{path}: is a {schema or 'foreign'} file; expected {expected}, a {kind}"
            )
        values = {n: loaded(data) for n, data in arrays(file, "/").items() if n not in but}
        return values, metadata(file)[1]


def is_posterior(product: Any) -> bool:
    """Whether a product is what infer returned or wrote."""
    if isinstance(product, str | Path):
        return schema_of(Path(product)).startswith("physgen/posterior/")
    return hasattr(product, "arrays") and hasattr(product, "about")


def posterior_arrays(posterior: Any) -> tuple[dict[str, Array], dict[str, Any]]:
    """The arrays (…) of a posterior, in memory or in its file, and its metadata.

    Raises:
        DataError: a file that is damaged, or no posterior.
        UsageError: something else.
    """
    if isinstance(posterior, str | Path):
        return read_arrays(posterior, "posterior")
    if not is_posterior(posterior):
        raise UsageError(f"expected a posterior or its file, got {type(posterior).__name__}")
    return dict(posterior.arrays), dict(posterior.about)


def sealed(data: Mapping[str, Any]) -> dict[str, Any]:
    """Data as JSON has them, with the SHA-256 of what they say.

    Raises:
        UsageError: a value that JSON does not have.
    """
    plain = json.loads(json.dumps(dict(data)))
    plain.pop(SEAL, None)
    return plain | {SEAL: content_digest(dumps(plain), [])}


def read_scores(path: Path) -> dict[str, Any]:
    """JSON data that `sealed` made, or that an earlier version wrote without a digest.

    Raises:
        DataError: a file that is damaged, was changed, or holds no JSON object.
        StorageError: the file cannot be read.
    """
    require_file(path)
    if (size := path.stat().st_size) > MAX_SCORES:
        raise DataError(f"{path}: {size} bytes; at most {MAX_SCORES} of JSON are read")
    if container(path) != "JSON":
        raise DataError(
            f"{path}: expected JSON of validate, calibrate or compare, got {what_is(path)}"
        )
    with as_written(path, "not the JSON of validate, calibrate or compare"):
        found = dict(json.loads(read_bytes(path), parse_constant=refuse_constant))
        content = sealed(found)[SEAL]
    if found.get(SEAL, content) != content:
        raise DataError(f"{path}: its values differ from its {SEAL}; make it again")
    return found
