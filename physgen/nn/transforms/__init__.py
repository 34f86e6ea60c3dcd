"""Invertible maps between data space and the standardised space in which networks live.

θ is mapped to its prior's own coordinates, x by a map that its support asks for. Where the map
of x is not volume-preserving, log p(x) = log p(z) + log|det ∂z/∂x|: the maps carry that term, so
that every log p that leaves a surrogate is in the raw units of x.

`theta` maps parameters; `reals`, `nonnegative` and `columns` map x; `monotone` and `rotation` are
what real x may go through besides; `symmetries` is the group that leaves p(x|θ) unchanged.
"""

from physgen.nn.transforms.base import Identity, Transform, finite_part
from physgen.nn.transforms.columns import ByColumn, Counts, for_support
from physgen.nn.transforms.nonnegative import LogHurdle
from physgen.nn.transforms.reals import Standardise
from physgen.nn.transforms.related import Related
from physgen.nn.transforms.symmetries import Symmetries
from physgen.nn.transforms.theta import KNOWN, Rescale, coordinates

__all__ = [
    "KNOWN",
    "ByColumn",
    "Counts",
    "Identity",
    "LogHurdle",
    "Related",
    "Rescale",
    "Standardise",
    "Symmetries",
    "Transform",
    "coordinates",
    "finite_part",
    "for_support",
]
