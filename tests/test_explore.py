"""A surrogate in a browser: it draws what torch draws, and shows what is exact beside it."""

import json
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import fft, special, stats

import physgen
from physgen.errors import DataError, Interrupted, UsageError
from physgen.law import Law
from physgen.nn.onnx_data import Constants, graph_data
from physgen.nn.recorded_numpy import torch_of_numpy
from physgen.registry import find
from physgen.verbs.explored import GRID_OPERATIONS, exact_of, explored_page
from simulators import base
from simulators.prior import Prior
from tests.chromium import Chromium, chromium_or_skip
from tests.test_onnx import (
    CASES,
    LAWS,
    by_torch,
    content_of,
    given,
    graph,
    session_of,
    surrogate_of,
)

onnx = pytest.importorskip("onnx")
RUN = """(async (graph, constants, inputs) => {
  const found = new Graph(graph, await constantsOf(constants)).run(Object.fromEntries(inputs.map(
    ([name, kind, shape, values]) => [name, tensor(kind, shape, ARRAYS[kind].from(values))])));
  return [found.kind, found.shape, Array.from(found.data, String)];
})"""
READY = """new Promise((done) => {
  const look = () => (document.body.dataset.ready ? done(true) : setTimeout(look, 20));
  look();
})"""
FEW = ("autoregressive, lattice", "flow", "cvae, torus", "diffusion, cells", "tree")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    chromium_or_skip()
    folder = tmp_path_factory.mktemp("profile")
    with Chromium(folder) as found:
        yield found
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def interpreter(browser, tmp_path_factory):
    """Model, inputs → what graph.js makes of them."""
    script = Path(physgen.__file__).parent / "reporting" / "graph.js"
    page = tmp_path_factory.mktemp("page") / "bare.html"
    page.write_text(f"<script>{script.read_text()}</script>")
    browser.open(page)

    def run(content, feed, rounds=False):
        told = [[k, str(v.dtype), v.shape, v.ravel().tolist()] for k, v in feed.items()]
        constants = Constants(rounds)
        model = graph_data(onnx.load_from_string(content), constants)
        given = ", ".join(map(json.dumps, (model, constants.to_json(), told)))
        kind, shape, values = browser.value(f"{RUN}({given})")
        return np.array(values, dtype=float).astype(kind).reshape(shape)

    return run


@pytest.mark.parametrize(
    "case", [c if c in FEW else pytest.param(c, marks=pytest.mark.slow) for c in CASES]
)
def test_a_browser_draws_what_torch_draws(interpreter, case):
    surrogate = surrogate_of(*CASES[case])
    content, feed = content_of(surrogate), given(surrogate, 16, seed=1)
    ours, theirs = by_torch(surrogate, feed), interpreter(content, feed)
    found = graph.compared(ours, theirs)
    assert found.others == 0
    assert found.largest < 1e-4
    other = feed | {k: v[::-1].copy() for k, v in feed.items() if k != "theta"}  # the control
    assert graph.compared(ours, interpreter(content, other)).others > 3


SCORED = {
    "autoregressive, lattice", "flow", "tree", "rbm, dense", "cvae, compound Poisson",
}  # fmt: skip
SLOW = {
    "autoregressive, hurdle", "rbm, tied", "cvae, any prior", "cvae, vector", "cvae, mixture",
    "cvae, lattice", "diffusion, masked", "diffusion, heun", "diffusion, hurdle",
}  # fmt: skip


@pytest.mark.parametrize(
    "case", [*sorted(SCORED), *(pytest.param(c, marks=pytest.mark.slow) for c in sorted(SLOW))]
)
def test_the_graph_of_log_p_is_log_p(interpreter, case):
    """Also of what takes random draws: these are held, as for one x under many θ."""
    surrogate = surrogate_of(*CASES[case])
    content = graph.log_prob_model(surrogate).SerializeToString()
    theta = surrogate.law.prior.sample(9, np.random.default_rng(0))
    x, how = surrogate.sample(theta, 0).numpy(), {"draws": surrogate.posterior_draws}
    found = interpreter(content, {"theta": theta, "x": x})
    index = torch.zeros(9, dtype=torch.int64)
    here = surrogate.for_posteriors().log_prob(theta, x, index=index, **how).numpy()
    assert found == pytest.approx(here, rel=1e-5, abs=3e-5)
    turned = interpreter(content, {"theta": theta[::-1].copy(), "x": x})
    assert abs(turned - found).max() > 1e-3  # the control


