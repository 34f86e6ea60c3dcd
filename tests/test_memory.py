"""Verbs on objects: the same numbers as on files, products that the next verb takes."""

import inspect
import sys
from dataclasses import dataclass, replace

import h5py
import numpy as np
import pytest
import torch

import physgen
import physgen.errors
from physgen.dataset import Rows
from physgen.errors import DataError, UsageError
from physgen.verbs.calibrate import trained_on
from simulators import Box
from simulators.gaussian import LinearGaussian
from simulators.ising import Ising

TINY = {"channels": 5, "levels": 2, "stages": 3, "epochs": 2}
FEW = {"draws": 3, "observations": 7}


@pytest.fixture(scope="module")
def memory():
    """Data, a test set and a surrogate that were never in a file."""
    data = physgen.simulate(Ising(size=4), n=600, seed=1)
    test = physgen.simulate("ising", size=4, n=130, seed=2)
    return data, test, physgen.fit("cvae", data, **TINY)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The same in files."""
    folder = tmp_path_factory.mktemp("memory")
    physgen.simulate("ising", size=4, n=600, seed=1, out=folder / "train.h5")
    physgen.simulate("ising", size=4, n=130, seed=2, out=folder / "test.h5")
    physgen.fit("cvae", folder / "train.h5", out=folder / "cvae.pt", **TINY)
    return folder


def same(a, b, but=()):
    """JSON data without what may differ: times, places, digests."""
    but = {
        "content_sha256",
        "seconds",
        "cpu_seconds",
        "provenance",
        "surrogate",
        "data",
        "sweep",
        *but,
    }
    strip = [{k: v for k, v in found.items() if k not in but} for found in (a, b)]
    assert strip[0] == strip[1]
    assert len(strip[0]) > 3


@pytest.mark.slow
def test_rows_are_those_of_the_file(memory, files):
    data, test, _ = memory
    for name, found in (("train.h5", data), ("test.h5", test)):
        rows = physgen.read(files / name)
        assert np.array_equal(rows.x, found.x)
        assert np.array_equal(rows.theta, found.theta)
        assert (rows.x.dtype, rows.theta.dtype) == (found.x.dtype, found.theta.dtype)
        assert rows.meta.law == found.law
        assert physgen.Dataset(files / name).mark == found.mark
    by_two = physgen.simulate("ising", size=4, n=600, seed=1, workers=2, shard_rows=300)
    by_one = physgen.simulate("ising", size=4, n=600, seed=1, shard_rows=300)
    assert np.array_equal(by_two.x, by_one.x)


def test_a_surrogate_has_the_weights_of_the_checkpoint(memory, files):
    ours, theirs = memory[2], physgen.load(files / "cvae.pt")[0]
    assert all(a.equal(b) for a, b in zip(
        ours.state_dict().values(), theirs.state_dict().values(), strict=True
    ))  # fmt: skip
    assert ours.path is None
    assert theirs.path == files / "cvae.pt"
    assert "2 epochs" in ours.summary
    assert ours.info["history"][-1]["epoch"] == 2


@pytest.mark.slow
def test_the_whole_way_without_a_path_gives_the_numbers_of_files(memory, files, tmp_path, quick):
    _, test, model = memory
    pt, h5 = files / "cvae.pt", files / "test.h5"
    fake = physgen.sample(model, theta={"beta": 0.44}, n=50)
    filed = physgen.sample(pt, theta={"beta": 0.44}, n=50, out=tmp_path / "fake.h5")
    assert np.array_equal(fake.x, filed.x)
    post = physgen.infer(model, test, rows=slice(0, 5), draws=3)
    filed = physgen.infer(pt, h5, rows=slice(0, 5), draws=3, out=tmp_path / "p.h5")
    arrays, about = physgen.read_arrays(tmp_path / "p.h5", "posterior")
    assert set(arrays) == set(post.arrays) == set(filed.arrays)
    assert all(np.array_equal(arrays[k], post.arrays[k]) for k in arrays)
    assert about["warnings"] == post.warnings
    same(physgen.validate(model, test, **FEW), physgen.validate(pt, h5, **FEW))
    few = {"rows": slice(0, 20), "draws": 1, "samples": 2}
    same(physgen.calibrate(model, test, **few), physgen.calibrate(pt, h5, **few))
    likes = [physgen.sample(m, like=t) for m, t in ((model, test), (pt, h5))]
    same(
        physgen.compare(likes[0], test), physgen.compare(likes[1], h5), ("generated", "reference")
    )


@pytest.mark.usefixtures("quick", "blank")
def test_products_know_their_file_and_their_line(memory, files, tmp_path):
    data, test, model = memory
    score = physgen.validate(model, test, out=tmp_path / "m.json", **FEW)
    page = physgen.report(score, out=tmp_path / "r.html")
    for product in (score, page, physgen.Dataset(files / "test.h5")):
        assert product.path is not None
    assert (tmp_path / "r.html").read_text() == page.html
    assert physgen.report(tmp_path / "m.json").html == page.html
    for product in (data, score, page, model, physgen.infer(model, test.x[:2])):
        assert product.summary
        assert len(repr(product).splitlines()) <= 2
        assert len(repr(product)) < 400


@pytest.mark.usefixtures("quick")
@pytest.mark.slow
def test_pictures_and_pages_of_a_notebook(memory):
    from matplotlib.figure import Figure

    data, test, model = memory
    post = physgen.infer(model, test, rows=slice(3, 5), draws=2)
    score = physgen.validate(model, test, **FEW)
    for product in (data, post, score):
        assert isinstance(product.plot(), Figure)
    assert data.plot()._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(KeyError, match="there are"):
        score.plot("nothing")
    assert post.plot(1).get_suptitle() == "row 4"
    for product in (post, score, physgen.report(post)):
        assert product._repr_html_().startswith("<iframe srcdoc=")
    for x in (np.zeros((9, 2)), np.zeros((9, 30)), np.ones((3, 2, 4, 5))):
        assert isinstance(physgen.Dataset(x).plot(), Figure)


def test_observations_are_arrays_tensors_rows_or_one_x(memory):
    _, test, model = memory
    x = test.x[:3]
    means = [
        physgen.infer(model, some, draws=3).mean
        for some in (x, torch.from_numpy(x), x.astype(float), Rows(x), test[:3])
    ]
    assert all(np.array_equal(m, means[0]) for m in means)
    np.testing.assert_allclose(physgen.infer(model, x[0], draws=3).mean, means[0][:1], rtol=1e-6)
    with pytest.raises(DataError, match=r"expected \(n, 4, 4\) or one x \(4, 4\), got"):
        physgen.infer(model, np.ones((2, 3, 3)))


def test_a_posterior_samples_and_has_moments(memory):
    _, test, model = memory
    post = physgen.infer(model, test.x[:2], draws=3)
    draws = post.sample(4000, 1)
    assert draws.shape == (2, 4000, 1)
    assert np.array_equal(draws, post.sample(4000, 1))
    assert not np.array_equal(post.sample(10), post.sample(10))
    assert np.allclose(draws.mean(1), post.mean, atol=5 * post.sd.max() / np.sqrt(4000))
    low, high = post.interval(0.9)[0, :, 0]
    assert 0.85 < ((draws[0] > low) & (draws[0] < high)).mean() < 0.95
    assert post.log_prob(post.mean[:, None]).shape == (2, 1)
    assert len(post) == 2
    assert post.names == ("beta",)


@pytest.mark.slow
def test_a_network_goes_on_without_a_file(memory, tmp_path, quick):
    pytest.importorskip("sbi")
    data, test, _ = memory
    npe = physgen.infer(data, test.x[:2], method="npe", epochs=3, network=tmp_path / "npe.pt")
    for again in (npe, npe.network, tmp_path / "npe.pt"):
        assert np.allclose(physgen.infer(again, test.x[:2]).mean, npe.mean)
    score = physgen.calibrate(npe, test, rows=slice(0, 20), samples=2)
    assert score["network"]["family"] == "npe"
    with pytest.raises(UsageError, match="trains no network"):
        physgen.infer(physgen.infer(memory[2], test.x[:2]), test.x)


def test_rows_of_the_training_are_known_again(memory, files, quick):
    data, test, model = memory
    few = {"rows": slice(0, 20), "draws": 1, "samples": 2}
    found = physgen.calibrate(model, files / "train.h5", **few)
    assert "those of the training" in found["warnings"][0]
    for training in (model.info["data"], physgen.load(files / "cvae.pt")[1]["data"]):
        assert trained_on(training, data)
        assert trained_on(training, physgen.Dataset(files / "train.h5"))
        assert not trained_on(training, test)


def test_a_dataset_is_saved_and_exported(memory, tmp_path):
    _, test, model = memory
    saved = test.save(tmp_path / "test.h5")
    assert np.array_equal(physgen.read(saved.path).x, test.x)
    assert physgen.inspect(saved, verify=True).fault == ""
    with pytest.raises(UsageError, match="exists"):
        test.save(tmp_path / "test.h5")
    with pytest.raises(DataError, match="no metadata"):
        physgen.Dataset(test.x).save(tmp_path / "x.h5")
    showers = physgen.simulate("shower-voxel", n=5, seed=1)
    showers.save(tmp_path / "v.h5")
    for name, source in (("a", showers), ("b", tmp_path / "v.h5")):
        made = physgen.export(source, format="calochallenge", out=tmp_path / f"{name}.hdf5")
        assert "5 rows" in made.summary
    a, b = (h5py.File(tmp_path / f"{n}.hdf5") for n in "ab")
    assert np.array_equal(a["showers"][:], b["showers"][:])
    post = physgen.infer(model, test.x[:2], draws=2)
    physgen.export(post, format="arviz", out=tmp_path / "p.nc")
    assert np.array_equal(
        h5py.File(tmp_path / "p.nc")["posterior/beta"][0, :, 0], post.theta[0, :, 0]
    )


def test_inspect_looks_at_objects(memory):
    _, test, model = memory
    assert physgen.inspect(test, verify=True).fault == ""
    fake = physgen.sample(model, n=600)
    assert "does not follow its law" in physgen.inspect(fake, verify=True).fault
    assert physgen.inspect(model)["family"] == "cvae"
    assert physgen.inspect(physgen.infer(model, test.x[:1]))["method"] == "grid"
    with pytest.raises(UsageError, match="expected a file or what a verb returned"):
        physgen.inspect(3)


@dataclass(frozen=True)
class Mine:
    """A simulator of a user's own."""

    noise: float = 1.0
    prior = Box(a=(-1.0, 1.0))
    x_shape = (2,)

    def sample(self, theta, rng):
        return theta + self.noise * rng.normal(size=(len(theta), 2))

    def log_prob(self, theta, x):
        z = (x - theta) / self.noise
        return -(z**2).sum(1) / 2 - 2 * np.log(self.noise) - np.log(2 * np.pi)


