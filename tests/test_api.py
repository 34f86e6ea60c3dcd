"""The verbs on files: the whole way, and what is left after a kill, a NaN and a second call."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import physgen
import physgen.errors
from physgen.errors import (
    DataError,
    Interrupted,
    SimulatorFailed,
    TrainingDiverged,
    UsageError,
)
from physgen.nn.tensors import load_tensors, save_tensors
from physgen.verbs.resume import resume_path

TINY = {"channels": 5, "levels": 2, "stages": 3}


@pytest.fixture(scope="module")
def files(once):
    """A data set, a test set and a surrogate, small enough for seconds."""

    def make(folder):
        physgen.simulate("ising", out=folder / "train.h5", n=600, seed=1, size=4)
        physgen.simulate("ising", out=folder / "test.h5", n=130, seed=2, size=4)
        physgen.fit("cvae", folder / "train.h5", out=folder / "cvae.pt", epochs=12, **TINY)

    return once("api", make)


@pytest.mark.usefixtures("quick", "blank")
def test_the_whole_way(files, tmp_path):
    model, test = files / "cvae.pt", files / "test.h5"
    physgen.sample(model, out=tmp_path / "fake.h5", like=test)
    assert np.array_equal(physgen.read(tmp_path / "fake.h5").theta, physgen.read(test).theta)
    physgen.infer(
        model, test, out=tmp_path / "posterior.h5", rows=slice(0, 3), draws=3, samples=70
    )
    arrays, about = physgen.read_arrays(tmp_path / "posterior.h5", "posterior")
    assert arrays["theta"].shape == (3, 70, 1)
    assert arrays["theta"].dtype == np.float64
    assert arrays["log_prob"].shape == (3, 70)
    assert arrays["mean"].shape == arrays["sd"].shape == (3, 1)
    assert about["parameters"] == ["beta"]
    assert about["likelihood"] == "lower bound"
    assert about["resolved"] is True
    metrics = tmp_path / "metrics.json"
    physgen.validate(model, test, out=metrics, draws=3, observations=11)
    found = json.loads(metrics.read_text())
    assert {"per_dim", "floor_per_dim", "gap_per_dim", "gap_se", "gap_total", "by_theta"} <= set(
        found["nll"]
    )
    assert {"mean_error", "std_ratio", "tv", "observations"} <= set(found["posterior"])
    assert {"js", "js_null", "wasserstein"} <= set(found["observables"]["energy"])
    assert found["nll"]["gap_per_dim"] > 0
    physgen.report(metrics, out=tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "</html>" in page
    assert "cvae.pt" in page


@pytest.mark.usefixtures("quick", "blank")
def test_a_family_without_a_likelihood_draws_and_is_judged_and_does_not_infer(files, tmp_path):
    model, test = tmp_path / "gan.pt", files / "test.h5"
    physgen.fit("gan", files / "train.h5", out=model, epochs=1, channels=3, blocks=1)
    with pytest.raises(UsageError, match=r"gan has no likelihood; train an sbi method.* sample"):
        physgen.infer(model, test, out=tmp_path / "p.h5")
    assert not (tmp_path / "p.h5").exists()
    physgen.sample(model, out=tmp_path / "sims.h5", n=11)
    assert len(physgen.read(tmp_path / "sims.h5").x) == 11
    physgen.validate(model, test, out=tmp_path / "m.json")
    found = json.loads((tmp_path / "m.json").read_text())
    assert found["nll"] is found["posterior"] is None
    assert set(found["two_sample"]["js"]) == {"value", "se", "null", "control"}
    page = physgen.report(tmp_path / "m.json", out=tmp_path / "report.html").path.read_text()
    assert "JS divergence" in page


def test_iid_rows_are_one_observation(files, tmp_path):
    for iid in (False, True):
        physgen.infer(
            files / "cvae.pt", files / "test.h5", out=tmp_path / f"{iid}.h5", rows=slice(0, 7),
            iid=iid, draws=3, samples=11,
        )  # fmt: skip
    single = physgen.read_arrays(tmp_path / "False.h5", "posterior")[0]
    together = physgen.read_arrays(tmp_path / "True.h5", "posterior")[0]
    assert single["theta"].shape == (7, 11, 1)
    assert together["theta"].shape == (1, 11, 1)
    assert together["sd"][0, 0] < single["sd"].min()


def test_observations_need_only_x(files, tmp_path):
    import h5py

    with h5py.File(tmp_path / "observed.h5", "w") as file:
        file["x"] = physgen.read(files / "test.h5").x[:2]
    physgen.infer(files / "cvae.pt", tmp_path / "observed.h5", out=tmp_path / "p.h5", draws=2)
    with h5py.File(tmp_path / "wrong.h5", "w") as file:
        file["x"] = np.ones((2, 3, 3), np.int8)
    with pytest.raises(DataError, match=r"expected \(n, 4, 4\) or one x \(4, 4\), got"):
        physgen.infer(files / "cvae.pt", tmp_path / "wrong.h5", out=tmp_path / "q.h5", draws=2)


def test_sampling_is_a_function_of_the_seed(files, tmp_path):
    def x(name, seed):
        physgen.sample(
            files / "cvae.pt", out=tmp_path / name, n=50, theta={"beta": 0.44}, seed=seed
        )
        return physgen.read(tmp_path / name).x

    assert np.array_equal(x("a.h5", 1), x("b.h5", 1))
    assert not np.array_equal(x("c.h5", 2), x("d.h5", 1))


@pytest.mark.parametrize(
    ("options", "piece"),
    [
        ({}, "either -n or --like"),
        ({"n": 3, "theta": {"b": 0.4}}, "expected beta"),
    ],
)
def test_sample_refuses(options, piece, files, tmp_path):
    with pytest.raises(UsageError, match=piece):
        physgen.sample(files / "cvae.pt", out=tmp_path / "x.h5", **options)


def test_theta_outside_the_prior_is_refused(files, tmp_path):
    with pytest.raises(DataError, match="outside the prior"):
        physgen.sample(files / "cvae.pt", out=tmp_path / "x.h5", n=3, theta={"beta": 0.9})
    assert not (tmp_path / "x.h5").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.9])
def test_no_x_is_drawn_at_theta_outside_of_the_prior(value, files, tmp_path, monkeypatch):
    monkeypatch.setattr("physgen.surrogates.cvae.CVAE._sample", None)
    with pytest.raises(DataError, match="outside the prior, beta="):
        physgen.sample(files / "cvae.pt", out=tmp_path / "x.h5", n=3, theta={"beta": value})


def test_theta_that_is_no_number_is_refused(files):
    model, _ = physgen.load(files / "cvae.pt")
    with pytest.raises(DataError, match="theta: expected finite numbers"):
        model.sample(np.array([[0.4], [np.nan]]))


def test_verify_tells_a_surrogate_from_the_law(files, tmp_path):
    assert physgen.inspect(files / "test.h5", verify=True).fault == ""
    physgen.sample(files / "cvae.pt", out=tmp_path / "fake.h5", n=600)
    assert "does not follow its law" in physgen.inspect(tmp_path / "fake.h5", verify=True).fault


KILLED = {"epochs": 6, **TINY}


def fit_in_a_process(folder, out):
    call = ["fit", "cvae", str(folder / "train.h5"), "-o", str(out)]
    for name, value in KILLED.items():
        call += [f"--{name}", str(value)]
    code = f"import torch; torch.set_num_threads(1)\nfrom physgen.cli import main; main({call!r})"
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)


def wait_for(path: Path, process, seconds=60):
    end = time.monotonic() + seconds
    while not path.exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)


@pytest.fixture(scope="module")
def whole(files, tmp_path_factory):
    """The checkpoint of a training that was not interrupted."""
    out = tmp_path_factory.mktemp("whole") / "whole.pt"
    physgen.fit("cvae", files / "train.h5", out=out, **KILLED)
    return out


def goes_on(whole, files, out):
    """Without --resume it is refused; with it, it ends as the uninterrupted one did."""
    assert not out.exists()
    with pytest.raises(UsageError, match="--resume"):
        physgen.fit("cvae", files / "train.h5", out=out, **KILLED)
    physgen.fit("cvae", files / "train.h5", out=out, resume=True, **KILLED)
    assert not resume_path(out).exists()
    a, b = (physgen.load(p)[0].state_dict() for p in (whole, out))
    assert all(a[k].equal(b[k]) for k in a)
    history = [json.loads(line) for line in Path(f"{out}.jsonl").read_text().splitlines()]
    assert [e["epoch"] for e in history] == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
@pytest.mark.parametrize(
    "signum", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_killed_training_goes_on_to_the_same_weights(signum, whole, files, tmp_path):
    killed = tmp_path / "killed.pt"
    process = fit_in_a_process(files, killed)
    wait_for(resume_path(killed), process)
    process.send_signal(signum)
    assert process.wait() == (-9 if signum == signal.SIGKILL else 143)
    goes_on(whole, files, killed)


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_training_that_is_told_to_stop_does_so_and_goes_on(
    signum, code, whole, files, tmp_path, monkeypatch
):
    from physgen.training import Trainer

    state, epochs = Trainer.state, []

    def told(trainer):
        epochs.append(len(trainer.history))
        if len(epochs) == 2:
            signal.raise_signal(signum)
        return state(trainer)

    stopped = tmp_path / "stopped.pt"
    monkeypatch.setattr(Trainer, "state", told)
    with pytest.raises(Interrupted, match="--resume") as caught:
        physgen.fit("cvae", files / "train.h5", out=stopped, **KILLED)
    monkeypatch.undo()
    assert caught.value.exit_code == code
    assert epochs == [1, 2]
    goes_on(whole, files, stopped)


def stopped(*args):
    raise KeyboardInterrupt


def test_another_training_is_not_resumed(files, tmp_path, monkeypatch):
    out = tmp_path / "x.pt"
    with monkeypatch.context() as patch:
        patch.setattr("physgen.verbs.fitting.save_surrogate", stopped)
        with pytest.raises(KeyboardInterrupt):
            physgen.fit("cvae", files / "train.h5", out=out, epochs=1, **TINY)
    with pytest.raises(UsageError, match="learning_rate"):
        physgen.fit("cvae", files / "train.h5", out=out, resume=True, learning_rate=0.1, **TINY)


def test_a_training_from_before_there_was_a_precision_goes_on(files, tmp_path, monkeypatch):
    out = tmp_path / "x.pt"
    with monkeypatch.context() as patch:
        patch.setattr("physgen.verbs.fitting.save_surrogate", stopped)
        with pytest.raises(KeyboardInterrupt):
            physgen.fit("cvae", files / "train.h5", out=out, epochs=1, **TINY)
    state = out.with_name("x.pt.resume")
    tensors, info = load_tensors(state)
    del info["training"]["precision"]
    save_tensors(state, tensors, info)
    with pytest.raises(UsageError, match="precision"):
        physgen.fit("cvae", files / "train.h5", out=out, resume=True, precision="bf16", **TINY)
    went_on = physgen.fit("cvae", files / "train.h5", out=out, epochs=2, resume=True, **TINY)
    assert len(went_on.info["history"]) == 2


def test_divergence_keeps_the_last_good_checkpoint(files, tmp_path):
    out = tmp_path / "x.pt"
    with pytest.raises(TrainingDiverged, match="learning rate below"):
        physgen.fit(
            "cvae", files / "train.h5", out=out, learning_rate=1e30, clip=1e30, warm_up_steps=0,
            **TINY,
        )  # fmt: skip
    assert not out.exists() or physgen.load(out)


def test_a_checkpoint_of_another_law_is_refused(files, tmp_path):
    physgen.simulate("ising", out=tmp_path / "big.h5", n=11, seed=1, size=6)
    with pytest.raises(UsageError, match=r"trained on x of shape \(4, 4\)"):
        physgen.validate(files / "cvae.pt", tmp_path / "big.h5", out=tmp_path / "m.json")
    physgen.simulate("gaussian", out=tmp_path / "other.h5", n=11, seed=1)
    with pytest.raises(DataError, match="expected shape"):
        physgen.validate(files / "cvae.pt", tmp_path / "other.h5", out=tmp_path / "m.json")


@pytest.mark.usefixtures("quick")
def test_truth_of_a_simulator_outside_the_registry_needs_the_callers_word(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "from simulators.gaussian import LinearGaussian\nclass Mine(LinearGaussian): pass\n"
    )
    physgen.simulate("mine:Mine", out=Path("mine.h5"), n=300, size=3, parameters=1)
    physgen.fit("cvae", Path("mine.h5"), out=Path("mine.pt"), epochs=1, **TINY)
    physgen.validate(
        Path("mine.pt"), Path("mine.h5"), out=Path("no.json"), draws=2, observations=5
    )
    assert json.loads(Path("no.json").read_text())["nll"]["gap_per_dim"] is None
    physgen.validate(
        Path("mine.pt"), Path("mine.h5"), out=Path("yes.json"), draws=2, observations=5,
        simulator="mine:Mine",
    )  # fmt: skip
    assert json.loads(Path("yes.json").read_text())["nll"]["gap_per_dim"] > 0
    with pytest.raises(UsageError, match="expected mine:Mine"):
        physgen.validate(Path("mine.pt"), Path("mine.h5"), out=Path("x.json"), simulator="ising")
    sys.modules.pop("mine")


def test_demo_goes_on_and_does_not_touch_what_is_not_its_own(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="another folder"):
        physgen.demo(out=tmp_path / "mine", force=True)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"


def test_text_does_for_paths_and_bad_outputs_are_refused_before_work(files, tmp_path, monkeypatch):
    monkeypatch.chdir(files)
    physgen.infer("cvae.pt", "test.h5", out=str(tmp_path / "p.h5"), rows=slice(0, 2), draws=2)
    assert physgen.inspect(str(tmp_path / "p.h5")).data["schema"] == "physgen/posterior/1"
    for out, piece in (
        ("none/p.h5", "no folder none"),
        ("test.h5", "is another file of this command"),
    ):
        with pytest.raises(physgen.errors.PhysgenError, match=piece):
            physgen.infer("cvae.pt", "test.h5", out=out, force=True)


def test_rows_beyond_the_file_are_refused(files, tmp_path):
    with pytest.raises(UsageError, match="up to 131, got 130"):
        physgen.infer(
            files / "cvae.pt", files / "test.h5", out=tmp_path / "p.h5", rows=slice(0, 131)
        )


@pytest.mark.usefixtures("quick", "blank")
def test_a_report_without_exact_truth(files, tmp_path, monkeypatch):
    """What a simulator of one's own without log_prob gets."""
    monkeypatch.setattr("physgen.law.Law.build_if_known", lambda law, trusted=None: None)
    metrics, page = tmp_path / "m.json", tmp_path / "r.html"
    physgen.validate(files / "cvae.pt", files / "test.h5", out=metrics, draws=2, observations=5)
    physgen.report(metrics, out=page)
    assert "</html>" in page.read_text()