def test_large_matrices_are_told_in_16_bits_and_parts_of_others_once(interpreter):
    rng = np.random.default_rng(0)
    w, far = rng.standard_normal((2, 40, 40)).astype(np.float32)
    far[0, 0] = 1e6  # of which steps would be too coarse
    constants = Constants(rounds=True)
    places = [constants.place(a)[2] for a in (w, far, w[7:20], w[:1], np.float32([]), w.T)]
    assert places[2:5] == [7 * 40, 3200, 3240]  # too few numbers to be looked for
    assert constants.chunks[0][2] == abs(w).max() / 32767
    assert [step > 0 for _, _, step in constants.chunks] == [True, False, False, False, True]
    x = torch.from_numpy(rng.standard_normal((8, 40)).astype(np.float32))
    content = graph.model_of(
        lambda x: x @ torch.from_numpy(w), lambda rows: {"x": x[rows : 2 * rows]}, "y", {}
    ).SerializeToString()
    exact, coarse = (interpreter(content, {"x": x.numpy()}, rounds) for rounds in (False, True))
    assert exact == pytest.approx(x.numpy() @ w, abs=1e-5)
    told = constants.rounded(onnx.load_from_string(content)).SerializeToString()
    here = session_of(told).run(["y"], {"x": x.numpy()})[0]
    assert coarse == pytest.approx(here, abs=1e-5)
    assert 1e-5 < abs(coarse - exact).max() < 1e-3  # the control


@pytest.mark.usefixtures("unobserved")
def test_a_page_of_many_weights_is_small_and_draws_the_same(browser, tmp_path, monkeypatch):
    model = lattice()
    monkeypatch.setattr("physgen.verbs.explored.MOST_WEIGHTS", 0)
    monkeypatch.setattr("physgen.nn.onnx_data.MATRIX", 16)
    made = physgen.explore(model, out=tmp_path / "page.html", rows=12)
    assert (
        "weights are told in 16 bits each, which moves the numbers of x by up to" in made.summary
    )
    browser.open(tmp_path / "page.html")
    browser.value(READY)
    noise = np.array(browser.value("state.noise.map((row) => Array.from(row.uniform))"))
    given = {"uniform": torch.from_numpy(noise.astype(np.float32))}
    theta = torch.tensor([browser.value("theta()")] * 12, dtype=torch.float64)
    x = graph.draw_with(model, theta, given).flatten(1).tolist()
    assert browser.value("state.x.map((x) => Array.from(x))") == x
    log_p = browser.value(f"logDensity({x[0]}, [[0], [120], [240]], () => true)")
    values = np.array(browser.value("parameters[0].values"))[[0, 120, 240], None]
    here = model.log_prob(values, np.array([x[0]] * 3, np.int8).reshape(3, 4, 4)).numpy()
    assert log_p == pytest.approx(here, abs=1e-2)
    assert log_p != pytest.approx(here, abs=1e-7)  # the control: they are rounded
    off = float(re.search(r"log p by up to (\S+) nats", made.summary)[1])
    assert 1e-6 < off < 1e-2
    with monkeypatch.context() as coarse:
        coarse.setattr("physgen.verbs.explored.MOST_NATS", off / 2)
        found = physgen.explore(model, rows=2)
        assert "16 bits" not in found.summary
        assert "not computed live" not in found.summary
    monkeypatch.setattr(graph, "checked", lambda *_: refused())
    assert "16 bits" not in physgen.explore(model, rows=2).summary


def test_a_graph_that_is_not_log_p_is_not_shown(monkeypatch):
    model = lattice()
    another = graph.log_prob_model(shaken("autoregressive", model.law, 0.1, hidden=8))
    monkeypatch.setattr(graph, "log_prob_model", lambda _: another)
    found = physgen.explore(model, rows=2)
    assert "p(θ|x) is not computed live: its graph is off by" in found.summary


def refused():
    raise UsageError("others")


def test_what_has_no_likelihood_has_no_graph_of_log_p():
    with pytest.raises(UsageError, match=r"gan has no log p\(x\|theta\)"):
        graph.log_prob_model(surrogate_of(*CASES["gan, vector"]))


