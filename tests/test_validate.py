"""validate: every figure of a surrogate whose law, and whose error, are known."""

import json
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

import physgen
from physgen.checks.validation import validation
from physgen.errors import UsageError
from physgen.law import Law
from physgen.surrogates.base import Likelihood, Surrogate
from physgen.verbs.validate import verdict
from simulators.gaussian import LinearGaussian

SIMULATOR = LinearGaussian(size=7, parameters=1, noise=0.5)
WIDTH = float(np.sqrt(SIMULATOR.posterior(np.zeros((1, 7)))[1][0, 0]))


@dataclass(frozen=True)
class Config:
    """How far the law is off: x is drawn at θ + shift."""

    shift: float = 0.0


class Shifted(Surrogate):
    """The toy's own law, at θ + shift."""

    name = "shifted"
    likelihood = Likelihood.EXACT
    Config = Config

    def __init__(self, law, config):
        super().__init__(law, config)
        self.simulator = LinearGaussian(**law.options)
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def _theta(self, c):
        return 2 * c.double().numpy() + self.config.shift

    def _loss(self, c, z, generator, progress):
        raise NotImplementedError

    def _sample(self, c, generator):
        mean = torch.as_tensor(self.simulator.mean(self._theta(c))).float()
        return mean + self.simulator.noise * torch.randn(mean.shape, generator=generator)

    def _log_prob(self, c, z, noise, draws):
        value = torch.as_tensor(self.simulator.log_prob(self._theta(c), z.double().numpy()))
        return value, torch.zeros(len(c))


class Silent(Shifted):
    """A family without a likelihood."""

    likelihood = Likelihood.NONE


def surrogate(shift=0.0, family=Shifted, simulator=SIMULATOR):
    return family(Law.of("gaussian", vars(simulator)), Config(shift))


def rows(simulator=SIMULATOR, n=400):
    rng = np.random.default_rng(11)
    theta = simulator.prior.sample(n, rng)
    return theta, simulator.sample(theta, rng)


@pytest.fixture(scope="module")
def right():
    return validation(surrogate(), *rows(), SIMULATOR, observations=30)


@pytest.fixture(scope="module")
def wrong():
    return validation(surrogate(0.6 * WIDTH), *rows(), SIMULATOR, observations=30)


@pytest.mark.slow
def test_the_right_law_has_no_gap_and_the_exact_posterior(right):
    nll, posterior = right["nll"], right["posterior"]
    assert nll["gap_total"] == pytest.approx(0, abs=1e-4)
    assert nll["per_dim"] == pytest.approx(nll["floor_per_dim"], abs=1e-4)
    assert sum(b["rows"] for b in nll["by_theta"]) == nll["rows"] == 400
    assert posterior["mean_error"] == pytest.approx(0, abs=1e-4)
    assert posterior["std_ratio"] == pytest.approx(1, abs=1e-3)
    assert posterior["sets"]["tv"] == pytest.approx(0, abs=1e-3)


def test_a_known_shift_has_the_known_gap_and_posterior_error(wrong):
    nll, posterior = wrong["nll"], wrong["posterior"]
    kl = 0.6**2 / 2
    assert nll["gap_total"] == pytest.approx(kl, abs=4 * nll["gap_total_se"])
    assert nll["gap_per_dim"] == pytest.approx(nll["gap_total"] / 7)
    assert nll["verdict"]["passed"]
    assert posterior["mean_error"] == pytest.approx(0.6, abs=0.15)
    assert posterior["sets"]["mean_error"] == pytest.approx(0.6 * math.sqrt(10), rel=0.1)
    assert posterior["by_parameter"]["theta1"]["mean_error"] == posterior["mean_error"]


def test_observables_curves_and_tests_read_their_nulls_and_see_the_shift(right, wrong):
    for name in ("mean", "norm"):
        same = right["observables"][name]
        assert same["js"] < 1.4 * same["js_null"]
        assert len(same["histogram"]["edges"]) == len(same["histogram"]["true"]) + 1
    curve, moved = right["curves"]["mean"], wrong["curves"]["mean"]
    pull, moved_pull = (
        (np.array(c["surrogate"]["mean"]) - c["exact"]) / c["surrogate"]["se"]
        for c in (curve, moved)
    )
    assert abs(pull).max() < 5
    assert abs(moved_pull.mean()) > 1.5 > abs(pull.mean())
    assert right["curves"]["norm"]["exact"] is None
    same, other = right["two_sample"]["c2st"], wrong["two_sample"]["c2st"]
    assert abs(same["accuracy"] - 0.5) < 4 * same["se"]
    assert other["accuracy"] > 0.5 + 2 * other["se"]
    assert min(same["control"], other["control"]) > 0.8
    same, other = right["two_sample"]["js"], wrong["two_sample"]["js"]
    assert max(abs(same["value"]), abs(same["null"])) < 0.005 < other["value"]
    assert min(same["control"], other["control"]) > 0.2


@pytest.mark.usefixtures("quick")
def test_the_result_is_plain_json_and_repeats():
    first, second = (
        validation(surrogate(), *rows(n=60), SIMULATOR, observations=10) for _ in range(2)
    )
    assert json.loads(json.dumps(first, allow_nan=False)) == first
    for key in set(first) - {"seconds", "cpu_seconds"}:
        assert first[key] == second[key], key


def test_examples_are_densities(right):
    examples = right["posterior"]["examples"]
    assert len(examples) == 4
    for e in examples:
        for key in ("exact", "surrogate"):
            assert np.trapezoid(e[key], e["grid"]) == pytest.approx(1, abs=0.01)
        assert e["x"] is None


