"""calibrate: right posteriors pass on every seed, wrong ones and all controls are caught."""

import json
import signal
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

import physgen
from physgen.checks.calibration.bartlett import Derivatives, derivatives, identities
from physgen.checks.calibration.controls import controls_of
from physgen.checks.calibration.coverage import credibility
from physgen.checks.calibration.lc2st import LC2ST_DRAWS, Pairs, lc2st
from physgen.checks.calibration.misspecification import misspecification, residuals, strangeness
from physgen.checks.calibration.posteriors import posteriors_of, tempered
from physgen.checks.calibration.predictive import replicated
from physgen.checks.calibration.run import calibration
from physgen.checks.calibration.sbc import rank_of_theta
from physgen.checks.calibration.target import target_of
from physgen.checks.calibration.tarp import mass_nearer
from physgen.checks.calibration.uniformity import ECDF_LEVELS, alike, bands, uniformity
from physgen.checks.calibration.verdicts import CHECKS as ALL_CHECKS
from physgen.checks.calibration.verdicts import calibration_summary
from physgen.cli import main
from physgen.errors import UsageError
from physgen.law import Law
from physgen.posterior.grid import grid_posterior, of_exact
from physgen.reporting.view import Labels
from physgen.surrogates.base import Likelihood, Surrogate
from simulators.gaussian import LinearGaussian
from simulators.prior import Box

SIMULATOR = LinearGaussian(size=3, parameters=1, noise=0.5)
WIDTH = float(np.sqrt(SIMULATOR.posterior(np.zeros((1, 3)))[1][0, 0]))
CHECKS = ["SBC", "coverage", "TARP", "energy score", "LC2ST", "mean score", "information",
          "predictive", "misspecification"]  # fmt: skip


@dataclass(frozen=True)
class Config:
    """How the surrogate errs.

    Attributes:
        shift: it draws and scores at θ + shift posterior widths.
        noise: it draws and scores with so many times the noise.
        power: it scores with the power of what it draws.
    """

    shift: float = 0.0
    noise: float = 1.0
    power: float = 1.0


class Exact(Surrogate):
    """The toy's own law, or one that is wrong by a known amount."""

    name = "exact"
    likelihood = Likelihood.EXACT
    Config = Config

    def __init__(self, law, config):
        super().__init__(law, config)
        options = dict(law.options) | {"noise": config.noise * law.options["noise"]}
        self.simulator = LinearGaussian(**options)
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def _theta(self, c):
        return 2 * c.double().numpy() + self.config.shift * WIDTH

    def _loss(self, c, z, generator, progress):
        raise NotImplementedError

    def _sample(self, c, generator):
        mean = torch.as_tensor(self.simulator.mean(self._theta(c))).float()
        return mean + self.simulator.noise * torch.randn(mean.shape, generator=generator)

    def _log_prob(self, c, z, noise, draws):
        value = torch.as_tensor(self.simulator.log_prob(self._theta(c), z.double().numpy()))
        return self.config.power * value, torch.zeros(len(c))


class Silent(Exact):
    """A family without a likelihood."""

    likelihood = Likelihood.NONE


def surrogate(family=Exact, simulator=SIMULATOR, **config):
    return family(Law.of("gaussian", vars(simulator)), Config(**config))


def rows(n=600, seed=0, simulator=SIMULATOR):
    rng = np.random.default_rng([11, seed])
    theta = simulator.prior.sample(n, rng)
    return theta, simulator.sample(theta, rng)


