"""The training loop: exact resumption, and every part of a step against its formula."""

import copy
import math
import platform
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.adamw import adamw

from physgen.dataset import Dataset, Meta, Rows, write
from physgen.errors import DataError, TrainingDiverged
from physgen.law import Law
from physgen.surrogates.base import Likelihood, Objective, Surrogate
from physgen.surrogates.cvae import CVAE, CVAEConfig
from physgen.training import Epoch, Fresh, InMemory, Streamed, Trainer, Training, split
from physgen.training import trainer as training_loop
from physgen.training.trainer import descend

LAW = Law.of("gaussian", {"size": 3})
CPU = torch.device("cpu")


@dataclass(frozen=True)
class NoConfig:
    pass


class Toy(Surrogate):
    """N(w, 1) for each component of z; counts what it is given."""

    name: ClassVar[str] = "toy"
    likelihood: ClassVar[Likelihood] = Likelihood.NONE
    Config = NoConfig

    def __init__(self, law, config):
        super().__init__(law, config)
        self.w = nn.Parameter(torch.zeros(law.size))

    def _loss(self, c, z, generator, progress):
        return 0.5 * ((z - self.w) ** 2).flatten(1).sum(1)

    def _sample(self, c, generator):
        return torch.zeros(len(c), *self.law.x_shape)


class Opposed(Toy):
    """Two objectives, as of a GAN: one raises a and one lowers b, and each loss sees both."""

    def __init__(self, law, config):
        super().__init__(law, config)
        del self.w
        self.a, self.b = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))

    def objectives(self):
        def up(theta, x, generator, progress=1.0):
            return (self.b - 3 * self.a).sum().expand(len(x))

        def down(theta, x, generator, progress=1.0):
            return (2 * self.b - 7 * self.a).sum().expand(len(x))

        return [Objective("up", [self.a], up), Objective("down", [self.b], down)]


def rows(n=101, law=LAW, seed=0):
    rng = np.random.default_rng(seed)
    theta = law.prior.sample(n, rng)
    return torch.from_numpy(theta), torch.from_numpy(law.build().sample(theta, rng)).float()


def trainer(surrogate=None, train=None, on_batch=None, **options):
    surrogate = surrogate or Toy.create(LAW, NoConfig())
    config = Training(**{"epochs": 3, "batch_size": 17, "warm_up_steps": 5} | options)
    extra = {"on_batch": on_batch} if on_batch else {}
    train = train or InMemory(*rows())
    return Trainer(surrogate, train, InMemory(*rows(29, seed=1)), config, 7, **extra)


def weights(run):
    return [
        w for model in (run.surrogate, run.live, run.average) for w in model.state_dict().values()
    ]


# --- resumption ----------------------------------------------------------------------------------


def streamed(folder):
    x = rows()
    path = folder / "rows.h5"

    def make(shard):
        return Rows(x[1][shard.start : shard.stop].numpy(), x[0][shard.start : shard.stop].numpy())

    write(path, 101, Meta(LAW, {"kind": "simulator"}, 0, {}), make, shard_rows=16)
    train, _, _ = split(Dataset(path), 0.1, 0.0, CPU)
    assert isinstance(train, Streamed)
    return train


@pytest.mark.parametrize(
    ("kind", "epochs_before"),
    [
        ("memory", 1),
        ("stream", 2),
        pytest.param("memory", 2, marks=pytest.mark.slow),
        pytest.param("stream", 1, marks=pytest.mark.slow),
    ],
)
def test_a_resumed_run_ends_bit_equal(kind, epochs_before, tmp_path):
    train = streamed(tmp_path) if kind == "stream" else InMemory(*rows())
    config = CVAEConfig(2, 1, 5, warm_up=0.5)

    def fresh():
        return trainer(CVAE.create(LAW, config), train, epochs=4)

    whole = fresh()
    epochs = list(whole)
    killed = fresh()
    for _ in zip(range(epochs_before), killed, strict=False):
        pass
    state = copy.deepcopy(killed.state())
    resumed = trainer(CVAE.create(LAW, config, seed=5), train, epochs=4)
    resumed.restore(state)
    list(resumed)
    assert [(e.train, e.val, e.lr, e.best) for e in resumed.history] == [
        (e.train, e.val, e.lr, e.best) for e in epochs
    ]
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(resumed), strict=True))
    assert resumed.step == whole.step == 4 * math.ceil(len(train) / 17)


