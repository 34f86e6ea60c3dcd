"""Priors of any law: the map to coordinates, densities, files, and posteriors under them."""

import json
import pickle

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import logsumexp

import physgen
from physgen.errors import DataError, UsageError
from physgen.law import Law
from physgen.nn.transforms import Rescale
from physgen.posterior.grid import grid_posterior, of_exact
from physgen.posterior.warnings import posterior_warnings, untrained_warnings
from physgen.priors import common_prior, restrict_prior
from simulators import Box, Prior
from simulators.gaussian import LinearGaussian
from simulators.ising import Ising
from simulators.oscillator import Oscillator
from simulators.parameter import law_of

LAWS = {
    "normal": stats.norm(3, 2),
    "log-uniform": stats.loguniform(1e-3, 10),
    "truncated": stats.truncnorm(-1, 3, loc=5, scale=2),
    "gamma": stats.gamma(2.5, scale=1e-20),
    "beta": stats.beta(0.5, 3),
    "heavy": stats.t(3, loc=1e6),
    "bounds": (2459000.0, 2459000.5),
}
MIXED = Prior(
    a=stats.norm(1, 2), b=(stats.loguniform(1e-3, 1), "s", r"\tau"), c=(0.0, 1.0), d=2.0,
    e=stats.gamma(2, scale=3), correlation={("a", "e"): 0.6, ("c", "e"): -0.3},
)  # fmt: skip


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.mark.parametrize("name", LAWS)
def test_coordinates_follow_the_law_that_they_should(name, rng):
    """Uniform or normal, there and back, with the right slope."""
    prior = Prior(a=LAWS[name])
    theta = prior.sample(4000, rng)
    c = prior.to_coordinates(theta)
    law, other = stats.uniform(-1, 2), stats.norm()
    right, wrong = (law, other) if prior.flat[0] else (other, law)
    assert stats.kstest(c[:, 0], right.cdf).pvalue > 1e-3
    assert stats.kstest(c[:, 0], wrong.cdf).pvalue < 1e-6
    np.testing.assert_allclose(prior.from_coordinates(c), theta, rtol=1e-9)
    inner = c[abs(c[:, 0]) < 0.9 * prior.ends[1, 0]][:100]
    h = 1e-5
    slope = (prior.from_coordinates(inner + h) - prior.from_coordinates(inner - h)) / (2 * h)
    np.testing.assert_allclose(prior.slope(inner), slope, rtol=1e-4)


def test_normal_coordinates_keep_both_tails():
    """Eight widths out, where 1 − F is 1e-15: F alone would put them at infinity."""
    theta = 3 + 2 * np.array([[-8.0], [7.9], [8.0]])
    prior = Prior(a=LAWS["normal"])
    c = prior.to_coordinates(theta)
    np.testing.assert_allclose(c[:, 0], [-8, 7.9, 8], rtol=1e-9)
    np.testing.assert_allclose(prior.from_coordinates(c), theta, rtol=1e-9)


def test_the_density_is_that_of_the_draws(rng):
    """Over θ and over coordinates it is one density, and integrates to 1."""
    theta = MIXED.sample(1000, rng)
    c = MIXED.to_coordinates(theta)
    volume = np.log(MIXED.slope(c)).sum(-1)
    np.testing.assert_allclose(MIXED.log_prob(theta), MIXED.log_density(c) - volume, atol=1e-9)
    u = rng.uniform(MIXED.ends[0].clip(-5), MIXED.ends[1].clip(max=5), (400_000, len(MIXED)))
    mass = np.exp(MIXED.log_density(u)).mean() * (10.0**3) * 2
    assert mass == pytest.approx(1, abs=0.05)
    assert np.isneginf(MIXED.log_prob(np.array([0.0, 2.0, 0.5, 1.0])))
    outside = MIXED.ends[1] + [0, 0.1, 0, 0]
    assert np.isneginf(MIXED.log_density(outside))


def test_correlated_normals_are_the_multivariate_normal(rng):
    prior = Prior(a=stats.norm(1, 2), b=stats.norm(-1, 0.1), correlation={("b", "a"): 0.7})
    cov = np.array([[4, 0.14], [0.14, 0.01]])
    exact, theta = stats.multivariate_normal([1, -1], cov), prior.sample(200_000, rng)
    np.testing.assert_allclose(prior.log_prob(theta[:50]), exact.logpdf(theta[:50]), atol=1e-9)
    np.testing.assert_allclose(np.cov(theta.T), cov, rtol=0.02)


