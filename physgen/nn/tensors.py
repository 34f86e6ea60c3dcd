"""Tensors: from arrays, and on disk beside JSON data: weights and data, never code.

A file is one of ``torch.save`` that loads with ``weights_only=True``. It holds nested dicts and
lists of tensors and numbers, a JSON text, and a SHA-256 over both, since neither zip nor tensors
notice a flipped bit.

A file from elsewhere may claim more than it holds: entries that inflate, or tensors that repeat a
few numbers for ever (a stride of 0). So entries must be stored as they are, as torch stores them,
and all tensors together may take `MOST` times the file's size, before one of them is looked at.

The same content may lie in a safetensors file (:mod:`physgen.nn.safetensors_file`), as `export`
writes it.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from physgen.dataset import read_bytes, what_is, write_bytes
from physgen.dataset.guard import is_safetensors
from physgen.errors import DataError, as_written
from physgen.nn.safetensors_file import safetensors_bytes, safetensors_content
from simulators.base import Array

__all__ = [
    "FORMAT",
    "digest",
    "equal_rows",
    "load_tensors",
    "save_safetensors",
    "save_tensors",
    "tensor_of",
]

FORMAT = "physgen/checkpoint/1"
MOST = 16


def equal_rows(rows: Tensor) -> Iterator[Tensor]:
    """Which of rows (B, D) are equal, group by group, (n,) each, in the order of their values."""
    _, group = rows.unique(dim=0, return_inverse=True)
    for number in range(int(group.max()) + 1 if len(group) else 0):
        yield (group == number).nonzero()[:, 0]


def tensor_of(values: Tensor | Array, dtype: torch.dtype | None = None) -> Tensor:
    """A tensor as it is, or an array (...) as a tensor of its shape.

    Args:
        values: any shape; an array that torch could not share is copied.
        dtype: of the tensor that an array becomes; the array's own if None.
    """
    if isinstance(values, Tensor):
        return values
    return torch.as_tensor(np.require(values, requirements=["C", "W"]), dtype=dtype)


def save_tensors(path: Path, tensors: Any, info: dict[str, Any]) -> None:
    """Write nested dicts and lists of tensors and numbers beside JSON data, with their digest."""
    text = json.dumps(info | {"format": FORMAT})
    buffer = io.BytesIO()
    torch.save({"tensors": tensors, "json": text, "sha256": digest(tensors, text)}, buffer)
    write_bytes(path, buffer.getvalue(), sidecar=False)


def save_safetensors(path: Path, tensors: dict[str, Tensor], info: dict[str, Any]) -> None:
    """Write named tensors (...) and JSON data as a safetensors file, with their digest.

    Raises:
        StorageError: the file system refused.
        UsageError: the package is not installed.
    """
    info, ordered = info | {"format": FORMAT}, dict(sorted(tensors.items()))
    data = safetensors_bytes(ordered, info, digest(ordered, json.dumps(info)))
    write_bytes(path, data, sidecar=False)


def load_tensors(path: Path) -> tuple[Any, dict[str, Any]]:
    """Read what `save_tensors` or `save_safetensors` wrote, on the CPU.

    Raises:
        DataError: a file that is something else, or is damaged.
    """
    data = read_bytes(path)
    with as_written(path, "not a physgen checkpoint"):
        if is_safetensors(data, len(data)):
            tensors, info, expected = safetensors_content(data)
            text = json.dumps(info)
        else:
            tensors, text, expected = content_of_zip(path, data)
            info = dict(json.loads(text))
        if (claimed := size_of(tensors)) > MOST * len(data):
            raise DataError(f"{path}: {len(data)} bytes, and its tensors claim {claimed}")
        found = digest(tensors, text)
    if info.get("format") != FORMAT:
        raise DataError(f"{path}: expected format {FORMAT}, got {info.get('format')!r}")
    if found != expected:
        raise DataError(f"{path}: damaged: its SHA-256 differs; restore it or fit again")
    return tensors, info


def content_of_zip(path: Path, data: bytes) -> tuple[Any, str, str]:
    """Tensors, JSON text and digest in the content of a file of torch.

    Raises:
        DataError: something else, or more than there is room for.
    """
    known = zipfile.is_zipfile(io.BytesIO(data))
    entries = zipfile.ZipFile(io.BytesIO(data)).infolist() if known else []
    if not any(e.filename.endswith("/data.pkl") for e in entries):
        raise DataError(
            f"{path}: not a physgen checkpoint; expected a file that fit wrote, got "
            f"{what_is(path)}"
        )
    if any(e.compress_type for e in entries) or sum(e.file_size for e in entries) > len(data):
        raise DataError(f"{path}: claims more bytes than it holds; expected plain entries")
    content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return content["tensors"], content["json"], content["sha256"]


def size_of(value: Any) -> int:
    """Bytes that nested dicts and lists of tensors and numbers claim.

    Raises:
        TypeError: something else in them.
    """
    if type(value) is Tensor and value.layout == torch.strided and value.device.type == "cpu":
        return value.numel() * value.element_size()
    if isinstance(value, dict | list | tuple):
        return sum(map(size_of, value.values() if isinstance(value, dict) else value))
    if not isinstance(value, bool | int | float | str | None):
        raise TypeError(f"{type(value).__name__} among tensors and numbers")
    return 0


def digest(tensors: Any, text: str) -> str:
    """SHA-256 of the text and of all tensors, in order, with their names, types and shapes."""
    h = hashlib.sha256(text.encode())

    def add(value: Any) -> None:
        if isinstance(value, Tensor):
            h.update(f"{value.dtype}{tuple(value.shape)}".encode())
            h.update(value.detach().cpu().contiguous().numpy().tobytes())
        elif isinstance(value, dict):
            for key, item in value.items():
                h.update(repr(key).encode())
                add(item)
        elif isinstance(value, list | tuple):
            for item in value:
                add(item)
        else:
            h.update(repr(value).encode())

    add(tensors)
    return h.hexdigest()
