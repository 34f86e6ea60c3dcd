"""Mixtures of full covariance against torch.distributions, quadrature and draws."""

import itertools
import math

import pytest
import torch
from torch.distributions import (
    Categorical,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    StudentT,
)

from physgen.errors import UsageError
from physgen.law import Law
from physgen.nn.multivariate import MultivariateMixture
from physgen.registry import find
from physgen.surrogates.diffusion.mixture import Denoised, positive_inverse
from physgen.surrogates.diffusion.schedule import alpha_sigma
from simulators import Box

D, K = 3, 4


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def mixture(rows=5, size=D, components=K, tails=False, seed=0, scale=1.0):
    many = MultivariateMixture.parameters(size, components, tails)
    raw = scale * torch.randn(rows, many, generator=generator(seed), dtype=torch.float64)
    return MultivariateMixture(raw, size, tails)


def by_torch(law, part=slice(None)):
    """The same mixture of some components, by covariances."""
    covariance = torch.linalg.inv(law.precision_root.mT @ law.precision_root)
    each = MultivariateNormal(law.mean[..., part], covariance[..., part, :][..., part])
    return MixtureSameFamily(Categorical(logits=law.log_weight), each)


def points(*shape, seed=1):
    return 2 * torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def test_log_density_and_moments_are_those_of_torch_distributions():
    law, x = mixture(), points(5, D)
    torch.testing.assert_close(law.log_prob(x), by_torch(law).log_prob(x))
    mean, width = law.moments
    torch.testing.assert_close(mean, by_torch(law).mean)
    torch.testing.assert_close(width, by_torch(law).stddev)
    assert not torch.allclose(law.log_prob(x), by_torch(mixture(seed=2)).log_prob(x))


@pytest.mark.parametrize("seen", list(itertools.product([False, True], repeat=D)))
def test_what_is_missing_is_integrated_out(seen):
    """Against the sub-matrix of the covariance; whatever stands in its place does not matter."""
    law, x = mixture(), points(5, D)
    part = torch.tensor(seen).expand(5, D)
    found = law.log_prob(torch.where(part, x, 0.0), part)
    torch.testing.assert_close(found, law.log_prob(torch.where(part, x, 7.0), part))
    some = [i for i in range(D) if seen[i]]
    expected = by_torch(law, some).log_prob(x[:, some]) if some else torch.zeros(5).double()
    torch.testing.assert_close(found, expected)
    if len(some) == D - 1:
        wrong = law.log_prob(torch.where(part, x, 0.0))  # 0 in the place of what is missing
        assert not torch.allclose(wrong, expected)


def test_rows_with_other_masks_do_not_mix_and_there_is_a_gradient():
    law, x = mixture(), points(5, D).requires_grad_()
    part = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 0, 1], [0, 0, 0], [1, 1, 0]], dtype=torch.bool)
    together = law.log_prob(x, part)
    for row in range(5):
        alone = MultivariateMixture(law.raw[row : row + 1], D)
        torch.testing.assert_close(
            together[row : row + 1], alone.log_prob(x[row : row + 1], part[row : row + 1])
        )
    (slope,) = torch.autograd.grad(together.sum(), x)
    assert (slope != 0).equal(part)


def test_students_tails_are_those_of_torch_distributions():
    law, x = mixture(size=1, tails=True), points(5, 1)
    each = Independent(StudentT(law.freedom, law.mean, law.log_width.exp()), 1)
    expected = MixtureSameFamily(Categorical(logits=law.log_weight), each)
    torch.testing.assert_close(law.log_prob(x), expected.log_prob(x))
    assert not torch.allclose(law.log_prob(x), by_torch(law).log_prob(x))


@pytest.mark.parametrize("tails", [False, True])
def test_densities_of_the_plane_integrate_to_one(tails):
    law = mixture(1, 2, 2, tails, scale=0.5)
    edge = torch.linspace(-40, 40, 801, dtype=torch.float64)
    x = torch.stack(torch.meshgrid(edge, edge, indexing="ij"), -1).view(-1, 2)
    whole = law.log_prob(x).exp().sum() * 0.1**2
    assert abs(whole - 1) < (0.02 if tails else 1e-6)


@pytest.mark.parametrize("tails", [False, True])
def test_draws_have_the_density(tails):
    """E[q/p] = 1 over draws of p, for laws q of its own region; not over those of another p."""
    n = 40_000
    law = mixture(1, D, K, tails, scale=0.5)
    many = MultivariateMixture(law.raw.expand(n, -1), D, tails)
    other = MultivariateMixture(
        mixture(1, D, K, tails, scale=0.5, seed=5).raw.expand(n, -1), D, tails
    )

    def off(x, q):
        """Of E[q/p] from 1, in standard errors."""
        ratio = (q.log_prob(x) - many.log_prob(x)).exp()
        return float((ratio.mean() - 1) / ratio.std() * math.sqrt(n))

    x, wrong, found, failed = many.sample(generator(3)), other.sample(generator(3)), [], []
    for k in range(K):
        scale = law.log_width[0, k].exp() / 4
        q = Independent(Normal(law.mean[0, k], scale), 1)
        found.append(abs(off(x, q)))
        failed.append(abs(off(wrong, q)))
    assert max(found) < 4.5
    assert max(failed) > 20


# --- its denoiser -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 7])
def test_inverse_of_badly_scaled_matrices(size):
    root = points(6, size, size) * 10.0 ** torch.arange(-2, size - 2).double()
    a = root.mT @ root + torch.eye(size)
    inverse, log_det = positive_inverse(a)
    torch.testing.assert_close(
        inverse @ a, torch.eye(size).double().expand_as(a), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(log_det, torch.linalg.slogdet(a).logabsdet)


@pytest.mark.parametrize("log_snr", [-6.0, 0.0, 5.0])
@pytest.mark.parametrize("seen", [(True, True), (True, False)])
def test_denoiser_is_the_posterior_mean_by_quadrature(log_snr, seen):
    law, z = mixture(1, 2, 3, scale=0.7), points(1, 2)
    part = torch.tensor([seen])
    found = Denoised(law, z, torch.tensor([log_snr]), part)
    edge = torch.linspace(-20, 20, 501, dtype=torch.float64)
    x = torch.stack(torch.meshgrid(edge, edge, indexing="ij"), -1).view(-1, 2)
    alpha, sigma = alpha_sigma(torch.tensor(log_snr).double())
    log_p = law.log_prob(x)
    weight = (log_p - 0.5 * (((z - alpha * x) / sigma).square() * part).sum(-1)).softmax(0)
    mean = weight @ x
    torch.testing.assert_close(found.mean[0], mean, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(
        found.width[0], (weight @ (x - mean) ** 2).sqrt(), atol=1e-3, rtol=1e-3
    )


@pytest.mark.parametrize(
    ("family", "options"), [("cvae", {"head": "student"}), ("diffusion", {"head": "mixture"})]
)
def test_a_head_of_reals_is_refused_for_other_x(family, options):
    law = Law("none", Box(a=(0.0, 1.0)), (3,), "nonnegative")
    cls = find("surrogates", family)
    told = r"\A\w+: head \w+: not for nonnegative x; expected reals\Z"
    with pytest.raises(UsageError, match=told):
        cls.create(law, cls.Config(**options))
    cls.create(law, cls.Config())
