"""Make a dataset of arrays that somebody has already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from physgen import dataset
from physgen.dataset import Dataset, Meta, Rows, Shard
from physgen.dataset.elsewhere import describe_rows, names_of_columns, rows_in_order
from physgen.errors import UsageError
from physgen.priors import asked_for
from physgen.runtime.options import command_line
from physgen.runtime.progress import log
from physgen.verbs.arguments import PriorLike, Values
from physgen.verbs.running import headed, make_dataset, on_files, plural
from simulators.base import Array, words_of_names
from simulators.columns import SupportLike
from simulators.prior import Prior

__all__ = ["dataset_of"]


@on_files("out")
def dataset_of(
    theta: Any,
    x: Any,
    prior: PriorLike | None = None,
    *,
    names: Sequence[str] | None = None,
    fix: Values | None = None,
    correlation: Mapping[Any, float] | None = None,
    support: SupportLike | None = None,
    missing: bool = False,
    axes: str | Sequence[str] = (),
    symmetries: str | Sequence[str] = (),
    simulator: str = "arrays",
    on_error: Literal["stop", "skip"] = "stop",
    out: Path | str | None = None,
    force: bool = False,
) -> Dataset:
    """Make a dataset of arrays of θ and x: simulations that somebody has already.

    Args:
        theta: (n, D), or (n,) of one parameter; or columns by name, as a mapping, a table of
            pandas or a structured array has them.
        x: (n, *x_shape), or (n,); or columns by name, as for θ.
        prior: that θ were drawn from, `simulators.Prior` or laws by name; proposed if None, and
            said.
        names: of the columns of θ; those of the prior if None.
        fix: values of parameters that all rows share.
        correlation: of the normal scores of pairs of parameters, as in {"a:tau": 0.5}.
        support: what x may be: reals, nonnegative, counts, spins, or levels:K; or what each column
            may be, as in {"hits": "levels:10", "t": "reals"}; told by their type if None.
        missing: take NaN in x for components that are missing.
        axes: what each axis of x is: "channel" (only the first), "open" or "periodic"; as
            a simulator without them if empty.
        symmetries: maps of x that leave p(x|θ) unchanged: shift, reflect, transpose or flip.
        simulator: what drew x, in summaries.
        on_error: what to do about rows whose x is not finite or outside of its support: stop; or
            skip them, and keep their θ and the reason.
        out: HDF5 file to write.
        force: overwrite the file if it exists.

    Returns:
        The dataset, in memory or in its file.

    Raises:
        DataError: arrays that do not fit together, or θ outside of the prior.
        UsageError: laws of other parameters.
    """
    laws = asked_for(prior, fix)
    free = [n for n in Prior.words(laws) if n not in (fix or {})]
    columns, called = named_columns(theta, names, free)
    found = dataset.as_columns(x)
    types = {name: values.dtype for name, values in found.items()}
    x = np.stack([*found.values()], axis=1) if found else dataset.as_array(x)
    if len(x) != len(columns):
        raise UsageError(f"theta, x: expected as many rows, got {len(columns)} and {len(x)}")
    x = x[:, None] if x.ndim == 1 else x
    about = describe_rows(
        columns, called, x, prior=laws, correlation=correlation, support=support,
        columns=types, missing=missing, simulator=simulator, axes=words_of_names(axes),
        symmetries=words_of_names(symmetries),
    )  # fmt: skip
    for line in about.said:
        log.warning("%s", headed(out, line))
    source = {"kind": "import", "format": "memory", **about.source}
    if types:
        source["columns"] = list(types)
    meta = Meta(about.law, source, provenance=dataset.provenance(command_line("dataset_of")))

    def make(shard: Shard) -> Rows:
        rows = Rows(x[shard.start : shard.stop], about.theta[shard.start : shard.stop])
        return rows_in_order(rows, about.law, on_error, "x", shard.start, meta.columns)

    made, _ = make_dataset(out, len(x), meta, make, "dataset_of", force=force)
    return Dataset(made, headed(out, f"{plural(len(made), 'row')} of {simulator}"))


def named_columns(
    theta: Any, names: Sequence[str] | None, laws: Sequence[str]
) -> tuple[Array, list[str]]:
    """θ (n, d) in float64, and the names of its columns.

    Raises:
        UsageError: names of more or fewer columns.
    """
    columns = dataset.as_columns(theta)
    theta = np.stack([*columns.values()], axis=1) if columns else dataset.as_array(theta)
    theta = theta[:, None] if theta.ndim == 1 else theta
    if theta.ndim != 2:
        raise UsageError(f"theta: expected (n, D), got {theta.shape}")
    called = names_of_columns(theta.shape[1], names or (), [*columns], laws, "dataset_of")
    return theta.astype(np.float64), called
