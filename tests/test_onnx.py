"""Surrogates as ONNX graphs: onnxruntime draws what torch draws, from the same random numbers."""

import json
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from scipy import stats

import physgen
from physgen.cli import main
from physgen.errors import Interrupted, UsageError
from physgen.law import Law
from physgen.nn import coordinate_table
from physgen.nn.coordinate_table import tabulated
from physgen.nn.given_noise import GivenNoise
from physgen.nn.tensors import digest
from physgen.nn.transforms import Rescale
from physgen.registry import find
from physgen.surrogates.base import Likelihood, Surrogate
from simulators.prior import Box, Prior

onnxruntime = pytest.importorskip("onnxruntime")
graph = pytest.importorskip("physgen.surrogates.graph")

OLD = Path(__file__).parents[1] / "data" / "v0.1"
LAWS = {
    "lattice": Law.of("ising", {"size": 4, "width": 6}),
    "odd lattice": Law.of("ising", {"size": 3, "width": 5, "theta": "beta-xy"}),
    "levels": Law("dice", Box(bias=(-1.0, 1.0)), (5,), "levels", levels=3),
    "hurdle": Law("rain", Box(log_mean=(-1.0, 1.0)), (5,), "nonnegative"),
    "mixed": Law("mixed", Box(a=(-1.0, 1.0)), (4,), "mixed", column_supports=(
        "levels:2", "reals", "counts", "nonnegative"
    )),
    "vector": Law.of("gaussian", {"size": 5, "parameters": 3}),
    "torus": Law.of("gaussian-field", {"size": 4}),
    "wide": Law("wide", Prior(
        tau=stats.loguniform(1e-9, 1), h=stats.norm(0, 0.1, ), u=(3.0, 5.0), g=stats.gamma(0.5),
        correlation={("u", "h"): 0.5},
    ), (4,), dtype="float64"),
    "shower": Law("tower", Box(energy=(1.0, 9.0)), (3, 2, 2), "nonnegative"),
}  # fmt: skip
CASES = {
    "autoregressive, lattice": ("autoregressive", "lattice", {"hidden": 16}),
    "autoregressive, odd lattice": ("autoregressive", "odd lattice", {}),
    "autoregressive, levels": ("autoregressive", "levels", {}),
    "autoregressive, causal": ("autoregressive", "vector", {"network": "causal", "hidden": 8}),
    "autoregressive, hurdle": ("autoregressive", "hurdle", {}),
    "autoregressive, vector": ("autoregressive", "vector", {}),
    "autoregressive, student": ("autoregressive", "vector", {"mixture": "student"}),
    "autoregressive, mixed": ("autoregressive", "mixed", {}),
    "cvae, lattice": ("cvae", "lattice", {"stages": 3}),
    "cvae, vector": ("cvae", "vector", {}),
    "cvae, torus": ("cvae", "torus", {}),
    "cvae, hurdle": ("cvae", "hurdle", {}),
    "cvae, compound Poisson": ("cvae", "hurdle", {"head": "compound-poisson"}),
    "cvae, mixture": ("cvae", "hurdle", {"latents": "mixture"}),
    "cvae, binary": ("cvae", "lattice", {"latents": "binary"}),
    "cvae, any prior": ("cvae", "wide", {}),
    "diffusion, masked": ("diffusion", "lattice", {"steps": 3}),
    "diffusion, gaussian": ("diffusion", "lattice", {"steps": 3, "kernel": "gaussian"}),
    "diffusion, euler-maruyama": (
        "diffusion",
        "vector",
        {"steps": 3, "sampler": "euler-maruyama", "noise_schedule": "linear"},
    ),
    "diffusion, heun": ("diffusion", "vector", {"steps": 4, "sampler": "heun"}),
    "diffusion, dpm-solver": ("diffusion", "vector", {"steps": 3, "sampler": "dpm-solver"}),
    "diffusion, ddim": ("diffusion", "vector", {"steps": 3, "sampler": "ddim", "eta": 0.5}),
    "diffusion, hurdle": ("diffusion", "hurdle", {"steps": 2}),
    "diffusion, layered": ("diffusion", "shower", {"steps": 2, "showers": "channels"}),
    "diffusion, cells": ("diffusion", "shower", {"steps": 2}),
    "flow": ("flow", "vector", {"layers": 2, "hidden": 16}),
    "flow, coupling": ("flow", "vector", {"passes": 2, "tails": "gaussian", "hidden": 16}),
    "gan, lattice": ("gan", "lattice", {}),
    "gan, vector": ("gan", "vector", {"loss": "wasserstein"}),
    "rbm, tied": ("rbm", "lattice", {"steps": 4, "chains": 64}),
    "rbm, dense": ("rbm", "odd lattice", {"steps": 4, "chains": 64, "layout": "dense"}),
    "tree": ("tree", "shower", {}),
    "tree, layers alone": ("tree", "hurdle", {}),
}


