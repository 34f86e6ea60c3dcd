"""compare: each figure reads its null where the laws are equal, and sees what was made wrong."""

import copy
import json
from dataclasses import replace
from itertools import pairwise

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

import physgen
import simulators.base as declared
from physgen.checks.two_sample.comparison import _thousandths, comparison, comparison_summary
from physgen.checks.two_sample.features import logged, parts_of, physics_of, rare_cells_summed
from physgen.checks.two_sample.given_theta import given_theta
from physgen.checks.two_sample.permutations import deals, first_of
from physgen.cli import main
from physgen.dataset import Meta, Rows
from physgen.errors import DataError, UsageError
from physgen.law import Law
from simulators.prior import Box
from simulators.shower import ShowerVoxel
from simulators.shower.geometry import Geometry, Layer
from simulators.shower.observables import of_cells

ISING = Law.of("ising", {"size": 4}, {"beta": (0.2, 0.5)})
VOXEL = Law.of("shower-voxel")
RAGGED = Geometry(
    (Layer(0, (0.0, 1.0, 3.0), 1), Layer(2, (0.0,), 1), Layer(5, (0.0, 2.0, 4.0), 3))
)
STEPS = 50
SEEN = 0.03
"""A p-value of the fewest deals that an FPD makes, 40, or less."""


