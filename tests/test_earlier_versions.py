"""Files that version 0.1 wrote open, and say what they said then (data/v0.1/expected.json)."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import physgen
from physgen import dataset
from physgen.nn.tensors import load_tensors
from physgen.surrogates.checkpoint import load_surrogate

FOLDER = Path(__file__).parents[1] / "data" / "v0.1"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())
KINDS = {path: load_tensors(path)[1].get("kind", "surrogate") for path in FOLDER.glob("*.pt")}
CPU = torch.device("cpu")


def of_kind(kind):
    return sorted(path.stem for path, found in KINDS.items() if found == kind)


@pytest.fixture(scope="module")
def rows():
    return dataset.read(FOLDER / "ising.h5", slice(0, 3))


def test_every_file_is_looked_at():
    known = {*of_kind("surrogate"), *of_kind("network"), *DATASETS, "posterior", *METRICS}
    assert known == {path.stem for path in FOLDER.iterdir()} - {"expected"} - {
        path.stem for path in FOLDER.glob("*.sha256")
    }


@pytest.mark.parametrize("family", of_kind("surrogate"))
def test_surrogates(family, rows):
    surrogate, info = load_surrogate(FOLDER / f"{family}.pt", CPU)
    assert (surrogate.name, "class" in info) == (family, False)
    x = surrogate.sample(rows.theta, 1)
    assert x.abs().eq(1).all()
    if family not in EXPECTED:
        assert surrogate.likelihood == "none"
        return
    log_p = surrogate.log_prob(rows.theta, rows.x, draws=3)
    np.testing.assert_allclose(log_p, EXPECTED[family], rtol=1e-5)
    other = surrogate.log_prob(rows.theta, rows.x[::-1], draws=3)  # the control
    assert not np.allclose(other, EXPECTED[family], rtol=1e-5)


@pytest.mark.parametrize("method", of_kind("network"))
def test_networks(method, rows):
    pytest.importorskip("sbi")
    from physgen.sbi.networks import Network

    network = Network.load(FOLDER / f"{method}.pt", CPU)
    log_density = network.log_density(rows.theta, rows.x)
    log_density += network.draws * network.law.prior.log_prob(rows.theta)  # they wrote log p(θ|x)
    np.testing.assert_allclose(log_density, EXPECTED[method], rtol=1e-4, atol=3e-4)


DATASETS = {"ising": ((120, 1), (120, 4, 4)), "fake": ((120, 1), (120, 4, 4)),
            "shower": ((120, 2), (120, 25))}  # fmt: skip


@pytest.mark.parametrize("name", DATASETS)
def test_datasets(name):
    found = physgen.read(FOLDER / f"{name}.h5")
    assert (found.theta.shape, found.x.shape) == DATASETS[name]
    assert found.meta.law.x_shape == found.x.shape[1:]
    assert found.meta.law.prior.contains(found.theta).all()
    assert dataset.describe(FOLDER / f"{name}.h5", True)["rows"] == len(found)


def test_posteriors():
    arrays, about = dataset.read_arrays(FOLDER / "posterior.h5", "posterior")
    np.testing.assert_allclose(arrays["mean"].ravel(), EXPECTED["posterior"], rtol=1e-9)
    assert about["parameters"] == ["beta"]


METRICS = ("metrics", "calibration", "comparison")


@pytest.mark.parametrize("name", [*METRICS, "posterior"])
@pytest.mark.usefixtures("blank")
def test_reports(name, tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    path = FOLDER / (f"{name}.json" if name in METRICS else f"{name}.h5")
    physgen.report(path, out=tmp_path / "report.html")
    assert "image/svg+xml" in (tmp_path / "report.html").read_text()
