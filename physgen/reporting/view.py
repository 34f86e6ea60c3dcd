"""What a check has to show, as data: pictures, a table and words, which any page can set.

Checks know no ink. A :class:`Picture` names a figure of :mod:`physgen.reporting.uniform` and holds
what it is to draw; words are text with places for numbers, which the page writes as it writes all
numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = [
    "CONTROLS",
    "CURVES",
    "OBSERVATIONS",
    "SHORT_VECTOR",
    "Column",
    "Labels",
    "PagePart",
    "Picture",
    "TableView",
    "Tile",
    "Value",
    "Words",
    "some_observations",
]


CURVES = ("along", "profile", "slice")
"""Arrays of a posterior that are of the parameters of interest alone."""
OBSERVATIONS, SHORT_VECTOR = 6, 8
"""Posteriors that are shown one by one, and components of a vector that is no curve, at most."""
CONTROLS = {
    "narrow": "30 % too narrow",
    "shifted": "shifted by 0.3 widths",
    "thin": "30 % too narrow in one direction",
    "correlated": "a wrong correlation",
    "shuffled": "shuffled components",
}
"""Posteriors, or x, that are wrong on purpose: what each is called."""


class Words(NamedTuple):
    """Text with a place {} for each of some values."""

    text: str
    values: tuple[Any, ...] = ()


Value = str | float | tuple[float, float] | Words | None
"""A number, a number with its standard error, text, or what is not known."""


class Labels(NamedTuple):
    """What the parameters are called: in text (β), and on the axes of a figure (LaTeX)."""

    letters: Mapping[str, str]
    symbols: Mapping[str, str]

    def letter(self, name: str) -> str:
        """A parameter in text; its plain name where nothing better is known."""
        return self.letters.get(name) or name

    def symbol(self, name: str) -> str:
        """A parameter on an axis; its plain name where nothing better is known."""
        return self.symbols.get(name) or name


class Picture(NamedTuple):
    """One figure.

    Attributes:
        figure: name of a figure of :mod:`physgen.reporting.uniform`.
        data: what that takes, but for the axes.
        square: whether width and height are of one scale.
        panels: how many panels it has, if it arranges them itself; 0 of a single one.
    """

    figure: str
    data: tuple[Any, ...]
    square: bool = False
    panels: int = 0


class Column(NamedTuple):
    """Head of a column, a smaller line below it, and the digits of its numbers."""

    title: str
    small: str = ""
    digits: int = 2


class TableView(NamedTuple):
    """Columns, and rows with a value for each of them."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Value]]


class Tile(NamedTuple):
    """A figure that is shown large, and what would be good."""

    title: str
    value: Value
    unit: str
    words: Words


@dataclass(frozen=True)
class PagePart:
    """A part of the page.

    Attributes:
        key: its anchor; parts of the same key are set as one, their pictures side by side.
        title: its heading.
        absent: what is said where there is nothing to show.
        pictures: its figures.
        alt: what each picture is, for those who cannot see it.
        caption: what the pictures say.
        table: its table; None if it has none.
        words: what else is to be said, below; None if there is nothing.
        tiles: its figures for the top of the page.
    """

    key: str
    title: str
    absent: str
    pictures: tuple[Picture, ...] = ()
    alt: str = ""
    caption: str = ""
    table: TableView | None = None
    words: Words | None = None
    tiles: tuple[Tile, ...] = ()


def some_observations(found: Mapping[str, Any], rows: slice) -> dict[str, Any]:
    """Some of the observations of a posterior, as a page shows it.

    Args:
        found: metadata of a posterior file, its arrays, and its density on a grid or None.
        rows: which of them, from 0 on.
    """
    grid, first = found.get("density"), found.get("first_row", 0) + rows.start
    arrays = {name: values[rows] for name, values in found["arrays"].items()}
    return {**found, "arrays": arrays, "density": grid and grid[rows], "first_row": first}