@pytest.mark.parametrize("lost", ["optimisers", "step", "average", "live"])
def test_each_part_of_the_state_is_needed(lost):
    whole = trainer(epochs=3)
    list(whole)
    first = trainer(epochs=3)
    next(iter(first))
    resumed = trainer(epochs=3)
    state = copy.deepcopy(first.state())
    resumed.restore(state | {lost: resumed.state()[lost]})
    list(resumed)
    assert not all(
        torch.equal(a, b) for a, b in zip(weights(whole), weights(resumed), strict=True)
    )


def test_the_state_survives_a_checkpoint(tmp_path):
    from physgen.nn.tensors import load_tensors, save_tensors

    first, second = trainer(), trainer()
    next(iter(first))
    save_tensors(tmp_path / "state", first.state(), {})
    second.restore(load_tensors(tmp_path / "state")[0])
    list(first), list(second)
    assert all(torch.equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))


def test_time_of_earlier_processes_counts():
    first, second = trainer(), trainer(max_minutes=5.0)
    next(iter(first))
    state = first.state()
    state["history"][-1] |= {"seconds": 299.0, "cpu_seconds": 41.0}
    second.restore(state)
    assert second.progress == pytest.approx(299 / 300, abs=1e-3)
    assert second._elapsed()[1] == pytest.approx(41, abs=1)
    state["history"][-1] |= {"seconds": 301.0}
    second.restore(state)
    assert second.finished


# --- data ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["memory", "stream"])
def test_each_row_comes_once_an_epoch_in_an_order_of_its_own(kind, tmp_path):
    data = streamed(tmp_path) if kind == "stream" else InMemory(*(a[:91] for a in rows()))

    def epoch(seed):
        return [x[:, 0] for _, x in data.batches(17, np.random.default_rng(seed))]

    first, second = epoch(0), epoch(1)
    assert [len(b) for b in first] == [17] * 5 + [6]
    assert torch.equal(torch.cat(first).sort()[0], rows()[1][:91, 0].sort()[0])
    assert torch.equal(torch.cat(second).sort()[0], torch.cat(first).sort()[0])
    assert not torch.equal(torch.cat(first), torch.cat(second))
    assert torch.equal(torch.cat(first), torch.cat(epoch(0)))


def test_split_holds_out_the_last_rows(tmp_path):
    x = rows()[1]
    streamed(tmp_path)
    for memory in (0.0, 1.0):
        train, val, some = split(Dataset(tmp_path / "rows.h5"), 0.2, memory, CPU)
        assert (len(train), len(val)) == (81, 20)
        assert torch.equal(val.x, x[81:])
        assert torch.equal(some.x, x[:81])
        seen = torch.cat([b for _, b in train.batches(7, np.random.default_rng(0))])
        assert torch.equal(seen[:, 0].sort()[0], x[:81, 0].sort()[0])


def test_one_row_cannot_be_split(tmp_path):
    def make(shard):
        return Rows(np.zeros((1, 3)), np.zeros((1, 2)))

    write(tmp_path / "one.h5", 1, Meta(LAW, {}, 0, {}), make)
    with pytest.raises(DataError, match="at least 2"):
        split(Dataset(tmp_path / "one.h5"), 0.1, 1.0, CPU)


