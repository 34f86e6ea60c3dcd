"""Score-function gradients against enumeration: the mean over all draws is the exact gradient."""

import itertools
import math

import pytest
import torch

from physgen.nn.score_function import leave_one_out, others_mean, reinforce, vimco

STATES = 3


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def numbers(seed):
    return torch.randn(STATES, dtype=torch.float64, generator=generator(seed))


def setting(draws):
    """Logits of q, log p(x, z) of each state, and all tuples of so many draws (S^K, K)."""
    logits, log_joint = numbers(0).requires_grad_(), (2 * numbers(1) - 7).requires_grad_()
    tuples = torch.tensor(list(itertools.product(range(STATES), repeat=draws)))
    return logits, log_joint, tuples


def gradient(value, *of):
    return torch.cat(torch.autograd.grad(value, of, retain_graph=True))


def exact(draws, bound):
    """∇ Σ q(z_1) … q(z_K) bound(log w), by autograd through the probabilities."""
    logits, log_joint, z = setting(draws)
    log_q = logits.log_softmax(0)[z]
    value = (log_q.sum(1).exp() * bound(log_joint[z] - log_q)).sum()
    return gradient(value, logits, log_joint)


def expected(draws, estimate):
    """The mean of the estimated gradient over all tuples, and its variance."""
    logits, log_joint, z = setting(draws)
    log_q = logits.log_softmax(0)[z]
    values = estimate(log_joint[z] - log_q, log_q)
    each = torch.stack([gradient(v, logits, log_joint) for v in values])
    p = log_q.detach().sum(1).exp()[:, None]
    mean = (p * each).sum(0)
    return mean, (p * (each - mean) ** 2).sum()


def mean_of(log_w):
    return log_w.mean(1)


def log_mean(log_w):
    return log_w.logsumexp(1) - math.log(log_w.shape[1])


def plain(log_w, log_q):
    return reinforce(log_w, log_q).mean(1)


def constant(log_w, log_q):
    return reinforce(log_w, log_q, -6.0).mean(1)


def plain_bound(log_w, log_q):
    return reinforce(log_mean(log_w), log_q.sum(1))


@pytest.mark.parametrize(
    ("estimate", "bound"),
    [
        (plain, mean_of),
        (constant, mean_of),
        (leave_one_out, mean_of),
        (plain_bound, log_mean),
        (vimco, log_mean),
    ],
)
@pytest.mark.parametrize("draws", [2, 4])
def test_mean_over_all_draws_is_the_exact_gradient(estimate, bound, draws):
    mean, _ = expected(draws, estimate)
    torch.testing.assert_close(mean, exact(draws, bound))
    logits, log_joint, z = setting(draws)
    log_q = logits.log_softmax(0)[z]
    log_w = log_joint[z] - log_q
    torch.testing.assert_close(estimate(log_w, log_q), bound(log_w))


def of_itself(log_w, log_q):
    """A baseline to which the draw itself belongs."""
    return reinforce(log_w, log_q, log_w.mean(1, keepdim=True)).mean(1)


def bound_of_itself(log_w, log_q):
    return reinforce(log_mean(log_w), log_q.sum(1), log_mean(log_w))


def without_score(log_w, log_q):
    return log_w.mean(1)


@pytest.mark.parametrize(
    ("wrong", "bound"),
    [(of_itself, mean_of), (bound_of_itself, log_mean), (without_score, mean_of)],
)
def test_a_baseline_that_depends_on_its_own_draw_is_caught(wrong, bound):
    by_q, right = expected(3, wrong)[0][:STATES], exact(3, bound)[:STATES]
    assert (by_q - right).norm() > 0.3 * right.norm()


def test_baselines_of_other_draws_have_the_least_variance():
    for worse, better in ((plain, leave_one_out), (plain_bound, vimco)):
        assert expected(4, better)[1] < 0.1 * expected(4, worse)[1]


def published(log_w, log_q):
    """VIMCO as it was published: the baseline of a draw is the bound of the others."""
    return vimco(log_w, log_q) - (log_q - log_q.detach()).mean(1)


@pytest.mark.parametrize("spread", [0.0, 0.1])
def test_where_draws_say_little_the_noise_of_the_published_baseline_is_gone(spread):
    logits, _, z = setting(3)
    log_q = logits.log_softmax(0)[z]
    p, log_w = log_q.detach().sum(1).exp()[:, None], spread * numbers(1)[z]
    noise = []
    for estimate in (vimco, published):
        values = estimate(log_q.detach() + log_w - log_q, log_q)
        each = torch.stack([gradient(v, logits) for v in values])
        mean = (p * each).sum(0)
        noise.append(float((p * (each - mean) ** 2).sum().sqrt()))
    assert noise[0] < 0.15 * spread + 1e-9 < 0.1 < noise[1]


def test_a_single_draw_has_no_others():
    f = torch.zeros(2, 1)
    for function in (leave_one_out, vimco):
        with pytest.raises(ValueError, match="expected at least 2"):
            function(f, f)
    assert others_mean(torch.tensor([[1.0, 2.0, 6.0]])).tolist() == [[4.0, 3.5, 1.5]]