def surrogate_of(name, law, options, seed=3):
    """A surrogate of weights that nothing in it hides."""
    cls = find("surrogates", name) if isinstance(name, str) else name
    made = cls.create(LAWS[law], cls.Config(**options), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in made.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=generator)
    return made.eval()


@pytest.fixture(scope="module")
def made():
    """Case → surrogate, and its graph as bytes; each made once."""
    known = {}

    def of(case):
        if case not in known:
            surrogate = surrogate_of(*CASES[case])
            known[case] = surrogate, content_of(surrogate)
        return known[case]

    return of


def content_of(surrogate):
    columns = graph.noise_columns(surrogate)
    return graph.onnx_model(surrogate, columns).SerializeToString()


def checked(content, surrogate):
    return graph.checked(content, surrogate, graph.noise_columns(surrogate))


def session_of(content):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def given(surrogate, rows, seed=0):
    """θ and random numbers as numpy has them."""
    rng = np.random.default_rng(seed)
    theta = surrogate.law.prior.sample(rows, rng)
    columns = graph.noise_columns(surrogate)
    return {"theta": theta} | {
        law: getattr(rng, {"normal": "standard_normal", "uniform": "random"}[law])(
            (rows, n), dtype=np.float32
        )
        for law, n in columns.items()
    }


def run(session, feed):
    return session.run(["x"], feed)[0]


def by_torch(surrogate, feed):
    noise = {k: torch.from_numpy(v) for k, v in feed.items() if k != "theta"}
    return graph.draw_with(surrogate, torch.from_numpy(feed["theta"]), noise).numpy()


SLOW = ("diffusion, gaussian", "diffusion, layered")


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=pytest.mark.slow) if c in SLOW else c for c in CASES]
)
def test_onnxruntime_draws_what_torch_draws(made, case):
    surrogate, content = made(case)
    session = session_of(content)
    for rows in (1, 7, 200):
        feed = given(surrogate, rows, seed=rows)
        ours, theirs = by_torch(surrogate, feed), run(session, feed)
        found = graph.compared(ours, theirs)
        assert theirs.shape == (rows, *surrogate.law.x_shape)
        assert found.others <= (rows == 200), found
        assert found.largest < 1e-4
    other = feed | {k: v[::-1].copy() for k, v in feed.items() if k != "theta"}  # the control
    assert graph.compared(ours, run(session, other)).others > 50
    if "rbm" not in case:  # whose chains begin where they ended, and forget slowly what θ is
        turned = feed | {"theta": feed["theta"][::-1].copy()}
        assert not np.array_equal(ours, run(session, turned))


@pytest.mark.parametrize("case", ["autoregressive, lattice", "cvae, vector", "gan, vector"])
def test_a_graph_of_other_weights_is_not_published(made, case):
    surrogate, content = made(case)
    assert checked(content, surrogate).others <= 1
    other = surrogate_of(*CASES[case], seed=4)
    with pytest.raises(UsageError, match=r"of 200 rows \d+ are others .* nothing was written"):
        checked(content, other)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["autoregressive, hurdle", "cvae, vector", "diffusion, masked"])
