"""Draw x given a measurement of it, with a surrogate as the prior: p(x|y)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack, cast

import numpy as np

import simulators.base as declared
from physgen import dataset
from physgen.dataset.schema import as_type, x_type
from physgen.errors import UsageError
from physgen.law import Law
from physgen.runtime.engine import Engine, engine
from physgen.runtime.interrupt import interruptible
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
from physgen.verbs.running import headed, on_files, plural, require, require_seed, threaded
from simulators.base import Array, Restorer

if TYPE_CHECKING:
    from physgen.surrogates.base import Surrogate

__all__ = ["restore"]

EXACT = "exact"
"""The method that is the simulator's own."""
BLOCK = 64
"""Draws of a block, which share their random numbers' seed."""
CONTROL, REFERENCE, THETA = 2**31, 2**31 + 1, 2**31 + 2
"""In the place of a block's number: x without y, exact draws, and θ of a row."""
SETS = 20
"""Sets of exact draws, which tell what chance does."""
PROPOSED = 4
"""Draws of the prior for each draw of θ, where their weights come from the method's evidence."""
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
        theta_unknown: draw theta, too, from p(theta|y), though the file tells it.
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
    with (
        interruptible(headed(out, "restoration"), "nothing was written") as stop,
        bar(len(found) * n, f"restore by {way}") as move,
        engine(**where) as there,
    ):

        def tick(done: float) -> None:
            stop.check()
            move(done, plural(len(found), "row"))

        drawn = drawn_rows(task, found, n, first, there, tick)
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


class RestoreBlock(NamedTuple):
    """Draws of one row that are made at once.

    Attributes:
        number: the row.
        block: which of its blocks.
        theta: of each draw, (k, D).
        row: what was measured.
    """

    number: int
    block: int
    theta: Array
    row: MeasuredRow


class DrawnBlock(NamedTuple):
    """Draws x (k, *x_shape), and what the method says of each, (k,)."""

    x: Array
    told: Mapping[str, Array]


class DrawnRow(NamedTuple):
    """All draws of one row.

    Attributes:
        arrays: x (n, *x_shape), theta (n, D), exact moments, and what the method says.
        scores: beside the exact ones; empty where these are not known.
        told: where θ come from, in words.
        absent: why there are no scores.
    """

    arrays: Mapping[str, Array]
    scores: Mapping[str, Any]
    told: str
    absent: str


@dataclass(frozen=True)
class RestoreTask:
    """Makes the draws of a block: a function of the seed, the row and the block.

    Attributes:
        surrogate: the prior; None of the simulator's own method.
        exact: the simulator's own p(x|θ, y); None where there is none.
        law: of x.
        method: the way.
        tune: its options.
        seed: of all draws.
    """

    surrogate: Surrogate | None
    exact: Restorer | None
    law: Law
    method: str
    tune: Mapping[str, float]
    seed: int

    def __call__(self, block: RestoreBlock) -> DrawnBlock:
        """The draws."""
        if self.method == EXACT and self.exact:
            rng = np.random.default_rng([self.seed, block.number, block.block])
            x = exact_draws(self.exact, block.theta, block.row, 1, rng)[0][0]
            return DrawnBlock(as_type(x, x_type(self.law)), {})
        from physgen.nn.measurement import Measurement

        model, row = cast("Surrogate", self.surrogate), block.row
        options = {k: int(v) if float(v).is_integer() else v for k, v in self.tune.items()}
        found = model.restore(
            block.theta,
            np.broadcast_to(row.y, (len(block.theta), *row.y.shape)).copy(),
            Measurement(row.linear, row.noise),
            method=self.method,
            generator=torch_seed(self.seed, block.number, block.block),
            **options,
        )
        told = {name: value.double().cpu().numpy() for name, value in found.diagnostics.items()}
        return DrawnBlock(found.x.cpu().numpy(), told)


def torch_seed(*numbers: int) -> int:
    """A seed of torch that is a function of several numbers."""
    return int(np.random.SeedSequence(list(numbers)).generate_state(1, np.uint64)[0] >> 1)


def exact_draws(
    exact: Restorer, theta: Array, row: MeasuredRow, sets: int, rng: np.random.Generator
) -> tuple[Array, Array, Array, float]:
    """Sets of exact draws, one of each for each θ, and the exact moments over all θ.

    Args:
        exact: the simulator's p(x|θ, y).
        theta: (n, D).
        row: what was measured.
        sets: number of sets R.
        rng: random numbers.

    Returns:
        (R, n, *x_shape), mean and standard deviation (*x_shape,), and the error of the mean.
    """
    values, which = np.unique(theta, axis=0, return_inverse=True)
    out = np.empty((sets, len(theta), *row.linear.x_shape))
    mean, square, worst = np.zeros(row.linear.x_shape), np.zeros(row.linear.x_shape), 0.0
    for number, one in enumerate(values):
        mine = np.flatnonzero(which.ravel() == number)
        found = as_given(exact, one, row)
        some = found.sample(sets * len(mine), rng)
        out[:, mine] = some.reshape(sets, len(mine), *some.shape[1:])
        if sets > 1:
            (m, s), part = found.moments, len(mine) / len(theta)
            mean, square = mean + part * m, square + part * (s**2 + m**2)
            worst = max(worst, found.error)
    return out, mean, np.sqrt(np.clip(square - np.square(mean), 0, None)), worst


def as_given(exact: Restorer, theta: Array, row: MeasuredRow) -> declared.Restoration:
    """The exact p(x|θ, y) of one θ (D,).

    Raises:
        UsageError: of this measurement it is not known.
    """
    try:
        return exact(theta, row.y, row.linear, row.noise)
    except ValueError as error:
        raise UsageError(f"method exact: {error}") from error