def test_what_a_users_code_raises_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("bad.py").write_text(
        "from simulators import Box\n"
        "class Raises:\n"
        "    prior, x_shape = Box(a=(0.0, 1.0)), (2,)\n"
        "    def sample(self, theta, rng): raise RuntimeError('solver diverged')\n"
        "class Observes(Raises):\n"
        "    def observables(self): ...\n"
    )
    Path("syntax.py").write_text("def\n")
    for name, piece in (
        ("bad:Raises", "RuntimeError: solver diverged"),
        ("bad:Observes", "expected a mapping"),
        ("syntax:X", "SyntaxError"),
    ):
        with pytest.raises((UsageError, SimulatorFailed), match=piece):
            physgen.simulate(name, out="x.h5", n=3)
    assert not Path("x.h5").exists()
    sys.modules.pop("bad")


@pytest.mark.usefixtures("quick", "blank")
@pytest.mark.slow
def test_demo_from_end_to_end_and_again(tmp_path):
    call = {"out": str(tmp_path / "demo"), "size": 4, "n": 120, "minutes": 0.02}
    first = physgen.demo(**call)
    assert first.path.name == "report.html"
    assert [line[:2] for line in first.summary.splitlines()] == ["1.", "2.", "3.", "re"]
    before = first.path.stat().st_mtime_ns
    assert physgen.demo(**call).path.stat().st_mtime_ns == before
    with pytest.raises(UsageError, match="these settings"):
        physgen.demo(**call | {"n": 121})


