"""The main job from end to end, on Ising lattices small enough for a few minutes on two cores."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from physgen import dataset
from physgen.errors import Interrupted, UsageError
from physgen.runtime.progress import log
from physgen.verbs.fit import fit
from physgen.verbs.infer import infer
from physgen.verbs.products import Page, Product
from physgen.verbs.report import report
from physgen.verbs.resume import resume_path
from physgen.verbs.running import on_files
from physgen.verbs.sample import sample
from physgen.verbs.simulate import simulate
from physgen.verbs.validate import validate

__all__ = ["demo"]

DRAWS = 32  # importance draws for each log p: the posterior needs many log p
PRODUCTS = (
    "train.h5", "test.h5", "cvae.pt", "cvae.pt.resume", "fake.h5", "posterior.h5", "metrics.json",
    "report.html",
)  # fmt: skip


@on_files(folders=("out",))
def demo(
    *, out: Path | str, size: int = 8, n: int = 20_000, minutes: float = 2.5, seed: int = 1,
    force: bool = False,
) -> Page:  # fmt: skip
    """Run the main job on Ising: simulate, fit, sample, infer, validate, report.

    The same command after an interruption goes on where it stopped.

    Args:
        out: folder for the products.
        size: side of the lattices, in sites.
        n: lattices to train on.
        minutes: wall time of the training.
        seed: seed of all that is random.
        force: begin again, and overwrite the products of an earlier demo.

    Returns:
        The report, and the figures in it.

    Example:
        physgen demo -o demo/
    """
    folder = Path(out)
    begin(folder, {"size": size, "n": n, "minutes": minutes, "seed": seed}, force)
    try:
        run_verbs(folder, size, n, minutes, seed)
    except Interrupted as stopped:  # here it is the same command that resumes
        raise Interrupted(stopped.exit_code - 128, str(out)) from stopped
    figures, page = json.loads((folder / "metrics.json").read_bytes()), folder / "report.html"
    return Page(page.read_text(), f"{three_figures(figures)}\nreport: {page}", page, figures)


def run_verbs(out: Path, size: int, n: int, minutes: float, seed: int) -> None:
    """All verbs, each where its product is not there yet."""
    train, test, model = out / "train.h5", out / "test.h5", out / "cvae.pt"
    posterior, metrics, page = out / "posterior.h5", out / "metrics.json", out / "report.html"

    def step(path: Path, verb: Callable[..., Product], *args: object, **options: object) -> None:
        if path.exists():
            log.info("%s: there already", path)
            return
        log.info("%s", verb(*args, out=path, **options).summary)

    step(train, simulate, "ising", size=size, n=n, seed=seed)
    step(test, simulate, "ising", size=size, n=2000, seed=seed + 1)
    resume = resume_path(model).exists()
    step(model, fit, "cvae", train, max_minutes=minutes, epochs=1000, seed=seed, resume=resume)
    step(out / "fake.h5", sample, model, like=test, seed=seed)
    step(posterior, infer, model, test, rows=slice(0, 10), draws=DRAWS, seed=seed)
    step(metrics, validate, model, test, draws=DRAWS, seed=seed)
    step(page, report, metrics)


def begin(out: Path, settings: Mapping[str, float], force: bool) -> None:
    """Make the folder, or go on in it if an earlier demo had the same settings.

    Raises:
        UsageError: a folder that is not of a demo with these settings.
    """
    record = out / "demo.json"
    if out.exists() and any(out.iterdir()):
        same = record.exists() and json.loads(record.read_bytes()) == settings
        if force and record.exists():
            for product in PRODUCTS:
                (out / product).unlink(missing_ok=True)
        elif not same:
            raise UsageError(
                f"{out}: holds something other than a demo with these settings; "
                "choose another folder, or --force to redo a demo"
            )
    out.mkdir(parents=True, exist_ok=True)
    dataset.write_bytes(record, json.dumps(settings).encode(), sidecar=False)


def three_figures(metrics: Mapping[str, Any]) -> str:
    """Three figures that a physicist would ask for."""
    nll, posterior, energy = metrics["nll"], metrics["posterior"], metrics["curves"]["energy"]
    exact = np.array(energy["exact"])
    i = int(np.argmax(np.abs(np.gradient(exact, energy["theta"]))))
    got, se = energy["surrogate"]["mean"][i], energy["surrogate"]["se"][i]
    return (
        f"1. log p(x|beta) is {nll['gap_per_dim']:.5f} ± {nll['gap_se']:.5f} nats per spin below "
        f"the exact one ({nll['gap_total']:.3f} nats a lattice; {nll['likelihood']})\n"
        f"2. the posterior mean of beta is off by {posterior['mean_error']:.3f} exact posterior "
        f"widths; ½ + TV/2 = {posterior['c2st']:.3f} (0.5 is perfect)\n"
        f"3. energy per spin at beta = {energy['theta'][i]:.3f}, where it is steepest: "
        f"{got:.3f} ± {se:.3f}, exact {exact[i]:.3f}"
    )
