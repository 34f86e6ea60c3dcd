r"""Both forms of the diffusion's bound: consistency and denoising terms, their means and spreads.

    python -m benchmarks.bounds [--size 8] [--rows 200] [--epochs 2] [--out bounds.png]

Maps of the Gaussian field at one θ, a cosine schedule, several numbers of steps. Each form is the
bound on −log p(x) from one path of noise, less the exact −log p(x), in nats a site: its mean, its
standard deviation from map to map, and the mean of the difference of the two over its standard
error, which must be small. The control is that difference from the second form at a quarter of
the steps. Denoisers: the exact one, that of another slope, and a trained network alone.
"""

from __future__ import annotations

import argparse
import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

import physgen
from benchmarks.restoration import THETA, exact_model
from physgen.surrogates.diffusion import Diffusion
from physgen.surrogates.diffusion.forms import bound_forms
from simulators.field.gaussian import GaussianField

STEPS = (4, 16, 64, 256, 1024)
WRONG = np.array([0.0, 0.5])
FORMS = ("consistency", "denoising")
HEAD = (
    "denoiser", "steps", *(f"{form}: {what}" for what in ("mean", "sd") for form in FORMS),
    "difference, in σ", "control, in σ",
)  # fmt: skip


class Told(NamedTuple):
    """Of a denoiser at a number of steps, nats a site.

    Attributes:
        mean: of both forms above the exact −log p, (2,).
        sd: of both forms from map to map, (2,).
        off: mean of their difference over its standard error.
    """

    mean: Tensor
    sd: Tensor
    off: float


def above(field: GaussianField, model: Diffusion, steps: int, rows: int) -> Tensor:
    """Both forms less the exact −log p of maps at `THETA`, nats a site, (rows, 2)."""
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    theta = np.tile(THETA, (rows, 1))
    x = torch.from_numpy(field.sample(theta, rng))
    z, kernel = model.transform(x).double(), model.kernel
    exact = torch.from_numpy(field.log_prob(theta, x.numpy())) - model.transform.log_det(x)
    c = model.rescale(torch.from_numpy(theta)).double()
    normal = torch.randn((rows, steps + 1, *field.x_shape), generator=generator, dtype=z.dtype)

    def denoise(z: Tensor, log_snr: Tensor) -> Tensor:
        return kernel.denoiser(z, log_snr, c)

    with torch.no_grad():
        found = torch.stack(bound_forms(denoise, kernel.schedule, z, normal), 1)
    return (found + exact[:, None]) / field.sites


def told(values: Tensor, others: Tensor) -> Told:
    """Of the first form of values (n, 2) and the second of others (n, 2)."""
    both = torch.stack([values[:, 0], others[:, 1]], 1)
    off = both[:, 0] - both[:, 1]
    return Told(both.mean(0), both.std(0), float(off.mean() / off.std()) * math.sqrt(len(off)))


def drawing(found: dict[str, dict[int, Told]], out: str) -> None:
    """Means and standard deviations by the number of steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    panels = figure.subplots(1, 2)
    for i, (name, by_steps) in enumerate(found.items()):
        for form, style in enumerate(("-o", "--s")):
            about = {"color": f"C{i}", "label": f"{name}: {FORMS[form]}", "ms": 4}
            for panel, part in zip(panels, ("mean", "sd"), strict=True):
                values = [float(getattr(t, part)[form]) for t in by_steps.values()]
                panel.loglog(list(by_steps), values, style, **about)
    for panel, label in zip(panels, ("mean above −log p(x)", "standard deviation"), strict=True):
        panel.set(xlabel="steps T", ylabel=f"{label}, nats a site")
        panel.set_xticks(STEPS, [str(t) for t in STEPS], minor=False)
        panel.minorticks_off()
    panels[0].legend(frameon=False)
    figure.savefig(out, dpi=120)


def main() -> None:
    """Print the table and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=8)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=2, help="0 for no network")
    parser.add_argument("--out", default="bounds.png")
    given = parser.parse_args()
    torch.set_num_threads(1)
    field = GaussianField(size=given.size)
    models = {
        "exact": exact_model(field, THETA).double(),
        "n + 0.5": exact_model(field, THETA + WRONG).double(),
    }
    if given.epochs:
        data = physgen.simulate("gaussian-field", size=given.size, n=10_000, seed=1)
        options = {"spectrum": "none", "noise_schedule": "cosine", "epochs": given.epochs}
        models["network"] = physgen.fit("diffusion", data, seed=1, **options).double()
    print("| " + " | ".join(HEAD) + " |\n" + "|---" * len(HEAD) + "|")
    found: dict[str, dict[int, Told]] = {}
    for name, model in models.items():
        before, found[name] = None, {}
        for steps in STEPS:
            values = above(field, model, steps, given.rows)
            now = found[name][steps] = told(values, values)
            numbers = " | ".join(f"{v:.4f}" for v in (*now.mean, *now.sd))
            control = "–" if before is None else f"{told(values, before).off:.1f}"
            print(f"| {name} | {steps} | {numbers} | {now.off:.1f} | {control} |", flush=True)
            before = values
    drawing(found, given.out)


if __name__ == "__main__":
    main()
