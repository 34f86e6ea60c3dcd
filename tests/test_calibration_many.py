"""Calibration by draws: of any number of parameters, under any prior, against closed forms."""

import importlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from scipy.stats import chi2, kstest, norm

from physgen.checks.calibration.controls import FISHER_STEP, controls_of
from physgen.checks.calibration.posteriors import posteriors_of
from physgen.checks.calibration.run import calibration
from physgen.checks.calibration.target import target_of
from physgen.checks.calibration.uniformity import prior_ranks, rank_among, uniformity
from physgen.checks.calibration.verdicts import CHECKS, calibration_warnings
from physgen.law import Law
from simulators.gaussian import LinearGaussian
from simulators.prior import Prior

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module", autouse=True)
def quick_trials():
    """A fifth of the trials that say what LC2ST's statistic is where all is right."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("physgen.checks.calibration.lc2st.TRIALS", 10)
        yield


@pytest.fixture(scope="module")
def toys():
    """The benchmark of calibrate: normal θ of any number, and their exact posteriors."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT)
        yield importlib.import_module("benchmarks.calibration")


@pytest.fixture(scope="module")
def six(toys):
    return toys.Law.of(toys.CorrelatedGaussian(6, 8))


def rows(law, n, seed=0):
    simulator, rng = law.build(), np.random.default_rng([n, seed])
    theta = law.prior.sample(n, rng)
    return theta, simulator.sample(theta, rng)


def judged(toys, law, n, seed=0):
    theta, x = rows(law, n, seed)
    network = toys.Exact(law)
    return calibration(network, theta, x, law.prior, trusted=law.simulator, seed=seed, samples=3)


@pytest.fixture(scope="module")
def right(toys, six):
    return judged(toys, six, 100)


def wrong_network(toys):
    @dataclass(frozen=True)
    class Wrong(toys.Exact):
        """Draws that are mapped, with the density that goes along."""

        control: str = ""

        def draw(self, x, k, seed=0, index=None):
            c, leak = super().draw(x, k, seed, index)
            mean, sd, affine = self.frame(x)
            return mean[:, None] + sd * affine.image((c - mean[:, None]) / sd), leak

        def log_density(self, theta, x, which=None):
            rows = x if which is None else x[which]
            mean, sd, affine = self.frame(rows)
            prior, c = self.law.prior, self.law.prior.to_coordinates(theta)
            at = mean + sd * affine.preimage(((c - mean) / sd)[:, None])[:, 0]
            back = prior.from_coordinates(at.clip(*prior.ends))
            before = super().log_density(back, x, which) + prior.log_density(at)
            return before - prior.log_density(c) - np.linalg.slogdet(affine.matrix)[1]

        def frame(self, x):
            mean, covariance = self.simulator.posterior(x)
            sd = np.sqrt(np.diag(covariance))
            r = np.broadcast_to(covariance / np.outer(sd, sd), (len(x), len(sd), len(sd)))
            return mean, sd, controls_of(r)[self.control]

    return Wrong


def test_a_wrong_correlation_keeps_means_and_widths():
    rng = np.random.default_rng(0)
    root = np.linalg.qr(rng.standard_normal((5, 5)))[0] * np.sqrt([3, 2, 1, 0.5, 0.2])
    sd = np.sqrt((root**2).sum(1))
    r = (root / sd[:, None]) @ (root / sd[:, None]).T
    affine = controls_of(r[None])["correlated"]
    made = affine.matrix[0] @ r @ affine.matrix[0].T
    np.testing.assert_allclose(np.diag(made), 1)
    for d in (0, 2):
        moved = np.arctanh(made[d, d + 1]) - np.arctanh(r[d, d + 1])
        assert moved == pytest.approx(FISHER_STEP * np.sign(r[d, d + 1]))
    z = rng.standard_normal((1, 7, 5))
    np.testing.assert_allclose(affine.preimage(affine.image(z)), z)


@pytest.mark.parametrize("r", [0.0, 0.999999, -1.0])
def test_a_correlation_can_be_moved_wherever_it_is(r):
    matrix = controls_of(np.array([[[1, r], [r, 1]]]))["correlated"].matrix
    assert np.isfinite(matrix).all()
    assert np.linalg.det(matrix)[0] > 0


def test_a_single_parameter_has_no_direction_to_be_wrong_in():
    assert set(controls_of(np.ones((3, 1, 1)))) == {"narrow", "shifted"}