class Forgets:
    """A simulator that does not keep its option."""

    prior = Box(a=(-1.0, 1.0))
    x_shape = (2,)

    def __init__(self, noise=1.0):
        self.width = noise

    def sample(self, theta, rng):
        return theta + self.width * rng.normal(size=(len(theta), 2))


@pytest.fixture
def findable(monkeypatch):
    """Pytest imports test modules under names of its own; a user's are found as they are."""
    module = inspect.getmodule(Mine)
    monkeypatch.setitem(sys.modules, Mine.__module__, module or sys.modules[__name__])


def test_simulators_are_objects_or_classes(findable):
    a = physgen.simulate(Mine(noise=0.5), n=20, seed=3)
    b = physgen.simulate(Mine, noise=0.5, n=20, seed=3)
    assert np.array_equal(a.x, b.x)
    assert a.law.options == {"noise": 0.5}
    assert a.law.simulator.endswith(":Mine")
    gaussian = physgen.simulate(LinearGaussian(size=3), n=20)
    assert gaussian.law.simulator == "gaussian"
    assert gaussian.law.options["size"] == 3


@pytest.mark.usefixtures("quick")
def test_truth_of_a_simulator_of_ones_own_is_an_object_too(findable):
    data = physgen.simulate(Mine(), n=300, seed=1)
    model = physgen.fit("cvae", data, channels=3, levels=1, stages=1, epochs=1)
    assert physgen.validate(model, data, **FEW)["nll"]["gap_per_dim"] is None
    for simulator in (Mine, Mine()):
        found = physgen.validate(model, data, simulator=simulator, **FEW)
        assert found["nll"]["gap_per_dim"] is not None


