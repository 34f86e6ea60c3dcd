"""Files of named arrays that others made: what is there is read, and nothing else is done."""

from __future__ import annotations

import gzip
import json
import pickle
import subprocess
import sys
import zipfile
from dataclasses import replace

import awkward as ak
import h5netcdf
import h5py
import hypothesis.extra.numpy as hnp
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import netcdf_file

import physgen
from physgen import formats
from physgen.dataset import JoinedDataset, Meta, Rows, write, write_arrays
from physgen.errors import DataError, UsageError
from physgen.formats.tables import ArrayInfo, exportable, open_table
from physgen.formats.tables import parquet as parquet_file
from physgen.formats.tables import root as root_file
from physgen.formats.tables import text as text_file
from physgen.formats.tables.selection import Selection
from physgen.law import Law
from simulators.prior import Box

N, K = 53, 7
RNG = np.random.default_rng(3)
PLAIN = {
    "theta": RNG.normal(size=(N, 3)),
    "x": RNG.normal(size=(N, K, 2)).astype(np.float32),
    "big": RNG.normal(size=(N, K)).astype(">f8"),
    "spins": RNG.integers(0, 2, (N, K)).astype(np.int8),
    "flag": RNG.random(N) < 0.5,
    "half": RNG.normal(size=N).astype(np.float16),
    "fortran": np.asfortranarray(RNG.normal(size=(N, K, 2))),
    "scalar": np.array(2.5),
    "none": np.empty((0, 3)),
}
RECORDS = np.zeros(N, [("a", "<f8"), ("b", ">i4", (2,)), ("in", [("c", "f4")])])
RECORDS["a"], RECORDS["b"], RECORDS["in"]["c"] = RNG.normal(size=(3, N)).reshape(3, N)[0], 5, 2.5


def as_npz(path, arrays):
    np.savez(path, **arrays)


def as_packed(path, arrays):
    np.savez_compressed(path, **arrays)


def as_hdf5(path, arrays):
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file.create_dataset(f"deep/er/{name}", data=values)


def as_chunks(path, arrays):
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            some = {"chunks": (5, *values.shape[1:]), "compression": "gzip"}
            options = some if values.size > 1 else {}
            file.create_dataset(f"deep/er/{name}", data=values, **options)


@pytest.mark.parametrize("write", [as_npz, as_packed, as_hdf5, as_chunks])
def test_arrays_come_back_value_for_value(tmp_path, write):
    write(tmp_path / "a.npz", PLAIN)
    with open_table(tmp_path / "a.npz") as table:
        found = {name.removeprefix("deep/er/"): info for name, info in table.arrays.items()}
        native = {k: v.astype(v.dtype.newbyteorder("=")) for k, v in PLAIN.items()}
        assert found == {k: ArrayInfo(v.dtype, v.shape) for k, v in native.items()}
        for name in table.arrays:
            want = native[name.removeprefix("deep/er/")]
            got = table.read([name])[name]
            assert got.dtype == want.dtype
            np.testing.assert_array_equal(got, want)
        rows = [n for n in table.arrays if table.arrays[n].shape[:1] == (N,)]
        for start, stop in [(0, 10), (10, 31), (31, 99), (5, 6), (40, 40)]:
            for name, got in table.read(rows, start, stop).items():
                np.testing.assert_array_equal(
                    got, native[name.removeprefix("deep/er/")][start:stop]
                )


@pytest.mark.parametrize("name", ["big", "fortran", "scalar", "none", "theta"])
def test_npy(tmp_path, name):
    np.save(tmp_path / "array.npy", PLAIN[name])
    with open_table(tmp_path / "array.npy") as table:
        np.testing.assert_array_equal(table.read(["array"])["array"], PLAIN[name])
        if PLAIN[name].ndim:
            got = table.read(["array"], 3, 17)["array"]
            np.testing.assert_array_equal(got, PLAIN[name][3:17])


def test_fields_of_records_are_columns(tmp_path):
    np.save(tmp_path / "a.npy", RECORDS)
    np.savez(tmp_path / "a.npz", r=RECORDS)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["r"] = RECORDS
    for name, before in (("a.npy", ""), ("a.npz", "r/"), ("a.h5", "r/")):
        with open_table(tmp_path / name) as table:
            assert list(table.arrays) == [f"{before}{k}" for k in ("a", "b", "in/c")]
            assert table.arrays[f"{before}b"] == ArrayInfo(np.dtype("i4"), (N, 2))
            got = table.read(list(table.arrays), 4, 9)
            np.testing.assert_array_equal(got[f"{before}a"], RECORDS["a"][4:9])
            np.testing.assert_array_equal(got[f"{before}in/c"], RECORDS["in"]["c"][4:9])


