"""Corners of many parameters, bands of what a posterior predicts, parameters of interest."""

import re
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

import physgen
from physgen.checks.posterior_predictive import posterior_predictive
from physgen.dataset import write_arrays
from physgen.errors import DataError, UsageError
from physgen.law import Law
from physgen.posterior.density import GridPosterior
from physgen.reporting import corner, style
from physgen.reporting.corner import corner_of, level_of
from physgen.reporting.data import observation_drawing
from physgen.reporting.kernels import kernel_density, narrowing
from physgen.reporting.posterior import posteriors_sheet
from physgen.reporting.quantities import number
from physgen.verbs.predicted import with_data
from physgen.verbs.report import reported
from physgen.verbs.side_by_side import overlaid_posteriors
from simulators.base import Observable
from simulators.gaussian import LinearGaussian
from simulators.prior import Box, Prior

NONE = np.zeros((2, 1), dtype=bool)


def images(draws, axes, bounds):
    """Gaussian kernels at all nodes, one by one, with what is beyond a bound reflected."""
    kernels = stats.gaussian_kde(draws.T)
    nodes = np.stack(np.meshgrid(*axes.T, indexing="ij"))
    ways = [[nodes[d], *(2 * axes[e, d] - nodes[d] for e in (0, -1) if bounds[e, d])]
            for d in range(len(nodes))]  # fmt: skip
    found = 0
    for one in ways[0]:
        for other in ways[1] if len(ways) > 1 else [None]:
            at = np.stack([v.ravel() for v in (one, other) if v is not None])
            found = found + kernels(at).reshape(nodes.shape[1:])
    return found


@pytest.mark.parametrize("dims", [1, 2])
def test_densities_are_those_of_kernels_summed_one_by_one(dims):
    rng = np.random.default_rng(0)
    draws = np.column_stack([rng.exponential(0.3, 2000), rng.normal(1, 0.3, 2000)])
    draws[:, 1] += 0.5 * draws[:, 0]
    axes = np.linspace([0, -1], [2.5, 3.5], 99)
    bounds = np.array([[True, False], [False, False]])
    draws, axes, bounds = draws[:, :dims], axes[:, :dims], bounds[:, :dims]
    found, exact = kernel_density(draws, axes, bounds), images(draws, axes, bounds)
    np.testing.assert_allclose(found, exact, atol=0.015 * exact.max())
    bare = kernel_density(draws, axes, np.zeros_like(bounds))  # the control
    assert abs(bare - exact).max() > 0.1 * exact.max()


def test_kernels_are_narrow_where_modes_are():
    """Of two narrow modes: near the exact density, which Scott's rule is not."""
    rng = np.random.default_rng(7)
    draws = rng.choice([-1, 1], 4000) + rng.normal(0, 0.1, 4000)
    x = np.linspace(-1.5, 1.5, 301)
    exact = (stats.norm(-1, 0.1).pdf(x) + stats.norm(1, 0.1).pdf(x)) / 2
    found, control = (
        kernel_density(draws[:, None], x[:, None], NONE, narrow=narrow)
        for narrow in (narrowing(draws), 1.0)
    )
    np.testing.assert_allclose(found, exact, atol=0.12 * exact.max())
    assert control.max() < 0.6 * exact.max()
    assert 0.6 < narrowing(rng.normal(size=4000)) <= 1
    for seed in range(50):  # whatever the draws, there is a width
        few = np.random.default_rng(seed)
        for some in (few.uniform(-1, 1, 50), few.standard_cauchy(60), few.integers(0, 60, 900)):
            assert 0.2 <= narrowing(np.asarray(some, float)) <= 1
    assert narrowing(np.ones(100)) == narrowing(np.arange(3.0)) == 1


def test_bounds_reflect_at_both_ends_of_both_axes():
    draws = np.random.default_rng(1).random((20_000, 2))
    axes = np.linspace([0, 0], [1, 1], 51)
    flat = kernel_density(draws, axes, np.ones((2, 2), dtype=bool))
    np.testing.assert_allclose(flat, 1, atol=0.12)


