"""What inspect says of every product, of a file or in memory, and of files by others."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

import physgen
from physgen.cli import main
from physgen.errors import DataError
from physgen.verbs.inspect import in_lines

OLD = Path(__file__).parents[1] / "data" / "v0.1"
PRODUCTS = {
    "metrics.json": "physgen/metrics/1",
    "calibration.json": "physgen/calibration/1",
    "comparison.json": "physgen/comparison/1",
    "posterior.h5": "observations by grid; the first: beta = ",
    "cvae.pt": "cvae of ising, ",
    "npe.pt": "npe of ising, ",
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_say_what_they_are(name):
    """Of an earlier version, too, whose scores have no summary."""
    found = physgen.inspect(OLD / name)
    assert PRODUCTS[name] in found.get("summary", found.get("schema"))
    assert found.summary.startswith(f"path: {OLD / name}\n")


@pytest.mark.usefixtures("quick")
def test_scores_carry_their_summary(tmp_path):
    data, path = physgen.simulate("gaussian", n=40), tmp_path / "scores.json"
    scores = physgen.compare(data, physgen.simulate("gaussian", n=40, seed=1), out=path)
    found = physgen.inspect(path)
    assert scores.summary == f"{path}: {found['summary']}" == physgen.load(path)[0].summary
    assert found["summary"] == scores["summary"]
    assert "classifiers" in found["sections"]


def hdf5(path):
    with h5py.File(path, "w") as file:
        file["sims/x"], file["parameters"] = np.zeros((3, 2)), np.zeros((3, 1))


FOREIGN = {
    "HDF5": (hdf5, {"sims/x": ["float64", 3, 2], "parameters": ["float64", 3, 1]}),
    "npz": (lambda path: np.savez(path, a=np.zeros(4, "f4")), {"a": ["float32", 4]}),
    "text": (lambda path: path.write_text("a,b\n1,2\n3,4\n"), {"a": ["float64", 2],
                                                              "b": ["float64", 2]}),
}  # fmt: skip


@pytest.mark.parametrize("kind", FOREIGN)
def test_arrays_of_others_are_listed_with_the_way_in(kind, tmp_path):
    write, arrays = FOREIGN[kind]
    path = tmp_path / "other.npz"
    write(path)
    found = physgen.inspect(path)
    assert found["arrays"] == arrays
    assert found["summary"].startswith(f"{kind} that physgen did not write")
    assert f"physgen import arrays {path}" in found["summary"]
    with pytest.raises(DataError, match="that physgen did not write, with nothing to verify"):
        physgen.inspect(path, verify=True)


REFUSED = {
    "a PNG image": b"\x89PNG\r\n\x1a\n" + bytes(50),
    "a PDF file": b"%PDF-1.7\n",
    "a program": b"\x7fELF" + bytes(50),
    "HTML": b"<html></html>",
    "text without arrays of numbers": b"dear diary\n",
    "is text, but no table of numbers": b"import numpy as np\n\nk = 3\n",
    "validate, calibrate or compare, got that of schema 'other/1'": b'{"schema": "other/1"}',
    "other JSON, without a schema": b'{"a": 1}',
    "is empty": b"",
    "a file of another kind": bytes(100),
}  # fmt: skip


@pytest.mark.parametrize("words", REFUSED)
def test_what_else_a_file_is_stands_in_one_line(words, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(REFUSED[words])
    done = CliRunner().invoke(main, ["inspect", str(path)])
    assert done.exit_code == 3
    assert words in done.output
    assert done.output.startswith(f"Error: {path}: ")
    assert done.output.count("\n") == 1


@pytest.mark.parametrize("verb", [physgen.validate, physgen.report, physgen.sample])
def test_other_verbs_say_what_a_file_is(verb, tmp_path):
    path = tmp_path / "image"
    path.write_bytes(REFUSED["a PNG image"])
    more = [path] if verb is physgen.validate else []
    with pytest.raises(DataError, match="got a PNG image; save its pixels"):
        verb(path, *more, out=tmp_path / "out")


def test_a_spoilt_product_is_refused(tmp_path):
    """The control: what is no posterior any more has no summary."""
    path = tmp_path / "posterior.h5"
    shutil.copy(OLD / "posterior.h5", path)
    with h5py.File(path, "r+") as file:
        del file["mean"]
    with pytest.raises(DataError, match="is not as physgen wrote it"):
        physgen.inspect(path)


def test_the_history_of_a_training_is_told_by_its_last_epoch(tmp_path):
    path, epoch = tmp_path / "ar.pt.jsonl", {"train": 2.0, "lr": 0.1}
    lines = [json.dumps({"epoch": k, "val": val, **epoch}) for k, val in ((1, 1.5), (2, 1.25))]
    path.write_text("\n".join(lines))
    found = physgen.inspect(path)
    assert found["summary"] == "history of a training, 2 epochs, least validation loss 1.2500"
    assert found.summary.endswith(
        "history (2, the last): epoch = 2, val = 1.25, train = 2.0, lr = 0.1"
    )
    with pytest.raises(DataError, match="is the history of a training, which its checkpoint has"):
        physgen.report(path)
    path.write_text("\n".join(lines[:1]) + '\n{"other": 1}')
    with pytest.raises(DataError, match="not the JSON of validate"):
        physgen.inspect(path)


def test_lines_show_the_last_of_many():
    history = [{"epoch": i, "val": 1.5} for i in range(1, 41)]
    text = "\n".join(in_lines({"history": history, "shape": [2, 3], "gain": [0.5, 0.1], "w": []}))
    assert text.splitlines() == [
        "history (40, the last): epoch = 40, val = 1.5", "shape: 2 × 3", "gain: 0.5; 0.1",
        "w: none",
    ]  # fmt: skip