def test_a_table_is_pickled_by_its_path(tmp_path):
    as_npz(tmp_path / "a.npz", PLAIN)
    with open_table(tmp_path / "a.npz") as table, pickle.loads(pickle.dumps(table)) as again:
        assert again.arrays == table.arrays
        assert again.read(["theta"], 1, 3)["theta"].shape == (2, 3)
        kept = pickle.dumps(table)
        as_packed(tmp_path / "a.npz", PLAIN)
        with pytest.raises(DataError, match="was changed while it was read"):
            pickle.loads(kept)


def refused(path, match, name=None, kind=DataError):
    """One line, with the path."""
    with pytest.raises(kind, match=match) as caught, open_table(path) as table:
        table.read([name] if name else list(table.arrays))
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


class Evil:
    def __reduce__(self):
        return print, ("ran",)


def test_what_would_run_code_is_refused(tmp_path, capsys):
    np.save(tmp_path / "a.npy", np.array([Evil()], dtype=object))
    refused(tmp_path / "a.npy", "objects, which may run code", "a")
    np.savez(tmp_path / "a.npz", evil=np.array([Evil()], dtype=object), x=np.ones(3))
    refused(tmp_path / "a.npz", "evil: objects, which may run code", "evil")
    with open_table(tmp_path / "a.npz") as table:
        assert list(table.arrays) == ["x"]  # the others are read
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([Evil()]))
    refused(tmp_path / "a.pkl", "a pickle")
    assert "ran" not in capsys.readouterr().out


def test_numbers_that_are_not_real_are_refused_by_name(tmp_path):
    some = {"z": np.ones(3, complex), "s": np.array(["a", "b", "c"]), "x": np.ones(3)}
    np.savez(tmp_path / "a.npz", **some, t=np.array(["2020-01-01"] * 3, "M8[D]"))
    for name, match in {"z": "complex numbers", "s": "text", "t": "times"}.items():
        refused(tmp_path / "a.npz", f"{name}: {match}", name)
    refused(tmp_path / "a.npz", "no array 'y'; it has x", "y", UsageError)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["z"], file["s"] = some["z"], ["a", "b"]
    refused(tmp_path / "a.h5", "z: .*complex", "z")
    refused(tmp_path / "a.h5", "s: expected real numbers", "s")


def test_links_and_other_files_are_refused(tmp_path):
    np.arange(3.0).tofile(tmp_path / "secret")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["a"] = np.ones(3)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.ones(3)
        file["soft"], file["far"] = h5py.SoftLink("/x"), h5py.ExternalLink("other.h5", "a")
        external = [(str(tmp_path / "secret"), 0, 24)]
        file.create_dataset("outside", (3,), "f8", external=external)
        layout = h5py.VirtualLayout((3,), "f8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "a", (3,))
        file.create_virtual_dataset("virtual", layout)
        file["loop"] = file["/"]
    with pytest.raises(DataError, match="groups within groups without end"):
        open_table(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        del file["loop"]
        file["one/two/deep"] = np.ones(3)
        file["three"] = file["one/two"]
    with pytest.raises(DataError, match="/three: groups within groups without end"):
        open_table(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        del file["three"], file["one"]
    for name in ("soft", "far"):
        refused(tmp_path / "a.h5", f"{name}: .*Link, not data in this file", name)
    for name in ("outside", "virtual"):
        refused(tmp_path / "a.h5", f"{name}: its data lie in another file", name)
    with open_table(tmp_path / "a.h5") as table:
        assert list(table.arrays) == ["x"]


def test_declared_sizes_follow_from_stored_bytes(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones(1000))
    whole = (tmp_path / "a.npz").read_bytes()
    for cut in (50, 1000, len(whole) - 30):
        (tmp_path / "cut.npz").write_bytes(whole[:cut])
        refused(tmp_path / "cut.npz", "cannot be read as npz")
    (tmp_path / "head.npz").write_bytes(whole.replace(b"(1000,)", b"(9000,)"))
    refused(tmp_path / "head.npz", "declares .* bytes and holds")
    spoilt = bytearray(whole)
    spoilt[3000] ^= 1
    (tmp_path / "flip.npz").write_bytes(spoilt)
    refused(tmp_path / "flip.npz", "Bad CRC-32")
    with open_table(tmp_path / "flip.npz") as table, pytest.raises(DataError, match="CRC-32"):
        table.read(["x"], 500)  # rows behind the damage, to the end
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as file:
        file.writestr("data.pkl", b"x")
    refused(tmp_path / "text.npz", "expected data, got a checkpoint of a surrogate")
    np.save(tmp_path / "a.npy", np.ones(1000))
    whole = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[:-8])
    refused(tmp_path / "cut.npy", "declares 8128 bytes and holds 8120")
    (tmp_path / "a.npy").write_bytes(whole.replace(b"(1000,)", b"(-100,)"))
    refused(tmp_path / "a.npy", r"cannot be read as npy: .*its shape is \(-100,\)")


@pytest.mark.slow
def test_a_row_that_no_memory_holds_is_refused(tmp_path):
    huge = pa.array([None], pa.list_(pa.float64(), 2**30))
    pq.write_table(pa.table({"bomb": huge.slice(0, 0), "x": np.ones(0)}), tmp_path / "a.parquet")
    refused(tmp_path / "a.parquet", "a row of 8589934592 bytes; at most", "bomb")


def test_a_file_that_changes_is_not_read_on(tmp_path):
    np.save(tmp_path / "a.npy", np.ones(9))
    with open_table(tmp_path / "a.npy") as table:
        np.save(tmp_path / "a.npy", np.ones(10))
        with pytest.raises(DataError, match="was changed while it was read"):
            table.read(["a"])


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "is empty"),
        (b"\x00\x01\x02" * 9, "expected .*npz.* got a file of another kind"),
        (b"MATLAB 5.0 MAT-file", "a MATLAB file"),
        (b"PK\x03\x04 not a zip", "cannot be read as npz"),
        (b"\x93NUMPY\x09\x00" + b"x" * 20, "cannot be read as npy"),
        (b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f8', __import__('os')}", "cannot be read as npy"),
    ],
)
def test_other_files(tmp_path, data, match):
    (tmp_path / "a.bin").write_bytes(data)
    refused(tmp_path / "a.bin", match)