@pytest.fixture(autouse=True, scope="module")
def few_deals():
    """The least that is done for the null of an FPD: quick."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("physgen.checks.two_sample.frechet.FLOPS", 0)
        yield


def drawn(law, n, seed, theta=None, wrong=None):
    """Rows of a law, or of another with the same θ, as a file would hold them."""
    rng = np.random.default_rng(seed)
    theta = law.prior.sample(n, rng) if theta is None else theta
    x = (wrong or law).build().sample(theta, rng)
    return Rows(x=x, theta=theta, meta=Meta(law))


def warmer(law, n, seed, by=0.8):
    """Ising lattices that are hotter than their θ says."""
    rows = drawn(law, n, seed)
    x = law.build().sample(rows.theta * by, np.random.default_rng(seed + 1))
    return replace(rows, x=x)


def p_values(found):
    """Every figure that has a p-value."""
    single = {"fpd": found["fpd"]["plain"], "infinite": found["fpd"]["infinite"]}
    single |= {"kpd": found["kpd"], "worst": found["worst"]}
    if found["cells"]:
        single["cells"] = found["cells"]["separation"]
    return {name: t["p_value"] for name, t in single.items()}


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))]
)
def test_two_samples_of_one_law_read_their_nulls(seed):
    a, b = drawn(ISING, 700, 10 + seed), drawn(ISING, 600, 20 + seed)
    found = comparison(b, a, seed=seed, steps=STEPS)
    assert min(p_values(found).values()) > 0.02
    for test in found["classifiers"].values():
        assert test["verdict"] == "cannot be told apart"
        assert test["control_caught"]
        assert abs(test["auc"] - 0.5) < 4 * test["se"]
        assert abs(test["null"] - 0.5) < 4 * test["se"]
    assert found["theta"]["parameters"]["beta"]["p_value"] > 1e-3
    assert not found["theta"]["paired"]
    assert found["warnings"] == ["the classifiers and KPD see 600 rows of each file at most"]


def test_a_wrong_law_is_seen_by_every_figure():
    found = comparison(warmer(ISING, 900, 3, by=0.5), drawn(ISING, 900, 5), steps=STEPS)
    assert max(p_values(found).values()) < SEEN
    assert {t["verdict"] for t in found["classifiers"].values()} == {"told apart"}
    energy = found["observables"]["energy"]
    assert energy["separation"]["value"] > 2 * energy["separation"]["null_95"]
    assert energy["js"] > 1.5 * energy["js_null"]
    assert "AUC low 0." in comparison_summary(found)
    assert "worst separation" in comparison_summary(found)


def test_one_step_of_training_is_no_verdict():
    """The false pass of an undertrained classifier: it finds nothing, in the control neither."""
    found = comparison(drawn(ISING, 300, 1), drawn(ISING, 300, 2), steps=1)
    assert {t["verdict"] for t in found["classifiers"].values()} == {
        "classifier too weak: no verdict"
    }
    assert "too weak" in comparison_summary(found)


@pytest.mark.slow
def test_rows_of_equal_theta_are_compared_in_pairs():
    """β alone makes most of the spread of E: a null that deals freely would be too wide."""
    a = drawn(ISING, 500, 1)
    b = drawn(ISING, 500, 2, theta=a.theta)
    found = comparison(b, a, steps=STEPS)
    assert found["theta"]["paired"]
    assert min(p_values(found).values()) > 0.02
    free = comparison(drawn(ISING, 500, 3), a, steps=1)
    pick = ("observables", "energy", "separation", "null_95")
    narrow, wide = found, free
    for key in pick:
        narrow, wide = narrow[key], wide[key]
    assert narrow < wide
    assert found["events"]["reference"]["theta"] == found["events"]["generated"]["theta"]
    same = comparison(a, a, steps=1)
    assert same["fpd"]["plain"]["value"] == pytest.approx(0, abs=1e-9)
    assert same["worst"]["value"] == 0


def test_other_theta_is_said_first():
    law = replace(ISING, prior=Box(beta=(0.3, 0.4)))
    found = comparison(drawn(law, 200, 1), drawn(ISING, 200, 2), steps=1)
    assert found["warnings"][0].startswith("theta of the two files differ: beta (KS")
    assert "theta of the two files differ" in comparison_summary(found)
    blind = comparison(replace(drawn(law, 200, 1), theta=None), drawn(ISING, 200, 2), steps=1)
    assert "only one of the files has theta" in blind["warnings"][0]
    assert not blind["classifiers"]["low"]["told_theta"]


@pytest.fixture(scope="module")
def showers():
    """Showers of too large spots, with the right θ."""
    a = drawn(VOXEL, 300, 1)
    wrong = Law.of("shower-voxel", {"resolution": 0.18})
    b = drawn(VOXEL, 300, 2, wrong=wrong)
    return comparison(b, a, steps=STEPS)


@pytest.mark.slow
def test_showers_of_another_resolution(showers):
    assert set(showers["observables"]) > {"energy_ratio", "total_energy", "layer_energies"}
    assert max(p_values(showers).values()) < SEEN
    assert len(showers["cells"]["layers"]) == 12
    assert (
        showers["cells"]["sparsity"]["generated"]
        > 0.03 + showers["cells"]["sparsity"]["reference"]
    )
    assert showers["worst"]["observable"] in ("sparsity", "occupancy")
    assert np.shape(showers["average"]["reference"]) == (12, 6)
    assert np.shape(showers["events"]["generated"]["x"]) == (4, 12, 6)
    assert np.shape(showers["curves"]["layer_energies"]["difference"]["mean"]) == (12,)
    assert showers["classifiers"]["high"]["verdict"] == "told apart"
    ratio = showers["observables"]["energy_ratio"]["histogram"]
    assert 0.3 < ratio["edges"][0] < 0.9 < ratio["edges"][-1] < 1.6


def field_features(x, r_edges, n_alpha):
    """Energy, centres and widths of a layer's cells x (n, cells) as in the CaloChallenge's code,
    one shower and one cell at a time."""
    found = np.zeros((len(x), 5))
    alpha = np.linspace(-np.pi, np.pi, n_alpha + 1)
    for row, shower in zip(found, x, strict=True):
        cells = [
            ((r0 + r1) / 2, (a0 + a1) / 2)
            for a0, a1 in pairwise(alpha)
            for r0, r1 in pairwise(r_edges)
        ]
        total = eta = phi = eta2 = phi2 = 0.0
        for (r, a), e in zip(cells, shower.tolist(), strict=True):
            total += e
            eta, phi = eta + e * r * np.cos(a), phi + e * r * np.sin(a)
            eta2, phi2 = eta2 + e * (r * np.cos(a)) ** 2, phi2 + e * (r * np.sin(a)) ** 2
        mean = np.array([eta, phi]) / (total + 1e-16)
        square = np.array([eta2, phi2]) / (total + 1e-16)
        row[:] = [total, *mean, *np.sqrt((square - mean**2).clip(min=0))]
    return found


FIELD = ("layer_energies", "centre_x", "centre_y", "width_x", "width_y")


def test_features_of_showers_are_those_of_the_field():
    simulator = ShowerVoxel(layout="calochallenge-2")
    x = simulator.sample(np.array([[1.0, 0.5], [4.0, 2.0]]), np.random.default_rng(0))
    observables = simulator.observables
    for layer in (0, 5, 17, 44):
        edges = 4.65 * np.arange(10)
        want = field_features(x[:, layer].reshape(2, -1), edges, 16)
        for name, values in zip(FIELD, want.T, strict=True):
            np.testing.assert_allclose(
                observables[name](x)[:, layer], values, rtol=1e-6, atol=1e-6, err_msg=name
            )
    turned = x.swapaxes(2, 3).reshape(x.shape)  # another order of the cells
    assert abs(observables["width_x"](turned) - observables["width_x"](x)).max() > 1
    np.testing.assert_allclose(observables["occupancy"](x), 1 - (x == 0).mean((2, 3)), rtol=1e-12)


def field_power(a, b, bins):
    """Separation power as in the CaloChallenge's code."""
    one, two = (np.histogram(v, bins, density=True)[0] * np.diff(bins) for v in (a, b))
    return 0.5 * ((one - two) ** 2 / (one + two + 1e-16)).sum()


