"""The contract, for every registered family on lattices and on real vectors."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import stats

from physgen.errors import UsageError
from physgen.law import Law
from physgen.registry import find, targets
from physgen.surrogates.checkpoint import save_surrogate
from physgen.testing import check_surrogate
from simulators.base import exact_log_prob
from simulators.prior import Box


class Dice:
    """Faces 0 … 2, each thrown alone, p(k) ∝ exp(θ k)."""

    prior = Box(bias=(-1.0, 1.0))
    x_shape = (5,)

    def sample(self, theta, rng):
        p = np.exp(theta[:, :1] * np.arange(3))
        below = (p / p.sum(1, keepdims=True)).cumsum(1)[:, None]
        return (rng.random((len(theta), *self.x_shape, 1)) > below[..., :-1]).sum(-1)

    def log_prob(self, theta, x):
        log_z = np.log(np.exp(theta[:, :1] * np.arange(3)).sum(1))
        return theta[:, 0] * x.sum(1) - x.shape[1] * log_z


class Rain:
    """Days that are dry, or have exponential rain of mean e^θ: x_i is 0 with probability 0.3."""

    prior = Box(log_mean=(-1.0, 1.0))
    x_shape = (5,)
    support = "nonnegative"

    def sample(self, theta, rng):
        rain = rng.exponential(np.exp(theta), (len(theta), *self.x_shape))
        return np.where(rng.random(rain.shape) < 0.3, 0, rain)

    def log_prob(self, theta, x):
        wet = np.log(0.7) - theta - x * np.exp(-theta)
        return np.where(x > 0, wet, np.log(0.3)).sum(1)


class Storms:
    """Whether it thunders, which of three winds blows, how many flashes, the rain, the heat."""

    prior = Box(log_mean=(-1.0, 1.0))
    x_shape = (5,)
    support = ("levels:2", "levels:3", "counts", "nonnegative", "reals")

    def sample(self, theta, rng):
        n, mean = len(theta), np.exp(theta[:, 0])
        thunder, wind = rng.random(n) < 0.4, rng.integers(3, size=n)
        flashes, rain = rng.poisson(5 * mean), rng.exponential(mean)
        rain = np.where(rng.random(n) < 0.3, 0, rain)
        return np.stack([thunder, wind, flashes, rain, rng.normal(theta[:, 0])], 1)

    def log_prob(self, theta, x):
        thunder, _, flashes, rain, heat = x.T
        choice = np.log(np.where(thunder == 1, 0.4, 0.6) / 3)
        wet = Rain().log_prob(theta, rain[:, None])
        log_p = stats.poisson.logpmf(flashes, 5 * np.exp(theta[:, 0]))
        return choice + wet + log_p + stats.norm.logpdf(heat - theta[:, 0])


class Flashes:
    """Counts of mean 200 e^θ."""

    prior = Box(log_mean=(-1.0, 1.0))
    x_shape = (3,)
    support = "counts"

    def sample(self, theta, rng):
        return rng.poisson(200 * np.exp(theta), (len(theta), *self.x_shape))

    def log_prob(self, theta, x):
        return stats.poisson.logpmf(x, 200 * np.exp(theta)).sum(1)


TOYS = {"dice": Dice, "rain": Rain, "storms": Storms, "flashes": Flashes}
LAWS = {
    "lattice 4x6": Law.of("ising", {"size": 4, "width": 6}),
    "odd lattice 3x5": Law.of("ising", {"size": 3, "width": 5, "theta": "beta-xy"}),
    "levels": Law("dice", Dice.prior, Dice.x_shape, "levels", levels=3),
    "hurdle": Law("rain", Rain.prior, Rain.x_shape, "nonnegative"),
    "mixed": Law("storms", Storms.prior, (5,), "mixed", column_supports=Storms.support),
    "counts": Law("flashes", Flashes.prior, (3,), "counts"),
    "vector": Law.of("gaussian", {"size": 5, "parameters": 3}),
}


VARIANTS = {name: (name, {}) for name in sorted(targets("surrogates"))} | {
    "autoregressive, causal": ("autoregressive", {"network": "causal", "window": 3}),
    "diffusion, gaussian": ("diffusion", {"kernel": "gaussian"}),
    "rbm": ("rbm", {"ladder": 100, "chains": 64}),
    "rbm, dense": ("rbm", {"layout": "dense", "hidden": 30, "ladder": 100, "chains": 64}),
    "gan, wasserstein": ("gan", {"loss": "wasserstein", "critic_steps": 2}),
}


@pytest.fixture(params=VARIANTS, scope="module")
def family(request):
    """A family, and a configuration of it."""
    name, options = VARIANTS[request.param]
    cls = find("surrogates", name)
    return cls, cls.Config(**options)


@pytest.fixture(params=LAWS, scope="module")
def surrogate(request, family, device):
    cls, config = family
    law = LAWS[request.param]
    if law.support not in cls.supports:
        with pytest.raises(UsageError, match=f"not for {law.support} x"):
            cls.create(law, config)
        pytest.skip(f"{cls.name} is not for {law.support}")
    if law.support == "mixed" and getattr(config, "network", "") == "causal":
        with pytest.raises(UsageError, match="network: expected separate"):
            cls.create(law, config)
        pytest.skip("columns of different kinds have networks of their own")
    made = cls.create(law, config, seed=3)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():  # layers that start at zero would hide what depends on what
        for weight in made.parameters():
            weight += 0.02 * torch.randn(weight.shape, generator=generator)
    return made.to(device).eval()


@pytest.fixture
def scored(surrogate):
    """A surrogate with a likelihood."""
    return with_likelihood(surrogate)


def with_likelihood(family):
    if family.likelihood == "none":
        pytest.skip(f"{family.name} has no likelihood")
    return family


def simulator_of(law):
    return TOYS[law.simulator]() if law.simulator in TOYS else law.build()


def rows(surrogate, n=11):
    rng = np.random.default_rng(5)
    theta = surrogate.law.prior.sample(n, rng)
    x = simulator_of(surrogate.law).sample(theta, rng)
    return torch.from_numpy(theta), torch.from_numpy(x)


def test_contract_is_kept(surrogate):
    assert check_surrogate(surrogate) == []


def test_every_weight_gets_a_gradient(surrogate, device):
    theta, x = rows(surrogate)
    generator = torch.Generator(device).manual_seed(0)
    for objective in surrogate.objectives():
        objective.loss(theta, x, generator).sum().backward()
    missing = [n for n, w in surrogate.named_parameters() if w.grad is None]
    surrogate.zero_grad()
    assert missing == []


def test_log_prob_does_not_depend_on_the_chunk(scored, monkeypatch):
    theta, x = rows(scored)
    whole = scored.log_prob(theta, x, draws=5)
    monkeypatch.setattr(type(scored), "chunk", 10)
    again = scored.log_prob(theta, x, draws=5)
    torch.testing.assert_close(again, whole, rtol=1e-5, atol=1e-4)


def test_random_numbers_do_not_depend_on_theta(scored):
    """Common random numbers: log p at two close θ differs by little, with other seeds by much."""
    theta, x = rows(scored, 50)
    near = theta + 1e-4
    index = torch.arange(len(x))
    a = scored.log_prob(theta, x, draws=2)
    same = scored.log_prob(near, x, draws=2, index=index) - a
    other = scored.log_prob(theta, x, draws=2, seed=1) - a
    if not other.any():  # no random numbers at all
        return
    assert same.abs().max() < 0.05 * other.abs().mean()


def test_log_prob_is_below_the_exact_one(scored):
    theta, x = rows(scored, 40)
    exact = exact_log_prob(simulator_of(scored.law))(theta.numpy(), x.numpy())
    assert (exact - scored.log_prob(theta, x, draws=10).numpy()).mean() > 0


def test_samples_have_the_mean_of_no_other_theta(surrogate, device):
    """θ reaches the samples' law: an untrained family may ignore θ, a changed c must not crash."""
    theta = torch.from_numpy(surrogate.law.prior.sample(3, np.random.default_rng(0)))
    x = surrogate.sample(theta, torch.Generator(device).manual_seed(0))
    assert x.shape == (3, *surrogate.law.x_shape)
    assert surrogate.sample(theta[:0], torch.Generator(device)).shape[0] == 0