def test_numbers_of_numpy_draw_from_the_law_of_the_surrogate(made, case):
    surrogate, content = made(case)
    feed, rows = given(surrogate, 2000, seed=5), 2000
    feed["theta"] = np.repeat(surrogate.law.prior.median[None], rows, 0)
    theirs = run(session_of(content), feed).reshape(rows, -1).astype(float)
    theta = torch.from_numpy(feed["theta"])
    ours = surrogate.sample(theta, 1).numpy().reshape(rows, -1).astype(float)

    def worst(a, b):
        """The worst z of means, second moments and parts at 0, products of neighbours included."""
        a, b = (np.concatenate([v, v**2, v == 0, v * np.roll(v, 1, 1)], 1) for v in (a, b))
        error = np.sqrt((a.var(0) + b.var(0)) / rows)
        varies = error > 0
        assert np.allclose(a[:, ~varies].mean(0), b[:, ~varies].mean(0))
        return abs((a.mean(0) - b.mean(0))[varies] / error[varies]).max()

    assert worst(ours, theirs) < 4.5
    wrong = 1.2 * theirs if surrogate.law.support != "spins" else np.where(
        np.random.default_rng(0).random(theirs.shape) < 0.1, 1, theirs
    )  # fmt: skip
    assert worst(ours, wrong) > 4.5  # the control


@pytest.mark.parametrize("a", [0.4, 0.99, 1.0, 3.0, 5000.0])
def test_gamma_numbers_of_given_noise_follow_their_law(a):
    rng = np.random.default_rng(1)

    def deal(law, start, end):
        draw = rng.standard_normal if law == "normal" else rng.random
        return torch.from_numpy(draw((20000, end - start), dtype=np.float32))

    with GivenNoise(deal) as noise:
        x = torch._standard_gamma(torch.full((20000,), a))
    assert noise.taken["normal"] == 6
    assert stats.kstest(x.numpy(), stats.gamma(a).cdf).pvalue > 1e-3
    assert stats.kstest(x.numpy(), stats.gamma(1.1 * a).cdf).pvalue < 1e-3  # the control


@pytest.mark.parametrize("rate", [0.03, 4.0, 15.9, 16.1, 40.0, 900.0])
def test_poisson_numbers_of_given_noise_follow_their_law(rate):
    """Of numbers laid out evenly, so that the law shows itself without an error of sampling."""
    even = (torch.arange(400_000, dtype=torch.float64) + 0.5)[:, None] / 400_000
    laid = {"uniform": even, "normal": torch.special.ndtri(even)}
    with GivenNoise(lambda law, start, end: laid[law]):
        found = torch.poisson(torch.full_like(even, rate), torch.Generator()).flatten()
    k = np.arange(int(found.max()) + 1)
    part = np.bincount(found.long().numpy()) / len(found)

    def total_variation(mean):
        return abs(part - stats.poisson.pmf(k, mean)).sum() / 2

    assert total_variation(rate) < 1.5e-4
    assert total_variation(1.02 * rate) > 4e-4  # the control


def test_given_noise_stands_for_all_that_torch_draws():
    numbers = torch.from_numpy(np.random.default_rng(0).random((5, 100), dtype=np.float32))
    p = torch.full((5, 2), 0.3)
    with GivenNoise(lambda law, start, end: numbers[:, start:end]) as noise:
        found = [
            torch.rand(5, 2),
            torch.rand((5, 2), generator=torch.Generator()),
            torch.randn(size=(5, 2)),
            torch.rand_like(p),
            torch.randn_like(p),
            torch.bernoulli(p),
            torch.empty(5, 2).uniform_(-1, 1),
        ]
        with pytest.raises(UsageError, match="draws by torch's randint"):
            torch.randint(2, (), generator=torch.Generator())
        with pytest.raises(UsageError, match=r"draws \(4, 2\) random numbers for a batch of 5"):
            torch.rand(4, 2)
    assert noise.taken == {"normal": 4, "uniform": 12}
    assert torch.equal(found[0], numbers[:, :2])
    assert torch.equal(found[1], numbers[:, 2:4])
    assert torch.equal(found[5], (numbers[:, 6:8] < 0.3).float())
    assert torch.equal(found[6], 2 * numbers[:, 8:10] - 1)


# --- θ and x in their units ----------------------------------------------------------------------