@pytest.fixture(autouse=True, scope="module")
def few_trials():
    """A fifth of the trials that say what LC2ST's statistic is where all is right: quick."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("physgen.checks.calibration.lc2st.TRIALS", 20)
        yield


def judged(seed=0, n=600, prior=SIMULATOR.prior, **config):
    return judged_once(seed, n, prior, **config)


@cache
def judged_once(seed, n, prior, **config):
    return calibration(surrogate(**config), *rows(n, seed), prior, seed=seed)


def failed(found):
    return {c["name"] for c in found["checks"] if c["verdict"] == "fails"}


@pytest.fixture(params=["few", pytest.param("all", marks=pytest.mark.slow)])
def n(request, monkeypatch):
    """A number of rows: of few with the few trials of this module, of more with all of them."""
    if request.param == "few":
        return 600
    monkeypatch.setattr("physgen.checks.calibration.lc2st.TRIALS", 100)
    return 1000


@pytest.fixture
def right():
    return judged()


@pytest.mark.parametrize(
    ("seed", "n"),
    [(0, "few"), *(pytest.param(seed, "all", marks=pytest.mark.slow) for seed in (0, 1, 2))],
    indirect=["n"],
)
def test_right_posteriors_pass_and_every_control_is_caught(seed, n):
    found = judged(seed, n)
    assert [c["name"] for c in found["checks"]] == CHECKS
    for check in found["checks"]:
        assert check["verdict"] == "passes", check
        assert check["own_p_value"] is None or check["own_p_value"] > 1e-3
        assert check["caught"]
    assert found["warnings"] == []
    assert calibration_summary(found).startswith("passes SBC, coverage, TARP, energy score, LC2ST")
    assert found["misspecification"]["outside"] <= 6


DISPERSION = {"SBC", "coverage", "TARP", "energy score"}
WRONG = {  # how it errs: what must fail, of which own x must fail
    "shifted by half a width": ({"shift": 0.5}, {"SBC", "LC2ST", "mean score"}, set()),
    "30 % too narrow": ({"noise": 0.7}, DISPERSION | {"information"}, set()),
    "40 % too wide": ({"noise": 1.4}, DISPERSION | {"information"}, set()),
    "scored too sharply": (
        {"power": 0.7**-2},
        DISPERSION | {"LC2ST", "information"},
        DISPERSION | {"LC2ST", "information"},
    ),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.slow
def test_a_wrong_law_is_caught_by_the_checks_that_see_it(case, n):
    config, must_fail, own = WRONG[case]
    found = judged(n=n, **config)
    assert failed(found) >= must_fail
    by_own = {c["name"] for c in found["checks"] if (c["own_p_value"] or 1) < 1e-3}
    assert by_own == own
    assert any("its log p is not that of what it draws" in w for w in found["warnings"]) == bool(
        own
    )
    assert "fails SBC" in calibration_summary(found)


@pytest.mark.parametrize("check", ALL_CHECKS, ids=lambda check: check.name)
def test_every_check_is_told_and_shown_from_its_section_alone(check, right):
    """The contract of a check: rows of the table, and a part of the page, empty or not."""
    labels = Labels({}, {})
    rows = list(check.rows(right[check.name], right))
    assert [row in right["checks"] for row in rows] == [True] * len(rows)
    assert rows
    shown = check.part(right[check.name], right, labels)
    assert shown.pictures or shown.table
    if shown.table:
        assert {len(row) for row in shown.table.rows} == {len(shown.table.columns)}
    absent = check.part({}, {}, labels)
    assert absent.absent
    assert (absent.pictures, absent.table, absent.tiles) == ((), None, ())
    json.dumps(right[check.name], allow_nan=False)


@pytest.mark.slow
def test_a_bias_is_told_in_posterior_widths():
    found = judged(shift=0.5)["score"]["theta1"]
    assert found["width"] == pytest.approx(WIDTH, rel=0.05)
    assert found["data"]["mean"] == pytest.approx(-0.5, abs=0.15)
    assert found["own"]["mean"] == pytest.approx(0, abs=4 * found["own"]["mean_se"])
    narrow = judged(noise=0.7)["score"]["theta1"]["data"]
    assert narrow["variance"] / narrow["curvature"] == pytest.approx(0.7**-2, rel=0.2)


def test_few_rows_are_no_verdict():
    found = judged(n=40)
    assert not failed(found)
    missed = {c["name"] for c in found["checks"] if not c["caught"]}
    assert missed >= {"SBC", "LC2ST"}
    assert {c["verdict"] for c in found["checks"] if not c["caught"]} == {
        "too few rows: no verdict"
    }
    assert "40 rows are too few to catch the controls of" in calibration_summary(found)


@pytest.mark.slow
def test_theta_that_is_not_of_the_prior_is_said():
    theta, x = rows()
    few = abs(theta[:, 0]) < 1
    found = calibration(surrogate(), theta[few], x[few], SIMULATOR.prior, samples=3)
    assert found["warnings"][0].startswith("theta of the rows does not follow the prior: theta1")


@pytest.mark.slow
def test_a_narrower_prior_leaves_rows_out_and_needs_no_training():
    found = judged(prior=Box(theta1=(-1.0, 1.0)))
    assert found["rows"] + found["left_out"] == 600
    assert 240 < found["left_out"] < 360
    assert not failed(found)
    assert "rows have theta outside the prior and are left out" in found["warnings"][0]
    with pytest.raises(UsageError, match="at least 20 rows"):
        judged(n=30, prior=Box(theta1=(1.9, 2.0)))


@pytest.mark.slow
def test_rows_without_theta_are_judged_by_their_x():
    _, x = rows(n=50)
    x[:5] += [3, -3, 3]  # off the line that θ moves along
    found = calibration(surrogate(), None, x, SIMULATOR.prior, samples=3)
    p = np.array(found["misspecification"]["p_values"])
    assert (p[:5] <= found["misspecification"]["level"]).all()
    assert (p[5:] > 1e-3).sum() >= 43
    assert found["misspecification"]["outside"] >= 5
    verdicts = {c["name"]: c["verdict"] for c in found["checks"]}
    assert verdicts["SBC"] is None
    assert verdicts["misspecification"] == "fails"
    assert "only what their x tell is judged" in found["warnings"][0]


def test_what_cannot_be_checked_is_refused():
    with pytest.raises(UsageError, match="no likelihood"):
        calibration(surrogate(Silent), *rows(30), SIMULATOR.prior)


LAW = Law.of("gaussian", vars(SIMULATOR))


@dataclass(frozen=True)
class Net:
    """A network whose log density of θ is the toy's own, but for a function of x; or is wrong."""

    law: Law = LAW
    shift: float = 0.0
    power: float = 1.0
    method: str = "npe"
    is_field: bool = False

    def log_density(self, theta, x, which):
        value = SIMULATOR.log_prob(theta + self.shift * WIDTH, x[which])
        return self.power * value + (x[which] ** 2).sum(1)


