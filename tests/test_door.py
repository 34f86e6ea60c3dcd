"""Simulations that somebody has already become datasets: from files, and from memory."""

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats

import physgen
from physgen import dataset
from physgen.cli import main
from physgen.dataset.theta import departures, proposed_correlation, proposed_law
from physgen.errors import DataError, UsageError
from simulators import Box, Prior

N = 2000
LAWS = {"a": (0, 1), "tau": "loguniform:1e-3:1", "h": stats.norm(3, 0.1)}


def pairs(n=N, seed=0):
    """θ (n, 3) of LAWS, and a curve of six points."""
    rng = np.random.default_rng(seed)
    theta = Prior(**LAWS).sample(n, rng)
    x = theta[:, :1] * np.arange(6) + np.log10(theta[:, 1:2]) + rng.normal(size=(n, 6))
    return theta, x


def run(*words):
    return CliRunner().invoke(main, ["import", "arrays", *map(str, words)])


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    theta, x = pairs()
    np.savez("sims.npz", params=theta, curve=x, axis=np.arange(6.0))
    return tmp_path


# --- the law of θ --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("law", "expected"),
    [
        (stats.uniform(0, 1), (0, 1)),
        (stats.uniform(2459000, 0.5), (2459000, 2459000.5)),
        (stats.uniform(-3e-21, 6e-21), (-3e-21, 3e-21)),
        (stats.loguniform(1e-3, 1), "loguniform"),
        (stats.norm(3, 0.1), "norm"),
        (stats.lognorm(1, scale=2), "lognorm"),
    ],
)
def test_the_law_that_was_drawn_from_is_proposed(law, expected):
    values = law.rvs(20_000, random_state=1)
    found = proposed_law(values)
    if isinstance(expected, tuple):
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-3 * abs(law.std()))
        assert found[0] <= values.min() <= values.max() <= found[1]
    else:
        assert found.dist.name == expected
        q = [0.1, 0.5, 0.9]
        assert found.ppf(q) == pytest.approx(law.ppf(q), rel=0.1)


def test_one_value_is_fixed_and_of_no_law_the_interval_is_taken():
    assert proposed_law(np.full(9, 2.0)) == 2
    grid = np.repeat(np.linspace(0, 1, 5), 400)
    assert proposed_law(grid) == (0, 1)


def test_correlations_beyond_doubt_are_proposed():
    drawn = np.random.default_rng(0).multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], N)
    assert proposed_correlation(drawn, "ab")["a", "b"] == pytest.approx(0.6, abs=0.05)
    assert proposed_correlation(pairs()[0], list(LAWS)) == {}


def test_a_proposed_correlation_is_not_of_equal_values_and_follows_its_rows():
    scan = np.linspace(0, 1, 100)
    once = np.where(np.arange(100) == 50, 1.0, 0.0)
    assert proposed_correlation(np.column_stack([scan, once, np.arange(100) % 2]), "abc") == {}
    z = np.random.default_rng(0).multivariate_normal([0, 0], [[1, 0.9983], [0.9983, 1]], N)
    prior = Prior(proposed_correlation(z, "ab"), a=stats.norm(0, 1), b=stats.norm(0, 1))
    assert list(departures(z, prior)) == []


@pytest.mark.parametrize(
    "values",
    [
        [7076413010.824561, 7076413010.824581],
        [-444640509126.89874, -444640509126.89844],
        [0.3, 0.1 + 0.2],
        [1e-200, 3e-200],
        [1e160, 2e160, 5e160],
    ],
)
def test_the_proposed_interval_holds_all_values(values):
    low, high = proposed_law(np.array(values))
    assert low < high
    assert low <= min(values) <= max(values) <= high


def test_draws_of_a_prior_are_taken_and_others_told():
    """Of 200 data sets that follow it none is told; each kind of departure is."""
    prior = Prior(**LAWS, correlation={("a", "h"): 0.5})
    for seed in range(200):
        theta = prior.sample(300, np.random.default_rng(seed))
        assert list(departures(theta, prior)) == []
    theta = prior.sample(N, np.random.default_rng(0))
    narrow = theta[theta[:, 0] > 0.1]
    assert next(departures(narrow, prior)).startswith("a does not follow 0:1")
    plain = pairs()[0]
    assert any("correlation" in line for line in departures(plain, prior))


# --- in memory -----------------------------------------------------------------------------------


