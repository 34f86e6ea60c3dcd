"""Posteriors by blocks of rows: the same wherever they are made, and in little memory."""

import hashlib
import json
import logging
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
import torch

import physgen
from physgen.checks.calibration.posteriors import posteriors_of
from physgen.checks.calibration.run import calibration
from physgen.checks.calibration.target import target_of
from physgen.checks.calibration.verdicts import CHECKS
from physgen.checks.validation import _Comparison, _nll, _posterior, validation
from physgen.errors import DataError, Interrupted, UsageError
from physgen.law import Law
from physgen.posterior import blocks, methods
from physgen.posterior.blocks import infer_posteriors
from physgen.posterior.methods import InferenceOptions, Source
from physgen.runtime import blocks as tasks
from physgen.runtime.blocks import all_blocks
from physgen.runtime.engine import Engine
from physgen.sbi.networks import train
from physgen.surrogates.autoregressive import Autoregressive, AutoregressiveConfig
from physgen.surrogates.base import Likelihood, Surrogate
from simulators.gaussian import LinearGaussian

SIMULATOR = LinearGaussian(size=3, parameters=2)
LAW = Law.of("gaussian", {"size": 3, "parameters": 2})
ROWS, BLOCK = 5, 2
NETWORKS = ("direct", "refine", "density")
DEAR = ("mcmc", "nested", "vi", "rejection")


@dataclass(frozen=True)
class Nothing:
    """No options."""


class Noisy(Surrogate):
    """The law itself, but for noise in log p that belongs to rows."""

    name = "noisy"
    likelihood = Likelihood.ESTIMATE
    Config = Nothing

    def __init__(self, law, config):
        super().__init__(law, config)
        self.simulator = LinearGaussian(**law.options)
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def _loss(self, c, z, generator, progress):
        raise NotImplementedError

    def _sample(self, c, generator):
        mean = torch.as_tensor(self.simulator.mean(2 * c.double().numpy())).float()
        return mean + self.simulator.noise * torch.randn(mean.shape, generator=generator)

    def _log_prob(self, c, z, noise, draws):
        value = self.simulator.log_prob(2 * c.double().numpy(), z.double().numpy())
        off = noise.normal(draws, 2).double().mean(1)
        value = torch.where(z.abs().amax(1) < 1e20, torch.as_tensor(value), torch.nan)
        return value + 0.3 * (off * c).sum(1), torch.zeros(len(c))


class Backwards(Engine):
    """Runs the last block first, each in a copy of the task, as other processes do."""

    def each(self, task, items, check=lambda: None, **told):
        load = cloudpickle.dumps(task)
        for i in reversed(range(len(items))):
            check()
            yield i, pickle.loads(pickle.dumps(pickle.loads(load)(items[i])))


@pytest.fixture(scope="module")
def model():
    return Noisy.create(LAW, Nothing()).eval()


@pytest.fixture(scope="module")
def network():
    rng = np.random.default_rng(5)
    theta = LAW.prior.sample(400, rng)
    x = SIMULATOR.sample(theta, rng).astype(np.float32)
    return train("npe", LAW, theta, x, epochs=2, seed=1)


@pytest.fixture
def two_a_block(monkeypatch):
    monkeypatch.setattr(blocks, "ROWS", {})
    monkeypatch.setattr(blocks, "FEW", BLOCK)


def observed(n=ROWS):
    rng = np.random.default_rng(3)
    return SIMULATOR.sample(LAW.prior.sample(n, rng), rng).astype(np.float32)


def inference_by(method, model, network):
    options = InferenceOptions(method, LAW.prior, samples=40, seed=4)
    source = Source(Path("model.pt"), LAW, {}, surrogate=model)
    if method in NETWORKS:
        options = replace(options, method="npe", direct=method == "direct")
        source = Source(Path("net.pt"), LAW, {}, network=network)
    if method == "refine":
        options = replace(options, method=methods.IMPORTANCE, refine=network)
        source = Source(Path("model.pt"), LAW, {}, surrogate=model)
    if method == "abc":
        options = replace(options, simulations=600)
    return methods.inference_of(source, options)


def numbers(block, rows=slice(None)):
    every = {**block.arrays, **block.told, **block.grids}
    return {name: np.ascontiguousarray(values[rows]).tobytes() for name, values in every.items()}


METHODS = [
    *("grid", "abc", *NETWORKS),
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("smc", *DEAR)),
]


