"""Packed and missing values, as the conventions for climate and forecast metadata (CF) have them.

A value v of an array with ``scale_factor`` s and ``add_offset`` o means s v + o, and one that is
``_FillValue`` or ``missing_value``, or lies outside of ``valid_range``, means that there is none:
NaN. https://cfconventions.org
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from physgen.formats.tables.base import as_float
from simulators.base import Array

__all__ = ["CF", "Packing"]

BOUNDS = ("valid_min", "valid_max", "valid_range")
CF = ("_FillValue", "missing_value", "scale_factor", "add_offset", *BOUNDS)

UNWRITTEN = 9.969209968386869e36  # what netCDF fills reals with


@dataclass(frozen=True)
class Packing:
    """How the values of an array are meant.

    Attributes:
        stored: type in the file.
        missing: values that stand for none.
        scale: factor.
        offset: what is added.
        scaled: whether there is a factor or an offset.
        valid: least and greatest value that stand for themselves.
        valid_as_meant: whether these are of values as they are meant, not as they are stored.
    """

    stored: np.dtype[Any]
    missing: tuple[float, ...] = ()
    scale: float = 1.0
    offset: float = 0.0
    scaled: bool = False
    valid: tuple[float, float] = (-math.inf, math.inf)
    valid_as_meant: bool = False

    @classmethod
    def of(
        cls, stored: np.dtype[Any], attributes: Mapping[str, Array], netcdf: bool = False
    ) -> Packing:
        """What an array's attributes (k,) say.

        Raises:
            ValueError: they are not numbers.
        """
        found = {name: np.ravel(values) for name, values in attributes.items()}
        missing = [*found.get("_FillValue", ()), *found.get("missing_value", ())]
        reals = stored.kind == "f" and stored.itemsize > 2  # netCDF has none of 16 bits
        if netcdf and reals and "_FillValue" not in found:
            missing.append(UNWRITTEN)
        scale, offset = found.get("scale_factor", [1.0]), found.get("add_offset", [0.0])
        if len(scale) != 1 or len(offset) != 1:
            raise ValueError("scale_factor, add_offset: expected one number each")
        scaled = "scale_factor" in found or "add_offset" in found
        low, high = found.get("valid_range", [-math.inf, math.inf])
        for name in ("valid_min", "valid_max"):
            if len(found.get(name, [0])) != 1:
                raise ValueError(f"{name}: expected one number")
        low = max(low, *found.get("valid_min", [low]))
        high = min(high, *found.get("valid_max", [high]))
        wide = stored.kind != "f" and any(found[k].dtype.kind == "f" for k in BOUNDS if k in found)
        return cls(
            stored, tuple(missing), float(scale[0]), float(offset[0]), scaled,
            (float(low), float(high)), scaled and wide,
        )  # fmt: skip

    @property
    def bounded(self) -> bool:
        """Whether not all values are valid."""
        return self.valid != (-math.inf, math.inf)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values that are meant."""
        if self.scaled or ((self.missing or self.bounded) and self.stored.kind != "f"):
            return np.dtype("f8")
        return self.stored

    def unpacked(self, values: Array) -> Array:
        """The values (…) that are meant."""
        if not (self.scaled or self.missing or self.bounded):
            return values
        none = np.zeros(values.shape, bool)
        for missing in self.missing:
            none |= values == np.asarray(missing).astype(values.dtype)
        found = as_float(values).astype(self.dtype)
        found = found * self.scale + self.offset if self.scaled else found
        held = found if self.valid_as_meant else values
        found[none | (held < self.valid[0]) | (held > self.valid[1])] = np.nan
        return found
