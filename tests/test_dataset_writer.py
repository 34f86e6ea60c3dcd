"""What goes into a dataset is checked, stored in the layout, and comes back."""

from __future__ import annotations

import json
import os
import socket
from itertools import pairwise

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from physgen.dataset import Meta, Rows, describe, provenance, read, validated, write, write_arrays
from physgen.errors import DataError, UsageError
from physgen.law import Law
from simulators.prior import Box

GAUSSIAN = Law.of("gaussian", {"size": 7})
SPINS = Law("spins", Box(beta=(0.1, 0.7, "1/J"), h=(0, 0.5)), (3, 5), "spins")
DICE = Law("dice", Box(bias=(0, 1)), (2, 5), "levels", levels=6)
MANY = Law("many", Box(bias=(0, 1)), (7,), "levels", levels=1009)
ENERGY = Law("energy", Box(e=(1, 100, "GeV")), (2, 3), "nonnegative")


def meta(law, seed=3):
    return Meta(law, {"kind": "simulator", "sweeps": 11}, seed, {"command": "test"})


def draw(law):
    """A source of rows of any law."""

    def make(shard):
        rng = np.random.default_rng(shard.seed)
        theta, shape = law.prior.sample(len(shard), rng), (len(shard), *law.x_shape)
        if law.support == "spins":
            return Rows(rng.choice([-1, 1], shape), theta)
        if law.support == "levels":
            return Rows(rng.integers(law.levels, size=shape), theta)
        x = rng.normal(size=shape)
        return Rows(np.abs(x) if law.support == "nonnegative" else x, theta)

    return make


@pytest.fixture
def path(tmp_path):
    return tmp_path / "set.h5"


@pytest.mark.parametrize(
    ("law", "dtype"),
    [(GAUSSIAN, "f4"), (SPINS, "i1"), (ENERGY, "f4"), (DICE, "i1"), (MANY, "i2")],
    ids=["reals", "spins", "+", "levels", "many levels"],
)
def test_layout(path, law, dtype):
    written = write(path, 211, meta(law), draw(law), shard_rows=64)
    with h5py.File(path) as file:
        assert file["x"].shape == (211, *law.x_shape)
        assert file["x"].dtype == dtype
        assert file["theta"].shape == (211, len(law.prior))
        assert file["theta"].dtype == "f8"
        for name in ("x", "theta"):
            data = file[name]
            assert data.chunks[0] == 64
            assert (data.compression, data.compression_opts) == ("gzip", 1)
            assert data.fletcher32
            assert not data.shuffle
        assert {k: str(np.asarray(v).astype("U")) for k, v in file.attrs.items()} == {
            "schema": "physgen/1",
            "n_rows": "211",
            "complete": "1",
            "seed": "3",
            "created": describe(path)["created"],
            "content_sha256": written.content_sha256,
        }
        assert json.loads(file["meta/json"][()])["law"]["simulator"] == law.simulator
    assert written.bytes == path.stat().st_size
    assert path.with_name("set.h5.sha256").read_text() == f"{written.sha256}  set.h5\n"
    assert sorted(p.name for p in path.parent.iterdir()) == ["set.h5", "set.h5.sha256"]


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 40),
    shard_rows=st.integers(1, 50),
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    support=st.sampled_from(["spins", "reals", "nonnegative", "levels"]),
    levels=st.integers(2, 2**15),
    seed=st.integers(0, 2**128 - 1),
)
def test_round_trip(tmp_path_factory, n, shard_rows, shape, support, levels, seed):
    levels = levels if support == "levels" else 0
    law = Law("any", Box(a=(0, 1), b=(-1, 1, "m")), tuple(shape), support, levels=levels)
    path = tmp_path_factory.mktemp("any") / "set.h5"
    kept = []

    def make(shard):
        kept.append(draw(law)(shard))
        return kept[-1]

    write(path, n, meta(law, seed), make, shard_rows=shard_rows)
    found = read(path)
    assert np.array_equal(found.theta, np.concatenate([r.theta for r in kept]))
    assert np.array_equal(found.x, np.concatenate([r.x for r in kept]).astype(found.x.dtype))
    assert found.meta == meta(law, seed)
    start, stop = n // 3, n // 3 + 1
    assert np.array_equal(read(path, slice(start, stop)).x, found.x[start:stop])


