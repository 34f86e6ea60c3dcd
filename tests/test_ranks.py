"""Training on several processes: one as alone, several as one, and all end together.

Two ranks are two threads here, which meet as processes do; torchrun itself is in the slow tests.
"""

import copy
import math
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributed import HashStore

import physgen
from physgen.errors import Interrupted, PhysgenError, RankLost, TrainingDiverged, UsageError
from physgen.law import Law
from physgen.nn.tensors import load_tensors
from physgen.registry import find
from physgen.runtime.interrupt import Stop
from physgen.runtime.ranks import ALONE, Ranks
from physgen.training import InMemory, Trainer, Training

ISING, NORMAL = Law.of("ising", {"size": 4}), Law.of("gaussian", {"size": 3})
FAMILIES = {
    "autoregressive": (ISING, {"hidden": 16}),
    "cvae": (ISING, {"channels": 5, "levels": 2, "stages": 3}),
    "diffusion": (ISING, {"timesteps": 5}),
    "flow": (NORMAL, {"hidden": 16}),
    "gan": (NORMAL, {"channels": 8, "critic_steps": 2}),
    "rbm": (ISING, {"chains": 24, "hidden": 3, "filter_size": 3}),
}


def rows(law, n, seed=0):
    rng = np.random.default_rng(seed)
    theta = law.prior.sample(n, rng)
    x = torch.from_numpy(law.build().sample(theta, rng))
    return torch.from_numpy(theta), x.float() if law.support == "reals" else x


def surrogate(family, seed=0):
    law, options = FAMILIES[family]
    cls = find("surrogates", family)
    made = cls.create(law, cls.Config(**options), seed)
    made.fit_transform(*reversed(rows(law, 60)))
    return made


def trainer(model, ranks=ALONE, n=50, **how):
    law, how = model.law, {"epochs": 2, "batch_size": 16, "warm_up_steps": 3} | how
    data = InMemory(*rows(law, n)), InMemory(*rows(law, 21, 1))
    return Trainer(copy.deepcopy(model), *data, Training(**how), 7, some=data[0], ranks=ranks)


def in_ranks(work, world=2, timeout=20.0):
    """What `work(ranks)` returns, or raises, in each of some ranks."""
    store = HashStore()

    def run(rank):
        ranks = Ranks(rank, world, store, timedelta(seconds=timeout))
        try:
            return work(ranks)
        except BaseException as error:
            return ranks.leave(error)

    with ThreadPoolExecutor(world) as pool:
        return list(pool.map(run, range(world)))


def trained(model, ranks=ALONE, **how):
    run = trainer(model, ranks, **how)
    list(run)
    return run


def state(run):
    models = (run.surrogate, run.live, run.average)
    return [w for model in models for w in model.state_dict().values()]


def losses(run):
    return [(e.train, e.val, e.seen, e.lr, e.best) for e in run.history]


