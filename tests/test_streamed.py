"""A training on a file that is larger than the memory holds few of its rows."""

import numpy as np
import pytest
import torch

import physgen
from benchmarks.memory import VOXELS, apart, showers
from physgen.dataset import Dataset
from physgen.errors import DataError
from physgen.training import Streamed, Training, split
from physgen.training import data as training_data

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("streamed") / "data.h5"
    physgen.simulate("gaussian", n=3000, seed=1, out=path, shard_rows=100)
    return path


def test_rows_that_are_held_are_bounded_where_a_file_is_streamed(path, monkeypatch):
    data = Dataset(path)
    size, dtype = data.x[0].size + data.theta[0].size, data.x.dtype
    monkeypatch.setattr(training_data, "LEAST", 200 * 8 * size)
    train, val, some = split(Dataset(path), 0.3, 1e-6, CPU)
    row = data.x[0].nbytes + data.theta[0].nbytes
    most = 200 * 8 * size // row
    assert isinstance(train, Streamed)
    assert (len(train), len(val), len(some)) == (3000 - most, most, 200), dtype
    np.testing.assert_array_equal(val.x, data.x[-most:])  # the last ones, the rest is trained on
    np.testing.assert_array_equal(some.x, data.x[:200])
    whole, val, some = split(Dataset(path), 0.3, 4.0, CPU)
    assert (len(whole), len(val), len(some)) == (2100, 900, 2100)


def test_each_of_several_files_gives_its_part_of_what_is_held(path, tmp_path, monkeypatch):
    other = tmp_path / "other.h5"
    physgen.simulate("gaussian", n=1000, seed=2, out=other, shard_rows=100)
    both = physgen.dataset.JoinedDataset([Dataset(path), Dataset(other)])
    monkeypatch.setattr(training_data, "LEAST", 1)
    train, val, some = split(both, 0.5, 0.0, CPU)
    assert (len(train), len(val), len(some)) == (3900, 100, 100)
    np.testing.assert_array_equal(val.x, np.concatenate([both.x[2925:3000], both.x[-25:]]))


def test_rows_without_theta_are_refused(tmp_path):
    with pytest.raises(DataError, match="theta"):
        split(Dataset(np.zeros((10, 2))), 0.1, 4.0, CPU)


@pytest.mark.slow
def test_a_streamed_training_says_so_and_one_that_is_late_makes_a_step(path, caplog):
    caplog.set_level("INFO", "physgen")
    model = physgen.fit("flow", path, epochs=3, max_minutes=1e-6, memory_gib=1e-6)
    assert model.info["streamed"] == {"rows": 2700, "held_out": 300, "scales": 2700}
    assert "is larger than --memory-gib 1e-06: streamed; 300 rows validate" in caplog.text
    assert len(model.info["history"]) == 1
    assert "streamed" not in physgen.fit("flow", path, epochs=1).info
    assert Training().memory_gib == 4


@pytest.mark.slow
def test_a_training_on_20_gb_takes_2(tmp_path):
    path = tmp_path / "showers.h5"
    showers(path, int(20e9 / (4 * np.prod(VOXELS))))
    assert len(Dataset(path)) > 700_000
    assert apart(path, "cvae", 4, 1)["peak"] < 2
