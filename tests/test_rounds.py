"""Rounds of simulations: θ of a posterior's draws, files joined, what must not take them for the
prior."""

from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats

import physgen
from physgen.cli import main
from physgen.dataset import (
    Dataset,
    JoinedDataset,
    Meta,
    Proposal,
    Rows,
    Stream,
    read,
    write_arrays,
)
from physgen.dataset.simulated import Simulate
from physgen.errors import DataError, SimulatorFailed, UsageError
from physgen.law import Law
from physgen.posterior.methods import InferenceOptions, Source, simulations
from physgen.priors import truncated_prior
from physgen.training import split
from simulators.prior import Box, Prior

MIXED = Prior(a=(-3, 3), h=stats.norm(1, 2), t=stats.loguniform(1e-3, 1e3), correlation={})


def posterior_file(path, theta, law, first_row=0, **about):
    """A posterior file with some draws θ (n, k, D)."""
    told = {
        "method": "grid", "parameters": list(law.prior.names), "law": law.to_json(),
        "first_row": first_row, "seed": 0, "units": [""] * len(law.prior),
        "warnings": [], **about,
    }  # fmt: skip
    every = {"theta": theta, "mean": theta.mean(1), "sd": theta.std(1)}
    write_arrays(path, every, told, kind="posterior", force=True)
    return path


@pytest.fixture
def gaussian():
    return Law.of("gaussian", {"size": 3})


@pytest.fixture
def draws():
    rng = np.random.default_rng(5)
    one = rng.normal([0.5, -0.5], [0.1, 0.2], (400, 2))
    return np.stack([one, -one])


@pytest.fixture
def posterior(tmp_path, gaussian, draws):
    return posterior_file(tmp_path / "posterior.h5", draws, gaussian, first_row=7)


@pytest.mark.parametrize("widen", [1.0, 1.5, 3.0])
def test_proposals_are_as_wide_as_asked(widen):
    rng = np.random.default_rng(1)
    cov = np.array([[0.04, 0.03], [0.03, 0.09]])
    draws = rng.multivariate_normal([0.2, -0.1], cov, 4000)[None]
    theta = Proposal(Box(a=(-9, 9), b=(-9, 9)), draws, widen).sample(40_000, rng)
    np.testing.assert_allclose(theta.mean(0), draws[0].mean(0), atol=0.02 * widen)
    np.testing.assert_allclose(
        np.cov(theta.T), widen**2 * np.cov(draws[0].T), rtol=0.05, atol=0.002
    )
    if widen > 1:
        assert len(np.unique(theta[:, 0])) == len(theta)  # and no draw twice


def test_wide_proposals_stay_with_separate_modes():
    rng = np.random.default_rng(2)
    draws = (rng.choice([-1, 1], 2000) + rng.normal(0, 0.05, 2000))[None, :, None]
    theta = Proposal(Box(a=(-9, 9)), draws, 2.0).sample(20_000, rng)
    stretched = draws.mean() + 2.0 * (draws - draws.mean())  # the control
    near = [(abs(abs(t) - 1) < 0.12).mean() for t in (theta, stretched)]
    assert near[0] > 0.05 > 0.001 > near[1]


def test_proposals_keep_inside_the_prior():
    rng = np.random.default_rng(3)
    edge = np.stack([MIXED.sample(300, rng)])
    edge[..., 0] = 2.9 + 0.1 * rng.random(300)
    theta = Proposal(MIXED, edge, 2.0).sample(2000, rng)
    assert MIXED.contains(theta).all()
    assert (theta[:, 0] < edge[..., 0].min()).any()
    with pytest.raises(UsageError, match="1 of the posterior's draws lie outside"):
        Proposal(Box(a=(-1, 0), h=(0, 1), t=(0, 1)), edge)


def test_narrower_proposals_are_refused(draws):
    with pytest.raises(UsageError, match=r"widen: expected at least 1, got 0\.5"):
        Proposal(Box(a=(-9, 9), b=(-9, 9)), draws, 0.5)


