"""Where x are drawn besides the prior: at θ of a table, of an array, or at values."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

import physgen
from physgen.cli import main
from physgen.dataset import Dataset, JoinedDataset, Rows
from physgen.dataset.simulated import Simulate
from physgen.errors import DataError, SimulatorFailed, UsageError
from physgen.law import Law
from simulators import Box, Command

THETA = np.array([[0.5, -1.0], [1.5, 0.25], [-1.75, 1 / 3]])
"""θ of the Gaussian problem, whose prior is (−2, 2)²."""
NAMES = ("theta1", "theta2")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000")
    return tmp_path


def simulated(n=None, **given):
    return physgen.simulate("gaussian", size=3, n=n, **given)


def run(*args):
    return CliRunner().invoke(main, list(map(str, args)))


def file(name):
    """θ in a file of some kind, the second parameter first where columns have names."""
    path = Path(name)
    first, second = THETA.T
    if path.suffix == ".csv":
        lines = [f"{b!r},9,{a!r}" for a, b in THETA.tolist()]
        path.write_text("\n".join(["theta2,weight,theta1", *lines]))
    elif path.suffix == ".npy":
        np.save(path, THETA)
    elif name == "columns.npz":
        np.savez(path, theta2=second, x=np.zeros((3, 4)), theta1=first[:, None])
    elif name == "whole.npz":
        np.savez(path, x=np.zeros((3, 4)), theta=THETA)
    elif name == "foreign.h5":
        with h5py.File(path, "w") as made:
            made["theta"], made["x"] = THETA, np.zeros((3, 4))
    elif name == "ours.h5":
        law = Law.of("gaussian", {"size": 3})
        made = simulated(3)
        Dataset(Rows(made.x, THETA, meta=made.meta)).save(path)
        assert law.prior.names == NAMES
    return path


FILES = ["t.csv", "t.npy", "columns.npz", "whole.npz", "foreign.h5", "ours.h5"]


@pytest.mark.parametrize("name", FILES)
def test_rows_of_a_file_are_taken_in_turn(name):
    path = file(name)
    made = simulated(theta_from=path)
    np.testing.assert_array_equal(made.theta, THETA)
    np.testing.assert_array_equal(simulated(8, theta_from=path).theta, THETA[np.arange(8) % 3])
    np.testing.assert_array_equal(simulated(2, theta_from=str(path)).theta, THETA[:2])
    assert made.proposal == f"the rows of {name}"
    assert len(made.meta.source["theta"]["table"]["sha256"]) == 64
    assert np.unique(simulated(6, theta_from=path).x, axis=0).shape[0] == 6  # noise of its own


def structured():
    made = np.zeros(3, dtype=[("theta2", "f8"), ("other", "i4"), ("theta1", "f4")])
    made["theta1"], made["theta2"] = THETA.T
    return made


MEMORY = {
    "array": lambda: THETA,
    "list": lambda: THETA.tolist(),
    "columns": lambda: {"theta2": THETA[:, 1], "theta1": list(THETA[:, 0]), "w": np.ones(3)},
    "structured": structured,
    "dataset": lambda: Dataset(file("ours.h5")),
    "rows": lambda: Rows(np.zeros((3, 1)), THETA),
}


@pytest.mark.parametrize("kind", MEMORY)
def test_rows_in_memory_are_those_of_a_file(kind):
    made = simulated(7, theta_from=MEMORY[kind]())
    np.testing.assert_array_equal(made.theta, THETA[np.arange(7) % 3])
    np.testing.assert_array_equal(made.x, simulated(7, theta_from=file("t.npy")).x)
    assert made.proposal.startswith("the rows of ")


def test_tensors_and_frames_are_tables(tmp_path):
    torch, pandas = pytest.importorskip("torch"), pytest.importorskip("pandas")
    pyarrow = pytest.importorskip("pyarrow")
    for table in (
        torch.from_numpy(THETA),
        pandas.DataFrame({"theta2": THETA[:, 1], "theta1": THETA[:, 0]}),
        pyarrow.table({"theta2": THETA[:, 1], "theta1": THETA[:, 0]}),
    ):
        np.testing.assert_array_equal(simulated(theta_from=table).theta, THETA)


@pytest.mark.parametrize(("table", "error", "reason"), [
    (THETA * 2, DataError, r"row 1: theta is outside the prior, theta1=3.0 not in \[-2.0, 2.0\]"),
    (np.where(THETA == 0.5, np.nan, THETA), DataError, "row 0: .*theta1=nan not in"),
    (THETA[:, :1], UsageError, r"expected columns theta1, theta2, or an array theta \(m, 2\)"),
    ({"theta1": THETA[:, 0]}, UsageError, r"expected columns .* got theta1 \(3,\)"),
    ({"theta1": THETA[:, 0], "theta2": THETA[:2, 1]}, DataError, "expected one number a row"),
    ({"theta1": THETA[:, 0], "theta2": THETA}, DataError, "expected one number a row"),
    (THETA[:0], DataError, "no rows"),
    ("nosuch.csv", Exception, "nosuch.csv"),
    (3, UsageError, "expected a posterior, a table of theta, or a file of these, got int"),
    ({"theta1": ["a"], "theta2": ["b"]}, UsageError, "expected a posterior, a table of theta"),
])  # fmt: skip
def test_tables_that_are_not_theta_are_refused(table, error, reason):
    with pytest.raises(error, match=reason):
        simulated(theta_from=table)


def test_other_options_of_a_posterior_are_not_of_a_table():
    for given in ({"row": 0}, {"widen": 2.0}, {"truncate": True}):
        with pytest.raises(UsageError, match=f"{next(iter(given))}: is of the posterior"):
            simulated(theta_from=THETA, **given)


def test_what_is_fixed_has_its_value_in_a_table():
    table = {"theta1": THETA[:, 0], "theta2": np.full(3, 0.5)}
    made = simulated(theta_from=table, fix={"theta2": 0.5})
    np.testing.assert_array_equal(made.theta, THETA[:, :1])
    with pytest.raises(DataError, match=r"row 0: theta2: expected 0.25, as fixed, got 0.5"):
        simulated(theta_from=table, fix={"theta2": 0.25})


def test_values_are_held_in_all_rows_and_stay_parameters():
    made = simulated(300, theta_at={"theta2": 1.25})
    assert (made.theta[:, 1] == 1.25).all()
    assert made.law.prior.names == NAMES
    assert made.law.prior == Law.of("gaussian", {"size": 3}).prior
    np.testing.assert_array_equal(made.theta[:, 0], simulated(300).theta[:, 0])
    assert made.proposal == "theta2 = 1.25, the rest the prior"
    both = simulated(4, theta_at=dict(zip(NAMES, (0.5, 1), strict=True)))
    np.testing.assert_array_equal(both.theta, [[0.5, 1.0]] * 4)
    assert both.proposal == "theta1 = 0.5, theta2 = 1.0"
    assert simulated(4, fix={"theta2": 1.25}).theta.shape == (4, 1)  # the control


def test_values_go_with_a_table_and_with_draws():
    made = simulated(theta_from={"theta1": THETA[:, 0]}, theta_at={"theta2": 0.5})
    np.testing.assert_array_equal(made.theta, np.column_stack([THETA[:, 0], [0.5] * 3]))
    assert made.proposal == "theta2 = 0.5, the rest the rows of (in memory)"
    over = simulated(theta_from=THETA, theta_at={"theta1": -0.5})
    np.testing.assert_array_equal(over.theta, np.column_stack([[-0.5] * 3, THETA[:, 1]]))


@pytest.mark.parametrize(("held", "reason"), [
    ({"theta1": 2.5}, r"theta1=2.5 is outside the prior, \[-2.0, 2.0\]"),
    ({"theta1": float("nan")}, "is outside the prior"),
    ({"beta": 0.5}, "expected some of theta1, theta2, got beta"),
])  # fmt: skip
def test_values_that_cannot_be_held_are_refused(held, reason):
    with pytest.raises(UsageError, match=reason):
        simulated(3, theta_at=held)
    with pytest.raises(UsageError, match="expected some of theta1, got theta2"):
        simulated(3, theta_at={"theta2": 1}, fix={"theta2": 1})


def test_a_number_of_rows_is_needed_where_none_are_given():
    for given in ({}, {"theta_at": {"theta1": 1}}):
        with pytest.raises(UsageError, match="n: expected the number of rows"):
            simulated(**given)
    assert len(simulated(3)) == 3  # the control


def test_the_command_line_takes_tables_and_values():
    file("t.csv")
    options = ["simulate", "gaussian", "--size", 3, "--theta-from", "t.csv"]
    done = run(*options, "-o", "a.h5", "--theta-at", "theta1=0.5")
    assert done.exit_code == 0, done.output
    made = simulated(theta_from=Path("t.csv"), theta_at={"theta1": 0.5}, out="b.h5")
    assert Path("a.h5").read_bytes() == Path("b.h5").read_bytes()
    assert (made.theta[:, 0] == 0.5).all()
    assert "--theta-at theta1=0.5 --theta-from t.csv" in made.meta.provenance["command"]
    far = run(*options, "-o", "c.h5", "--prior", "theta1=-1:1")
    assert far.exit_code == 3
    assert "t.csv: row 1: theta is outside the prior" in far.output
    assert run("simulate", "gaussian", "-o", "c.h5").exit_code == 2


def test_columns_without_names_are_said_to_be_in_the_order_of_the_parameters(folder):
    np.savetxt("bare.csv", THETA, delimiter=",")
    words = ("simulate", "gaussian", "--size", 3, "-o", "a.h5", "--theta-from")
    assert "bare.csv: theta are theta1, theta2, in this order" in run(*words, "bare.csv").output
    assert "in this order" not in run(*words, file("t.csv"), "--force").output


def test_outputs_never_overwrite_the_table():
    path = file("t.npy")
    with pytest.raises(UsageError, match="another file of this command"):
        simulated(theta_from=path, out=path, force=True)


@pytest.mark.parametrize("workers", [1, 2])
def test_bytes_do_not_depend_on_workers_or_interruptions(workers, monkeypatch):
    file("t.npy")
    how = {"theta_from": Path("t.npy"), "theta_at": {"theta2": 0.125}, "shard_rows": 4}
    whole = simulated(20, out="whole.h5", **how)
    make = Simulate.__call__

    def fails(self, shard):
        if shard.number == 3:
            raise SimulatorFailed("no more")
        return make(self, shard)

    with monkeypatch.context() as patch:
        patch.setattr(Simulate, "__call__", fails)
        with pytest.raises(SimulatorFailed):
            simulated(20, out="part.h5", **how)
    content = Path("t.npy").read_bytes()
    np.save("t.npy", THETA / 2)
    with pytest.raises(UsageError, match="unfinished rows with other source"):
        simulated(20, out="part.h5", **how)
    Path("t.npy").write_bytes(content)
    simulated(20, out="part.h5", workers=workers, **how)
    assert Path("part.h5").read_bytes() == whole.path.read_bytes()


class Fails:
    """Fails by chance."""

    prior = Box(theta1=(-2, 2), theta2=(-2, 2))
    x_shape = (2,)
    dtype = "float64"

    def sample(self, theta, rng):
        x = theta + rng.normal(size=theta.shape)
        x[x[:, 0] > theta[:, 0] + 0.5] = np.nan
        return x


def test_rows_that_fail_are_drawn_again_at_their_theta():
    made = physgen.simulate(Fails, n=60, theta_from=THETA, on_error="redraw", shard_rows=7)
    assert made.failures["count"] > 5
    np.testing.assert_array_equal(made.theta, THETA[np.arange(60) % 3])
    some = physgen.simulate(Fails, n=60, theta_from=THETA, on_error="skip", shard_rows=7)
    assert len(some) < 60
    assert {tuple(t) for t in some.theta} <= {tuple(t) for t in THETA}


def test_a_program_is_run_at_the_rows_of_a_table():
    Path("sim").write_text('#!/bin/sh\necho "$1 $2"\n')
    Path("sim").chmod(0o755)
    command = Command("./sim {theta1} {theta2}", 2, dtype="float64")
    made = physgen.simulate(command, prior=Box(theta1=(-2, 2), theta2=(-2, 2)),
                            theta_from=file("t.csv"))  # fmt: skip
    np.testing.assert_array_equal(made.x, THETA)


@pytest.fixture(scope="module")
def surrogate():
    return physgen.fit("cvae", physgen.simulate("gaussian", size=3, n=200), epochs=1)


@pytest.mark.parametrize("given", [{"theta_from": THETA}, {"theta_at": {"theta1": 1.0}}])
def test_calibration_and_methods_of_the_prior_refuse_such_rows(surrogate, given):
    made = simulated(20, **given)
    with pytest.raises(UsageError, match=r"its theta follow .*; calibrate judges"):
        physgen.calibrate(surrogate, made)
    with pytest.raises(UsageError, match="npe learns from theta of the prior"):
        physgen.infer(made, made, method="npe")
    assert JoinedDataset([made, simulated(5)]).proposal
    assert not simulated(20).proposal  # the control
    assert not JoinedDataset([simulated(5), simulated(5, seed=1)]).proposal


def test_samples_of_a_surrogate_follow_tables_too(surrogate):
    made = physgen.sample(surrogate, theta_from=file("t.csv"))
    np.testing.assert_array_equal(made.theta, THETA)
    assert made.proposal == "the rows of t.csv"
    more = physgen.sample(surrogate, theta_from=THETA, n=5)
    np.testing.assert_array_equal(more.theta, THETA[np.arange(5) % 3])
    with pytest.raises(DataError, match="row 1: theta is outside the prior"):
        physgen.sample(surrogate, theta_from=THETA * 2)
    with pytest.raises(UsageError, match="row: is of the posterior"):
        physgen.sample(surrogate, theta_from=THETA, row=0)
