"""What any file of physgen holds, as JSON data and as lines for a person."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import simulators.base as declared
from physgen import dataset
from physgen.law import Law
from simulators.base import Array, Verdict

__all__ = ["described", "lines"]

Check = Callable[[Array, Array], list[Verdict]]
WIDE = 90  # characters of a mapping that still goes in one line


def described(path: Path, verify: bool) -> dict[str, Any]:
    """What a file holds, as JSON data."""
    if zipfile.is_zipfile(path):
        return checkpoint_described(path)
    found = dataset.describe(path, verify)
    if verify and found["schema"] == dataset.SCHEMA:
        simulator = Law.from_json(found["law"]).build_if_known()
        check = declared.verifier(simulator) if simulator else None
        found["verdicts"] = [vars(v) for v in verdicts_of(check, path)] if check else []
    return found


def verdicts_of(check: Check, path: Path) -> list[Verdict]:
    """What the check of a simulator says of a dataset, read whole."""
    rows = dataset.read(path)
    return check(rows.labels(path), rows.x)


def checkpoint_described(path: Path) -> dict[str, Any]:
    """What a checkpoint holds, as JSON data."""
    from physgen.nn.tensors import load_tensors

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