def model_of_numpy(function, x):
    """The graph of a function of numpy of x (n, …), as a session of onnxruntime."""

    def inputs(rows):
        return {"x": torch.from_numpy(x[rows : 2 * rows])}

    traced = torch_of_numpy(function, lambda rows: tuple(inputs(rows).values()))
    return session_of(graph.model_of(traced, inputs, "value", {}).SerializeToString())


@pytest.mark.parametrize(
    "name", ["ising", "oscillator", "gaussian", "gaussian-field", "shower-energy"]
)
def test_the_graphs_of_observables_are_those_of_numpy(name):
    law = Law.of(name, {"size": 8} if name in ("ising", "oscillator", "gaussian-field") else {})
    simulator, rng = law.build(), np.random.default_rng(0)
    x = simulator.sample(law.prior.sample(8, rng), rng)
    x = x if law.discrete else x.astype(np.float32)
    for what, observable in base.observables(simulator).items():
        found = model_of_numpy(observable.function, x).run(["value"], {"x": x[:7]})[0]
        assert found == pytest.approx(observable(x[:7]), rel=1e-5, abs=1e-6), what
        assert not np.allclose(found[::-1], observable(x[:7])), what  # the control


TRANSFORMS = {
    "power": lambda x: np.abs(np.fft.fft2(x.astype(float), norm="ortho")) ** 2,
    "parts": lambda x: np.fft.rfft(x.astype(float), norm="forward").imag,
    "back": lambda x: np.fft.irfft2(np.abs(np.fft.rfft2(x.astype(float))), s=x.shape[-2:]),
    "odd": lambda x: np.fft.irfft2(np.fft.rfft2(x.astype(float)), s=(4, 7)) ** 2,
}  # fmt: skip


@pytest.mark.parametrize("name", TRANSFORMS)
def test_fourier_transforms_are_products_with_matrices(interpreter, name):
    maps = np.random.default_rng(0).standard_normal((8, 4, 7 if name == "odd" else 6))
    maps, function = maps.astype(np.float32), TRANSFORMS[name]

    def inputs(rows):
        return {"x": torch.from_numpy(maps[rows : 2 * rows])}

    traced = torch_of_numpy(function, lambda rows: tuple(inputs(rows).values()))
    content = graph.model_of(traced, inputs, "value", {}).SerializeToString()
    found = interpreter(content, {"x": maps[:7]})
    assert found == pytest.approx(function(maps[:7]), rel=1e-9, abs=1e-9)
    assert not np.allclose(found, function(maps[1:]))  # the control


@pytest.mark.parametrize(
    "function", [lambda x: fft.fft2(x).real, lambda x: (np.fft.fft(x) ** 2).real]
)
def test_transforms_of_scipy_and_products_of_complex_numbers_have_no_graph(function):
    maps = np.random.default_rng(0).standard_normal((8, 4, 4)).astype(np.float32)
    with pytest.raises(UsageError, match=r"torch does not know|not known here"):
        model_of_numpy(function, maps)


@pytest.mark.parametrize(
    ("function", "reference", "values"),
    [
        (torch.lgamma, special.gammaln, [0.03, 1.0, 2.5, 40.0, 3e5]),
        (torch.log1p, np.log1p, [-0.9, -0.5, -1e-9, 1e-9, 0.49, 7.0]),
        (torch.expm1, np.expm1, [-40.0, -1.0, -1e-9, 1e-9, 0.99, 7.0]),
    ],
)
def test_functions_that_onnx_lacks_keep_their_digits(interpreter, function, reference, values):
    def inputs(rows):
        return {"a": torch.linspace(0.1, 0.2, rows, dtype=torch.float64)[:, None]}

    content = graph.model_of(function, inputs, "b", {}).SerializeToString()
    a = np.array(values)[:, None]
    found = interpreter(content, {"a": a})
    assert found == pytest.approx(reference(a), rel=1e-9, abs=1e-15 if a.min() < 0 else 1e-9)
    assert found != pytest.approx(reference(a * 1.001), rel=1e-9, abs=1e-15)  # the control


def shaken(name, law, size, **options):
    """A surrogate whose law depends on θ much: its weights are moved by so much."""
    cls = find("surrogates", name)
    made = cls.create(law, cls.Config(**options), seed=1)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in made.parameters():
            weight += size * torch.randn(weight.shape, generator=generator)
    return made.eval()


