"""Priors as distributions of torch, in sbi's hands."""

import numpy as np
import pytest
import torch
from scipy import stats

import physgen
from physgen.errors import UsageError
from physgen.law import Law
from physgen.nn.differences import by_coordinates
from physgen.sbi.manners import Tracker, visiting
from physgen.sbi.prior import TorchPrior, coordinate_prior
from simulators.gaussian import LinearGaussian
from simulators.prior import Prior

pytest.importorskip("sbi")

MIXED = Prior(
    a=stats.norm(3, 2), b=(0.0, 1.0), c=stats.loguniform(1e-3, 1), d=stats.norm(0, 0.1),
    e=stats.gamma(2), correlation={("a", "d"): 0.6},
)  # fmt: skip


def test_draws_and_density_are_those_of_the_prior():
    prior = physgen.as_prior(MIXED)
    with visiting(1):
        theta = prior.sample((2000,))
        again = TorchPrior(MIXED).sample((2, 3))
    assert theta.dtype == torch.float32
    assert again.shape == (2, 3, 5)
    np.testing.assert_allclose(prior.log_prob(theta), MIXED.log_prob(theta.double()), rtol=1e-4)
    assert prior.support.check(theta).all()
    for d, p in enumerate(MIXED.parameters):
        assert stats.kstest(theta[:, d], p.law.cdf).pvalue > 1e-3
    a, d = stats.norm(3, 2).cdf(theta[:, 0]), stats.norm(0, 0.1).cdf(theta[:, 3])
    assert np.corrcoef(stats.norm.ppf(a), stats.norm.ppf(d))[0, 1] == pytest.approx(0.6, abs=0.06)
    np.testing.assert_allclose(prior.mean[[0, 1, 3, 4]], [3, 0.5, 0, 2], atol=1e-3)
    np.testing.assert_allclose(prior.stddev[:2], [2, 12**-0.5], rtol=1e-3)


def test_outside_of_the_support_there_is_nothing():
    prior = physgen.as_prior(MIXED)
    inside = torch.tensor([3.0, 0.5, 0.1, 0.0, 1.0])
    assert prior.log_prob(inside).isfinite()
    for column, value in ((1, -0.1), (1, 1.1), (2, 1e-4), (4, -1.0)):
        theta = inside.clone()
        theta[column] = value
        assert prior.log_prob(theta) == -torch.inf


def test_the_derivative_is_that_of_the_closed_form():
    prior = physgen.as_prior(
        Prior(a=stats.norm(3, 2), b=stats.norm(0, 0.1), correlation={("a", "b"): 0.6})
    )
    theta = torch.tensor([[2.0, 0.05], [5.0, -0.1]], requires_grad=True)
    prior.log_prob(theta).sum().backward()
    cov = torch.tensor([[4.0, 0.12], [0.12, 0.01]])
    exact = torch.distributions.MultivariateNormal(torch.tensor([3.0, 0.0]), cov)
    again = theta.detach().clone().requires_grad_()
    exact.log_prob(again).sum().backward()
    torch.testing.assert_close(theta.grad, again.grad, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(prior.log_prob(theta), exact.log_prob(theta), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(theta.grad, again.grad.flip(0), rtol=0.1)


def test_what_is_uniform_is_a_box_of_sbi():
    from sbi.utils import BoxUniform

    assert isinstance(physgen.as_prior(LinearGaussian(size=3)), BoxUniform)
    assert isinstance(physgen.as_prior(Law.of("ising", {"size": 4})), BoxUniform)
    assert isinstance(coordinate_prior(Prior(a=stats.loguniform(1e-30, 1))), BoxUniform)
    mixed = coordinate_prior(MIXED)
    c = torch.tensor([[0.3, 0.5, -0.2, 1.0, -1.0]])
    np.testing.assert_allclose(mixed.log_prob(c), MIXED.log_density(c.double()), rtol=1e-5)
    with pytest.raises(UsageError, match="expected a prior, or what has one, got int"):
        physgen.as_prior(3)
    for law in ((2459000.0, 2459000.5), stats.norm(1e8, 1), stats.loguniform(1e-50, 1)):
        with pytest.raises(UsageError, match="too few values of a"):
            physgen.as_prior(Prior(a=law))


@pytest.mark.slow
def test_sbi_infers_with_it():
    """Chains of sbi with an exact likelihood under a normal prior, against the closed form."""
    from sbi.inference import MCMCPosterior
    from sbi.inference.potentials.base_potential import BasePotential
    from sbi.utils.sbiutils import mcmc_transform

    prior = physgen.as_prior(Prior(a=stats.norm(3, 2), b=stats.norm(0, 0.1)))
    noise = torch.tensor([1.0, 0.1])

    class Potential(BasePotential):
        def __call__(self, theta, track_gradients=False):
            log_p = -(((theta - self.x_o) / noise) ** 2).sum(-1) / 2
            return log_p + self.prior.log_prob(theta)

    with visiting(1):
        posterior = MCMCPosterior(
            Potential(prior), prior, mcmc_transform(prior), method="slice_np_vectorized",
            num_chains=50, warmup_steps=10, thin=1,
        )  # fmt: skip
        draws = posterior.sample((1000,), x=torch.tensor([[1.0, 0.1]]), show_progress_bars=False)
    np.testing.assert_allclose(draws.mean(0), [3 - 2 * 0.8, 0.05], atol=0.2 * 0.07 + 0.1)
    np.testing.assert_allclose(draws.std(0), [0.8**0.5, 0.1 * 0.5**0.5], rtol=0.12)
    assert abs(draws.mean(0)[0] - 1.0) > 0.3  # the control: without the prior


def test_sbi_trains_with_it():
    from sbi.inference import NPE

    prior = physgen.as_prior(Prior(a=stats.norm(3, 2)))
    with visiting(1):
        theta = prior.sample((300,))
        trainer = NPE(prior, density_estimator="mdn", tracker=Tracker(), show_progress_bars=False)
        trainer.append_simulations(theta, theta + torch.randn_like(theta))
        trainer.train(max_num_epochs=40, learning_rate=5e-3)
        draws = trainer.build_posterior().sample(
            (300,), x=torch.tensor([[3.0]]), show_progress_bars=False
        )
    assert draws.mean() == pytest.approx(3, abs=0.5)
    assert draws.std() == pytest.approx(0.9, abs=0.35)


def test_differences_by_theta_know_no_size():
    prior = Prior(a=(1e-20, 5e-20), b=stats.norm(0, 1e30))
    theta = torch.tensor([[2e-20, 1e30], [4e-20, -1e30]], dtype=torch.float64, requires_grad=True)

    def f(theta):
        return (theta[:, 0] / 1e-20) ** 2 + (theta[:, 1] / 1e30) ** 3

    by_coordinates(theta, f, prior).sum().backward()
    exact = [[4 / 1e-20, 3 / 1e30], [8 / 1e-20, 3 / 1e30]]
    np.testing.assert_allclose(theta.grad, exact, rtol=1e-4)
