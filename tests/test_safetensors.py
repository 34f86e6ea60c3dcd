"""Surrogates and networks as safetensors: readable by anyone, and the same when opened again."""

import json
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import physgen
from physgen import dataset
from physgen.cli import main
from physgen.errors import DataError, UsageError
from physgen.nn.tensors import digest, load_tensors, save_tensors
from physgen.surrogates.checkpoint import load_surrogate
from physgen.surrogates.cvae import CVAE

safetensors = pytest.importorskip("safetensors.torch")

OLD = Path(__file__).parents[1] / "data" / "v0.1"
CPU = torch.device("cpu")
FAMILIES = ("autoregressive", "cvae", "diffusion", "gan", "rbm")
NETWORKS = ("npe", "nle", "nre", "fmpe", "npse")


def export(*words):
    done = CliRunner().invoke(main, ["export", *map(str, words)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


@pytest.fixture
def written(tmp_path):
    """A surrogate's file, its tensors and its JSON."""
    path = tmp_path / "model.safetensors"
    physgen.export(OLD / "cvae.pt", format="safetensors", out=path)
    return path


def parts(path):
    """Header and tensors of a file, as they are in it."""
    data = path.read_bytes()
    n = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + n]), data[8 + n :]


def rewrite(path, header, body):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_surrogate_is_the_same_when_it_is_opened_again(family, tmp_path):
    out = tmp_path / "model.safetensors"
    code, told = export(OLD / f"{family}.pt", "--format", "safetensors", "-o", out)
    assert code == 0, told
    first, info = load_surrogate(OLD / f"{family}.pt", CPU)
    again, known = physgen.load(out)
    assert again.describe() == first.describe()
    expected = json.loads(json.dumps(info | first.describe()))
    assert {name: known[name] for name in expected} == expected
    assert known["sha256"] == dataset.file_digest(out)
    assert digest(dict(again.state_dict()), "") == digest(dict(first.state_dict()), "")
    rows = dataset.read(OLD / "ising.h5", slice(0, 3))
    assert torch.equal(first.sample(rows.theta, 3), again.sample(rows.theta, 3))
    if family != "gan":
        assert torch.equal(first.log_prob(rows.theta, rows.x), again.log_prob(rows.theta, rows.x))
        with torch.no_grad():  # the control
            for weight in again.parameters():
                weight.mul_(1.001)
        changed = again.log_prob(rows.theta, rows.x)
        assert not torch.equal(first.log_prob(rows.theta, rows.x), changed)


@pytest.mark.slow  # for sbi is imported
@pytest.mark.parametrize("method", NETWORKS)
def test_a_network_of_sbi_is_the_same_when_it_is_opened_again(method, tmp_path):
    from physgen.sbi.networks import Network

    out = tmp_path / "net.safetensors"
    code, told = export(OLD / f"{method}.pt", "--format", "safetensors", "-o", out)
    assert code == 0, told
    first = Network.load(OLD / f"{method}.pt", CPU)
    again, _ = physgen.load(out, device="cpu")
    assert (again.method, again.law, again.info) == (first.method, first.law, first.info)
    rows = dataset.read(OLD / "ising.h5", slice(0, 3))
    found = (net.log_density(rows.theta, rows.x) for net in (first, again))
    np.testing.assert_array_equal(*found)


def test_anyone_can_read_it(written):
    weights, info = load_tensors(OLD / "cvae.pt")
    with safetensors.safe_open(str(written), "numpy") as file:
        assert set(file.keys()) - set(CVAE.later_buffers) == set(weights)
        for name in weights:
            np.testing.assert_array_equal(file.get_tensor(name), weights[name].numpy())
        about = json.loads(file.metadata()["physgen"])
    assert about["law"] == info["law"]
    assert about["options"].items() >= info["options"].items()
    assert about["family"] == "cvae"


