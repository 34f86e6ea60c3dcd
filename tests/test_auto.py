"""The race of families: who wins, what the table says, and that no failure ends it."""

import json
import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

import physgen
from physgen.checks.held_out import adjusted_difference, overfitting
from physgen.errors import UsageError
from physgen.surrogates.base import Likelihood, Surrogate
from physgen.training import Trainer
from physgen.verbs.auto import Clock, auto_table


@dataclass(frozen=True)
class Options:
    """Options of a toy.

    Attributes:
        off: by how much its mean is off.
        nan: whether its loss is not finite.
    """

    off: float = 0.0
    nan: bool = False


class Normal(Surrogate):
    """z ~ N(w + off, 1): exact."""

    name: ClassVar[str] = "normal"
    likelihood: ClassVar[Likelihood] = Likelihood.EXACT
    Config = Options

    def __init__(self, law, config):
        super().__init__(law, config)
        self.w = nn.Parameter(torch.zeros(law.size))

    @classmethod
    def candidates(cls, law):
        return [{}, {"off": 1.0}, {"off": 3.0}, {"nan": True}]

    def _loss(self, c, z, generator, progress):
        if self.config.nan:
            return (self.w * math.nan).sum().expand(len(z))
        mean = self.w.clamp(-0.01, 0.01) + self.config.off
        return (0.5 * ((z - mean) ** 2 + math.log(2 * math.pi))).flatten(1).sum(1)

    def _log_prob(self, c, z, noise, draws):
        return -self._loss(c, z, None, 1.0), torch.zeros(len(z))

    def _sample(self, c, generator):
        return torch.randn(len(c), *self.law.x_shape, generator=generator) + self.config.off


class Mute(Normal):
    """Has no log p."""

    name: ClassVar[str] = "mute"
    likelihood: ClassVar[Likelihood] = Likelihood.NONE

    @classmethod
    def candidates(cls, law):
        return [{}]


class Broken(Mute):
    """Cannot be made."""

    name: ClassVar[str] = "broken"

    def __init__(self, law, config):
        raise RuntimeError("out of luck")


HERE = tuple(f"{__name__}:{cls.__name__}" for cls in (Normal, Mute, Broken))


@pytest.fixture(scope="module")
def data():
    return physgen.simulate("gaussian", n=600, size=3, seed=1)


def raced(data, **how):
    return physgen.fit("auto", data, **{"families": HERE, "epochs": 9, "batch_size": 50} | how)


def test_the_best_wins_and_all_are_told(data):
    model = raced(data)
    assert type(model) is Normal
    assert model.config == Options()
    told = {(e["family"].rpartition(":")[2], *e["options"].items()): e
            for e in model.info["auto"]["entries"]}  # fmt: skip
    best, second, third = (told["Normal", *o] for o in ((), (("off", 1.0),), (("off", 3.0),)))
    assert [e["heats"] for e in (best, second, third)] == [2, 2, 1]
    assert [e["epochs"] for e in (best, second, third)] == [3, 3, 1]
    assert len(model.info["history"]) == 9
    assert best["behind"] == best["se"] == 0
    z = model.transform(torch.from_numpy(data.x[540:])).double()
    behind = (0.5 * ((z - 1) ** 2 - z**2)).sum(1)  # the mean is all that differs
    assert second["behind"] == pytest.approx(float(behind.mean()), abs=0.1)
    assert second["se"] == pytest.approx(float(behind.std()) / math.sqrt(60), rel=0.1)
    assert third["behind"] == pytest.approx(13.5, abs=2)
    assert "not finite" in told["Normal", ("nan", True)]["reason"]
    assert told[("Mute",)]["reason"] == "has no log p to compare"
    assert told[("Broken",)]["reason"] == "RuntimeError: out of luck"
    table = list(auto_table(model.info["auto"]))
    assert model.summary.splitlines()[1:] == table
    assert "best" in table[1]
    assert "± " in table[2]
    assert len(table) == 7
    json.dumps(model.info, allow_nan=False)


