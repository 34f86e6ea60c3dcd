r"""How noise grows: the variance-preserving process and its log-SNR.

    z_t = α_t x + σ_t ε,   α² + σ² = 1,   λ_t = log α²/σ²,   t from 0 (data) to 1 (noise)

λ says all: α² = sigmoid(λ), σ² = sigmoid(−λ). Every schedule falls from `HIGH` to `LOW`: there the
bound's end terms (reconstruction, prior matching) are negligible, and between the same ends the
continuous bound does not depend on the schedule's shape, only its variance does (Kingma et al.
2021, arXiv:2107.00630).

- linear: β_t grows linearly, α² = exp(−β₀t − ½(β₁ − β₀)t²) (Ho et al. 2020, arXiv:2006.11239;
  continuous in Song et al. 2021, arXiv:2011.13456);
- cosine: α = cos(πt/2), so λ = −2 log tan(πt/2) (Nichol & Dhariwal 2021, arXiv:2102.09672);
- learnt: monotone; training gives more of the time to where the bound's integrand is large, so
  that its variance falls.
"""

from __future__ import annotations

import abc
import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["SCHEDULES", "Cosine", "Learnt", "Linear", "Schedule", "alpha_sigma", "rows_like"]

ScheduleName = Literal["learnt", "cosine", "linear"]


def alpha_sigma(log_snr: Tensor) -> tuple[Tensor, Tensor]:
    """α and σ of a log-SNR λ (...), (...) each."""
    return log_snr.sigmoid().sqrt(), (-log_snr).sigmoid().sqrt()


def rows_like(value: Tensor, like: Tensor) -> Tensor:
    """(B,) with as many axes as `like` (B, …)."""
    return value.view(-1, *[1] * (like.ndim - 1))


class Schedule(nn.Module, abc.ABC):
    """λ(t), falling from `high` at t = 0 to `low` at t = 1.

    Args:
        high: log-SNR of the data's end.
        low: log-SNR of the noise's end.
    """

    def __init__(self, high: float, low: float) -> None:
        super().__init__()
        self.high, self.low = high, low

    @abc.abstractmethod
    def slope(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """λ and −dλ/dt > 0 at t (...) in [0, 1], (...) each."""

    def forward(self, t: Tensor) -> Tensor:
        """t (...) in [0, 1] → λ (...)."""
        return self.slope(t)[0]


class Linear(Schedule):
    """DDPM's linear β, from β₀ = 0.1 to β₁ = 20, s going from s(high) to s(low).

    λ = −log(e^h − 1), with h = −log α² = β₀s + ½(β₁ − β₀)s².
    """

    B0, B1 = 0.1, 20.0

    def slope(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """λ and −dλ/dt at t (...), (...) each."""
        first, last = self._time(self.high), self._time(self.low)
        s = first + (last - first) * t
        h = self.B0 * s + 0.5 * (self.B1 - self.B0) * s**2
        known = -torch.expm1(-h)  # σ²
        rate = (self.B0 + (self.B1 - self.B0) * s) * (last - first)
        return -h - known.log(), rate / known

    def _time(self, log_snr: float) -> float:
        h, slope = math.log1p(math.exp(-log_snr)), self.B1 - self.B0
        return (math.sqrt(self.B0**2 + 2 * slope * h) - self.B0) / slope


class Cosine(Schedule):
    """α = cos(s), s going from s(high) to s(low); λ = −2 log tan(s)."""

    def slope(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """λ and −dλ/dt at t (...), (...) each."""
        first, last = (math.atan(math.exp(-0.5 * end)) for end in (self.high, self.low))
        s = first + (last - first) * t
        return -2 * s.tan().log(), 4 * (last - first) / (2 * s).sin()


class Learnt(Schedule):
    """t(λ) piecewise linear on equal bins of λ: the part w_k of the time goes to bin k.

    Each bin keeps half of an equal share, w_k = (½ + ½K softmax_k)/K, so that no slope is more
    than twice that of a straight line, and the integrand's second moment no more than twice.
    """

    def __init__(self, high: float, low: float, bins: int = 24) -> None:
        super().__init__(high, low)
        self.logit = nn.Parameter(torch.zeros(bins))

    def slope(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """λ and −dλ/dt at t (...), (...) each."""
        bins = len(self.logit)
        share = 0.5 / bins + 0.5 * F.softmax(self.logit, -1)
        ends = share.cumsum(-1)
        k = torch.searchsorted(ends.detach(), t.detach()).clamp(max=bins - 1)
        rate = (self.high - self.low) / bins / share[k]
        log_snr = self.high - (self.high - self.low) * (k + 1) / bins + rate * (ends[k] - t)
        return log_snr, rate


SCHEDULES: dict[ScheduleName, type[Schedule]] = {
    "learnt": Learnt,
    "cosine": Cosine,
    "linear": Linear,
}