@pytest.mark.slow
def test_a_right_network_passes_and_its_controls_are_caught():
    found = calibration(Net(), *rows(1000), SIMULATOR.prior)
    assert [c["name"] for c in found["checks"]] == CHECKS
    for check in found["checks"]:
        assert check["verdict"] == "passes", check
        assert check["own_p_value"] is None
    assert found["likelihood"] == ""
    assert found["draws"] is None
    assert found["warnings"] == []


@pytest.mark.parametrize(
    ("wrong", "must_fail"),
    [
        ({"shift": 0.5}, {"SBC", "LC2ST", "mean score"}),
        ({"power": 0.7**-2}, DISPERSION | {"LC2ST", "information"}),
    ],
)
@pytest.mark.slow
def test_a_wrong_network_fails(wrong, must_fail):
    assert failed(calibration(Net(**wrong), *rows(), SIMULATOR.prior)) >= must_fail


def test_a_network_whose_simulator_is_not_known_is_judged_by_what_needs_no_drawn_x():
    law = replace(LAW, simulator="nowhere:Toy")
    theta, x = rows(60)
    found = calibration(Net(law), theta, x, SIMULATOR.prior)
    assert {c["name"] for c in found["checks"]} == set(CHECKS[:-2])
    assert found["predictive"] is None
    assert found["misspecification"] is None
    with pytest.raises(UsageError, match="no theta, and nowhere:Toy is not known"):
        calibration(Net(law), None, x, SIMULATOR.prior)


@pytest.mark.slow
def test_x_that_no_theta_makes_is_outside_for_a_network_too(monkeypatch):
    monkeypatch.setattr("physgen.checks.calibration.run.MOST_ROWS", 500)
    _, x = rows(60)
    x[:5] += [3, -3, 3]
    found = calibration(Net(), None, x, SIMULATOR.prior, samples=3)
    p = np.array(found["misspecification"]["p_values"])
    assert (p[:5] < 5e-3).all()
    assert (p[5:] > 1e-3).sum() >= 50