def test_the_cube_gives_the_prior(rng):
    """What nested sampling asks for: uniform numbers become draws, tied ones with their ties."""
    theta = MIXED.from_cube(rng.random((50_000, len(MIXED))))
    assert np.isfinite(theta).all()
    z = MIXED.to_coordinates(theta)
    np.testing.assert_allclose(np.corrcoef(z[:, [0, 3]].T)[0, 1], 0.6, atol=0.02)
    np.testing.assert_allclose(np.corrcoef(z[:, [2, 3]].T)[0, 1], -0.3, atol=0.02)
    ends = MIXED.from_cube(np.array([[0.0] * 4, [1.0] * 4]))
    assert np.isfinite(ends).all()
    assert MIXED.contains(ends).all()


def test_a_box_draws_what_it_always_drew(rng):
    """Datasets of earlier versions are made again to the last bit."""
    box, other = Box(a=(0.1, 0.7), b=(-2.0, 5.0)), np.random.default_rng(7)
    assert np.array_equal(box.sample(100, rng), other.uniform(box.low, box.high, (100, 2)))
    assert Prior(a=(0.1, 0.7), b=stats.uniform(-2, 7)) == box
    assert repr(box) == "Box(a=(0.1, 0.7), b=(-2, 5))"


def test_it_is_data():
    again = Prior.from_json(json.loads(json.dumps(MIXED.to_json())))
    assert again == MIXED
    assert hash(again) == hash(MIXED)
    assert pickle.loads(pickle.dumps(MIXED)) == MIXED
    assert again != MIXED.replace(a=stats.norm(1, 2.1))
    assert again != Prior._of(MIXED.every, {})
    old = [{"name": "a", "low": 0, "high": 1, "unit": "m", "latex": ""}]
    assert Prior.from_json(old) == Box(a=(0, 1, "m"))


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"law": "system", "arguments": {}}, "no distribution"),
        ({"law": "poisson", "arguments": {"mu": 1}}, "no distribution"),
        ({"law": "norm", "arguments": {"loc": 0, "scale": -1}}, "quartiles"),
        ({"law": "norm", "arguments": {"a": 1}}, "a"),
        ({"law": "norm"}, "arguments"),
        ({"value": float("nan")}, "finite"),
        ({"value": "1"}, "low, high"),
    ],
)
def test_data_that_are_no_law_are_refused(data, told):
    law = Law.of("ising").to_json()
    law["prior"] = [{"name": "beta", "unit": "", "latex": "", **data}]
    with pytest.raises(DataError, match=told):
        Law.from_json(law)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("norm:x", "loc:scale"), ("foo:1:2", "scipy.stats"), ("1:2:3", "low:high"),
        ("truncnorm", "a:b:loc:scale"), ((1, 0), "low < high"), ("2", None), (None, "low, high"),
        (stats.poisson(3), "scipy.stats"), (stats.norm([0, 1], 1), "one number"),
        (float("inf"), "finite"), (True, "low, high"),
        ((0, "m"), None),
    ],
)  # fmt: skip
def test_what_is_no_law_is_refused(given, told):
    with pytest.raises(ValueError, match=told or "at least one parameter"):
        Prior(a=given)


@pytest.mark.parametrize("ties", [{("a", "z"): 0.5}, {("a", "a"): 0.5}, {("a", "b"): 1.5}])
def test_correlations_that_cannot_be_are_refused(ties):
    with pytest.raises(ValueError, match="correlation"):
        Prior(a=(0, 1), b=(0, 1), correlation=ties)


def test_text_and_objects_are_the_same_law():
    pairs = {
        "norm:0:0.1": stats.norm(0, 0.1), "loguniform:1e-3:1": stats.loguniform(1e-3, 1),
        "truncnorm:-2:2:loc=1": stats.truncnorm(-2, 2, loc=1), "norm": stats.norm(),
    }  # fmt: skip
    for text, law in pairs.items():
        assert Prior(a=text) == Prior(a=law)
        assert Prior(a=Prior(a=law).parameters[0].text) == Prior(a=law)
    assert law_of("0.2:0.6") == law_of((0.2, 0.6))
    assert Prior(a=(stats.norm(0, 1), "m", "x")).parameters[0].symbol == "$x$ [m]"


