r"""The learnt score of maps beside the exact one, by noise level.

    python -m benchmarks.scores [--size 16] [--epochs 4] [--rows 400] [--out scores.png]

Of z = αx + σε at log-SNR λ the score is (αx̂ − z)/σ², and an x̂ that is not x̂* = E[x|z] costs

    ½ ∫ e^λ E‖x̂ − x̂*‖² dλ

nats of log p (Kong, Brekelmans & Ver Steeg 2023, arXiv:2302.03792). For maps of the Gaussian field
x̂* is known. Rows: a network alone, one beside the stationary law, and the exact x̂ at a slope that
is off by 0.1, whose loss is known in closed form: a check of the integral, and the control.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

import physgen
from benchmarks.restoration import ExactDenoiser
from physgen.surrogates.diffusion import Diffusion
from physgen.surrogates.diffusion.schedule import alpha_sigma
from simulators.base import Array
from simulators.field.gaussian import GaussianField

LOG_SNRS = np.linspace(-10, 10, 41)
SHOWN = slice(4, -4, 4)
"""Those in the table."""
WRONG = np.array([0.0, 0.1])


def density(
    field: GaussianField, model: Diffusion, theta: Array, off: Array | None = None
) -> Array:
    """Nats a site lost per unit of log-SNR, (41,); by the exact x̂ at θ (n, D) + off, if given."""
    x = torch.from_numpy(field.sample(theta, np.random.default_rng(1)))
    z0, c = model.transform(x).float(), model.rescale(torch.from_numpy(theta)).float()
    exact = ExactDenoiser.beside(model, field, theta)
    other = model.kernel.denoiser if off is None else exact.beside(model, field, theta + off)
    generator, lost = torch.Generator().manual_seed(2), []
    for log_snr in torch.from_numpy(LOG_SNRS).float():
        alpha, sigma = alpha_sigma(log_snr)
        z = alpha * z0 + sigma * torch.randn(z0.shape, generator=generator)
        many = log_snr.expand(len(z))
        with torch.no_grad():
            square = (other(z, many, c) - exact(z, many)).square().mean()
        lost.append(float(0.5 * log_snr.exp() * square))
    return np.array(lost)


def known_loss(field: GaussianField, theta: Array, off: Array) -> float:
    """KL a site of the field at θ (n, D) from that at θ + off, the mean over θ."""
    ratio = field.log_power(theta) - field.log_power(theta + off)
    each = 0.5 * (np.expm1(ratio) - ratio) @ field.shells.count
    return float(each.mean()) / field.sites


def drawing(found: dict[str, Array], out: str) -> None:
    """Densities by log-SNR."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    panel = figure.subplots()
    for label, lost in found.items():
        panel.semilogy(LOG_SNRS, lost, label=label)
    panel.set(xlabel="log-SNR λ", ylabel="nats a site lost per unit of λ")
    panel.legend(frameon=False)
    figure.savefig(out, dpi=120)


def main() -> None:
    """Print the table and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=4, help="of the network alone")
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--out", default="scores.png")
    given = parser.parse_args()
    torch.set_num_threads(1)
    field = GaussianField(size=given.size)
    data = physgen.simulate("gaussian-field", size=given.size, n=20_000, seed=1)
    base = physgen.fit("diffusion", data, seed=1, epochs=1)
    alone = physgen.fit("diffusion", data, seed=1, epochs=given.epochs, spectrum="none")
    theta = field.prior.sample(given.rows, np.random.default_rng(0))
    found = {
        "network alone": density(field, alone, theta),
        "beside the stationary law": density(field, base, theta),
        "exact at n + 0.1 (control)": density(field, base, theta, WRONG),
    }
    shown = " | ".join(f"λ = {v:.0f}" for v in LOG_SNRS[SHOWN])
    print(f"| x̂ | {shown} | integral |\n" + "|---" * (len(LOG_SNRS[SHOWN]) + 2) + "|")
    for label, lost in found.items():
        values = [*lost[SHOWN], np.trapezoid(lost, LOG_SNRS)]
        print(f"| {label} | " + " | ".join(f"{v:.1e}" for v in values) + " |")
    print(f"in closed form at n + 0.1: {known_loss(field, theta, WRONG):.2e}")
    drawing(found, given.out)


if __name__ == "__main__":
    main()