def test_arrays_of_any_kind_give_the_same_dataset(tmp_path):
    import torch

    theta, x = pairs()
    want = physgen.dataset_of(theta, x, LAWS)
    table = {name: theta[:, d] for d, name in enumerate(LAWS)}
    rows = [tuple(row) for row in theta]
    kinds = {
        "prior": (theta, x, Prior(**LAWS)),
        "tensors": (torch.tensor(theta), torch.tensor(x), LAWS),
        "lists": (theta.tolist(), x.tolist(), LAWS),
        "columns": (table, x, LAWS),
        "records": (np.array(rows, [(n, "f8") for n in LAWS]), x, LAWS),
    }
    for name, given in kinds.items():
        made = physgen.dataset_of(*given)
        assert made.law == want.law, name
        np.testing.assert_array_equal(made.theta, want.theta)
        np.testing.assert_array_equal(made.x, want.x)
    kept = physgen.dataset_of(theta, x, LAWS, out=tmp_path / "d.h5")
    assert kept.law == want.law
    assert physgen.inspect(kept.path, verify=True)
    np.testing.assert_array_equal(kept.x, x.astype("f4"))


def test_a_prior_is_proposed_and_said(caplog):
    theta, x = pairs(20_000)
    made = physgen.dataset_of(theta, x, names=list(LAWS))
    assert made.law.prior.names == tuple(LAWS)
    assert "--prior a=0:1 --prior tau=loguniform:0.001:1 --prior h=norm:" in caplog.text
    assert made.proposal == ""


@pytest.mark.slow
def test_theta_that_do_not_follow_the_prior_are_told_and_refused_where_it_counts(caplog):
    theta, x = pairs()
    wide = physgen.dataset_of(theta, x, {"a": (-1, 1), "tau": LAWS["tau"], "h": LAWS["h"]})
    assert "a does not follow -1:1" in wide.proposal
    assert "no independent draws of the prior" in caplog.text
    with pytest.raises(UsageError, match="its theta follow what rows holds"):
        physgen.infer(wide, x[:1], method="npe")
    model = physgen.fit("cvae", wide, epochs=1)  # p(x|θ) may be learnt
    assert physgen.infer(model, x[:1], samples=10).theta.shape == (1, 10, 3)


def test_what_is_fixed_is_no_parameter():
    theta, x = pairs()
    table = {"a": theta[:, 0], "t_up": np.full(N, 2.0)}
    made = physgen.dataset_of(table, x, {"a": (0, 1)}, fix={"t_up": 2})
    assert made.law.prior.fixed == {"t_up": 2}
    assert made.theta.shape == (N, 1)
    assert physgen.dataset_of(table, x).law.prior.fixed == {"t_up": 2}
    with pytest.raises(DataError, match=r"row 0: t_up: expected 3.0, as fixed, got 2.0"):
        physgen.dataset_of(table, x, {"a": (0, 1)}, fix={"t_up": 3})


@pytest.mark.parametrize(
    ("values", "support", "levels"),
    [
        ([True, False], "levels", 2),
        ([0, 1], "levels", 2),
        ([-1, 1], "spins", 0),
        ([0, 7], "counts", 0),
        ([-3, 7], "reals", 0),
        ([0.0, 1.0], "reals", 0),
    ],
)
def test_the_type_of_x_tells_its_support(values, support, levels):
    theta, _ = pairs()
    x = np.random.default_rng(0).choice(values, size=(N, 4))
    law = physgen.dataset_of(theta, x, LAWS).law
    assert (law.support, law.levels) == (support, levels)