class Triangle:
    """A law of one's own on [0, 1] with density 2x."""

    def cdf(self, x):
        return np.clip(x, 0, 1) ** 2

    def ppf(self, q):
        return np.sqrt(q)

    def logpdf(self, x):
        with np.errstate(divide="ignore"):
            return np.where((x >= 0) & (x <= 1), np.log(2 * np.clip(x, 0, 1)), -np.inf)


def test_a_law_of_ones_own_serves_in_memory_only(rng):
    prior, twin = Prior(a=Triangle()), Prior(a=stats.beta(2, 1))
    theta = prior.sample(100, rng)
    np.testing.assert_allclose(prior.log_prob(theta), twin.log_prob(theta), atol=1e-9)
    np.testing.assert_allclose(prior.to_coordinates(theta), twin.to_coordinates(theta), atol=1e-6)
    with pytest.raises(ValueError, match="lives in memory only"):
        prior.to_json()
    data = physgen.simulate("ising", size=4, n=20, prior={"beta": Triangle()})
    with pytest.raises(UsageError, match="lives in memory only"):
        physgen.fit("autoregressive", data, epochs=10**9)  # before the training


def test_networks_see_coordinates_with_their_derivative(rng):
    """By autograd against central differences; the far tail counts as its end."""
    rescale, theta = Rescale(MIXED), torch.from_numpy(MIXED.sample(50, rng)).requires_grad_()
    c = rescale(theta)
    np.testing.assert_allclose(c.detach(), MIXED.to_coordinates(theta.detach()), atol=1e-6)
    (found,) = torch.autograd.grad(c.double().sum(), theta)
    slope = MIXED.slope(MIXED.to_coordinates(theta.detach().numpy()))
    np.testing.assert_allclose(found, 1 / slope, rtol=1e-5)
    assert rescale(torch.tensor([[1e9, 0.1, 0.5, 1.0]])).abs().max() == 5


# --- posteriors ---------------------------------------------------------------------------------


def dense(log_prob, prior, x, points):
    """Mean and width of one parameter by a sum over many points, and the evidence."""
    theta = points[:, None]
    one = np.stack([log_prob(theta, np.broadcast_to(v, (len(theta), *v.shape))) for v in x])
    log_p = one + prior.log_prob(theta)
    total = logsumexp(log_p, axis=1, keepdims=True)
    w = np.exp(log_p - total)
    mean = w @ points
    step = np.gradient(points).mean()
    return mean, np.sqrt(w @ points**2 - mean**2), total[:, 0] + np.log(step)


@pytest.mark.parametrize(
    ("law", "low", "high"),
    [
        (stats.norm(0.4, 0.1), -0.3, 1.1),
        (stats.norm(0.4, 1e-3), 0.39, 0.41),
        (stats.loguniform(0.05, 1), 0.05, 1.0),
        (stats.gamma(4, scale=0.1), 1e-9, 2.5),
        (stats.truncnorm(-2, 2, loc=0.4, scale=0.1), 0.2, 0.6),
        (stats.t(5, loc=0.4, scale=0.1), -3.0, 4.0),
    ],
    ids=["normal", "narrow", "log-uniform", "gamma", "truncated", "heavy"],
)
def test_an_exact_posterior_under_any_prior(law, low, high, rng):
    """Ising lattices: the grid against a sum over 20,001 points."""
    ising, prior = Ising(size=4), Prior(beta=law)
    x = ising.sample(np.full((4, 1), 0.4), rng)
    found = grid_posterior(of_exact(ising.log_prob, x), prior, len(x))
    mean, sd, evidence = dense(ising.log_prob, prior, x, np.linspace(low, high, 20_001))
    np.testing.assert_allclose(found.mean[:, 0], mean, atol=0.015 * sd.min())
    np.testing.assert_allclose(found.sd[:, 0], sd, rtol=0.015)
    np.testing.assert_allclose(found.log_evidence, evidence, atol=0.02)
    at = rng.uniform(low, high, (4, 3, 1))
    exact = ising.log_prob(at[:, 0], x) + prior.log_prob(at[:, 0]) - evidence
    near = exact > -10
    np.testing.assert_allclose(found.log_prob(at)[near, 0], exact[near], atol=0.05)
    theta = found.sample(4000, rng)
    rank = found.cdf(theta)[..., 0]
    assert min(stats.kstest(r, "uniform").pvalue for r in rank) > 1e-4
    box = grid_posterior(of_exact(ising.log_prob, x), Box(beta=(0.05, 0.9)), len(x))
    assert (abs(box.mean[:, 0] - mean) > 0.05 * sd).any()  # the prior matters