def lattice():
    """Such a surrogate of Ising lattices."""
    return shaken("autoregressive", Law.of("ising", {"size": 4}), 0.4, hidden=8)


@pytest.fixture
def unobserved(monkeypatch):
    """No observables, whose graphs take most of the time of a page."""
    monkeypatch.setattr(
        "physgen.checks.two_sample.features.observables_of", lambda physics, x, law: {}
    )


@pytest.fixture(scope="module")
def explored(tmp_path_factory):
    """A surrogate, observed x, and its page, live and on a grid."""
    folder, model = tmp_path_factory.mktemp("explored"), lattice()
    x = physgen.simulate("ising", size=4, n=5, seed=2).x
    for name, grid in (("live", False), ("grid", True)):
        made = physgen.explore(
            model, out=folder / f"{name}.html", observation=x, rows=12, grid=grid, seed=3
        )
        assert (f"drawn {'on a grid of theta' if grid else 'live'}") in made.summary
    return model, x, folder


@pytest.mark.usefixtures("unobserved")
def test_of_many_observations_the_first_are_shown_and_the_page_says_so(explored):
    model, x, folder = explored
    made = physgen.explore(model, observation=np.tile(x, (5, 1, 1)), rows=2, grid=True)
    assert "of 25 rows the first 24 are here" in made.summary
    assert "of 25 rows the first 24 are here" in made.html
    assert "the first 24" not in (folder / "grid.html").read_text()


def test_observed_x_of_another_size_are_explored_at_theirs():
    x = physgen.simulate("ising", size=6, n=2, seed=2)
    found = physgen.explore(lattice(), observation=x, rows=2, grid=True)
    assert '"shape":[6,6]' in found.html.replace(" ", "")
    other = physgen.simulate("gaussian", n=2, seed=2)
    with pytest.raises(DataError, match="it is of gaussian, and the model of ising"):
        physgen.explore(lattice(), observation=other, rows=2, grid=True)


MOVE = """(async (d, to) => {
  const slider = document.getElementById(`slider-${d}`);
  slider.value = to;
  slider.dispatchEvent(new Event("input"));
  for (let n = -1; n !== state.trail.length || state.trail.length === 0;) {
    n = state.trail.length;
    await new Promise((done) => setTimeout(done, 150));
  }
  return state.x.map((x) => Array.from(x));
})"""


@pytest.mark.parametrize("width", [1200, 390])
@pytest.mark.parametrize("kind", ["live", "grid"])
def test_a_page_works_offline_without_a_complaint(browser, explored, kind, width):
    path = explored[2] / f"{kind}.html"
    browser.open(path, width=width, dark=width == 390)
    browser.value(READY)
    assert browser.complaints == []
    assert browser.requests == []
    assert browser.value("document.documentElement.scrollWidth") <= width
    first = browser.value("[theta()[0], state.x.length]")
    browser.value('document.getElementById("slider-0").focus()')
    browser.press("ArrowRight")
    assert browser.value("theta()[0]") > first[0]
    assert browser.value('document.getElementById("value-0").textContent').endswith("1/J")
    browser.value("console.error('heard')")  # the control
    assert "heard" in browser.complaints[-1]


def test_held_noise_moves_x_with_theta_alone(browser, explored):
    browser.open(explored[2] / "live.html")
    browser.value(READY)
    here, there, back = (browser.value(f"{MOVE}(0, {to})") for to in (60, 220, 60))
    assert here == back != there
    theta = browser.value("theta()")
    noise = np.array(browser.value("state.noise.map((row) => Array.from(row.uniform))"))
    given = {"uniform": torch.from_numpy(noise.astype(np.float32))}
    at = torch.tensor([theta] * len(noise), dtype=torch.float64)
    ours = graph.draw_with(explored[0], at, given).flatten(1).tolist()
    assert ours == back
    assert stats.kstest(noise.ravel(), "uniform").pvalue > 1e-3
    browser.value('document.getElementById("noise").click()')
    assert browser.value(f"{MOVE}(0, 60)") != here
    observables = base.observables(explored[0].law.build())
    shown = browser.value("state.values.energy.map((v) => v[0])")
    x = np.array(browser.value("state.x.map((x) => Array.from(x))"), np.int8).reshape(-1, 4, 4)
    assert shown == pytest.approx(observables["energy"](x), abs=1e-6)
    exact = browser.value("exactAt(page.observables[0], [[61]])[0][0]")
    value = browser.value("parameters[0].values[61]")
    assert exact == pytest.approx(observables["energy"].exact(np.array([[value]]))[0], abs=1e-3)