def test_a_rank_among_draws_is_uniform_ties_or_not():
    rng = np.random.default_rng(0)
    for levels in (2, 10**9):
        drawn = rng.integers(0, levels, (4000, 11, 2))
        u = rank_among(drawn[:, 0], drawn[:, 1:], rng)
        assert u.shape == (4000, 2)
        assert kstest(u.ravel(), "uniform").pvalue > 1e-2
    assert rank_among(np.full((9, 1), 5.0), np.zeros((9, 3, 1)), rng).min() >= 0.75


def test_ranks_among_draws_are_those_of_the_normal_law(toys, six):
    theta, x = rows(six, 100)
    network, prior = toys.Exact(six), six.prior
    found = posteriors_of(
        target_of(network), theta, x, prior, samples=5, seed=0, checks=CHECKS, controls=True
    )
    simulator = six.build()
    mean, covariance = simulator.posterior(x)
    sd, off = np.sqrt(np.diag(covariance)), simulator.scores(theta) - mean
    assert abs(found.mean - mean).max() < 0.35 * sd.min()
    assert np.median(found.sd / sd) == pytest.approx(1, abs=0.02)
    np.testing.assert_allclose(found.correlation.mean(0), covariance / np.outer(sd, sd), atol=0.02)
    inside = chi2.cdf(np.einsum("ni,ij,nj->n", off, np.linalg.inv(covariance), off), 6)
    noise = 4 * np.sqrt(0.25 / 100)
    for width, control in ((1.0, "right"), (0.7, "narrow")):
        ranks = found.ranks[control]
        assert abs(ranks["sbc"] - norm.cdf(off / sd / width)).max() < noise + 0.2 * (width < 1)
    assert abs(found.ranks["right"]["coverage"] - inside).max() < noise
    np.testing.assert_allclose(  # log p(θ|x) − log p(θ), to rounding
        found.gain, simulator.log_prob(theta, x) - simulator.log_evidence(x), atol=1e-6
    )
    assert found.resolved.all()


@pytest.mark.slow
def test_an_exact_posterior_of_six_parameters_passes_all_checks(six, right):
    found = right
    assert min(c["p_value"] for c in found["checks"]) > 1e-3
    names = [c["name"] for c in found["checks"]]
    assert names == ["SBC", "coverage", "TARP", "energy score", "LC2ST", "mean score",
                     "information", "predictive", "misspecification"]  # fmt: skip
    controls = {c["name"]: c["controls"] for c in found["checks"]}
    for control in ("narrow", "thin", "correlated"):
        assert controls["coverage"][control]["required"]
    assert controls["coverage"]["narrow"]["caught"]
    assert controls["LC2ST"]["correlated"]["required"]
    gained = found["information"]
    assert gained["gain"] == pytest.approx(six.build().information, abs=4 * gained["se"])
    assert found["posteriors"] == "network"
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("control", "seen", "unseen"),
    [
        ("narrow", {"sbc", "coverage", "tarp"}, set()),
        pytest.param("shifted", {"sbc"}, {"tarp"}, marks=pytest.mark.slow),
        pytest.param("thin", {"coverage"}, {"sbc"}, marks=pytest.mark.slow),
        ("correlated", {"coverage"}, {"sbc", "tarp"}),
    ],
)
def test_a_wrong_posterior_of_six_parameters_is_caught(toys, six, control, seen, unseen):
    theta, x = rows(six, 600 if control in ("shifted", "thin") else 200, 1)
    target = target_of(wrong_network(toys)(six, control=control))
    found = posteriors_of(target, theta, x, six.prior, samples=1, seed=0, checks=CHECKS)
    ranks = {k: u.reshape(len(u), -1).T for k, u in found.ranks["right"].items()}
    p = {k: min(len(u) * uniformity(one).p_value for one in u) for k, u in ranks.items()}
    assert all(p[name] < 1e-3 for name in seen), p
    assert all(p[name] > 1e-3 for name in unseen), p


NORMAL = LinearGaussian(size=3, parameters=1, noise=0.5)


@dataclass(frozen=True)
class Normal:
    """The exact likelihood of a linear law, under a prior that is not uniform."""

    law: Law
    method: str = "nle"
    draws: bool = False
    is_field: bool = False

    def log_density(self, theta, x, which=None):
        return NORMAL.log_prob(theta, x if which is None else x[which])


