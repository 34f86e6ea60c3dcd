"""Draw (θ, x) from a simulator."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Any, Literal

import numpy as np

import simulators.base as declared
from physgen import dataset
from physgen.dataset import Dataset, Meta, Shard
from physgen.dataset.simulated import Manners, OnError, Simulate
from physgen.errors import SimulatorFailed, UsageError
from physgen.law import Law
from physgen.priors import asked_for, correlated, laws_in_words
from physgen.registry import BUILT_IN, find
from physgen.runtime.engine import engine
from physgen.runtime.interrupt import interruptible
from physgen.runtime.options import command_line, kept_options
from physgen.runtime.progress import log
from physgen.verbs.arguments import PartLike, PriorLike, SimulatorLike, ThetaLike, Values
from physgen.verbs.draws import PosteriorDraws
from physgen.verbs.running import (
    asked_part,
    headed,
    make_dataset,
    make_part,
    on_files,
    plural,
    require,
)
from physgen.verbs.where import open_theta, where_to_simulate
from simulators.base import Simulator

__all__ = ["simulate"]

LOOK = 3  # rows in which a simulator's manners are looked at, the last where the first is


@on_files("out", resumes=True)
def simulate(
    simulator: SimulatorLike,
    *,
    n: int | None = None,
    out: Path | str | None = None,
    seed: int = 0,
    prior: PriorLike | None = None,
    fix: Values | None = None,
    correlation: Values | None = None,
    theta_at: Values | None = None,
    theta_from: ThetaLike | None = None,
    row: int | None = None,
    widen: float = 1.0,
    truncate: bool = False,
    workers: int | None = None,
    executor: Executor | None = None,
    scheduler: str | None = None,
    idle_timeout: float | None = None,
    part: PartLike | None = None,
    shard_rows: int | None = None,
    on_error: OnError = "stop",
    device: Literal["cpu", "cuda"] = "cpu",
    force: bool = False,
    dry_run: bool = False,
    **given: Any,
) -> Dataset:
    """Draw a dataset of (theta, x): theta from the prior, x from a simulator.

    A program of your own is run once a row: physgen simulate --command './sim {a} {seed} {out}'
    --prior a=0:1 --x-shape 40 -n 1000 -o sim.h5; physgen simulate command --help says how.

    For another round of simulations theta come from the draws of a posterior. Fit a surrogate of
    p(x|theta) on the files of all rounds; methods that learn p(theta|x), such as npe, want
    --truncate.

    The same command after an interruption finishes the file. Its rows depend on the seed, the
    simulator's options and --shard-rows only, not on workers, threads, device or restarts. Rows
    of which it makes no x, since it raises or x is not finite, end the command, and what is
    finished is kept; or they are skipped or drawn again, and their theta and the reason kept in
    the file. What is left follows p(theta | success), which is the prior only if failure does not
    depend on theta.

    Args:
        simulator: a registered simulator, or package.module:Class of your own; in Python also the
            class, or a simulator itself.
        n: number of rows (at least 1); all of the table or all draws of --theta-from, if not
            given.
        out: HDF5 file to write.
        seed: seed of the whole dataset (at least 0).
        prior: other law of a parameter: bounds, as in beta=0.2:0.6, or a continuous distribution
            of scipy.stats with its arguments, as in tau=loguniform:1e-3:1 or h=norm:0:0.1; may be
            repeated. In Python also a Prior.
        fix: value of a parameter that is no part of theta, as in t_up=1; may be repeated.
        correlation: of the normal scores of two parameters, as in beta:h=0.5; may be repeated.
        theta_at: value that a parameter has in all rows, as in beta=0.44, while it stays one; may
            be repeated.
        theta_from: where to take theta: draws of a posterior of infer, inside its prior if no
            other is given; or the rows of a table, in turn: a file (CSV, npz, HDF5, ...) whose
            columns are called as the parameters are, or with an array theta. In Python also an
            array or columns by name.
        row: row of what was observed whose posterior to take; all of them, mixed, if not given.
        widen: how many times as wide as the posterior theta are, at least 1.
        truncate: take theta from the prior, inside the box that all draws lie in, stretched by
            --widen: the prior of the file is this part of it.
        workers: number of processes; 1 if not given: this one alone.
        executor: where to work instead: any of concurrent.futures, such as client.get_executor()
            of dask.
        scheduler: address of a dask scheduler whose workers to take, as in tcp://host:8786; or
            local:4, to start one with 4 here.
        idle_timeout: seconds in which no shard is finished, after which to give up; if not given,
            300 s without any worker.
        part: I/N, as in 2/4: make part I of N alone and join nothing, as one of the tasks of an
            array job that share the folder of the output; the same command without it makes what
            is missing and joins them.
        shard_rows: rows that are made in one go, of a random stream of their own, and kept if
            interrupted; about 1 MiB if not given.
        on_error: what to do about rows that fail: stop; skip them; or redraw theta and x, at most
            100 times a row.
        device: where x are drawn: cpu, or cuda by what can (ising, by two of its samplers).
        force: overwrite the file if it exists, and drop the unfinished rows of another command.
        dry_run: say what would be made, and make its first row, without writing.
        **given: options of the simulator.

    Returns:
        The dataset, in memory or in its file.

    Example:
        physgen simulate ising -n 20000 --seed 1 -o ising.h5
    """
    require(n=(n, 1), workers=(workers, 1), seed=(seed, 0), shard_rows=(shard_rows, 1))
    array_part = asked_part(part, out)
    draws = open_theta(theta_from, row, widen=widen != 1, truncate=truncate)
    theirs = draws.law.prior if isinstance(draws, PosteriorDraws) else None
    law = Law.of(simulator, given, asked_for(prior, fix) or theirs)
    law = replace(law, prior=correlated(law.prior, correlation))
    law, source_of_theta, about, n = where_to_simulate(law, draws, theta_at, n, widen, truncate)
    law, notes = looked_at(law, n)
    name, built = law.simulator, law.build()
    usual = declared.shard_rows(built)
    command = command_line(
        "simulate", name, **told_options(law, given), n=n, seed=seed,
        prior=laws_in_words(prior), fix=fix,
        correlation=correlation or {":".join(k): r for k, r in law.prior.correlation.items()},
        theta_at=theta_at, theta_from=draws and draws.name, row=row,
        widen=widen if isinstance(draws, PosteriorDraws) else None, truncate=truncate,
        shard_rows=None if shard_rows == usual else shard_rows,
    )  # fmt: skip
    source = {"kind": "simulator", "name": name, **declared.provenance(built), **about}
    if columns := declared.declared_columns(built).names:
        source["columns"] = list(columns)
    meta = Meta(law=law, source=source, seed=seed, provenance=dataset.provenance(command))
    require_device(built, name, device)
    make = Simulate(law, on_error, source_of_theta, device)
    if dry_run:
        return rehearsed(make, n, out)
    rows = shard_rows or usual
    with engine(
        workers=workers, executor=executor, scheduler=scheduler, idle_timeout=idle_timeout
    ) as there:
        if there.place and name in BUILT_IN["simulators"]:  # of others rows were looked at
            compile_here(make)
        how: dict[str, Any] = {"shard_rows": rows, "engine": there, "notes": notes}
        if out is not None and array_part:
            return make_part(
                out, array_part, n, meta, make, f"simulate {name}", force=force, **how
            )
        made, seconds = make_dataset(out, n, meta, make, f"simulate {name}", force=force, **how)
    took = f" in {seconds:.1f} s" if out else ""
    return Dataset(made, headed(out, f"{plural(len(made), 'row')} of {name}{took}"))


def require_device(simulator: Simulator, name: str, device: str) -> None:
    """Refuse a device that a simulator cannot draw on.

    Raises:
        UsageError: it cannot, or there is none.
    """
    try:
        declared.on_device(simulator, device)
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from error


def told_options(law: Law, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a simulator that were given, or that are not its defaults, for a shell."""
    usual = kept_options(find("simulators", law.simulator), law.simulator, {})
    told = {k: v for k, v in law.options.items() if k in given or v != usual.get(k)}
    return {k: quote(v) if isinstance(v, str) else v for k, v in told.items()}