def test_only_training_batches_are_augmented_and_only_if_asked(monkeypatch):
    law = Law.of("ising", {"size": 2, "width": 3, "theta": "beta-h"})
    seen = []
    monkeypatch.setattr(
        training_loop.Symmetries, "__call__", lambda self, x, g: seen.append(len(x)) or x
    )
    data = InMemory(*rows(19, law))
    for augment, sizes in ((True, [17, 2]), (False, [])):
        surrogate = Toy.create(law, NoConfig())
        monkeypatch.setattr(Toy, "_loss", lambda self, c, z, g, p: self.w.sum().expand(len(c)))
        seen.clear()
        options = Training(epochs=1, batch_size=17, augment=augment)
        list(Trainer(surrogate, data, InMemory(*rows(5, law)), options))
        assert seen == sizes


# --- a step --------------------------------------------------------------------------------------


def test_weights_and_average_follow_their_formulas():
    """AdamW, clipping, warm-up, cosine and EMA, each written out in float64."""
    options = {"epochs": 2, "clip": 0.5, "ema": 0.7, "learning_rate": 0.1, "weight_decay": 0.03}
    run = trainer(Toy.create(LAW, NoConfig()), **options)
    batches = []
    loss = Toy._loss
    run.live._loss = lambda c, z, g, p: batches.append(z.double()) or loss(run.live, c, z, g, p)
    epochs = list(run)
    w, m, v, average = (np.zeros(3) for _ in range(4))
    steps, rates = len(batches), []
    assert steps == 12
    for t, z in enumerate(batches, 1):
        g = (w - z.numpy()).mean(0)
        g *= min(1.0, 0.5 / (np.linalg.norm(g) + 1e-6))
        rates.append(0.1 * min(1, t / 5) * 0.5 * (1 + math.cos(math.pi * (t - 1) / steps)))
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        w = w * (1 - rates[-1] * 0.03)
        w -= rates[-1] * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        decay = min(0.7, t / (t + 10))
        average = decay * average + (1 - decay) * w
    np.testing.assert_allclose(run.live.w.detach(), w, rtol=2e-5)
    np.testing.assert_allclose(run.average.w, average, rtol=2e-5)
    assert [e.lr for e in epochs] == pytest.approx([rates[5], rates[11]])


def test_the_constant_schedule_stays():
    run = trainer(schedule="constant", learning_rate=0.3, warm_up_steps=4)
    rates = []
    for run.step in (0, 1, 3, 4, 9):
        rates.append(run.rate)
    assert rates == pytest.approx([0.075, 0.15, 0.3, 0.3, 0.3])


@pytest.mark.parametrize("clip", [1.0, 100.0])
def test_a_step_is_that_of_torch_down_the_clipped_gradient(clip):
    rng = torch.Generator().manual_seed(0)
    w = [torch.randn(shape, generator=rng) for shape in ((3, 4), (5,), ())]
    ours, theirs = ([nn.Parameter(a.clone()) for a in w] for _ in range(2))
    idle = nn.Parameter(torch.ones(2))
    optimisers = [
        torch.optim.AdamW([*part, idle], lr=0.0, weight_decay=0.1, fused=True)
        for part in (ours, theirs)
    ]
    for rate in (0.1, 0.2, 0.3):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(a.shape, generator=rng)
            b.grad = a.grad.clone()
        descend([*ours, idle], optimisers[0], rate, clip)
        nn.utils.clip_grad_norm_(theirs, clip)
        optimisers[1].param_groups[0]["lr"] = rate
        optimisers[1].step()
    for a, b, before in zip(ours, theirs, w, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-6)
        assert (a - before).abs().min() > 1e-3
    assert idle.tolist() == [1, 1]
    states = [optimiser.state_dict() for optimiser in optimisers]
    torch.testing.assert_close(*states, atol=1e-6, rtol=1e-5)


def test_gradients_are_clipped_before_the_step(monkeypatch):
    norms = []

    def recorded(weights, gradients, *rest, grad_scale, **given):
        norms.append(float(gradients[0].norm() / grad_scale))
        adamw(weights, gradients, *rest, grad_scale=grad_scale, **given)

    monkeypatch.setattr(training_loop, "adamw", recorded)
    list(trainer(clip=0.01, epochs=1))
    assert norms == pytest.approx([0.01] * 6, rel=1e-3)