@pytest.mark.usefixtures("quick")
def test_without_a_simulator_there_is_no_floor_but_all_else_works():
    told = []

    def progress(name, part=0.0):
        told.append(name)

    result = validation(surrogate(), *rows(n=60), None, observations=5, progress=progress)
    assert result["nll"]["per_dim"] is not None
    assert result["nll"]["floor_per_dim"] is None
    assert result["nll"]["gap_total"] is None
    assert result["nll"]["verdict"] is None
    assert result["posterior"]["observations"] == 5
    assert result["posterior"]["mean_error"] is None
    assert result["posterior"]["sets"] is None
    assert result["posterior"]["examples"][0]["exact"] is None
    assert set(result["observables"]) == {f"x{i + 1}" for i in range(SIMULATOR.size)}
    assert {c["parameter"] for c in result["curves"].values()} == set(SIMULATOR.prior.names)
    assert set(result["two_sample"]) == {"c2st", "js", "mmd"}
    assert list(dict.fromkeys(told)) == list(result["seconds"]) == list(result["cpu_seconds"])


@pytest.mark.usefixtures("quick")
def test_a_family_without_a_likelihood_is_judged_by_its_draws():
    result = validation(surrogate(family=Silent), *rows(n=60), SIMULATOR)
    assert result["nll"] is None
    assert result["posterior"] is None
    assert set(result["observables"]) == {"mean", "norm"}


@pytest.mark.usefixtures("quick")
def test_rows_without_exact_truth_are_left_out():
    class Partial(LinearGaussian):
        def log_prob(self, theta, x):
            return np.where(abs(x[:, 0]) < 2, super().log_prob(theta, x), np.nan)

    theta, x = rows(n=60)
    known = int((abs(x[:, 0]) < 2).sum())
    result = validation(surrogate(), theta, x, Partial(size=7, parameters=1), observations=60)
    assert 0 < known < 60
    assert result["nll"]["rows"] == result["posterior"]["observations"] == known
    with pytest.raises(UsageError, match="no rows"):
        validation(surrogate(), theta[:0], x[:0], SIMULATOR)


@pytest.mark.usefixtures("quick")
def test_the_nll_spends_a_bounded_number_of_draws(monkeypatch):
    monkeypatch.setattr("physgen.checks.validation.NLL_DRAWS", 200)
    result = validation(surrogate(), *rows(n=60), SIMULATOR, draws=10, observations=3)
    assert result["nll"]["rows"] == 20
    assert result["nll"]["draws"] == 10
    assert result["posterior"]["draws"] == 1  # the family's default


@pytest.mark.usefixtures("quick")
def test_pictures_of_two_dimensional_x():
    class Square(LinearGaussian):
        @property
        def x_shape(self):
            return (1, self.size)

        def sample(self, theta, rng):
            return super().sample(theta, rng)[:, None]

    class Picture(Silent):
        def _sample(self, c, generator):
            return super()._sample(c, generator)[:, None]

        def latents(self, theta):
            yield "z", self.sample(theta.repeat(5, 1), torch.Generator().manual_seed(0))

    law = replace(Law.of("gaussian", vars(SIMULATOR)), x_shape=(1, 7))
    simulator = Square(size=7, parameters=1)
    result = validation(Picture(law, Config()), *rows(simulator, n=30), None)
    gallery, (latent,) = result["gallery"], result["latents"]
    assert np.shape(gallery["true"]) == np.shape(gallery["surrogate"]) == (8, 1, 7)
    assert gallery["theta"] == sorted(gallery["theta"])
    assert np.shape(latent["x"]) == (5, 1, 7)
    assert (latent["theta"], latent["values"]) == (0.0, [-2, -1, 0, 1, 2])


@pytest.mark.slow
def test_posteriors_of_many_parameters_are_compared_by_draws():
    """A law at θ + shift has posteriors that are shifted back by as much."""
    toy = LinearGaussian(size=8, parameters=4, noise=0.2)
    shift, width = 0.3, np.sqrt(np.diag(toy.posterior(np.zeros((1, 8)))[1]))
    rng = np.random.default_rng(1)
    theta = rng.uniform(-1, 1, (50, 4))  # far from the bounds, which would cut the shift
    x = toy.sample(theta, rng)
    found = validation(surrogate(shift, simulator=toy), theta, x, toy, observations=2)
    told = found["posterior"]
    assert told["observations"] == 2
    assert told["c2st"] is None
    for d, name in enumerate(toy.prior.names):
        one = told["by_parameter"][name]
        assert one["mean_error"] == pytest.approx(shift / width[d], rel=0.2)
        assert one["std_ratio"] == pytest.approx(1, abs=0.1)


def test_the_gap_of_one_row_has_no_error():
    nll = {"gap_per_dim": 0.25, "gap_se": None, "gap_total": 1.0, "likelihood": "exact"}
    found = verdict({"nll": nll, "posterior": None})
    assert found == "gap 0.25000 nats a dimension (1.000 nats in all, exact)"
    assert "0.25000 ± 0.10000 nats" in verdict({"nll": nll | {"gap_se": 0.1}, "posterior": None})


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "verb", [physgen.validate, pytest.param(physgen.calibrate, marks=pytest.mark.slow)]
)
def test_data_of_another_law_are_told(verb):
    model = physgen.fit("autoregressive", physgen.simulate("gaussian", n=100, seed=1), epochs=1)
    said = "was made with noise = 2.0, the training with 0.5"
    found = verb(model, physgen.simulate("gaussian", n=40, noise=2.0, seed=2))
    assert said in found["warnings"][-1]
    assert said in found.summary
    assert said in physgen.report(found).html