def same(one, other):
    return losses(one) == losses(other) and all(
        torch.equal(a, b) for a, b in zip(state(one), state(other), strict=True)
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_one_rank_trains_as_without(family):
    model = surrogate(family)
    (one,) = in_ranks(lambda ranks: trained(model, ranks), world=1)
    assert same(one, trained(model))


def test_weights_that_are_not_trained_stay_what_they_are():
    """A gradient of zero would let them decay."""
    law = NORMAL
    cls = find("surrogates", "autoregressive")
    model = cls.create(law, cls.Config(hidden=8, network="separate"), 0)
    model.fit_transform(*reversed(rows(law, 60)))
    start = model.columns.places.enter.weight.requires_grad_(False).clone()
    for run in in_ranks(lambda ranks: trained(model, ranks, weight_decay=1.0)):
        assert torch.equal(run.live.columns.places.enter.weight, start)


@pytest.mark.parametrize("family", FAMILIES)
def test_two_ranks_end_with_one_state_and_come_to_it_again(family):
    model = surrogate(family)
    first, second = in_ranks(lambda ranks: trained(model, ranks))
    assert same(first, second)
    assert same(first, in_ranks(lambda ranks: trained(model, ranks))[0])
    assert not same(first, trained(model))  # the noise is another


# --- the same step as that of one process --------------------------------------------------------


def gradients(model, ranks, n):
    """Of one batch, with no step taken."""
    run = trainer(model, ranks, n=n, batch_size=n, augment=False, clip=1e9)
    run._descend = lambda objective, optimiser: None
    run._take_step(*rows(model.law, n), torch.Generator().manual_seed(0), torch.zeros(()))
    return [p.grad for p in run.live.parameters()]


@pytest.mark.parametrize(("world", "n"), [(2, 16), (2, 17), (3, 16), (3, 2)])
def test_gradients_of_a_batch_are_those_of_one_process(world, n):
    model = surrogate("autoregressive")  # its loss has no noise
    alone = gradients(model, ALONE, n)
    for theirs in in_ranks(lambda ranks: gradients(model, ranks, n), world):
        for one, other in zip(theirs, alone, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("world", "n"), [(2, 33), (3, 50)])
def test_without_noise_ranks_train_as_one_process_but_for_rounding(world, n):
    """The last batches have fewer rows than there are ranks."""
    model = surrogate("autoregressive")
    alone = trained(model, n=n, augment=False)
    for run in in_ranks(lambda ranks: trained(model, ranks, n=n, augment=False), world):
        assert run.step == alone.step
        np.testing.assert_allclose(losses(run), losses(alone), rtol=1e-4)
        for one, other in zip(state(run), state(alone), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_without_the_sum_of_gradients_ranks_part(monkeypatch):
    """Negative control of all above."""
    monkeypatch.setattr(Ranks, "add_up", lambda self, parameters: None)
    model = surrogate("autoregressive")
    first, second = in_ranks(lambda ranks: trained(model, ranks, augment=False))
    assert not same(first, second)


def test_ranks_have_noise_of_their_own():
    seeds = [Ranks(rank, 3).stream(5) for rank in range(3)]
    assert seeds[0] == 5
    assert len(set(seeds)) == 3


# --- state that differs by rank ------------------------------------------------------------------


def test_chains_of_all_ranks_go_on():
    """Row i of the state is that of rank i modulo 2, and the ranks' own chains do differ."""
    before = {}
    unite = Ranks.unite

    def watched(self, tensors, in_turns=()):
        if in_turns:
            before[self.rank] = {k: tensors[k].clone() for k in in_turns}
        unite(self, tensors, in_turns)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ranks, "unite", watched)
        model = surrogate("rbm")
        first, _ = in_ranks(lambda ranks: trained(model, ranks, epochs=1))
    for name, buffer in first.live.state_dict().items():
        if name in model.chain_buffers:
            own = [before[rank][name] for rank in range(2)]
            assert not torch.equal(*own)
            assert all(torch.equal(buffer[k::2], own[k][k::2]) for k in range(2))
    assert set(before[0]) == {"chain_v", "chain_c"}


def test_other_buffers_are_those_of_the_first():
    def work(ranks):
        mine = {"count": torch.tensor(ranks.rank), "mask": torch.tensor([ranks.first, True])}
        ranks.unite(mine)
        return mine

    for mine in in_ranks(work, 3):
        assert mine["count"] == 0
        assert mine["mask"].tolist() == [True, True]


def test_ranks_begin_with_the_weights_of_the_first():
    models = [surrogate("cvae", seed) for seed in range(2)]
    each = in_ranks(lambda ranks: trained(models[ranks.rank], ranks, epochs=1))
    assert same(*each)
    assert same(each[0], in_ranks(lambda ranks: trained(models[0], ranks, epochs=1))[0])


@pytest.mark.parametrize("family", ["cvae", "rbm"])
def test_a_resumed_training_of_two_ranks_ends_bit_equal(family):
    model, other = surrogate(family), surrogate(family, seed=3)
    whole, _ = in_ranks(lambda ranks: trained(model, ranks))

    def work(ranks):
        killed = trainer(model, ranks)
        next(iter(killed))
        run = trainer(other, ranks)
        run.restore(ranks.first_of(copy.deepcopy(killed.state())))
        list(run)
        return run

    assert all(same(run, whole) for run in in_ranks(work))


# --- ends ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["training", "validation"])
def test_a_loss_that_is_not_finite_in_one_rank_ends_all(where):
    model = surrogate("cvae")

    def work(ranks):
        run = trainer(model, ranks, n=600, batch_size=16)
        spoilt = run.live if where == "training" else run.average
        loss = spoilt._loss

        def nan(c, z, generator, progress):
            return loss(c, z, generator, progress) * (math.nan if run.step == 31 else 1)

        if ranks.rank == 1:
            spoilt._loss = nan
        run.step = 31 if where == "validation" else 0
        list(run)

    each = in_ranks(work)
    assert all(isinstance(error, TrainingDiverged) for error in each)
    assert sorted(error.silent for error in each) == [False, True]


@pytest.mark.parametrize("told", [0, 1])
def test_a_signal_that_one_rank_gets_stops_all_at_one_step(told):
    model, steps = surrogate("autoregressive"), {}

    def work(ranks):
        stop, run = Stop("here"), trainer(model, ranks, epochs=5)

        def on_batch(progress):
            steps[ranks.rank] = run.step
            if run.step == 3 and ranks.rank == told:
                stop.signum = 15
            ranks.check(stop)

        run.on_batch = on_batch
        list(run)

    each = in_ranks(work)
    assert all(isinstance(error, Interrupted) for error in each)
    assert steps == {0: 3, 1: 3}
    assert [error.exit_code for error in each] == [143, 143]


@pytest.mark.parametrize("ahead", [0, 1])
def test_the_clock_is_that_of_the_first(ahead):
    model = surrogate("autoregressive")

    def work(ranks):
        run = trainer(model, ranks, epochs=2, max_minutes=60.0)
        if ranks.rank == ahead:
            run._origin = run._origin[0] - 3 * 3600, run._origin[1]
        list(run)
        return run

    first, second = in_ranks(work)
    assert same(first, second)
    assert [e.seconds for e in first.history] == [e.seconds for e in second.history]
    assert (first.step == 1) == (ahead == 0)


@pytest.mark.slow
def test_ranks_agree_when_patience_runs_out():
    """The rate falls from the best weights of both, and both end with it."""
    model, how = surrogate("cvae"), {"patience": 1, "epochs": 30, "learning_rate": 0.3}
    first, second = in_ranks(lambda ranks: trained(model, ranks, **how))
    assert same(first, second)
    assert 0 < first.plateau < len(first.history) < 30


def test_what_one_rank_runs_into_ends_all_and_is_said_once():
    def work(ranks):
        if ranks.rank == 2:
            raise UsageError("no such file")
        ranks.total(1.0)

    *others, own = in_ranks(work, 3)
    assert (str(own), own.silent, own.exit_code) == ("rank 2: no such file", False, 2)
    for error in others:
        assert (str(error), error.silent, error.exit_code) == ("no such file", True, 2)


def test_what_all_run_into_is_said_by_the_first():
    def work(ranks):
        raise UsageError("no such option")

    each = in_ranks(work, 3)
    assert [error.silent for error in each] == [False, True, True]
    assert str(each[0]) == "no such option"


def test_a_defect_of_one_rank_is_its_own():
    def work(ranks):
        if ranks.rank:
            raise ZeroDivisionError("x")
        ranks.total(1.0)

    first, own = in_ranks(work)
    assert isinstance(own, ZeroDivisionError)
    assert type(first) is PhysgenError
    assert first.silent


@pytest.mark.parametrize("gone", [0, 1])
def test_a_rank_that_is_gone_ends_the_others(gone):
    def work(ranks):
        ranks.total(1.0)
        if ranks.rank == gone:
            ranks.close()
            return
        ranks.total(1.0)

    error = in_ranks(work)[1 - gone]
    assert isinstance(error, RankLost)
    assert not error.silent
    assert "--resume" in str(error)


def test_a_rank_that_hangs_is_waited_for_so_long():
    ended = threading.Event()

    def work(ranks):
        if ranks.rank == 0:
            ended.wait(20)
            return
        try:
            ranks.total(1.0)
        finally:
            ended.set()

    assert isinstance(in_ranks(work, timeout=0.3)[1], RankLost)


def test_rows_that_are_drawn_may_take_any_time():
    def work(ranks):
        time.sleep(ranks.rank)
        return ranks.collected([ranks.rank])

    assert in_ranks(work, timeout=0.3) == [[0, 1]] * 2


# --- rows and options ----------------------------------------------------------------------------


def test_ranks_draw_fresh_rows_once_and_have_them_all():
    from physgen.dataset.fresh import FreshRows
    from physgen.dataset.simulated import Simulate

    def drawn(ranks):
        made = []

        def make(shard):
            made.append(len(shard))
            return Simulate(NORMAL, "stop")(shard)

        make.law = NORMAL
        fresh = FreshRows(make, 37, 5, 3, share=ranks.share, collect=ranks.collected)
        fresh.shard_rows = 8
        return made, [fresh(epoch) for epoch in (1, 2)]

    (every, alone), each = drawn(ALONE), in_ranks(drawn)
    for _, theirs in each:
        for one, other in zip(theirs, alone, strict=True):
            np.testing.assert_array_equal(one.x, other.x)
            np.testing.assert_array_equal(one.labels("rows"), other.labels("rows"))
    assert [sum(made) for made, _ in each] == [2 * (8 + 8 + 5), 2 * (8 + 8)]
    assert sum(every) == 2 * 37


def test_ranks_of_other_data_are_refused():
    def work(ranks):
        ranks.require_same({"seed": 1, "data": f"digest {ranks.rank}"}, "cvae")

    each = in_ranks(work)
    assert all("rank 1 differs from rank 0 in data" in str(error) for error in each)
    assert in_ranks(lambda ranks: ranks.require_same({"seed": 1}, "cvae")) == [None, None]


def test_values_of_any_size_are_gathered():
    def work(ranks):
        value = {"rank": ranks.rank, "x": np.arange(1000 * ranks.rank)}
        return [len(v["x"]) for v in ranks.gathered(value)], ranks.first_of(ranks.rank)

    assert in_ranks(work, 3) == [([0, 1000, 2000], 0)] * 3


def test_each_process_of_a_machine_has_its_gpu(monkeypatch):
    from physgen.runtime.device import own_gpu

    monkeypatch.setenv("LOCAL_RANK", "1")
    assert own_gpu("cuda", 2) == "cuda:1"
    with pytest.raises(UsageError, match="1 GPUs for process 2 of this machine"):
        own_gpu("cuda", 1)
    with pytest.raises(UsageError, match="expected auto, cpu or cuda"):
        own_gpu("cuda:0", 2)


def test_who_has_started_this_process_is_told_by_the_environment(monkeypatch):
    from physgen.runtime.ranks import by_all_ranks, require_together, started

    assert started() == (0, 1)
    there = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}
    for name, value in there.items():
        monkeypatch.setenv(name, value)
    assert started() == (1, 2)

    def simulate():
        pass

    with pytest.raises(UsageError, match="simulate: is for one process") as caught:
        require_together(simulate)
    assert caught.value.silent  # the first has said so
    require_together(by_all_ranks(simulate))
    monkeypatch.setenv("RANK", "one")
    with pytest.raises(UsageError, match="expected integers"):
        started()
    monkeypatch.delenv("MASTER_PORT")
    assert started() == (0, 1)