def test_objectives_move_their_own_parameters_by_their_own_gradient(monkeypatch):
    run = trainer(Opposed.create(LAW, NoConfig()), epochs=1, clip=1e9, schedule="constant")
    gradients = []

    def recorded(weights, found, *rest, **given):
        before = [p.detach().clone() for p in run.live.parameters()]
        gradients.append(found[0].clone())
        adamw(weights, found, *rest, **given)
        moved = [not torch.equal(a, b) for a, b in zip(before, run.live.parameters(), strict=True)]
        assert moved == [weights[0] is run.live.a, weights[0] is run.live.b]

    monkeypatch.setattr(training_loop, "adamw", recorded)
    list(run)
    assert len(gradients) == 2 * 6
    for a, b in zip(gradients[::2], gradients[1::2], strict=True):
        assert a.tolist() == [-3, -3]
        assert b.tolist() == [2, 2]
    assert (run.live.a > 0).all()
    assert (run.live.b < 0).all()


# --- validation and the end ----------------------------------------------------------------------


def test_validation_noise_is_fixed():
    run = trainer(CVAE.create(LAW, CVAEConfig(2, 1, 5)))
    values = {run._validate(run.val) for _ in range(3)}
    assert len(values) == 1
    run.seed += 1
    assert run._validate(run.val) not in values


def test_validation_is_the_mean_loss_of_the_averaged_weights():
    run = trainer(epochs=2)
    *_, last = run
    _, x = rows(29, seed=1)
    z = run.average.transform(x).double()
    expected = 0.5 * ((z - run.average.w) ** 2).sum(1).mean()
    assert last.val == pytest.approx(float(expected), rel=1e-5)
    assert not torch.equal(run.average.w, run.live.w)


def test_validation_knows_no_free_bits():
    run = trainer(CVAE.create(LAW, CVAEConfig(2, 1, 5, free_bits=1e4, warm_up=0.0)), epochs=1)
    (epoch,) = run
    assert epoch.val < 5e3 < epoch.train


def test_each_epoch_has_an_order_and_noise_of_its_own():
    run, seen = trainer(CVAE.create(LAW, CVAEConfig(2, 1, 5)), epochs=2), []
    loss = run.live._loss

    def recorded(c, z, generator, progress):
        seen.append((z, torch.randn(5, generator=generator)))
        return loss(c, z, generator, progress)

    run.live._loss = recorded
    list(run)
    for first, second in zip(seen[0], seen[6], strict=True):
        assert not torch.equal(first, second)


def test_training_loss_is_the_mean_over_rows():
    run = trainer(epochs=1, learning_rate=1e-30)
    (epoch,) = run
    expected = 0.5 * (rows()[1].float() ** 2).sum(1).mean()
    assert epoch.train == pytest.approx(float(expected), rel=1e-5)


def test_the_surrogate_holds_the_best_average():
    run = trainer(epochs=6, learning_rate=0.5, schedule="constant", ema=0.0)
    best = None
    for epoch in run:
        if epoch.best:
            best = run.average.w.clone()
        assert torch.equal(run.surrogate.w, best)
    assert [e.best for e in run.history] == [
        e.val < min([run.start, *(f.val for f in run.history[:k])])
        for k, e in enumerate(run.history)
    ]
    assert not all(e.best for e in run.history)


def test_a_start_that_no_epoch_betters_is_kept():
    """From the least loss that there is; the control: from elsewhere."""
    for best, kept in ((True, True), (False, False)):
        run = trainer(epochs=3, learning_rate=0.5)
        z = run.surrogate.transform(run.val.x)
        with torch.no_grad():
            for made in (run.surrogate, run.live, run.average):
                made.w.copy_(z.mean(0) if best else torch.full_like(made.w, 9.0))
        begun = run.surrogate.w.clone()
        list(run)
        assert torch.equal(run.surrogate.w, begun) is kept
        assert any(e.best for e in run.history) is not kept
        again = trainer(epochs=3)
        again.restore(run.state())
        assert again.start == run.start < math.inf