def test_densities_are_of_theta_whatever_its_prior():
    """Of normal and log-uniform laws, without reflection at what is no bound; in log θ if wide."""
    rng = np.random.default_rng(2)
    prior = Prior(h=stats.norm(0, 0.1), t=stats.loguniform(1e-4, 1e4), b=stats.expon(0, 2))
    theta = np.column_stack([
        rng.normal(0.05, 0.02, 20_000), np.exp(rng.normal(1, 0.8, 20_000)),
        rng.gamma(9, 0.2, 20_000),
    ])  # fmt: skip
    found = corner_of(theta, prior)
    assert found["log"] == [1]
    h, t, b = found["axes"]
    exact = [
        stats.norm(0.05, 0.02).pdf(h),
        stats.norm(1, 0.8).pdf(np.log(t)),
        stats.gamma(9, scale=0.2).pdf(b),
    ]
    for density, want in zip(found["marginals"], exact, strict=True):
        np.testing.assert_allclose(density, want, atol=0.06 * want.max())


def test_regions_hold_their_mass_on_any_scale():
    rng = np.random.default_rng(3)
    prior = Prior(t=stats.loguniform(1e-4, 1e4), s=stats.expon(0, 2))
    theta = np.column_stack([np.exp(rng.normal(0, 1, 20_000)), rng.gamma(3, 0.5, 20_000)])
    found = corner_of(theta, prior)
    (t, s), density = found["axes"], found["planes"][0]["density"]
    area = np.outer(np.gradient(np.log(t)), np.gradient(s))
    level = level_of(density, area, 0.68)
    i, j = (np.searchsorted(x, v).clip(0, 49) for x, v in zip((t, s), theta.T, strict=True))
    assert (density[i, j] > level).mean() == pytest.approx(0.68, abs=0.03)


def gaussian_on_a_grid(prior, mean, covariance):
    """A normal law of the prior's coordinates c, as its log density at nodes."""
    reach = 6 * np.sqrt(np.diag(covariance))
    nodes = list(np.linspace(mean - reach, mean + reach, 31).T)
    mesh = np.stack(np.meshgrid(*nodes, indexing="ij"), -1)
    values = stats.multivariate_normal(mean, covariance).logpdf(mesh)
    one = np.zeros(1)
    return GridPosterior(prior, tuple(n[None] for n in nodes), values[None], one, one, one == 0)


def test_a_corner_of_a_grid_is_the_density_itself():
    """Of a normal law of three coordinates, of which one is log θ and one is not shown."""
    prior = Prior(a=(-9, 9), t=stats.loguniform(1e-4, 1e4), h=stats.norm(0, 1))
    mean, covariance = np.array([0.1, -0.05, 0.3]), np.diag([0.04, 0.06, 0.3]) ** 2
    covariance[0, 1] = covariance[1, 0] = 0.6 * 0.04 * 0.06
    grid = gaussian_on_a_grid(prior, mean, covariance)
    draws = grid.sample(1000, np.random.default_rng(0))[0]
    found = corner_of(draws, prior, pick=[1, 0], known=grid)
    t, a = found["axes"]
    scale = np.log(1e4)  # c = log t / log 1e4, a / 9
    exact = [stats.norm(-0.05 * scale, 0.06 * scale).pdf(np.log(t)), stats.norm(0.9, 0.36).pdf(a)]
    for density, want in zip(found["marginals"], exact, strict=True):
        np.testing.assert_allclose(density, want, atol=2e-3 * want.max())
    law = stats.multivariate_normal(
        [-0.05 * scale, 0.9], [[(0.06 * scale) ** 2, 0.6 * 0.06 * scale * 0.36],
                               [0.6 * 0.06 * scale * 0.36, 0.36**2]])  # fmt: skip
    want = law.pdf(np.stack(np.meshgrid(np.log(t), a, indexing="ij"), -1))
    plane = found["planes"][0]["density"]
    np.testing.assert_allclose(plane, want, atol=2e-3 * want.max())
    kernels = corner_of(draws, prior, pick=[0])  # the control
    off = abs(kernels["marginals"][0] - stats.norm(0.9, 0.36).pdf(kernels["axes"][0]))
    assert off.max() > 0.02 * exact[1].max()


