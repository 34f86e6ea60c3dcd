"""A page before it is set: its template, the values in it, and its figures, not yet drawn.

Every figure is an ``<img>`` with its SVG inside, so that no identifier, style or script of one
can reach another; the page's own policy forbids the network, and any script
but one that it knows by its hash. Strings from the metrics
are never trusted: the template escapes all of them, and control characters are shown as escapes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import ChainableUndefined, Environment, FileSystemLoader
from matplotlib.figure import Figure

from physgen.reporting.quantities import facts, law_words, measured, number, to_width
from physgen.reporting.style import PANEL, figure_of, svg
from physgen.runtime.terminal import printable

__all__ = ["Drawing", "Sheet", "grid", "plot"]


class Shown(NamedTuple):
    """A figure as a page holds it.

    Attributes:
        uri: an SVG as a data URI.
        pictured: whether there are images in it, whose shades mean something: the dark does not
            turn them round.
    """

    uri: str
    pictured: bool


@dataclass(frozen=True)
class Drawing:
    """A figure that is drawn when it is asked for.

    Attributes:
        draw: draws on an empty figure.
        size: width and height in inches.
    """

    draw: Callable[[Figure], None]
    size: tuple[float, float] = PANEL

    @property
    def shown(self) -> Shown:
        """The figure as an SVG."""
        ink = svg(self.draw, self.size)
        uri = f"data:image/svg+xml;base64,{base64.b64encode(ink).decode()}"
        return Shown(uri, b"<image" in ink)

    def figure(self) -> Figure:
        """The figure of matplotlib."""
        return figure_of(self.draw, self.size)


def plot(draw: Callable[..., None], *data: Any, size: tuple[float, float] = PANEL) -> Drawing:
    """A figure of one axes."""
    return grid(lambda figure: draw(figure.add_subplot(), *data), size=size)


def grid(draw: Callable[..., None], *data: Any, size: tuple[float, float] = PANEL) -> Drawing:
    """A figure that arranges its own axes."""
    return Drawing(lambda figure: draw(figure, *data), size)


@dataclass(frozen=True)
class Sheet:
    """A page before it is set.

    Attributes:
        template: a file beside this module.
        values: what goes into it.
        plots: section → its figures.
    """

    template: str
    values: Mapping[str, Any]
    plots: Mapping[str, Sequence[Drawing]]

    def html(self, **around: Any) -> str:
        """The page; the same text for the same values.

        Args:
            **around: what all pages have: "conclusion", what is said first; "digests", SHA-256 of
                the models ("model") and data ("data") that it speaks of, by which other pages find
                it; "links", pages beside it, each with "href", "title" and "shared".
        """
        environment = Environment(
            loader=FileSystemLoader(Path(__file__).parent),
            autoescape=True,
            undefined=ChainableUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters |= {
            "number": number, "near": to_width, "measured": measured, "facts": facts,
            "law": law_words, "sha256": sha256_source,
        }  # fmt: skip
        shown = {name: [drawing.shown for drawing in some] for name, some in self.plots.items()}
        values, template = dict(self.values), environment.get_template(self.template)
        if (values.get("law") or {}).get("simulator") == "arrays":  # as imported, if not named
            values["law"] = {**values["law"], "simulator": "own data"}
        return printable(template.render(**values, **around, plots=shown))

    def figures(self) -> dict[str, list[Figure]]:
        """Section → its figures of matplotlib."""
        return {name: [drawing.figure() for drawing in some] for name, some in self.plots.items()}


def sha256_source(script: str) -> str:
    """A script as a page's policy allows it: by its hash.

    https://www.w3.org/TR/CSP3/#grammardef-hash-source
    """
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