# --- text ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("a,b\n1,2\n3,4\n", {"a": [1, 3], "b": [2, 4]}),
        ("a;b\n1,5;2\n3;4,25\n", {"a": [1.5, 3], "b": [2, 4.25]}),
        ("a\tb\n1\t\nNA\t4\n", {"a": [1, np.nan], "b": [np.nan, 4]}),
        ("# of me\n# a b\n 1   2\n\n# amid\n3 4", {"a": [1, 3], "b": [2, 4]}),
        ("# of many words\n1 2\n3 4", {"t": [[1, 2], [3, 4]]}),
        ("1.0D+01 2d0\n3.5D-1 4.0\n", {"t": [[10, 2], [0.35, 4]]}),
        ("1\n2\n", {"t": [1, 2]}),
        ("\ufeffa, b\r\n1, 2\r\n3, 4\r\n", {"a": [1, 3], "b": [2, 4]}),
        ('"a","b c"\n"1","2"\n3,4\n', {"a": [1, 3], "b c": [2, 4]}),
        (",a\n0,1.5\n1,2.5\n", {"column0": [0, 1], "a": [1.5, 2.5]}),
        ("0,1,2\n0.5,1.5,2\n", {"0": [0.5], "1": [1.5], "2": [2]}),
        ("0,1\n1,1\n", {"t": [[0, 1], [1, 1]]}),
        ("a,b\n", {"a": [], "b": []}),
        ("inf,-inf\n1e400,nan", {"t": [[np.inf, -np.inf], [np.inf, np.nan]]}),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_text(tmp_path, text, columns, packed):
    path = tmp_path / ("t.csv.gz" if packed else "t.csv")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    with open_table(path) as table:
        assert list(table.arrays) == list(columns)
        got = table.read(list(columns))
        for name, want in columns.items():
            np.testing.assert_array_equal(got[name], np.array(want, float))
            assert table.arrays[name] == ArrayInfo(np.dtype("f8"), np.shape(want))


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_text_keeps_every_bit_and_any_rows(tmp_path, monkeypatch, data):
    """Bands of few rows, comments among them, in any order."""
    n, k = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 4))
    values = data.draw(hnp.arrays(float, (n, k), elements=st.floats(width=64)))
    separator = data.draw(st.sampled_from([",", ";", "\t", " "]))
    lines = [separator.join(map(repr, row)) for row in values.tolist()]
    for at in data.draw(st.lists(st.integers(0, n), max_size=4)):
        lines.insert(at, data.draw(st.sampled_from(["# 1", "", "  "])))
    (tmp_path / "t.txt").write_text("\n".join(lines))
    monkeypatch.setattr(text_file, "BAND_BYTES", data.draw(st.integers(1, 200)))
    with open_table(tmp_path / "t.txt") as table:
        for _ in range(3):
            start, stop = sorted(data.draw(st.tuples(*2 * [st.integers(0, n)])))
            got = table.read(["t"], start, stop)["t"].reshape(stop - start, k)
            np.testing.assert_array_equal(got, values[start:stop])


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a,b\n1,2\n3\n", "line 3: expected 2 cells, got 1"),
        ("1 2\n3 4 5\n", "line 2: expected 2 cells, got 3|line 1: expected 3 cells, got 2"),
        ("a,b\n1,2\n3,x\n", "b: expected numbers, got 'x' in row 1"),
        ("1.0,up\n2.0,down\n", "neither names nor numbers"),
        ("0,1,2,3\n1,0,1,0\n", "may be names"),
        ("a,a\n1,2\n", "two columns have the same name"),
        ("# nothing\n\n", "no line of numbers"),
        ('{"a": 1}', "is JSON"),
        ('a,b\n1,"2\n3"\n', "line 3|line 2|cells"),
    ],
)
def test_text_that_is_no_table(tmp_path, text, match):
    (tmp_path / "t.csv").write_text(text)
    refused(tmp_path / "t.csv", match)


