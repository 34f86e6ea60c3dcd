r"""log p(x|θ) of the Gaussian kernel, three ways: the ELBO, path weights, the flow.

**The bound (ELBO)** (Kingma et al. 2021, arXiv:2107.00630): with all of its terms,

    −log p(x) ≤ E[−log p(x|z_0)] + KL(q(z_1|x) ‖ N(0, 1)) + diffusion
    diffusion = ½ E_{t,ε} (−λ′(t)) e^λ ‖x − x̂(z_t)‖²                     (continuous time)
              = ½ T E_{i,ε} (e^{λ_s} − e^{λ_t}) ‖x − x̂(z_t)‖²             (T steps, s = t − 1/T)

**Path weights**: for a chain of T steps, with a whole path drawn from the forward process,

    log w = log p(z_1) p(x|z_0) Π p(z_s|z_t) / q(z_0, …, z_1|x)
          = log p(x|z_0) + log p(z_1)/q(z_1|x) − Σ ½Δ‖x − x̂‖² + √Δ ξ·(x − x̂)

with Δ = e^{λ_s} − e^{λ_t}, and E w = p(x) of the chain: the mean weight is unbiased, and all T
steps are one batch.

**The probability-flow equation** (Song et al. 2021, arXiv:2011.13456): z_0 taken to z_1 by dz =
½α(x̂ − αz) dλ, with d log p = −tr(∂ż/∂z) dλ by the exact trace or by Hutchinson's
(Grathwohl et al. 2019, arXiv:1810.01367), and x tied to z_0 by p(x|z_0)/q(z_0|x), which
dequantises spins. Discretised it is an estimate of unknown sign: few steps may put it above the
truth.

All random numbers are arguments, drawn for each x and never for θ.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from physgen.surrogates.diffusion.sampler import Denoise
from physgen.surrogates.diffusion.schedule import Schedule, alpha_sigma, rows_like
from simulators.base import Support

__all__ = [
    "RowDenoise",
    "diffusion_loss",
    "flow",
    "log_mean",
    "mean",
    "mean_reconstruction",
    "noised",
    "path_log_weight",
    "prior_kl",
    "reconstruct",
    "reconstruction",
    "times",
]

TINY = 1e-30
RowDenoise = Callable[[Tensor, Tensor], Tensor]
"""z (B, …), λ (B,) → x̂ (B, …)."""


def times(u: Tensor, count: int, steps: int = 0) -> Tensor:
    """Low-variance times in [0, 1): `count` equal strata, all shifted by u (...) in [0, 1).

    Args:
        u: (B,) one shift for each sequence.
        count: strata.
        steps: T to round up to i/T, i = 1 … T, in (0, 1]; 0 for continuous time.

    Returns:
        t: (B, count).
    """
    t = (u[:, None] + torch.arange(count, device=u.device) / count) % 1
    return ((t * steps).floor() + 1) / steps if steps else t


def diffusion_loss(
    denoise: RowDenoise,
    schedule: Schedule,
    support: Support,
    x: Tensor,
    t: Tensor,
    epsilon: Tensor,
    steps: int,
    part: Tensor | None = None,
    moments: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """The diffusion term of the bound at one time for each row, and ‖ε − ε̂‖², (B,) each.

    Args:
        denoise: x̂ of rows.
        schedule: λ(t).
        support: of x.
        x: (B, …).
        t: (B,) of `times`.
        epsilon: (B, …) standard normal.
        steps: T; 0 for continuous time.
        part: as for `total`.
        moments: mean and width of x, as for `surplus`, of reals.
    """
    log_snr, slope = (part.clone() for part in schedule.slope(t))  # `quiet` marks each by itself
    alpha, sigma = alpha_sigma(rows_like(log_snr, x))
    error = total((x - denoise(alpha * x + sigma * epsilon, log_snr)).square(), part)
    noise_error = log_snr.exp() * error
    if support == "reals":
        noise_error = noise_error - surplus(x, epsilon, alpha, sigma, part, moments)
    if steps:
        gain = steps * torch.expm1(schedule(t - 1 / steps) - log_snr)
        return 0.5 * gain * noise_error, noise_error
    value = 0.5 * slope * noise_error
    quiet(value, log_snr, slope)
    return value, noise_error


def total(values: Tensor, part: Tensor | None = None) -> Tensor:
    """The sum over components, (B, …) → (B,).

    Args:
        values: one for each component.
        part: (B, …) the components that count; None for all.
    """
    return (values if part is None else values * part).flatten(1).sum(1)


def surplus(
    x: Tensor,
    epsilon: Tensor,
    alpha: Tensor,
    sigma: Tensor,
    part: Tensor | None = None,
    moments: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """A control variate of mean 0, (B,): what ‖ε − ε̂‖² of independent normal x has above its mean.

    With x̂ that of mean m and width s, and v = α²s² + σ², it is ‖ασ(x − m)/v − (α²s²/v) ε‖²; at
    high log-SNR, where ε cannot be told, nearly all of the noise is of this kind. For spins it
    would lower the variance by little, or raise it.

    Args:
        x: (B, …).
        epsilon: (B, …).
        alpha: of each row.
        sigma: of each row.
        part: as for `total`.
        moments: m and s, any numbers, broadcastable to x; 0 and 1 if None.
    """
    m, s = moments or (torch.zeros_like(alpha), torch.ones_like(alpha))
    v = alpha**2 * s**2 + sigma**2
    a, b = alpha * sigma * (x - m) / v, alpha**2 * s**2 / v
    return total((a - b * epsilon).square() - a.square() - b.square(), part)


def quiet(value: Tensor, *scheduled: Tensor) -> None:
    """Let the gradient of `scheduled` (B,) be that of the log of the mean of value².

    The continuous bound does not depend on the schedule but for its variance, so that is what the
    schedule is trained to lower, in the one backward pass that there is (Kingma et al. 2021).
    """
    weight = value.detach()
    weight = 2 * weight / weight.square().mean().clamp_min(TINY)
    for tensor in scheduled:
        if tensor.requires_grad:
            tensor.register_hook(lambda gradient: gradient * weight)


def noised(schedule: Schedule, x: Tensor, epsilon: Tensor) -> Tensor:
    """z_0 = α x + σ ε at the data's end, of x and ε (B, …), (B, …)."""
    alpha, sigma = alpha_sigma(torch.tensor(schedule.high, device=x.device))
    return alpha * x + sigma * epsilon


