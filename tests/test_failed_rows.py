"""Rows that a simulator fails to make: nothing else is lost, and they are kept track of."""

import logging
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

import physgen
from physgen.cli import main
from physgen.dataset import Dataset, read
from physgen.errors import DataError, SimulatorFailed, UsageError
from physgen.testing import check_simulator
from physgen.verbs.simulate import LOOK

EDGE = 0.9
"""θ beyond which the simulators below fail: a tenth of the prior."""

FAILING = """
from dataclasses import dataclass
from pathlib import Path
import numpy as np
from simulators import Box


class Failing:
    prior = Box(a=(0.0, 1.0), b=(0.0, 1.0))
    x_shape = (3,)

    def sample(self, theta, rng):
        x = theta[:, :1] + rng.normal(size=(len(theta), 3))
        return self.spoil(theta, x)

    def spoil(self, theta, x):
        raise NotImplementedError


class Nan(Failing):
    def spoil(self, theta, x):
        x[theta[:, 0] > 0.9, 1] = np.nan
        return x


class Masked(Failing):
    def spoil(self, theta, x):
        return np.ma.masked_array(x, np.tile(theta[:, :1] > 0.9, 3))


class Chance:
    # fails by x alone: where the second of two exponential numbers is above 2

    prior = Box(a=(0.0, 1.0))
    x_shape = (2,)

    def sample(self, theta, rng):
        x = rng.exponential(size=(len(theta), 2))
        if (x[:, 1] > 2).any():
            raise ValueError("too long")
        return x


class Exits(Failing):
    def spoil(self, theta, x):
        if (theta[:, 0] > 0.9).any():
            raise SystemExit(7)
        return x


class Raises(Failing):
    def spoil(self, theta, x):
        if (theta[:, 0] > 0.9).any():
            raise ValueError("no root\\nfound")
        return np.broadcast_to(x, x.shape)  # not to be written to


class Mended(Failing):
    def spoil(self, theta, x):
        with Path("calls").open("a") as calls:
            calls.write(f"{len(theta)} ")
        if not Path("mended").exists() and (theta[:, 0] > 0.999).any():
            raise ValueError("no root")
        return x


class Hopeless(Failing):
    def spoil(self, theta, x):
        return x + np.inf


class ChangesTheta(Failing):
    def spoil(self, theta, x):
        theta /= 10
        return x


class Unseeded(Failing):
    def spoil(self, theta, x):
        return x + np.random.normal(size=x.shape)


class Pair(Failing):
    def spoil(self, theta, x):
        return x, {"seed": 1}


class Gradient(Failing):
    def spoil(self, theta, x):
        import torch

        return torch.from_numpy(x).requires_grad_()
"""
KINDS = ["Nan", "Masked", "Raises"]
SIZE = {"n": 400, "shard_rows": 37, "seed": 3}


@pytest.fixture(autouse=True)
def failing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "failing.py").write_text(FAILING)
    yield
    sys.modules.pop("failing", None)


def simulated(kind, out="x.h5", **options):
    return physgen.simulate(f"failing:{kind}", out=out, **(SIZE | options))


@pytest.fixture
def whole():
    """The draws of a simulator that never fails: θ (400, 2) and x (400, 3)."""
    Path("mended").touch()
    return simulated("Mended", out=None).rows


@pytest.mark.parametrize("on_error", ["skip", "redraw"])
def test_what_is_kept_is_not_picked_by_what_failed(on_error):
    """x[0] has nothing to do with failing by x[1]; the law of x[1] is cut off, no more."""
    x = simulated("Chance", out=None, n=6000, on_error=on_error).x
    high = (x > 1.5).mean(0)
    cut = (np.exp(-1.5) - np.exp(-2)) / (1 - np.exp(-2))
    for found, exact in zip(high, (np.exp(-1.5), cut), strict=True):
        assert abs(found - exact) < 4.5 * np.sqrt(exact * (1 - exact) / len(x))


def test_a_simulator_that_ends_the_process_has_failed():
    with pytest.raises(SimulatorFailed, match="SystemExit: 7"):
        simulated("Exits")
    assert simulated("Exits", on_error="skip").failures["messages"] == ["SystemExit: 7"]