@pytest.mark.parametrize(
    ("law", "rows"),
    [(SPINS, 4096), (Law("a", Box(b=(0, 1)), (32, 32), "spins"), 1024), (GAUSSIAN, 4096)]
    + [(Law("a", Box(b=(0, 1)), shape), n) for shape, n in [((100, 33), 64), ((2**21,), 1)]],
)
def test_default_chunks_are_about_1_mib(path, law, rows):
    seen = []

    def make(shard):
        seen.append(len(shard))
        raise InterruptedError

    with pytest.raises(InterruptedError):
        write(path, 10_000, meta(law), make)
    assert seen == [rows]
    assert not list(path.parent.iterdir()), "nothing is left where nothing was finished"


def test_shards_cover_the_rows_with_seeds_of_their_own(path):
    shards = []

    def make(shard):
        shards.append(shard)
        return draw(GAUSSIAN)(shard)

    done = []
    write(path, 211, meta(GAUSSIAN), make, shard_rows=53, progress=done.append)
    assert [s.start for s in shards] == [0, 53, 106, 159]
    assert all(a.stop == b.start for a, b in pairwise(shards))
    assert done == [s.stop for s in shards] == [53, 106, 159, 211]
    for s in shards:
        same = np.random.SeedSequence(3, spawn_key=(s.number,))
        assert np.array_equal(s.seed.generate_state(4), same.generate_state(4))


def spoilt(law, **changes):
    """Rows of a law of which one shard is spoilt."""

    def make(shard):
        rows = draw(law)(shard)
        values = {"x": rows.x.astype(float), "theta": rows.theta} | {"aux": {}}
        if shard.number == 1:
            for name, change in changes.items():
                values[name] = change(values[name])
        return Rows(**values)

    return make


def at(row, value):
    def change(values):
        values[row].flat[0] = value
        return values

    return change


@pytest.mark.parametrize(
    ("law", "changes", "match"),
    [
        (GAUSSIAN, {"x": at(5, np.nan)}, r"set\.h5: row 58: x is not finite \(1 of 53 rows\)"),
        (GAUSSIAN, {"x": at(5, 1e300)}, "row 58: x is infinite, or overflows float32"),
        (GAUSSIAN, {"theta": at(7, np.inf)}, "row 60: theta is not finite"),
        (
            GAUSSIAN,
            {"theta": at(7, np.nextafter(2.0, 3))},
            r"row 60: theta is outside the prior, theta1=2\.0000000000000004 not in \[-2.*2\.0\]",
        ),
        (SPINS, {"x": at(0, 0)}, "row 53: x is neither -1 nor [+]1"),
        (SPINS, {"x": at(0, 1.2)}, "row 53: x is neither -1 nor [+]1"),
        (SPINS, {"x": at(0, 257)}, "row 53: x is neither -1 nor [+]1"),
        (SPINS, {"x": at(0, np.nan)}, "row 53: x is neither -1 nor [+]1"),
        (DICE, {"x": at(0, 6)}, "row 53: x is no integer from 0 to 5"),
        (DICE, {"x": at(0, -1)}, "row 53: x is no integer from 0 to 5"),
        (DICE, {"x": at(0, 1.2)}, "row 53: x is no integer from 0 to 5"),
        (DICE, {"x": at(0, 256)}, "row 53: x is no integer from 0 to 5"),
        (DICE, {"x": at(0, np.nan)}, "row 53: x is no integer from 0 to 5"),
        (DICE, {"x": at(0, np.inf)}, "row 53: x is no integer from 0 to 5"),
        (MANY, {"x": at(0, 2**16)}, "row 53: x is no integer from 0 to 1008"),
        (ENERGY, {"x": at(0, -1e-9)}, "row 53: x is negative"),
        (GAUSSIAN, {"x": lambda x: x[:, :5]}, r"x: expected shape \(53, 7\), got \(53, 5\)"),
        (GAUSSIAN, {"x": lambda x: x[:50]}, "expected 53 rows with theta, got 50"),
        (GAUSSIAN, {"theta": lambda t: t[:50]}, r"theta: expected shape \(53, 2\)"),
        (GAUSSIAN, {"theta": lambda t: None}, "got 53 without theta"),
        (GAUSSIAN, {"x": lambda x: x.astype(complex)}, "expected real numbers"),
        (GAUSSIAN, {"x": lambda x: x.astype(object)}, "expected real numbers"),
        (GAUSSIAN, {"x": lambda x: x.astype(str)}, "expected real numbers"),
        (GAUSSIAN, {"aux": lambda a: {"e": np.full(53, np.nan)}}, "row 53: aux/e is not finite"),
        (GAUSSIAN, {"aux": lambda a: {"e": np.ones(3)}}, r"aux/e: expected shape \(53,\)"),
        (GAUSSIAN, {"aux": lambda a: {"e": np.ones(53)}}, "shard 1: its arrays differ"),
    ],
)
def test_rows_that_cannot_follow_the_law(path, law, changes, match):
    with pytest.raises(DataError, match=match) as caught:
        write(path, 106, meta(law), spoilt(law, **changes), shard_rows=53)
    assert "\n" not in str(caught.value)
    assert not path.exists()


