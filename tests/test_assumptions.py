"""What data break of what a density assumes, and what held-out rows say after a training."""

import re

import numpy as np
import pytest
import torch
from scipy import stats

import physgen
from physgen.checks import held_out
from physgen.checks.held_out import held_out_warnings, plain_loss, told_apart
from physgen.dataset import Dataset, Meta, Rows
from physgen.dataset.assumptions import broken_assumptions, float_type, relation
from physgen.law import Law
from physgen.registry import find
from physgen.testing import check_simulator
from simulators import Box
from simulators.gaussian import LinearGaussian

N = 2000
PRIOR = Box(a=(-1.0, 1.0))


def rng(seed=0):
    return np.random.default_rng(seed)


def law_of(x, support="reals"):
    return Law("none", PRIOR, x.shape[1:], support)


def related(x):
    x = x.copy()
    x[:, 1] = 2 * x[:, 0] + 5
    return x


NORMAL = rng().normal(size=(N, 3)).astype(np.float32)
SHARES = rng().dirichlet(np.ones(3), N).astype(np.float32)
BROKEN = [
    ("constant", np.where([True, True, False], NORMAL, 1.5), r"tell: x\[2\] = 1.5 \("),
    ("copy", NORMAL[:, [0, 1, 0]], r"tell: x\[2\] = 1 x\[0\] \("),
    ("affine", related(NORMAL), r"tell: x\[1\] = 2 x\[0\] \+ 5 \("),
    ("shares", SHARES, r"tell: x\[2\] = -1 x\[0\] \+ -1 x\[1\] \+ 1 \("),
    ("image", NORMAL[:, :1, None].repeat(2, 2), r"tell: x\[0, 1\] = 1 x\[0, 0\] \("),
    ("long", np.tile(NORMAL[:100], (1, 50)), r"tell: x\[3\] = 1 x\[0\], .* and 142 more"),
    ("rounded", (1e9 + NORMAL.astype(float)).astype(np.float32), r"tell: x\[0\] = 1e\+09"),
    ("coarse", 1e5 + NORMAL, r"x hardly varies beside its size, over \S+ steps of float32"),
    ("bits", NORMAL > 0, r"^x takes 2 whole values .* 'levels' and levels = 2$"),
    ("signs", np.sign(NORMAL), r"^x takes 2 whole values .* support = 'spins'$"),
    (
        "counts",
        rng().poisson(300, (N, 3)),
        r"whole values .* support = 'counts'$",
    ),
    ("below zero", rng().poisson(3, (N, 3)) - 2, r"levels = \d+ of x \+ 2$"),
    ("one column", np.where([True, False, False], NORMAL > 0, NORMAL), r"^x\[0\] takes 2 whole"),
    ("quantised", np.round(10 * NORMAL) / 10, r"^x takes \d\d values in 2000 rows"),
    ("atom", NORMAL.clip(min=0), r"^x\[0\] is 0 in \d\d% of the rows, an atom"),
    ("tails", np.tan(3.1 * (rng().random((N, 3)) - 0.5)), "^x has heavy tails, values up to"),
]


@pytest.mark.parametrize(("name", "x", "told"), BROKEN, ids=[name for name, _, _ in BROKEN])
def test_what_a_density_assumes_and_data_break(name, x, told):
    x = x if x.dtype.kind == "f" else x.astype(np.float32)
    found = list(broken_assumptions(law_of(x), x))
    assert any(re.search(told, line) for line in found), found


def rare(n=20_000):
    """Cells that are seldom hit, one of them late, two of them together."""
    x = np.exp(rng().normal(size=(n, 5))).astype(np.float32)
    x[:, 2:] = 0
    x[-5:, 2] = np.arange(1, 6)
    x[7, 3:] = 1, 3
    return x


def nearly(order):
    """Three columns of which one pair is close, and the third is their difference."""
    x = rng().normal(size=(N, 1))
    noise = rng(1).normal(size=(N, 1))
    return np.hstack([[x, x + 1e-4 * noise, noise][i] for i in order])


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_a_relation_is_found_in_any_order(order):
    assert relation(nearly(order)).kept.tolist() == [True, True, False]


def test_a_relation_must_hold_in_all_rows():
    x = rng().normal(size=(15_000, 3))
    x[:, 1:] = 7.0, 0.0
    x[:, 2] = x[:, 0]
    assert relation(x).kept.tolist() == [True, False, False]
    x[-1, 1:] += 0.1
    assert relation(x).kept.all()