EVERY = Prior(
    a=(0, 1), tau=stats.loguniform(1e-6, 1), h=stats.norm(0, 0.1), g=stats.gamma(0.5),
    b=stats.beta(0.5, 0.5), t=stats.t(2), tn=stats.truncnorm(-2, 2), e=stats.expon(),
    ln=stats.lognorm(3), w=stats.weibull_min(0.3), u=(3, 5), huge=stats.loguniform(1e-30, 1e30),
    c=stats.cauchy(),
)  # fmt: skip


@pytest.mark.parametrize("prior", [EVERY, EVERY.correlate({("u", "h"): 0.5})])
def test_a_table_maps_theta_of_any_law_as_scipy_does(prior):
    theta = torch.from_numpy(prior.sample(3000, np.random.default_rng(0)))
    theta = torch.cat([theta, 1.5 * theta - 2])  # beyond the bounds, too
    torch.testing.assert_close(tabulated(prior)(theta), Rescale(prior)(theta), rtol=0, atol=1e-6)


def test_a_table_that_is_too_coarse_is_refused(monkeypatch):
    monkeypatch.setattr(coordinate_table, "NODES", 20)
    with pytest.raises(UsageError, match="prior of tau: loguniform:1e-06:1 has no smooth map"):
        tabulated(EVERY)


@pytest.mark.parametrize("support", ["reals", "nonnegative"])
def test_units_tails_and_relations_of_x_are_in_the_graph(support):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 5))
    x[:, 1] = 1e9 + 1e-3 * x[:, 1]  # far from 0
    x[:, 2] = 1e-12 * rng.standard_t(1, 500)  # heavy tails
    x[:, 3], x[:, 4] = 7, 2 * x[:, 0] + 1  # told by others
    if support == "nonnegative":
        x = np.where(rng.random(x.shape) < 0.3, 0, abs(x))
        x[:, 3] = 7
    law = Law("own", Box(a=(0, 1)), (5,), support, dtype="float64")
    cls = find("surrogates", "cvae")
    surrogate = cls.create(law, cls.Config(), seed=1).eval()
    surrogate.fit_transform(torch.from_numpy(x))
    assert len(surrogate.transform.told()) == (2 if support == "reals" else 1)
    content = content_of(surrogate)
    assert checked(content, surrogate).others == 0
    drawn = run(session_of(content), given(surrogate, 300))
    assert drawn.dtype == np.float64
    assert (drawn[:, 3] == 7).all()
    if support == "reals":
        np.testing.assert_allclose(drawn[:, 4], 2 * drawn[:, 0] + 1)
        assert abs(drawn[:, 1] - 1e9).max() < 0.1
        assert 1e-13 < abs(drawn[:, 2]).mean() < 1e-6


def test_monotone_maps_and_principal_components_of_x_are_in_the_graph():
    rng = np.random.default_rng(0)
    theta = rng.random((3000, 1))
    y = theta + 0.1 * rng.normal(size=(3000, 6))
    x = np.stack([np.exp(5 * y[:, 0]), 2 - np.exp(5 * y[:, 1]), (y[:, 2] - 0.5) ** 3, y[:, 3],
                  y[:, 3] + 1e-5 * y[:, 4], 1 / (1 + np.exp(20 * y[:, 5] - 10))], 1)  # fmt: skip
    law = Law("own", Box(a=(0, 1)), (6,), dtype="float64")
    cls = find("surrogates", "cvae")
    surrogate = cls.create(law, cls.Config(head="independent"), seed=1).eval()
    surrogate.fit_transform(torch.from_numpy(x), torch.from_numpy(theta))
    words = " ".join(surrogate.transform.words())
    assert all(word in words for word in ("log(x", "− x)", "spline", "asinh", "principal"))
    content = content_of(surrogate)
    assert checked(content, surrogate).others == 0
    assert run(session_of(content), given(surrogate, 300))[:, 0].min() > 0


# --- files ---------------------------------------------------------------------------------------


