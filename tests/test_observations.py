"""Observations from any file, and those that are unlike all x of the training."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch

import physgen
from physgen.dataset import Dataset, Meta, Rows
from physgen.errors import DataError, UsageError
from physgen.law import Law
from physgen.nn.ranges import Ranges
from physgen.nn.transforms import Standardise
from physgen.surrogates.cvae import CVAE, CVAEConfig
from physgen.verbs.observed import as_rows, layout, open_observed
from simulators.gaussian import LinearGaussian

LAW = Law.of("gaussian")
THETA = LAW.prior.sample(7, np.random.default_rng(0))
X = LinearGaussian().sample(THETA, np.random.default_rng(1)).astype(np.float32)
NAMES = "a,b,c,d,e"


def opened(path, law=LAW):
    return open_observed(path, law).read().x


def csv(path, columns, names):
    np.savetxt(path, columns, delimiter=",", header=names, comments="")
    return path


def test_any_file_of_one_array_is_read_by_its_shape(tmp_path):
    np.save(tmp_path / "a.npy", X)
    np.savez(tmp_path / "a.npz", counts=X, other=np.arange(3))
    np.savetxt(tmp_path / "a.txt", X)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["group/counts"], file["time"] = X, np.arange(7)
    for name in ("a.npy", "a.npz", "a.txt", "a.h5"):
        np.testing.assert_allclose(opened(tmp_path / name), X, rtol=1e-6)


def test_one_x_needs_no_axis_of_rows(tmp_path):
    np.save(tmp_path / "a.npy", X[0])
    np.savetxt(tmp_path / "a.txt", X[0])
    np.savetxt(tmp_path / "b.txt", X[:1])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = X[0]
    for name in ("a.npy", "a.txt", "b.txt", "a.h5"):
        np.testing.assert_allclose(opened(tmp_path / name), X[:1], rtol=1e-6)


def test_columns_make_x_in_their_order(tmp_path):
    path = csv(tmp_path / "a.csv", X, NAMES)
    np.testing.assert_allclose(opened(path), X, rtol=1e-6)
    labelled = csv(tmp_path / "b.csv", np.column_stack([THETA, X]), f"theta1,theta2,{NAMES}")
    found = open_observed(labelled, LAW).read(slice(2, 5))
    np.testing.assert_allclose(found.x, X[2:5], rtol=1e-6)
    np.testing.assert_allclose(found.theta, THETA[2:5])
    more = csv(tmp_path / "c.csv", np.column_stack([THETA[:, 0], X]), f"id,{NAMES}")
    with pytest.raises(DataError, match=r"or 5 columns, got id \(7,\).*name 5 of them, as in"):
        opened(more)
    np.testing.assert_allclose(opened(f"{more}:{NAMES}"), X, rtol=1e-6)
    whole = tmp_path / "d.npy"
    np.save(whole, np.column_stack([THETA, X]))
    np.testing.assert_allclose(opened(f"{whole}:d[2:7]"), X, rtol=1e-6)
    swapped = opened(f"{more}:b,a,c,d,e")
    np.testing.assert_allclose(swapped[:, :2], X[:, 1::-1], rtol=1e-6)


def test_parquet_columns(tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    pandas.DataFrame(X, columns=list("abcde")).to_parquet(tmp_path / "a.parquet")
    np.testing.assert_allclose(opened(tmp_path / "a.parquet"), X)


def test_of_several_arrays_one_is_named(tmp_path):
    np.savez(tmp_path / "a.npz", a=X, b=X + 1)
    with pytest.raises(UsageError, match=r"a \(7, 5\), b \(7, 5\); choose, as in .*a\.npz:a$"):
        opened(tmp_path / "a.npz")
    np.testing.assert_allclose(opened(f"{tmp_path}/a.npz:b"), X + 1)
    with pytest.raises(UsageError, match="no 'z'; it has a"):
        opened(f"{tmp_path}/a.npz:z")
    np.savez(tmp_path / "b.npz", x=X, other=X + 1)
    np.testing.assert_allclose(opened(tmp_path / "b.npz"), X)  # x is x
    (tmp_path / "c:d.npy").write_bytes(b"")
    np.save(tmp_path / "c:d.npy", X)
    np.testing.assert_allclose(opened(tmp_path / "c:d.npy"), X)  # a name may hold a colon


@pytest.mark.parametrize(
    ("shape", "x_shape", "kind"),
    [
        ((7, 5), (5,), "rows"), ((5,), (5,), "one"), ((5, 5), (5,), "rows"),
        ((1, 5), (5,), "rows"),
        ((5, 1), (5,), "one"), ((5, 7), (5,), ""), ((10,), (5,), ""), ((), (5,), ""),
        ((3, 3), (3, 3), "one"), ((2, 3, 3), (3, 3), "rows"), ((2, 9), (3, 3), "rows"),
        ((9,), (3, 3), "one"), ((3, 2), (2, 3), ""), ((4, 4), (2, 2), "rows"), ((2, 2), (4,), ""),
        ((7,), (1,), "rows"), ((1,), (1,), "one"), ((7, 1), (1,), "rows"),
    ],
)  # fmt: skip
def test_layouts(shape, x_shape, kind):
    assert layout(shape, x_shape) == kind


def test_what_is_no_x_is_refused_with_its_shape_and_type(tmp_path):
    with pytest.raises(DataError, match=r"expected \(n, 5\) or one x \(5,\), got \(7, 4\)"):
        open_observed(X[:, :4], LAW)
    with pytest.raises(DataError, match="got ndarray of complex128; give real and imaginary"):
        open_observed(X.astype(complex), LAW)
    with pytest.raises(DataError, match="got list of <U1"):
        open_observed([["a"]], LAW)
    np.save(tmp_path / "a.npy", X.astype(complex))
    with pytest.raises(DataError, match="complex numbers"):
        opened(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="objects, which may run code"):
        opened(tmp_path / "b.npy")
    np.save(tmp_path / "c.npy", X[:0])
    with pytest.raises(DataError, match="at least one row"):
        opened(tmp_path / "c.npy")


def test_python_objects_of_any_kind():
    for given in (X, X.tolist(), torch.from_numpy(X), Rows(X), Dataset(Rows(X)), list(X)):
        np.testing.assert_allclose(open_observed(given, LAW).x, X)
    for given in (X[0], X[0].tolist(), torch.from_numpy(X[0]), Rows(X[0])):
        np.testing.assert_allclose(open_observed(given, LAW).x, X[:1])
    spins = replace(LAW, support="spins", x_shape=(2, 2))
    assert as_rows(np.eye(2, dtype=bool), spins, "x").tolist() == [[[1, -1], [-1, 1]]]


@pytest.fixture(scope="module")
def model():
    found = CVAE.create(LAW, CVAEConfig(channels=8))
    rng = np.random.default_rng(0)
    x = LinearGaussian().sample(LAW.prior.sample(500, rng), rng)
    found.fit_transform(torch.from_numpy(x).float())
    return found.eval()


def test_verbs_take_any_file(tmp_path, model):
    np.savez(tmp_path / "a.npz", a=X, b=X + 1)
    post = physgen.infer(model, f"{tmp_path}/a.npz:b", samples=4, rows=slice(0, 2), draws=2)
    assert post.about["observed"]["path"] == f"{tmp_path}/a.npz:b"
    same = physgen.infer(model, X[:2] + 1, samples=4, draws=2)
    np.testing.assert_allclose(post.theta, same.theta)
    with pytest.raises(UsageError, match="expected rows up to 9, got 7"):
        physgen.infer(model, f"{tmp_path}/a.npz:b", rows=slice(0, 9))


def test_invalid_rows_are_left_out_on_request(tmp_path, model, caplog):
    x = X.copy()
    x[2, 1] = np.nan
    path = csv(tmp_path / "a.csv", x, NAMES)
    with pytest.raises(DataError, match=r"row 2: x is not finite.* --rows START:STOP"):
        physgen.infer(model, path)
    with pytest.raises(UsageError, match="drop_invalid: goes with --iid"):
        physgen.infer(model, path, drop_invalid=True)
    dropped = physgen.infer(model, path, iid=True, drop_invalid=True, samples=4, draws=2)
    assert "1 of 7 rows are invalid, and left out" in caplog.text
    kept = physgen.infer(model, np.delete(x, 2, 0), iid=True, samples=4, draws=2)
    np.testing.assert_allclose(dropped.mean, kept.mean)


def test_what_is_far_outside_of_the_training_is_told(model, caplog):
    physgen.infer(model, X, samples=4, draws=2)
    assert "outside of all x of the training" not in caplog.text
    far = X.copy()
    far[3, 1], far[5, 1] = 90, 80
    physgen.infer(model, far, samples=4, draws=2)
    assert "row 3 and 1 more: x[1] = 90 is " in caplog.text
    assert "widths outside of all x of the training" in caplog.text


def test_ranges_tell_the_kind_and_how_many_are_missing():
    ranges, rng = Ranges((3,)), np.random.default_rng(0)
    x = torch.from_numpy(rng.integers(0, 9, (300, 3)).astype(float))
    x[::2, 1] = torch.nan
    ranges.fit(x)
    assert list(ranges.unlike(x)) == []
    odd = x[:4].clone()
    odd[1, 0] = 2.5
    odd[2, :2] = torch.nan
    odd[3] = torch.nan
    whole, bare, more = ranges.unlike(odd, 10)
    assert whole == "row 11: x[0] = 2.5, where all x of the training are whole numbers"
    assert bare.startswith("row 13: nothing of x is there")
    assert more == "row 12: 2 components are missing, and of no x of the training more than 1"
    assert list(Ranges((3,)).unlike(1e9 * odd[:2])) == []  # of an older file nothing is known


def test_a_constant_has_a_range_of_its_rounding():
    """What is told is the component that is off, not one that is missing beside it."""
    ranges = Ranges((2,))
    ranges.fit(torch.stack([torch.linspace(-1, 1, 50), torch.full((50,), 0.1)], 1))
    assert list(ranges.unlike(torch.tensor([[0.3, 0.1], [0.2, 0.1]], dtype=torch.float64))) == []
    odd = torch.tensor([[torch.nan, 0.1], [torch.nan, 0.2]], dtype=torch.float64)
    assert next(ranges.unlike(odd)).startswith("row 1: x[1] = 0.2 is ")


def test_an_older_file_opens(model):
    state = {k: v for k, v in model.state_dict().items() if ".ranges." not in k}
    again = CVAE.create(LAW, CVAEConfig(channels=8))
    again.load_state_dict(state)
    assert list(again.transform.unlike(torch.full((1, 5), 1e6))) == []
    again.load_state_dict(model.state_dict())
    assert len(list(again.transform.unlike(torch.full((1, 5), 1e6)))) == 1


def test_x_that_breaks_what_all_x_obeyed_is_told():
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.standard_normal((300, 3)))
    x[:, 2] = 2 * x[:, 0] + 5
    transform = Standardise(replace(LAW, x_shape=(3,), missing=True))
    transform.fit(x)
    assert list(transform.unlike(x)) == []
    odd = x[:3].clone()
    odd[1, 2] += 1
    odd[2, 0] = torch.nan
    breaks, side = list(transform.unlike(odd))[-2:]
    assert breaks.startswith("row 1: x breaks x[2] = 2 x[0] + 5")
    assert side.startswith("row 2: x has only one side of x[2] = 2 x[0] + 5")


def test_calibrate_takes_labelled_columns(tmp_path):
    law = Law.of("gaussian", {"parameters": 1})
    rng = np.random.default_rng(0)
    theta = law.prior.sample(30, rng)
    x = LinearGaussian(parameters=1).sample(theta, rng)
    path = csv(tmp_path / "a.csv", np.column_stack([theta, x]), f"theta1,{NAMES}")
    data = open_observed(path, law)
    np.testing.assert_allclose(data.theta, theta)
    assert data.meta is None
    assert len(data) == 30
    own = Dataset(Rows(x.astype(np.float32), theta, meta=Meta(law))).save(tmp_path / "a.h5")
    assert open_observed(own.path, law).meta.law == law


def test_columns_are_those_of_the_training_by_their_names_in_any_order(tmp_path):
    """A table whose columns lie in another order is no other observation."""
    names, theta = NAMES.split(","), LAW.prior.sample(120, np.random.default_rng(3))
    x = LinearGaussian().sample(theta, np.random.default_rng(4)).astype(np.float32)
    table = csv(tmp_path / "d.csv", np.column_stack([theta, x]), f"theta1,theta2,{NAMES}")
    told = {"prior": dict.fromkeys(LAW.prior.names, (-2.0, 2.0))}
    data = physgen.import_("arrays", table, out=tmp_path / "d.h5", **told)
    assert data.columns == data.origin()["columns"] == names
    turned = np.column_stack([np.arange(120), x[:, ::-1]])
    path = csv(tmp_path / "o.csv", turned, f",{','.join(names[::-1])}")
    found = open_observed(path, data.law, data.origin())
    np.testing.assert_allclose(found.read().x, x, rtol=1e-6)
    assert found.columns == names

    model = physgen.fit("cvae", data, epochs=1, out=tmp_path / "m.pt")
    told["theta"] = f"{table}:theta1,theta2"
    other = physgen.import_("arrays", path, out=tmp_path / "o.h5", x="e,d,c,b,a", **told)
    for verb in (physgen.validate, physgen.calibrate, physgen.infer):
        with pytest.raises(UsageError, match=r"expected a, as in .*d.h5, got e; import it"):
            verb(model, other)
    with pytest.raises(UsageError, match=r"expected a, as in .*d.h5, got e; import it"):
        physgen.fit("cvae", other, from_=model, epochs=1)
    straight = physgen.infer(model, table, rows=0, draws=1)
    post = physgen.infer(tmp_path / "m.pt", path, rows=0, draws=1, out=tmp_path / "p.h5")
    np.testing.assert_array_equal(post.mean, straight.mean)
    few = {"method": "npe", "rows": 0, "epochs": 2, "simulations": 120}
    trained = physgen.infer(data, path, **few).network
    found = [physgen.infer(trained, file, rows=0).mean for file in (path, table)]
    np.testing.assert_array_equal(*found)


def test_columns_of_parts_are_those_of_all(tmp_path):
    law, theta = replace(LAW, simulator="arrays"), THETA
    parts = [
        Dataset(Rows(X, theta * (1 - shift), meta=Meta(law, {"arrays": {"x": [*named]}})))
        for shift, named in ((0, "abcde"), (0.1, "abcde"), (0.2, "vwxyz"), (0.3, "edcba"))
    ]
    turned = parts.pop()
    with pytest.raises(UsageError, match=r"column 0 of x: expected a, as in .*, got e"):
        physgen.merge([parts[0], turned])
    with pytest.raises(UsageError, match=r"column 0 of x: expected a, as in .*, got e"):
        physgen.compare(turned, parts[0])
    with pytest.raises(UsageError, match="column 0 of x: expected a, as in the training, got e"):
        open_observed(turned, law, parts[0].origin())
    for some, expected in ((parts[:2], [*"abcde"]), (parts, [])):
        assert physgen.merge(some).columns == expected
        out = tmp_path / f"{len(some)}.h5"
        assert physgen.merge(some, out=out).columns == expected


@pytest.mark.slow
def test_judging_on_what_was_trained_on_is_told(caplog):
    data = physgen.simulate("gaussian", n=150)
    network = physgen.infer(data, X, method="npe", epochs=2).network
    model = physgen.fit("cvae", data, epochs=1)
    for judged in (model, network):
        caplog.clear()
        physgen.calibrate(judged, data, rows=slice(0, 20), draws=None)
        assert "is what was trained on" in caplog.text
    caplog.clear()
    physgen.validate(model, data, rows=slice(0, 20), draws=2)
    assert "is what was trained on" in caplog.text
    caplog.clear()
    physgen.validate(model, physgen.simulate("gaussian", n=20, seed=5), draws=2)
    assert "trained on" not in caplog.text