@pytest.mark.parametrize(
    ("x", "support"),
    [
        (NORMAL, "reals"),
        (rare(), "nonnegative"),
        (NORMAL[:5], "reals"),
        (np.exp(NORMAL), "nonnegative"),
        (NORMAL.clip(min=0), "nonnegative"),
        (np.sign(NORMAL).astype(np.int8), "spins"),
        (NORMAL @ rng(1).normal(size=(3, 3)).astype(np.float32), "reals"),
        (rng().laplace(size=(N, 3)), "reals"),
        (rng().standard_t(4, (N, 3)), "reals"),
    ],
)
def test_what_is_a_density_is_not_objected_to(x, support):
    assert list(broken_assumptions(law_of(x, support), x)) == []


@pytest.mark.parametrize(
    ("x", "dtype"),
    [
        (NORMAL.astype(float), "float32"),
        (NORMAL.astype(float) + 50, "float32"),
        (NORMAL.astype(float) + 1e4, "float64"),
        (1e9 + NORMAL.astype(float), "float64"),
        (1e45 * NORMAL.astype(float), "float64"),
        (1e-42 * NORMAL.astype(float), "float64"),
        (1e-60 * NORMAL.astype(float), "float64"),
        (1e-32 * NORMAL.astype(float), "float32"),
        (NORMAL + 1e9, "float32"),  # nothing is left to keep
        (np.full((N, 2), 0.1), "float32"),
        (np.arange(2 * N).reshape(N, 2), "float32"),
        (2**30 + np.arange(2 * N).reshape(N, 2), "float64"),
        (1e9 + NORMAL[:1].astype(float), "float64"),  # whose spread nobody knows
    ],
)
def test_x_is_kept_in_the_type_that_has_its_digits(x, dtype):
    assert float_type(x[:16]) == dtype


class Clock:
    """A time in seconds of the GPS, to a tenth of a second."""

    prior = Box(a=(1.0, 2.0))
    x_shape = (3,)

    def sample(self, theta, rng):
        return 1e9 + theta + 0.1 * rng.normal(size=(len(theta), 3))


class Hits:
    """Bits that are not declared."""

    prior = Box(a=(0.0, 1.0))
    x_shape = (5,)

    def sample(self, theta, rng):
        return 1.0 * (rng.random((len(theta), 5)) < theta)


@pytest.mark.slow
def test_digits_are_kept_from_the_simulator_to_the_posterior(tmp_path):
    """The exact posterior of a mean: width 0.1/√3, wherever the origin of x is."""
    data = physgen.simulate(Clock, n=1500, seed=1, out=tmp_path / "clock.h5")
    assert data.law.dtype == "float64"
    assert len(np.unique(data.x)) > 4400
    model = physgen.fit("cvae", data, epochs=20, seed=1, out=tmp_path / "clock.pt")
    drawn = physgen.sample(tmp_path / "clock.pt", n=100, theta={"a": 1.5})
    assert len(np.unique(drawn.x)) > 250
    assert abs(drawn.x.mean() - 1e9 - 1.5) < 0.1
    post = physgen.infer(model, data, rows=slice(0, 20))
    exact = (data.x[:20] - 1e9).mean(1)
    assert np.abs(post.mean[:, 0] - exact.clip(1, 2)).max() < 0.1
    assert np.median(post.sd) < 0.1, "the prior's is 0.29"


def test_what_is_wrong_with_data_is_said_by_all_who_look(caplog):
    told = "x takes 2 whole values"
    assert told in check_simulator(Hits())[0]
    data = physgen.simulate(Hits, n=400, seed=1)
    assert told in str(physgen.inspect(data))
    model = physgen.fit("cvae", data, epochs=1)
    assert told in model.info["warnings"][0]
    assert told in caplog.text


# --- held-out rows -------------------------------------------------------------------------------


def untrained(law):
    cls = find("surrogates", "cvae")
    return cls.create(law, cls.Config())


