"""Fresh rows for a training: a function of (seed, epoch), of nobody else's random numbers."""

import json
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

import physgen
from physgen.dataset.fresh import STREAM, FreshRows
from physgen.dataset.simulated import Simulate
from physgen.errors import DataError, SimulatorFailed, UsageError
from physgen.law import Law
from simulators import Box, RowsFailed

LAW = Law.of("gaussian", {"size": 3})


@dataclass(frozen=True)
class Touchy:
    """Fails where the first parameter is negative, if it is told to."""

    fails: bool = False

    prior: ClassVar[Box] = Box(a=(-1.0, 1.0))
    x_shape: ClassVar[tuple[int, ...]] = (2,)

    def sample(self, theta, rng):
        x = theta + rng.normal(size=(len(theta), 2))
        bad = np.flatnonzero(theta[:, 0] < 0) if self.fails else []
        if len(bad):
            raise RowsFailed(x, dict.fromkeys(map(int, bad), "negative"))
        return x


def fresh(rows=7, seed=3, epochs=9, **how):
    return FreshRows(Simulate(LAW), rows, seed, epochs, **how)


def test_rows_are_a_function_of_seed_and_epoch():
    one, again = fresh(), fresh()
    last = again(4)  # whatever was asked for before
    first = [one(k) for k in (1, 2, 3, 4)]
    assert np.array_equal(first[3].x, last.x)
    assert np.array_equal(first[3].theta, last.theta)
    assert len(np.unique(np.concatenate([rows.x for rows in first]), axis=0)) == 28
    assert not np.isin(fresh(seed=4)(1).x, first[0].x).any()


def test_they_are_those_of_no_dataset():
    """Not of one with the seed of the training, which is the default of both."""
    data = physgen.simulate("gaussian", n=100, size=3, seed=3)
    drawn = np.concatenate([fresh()(k).theta for k in (1, 2)])
    assert not np.isin(drawn, data.theta).any()
    seeds = [s.seed.spawn_key for s in fresh().shards(5)]
    assert seeds == [(STREAM, 5, 0)]


def test_they_follow_the_prior_and_the_law():
    rows = fresh(rows=4000)(1)
    exact = LAW.build().log_prob(rows.theta, rows.x)
    assert abs(rows.theta.mean(0)).max() < 0.1 * np.ptp(rows.theta)
    entropy = LAW.build().log_prob(*physgen_rows()).mean()
    assert exact.mean() == pytest.approx(entropy, abs=4 * exact.std() / np.sqrt(2000))


def physgen_rows():
    data = physgen.simulate("gaussian", n=4000, size=3, seed=9)
    return data.theta, data.x


def test_rows_are_used_again_where_that_is_asked_for():
    rows = fresh(reuse=3)
    assert [rows.set_of(k) for k in range(1, 8)] == [0, 0, 0, 1, 1, 1, 2]
    assert rows(1) is rows(3)
    assert not np.array_equal(rows(3).x, rows(4).x)
    assert rows.drawn_by(3) == 7
    assert rows.drawn_by(4) == 14


@pytest.mark.slow
def test_other_processes_draw_the_same():
    with fresh(workers=2, epochs=3) as there:
        for epoch in (1, 2, 3):
            assert np.array_equal(there(epoch).x, fresh()(epoch).x)
        assert not there.pending  # nothing is drawn that nobody asks for


def test_a_signal_ends_the_drawing():
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fresh(check=stop)(1)


def test_rows_that_fail_are_left_out_or_stop():
    law = Law.of(Touchy(fails=True))
    rows = FreshRows(Simulate(law, "skip"), 50, 0, 3)
    assert (rows(1).theta >= 0).all()
    assert 0 < rows.failed < 50
    assert len(rows(1)) == 50 - rows.failed
    with pytest.raises(SimulatorFailed, match="negative"):
        FreshRows(Simulate(law), 50, 0, 3)(1)
    narrow = Law.of(Touchy(fails=True), prior={"a": (-1, -0.5)})
    with pytest.raises(DataError, match="all 5 rows failed"):
        FreshRows(Simulate(narrow, "skip"), 5, 0, 3)(1)