def test_hopeless_proposals_end(draws):
    box = Box(**{f"t{d}": (0, 1) for d in range(40)})
    with pytest.raises(UsageError, match="widen it less"):
        Proposal(box, box.sample(50, np.random.default_rng(0))[None], 1e3).sample(
            1, np.random.default_rng(1)
        )


def test_a_round_follows_the_draws_and_says_so(tmp_path, posterior, draws):
    out = tmp_path / "round2.h5"
    made = physgen.simulate("gaussian", size=3, theta_from=posterior, row=8, n=500, out=out)
    known = {tuple(t) for t in draws[1]}
    assert {tuple(t) for t in made.theta} <= known
    assert made.meta.source["theta"]["posterior"]["row"] == 8
    assert "given row 8" in made.proposal
    mixed = physgen.simulate("gaussian", size=3, theta_from=posterior, n=500).theta
    assert 0.4 < np.mean([tuple(t) in known for t in mixed]) < 0.6
    assert Dataset(made).proposal == made.proposal
    assert not physgen.simulate("gaussian", n=5).proposal  # the control


def test_a_round_takes_the_prior_of_its_posterior(tmp_path, gaussian, draws):
    law = replace(gaussian, prior=gaussian.prior.replace(theta1=(-3, 3)))
    path = posterior_file(tmp_path / "p.h5", draws, law)
    made = physgen.simulate("gaussian", size=3, theta_from=path, n=5)
    assert made.law.prior == law.prior
    with pytest.raises(UsageError, match="lie outside"):
        physgen.simulate("gaussian", size=3, theta_from=path, n=5, prior={"theta1": (1.9, 2)})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"row": 3}, "row: is of the posterior that --theta-from names"),
        ({"widen": 2.0}, "widen: is of the posterior"),
        ({"truncate": True}, "truncate: is of the posterior"),
    ],
)
def test_options_of_rounds_need_a_posterior(given, message):
    with pytest.raises(UsageError, match=message):
        physgen.simulate("gaussian", n=3, **given)


def test_rows_and_parameters_that_a_posterior_lacks_are_refused(posterior):
    with pytest.raises(UsageError, match=r"expected a posterior, a table of theta.* got object"):
        physgen.simulate("gaussian", theta_from=object(), n=3)
    with pytest.raises(UsageError, match="of rows 7 to 8 of what was observed, got 0"):
        physgen.simulate("gaussian", theta_from=posterior, row=0, n=3)
    with pytest.raises(UsageError, match="beta"):
        physgen.simulate("ising", size=4, theta_from=posterior, n=3)


@pytest.mark.parametrize("spoilt", [{"theta": np.zeros((2, 3))}, {"other": np.zeros((1, 2, 2))}])
def test_files_that_are_no_posterior_are_refused(tmp_path, gaussian, spoilt):
    path = tmp_path / "spoilt.h5"
    write_arrays(path, spoilt, {"law": gaussian.to_json()}, kind="posterior")
    with pytest.raises(DataError, match="spoilt"):
        physgen.simulate("gaussian", theta_from=path, n=3)


def test_a_round_is_made_of_its_seed_and_goes_on_with_its_posterior_alone(
    tmp_path, gaussian, posterior, draws, monkeypatch
):
    out, how = tmp_path / "round.h5", {"size": 3, "theta_from": posterior, "widen": 2.0}
    whole = physgen.simulate("gaussian", n=60, shard_rows=20, out=tmp_path / "whole.h5", **how)
    make = Simulate.__call__

    def fails(self, shard):
        if shard.number == 2:
            raise SimulatorFailed("no more")
        return make(self, shard)

    monkeypatch.setattr(Simulate, "__call__", fails)
    with pytest.raises(SimulatorFailed):
        physgen.simulate("gaussian", n=60, shard_rows=20, out=out, **how)
    monkeypatch.undo()
    kept = {path: path.read_bytes() for path in tmp_path.glob("posterior.h5*")}
    posterior_file(posterior, draws + 0.01, gaussian, first_row=7)
    with pytest.raises(UsageError, match="unfinished rows with other source"):
        physgen.simulate("gaussian", n=60, shard_rows=20, out=out, **how)
    for path, content in kept.items():
        path.write_bytes(content)
    done = physgen.simulate("gaussian", n=60, shard_rows=20, out=out, **how)
    np.testing.assert_array_equal(done.theta, whole.theta)
    np.testing.assert_array_equal(done.x, whole.x)


