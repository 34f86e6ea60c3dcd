"""Posteriors beside sbi's: Ising L = 8, β ~ U(0.1, 0.7), every method against the exact posterior.

All methods see the same 20,000 lattices (others for each seed) and the same 100 test lattices and
50 sets of ten. Each turns x into a log density of β, up to a function of x: log p(x|β) (NLE and
ours), log p(x|β)/p(x) (NRE) or log p(β|x) (NPE, FMPE). Over the uniform prior these are the same
thing, so one zooming grid normalises them all, inside the prior's bounds. For the same reason the
posteriors of NPE and FMPE are multiplied over a set, though sbi's NPE does not offer it.

The peers train by sbi's rules: until its early stopping, or for as many epochs as fit into
`--peer-minutes` of CPU time. All but the NLEs see x through the same small CNN on the torus.

    python benchmarks/posterior_ising.py [--methods NRE_B cvae] [--seeds 1]
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sbi.inference import FMPE, NLE, NPE, NRE_B
from sbi.inference.potentials.vector_field_potential import VectorFieldBasedPotential
from sbi.neural_nets import classifier_nn, likelihood_nn, posterior_flow_nn, posterior_nn
from sbi.neural_nets.estimators import CategoricalMADE, CategoricalMassEstimator
from sbi.utils import BoxUniform
from sbi.utils.sbiutils import standardizing_net
from torch import Tensor, nn

import physgen
from physgen.checks.truth import Estimate, compare, estimate
from physgen.device import threads
from physgen.posterior.grid import (
    GridPosterior,
    LogLikelihood,
    grid_posterior,
    iid_sets,
    of_exact,
    of_surrogate,
)
from simulators.base import Array
from simulators.ising import Ising

SIZE, SINGLES, SETS, SET = 8, 100, 50, 10
TEST_SEED = 2**20
"""Far from the seeds of the training sets."""
NODES = 401
"""Uniform nodes of the control: 0.0015 apart, a tenth of the narrowest posterior's width."""
CONTROL = 0.003
"""The most that the control may be off: in exact widths, of their ratio, in TV."""
PEER_NODES = 61
"""First nodes for sbi's methods: densities of ReLUs and splines have kinks, which 15 may miss."""
RATE = 1e-3
"""Learning rate of sbi's methods, twice its default: no worse in trials of half a minute."""

log = logging.getLogger("posterior_ising")

Observe = Callable[[Array], LogLikelihood]
"""x (n, L, L) → the log density of θ given each x, up to a function of x."""
Rows = Callable[[Tensor, Tensor], Tensor]
"""θ (N, 1), x (N, L, L) → the log density of each pair, (N,)."""


# --- sbi's methods ----------------------------------------------------------------------------


class Torus(nn.Module):
    """Lattices (B, L, L) → features (B, width), invariant under shifts.

    The mean over all sites of a network of each site's 3 × 3 neighbourhood: enough to hold the
    energy, which is all that x says about β.
    """

    def __init__(self, width: int = 16):
        super().__init__()
        self.sites = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, padding_mode="circular"),
            nn.ReLU(),
            nn.Conv2d(width, width, 1),
            nn.ReLU(),
        )
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """The features of each lattice."""
        return self.out(self.sites(x[:, None]).mean((2, 3)))


class Silent:
    """An sbi tracker that writes nothing; the default makes a folder where the program runs."""

    log_dir = None

    def log_metric(self, name: str, value: float, step: int | None = None) -> None:
        """Forget a figure."""

    def flush(self) -> None:
        """Nothing to write."""


def by_epochs(trainer: Any, theta: Tensor, x: Tensor, minutes: float) -> Any:
    """Train for so many minutes of CPU time, or until sbi stops: the net of the best epoch.

    sbi has no limit of time, so the first two epochs tell how many fit in. Two, since it trains
    one more than `max_num_epochs`, which it wants to be positive.
    """
    trainer.append_simulations(theta, x)
    start = time.process_time()
    net = trainer.train(learning_rate=RATE, max_num_epochs=1)
    count = int(60 * minutes / (time.process_time() - start) * 2)
    if count > 2:
        net = trainer.train(learning_rate=RATE, max_num_epochs=count - 1, resume_training=True)
    done = len(trainer.summary["validation_loss"])
    mean = (time.process_time() - start) / done
    log.info("%d epochs of %.2f CPU s; time for %d", done, mean, count)
    return net.eval().requires_grad_(False)