def test_what_could_not_be_made_again_is_refused(findable):
    with pytest.raises(UsageError, match="'noise' cannot be read"):
        physgen.simulate(Forgets(2.0), n=3)

    class Local(Mine):
        """Nobody finds it again."""

    with pytest.raises(UsageError, match="top of its module"):
        physgen.simulate(Local(), n=3)
    with pytest.raises(UsageError, match="expected a name, a class or an object"):
        physgen.simulate(object(), n=3)
    with pytest.raises(UsageError, match="resume and tensorboard need a file"):
        physgen.fit("cvae", physgen.simulate("gaussian", n=30), resume=True)
    with pytest.raises(DataError, match="no metadata"):
        physgen.fit("cvae", Rows(np.zeros((9, 2)), np.zeros((9, 1))))
    with pytest.raises(DataError, match="expected scores of validate"):
        physgen.report({"a": 1})


def test_rows_in_memory_are_held_to_their_law(memory):
    data = memory[0]
    rows = data.rows
    for wrong, piece in (
        (replace(rows, x=(rows.x > 0).astype("i1")), "neither -1 nor"),
        (replace(rows, theta=rows.theta * 10), "outside the prior"),
        (replace(rows, x=rows.x[:100]), "expected shape"),
    ):
        for use in (lambda r: physgen.fit("cvae", r, **TINY), physgen.Dataset):
            with pytest.raises(DataError, match=piece):
                use(wrong)
    backward = physgen.Dataset(rows[::-1])
    assert physgen.fit("cvae", backward, **TINY | {"epochs": 1}).summary
    assert len(data[3]) == 1
    assert np.array_equal(data[-1].x[0], data.x[-1])
    assert len(data[:5].read(slice(0, 2))) == 2