@pytest.mark.parametrize(
    ("laws", "centre", "told"),
    [
        ({"a": stats.cauchy()}, (30, 0.5), "a: up to 100% of the posterior lies in the far tail"),
        ({"a": stats.cauchy()}, (1, 0.5), ""),
        ({"a": 40.0}, (0.5,), "a: up to 100%"),
        ({"a": 1.0}, (0.5,), ""),
        ({}, (30, 0.5), ""),  # the tail of its own prior is told of already
    ],
)
def test_a_posterior_where_the_training_saw_nothing_is_told_of(laws, centre, told, rng):
    trained = Prior(a=stats.norm(), b=(0, 1))
    theta = rng.normal(centre, 0.1, (1, 200, len(centre)))
    lines = " ".join(untrained_warnings(theta, trained.with_laws(laws), trained))
    assert lines.startswith(told)
    assert bool(lines) == bool(told)


def test_a_distribution_that_is_not_frozen_is_refused():
    for law in (stats.norm, stats.gamma):
        with pytest.raises(ValueError, match="frozen distribution"):
            Prior(a=law)


def test_a_pair_is_tied_once_whatever_its_order():
    """A pair that is spelt the other way around replaces, in memory as after a file."""
    first = Prior(a=stats.norm(), b=stats.norm(), correlation={("b", "a"): 0.6})
    second = first.correlate({("a", "b"): -0.5})
    assert second.correlation == {("a", "b"): -0.5}
    assert Prior.from_json(second.to_json()) == second != first
    assert not second.correlate({("b", "a"): 0}).correlation


def test_a_correlated_prior_on_the_grid_against_the_closed_form(rng):
    """A linear Gaussian with a correlated normal prior has a normal posterior."""
    toy = LinearGaussian(parameters=2)
    prior = Prior(
        theta1=stats.norm(0.5, 1),
        theta2=stats.norm(0, 0.5),
        correlation={("theta1", "theta2"): 0.8},
    )
    x = toy.sample(prior.sample(3, rng), rng)
    found = grid_posterior(of_exact(toy.log_prob, x), prior, 3)
    inside = np.linalg.inv(np.array([[1, 0.4], [0.4, 0.25]]))
    a = toy.matrix
    cov = np.linalg.inv(inside + a.T @ a / toy.noise**2)
    mean = (inside @ [0.5, 0] + (x - toy.offset) @ a / toy.noise**2) @ cov
    np.testing.assert_allclose(found.mean, mean, atol=0.02 * np.sqrt(cov[1, 1]))
    np.testing.assert_allclose(found.sd, np.sqrt(np.diag(cov))[None].repeat(3, 0), rtol=0.02)
    whole = stats.multivariate_normal(
        toy.offset + a @ [0.5, 0],
        a @ np.linalg.inv(inside) @ a.T + toy.noise**2 * np.eye(toy.size),
    )
    np.testing.assert_allclose(found.log_evidence, whole.logpdf(x), atol=0.02)


def test_mutual_information_follows_the_prior(rng):
    """E[log p(x|θ) − log p(x)], the evidence by a sum over many θ."""
    ising = Ising(size=4)
    prior = Prior(beta=stats.norm(0.4, 0.1))
    theta = prior.sample(4000, rng)
    x = ising.sample(theta, rng)
    gain = ising.log_prob(theta, x) - ising.log_evidence(x, prior)
    exact = ising.mutual_information(prior)
    assert abs(gain.mean() - exact) < 4 * gain.std() / np.sqrt(len(gain))
    assert abs(ising.mutual_information() - exact) > 0.1


