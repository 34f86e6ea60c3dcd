"""Both forms of the diffusion's bound: equal on average, and in closed form for a normal law."""

import pytest
import torch

from physgen.surrogates.diffusion.forms import bound_forms
from physgen.surrogates.diffusion.likelihood import mean_reconstruction, prior_kl
from physgen.surrogates.diffusion.schedule import SCHEDULES, alpha_sigma, rows_like

WIDTH, ROWS = 0.6, 40_000


def denoiser(width):
    """E[x|z] of x ~ N(0, width²)."""

    def denoise(z, log_snr):
        alpha, sigma = (rows_like(v, z) for v in alpha_sigma(log_snr))
        return alpha * width**2 * z / (alpha**2 * width**2 + sigma**2)

    return denoise


def forms(width, steps):
    generator = torch.Generator().manual_seed(0)
    x, normal = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((ROWS, 2), (ROWS, steps + 1, 2))
    )
    schedule = SCHEDULES["cosine"](4.0, -4.0)
    return schedule, WIDTH * x, bound_forms(denoiser(width), schedule, WIDTH * x, normal)


@pytest.mark.parametrize("steps", [1, 3, 12])
@pytest.mark.parametrize("width", [WIDTH, 2 * WIDTH])
def test_both_forms_are_equal_on_average(steps, width):
    _, _, (consistency, denoising) = forms(width, steps)
    off = consistency - denoising
    assert abs(off.mean()) < 4 * off.std() / ROWS**0.5
    assert off.std() > 0.01
    wrong = consistency + 0.5 * denoising  # the control: a form that counts terms twice
    assert abs((wrong - denoising).mean()) > 4 * off.std() / ROWS**0.5


def test_the_denoising_form_of_a_normal_law_in_closed_form():
    schedule, x, found = forms(WIDTH, 12)
    log_snrs = schedule(torch.linspace(0, 1, 13)).double()
    alpha, sigma = alpha_sigma(log_snrs[1:])
    left = 2 * (WIDTH * sigma) ** 2 / ((alpha * WIDTH) ** 2 + sigma**2)
    terms = -0.5 * torch.diff(log_snrs.exp()) * left
    expected = terms.sum() + (prior_kl(schedule, x) - mean_reconstruction(schedule, x)).mean()
    for form in found:
        assert abs(form.mean() - expected) < 4 * form.std() / ROWS**0.5
    _, _, (_, wrong) = forms(2 * WIDTH, 12)
    assert wrong.mean() - expected > 20 * wrong.std() / ROWS**0.5