def test_tensorboard_is_told_of_each_epoch(files, tmp_path):
    pytest.importorskip("tensorboard")
    out = tmp_path / "x.pt"
    physgen.fit(
        "cvae", files / "train.h5", out=out, epochs=1, tensorboard=tmp_path / "log", **TINY
    )
    assert list((tmp_path / "log").glob("events.*"))


@pytest.mark.slow
def test_a_diffusion_model_draws_and_scores_in_every_way_it_has(files, tmp_path):
    model, small = tmp_path / "d.pt", {"network": "small", "epochs": 1}
    physgen.fit("diffusion", files / "train.h5", out=model, kernel="gaussian", **small)
    drawn = {}
    for name, ways in {
        "few": {"steps": 4},
        "many": {"steps": 9},
        "heun": {"steps": 9, "sampler": "heun"},
        "ddim": {"steps": 9, "sampler": "ddim", "eta": 0.5},
    }.items():
        out = tmp_path / f"{name}.h5"
        physgen.sample(model, out=out, n=20, seed=3, **ways)
        drawn[name] = physgen.read(out).x.tobytes()
    assert len(set(drawn.values())) == 4
    means = set()
    for ways in ({}, {"estimator": "path", "steps": 5}, {"symmetrise": True}):
        out = tmp_path / f"posterior-{len(means)}.h5"
        physgen.infer(model, files / "test.h5", out=out, rows=slice(0, 2), draws=8, **ways)
        arrays, about = physgen.read_arrays(out, "posterior")
        means.add(arrays["mean"].tobytes())
    assert len(means) == 3
    assert about["likelihood"] == "lower bound"
    with pytest.raises(UsageError, match=r"expected one of .*heun"):
        physgen.sample(model, out=tmp_path / "x.h5", n=2, sampler="milstein")
    with pytest.raises(UsageError, match="cvae: no option 'steps'"):
        physgen.sample(files / "cvae.pt", out=tmp_path / "x.h5", n=2, steps=3)


