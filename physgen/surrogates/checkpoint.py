"""Checkpoints: weights and data, never code.

A checkpoint is one ``torch.save`` file that loads with ``weights_only=True``. It holds the
weights, a JSON text (format, family, options, law, how it was trained, provenance) and a SHA-256
over both, since neither zip nor tensors notice a flipped bit.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from physgen.dataset import read_bytes, write_bytes
from physgen.errors import DataError, UsageError
from physgen.law import Law
from physgen.registry import find, targets
from physgen.runtime.options import build
from physgen.surrogates.base import Surrogate

__all__ = ["load", "load_tensors", "save", "save_tensors"]

FORMAT = "physgen/checkpoint/1"


def save(surrogate: Surrogate, path: Path, info: dict[str, Any]) -> None:
    """Write a surrogate, with what is to be known of its making.

    Args:
        surrogate: what to save.
        path: where; replaced at once or not at all.
        info: JSON data: training options, history, data digest, provenance.

    Raises:
        StorageError: the file cannot be written.
    """
    save_tensors(path, surrogate.state_dict(), info | surrogate.describe())


def load(path: Path, device: torch.device) -> tuple[Surrogate, dict[str, Any]]:
    """Read a surrogate and what is known of its making.

    Args:
        path: a checkpoint.
        device: where to put the weights.

    Raises:
        DataError: a file that is no checkpoint, is damaged, or does not fit its own description.
        UsageError: a family that is neither registered nor imported.
    """
    weights, info = load_tensors(path)
    try:
        family = family_of(path, info["family"])
        config = build(family.Config, info["family"], info["options"])
        surrogate = family.create(Law.from_json(info["law"]), config)
        surrogate.load_state_dict(weights)
    except (KeyError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: weights do not fit the family they name: {reason}") from error
    return surrogate.to(device).eval(), info


def family_of(path: Path, name: str) -> type[Surrogate]:
    """The family of a name, if it is registered or has been imported by the caller.

    A checkpoint is data: it must not choose what code runs.
    """
    if name in targets("surrogates"):
        return find("surrogates", name)
    for family in Surrogate.__subclasses__():
        if getattr(family, "name", None) == name:
            return family
    raise UsageError(
        f"{path}: unknown family {name!r}; install the package that registers it, or import it "
        "before loading"
    )


def save_tensors(path: Path, tensors: Any, info: dict[str, Any]) -> None:
    """Write nested dicts and lists of tensors and numbers beside JSON data, with their digest."""
    text = json.dumps(info | {"format": FORMAT})
    buffer = io.BytesIO()
    torch.save({"tensors": tensors, "json": text, "sha256": digest(tensors, text)}, buffer)
    write_bytes(path, buffer.getvalue(), sidecar=False)


def load_tensors(path: Path) -> tuple[Any, dict[str, Any]]:
    """Read what `save_tensors` wrote, on the CPU.

    Raises:
        DataError: a file that is something else, or is damaged.
    """
    data = read_bytes(path)
    if not zipfile.is_zipfile(io.BytesIO(data)):
        raise DataError(f"{path}: not a physgen checkpoint; expected a file that fit wrote")
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        tensors, text, expected = content["tensors"], content["json"], content["sha256"]
        info = dict(json.loads(text))
    except Exception as error:  # torch.load raises whatever a broken archive makes it raise
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise DataError(f"{path}: not a physgen checkpoint: {reason}") from error
    if info.get("format") != FORMAT:
        raise DataError(f"{path}: expected format {FORMAT}, got {info.get('format')!r}")
    if digest(tensors, text) != expected:
        raise DataError(f"{path}: damaged: its SHA-256 differs; restore it or fit again")
    return tensors, info


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