def test_a_prior_that_is_not_uniform_is_judged_on_the_grid():
    prior = Prior(theta1=stats.norm(0.3, 0.2))
    law = replace(Law.of("gaussian", vars(NORMAL)), prior=prior)
    rng = np.random.default_rng(0)
    theta = prior.sample(200, rng)
    x = NORMAL.sample(theta, rng)
    target = target_of(Normal(law))
    found = posteriors_of(target, theta, x, prior, samples=1, seed=0, checks=CHECKS)
    precision = 1 / 0.2**2 + 1 / NORMAL.posterior(x)[1][0, 0]
    mean = (0.3 / 0.2**2 + NORMAL.posterior(x)[0][:, 0] / NORMAL.posterior(x)[1][0, 0]) / precision
    z = (theta[:, 0] - mean) * np.sqrt(precision)
    np.testing.assert_allclose(found.ranks["right"]["sbc"][:, 0], norm.cdf(z), atol=2e-3)
    np.testing.assert_allclose(found.ranks["right"]["coverage"], chi2.cdf(z**2, 1), atol=0.02)
    np.testing.assert_allclose(found.mean[:, 0], (mean - 0.3) / 0.2, atol=2e-3)
    np.testing.assert_allclose(found.log_p, NORMAL.log_prob(mean[:, None], x), atol=2e-3)


def test_theta_that_does_not_follow_a_normal_prior_is_said():
    prior = Prior(theta1=stats.norm(0.3, 0.2))
    theta = np.random.default_rng(0).uniform(0, 0.3, (300, 1))
    result = {"left_out": 0, "resolved": 1, "checks": [], "posteriors": "grid"}
    (said,) = calibration_warnings(result, theta, prior)
    assert said.startswith("theta of the rows does not follow the prior: theta1")
    assert not list(
        calibration_warnings(result, prior.sample(300, np.random.default_rng(1)), prior)
    )


def test_prior_ranks_are_its_distribution_function():
    prior = Prior(a=(1.0, 3.0), b=stats.norm(2, 5), c=stats.loguniform(1e-3, 10))
    theta = np.array([[1.5, -3.0, 0.1], [2.9, 4.0, 5.0]])
    each = [p.law.cdf(theta[:, d]) for d, p in enumerate(prior.parameters)]
    np.testing.assert_allclose(prior_ranks(prior, theta), np.stack(each, 1), atol=1e-12)


def test_a_grid_knows_the_correlation_of_its_parameters():
    simulator = LinearGaussian(size=7, parameters=2, noise=0.3)
    law = Law.of("gaussian", vars(simulator))
    x = simulator.sample(np.zeros((4, 2)), np.random.default_rng(0))

    class Net(Normal):
        def log_density(self, theta, x, which=None):
            return simulator.log_prob(theta, x if which is None else x[which])

    found = posteriors_of(target_of(Net(law)), None, x, law.prior, samples=1, seed=0)
    covariance = simulator.posterior(x)[1]
    sd = np.sqrt(np.diag(covariance))
    r = np.broadcast_to(covariance / np.outer(sd, sd), (4, 2, 2))
    np.testing.assert_allclose(found.correlation, r, atol=3e-3)
    np.testing.assert_allclose(found.sd, np.tile(sd / 2, (4, 1)), rtol=5e-3)


@pytest.mark.usefixtures("blank")
def test_the_page_of_six_parameters(six, right):
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    from physgen.verbs.pages import render

    about = {"schema": "physgen/calibration/1", "network": {"family": "npe", "law": six.to_json()}}
    page = render(json.loads(json.dumps(right | about)))
    assert "worst of 6" in page
    assert "posteriors drawn by the network under theta1 ~ norm(loc = 1, scale = 2)" in page
    assert page.count('class="ink full"') == 2
    assert "None" not in page


@pytest.mark.slow
@pytest.mark.parametrize("parameters", [6, 10])
def test_controls_are_caught_at_a_thousand_rows(toys, parameters):
    law = toys.Law.of(toys.CorrelatedGaussian(parameters, parameters + 2))
    found = judged(toys, law, 1000, 1)
    table = {c["name"]: c for c in found["checks"]}
    assert min(c["p_value"] for c in table.values()) > 1e-3
    for name in ("SBC", "coverage", "TARP", "energy score", "mean score", "information"):
        assert table[name]["verdict"] == "passes", name
    assert table["LC2ST"]["controls"]["correlated"]["caught"]
