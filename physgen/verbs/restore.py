"""Draw x given a measurement of it, with a surrogate as the prior: p(x|y)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

import simulators.base as declared
from physgen import dataset
from physgen.errors import UsageError
from physgen.law import Law
from physgen.runtime.engine import engine
from physgen.runtime.interrupt import Stop, interruptible
from physgen.runtime.progress import bar, log
from physgen.verbs.arguments import (
    EngineOptions,
    FamilyLike,
    ModelLike,
    ObservedLike,
    StepsOption,
    Values,
    called,
    split_options,
)
from physgen.verbs.infer import origins
from physgen.verbs.measured import (
    Instrument,
    MeasuredRow,
    law_of_y,
    open_mask,
    read_y,
    theta_of_rows,
)
from physgen.verbs.observed import open_observed
from physgen.verbs.opening import open_source
from physgen.verbs.restored import RestoredRows, scores_in_short
from physgen.verbs.restoring import EXACT, DrawnRow, RestoreTask, drawn_rows
from physgen.verbs.running import headed, on_files, plural, require, require_seed, threaded
from simulators.base import Array, Restorer

if TYPE_CHECKING:
    from physgen.surrogates.base import Surrogate

__all__ = ["restore"]

LOW_ESS, MOST_R_HAT, LEAST_ACCEPTED, FEWEST_STATES = 0.1, 1.1, 0.02, 5
"""Beyond these the draws are not to be trusted."""


class RestoreOptions(StepsOption, EngineOptions, total=False):
    """How many steps a sampler takes, and where."""


@on_files("out")
@threaded
def restore(
    model: ModelLike,
    observed: ObservedLike,
    *,
    out: Path | str | None = None,
    mask: ObservedLike | None = None,
    noise: float = 0.0,
    blur: float = 0.0,
    average: int = 1,
    method: str | None = None,
    tune: Values | None = None,
    theta: Values | None = None,
    theta_unknown: bool = False,
    n: int = 100,
    rows: slice | None = None,
    measure: bool = False,
    at: Values | None = None,
    family: FamilyLike | None = None,
    seed: int = 0,
    device: str = "auto",
    force: bool = False,
    **given: Unpack[RestoreOptions],
) -> RestoredRows:
    """Draw x given y = Mx + noise: fill in, denoise or sharpen, with a surrogate as the prior.

    M blurs x, takes means of blocks of sites, and hides what the mask hides, in this order. Where
    the simulator knows the exact p(x|theta, y), draws of it and draws without y are measured
    beside those of the method, and physgen report shows them.

    Args:
        model: checkpoint of a surrogate; for --method exact a dataset of the simulator does, too.
        observed: file with y, in any format that infer takes; NaN where nothing is seen.
        out: HDF5 file to write: x (rows, draws, ...), theta (rows, draws, parameters), mean, sd,
            y, and what the method says of its draws.
        mask: file with 1 where y is seen and 0 where it is not: one for all rows, or one for each.
        noise: standard deviation of the noise of y, in units of x.
        blur: standard deviation of a Gaussian that blurs x along each axis, in sites.
        average: sites along each axis that become one.
        method: way to draw, of those that the family has; its first if not given. exact: the
            simulator's own, where it has one.
        tune: option of the method, as in particles=64; may be repeated.
        theta: value of a parameter, as in beta=0.44; repeat for each. If not given, that of the
            row in the file.
        theta_unknown: draw theta, too, from p(theta|y), though the file tells it: by the evidence
            of the particles, or by the exact one.
        n: draws of x for each row.
        rows: which rows, as in 0:10.
        measure: the file holds x itself: measure it here first, with noise of this seed.
        at: other option of the simulator, as in size=16; needs a surrogate of convolutions.
        family: package.module:Class of a family outside the registry; a checkpoint does not import
            code by itself.
        seed: seed of the draws.
        device: auto, cpu, cuda or cuda:1.
        force: overwrite the file if it exists.
        **given: how many steps a sampler takes, and where.

    Returns:
        The draws, their moments, and how far they are from the exact ones.

    Example:
        physgen restore diffusion.pt observed.h5 -o restored.h5 --mask mask.h5 --noise 0.1
    """
    where, use = split_options(given)
    require_seed(seed)
    require(n=(n, 2))
    source = open_source(model, device, at=at, family=family, **use)
    law, surrogate = source.law, source.surrogate
    instrument = Instrument(noise, blur, average)
    if not 0 <= noise < np.inf:
        raise UsageError(f"noise: expected a standard deviation ≥ 0, got {noise}")
    y_shape = instrument.linear(law).y_shape
    simulator = law.build_if_known()
    exact = None if simulator is None else declared.exact_restoration(simulator)
    way = method_of(surrogate, exact, method, law)
    data = open_observed(observed, law if measure else law_of_y(law, y_shape))
    masks = open_mask(mask, law, y_shape)
    found = read_y(data, rows, law, instrument, masks, seed if measure else None)
    found, told = theta_of_rows(found, law, theta, theta_unknown, data)
    first, *_ = (rows or slice(None)).indices(len(data))
    task = RestoreTask(surrogate, exact, law, way, dict(tune or {}), seed)
    start = time.monotonic()
    with interruptible(headed(out, "restoration"), "nothing was written") as stop:
        drawn = drawn_in_sight(task, found, n, first, where, stop)
    lacking = [row.absent for row in drawn if not row.scores]
    scores = [] if lacking else [row.scores for row in drawn]
    arrays = rows_together(found, drawn)
    warnings = list(warnings_of(arrays, scores, way, n))
    for line in warnings:
        log.warning("%s", headed(out, line))
    what = surrogate.restorers[way] if surrogate and way != EXACT else "of the simulator itself"
    about = {
        "method": way,
        "is": what,
        "family": surrogate.name if surrogate and way != EXACT else law.simulator,
        "parameters": list(law.prior.names),
        "theta": {"from": told if told != "unknown" else drawn[0].told},
        "measurement": {
            "noise": noise, "blur": blur, "average": average, "y_shape": list(y_shape),
            "seen": [int(row.linear.seen.sum()) for row in found],
        },
        "tune": dict(tune or {}),
        "law": law.to_json(),
        "seed": seed,
        "scores": scores,
        "absent": lacking[0] if lacking else "",
        "warnings": warnings,
        **origins(source, data, rows),
    }  # fmt: skip
    about["provenance"] = dataset.provenance(
        called(
            "restore", model, observed,
            out=out, mask=mask, noise=noise, blur=blur, average=average, method=method, tune=tune,
            theta=theta, theta_unknown=theta_unknown, n=n, rows=rows, measure=measure, at=at,
            **use, seed=seed,
        )
    )  # fmt: skip
    seconds = time.monotonic() - start
    text = f"{plural(n, 'draw')} of x given y of {plural(len(found), 'row')} by {way}"
    text += f" in {seconds:.1f} s{scores_in_short(scores)}"
    restored = RestoredRows(arrays, about, summary=headed(out, text))
    return restored.save(out, force=force) if out else restored


def drawn_in_sight(
    task: RestoreTask,
    rows: Sequence[MeasuredRow],
    n: int,
    first: int,
    where: Mapping[str, Any],
    stop: Stop,
) -> list[DrawnRow]:
    """The draws of all rows, n of each, while a bar moves; `first` is the number of the first."""
    with bar(len(rows) * n, f"restore by {task.method}") as move, engine(**where) as there:

        def tick(part: float) -> None:
            stop.check()
            move(part * len(rows) * n, plural(len(rows), "row"))

        return drawn_rows(task, rows, n, first, there, tick)


def method_of(
    surrogate: Surrogate | None, exact: Restorer | None, method: str | None, law: Law
) -> str:
    """The method that is asked for, the family's first if none is.

    Raises:
        UsageError: there is no such way.
    """
    if method == EXACT:
        if exact is None:
            raise UsageError(f"method exact: {law.simulator} does not know its p(x|θ, y)")
        return EXACT
    if surrogate is None:
        raise UsageError("model: expected a surrogate; of a dataset there is --method exact only")
    return surrogate.restorer(method or "")


def rows_together(rows: Sequence[MeasuredRow], drawn: Sequence[DrawnRow]) -> dict[str, Array]:
    """The arrays of a file, (rows, …) each, of what all rows have."""
    shared = set.intersection(*(set(row.arrays) for row in drawn))
    names = [name for name in drawn[0].arrays if name in shared]
    found = {name: np.stack([row.arrays[name] for row in drawn]) for name in names}
    found["mean"] = found["x"].mean(1, dtype=float)
    found["sd"] = found["x"].std(1, ddof=1, dtype=float)
    found["y"] = np.stack([row.y for row in rows])
    if rows[0].truth is not None:
        found["truth"] = np.array([row.truth for row in rows])
    return found


def warnings_of(
    arrays: Mapping[str, Array], scores: Sequence[Mapping[str, Any]], way: str, n: int
) -> Iterator[str]:
    """What speaks against draws, a line each, of arrays (rows, n) that a method tells."""
    worst = arrays.get("worst_ess")
    if worst is not None and worst.min() < LOW_ESS:
        yield (
            f"{way}: {100 * worst.min():.2g} % of the particles are left at the worst step: draws "
            "may be copies of few; take more (--tune particles=64) or another method"
        )
    if "theta_ess" in arrays and arrays["theta_ess"].min() < n / 4:
        yield (
            f"theta: {n} draws are worth {arrays['theta_ess'].min():.1f}: p(theta|y) is far "
            "narrower than the prior; give --theta, or take more draws"
        )
    r_hat = arrays.get("r_hat", np.ones(1))
    if np.isnan(r_hat).any():
        yield f"{way}: R̂ is not known of so few sweeps: chains may not have met; take more"
    if (r_hat > MOST_R_HAT).any():
        yield f"{way}: R̂ is {np.nanmax(r_hat):.3g}: chains have not met; take more sweeps"
    if "chain_ess" in arrays and arrays["chain_ess"].min() < FEWEST_STATES:
        yield (
            f"{way}: a chain went through {arrays['chain_ess'].min():.2g} independent states "
            "since it was warm, too few to have forgotten its start; take more sweeps"
        )
    if "accepted" in arrays and arrays["accepted"].min() < LEAST_ACCEPTED:
        yield f"{way}: {100 * arrays['accepted'].min():.2g} % of the proposals are accepted"
    if any(score["control_fails"] is False for score in scores):
        yield (
            "control: x drawn without y is as near to the exact p(x|y): y says next to nothing, "
            "or too few draws to see it"
        )