def test_an_evidence_that_the_nodes_do_not_resolve_is_refused(rng):
    """Beside it one that they do, against a sum over θ."""
    ising = Ising(size=3, theta="beta-h")
    x = ising.sample(np.tile([0.3, 0.1], (2, 1)), rng)
    x[1] = np.where(np.arange(9).reshape(3, 3) < 5, 1, -1)  # all up would fix no h
    prior = Prior(beta=stats.norm(0.4, 0.05), h=stats.norm(0, 0.1))
    grid = np.stack(np.meshgrid(np.linspace(0.1, 0.7, 81), np.linspace(-0.6, 0.6, 81)), -1)
    theta, cell = grid.reshape(-1, 2), 0.6 / 80 * 1.2 / 80
    joint = np.stack([ising.log_prob(theta, np.repeat(one[None], len(theta), 0)) for one in x])
    total = np.exp(joint + prior.log_prob(theta)).sum(1) * cell
    np.testing.assert_allclose(ising.log_evidence(x, prior), np.log(total), atol=1e-4)
    with pytest.raises(ValueError, match="nodes an axis of Prior"):
        ising.log_evidence(x, prior.replace(h=stats.norm(0, 30)))


def test_a_fixed_parameter_is_a_slice(rng):
    """What a prior fixes is put back before the simulator sees θ."""
    law = Law.of("ising", {"size": 4, "theta": "beta-h"}, {"h": 0.2})
    whole, part = Ising(size=4, theta="beta-h"), law.build()
    beta = law.prior.sample(6, rng)
    theta = np.column_stack([beta, np.full(6, 0.2)])
    x = part.sample(beta, np.random.default_rng(1))
    assert np.array_equal(x, whole.sample(theta, np.random.default_rng(1)))
    np.testing.assert_array_equal(part.log_prob(beta, x), whole.log_prob(theta, x))
    one, other = (s.observables["magnetisation"].exact for s in (part, whole))
    assert (one is None) == (other is None)
    assert Law.from_json(law.to_json()) == law
    assert law.prior.fixed == {"h": 0.2}


@pytest.fixture(scope="module")
def normal():
    """Rows under a normal prior, and what has learnt of them."""
    rows = physgen.simulate("ising", size=4, n=3000, seed=1, prior={"beta": stats.norm(0.4, 0.1)})
    return rows, physgen.fit("autoregressive", rows, epochs=8, seed=1)


@pytest.mark.slow
def test_a_surrogate_learns_under_any_prior(normal, tmp_path):
    """From simulate to files and back: its posterior is the exact one."""
    rows, model = normal
    observed = physgen.simulate("ising", size=4, n=20, seed=2, prior={"beta": "norm:0.4:0.1"})
    assert observed.law == rows.law
    path = tmp_path / "model.pt"
    physgen.save(model, path)
    found = physgen.infer(path, observed, out=tmp_path / "posterior.h5")
    prior, ising = rows.law.prior, rows.law.build()
    exact = grid_posterior(of_exact(ising.log_prob, observed.x), prior, 20)
    off = abs(found.mean - exact.mean) / exact.sd
    assert off.mean() < 0.3
    assert 0.8 < np.median(found.sd / exact.sd) < 1.25
    assert "~ norm(loc = 0.40, scale = 0.10)" in physgen.report(tmp_path / "posterior.h5").html
    other = physgen.infer(model, observed, prior={"beta": (0.2, 0.6)})
    box = grid_posterior(of_exact(ising.log_prob, observed.x), Box(beta=(0.2, 0.6)), 20)
    assert (abs(other.mean - box.mean) / box.sd).mean() < 0.4
    assert (abs(other.mean - exact.mean) / exact.sd).mean() > 0.2


@pytest.mark.slow
def test_calibration_holds_ranks_to_the_data_s_prior(normal):
    _, model = normal
    right = physgen.simulate("ising", size=4, n=300, seed=3, prior={"beta": "norm:0.4:0.1"})
    scores = physgen.calibrate(model, right)
    assert not [line for line in scores["warnings"] if "does not follow the prior" in line]
    box = physgen.simulate("ising", size=4, n=50, seed=3, prior={"beta": (0.3, 0.5)})
    assert physgen.calibrate(model, box)["prior"] == box.law.prior.to_json()
    with pytest.raises(UsageError, match=r"norm:0\.4:0\.1, and no part of them"):
        physgen.calibrate(model, right, prior={"beta": (0.3, 0.5)})