def test_the_posterior_of_a_page_is_that_of_infer(browser, explored):
    model, x, folder = explored
    browser.open(folder / "live.html")
    browser.value(READY)
    nodes, density = browser.value("densities(state.edit.x, [0]).then((d) => d[0])")
    stops = browser.value("parameters[0].values")
    at = np.interp(nodes, np.arange(len(stops)), stops)
    posterior = physgen.infer(model, x[:1]).posterior
    masses = np.diff(posterior.cdf(at[None, :, None])[0, :, 0])
    found = (np.array(density[1:]) + density[:-1]) / 2 * np.diff(nodes)
    assert found == pytest.approx(masses, abs=2e-3)
    browser.value('document.getElementById("edit").focus()')
    browser.press(" ")
    assert browser.value("state.edit.changed")
    turned = browser.value("densities(state.edit.x, [0]).then((d) => d[0])")[1]
    assert abs(np.array(turned) - density).max() > 1e-4  # the control


def test_the_prior_of_a_page_is_correlated(browser, tmp_path):
    """By another route: log p of torch and the prior's own density on a fine grid."""
    laws = {"a": stats.norm(0, 1.0), "b": stats.norm(0, 2.0)}
    prior = Prior(**laws, correlation={("a", "b"): 0.8})
    model = shaken("flow", Law("bare", prior, (2,)), 0.4, layers=1, hidden=4)
    x = np.array([[0.3, -0.2]], np.float32)
    physgen.explore(model, out=tmp_path / "page.html", rows=4)
    browser.open(tmp_path / "page.html")
    browser.value(READY)
    found = browser.value(f"densities({x[0].tolist()}, [0, 1])")
    c = np.linspace(-2.5, 2.5, 121)  # between the ends of the sliders
    every = np.stack(np.meshgrid(c, c, indexing="ij"), -1)
    theta = prior.from_coordinates(every.reshape(-1, 2))
    log_p = model.log_prob(theta, np.repeat(x, len(theta), 0)).numpy().reshape(121, 121)
    for log_prior, same in (
        (prior.log_density(every), True),
        (-0.5 * (every**2).sum(-1), False),  # the control: as if they were independent
    ):
        p = np.exp(log_p + log_prior)
        for d, (nodes, density) in enumerate(found):
            known = p.sum(1 - d) / p.sum() * 120 / 240
            off = abs(np.interp(nodes, np.linspace(0, 240, 121), known) - density)
            assert (off.max() < 0.01 * known.max()) == same
    assert browser.complaints == []


def test_of_what_takes_too_much_there_are_posteriors_of_drawn_x(browser, tmp_path, monkeypatch):
    monkeypatch.setattr("physgen.verbs.explored.MOST_POSTERIOR", 0)
    monkeypatch.setattr("physgen.verbs.explored.MOST_OBSERVED", 3)
    model = lattice()
    made = physgen.explore(model, out=tmp_path / "page.html", rows=4, seed=3)
    assert "p(θ|x) is not computed live: its graph is too long for a browser" in made.summary
    assert "p(θ|x) of 3 x that autoregressive drew at θ of the prior" in made.html
    browser.open(tmp_path / "page.html")
    browser.value(READY)
    observed = browser.value("page.observed")
    theta = np.interp(
        np.array(observed["places"])[:, 0],
        np.arange(241),
        browser.value("parameters[0].values"),
    )
    rng = np.random.default_rng(3)
    model.law.prior.sample(256, rng)
    drawn = model.law.prior.sample(3, rng)
    assert sorted(theta) == pytest.approx(sorted(drawn[:, 0]), abs=1e-3)
    x = np.array(observed["x"]).reshape(-1, 4, 4).astype(np.int8)
    masses = np.array(observed["masses"])[:, 0]
    stops = np.array(browser.value("parameters[0].values"))[::2]
    known = physgen.infer(model, x).posterior.cdf(np.tile(stops[:, None], (3, 1, 1)))[..., 0]
    assert masses == pytest.approx(np.diff(known, axis=1), abs=1e-5)
    assert masses[::-1] != pytest.approx(np.diff(known, axis=1), abs=1e-3)  # the control
    monkeypatch.setattr("physgen.verbs.explored.GRID_OPERATIONS", 0)
    summary = physgen.explore(model, rows=4).summary
    assert "--observation has those of a file computed all the same" in summary