@pytest.mark.slow
def test_information_is_what_the_exact_posterior_gains(right):
    """Of a Gaussian far from the bounds: log(4/σ) − ½ log 2πe; edges and rows add little."""
    expected = np.log(4 / WIDTH) - 0.5 * np.log(2 * np.pi * np.e)
    found = right["information"]
    assert found["exact"] is None
    assert found["gain"] == pytest.approx(expected, abs=0.2)
    assert found["se"] < 0.03
    wide = judged(noise=1.4)["information"]["gain"]
    assert wide < found["gain"] - 0.05


@pytest.mark.slow
def test_posteriors_that_exclude_their_theta_are_counted():
    class Cut(Net):
        """Zero beyond a width above the mean."""

        def log_density(self, theta, x, which):
            top = np.maximum(SIMULATOR.posterior(x[which])[0][:, 0] + WIDTH, -1)
            return np.where(theta[:, 0] < top, super().log_density(theta, x, which), -np.inf)

    found = calibration(Cut(), *rows(400), SIMULATOR.prior, samples=3)
    assert found["information"]["excluded"] > 2
    assert found["information"]["gain"] is None
    assert "posteriors exclude their θ" in calibration_summary(found)
    assert "fails" in calibration_summary(found)


def pairs(rng, n=1000):
    """Posteriors that are right, θ and draws in widths."""
    return Pairs(rng.standard_normal((n, 1)), rng.standard_normal((n, LC2ST_DRAWS, 1)),
                 rng.standard_normal((n, 2)))  # fmt: skip


def test_the_local_test_sees_where_posteriors_are_wrong():
    """Shifted up at half of the x and down at the others: SBC sees little of that."""
    rng = np.random.default_rng(4)
    good = pairs(rng)
    side = np.sign(good.features[:, :1])
    bad = good._replace(true=good.true + 0.5 * side)
    shown = np.argsort(good.features[:, 0])[[50, 500, 950]]
    found = lc2st(bad, good, controls_of(np.ones((len(good.true), 1, 1))), shown, 0)
    assert found["data"]["p_value"] < 1e-4
    assert found["own"]["p_value"] > 1e-3
    assert found["data"]["each"][1] > 10 * max(found["data"]["each"][[0, 2]])
    assert all(control["caught"] for control in found["controls"].values())


TWO = LinearGaussian(size=5, parameters=2, noise=0.5)


@pytest.fixture(scope="module")
def two():
    theta, x = rows(80, 3, TWO)
    return calibration(surrogate(simulator=TWO), theta, x, TWO.prior, samples=3)


@pytest.mark.slow
def test_two_parameters_are_ranked_one_by_one(two):
    assert {c["name"] for c in two["checks"]} >= {"SBC of theta1", "SBC of theta2", "TARP"}
    assert not failed(two)
    corner = two["corners"][0]
    (plane,) = corner["planes"]
    assert plane["pair"] == [0, 1]
    density = np.array(plane["density"])
    for d in (0, 1):
        other = corner["axes"][1 - d]
        marginal = np.trapezoid(density, other, axis=1 - d)
        np.testing.assert_allclose(marginal, corner["marginals"][d], atol=0.05 * marginal.max())


def test_ranks_are_those_of_the_gaussian():
    """Far from the box: Φ, the mass within |z|, and the mass nearer to a point, in closed form."""
    simulator = LinearGaussian(size=7, parameters=1, noise=0.2)
    theta, x = rows(200, 1, simulator)
    mean, cov = simulator.posterior(x)
    sd = np.sqrt(cov[0, 0])
    some = abs(mean[:, 0]) < 2 - 6 * sd
    theta, x, mean = theta[some], x[some], mean[some]
    prior = simulator.prior
    around = prior.sample(len(x), np.random.default_rng(0))
    grid = grid_posterior(of_exact(simulator.log_prob, x), prior, len(x))
    z = (theta - mean)[:, 0] / sd
    c, point = (prior.to_coordinates(t) for t in (theta, around))
    for posterior, width in ((grid, 1.0), (tempered(grid, 0.7**-2), 0.7)):
        cdf, mass, tarp = (
            rank(posterior, c, point) for rank in (rank_of_theta, credibility, mass_nearer)
        )
        np.testing.assert_allclose(cdf[:, 0], norm.cdf(z / width), atol=2e-3)
        np.testing.assert_allclose(mass, 1 - 2 * norm.sf(abs(z) / width), atol=0.02)
        r = (around - mean)[:, 0] / sd
        low, high = r - abs(r - z), r + abs(r - z)
        expected = norm.cdf(high / width) - norm.cdf(low / width)
        np.testing.assert_allclose(tarp, expected, atol=0.02)