@pytest.mark.parametrize("law", [GAUSSIAN, SPINS, ENERGY], ids=lambda law: law.simulator)
def test_the_bounds_themselves_are_inside(path, law):
    def make(shard):
        rows = draw(law)(shard)
        rows.theta[0], rows.theta[1] = law.prior.low, law.prior.high
        return rows

    write(path, 11, meta(law), make)
    assert np.array_equal(read(path).theta[1], law.prior.high)


def test_an_existing_output_needs_force(path):
    path.write_text("precious")
    with pytest.raises(UsageError, match="exists; choose another output, or --force"):
        write(path, 11, meta(GAUSSIAN), draw(GAUSSIAN))
    with pytest.raises(UsageError, match="exists"):
        write_arrays(path, {"a": np.ones(3)}, {}, kind="posterior")
    assert path.read_text() == "precious"
    assert [p.name for p in path.parent.iterdir()] == ["set.h5"]
    write(path, 11, meta(GAUSSIAN), draw(GAUSSIAN), force=True)
    assert len(read(path)) == 11


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("dangling", [False, True])
def test_a_symbolic_link_is_refused(path, tmp_path, dangling, force):
    target = tmp_path / "target"
    if not dangling:
        target.write_text("precious")
    path.symlink_to(target)
    with pytest.raises(UsageError, match="is a symbolic link"):
        write(path, 11, meta(GAUSSIAN), draw(GAUSSIAN), force=force)
    with pytest.raises(UsageError, match="is a symbolic link"):
        write_arrays(path, {"a": np.ones(3)}, {}, kind="posterior", force=force)
    assert path.is_symlink()
    assert target.exists() != dangling
    assert dangling or target.read_text() == "precious"


def test_a_folder_is_refused(path):
    path.mkdir()
    with pytest.raises(UsageError, match="not a regular file"):
        write(path, 11, meta(GAUSSIAN), draw(GAUSSIAN), force=True)


@pytest.mark.parametrize("wrong", [{"n": 0}, {"shard_rows": 0}])
def test_sizes_below_1(path, wrong):
    with pytest.raises(UsageError, match="expected at least 1"):
        write(path, **({"n": 5, "meta": meta(GAUSSIAN), "make": draw(GAUSSIAN)} | wrong))


def test_metadata_that_is_not_json(path):
    bad = Meta(GAUSSIAN, {"temperature": float("nan")}, 3, {})
    with pytest.raises(UsageError, match="metadata"):
        write(path, 5, bad, draw(GAUSSIAN))


def test_bytes_do_not_depend_on_the_time(path, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    write(path, 211, meta(GAUSSIAN), draw(GAUSSIAN), shard_rows=53)
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    other = tmp_path / "other.h5"
    write(other, 211, meta(GAUSSIAN), draw(GAUSSIAN), shard_rows=53)
    assert path.read_bytes() == other.read_bytes()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000001")
    late = tmp_path / "late.h5"
    written = write(late, 211, meta(GAUSSIAN), draw(GAUSSIAN), shard_rows=53)
    assert late.read_bytes() != path.read_bytes()
    assert describe(path)["content_sha256"] == written.content_sha256


def test_without_a_seed(path):
    write(path, 11, meta(GAUSSIAN, None), draw(GAUSSIAN))
    found = describe(path, verify=True)
    assert found["seed"] is None
    assert read(path).meta.seed is None


def test_provenance_names_version_and_command():
    found = provenance("simulate gaussian")
    assert found["package"] == "physgen"
    assert found["command"] == "simulate gaussian"
    assert set(found) <= {"package", "version", "command", "git"}


def test_validated_casts_foreign_observations():
    x = np.ones((3, 3, 5))
    found = validated(Rows(x), SPINS, "observed.h5")
    assert found.x.dtype == np.int8
    with pytest.raises(DataError, match=r"observed\.h5: row 2: x is neither"):
        validated(Rows(np.where(np.arange(3)[:, None, None] == 2, 3, x)), SPINS, "observed.h5")


def test_numba_threads_are_given_back(path):
    before = os.environ.get("NUMBA_NUM_THREADS")
    write(path, 11, meta(GAUSSIAN), draw(GAUSSIAN))
    assert os.environ.get("NUMBA_NUM_THREADS") == before
