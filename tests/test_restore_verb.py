"""The verb restore: y from files, θ told or not, draws beside the exact ones."""

import h5py
import numpy as np
import pytest

import physgen
from benchmarks.restoration import exact_model
from physgen.errors import DataError, UsageError
from physgen.law import Law
from physgen.verbs.measured import Instrument, MeasuredRow
from physgen.verbs.restore import warnings_of
from physgen.verbs.theta_given_y import Proposals, as_given, by_exact_evidence, theta_scores
from simulators.field.gaussian import GaussianField

SIZE, NOISE = 8, 0.3
THETA = {"log_amplitude": 0.3, "slope": 2.0}
FIELD = GaussianField(size=SIZE)
AT = np.array(list(THETA.values()))


@pytest.fixture(scope="module")
def model():
    return exact_model(FIELD, AT)


@pytest.fixture(scope="module")
def mask():
    return np.random.default_rng(1).random((SIZE, SIZE)) < 0.5


@pytest.fixture(scope="module")
def y(mask):
    rng = np.random.default_rng(2)
    x = FIELD.sample(np.tile(AT, (2, 1)), rng)
    return x + NOISE * rng.standard_normal(x.shape)


@pytest.mark.slow
def test_draws_are_those_of_the_exact_posterior(model, y, mask):
    found = physgen.restore(
        model, y, mask=mask, noise=NOISE, theta=THETA, n=96, tune={"particles": 1}
    )
    assert found.x.shape == (2, 96, SIZE, SIZE)
    assert not found.warnings
    for score in found.scores:
        for name in ("off", "widths", "covered", "spectrum"):
            assert score[name]["passed"], (name, score[name])
        assert score["off"]["control"] > 5 * score["off"]["value"]
    assert "mean off by" in found.summary
    assert np.isnan(found.arrays["y"][:, ~mask]).all()


@pytest.mark.slow
def test_an_approximation_and_the_wrong_noise_are_told_from_the_exact(model, y, mask):
    """Control: guidance that is too narrow, and a law of another θ, do not pass."""
    narrow = physgen.restore(model, y[0], mask=mask, noise=NOISE, theta=THETA, method="dps")
    assert not narrow.scores[0]["widths"]["passed"]
    other = exact_model(FIELD, AT + np.array([1.2, 0.0]))
    wrong = physgen.restore(
        other, y[0], mask=mask, noise=NOISE, theta=THETA, tune={"particles": 1}
    )
    assert not wrong.scores[0]["widths"]["passed"]


@pytest.mark.slow
def test_draws_belong_to_seed_row_and_block(model, y, mask):
    how = {"mask": mask, "noise": NOISE, "theta": THETA, "method": "mmps"}
    both = physgen.restore(model, y, n=70, **how)
    second = physgen.restore(model, y, n=64, rows=slice(1, 2), **how)
    np.testing.assert_array_equal(second.x[0], both.x[1, :64])
    other = physgen.restore(model, y, n=70, seed=1, **how)
    assert (other.x != both.x).all()


@pytest.mark.slow
def test_theta_that_is_not_told_follows_the_exact_evidence(y, mask):
    data = physgen.simulate("gaussian-field", size=SIZE, n=1, seed=0)
    found = physgen.restore(data, y[0], mask=mask, noise=NOISE, method="exact", n=400)
    assert found.about["theta"]["from"] == "p(θ|y) of the exact evidence"
    linear = physgen.verbs.measured.Instrument().linear(data.law, mask)
    grid = [np.linspace(p.low, p.high, 41) for p in data.law.prior.parameters]
    nodes = np.stack(np.meshgrid(*grid, indexing="ij"), -1).reshape(-1, 2)
    log_p = [FIELD.restoration(t, y[0], linear, NOISE).log_evidence for t in nodes]
    weight = np.exp(np.array(log_p) - max(log_p))
    weight /= weight.sum()
    mean = weight @ nodes
    sd = np.sqrt(weight @ (nodes - mean) ** 2)
    assert (abs(found.theta[0].mean(0) - mean) < 0.2 * sd).all()
    assert (abs(found.theta[0].std(0) / sd - 1) < 0.15).all()
    assert found.scores[0]["off"]["passed"]


def another(y):
    rng = np.random.default_rng(5)
    return FIELD.sample(np.array([[-0.8, 2.0]]), rng) + NOISE * rng.standard_normal(y[:1].shape)


def test_proposals_find_the_posterior_of_theta_and_not_that_of_another_y(y, mask):
    """From noisy estimates of the evidence; the control are those of another map."""
    law, truth, found = Law.of("gaussian-field", {"size": SIZE}), [], []
    linear, rng = Instrument().linear(law, mask), np.random.default_rng(7)
    for one in (y[0], another(y)[0]):
        row = MeasuredRow(np.where(mask, one, np.nan), linear, NOISE)
        truth.append(by_exact_evidence(FIELD.restoration, row, law))
        proposals, theta = Proposals(law.prior, np.random.default_rng(0)), []
        for _ in range(3):
            theta.append(proposals.more(100))
            log_p = [as_given(FIELD.restoration, t, row).log_evidence for t in theta[-1]]
            proposals.told(np.array(log_p) + 0.3 * rng.standard_normal(100))
        found.append(proposals.posterior({"theta": np.concatenate(theta)}, 200))
        assert found[-1]["theta_ess"][0] > 75
    for i, arrays in enumerate(found):
        for j, exact in enumerate(truth):
            passed = [line["passed"] for line in theta_scores(arrays, exact, law.prior)]
            assert all(passed) == (i == j)