def in_rows(rows: Rows) -> Observe:
    """A density of pairs (θ, x) as one of each x's grid."""

    def log_prob(theta: Array, x: Array) -> Array:
        with torch.no_grad():
            return rows(single(theta), single(x)).double().numpy()

    return partial(of_exact, log_prob)


def single(a: Array) -> Tensor:
    """The array in sbi's precision."""
    return torch.as_tensor(a, dtype=torch.float32)


def nre(theta: Tensor, x: Tensor, minutes: float, **about: Any) -> Observe:
    """One θ told from ten, by a residual network."""
    build = classifier_nn("resnet", z_score_x="none", embedding_net_x=Torus())
    net = by_epochs(NRE_B(classifier=build, **about), theta, x, minutes)
    return in_rows(net.unnormalized_log_ratio)


def fmpe(theta: Tensor, x: Tensor, minutes: float, **about: Any) -> Observe:
    """Flow matching; the density comes from an ODE, solved for many pairs (θ, x) at once."""
    build = posterior_flow_nn("mlp", z_score_x="none", embedding_net=Torus())
    net = by_epochs(FMPE(vf_estimator=build, **about), theta, x, minutes)
    ode = VectorFieldBasedPotential(net, about["prior"]).neural_ode

    return in_rows(lambda theta, x: ode(x).log_prob(theta[None])[0])


def npe(model: str, theta: Tensor, x: Tensor, minutes: float, **about: Any) -> Observe:
    """A conditional flow over θ; over a single θ a "maf" is a Gaussian."""
    build = posterior_nn(model, z_score_x="none", embedding_net=Torus())
    net = by_epochs(NPE(density_estimator=build, **about), theta, x, minutes)
    return in_rows(lambda theta, x: net.log_prob(theta[None], x)[0])


def categories(x: Tensor) -> Tensor:
    """Spins (B, L, L) as 0 and 1, (B, N)."""
    return (x.flatten(1) + 1) / 2


def made(theta: Tensor, x: Tensor, minutes: float, **about: Any) -> CategoricalMassEstimator:
    """Spin after spin, each a coin whose odds are a masked network of those before and of θ."""

    def build(theta: Tensor, x: Tensor) -> CategoricalMassEstimator:
        wide = nn.Sequential(standardizing_net(theta), nn.Linear(1, 32), nn.ReLU())
        made = CategoricalMADE(
            torch.full((x.shape[1],), 2), 128, num_context_features=32, embedding_net=wide
        )
        return CategoricalMassEstimator(made, x[0].shape, theta[0].shape)

    return by_epochs(NLE(density_estimator=build, **about), theta, categories(x), minutes)


def nle_made(theta: Tensor, x: Tensor, minutes: float, **about: Any) -> Observe:
    """log p of sbi's MADE."""
    net = made(theta, x, minutes, **about)
    return in_rows(lambda theta, x: net.log_prob(categories(x)[None], theta)[0])


def nle_maf(theta: Tensor, x: Tensor, minutes: float, **about: Any) -> Observe:
    """A continuous flow over ±1: the loss falls without bound while the posterior worsens."""
    build = likelihood_nn("maf")
    net = by_epochs(NLE(density_estimator=build, **about), theta, x.flatten(1), minutes)
    return in_rows(lambda theta, x: net.log_prob(x.flatten(1)[None], theta)[0])


@dataclass(frozen=True)
class Peer:
    """A method of sbi.

    Attributes:
        train: (θ, x, CPU minutes, prior and other arguments of the trainer) → its densities.
        usual: whether it runs without `--all`.
    """

    train: Callable[..., Observe]
    usual: bool = True


PEERS = {
    "NRE_B": Peer(nre),
    "FMPE": Peer(fmpe),
    "NPE-maf": Peer(partial(npe, "maf")),
    "NPE-nsf": Peer(partial(npe, "nsf")),
    "NLE-MADE": Peer(nle_made),
    "NLE-maf-raw": Peer(nle_maf, usual=False),
}

OURS: Mapping[str, tuple[str, Mapping[str, Any], Mapping[str, Any]]] = {
    "cvae": ("cvae", {}, {"draws": 32}),
    "diffusion, masked": ("diffusion", {"batch_size": 64}, {"draws": 1}),
    "diffusion, gaussian": (
        "diffusion",
        {"kernel": "gaussian", "batch_size": 64},
        {"draws": 64},
    ),
    "autoregressive": ("autoregressive", {}, {}),
    "rbm, tied": ("rbm", {"learning_rate": 0.01, "ladder": 8000}, {}),
}
"""Label → family, options of `physgen.fit`, options of its likelihood."""


