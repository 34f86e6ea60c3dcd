"""Reading into memory, streaming, foreign files, and the fixtures that stay readable."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from physgen.dataset import Meta, Rows, Stream, describe, read, write
from physgen.errors import DataError, UsageError
from physgen.law import Law

LAW = Law.of("gaussian", {"size": 7})
FIXTURE = Path(__file__).parents[1] / "data" / "gaussian.h5"


def make(shard):
    rng = np.random.default_rng(shard.seed)
    theta = LAW.prior.sample(len(shard), rng)
    index = np.arange(shard.start, shard.stop)
    return Rows(LAW.build().sample(theta, rng), theta, {"index": index, "flag": index > 100})


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "set.h5"
    write(path, 997, Meta(LAW, {}, 3, {}), make, shard_rows=32)
    return path


@pytest.fixture
def invalid(path, tmp_path):
    """A file in which 3 rows are invalid for 4 reasons."""
    copy = tmp_path / "invalid.h5"
    copy.write_bytes(path.read_bytes())
    with h5py.File(copy, "r+") as file:
        file["x"][5, 3] = np.nan
        file["theta"][7, 1] = 2.5
        file["theta"][900] = [np.inf, -3]
    return copy


def test_aux_comes_along(path):
    found = read(path, slice(100, 103))
    assert np.array_equal(found.aux["index"], [100, 101, 102])
    assert np.array_equal(found.aux["flag"], [0, 1, 1])


@pytest.mark.parametrize("rows", [slice(-7, None), slice(31, 33), slice(5), slice(990, 5000)])
def test_slices(path, rows):
    whole = read(path)
    assert np.array_equal(read(path, rows).x, whole.x[rows])
    assert np.array_equal(read(path, rows).theta, whole.theta[rows])


@pytest.mark.parametrize("rows", [slice(0, 10, 2), slice(5, 5), slice(2000, None)])
def test_slices_that_are_refused(path, rows):
    with pytest.raises(UsageError, match="consecutive"):
        read(path, rows)


def test_rows_are_selected_together(path):
    whole = read(path)
    some = whole[np.array([7, 3])]
    assert np.array_equal(some.aux["index"], [7, 3])
    assert np.array_equal(some.theta, whole.theta[[7, 3]])
    assert len(whole[whole.theta[:, 0] > 0]) == np.sum(whole.theta[:, 0] > 0)


def test_invalid_rows_are_refused_or_counted(invalid, path):
    with pytest.raises(DataError, match=r"row 900: theta is not finite.*drop_invalid"):
        read(invalid)
    with pytest.raises(DataError, match="row 5: x is not finite"):
        read(invalid, slice(100))
    with pytest.raises(DataError, match=r"row 7: .*prior, theta2=2.5 not in \[-2.0, 2.0\]"):
        read(invalid, slice(6, 100))
    found = read(invalid, drop_invalid=True)
    assert found.dropped == 3
    assert len(found) == 994
    assert set(range(997)) - set(found.aux["index"].tolist()) == {5, 7, 900}
    assert read(path, drop_invalid=True).dropped == 0
    with pytest.raises(DataError, match="row"):
        list(Stream(invalid, 64).batches(np.random.default_rng(1)))


def test_more_than_the_memory_is_refused(path, monkeypatch):
    monkeypatch.setattr("os.sysconf", lambda name: 10)
    with pytest.raises(UsageError, match="read fewer rows"):
        read(path)


@pytest.mark.parametrize("dtype", ["f8", ">f8", "f4", "i1", ">i4", "u2"])
def test_foreign_observations(tmp_path, dtype):
    path = tmp_path / "observed.h5"
    x = np.arange(21).reshape(3, 7).astype(dtype)
    with h5py.File(path, "w") as file:
        file["x"] = x
    found = read(path)
    assert (found.theta, found.meta) == (None, None)
    assert found.x.dtype.isnative
    assert np.array_equal(found.x, x)
    assert describe(path, verify=True)["rows"] == 3
    with pytest.raises(DataError, match="no /theta"):
        Stream(path, 2)


def test_foreign_values_must_be_finite(tmp_path):
    path = tmp_path / "observed.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.array([[1.0], [np.inf]])
    with pytest.raises(DataError, match="row 1: x is not finite"):
        read(path)


@pytest.mark.parametrize(
    "options", [{}, {"chunks": (5, 7), "shuffle": True, "compression": "lzf"}]
)
def test_foreign_pairs_are_streamed(tmp_path, options):
    path = tmp_path / "pairs.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.arange(91.0).reshape(13, 7), **options)
        file.create_dataset("theta", data=np.arange(13.0)[:, None])
    batches = list(Stream(path, 4).batches(np.random.default_rng(3)))
    assert sorted(np.concatenate([b.theta[:, 0] for b in batches])) == list(range(13))
    assert all(np.array_equal(b.x[:, 0], 7 * b.theta[:, 0]) for b in batches)


@settings(max_examples=30, deadline=None)
@given(
    batch=st.integers(1, 300),
    chunks=st.integers(1, 40),
    start=st.integers(0, 900),
    length=st.integers(1, 997),
)
def test_a_stream_gives_every_row_once(path, batch, chunks, start, length):
    rows = slice(start, start + length)
    stream = Stream(path, batch, rows=rows, buffer_chunks=chunks)
    batches = list(stream.batches(np.random.default_rng(5)))
    whole = read(path, rows)
    assert len(batches) == len(stream)
    assert stream.rows == len(whole)
    assert all(len(b) == batch for b in batches[:-1])
    x, theta = (np.concatenate([getattr(b, k) for b in batches]) for k in ("x", "theta"))
    order, want = np.argsort(theta[:, 0]), np.argsort(whole.theta[:, 0])
    assert np.array_equal(theta[order], whole.theta[want])
    assert np.array_equal(x[order], whole.x[want])


def test_a_stream_is_shuffled_by_its_rng_alone(path):
    def epoch(seed):
        batches = Stream(path, 50).batches(np.random.default_rng(seed))
        return np.concatenate([b.theta for b in batches])[:, 0]

    assert np.array_equal(epoch(1), epoch(1))
    assert not np.array_equal(epoch(1), epoch(2))
    position = np.argsort(np.argsort(epoch(1)))
    file = np.argsort(np.argsort(read(path).theta[:, 0]))
    assert abs(np.corrcoef(position, file)[0, 1]) < 0.2


def test_both_the_rows_and_the_chunks_are_shuffled(path):
    place = {t: i for i, t in enumerate(read(path).theta[:, 0])}

    def order(buffer_chunks):
        batches = Stream(path, 32, buffer_chunks=buffer_chunks).batches(np.random.default_rng(1))
        return np.array([place[t] for b in batches for t in b.theta[:, 0]])

    assert np.mean(np.diff(order(8)) == 1) < 0.05, "rows of a buffer"
    assert np.mean(np.diff(order(1) // 32) >= 0) < 0.99, "chunks of a file"


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"buffer_chunks": 0}])
def test_stream_sizes_below_1(path, wrong):
    with pytest.raises(UsageError, match="at least 1"):
        Stream(path, **({"batch_size": 5} | wrong))


def test_description_is_json(path):
    found = json.loads(json.dumps(describe(path)))
    assert found["rows"] == 997
    assert found["arrays"]["x"]["shape"] == [997, 7]
    assert found["law"]["simulator"] == "gaussian"
    assert found["sidecar"] == "ok"
    assert not found["verified"]
    assert describe(path, verify=True) == found | {"verified": True}


def test_every_version_reads_the_fixture():
    assert FIXTURE.stat().st_size < 100_000
    found = read(FIXTURE)
    assert describe(FIXTURE, verify=True)["sidecar"] == "ok"
    assert found.meta.law == LAW
    assert found.x.shape == (256, 7)
    assert found.theta.shape == (256, 2)
    assert np.isclose(found.x.mean(), 0.47, atol=0.2)


def test_the_fixture_is_what_its_program_makes(tmp_path):
    readme = FIXTURE.with_name("README.md").read_text()
    program = readme.split("```python\n")[1].split("```")[0]
    (tmp_path / "data").mkdir()
    call = [sys.executable, "-c", program]
    subprocess.run(call, cwd=tmp_path, check=True, env={"SOURCE_DATE_EPOCH": "1735689600"})
    made, kept = tmp_path / "data" / "gaussian.h5", FIXTURE
    a, b = read(made), read(kept)
    assert np.array_equal(a.theta, b.theta)
    assert np.allclose(a.x, b.x, rtol=1e-6)
    assert np.allclose(a.aux["log_prob"], b.aux["log_prob"])


def test_light_imports():
    program = (
        "import sys, physgen.dataset\n"
        "assert not {'torch', 'matplotlib', 'sbi', 'scipy', 'numba'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