@pytest.mark.slow
@pytest.mark.usefixtures("two_a_block")
@pytest.mark.parametrize("method", METHODS)
def test_posteriors_are_the_same_whatever_runs_their_blocks(method, model, network, monkeypatch):
    monkeypatch.setattr("physgen.posterior.nested.LIVE", 300)
    monkeypatch.setattr("physgen.posterior.nested.EFFECTIVE", 400)
    inference = inference_by(method, model, network)
    told = []
    every = infer_posteriors(inference, observed(), progress=told.append)
    assert told[-1] == ROWS
    back = infer_posteriors(inference, observed(), Backwards())
    assert numbers(back) == numbers(every)
    some = infer_posteriors(inference, observed()[:BLOCK])
    alone, among = numbers(some), numbers(every, slice(BLOCK))
    for name in set(alone) - {"grid_nodes", "grid_values"}:  # as wide as the widest needs them
        assert alone[name] == among[name], name
    theta = every.arrays["theta"]
    assert len({row.tobytes() for row in theta}) == ROWS, "each has draws of its own"
    other = replace(inference, options=replace(inference.options, seed=5))
    changed = infer_posteriors(other, observed()[:BLOCK]).arrays["theta"]
    assert changed.tobytes() != theta[:BLOCK].tobytes() or method == "abc"


@pytest.mark.usefixtures("two_a_block")
@pytest.mark.parametrize("method", ["grid", "direct", pytest.param("smc", marks=pytest.mark.slow)])
def test_a_posterior_does_not_depend_on_the_size_of_blocks(method, model, network, monkeypatch):
    inference = inference_by(method, model, network)
    pairs = infer_posteriors(inference, observed())
    monkeypatch.setattr(blocks, "FEW", 3)
    threes = infer_posteriors(inference, observed())
    for name in ("mean", "sd"):
        np.testing.assert_allclose(threes.arrays[name], pairs.arrays[name], rtol=1e-5)
    moved = infer_posteriors(inference, np.roll(observed(), 1, 0))
    assert abs(moved.arrays["mean"] - pairs.arrays["mean"]).max() > 0.01, "a control"


@pytest.mark.usefixtures("two_a_block")
def test_what_is_kept_answers_as_the_posterior_itself(model, network, monkeypatch):
    """Draws and grids of the file, and beyond a size of these the model's own log p."""
    inference, x = inference_by("grid", model, network), observed()
    whole = inference.posteriors(x)[0]
    theta = LAW.prior.sample(30, np.random.default_rng(0)).reshape(1, 30, 2).repeat(ROWS, 0)
    kept = physgen.infer(model, x, samples=40, seed=4)
    np.testing.assert_allclose(kept.mean, whole.mean, rtol=1e-9)
    np.testing.assert_allclose(kept.interval(0.9), whole.interval(0.9), atol=1e-9)
    likely = whole.log_prob(theta) > -8
    np.testing.assert_allclose(kept.log_prob(theta)[likely], whole.log_prob(theta)[likely])
    monkeypatch.setattr(blocks, "KEPT", 10_000)
    bare = physgen.infer(model, x, samples=40, seed=4)
    assert "grid_nodes" in kept.arrays
    assert "grid_nodes" not in bare.arrays
    np.testing.assert_array_equal(bare.theta, kept.theta)
    np.testing.assert_allclose(
        bare.log_prob(theta)[likely], whole.log_prob(theta)[likely], atol=0.05
    )


@pytest.mark.usefixtures("two_a_block")
def test_an_observation_without_a_posterior_is_named_by_its_row(model):
    x = observed()
    x[3] = 1e30
    with pytest.raises(DataError, match="observation 3: "):
        physgen.infer(model, x)


def digests(folder, **where):
    """Of the files that three verbs write, but for their times."""
    folder.mkdir()
    data = physgen.simulate("gaussian", n=120, size=3, seed=2)
    model = Autoregressive.create(data.law, AutoregressiveConfig(hidden=8), seed=1)
    model.fit_transform(torch.as_tensor(data.x))
    model.eval()
    how = {"method": "grid", "seed": 3, "samples": 20}
    found = physgen.infer(model, data, out=folder / "p.h5", rows=slice(0, 70), **how, **where)
    about = {k: v for k, v in found.about.items() if k != "provenance"}
    told = [hashlib.sha256(v.tobytes()).hexdigest() for v in found.arrays.values()]
    scores = [physgen.calibrate(model, data, rows=slice(0, 110), samples=3, seed=1, **where)]
    scores += [physgen.validate(model, data, observations=30, seed=1, **where)]
    timed = ("seconds", "cpu_seconds", "provenance", "content_sha256")
    plain = [{k: v for k, v in s.data.items() if k not in timed} for s in scores]
    return json.dumps([about, told, plain], default=str)


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    return digests(tmp_path_factory.mktemp("here") / "one")


