"""--json: one document on stdout, of every verb, which says what the Python product does."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import physgen
from physgen.cli import main
from physgen.cli.commands import in_json
from physgen.verbs.inspect import document
from physgen.verbs.products import Description, Exported, Page

OLD = Path(__file__).parents[1] / "data" / "v0.1"
CVAE, ISING = str(OLD / "cvae.pt"), str(OLD / "ising.h5")
CALLS = {
    "simulate": ["ising", "--size", "4", "-n", "20", "-o", "a.h5"],
    "fit": ["cvae", ISING, "--epochs", "1", "--channels", "4", "-o", "a.pt"],
    "sample": [CVAE, "-n", "5", "-o", "a.h5"],
    "infer": [CVAE, ISING, "--rows", "0:2", "--samples", "50", "--draws", "8", "-o", "a.h5"],
    "restore": [CVAE, ISING, "--measure", "--rows", "0:1", "-n", "4", "--noise", "1",
                "-o", "a.h5"],
    "validate": [CVAE, ISING, "--rows", "0:20", "--draws", "8", "-o", "a.json"],
    "calibrate": [CVAE, ISING, "--rows", "0:20", "--draws", "4", "-o", "a.json"],
    "compare": [ISING, str(OLD / "fake.h5"), "-o", "a.json"],
    "latents": [CVAE, ISING, "-o", "a.h5"],
    "explore": [CVAE, "-o", "a.html"],
    "report": [str(OLD / "metrics.json"), "-o", "a.html"],
    "inspect": [ISING],
    "import": ["arrays", "in.npz", "-o", "a.h5"],
    "export": [ISING, "--format", "npz", "-o", "a.npz"],
    "merge": ["one.h5", "two.h5", "-o", "a.h5"],
}  # fmt: skip


def refuse(constant):
    raise ValueError(constant)


def run(*words):
    done = CliRunner().invoke(main, [*words, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout, parse_constant=refuse)


def product_of(name):
    """What a verb returned, read back."""
    if name == "inspect":
        return physgen.inspect(ISING)
    path = Path(CALLS[name][-1])
    if path.suffix in (".html", ".npz"):
        return Exported(path, "")
    return physgen.load(path)[0]


@pytest.mark.usefixtures("quick", "blank")
@pytest.mark.parametrize("name", CALLS)
def test_one_document_on_stdout(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("in.npz", theta=np.arange(9.0)[:, None], x=np.ones((9, 2)) * np.arange(9)[:, None])
    if name == "explore":
        pytest.importorskip("onnx")
    if name == "merge":
        for seed, part in enumerate(("one.h5", "two.h5")):
            physgen.simulate("gaussian", n=5, seed=seed, out=part)
    found, expected = run(name, *CALLS[name]), document(product_of(name))
    for known in (found, expected):  # of what was loaded, the summary has no seconds
        known.pop("summary", None)
        known.pop("format", None)  # which a checkpoint has when it is read
    assert {k: found[k] for k in expected} == expected
    assert set(found) - set(expected) <= {"data"}


def test_no_verb_is_left_out():
    """The demo takes minutes; its product is a page with its figures."""
    assert set(CALLS) == {verb.removesuffix("_") for verb in physgen.VERBS} - {"demo"}
    page = Page("<html>", "a page", Path("r.html"), {"gap": 0.5})
    assert json.loads(in_json(page)) == {
        "path": "r.html", "summary": "a page", "data": {"gap": 0.5},
    }  # fmt: skip


def test_what_is_not_finite_is_null():
    found = Description({"a": [float("nan"), -np.inf, np.float32(0.5)], "n": np.int64(3)}, "")
    text = in_json(found)
    assert json.loads(text, parse_constant=refuse) == {"a": [None, None, 0.5], "n": 3}
    with pytest.raises(ValueError, match="NaN"):  # the control
        json.loads(json.dumps(float("nan")), parse_constant=refuse)


def test_a_fault_leaves_stdout_alone(tmp_path):
    done = CliRunner().invoke(main, ["inspect", str(tmp_path / "none.h5"), "--json"])
    assert (done.exit_code, done.stdout) == (74, "")
    assert "no such file" in done.stderr
