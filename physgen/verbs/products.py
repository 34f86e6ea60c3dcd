"""What verbs return, besides datasets, surrogates and posteriors: scores, pages, descriptions.

Each product knows its file, if it has one, and one line about itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from physgen.dataset.products import read_arrays, write_arrays

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Description", "Exported", "LatentCodes", "Page", "Product", "Scores"]


class Product(Protocol):
    """What every verb returns."""

    @property
    def path(self) -> Path | None:
        """Its file; None in memory."""
        ...

    @property
    def summary(self) -> str:
        """What to tell a person, in a line or a few."""
        ...


class JsonData(Mapping[str, Any]):
    """JSON data with a file and a summary.

    Args:
        data: name → value.
        summary: what to tell a person.
        path: the file that holds it; None in memory.
    """

    def __init__(self, data: Mapping[str, Any], summary: str, path: Path | None = None) -> None:
        self.data, self.summary, self.path = dict(data), summary, path

    @property
    def as_json(self) -> str:
        """The data as the text of a file."""
        return dumps(self.data, allow_nan=False)

    @property
    def report_data(self) -> dict[str, Any]:
        """What a page shows of it."""
        return self.data

    def __getitem__(self, name: str) -> Any:
        return self.data[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.summary}>"


class Scores(JsonData):
    """What validate, calibrate or compare has measured: JSON data, as in its file."""

    def figures(self) -> dict[str, list[Figure]]:
        """Section of the report → its figures.

        Raises:
            UsageError: matplotlib is not installed.
        """
        from physgen.verbs.pages import figures_of

        return figures_of(self.data)

    def plot(self, section: str | None = None) -> Figure:
        """The first figure of a section of the report.

        Args:
            section: its name, out of `figures`; the first that has a figure if None.

        Raises:
            KeyError: no such section, or one without a figure.
        """
        drawn = {name: some for name, some in self.figures().items() if some}
        name = section or next(iter(drawn))
        if name not in drawn:
            raise KeyError(f"no figure of {name!r}; there are {', '.join(drawn)}")
        return drawn[name][0]

    def _repr_html_(self) -> str:
        from physgen.reporting import framed
        from physgen.verbs.pages import render

        return framed(render(self.data))


class LatentCodes(Scores):
    """Latents of rows, and what was measured of them: "arrays" beside JSON data, as in its file.

    The arrays are theta (n, D), latents (n, K), means of the encoder, their first two principal
    components, map (n, 2), observables (n, k) in the order of data["observables"], and pictures
    (r, places, h, w) of rows that were moved.
    """

    def save(self, path: str | Path, *, force: bool = False) -> LatentCodes:
        """Write it as an HDF5 file.

        Raises:
            StorageError: the file system refused.
            UsageError: the output exists.
        """
        path, about = Path(path).expanduser(), dict(self.data)
        write_arrays(path, about.pop("arrays"), about, kind="latents", force=force)
        text = self.summary.removeprefix(f"{self.path}: ")
        return LatentCodes(self.data, f"{path}: {text}", path)

    @classmethod
    def load(cls, path: str | Path) -> LatentCodes:
        """Read one that was written.

        Raises:
            DataError: a file that is damaged, or of another kind.
            StorageError: the file cannot be opened.
        """
        path = Path(path).expanduser()
        arrays, about = read_arrays(path, "latents")
        text = about.get("summary", f"{len(arrays['latents']):,} rows")
        return cls(about | {"arrays": arrays}, f"{path}: {text}", path)


class Description(JsonData):
    """What `inspect` has found.

    Attributes:
        fault: what is wrong with what was looked at; empty if nothing is.
    """

    fault: str = ""


@dataclass(frozen=True, repr=False)
class Page:
    """A report: one self-contained HTML page.

    Attributes:
        html: its text.
        summary: what to tell a person.
        path: its file; None in memory.
        data: the figures that it shows, where they were measured on the way.
    """

    html: str
    summary: str
    path: Path | None = None
    data: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<Page: {self.summary}>"

    def _repr_html_(self) -> str:
        from physgen.reporting import framed

        return framed(self.html)


@dataclass(frozen=True)
class Exported:
    """A file in another format.

    Attributes:
        path: the file.
        summary: what to tell a person.
    """

    path: Path
    summary: str
