"""Where x are drawn: θ of a table, of a posterior's draws or at one value, besides the prior."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from physgen import dataset
from physgen.dataset import Dataset, GivenTheta, HeldTheta, Rows, ThetaSource
from physgen.dataset.schema import require_fixed, require_inside
from physgen.errors import DataError, UsageError
from physgen.formats.tables import open_table
from physgen.law import Law
from physgen.priors import truncated_prior
from physgen.runtime.kinds import shortened
from physgen.runtime.progress import log
from physgen.verbs.arguments import ThetaLike, Values
from physgen.verbs.draws import PosteriorDraws, open_draws
from simulators.base import Array
from simulators.prior import Prior

__all__ = ["ThetaTable", "open_theta", "rows_asked_for", "theta_given", "where_to_simulate"]


@dataclass(frozen=True)
class ThetaTable:
    """A table of θ: columns that are called as the parameters are, or one array of all.

    Attributes:
        name: its file, or a stand-in for it.
        shapes: name → shape of what it holds, rows first.
        read: names → values (m, …) of each.
        origin: path and sha256, JSON data.
    """

    name: str
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[Sequence[str]], Mapping[str, Array]]
    origin: Mapping[str, Any]

    @classmethod
    def of(cls, table: Any) -> ThetaTable:
        """That of a file, a dataset, columns by name, or an array (m, D).

        Raises:
            DataError: a file or values that cannot be read.
            UsageError: something else.
        """
        if isinstance(table, str | Path) and dataset.schema_of(Path(table)) != dataset.SCHEMA:
            return cls.in_file(Path(table))
        columns = columns_in_memory(table)
        path = table if isinstance(table, str | Path) else getattr(table, "path", None)
        sha256 = dataset.file_digest(Path(path)) if path else dataset.block_digest(columns)
        shapes = {name: values.shape for name, values in columns.items()}
        origin = {"path": path and str(path), "sha256": sha256}
        return cls(str(path or "(in memory)"), shapes, lambda names: columns, origin)

    @classmethod
    def in_file(cls, path: Path) -> ThetaTable:
        """That of a file of any kind that holds named arrays."""

        def read(names: Sequence[str]) -> Mapping[str, Array]:
            with open_table(path) as table:
                return table.read(names)

        with open_table(path) as table:
            shapes = {name: info.shape for name, info in table.arrays.items()}
        return cls(
            str(path), shapes, read, {"path": str(path), "sha256": dataset.file_digest(path)}
        )

    def theta(self, law: Law, held: Values) -> Array:
        """θ (m, D) of its rows, with one value in the columns that are held.

        Raises:
            DataError: values outside of the prior, or of what is fixed.
            UsageError: columns that it does not have.
        """
        names = law.prior.names
        wanted = [name for name in names if name not in held]
        by_name = set(wanted) <= set(self.shapes)
        columns = self.columns(wanted, law.prior.fixed) if by_name else self.whole(names)
        m = max((len(values) for values in columns.values()), default=1)
        columns |= {name: np.full(m, float(held[name])) for name in held}
        theta = np.column_stack([columns[name] for name in names]).astype(float)
        if not len(theta):
            raise DataError(f"{self.name}: no rows; expected theta of at least one")
        require_inside(theta, law.prior, self.name)
        return theta

    def columns(self, names: Sequence[str], fixed: Values) -> dict[str, Array]:
        """Values (m,) of the columns of these names; what is fixed must have its value there.

        Raises:
            DataError: columns of several numbers a row, of other lengths or with other values.
        """
        checked = [*names, *(name for name in fixed if name in self.shapes)]
        found = {name: np.asarray(v) for name, v in self.read(checked).items() if name in checked}
        flat = {k: v[:, 0] if v.shape[1:] == (1,) else v for k, v in found.items()}
        for name, values in flat.items():
            if values.ndim != 1 or len(values) != len(flat[checked[0]]):
                raise DataError(
                    f"{self.name}: {name}: expected one number a row, got {values.shape}"
                )
        require_fixed(flat, fixed, self.name)
        return {name: flat[name] for name in names}

    def whole(self, names: Sequence[str]) -> dict[str, Array]:
        """Values (m,) of the columns of one array (m, D), in the order of these names.

        Raises:
            UsageError: there is none.
        """
        known = ["theta"] if "theta" in self.shapes else list(self.shapes)
        shape = self.shapes[known[0]] if len(known) == 1 else ()
        if shape[1:] != (len(names),) and not len(shape) == len(names) == 1:
            has = shortened([f"{name} {shape}" for name, shape in self.shapes.items()])
            raise UsageError(
                f"{self.name}: expected columns {', '.join(names)}, or an array theta (m, "
                f"{len(names)}), got {has or 'no arrays'}"
            )
        if len(names) > 1 and self.origin["path"]:
            log.info("%s: theta are %s, in this order", self.name, ", ".join(names))
        values = np.asarray(self.read(known)[known[0]]).reshape(-1, len(names))
        return dict(zip(names, values.T, strict=True))

    def source(self) -> dict[str, Any]:
        """What a dataset says of θ that follow it."""
        return {"follow": f"the rows of {self.name}", "table": dict(self.origin)}


def columns_in_memory(table: Any) -> dict[str, Array]:
    """Columns (m, …) by name, of a dataset, of an object with names, or of one array (m, D).

    Raises:
        UsageError: something else.
    """
    if isinstance(table, Dataset | Rows | str | Path):
        data = Dataset(table)
        if data.meta is None:
            return {"theta": data.theta}
        return dict(zip(data.meta.law.prior.names, data.theta.T, strict=True))
    try:
        return dataset.as_columns(table) or {"theta": dataset.as_array(table)}
    except DataError as error:
        raise UsageError(
            "theta_from: expected a posterior, a table of theta, or a file of these, got "
            f"{type(table).__name__}"
        ) from error


def open_theta(
    theta_from: ThetaLike | None, row: int | None, **options: bool
) -> PosteriorDraws | ThetaTable | None:
    """The draws or the table that θ come from, if any.

    Args:
        theta_from: posterior or table, or a file of these.
        row: as for `open_draws`.
        **options: whether others were given that are of a posterior's draws.

    Raises:
        UsageError: options of a posterior without one.
    """
    if dataset.is_posterior(theta_from):
        posterior: Any = theta_from
        return open_draws(posterior, row)
    none = theta_from is None
    for name, given in {"row": row is not None, **options}.items():
        if given:
            mend = "add its file" if none else "this is none; leave it out"
            raise UsageError(f"{name}: is of the posterior that --theta-from names; {mend}")
    return None if none else ThetaTable.of(theta_from)


def where_to_simulate(
    law: Law,
    given: PosteriorDraws | ThetaTable | None,
    held: Values | None,
    n: int | None,
    widen: float = 1.0,
    truncate: bool = False,
) -> tuple[Law, ThetaSource | None, dict[str, Any], int]:
    """Where θ are taken from, if not from the prior.

    Args:
        law: with the prior that θ are in.
        given: draws or a table.
        held: values that parameters have in all rows.
        n: number of rows; those of the table, or all draws, if None.
        widen: how many times as wide as the posterior θ are.
        truncate: whether to take θ from the part of the prior that holds all draws.

    Returns:
        the law with the prior of the file, where θ are taken from, what the file says of it, and
        the number of rows.

    Raises:
        DataError: θ of a table outside of the prior.
        UsageError: other parameters, values or draws outside of the prior, or no number of rows.
    """
    held = held_values(law.prior, held)
    source: ThetaSource | None = None
    about: dict[str, Any] = {}
    if truncate and isinstance(given, PosteriorDraws):
        law, about = truncated(law, given, widen)
    elif given:
        source, about = theta_given(law, given, held, n, widen)
    n = rows_asked_for(n, source)
    if held:
        source = HeldTheta(law.prior, held, source)
        about["theta"] = held_in_words(law.prior, held, about.get("theta", {}))
    return law, source, about, n


def theta_given(
    law: Law,
    given: PosteriorDraws | ThetaTable,
    held: Values,
    n: int | None,
    widen: float = 1.0,
) -> tuple[ThetaSource, dict[str, Any]]:
    """What θ follow that are of a table, or of a posterior, and what the file says of it."""
    if isinstance(given, ThetaTable):
        return GivenTheta(given.theta(law, held)), {"theta": given.source()}
    proposal, about = given.proposal(law.prior, widen), {"theta": given.source(widened=widen)}
    if n is None and widen == 1:
        return GivenTheta(proposal.draws.reshape(-1, len(law.prior))), about
    return proposal, about


def rows_asked_for(n: int | None, source: ThetaSource | None) -> int:
    """The number of rows; as many as are given, where none is asked for.

    Raises:
        UsageError: none is asked for, and none given.
    """
    if n is not None:
        return n
    if isinstance(source, GivenTheta):
        return len(source.theta)
    raise UsageError("n: expected the number of rows, as in -n 1000")


def truncated(law: Law, draws: PosteriorDraws, widen: float) -> tuple[Law, dict[str, Any]]:
    """The law under the part of its prior that holds all draws, and what the file says of it."""
    prior, whole = truncated_prior(law.prior, draws.proposal(law.prior, widen).box)
    if whole:
        log.warning(
            "truncate: %s: of a correlated law, or one that scipy does not cut, no part is taken",
            ", ".join(whole),
        )
    return replace(law, prior=prior), {"truncated": draws.origin | {"stretched": widen}}


def held_values(prior: Prior, held: Values | None) -> dict[str, float]:
    """Values that parameters have in all rows.

    Raises:
        UsageError: other parameters than the prior's, or values outside of it.
    """
    found = {name: float(value) for name, value in (held or {}).items()}
    for name, value in found.items():
        if name not in prior.names:
            raise UsageError(f"theta_at: expected some of {', '.join(prior.names)}, got {name}")
        p = prior.parameters[prior.names.index(name)]
        if not p.low <= value <= p.high:
            raise UsageError(
                f"theta_at: {name}={value!r} is outside the prior, [{p.low!r}, {p.high!r}]"
            )
    return found


def held_in_words(prior: Prior, held: Values, about: Mapping[str, Any]) -> dict[str, Any]:
    """What a dataset says of θ some of which are held, and of what the others follow."""
    words = [f"{name} = {value!r}" for name, value in held.items()]
    if len(held) < len(prior):
        words.append(f"the rest {about.get('follow', 'the prior')}")
    return {**about, "follow": ", ".join(words), "held": dict(held)}