def test_truncated_rounds_follow_a_part_of_the_prior(posterior, draws):
    made = physgen.simulate(
        "gaussian", size=3, theta_from=posterior, row=7, widen=1.5, truncate=True, n=2000
    )
    prior, one = made.law.prior, draws[0]
    assert not made.proposal
    assert made.meta.source["truncated"]["stretched"] == 1.5
    far = one.mean(0) + 1.5 * (np.stack([one.min(0), one.max(0)]) - one.mean(0))
    np.testing.assert_allclose([prior.low, prior.high], far)
    at = (made.theta - prior.low) / (prior.high - prior.low)
    assert stats.kstest(at[:, 0], "uniform").pvalue > 1e-3
    assert stats.kstest(at[:, 0] ** 2, "uniform").pvalue < 1e-9  # the control


def test_parts_of_any_prior_are_that_prior_but_for_a_constant():
    box = np.array([[-1.0, 0.0, 0.1], [2.0, 1.5, 10.0]])
    part, whole = truncated_prior(MIXED, box)
    assert whole == []
    theta = part.sample(500, np.random.default_rng(0))
    ratio = part.log_prob(theta) - MIXED.log_prob(theta)
    whole = MIXED.sample(200_000, np.random.default_rng(1))
    inside = np.mean(((whole >= box[0]) & (whole <= box[1])).all(1))
    np.testing.assert_allclose(ratio, -np.log(inside), atol=0.03)
    np.testing.assert_allclose(ratio, ratio[0], atol=1e-9)
    np.testing.assert_allclose([part.low, part.high], box)
    assert truncated_prior(MIXED, np.stack([MIXED.low, MIXED.high])) == (MIXED, [])


def test_laws_without_parts_stay_whole_and_are_told(tmp_path, caplog):
    prior = Prior(g=stats.gamma(3), h=(0, 3), i=(0, 3), j=(0, 3), correlation={("h", "i"): 0.5})
    part, whole = truncated_prior(prior, np.array([[1.0] * 4, [2.0] * 4]))
    assert whole == ["g", "h", "i"]
    assert part == prior.replace(j=(1, 2))
    law = Law.of("oscillator", {"size": 8})
    theta = law.prior.sample(50, np.random.default_rng(0))[None]
    path = posterior_file(tmp_path / "p.h5", theta, law)
    with caplog.at_level("WARNING", "physgen"):
        made = physgen.simulate("oscillator", size=8, theta_from=path, truncate=True, n=20)
    assert "truncate: gamma: " in caplog.text
    assert made.law.prior.low[0] == pytest.approx(theta[0, :, 0].min())


@pytest.mark.parametrize("method", ["npe", "fmpe", "npse", "abc"])
def test_methods_of_the_prior_refuse_a_round(posterior, method):
    data = physgen.simulate("gaussian", size=3, theta_from=posterior, n=50)
    source = Source(data.where, data.law, {}, data=data)
    options = InferenceOptions(method, data.law.prior)
    with pytest.raises(UsageError, match=f"{method} learns from theta of the prior.*truncate"):
        simulations(source, options, lambda text: None)
    for other in ("nle", "nre"):
        found = simulations(source, replace(options, method=other), lambda text: None)
        assert len(found[1]) == 50


def test_a_calibration_refuses_a_round(posterior, tmp_path):
    data = physgen.simulate("gaussian", n=200)
    surrogate = physgen.fit("cvae", data, epochs=1)
    theta_of_one = physgen.sample(surrogate, n=30, theta={"theta1": 0, "theta2": 1})
    for made in (
        physgen.simulate("gaussian", theta_from=posterior, n=30),
        physgen.sample(surrogate, theta_from=posterior),
        theta_of_one,
        physgen.sample(surrogate, like=theta_of_one),
    ):
        with pytest.raises(UsageError, match=r"its theta follow .*; calibrate judges"):
            physgen.calibrate(surrogate, made)
    assert not physgen.sample(surrogate, like=data).proposal  # the control
    assert not physgen.sample(surrogate, n=3).proposal