def test_separation_powers_in_the_bins_of_the_field():
    """Both are in the metrics under names of their own, and are not the same."""
    a, b = (drawn(VOXEL, 150, seed) for seed in (1, 2))
    metrics, simulator = comparison(b, a, steps=1), VOXEL.build()
    found, cells = metrics["observables"], metrics["cells"]
    total = [rows.x.sum((1, 2, 3), dtype=float) / np.exp(rows.theta[:, 0]) for rows in (a, b)]
    want = field_power(*total, np.linspace(0.5, 1.5, 101))
    ratio = found["energy_ratio"]
    assert ratio["published"]["value"] == pytest.approx(want, abs=1e-6)
    assert abs(ratio["separation"]["value"] - want) > 1e-3
    assert ratio["published"]["bins"] == 100
    mev = [1e3 * simulator.geometry.layer_energies(rows.x)[:, 4] for rows in (a, b)]
    edges = np.logspace(np.log10(0.5e-3 / 0.033), np.log10(mev[0].max()), 40)
    edges[-1] = mev[0].max()  # which rounding may have put outside
    layers = found["layer_energies"]["published"]
    assert layers[4]["value"] == pytest.approx(field_power(*mev, edges), abs=1e-6)
    for name, low in (("centre_x", -30), ("width_y", 0)):
        mm = [9.327 * simulator.observables[name](rows.x)[:, 4] for rows in (a, b)]
        want = field_power(*mm, np.linspace(low, 30, 101))
        assert found[name]["published"][4]["value"] == pytest.approx(want, abs=1e-6), name
        assert found[name]["published"][4]["null"] > 0
    assert "published" not in found["sparsity"]
    mev = [1e3 * rows.x.ravel() for rows in (a, b)]
    edges = np.geomspace(0.5e-3 / 0.033, mev[0].max(), 50)
    want = field_power(*mev, edges)
    assert cells["published"]["value"] == pytest.approx(want, rel=1e-3)
    assert abs(cells["separation"]["value"] - want) > 0.01 * want


def test_radii_in_molière_radii_are_compared_in_millimetres():
    for layout, unit in (("calochallenge", 9.327), ("calochallenge-2", 1.0)):
        observables = ShowerVoxel(layout=layout).observables
        edges = observables["centre_x"].bins(np.zeros((3, 45)))[0]
        assert edges[-1] * unit == pytest.approx(30)
    large = Geometry((Layer(1, (0.0, 50.0, 200.0), 4), Layer(12, (0.0, 2000.0), 4)))
    bins = of_cells(large, "MeV")["width_x"].bins(np.zeros((3, 2)))
    assert [b[-1] for b in bins] == [100, 400]
    energies = of_cells(large, "MeV")["layer_energies"].bins(np.full((3, 2), 1e4))
    assert [(e[0], e[-1], len(e)) for e in energies] == [pytest.approx((10, 1e4, 40))] * 2


def pooled(ratio=1.0, shift=0.0, n=3000, seed=0):
    """θ, deals, and numbers of spread (1 + θ₀)/10 about θ₀ + θ₁², of the second sample off."""
    rng = np.random.default_rng(seed)
    theta = rng.uniform(0, 2, (2 * n, 2))
    spread = (1 + theta[:, 0]) / 10
    noise = rng.normal(size=2 * n)
    noise[n:] = ratio * noise[n:] + shift
    values = theta[:, 0] + theta[:, 1] ** 2 + spread * noise
    return theta, {"v": values, "same": np.ones(2 * n)}, first_of(deals(n, n, rng), n)