@pytest.mark.slow
def test_a_convolutional_family_moves_to_another_size(files, tmp_path, caplog):
    model = tmp_path / "d.pt"
    physgen.fit("diffusion", files / "train.h5", out=model, network="small", epochs=1)
    physgen.simulate("ising", out=tmp_path / "big.h5", n=60, seed=1, size=6)
    physgen.sample(model, out=tmp_path / "fake.h5", n=5, at={"size": 6})
    fake = physgen.read(tmp_path / "fake.h5")
    assert fake.x.shape == (5, 6, 6)
    assert fake.meta.law.options["size"] == 6
    physgen.sample(model, out=tmp_path / "like.h5", like=tmp_path / "big.h5")
    assert physgen.read(tmp_path / "like.h5").x.shape == (60, 6, 6)
    with caplog.at_level("INFO", logger="physgen"):
        physgen.infer(model, tmp_path / "big.h5", out=tmp_path / "p.h5", rows=slice(0, 2))
    assert "trained on x of shape (4, 4)" in caplog.text
    tuned = tmp_path / "tuned.pt"
    physgen.fit("diffusion", tmp_path / "big.h5", out=tuned, from_=model, epochs=1)
    after, info = physgen.load(tuned)
    assert after.law.x_shape == (6, 6)
    assert after.config.network == "small"
    assert "--from" in info["provenance"]["command"]
    for family, options, message in (
        ("cvae", {}, "expected a checkpoint of cvae, got diffusion"),
        ("diffusion", {"network": "medium"}, "do not fit x of shape"),
    ):
        with pytest.raises(UsageError, match=message):
            physgen.fit(family, tmp_path / "big.h5", out=tmp_path / "n.pt", from_=model, **options)