def export(*words):
    done = CliRunner().invoke(main, ["export", *map(str, words)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


@pytest.mark.parametrize("family", ["autoregressive", "gan"])
def test_a_checkpoint_is_exported_with_what_is_to_be_known_of_it(family, tmp_path):
    out = tmp_path / "model.onnx"
    code, told = export(OLD / f"{family}.pt", "--format", "onnx", "-o", out)
    assert code == 0, told
    assert "in onnxruntime 200 rows are those of torch" in told
    surrogate, _ = physgen.load(OLD / f"{family}.pt")
    session = session_of(str(out))
    about = session.get_modelmeta().custom_metadata_map
    assert (about["physgen"], about["family"]) == (physgen.__version__, family)
    assert Law.from_json(json.loads(about["law"])) == surrogate.law
    assert json.loads(about["parameters"]) == list(surrogate.law.prior.names)
    assert about["weights_sha256"] == digest(dict(surrogate.state_dict()), "")
    noise = json.loads(about["noise"])
    shapes = {i.name: i.shape for i in session.get_inputs()}
    assert shapes.pop("theta") == ["n", len(surrogate.law.prior)]
    assert shapes == {name: ["n", of["columns"]] for name, of in noise.items()}
    assert noise["uniform"]["law"] == "uniform numbers in [0, 1)"
    (x,) = session.get_outputs()
    assert (x.name, x.shape) == ("x", ["n", *surrogate.law.x_shape])
    again = physgen.export(surrogate, format="onnx", out=tmp_path / "again.onnx")
    assert again.path.read_bytes() == out.read_bytes()  # and in Python


def test_a_runtime_needs_neither_torch_nor_physgen(tmp_path):
    physgen.export(OLD / "autoregressive.pt", format="onnx", out=tmp_path / "m.onnx")
    code = (
        "import sys, numpy as np, onnxruntime\n"
        "session = onnxruntime.InferenceSession('m.onnx')\n"
        "feed = {i.name: np.full((3, i.shape[1]), 0.3, 'f8' if i.name == 'theta' else 'f4')\n"
        "        for i in session.get_inputs()}\n"
        "print(session.run(['x'], feed)[0].shape, {'torch', 'physgen'} & set(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout == "(3, 4, 4) set()\n", done.stderr


def test_steps_of_a_graph_are_chosen_on_the_way(tmp_path):
    code, told = export(OLD / "rbm.pt", "--format", "onnx", "-o", tmp_path / "m.onnx")
    assert (code, told.count("\n")) == (2, 1)
    assert "onnx: rbm: decides by its numbers what to compute next; give --steps" in told
    assert list(tmp_path.iterdir()) == []
    out = tmp_path / "m.onnx"
    assert export(OLD / "rbm.pt", "--format", "onnx", "--steps", 3, "-o", out)[0] == 0
    columns = json.loads(session_of(str(out)).get_modelmeta().custom_metadata_map["noise"])
    out.unlink()
    assert export(OLD / "rbm.pt", "--format", "onnx", "--steps", 6, "-o", out)[0] == 0
    twice = json.loads(session_of(str(out)).get_modelmeta().custom_metadata_map["noise"])
    assert 1.9 < twice["uniform"]["columns"] / columns["uniform"]["columns"] < 2.1


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ((OLD / "ising.h5", "--format", "onnx"), 2, "export: onnx: expected a surrogate, got"),
        pytest.param(
            (OLD / "npe.pt", "--format", "onnx"), 2, "onnx: expected a surrogate, as fit makes it",
            marks=pytest.mark.slow,  # for sbi is imported
        ),
        ((OLD / "rbm.pt", "--format", "onnx", "--steps", 3, "--sampler", "tempered"), 2,
         "onnx: rbm: draws (16, 1) random numbers for a batch of 2 rows; choose another sampler"),
        ((OLD / "gan.pt", "--format", "onnx", "--steps", 3), 2, "gan: no option 'steps'"),
        ((OLD / "gan.pt", "--format", "onnx", "--binning", "b.xml"), 2,
         "onnx has no option 'binning'; leave it out"),
        ((OLD / "ising.h5", "--format", "arviz", "--steps", 3), 2, "steps is an option of surrog"),
        ((__file__, "--format", "onnx"), 3, "expected a checkpoint or a dataset, got neither"),
    ],
)  # fmt: skip
def test_wrong_input_is_refused_in_one_line(words, code, told, tmp_path):
    found = export(*words, "-o", tmp_path / "out.onnx")
    assert found[0] == code, found
    assert told in found[1]
    assert found[1].count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_package_that_is_not_there_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr("physgen.formats.onnx.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"needs onnx; pip install 'physgen\[onnx\]'"):
        physgen.export(OLD / "gan.pt", format="onnx", out=tmp_path / "m.onnx")
    assert find_spec("onnx")


def test_a_graph_is_written_whole_or_not_at_all(monkeypatch, tmp_path):
    out = tmp_path / "m.onnx"
    out.write_text("precious")
    with pytest.raises(UsageError, match="exists; choose another output"):
        physgen.export(OLD / "gan.pt", format="onnx", out=out)

    def stopped(*_):
        raise Interrupted(2)

    with monkeypatch.context() as patch:
        patch.setattr(graph, "checked", stopped)
        with pytest.raises(Interrupted):
            physgen.export(OLD / "gan.pt", format="onnx", out=out, force=True)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["precious"]
    physgen.export(OLD / "gan.pt", format="onnx", out=out, force=True)
    assert session_of(str(out)).get_outputs()[0].name == "x"


# --- what no graph can hold ----------------------------------------------------------------------


@dataclass(frozen=True)
class NoOptions:
    pass


class Drawer(Surrogate):
    """A family of one's own, that draws as `way` says."""

    name: ClassVar[str] = "drawer-of-tests"
    likelihood: ClassVar[Likelihood] = Likelihood.NONE
    Config = NoOptions
    way: ClassVar[str] = ""

    def __init__(self, law, config):
        super().__init__(law, config)
        self.w = torch.nn.Parameter(torch.ones(5))

    def _loss(self, c, z, generator, progress):
        return z.sum(1)

    def _sample(self, c, generator):
        z = torch.randn(len(c), 5, generator=generator) * self.w + c[:, :1]
        match self.way:
            case "multinomial":
                return z + torch.multinomial(z.exp(), 1, generator=generator)
            case "global":
                return z + torch.ones_like(z).exponential_()
            case "numpy":
                return z + torch.from_numpy(np.sin(c[:, :1].numpy()))
            case "loop":
                while bool((z > 1).any()):
                    z = z / 2
            case "mask":
                z[z > 1] = 0
            case "part":
                whole, row = z.clone(), z
                whole[:, 0].add_(row[:, 1])
                return whole
            case "operator":
                return torch.special.bessel_j0(z)
            case "rows":
                return z if len(z) % 2 else z.tanh()
        return z


@pytest.mark.parametrize(
    ("way", "told"),
    [
        ("multinomial", "draws by torch's multinomial"),
        ("global", r"draws by torch's aten.exponential_.default"),
        ("numpy", "computes something outside of torch"),
        ("loop", "decides by its numbers what to compute next"),
        ("mask", "looks up by a mask|decides by its numbers"),
        ("part", "writes into a part of a tensor and uses the whole"),
        ("operator", "calls torch's aten.special_bessel_j0.default, which is not known here"),
        ("rows", "computes in another way for another number of rows"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*")
def test_what_no_graph_can_hold_is_refused(way, told, monkeypatch):
    surrogate = surrogate_of(Drawer, "vector", {})
    checked(content_of(surrogate), surrogate)  # the control
    monkeypatch.setattr(Drawer, "way", way)
    with torch.random.fork_rng(), pytest.raises(UsageError, match=told) as caught:
        checked(content_of(surrogate), surrogate)
    assert str(caught.value).startswith("onnx: ")
    assert "\n" not in str(caught.value)


def test_a_chain_that_is_too_long_for_a_graph_is_refused(monkeypatch):
    surrogate = surrogate_of("autoregressive", "vector", {"network": "causal", "hidden": 8})
    monkeypatch.setattr("physgen.nn.recorded.MOST_CALLS", 100)
    with pytest.raises(UsageError, match="takes more than 100 operations"):
        content_of(surrogate)