@pytest.mark.parametrize("bad_step", [3, 40])
def test_nan_ends_training_and_keeps_the_last_good_weights(bad_step, monkeypatch):
    run = trainer(epochs=20)
    loss = Toy._loss

    def spoilt(self, c, z, generator, progress):
        value = loss(self, c, z, generator, progress)
        return value * math.nan if run.step == bad_step and self is run.live else value

    monkeypatch.setattr(Toy, "_loss", spoilt)
    good = run.surrogate.w.detach().clone()
    epochs = iter(run)
    for _ in range(bad_step // 6):
        next(epochs)
        good = run.surrogate.w.detach().clone()
    with pytest.raises(TrainingDiverged, match=r"below 0\.003"):
        next(epochs)
    assert len(run.history) == bad_step // 6
    assert torch.equal(run.surrogate.w, good)
    assert good.isfinite().all()


def test_a_validation_loss_of_nan_ends_training():
    run = trainer()
    run.val.x[0] = math.nan
    with pytest.raises(TrainingDiverged, match="validation"):
        list(run)


def test_patience_ends_training_once_the_rate_has_fallen():
    run = trainer(epochs=20, learning_rate=1e-30, patience=3)
    epochs = list(run)
    assert run.plateau == 4 + 3  # a quarter of the epochs are not looked at
    assert len(epochs) == 7 + 2  # and as large a part of those before it cools


def test_improvement_restarts_patience():
    run = trainer(patience=2, epochs=4)
    history = [Epoch(k, 0.0, 0.0, 0.0, 0.0, 0.0, best) for k, best in enumerate((1, 0, 1, 0), 1)]
    run.history = history
    assert not run.plateau
    run.history = [*history, replace(history[-1], epoch=5)]
    assert run.plateau == 5


def test_patience_of_its_own_accord_is_told_by_the_steps_of_an_epoch():
    for rows_, epochs in ((101, 84), (17 * 500, 5)):
        data = InMemory(torch.zeros(rows_, 3), torch.zeros(rows_, 3))
        assert trainer(train=data).patience == epochs
    opposed = Opposed.create(LAW, NoConfig())
    assert trainer(opposed).patience == 84
    opposed.keeps_last = True
    assert trainer(opposed).patience == 0  # its loss does not tell


def test_a_plateau_cools_from_the_best_weights():
    """Back to the best average, and from the rate there to zero in a quarter of the epochs."""
    run = trainer(epochs=40, patience=2, learning_rate=0.5, schedule="constant", ema=0.0)
    rates, best = [], None
    for epoch in run:
        best = run.average.w.clone() if epoch.best else best
        rates.append(epoch.lr)
        if run.plateau == epoch.epoch:
            assert torch.equal(run.live.w, best)
            assert torch.equal(run.average.w, best)
    before, cooling = run.plateau, len(rates) - run.plateau
    assert cooling == math.ceil(0.25 * before)
    assert set(rates[1:before]) == {0.5}
    steps = 6 * np.arange(1, cooling + 1) - 1
    expected = 0.25 * (1 + np.cos(np.pi * steps / (6 * cooling)))
    assert rates[before:] == pytest.approx(list(expected))


def test_a_training_goes_on_to_another_length():
    """Ended after two epochs and extended to six: the rate is that of a training of six."""
    run = trainer(epochs=2, warm_up_steps=0)
    assert len(list(run)) == 2
    run.extend(6, 0.0)
    assert run.rate == pytest.approx(3e-3 * 0.5 * (1 + math.cos(math.pi * 12 / 36)))
    list(run)
    assert len(run.history) == 6
    state = copy.deepcopy(run.state())
    again = trainer(epochs=6, warm_up_steps=0)
    again.restore(state)
    assert again.begun == run.begun == 2


def test_training_rows_are_looked_at_as_held_out_ones_are():
    run = trainer(epochs=2)
    *_, last = run
    chosen = np.linspace(0, 100, 29).round()
    z = run.average.transform(rows()[1][chosen]).double()
    expected = 0.5 * ((z - run.average.w) ** 2).sum(1).mean()
    assert last.seen == pytest.approx(float(expected), rel=1e-5)
    assert last.seen != last.val
    some = InMemory(*rows(301, seed=5))
    assert len(Trainer(run.surrogate, run.train, run.val, run.config, some=some).seen) == 29
    run.surrogate.keeps_last = True
    assert Trainer(run.surrogate, run.train, run.val, run.config, some=some).seen is None


def test_time_ends_training_within_an_epoch(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(training_loop.time, "monotonic", lambda: now[0])

    def on_batch(progress):
        now[0] += 9.0
        seen.append(progress)

    seen = []
    run = trainer(max_minutes=0.5, epochs=1000, on_batch=on_batch)
    (epoch,) = run
    assert run.finished
    assert run.step == 4
    assert math.isfinite(epoch.train)
    assert seen == pytest.approx([0.0 + 1 / 6000, 0.3, 0.6, 0.9])


@pytest.mark.parametrize(
    "bad", [{"epochs": 0}, {"clip": 0.0}, {"validation": 1.0}, {"ema": 1.0}, {"learning_rate": -1}]
)
def test_options_out_of_range_are_refused(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))}: expected"):
        Training(**bad)


