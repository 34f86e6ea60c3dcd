"""Figures of many lattices at one temperature: exact by enumeration, estimated, on a page."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

import physgen
from physgen.checks.responses import binned, crossing_of, least_shift, response_curves
from physgen.errors import UsageError
from physgen.reporting.responses import response_figure
from physgen.verbs.responses import datasets_of, exact_crossing, responses_of
from simulators.base import responses
from simulators.ising import Ising
from simulators.ising.exact import thermal
from simulators.ising.responses import infinite_magnetisation, infinite_specific_heat, quantities

BETA = np.array([[0.15], [0.35], [0.44], [0.65]])


@pytest.fixture(scope="module")
def enumerated():
    """All 65,536 lattices of 4 × 4: their quantities, and p(x|β) at each β."""
    bits = np.arange(1 << 16)[:, None] >> np.arange(16) & 1
    values = quantities((2 * bits - 1).reshape(-1, 4, 4))
    weight = np.exp(-16 * BETA * values[:, 0])
    return values, weight / weight.sum(1, keepdims=True)


def by_hand(values, p):
    """|m|, χ, C and U at each β, from what each lattice has."""
    e, e2, m, m2, m4 = (p @ values).T
    beta = BETA[:, 0]
    return {"magnetisation": m, "susceptibility": 16 * beta * (m2 - m**2),
            "specific_heat": 16 * beta**2 * (e2 - e**2),
            "binder": 1 - m4 / (3 * m2**2)}  # fmt: skip


def test_exact_figures_and_covariances_are_those_of_enumeration(enumerated):
    values, p = enumerated
    declared = responses(Ising(size=4))
    means, covariance = declared.moments(BETA)
    np.testing.assert_allclose(means, p @ values, rtol=1e-10)
    for at, exact, mean in zip(p, covariance, means, strict=True):
        off = values - mean
        np.testing.assert_allclose(exact, off.T @ (at[:, None] * off), atol=1e-12)
    for name, figure in by_hand(values, p).items():
        found = declared.figures[name].function(BETA, means)
        np.testing.assert_allclose(found, figure, rtol=1e-8)
        wrong = declared.figures[name].function(1.05 * BETA, declared.moments(1.05 * BETA)[0])
        assert abs(wrong / figure - 1).max() > 0.01  # the control: another temperature


@pytest.mark.parametrize("size", [pytest.param(8, marks=pytest.mark.slow), 12, 40])
def test_the_specific_heat_is_kaufmans_at_any_size(size):
    declared = responses(Ising(size=size))
    found = declared.figures["specific_heat"].function(BETA, declared.moments(BETA)[0])
    kaufman = BETA[:, 0] ** 2 * thermal((size, size), BETA[:, 0]).variance / size**2
    np.testing.assert_allclose(found, kaufman, rtol=1e-7)
    known = np.isfinite(declared.moments(BETA)[0]).all()
    assert known == (size == 8)  # the magnetisation is known where states are counted


def test_temperatures_mean_the_same_and_other_parameters_have_no_such_figures():
    beta, temperature = responses(Ising(size=4)), responses(Ising(size=4, theta="temperature"))
    for one, other in zip(beta.moments(BETA), temperature.moments(1 / BETA), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)
    np.testing.assert_allclose(temperature.coordinate(1 / BETA), beta.coordinate(BETA))
    assert responses(Ising(size=4, theta="beta-h")) is None


def test_the_infinite_lattice_is_that_of_large_ones_away_from_its_critical_point():
    beta = np.array([0.3, 0.38, 0.5, 0.6])
    large = beta**2 * thermal((96, 96), beta).variance / 96**2
    np.testing.assert_allclose(infinite_specific_heat(beta), large, rtol=1e-6)
    assert infinite_magnetisation(np.array([0.5]))[0] == pytest.approx(0.911319, abs=1e-6)
    assert infinite_magnetisation(np.array([0.44]))[0] == 0
    cold, declared = np.array([[1.0]]), responses(Ising(size=4))
    finite = declared.moments(cold)[0][:, 2]
    np.testing.assert_allclose(finite, infinite_magnetisation(cold[:, 0]), rtol=1e-5)


@pytest.fixture(scope="module")
def drawn():
    """8,000 perfect lattices of 4 × 4 at β of the prior, and their quantities."""
    ising = Ising(size=4)
    theta = ising.prior.sample(8000, np.random.default_rng(1))
    return theta, quantities(ising.sample(theta, np.random.default_rng(2))), responses(ising)


def p_values(theta, values, declared):
    found = response_curves(theta, values, declared)
    return np.array([a["p_value"] for a in found["agreement"].values()])


def test_draws_agree_with_the_exact_figures_and_those_at_a_wrong_temperature_do_not(drawn):
    theta, values, declared = drawn
    assert p_values(theta, values, declared).min() > 1e-3
    assert p_values(theta / 1.1, values, declared).min() < 1e-6
    found = response_curves(theta, values, declared)
    least = least_shift(found, declared)
    assert 0.01 < least < 0.1
    few = response_curves(theta[:500], values[:500], declared)
    assert (least_shift(few, declared) or 1) > 1.5 * least


@pytest.mark.slow
def test_true_rows_in_which_something_rare_was_seen_are_not_told_from_the_exact_figures():
    """Of these the susceptibility in the cold is 5 exact errors off, by one lattice in a bin."""
    data = physgen.simulate("ising", size=8, n=8000, seed=2)
    found = responses_of([data])["sizes"][0]
    figure = found["figures"]["susceptibility"]
    pulls = (figure["value"] - figure["exact"]) / figure["error"]
    assert np.nanmax(np.abs(pulls)) > 4
    assert min(a["p_value"] for a in found["agreement"].values()) > 1e-3


def test_errors_are_those_of_repeated_draws(drawn):
    """Bars of many rows at equal θ beside the spread of figures over sets of them.

    Where excitations are rare residuals tell too small an error, and the exact one is right.
    """
    ising, declared = Ising(size=4), drawn[2]
    theta = np.tile(BETA[1:], (50 * 80, 1))
    values = quantities(ising.sample(theta, np.random.default_rng(3)))
    sets = [slice(i * 240, (i + 1) * 240) for i in range(50)]
    found = [response_curves(theta[s], values[s], declared)["figures"] for s in sets]
    for name in declared.figures:
        value, se = (np.array([f[name][key] for f in found]) for key in ("value", "se"))
        error = found[0][name]["error"]
        np.testing.assert_allclose(value.std(0) / error, 1, atol=0.45)
        np.testing.assert_allclose((se.mean(0) / error)[:2], 1, atol=0.3)
        assert (abs(value.mean(0) - found[0][name]["exact"]) < error).all()


def test_what_theta_does_within_a_bin_is_no_fluctuation():
    """A quantity that θ alone decides has no variance left, unlike in plain bins."""
    theta = np.linspace(0.1, 0.7, 2000)[:, None]
    values = np.concatenate([theta, theta**2], axis=1)
    found = binned(theta, values)
    rest = found.means[:, 1] - found.means[:, 0] ** 2
    np.testing.assert_allclose(rest, 0, atol=1e-12)
    rows = values[:100]
    assert rows[:, 1].mean() - rows[:, 0].mean() ** 2 > 1e-5


@pytest.mark.slow
def test_curves_cross_where_the_exact_ones_do_and_parallel_ones_nowhere():
    theta = np.linspace(0.25, 0.6, 60)[:, None]
    declared = [responses(Ising(size=size)) for size in (4, 8)]
    curves = [
        {"size": r.size, "at": r.coordinate(theta),
         "figures": {"U": r.figures["binder"].function(theta, r.moments(theta)[0])}}
        for r in declared
    ]  # fmt: skip
    exact = exact_crossing(curves, "U", (4, 8))
    at, (one, other) = curves[0]["at"], (c["figures"]["U"] for c in curves)
    assert exact == pytest.approx(2.236, abs=2e-3)
    se = np.full(len(at), 1e-3)
    crossing, error = crossing_of((at, at), (one, se), (other, se))
    assert crossing == pytest.approx(exact, abs=0.05)
    assert 0 < error < 0.05
    assert crossing_of((at, at), (one, se), (one + 0.1, se)) is None


@pytest.mark.slow
def test_a_page_of_several_sizes_has_their_figures_scaling_and_crossings(tmp_path):
    data = [physgen.simulate("ising", size=s, n=3000, seed=s) for s in (2, 4)]
    model = Path(__file__).parents[1] / "data" / "v0.1" / "cvae.pt"
    fake = physgen.sample(model, n=2000, seed=1)
    found = responses_of([*data, fake])
    assert [(one["size"], one["kind"]) for one in found["sizes"]][:2] == [(2, "true"), (4, "true")]
    page = physgen.report([*data, fake], out=tmp_path / "physics.html").html
    for text in ("Finite-size scaling", "specific heat", "Binder&#39;s cumulant"):
        assert text in page
    assert page.count("<img") == 7
    assert re.search(r'class="conclusion (bad|good|unknown)"', page)
    alone = physgen.report(data[1]).html
    assert "Finite-size scaling" not in alone
    assert alone.count("<img") == 4


def test_rows_at_one_temperature_have_axes_about_their_point():
    data = physgen.simulate("ising", size=2, n=60, seed=1)
    ax = Figure().subplots()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib's, of axes without a width
        response_figure(ax, responses_of([data]), "binder")
    low, high = ax.get_xlim()
    assert 0 < high - low < low


def test_what_has_no_such_figures_is_refused_in_a_line(tmp_path):
    data = physgen.simulate("gaussian", size=3, n=50, seed=1, out=tmp_path / "g.h5")
    ising = physgen.simulate("ising", size=2, n=50, seed=1)
    with pytest.raises(UsageError, match=r"g\.h5: is one of several datasets, .* declares none"):
        physgen.report([ising, data])
    hot = physgen.simulate("ising", size=2, theta="temperature", n=50, seed=1)
    with pytest.raises(UsageError, match="give each a page of its own"):
        physgen.report([ising, hot])
    with pytest.raises(UsageError, match=r"g\.h5: is a dataset, and stands beside other datasets"):
        physgen.report([{"schema": "physgen/metrics/1"}, tmp_path / "g.h5"])


@pytest.mark.usefixtures("blank")
def test_a_dataset_without_such_figures_is_shown_as_it_is():
    data = [physgen.simulate("gaussian", n=n, seed=1) for n in (40, 30)]
    found = datasets_of(data[:1])
    assert (found["schema"], found["rows"]) == ("physgen/data/1", 40)
    ends = [(p["least"], p["largest"]) for p in found["parameters"]]
    assert ends == list(zip(data[0].theta.min(0), data[0].theta.max(0), strict=True))
    page = physgen.report(data[0])
    assert page.html.count("<img") == len(ends) + 1  # x by each parameter, and θ
    with pytest.raises(UsageError, match="give each a page of its own"):
        datasets_of(data)
    ising = physgen.simulate("ising", size=2, n=40, seed=1)  # the control
    assert datasets_of([ising])["schema"] == "physgen/responses/1"