@pytest.mark.parametrize("mass", [0.68, 0.95])
def test_levels_of_a_normal_law_are_those_in_closed_form(mass):
    """exp(−z²/2) of its peak in one dimension, 1 − mass of it in two."""
    x = np.linspace(-5, 5, 201)
    one, step = stats.norm.pdf(x), np.gradient(x)
    exact = np.exp(-0.5 * stats.norm.ppf(0.5 + mass / 2) ** 2)
    assert level_of(one, step, mass) / one.max() == pytest.approx(exact, rel=0.05)
    two, area = np.outer(one, one), np.outer(step, step)
    assert level_of(two, area, mass) / two.max() == pytest.approx(1 - mass, rel=0.01)
    assert level_of(two, area, mass - 0.03) / two.max() > 1.05 * (1 - mass)  # the control


def test_pictures_are_made_of_some_of_very_many_draws(monkeypatch):
    seen = []
    kernels = corner.kernel_density
    monkeypatch.setattr(
        corner, "kernel_density", lambda c, *more: seen.append(len(c)) or kernels(c, *more)
    )
    theta = np.random.default_rng(0).random((10**6, 2))
    corner_of(theta, Box(a=(0, 1), b=(0, 1)))
    assert seen == [20_000] * 3


def test_corners_of_ten_parameters_have_readable_numbers():
    rng, laws = np.random.default_rng(4), {}
    for d in range(0, 10, 2):
        laws |= {f"a{d}": (1, 1.001, "1/J", r"\beta"), f"b{d}": (stats.norm(0, 1e-20), "eV")}
    prior = Prior(**laws)
    data = corner_of(prior.sample(500, rng), prior)
    symbols = [style.axis_label(p.latex, p.unit, p.name) for p in prior.parameters]
    figure = style.figure_of(lambda f: corner.corner(f, [data], symbols), corner.FULL)
    assert len(figure.axes) == 55
    below = [ax for ax in figure.axes if ax.get_xlabel()]
    assert [ax.get_xlabel() for ax in below[:2]] == [
        "$\\beta$ [1/J]\n(1e\N{MINUS SIGN}4+1)", "b0 [eV]\n(1e\N{MINUS SIGN}20)",
    ]  # fmt: skip
    assert len(below) == 10
    figure.draw_without_rendering()
    for ax in below:
        told = [t.get_text() for t in ax.get_xticklabels()]
        assert max(map(len, told)) <= 5
        assert len(told) <= 4


def test_of_long_names_a_crowded_corner_has_numbers_and_a_key(monkeypatch):
    prior = Prior(**{f"factor_of_detector_{d}": (0, 1, "GeV") for d in range(5)})
    data = corner_of(prior.sample(100, np.random.default_rng(4)), prior)
    symbols = [style.axis_label(p.latex, p.unit, p.name) for p in prior.parameters]

    def overlaps():
        figure = style.figure_of(lambda f: corner.corner(f, [data], symbols), corner.FULL)
        figure.draw_without_rendering()
        labels = [axis.label for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)]
        texts = [t for t in (*labels, *(ax.title for ax in figure.axes)) if t.get_text()]
        boxes = [t.get_window_extent() for t in (*texts, *figure.texts)]
        return figure, sum(a.overlaps(b) for a, b in combinations(boxes, 2))

    figure, touching = overlaps()
    assert touching == 0
    assert "(5) factor_of_detector_4 [GeV]" in figure.texts[0].get_text()
    monkeypatch.setattr(corner, "_numbered", lambda figure, symbols, top: symbols)
    assert overlaps()[1] > 0  # the control