def test_the_plain_model_is_the_law_itself_where_that_is_normal():
    """−log p by regression is the exact one to what 3,000 rows tell."""
    simulator = LinearGaussian()
    model = find("surrogates", "cvae").create(
        Law.of(simulator), find("surrogates", "cvae").Config()
    )
    pairs = []
    for seed in (0, 1):
        theta = simulator.prior.sample(3000, rng(seed))
        x = simulator.sample(theta, rng(seed + 2)).astype(np.float32)
        pairs.append((torch.from_numpy(theta), torch.from_numpy(x)))
    model.fit_transform(pairs[0][1])
    exact = -simulator.log_prob(*(v.numpy() for v in pairs[1])).mean()
    assert plain_loss(model, *pairs) == pytest.approx(exact, abs=0.05)


def test_the_plain_model_of_spins_is_their_frequencies():
    theta = torch.zeros(4000, 1)
    x = torch.from_numpy(np.where(rng().random((4000, 3)) < [0.5, 0.1, 0.9], 1, -1))
    model = untrained(Law("none", PRIOR, (3,), "spins"))
    exact = sum(stats.bernoulli(p).entropy() for p in (0.5, 0.1, 0.9))
    pairs = (theta[:2000], x[:2000]), (theta[2000:], x[2000:])
    assert plain_loss(model, *pairs) == pytest.approx(float(exact), abs=0.03)


def test_a_classifier_tells_a_wrong_surrogate_and_not_a_right_one(monkeypatch):
    """The right one is the simulator itself; the wrong one 30 % too wide."""
    simulator = LinearGaussian()
    model = untrained(Law.of(simulator))
    theta = simulator.prior.sample(500, rng())
    x = torch.from_numpy(simulator.sample(theta, rng(1)))
    model.fit_transform(x)

    def found(width):
        def sample(theta, generator):
            theta = theta.numpy()
            mean = theta @ simulator.matrix.T
            drawn = mean + width * (simulator.sample(theta, rng(len(theta) + 7)) - mean)
            return torch.from_numpy(drawn)

        monkeypatch.setattr(model, "sample", sample, raising=False)
        return told_apart(model, torch.from_numpy(theta), x, seed=0)

    right, wrong = found(1.0), found(1.8)
    assert right["rows"] == 500
    assert right["auc"] < 0.58 < 0.65 < wrong["auc"]
    assert right["control"] > 0.9
    assert told_apart(model, torch.from_numpy(theta[:99]), x[:99], seed=0) is None
    monkeypatch.setattr(held_out, "LONGEST", 0.0)
    assert found(1.8) is None
    assert "AUC" in next(held_out_warnings(model, [1.0], None, wrong))
    assert not list(held_out_warnings(model, [1.0], None, right))


def test_the_course_of_validation_is_told():
    model = untrained(Law.of(LinearGaussian()))
    falling, rising = [5.0, 4.0, 3.0, 2.9, 2.8, 2.8], [5.0, 3.0, 3.2, 4.0, 5.0, 5.0]
    assert not list(held_out_warnings(model, falling, 2.6, None))
    assert "after epoch 2 of 6 and rose by 2 nats" in next(
        held_out_warnings(model, rising, None, None)
    )
    assert "0.8 nats a row worse than that of a normal law" in next(
        held_out_warnings(model, falling, 2.0, None)
    )
    assert list(held_out_warnings(model, falling, 2.3, None))
    assert not list(held_out_warnings(model, falling, 2.3, None, start=2.55))
    assert "after epoch 0 of 6" in next(held_out_warnings(model, rising, None, None, start=2.0))


def test_the_summary_tells_the_classifier_and_its_control():
    theta = Box(a=(-1.0, 1.0)).sample(1200, rng())
    x = theta + 0.3 * rng(1).normal(size=(1200, 2))
    data = Dataset(Rows(x, theta, meta=Meta(law_of(x))))
    model = physgen.fit("cvae", data, epochs=3)
    assert "samples told from held-out x: AUC 0." in model.summary
    assert model.info["held_out"]["rows"] == 120


def test_columns_are_called_by_name(caplog):
    rng = np.random.default_rng(0)
    x = {"choice": rng.integers(0, 2, 1000) * 1.0, "time": np.exp(rng.normal(size=1000))}
    data = physgen.dataset_of(rng.random((1000, 1)), x, {"a": (0, 1)}, support="reals*2")
    assert "choice takes 2 whole values" in physgen.inspect(data)["warnings"][0]
    model = physgen.fit("autoregressive", data, epochs=1)
    assert "choice takes 2 whole values" in model.info["warnings"][0]
    assert "time: log" in " ".join(model.info["x is taken by"])
