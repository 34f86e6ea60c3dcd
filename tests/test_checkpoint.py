"""Checkpoints: what is damaged, forged or foreign is refused; what is good loads to the same."""

import copy
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
from physgen.nn.tensors import digest, load_tensors, save_tensors
from physgen.registry import find
from physgen.surrogates.base import Likelihood, Surrogate
from physgen.surrogates.checkpoint import load_surrogate, save_surrogate
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
    save_surrogate(surrogate, path, {"history": [1.5, 2]})
    return surrogate, path


def rewritten(path, **changes):
    """The file with other contents and a digest that fits them."""
    tensors, info = load_tensors(path)
    changed = {"tensors": tensors, "json": json.dumps(info)} | changes
    changed["sha256"] = digest(changed["tensors"], changed["json"])
    torch.save(changed, path)


def test_a_loaded_surrogate_is_the_same(saved):
    surrogate, path = saved
    again, info = load_surrogate(path, CPU)
    assert info["history"] == [1.5, 2]
    assert (again.law, again.config, again.training) == (LAW, CONFIG, False)
    assert torch.equal(again.transform.mean, surrogate.transform.mean)
    assert torch.equal(again.transform.std, surrogate.transform.std)
    assert (again.transform.std != 1).all()
    pairs = (m.log_prob_with_error(*rows()) for m in (again, surrogate))
    for a, b in zip(*pairs, strict=True):
        assert a == b if isinstance(a, str) else torch.equal(a, b)


def test_bytes_are_a_function_of_the_content(saved, tmp_path):
    surrogate, path = saved
    save_surrogate(surrogate, tmp_path / "again.pt", {"history": [1.5, 2]})
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
            again, _ = load_surrogate(path, CPU)
        except (DataError, UsageError):
            refused += 1
        else:  # a bit that means nothing, such as padding
            assert torch.equal(again.log_prob(*rows()), surrogate.log_prob(*rows()))
    assert refused > 20


def test_a_flipped_weight_is_told_by_the_digest_alone(saved):
    _, path = saved
    content = torch.load(path, weights_only=True)
    content["tensors"]["hierarchy.top"].view(-1)[0] += 1e-7
    torch.save(content, path)
    with pytest.raises(DataError, match="SHA-256 differs"):
        load_surrogate(path, CPU)


@pytest.mark.parametrize("part", [0, 1, 100, -1])
def test_truncated_files_are_refused(saved, part):
    _, path = saved
    path.write_bytes(path.read_bytes()[:part])
    with pytest.raises(DataError, match="not a physgen checkpoint"):
        load_surrogate(path, CPU)


def test_arrays_are_told_for_what_they_are(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.zeros(3))
    with pytest.raises(DataError, match="that fit wrote, got arrays of NumPy; physgen import"):
        load_surrogate(tmp_path / "x.npz", CPU)


def test_no_file_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError):
        load_surrogate(tmp_path / "none.pt", CPU)


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
        load_surrogate(path, CPU)
    assert not trace.exists()
    if kind == "archive":  # the control: it is evil indeed
        torch.load(path, weights_only=False)
        assert trace.exists()


def test_a_checkpoint_does_not_choose_what_is_imported(saved, tmp_path, monkeypatch):
    surrogate, path = saved
    monkeypatch.chdir(tmp_path)
    (tmp_path / "intruder.py").write_text("open('trace', 'w')\nclass Boom: pass\n")
    for named in ({"family": "intruder:Boom"}, {"class": "intruder:Boom"}):
        forged = surrogate.describe() | {"class": None} | named
        save_tensors(path, surrogate.state_dict(), forged)
        with pytest.raises(UsageError, match="family intruder:Boom, outside the registry"):
            load_surrogate(path, CPU)
    assert not (tmp_path / "trace").exists()
    assert "intruder" not in sys.modules


@pytest.mark.slow
def test_a_family_of_ones_own_loads_where_it_is_imported(tmp_path):
    path = tmp_path / "own.pt"
    save_surrogate(Own.create(LAW, NoConfig()), path, {})
    again, _ = load_surrogate(path, CPU)
    assert type(again) is Own
    code = (
        "import sys, torch, pathlib\n"
        "from physgen.surrogates.checkpoint import load_surrogate\n"
        "from physgen.errors import UsageError\n"
        "try: load_surrogate(pathlib.Path(sys.argv[1]), torch.device('cpu'))\n"
        "except UsageError as error: print(error)\n"
    )
    told = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert f"family {Own.__module__}:Own, outside the registry" in told.stdout, told.stderr