@pytest.mark.parametrize(("ratio", "shift"), [(1.1, 0.0), (0.9, 0.0), (1.0, 0.15), (1.0, 0.0)])
def test_a_spread_given_theta_is_measured(ratio, shift):
    found = given_theta(*pooled(ratio, shift))
    of, worst = found["numbers"]["v"], found["worst"]
    error = np.sqrt(1 / 3000)  # of the log of the ratio of two standard deviations
    assert of["ratio"]["se"] == pytest.approx(error, rel=0.2)
    assert abs(of["ratio"]["value"] - ratio) < 4 * error
    assert abs(of["shift"]["value"] - shift) < 4 * np.sqrt(2 / 3000) + 0.1 * shift
    assert of["least_seen"] == pytest.approx(1 + 4 * error, abs=0.02)
    assert (abs(worst["errors"]) > 4) == ((ratio, shift) != (1, 0))
    assert set(found["numbers"]) == {"v"}
    if (ratio, shift) == (1, 0):
        assert worst["p_value"] > 0.02


def test_nothing_is_said_given_theta_where_nothing_varies():
    theta, numbers, first = pooled(n=50)
    assert given_theta(theta, {"same": numbers["same"]}, first) is None


@pytest.mark.slow
@pytest.mark.parametrize(("smeared", "told"), [(0.0, False), (0.46, True)])
def test_a_resolution_off_by_a_tenth_is_seen(smeared, told):
    """All cells of a shower smeared alike, which no sparsity sees: √(1 + 0.46²) = 1.10."""
    law = Law.of("shower-energy")
    a, b = (drawn(law, 4000, seed) for seed in (1, 2))
    rng = np.random.default_rng(3)
    width = 0.1 * smeared * np.exp(-b.theta / 2)
    b = replace(b, x=(b.x * (1 + width * rng.normal(size=(len(b), 1)))).astype("f4"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("physgen.checks.two_sample.comparison.MOST_ROWS", 100)  # as not asked here
        found = comparison(b, a, steps=1)
    of, worst = found["given_theta"]["numbers"]["energy_ratio"], found["given_theta"]["worst"]
    assert (abs(worst["errors"]) > 4) == told
    assert (of["ratio"]["p_value"] < 0.01) == told
    assert of["least_seen"] < 1.1
    assert f"given theta: {'' if told else 'not '}told apart" in comparison_summary(found)
    assert found["worst"]["p_value"] > 0.02  # no histogram over all θ sees it
    assert "FPD of 4,000 and 4,000 rows" in comparison_summary(found)


def test_cells_that_few_rows_hit_are_summed():
    rng = np.random.default_rng(0)
    rate = np.geomspace(1e-3, 1, 1500)
    a, b = (rng.exponential(size=(400, 1500)) * (rng.random((400, 1500)) < rate) for _ in range(2))
    x, y = rare_cells_summed(a, b)
    assert x.shape[1] == y.shape[1] < 1000
    for cells, sums in ((a, x), (b, y)):
        np.testing.assert_allclose(sums.sum(1), cells.sum(1))
    np.testing.assert_array_equal(x[:, -250:], a[:, -250:])  # three rows in ten hit these
    assert not np.array_equal(x[:, :250], a[:, :250])
    hit = ((x > 0).mean(0) + (y > 0).mean(0)) / 2
    assert np.mean(hit < 0.02) < 0.02 < np.mean((a > 0).mean(0) < 0.02)
    few = a[:, :300], b[:, :300]
    assert rare_cells_summed(*few)[0] is few[0]
    assert rare_cells_summed(-a, b)[1] is b


def imported(n, seed):
    """Showers of a file from elsewhere, 2 + 6 cells in MeV, of about their incident energy."""
    law = Law(
        "calochallenge",
        Box(ln_E=(0.0, 3.0, "ln GeV")),
        RAGGED.x_shape,
        "nonnegative",
        options={"binning": RAGGED.to_json(), "unit": "MeV"},
    )
    rng = np.random.default_rng(seed)
    theta = law.prior.sample(n, rng)
    share = rng.dirichlet(np.ones(8), n) * (rng.random((n, 8)) < 0.9)
    return Rows(x=(1000 * np.exp(theta) * share).astype("f4"), theta=theta, meta=Meta(law))


def test_imported_showers_have_the_observables_of_their_cells():
    a = imported(200, 1)
    assert parts_of(physics_of(a.meta.law), a.x.shape[1:]) == [slice(0, 2), slice(2, 8)]
    found = comparison(imported(200, 2), a, steps=1)
    assert {"layer_energies", "radial_width", "occupancy"} < set(found["observables"])
    assert len(found["observables"]["layer_energies"]["separation"]) == 2
    assert found["observables"]["energy_ratio"]["histogram"]["edges"][-1] == pytest.approx(1, 1e-3)
    broken = replace(a.meta.law, options={})
    with pytest.raises(DataError, match="without its cells"):
        physics_of(broken)


@pytest.mark.parametrize("name", ["shower", "shower-energy", "shower-voxel"])
def test_a_simulator_declares_its_quantities_of_theta_and_x(name):
    """E_tot/E of E in GeV; of showers of a file from elsewhere, x in MeV."""
    simulator = Law.of(name).build()
    theta = simulator.prior.sample(3, np.random.default_rng(0))
    x = simulator.sample(theta, np.random.default_rng(1))
    found = declared.joint_observables(simulator)["energy_ratio"](theta, x)
    np.testing.assert_allclose(found, x.sum(tuple(range(1, x.ndim))) / np.exp(theta[:, 0]))
    rows = imported(5, 0)
    joint = declared.joint_observables(physics_of(rows.meta.law))["energy_ratio"]
    np.testing.assert_allclose(
        joint(rows.theta, rows.x), rows.x.sum(1) / (1000 * np.exp(rows.theta[:, 0])), rtol=1e-6
    )
    assert joint.title
    assert declared.joint_observables(ISING.build()) == {}


@pytest.mark.parametrize("shape", [(5,), (3, 3), (3, 4, 2)])
def test_files_of_unknown_simulators_are_compared_by_their_components(shape):
    rng = np.random.default_rng(0)
    a, b = (Rows(x=rng.exponential(size=(60, *shape)).clip(0.3) - 0.3) for _ in range(2))
    found = comparison(b, a, steps=1)
    assert {"mean", "norm", "total", "sparsity"} <= set(found["observables"])
    assert found["theta"] == {
        "reference": False, "generated": False, "paired": False, "parameters": {},
    }  # fmt: skip
    assert found["cells"]["sparsity"]["reference"] == pytest.approx((a.x == 0).mean())
    assert found["cells"]["histogram"]["reference"] is not None
    with pytest.raises(UsageError, match="expected a file that says"):
        comparison(b, a, trusted="mine:Mine")
    signed = comparison(Rows(x=b.x - 1), Rows(x=a.x - 1), steps=1)
    assert signed["cells"] is None
    assert "sparsity" not in signed["observables"]


def test_logged_columns_keep_zero_and_signs():
    a = np.array([[0.0, -1.0], [2.0, 3.0], [4.0, 5.0]])
    logs, same = logged(a, a)
    assert logs[0, 0] == 0
    np.testing.assert_allclose(logs[1:, 0], np.log1p(a[1:, 0] / np.quantile([2, 4], 0.05)))
    np.testing.assert_array_equal(logs[:, 1], a[:, 1])
    np.testing.assert_array_equal(logs, same)


@pytest.mark.parametrize(
    ("other", "piece"),
    [
        (drawn(Law.of("ising", {"size": 6}), 60, 1), r"shape \(6, 6\) and \(4, 4\)"),
        (
            Rows(x=np.ones((60, 4, 4)), meta=Meta(replace(ISING, simulator="mine:Mine"))),
            "mine:Mine",
        ),
        (
            Rows(x=np.ones((60, 4, 4)), meta=Meta(replace(ISING, support="reals"))),
            "reals and spins",
        ),
        (drawn(ISING, 39, 1), "at least 40 rows"),
    ],
)
def test_files_of_different_kinds_are_refused_in_one_line(other, piece):
    with pytest.raises(UsageError, match=piece) as error:
        comparison(other, drawn(ISING, 60, 1))
    assert "\n" not in str(error.value)


def test_an_observable_that_is_not_finite_is_refused(monkeypatch):
    monkeypatch.setattr(
        "physgen.checks.two_sample.comparison.observables_of",
        lambda *_: {"bad": lambda x: x[:, 0, 0] / 0.0},
    )
    with np.errstate(all="ignore"), pytest.raises(DataError, match="observable bad"):
        comparison(drawn(ISING, 60, 1), drawn(ISING, 60, 2))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Metrics of two files that the command line made, one of them without metadata."""
    folder = tmp_path_factory.mktemp("compare")
    physgen.simulate("ising", out=folder / "a.h5", n=150, seed=1, size=4)
    with h5py.File(folder / "b.h5", "w") as file:
        rows = drawn(ISING, 120, 3)
        file["x"], file["theta"] = rows.x, rows.theta
    return folder


def run(*words):
    return CliRunner().invoke(main, [str(w) for w in words])


@pytest.mark.usefixtures("quick", "blank")
def test_the_command_line(files):
    a, b, out = (files / name for name in ("a.h5", "b.h5", "m.json"))
    done = run("compare", b, a, "-o", out, "--rows", "0:100", "--seed", "3")
    assert done.exit_code == 0, done.output
    assert "AUC low" in done.output
    assert "FPD" in done.output
    found = json.loads(out.read_text())
    assert found["schema"] == "physgen/comparison/1"
    assert found["generated"]["rows"] == found["reference"]["rows"] == 100
    assert "law" not in found["generated"]
    assert found["reference"]["source"]["name"] == "ising"
    assert "--seed 3" in found["provenance"]["command"]
    for name, size in (("c", 3), ("d", 4)):
        np.save(files / f"{name}.npy", np.ones((60, size)))
    wrong = run("compare", files / "c.npy", files / "d.npy", "-o", files / "n.json")
    assert wrong.exit_code == 2
    assert "(3,) and (4,): " in wrong.output
    assert wrong.output.endswith("c.npy and " + str(files / "d.npy") + "\n")
    again = run("compare", b, a, "-o", out)
    assert again.exit_code != 0
    assert "--force" in again.output
    assert run("report", out, "-o", files / "r.html").exit_code == 0
    page = (files / "r.html").read_text()
    assert "b.h5 against a.h5" in page
    assert "https://" not in page
    assert "None" not in page


@pytest.mark.usefixtures("quick", "blank")
def test_equal_calls_make_equal_figures(files):
    found = [
        physgen.compare(files / "a.h5", files / "a.h5", out=files / f"{i}.json", seed=2)
        for i in range(2)
    ]
    timed = {"seconds", "cpu_seconds", "provenance", "content_sha256"}
    assert len({json.dumps({k: v for k, v in f.items() if k not in timed}) for f in found}) == 1
    assert physgen.report(files / "0.json", out=files / "0.html").path.exists()


@pytest.mark.slow
def test_the_page_of_showers(showers, monkeypatch):
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    from physgen.reporting import sheet
    from physgen.verbs.pages import render

    attack = "<script>alert('x')</script>"
    few = {"layer_energies", "sparsity"}
    metrics = copy.deepcopy(showers) | {
        "observables": {k: v for k, v in showers["observables"].items() if k in few},
        "curves": {k: v for k, v in showers["curves"].items() if k in few},
        "schema": "physgen/comparison/1",
        "generated": {"path": "g.h5", "rows": 300, "source": {"name": attack}},
        "reference": {"path": "r.h5", "rows": 300, "law": VOXEL.to_json()},
        "provenance": {"command": "physgen compare g.h5 r.h5"},
    }
    page = render(metrics)
    assert "<script>" not in page
    assert len(page) < 2_000_000
    monkeypatch.setattr(sheet, "svg", lambda draw, size: b"<svg/>")
    for section in ("given_theta", "classifiers", "fpd", "kpd", "worst", "observables", "curves",
                    "cells", "average", "events", "theta", "warnings"):  # fmt: skip
        assert "</html>" in render({**metrics, section: None}), section
    assert "</html>" in render({"schema": "physgen/comparison/1"})


@pytest.mark.slow
def test_columns_are_called_as_in_their_file():
    rng = np.random.default_rng(0)
    x = np.stack([rng.integers(0, 2, 60), rng.exponential(size=60)], 1)
    theta = {"a": rng.uniform(0, 1, 60)}
    kinds = {"choice": "levels:2", "time": "nonnegative"}
    both = [physgen.dataset_of(theta, x, {"a": (0, 1)}, support=kinds) for _ in range(2)]
    found = physgen.compare(*both)
    assert set(found["observables"]) == {"choice", "time"}


@pytest.mark.parametrize(("value", "words"), [(0.0123, "12.3e-3"), (1.5, "1.5"), (14.4, "14.4")])
def test_large_distances_are_not_told_in_thousandths(value, words):
    assert _thousandths(value) == words