@pytest.mark.slow
def test_theta_by_the_particles_own_evidence_is_held_against_the_exact(y, mask):
    found = physgen.restore(
        exact_model(FIELD, None), y[0], mask=mask, noise=NOISE, n=30, theta_unknown=True,
        tune={"particles": 1},
    )  # fmt: skip
    assert found.about["theta"]["from"] == "p(θ|y) of the evidence of particles"
    assert [line["passed"] for line in found.scores[0]["theta"]] == [True, True]
    assert max(line["width_control"] for line in found.scores[0]["theta"]) > 1.3
    assert found.scores[0]["off"]["passed"]
    assert "θ given y" in physgen.report(found).html


def test_files_of_any_kind_and_back(tmp_path, mask, y):
    data = physgen.simulate("gaussian-field", size=SIZE, n=2, seed=0)
    with h5py.File(tmp_path / "mask.h5", "w") as file:
        file["mask"] = mask
    np.savez(tmp_path / "y.npz", x=y, theta=np.tile(AT, (2, 1)))
    out = tmp_path / "restored.h5"
    found = physgen.restore(
        data, tmp_path / "y.npz", mask=tmp_path / "mask.h5", noise=NOISE, method="exact", n=20,
        out=out,
    )  # fmt: skip
    assert found.about["theta"]["from"] == "file"
    again, about = physgen.load(out)
    np.testing.assert_array_equal(again.x, found.x)
    assert about["scores"] == found.scores
    assert physgen.inspect(out)["schema"] == "physgen/restoration/1"
    holes = np.where(mask, y, np.nan)
    told = physgen.restore(data, holes, noise=NOISE, method="exact", n=20, theta=THETA)
    np.testing.assert_array_equal(told.x, found.x)


def test_x_may_be_measured_here(mask):
    data = physgen.simulate("gaussian-field", size=SIZE, n=2, seed=0)
    how = {"method": "exact", "measure": True, "average": 2, "noise": 0.1, "n": 20}
    found = physgen.restore(data, data, **how)
    assert found.arrays["y"].shape == (2, SIZE // 2, SIZE // 2)
    blocks = data.x.reshape(2, SIZE // 2, 2, SIZE // 2, 2).mean((2, 4))
    assert (found.arrays["y"] - blocks).std() == pytest.approx(0.1, rel=0.4)
    np.testing.assert_array_equal(found.arrays["truth"], data.x)


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"mask": np.ones((4, 4))}, DataError, "mask|x: expected"),
        ({"mask": np.full((SIZE, SIZE), 2)}, DataError, "1 where y is seen"),
        ({"mask": np.zeros((SIZE, SIZE))}, UsageError, "row 0: nothing is seen"),
        ({"noise": -1.0}, UsageError, "noise: expected"),
        ({"average": 3}, UsageError, "average: expected a divisor"),
        ({"method": "magic"}, UsageError, "no method 'magic'"),
        ({"theta": {"slope": 2.0}}, UsageError, "expected values of log_amplitude, slope"),
        ({"theta": {"log_amplitude": 99.0, "slope": 2.0}}, DataError, "outside"),
        ({"theta_unknown": True}, UsageError, "leave out one"),
        ({"tune": {"magic": 1.0}}, UsageError, "no option 'magic'"),
        ({"tune": {"particles": np.nan}}, UsageError, "particles: expected a whole number"),
        ({"tune": {"particles": 2.5}}, UsageError, "particles: expected a whole number"),
        ({"n": 1}, UsageError, "n: expected at least 2"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(model, y, given, error, says):
    with pytest.raises(error, match=says):
        physgen.restore(model, y, **{"noise": NOISE, "theta": THETA, **given})


def test_infinite_y_are_refused_with_what_is_meant(model, y):
    y = y.copy()
    y[1, 0, 0] = np.inf
    with pytest.raises(DataError, match="row 1: y is infinite; what is not seen is NaN, or 0 in"):
        physgen.restore(model, y, noise=NOISE, theta=THETA, n=2)


def test_spins_without_noise_must_be_spins():
    data = physgen.simulate("ising", size=4, n=1, seed=0)
    with pytest.raises(DataError, match="without noise y are spins"):
        physgen.restore(data, np.zeros((4, 4)), method="exact", theta={"beta": 0.3})


@pytest.mark.slow
def test_the_page_tells_exact_draws_from_wrong_ones(model, y, mask):
    how = {"mask": mask, "noise": NOISE, "theta": THETA, "n": 60}
    data = physgen.simulate("gaussian-field", size=SIZE, n=2, seed=0)
    exact = physgen.report(physgen.restore(data, y, method="exact", **how)).html
    assert "Nothing tells these draws from exact ones" in exact
    wrong = physgen.report(physgen.restore(model, y[0], method="dps", **how)).html
    assert "These draws differ from the exact ones" in wrong
    assert "exact widths, as it must." in wrong


@pytest.mark.usefixtures("blank")
def test_where_nothing_exact_is_known_the_page_says_so(y):
    data = physgen.simulate("gaussian-field", size=SIZE, n=2, seed=0)
    found = physgen.restore(data, y, method="exact", noise=NOISE, theta=THETA, n=20)
    about = {**found.about, "scores": [], "absent": "no one knows"}
    arrays = {k: v for k, v in found.arrays.items() if not k.startswith("exact")}
    page = physgen.report(physgen.RestoredRows(arrays, about)).html
    assert "How right 20 draws of 2 rows are is not known: no one knows." in page


def test_chains_of_which_r_hat_is_not_known_are_told_beside_those_that_have_not_met():
    r_hat = np.array([[1.0, np.nan], [2.0, 1.0]])
    told = list(warnings_of({"r_hat": r_hat}, [], "clamped", 2))
    assert len(told) == 2
    assert "not known" in told[0]
    assert "R̂ is 2" in told[1]
    assert not list(warnings_of({"r_hat": np.ones((2, 2))}, [], "clamped", 2))