def drawn_rows(
    task: RestoreTask,
    rows: Sequence[MeasuredRow],
    n: int,
    first: int,
    there: Engine,
    tick: Any,
) -> list[DrawnRow]:
    """The draws of all rows, and how far they are from the exact ones.

    Args:
        task: what draws.
        rows: what was measured.
        n: draws of each row.
        first: which of all rows the first is.
        there: where blocks are drawn.
        tick: is told how many draws are done, and may raise.
    """
    from physgen.runtime.blocks import all_blocks

    chosen = [theta_of(task, row, n, first + i) for i, row in enumerate(rows)]
    blocks = [
        RestoreBlock(first + i, b, theta[start : start + BLOCK], row)
        for i, (row, (theta, _, _)) in enumerate(zip(rows, chosen, strict=True))
        for b, start in enumerate(range(0, len(theta), BLOCK))
    ]
    total = n * len(rows)
    made = all_blocks(there, task, blocks, lambda part: tick(part * total))
    found = []
    for i, (row, (theta, weighted, told)) in enumerate(zip(rows, chosen, strict=True)):
        mine = [m for block, m in zip(blocks, made, strict=True) if block.number == first + i]
        arrays = {
            "x": np.concatenate([m.x for m in mine]),
            "theta": theta,
            **{name: np.concatenate([m.told[name] for m in mine]) for name in mine[0].told},
        }
        if weighted and "log_evidence" not in arrays:
            raise UsageError(
                f"theta: is not known, nor is p(y|theta) to {task.method} here; give --theta"
            )
        if weighted:
            arrays = by_weight(arrays, n, np.random.default_rng([task.seed, first + i, THETA]))
        scores: Mapping[str, Any] = {}
        absent = "the simulator does not know the exact p(x|θ, y)"
        if task.exact:
            try:
                moments, scores = beside_exact(task, task.exact, row, arrays, first + i)
                arrays |= moments
            except (UsageError, ValueError) as error:
                absent = str(error).removeprefix("method exact: ")
        found.append(DrawnRow(arrays, scores, told, absent))
    return found


def theta_of(task: RestoreTask, row: MeasuredRow, n: int, number: int) -> tuple[Array, bool, str]:
    """θ at which x are drawn, (k, D), whether they are yet to be weighted, and what they follow.

    Raises:
        UsageError: θ is not known, and neither is p(y|θ).
    """
    if row.theta is not None:
        return np.tile(row.theta, (n, 1)), False, "told"
    rng = np.random.default_rng([task.seed, number, THETA])
    if (posterior := by_exact_evidence(task.exact, row, task.law)) is not None:
        return posterior.sample(n, rng)[0], False, "p(θ|y) of the exact evidence"
    known = task.surrogate and task.method in ("particles", "masked")
    if not known:
        raise UsageError(
            "theta: is not known, and neither is p(y|theta) by this method; give --theta"
        )
    return (
        task.law.prior.sample(PROPOSED * n, rng),
        True,
        f"p(θ|y) of the evidence of {task.method}",
    )


def by_exact_evidence(exact: Restorer | None, row: MeasuredRow, law: Law) -> Any:
    """p(θ|y) where the simulator knows log p(y|θ) exactly; None where it does not."""
    middle = law.prior.from_coordinates(np.zeros((1, len(law.prior))))[0]
    try:
        if exact is None or exact(middle, row.y, row.linear, row.noise).log_evidence is None:
            return None
    except ValueError:
        return None
    from physgen.posterior.grid import grid_posterior
    from physgen.posterior.smc import smc

    def log_likelihood(theta: Array, which: Array | None = None) -> Array:
        values = [as_given(exact, t, row).log_evidence for t in theta.reshape(-1, theta.shape[-1])]
        return np.array(values).reshape(theta.shape[:2])

    if len(law.prior) > 3:
        return smc(log_likelihood, law.prior, 1)
    return grid_posterior(log_likelihood, law.prior, 1)


def by_weight(arrays: Mapping[str, Array], n: int, rng: np.random.Generator) -> dict[str, Array]:
    """n draws of equal weight of those (k, …) whose weights are their evidence."""
    from physgen.posterior.importance import effective_sample, resampled

    log_w = arrays["log_evidence"]
    kept = resampled(np.arange(len(log_w))[:, None], log_w, n, rng)[:, 0]
    found = {name: values[kept] for name, values in arrays.items()}
    return found | {"theta_ess": np.full(n, effective_sample(log_w))}


def beside_exact(
    task: RestoreTask,
    exact: Restorer,
    row: MeasuredRow,
    arrays: Mapping[str, Array],
    number: int,
) -> tuple[dict[str, Array], dict[str, Any]]:
    """The exact moments (*x_shape,) of x given y, and how far draws are from them.

    Raises:
        UsageError: the exact p(x|y) is not known.
    """
    from physgen.checks.restoration import Reference, restoration_scores

    theta = arrays["theta"]
    if row.theta is None and len(arrays.get("theta_ess", ())):
        raise UsageError("θ is not known, and neither is the exact p(y|θ)")
    rng = np.random.default_rng([task.seed, number, REFERENCE])
    sets, mean, sd, error = exact_draws(exact, theta, row, SETS, rng)
    if not sd.any():
        raise UsageError("y tells all of x, and nothing is left to compare")
    without = None
    if task.surrogate:
        seed = torch_seed(task.seed, number, CONTROL)
        without = task.surrogate.sample(theta, seed).cpu().numpy()
    scores = restoration_scores(arrays["x"], Reference(mean, sd, error, sets), task.law, without)
    return {"exact_mean": mean, "exact_sd": sd}, scores


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