def prior_kl(schedule: Schedule, x: Tensor, part: Tensor | None = None) -> Tensor:
    """KL(q(z_1|x) ‖ N(0, 1)) = ½ Σ (α²x² + σ² − 1 − log σ²), (B,)."""
    low = torch.tensor(schedule.low, device=x.device)
    alpha2, sigma2 = low.sigmoid(), (-low).sigmoid()
    return 0.5 * total(alpha2 * x**2 + sigma2 - 1 - sigma2.log(), part)


def reconstruction(schedule: Schedule, support: Support, x: Tensor, z: Tensor) -> Tensor:
    """log p(x|z_0) with independent components, (B,); at this end z_0 all but tells x.

    Spins by their odds 2αz/σ² under equal priors, reals as normal with mean αz and variance σ².
    """
    alpha, sigma = alpha_sigma(torch.tensor(schedule.high, device=x.device))
    if support == "spins":
        return F.logsigmoid(2 * alpha / sigma**2 * x * z).flatten(1).sum(1)
    r = (x - alpha * z) / sigma
    return (-0.5 * (r.square() + math.log(2 * math.pi)) - sigma.log()).flatten(1).sum(1)


def mean_reconstruction(schedule: Schedule, x: Tensor, part: Tensor | None = None) -> Tensor:
    """The mean of that log p(x|z_0) over z_0 = αx + σε, of reals, (B,)."""
    alpha, sigma = alpha_sigma(torch.tensor(schedule.high, device=x.device))
    square = (sigma * x).square() + alpha**2
    return total(-0.5 * (square + math.log(2 * math.pi)) - sigma.log(), part)


def reconstruct(schedule: Schedule, support: Support, z: Tensor, normal: Tensor) -> Tensor:
    """x from z_0 (B, …): the likelier spins, or normal reals as in `reconstruction`."""
    if support == "spins":
        return torch.where(z >= 0, 1.0, -1.0)
    alpha, sigma = alpha_sigma(torch.tensor(schedule.high, device=z.device))
    return alpha * z + sigma * normal


