"""Log widths as sums of functions: against what drew the rows, and where there is nothing."""

import math

import numpy as np
import pytest
import torch

from physgen.nn.additive import AdditiveWidths, normal_law
from physgen.nn.regression import least_squares, quadratic
from physgen.nn.transforms.monotone import MonotoneMap, best_map


def rows(n=4000, seed=0):
    rng = np.random.default_rng(seed)
    c = torch.from_numpy(rng.uniform(-1, 1, (n, 2)))
    return c, torch.from_numpy(rng.standard_normal((n, 2)))


def truth(c):
    """A width that vanishes as c1², and one that does not change."""
    return torch.stack([2 * c[:, 0].abs().log(), torch.full_like(c[:, 0], -1.0)], 1)


def test_widths_that_vanish_within_the_prior_are_found():
    c, noise = rows()
    z = 3 * c[:, 1:] + truth(c).exp() * noise
    widths = AdditiveWidths(2, 2)
    weights, scale = normal_law(widths, c, z)
    assert widths.values[0, :, 0].any(), "of the first parameter in the first column"
    assert not widths.values[1].any()
    assert not widths.values[:, :, 1].any()
    c, _ = rows(seed=1)
    error = (scale + widths(c) - truth(c))[:, 0]
    assert error.abs().median() < 0.06
    assert error.exp().log().square().mean() < 0.2
    means = (quadratic(c) @ weights - 3 * c[:, 1:])[:, 0]
    plain = (quadratic(c) @ least_squares(*[r[:4000] for r in (rows()[0], z)]) - 3 * c[:, 1:])[
        :, 0
    ]
    assert means.square().mean() < 0.05 * plain.square().mean(), "the control: unweighted rows"
    assert float(scale[1]) == pytest.approx(-1, abs=0.05)


def test_few_rows_have_one_width():
    c, noise = rows(499)
    widths = AdditiveWidths(2, 2)
    scale = widths.fit(c, truth(c).exp() * noise)
    assert not widths.values.any()
    assert float(scale[1]) == pytest.approx(-1, abs=0.1)


def test_a_width_that_varies_is_no_tail():
    """It makes the marginal law heavy, and no bend; the control: Student's noise, which does."""
    c, noise = rows(8000)
    z = c[:, 1] + truth(c)[:, 0].exp() * noise[:, 0]
    straight = MonotoneMap(float(z.mean()), float(z.std()))
    assert best_map(z, c, straight) is None
    t = torch.from_numpy(np.random.default_rng(3).standard_t(1.2, len(c)))
    found = best_map(c[:, 1] + 0.1 * t, c, straight)
    assert found is not None
    assert found.heavy or found.knots.shape[1]
    assert math.isfinite(found.mean)