def test_predictive_rows_are_the_draws_in_their_order(posterior, draws):
    surrogate = physgen.fit("cvae", physgen.simulate("gaussian", size=3, n=200), epochs=1)
    made = physgen.sample(surrogate, theta_from=posterior, row=8)
    np.testing.assert_array_equal(made.theta, draws[1])
    some = physgen.sample(surrogate, theta_from=posterior, row=8, n=7)
    assert {tuple(t) for t in some.theta} <= {tuple(t) for t in draws[1]}
    with pytest.raises(UsageError, match="give either --like or --theta-from"):
        physgen.sample(surrogate, theta_from=posterior, like=made)


def parts(tmp_path):
    """Two files of a law, the second under a part of the prior, the rows counted in x."""
    found = []
    for k, (first, n) in enumerate([(0, 110), (1000, 53)]):
        law = Law.of("gaussian", {"size": 1}, {"theta1": (-1, 1)} if k else None)
        x = np.arange(first, first + n, dtype=np.float32)[:, None]
        theta = law.prior.sample(n, np.random.default_rng(k))
        rows = Rows(x, theta, {} if k else {"only": x[:, 0]}, Meta(law))
        found.append(Dataset(rows).save(tmp_path / f"{k}.h5"))
    return found


def test_joined_datasets_are_their_rows_one_after_another(tmp_path):
    a, b = parts(tmp_path)
    both = JoinedDataset([a, b])
    assert len(both) == 163
    np.testing.assert_array_equal(both.x, np.concatenate([a.x, b.x]))
    np.testing.assert_array_equal(both.theta, np.concatenate([a.theta, b.theta]))
    np.testing.assert_array_equal(both.read(slice(100, 120)).x[:, 0], both.x[100:120, 0])
    np.testing.assert_array_equal(both[-1].x, b.x[-1:])
    np.testing.assert_array_equal(both[np.array([0, 162])].x, [a.x[0], b.x[-1]])
    assert both.law.prior == a.law.prior
    assert "prior" in both.proposal
    assert not JoinedDataset([a]).proposal
    assert both.digest not in (a.digest, JoinedDataset([b, a]).digest)
    assert Dataset(both).parts == both.parts
    with pytest.raises(UsageError, match="expected rows up to 200, got 163"):
        both.read(slice(0, 200), whole=True)


@pytest.mark.parametrize("memory_gib", [4.0, 0.0])
def test_each_file_gives_its_part_of_the_training(tmp_path, memory_gib):
    import torch

    both = JoinedDataset(parts(tmp_path))
    train, val, first = split(both, 0.1, memory_gib, torch.device("cpu"))
    assert val.x[:, 0].tolist() == [*range(99, 110), *range(1048, 1053)]
    assert sorted(first.x[:, 0].tolist()) == [*range(99), *range(1000, 1048)]
    seen = [x for _, x in train.batches(20, np.random.default_rng(0))]
    assert [len(x) for x in seen] == [20] * 7 + [7]
    assert sorted(torch.cat(seen)[:, 0].tolist()) == sorted(first.x[:, 0].tolist())
    assert torch.cat(seen)[:40, 0].max() > 999  # mixed


def test_streams_of_several_files_give_each_row_once(tmp_path):
    a, b = parts(tmp_path)
    stream = Stream([a.path, b.path], 16, rows=[slice(0, 5), slice(50, 53)])
    (rows,) = stream.batches(np.random.default_rng(0))
    assert sorted(rows.x[:, 0].tolist()) == [0, 1, 2, 3, 4, 1050, 1051, 1052]


