"""Tensors in a file of the safetensors format, which other packages and languages read.

A header of JSON says type, shape and place of each tensor, and the tensors follow: there is
nothing to run, and nothing that claims more than it holds. Of its metadata ``physgen`` is the JSON
text that describes what the tensors are of; its ``content_sha256`` is over the rest of it and all
tensors in the order of their names. https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import json
from typing import Any

from torch import Tensor

from physgen.errors import UsageError

__all__ = ["safetensors_bytes", "safetensors_content"]

TEXT, SHA256 = "physgen", "content_sha256"
"""Of the metadata the only name (the package writes several in any order), and one in its JSON."""


def safetensors_bytes(tensors: dict[str, Tensor], info: dict[str, Any], sha256: str) -> bytes:
    """The content of a file.

    Args:
        tensors: name → tensor (...).
        info: JSON data that describe them.
        sha256: over both.

    Raises:
        UsageError: the package is not installed.
    """
    whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    return package().save(whole, metadata={TEXT: json.dumps(info | {SHA256: sha256})})


def safetensors_content(data: bytes) -> tuple[dict[str, Tensor], dict[str, Any], str]:
    """What `safetensors_bytes` was given, tensors (...) in the order of their names.

    Raises:
        KeyError: a file that is none of ours.
        UsageError: the package is not installed.
        ValueError: a file that is damaged.
    """
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    info = dict(json.loads(header["__metadata__"][TEXT]))
    sha256, tensors = str(info.pop(SHA256)), package().load(data)
    return dict(sorted(tensors.items())), info, sha256


def package() -> Any:
    """The package, for tensors of torch.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import safetensors.torch
    except ImportError as error:
        raise UsageError("safetensors: not installed; pip install 'physgen[onnx]'") from error
    return safetensors.torch