# --- in fit --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data():
    return physgen.simulate("gaussian", n=300, size=3, seed=1)


def trained(data, **how):
    quick = {"channels": 4, "levels": 1, "epochs": 3, "batch_size": 50}
    return physgen.fit("cvae", data, **quick | how)


def weights(model):
    return {k: v.numpy() for k, v in model.state_dict().items()}


def same(one, other):
    ours, theirs = weights(one), weights(other)
    return all(np.array_equal(ours[k], theirs[k]) for k in ours)


def test_fit_on_fresh_rows_is_reproducible_and_says_so(data):
    model, again, plain = trained(data, simulate=True), trained(data, simulate=True), trained(data)
    assert same(model, again)
    assert not same(model, plain)
    assert model.info["fresh"] == {
        "simulator": "gaussian", "seed": 0, "rows_per_epoch": 270, "reuse": 1, "on_error": "stop",
        "rows": 3 * 270, "failed": 0,
    }  # fmt: skip
    assert model.info["simulations"] == 300 + 3 * 270
    assert plain.info["simulations"] == 300
    assert "810 fresh rows" in model.summary
    assert [e["seen"] for e in model.info["history"]] == [None] * 3  # few, and others each time
    assert all(e["seen"] for e in plain.info["history"])
    assert "--simulate" in model.info["provenance"]["command"]
    json.dumps(model.info)


def test_fit_resumes_on_fresh_rows_bit_equal(data, tmp_path, monkeypatch):
    from physgen.training import Trainer

    whole = trained(data, simulate=True, reuse=2)
    file, epoch = tmp_path / "m.pt", Trainer._epoch

    def killed(self, number):
        if number == 3:
            raise KeyboardInterrupt
        return epoch(self, number)

    monkeypatch.setattr(Trainer, "_epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        trained(data, simulate=True, reuse=2, out=file)
    monkeypatch.undo()
    with pytest.raises(UsageError, match="differs in fresh"):
        trained(data, simulate=True, out=file, resume=True)
    with pytest.raises(UsageError, match="differs in fresh"):
        trained(data, out=file, resume=True)
    assert same(trained(data, simulate=True, reuse=2, out=file, resume=True), whole)


def test_only_who_vouches_runs_a_simulator_outside_of_the_registry():
    rows = physgen.simulate(Touchy, n=60, seed=0)
    with pytest.raises(UsageError, match="--simulator"):
        trained(rows, simulate=True)
    with pytest.raises(UsageError, match=r"expected .*Touchy, got gaussian"):
        trained(rows, simulate=True, simulator="gaussian")
    for word in (Touchy, Touchy(), f"{Touchy.__module__}:Touchy"):
        assert trained(rows, simulate=True, simulator=word, epochs=1).info["fresh"]["rows"] == 54


@pytest.mark.parametrize("given", [{}, {"simulator": "gaussian"}])
def test_rows_that_were_imported_are_refused(given):
    rows = np.random.default_rng(0).random((100, 3))
    data = physgen.dataset_of(rows[:, :1], rows[:, 1:], {"a": (0, 1)})
    with pytest.raises(UsageError, match="rows are of arrays, not of a simulator that physgen"):
        physgen.fit("cvae", data, simulate=True, **given)


def test_theta_of_a_proposal_are_refused():
    at = physgen.simulate(
        "gaussian", n=60, theta_from={"theta1": [0.1] * 60, "theta2": [0.2] * 60}
    )
    with pytest.raises(UsageError, match="--simulate draws theta from the prior"):
        trained(at, simulate=True)


@pytest.mark.parametrize("given", [{"workers": 2}, {"reuse": 3}, {"simulator": "gaussian"}])
def test_options_of_simulate_alone_are_refused(data, given):
    with pytest.raises(UsageError, match=f"{next(iter(given))}: is an option of --simulate"):
        trained(data, **given)


def test_rows_that_fail_are_treated_as_in_the_dataset():
    rows = physgen.simulate(Touchy(fails=True), n=100, on_error="skip")
    model = trained(rows, simulate=True, simulator=Touchy, epochs=2)
    assert model.info["fresh"]["on_error"] == "skip"
    assert model.info["fresh"]["failed"] > 0