@pytest.mark.parametrize(
    ("options", "prior", "message"),
    [
        ({"noise": 0.7}, {}, r"expected noise 0\.5, as in .*, got 0\.7"),
        ({"size": 2}, {}, "expected x_shape"),
        ({"parameters": 1}, {}, "expected parameters"),
        ({}, {"theta1": (-3, 1)}, "priors that are equal, or parts of one"),
        ({}, {"theta1": stats.truncnorm(-2, 2)}, "priors that are equal, or parts of one"),
        ({}, {"theta2": 1.0}, "expected fixed"),
    ],
)
def test_rows_of_different_laws_are_not_joined(options, prior, message):
    one = physgen.simulate("gaussian", size=1, n=3)
    other = physgen.simulate("gaussian", **({"size": 1} | options), prior=prior, n=3)
    with pytest.raises(UsageError, match=message):
        JoinedDataset([one, other])


def test_the_same_rows_are_not_taken_twice():
    """They would be trained on and validated on."""
    data = physgen.simulate("gaussian", n=30, seed=1)
    with pytest.raises(UsageError, match="there twice"):
        JoinedDataset([Dataset(data), Dataset(data)])


@pytest.mark.slow
def test_fit_takes_several_files(tmp_path, posterior):
    runner = CliRunner()
    for name, more in {"a": [], "b": ["--theta-from", str(posterior), "--widen", "2"]}.items():
        call = ["simulate", "gaussian", "--size", "3", "-n", "300", "-o", str(tmp_path / name)]
        assert runner.invoke(main, [*call, *more]).exit_code == 0
    both, out = [str(tmp_path / name) for name in "ab"], tmp_path / "both.pt"
    found = runner.invoke(main, ["fit", "cvae", *both, "-o", str(out), "--epochs", "1"])
    assert found.exit_code == 0, found.output
    info = physgen.load(out)[1]
    assert [part["path"] for part in info["data"]["parts"]] == both
    assert f"fit cvae {' '.join(both)} " in info["provenance"]["command"]
    again = runner.invoke(main, ["fit", "cvae", *both, "-o", both[1], "--force"])
    assert "is another file of this command" in again.output
    with pytest.raises(UsageError, match="at least one dataset"):
        physgen.fit("cvae", [])
    in_memory = physgen.fit("cvae", [read(path) for path in both], epochs=1)
    same = physgen.fit("cvae", both, epochs=1)
    for p, q in zip(in_memory.parameters(), same.parameters(), strict=True):
        assert (p == q).all()


def test_a_fit_to_rounds_alone_is_warned_of(posterior):
    first = physgen.simulate("gaussian", size=3, n=100)
    second = physgen.simulate("gaussian", size=3, n=100, theta_from=posterior)
    said = physgen.fit("cvae", second, epochs=1).info["warnings"]
    assert any("away from these nothing is learnt" in line for line in said)
    said = physgen.fit("cvae", [first, second], epochs=1).info["warnings"]
    assert not any("away from these nothing is learnt" in line for line in said)


def test_too_few_rows_are_refused_by_name(tmp_path):
    import torch

    a, b = parts(tmp_path)
    with pytest.raises(DataError, match="expected at least 2"):
        split(JoinedDataset([a[:1], b]), 0.9, 4.0, torch.device("cpu"))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["nle", "nre"])
def test_methods_of_any_theta_are_not_drawn_to_it(method):
    """θ lie 1.2 widths beside the posterior: taken for a prior, they would draw it 0.37 aside."""
    law = Law.of("gaussian", {"size": 2, "parameters": 1})
    simulator, rng = law.build(), np.random.default_rng(0)
    x = simulator.sample(np.array([[0.3]]), rng)
    mean, cov = simulator.posterior(x)
    sd = float(np.sqrt(cov[0, 0]))
    theta = (mean + 1.2 * sd + 1.5 * sd * rng.standard_normal((4000, 1))).clip(-2, 2)
    meta = Meta(law, {"theta": {"follow": "a law of its own"}})
    data = Dataset(Rows(simulator.sample(theta, rng), theta, meta=meta))
    box = {"theta1": (float(mean[0, 0]) - 3 * sd, float(mean[0, 0]) + 3 * sd)}
    found = physgen.infer(data, x, method=method, epochs=20, prior=box)
    drawn = 1.2 / 1.5**2 / (1 + 1 / 1.5**2)  # the control
    assert abs(found.mean - mean)[0, 0] / sd < 0.2 < drawn
    assert found.sd[0, 0] / sd == pytest.approx(1, abs=0.1)
