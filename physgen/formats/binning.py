"""The cells of a CaloChallenge calorimeter, in the XML that lies beside its files.

::

    <Bins>
      <Bin pid="11" name="electron">
        <Layer id="0" r_edges="0,4.65,9.3" n_bin_alpha="16"/>
        <Layer id="1" r_edges="0" n_bin_alpha="1"/>
      </Bin>
    </Bins>

One ``Bin`` for each particle, with its number in the scheme of the Particle Data Group, in it the
layers in the order of depth: radii of the rings in mm and the number of equal azimuths on [−π, π].
A single radius says that the layer is absent. Other attributes (``etaMin``, …) are passed over.
Reference: C. Krause et al., CaloChallenge 2022, arXiv:2410.21611.

A file from elsewhere may define entities that grow without bound or read other files: one with a
document type is refused, and one of more than 256 KiB.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np

from physgen.dataset.files import check_seal, read_bytes, write_bytes
from physgen.errors import DataError, UsageError
from simulators.shower.geometry import Geometry, Layer

__all__ = ["Binning", "read_binning", "write_binning"]

MAX_XML = 2**18  # so that the geometry fits into a dataset's metadata
PIDS = {"electron": 11, "photon": 22, "pion": 211}
"""Monte Carlo particle numbers of the particles of the CaloChallenge."""


class Binning(NamedTuple):
    """The cells for a particle.

    Attributes:
        particle: name of the ``Bin``.
        geometry: the cells.
        pid: the particle's number; None where nobody knows it.
    """

    particle: str
    geometry: Geometry
    pid: int | None


class Plain(ElementTree.TreeBuilder):
    """Builds the tree of a document without a document type."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Refuse what comes before any entity can be defined."""
        raise ValueError("has a document type, which is not read here; remove it")


def read_binning(path: Path, particle: str | None = None) -> Binning:
    """The cells for a particle.

    Args:
        path: XML file.
        particle: name of the ``Bin``; may be left out where there is one only.

    Returns:
        The particle's name and number, and the geometry, radii in mm.

    Raises:
        DataError: not such a file, radii that do not grow from 0, or a number that is none.
        StorageError: the file cannot be read.
        UsageError: several particles and no choice, or none of this name.
    """
    bins = [(str(b.get("name")), b) for b in tree(path).iter("Bin")]
    names = ", ".join(name for name, _ in bins)
    if not bins:
        raise DataError(f"{path}: no <Bin>; expected the binning of a CaloChallenge file")
    chosen = [b for b in bins if particle in (None, b[0])]
    if len(chosen) != 1:
        got = "no choice" if particle is None else repr(particle)
        raise UsageError(f"{path}: particle: expected one of {names}, got {got}")
    name, element = chosen[0]
    try:
        geometry = Geometry(tuple(layer_of(layer) for layer in element.iter("Layer")))
        pid = pid_of(element.get("pid"))
    except KeyError as error:
        raise DataError(f"{path}: {name}: a layer has no attribute {error}") from error
    except (ValueError, OverflowError) as error:
        raise DataError(f"{path}: {name}: {error}") from error
    if not geometry.cells:
        raise DataError(f"{path}: {name}: no layer has cells")
    return Binning(name, geometry, PIDS.get(name) if pid is None else pid)


def pid_of(text: str | None) -> int | None:
    """The number of a particle, if there is one.

    Raises:
        ValueError: a text that is none.
    """
    try:
        return None if text is None else int(text)
    except ValueError:
        raise ValueError(f"pid: expected an integer, got {text!r}") from None


def tree(path: Path) -> ElementTree.Element:
    """The root of a small and plain XML file."""
    check_seal(path)
    if (size := path.stat().st_size) > MAX_XML:
        raise DataError(f"{path}: {size} bytes; a binning of at most {MAX_XML} is read")
    try:
        return ElementTree.fromstring(read_bytes(path), ElementTree.XMLParser(target=Plain()))
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as XML: {error}") from error


def layer_of(element: ElementTree.Element) -> Layer:
    """One layer; the azimuths of an absent one do not matter.

    Raises:
        KeyError: an attribute that is missing.
        ValueError: one that is no number, or radii that do not grow from 0.
    """
    number, text = int(element.attrib["id"]), element.attrib["r_edges"]
    edges = tuple(float(r) for r in text.split(",") if r.strip())
    if not all(map(math.isfinite, edges)):
        raise ValueError(f"layer {number}: expected finite radii, got {text}")
    if len(edges) < 2:
        return Layer(number, (0.0,), 1)
    return Layer(number, edges, int(element.attrib["n_bin_alpha"]))


def write_binning(
    path: Path, geometry: Geometry, particle: str, unit: float = 1.0, pid: int | None = None
) -> None:
    """Write the cells for a particle.

    Args:
        path: XML file; replaced if it exists.
        geometry: the cells.
        particle: name of the ``Bin``.
        unit: unit of the geometry's radii, mm.
        pid: the particle's number; that of its name if None, where it is known.

    Raises:
        StorageError: the file system refused.
    """
    root = ElementTree.Element("Bins")
    pid = PIDS.get(particle) if pid is None else pid
    named = {} if pid is None else {"pid": str(pid)}
    parent = ElementTree.SubElement(root, "Bin", named | {"name": particle})
    for layer in geometry.layers:
        ElementTree.SubElement(parent, "Layer", attributes(layer, unit))
    ElementTree.indent(root)
    write_bytes(path, ElementTree.tostring(root) + b"\n", sidecar=False)


def attributes(layer: Layer, unit: float) -> dict[str, Any]:
    """The attributes of one layer; each radius in as few digits as give it back."""
    edges = [np.format_float_positional(r * unit, trim="-") for r in layer.edges]
    return {
        "id": str(layer.id),
        "r_edges": ",".join(edges) if layer.rings > 0 else "0",
        "n_bin_alpha": str(layer.azimuths),
    }
