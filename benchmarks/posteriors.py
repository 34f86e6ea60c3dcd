"""Posteriors of ours and of sbi's methods on one table, each against the exact ones.

All methods see the same simulations (others for each seed) and the same held-out observations.
Each turns x into a log density of θ, up to a function of x: log p(x|θ) (NLE and ours), log
p(x|θ)/p(x) (NRE) or log p(θ|x) (NPE, FMPE). Over the uniform prior these are the same thing, so
one zooming grid normalises them all, inside the prior's bounds. For the same reason NPE and FMPE
multiply over sets of independent x, though sbi does not offer it.

The peers are sbi's networks as `physgen.sbi.networks` trains them: until sbi's early
stopping, or for as many epochs as fit into `--peer-minutes` of CPU time by a pilot of two, which
is not counted. Time is CPU time, from the file of simulations to what can be evaluated.

The gain of a posterior q is E[log q(θ|x) − log p(θ)] at the θ that made x; none gains more than
the mutual information I(θ; x), which the exact one does on average. So the gain is I less the mean
of log p(θ|x) − log q(θ|x) over the observations: their own luck, several per cent of I, cancels.
Given x, θ follows p(θ|x), and averaged over it that difference is KL(p‖q): the expected gain, I
less the mean KL, is the same number with less noise.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import physgen
from physgen.checks.estimate import Estimate, estimate
from physgen.checks.exact.agreement import Agreement
from physgen.checks.exact.agreement import agreement as agreement_of
from physgen.posterior.grid import (
    GridPosterior,
    LogLikelihood,
    grid_posterior,
    iid_sets,
    network_grid,
    of_exact,
    of_network,
    of_surrogate,
)
from physgen.runtime.device import threads
from physgen.sbi.networks import Network, train
from simulators.base import Array

TEST_SEED = 2**20
"""Far from the seeds of the training sets."""
SET = 10
PEERS = {"NPE": "npe", "NLE": "nle", "NRE": "nre", "FMPE": "fmpe"}
RAW = "NLE-maf-raw"
"""The bad example: a flow over raw x that is discrete, or has atoms."""
SHARE, EXPECTED = "gain, % of I", "expected gain, % of I"
DIGITS = {"train CPU s": 0, "CPU ms a posterior": 1, SHARE: 1, EXPECTED: 1}
"""Decimals of a column; 3 of the others."""

log = logging.getLogger("posteriors")

Observe = Callable[[Array], LogLikelihood]
"""x (n, …) → the log density of θ given each x, up to a function of x."""
Figures = dict[str, list[Estimate]]
"""Column → a figure, or one for each parameter."""


@dataclass(frozen=True)
class Ours:
    """A design of ours.

    Attributes:
        family: its name.
        options: of `physgen.fit`, which say how long it trains.
        draws: random draws for each log p of a posterior; the family's own if None.
        symmetrise: whether log p is averaged over the law's symmetries.
    """

    family: str
    options: Mapping[str, Any] = field(default_factory=dict)
    draws: int | None = 1
    symmetrise: bool = False


@dataclass(frozen=True)
class Task:
    """What is inferred, by whom.

    Attributes:
        simulator: its name.
        information: simulator → I(θ; x) in nats.
        ours: designs by their labels.
        peers: names in `PEERS`.
        singles: held-out observations.
        control: options of another grid, for the exact posterior against itself.
        tolerance: the most that this may be off: in exact widths, of their ratio, in TV.
        at_once: observations whose fine grids are held at once.
        options: of the simulator.
        sets: held-out sets of ten.
    """

    simulator: str
    information: Callable[[Any], Estimate]
    ours: Mapping[str, Ours]
    peers: Sequence[str]
    singles: int
    control: Mapping[str, Any]
    tolerance: float
    at_once: int
    options: Mapping[str, Any] = field(default_factory=dict)
    sets: int = 0


# --- posteriors and what is measured of them ----------------------------------------------------


def posteriors(
    observe: Observe, x: Array, prior: Any, at_once: int, size: int = 1, **grid: Any
) -> list[GridPosterior]:
    """Posteriors of successive sets of x, some at a time."""
    found = []
    for i in range(0, len(x), at_once * size):
        part = x[i : i + at_once * size]
        n = len(part) // size
        found.append(grid_posterior(iid_sets(observe(part), size), prior, n, **grid))
        if not found[-1].resolved.all():
            log.warning("grid too coarse for %d of %d", (~found[-1].resolved).sum(), n)
    return found


def agreement(exact: Sequence[GridPosterior], found: Sequence[GridPosterior]) -> Agreement:
    """The second against the first, of which there may be fewer."""
    parts = [agreement_of(e, m[: len(e)]) for e, m in zip(exact, found, strict=False)]
    return Agreement(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def at_truth(found: Sequence[GridPosterior], theta: Array) -> Array:
    """log p(θ_i|x_i) of each posterior at its own θ (n, D), (n,)."""
    parts = np.split(theta[:, None], np.cumsum([len(p) for p in found])[:-1])
    return np.concatenate([p.log_prob(t)[:, 0] for p, t in zip(found, parts, strict=True)])


def figures(a: Agreement, prefix: str = "") -> Figures:
    """Averages over observations."""
    return {
        f"{prefix}error, exact widths": [estimate(e) for e in abs(a.shift).T],
        f"{prefix}width ratio": [estimate(r) for r in a.ratio.T],
        f"{prefix}½ + TV/2": [estimate(a.c2st)],
    }


class HeldOut:
    """Observations of a task, alone and in sets of one θ each, and their exact posteriors.

    Args:
        task: what is inferred.
        simulator: with its exact log p(x|θ).
    """

    def __init__(self, task: Task, simulator: Any) -> None:
        self.task, self.prior = task, simulator.prior
        self.information = task.information(simulator)
        rng = np.random.default_rng(TEST_SEED)
        self.theta = self.prior.sample(task.singles, rng)
        self.x = simulator.sample(self.theta, rng)
        self.sets = simulator.sample(self.prior.sample(task.sets, rng).repeat(SET, axis=0), rng)
        self.truth: Observe = partial(of_exact, simulator.log_prob)
        self.exact = self.posteriors(self.truth, self.x)
        self.exact_sets = self.posteriors(self.truth, self.sets, SET)

    def posteriors(
        self, observe: Observe, x: Array, size: int = 1, **grid: Any
    ) -> list[GridPosterior]:
        """Posteriors of the task's θ."""
        return posteriors(observe, x, self.prior, self.task.at_once, size, **grid)

    def measure(self, observe: Observe, **grid: Any) -> Figures:
        """What a method's posteriors come to; the first, with what it imports, is not timed."""
        self.posteriors(observe, self.x[:1], **grid)
        start = time.process_time()
        found = self.posteriors(observe, self.x, **grid)
        spent = 1e3 * (time.process_time() - start) / len(self.x)
        alone = agreement(self.exact, found)
        row = {"CPU ms a posterior": [Estimate(spent, np.nan)]}
        row |= figures(alone) | self.gain(found, alone)
        if self.task.sets:
            sets = self.posteriors(observe, self.sets, SET, **grid)
            row |= figures(agreement(self.exact_sets, sets), "ten: ")
        return row

    def gain(self, found: Sequence[GridPosterior], alone: Agreement) -> Figures:
        """Information that was gained, in nats and as a part of all there is."""
        lost = estimate(at_truth(self.exact, self.theta) - at_truth(found, self.theta))
        total = self.information.value

        def share(lost: Estimate) -> list[Estimate]:
            return [Estimate(100 * (1 - lost.value / total), 100 * lost.se / total)]

        gained = [Estimate(total - lost.value, lost.se)]
        return {"gain, nats": gained, SHARE: share(lost), EXPECTED: share(estimate(alone.kl))}

    def control(self) -> Figures:
        """The exact posteriors on another grid against those on their own.

        Raises:
            RuntimeError: they differ, so no row of the table could be trusted.
        """
        row = self.measure(self.truth, **self.task.control)
        perfect = {"error, exact widths": 0.0, "width ratio": 1.0, "½ + TV/2": 0.5}
        for name, values in row.items():
            expected = perfect.get(name.removeprefix("ten: "))
            off = 0 if expected is None else max(abs(v.value - expected) for v in values)
            if not off < self.task.tolerance:
                raise RuntimeError(f"control: {name}: expected {expected}, got {values}")
        return row