@pytest.mark.parametrize("kind", KINDS)
def test_skipped_rows_leave_the_others_as_they_are(kind, whole):
    found, bad = read(simulated(kind, on_error="skip").path), whole.theta[:, 0] > EDGE
    assert 20 < bad.sum() < 70
    assert np.array_equal(found.theta, whole.theta[~bad])
    if kind != "Raises":  # all rows of a batch that raises are drawn again
        assert np.array_equal(found.x, whole.x[~bad])
    assert np.array_equal(found.failed.theta, whole.theta[bad])
    expected = "ValueError: no root found" if kind == "Raises" else "x is not finite"
    assert set(found.failed.messages) == {expected}
    assert found.meta.failed == {
        "on_error": "skip",
        "count": bad.sum(),
        "fraction": bad.sum() / 400,
        "messages": [expected],
    }


@pytest.mark.parametrize("kind", KINDS)
def test_redrawn_rows_replace_those_that_failed(kind, whole):
    found, bad = read(simulated(kind, on_error="redraw").path), whole.theta[:, 0] > EDGE
    assert len(found) == 400
    if kind != "Raises":
        assert np.array_equal(found.x[~bad], whole.x[~bad])
    assert (found.theta[:, 0] <= EDGE).all()
    assert not np.isin(found.theta[bad], whole.theta).any()
    assert np.isin(whole.theta[bad], found.failed.theta).all()
    assert len(found.failed) >= bad.sum()
    assert (found.failed.theta[:, 0] > EDGE).all()
    mean = found.theta[bad, 0].mean()
    assert abs(mean - EDGE / 2) < 5 * EDGE / np.sqrt(12 * bad.sum())


