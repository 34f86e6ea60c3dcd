"""Separate networks of short x by second routes: sums and quadrature, Gaussian laws, samples."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import integrate, stats

import physgen
from physgen.dataset import Dataset, Meta, Rows
from physgen.errors import UsageError
from physgen.law import Law
from physgen.surrogates.autoregressive import Autoregressive, AutoregressiveConfig
from physgen.surrogates.autoregressive.separate import SeparateColumns
from physgen.testing import check_surrogate
from simulators.prior import Box

THETA = Box(a=(-1.0, 1.0), b=(-1.0, 1.0))


def law(support, size=3, **options):
    return Law("short", THETA, (size,), support, **options)


def mixed(*supports):
    return law("mixed", len(supports), column_supports=supports)


def scrambled(module, scale=0.2):
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for w in module.parameters():
            w += scale * torch.randn(w.shape, generator=generator)
    return module.eval()


def fresh(*supports, site="gaussian", components=3):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)  # noqa: TID251
        return SeparateColumns(supports, 2, site, components, 8, 1)


def columns(*supports, site="gaussian"):
    """Networks of random weights in float64."""
    return scrambled(fresh(*supports, site=site)).double()


def model(law, **options):
    given = {"hidden": 8, "components": 3, "network": "separate"} | options
    return scrambled(Autoregressive.create(law, AutoregressiveConfig(**given), seed=1), 0.05)


C = torch.tensor([[0.3, -0.6]], dtype=torch.float64)


def log_p(made, z):
    z = torch.as_tensor(np.asarray(z, np.float64))
    return made.log_p(C.expand(len(z), -1), z).detach().sum(1).numpy()


# --- mass ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("site", ["gaussian", "student"])
def test_densities_integrate_to_one(site):
    made = columns("reals", "reals", site=site)
    y = np.linspace(-9, 9, 501)
    z = np.sinh(np.stack(np.meshgrid(y, y, indexing="ij"), -1).reshape(-1, 2))
    p = np.exp(log_p(made, z)) * np.cosh(np.arcsinh(z)).prod(1)
    mass = integrate.simpson(integrate.simpson(p.reshape(501, 501), x=y), x=y)
    assert mass == pytest.approx(1, abs=1e-3 if site == "gaussian" else 0.02)


def test_levels_sum_to_one():
    made = columns("levels:2", "levels:3", "levels:50", "spins")
    states = itertools.product(range(2), range(3), range(50), (-1, 1))
    assert np.exp(log_p(made, list(states))).sum() == pytest.approx(1, abs=1e-9)


def test_counts_sum_to_one():
    made = columns("counts", "levels:2")
    k = np.arange(30_000)
    z = np.concatenate([np.stack([k, np.full(len(k), b)], 1) for b in (0, 1)])
    assert np.exp(log_p(made, z)).sum() == pytest.approx(1, abs=1e-3)


@pytest.mark.slow
def test_columns_of_different_kinds_have_one_density():
    made = columns("levels:2", "reals", "nonnegative")
    y, u = np.linspace(-6, 6, 201), np.linspace(-40, 40, 1001)
    mass = 0.0
    for bit in (0, 1):
        whole = np.stack(np.meshgrid([bit], np.sinh(y), u, indexing="ij"), -1).reshape(-1, 3)
        atom = np.stack(np.meshgrid([bit], np.sinh(y), [-np.inf], indexing="ij"), -1)
        p = integrate.simpson(np.exp(log_p(made, whole)).reshape(201, 1001), x=u)
        p = p + np.exp(log_p(made, atom.reshape(-1, 3)))
        mass += integrate.simpson(p * np.cosh(y), x=y)
    assert mass == pytest.approx(1, abs=1e-3)


# --- what is known -------------------------------------------------------------------------------


def test_a_column_sees_no_later_one():
    made = columns("reals", "counts", "nonnegative", "levels:3")
    z = torch.tensor([[0.3, 5, -0.2, 1]], dtype=torch.float64)
    for i, other in enumerate([1.3, 6, -math.inf, 2]):
        changed = z.clone()
        changed[0, i] = other
        same = made.log_p(C, z) == made.log_p(C, changed)
        assert same[0, :i].all()
        assert not same[0, i:].any()


def test_a_gaussian_law_is_exact_by_places_alone():
    """Of networks that say nothing, one component is a normal law of m, s, t and L."""
    made = fresh("reals", "reals", "reals", components=1).double()
    scrambled(made.places)
    m, s, t, slopes = (v[0].detach() for v in made.places(C))
    unit = torch.eye(3, dtype=torch.float64)
    white = torch.diag((-t).exp()) @ (unit - slopes) @ torch.diag((-s).exp())
    covariance = torch.linalg.inv(white.T @ white)
    noise = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z = m + s.exp() * noise
    normal = stats.multivariate_normal(m.numpy(), covariance.numpy())
    np.testing.assert_allclose(log_p(made, z), normal.logpdf(z.numpy()), rtol=1e-9)
    assert covariance[0, 1].abs() > 1e-3, "the control: they are correlated"


def test_least_squares_are_where_training_begins():
    made = fresh("reals", "counts", components=1)
    rng = np.random.default_rng(0)
    c = torch.from_numpy(rng.uniform(-1, 1, (4000, 2))).float()
    real = 3 * c[:, 0] - c[:, 1] ** 2 + 0.1 * torch.from_numpy(rng.standard_normal(4000)).float()
    count = torch.from_numpy(rng.poisson(torch.exp(4 + 2 * c[:, 0]).numpy())).float()
    z = torch.stack([real, count], 1)
    made.fit(z, c)
    m, s = (v.detach() for v in made.places(c)[:2])
    assert (m[:, 0] - real).std() < 0.11
    assert s[:, 0].exp().mean() == pytest.approx(0.1, rel=0.1)
    in_counts = made.in_their_units(m[:, 1:], s[:, 1:], slice(1, 2))[0][:, 0]
    assert (in_counts - 4 - 2 * c[:, 0]).abs().mean() < 0.1
    before = fresh("reals", "counts", components=1)
    before.fit(z)
    assert made.log_p(c, z).sum(1).mean() > before.log_p(c, z).sum(1).mean() + 1, "the control"


# --- samples -------------------------------------------------------------------------------------

KINDS = {
    "reals": ("reals", "reals"),
    "student": ("reals", "reals"),
    "counts": ("levels:2", "counts"),
    "many levels": ("reals", "levels:300"),
    "mixed": ("levels:2", "nonnegative", "reals"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
def test_samples_follow_the_density(kind):
    """E[q/p] = 1 over samples of p, for q the law of a nearby θ; the control: others."""
    made = columns(*KINDS[kind], site="student" if kind == "student" else "gaussian")
    n = 40_000
    c = C.expand(n, -1)
    z = made.sample(c, torch.Generator().manual_seed(3))

    def score(drawn):
        ratio = [made.log_p(at, drawn).sum(1) for at in (c + 0.05, c)]
        weight = (ratio[0] - ratio[1]).exp().detach()
        return float((weight.mean() - 1) / (weight.std() / math.sqrt(n)))

    assert abs(score(z)) < 4
    elsewhere = made.sample(c + 0.3, torch.Generator().manual_seed(3))
    assert abs(score(elsewhere)) > 6


def test_what_others_tell_is_left_out_and_told_when_drawn():
    rng = np.random.default_rng(0)
    theta = torch.from_numpy(rng.uniform(-1, 1, (400, 2)))
    x = torch.from_numpy(rng.standard_normal((400, 4))).float()
    x[:, 1], x[:, 2] = 2 * x[:, 0] + 1, 7.0
    made = model(law("reals", 4))
    made.fit_transform(x, theta)
    value = made.log_prob(theta[:5], x[:5])
    assert value.isfinite().all()
    broken = x[:5].clone()
    broken[:, 1:3] += 1
    assert torch.equal(made.log_prob(theta[:5], broken), value)
    drawn = made.sample(theta, 1)
    torch.testing.assert_close(drawn[:, 1], 2 * drawn[:, 0] + 1, atol=1e-4, rtol=1e-4)
    assert (drawn[:, 2] == 7).all()
    others = [made.columns.log_p(made.rescale(theta), made.transform(x)) for x in (x, drawn)]
    assert (others[0][:, 1:3] == 0).all()


# --- the family ----------------------------------------------------------------------------------

LAWS = {
    "reals": law("reals", 5),
    "one real": law("reals", 1),
    "matrix": Law("short", THETA, (2, 3), "reals"),
    "counts": law("counts", 3),
    "many levels": law("levels", 2, levels=1000),
    "nonnegative": law("nonnegative", 3),
    "spins": law("spins", 3),
    "bit and real": mixed("levels:2", "reals"),
    "mixed": mixed("levels:5", "reals", "counts", "nonnegative", "levels:300"),
}


def rows(law, n=60):
    rng = np.random.default_rng(0)
    draw = {
        "reals": lambda: rng.standard_normal(n),
        "nonnegative": lambda: np.where(rng.random(n) < 0.3, 0, rng.exponential(1, n)),
        "counts": lambda: rng.poisson(5, n),
        "spins": lambda: 2 * rng.integers(2, size=n) - 1,
    }
    parts = [
        draw[s]() if s in draw else rng.integers(int(s[7:]), size=n)
        for s in law.component_supports
    ]
    x = torch.from_numpy(np.stack(parts, 1).reshape(n, *law.x_shape))
    return torch.from_numpy(law.prior.sample(n, rng)), x.long() if law.discrete else x.float()


@pytest.mark.parametrize("name", LAWS)
def test_the_contract(name):
    theta, x = rows(LAWS[name])
    made = model(LAWS[name])
    made.fit_transform(x, theta)
    assert check_surrogate(made) == []


@pytest.mark.slow
def test_no_training_leaves_the_exact_law():
    """Of x that is normal given θ least squares are kept; the control: too steep a training."""
    rng = np.random.default_rng(0)
    theta, noise = THETA.sample(3000, rng), rng.standard_normal((3000, 4))
    x = (theta @ rng.normal(size=(2, 4)) + noise).astype(np.float32)
    data = Dataset(Rows(x[:1000], theta[:1000], meta=Meta(law("reals", 4))))
    made = physgen.fit("autoregressive", data, epochs=8, learning_rate=0.03)
    exact = stats.norm.logpdf(noise[1000:]).sum(1)
    gap = (exact - made.log_prob(theta[1000:], x[1000:]).numpy()).mean()
    assert gap < 0.03
    assert min(e["val"] for e in made.info["history"]) > made.info["start"]
    assert "as it began" in made.summary


def test_which_x_has_separate_networks():
    def separate(law, **options):
        made = Autoregressive.create(law, AutoregressiveConfig(**options))
        return isinstance(made.columns, SeparateColumns)

    assert all(separate(LAWS[name]) for name in ("reals", "matrix", "counts", "many levels"))
    assert separate(LAWS["mixed"])
    assert not any(separate(LAWS[name]) for name in ("nonnegative", "spins"))
    assert separate(law("reals", 64))
    assert not separate(law("reals", 65))
    assert not separate(replace(law("reals", 9), axes=("open",)))
    assert not separate(LAWS["counts"], network="shared")
    with pytest.raises(UsageError, match="network: expected separate for levels:5,"):
        separate(LAWS["mixed"], network="shared")
    assert not separate(law("counts", 65))
    with pytest.raises(UsageError, match="expected at most 64, got 65; take cvae"):
        separate(law("counts", 65), network="separate")


@pytest.mark.parametrize(
    ("x", "options", "what"),
    [
        (law("reals", 65), {"mixture": "student"}, "mixture: is an option of separate networks"),
        (law("reals", 5), {"window": 3}, "window: is an option of causal networks, and separate"),
        (law("spins", 3), {"spectrum": "none"}, "spectrum: is an option of causal networks"),
        (law("reals", 5), {"order": "raster"}, "order: is an option of shared networks"),
    ],
)
def test_an_option_of_another_network_is_refused(x, options, what):
    with pytest.raises(UsageError, match=what):
        Autoregressive.create(x, AutoregressiveConfig(**options))