def test_priors_inside_and_outside_of_the_training():
    box, normal = Box(a=(0, 1)), Prior(a=stats.norm(0, 1))
    assert restrict_prior(normal, {"a": (-3, 3)}) == Box(a=(-3, 3))
    assert restrict_prior(box, {"a": "truncnorm:0:1"}).low[0] == 0
    with pytest.raises(UsageError, match="expected a within 0:1"):
        restrict_prior(box, {"a": stats.norm(0, 1)})
    with pytest.raises(UsageError, match="unknown b"):
        restrict_prior(box, {"b": (0, 1)})
    assert common_prior(normal, box, None) == box
    assert common_prior(normal, normal, None) == normal
    with pytest.raises(UsageError, match="no part of them"):
        common_prior(box, normal, None)


def test_the_edge_guard_is_quiet_where_a_right_posterior_touches_a_bound(rng):
    """A Gaussian cut at its middle, or an edge half a width away, says nothing; a pile does."""
    prior = Box(a=(0, 1))

    def told(theta):
        theta = theta[(theta > 0) & (theta < 1)][:2000]
        return [line for line in posterior_warnings(theta[None, :, None], {}, prior, "grid")
                if "edge" in line]  # fmt: skip

    width = 0.02
    assert not told(rng.normal(0, width, 10_000))
    assert not told(rng.normal(-width, width, 40_000))
    assert not told(rng.normal(1 - width / 2, width, 10_000))
    assert told(stats.truncnorm(4, 50, loc=-4 * width, scale=width).rvs(2000, random_state=1))
    far = Prior(a=stats.norm(0, 1))
    lines = list(posterior_warnings(rng.normal(4.6, 0.2, (1, 500, 1)), {}, far, "grid"))
    assert any("far tail" in line for line in lines)
    assert not list(posterior_warnings(rng.normal(2.6, 0.2, (1, 500, 1)), {}, far, "grid"))


def test_a_prior_wider_than_the_training_s_is_told(rng):
    """Its support is as large, so it is not refused; a likelihood of the tail is made up."""
    known = Prior(a=stats.norm(0, 0.1), b=(0, 1))

    def lines(theta, prior):
        return [w for w in posterior_warnings(theta, {}, prior, "grid", known) if "learnt" in w]

    wide = known.replace(a=stats.norm(0, 10))
    b = rng.uniform(0.2, 0.8, (1, 500))
    far, near = (np.stack([rng.normal(at, 0.05, (1, 500)), b], -1) for at in (2.0, 0.1))
    assert "norm:0:0.1: simulate there" in lines(far, wide)[0]
    assert not lines(near, wide)
    assert lines(far[..., 1:], known.replace(a=2.0)), "a value that is fixed"
    assert not lines(near[..., 1:], known.replace(a=0.1))


def test_simulators_of_any_prior_keep_the_contract():
    from physgen.testing import check_simulator

    assert check_simulator(Oscillator(size=20)) == []


@pytest.mark.parametrize("law", [(1000.0, 1001.0), stats.expon(), stats.beta(0.1, 0.1)])
def test_bounds_and_poles_have_finite_coordinates_and_densities(law, rng):
    alone, tied = Prior(a=law), Prior(a=law, b=(0, 1), correlation={("a", "b"): 0.9})
    for prior in (alone, tied):
        theta = np.stack([t for t in (prior.low, prior.high) if np.isfinite(t).all()])
        theta = np.concatenate([theta, prior.sample(20_000, rng)])
        assert np.isfinite(prior.to_coordinates(theta)).all()
        assert np.isfinite(prior.log_prob(theta)).all()
        assert (prior.slope(prior.to_coordinates(theta)) > 0).all()
    assert np.isneginf(tied.log_prob(np.array([-1.0, 0.5])))


def test_what_is_beyond_all_float64_probability_is_no_coordinate_of_the_prior():
    prior = Prior(a=stats.expon(), b=(0, 1), correlation={("a", "b"): 0.5})
    assert prior.to_coordinates(np.array([2000.0, 0.5]))[0] == np.inf
    assert np.isneginf(prior.log_prob(np.array([np.inf, 0.5])))


def test_the_words_of_a_prior_are_of_the_same_prior():
    """As in the command that a file records, or in what is proposed for others."""
    prior = Prior(t=(2459000.123456789, 2459000.5), b=0.1 + 0.2, c=stats.norm(1 / 3, 1e-3))
    assert prior.every[1].text == "0.30000000000000004"
    assert Prior(**Prior.words(prior)) == prior
    assert Prior.words({"a": (0.1, 1e10)}) == {"a": "0.1:10000000000"}
