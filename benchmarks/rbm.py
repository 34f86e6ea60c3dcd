"""The RBM: steps beside other packages', and what its variants reach.

    python benchmarks/rbm.py speed
    python benchmarks/rbm.py draws | rates | learning | annealing
    python benchmarks/rbm.py designs [--only "tied, PCD"]

`speed` trains with CD-1 at L = 8 and T_c, 64 hidden units, and prints samples a CPU second,
medians over epochs: ours through the one training loop (θ, averaging and clipping included),
`BernoulliRBM.fit` of scikit-learn (PCD-1), the body of rbms' training loop (CD-1), and a bare loop
in torch.

Packages that are not installed say so. `draws` trains for 10 epochs on 20,000 lattices of
L = 8, and prints samples a CPU second at default options, medians over five times 2,000, and their
mean energy in standard errors of its difference from that of perfect lattices of the same θ.
`rates` prints rows a CPU second of trainings with defaults, medians of five epochs; `learning` the
gap to the exact log p on 20,000 lattices of L = 4 after 2 and 10 epochs of 8,000, mean ± standard
error of four seeds; `annealing` what log Z costs after 10 epochs, with a ladder of 1,000, and how
well it is known.

`designs` trains each variant and prints its gap to the exact log p, with what perfect samples say
of its log Z (log E[q/p], 0 where that is right), and its posteriors.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

import physgen
from physgen.law import Law
from physgen.registry import find
from physgen.runtime.device import threads
from physgen.training import InMemory, Trainer, Training
from simulators.ising.exact import CRITICAL_BETA

HIDDEN, RATE, EPOCHS = 64, 0.01, 7
CRITICAL = {"beta": (CRITICAL_BETA - 1e-4, CRITICAL_BETA + 1e-4)}
FAST = {"learning_rate": RATE}
DENSE = {"layout": "dense", "learning_rate": 0.005}
DENSE_64 = {"layout": "dense", "hidden": HIDDEN}
PCD = {"divergence": "pcd"}
DESIGNS = {
    "tied, CD-1": (8, None, FAST | {"ladder": 8000, "epochs": 100}),
    "tied, CD-10": (8, None, FAST | {"sweeps": 10, "epochs": 50}),
    "tied, PCD": (8, None, FAST | PCD | {"epochs": 50}),
    "dense, CD-1": (8, None, DENSE | {"epochs": 100}),
    "dense, CD-10": (8, None, DENSE | {"sweeps": 10, "epochs": 50}),
    "dense, PCD": (8, None, DENSE | PCD | {"epochs": 50}),
    "dense at T_c, 64 hidden, CD-1": (8, CRITICAL, DENSE | {"hidden": HIDDEN, "epochs": 100}),
    "dense at T_c, 64 hidden, PCD": (8, CRITICAL, DENSE | PCD | {"hidden": HIDDEN, "epochs": 50}),
    "tied, CD-1, L = 16": (16, None, FAST | {"batch_size": 64, "epochs": 50}),
    "tied, CD-1, L = 32": (
        32, None, FAST | {"batch_size": 32, "ladder": 8000, "chains": 128, "epochs": 20},
    ),
}  # fmt: skip
"""Label → size, prior, options of `physgen.fit`."""


# --- speed --------------------------------------------------------------------------------------


def ours(theta: torch.Tensor, x: torch.Tensor, batch: int) -> Iterator[None]:
    """Epochs of the training loop, without validation."""
    rbm, law = find("surrogates", "rbm"), Law.of("ising", {"size": 8}, CRITICAL)
    config = rbm.Config(layout="dense", hidden=HIDDEN, divergence="cd")
    rows = InMemory(theta, x)
    training = Training(epochs=EPOCHS, batch_size=batch, learning_rate=RATE)
    trainer = Trainer(rbm.create(law, config), rows, InMemory(theta[:1], x[:1]), training)
    trainer._validate = lambda rows: 0.0  # type: ignore[method-assign]  # the peers do not validate
    for _ in trainer:
        yield


def sklearn(theta: torch.Tensor, x: torch.Tensor, batch: int) -> Iterator[None]:
    """scikit-learn's own loop, on 0 and 1."""
    from sklearn.neural_network import BernoulliRBM

    bits = ((x.flatten(1) + 1) // 2).float().numpy()
    for _ in range(EPOCHS):
        BernoulliRBM(HIDDEN, batch_size=batch, n_iter=1, learning_rate=RATE).fit(bits)
        yield


def rbms(theta: torch.Tensor, x: torch.Tensor, batch: int) -> Iterator[None]:
    """The body of `rbms.training.pcd.train` for training_type cd, without its files."""
    from rbms.bernoulli_bernoulli.classes import BBRBM
    from rbms.dataset.dataset_class import RBMDataset
    from rbms.training.pcd import fit_batch_pcd

    n, bits = len(x), ((x.flatten(1) + 1) // 2).float().numpy()
    names, one = np.array([str(i) for i in range(n)]), np.ones(n, np.float32)
    data = RBMDataset(bits, np.zeros(n), one, names, "ising", True, "cpu")
    params = BBRBM.init_parameters(HIDDEN, data, torch.device("cpu"), torch.float32)
    params.init_grad()
    optimiser = torch.optim.SGD(params.parameters(), lr=RATE, maximize=True)
    for _ in range(EPOCHS):
        with torch.no_grad():
            for _ in range(n // batch):
                rows = torch.randperm(n)[:batch]
                pair = data.data[rows], data.weights[rows]
                chains = params.init_chains(batch, weights=pair[1], start_v=pair[0])
                optimiser.zero_grad(set_to_none=False)
                fit_batch_pcd(pair, chains, params, gibbs_steps=1, beta=1.0)
                optimiser.step()
        yield


def bare(theta: torch.Tensor, x: torch.Tensor, batch: int) -> Iterator[None]:
    """CD-1 in nine lines: no θ, no optimiser, nothing kept."""
    rng = torch.Generator().manual_seed(0)
    v_all, w = x.flatten(1).float(), 0.01 * torch.randn(HIDDEN, x[0].numel(), generator=rng)

    def spins(a: torch.Tensor) -> torch.Tensor:
        noise = torch.empty_like(a).uniform_(-1, 1, generator=rng)
        return torch.copysign(torch.ones_like(a), a.tanh() - noise)

    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x), generator=rng).split(batch):
            v = v_all[rows]
            a = v @ w.T
            s = spins(spins(a) @ w)
            w += RATE / len(v) * (a.tanh().T @ v - (s @ w.T).tanh().T @ s)
        yield


PEERS: dict[str, Callable[..., Iterator[None]]] = {
    "physgen": ours,
    "scikit-learn": sklearn,
    "rbms": rbms,
    "bare torch": bare,
}


def speed(folder: Path) -> None:
    """Print samples a CPU second, ours as a multiple of each; epochs of all alternate."""
    path = folder / "critical.h5"
    physgen.simulate("ising", out=path, n=20_000, seed=1, size=8, prior=CRITICAL)
    rows = physgen.read(path)
    theta, x = torch.from_numpy(rows.labels(path)), torch.from_numpy(rows.x)
    peers = {
        name: peer
        for name, peer in PEERS.items()
        if name in ("physgen", "bare torch") or find_spec(name.replace("scikit-learn", "sklearn"))
    }
    print("| batch | " + " | ".join(PEERS) + " |\n|---|" + "---|" * len(PEERS))
    for batch in (128, 1024):
        running = {name: peer(theta, x, batch) for name, peer in peers.items()}
        rates: dict[str, list[float]] = {name: [] for name in peers}
        for _ in range(EPOCHS):
            for name, epochs in running.items():
                start = time.process_time()
                next(epochs)
                rates[name].append(len(x) / (time.process_time() - start))
        median = {name: statistics.median(r[1:]) for name, r in rates.items()}
        cells = {name: f"{m:,.0f} (× {median['physgen'] / m:.2f})" for name, m in median.items()}
        every = [cells.get(name, "not installed") for name in PEERS]
        print(f"| {batch} | " + " | ".join(every) + " |", flush=True)


# --- draws --------------------------------------------------------------------------------------


def draws() -> None:
    """Print samples a CPU second of both layouts."""
    law, family = Law.of("ising", {"size": 8}), find("surrogates", "rbm")
    rng, simulator = np.random.default_rng(1), law.build()
    theta = law.prior.sample(20_000, rng)
    x = torch.from_numpy(simulator.sample(theta, rng))
    few, perfect = torch.from_numpy(theta[:2000]), x[:2000]

    def energy(x: torch.Tensor) -> torch.Tensor:
        return -(x * (x.roll(1, 1) + x.roll(1, 2))).double().sum((1, 2))

    print("| layout | samples / CPU s | energy, standard errors off |\n|---|---|---|")
    for layout, rate in (("tied", RATE), ("dense", RATE / 2)):
        rbm = family.create(law, family.Config(layout=layout), seed=1)
        rows, one = InMemory(torch.from_numpy(theta), x), InMemory(few[:1], x[:1])
        trainer = Trainer(rbm, rows, one, Training(epochs=10, learning_rate=rate))
        trainer._validate = lambda rows: 0.0  # type: ignore[method-assign]  # needs a log Z each
        list(trainer)
        rates = []
        for seed in range(6):
            start = time.process_time()
            drawn = rbm.sample(few, generator=seed)
            rates.append(len(few) / (time.process_time() - start))
        off = energy(drawn) - energy(perfect)
        sigmas = float(off.mean() / off.std() * len(off) ** 0.5)
        print(f"| {layout} | {statistics.median(rates[1:]):,.0f} | {sigmas:+.1f} |", flush=True)


# --- rates, learning, annealing -----------------------------------------------------------------

RATES = {
    "β, L = 8, tied": ({"size": 8}, {}, 12_800),
    "β, L = 16, tied": ({"size": 16}, {}, 3200),
    "β, L = 32, tied": ({"size": 32}, {}, 640),
    "β and h, L = 8, tied": ({"size": 8, "theta": "beta-h"}, {}, 6400),
    "β and h, L = 8, dense": ({"size": 8, "theta": "beta-h"}, DENSE_64, 6400),
    "β, L = 8, tied, PCD": ({"size": 8}, PCD, 3200),
}
"""Label → options of ising, of the RBM, and rows of an epoch."""


def learner(
    law: Law, rows: InMemory, epochs: int, rate: float, seed: int, **options: Any
) -> Trainer:
    """A training that validates nothing."""
    rbm = find("surrogates", "rbm")
    model = rbm.create(law, rbm.Config(**options), seed=seed)
    few = InMemory(rows.theta[:1], rows.x[:1])
    trainer = Trainer(model, rows, few, Training(epochs=epochs, learning_rate=rate), seed=seed)
    trainer._validate = lambda rows: 0.0  # type: ignore[method-assign]
    return trainer


def lattices(law: Law, n: int, rng: np.random.Generator) -> InMemory:
    """Perfect rows of a law."""
    theta = law.prior.sample(n, rng)
    return InMemory(torch.from_numpy(theta), torch.from_numpy(law.build().sample(theta, rng)))


def rates() -> None:
    """Print rows a CPU second of trainings."""
    print("| law and layout | rows / CPU s |\n|---|---|")
    for name, (options, config, n) in RATES.items():
        law, rng = Law.of("ising", options), np.random.default_rng(1)
        x = torch.from_numpy(rng.choice(np.array([-1, 1], np.int8), (n, *law.x_shape)))
        rows = InMemory(torch.from_numpy(law.prior.sample(n, rng)), x)
        seconds = []
        start = time.process_time()
        for _ in learner(law, rows, 6, 0.003, 0, **config):
            seconds.append(time.process_time() - start)
            start = time.process_time()
        print(f"| {name} | {n / statistics.median(seconds[1:]):,.0f} |", flush=True)


def learning() -> None:
    """Print the gap to the exact log p of L = 4 after so many epochs of 8,000 lattices."""
    law, rng = Law.of("ising", {"size": 4}), np.random.default_rng(1)
    rows, test = lattices(law, 8000, rng), lattices(law, 20_000, rng)
    exact = law.build().log_prob(test.theta.numpy(), test.x.numpy())
    print("| layout | epochs | gap, nats a lattice | CPU s |\n|---|---|---|---|")
    for layout, hidden, rate in (("tied", 4, RATE), ("dense", 32, RATE / 2)):
        for epochs in (2, 10):
            gaps, seconds = [], []
            for seed in range(4):
                training = learner(law, rows, epochs, rate, seed, layout=layout, hidden=hidden)
                start = time.process_time()
                list(training)
                seconds.append(time.process_time() - start)
                model = training.surrogate.eval()
                gaps.append((exact - model.log_prob(test.theta, test.x).detach().numpy()).mean())
            gap = f"{np.mean(gaps):.4f} ± {np.std(gaps, ddof=1) / len(gaps) ** 0.5:.4f}"
            print(
                f"| {layout} | {epochs} | {gap} | {statistics.median(seconds):.2f} |", flush=True
            )


def annealing() -> None:
    """Print CPU s of log Z after 10 epochs, and how far its two estimates are apart."""
    print("| layout | CPU s | stderr, nats | backward − forward |\n|---|---|---|---|")
    for layout, size in (("tied", 8), ("dense", 8), ("tied", 16)):
        law, rng = Law.of("ising", {"size": size}), np.random.default_rng(1)
        training = learner(law, lattices(law, 20_000, rng), 10, RATE / 2, 1, layout=layout)
        list(training)
        model, seconds = training.surrogate.using(ladder=1000), []
        for seed in range(4):
            start = time.process_time()
            model.finalize(seed)
            seconds.append(time.process_time() - start)
        found = model.log_z()
        apart = (found.backward - found.forward).abs().max()
        cells = f"{statistics.median(seconds[1:]):.2f} | {found.stderr.max():.3f} | {apart:.3f}"
        print(f"| {layout}, L = {size} | {cells} |", flush=True)


# --- designs ------------------------------------------------------------------------------------


def design(name: str, folder: Path) -> str:
    """Train one variant and measure it: a row of the table."""
    size, prior, given = DESIGNS[name]
    train, test = (folder / f"{part}{size}{prior is None}.h5" for part in ("train", "test"))
    if not train.exists():
        physgen.simulate("ising", out=train, n=20_000, seed=1, size=size, prior=prior)
        physgen.simulate("ising", out=test, n=2000, seed=2, size=size, prior=prior)
    out, start = folder / f"{list(DESIGNS).index(name)}.pt", time.process_time()
    physgen.fit("rbm", train, out=out, seed=1, **given)
    whole = time.process_time() - start
    measured = physgen.validate(out, test, out=out.with_suffix(".json"), seed=1).data
    nll, post, log_z = (measured[k] for k in ("nll", "posterior", "partition"))
    steps = measured["surrogate"]["history"][-1]["cpu_seconds"]
    js = [measured["observables"][k] for k in ("energy", "abs_magnetisation")]
    cells = [
        name,
        f"{steps:.0f} + {whole - steps:.0f}",
        f"{nll['gap_per_dim']:.5f} ± {nll['gap_se']:.5f}",
        f"{nll['log_mass']:+.3f} ± {nll['log_mass_se']:.3f}",
        f"{(nll['gap_total'] + nll['log_mass']) / nll['dims']:.5f}",
        f"{log_z['nats']['stderr']:.3f}, {log_z['nats']['backward_forward']:.3f}, "
        f"{min(log_z['ess']):.2f}",
        f"{post['mean_error']:.3f} / {post['std_ratio']:.3f} / {post['c2st']:.3f}",
        f"{post['sets']['mean_error']:.3f}",
        ", ".join(f"{o['js'] / o['js_null']:.2f}" for o in js),
    ]
    return "| " + " | ".join(cells) + " |"


def designs(folder: Path, only: str | None) -> None:
    """Print a row for each variant."""
    head = (
        "design", "CPU s: training + log Z", "gap, nats/spin", "log E[q/p], nats",
        "gap but for log Z", "log Z, nats: stderr, backward − forward; effective chains",
        "posterior: error / width ratio / ½+TV/2", "sets of ten: error",
        "JS ÷ null: energy, abs. magnetisation",
    )  # fmt: skip
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for name in [only] if only else DESIGNS:
        print(design(name, folder), flush=True)


PRINTED: dict[str, Callable[[], None]] = {
    "draws": draws,
    "rates": rates,
    "learning": learning,
    "annealing": annealing,
}


def main() -> None:
    """What is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["speed", "designs", *PRINTED])
    parser.add_argument("--only", choices=list(DESIGNS), help="one design")
    options = parser.parse_args()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    with threads(), tempfile.TemporaryDirectory() as name:
        if options.what == "speed":
            speed(Path(name))
        elif options.what in PRINTED:
            PRINTED[options.what]()
        else:
            designs(Path(name), options.only)


if __name__ == "__main__":
    main()
