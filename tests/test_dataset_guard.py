"""Damaged and hostile files: each is refused by one line, before it can do harm."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

from physgen.dataset import (
    Meta,
    Rows,
    Stream,
    describe,
    read,
    read_arrays,
    read_bytes,
    write,
    write_arrays,
    write_bytes,
)
from physgen.errors import DataError, StorageError
from physgen.law import Law

LAW = Law.of("gaussian", {"size": 7})


def make(shard):
    rng = np.random.default_rng(shard.seed)
    theta = LAW.prior.sample(len(shard), rng)
    return Rows(LAW.build().sample(theta, rng), theta, {"energy": theta.sum(1)})


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    path = tmp_path_factory.mktemp("original") / "set.h5"
    write(path, 211, Meta(LAW, {"kind": "simulator"}, 3, {}), make, shard_rows=53)
    return path


@pytest.fixture
def copied(original, tmp_path):
    """A copy without its checksum, to be spoilt."""
    path = tmp_path / "spoilt.h5"
    path.write_bytes(original.read_bytes())
    return path


def refused(path, match, kind=DataError):
    """Every way into a file refuses it by the same line."""
    for way in (read, describe, lambda p: Stream(p, 8)):
        with pytest.raises(kind, match=match) as caught:
            way(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)


def test_the_copy_itself_is_read(copied):
    assert len(read(copied)) == 211
    assert describe(copied)["sidecar"] == "missing"


def test_the_checksum_sees_every_flip_and_cut(original, copied):
    data = original.read_bytes()
    seal = copied.with_name(copied.name + ".sha256")
    seal.write_bytes(original.with_name("set.h5.sha256").read_bytes())
    rng = np.random.default_rng(5)
    for bit in rng.integers(8 * len(data), size=100):
        spoilt = bytearray(data)
        spoilt[bit // 8] ^= 1 << bit % 8
        copied.write_bytes(spoilt)
        with pytest.raises(DataError, match="differs from its checksum"):
            read(copied)
    for cut in rng.integers(len(data), size=10):
        copied.write_bytes(data[:cut])
        with pytest.raises(DataError, match="differs from its checksum"):
            read(copied)
    copied.write_bytes(data)
    assert len(read(copied)) == 211


def test_without_it_fletcher32_sees_every_flip_in_the_data(original, copied):
    data = original.read_bytes()
    where = []
    with h5py.File(original) as file:
        for name in ("theta", "x", "aux/energy"):
            file[name].id.chunk_iter(lambda info: where.append((info.byte_offset, info.size)))
    rng = np.random.default_rng(7)
    for k in range(60):
        offset, size = where[k % len(where)]
        bit = 8 * offset + int(rng.integers(8 * size))
        spoilt = bytearray(data)
        spoilt[bit // 8] ^= 1 << bit % 8
        copied.write_bytes(spoilt)
        with pytest.raises(DataError, match="cannot be read as HDF5"):
            read(copied)


@pytest.mark.parametrize("keep", [0, 7, 100, 2000, 0.5, 0.99])
def test_cut_files(original, copied, keep):
    data = original.read_bytes()
    copied.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    refused(copied, "expected an HDF5 file" if keep in (0, 7) else "cannot be read as HDF5")


@pytest.mark.slow
def test_flips_in_the_structure_never_pass_verification_unnoticed(original, copied):
    """A flip is refused, or harmless: the values that verification has compared are the same."""
    data, want = original.read_bytes(), describe(original, verify=True)
    used = np.flatnonzero(np.frombuffer(data[:4096], np.uint8))
    refusals = 0
    for byte in np.random.default_rng(11).choice(used, size=6, replace=False):
        spoilt = bytearray(data)
        spoilt[byte] ^= 1
        copied.write_bytes(spoilt)
        try:
            assert describe(copied, verify=True)["content_sha256"] == want["content_sha256"]
        except DataError:
            refusals += 1
    assert refusals


def replace(path, name, **options):
    with h5py.File(path, "r+") as file:
        del file[name]
        return file.create_dataset(name, **options)


def test_external_storage(copied, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret" * 1000)
    replace(copied, "x", shape=(211, 7), dtype="f4", external=[(str(secret), 0, 211 * 28)])
    refused(copied, "/x: its data lie in another file")


def test_external_link(copied, original):
    with h5py.File(copied, "r+") as file:
        del file["x"]
        file["x"] = h5py.ExternalLink(str(original), "/x")
    refused(copied, "/x is a ExternalLink")


@pytest.mark.parametrize("name", ["x", "theta", "aux/energy", "aux", "meta"])
def test_soft_link(copied, name):
    with h5py.File(copied, "r+") as file:
        file.move(name, "elsewhere")
        file[name] = h5py.SoftLink("/elsewhere")
    refused(copied, f"/{name.split('/')[0]}.* is a SoftLink")


def test_virtual_dataset(copied, original):
    with h5py.File(copied, "r+") as file:
        del file["x"]
        layout = h5py.VirtualLayout((211, 7), "f4")
        layout[:] = h5py.VirtualSource(str(original), "x", (211, 7))
        file.create_virtual_dataset("x", layout)
    refused(copied, "/x: its data lie in another file")


def test_declared_size_bomb(copied):
    replace(copied, "x", shape=(2**35, 7), dtype="f4", chunks=(1024, 7), compression="gzip")
    assert copied.stat().st_size < 10**6
    refused(copied, "holds 0 of 33554432 chunks")


def test_contiguous_bomb(copied):
    replace(copied, "x", shape=(2**35, 7), dtype="f4")
    refused(copied, "declares 962072674304 bytes and holds 0")


def test_chunk_that_inflates_beyond_its_size(copied):
    bomb = b"\x78\x9c" + os.urandom(200_000)
    with h5py.File(copied, "r+") as file:
        del file["x"]
        data = file.create_dataset(
            "x", shape=(211, 7), dtype="f4", chunks=(211, 7), compression="gzip"
        )
        data.id.write_direct_chunk((0, 0), bomb)
    refused(copied, "/x: declares 5908 bytes and holds 200002")


def test_huge_chunk(copied):
    options = {"dtype": "f4", "chunks": (2**25, 7), "compression": "gzip"}
    replace(copied, "x", shape=(2**25, 7), **options)
    refused(copied, "/x: chunks of 939524096 bytes")


def test_missing_chunk(copied):
    replace(copied, "x", shape=(211, 7), dtype="f4", chunks=(53, 7))
    with h5py.File(copied, "r+") as file:
        file["x"][:53] = 1
    refused(copied, "/x: holds 1 of 4 chunks: incomplete")


@pytest.mark.parametrize(
    "dtype",
    [
        h5py.string_dtype(),
        h5py.vlen_dtype(np.float32),
        h5py.ref_dtype,
        np.dtype([("a", "f4"), ("b", "f4")]),
        "c8",
        "S4",
        np.dtype("bool"),
        np.dtype("V8"),
        np.dtype(("f4", 3)),
        np.longdouble,
    ],
    ids=str,
)
def test_types_that_are_no_plain_numbers(copied, dtype):
    replace(copied, "x", shape=(211, 7), dtype=dtype)
    refused(copied, "/x: expected real numbers")


@pytest.mark.parametrize("kind", ["group", "type", "empty"])
def test_x_that_is_no_array(copied, kind):
    with h5py.File(copied, "r+") as file:
        del file["x"]
        if kind == "group":
            file.create_group("x")
        elif kind == "type":
            file["x"] = np.dtype("f4")
        else:
            file["x"] = h5py.Empty("f4")
    refused(copied, "/x: expected an array")


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "match"),
    [
        ("x", (210, 7), "f4", "same number of rows"),
        ("x", (211, 5), "f4", r"/x: expected float32 of shape \(7,\)"),
        ("x", (211, 7), "f8", r"/x: expected float32 of shape \(7,\)"),
        ("x", (211, 7), "i1", r"/x: expected float32 of shape \(7,\)"),
        ("x", (), "f4", "same number of rows"),
        ("theta", (211, 3), "f8", r"/theta: expected float64 of shape \(2,\)"),
        ("theta", (211, 2), "f4", r"/theta: expected float64 of shape \(2,\)"),
        ("aux/energy", (5,), "f8", "same number of rows"),
    ],
)
def test_wrong_shapes_and_types(copied, name, shape, dtype, match):
    replace(copied, name, data=np.ones(shape, dtype))
    refused(copied, match)


@pytest.mark.parametrize("name", ["x", "theta"])
def test_absent_arrays(copied, name):
    with h5py.File(copied, "r+") as file:
        del file[name]
    refused(copied, f"/{name}")


def meta_as(path, text, **options):
    with h5py.File(path, "r+") as file:
        del file["meta/json"]
        dtype = options.get("dtype", h5py.string_dtype("utf-8", max(1, len(text))))
        file.create_dataset("meta/json", data=np.array(text, dtype=dtype))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (b" " * (2**20 + 1), "at most 1048576"),
        (b"[" * 100_000, "cannot be read|metadata"),
        (b"[1]", "expected a JSON object"),
        (b"{}", "not those of a dataset"),
        (b'{"law": NaN}', "NaN is not JSON"),
        (b'{"law": 1, "source": 1, "seed": 1, "provenance": 1}', "metadata"),
        (b'{"law": ' + b"9" * 5000 + b"}", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b'{"law"', "cannot be read"),
    ],
    ids=["huge", "deep", "list", "empty", "nan", "kinds", "digits", "bytes", "cut"],
)
def test_hostile_json(copied, text, match):
    meta_as(copied, text)
    refused(copied, match)


def test_json_of_variable_length(copied):
    meta_as(copied, "{}", dtype=h5py.string_dtype())
    refused(copied, "expected one text of fixed length")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("x_shape", [1e999]),
        ("x_shape", "abc"),
        ("x_shape", []),
        ("prior", [{"name": "a"}]),
        ("prior", [3]),
        ("prior", []),
        ("support", ["spins"]),
        ("support", "levels"),
        ("levels", 7),
        ("levels", [7]),
        ("symmetries", [[1]]),
        ("options", 5),
    ],
)
def test_hostile_law(copied, field, value):
    data = Meta(LAW, {}, 3, {}).to_json()
    data["law"][field] = value
    meta_as(copied, json.dumps(data).replace("Infinity", "1e999").encode())
    refused(copied, "metadata|same number of rows")


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("complete", 0, "incomplete"),
        ("n_rows", 212, "211 of 212 rows"),
        ("schema", "physgen/2", "is a physgen/2 file"),
        ("schema", np.ones(5), "attribute 'schema': expected one text"),
        ("schema", b"x" * 5000, "attribute 'schema': expected one text"),
    ],
)
def test_attributes(copied, name, value, match):
    with h5py.File(copied, "r+") as file:
        file.attrs[name] = value
    refused(copied, match)


def test_a_product_is_no_dataset(tmp_path):
    write_arrays(tmp_path / "p.h5", {"x": np.ones((5, 7))}, {}, kind="posterior")
    for way in (read, lambda p: Stream(p, 8)):
        with pytest.raises(DataError, match=r"is a physgen/posterior/1 file; expected a dataset"):
            way(tmp_path / "p.h5")


def test_a_group_in_itself(copied):
    with h5py.File(copied, "r+") as file:
        file["aux/loop"] = file["/"]
    refused(copied, "/aux/loop: expected an array")


def test_many_names(copied):
    with h5py.File(copied, "r+") as file:
        for k in range(300):
            file[f"aux/{k}"] = np.ones(211)
    refused(copied, "/aux: expected a group of at most 256")


def test_unknown_filter(copied):
    with h5py.File(copied, "r+") as file:
        del file["x"]
        file.create_dataset("x", data=np.ones((211, 7), "f4"), chunks=(211, 7), scaleoffset=2)
    refused(copied, "/x: filter 6 is not read here")


def test_values_that_were_changed_are_found_by_verification(copied):
    with h5py.File(copied, "r+") as file:
        file["theta"][17, 1] += 1e-9
    assert len(read(copied)) == 211
    with pytest.raises(DataError, match="differ from its content_sha256"):
        describe(copied, verify=True)


def test_verification_reads_every_value(copied):
    with h5py.File(copied, "r+") as file:
        file["x"][170, 3] = np.nan
    assert describe(copied)["rows"] == 211
    with pytest.raises(DataError, match="row 170: x is not finite"):
        describe(copied, verify=True)


def test_a_crash_while_verifying_is_a_data_error(copied, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(DataError, match="ended the process"):
        describe(copied, verify=True)


def test_what_is_no_file(tmp_path):
    refused(tmp_path / "absent.h5", "no such file", StorageError)
    os.mkfifo(tmp_path / "pipe.h5")
    refused(tmp_path / "pipe.h5", "not a regular file")
    refused(tmp_path, "not a regular file")
    (tmp_path / "text.h5").write_text("theta,x\n1,2\n")
    refused(tmp_path / "text.h5", "expected an HDF5 file, got text; physgen import arrays")
    with pytest.raises(StorageError, match="no such file"):
        describe(tmp_path / "absent.h5", verify=True)


def test_products(tmp_path):
    path = tmp_path / "posterior.h5"
    arrays = {"theta": np.ones((2, 3, 5)), "mean": np.arange(6.0).reshape(2, 3), "n": 7}
    write_arrays(path, arrays, {"names": ["a"]}, kind="posterior")
    found, meta = read_arrays(path, "posterior")
    assert meta == {"names": ["a"]}
    assert found.keys() == arrays.keys()
    assert all(np.array_equal(found[k], arrays[k]) for k in arrays)
    assert describe(path, verify=True)["arrays"]["mean"]["shape"] == [2, 3]
    with pytest.raises(DataError, match="expected physgen/score/1"):
        read_arrays(path, "score")
    with pytest.raises(DataError, match="expected real numbers"):
        write_arrays(path, {"a": np.array(["b"])}, {}, kind="posterior", force=True)
    path.with_name(path.name + ".sha256").unlink()
    with h5py.File(path, "r+") as file:
        file["link"] = h5py.ExternalLink("/etc/passwd", "/x")
    with pytest.raises(DataError, match="/link is a ExternalLink"):
        read_arrays(path, "posterior")


def test_bytes(tmp_path):
    path = tmp_path / "weights.bin"
    write_bytes(path, b"abc", sidecar=True)
    assert read_bytes(path) == b"abc"
    call = ["sha256sum", "-c", "weights.bin.sha256"]
    assert subprocess.run(call, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    path.write_bytes(b"abd")
    with pytest.raises(DataError, match="differs from its checksum"):
        read_bytes(path)
    write_bytes(path, b"abd", sidecar=False)
    assert read_bytes(path) == b"abd", "the old checksum is gone"
    assert [p.name for p in tmp_path.iterdir()] == ["weights.bin"]
    with pytest.raises(StorageError, match="absent"):
        write_bytes(tmp_path / "absent" / "a", b"", sidecar=True)


def test_bytes_that_cannot_be_stored_leave_the_old_ones(tmp_path, monkeypatch):
    path = tmp_path / "weights.bin"
    write_bytes(path, b"old", sidecar=True)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"weights\.bin: No space left"):
        write_bytes(path, b"new", sidecar=True)
    assert read_bytes(path) == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["weights.bin", "weights.bin.sha256"]