@pytest.mark.slow
def test_starting_from_a_checkpoint_starts_at_its_loss(files, tmp_path):
    first, again, fresh = (tmp_path / f"{name}.pt" for name in ("first", "again", "fresh"))
    data = files / "train.h5"
    physgen.fit("diffusion", data, out=first, epochs=8, network="small")
    slow = {"epochs": 1, "learning_rate": 1e-9}
    physgen.fit("diffusion", data, out=again, from_=first, **slow)
    physgen.fit("diffusion", data, out=fresh, network="small", **slow)
    ends = [physgen.load(p)[1]["history"][-1]["val"] for p in (first, again, fresh)]
    assert ends[1] == pytest.approx(ends[0], rel=0.02)
    assert ends[2] > 1.05 * ends[0]


@pytest.mark.usefixtures("quick", "blank")
@pytest.mark.slow
def test_a_sweep_compares_samplers_in_the_report(files, tmp_path):
    model, metrics, page = (tmp_path / name for name in ("d.pt", "m.json", "r.html"))
    physgen.fit(
        "diffusion", files / "train.h5", out=model, kernel="gaussian", network="small", epochs=1
    )
    few = {"rows": slice(0, 12), "draws": 4, "observations": 3}
    physgen.validate(model, files / "test.h5", out=metrics, sweep=True, **few)
    ways = json.loads(metrics.read_text())["sweep"]
    assert {w["sampler"] for w in ways} == {
        "ancestral", "ddim", "euler", "euler-maruyama", "heun", "dpm-solver",
    }  # fmt: skip
    assert {w["evaluations"] for w in ways} == {8, 16, 32, 64, 128}
    assert all(0 <= w["observables"]["energy"]["js"] <= 0.84 for w in ways)
    physgen.report(metrics, out=page)
    assert "Samplers" in page.read_text()