def test_rows_that_cannot_be_are_refused_or_left_out_with_their_theta():
    theta, x = pairs()
    x[5, 2], x[7, 0] = np.nan, np.inf
    with pytest.raises(DataError, match=r"row 5: x is not finite|row 7: x is infinite"):
        physgen.dataset_of(theta, x, LAWS)
    made = physgen.dataset_of(theta, x, LAWS, on_error="skip")
    assert len(made) == N - 2
    np.testing.assert_array_equal(made.failed.theta, theta[[5, 7]])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"theta": np.zeros((N, 2))},
            "expected 2 different names, got a, tau, h",
        ),
        ({"theta": pairs(9)[0]}, "expected as many rows, got 9 and 2000"),
        ({"prior": {**LAWS, "b": (0, 1)}, "names": list(LAWS)}, "unknown b; theta has a, tau, h"),
        ({"prior": {**LAWS, "a": (0, 0.9)}}, r"outside the prior, a=.* not in \[0.0, 0.9\]"),
        ({"support": "levels"}, "with their number, as in levels:10"),
        ({"support": "integers"}, "got 'integers'"),
        ({"simulator": "ising"}, "'ising' is one of physgen's own"),
        ({"x": [["a"]]}, "expected .* array of numbers"),
        ({"theta": np.full((N, 3), np.nan)}, "row 0: theta is not finite"),
        ({"theta": np.ones((N, 3)), "prior": None}, "theta: no column varies; say what"),
        ({"correlation": {"a:b": 0.5}}, "expected two of a, tau, h"),
    ],
)
def test_what_does_not_fit_is_one_line(given, message):
    theta, x = pairs()
    with pytest.raises((DataError, UsageError), match=message) as caught:
        physgen.dataset_of(**{"theta": theta, "x": x, "prior": LAWS, **given})
    assert "\n" not in str(caught.value)


def test_several_x_of_one_theta_are_told(caplog):
    theta, x = pairs()
    theta[1::2] = theta[::2]
    assert physgen.dataset_of(theta, x, LAWS).proposal == ""
    assert "theta has 1000 different values in 2000 rows" in caplog.text


def test_nan_may_be_missing_values():
    theta, x = pairs()
    x[np.random.default_rng(0).random(x.shape) < 0.1] = np.nan
    with pytest.raises(DataError, match="--missing takes NaN for missing components"):
        physgen.dataset_of(theta, x, LAWS)
    made = physgen.dataset_of(theta, x, LAWS, missing=True)
    assert made.law.missing
    np.testing.assert_array_equal(made.x, x.astype("f4"))


# --- from files ----------------------------------------------------------------------------------

PRIOR = ("--prior", "a=0:1", "--prior", "tau=loguniform:1e-3:1", "--prior", "h=norm:3:0.1")


def test_a_file_gives_what_its_arrays_give(home):
    done = run("sims.npz", "-o", "d.h5", "--x", "curve", *PRIOR)
    assert done.exit_code == 0, done.output
    assert done.output == (
        "d.h5: 2,000 rows of sims.npz; theta are a, tau, h, in this order; not read: axis\n"
    )
    theta, x = pairs()
    want = physgen.dataset_of(theta, x, LAWS)
    found = dataset.read("d.h5")
    assert found.meta.law == want.law
    np.testing.assert_array_equal(found.theta, want.theta)
    np.testing.assert_array_equal(found.x, want.x)
    assert found.meta.source["sha256"] == dataset.file_digest(home / "sims.npz")