# --- does it learn? ------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_vae_learns_the_linear_gaussian():
    law = Law.of("gaussian", {"size": 3})
    theta, x = rows(2500, law)
    surrogate = CVAE.create(law, CVAEConfig(2, 1, 16), seed=1)
    surrogate.transform.fit(x)
    options = Training(epochs=8, batch_size=100, learning_rate=1e-2)
    run = Trainer(surrogate, InMemory(theta, x), InMemory(*rows(500, law, 1)), options)
    history = list(run)
    assert history[-1].val < history[0].val
    test_theta, test_x = rows(1000, law, 2)
    log_p = surrogate.eval().log_prob_with_error(test_theta, test_x, draws=30)
    gap = law.build().log_prob(test_theta.numpy(), test_x.numpy()) - log_p.value.numpy()
    error = gap.std() / math.sqrt(1000)
    assert -4 * error < gap.mean() < 0.1
    blind = torch.roll(test_theta, 1, 0)
    assert surrogate.log_prob(blind, test_x, draws=30).mean() < log_p.value.mean() - 1


def test_the_rate_falls_to_zero_where_rows_fail():
    """Epochs of fewer rows than were asked for have fewer steps."""
    theta, x = rows(40)
    drawn = Rows(x.numpy(), theta.numpy())
    run = trainer(train=Fresh(lambda number: drawn, 100, CPU), epochs=4, batch_size=10)
    *_, last = run
    assert last.lr < 0.1 * run.config.learning_rate


def test_networks_are_trained_in_the_precision_that_is_asked_for():
    """On a CPU bf16 is only taken where it is asked for; weights stay float32."""
    law, losses = Law.of("ising", {"size": 4}), {}
    theta = torch.from_numpy(law.prior.sample(60, np.random.default_rng(0)))
    x = torch.from_numpy(law.build().sample(theta.numpy(), np.random.default_rng(1)))
    for precision in ("auto", "fp32", "bf16"):
        model, data = CVAE.create(law, CVAEConfig(channels=8)), InMemory(theta, x)
        config = Training(epochs=2, precision=precision)
        losses[precision] = [epoch.val for epoch in Trainer(model, data, data, config)]
        assert all(w.dtype == torch.float32 for w in model.parameters())
    assert losses["auto"] == losses["fp32"]
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.02)


FAULTS = """
import resource
import numpy as np
from physgen.runtime.memory import keep_freed_memory
{}
def work():
    arrays = [np.ones(2**17) for _ in range(8)]
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is asked")
def test_freed_memory_is_kept_for_the_arrays_to_come():
    def faults(line):
        command = [sys.executable, "-c", FAULTS.format(line)]
        return int(subprocess.run(command, capture_output=True, check=True).stdout)

    assert faults("keep_freed_memory()") < 100
    assert faults("") > 10_000  # the control: 20 times 8 MiB in pages of 4 KiB