# --- training -----------------------------------------------------------------------------------


def train_ours(task: Task, label: str, data: Path, seed: int) -> Observe:
    """One of our families, through the files that a user would have."""
    design, out = task.ours[label], data.with_name(f"{label}-{seed}.pt")
    physgen.fit(design.family, data, out=out, seed=seed, device="cpu", **design.options)
    model = physgen.load(out, device="cpu")[0].using(symmetrise=design.symmetrise)
    return partial(of_surrogate, model, draws=design.draws)


def train_peer(data: Path, label: str, seed: int, epochs: int) -> Network:
    """One of sbi's methods; the bad example is told that x is real."""
    rows = physgen.read(data)
    law = replace(rows.meta.law, support="reals") if label == RAW else rows.meta.law
    method = PEERS.get(label, "nle")
    network = train(method, law, rows.theta, rows.x, epochs=epochs, seed=seed)
    log.info("%s: %d epochs", label, network.info["epochs"])
    return network


def affordable(data: Path, label: str, seed: int, minutes: float) -> int:
    """Epochs that fit into so many minutes of CPU time: sbi has no limit of time."""
    start = time.process_time()
    train_peer(data, label, seed, 2)
    return max(2, int(60 * minutes / (time.process_time() - start) * 2))


def run(
    label: str, data: Path, seed: int, held_out: HeldOut, options: argparse.Namespace
) -> Figures:
    """Train and measure one method."""
    log.info("%s, seed %d", label, seed)
    if label in held_out.task.ours:
        start, grid = time.process_time(), {}
        observe = train_ours(held_out.task, label, data, seed)
    else:
        epochs = affordable(data, label, seed, options.peer_minutes)
        start = time.process_time()
        network = train_peer(data, label, seed, epochs)
        observe, grid = partial(of_network, network), network_grid(network, len(held_out.prior))
    spent = [Estimate(time.process_time() - start, np.nan)]
    return {"train CPU s": spent} | held_out.measure(observe, **grid)