def test_the_verbs_open_it(written, tmp_path):
    for words in (
        ("inspect", written),
        ("sample", written, "-n", 3, "-o", tmp_path / "x.h5"),
        ("infer", written, tmp_path / "x.h5", "-o", tmp_path / "p.h5"),
    ):
        done = CliRunner().invoke(main, list(map(str, words)))
        assert done.exit_code == 0, done.output
    same = physgen.infer(OLD / "cvae.pt", tmp_path / "x.h5").mean
    np.testing.assert_array_equal(physgen.infer(written, tmp_path / "x.h5").mean, same)
    model, _ = physgen.load(written)
    physgen.save(model, tmp_path / "back.pt")
    back, there = (load_tensors(p)[0] for p in (tmp_path / "back.pt", OLD / "cvae.pt"))
    assert set(back) - set(CVAE.later_buffers) == set(there)
    assert digest({k: back[k] for k in sorted(there)}, "") == digest(
        dict(sorted(there.items())), ""
    )


def test_options_of_drawing_are_kept(tmp_path):
    out = tmp_path / "m.safetensors"
    assert export(OLD / "rbm.pt", "--format", "safetensors", "--steps", 7, "-o", out)[0] == 0
    assert physgen.load(out)[0].config.steps == 7


def test_bytes_are_a_function_of_the_content(written, tmp_path):
    again = tmp_path / "again.safetensors"
    physgen.export(physgen.load(written)[0], format="safetensors", out=tmp_path / "b.safetensors")
    physgen.export(OLD / "cvae.pt", format="safetensors", out=again)
    assert again.read_bytes() == written.read_bytes()


# --- what is damaged, hostile or foreign ---------------------------------------------------------


def refused(path):
    """What opening it says, in one line; None where it opens."""
    try:
        load_surrogate(path, CPU)
    except (DataError, UsageError) as error:
        return str(error)
    return None


def test_flipped_bits_are_refused(written):
    data, rng = written.read_bytes(), np.random.default_rng(0)
    surrogate, _ = load_surrogate(written, CPU)
    rows, count = dataset.read(OLD / "ising.h5", slice(0, 3)), 0
    for position in [*range(60), *rng.integers(len(data), size=40)]:
        broken = bytearray(data)
        broken[position] ^= 1 << int(rng.integers(8))
        written.write_bytes(broken)
        if refused(written):
            count += 1
        else:  # a bit that means nothing, such as a space
            again, _ = load_surrogate(written, CPU)
            assert torch.equal(
                again.log_prob(rows.theta, rows.x), surrogate.log_prob(rows.theta, rows.x)
            )
    assert count > 90


@pytest.mark.parametrize("size", [0, 1, 8, 9, 100, -1])
def test_truncated_files_are_refused(written, size):
    written.write_bytes(written.read_bytes()[:size])
    assert refused(written)