def test_a_column_of_words_is_refused_when_it_is_read(tmp_path):
    (tmp_path / "t.csv").write_text("a,kind\n1,up\n2,down\n")
    with open_table(tmp_path / "t.csv") as table:
        np.testing.assert_array_equal(table.read(["a"])["a"], [1, 2])
        with pytest.raises(DataError, match="kind: expected numbers, got 'up' in row 0"):
            table.read(["a", "kind"])


def test_packed_text_is_no_way_in(tmp_path):
    (tmp_path / "t.gz").write_bytes(gzip.compress(bytes(2**25)))
    refused(tmp_path / "t.gz", "no text of numbers")
    (tmp_path / "t.gz").write_bytes(gzip.compress(b"1 2\n" * 10**5)[:-50])
    refused(tmp_path / "t.gz", "cannot be read as text")
    (tmp_path / "t.txt").write_bytes(b"1" * 2**25)
    refused(tmp_path / "t.txt", "no text of numbers")


# --- parquet, netCDF, ROOT -----------------------------------------------------------------------


@pytest.mark.parametrize("group", [7, 53])
def test_parquet(tmp_path, group, monkeypatch):
    matrix = PLAIN["x"].astype(float)
    gaps = [None if k % 5 == 0 else k for k in range(N)]
    columns = {
        "a": pa.array(PLAIN["theta"][:, 0]),
        "n": pa.array(range(N)),
        "gaps": pa.array(gaps),
        "flag": pa.array(PLAIN["flag"].tolist()),
        "x": pa.array(list(matrix[..., 0])),
        "y": pa.array(matrix.tolist(), pa.list_(pa.list_(pa.float64(), 2), K)),
        "ragged": pa.array([[1.0] * (1 + (k > 30)) for k in range(N)]),
        "words": pa.array(["up"] * N),
        "struct": pa.array([{"a": 1}] * N),
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet", row_group_size=group)
    monkeypatch.setattr(parquet_file, "BAND_BYTES", 5 * (2 + K * 3) * 8)
    want = {
        "a": PLAIN["theta"][:, 0], "n": np.arange(N), "flag": PLAIN["flag"],
        "gaps": np.array(gaps, float), "x": matrix[..., 0], "y": matrix,
    }  # fmt: skip
    with open_table(tmp_path / "a.parquet") as table:
        for name, values in want.items():
            assert table.arrays[name] == ArrayInfo(values.dtype, values.shape)
        for start, stop in [(0, 10), (10, 31), (31, 53), (5, 6), (40, 40), (0, 53)]:
            for name, got in table.read(list(want), start, stop).items():
                np.testing.assert_array_equal(got, want[name][start:stop])
    refused(tmp_path / "a.parquet", "ragged: expected lists of 1 in each row", "ragged")
    refused(tmp_path / "a.parquet", "words: expected numbers, got string", "words")
    refused(tmp_path / "a.parquet", "struct: expected numbers", "struct")


def as_netcdf3(path, arrays, attributes):
    with netcdf_file(path, "w") as file:
        file.createDimension("rows", None)
        for name, values in arrays.items():
            axes = [f"{name}{k}" for k in range(1, values.ndim)]
            for axis, size in zip(axes, values.shape[1:], strict=True):
                file.createDimension(axis, size)
            made = file.createVariable(name, values.dtype, ("rows", *axes))
            made[:] = values
            for key, value in attributes.get(name, {}).items():
                setattr(made, key, value)


def as_netcdf4(path, arrays, attributes):
    with h5netcdf.File(path, "w") as file:
        file.dimensions = {"rows": N, "two": 2}
        for name, values in arrays.items():
            made = file.create_variable(name, ("rows", "two")[: values.ndim], values.dtype)
            made[:] = values
            made.attrs.update(attributes.get(name, {}))


@pytest.mark.parametrize("write", [as_netcdf3, as_netcdf4])
def test_netcdf_gives_numbers_as_they_are_meant(tmp_path, write):
    packed = np.arange(N, dtype=np.int16)
    reals = PLAIN["theta"][:, :2].copy()
    reals[3, 1] = 9.969209968386869e36  # what was never written
    arrays = {"packed": packed, "reals": reals, "odd": packed, "plain": packed}
    arrays |= {"least": packed, "range": packed, "degrees": packed}
    attributes = {
        "packed": {"scale_factor": 0.5, "add_offset": 10.0, "_FillValue": np.int16(4)},
        "odd": {"scale_factor": "no number"},
        "least": {"valid_min": np.int16(5)},
        "range": {"scale_factor": 0.5, "valid_range": np.int16([5, 9])},
        "degrees": {"scale_factor": 0.5, "valid_range": np.float64([5, 9])},  # as they are meant
    }
    write(tmp_path / "a.nc", arrays, attributes)
    meant = np.where(packed == 4, np.nan, packed * 0.5 + 10)
    reals[3, 1] = np.nan
    with open_table(tmp_path / "a.nc") as table:
        got = table.read(["packed", "reals", "plain"], 2, 20)
        np.testing.assert_array_equal(got["packed"], meant[2:20])
        np.testing.assert_array_equal(got["reals"], reals[2:20])
        valid = {name: np.isfinite(table.read([name])[name]) for name in arrays if name != "odd"}
        assert (np.flatnonzero(valid["least"]) == np.arange(5, N)).all()
        assert np.flatnonzero(valid["range"]).tolist() == [5, 6, 7, 8, 9]
        assert np.flatnonzero(valid["degrees"]).tolist() == [*range(10, 19)]
        assert table.arrays["plain"] == ArrayInfo(np.dtype("i2"), (N,))
    refused(tmp_path / "a.nc", "odd: its attribute", "odd")


@pytest.mark.parametrize("kept", [False, True])
def test_columns_of_hdf5_are_in_the_order_of_their_numbers(tmp_path, kept):
    names = [f"bin_{k}" for k in range(12)] + ["pt", "eta"]
    with h5py.File(tmp_path / "a.h5", "w", track_order=kept) as file:
        for k, name in enumerate(names):
            file[name] = np.full(5, k)
    with open_table(tmp_path / "a.h5") as table:
        assert list(table.arrays) == (names if kept else [*names[:12], "eta", "pt"])
        assert Selection.of(table, "bin_*", "x").read()[0].tolist() == list(range(12))


def test_root(tmp_path, monkeypatch):
    monkeypatch.setattr(root_file, "BAND_BYTES", 300)
    x = PLAIN["x"]
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree("events", {"n": "i4", "x": ("f4", (K, 2)), "flag": "?"})
        for part in (slice(0, 20), slice(20, N)):
            n = np.arange(N, dtype="i4")[part]
            file["events"].extend({"n": n, "x": x[part], "flag": PLAIN["flag"][part]})
    with open_table(tmp_path / "a.root") as table:
        assert list(table.arrays) == ["n", "x", "flag"]
        assert table.arrays["x"] == ArrayInfo(np.dtype("f4"), (N, K, 2))
        for start, stop in [(0, 10), (10, 31), (31, 53), (5, 6), (40, 40), (0, 53)]:
            got = table.read(["x", "n"], start, stop)
            np.testing.assert_array_equal(got["x"], x[start:stop])
            np.testing.assert_array_equal(got["n"], np.arange(start, stop))


def test_root_of_several_trees(tmp_path):
    with uproot.recreate(tmp_path / "a.root") as file:
        file["d/one"] = {"a": np.arange(3.0), "rag": ak.Array([[1.0], [2.0, 3.0], []])}
        ntuple = file.mkrntuple("two", {"b": np.dtype("f8"), "c": np.dtype("i4")})
        ntuple.extend({"b": np.arange(5.0), "c": np.arange(5, dtype="i4")})
    with open_table(tmp_path / "a.root") as table:
        assert {"d/one/a", "two/b", "two/c"} <= set(table.arrays)
        np.testing.assert_array_equal(table.read(["two/c"], 2, 4)["two/c"], [2, 3])
        np.testing.assert_array_equal(table.read(["d/one/a", "two/b"])["two/b"], np.arange(5.0))
        where = next(name for name in table.refused if "rag" in name)
    refused(tmp_path / "a.root", "other lengths", where)


@pytest.mark.parametrize("kind", ["parquet", "nc", "root", "npz", "npy", "h5"])
def test_cut_files_are_refused(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    values = np.arange(500.0)
    if kind == "parquet":
        pq.write_table(pa.table({"a": values}), path)
    elif kind == "nc":
        as_netcdf3(path, {"a": values}, {})
    elif kind == "root":
        with uproot.recreate(path) as file:
            file.mktree("t", {"a": "f8"})
            file["t"].extend({"a": values})
    elif kind == "h5":
        with h5py.File(path, "w") as file:
            file.create_dataset("a", data=values, chunks=(100,), fletcher32=True)
    else:
        (np.save if kind == "npy" else np.savez)(path, **{"arr" if kind == "npy" else "a": values})
    data = path.read_bytes()
    rng = np.random.default_rng(3)
    for keep in (*rng.integers(1, len(data), 12), len(data) - 1):
        path.write_bytes(data[:keep])
        refused(path, ".")


# --- written by export ---------------------------------------------------------------------------

LAW = Law(
    simulator="elsewhere",
    prior=Box(a=(-9.0, 9.0, "GeV"), b=(-9.0, 9.0)),
    x_shape=(K, 2),
    support="reals",
)
FORMATS = ("npz", "csv", "parquet", "netcdf", "root")


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(7)
    x, theta = rng.normal(size=(N, K, 2)).astype(np.float32), rng.normal(size=(N, 2))
    aux = {"energy": rng.normal(size=N), "counts": rng.integers(0, 9, (N, 3)).astype(np.int16)}
    return physgen.Dataset(Rows(x, theta, aux, Meta(LAW, {"kind": "import"})))


def columns(table, *names):
    return np.stack([table.read([name])[name] for name in names], 1)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("in_file", [True, False])
def test_a_dataset_is_written_value_for_value(tmp_path, monkeypatch, data, kind, in_file):
    monkeypatch.setattr(exportable, "BLOCK_BYTES", 17 * (K * 8 + 16 + 8 + 6))
    source = data.save(tmp_path / "a.h5").path if in_file else data
    physgen.export(source, format=kind, out=tmp_path / "out")
    assert not list(tmp_path.glob(".*")) + list(tmp_path.glob("out?*"))
    flat = [f"x_{k}" for k in range(2 * K)]
    with open_table(tmp_path / "out") as table:
        known = set(table.arrays)
        theta = columns(table, "a", "b") if "a" in known else table.read(["theta"])["theta"]
        x = columns(table, *flat) if "x_0" in known else table.read(["x"])["x"]
        energy = next(name for name in known if name.endswith("energy"))
        np.testing.assert_array_equal(table.read([energy])[energy], data.rows.aux["energy"])
        np.testing.assert_array_equal(theta, data.theta)
        np.testing.assert_array_equal(x.reshape(N, K, 2).astype(np.float32), data.x)
        if kind == "csv":
            assert not table.about
        else:
            assert Meta.from_json(table.about).law == LAW


@pytest.mark.parametrize("kind", FORMATS)
def test_the_same_rows_give_the_same_bytes_where_the_format_lets_them(tmp_path, data, kind):
    for name in ("a.gz", "b.gz"):
        physgen.export(data, format=kind, out=tmp_path / name)
    same = (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    assert same or kind == "root"


def test_other_readers_see_the_same(tmp_path, data):
    for kind in FORMATS:
        physgen.export(data, format=kind, out=tmp_path / kind)
    with np.load(tmp_path / "npz", allow_pickle=False) as found:
        np.testing.assert_array_equal(found["x"], data.x)
        np.testing.assert_array_equal(found["aux/energy"], data.rows.aux["energy"])
        assert json.loads(bytes(found["meta"]))["law"]["simulator"] == "elsewhere"
    frame = pd.read_csv(tmp_path / "csv")
    np.testing.assert_array_equal(frame[["a", "b"]], data.theta)
    frame = pd.read_parquet(tmp_path / "parquet")
    np.testing.assert_array_equal(frame["b"], data.theta[:, 1])
    with h5netcdf.File(tmp_path / "netcdf") as file:
        assert file["theta"].dimensions == ("row", "parameter")
        assert [n.decode() for n in file["parameter"][:]] == ["a", "b"]
        assert file["theta"].attrs["units"] == "GeV, "
        np.testing.assert_array_equal(file["x"][:], data.x)
    with uproot.open(tmp_path / "root") as file:
        np.testing.assert_array_equal(file["data"]["x"].array(library="np"), data.x)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_posterior_is_written_a_draw_a_row(tmp_path, kind):
    rng = np.random.default_rng(11)
    theta, log_prob = rng.normal(size=(3, 5, 2)), rng.normal(size=(3, 5))
    arrays = {"theta": theta, "log_prob": log_prob, "mean": theta.mean(1), "sd": theta.std(1)}
    about = {"parameters": ["a", "b"], "units": ["GeV", ""], "law": LAW.to_json(), "first_row": 2}
    write_arrays(tmp_path / "p.h5", arrays, about, kind="posterior")
    done = physgen.export(tmp_path / "p.h5", format=kind, out=tmp_path / "out")
    assert "15 rows" in done.summary
    with open_table(tmp_path / "out") as table:
        got = columns(table, "a", "b") if "a" in table.arrays else table.read(["theta"])["theta"]
        np.testing.assert_array_equal(got, theta.reshape(15, 2))
        np.testing.assert_array_equal(table.read(["log_prob"])["log_prob"], log_prob.ravel())
        number = table.read(["observation"])["observation"]
        np.testing.assert_array_equal(number, np.repeat([2, 3, 4], 5))
        assert kind == "csv" or table.about["parameters"] == ["a", "b"]
        assert not {"mean", "sd"} & set(table.arrays)


@pytest.mark.parametrize("kind", FORMATS)
def test_whole_or_not_at_all(tmp_path, data, kind, monkeypatch):
    (tmp_path / "old").write_text("kept")
    with pytest.raises(UsageError, match="exists"):
        physgen.export(data, format=kind, out=tmp_path / "old")
    monkeypatch.setattr(exportable, "BLOCK_BYTES", 2000)

    def stop(done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        formats.room("export", kind, formats.EXPORTS).write(
            data, tmp_path / "old", force=True, progress=stop
        )
    assert [p.name for p in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old").read_text() == "kept"
    physgen.export(data, format=kind, out=tmp_path / "old", force=True)
    with open_table(tmp_path / "old") as table:
        assert table.arrays


def test_a_long_law_is_kept_whole(tmp_path, data):
    """HDF5 lets an attribute have 64 kB; the binning of a calorimeter has more."""
    law = replace(LAW, options={"cells": "é" * 50_000})
    rows = replace(data.rows, meta=Meta(law))
    for kind in ("netcdf", "npz", "parquet", "root"):
        physgen.export(rows, format=kind, out=tmp_path / kind)
        with open_table(tmp_path / kind) as table:
            assert Meta.from_json(table.about).law == law


def test_text_of_variable_length_is_not_followed(tmp_path):
    """A pointer that is damaged makes HDF5 search without end."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"], file.attrs["physgen"] = np.ones(3), '{"a": 1}'
        file["y"] = np.ones(3)
        file["y"].attrs["scale_factor"] = "2"
    with open_table(tmp_path / "a.h5") as table:
        assert table.about == {}
        assert list(table.arrays) == ["x"]


def test_files_that_are_one_dataset_are_exported_as_one(tmp_path, data):
    parts = [replace(data.rows[:20], aux={}), data.rows[20:]]
    paths = [physgen.Dataset(rows).save(tmp_path / f"{k}.h5").path for k, rows in enumerate(parts)]
    joined = JoinedDataset([physgen.Dataset(path) for path in paths])
    physgen.export(joined, format="npz", out=tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as found:
        assert set(found) == {"meta", "theta", "x"}
        np.testing.assert_array_equal(found["x"], data.x)


def test_what_cannot_be_exported(tmp_path, data):
    twice = replace(LAW, prior=Box(a=(-9.0, 9.0), x=(-9.0, 9.0)))
    rows = replace(data.rows, meta=Meta(twice), aux={})
    with pytest.raises(UsageError, match="two columns would be called 'x'"):
        physgen.export(rows, format="parquet", out=tmp_path / "a")
    physgen.export(rows, format="npz", out=tmp_path / "a.npz")
    with pytest.raises(UsageError, match="npz has no option 'binning'; leave it out"):
        physgen.export(rows, format="npz", out=tmp_path / "a", binning="b.xml")
    with pytest.raises(UsageError, match="expected a dataset or a posterior, got ndarray"):
        physgen.export(np.ones(3), format="npz", out=tmp_path / "a")
    with pytest.raises(UsageError, match="expected one of arviz, calochallenge, csv, netcdf, npz"):
        physgen.export(rows, format="xlsx", out=tmp_path / "a")


@pytest.mark.parametrize("text", ["[" * 10**5, '{"a": NaN}', "[1]", "no", " " * 2**20 + "{}"])
def test_what_a_file_says_of_itself_is_json_or_nothing(tmp_path, text):
    np.savez(tmp_path / "a.npz", x=np.ones(3), meta=np.frombuffer(text.encode(), np.uint8))
    schema = pa.table({"x": np.ones(3)}).replace_schema_metadata({"physgen": text})
    pq.write_table(schema, tmp_path / "a.parquet")
    with h5py.File(tmp_path / "a.nc", "w") as file:
        file["x"], file.attrs["physgen"] = np.ones(3), np.bytes_(text[:30_000])
    with uproot.recreate(tmp_path / "a.root") as file:
        file["physgen"], file["t"] = text, {"x": np.ones(3)}
    for name in ("a.npz", "a.parquet", "a.nc", "a.root"):
        with open_table(tmp_path / name) as table:
            assert table.about == {}
            np.testing.assert_array_equal(table.read(["x"])["x"], np.ones(3))


@pytest.mark.parametrize(
    ("kind", "package"), [("csv", "pandas"), ("parquet", "pyarrow"), ("root", "uproot")]
)
def test_a_package_that_is_missing_is_named(tmp_path, data, kind, package, monkeypatch):
    physgen.export(data, format=kind, out=tmp_path / "a")
    monkeypatch.setitem(sys.modules, package, None)
    refused(tmp_path / "a", f"needs {package}; pip install .physgen.formats.", kind=UsageError)
    writes = "pyarrow" if kind == "csv" else package
    for module in (writes, f"{writes}.csv", f"{writes}.parquet"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=f"needs {writes}; pip install"):
        physgen.export(data, format=kind, out=tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_no_package_is_imported_before_it_is_needed(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones(3))
    code = (
        "import sys, physgen.cli\nfrom physgen.formats.tables import open_table\n"
        "with open_table(sys.argv[1]) as table: table.read(['x'])\n"
        "heavy = {'pandas', 'pyarrow', 'uproot', 'awkward', 'torch'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "a.npz"], check=True)


# --- memory and weight ---------------------------------------------------------------------------

PEAK = """
import resource, sys
import numpy as np
{imports}
from physgen.formats.tables import open_table
begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with open_table(sys.argv[1]) as table:
    names = list(table.arrays)
    rows = max(info.shape[0] for info in table.arrays.values())
    for start in range(0, rows, 500):
        table.read(names, start, start + 500)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - begun) / 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*FORMATS, "h5"])
def test_memory_is_bounded(tmp_path, kind):
    """200 MB of numbers are written and read in their order within 100 MB."""
    rng, law = np.random.default_rng(3), replace(LAW, x_shape=(1000,))

    def make(shard):
        n = len(shard)
        x = rng.normal(size=(n, 1000)).astype(np.float32)
        return Rows(x, rng.uniform(-9, 9, (n, 2)), {})

    path = write(tmp_path / "a.h5", 50_000, Meta(law), make).path
    imports = "import pandas, pyarrow.parquet, pyarrow.csv, uproot, awkward, scipy.stats"
    if kind != "h5":
        code = (
            f"import sys, resource, physgen\n{imports}\nphysgen.export(sys.argv[1], format='npz', "
            "out=sys.argv[2] + '.few')\n"
            "begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
            f"physgen.export(sys.argv[1], format={kind!r}, out=sys.argv[2])\n"
            "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - begun) / 1024)"
        )
        call = [sys.executable, "-c", code, path, tmp_path / "out"]
        assert float(subprocess.run(call, capture_output=True, check=True).stdout) < 100
        path = tmp_path / "out"
    call = [sys.executable, "-c", PEAK.format(imports=imports), path]
    peak = float(subprocess.run(call, capture_output=True, check=True).stdout)
    assert peak < 100, peak
