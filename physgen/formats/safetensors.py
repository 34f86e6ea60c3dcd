"""Surrogates and networks as safetensors: all tensors, and JSON that says what they are.

`physgen.load`, `infer` and `sample` open such a file as they open a checkpoint, to the same log p.
What is in it is told in :mod:`physgen.nn.safetensors_file`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from physgen import dataset
from physgen.formats import Progress

__all__ = ["takes_trained", "write"]

takes_trained = True


def write(
    data: Any,
    out: Path,
    *,
    force: bool = False,
    progress: Progress = lambda done: None,
) -> str:
    """Write a surrogate, or a network of sbi, as safetensors.

    Args:
        data: the surrogate or the network.
        out: file to write.
        force: whether to overwrite the file if it exists.
        progress: called with the part that is done, 0 to 1; may raise to stop.

    Returns:
        A line about it.

    Raises:
        StorageError: the file system refused; nothing is left.
        UsageError: an output that exists, or a package that is not installed.
    """
    from physgen.nn.tensors import save_safetensors

    dataset.refuse_overwriting(out, force)
    tensors, info = data.content()
    progress(0.5)
    save_safetensors(out, tensors, info)
    progress(1)
    return f"{len(tensors)} tensors of {sum(t.numel() for t in tensors.values()):,} numbers"
