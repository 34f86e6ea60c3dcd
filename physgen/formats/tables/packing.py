"""Packed and missing values, as the conventions for climate and forecast metadata (CF) have them.

A value v of an array with ``scale_factor`` s and ``add_offset`` o means s v + o, and one that is
``_FillValue`` or ``missing_value`` means that there is none: NaN. https://cfconventions.org
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from physgen.formats.tables.base import as_float
from simulators.base import Array

__all__ = ["CF", "Packing"]

CF = ("_FillValue", "missing_value", "scale_factor", "add_offset")

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
    """

    stored: np.dtype[Any]
    missing: tuple[float, ...] = ()
    scale: float = 1.0
    offset: float = 0.0
    scaled: bool = False

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
        if netcdf and stored.kind == "f" and "_FillValue" not in found:
            missing.append(UNWRITTEN)
        scale, offset = found.get("scale_factor", [1.0]), found.get("add_offset", [0.0])
        if len(scale) != 1 or len(offset) != 1:
            raise ValueError("scale_factor, add_offset: expected one number each")
        scaled = "scale_factor" in found or "add_offset" in found
        return cls(stored, tuple(missing), float(scale[0]), float(offset[0]), scaled)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values that are meant."""
        if self.scaled or (self.missing and self.stored.kind != "f"):
            return np.dtype("f8")
        return self.stored

    def unpacked(self, values: Array) -> Array:
        """The values (…) that are meant."""
        if not (self.scaled or self.missing):
            return values
        none = np.zeros(values.shape, bool)
        for missing in self.missing:
            none |= values == np.asarray(missing).astype(values.dtype)
        values = as_float(values).astype(self.dtype)
        values = values * self.scale + self.offset if self.scaled else values
        values[none] = np.nan
        return values