def looked_at(law: Law, n: int) -> tuple[Law, dict[str, Any]]:
    """What a simulator's first rows tell: the type in which x is kept, and notes for the file.

    What it does wrong is told. Nothing is drawn where it declares all that, and is ours.
    """
    ours = law.simulator in BUILT_IN["simulators"]
    typed = law.discrete or declared.dtype(law.build())
    if ours and typed:
        return law, {}
    theta = law.prior.sample(min(n, LOOK), np.random.default_rng(1))
    try:
        with interruptible(law.simulator, "nothing was made"):
            found = Manners.of(law.build(), theta, law.simulator)
    except SimulatorFailed:  # that is for the rows themselves
        return law, {}
    for line in found.complaints:
        log.warning("%s: %s", law.simulator, line)
    law = law if typed else replace(law, dtype=found.dtype)
    return law, {"reproducible": False} if found.reproducible is False else {}


def compile_here(make: Simulate) -> None:
    """Draw a row, so that numba compiles once, here, and workers find it in its cache."""
    with suppress(SimulatorFailed):  # that is for the rows themselves
        make(first_row())


def first_row() -> Shard:
    """A shard of one row."""
    return Shard(0, 0, 1, np.random.SeedSequence(0))


def rehearsed(make: Simulate, n: int, out: Path | str | None) -> Dataset:
    """The first row of a dataset, made and checked, and what the whole would be."""
    row = make(first_row())
    row = dataset.validated(row, make.law, str(out or "x"))
    size = n * sum(a.nbytes for a in row.arrays().values())
    rows = plural(n, "row")
    what = f"{rows} of {make.law.simulator}, theta {make.law.prior}, x {row.x.shape[1:]}"
    place = f"write {out}" if out else "make"
    return Dataset(row, f"would {place}: {what}, {size / 1e6:.1f} MB before compression")