# --- torchrun ------------------------------------------------------------------------------------

CVAE = ("cvae", "--channels", "5", "--levels", "1", "--batch-size", "64")


@pytest.fixture(scope="session")
def data(once):
    def make(folder):
        physgen.simulate("gaussian", size=3, n=1000, seed=0, out=folder / "rows.h5")

    return once("ranks", make) / "rows.h5"


def torchrun(folder, *words, processes=2, program=("-m", "physgen"), wait=True):
    """Start `physgen` in some processes; what it said, if it is waited for."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(processes), *program, *map(str, words)]
    run = subprocess.Popen(
        command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if not wait:
        return run
    said, _ = run.communicate(timeout=120)
    return said


def kept(path):
    tensors, info = load_tensors(path)
    history = [{k: v for k, v in e.items() if "seconds" not in k} for e in info["history"]]
    return tensors, history, info


def equal(one, other):
    (ours, history, _), (theirs, others, _) = kept(one), kept(other)
    return history == others and all(torch.equal(ours[k], theirs[k]) for k in ours)


def said_errors(said):
    return [line for line in said.splitlines() if line.startswith("Error")]


def after_epochs(run, path, n):
    """Wait for so many epochs of a training that goes on."""
    late = time.monotonic() + 60
    while not (path.exists() and len(path.read_text().splitlines()) >= n):
        assert run.poll() is None, run.stdout.read()
        assert time.monotonic() < late
        time.sleep(0.05)


def process_of(run, rank):
    """The process of a rank."""
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    for pid in children:
        if f"\0RANK={rank}\0" in "\0" + Path(f"/proc/{pid}/environ").read_text():
            return int(pid)
    raise AssertionError(f"rank {rank}: not among {children}")


@pytest.mark.slow
def test_torchrun_with_one_process_is_the_plain_command(data, tmp_path):
    torchrun(tmp_path, "fit", *CVAE, data, "-o", "one.pt", "--epochs", "3", processes=1)
    plain = tmp_path / "plain.pt"
    how = {"channels": 5, "levels": 1, "batch_size": 64, "epochs": 3}
    physgen.fit("cvae", data, out=plain, **how)
    assert equal(tmp_path / "one.pt", plain)
    assert "processes" not in kept(tmp_path / "one.pt")[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    "how", [(), ("--simulate", "--workers", "1"), ("--memory-gib", "0")], ids=" ".join
)
def test_torchrun_comes_to_the_same_again_and_speaks_once(how, data, tmp_path):
    for name in ("a.pt", "b.pt"):
        said = torchrun(tmp_path, "fit", *CVAE, data, "-o", name, "--epochs", "2", *how)
        assert said.count("epoch 2: train") == 1, said
        assert said.count("2 epochs in") == 1
    assert equal(tmp_path / "a.pt", tmp_path / "b.pt")
    assert kept(tmp_path / "a.pt")[2]["processes"] == [2]
    physgen.fit("cvae", data, out=tmp_path / "c.pt", channels=5, levels=1, epochs=2, batch_size=64)
    assert not equal(tmp_path / "a.pt", tmp_path / "c.pt")


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_all_and_the_training_goes_on_bit_equal(rank, data, tmp_path):
    words = ("fit", *CVAE, data, "--epochs", "10", "-o")
    torchrun(tmp_path, *words, "whole.pt")
    run = torchrun(tmp_path, *words, "m.pt", wait=False)
    after_epochs(run, tmp_path / "m.pt.jsonl", 2)
    os.kill(process_of(run, rank), signal.SIGKILL)
    said, _ = run.communicate(timeout=60)
    assert len(said_errors(said)) == 1, said
    assert "gone" in said or "interrupted by SIGTERM" in said  # whichever comes first
    assert not (tmp_path / "m.pt").exists()
    said = torchrun(tmp_path, *words, "m.pt", "--resume")
    assert said.count("resumed after epoch") == 1
    assert equal(tmp_path / "whole.pt", tmp_path / "m.pt")


@pytest.mark.slow
def test_ctrl_c_stops_all_and_another_number_of_processes_goes_on_with_a_word(data, tmp_path):
    words = ("fit", *CVAE, data, "-o", "m.pt", "--epochs", "40")
    run = torchrun(tmp_path, *words, wait=False)
    after_epochs(run, tmp_path / "m.pt.jsonl", 1)
    run.send_signal(signal.SIGINT)
    said, _ = run.communicate(timeout=60)
    (error,) = said_errors(said)
    assert "m.pt: training: interrupted by SIGINT; add --resume to go on" in error
    said = torchrun(tmp_path, *words, "--resume", "--max-minutes", "0.001", processes=1)
    assert "was trained by 2 processes at once and goes on with 1" in said
    assert kept(tmp_path / "m.pt")[2]["processes"] == [2, 1]


@pytest.mark.slow
def test_errors_are_said_once(data, tmp_path):
    script = tmp_path / "other.py"
    script.write_text(
        "import os, sys\n"
        "from physgen.__main__ import start\n"
        "sys.argv[3] = 'gone.h5' if os.environ['RANK'] == '1' else sys.argv[3]\n"
        "start()\n"
    )
    for words, program, expected in (
        (("fit", "cvae", data, "-o", "m.pt", "--nope"), ("-m", "physgen"), "No such option"),
        (("fit", "cvae", data, "-o", "m.pt", "--epochs", "0"), ("-m", "physgen"), "at least 1"),
        (("fit", "auto", data, "-o", "m.pt"), ("-m", "physgen"), "auto: races in one process"),
        (("simulate", "ising", "-n", "9", "-o", "x.h5"), ("-m", "physgen"), "without torchrun"),
        (("fit", "cvae", data, "-o", "m.pt"), (str(script),), "rank 1: gone.h5: no such file"),
    ):
        (error,) = said_errors(torchrun(tmp_path, *words, program=program))
        assert expected in error
    assert not list(tmp_path.glob("m.pt*"))