def path_log_weight(
    denoise: RowDenoise, schedule: Schedule, support: Support, x: Tensor, normal: Tensor
) -> Tensor:
    """log w of one path for each row, (B,).

    Args:
        denoise: x̂ of rows.
        schedule: λ(t).
        support: of x.
        x: (B, …).
        normal: (B, T + 1, …) standard normal, one for z_1 and one for each step.
    """
    steps = normal.shape[1] - 1
    log_snrs = schedule(torch.linspace(1, 0, steps + 1, device=x.device))
    alpha, sigma = alpha_sigma(log_snrs)
    z = [alpha[0] * x + sigma[0] * normal[:, 0]]
    for i in range(steps):
        kept = (log_snrs[i] - log_snrs[i + 1]).exp()  # of the variance, by the step
        old = (z[i] - alpha[i] * x) / sigma[i]
        noise = kept.sqrt() * old + (1 - kept).sqrt() * normal[:, i + 1]
        z.append(alpha[i + 1] * x + sigma[i + 1] * noise)
    before = torch.stack(z[:-1], 1)
    at = log_snrs[:-1].repeat(len(x))
    error = x[:, None] - denoise(before.flatten(0, 1), at).unflatten(0, (len(x), steps))
    delta = torch.diff(log_snrs.exp())
    drift = 0.5 * delta * error.square().flatten(2).sum(2)
    shock = delta.sqrt() * (normal[:, 1:] * error).flatten(2).sum(2)
    start = 0.5 * (normal[:, 0].square() - z[0].square()) + sigma[0].log()
    end = reconstruction(schedule, support, x, z[-1])
    return end + start.flatten(1).sum(1) - (drift + shock).sum(1)


def flow(denoise: Denoise, z: Tensor, log_snrs: Tensor, probes: Tensor | None) -> Tensor:
    """log p(z) at the first, highest log-SNR by the probability-flow equation, Heun's rule, (B,).

    Where gradients are enabled it has one, by z and by whatever the denoiser depends on; the trace
    is then differentiated a second time.

    Args:
        denoise: x̂ of z (B, …) at one λ.
        z: (B, …).
        log_snrs: (n + 1,) falling.
        probes: (B, …) of ±1 for Hutchinson's trace; None for the exact one.
    """
    kept = torch.is_grad_enabled()

    def velocity(z: Tensor, log_snr: Tensor) -> tuple[Tensor, Tensor]:
        alpha, _ = alpha_sigma(log_snr)
        # only the plain form of attention has second derivatives
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH) if kept else nullcontext():
            if not (kept and z.requires_grad):
                z = z.detach().requires_grad_()
            v = 0.5 * alpha * (denoise(z, log_snr) - alpha * z)
            div = trace(v, z, probes, kept)
        return (v, div) if kept else (v.detach(), div)

    log_det = torch.zeros(len(z), device=z.device, dtype=z.dtype)
    for now, then in pairwise(log_snrs):
        v, div = velocity(z, now)
        v1, div1 = velocity(z + (then - now) * v, then)
        z = z + (then - now) * (v + v1) / 2
        log_det = log_det + (then - now) * (div + div1) / 2
    normal = -0.5 * (z.square() + math.log(2 * math.pi))
    return normal.flatten(1).sum(1) + log_det


def mean(values: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of (B, K) and its standard error, (B,); NaN of a single draw."""
    draws, value = values.shape[1], values.mean(1)
    return value, ((values - value[:, None]).square().sum(1) / (draws - 1) / draws).sqrt()


def log_mean(log_w: Tensor) -> tuple[Tensor, Tensor]:
    """Log of the mean of weights (B, K), and the relative standard error of that mean, (B,)."""
    draws = log_w.shape[1]
    value = log_w.logsumexp(1) - math.log(draws)
    w = (log_w - value[:, None]).exp()
    return value, ((w - 1).square().sum(1) / (draws - 1) / draws).sqrt()


def trace(v: Tensor, z: Tensor, probes: Tensor | None, kept: bool = False) -> Tensor:
    """tr ∂v/∂z for each row of v(z) (B, …), (B,); rows must not mix.

    Args:
        v: (B, …), with a graph to z.
        z: (B, …).
        probes: (B, …) of ±1 for Hutchinson's estimate; None for the exact trace.
        kept: whether the trace is to be differentiated in its turn.
    """
    if probes is not None:
        (pulled,) = torch.autograd.grad(v, z, probes, retain_graph=True, create_graph=kept)
        return (probes * pulled).flatten(1).sum(1)
    basis = torch.eye(z[0].numel(), device=z.device, dtype=z.dtype).view(-1, 1, *z.shape[1:])
    return torch.stack([trace(v, z, e.expand_as(z), kept) for e in basis]).sum(0)
