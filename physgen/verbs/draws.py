"""Draws of a posterior, in memory or in its file: where θ are to be, or what to show."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from physgen import dataset
from physgen.errors import UsageError, as_written
from physgen.law import Law
from physgen.verbs.arguments import PosteriorLike
from simulators.base import Array
from simulators.prior import Prior

__all__ = ["PosteriorDraws", "open_draws"]


@dataclass(frozen=True)
class PosteriorDraws:
    """Draws of a posterior, and where they come from.

    Attributes:
        theta: draws, the observation first, (n, k, D).
        law: what the posterior follows; its prior is that of the posterior.
        origin: path, sha256 and row of the posterior, JSON data.
        row: the row of the observed file that they are of; None of several, mixed.
    """

    theta: Array
    law: Law
    origin: dict[str, Any]
    row: int | None

    @property
    def name(self) -> str:
        """Their file, or a stand-in for it."""
        return self.origin["path"] or "(in memory)"

    def proposal(self, prior: Prior, widen: float = 1.0) -> dataset.Proposal:
        """The law of θ that they are, inside a prior of the same parameters.

        Raises:
            UsageError: other parameters, or draws that the prior does not hold.
        """
        ours, theirs = prior.names, self.law.prior.names
        if ours != theirs:
            raise UsageError(
                f"theta_from: expected a posterior of {', '.join(ours)}, got one of "
                f"{', '.join(theirs)}"
            )
        return dataset.Proposal(prior, self.theta, widen)

    def source(self, **how: float) -> dict[str, Any]:
        """What a dataset says of θ that follow them: in words, and where they come from."""
        of = "" if self.row is None else f" given row {self.row}"
        words = [f"draws of a posterior{of}, {self.name}"]
        words += [f"{name} {value:g} times" for name, value in how.items() if value != 1]
        return {"follow": ", ".join(words), "posterior": self.origin, **how}


def open_draws(posterior: PosteriorLike, row: int | None = None) -> PosteriorDraws:
    """Draws of a posterior, in memory or in its file.

    Args:
        posterior: as infer returned or wrote it.
        row: row of the observed file whose posterior to take, as the page of the posterior
            numbers them; all of them if None.

    Raises:
        DataError: a file that is damaged, or no posterior.
        UsageError: no such row.
    """
    arrays, about = dataset.posterior_arrays(posterior)
    path = Path(posterior) if isinstance(posterior, str | Path) else posterior.path
    sha256 = dataset.file_digest(path) if path else dataset.block_digest(arrays)
    with as_written(path or "posterior"):
        law, first = Law.from_json(about["law"]), int(about.get("first_row", 0))
        theta = arrays["theta"]
        n, _, _ = theta.shape
    last = first + n - 1
    if row is not None and not first <= row <= last:
        raise UsageError(
            f"row: {path or 'the posterior'} is of rows {first} to {last} of what was observed, "
            f"got {row}"
        )
    if row is None and n == 1:
        row = first
    some = theta if row is None else theta[row - first : row - first + 1]
    origin = {"path": path and str(path), "sha256": sha256, "row": row}
    return PosteriorDraws(some, law, origin, row)