WIDE = """
from physgen.surrogates.cvae import CVAE


class Wide(CVAE):
    name = "wide"

    def _sample(self, c, generator):
        return 7 + super()._sample(c, generator)


class Narrow(Wide):
    name = "narrow"


class Nameless(CVAE):
    pass
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A module of the user's own, and a checkpoint that was made where it was imported."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "wide.py").write_text(WIDE)
    code = (
        "import pathlib, sys, torch, wide\n"
        "from physgen.law import Law\n"
        "from physgen.surrogates.checkpoint import save_surrogate\n"
        "model = wide.Wide.create(Law.of('gaussian', {'size': 3}), wide.Wide.Config(2, 1, 5))\n"
        "save_surrogate(model, pathlib.Path('wide.pt'), {})\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)
    return folder


@pytest.fixture
def wide(home, monkeypatch):
    """That checkpoint, where its module can be imported, and is not."""
    monkeypatch.chdir(home)
    yield home / "wide.pt"
    sys.modules.pop("wide", None)


@pytest.mark.slow
def test_a_family_outside_the_registry_opens_on_the_callers_word(wide):
    with pytest.raises(UsageError) as caught:
        load_surrogate(wide, CPU)
    assert str(caught.value) == (
        f"{wide}: is of the family wide:Wide, outside the registry; add --family wide:Wide "
        "(in Python family=Wide) if you trust it"
    )
    assert "wide" not in sys.modules
    again, info = load_surrogate(wide, CPU, "wide:Wide")
    assert info["class"] == "wide:Wide"
    assert (again.path, again.info) == (wide, info)
    theta, _ = rows()
    assert again.sample(theta, 1).mean() > 5
    assert type(load_surrogate(wide, CPU, type(again))[0]) is type(again)
    assert type(load_surrogate(wide, CPU)[0]) is type(
        again
    )  # imported by now, under the same name


@pytest.mark.parametrize(
    ("family", "told"),
    [
        ("wide:Narrow", "is of the family wide:Wide, not wide:Narrow"),
        (CVAE, "is of the family wide:Wide, not physgen.surrogates.cvae:CVAE"),
        ("cvae", "is of the family wide:Wide, not physgen.surrogates.cvae:CVAE"),
        ("wide:CLOSED", "cannot import 'wide:CLOSED'"),
        ("pathlib:Path", "family: expected a subclass of Surrogate, got 'pathlib:Path'"),
        (Own, "is of the family wide:Wide, not"),
    ],
)
def test_another_family_than_the_files_is_refused(wide, family, told):
    with pytest.raises(UsageError, match=told):
        load_surrogate(wide, CPU, family)


def test_a_registered_family_is_not_opened_as_another(saved):
    _, path = saved
    assert (
        type(load_surrogate(path, CPU, "cvae")[0])
        is type(load_surrogate(path, CPU, CVAE)[0])
        is CVAE
    )
    with pytest.raises(UsageError, match=r"is of the family physgen.surrogates.cvae:CVAE, not"):
        load_surrogate(path, CPU, "rbm")


def test_a_name_that_stands_for_another_class_is_refused(wide, tmp_path):
    """Or its checkpoint would be read as the other's."""
    nameless = find("surrogates", "wide:Nameless")
    with pytest.raises(UsageError, match="wide:Nameless: goes by the name 'cvae' of") as caught:
        nameless.create(LAW, CONFIG)
    assert str(caught.value).endswith("give it its own, as in name = 'nameless'")
    model = CVAE.create(LAW, CONFIG)
    model.__class__ = nameless
    with pytest.raises(UsageError, match="goes by the name 'cvae'"):
        save_surrogate(model, tmp_path / "x.pt", {})
    assert not (tmp_path / "x.pt").exists()
    anonymous = type("Anonymous", (Own,), {"name": ""})
    with pytest.raises(UsageError, match="Anonymous: expected a name"):
        anonymous.create(LAW, NoConfig())


def test_what_is_known_of_its_making_stays_with_it(saved):
    surrogate, path = saved
    assert (surrogate.path, surrogate.summary, surrogate.info) == (None, "", {})
    again, info = load_surrogate(path, CPU)
    again.summary = "30 epochs"
    assert not {"path", "summary", "info"} & set(again.state_dict())
    for other in (again.using(symmetrise=True), again.at(LAW), copy.deepcopy(again)):
        assert (other.path, other.summary, other.info) == (path, "30 epochs", info)
        other.info["history"] = "changed"
        assert again.info["history"] == [1.5, 2]
    again.info = {}
    assert load_surrogate(path, CPU)[0].info["history"] == [1.5, 2]


def test_a_surrogate_in_words(saved):
    surrogate, path = saved
    first = "CVAE (cvae): theta1, theta2 → reals (3,), 84,630 weights, log p: lower bound"
    assert repr(surrogate) == first
    assert repr(load_surrogate(path, CPU)[0]) == f"{first}\n  {path}"


def test_weights_of_a_family_as_it_was_are_refused_in_words(tmp_path):
    path = tmp_path / "old.pt"
    made = CVAE.create(LAW, CONFIG)
    weights = {("was." if k.startswith("decoder") else "") + k: w for k, w in
               made.state_dict().items()}  # fmt: skip
    about = {"provenance": {"version": "0.1.0", "git": "c9736cc4da8f"}}
    save_tensors(path, weights, about | made.describe())
    with pytest.raises(DataError) as caught:
        load_surrogate(path, CPU)
    text = str(caught.value)
    assert text.startswith(f"{path}: was trained when cvae was another network; expected")
    assert "0.1.0, commit c9736cc, which differ in " in text
    assert text.endswith("fit again, or use that version")
    assert "Error" not in text


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        ({"family": "no-such", "class": None}, UsageError, "is of the family no-such, outside"),
        ({"family": 7, "class": None}, UsageError, "is of the family 7, outside"),
        ({"class": 7}, UsageError, "is of the family 7, outside"),
        ({"options": {"channels": 7, "head": "student"}}, DataError, "size mismatch"),
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
        load_surrogate(path, CPU)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[]", "7", "null", "{", ""])
def test_json_of_another_kind_is_refused(saved, text):
    _, path = saved
    rewritten(path, json=text)
    with pytest.raises(DataError, match=r"not a physgen checkpoint|expected format"):
        load_surrogate(path, CPU)


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
