"""Checkpoints: what is damaged, forged or foreign is refused; what is good loads to the same."""

import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from physgen.errors import DataError, StorageError, UsageError
from physgen.law import Law
from physgen.surrogates.base import Likelihood, Surrogate
from physgen.surrogates.checkpoint import digest, load, load_tensors, save, save_tensors
from physgen.surrogates.cvae import CVAE, CVAEConfig

CPU = torch.device("cpu")
LAW = Law.of("gaussian", {"size": 3})
CONFIG = CVAEConfig(2, 1, 5)


@dataclass(frozen=True)
class NoConfig:
    pass


class Own(Surrogate):
    """A family of one's own that is in no registry."""

    name: ClassVar[str] = "own-and-unregistered"
    likelihood: ClassVar[Likelihood] = Likelihood.NONE
    Config = NoConfig

    def __init__(self, law, config):
        super().__init__(law, config)
        self.w = nn.Parameter(torch.arange(3.0))

    def _loss(self, c, z, generator, progress):
        return z.sum(1)

    def _sample(self, c, generator):
        return self.w.expand(len(c), -1)


def rows(n=11):
    rng = np.random.default_rng(0)
    theta = LAW.prior.sample(n, rng)
    return torch.from_numpy(theta), torch.from_numpy(LAW.build().sample(theta, rng))


@pytest.fixture
def saved(tmp_path):
    surrogate = CVAE.create(LAW, CONFIG, seed=1).eval()
    surrogate.transform.fit(rows()[1])
    path = tmp_path / "model.pt"
    save(surrogate, path, {"history": [1.5, 2]})
    return surrogate, path


def rewritten(path, **changes):
    """The file with other contents and a digest that fits them."""
    tensors, info = load_tensors(path)
    changed = {"tensors": tensors, "json": json.dumps(info)} | changes
    changed["sha256"] = digest(changed["tensors"], changed["json"])
    torch.save(changed, path)


def test_a_loaded_surrogate_is_the_same(saved):
    surrogate, path = saved
    again, info = load(path, CPU)
    assert info["history"] == [1.5, 2]
    assert (again.law, again.config, again.training) == (LAW, CONFIG, False)
    assert torch.equal(again.transform.mean, surrogate.transform.mean)
    assert torch.equal(again.transform.std, surrogate.transform.std)
    assert (again.transform.std != 1).all()
    for a, b in zip(again.log_prob(*rows()), surrogate.log_prob(*rows()), strict=True):
        assert a == b if isinstance(a, str) else torch.equal(a, b)


def test_bytes_are_a_function_of_the_content(saved, tmp_path):
    surrogate, path = saved
    save(surrogate, tmp_path / "again.pt", {"history": [1.5, 2]})
    assert (tmp_path / "again.pt").read_bytes() == path.read_bytes()


def test_flipped_bits_are_refused(saved):
    surrogate, path = saved
    data, rng = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for position in rng.integers(len(data), size=40):
        broken = bytearray(data)
        broken[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(broken)
        try:
            again, _ = load(path, CPU)
        except (DataError, UsageError):
            refused += 1
        else:  # a bit that means nothing, such as padding
            assert torch.equal(again.log_prob(*rows())[0], surrogate.log_prob(*rows())[0])
    assert refused > 20


def test_a_flipped_weight_is_told_by_the_digest_alone(saved):
    _, path = saved
    content = torch.load(path, weights_only=True)
    content["tensors"]["hierarchy.top"].view(-1)[0] += 1e-7
    torch.save(content, path)
    with pytest.raises(DataError, match="SHA-256 differs"):
        load(path, CPU)


@pytest.mark.parametrize("part", [0, 1, 100, -1])
def test_truncated_files_are_refused(saved, part):
    _, path = saved
    path.write_bytes(path.read_bytes()[:part])
    with pytest.raises(DataError, match="not a physgen checkpoint"):
        load(path, CPU)


def test_no_file_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError):
        load(tmp_path / "none.pt", CPU)


class Evil:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def archive(evil):
    """A checkpoint whose pickle is evil; torch's own loader takes it."""
    whole, out = io.BytesIO(), io.BytesIO()
    torch.save({"tensors": {}, "json": "{}", "sha256": ""}, whole)
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            data = pickle.dumps(evil) if name.endswith("data.pkl") else old.read(name)
            new.writestr(name, data)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["archive", "bare pickle"])
def test_an_evil_pickle_does_nothing(tmp_path, kind):
    trace, path = tmp_path / "trace", tmp_path / "evil.pt"
    path.write_bytes(archive(Evil(trace)) if kind == "archive" else pickle.dumps(Evil(trace)))
    with pytest.raises(DataError, match="not a physgen checkpoint"):
        load(path, CPU)
    assert not trace.exists()
    if kind == "archive":  # the control: it is evil indeed
        torch.load(path, weights_only=False)
        assert trace.exists()


def test_a_checkpoint_does_not_choose_what_is_imported(saved, tmp_path, monkeypatch):
    surrogate, path = saved
    monkeypatch.chdir(tmp_path)
    (tmp_path / "intruder.py").write_text("open('trace', 'w')\nclass Boom: pass\n")
    save_tensors(path, surrogate.state_dict(), surrogate.describe() | {"family": "intruder:Boom"})
    with pytest.raises(UsageError, match="unknown family 'intruder:Boom'"):
        load(path, CPU)
    assert not (tmp_path / "trace").exists()
    assert "intruder" not in sys.modules


def test_a_family_of_ones_own_loads_where_it_is_imported(tmp_path):
    path = tmp_path / "own.pt"
    save(Own.create(LAW, NoConfig()), path, {})
    again, _ = load(path, CPU)
    assert type(again) is Own
    code = (
        "import sys, torch, pathlib\n"
        "from physgen.surrogates.checkpoint import load\n"
        "from physgen.errors import UsageError\n"
        "try: load(pathlib.Path(sys.argv[1]), torch.device('cpu'))\n"
        "except UsageError as error: print(error)\n"
    )
    told = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert "unknown family 'own-and-unregistered'" in told.stdout, told.stderr


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        ({"family": "no-such"}, UsageError, "unknown family 'no-such'"),
        ({"options": {"channels": 7}}, DataError, "size mismatch"),
        ({"options": {"no_such": 7}}, UsageError, "no option 'no_such'"),
        ({"options": 7}, DataError, "do not fit"),
        ({"law": {}}, DataError, "not a law"),
        ({"law": Law.of("gaussian", {"size": 5}).to_json()}, DataError, "size mismatch"),
        ({"format": "physgen/checkpoint/2"}, DataError, "expected format physgen/checkpoint/1"),
    ],
)
def test_what_does_not_fit_its_own_description_is_refused(saved, change, error, told):
    _, path = saved
    _, info = load_tensors(path)
    description = info | change
    rewritten(path, json=json.dumps(description))
    with pytest.raises(error, match=told) as caught:
        load(path, CPU)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[]", "7", "null", "{", ""])
def test_json_of_another_kind_is_refused(saved, text):
    _, path = saved
    rewritten(path, json=text)
    with pytest.raises(DataError, match=r"not a physgen checkpoint|expected format"):
        load(path, CPU)


def test_the_digest_tells_names_types_shapes_and_values_apart():
    a = torch.arange(6.0)
    others = [
        {"x": a},
        {"y": a},
        {"x": a.double()},
        {"x": a.view(2, 3)},
        {"x": a + 1},
        {"x": a, "z": 1},
        {"x": a, "z": 2},
    ]
    digests = [digest(o, "") for o in others] + [digest({"x": a}, "text")]
    assert len(set(digests)) == len(digests)