def test_predicted_bands_are_those_of_the_predictive_law():
    """x = θ + ε over a normal posterior: quantiles in closed form, and how much they hold."""
    rng, sd = np.random.default_rng(5), np.linspace(1, 2, 6)
    x, observed = (rng.normal(0, sd, (n, 6)) for n in (20_000, 2000))
    mean = {"mean": Observable(lambda x: x.mean(1), title="mean")}
    physics = type("Physics", (), {"observables": mean})()
    found = posterior_predictive(x, observed, physics)
    band = found["bands"]["x"]
    exact = stats.norm(0, sd).ppf(np.array(band["levels"])[:, None])
    np.testing.assert_allclose(band["quantiles"], exact, atol=0.06)
    assert band["inside"] == {
        "0.5": pytest.approx(0.5, abs=0.02),
        "0.9": pytest.approx(0.9, abs=0.02),
    }
    assert found["numbers"]["mean"]["rank"] == pytest.approx(0.5, abs=0.02)
    shifted = posterior_predictive(x, observed + 3 * sd, physics)  # the control
    assert shifted["bands"]["x"]["inside"]["0.9"] < 0.3
    assert shifted["numbers"]["mean"]["rank"] > 0.95
    assert "inside" not in posterior_predictive(x, None, physics)["bands"]["x"]