def test_later_rows_say_what_the_first_do_not(home):
    """The first 10,000 are looked at: they are 0 and 1, or one of their columns is constant."""
    n, rng = 10_400, np.random.default_rng(0)
    theta, counts = rng.random((n, 1)), rng.integers(0, 2, (n, 2))
    np.savez("bits.npz", theta=theta, x=counts)
    assert run("bits.npz", "-o", "bits.h5").exit_code == 0
    assert dataset.read("bits.h5").meta.law.support == "levels"
    counts[10_300, 1] = 4
    np.savez("counts.npz", theta=theta, x=counts)
    assert run("counts.npz", "-o", "counts.h5", "--on-error", "skip").exit_code == 0
    found = dataset.read("counts.h5")
    assert found.meta.law.support == "counts"
    np.testing.assert_array_equal(found.x, counts)
    drift = np.column_stack([rng.random(n), 1e9 + 0.3 + 0.1 * (np.arange(n) // 10_050)])
    np.savez("drift.npz", theta=theta, x=drift)
    assert run("drift.npz", "-o", "drift.h5").exit_code == 0
    np.testing.assert_array_equal(dataset.read("drift.h5").x, drift)


def test_an_exported_file_still_tells_of_draws_that_failed(home):
    theta, x = pairs()
    x[theta[:, 0] > 0.9] = np.inf
    np.savez("failing.npz", **{name: theta[:, i] for i, name in enumerate(LAWS)}, x=x)
    assert run("failing.npz", "-o", "a.h5", *PRIOR, "--on-error", "skip").exit_code == 0
    made = physgen.Dataset("a.h5")
    physgen.export(made, format="npz", out="b.npz")
    done = run("b.npz", "-o", "b.h5")
    assert "theta of its rows follow p(theta | success)" in done.output
    assert made.failures == physgen.Dataset("b.h5").failures


@pytest.mark.parametrize("first", [0, 1, 1000])
def test_a_column_that_numbers_the_rows_is_no_x(home, first):
    """As pandas writes it, of a part of a table too."""
    theta, x = pairs(50)
    rows = np.column_stack([np.arange(first, first + 50), theta[:, 0], x[:, :2]])
    np.savetxt("part.csv", rows, header=",a,f_0,f_1", comments="", delimiter=",")
    assert "not read: column0" in run("part.csv", "-o", "d.h5", "--prior", "a=0:1").output
    np.testing.assert_array_equal(dataset.read("d.h5").x, x[:, :2].astype("f4"))


def test_integers_that_float64_does_not_hold_are_refused():
    x = 2**60 + np.arange(40).reshape(20, 2)
    with pytest.raises(DataError, match=r"x: has integers beyond 2\*\*53"):
        physgen.dataset_of(np.arange(20.0), x)


def test_theta_and_x_may_lie_in_two_files(home):
    theta, x = pairs()
    np.save("theta.npy", theta)
    np.save("x.npy", x.reshape(N, 2, 3))
    assert run("x.npy", "-o", "d.h5", "--theta", "theta.npy", *PRIOR).exit_code == 0
    assert run("x.npy", "-o", "e.h5", "--theta", "sims.npz:params", *PRIOR).exit_code == 0
    one, other = dataset.read("d.h5"), dataset.read("e.h5")
    assert one.meta.law.x_shape == (2, 3)
    np.testing.assert_array_equal(one.x, other.x)
    assert run("sims.npz", "-o", "f.h5", "--x", "curve", "--x-shape", "2,3", *PRIOR).exit_code == 0
    np.testing.assert_array_equal(dataset.read("f.h5").x, one.x)


def test_columns_are_theta_and_x(home):
    theta, x = pairs()
    columns = {**dict(zip(LAWS, theta.T, strict=True)), **{f"y{i}": x[:, i] for i in range(6)}}
    np.savez("columns.npz", **columns)
    assert run("columns.npz", "-o", "d.h5", *PRIOR).exit_code == 0
    assert run("columns.npz", "-o", "e.h5", *PRIOR, "--x", "y*").exit_code == 0
    some = run("columns.npz", "-o", "f.h5", "--theta", "a,h", "--x", "y0,y3")
    assert "--prior a=0:1 --prior h=norm:" in some.output
    np.testing.assert_array_equal(dataset.read("d.h5").x, dataset.read("e.h5").x)
    np.testing.assert_array_equal(dataset.read("f.h5").x, x[:, [0, 3]].astype("f4"))


def test_columns_of_one_array_are_theta_and_x(home):
    np.savetxt("all.txt", np.hstack(pairs()))
    done = run("all.txt", "-o", "d.h5", "--theta", "all[:3]", "--x", "all[3:]", *PRIOR)
    assert done.exit_code == 0, done.output
    np.testing.assert_array_equal(dataset.read("d.h5").x, pairs()[1].astype("f4"))


def test_what_only_numbers_the_rows_is_no_part_of_x(home):
    theta, x = pairs()
    table = np.column_stack([np.arange(N), theta, x])
    names = ["", *LAWS, *(f"y{i}" for i in range(6))]
    np.savetxt("t.csv", table, delimiter=",", header=",".join(names), comments="")
    done = run("t.csv", "-o", "d.h5", *PRIOR)
    assert "x is y0, y1, y2, y3, y4, y5; not read:" in done.output
    assert dataset.read("d.h5").meta.law.x_shape == (6,)


@pytest.mark.parametrize("format", ["npz", "parquet", "netcdf", "root"])
def test_what_was_exported_comes_back_as_it_was(tmp_path, format):
    made = physgen.simulate("ising", size=4, n=300, seed=1, prior={"beta": stats.norm(0.4, 0.05)})
    file = physgen.export(made, format=format, out=tmp_path / f"out.{format}").path
    back = physgen.import_("arrays", file)
    assert back.law == made.law
    np.testing.assert_array_equal(back.theta, made.theta)
    np.testing.assert_array_equal(back.x, made.x)
    assert "law of ising, as it says" in back.summary
    other = physgen.import_("arrays", file, prior={"beta": (0, 1)})
    assert (other.law.simulator, other.law.prior.names) == ("arrays", ("beta",))
    assert "beta does not follow 0:1" in other.proposal


def test_a_shard_is_the_same_however_the_file_is_cut(home):
    whole = physgen.import_("arrays", "sims.npz", x="curve", prior=LAWS)
    found = physgen.formats.arrays.open_foreign(home / "sims.npz", x="curve", prior=LAWS)
    for start, stop in ((1500, 2000), (0, 7), (7, 8)):
        shard = dataset.Shard(0, start, stop, np.random.SeedSequence(0))
        np.testing.assert_array_equal(found.make(shard).x.astype("f4"), whole.x[start:stop])


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--x", "nope"), 2, "x: no 'nope'; it has params (2000, 3), curve (2000, 6), axis (6,)"),
        (("--x", "axis"), 3, "theta has 2000 rows, and x others: axis has 6"),
        (("--theta", "nope"), 2, "theta: no 'nope'"),
        (("--prior", "a=0:1"), 2, "theta has 3 columns; expected 3 different names, got a"),
        (("--names", "a,b"), 2, "expected 3 different names, got a, b"),
        (("--x-shape", "4,2"), 3, "x_shape: a row has 6 numbers, got (4, 2)"),
        (("--x-shape", "wide"), 2, "expected positive sizes, as in 40 or 16,16, got 'wide'"),
        (("--support", "nonnegative"), 3, "x is negative"),
    ],
)
def test_what_a_file_does_not_have_is_one_line(home, words, code, message):
    done = run("sims.npz", "-o", "d.h5", *words)
    assert message in done.output
    assert done.output.count("\n") == 1
    assert done.exit_code == code
    assert not (home / "d.h5").exists()


def test_what_is_no_dataset_says_how_to_bring_it_in(home):
    with pytest.raises(DataError, match=r"sims.npz: .* arrays of NumPy; .* import arrays"):
        physgen.fit("cvae", "sims.npz")


# --- merge ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    for k in (1, 2, 3):
        physgen.simulate("gaussian", n=100 * k, seed=k, shard_rows=64, out=folder / f"{k}.h5")
    return folder


def test_parts_are_joined_row_by_row(parts, tmp_path):
    files = [parts / f"{k}.h5" for k in (1, 2, 3)]
    made = physgen.merge(files, out=tmp_path / "all.h5")
    rows = [dataset.read(f) for f in files]
    np.testing.assert_array_equal(made.x, np.concatenate([r.x for r in rows]))
    np.testing.assert_array_equal(made.theta, np.concatenate([r.theta for r in rows]))
    assert made.proposal == ""
    told = [p["sha256"] for p in dataset.read(made.path).meta.source["parts"]]
    assert told == [dataset.file_digest(f) for f in files]
    again = physgen.merge([dataset.read(f) for f in files])
    np.testing.assert_array_equal(again.x, made.x)


def test_a_part_that_is_there_twice_is_refused(parts, tmp_path):
    files = [parts / f"{k}.h5" for k in (1, 2)]
    whole = physgen.merge(files, out=tmp_path / "all.h5")
    with pytest.raises(UsageError, match=r"all.h5: row 0 is row 0 of .*1.h5, and 100 rows share"):
        physgen.merge([files[0], whole.path])
    with pytest.raises(UsageError, match="its rows are there twice"):
        physgen.merge([files[0], files[0]])
    with pytest.raises(UsageError, match="two datasets at least"):
        physgen.merge([files[0]])


def test_equal_theta_alone_is_told(parts, caplog):
    one = dataset.read(parts / "1.h5")
    other = physgen.dataset.Rows(one.x + 1, one.theta, meta=one.meta)
    physgen.merge([one, other])
    assert "theta of 100 rows are those of" in caplog.text


def test_other_laws_and_priors_that_clash_are_refused(parts):
    theta, x = pairs(50)
    with pytest.raises(UsageError, match="expected simulator 'gaussian'"):
        physgen.merge([parts / "1.h5", physgen.dataset_of(theta, x, LAWS)])
    first = physgen.dataset_of(theta[:, 0], x, Box(a=(0, 2)))
    second = physgen.dataset_of(theta[:, 0] ** 2, x, Box(a=(-1, 1)))
    with pytest.raises(UsageError, match="priors that are equal, or parts of one"):
        physgen.merge([first, second])


def test_failed_draws_and_what_only_some_have_are_joined(tmp_path):
    theta, x = pairs(300)
    x[3] = np.nan
    one = physgen.dataset_of(theta[:150], x[:150], LAWS, on_error="skip")
    two = physgen.dataset_of(theta[150:], x[150:], LAWS)
    made = physgen.merge([one, two], out=tmp_path / "all.h5")
    assert len(made) == 299
    np.testing.assert_array_equal(made.failed.theta, theta[[3]])


# --- what is easily missed -----------------------------------------------------------------------


def test_laws_in_the_order_of_other_columns_are_told(caplog):
    """θ of norm:0:1 and norm:0:2, as one array, with the laws the other way around."""
    drawn = np.random.default_rng(0).normal(0, [1, 2, 4], (N, 3))
    laws = {"c": stats.norm(0, 4), "a": stats.norm(0, 1), "b": stats.norm(0, 2)}
    physgen.dataset_of(drawn, pairs()[1], laws)
    assert "in the order a, b, c its laws are those of the columns" in caplog.text
    boxes = {"a": (0, 1), "b": (2, 3)}
    turned = np.array([2, 0]) + np.random.default_rng(0).random((N, 2))
    with pytest.raises(DataError, match="in the order b, a its laws are those of the columns"):
        physgen.dataset_of(turned, pairs()[1], boxes)
    caplog.clear()
    physgen.dataset_of(turned[:, ::-1] ** [2, 1], pairs()[1], boxes)
    assert "a does not follow 0:1" in caplog.text
    assert "order" not in caplog.text


def test_columns_without_names_are_said_to_be_in_the_order_of_the_prior(home):
    assert "theta are a, tau, h, in this order" in run("sims.npz", "-o", "d.h5", *PRIOR).output
    named = run("sims.npz", "-o", "e.h5", *PRIOR, "--names", "a,tau,h")
    assert "in this order" not in named.output


def test_rows_that_are_there_twice_are_told(caplog):
    theta, x = pairs()
    physgen.dataset_of(np.r_[theta, theta[:5]], np.r_[x, x[:5]], LAWS)
    assert "theta of 5 rows are those of others" in caplog.text


def test_swapped_arrays_are_told(caplog):
    theta, x = pairs()
    wide = np.hstack([x, x**3])
    physgen.dataset_of(wide, theta)
    assert "theta has 12 columns, and x 3: are they swapped?" in caplog.text


def test_whole_numbers_are_told_of_any_type(caplog):
    theta, x = pairs()
    physgen.dataset_of(theta, np.round(9 * x), LAWS)
    assert "x are whole numbers" in caplog.text


def test_a_decade_is_enough_to_propose_a_law_of_the_logarithm():
    assert proposed_law(stats.loguniform(0.1, 1).rvs(N, random_state=1)).dist.name == "loguniform"
    assert proposed_law(stats.norm(1, 0.1).rvs(20_000, random_state=1)).dist.name == "norm"


def test_what_no_option_mends_is_not_advised(home):
    theta, x = pairs()
    x[3, 0] = np.inf
    with pytest.raises(DataError, match=r"row 3: x is infinite.*leaves such rows out$"):
        physgen.dataset_of(theta, x, LAWS)
    with pytest.raises(DataError, match="at least one row"):
        physgen.dataset_of(theta[:0], x[:0], LAWS)
    np.savez("complex.npz", theta=theta, x=x + 1j)
    np.savez("text.npz", theta=theta.astype(str), x=x)
    np.savez("none.npz", theta=theta[:0], x=x[:0])
    np.save("x.npy", x)
    np.save("theta.npy", theta)
    for words, message in (
        (("complex.npz",), "x: "),
        (("text.npz",), "theta: "),
        (("none.npz",), "at least one row"),
        (("theta.npy", "--x", "x.npy"), "import arrays x.npy --theta theta.npy"),
        ((".",), "."),
    ):
        done = run(*words, "-o", "d.h5")
        assert message in done.output
        assert done.output.count("\n") == 1
        assert "Traceback" not in done.output


def test_parameters_in_groups_are_called_by_their_last_name(home):
    theta, x = pairs()
    with h5py.File("nested.h5", "w") as file:
        file["run/curve"] = x
        for name, values in zip(LAWS, theta.T, strict=True):
            file[f"run/params/{name}"] = values
    assert run("nested.h5", "-o", "a.h5", *PRIOR).exit_code == 0
    assert run("nested.h5", "-o", "b.h5", "--theta", "run/params/*").exit_code == 0
    for name in ("a.h5", "b.h5"):
        assert sorted(physgen.read(name).meta.law.prior.names) == sorted(LAWS)
