"""The damped oscillator: six parameters of six kinds of prior, 200 points, exact log p.

From one set of simulations a conditional VAE learns p(x|θ), and NPE learns p(θ|x): of x as a
vector, and told that its axis is open, as a series. Of each observation the posterior of the VAE's
log p (smc), NPE's own draws, and these weighted with the VAE's log p (`--refine`) are held against
the exact posterior, smc with the exact log p. Errors are in exact widths, mean over observations;
the ratio is that of the widths.

``python -m benchmarks.oscillator`` prints the table, and what `calibrate` says of NPE; with
``--out FOLDER`` it keeps files and pages: posterior with corner and predictive band, calibration.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import physgen
from physgen.dataset import Dataset
from physgen.posterior.grid import of_exact
from physgen.posterior.smc import smc
from physgen.runtime.device import threads
from simulators.base import Array
from simulators.oscillator import Oscillator

CVAE: dict[str, Any] = {
    "channels": 128, "levels": 1, "latent_dim": 1, "learning_rate": 1.5e-3, "ema": 0.9995,
    "weight_decay": 0.01,
}  # fmt: skip


def timed(what: str, function: Callable[..., Any], *args: Any, **given: Any) -> Any:
    """What a function returns, its CPU and wall time told."""
    cpu, wall = time.process_time(), time.monotonic()
    found = function(*args, **given)
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    sys.stdout.write(f"{what}: {cpu:.0f} CPU s, {wall:.0f} s\n")
    sys.stdout.flush()
    return found


def as_series(data: Dataset) -> Dataset:
    """The same rows, told that their components have an order."""
    return physgen.dataset_of(data.theta, data.x, Oscillator().prior, axes="open")


def row(name: str, mean: Array, sd: Array, exact: Any) -> str:
    """A row of the table: errors and ratios of posteriors (n, D) in exact widths.

    Args:
        name: of the way.
        mean: (n, D).
        sd: (n, D).
        exact: the exact posteriors.
    """
    error, ratio = abs((mean - exact.mean) / exact.sd), sd / exact.sd
    each = " | ".join(
        f"{e:.2f}, {r:.2f}" for e, r in zip(error.mean(0), ratio.mean(0), strict=True)
    )
    return f"| {name} | {error.mean():.3f} | {ratio.mean():.3f} | {each} |\n"


def main(argv: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--simulations", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=60, help="of the VAE")
    parser.add_argument("--npe-epochs", type=int, default=60)
    parser.add_argument("--series-epochs", type=int, default=40, help="of NPE of a series")
    parser.add_argument("--observations", type=int, default=10)
    parser.add_argument("--rows", type=int, default=1000, help="to calibrate NPE on; 0 for none")
    parser.add_argument("--out", type=Path, help="folder for files and pages")
    options = parser.parse_args(argv)
    with threads(1):
        compare(options)


def compare(options: argparse.Namespace) -> None:
    """Train, infer and print."""
    simulator = Oscillator()
    data = physgen.simulate(simulator, n=options.simulations, seed=1)
    observed = physgen.simulate(simulator, n=options.observations, seed=2)
    log_p = of_exact(simulator.log_prob, observed.x.astype(float))
    exact = timed("exact", smc, log_p, simulator.prior, len(observed))
    vae = timed("VAE", physgen.fit, "cvae", data, epochs=options.epochs, seed=1, **CVAE)
    npe = timed(
        "NPE", physgen.infer, data, observed, method="npe", epochs=options.npe_epochs, seed=1
    )
    found = {
        "VAE, smc": timed("smc of the VAE", physgen.infer, vae, observed),
        "NPE": npe,
        "NPE, series": timed(
            "NPE, series",
            physgen.infer,
            as_series(data),
            as_series(observed),
            method="npe",
            epochs=options.series_epochs,
            seed=1,
        ),
        "NPE, refined": timed("refine", physgen.infer, vae, observed, refine=npe.network),
    }
    names = " | ".join(simulator.prior.names)
    sys.stdout.write(f"\n| | error | ratio | {names} |\n" + "|---" * 9 + "|\n")
    for name, p in found.items():
        sys.stdout.write(row(name, p.mean, p.sd, exact))
    for name, p in found.items():
        sys.stdout.write("".join(f"{name}: {line}\n" for line in p.warnings))
    if options.rows:
        test = physgen.simulate(simulator, n=options.rows, seed=3)
        scores = timed("calibrate NPE", physgen.calibrate, npe.network, test)
        sys.stdout.write(f"{scores.summary}\n")
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        kept = found["VAE, smc"].save(options.out / "posterior.h5", force=True)
        predicted = physgen.sample(
            vae, theta_from=kept, row=0, out=options.out / "x.h5", force=True
        )
        physgen.report(
            kept, predictive=predicted, observed=observed,
            out=options.out / "posterior.html", force=True,
        )  # fmt: skip
        if options.rows:
            physgen.report(scores, out=options.out / "calibration.html", force=True)


if __name__ == "__main__":
    main()