def test_lattices_and_short_vectors_have_numbers_instead_of_bands():
    rng = np.random.default_rng(6)
    spins = rng.choice([-1, 1], (200, 4, 4)).astype(np.int8)
    found = posterior_predictive(spins, spins[:1], None)
    assert set(found["numbers"]) == {"mean", "norm"}
    assert not found["bands"]
    short = posterior_predictive(rng.normal(size=(200, 2)), np.zeros((1, 2)), None)
    assert {"x1", "x2"} <= set(short["numbers"])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A surrogate, observations, their posterior, and x that it predicts for one of them."""
    folder = tmp_path_factory.mktemp("made")
    files = {k: folder / name for k, name in {
        "surrogate": "s.pt", "observed": "o.h5", "posterior": "p.h5", "predictive": "x.h5",
    }.items()}  # fmt: skip
    data = physgen.simulate("gaussian", n=300, parameters=3)
    physgen.fit("cvae", data, epochs=1, out=files["surrogate"])
    physgen.simulate("gaussian", n=5, parameters=3, seed=1, out=files["observed"])
    physgen.infer(files["surrogate"], files["observed"], out=files["posterior"],
                  rows=slice(1, 3), samples=200, interest="theta3,theta1")  # fmt: skip
    physgen.sample(files["surrogate"], theta_from=files["posterior"], row=2,
                   out=files["predictive"])  # fmt: skip
    return files


@pytest.mark.usefixtures("blank")
def test_one_page_shows_a_corner_and_what_it_predicts(made):
    page = physgen.report(made["posterior"], predictive=made["predictive"]).html
    text = " ".join(re.sub("<[^>]+>", " ", page).split())
    assert "x drawn by cvae at 200 draws of the posterior of row 2" in text
    assert "of what was observed lies in the band of" in text
    assert "Posterior of theta3, theta1" in text
    assert "integrated over: theta2" in text
    assert "profile of the likelihood" in text
    assert text.count("Posterior of one observation (") == 0  # alt texts are attributes
    assert page.count('alt="Posterior of one observation') == 1
    plain = physgen.report(made["posterior"]).html
    assert "What it predicts" not in plain
    assert "Densities on the grid itself" in plain
    assert plain.count('alt="Posterior of one observation') == 2
    assert (
        "integrated over"
        not in physgen.report(made["posterior"], interest="theta1,theta2,theta3").html
    )


@pytest.mark.usefixtures("blank")
def test_memory_and_files_show_the_same_prediction(made):
    posterior = physgen.infer(made["surrogate"], made["observed"], samples=50, rows=slice(0, 1))
    drawn = physgen.sample(made["surrogate"], theta_from=posterior)
    page = physgen.report(posterior, predictive=drawn)
    assert "x drawn by cvae at 50 draws of the posterior of row 0" in " ".join(page.html.split())


@pytest.mark.usefixtures("blank")
@pytest.mark.slow
def test_rows_taken_for_one_observation_are_shown_together(made, tmp_path):
    path, drawn = tmp_path / "iid.h5", tmp_path / "x.h5"
    physgen.infer(made["surrogate"], made["observed"], out=path, rows=slice(1, 4), iid=True,
                  samples=50)  # fmt: skip
    physgen.sample(made["surrogate"], theta_from=path, out=drawn)
    page = physgen.report(path, predictive=drawn).html
    assert ", …</td>" in page  # three numbers were observed


def test_what_belongs_to_another_posterior_is_refused(made, tmp_path):
    mixed = physgen.sample(made["surrogate"], theta_from=made["posterior"])
    with pytest.raises(UsageError, match="of several observations, mixed"):
        physgen.report(made["posterior"], predictive=mixed)
    other = physgen.infer(made["surrogate"], made["observed"], samples=50, seed=9)
    with pytest.raises(UsageError, match=r"expected x at draws of .*p\.h5"):
        physgen.report(
            made["posterior"], predictive=physgen.sample(made["surrogate"], theta_from=other)
        )
    wide = physgen.simulate("gaussian", parameters=3, theta_from=made["posterior"], row=1,
                            widen=2.0, n=5)  # fmt: skip
    for data in (wide, physgen.simulate("gaussian", parameters=3, n=5)):
        with pytest.raises(UsageError, match="physgen sample --theta-from"):
            physgen.report(made["posterior"], predictive=data)
    with pytest.raises(DataError, match="is not what the posterior was inferred from"):
        physgen.report(
            made["posterior"], predictive=made["predictive"], observed=made["predictive"]
        )


def test_predictions_of_another_shape_are_refused(tmp_path):
    data = physgen.simulate("ising", size=4, n=60)
    observed = data.save(tmp_path / "o.h5")
    posterior = physgen.infer(physgen.fit("autoregressive", data, epochs=1), observed,
                              rows=slice(0, 1), samples=20)  # fmt: skip
    other = physgen.simulate("ising", size=6, n=5, theta_from=posterior)
    with pytest.raises(UsageError, match=r"expected x of shape \(4, 4\), as was observed"):
        physgen.report(posterior, predictive=other)


@pytest.mark.usefixtures("blank")
def test_a_page_without_what_was_observed_says_why(made, tmp_path):
    data = physgen.read(made["observed"])
    surrogate = physgen.load(made["surrogate"])[0]
    posterior = physgen.infer(surrogate, data, samples=50, rows=slice(0, 1))
    drawn = physgen.sample(surrogate, theta_from=posterior)
    page = " ".join(physgen.report(posterior, predictive=drawn).html.split())
    assert "what was observed is not shown: the posterior does not know its file" in page
    page = physgen.report(posterior, predictive=drawn, observed=data).html
    assert "is not shown" not in page


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"interest": "beta"}, "interest: expected some of theta1, theta2, theta3, got 'beta'"),
        ({"interest": "theta1,theta1"}, "interest: expected some of"),
        ({"simulator": "a:B"}, "simulator: is an option of --predictive"),
        ({"predictive": "simulator", "simulator": "a:B"}, "simulator: expected gaussian, got a:B"),
    ],
)
def test_options_of_no_effect_are_refused(made, given, message):
    with pytest.raises(UsageError, match=message):
        physgen.report(made["posterior"], **given)


def test_interest_is_asked_before_work_begins(made):
    with pytest.raises(UsageError, match="interest: expected some of"):
        physgen.infer(made["surrogate"], made["observed"], interest="x")


def test_the_summary_and_the_curves_are_of_what_is_of_interest(made):
    arrays, about = physgen.read_arrays(made["posterior"], "posterior")
    assert about["interest"] == ["theta3", "theta1"]
    assert arrays["profile"].shape == arrays["slice"].shape == arrays["along"].shape == (2, 2, 41)
    np.testing.assert_allclose(arrays["profile"].max(-1), 0, atol=1e-9)
    assert (arrays["along"][:, 0].min(-1) < arrays["theta"][..., 2].mean(-1)).all()
    few = physgen.infer(
        made["surrogate"], made["observed"], samples=50, rows=slice(0, 1), interest="theta2"
    )
    assert "theta2 =" in few.summary
    assert "theta1 =" not in few.summary


@pytest.mark.usefixtures("blank")
def test_a_surrogate_or_the_simulator_predicts_all_rows(made):
    """Each row at its own θ, where the median of x is its mean."""
    for by, name in ((made["surrogate"], "cvae"), ("simulator", "gaussian")):
        page = " ".join(physgen.report(made["posterior"], predictive=by).html.split())
        assert f"x drawn by {name} at 200 draws of the posterior of row 1" in page
        assert re.findall(r"<tr><td>(\d)</td><td>norm", page) == ["1", "2"]
    known, at = reported(made["posterior"]), np.array([[0.5, -1, 1], [-1, 0.5, 0]])
    known = {**known, "arrays": known["arrays"] | {"theta": np.tile(at[:, None], (1, 300, 1))}}
    found = with_data(known, made["posterior"], None, "simulator", None)
    simulator, x = LinearGaussian(parameters=3), physgen.read(made["observed"]).x
    np.testing.assert_array_equal(found["seen"], x[1:3])
    exact = simulator.mean(at)
    medians = [np.array(p["bands"]["x"]["quantiles"])[2] for p in found["predictions"]]
    np.testing.assert_allclose(medians, exact, atol=0.35 * simulator.noise)
    assert abs(medians[0] - exact[1]).max() > simulator.noise  # the control


def test_what_was_observed_is_drawn_beside_its_posterior(made, tmp_path):
    spins = np.random.default_rng(0).choice([-1, 1], (2, 6, 6))
    law = {"support": "spins", "symmetries": ["shift"], "x_shape": [6, 6]}
    told = {"examples": -spins[:1]}
    figure = observation_drawing(spins[:1], law, told, (4, 3), "row 3").figure()
    images = [ax.images[0].get_array() for ax in figure.axes if ax.images]
    np.testing.assert_array_equal(images, [spins[0], -spins[0]])
    assert [ax.get_title() for ax in figure.axes] == ["row 3", "predicted"]
    curve, band = np.arange(30.0), {"quantiles": [np.arange(30.0) + k for k in range(5)]}
    told = {"bands": {"x": {"quantiles": np.array(band["quantiles"]).tolist()}}}
    drawn = [
        observation_drawing(curve[None], {}, prediction, (4, 3), "row 3").figure().axes[0]
        for prediction in (None, told)
    ]
    assert [len(ax.collections) for ax in drawn] == [0, 2]
    for ax in drawn:
        assert any(np.array_equal(line.get_ydata(), curve) for line in ax.lines)
    assert observation_drawing(curve[None, :4], {}, None, (4, 3), "") is None


@pytest.mark.usefixtures("blank")
def test_a_page_says_what_was_observed_or_why_not(made, tmp_path):
    x = physgen.read(made["observed"]).x
    short, table = physgen.report(made["posterior"]).html, number(float(x[1, 0]), 4)
    assert f"<td>1</td><td>{table}</td>" in short
    moved = tmp_path / "p.h5"
    moved.write_bytes(made["posterior"].read_bytes())
    made["observed"].rename(tmp_path / "elsewhere.h5")
    try:
        page = physgen.report(moved).html
        assert "What was observed is not shown" in page
        assert f"<td>{table}</td>" not in page
        page = physgen.report(moved, observed=tmp_path / "elsewhere.h5").html
        assert f"<td>{table}</td>" in page
        with pytest.raises(DataError, match="is not what the posterior was inferred from"):
            physgen.report(moved, observed=made["predictive"])
    finally:
        (tmp_path / "elsewhere.h5").rename(made["observed"])


def written(path, mean, prior, n=3, first=0, **more):
    """A posterior file of normal draws of a and b about some means."""
    rng = np.random.default_rng(0)
    theta = np.asarray(mean) + 0.1 * rng.normal(size=(n, 300, 2))
    law = Law("arrays", prior, (4,))
    about = {"law": law.to_json(), "method": "mcmc", "iid": False, "first_row": first, **more}
    arrays = {"theta": theta, "mean": theta.mean(1), "sd": theta.std(1)}
    write_arrays(path, arrays, about, kind="posterior")
    return path


def test_several_posteriors_lie_over_each_other(tmp_path, blank):
    wide, narrow = Prior(a=(-2, 2), b=(-2, 2)), Prior(b=(-1, 2), a=(-2, 1))
    same = {"observed": {"sha256": "0" * 64, "path": "o.h5"}}
    one = written(tmp_path / "one.h5", [0.0, 0.5], wide, first=2, **same, warnings=["so", "mind"])
    two = written(tmp_path / "two.h5", [0.5, 0.4], narrow, first=3, **same, warnings=["so"])
    page = " ".join(re.sub("<[^>]+>", " ", physgen.report([one, two]).html).split())
    assert "Posteriors of a, b" in page
    assert re.search(r"at most 4\.\d of their widths apart \(a, one beside two, row \d\)", page)
    assert "Note: one, two: so. Note: one: mind." in page
    assert re.findall(r"(\d) (one|two) −?0", page) == [
        (row, name) for row in "34" for name in ("one", "two")
    ]
    found = overlaid_posteriors([(str(p), reported(p)) for p in (one, two)])
    figure = posteriors_sheet(found).figures()["corners"][0]
    a, pair = figure.axes[0], figure.axes[1]
    tops = [line.get_xdata()[line.get_ydata().argmax()] for line in a.lines]
    np.testing.assert_allclose(tops, [0, 0.4], atol=0.1)  # a of two is its second column
    assert len(pair.collections) == 2
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["one", "two"]
    other = written(tmp_path / "other.h5", [0.0, 0.5], wide, n=1)
    assert "these are posteriors of different observations" in physgen.report([one, other]).html


@pytest.mark.usefixtures("blank")
def test_posteriors_that_do_not_belong_together_are_refused(made, tmp_path):
    same, prior = {"observed": {"sha256": "0" * 64}}, Prior(a=(-2, 2), b=(-2, 2))
    one = written(tmp_path / "one.h5", [0, 0], prior, **same)
    far = written(tmp_path / "far.h5", [0, 0], prior, first=7, **same)
    for files, message in {
        (one, made["posterior"]): "is of theta1, theta2, theta3, .*one.h5 of a, b: only",
        (one, made["surrogate"]): "expected a posterior beside others, got 'physgen/training/1'",
        (one, one): "is there twice",
        (one, far): "has no row in common",
    }.items():
        with pytest.raises(UsageError, match=message):
            physgen.report(list(files))
    with pytest.raises(UsageError, match="predictive: is an option of a single posterior"):
        physgen.report([one, written(tmp_path / "b.h5", [0, 0], prior)], predictive="simulator")
    assert "Posteriors of b" in physgen.report([one, tmp_path / "b.h5"], interest="b").html
    with_curves = tmp_path / "p.h5"
    with_curves.write_bytes(made["posterior"].read_bytes())
    page = physgen.report([made["posterior"], with_curves], interest="theta2").html
    assert "Posteriors of theta2" in page
    assert "at most 0 of their widths apart" in page
    assert "<td>2: p</td>" in page
    assert "Densities on the grid itself" not in physgen.report(one).html