def test_wrong_shapes_are_refused(surrogate):
    from physgen.errors import DataError

    theta, x = rows(surrogate)
    with pytest.raises(DataError, match="theta: expected shape"):
        surrogate.log_prob_with_error(theta[:, :0], x)
    with pytest.raises(DataError, match="x: expected shape"):
        surrogate.log_prob_with_error(theta, x[..., :-1])


@pytest.mark.slow
def test_a_new_process_gives_the_same_log_prob(tmp_path):
    """Of every family; one process for all of them, for it takes seconds to start."""
    expected = {}
    for variant, (name, options) in VARIANTS.items():
        cls = find("surrogates", name)
        if cls.likelihood == "none":
            continue
        law = next(law for law in reversed(LAWS.values()) if law.support in cls.supports)
        surrogate = cls.create(law, cls.Config(**options), seed=3).eval()
        theta, x = rows(surrogate)
        surrogate.transform.fit(x)
        save_surrogate(surrogate, tmp_path / f"{variant}.pt", {})
        np.savez(tmp_path / f"{variant}.npz", theta=theta, x=x)
        expected[variant] = surrogate.log_prob(theta, x, draws=5).numpy()
    code = (
        "import sys, numpy as np, torch\n"
        "from physgen.surrogates.checkpoint import load_surrogate\n"
        "from pathlib import Path\n"
        "found = {}\n"
        "for path in Path().glob('*.pt'):\n"
        "    model, _ = load_surrogate(path, torch.device('cpu'))\n"
        "    r = np.load(path.with_suffix('.npz'))\n"
        "    found[path.stem] = model.log_prob(r['theta'], r['x'], draws=5).numpy()\n"
        "np.savez('found.npz', **found)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    found = np.load(tmp_path / "found.npz")
    assert set(found) == set(expected)
    for variant, value in expected.items():
        np.testing.assert_allclose(found[variant], value, rtol=1e-6, err_msg=variant)