# --- what is measured -------------------------------------------------------------------------


class Figures(NamedTuple):
    """Posteriors against the exact ones, averaged over the observations.

    Attributes:
        error: |mean − exact mean| in exact standard deviations.
        ratio: standard deviation in exact ones.
        c2st: ½ + TV/2, how often the best classifier of the two is right.
    """

    error: Estimate
    ratio: float
    c2st: float


class Row(NamedTuple):
    """One method, trained once.

    Attributes:
        method: its name.
        seed: of the training set and the training.
        train: CPU seconds of the training.
        evaluate: CPU milliseconds for the posterior of one lattice.
        singles: of single lattices.
        sets: of sets of ten.
    """

    method: str
    seed: int | str
    train: float
    evaluate: float
    singles: Figures
    sets: Figures


COLUMNS = {
    "train CPU s": 0,
    "CPU ms a posterior": 1,
    "error, exact widths": 3,
    "width ratio": 3,
    "½ + TV/2": 3,
    "ten: error": 3,
    "ten: width ratio": 3,
    "ten: ½ + TV/2": 3,
}
"""The table's columns of figures, and their decimals."""


class Test:
    """Held-out lattices, alone and in sets of ten at one β each, and their exact posteriors."""

    def __init__(self) -> None:
        ising, rng = Ising(SIZE), np.random.default_rng(TEST_SEED)
        self.prior = ising.prior
        self.x = ising.sample(self.prior.sample(SINGLES, rng), rng)
        self.sets = ising.sample(self.prior.sample(SETS, rng).repeat(SET, axis=0), rng)
        self.truth: Observe = partial(of_exact, ising.log_prob)
        self.exact = self.posterior(self.truth(self.x), SINGLES)
        self.exact_sets = self.posterior(iid_sets(self.truth(self.sets), SET), SETS)

    def posterior(self, log_density: LogLikelihood, n: int, **grid: Any) -> GridPosterior:
        """The posteriors of n observations; says so where the grid is too coarse for them."""
        found = grid_posterior(log_density, self.prior, n, **grid)
        if not found.resolved.all():
            log.warning("grid too coarse for %d of %d posteriors", (~found.resolved).sum(), n)
        return found

    def measure(self, observe: Observe, **grid: Any) -> tuple[float, Figures, Figures]:
        """CPU ms for one posterior, and the figures of single lattices and of sets."""
        start = time.process_time()
        singles = self.posterior(observe(self.x), SINGLES, **grid)
        milliseconds = 1e3 * (time.process_time() - start) / SINGLES
        sets = self.posterior(iid_sets(observe(self.sets), SET), SETS, **grid)
        return milliseconds, figures(self.exact, singles), figures(self.exact_sets, sets)

    def control(self) -> Row:
        """The exact posterior on another grid, fine and uniform, against that on its own.

        Raises:
            RuntimeError: they differ, so no row of the table could be trusted.
        """
        milliseconds, *both = self.measure(self.truth, nodes=NODES, rounds=1)
        for found in both:
            off = [found.error.value, abs(found.ratio - 1), 2 * found.c2st - 1]
            if max(off) > CONTROL:
                raise RuntimeError(f"control: expected 0 / 1 / ½, got {found}")
        return Row("exact (control)", "–", np.nan, milliseconds, *both)


def figures(exact: GridPosterior, found: GridPosterior) -> Figures:
    """Averages over observations."""
    agreement = compare(exact, found)
    error = estimate(abs(agreement.shift[:, 0]))
    return Figures(error, float(agreement.ratio.mean()), float(agreement.c2st.mean()))


# --- one row after another --------------------------------------------------------------------


def run(name: str, seed: int, test: Test, folder: Path, options: argparse.Namespace) -> Row:
    """Train and measure one method."""
    log.info("%s, seed %d", name, seed)
    data, grid = folder / f"{seed}.h5", {}
    start = time.process_time()
    if name in OURS:
        observe = train_ours(name, data, seed, options.minutes)
        label = f"physgen {name}"
    else:
        observe = train_peer(name, data, seed, options.peer_minutes)
        label = f"sbi {name}"
        grid = {"nodes": PEER_NODES}
    train = time.process_time() - start
    return Row(label, seed, train, *test.measure(observe, **grid))


def train_ours(name: str, data: Path, seed: int, minutes: float) -> Observe:
    """One of our families, through the files that a user would have."""
    family, given, likelihood = OURS[name]
    out = data.with_name(f"{name}-{seed}.pt")
    physgen.fit(
        family, data, out=out, seed=seed, device="cpu", epochs=10_000, max_minutes=minutes, **given
    )
    model, _ = physgen.load(out, device="cpu")
    return partial(of_surrogate, model, **likelihood)