def test_log_p_at_the_mean_is_that_of_the_law():
    _, x = rows(50)
    found = posteriors_of(target_of(surrogate()), None, x, SIMULATOR.prior, samples=1, seed=0)
    at = SIMULATOR.prior.from_coordinates(found.mean)
    np.testing.assert_allclose(found.log_p, SIMULATOR.log_prob(at, x), atol=1e-3)


def test_derivatives_and_identities_of_a_gaussian():
    rng = np.random.default_rng(0)
    theta = rng.uniform(-2, 2, (2000, 1))
    x = theta + rng.standard_normal(theta.shape)
    found = derivatives(lambda t: -0.5 * (x - t)[:, 0] ** 2, theta, np.ones(1))
    np.testing.assert_allclose(found.score, x - theta, atol=1e-9)
    np.testing.assert_allclose(found.curvature, -1, atol=1e-9)
    (table,) = identities(found, theta, Box(theta=(-2.0, 2.0)))
    assert min(table["mean_p"], table["sum_p"]) > 1e-3
    assert table["curvature"] == pytest.approx(1)


@settings(deadline=None, max_examples=25)
@given(st.sampled_from([20, 57, 200, 1000]), st.integers(0, 2**16))
def test_bands_and_tests_of_uniform_numbers(n, seed):
    u = np.random.default_rng(seed).random(n)
    found = uniformity(u)
    assert found.counts.sum() == n
    assert found.ecdf[-1] == 1
    low, high = bands(n)["ecdf"]
    assert (low <= ECDF_LEVELS + 1e-9).all()
    assert (high >= ECDF_LEVELS - 1e-9).all()
    assert found.within == bool(((low <= found.ecdf) & (found.ecdf <= high)).all())
    assert n < 200 or uniformity(u**3).p_value < 1e-3


def test_the_simultaneous_band_holds_95_percent():
    rng = np.random.default_rng(1)
    inside = np.mean([uniformity(rng.random(200)).within for _ in range(400)])
    assert inside == pytest.approx(0.95, abs=0.035)


def test_residuals_follow_a_curved_null_and_see_what_is_off():
    rng = np.random.default_rng(2)
    points = rng.random((2400, 2))
    values = 40 * points[:, 0] ** 2 - points[:, 1] + 0.1 * rng.standard_normal(2400)
    null, *others = ((points[i : i + 800], values[i : i + 800]) for i in (0, 800, 1600))
    assert alike(*(residuals(null, rows) for rows in others)).p_value > 1e-2
    assert residuals(null, (points[:5], values[:5] - 3)).max() < -4


@pytest.mark.parametrize("levels", [3, pytest.param(9, marks=pytest.mark.slow), 10**9])
def test_right_x_of_few_values_are_not_misfits(levels):
    """p-values of right x are uniform, ties or not: few are small; those of wrong x are."""
    rng, found = np.random.default_rng(levels), []
    for _ in range(60):
        at = rng.integers(0, levels, (4, 200, 1)) / levels
        values = np.sin(3 * at[..., 0]) + rng.integers(0, levels, (4, 200)) / levels
        null, *rows = [(a, [v]) for a, v in zip(at, values, strict=True)]
        rows[2] = (at[3], [values[3] - 3])
        found.append(misspecification(*(strangeness(null, r, signed=True) for r in rows)))
    p = np.array([f["p_value"] for f in found])
    assert (p < 0.05).sum() <= 9
    assert p.min() > 1e-3
    assert all(f["controls"]["shuffled"]["caught"] for f in found)


