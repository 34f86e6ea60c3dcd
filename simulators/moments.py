"""Figures of many fields at one θ, whatever their physics."""

from __future__ import annotations

import numpy as np

from simulators.base import Array

__all__ = ["binder_cumulant"]


def binder_cumulant(x: Array) -> float:
    """1 − ⟨M⁴⟩/(3⟨M²⟩²) of fields x (n, rows, columns) at one θ, a pure number, M their sum."""
    m2 = np.asarray(x).mean((1, 2), dtype=float) ** 2
    return float(1 - (m2**2).mean() / (3 * m2.mean() ** 2))
