"""A result in sections: each is timed, and the whole is plain JSON data in the end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from physgen.surrogates.base import Likelihood

__all__ = ["Sections"]


class Sections:
    """Sections as they are made, and what each took in "seconds" and "cpu_seconds".

    Args:
        progress: told the name of each section before it starts.
    """

    def __init__(self, progress: Callable[[str], None] | None = None) -> None:
        self.progress = progress
        self.result: dict[str, Any] = {"seconds": {}, "cpu_seconds": {}}

    def __call__(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a function makes of its arguments, under the clock of a section."""
        if self.progress:
            self.progress(name)
        wall, cpu = time.perf_counter(), time.process_time()
        value = function(*arguments)
        self.result["seconds"][name] = time.perf_counter() - wall
        self.result["cpu_seconds"][name] = time.process_time() - cpu
        return value

    def json(self) -> dict[str, Any]:
        """The result as JSON data: numbers that do not exist are null."""
        return _plain(self.result)


def _plain(value: Any) -> Any:
    """JSON data: lists for arrays, Python's numbers for NumPy's, None for NaN and ∞."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Likelihood) else value
