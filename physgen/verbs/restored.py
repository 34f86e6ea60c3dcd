"""What `physgen.restore` returns: draws of x given y, and what is known of their making."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from physgen.dataset import read_arrays, write_arrays
from physgen.errors import as_written
from simulators.base import Array

__all__ = ["RestoredRows", "scores_in_short"]


@dataclass(frozen=True, repr=False)
class RestoredRows:
    """Draws of x given y = Mx + σε, n of each of some rows.

    Attributes:
        arrays: as in the file, the row first: x (rows, n, *x_shape), theta (rows, n, D), mean and
            sd of x (rows, *x_shape), y (rows, *y_shape), NaN where it was not seen; exact_mean and
            exact_sd, where the exact p(x|y) is known; truth, where x was measured here; and what
            the method says of its draws, (rows, n) each.
        about: what the file says of itself: method, measurement, law, theta, scores, warnings.
        path: its file; None in memory.
        summary: what to tell a person.
    """

    arrays: Mapping[str, Array]
    about: Mapping[str, Any]
    path: Path | None = None
    summary: str = ""

    @classmethod
    def load(cls, path: str | Path) -> RestoredRows:
        """Read what `save` wrote.

        Raises:
            DataError: a file that is damaged, or of another kind.
            StorageError: the file cannot be opened.
        """
        arrays, about = read_arrays(path, "restoration")
        with as_written(path):
            found = cls(arrays, about, Path(path))
            return replace(found, summary=f"{path}: {repr(found)[1:-1]}")

    @property
    def x(self) -> Array:
        """The draws, (rows, n, *x_shape)."""
        return self.arrays["x"]

    @property
    def theta(self) -> Array:
        """θ of each draw, (rows, n, D)."""
        return self.arrays["theta"]

    @property
    def mean(self) -> Array:
        """E[x|y], (rows, *x_shape)."""
        return self.arrays["mean"]

    @property
    def sd(self) -> Array:
        """Standard deviation of each component of x, (rows, *x_shape)."""
        return self.arrays["sd"]

    @property
    def scores(self) -> list[dict[str, Any]]:
        """How far each row's draws are from the exact p(x|y); empty where that is not known."""
        return list(self.about["scores"])

    @property
    def warnings(self) -> list[str]:
        """What speaks against the draws, a line each; empty if nothing does."""
        return list(self.about["warnings"])

    @property
    def report_data(self) -> dict[str, Any]:
        """What a page shows of it."""
        return {"schema": "physgen/restoration/1", **self.about, "arrays": dict(self.arrays)}

    def save(self, path: str | Path, *, force: bool = False) -> RestoredRows:
        """Write it, and return it with its file.

        Args:
            path: HDF5 file to write.
            force: overwrite the file if it exists.
        """
        write_arrays(path, self.arrays, self.about, kind="restoration", force=force)
        return replace(self, path=Path(path))

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        rows, n = self.x.shape[:2]
        what = "row" if rows == 1 else "rows"
        how = f"by {self.about['method']}{scores_in_short(self.scores)}"
        return f"<{n:,} draws of x given y of {rows:,} {what} {how}>"


def scores_in_short(scores: Sequence[Mapping[str, Any]]) -> str:
    """The first row's scores, for a summary."""
    if not scores:
        return ""
    off = scores[0]["off"]
    text = f"; mean off by {off['value']:.2f} exact widths ({off['exact']:.2f} by chance"
    without = "" if off["control"] is None else f", {off['control']:.2f} without y"
    return f"{text}{without})"