@pytest.mark.slow
def test_two_workers_make_what_one_process_makes(tmp_path, here):
    assert digests(tmp_path / "two", workers=2) == here
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        assert digests(tmp_path / "pool", executor=pool) == here


@pytest.mark.slow
def test_a_cluster_of_dask_makes_what_one_process_makes(tmp_path, here):
    pytest.importorskip("dask")
    from distributed import Client, LocalCluster

    how = {"dashboard_address": None, "memory_limit": 0, "silence_logs": logging.CRITICAL}
    with LocalCluster(2, threads_per_worker=1, **how) as workers, Client(workers) as client:
        assert digests(tmp_path / "dask", executor=client.get_executor()) == here


def drawn_rows(n=24):
    rng = np.random.default_rng(1)
    theta = LAW.prior.sample(n, rng)
    return theta, SIMULATOR.sample(theta, rng).astype(np.float32)


@pytest.mark.slow
def test_what_checks_keep_of_posteriors_is_the_same_whatever_runs_their_blocks(model, monkeypatch):
    monkeypatch.setattr("physgen.checks.calibration.posteriors.ROWS", 9)
    theta, x = drawn_rows()

    def kept(seed, engine=None):
        how = {"checks": CHECKS, "controls": True, "samples": 2, "seed": seed, "engine": engine}
        return posteriors_of(target_of(model), theta, x, LAW.prior, **how)

    here, there, other = kept(0), kept(0, Backwards()), kept(1)
    for name in ("mean", "sd", "correlation", "draws", "log_p", "gain"):
        np.testing.assert_array_equal(getattr(there, name), getattr(here, name))
    for name, ranks in here.ranks.items():
        for check, values in ranks.items():
            np.testing.assert_array_equal(there.ranks[name][check], values)
    assert abs(other.draws - here.draws).max() > 0.01


def test_posteriors_are_compared_the_same_whatever_runs_their_blocks(model, monkeypatch):
    monkeypatch.setattr("physgen.checks.validation.SCORED", 8)
    monkeypatch.setattr("physgen.checks.validation.COMPARED", 4)
    theta, x = drawn_rows()
    comparison = _Comparison(model, SIMULATOR, 1, 0)

    def both(engine):
        each = partial(all_blocks, engine)
        scored = _nll(model, theta, x, SIMULATOR.log_prob, 1, 0, each)
        return str([scored, _posterior(comparison, theta, x, 10, each)])

    assert both(Backwards()) == both(None)


@pytest.mark.slow
@pytest.mark.usefixtures("two_a_block")
def test_checks_are_the_same_whatever_runs_their_blocks(model, monkeypatch):
    monkeypatch.setattr("physgen.checks.calibration.lc2st.TRIALS", 2)
    monkeypatch.setattr("physgen.checks.calibration.posteriors.ROWS", 9)
    monkeypatch.setattr("physgen.checks.validation.SCORED", 16)
    monkeypatch.setattr("physgen.checks.validation.COMPARED", 4)
    theta, x = drawn_rows()

    def both(engine):
        judged = calibration(model, theta, x, LAW.prior, samples=2, engine=engine)
        compared = validation(model, theta, x, SIMULATOR, observations=10, engine=engine)
        timed = ("seconds", "cpu_seconds")
        return [{k: v for k, v in s.items() if k not in timed} for s in (judged, compared)]

    assert both(Backwards()) == both(None)


GROWTH = """
import sys
from pathlib import Path
import numpy as np
sys.path[:0] = [{tests!r}]
from test_blocks import LAW, Noisy, Nothing, observed
import physgen

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

model = Noisy.create(LAW, Nothing()).eval()
physgen.infer(model, observed(70), samples=100)
before = peak()
physgen.infer(model, observed(420), samples=100, out={out!r})
print(peak() - before)
"""