@pytest.mark.slow
@pytest.mark.parametrize("on_error", ["skip", "redraw"])
def test_bytes_depend_on_no_worker_nor_restart(on_error, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    one = simulated("Raises", on_error=on_error)
    two = simulated("Raises", "two.h5", on_error=on_error, workers=2)
    with pytest.raises(SimulatorFailed):
        simulated("Raises", "three.h5")
    three = simulated("Raises", "three.h5", on_error=on_error)
    assert one.path.read_bytes() == two.path.read_bytes() == three.path.read_bytes()
    in_memory = simulated("Raises", None, on_error=on_error)
    assert np.array_equal(in_memory.x, one.x)
    assert in_memory.failed.messages == one.failed.messages
    assert replace(in_memory.meta, provenance={}) == replace(one.meta, provenance={})
    assert physgen.inspect(one.path, verify=True)["failed"]["count"] == len(one.failed)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_finished_is_kept_when_a_simulator_fails(tmp_path, workers):
    with pytest.raises(SimulatorFailed, match="sample raised ValueError: no root; mend it and"):
        simulated("Mended", n=2000, workers=workers)
    kept = len(list((tmp_path / ".x.h5.parts").glob("*.h5")))
    assert 1 < kept < 2000 // 37
    (tmp_path / "mended").touch()
    (tmp_path / "calls").unlink()
    assert len(simulated("Mended", n=2000)) == 2000
    drawn = sum(map(int, (tmp_path / "calls").read_text().split()))
    assert drawn == 2000 - 37 * kept + 2 * LOOK
    assert not list(tmp_path.glob(".x.h5*"))


def test_without_failures_all_choices_give_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    (tmp_path / "mended").touch()
    files = [simulated("Mended", f"{how}.h5", on_error=how) for how in ("stop", "skip", "redraw")]
    assert len({file.path.read_bytes() for file in files}) == 1
    assert files[0].failed is None
    assert files[0].failures == {}


def test_a_shard_of_failures_alone_is_left_out():
    found = simulated("Nan", on_error="skip", shard_rows=1, n=60)
    assert len(found) + len(found.failed) == 60


def test_a_simulator_that_always_fails(tmp_path):
    for how, match in (("skip", "all 50 rows failed: x is not"), ("redraw", "100 times in a row")):
        for out in ("x.h5", None):
            with pytest.raises(DataError, match=match):
                simulated("Hopeless", out, on_error=how, n=50)
        assert not list(tmp_path.glob("*.h5"))
        assert not list(tmp_path.glob(".*.parts"))


def test_the_command_tells_of_it():
    def run(*words):
        return CliRunner().invoke(main, words)

    done = run("simulate", "failing:Raises", "-n", "400", "--seed", "3", "-o", "x.h5")
    assert done.exit_code == 3
    assert done.output.splitlines()[-1].endswith("or add --on-error skip or redraw")
    done = run(
        "simulate", "failing:Raises", "-n", "400", "--seed", "3", "-o", "x.h5",
        "--on-error", "skip",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "p(theta | success), not the prior" in done.output
    told = run("inspect", "x.h5").output
    assert "ValueError: no root found" in told
    assert "fraction" in told


def test_who_uses_such_rows_is_told(caplog):
    caplog.set_level(logging.WARNING, "physgen")
    data = simulated("Nan", on_error="skip", n=700)
    for use in (
        lambda: physgen.fit("cvae", data, out="m.pt", epochs=1),
        lambda: physgen.infer("m.pt", data, rows=slice(0, 1), draws=2),
        lambda: physgen.infer(data, data, method="abc", rows=slice(0, 1)),
        lambda: physgen.calibrate("m.pt", data, prior={"a": (2.0, 3.0)}),  # refused after it
    ):
        caplog.clear()
        with suppress(UsageError):
            use()
        assert sum("not the prior" in line for line in caplog.messages) == 1


def test_what_has_failed_comes_along_when_rows_are_saved(tmp_path):
    data = simulated("Nan", on_error="skip")
    again = Dataset(data.rows).save(tmp_path / "again.h5")
    assert np.array_equal(again.x, data.x)
    assert np.array_equal(again.failed.theta, data.failed.theta)
    assert again.failures == data.failures
    some = data[:10].save(tmp_path / "some.h5")
    assert some.failed is None
    assert some.failures == data.failures, "they still do not follow the prior"


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("theta", [[2.0, 0.5]] * 39),
        ("theta", [[0.5]] * 39),
        ("message", np.full(39, 7, np.int16)),
        ("message", np.zeros(38, np.int16)),
        ("message", np.zeros(39)),
        ("stranger", np.zeros(39)),
    ],
)
def test_a_spoilt_record_is_refused(name, values):
    data = simulated("Nan", on_error="skip")
    data.path.with_name("x.h5.sha256").unlink()
    with h5py.File(data.path, "r+") as file:
        if name == "stranger":
            file.move("failed/message", "failed/stranger")
        else:
            del file["failed"][name]
            file["failed"][name] = values
    with pytest.raises(DataError):
        physgen.inspect(data.path, verify=True)


def test_theta_that_is_changed_in_place_is_stored_as_drawn(caplog, whole):
    caplog.set_level(logging.WARNING, "physgen")
    found = simulated("ChangesTheta")
    assert np.array_equal(found.theta, whole.theta)
    assert np.array_equal(found.x, whole.x)
    assert caplog.messages == [
        "failing:ChangesTheta: sample changes its theta; it is given a copy"
    ]
    from failing import ChangesTheta

    assert "sample: changes the caller's theta" in check_simulator(ChangesTheta())


def test_a_simulator_that_is_not_reproducible_is_told_and_recorded(caplog):
    caplog.set_level(logging.WARNING, "physgen")
    assert simulated("Unseeded").meta.provenance["reproducible"] is False
    assert simulated("Unseeded", None).meta.provenance["reproducible"] is False
    assert all("draw from rng alone" in line for line in caplog.messages)
    assert len(caplog.messages) == 2
    assert "reproducible" not in simulated("Nan", "y.h5", on_error="skip").meta.provenance


def test_what_sample_returns_is_an_array_of_numbers(whole):
    assert np.array_equal(simulated("Gradient").x, whole.x)
    with pytest.raises(DataError, match=r"failing:Pair: sample: .* shape \(3, 3\), got tuple"):
        simulated("Pair", on_error="skip")
    from failing import Gradient, Pair

    assert check_simulator(Gradient()) == []
    (told,) = check_simulator(Pair())
    assert "got tuple" in told
