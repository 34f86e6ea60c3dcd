"""Draw (θ, x) from a simulator."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import simulators.base as declared
from physgen import dataset
from physgen.dataset import Dataset, Meta, Shard
from physgen.dataset.assumptions import float_type
from physgen.dataset.simulated import Simulate
from physgen.law import Law
from physgen.runtime.options import command_line
from physgen.runtime.progress import bar
from physgen.verbs.arguments import Bounds, SimulatorLike
from physgen.verbs.running import on_files, require

__all__ = ["simulate"]

LOOK = 16  # rows by which the type of x is chosen


@on_files
def simulate(
    simulator: SimulatorLike,
    *,
    n: int,
    out: Path | str | None = None,
    seed: int = 0,
    prior: Bounds | None = None,
    workers: int = 1,
    shard_rows: int | None = None,
    force: bool = False,
    dry_run: bool = False,
    **given: Any,
) -> Dataset:
    """Draw a dataset of (theta, x): theta from the prior, x from a simulator.

    The same command after an interruption finishes the file. Its bytes depend on the seed and the
    simulator's options only, not on workers, threads or restarts.

    Args:
        simulator: a registered simulator, or package.module:Class of your own; in Python also the
            class, or a simulator itself.
        n: number of rows (at least 1).
        out: HDF5 file to write.
        seed: seed of the whole dataset (at least 0).
        prior: other bounds for a parameter, as in beta=0.2:0.6; may be repeated.
        workers: number of processes (at least 1).
        shard_rows: rows that are made in one go, and kept if interrupted; about 1 MiB if not
            given.
        force: overwrite the file if it exists, and drop the unfinished rows of another command.
        dry_run: say what would be made, and make its first row, without writing.
        **given: options of the simulator.

    Returns:
        The dataset, in memory or in its file.

    Example:
        physgen simulate ising -n 20000 --seed 1 -o ising.h5
    """
    require(n=(n, 1), workers=(workers, 1), seed=(seed, 0), shard_rows=(shard_rows, 1))
    law = kept(Law.of(simulator, given, prior), n)
    name = law.simulator
    command = command_line("simulate", name, **given, n=n, seed=seed, prior=prior)
    source = {"kind": "simulator", "name": name, **declared.provenance(law.build())}
    meta = Meta(law=law, source=source, seed=seed, provenance=dataset.provenance(command))
    make = Simulate(law)
    if dry_run:
        return rehearsed(make, n, out)
    with bar(n, f"simulate {name}") as move:
        how: dict[str, Any] = {"shard_rows": shard_rows, "workers": workers, "progress": move}
        if out is None:
            return Dataset(dataset.gather(n, meta, make, **how), f"{n:,} rows of {name}")
        written = dataset.write(out, n, meta, make, force=force, **how)
    return Dataset(written.path, f"{out}: {n:,} rows of {name} in {written.seconds:.1f} s")


def kept(law: Law, n: int) -> Law:
    """The law with the floating type in which x keeps its digits, if nothing says which."""
    if law.support in ("spins", "levels") or declared.dtype(law.build()):
        return law
    theta = law.prior.sample(min(n, LOOK), np.random.default_rng(1))
    try:
        x = np.asarray(law.build().sample(theta, np.random.default_rng(2)))
    except Exception:  # that is for the rows themselves
        return law
    return replace(law, dtype=float_type(x)) if x.dtype.kind in "biuf" else law


def rehearsed(make: Simulate, n: int, out: Path | str | None) -> Dataset:
    """The first row of a dataset, made and checked, and what the whole would be."""
    row = make(Shard(0, 0, 1, np.random.SeedSequence(0)))
    row = dataset.validated(row, make.law, str(out or "x"))
    size = n * sum(a.nbytes for a in row.arrays().values())
    what = f"{n:,} rows of {make.law.simulator}, theta {make.law.prior}, x {row.x.shape[1:]}"
    place = f"write {out}" if out else "make"
    return Dataset(row, f"would {place}: {what}, {size / 1e6:.1f} MB before compression")