def train_peer(name: str, data: Path, seed: int, minutes: float) -> Observe:
    """One of sbi's methods."""
    rows = physgen.read(data)
    low, high = rows.meta.law.prior.low, rows.meta.law.prior.high
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # noqa: TID251  sbi draws from the global generator only
        return PEERS[name].train(
            single(rows.theta),
            single(rows.x),
            minutes,
            prior=BoxUniform(single(low), single(high)),
            tracker=Silent(),
            show_progress_bars=False,
        )


def warm_up(folder: Path) -> None:
    """Train on a few lattices, so that no method pays for what a first training imports."""
    physgen.simulate("ising", out=folder / "few.h5", n=100, seed=TEST_SEED, size=SIZE)
    train_peer("NPE-maf", folder / "few.h5", 0, 0)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep sbi's words off the table, and those that are expected off the screen."""
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Maximum number of epochs")
        warnings.filterwarnings("ignore", "In one-dimensional output space")
        yield


# --- the tables -------------------------------------------------------------------------------


def numbers(row: Row) -> list[float]:
    """The figures under `COLUMNS`, NaN where there is none."""
    values = [row.train, row.evaluate]
    for f in (row.singles, row.sets):
        values += [f.error.value, f.ratio, f.c2st]
    return values


def cells(row: Row) -> list[str]:
    """The figures as text; errors with their standard error over the observations."""
    text = formatted(numbers(row))
    for k, f in ((2, row.singles), (5, row.sets)):
        text[k] += f" ± {f.error.se:.3f}"
    return text


def summary(rows: Sequence[Row]) -> list[str]:
    """The figures of one method as means over seeds, with the least and the greatest."""
    values = np.array([numbers(row) for row in rows])
    means, least, most = (formatted(f(0)) for f in (values.mean, values.min, values.max))
    if len(rows) == 1:
        return means
    triples = zip(means, least, most, strict=True)
    return [m if m == "–" else f"{m} ({low}–{high})" for m, low, high in triples]


def formatted(values: Iterable[float]) -> list[str]:
    """Numbers under `COLUMNS` as text, a dash for NaN."""
    pairs = zip(values, COLUMNS.values(), strict=True)
    return ["–" if np.isnan(v) else f"{v:.{digits}f}" for v, digits in pairs]


def line(*texts: object) -> None:
    """Print a line of a table at once."""
    print("| " + " | ".join(map(str, texts)) + " |", flush=True)


def head(*first: str) -> None:
    """Print the head of a table."""
    line(*first, *COLUMNS)
    line(*["---"] * (len(first) + len(COLUMNS)))


def arguments() -> argparse.Namespace:
    """What was asked for."""
    names = [name for name, peer in PEERS.items() if peer.usual] + list(OURS)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=20_000, help="training lattices")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--minutes", type=float, default=2.5, help="of training, for ours")
    parser.add_argument("--peer-minutes", type=float, default=2.5, help="at most, for sbi's: CPU")
    parser.add_argument("--methods", nargs="+", choices=[*PEERS, *OURS], metavar="NAME",
                        help=f"of {', '.join([*PEERS, *OURS])}")  # fmt: skip
    parser.add_argument("--all", action="store_true", help="the named bad example too")
    options = parser.parse_args()
    options.methods = options.methods or ([*PEERS, *OURS] if options.all else names)
    return options


def main() -> None:
    """Print a row for each method and seed, then each method's means."""
    options = arguments()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    os.environ["OMP_NUM_THREADS"] = "1"  # for physgen.fit, which asks it
    rows = []
    with threads(1), tempfile.TemporaryDirectory() as name:
        test, folder = Test(), Path(name)
        warm_up(folder)
        head("method", "seed")
        control = test.control()
        line(control.method, control.seed, *cells(control))
        for seed in range(options.first, options.first + options.seeds):
            physgen.simulate(
                "ising", out=folder / f"{seed}.h5", n=options.simulations, seed=seed, size=SIZE
            )
            for method in options.methods:
                row = run(method, seed, test, folder, options)
                line(row.method, row.seed, *cells(row))
                rows.append(row)
    print("\nMeans over seeds (least–greatest):\n")
    head("method")
    for method in dict.fromkeys(row.method for row in rows):
        line(method, *summary([row for row in rows if row.method == method]))


if __name__ == "__main__":
    main()