def test_missing_components_are_left_out_and_can_be_made_missing(browser, tmp_path):
    law = Law("rain", LAWS["hurdle"].prior, (5,), "nonnegative", missing=True)
    model = shaken("cvae", law, 0.3, channels=4)
    x = model.sample(law.prior.sample(2, np.random.default_rng(0)), 0).numpy()
    x[0, 1] = np.nan
    physgen.explore(model, out=tmp_path / "page.html", observation=x, rows=4)
    browser.open(tmp_path / "page.html")
    browser.value(READY)
    theta = np.linspace(-1, 1, 5)[:, None]

    def by_torch(x):
        how = {"draws": model.posterior_draws, "index": torch.zeros(5, dtype=torch.int64)}
        return model.log_prob(theta, np.repeat(x[None], 5, 0), **how).numpy()

    browser.value("choose(page.observed.x.find((x) => x.includes(null)))")
    at = "logDensity(state.edit.x, [0, 60, 120, 180, 240].map((i) => [i]), () => true)"
    found = browser.value(at)
    assert found == pytest.approx(by_torch(x[0]), rel=1e-4, abs=1e-4)
    browser.value('document.getElementById("edit").focus()')
    browser.press("Delete")
    x[0, 0] = np.nan
    fewer = browser.value(at)
    assert fewer == pytest.approx(by_torch(x[0]), rel=1e-4, abs=1e-4)
    assert abs(np.array(found) - fewer).max() > 1e-2  # the control
    with pytest.raises(DataError, match="NaN"):
        physgen.explore(surrogate_of(*CASES["autoregressive, hurdle"]), observation=x, rows=4)


def test_a_page_holds_the_exact_posteriors_of_what_was_observed(explored):
    """By another route: log p of the simulator at many θ, summed."""
    _, x, folder = explored
    text = (folder / "live.html").read_text()
    data = json.loads(text.partition('id="page">')[2].partition("</script>")[0])
    values, law = data["parameters"][0]["values"], Law.of("ising", {"size": 4})
    theta = np.linspace(values[0], values[-1], 40 * 120 + 1)[:, None]
    order = [
        int(label.partition(",")[0].removeprefix("row ")) for label in data["observed"]["labels"]
    ]
    assert sorted(order) == list(range(len(x)))
    for row, exact, ours in zip(
        order, data["observed"]["exact"], data["observed"]["masses"], strict=True
    ):
        logs = law.build().log_prob(theta, np.repeat(x[row][None], len(theta), 0))
        density = np.exp(logs - logs.max())
        bins = (density[1:] + density[:-1]).reshape(-1, 40).sum(1)
        assert exact[0] == pytest.approx(bins / bins.sum(), abs=1e-4)
        assert ours[0] != pytest.approx(bins / bins.sum(), abs=1e-3)  # the control


def test_a_grid_shows_what_was_drawn_at_its_nodes(browser, explored):
    model, _, folder = explored
    browser.open(folder / "grid.html")
    browser.value(READY)
    shown = browser.value(f"{MOVE}(0, 240)")
    theta = browser.value("theta()")
    x = model.sample(np.tile(theta, (len(shown), 1)), 3).flatten(1).tolist()
    assert shown == x
    assert shown != browser.value(f"{MOVE}(0, 0)")  # the control


