"""Slopes that change with θ: against what drew the rows, and where there is nothing to find."""

import numpy as np
import torch

from physgen.nn.additive import AdditiveWidths, normal_law
from physgen.nn.slopes import AdditiveSlopes, constant_slopes, regressed


def rows(rho, n=6000, seed=0):
    """c (n, 2), and e (n, 3) of unit width, the first two of a correlation ρ(c)."""
    rng = np.random.default_rng(seed)
    c = torch.from_numpy(rng.uniform(-1, 1, (n, 2)))
    e = torch.from_numpy(rng.standard_normal((n, 3)))
    r = rho(c)
    e[:, 1] = r * e[:, 0] + (1 - r**2).sqrt() * e[:, 1]
    return c, e


def learnt(c, e):
    slopes, widths = AdditiveSlopes(2, 3), AdditiveWidths(2, 3)
    constant, t = regressed(slopes, widths, c, e)
    return slopes, widths, constant, t


def test_a_correlation_that_changes_with_a_parameter_is_found():
    def rho(c):
        return torch.tanh(3 * c[:, 1])

    slopes, widths, constant, t = learnt(*rows(rho))
    used = slopes.values.any(1)
    assert slopes.pair[used].tolist() == [0]
    assert slopes.parameter[used].tolist() == [1]
    c, _ = rows(rho, seed=1)
    found = constant + slopes(c.float())
    assert (found[:, 0] - rho(c)).square().mean().sqrt() < 0.04
    assert (constant[0] - rho(c)).square().mean().sqrt() > 0.5, "the control: one slope for all"
    assert found[:, 1:].abs().max() < 0.05
    left = t[1] + widths(c)[:, 1] - 0.5 * (1 - rho(c) ** 2).log()
    assert left.abs().mean() < 0.12


def test_a_correlation_that_does_not_change_is_a_number():
    slopes, widths, constant, t = learnt(*rows(lambda c: torch.full_like(c[:, 0], 0.6)))
    assert not slopes.values.any()
    assert not widths.values.any()
    np.testing.assert_allclose(constant, [0.6, 0, 0], atol=0.04)
    np.testing.assert_allclose(t, np.log([1, 0.8, 1]), atol=0.03)


def test_a_parameter_that_is_always_the_same_has_no_functions():
    c, e = rows(lambda c: torch.tanh(3 * c[:, 1]))
    c[:, 0], e = 0.37, e * (2 * c[:, 1:]).exp()
    slopes, widths = AdditiveSlopes(2, 3), AdditiveWidths(2, 3)
    _, scale = normal_law(widths, c.float(), e)
    regressed(slopes, AdditiveWidths(2, 3), c.float(), e * (-scale - widths(c)).exp())
    assert widths.values[1].any()
    assert not widths.values[0].any()
    assert slopes.parameter[slopes.values.any(1)].tolist() == [1]
    assert widths(c.float()).isfinite().all()
    assert slopes(c.float()).isfinite().all()


def test_few_rows_of_noise_have_no_slopes():
    rng = np.random.default_rng(3)
    noise = torch.from_numpy(rng.standard_normal((100, 20)))
    found = constant_slopes(noise)
    full = torch.linalg.lstsq(noise[:, :19], noise[:, 19]).solution
    assert found[19].square().sum() < 0.5 * full.square().sum(), "the control: all of them"
    walk = noise.cumsum(1)
    assert abs(float(constant_slopes(walk)[19, 18]) - 1) < 0.2