@pytest.mark.parametrize("wrong", [
    "weight", "name", "text", "digest", "no text", "foreign", "not json", "a list", "format",
    "family", "option", "overlap", "beyond", "dtype", "huge header", "huge shape", "twice",
])  # fmt: skip
def test_hostile_files_are_refused_in_one_line(written, wrong):
    header, body = parts(written)
    assert refused(written) is None  # the control
    rewrite(written, header, body)
    assert refused(written) is None
    about, (name, other) = header["__metadata__"], sorted(header)[1:3]
    info = json.loads(about["physgen"])
    told = "SHA-256 differs"
    match wrong:
        case "weight":
            body = bytes([body[0] ^ 1]) + body[1:]
        case "name":
            header[name + "x"] = header.pop(name)
        case "text":
            about["physgen"] = json.dumps(info | {"epochs": 7})
        case "digest":
            about["physgen"] = json.dumps(info | {"content_sha256": "0" * 64})
        case "no text":
            del about["physgen"]
            told = "not a physgen checkpoint: KeyError"
        case "foreign":
            del header["__metadata__"]
            told = "not a physgen checkpoint: KeyError"
        case "not json" | "a list" | "format" | "family" | "option":
            changes = {"format": {"format": "x"}, "family": {"family": "evil", "class": "evil:E"},
                       "option": {"options": {"no_such": 7}}}  # fmt: skip
            tensors, rest = load_tensors(written)
            rest |= changes.get(wrong, {})
            sealed = {"content_sha256": digest(tensors, json.dumps(rest))}
            about["physgen"] = {"not json": "{", "a list": "[7]"}.get(
                wrong, json.dumps(rest | sealed)
            )
            told = {"format": "expected format", "family": "outside the registry",
                    "option": "no option"}.get(wrong, "not a physgen checkpoint")  # fmt: skip
        case "overlap":
            header[name]["data_offsets"] = header[other]["data_offsets"]
            told = "not a physgen checkpoint"
        case "beyond":
            header[name]["data_offsets"][1] = 2**40
            told = "not a physgen checkpoint"
        case "dtype":
            header[name]["dtype"] = "F7"
            told = "not a physgen checkpoint"
        case "huge shape":
            header[name]["shape"] = [2**60, 2**60]
            told = "not a physgen checkpoint"
        case "huge header" | "twice":
            told = "not a physgen checkpoint" if wrong == "huge header" else ""
    if wrong == "huge header":
        written.write_bytes(struct.pack("<Q", 2**62) + json.dumps(header).encode() + body)
    elif wrong == "twice":  # the name of a tensor, with other places the second time
        text = json.dumps(header)
        rewrite(
            written,
            f"{text[:-1]}, {json.dumps(other)}: {json.dumps(header[name])}}}".encode(),
            body,
        )
    else:
        rewrite(written, header, body)
    found = refused(written)
    assert found is not None
    assert told in found
    assert "\n" not in found
    words = ("sample", written, "-n", 3, "-o", written.with_name("x.h5"))
    done = CliRunner().invoke(main, list(map(str, words)))
    assert isinstance(done.exception, SystemExit)
    assert done.output[:99] == f"Error: {found}"[:99]  # the package names any of two tensors
    assert done.output.count("\n") == 1


def test_a_checkpoint_under_another_name_is_still_one(tmp_path):
    tensors, info = load_tensors(OLD / "gan.pt")
    save_tensors(tmp_path / "m.safetensors", tensors, info)
    assert refused(tmp_path / "m.safetensors") is None


# --- wrong calls ---------------------------------------------------------------------------------


def test_a_package_that_is_not_there_is_told(written, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    for call in (
        lambda: physgen.load(written),
        lambda: physgen.export(OLD / "gan.pt", format="safetensors", out=tmp_path / "g"),
    ):
        with pytest.raises(UsageError, match=r"not installed; pip install 'physgen\[onnx\]'"):
            call()
    assert not (tmp_path / "g").exists()
    physgen.load(OLD / "gan.pt")  # needs none of it


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((OLD / "ising.h5",), "export: safetensors: expected a surrogate, got"),
        ((OLD / "cvae.pt", "--steps", 3), "cvae: no option 'steps'"),
        (
            (OLD / "cvae.pt", "--binning", "b.xml"),
            "safetensors has no option 'binning'; leave it out",
        ),
        ((OLD / "cvae.pt", "--family", "rbm"), "is of the family cvae, not"),
    ],
)
def test_wrong_calls_are_refused_in_one_line(words, told, tmp_path):
    code, found = export(*words, "--format", "safetensors", "-o", tmp_path / "m")
    assert (code, found.count("\n")) == (2, 1), found
    assert told in found
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten_unasked(written):
    before = written.read_bytes()
    words = (OLD / "gan.pt", "--format", "safetensors", "-o", written)
    code, told = export(*words)
    assert (code, written.read_bytes()) == (2, before)
    assert "exists; choose another output, or --force" in told
    assert export(*words, "--force")[0] == 0
    assert load_surrogate(written, CPU)[0].name == "gan"
