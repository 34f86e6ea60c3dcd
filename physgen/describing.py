"""What any file of physgen holds, as JSON data and as lines for a person."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import simulators.base as declared
from physgen import dataset

__all__ = ["described", "lines"]

WIDE = 90  # characters of a mapping that still goes in one line


def described(path: Path, verify: bool) -> dict[str, Any]:
    """What a file holds, as JSON data."""
    if zipfile.is_zipfile(path):
        return checkpoint_described(path)
    found = dataset.describe(path, verify)
    if verify and found["schema"] == dataset.SCHEMA:
        rows = dataset.read(path)
        simulator = rows.meta.law.build_if_known() if rows.meta else None
        check = declared.verifier(simulator) if simulator else None
        verdicts = check(rows.labels(path), rows.x) if check else []
        found["verdicts"] = [vars(v) for v in verdicts]
    return found


def checkpoint_described(path: Path) -> dict[str, Any]:
    """What a checkpoint holds, as JSON data."""
    from physgen.surrogates.checkpoint import load_tensors

    weights, info = load_tensors(path)
    count = sum(w.numel() for w in weights.values())
    return {"path": str(path), "sha256": dataset.file_digest(path), **info, "weights": count}


def lines(value: Any, indent: str = "") -> Iterator[str]:
    """JSON data as indented lines, ``key: value``."""
    entries = value if isinstance(value, Mapping) else dict(enumerate(value, 1))
    for key, item in entries.items():
        flat = in_line(item)
        if len(indent) + len(str(key)) + len(flat) < WIDE or not isinstance(
            item, Mapping | list | tuple
        ):
            yield f"{indent}{key}: {flat}"
        else:
            yield f"{indent}{key}:"
            yield from lines(item, indent + "  ")


def in_line(item: Any) -> str:
    """JSON data in one line."""
    if isinstance(item, Mapping):
        return ", ".join(f"{k} = {in_line(v)}" for k, v in item.items())
    return " × ".join(map(in_line, item)) if isinstance(item, list | tuple) else str(item)
