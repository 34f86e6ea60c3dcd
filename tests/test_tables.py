"""Files of named arrays that others made: what is there is read, and nothing else is done."""

from __future__ import annotations

import pickle
import zipfile

import h5py
import numpy as np
import pytest

from physgen.errors import DataError, UsageError
from physgen.formats.tables import ArrayInfo, open_table

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
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as file:
        file.writestr("data.pkl", b"x")
    refused(tmp_path / "text.npz", "expected arrays of numpy.savez, got data.pkl")
    np.save(tmp_path / "a.npy", np.ones(1000))
    whole = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[:-8])
    refused(tmp_path / "cut.npy", "declares 8128 bytes and holds 8120")
    (tmp_path / "a.npy").write_bytes(whole.replace(b"(1000,)", b"(-100,)"))
    refused(tmp_path / "a.npy", r"cannot be read as npy: .*its shape is \(-100,\)")


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
