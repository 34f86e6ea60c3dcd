"""Memory that a process gives back, and takes again."""

from __future__ import annotations

import ctypes
import platform
from functools import cache

__all__ = ["keep_freed_memory"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
KEPT, LARGEST = 2**30, 2**25
"""Bytes of freed memory that stay with the process, at most, and of an array that may be made in
it; glibc knows no larger one."""


@cache
def keep_freed_memory() -> None:
    """Keep up to 1 GiB of freed memory for the arrays to come, where glibc manages it.

    A training step makes and frees hundreds of arrays of some MB. By default glibc hands them back
    to the system, which clears each page anew when it is touched: a tenth to a fifth of a step.
    """
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_TRIM_THRESHOLD, KEPT)
        mallopt(M_MMAP_THRESHOLD, LARGEST)