@pytest.mark.usefixtures("unobserved")
def test_what_cannot_be_drawn_live_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("physgen.verbs.explored.GRID_NODES", (3, 3))
    monkeypatch.setattr("physgen.verbs.explored.SCALE_ROWS", (16, 16))
    monkeypatch.setattr("physgen.verbs.explored.MOST_OBSERVED", 2)
    rbm = surrogate_of("rbm", "lattice", {"chains": 16})
    page = physgen.explore(rbm, rows=4)
    assert "drawn on a grid of theta" in page.summary
    assert "x is not drawn live: onnx: rbm: " in page.summary
    assert "give --steps" in page.html
    flow = surrogate_of("flow", "vector", {"layers": 1, "hidden": 4})
    assert "drawn live" in physgen.explore(flow, rows=4).summary
    monkeypatch.setattr("physgen.verbs.explored.MOST_NODES", 10)
    assert "its graph is too long for a browser" in physgen.explore(flow, rows=4).summary
    monkeypatch.setattr("physgen.verbs.explored.MOST_PARAMETERS", 2)
    with pytest.raises(UsageError, match="a grid of 3 parameters is too large"):
        physgen.explore(flow, out=tmp_path / "page.html")
    with pytest.raises(UsageError, match="expected a surrogate"):
        physgen.explore(physgen.simulate("ising", size=4, n=2), out=tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_what_takes_long_is_drawn_at_fewer_nodes(monkeypatch):
    model, found = lattice(), []
    for most in (GRID_OPERATIONS, 0):
        monkeypatch.setattr("physgen.verbs.explored.GRID_OPERATIONS", most)
        grid = explored_page(model, {}, 2, 0, True, None, None, lambda *_: None)["grid"]
        found.append((len(grid["places"]), grid["rows"]))
    assert found == [(81, 16), (25, 4)]


@pytest.mark.parametrize("stopped", ["operations", "noise_columns"])
def test_ctrl_c_ends_it_at_once_and_leaves_nothing(tmp_path, monkeypatch, stopped):
    said = []
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)  # shells' background is deaf

    def slow(*_):
        signal.raise_signal(signal.SIGINT)
        said.append("went on")

    monkeypatch.setattr(graph, stopped, slow)
    with pytest.raises(KeyboardInterrupt):
        physgen.explore(lattice(), out=tmp_path / "page.html", rows=4)
    signal.signal(signal.SIGINT, heard)
    assert not said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", ["explore", "infer"])
def test_ctrl_c_ends_posteriors_within_a_block_of_rows(tmp_path, monkeypatch, verb):
    model, said = lattice(), []
    x = physgen.simulate("ising", size=4, n=5, seed=2).x
    score = model._log_prob

    def slow(*given):
        said.append(len(given[0]))
        if len(said) == 3:
            signal.raise_signal(signal.SIGINT)
        return score(*given)

    monkeypatch.setattr("physgen.surrogates.base.CACHED", 1)
    monkeypatch.setattr("physgen.surrogates.base.FEWEST_ROWS", 8)
    if verb == "infer":
        monkeypatch.setattr(model, "_log_prob", slow)
        with pytest.raises(Interrupted, match="nothing was written"):
            physgen.infer(model, x, out=tmp_path / "posterior.h5")
    else:
        monkeypatch.setattr("physgen.verbs.explored.infer", lambda *a, **k: (
            monkeypatch.setattr(model, "_log_prob", slow), physgen.infer(*a, **k)
        )[1])  # fmt: skip
        with pytest.raises(Interrupted, match="nothing was written"):
            physgen.explore(model, out=tmp_path / "page.html", observation=x, rows=4, grid=True)
    assert said == [8, 8, 8]
    assert not list(tmp_path.iterdir())


def test_exact_curves_are_on_the_stops_of_the_sliders():
    law = Law.of("gaussian", {"parameters": 2})
    mean = base.observables(law.build())["mean"]
    stops = np.linspace(-1, 1, 241)[:, None] * np.ones(2)
    found = exact_of(mean, law.prior, stops)
    theta = law.prior.from_coordinates(stops[[3 * found["step"], 5 * found["step"]]])
    at = np.array([[theta[0, 0], theta[1, 1]]])
    assert found["values"][3 * found["nodes"] + 5] == pytest.approx(mean.exact(at)[0], rel=1e-5)
    assert exact_of(base.observables(law.build())["norm"], law.prior, stops) is None


def test_exact_curves_of_many_parameters_are_graphs(browser, tmp_path):
    cls, law = find("surrogates", "flow"), Law.of("gaussian", {"size": 3, "parameters": 4})
    model = cls.create(law, cls.Config(layers=1, hidden=4), seed=0).eval()
    physgen.explore(model, out=tmp_path / "page.html", rows=4)
    browser.open(tmp_path / "page.html")
    browser.value(READY)
    found = browser.value(
        "[exactAt(page.observables[0], [[3, 50, 120, 240]])[0][0], theta([3, 50, 120, 240])]"
    )
    mean = base.observables(law.build())["mean"]
    assert found[0] == pytest.approx(mean.exact(np.array([found[1]]))[0], abs=1e-6)
    assert browser.complaints == []