@pytest.mark.slow
def test_memory_does_not_grow_by_a_fine_grid_an_observation(tmp_path):
    """It was 0.9 MiB each, 330 MiB here; what is kept of all is 4 MiB."""
    code = GROWTH.format(tests=str(Path(__file__).parent), out=str(tmp_path / "p.h5"))
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert float(found.stdout) < 60


@pytest.mark.parametrize(
    ("location", "device", "asked"),
    [
        ("cpu", "", "cpu"),
        ("cuda:1", "", "cuda"),
        ("cpu", "cuda", "cuda"),
        ("cuda:0", "cpu", "cpu"),
    ],
)
def test_tensors_go_to_the_worker_s_own_device(monkeypatch, location, device, asked):
    names = []

    def device_of(name, number):
        names.append((name, number))
        return torch.device("cpu")

    monkeypatch.setattr(tasks, "device_of_worker", device_of)
    monkeypatch.setattr("torch.serialization.location_tag", lambda storage: location)
    make, arguments = tasks.sent_with(lambda *made: made, torch.ones(3), 7, device=device)
    numbers, seven = make(*arguments)
    assert (numbers.tolist(), seven) == ([1, 1, 1], 7)
    assert names == [(asked, tasks.worker_number())]


@pytest.mark.usefixtures("two_a_block")
def test_an_interrupted_inference_goes_on_from_its_finished_blocks(model, tmp_path, monkeypatch):
    found, x, out = [], observed(7), tmp_path / "p.h5"
    make = blocks.BlockTask.__call__
    whole = physgen.infer(model, x, samples=40, seed=4)

    def watched(self, rows):
        if len(found) == most:
            raise Interrupted
        found.append(rows.number)
        return make(self, rows)

    def inferred(seed=4, **options):
        found.clear()
        return physgen.infer(model, x, out=out, samples=40, seed=seed, **options)

    monkeypatch.setattr(blocks.BlockTask, "__call__", watched)
    most = 2
    with pytest.raises(Interrupted):
        inferred()
    assert [p.name for p in tmp_path.iterdir()] == ["p.h5.blocks"]
    kept = sorted((tmp_path / "p.h5.blocks").glob("*.h5"))
    assert [p.name for p in kept] == ["0.h5", "2.h5"]
    most = 9
    with pytest.raises(UsageError, match="interrupted inference; add --resume, or --force"):
        inferred()
    with pytest.raises(UsageError, match="differs in seed"):
        inferred(seed=5, resume=True)
    with monkeypatch.context() as other:
        other.setattr("physgen.runtime.worker.sources", lambda: "of another version")
        with pytest.raises(UsageError, match="differs in version"):
            inferred(resume=True)
    bytes_before = kept[0].read_bytes()
    kept[0].write_bytes(bytes_before[:-9] + bytes(9))
    with pytest.raises(DataError, match=r"0\.h5"):
        inferred(resume=True)
    kept[0].write_bytes(bytes_before)
    posterior = inferred(resume=True)
    assert found == [4, 6]
    assert list(posterior.arrays) == list(whole.arrays)
    for name, values in whole.arrays.items():
        np.testing.assert_array_equal(posterior.arrays[name], values)
    assert {p.name for p in tmp_path.iterdir()} == {"p.h5", "p.h5.sha256"}
    with pytest.raises(UsageError, match="nothing to resume"):
        inferred(resume=True, force=True)
    most = 1
    with pytest.raises(Interrupted):
        inferred(force=True)
    most = 9
    inferred(force=True)
    assert found == [0, 2, 4, 6]  # the control: what is dropped is made again
    with pytest.raises(UsageError, match="nothing is kept"):
        inferred(iid=True, resume=True, force=True)


@pytest.mark.usefixtures("two_a_block")
def test_blocks_of_other_simulations_are_not_gone_on_with(model, tmp_path, monkeypatch):
    make = blocks.BlockTask.__call__

    def until_four(self, rows):
        if rows.number == 4:
            raise Interrupted
        return make(self, rows)

    def inferred(simulations, **options):
        options |= {"out": tmp_path / "p.h5", "method": "abc", "samples": 9}
        return physgen.infer(model, observed(7), simulations=simulations, **options)

    monkeypatch.setattr(blocks.BlockTask, "__call__", until_four)
    with pytest.raises(Interrupted):
        inferred(600)
    with pytest.raises(UsageError, match="differs in simulations"):
        inferred(700, resume=True)
    monkeypatch.setattr(blocks.BlockTask, "__call__", make)
    assert len(inferred(600, resume=True)) == 7