# --- the tables ---------------------------------------------------------------------------------


def row_of(name: str, row: Figures) -> str:
    """A line of the table: figures with their standard errors over the observations."""
    cells = []
    for column, values in row.items():
        texts = [formatted(column, v.value) for v in values]
        errors = ["" if np.isnan(v.se) else f" ± {formatted(column, v.se)}" for v in values]
        cells.append(", ".join(t + e for t, e in zip(texts, errors, strict=True)))
    return f"| {name} | " + " | ".join(cells) + " |"


def means_of(name: str, rows: Sequence[Figures]) -> str:
    """A line of the table of means over seeds, with the least and the greatest."""
    cells = []
    for column in rows[0]:
        values = np.array([[v.value for v in row[column]] for row in rows])
        ends = zip(*(f(values, axis=0) for f in (np.mean, np.min, np.max)), strict=True)
        texts = [[formatted(column, v) for v in three] for three in ends]
        cells.append(", ".join(f"{mean} ({low}–{high})" for mean, low, high in texts))
    return f"| {name} | " + " | ".join(cells) + " |"


def formatted(column: str, value: float) -> str:
    """A number with the decimals of its column, a dash for NaN."""
    return "–" if np.isnan(value) else f"{value:.{DIGITS.get(column, 3)}f}"


def head(row: Figures) -> str:
    """The head of a table."""
    return "| method | " + " | ".join(row) + " |\n" + "|---" * (1 + len(row)) + "|"


def arguments(task: Task, doc: str) -> argparse.Namespace:
    """What was asked for."""
    known = [*task.peers, *task.ours]
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=10_000, help="to train on")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--peer-minutes", type=float, default=1.5, help="for sbi's: CPU, at most")
    parser.add_argument("--methods", nargs="+", choices=[*known, RAW], default=known,
                        metavar="NAME", help=f"of {', '.join([*known, RAW])}")  # fmt: skip
    return parser.parse_args()


def simulated(task: Task, folder: Path, n: int, seed: int) -> Path:
    """A file of simulations."""
    out = folder / f"{seed}.h5"
    physgen.simulate(task.simulator, out=out, n=n, seed=seed, **task.options)
    return out


def every(
    held_out: HeldOut, folder: Path, options: argparse.Namespace
) -> Iterator[tuple[str, Figures]]:
    """Train and measure each method with each seed; its name, and what it comes to."""
    task = held_out.task
    for seed in range(options.first, options.first + options.seeds):
        data = simulated(task, folder, options.simulations, seed)
        for label in options.methods:
            name = f"{'physgen' if label in task.ours else 'sbi'} {label}"
            row = run(label, data, seed, held_out, options)
            print(row_of(f"{name}, {seed}", row), flush=True)
            yield name, row


def tabulate(task: Task, doc: str) -> None:
    """Print a row for each method and seed, then each method's means."""
    options = arguments(task, doc)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    rows: dict[str, list[Figures]] = {}
    with threads(1), tempfile.TemporaryDirectory() as name:
        few = simulated(task, Path(name), 200, TEST_SEED)
        train_peer(few, "NPE", 0, 2)  # so that no method pays for what a first training imports
        held_out = HeldOut(task, physgen.read(few).meta.law.build())
        print("I(θ; x) = {:.4f} ± {:.4f} nats\n".format(*held_out.information))
        control = {"train CPU s": [Estimate(np.nan, np.nan)]} | held_out.control()
        print(head(control), row_of("exact, on another grid", control), sep="\n", flush=True)
        for method, row in every(held_out, Path(name), options):
            rows.setdefault(method, []).append(row)
    if options.seeds > 1:
        print("\nMeans over seeds (least–greatest):\n\n" + head(control))
        for method, found in rows.items():
            print(means_of(method, found))