def test_scores_are_of_raw_units(data):
    model = raced(data, families=HERE[:1])
    exact = model.log_prob(data.theta[540:], data.x[540:]).mean()
    (entry, *_) = model.info["auto"]["entries"]
    assert entry["log_p"] == pytest.approx(float(exact), abs=0.1)


def test_a_race_set_in_epochs_is_reproducible(data):
    one, other = (raced(data, seed=5) for _ in range(2))
    assert torch.equal(one.w, other.w)
    ours, theirs = ([e.get("log_p") for e in m.info["auto"]["entries"]] for m in (one, other))
    assert ours == theirs


@pytest.mark.slow
def test_minutes_are_for_the_whole_race(data):
    model = raced(data, max_minutes=0.05, epochs=100_000, families=HERE[:1])
    assert 0 < model.info["auto"]["minutes"] < 0.05
    assert model.info["history"][-1]["seconds"] < 3.3


def test_time_is_dealt_out_as_the_lengths_are(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("physgen.verbs.auto.time.monotonic", lambda: now[0])
    clock = Clock(150.0)
    for waiting in (5, 4, 3, 2, 1):
        assert clock.share(1, waiting) == pytest.approx(10)
        now[0] += 10
    for waiting in (2, 1):
        assert clock.share(2, waiting) == pytest.approx(20)
        now[0] += 20
    assert clock.left == pytest.approx(60)


def test_one_family_alone_has_no_heats(data):
    model = raced(data, families=(HERE[1], "cvae"), epochs=2)
    assert model.name == "cvae"
    assert len(model.info["history"]) == 2
    assert "the only one that takes the data" in model.summary


def test_no_family_is_one_line_with_the_reasons(data):
    with pytest.raises(UsageError, match=r"auto: no family takes these data: .*out of luck"):
        raced(data, families=HERE[2:])
    with pytest.raises(UsageError, match="from_: auto begins anew"):
        raced(data, from_=Normal.create(data.law, Options()))
    with pytest.raises(UsageError, match="no option 'hidden'"):
        raced(data, hidden=3)


def test_a_misspelt_family_is_refused_before_the_race(data):
    with pytest.raises(UsageError, match="unknown 'flo'"):
        raced(data, families=("cvae", "flo"))


def test_few_held_out_rows_decide_no_race_without_a_word(data):
    with pytest.raises(UsageError, match="at least 2 held-out rows to compare families by, got 1"):
        raced(data[:10])
    model = raced(data[:50])
    assert any("compared by 5 held-out rows alone" in line for line in model.info["warnings"])
    assert not any("compared by" in line for line in raced(data).info["warnings"])


def test_the_training_of_a_winner_goes_on_bit_equal(data, tmp_path, monkeypatch):
    whole, file, epoch = raced(data), tmp_path / "m.pt", Trainer._epoch

    def killed(self, number):
        if number == 6:
            raise KeyboardInterrupt
        return epoch(self, number)

    monkeypatch.setattr(Trainer, "_epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        raced(data, out=file)
    monkeypatch.setattr(Trainer, "_epoch", epoch)
    with pytest.raises(UsageError, match="add --resume"):
        raced(data, out=file)
    with pytest.raises(UsageError, match=r"winner of what was interrupted is .*Normal; give"):
        raced(data, out=file, resume=True, families=("cvae",))
    model = raced(data, out=file, resume=True)
    assert torch.equal(model.w, whole.w)
    assert len(model.info["history"]) == 9
    assert model.info["auto"]["entries"][0]["log_p"] == whole.info["auto"]["entries"][0]["log_p"]


def test_what_was_no_race_is_not_resumed_as_one(data, tmp_path, monkeypatch):
    file, epoch = tmp_path / "m.pt", Trainer._epoch

    def killed(self, number):
        if number == 2:
            raise KeyboardInterrupt
        return epoch(self, number)

    monkeypatch.setattr(Trainer, "_epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        physgen.fit("cvae", data, out=file, epochs=3)
    with pytest.raises(UsageError, match="is a training of cvae; resume that"):
        raced(data, out=file, resume=True)


# --- overfitting ---------------------------------------------------------------------------------


def test_the_adjusted_difference_is_right_and_its_error_honest():
    """Covariates that explain nearly all leave less than a tenth of a plain difference's error."""
    rng = np.random.default_rng(0)
    found, plain = [], []
    for _ in range(200):
        given = torch.from_numpy(rng.normal(size=(2, 200, 3)))
        noise = torch.from_numpy(rng.normal(size=(2, 200)) * 0.1)
        loss = given.sum(2) + noise
        loss[1] += 0.05
        found.append(adjusted_difference(*loss, *given))
        plain.append(float(loss[1].mean() - loss[0].mean()))
    value, se = np.transpose(found)
    assert value.mean() == pytest.approx(0.05, abs=4 * 0.01 / math.sqrt(200))
    assert value.std() == pytest.approx(0.01, rel=0.2)
    assert se.mean() == pytest.approx(value.std(), rel=0.2)
    assert np.std(plain) > 10 * value.std()


def test_what_has_learnt_its_rows_by_heart_overfits(data):
    """A normal law is centred on rows of the training, or knows none of them: the control."""
    theta, x = torch.from_numpy(data.theta), torch.from_numpy(data.x)
    model = Normal.create(data.law, Options())
    model.fit_transform(x)
    pairs = (theta[:300], x[:300]), (theta[300:], x[300:])
    honest = overfitting(model, *pairs, 0)
    assert abs(honest["gap"]) < 4 * honest["se"] + 1e-3
    kept = model._loss

    def by_heart(c, z, generator, progress):
        known = (z[:, None] == model.transform(x[:300])[None]).all(2).any(1)
        return kept(c, z, generator, progress) - 0.7 * known

    model._loss = by_heart
    told = overfitting(model, *pairs, 0)
    assert told["gap"] == pytest.approx(0.7, abs=0.05)
    assert told["gap"] > 5 * told["se"]
    assert overfitting(model, (theta[:9], x[:9]), pairs[1], 0) is None  # too few to tell


# --- what is shown of a training -----------------------------------------------------------------


@pytest.mark.usefixtures("blank")
def test_the_page_of_a_checkpoint_shows_its_training_and_the_race(data, tmp_path):
    pytest.importorskip("jinja2")
    model = raced(data, out=tmp_path / "m.pt")
    page = physgen.report(tmp_path / "m.pt")
    assert page.html == physgen.report(model).html
    for text in ("Training of ", "Race of families", "out: has no log p", "data:image/svg+xml"):
        assert text in page.html
    description = physgen.inspect(tmp_path / "m.pt").summary
    assert "out of luck" in description


def test_the_curves_are_of_the_same_weights_where_that_is_known():
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    from physgen.reporting.figures import learning

    history = [{"epoch": k, "train": 9.0 - k, "val": 3.0, "seen": 2.0 + k} for k in (1, 2, 3)]
    drawn = []
    for some in (history, [{**e, "seen": None} for e in history]):
        ax = Figure().add_subplot()
        learning(ax, some)
        drawn.append(list(ax.lines[0].get_ydata()))
    assert drawn == [[3.0, 4.0, 5.0], [8.0, 7.0, 6.0]]


def test_the_command_line_knows_it(data, tmp_path):
    from click.testing import CliRunner

    from physgen.cli import main

    data.save(tmp_path / "g.h5")
    run = CliRunner().invoke
    assert "auto " in run(main, ["fit", "--help"]).output
    assert "--families" in run(main, ["fit", "auto", "--help"]).output
    file = str(tmp_path / "m.pt")
    words = ["fit", "auto", str(tmp_path / "g.h5"), "-o", file, "--epochs", "2", "--batch-size"]
    done = run(main, [*words, "50", "--families", f"{HERE[0]},{HERE[1]}", "--simulate"])
    assert done.exit_code == 0, done.output
    assert "out: has no log p to compare" in done.output
    assert "1,080 fresh rows" in done.output
    refused = run(main, [*words, "50", "--force", "--reuse", "2"])
    assert refused.exit_code == 2
    assert "--simulate" in refused.output
