"""The benchmark of a GAN's discriminator: its bound, and what is learnt beside the exact one."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import expit, rel_entr

from benchmarks.discriminator import Counted, TwoModes, js_bound, logits, taught, told
from physgen.law import Law
from physgen.surrogates.gan import GAN, GANConfig
from simulators.base import exact_log_prob
from simulators.gaussian import LinearGaussian


def test_what_a_discriminator_lacks_is_the_divergence_of_coins():
    """JS less its bound by any logit is E KL(D* ‖ D), and the bound of the exact one is JS."""
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(31)), rng.dirichlet(np.ones(31))
    mean, exact = (p + q) / 2, p / (p + q)
    at = Counted(np.arange(31.0), p, q, {}, 0.0)
    js = 0.5 * (rel_entr(p, mean) + rel_entr(q, mean)).sum()
    assert at.bound(np.log(p / q)) == pytest.approx(js)
    for logit in (rng.normal(size=31), np.zeros(31), 10 * rng.normal(size=31)):
        d = expit(logit)
        coins = mean @ (rel_entr(exact, d) + rel_entr(1 - exact, 1 - d))
        assert at.lacking(logit) == pytest.approx(coins)
    assert at.lacking(np.log(p / q)) == pytest.approx(0)


def test_two_modes_are_a_density():
    law = TwoModes()
    for a in (0.2, 2.2):
        found, _ = quad(lambda x, a=a: np.exp(law.log_prob(np.array([[a]]), np.array([[x]])))[0],
                        -6, 6, points=[-a, a])  # fmt: skip
        assert found == pytest.approx(1, abs=1e-6)
    x = law.sample(np.full((20_000, 1), 2.0), np.random.default_rng(0))
    assert np.var(x) == pytest.approx(4 + 0.4**2, rel=0.05)


@pytest.mark.slow
def test_a_taught_discriminator_comes_near_the_exact_one_and_a_penalty_flattens_it(capsys):
    """Of normal laws of means θ and θ/2 its logit is a line in x; one untaught lacks all of JS."""
    law = Law.of("gaussian", {"size": 2, "parameters": 1})
    simulator, rng = LinearGaussian(size=2, parameters=1), np.random.default_rng(0)
    theta = law.prior.sample(6000, rng)
    x, drawn = simulator.sample(theta, rng), simulator.sample(0.5 * theta, rng)
    log_prob = exact_log_prob(simulator)
    exact = [log_prob(theta, y) - log_prob(0.5 * theta, y) for y in (x, drawn)]
    best, plain = js_bound(*exact), GAN.create(law, GANConfig(channels=12))
    js = sum(part.mean() for part in best)

    def lacks(model):
        return told("", best, exact, [logits(model, theta, y) for y in (x, drawn)])

    free, error = lacks(taught(plain, theta, x, drawn, penalty=0.0, steps=400))
    assert -4 * error < free < 0.1 * js
    assert lacks(plain)[0] > 0.8 * js
    assert lacks(taught(plain, theta, x, drawn, penalty=20.0, steps=400))[0] > 3 * max(free, error)
    assert "| 0." in capsys.readouterr().out