def test_a_record_is_of_the_weights_that_were_used(memory, tmp_path):
    data, test, model = memory
    physgen.save(model, tmp_path / "m.pt")
    again, _ = physgen.load(tmp_path / "m.pt")
    theta, x = test.theta[:3], test.x[:3]
    assert again.log_prob(theta, x).equal(model.log_prob(theta, x))
    first = physgen.infer(again, x).about["surrogate"]
    assert first["path"] == str(tmp_path / "m.pt")
    tuned = physgen.fit("cvae", data, from_=again, epochs=1)
    assert tuned.path is None
    assert physgen.infer(tuned, x).about["surrogate"]["sha256"] != first["sha256"]
    (tmp_path / "m.pt").unlink()
    assert physgen.infer(again, x).about["surrogate"] == first  # the weights are what they were
    with torch.no_grad():
        next(again.parameters()).mul_(1.1)
    changed = physgen.infer(again, x).about["surrogate"]
    assert changed["path"] is None
    assert changed["sha256"] != first["sha256"]
    even = physgen.infer(model.using(symmetrise=True), x).about["surrogate"]["use"]
    assert even["symmetrise"] is True
    assert "family" in tuned.info


@pytest.mark.usefixtures("quick", "blank")
def test_products_are_saved(memory, tmp_path):
    _, test, model = memory
    post = physgen.infer(model, test.x[:2])
    score = physgen.validate(model, test, **FEW)
    for name, product in (("t.h5", test), ("p.h5", post), ("s.json", score)):
        physgen.save(product, tmp_path / name)
    physgen.save(physgen.report(score), tmp_path / "r.html")
    assert physgen.report(tmp_path / "s.json").html == (tmp_path / "r.html").read_text()
    with pytest.raises(UsageError, match="exists"):
        physgen.save(score, tmp_path / "s.json")
    with pytest.raises(UsageError, match="what a verb returned"):
        physgen.save(3, tmp_path / "x")


def test_inputs_are_not_overwritten(memory, tmp_path):
    saved = memory[1].save(tmp_path / "t.h5")
    for out in ({"out": saved.path}, {"network": saved.path, "method": "npe"}):
        with pytest.raises(UsageError, match="another file of this command"):
            physgen.infer(memory[2], saved, force=True, **out)


WRONG = {
    "no observations": lambda m, x: physgen.infer(m, None),
    "a number for x": lambda m, x: physgen.infer(m, 5),
    "a ragged list": lambda m, x: physgen.infer(m, [[1], [1, 2]]),
    "no model": lambda m, x: physgen.infer(None, x),
    "a pair for a model": lambda m, x: physgen.infer((m, {}), x),
    "data for a surrogate": lambda m, x: physgen.sample(physgen.Dataset(x), n=2),
    "a number for a family": lambda m, x: physgen.fit(5, physgen.Dataset(x)),
    "a number for rows": lambda m, x: physgen.infer(m, x, rows=2),
    "a pair for rows": lambda m, x: physgen.infer(m, x, rows=(0, 2)),
    "text for a number": lambda m, x: physgen.infer(m, x, samples="10"),
    "a part for a number": lambda m, x: physgen.sample(m, n=2.5),
    "per cent for a level": lambda m, x: physgen.infer(m, x).interval(90),
    "a misspelt option": lambda m, x: physgen.infer(m, x, metod="grid"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_arguments_get_one_line(what, memory):
    with pytest.raises(physgen.errors.PhysgenError) as caught:
        WRONG[what](memory[2], memory[1].x[:2])
    assert len(str(caught.value).splitlines()) == 1


class Changed(Mine):
    """A simulator that is not what its options say."""

    def __init__(self, noise=1.0):
        object.__setattr__(self, "noise", 2 * noise)


def test_an_object_that_its_options_do_not_make_again_is_refused(findable):
    with pytest.raises(UsageError, match=r"its noise is 0\.2, and one that is built"):
        physgen.simulate(Changed(0.1), n=3)
    other = Mine()
    object.__setattr__(other, "prior", Box(a=(0.0, 0.5)))
    with pytest.raises(UsageError, match="its prior is"):
        physgen.simulate(other, n=3)