def test_log_q_that_theta_fixes_leaves_rounding_errors_from_which_nothing_follows():
    at = np.random.default_rng(3).integers(0, 9, (4, 200, 1)) / 8
    null, *rows = [(a, [1e3 * np.sin(3 * a[:, 0]) + 1e3]) for a in at]
    told = [strangeness(null, r, signed=True) for r in rows]
    found = misspecification(told[0], told[1], told[2] - 1)
    assert found["outside"] == 0
    assert found["p_value"] > 1e-2
    assert found["controls"]["shuffled"]["caught"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "trials", "off"),
    [
        (40, 1000, 0.01),
        pytest.param(40, 2000, 0.007, marks=pytest.mark.slow),
        pytest.param(400, 2000, 0.007, marks=pytest.mark.slow),
    ],
)
def test_p_values_of_identities_hold_for_skew_scores(n, trials, off):
    """s² − 1 of normal s, whose plain t test would say p < 0.01 thrice as often at n = 40."""
    rng = np.random.default_rng(n)
    s = rng.standard_normal((trials, n, 1))
    theta, prior = rng.uniform(-1, 1, (n, 1)), Box(theta=(-1.0, 1.0))
    tables = [identities(Derivatives(x, -np.ones_like(x)), theta, prior)[0] for x in s]
    for key in ("mean_p", "sum_p"):
        p = np.array([table[key] for table in tables])
        assert (p < 0.01).mean() == pytest.approx(0.01, abs=off), key
        assert p.min() > 1e-5


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A dataset and an autoregressive model of tiny lattices, hardly trained."""
    folder = tmp_path_factory.mktemp("calibrate")
    for name, n, seed in (("train", 300, 1), ("test", 60, 2)):
        physgen.simulate("ising", out=folder / f"{name}.h5", n=n, seed=seed, size=2)
    physgen.fit("autoregressive", folder / "train.h5", out=folder / "m.pt", epochs=1)
    physgen.fit("gan", folder / "train.h5", out=folder / "gan.pt", epochs=1)
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("quick", "blank")
def test_networks_from_the_command_line(files):
    """A network of two epochs: judged and drawn, and told from a file of data."""
    net, out = files / "npe.pt", files / "npe.json"
    physgen.infer(files / "train.h5", files / "test.h5", out=files / "post.h5", method="npe",
              epochs=2, rows=slice(0, 2), network=net)  # fmt: skip
    done = run("calibrate", net, files / "test.h5", "-o", out, "--samples", "3")
    assert done.exit_code == 0, done.output
    found = json.loads(out.read_text())
    assert found["network"]["family"] == "npe"
    assert found["information"]["exact"] == pytest.approx(
        Law.of("ising", {"size": 2}).build().mutual_information()
    )
    assert run("report", out, "-o", files / "npe.html").exit_code == 0
    page = (files / "npe.html").read_text()
    assert "Are the posteriors of npe right?" in page
    assert "None" not in page
    for words, piece in (
        ((net, "--draws", "3"), "draws: are of a surrogate's likelihood; this is a network"),
        ((net, "--symmetrise"), "is a network; symmetrise is an option of surrogates"),
        ((files / "train.h5",), "expected a surrogate or a network; this is a dataset"),
    ):
        done = run("calibrate", *words, files / "test.h5", "-o", files / "no.json")
        assert done.exit_code == 2
        assert piece in done.output


def run(*words):
    return CliRunner().invoke(main, [str(w) for w in words])


@pytest.mark.usefixtures("quick", "blank")
def test_the_command_line(files):
    out = files / "c.json"
    words = ("calibrate", files / "m.pt", files / "test.h5", "-o", out, "--seed", "3")
    done = run(*words, "--rows", "0:50", "--samples", "3", "--prior", "beta=0.1:0.6")
    assert done.exit_code == 0, done.output
    assert "50 rows are too few" in done.output or "rows have theta outside" in done.output
    found = json.loads(out.read_text())
    assert found["schema"] == "physgen/calibration/1"
    assert found["rows"] + found["left_out"] == 50
    assert found["prior"][0]["high"] == 0.6
    assert "--prior beta=0.1:0.6" in found["provenance"]["command"]
    assert "--force" in run(*words).output
    assert run("report", out, "-o", files / "c.html").exit_code == 0
    page = (files / "c.html").read_text()
    assert "Are the posteriors of autoregressive right?" in page
    assert "https://" not in page
    assert "None" not in page


@pytest.mark.usefixtures("quick", "blank")
@pytest.mark.slow
def test_equal_calls_make_equal_figures_whatever_is_held_at_once(files, monkeypatch):
    found = []
    for held in (20, 7):
        monkeypatch.setattr("physgen.checks.calibration.posteriors.POINTS", 705 * held)
        out = files / f"{held}.json"
        physgen.calibrate(files / "m.pt", files / "test.h5", out=out, samples=2)
        found.append(json.loads(out.read_text(), parse_float=lambda x: f"{float(x):.8g}"))
    timed = {"seconds", "cpu_seconds", "provenance", "content_sha256"}
    assert len({json.dumps({k: v for k, v in f.items() if k not in timed}) for f in found}) == 1


REFUSED = {
    "a wider prior": (["--prior", "beta=0.1:0.9"], "within 0.1:0.7"),
    "no such parameter": (["--prior", "b=0.1:0.9"], "unknown b"),
    "no samples": (["--samples", "0"], "at least 1"),
    "too few rows": (["--rows", "0:5"], "at least 20 rows"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_command_refuses(case, files):
    words, piece = REFUSED[case]
    done = run("calibrate", files / "m.pt", files / "test.h5", "-o", files / "no.json", *words)
    assert done.exit_code == 2
    assert piece in done.output
    assert not (files / "no.json").exists()


def test_a_family_without_a_likelihood_is_refused(files):
    done = run("calibrate", files / "gan.pt", files / "test.h5", "-o", files / "no.json")
    assert done.exit_code == 2
    assert "gan has no likelihood" in done.output


def test_an_interrupt_leaves_nothing(files, monkeypatch):
    def interrupted(*args, **options):
        signal.raise_signal(signal.SIGINT)
        return replicated(*args, **options)

    monkeypatch.setattr("physgen.checks.calibration.predictive.replicated", interrupted)
    done = run("calibrate", files / "m.pt", files / "test.h5", "-o", files / "no.json")
    assert done.exit_code == 130
    assert "nothing was written" in done.output
    assert not (files / "no.json").exists()


def about(found):
    law = Law.of("gaussian", vars(TWO))
    return {
        "schema": "physgen/calibration/1",
        "surrogate": {"path": "m.pt", "family": "<script>alert('x')</script>",
                      "law": law.to_json()},
        "provenance": {"command": "physgen calibrate m.pt t.h5"},
        **found,
    }  # fmt: skip


@pytest.mark.slow
def test_the_page_of_two_parameters(two, monkeypatch):
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    from physgen.reporting import sheet
    from physgen.verbs.pages import render

    metrics = about(two | {"corners": two["corners"][:1]})
    page = render(metrics)
    assert "<script>" not in page
    assert "None" not in page
    for text in ("SBC of theta1", "too few rows: no verdict", ", missed", ", caught"):
        assert text in page
    monkeypatch.setattr(sheet, "svg", lambda draw, size: b"<svg/>")
    for section in ("checks", "sbc", "coverage", "tarp", "score", "predictive", "warnings",
                    "misspecification", "corners", "bands"):  # fmt: skip
        assert "</html>" in render({**metrics, section: None}), section
    assert "</html>" in render({"schema": "physgen/calibration/1"})


@pytest.mark.usefixtures("blank")
def test_the_page_of_rows_without_theta(monkeypatch):
    monkeypatch.setattr("physgen.checks.calibration.run.MOST_ROWS", 100)
    from physgen.verbs.pages import render

    page = render(about(calibration(surrogate(), None, rows(30)[1], SIMULATOR.prior, samples=2)))
    assert "No ranks: the rows have no θ." in page
    assert "not judged" in page
