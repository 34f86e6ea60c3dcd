r"""Diffusion as a prior: x given y = Mx + σε, each method beside the Wiener filter.

    python -m benchmarks.restoration [--size 32] [--epochs 1] [--particles 4] [--draws 64]
        [--methods particles mmps]

Maps of the Gaussian field, half of them masked, noise 0.1. The first rows have the field's exact
denoiser in the place of a network's, so that what is off is the method's own; the others a
diffusion that was trained. The last row is the prior without y, which must be far off.

The error of the mean is in exact widths, root mean square over sites; of n draws √(1/n) is noise,
which is taken off in squares.
"""

from __future__ import annotations

import argparse
import math
import time

import numpy as np
import torch
from torch import Tensor, nn

import physgen
from physgen.law import Law
from physgen.nn.measurement import Measurement
from physgen.surrogates.diffusion import Diffusion, DiffusionConfig
from physgen.surrogates.diffusion.restoring import GUIDED
from physgen.surrogates.diffusion.schedule import alpha_sigma
from simulators.base import Array
from simulators.field.gaussian import GaussianField

THETA = np.array([0.0, 2.0])
HEAD = (
    "denoiser", "method", "CPU s of training", "mean off", "widths", "90 % cover", "worst ESS",
    "CPU s a draw",
)  # fmt: skip


class ExactDenoiser(nn.Module):
    """E[x|z] of z = αx + σε for a Gaussian field, x in units of the data.

    Args:
        field: the field.
        theta: θ of all rows (1, D), or of each (B, D); None where the condition c tells it.
        center: what the data are shifted by.
        unit: what they are divided by.
    """

    def __init__(
        self, field: GaussianField, theta: Array | None, center: float, unit: float
    ) -> None:
        super().__init__()
        self.field, self.mean, self.unit = field, -center / unit, unit
        self.power = None if theta is None else self.power_at(theta)

    def power_at(self, theta: Array) -> Tensor:
        """P of the modes at each θ (B, D), in units of the data, (B, L, L//2 + 1)."""
        power = np.exp(self.field.log_power(theta))[:, self.field.shells.shell]
        return torch.from_numpy(power / self.unit**2).float()

    @classmethod
    def beside(cls, model: Diffusion, field: GaussianField, theta: Array | None) -> ExactDenoiser:
        """The one of θ (1, D) or (B, D), in the units of a model; of any θ if None."""
        ends = (torch.full((1, *field.x_shape), v) for v in (0.0, 1.0))
        zero, one = (float(model.transform.inverse(v).mean()) for v in ends)
        return cls(field, theta, zero, one - zero)

    def forward(self, z: Tensor, log_snr: Tensor, c: Tensor | None = None) -> Tensor:
        """X̂ of z (B, L, L) at log-SNR (B,), (B, L, L)."""
        alpha, sigma = (v.view(-1, 1, 1) for v in alpha_sigma(log_snr))
        power = self.power
        if power is None and c is not None:
            power = self.power_at(self.field.prior.from_coordinates(c.double().numpy()))
        gain = alpha * power / (alpha**2 * power + sigma**2)
        off = torch.fft.rfft2(z - alpha * self.mean) * gain
        return self.mean + torch.fft.irfft2(off, s=z.shape[1:])


def exact_model(field: GaussianField, theta: Array | None, rows: int = 500) -> Diffusion:
    """A diffusion whose denoiser is exact at one θ (D,), or at any if None."""
    law = Law.of("gaussian-field", {"size": field.size})
    model = Diffusion.create(law, DiffusionConfig(noise_schedule="cosine", spectrum="none"))
    rng = np.random.default_rng(0)
    many = law.prior.sample(rows, rng)
    model.fit_transform(torch.from_numpy(field.sample(many, rng)), torch.from_numpy(many))
    model.kernel.denoiser = ExactDenoiser.beside(
        model, field, None if theta is None else theta[None]
    )
    return model.eval()


def off(x: Array, moments: tuple[Array, Array]) -> tuple[float, float]:
    """Error of the mean of draws (n, L, L) in exact widths, and the ratio of widths."""
    mean, sd = moments
    noise = (x.var(0, ddof=1) / sd**2).mean() / len(x)
    square = float((((x.mean(0) - mean) / sd) ** 2).mean() - noise)
    return math.copysign(math.sqrt(abs(square)), square), float((x.std(0, ddof=1) / sd).mean())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=1, help="of 10,000 maps; 0 for no network")
    parser.add_argument("--particles", type=int, default=4)
    parser.add_argument("--draws", type=int, default=64)
    parser.add_argument("--maps", type=int, default=3, help="maps that are measured")
    parser.add_argument("--methods", nargs="+", choices=GUIDED, default=list(GUIDED))
    given = parser.parse_args()
    torch.set_num_threads(1)
    field = GaussianField(size=given.size)
    models, spent = {"exact": exact_model(field, THETA)}, {"exact": "–"}
    if given.epochs:
        data = physgen.simulate("gaussian-field", size=given.size, n=10_000, seed=1)
        start = time.process_time()
        models["trained"] = physgen.fit("diffusion", data, epochs=given.epochs, seed=1)
        spent["trained"] = f"{time.process_time() - start:.0f}"
    print("| " + " | ".join(HEAD) + " |\n" + "|---" * len(HEAD) + "|")
    for name, model in models.items():
        for method in given.methods:
            cells = row(field, model, method, given)
            print(f"| {name} | {method} | {spent[name]} {cells}", flush=True)
    print(f"| exact | prior without y (control) | – {row(field, models['exact'], '', given)}")


def row(field: GaussianField, model: Diffusion, method: str, given: argparse.Namespace) -> str:
    """One row of the table: means over some maps; without a method, of the prior."""
    n, found, ess, seconds = given.draws, [], [], 0.0
    many = torch.from_numpy(np.tile(THETA, (n, 1)))
    for seed in range(given.maps):
        rng = np.random.default_rng(seed)
        measurement = Measurement.of(model.law, rng.random(field.x_shape) < 0.5, 0.1)
        truth = field.sample(THETA[None], rng)
        y = measurement(truth)[0] + 0.1 * rng.standard_normal(field.x_shape)
        exact = field.restoration(THETA, y, measurement.linear, 0.1)
        start = time.process_time()
        if method:
            options = {"particles": given.particles} if method == "particles" else {}
            some = model.restore(
                many, np.tile(y, (n, 1, 1)), measurement, method=method, generator=seed, **options
            )
            x = some.x.double().numpy()
            ess += some.diagnostics.get("worst_ess", torch.empty(0))[:1].tolist()
        else:
            x = model.sample(many, seed).double().numpy()
        seconds += time.process_time() - start
        low, high = np.quantile(x, [0.05, 0.95], axis=0)
        found.append([*off(x, exact.moments), ((truth[0] > low) & (truth[0] < high)).mean()])
    error, ratio, covered = np.mean(found, 0)
    worst = f"{np.mean(ess):.3f}" if ess else "–"
    each = seconds / n / given.maps
    return f"| {error:.3f} | {ratio:.3f} | {covered:.3f} | {worst} | {each:.3f} |"


if __name__ == "__main__":
    main()
