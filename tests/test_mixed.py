"""Rows of mixed kinds and counts, from the simulator to the posterior."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.integrate import quad

import physgen
from benchmarks.reals.laws import BitsAndReals, PoissonCounts
from physgen.dataset.assumptions import broken_assumptions
from physgen.errors import DataError, SimulatorFailed, UsageError
from physgen.law import Law
from physgen.nn.columns import ColumnCode, ColumnLaws
from physgen.nn.embedding import embedding, scaled_for, with_mask
from physgen.nn.transforms import Counts, for_support
from physgen.testing import check_simulator
from simulators import Box
from simulators.command import Command
from tests.mixed_laws import Events, Race, RaceOfReals, Spoilt

KINDS = ("reals", "levels:2", "nonnegative", "counts", "levels:4", "reals")
LAW = Law("some", Box(a=(0, 1)), (6,), "mixed", column_supports=KINDS)


def some_x(n=400, seed=0):
    """x of `LAW`, (n, 6)."""
    rng = np.random.default_rng(seed)
    rain = np.where(rng.random(n) < 0.3, 0, rng.exponential(2.0, n))
    columns = (
        rng.normal(1e3, 2, n), rng.integers(2, size=n), rain,
        rng.poisson(40, n), rng.integers(4, size=n), rng.standard_t(1, n),
    )  # fmt: skip
    return torch.from_numpy(np.column_stack(columns))


def test_each_column_goes_through_the_map_of_its_support_and_back():
    x = some_x()
    found = for_support(LAW)
    found.fit(x)
    z = found(x)
    assert z.dtype == torch.float32
    for j in (1, 3, 4):
        assert torch.equal(z[:, j], x[:, j].float())
    assert torch.equal(z[:, 2] == -torch.inf, x[:, 2] == 0)
    assert abs(z[:, 0].mean()) < 1e-3
    assert torch.allclose(found.inverse(z).double(), x, rtol=1e-5)


def test_the_volume_is_that_of_all_columns_that_have_one():
    x = some_x(50)
    found = for_support(LAW)
    found.fit(x)
    dense = [0, 2, 5]
    for row in x[x[:, 2] > 0][:3]:
        slope = torch.autograd.functional.jacobian(lambda v: found(v[None])[0], row)
        block = slope[dense][:, dense].double()
        assert found.log_det(row[None]).item() == pytest.approx(block.logdet().item(), abs=1e-4)


def test_counts_beyond_what_networks_see_are_refused():
    law = Law("some", Box(a=(0, 1)), (1,), "counts")
    Counts(law).fit(torch.tensor([[2**24]]))
    with pytest.raises(DataError, match="up to 16777217, and networks see float32"):
        Counts(law).fit(torch.tensor([[2**24 + 1]]))


def test_a_real_column_that_a_count_tells_has_no_density():
    x = some_x()
    x[:, 0] = 3 * x[:, 3] + 5
    told = r"x\[0\] = 3 x\[3\] \+ 5"
    with pytest.raises(DataError, match=told):
        for_support(LAW).fit(x)
    assert any(re.search(told, line) for line in broken_assumptions(LAW, x.numpy()))
    assert not any("x[3]" in line for line in broken_assumptions(LAW, some_x().numpy()))


def test_laws_of_columns_are_normalised_and_drawn_from():
    law = replace(LAW, x_shape=(3,), column_supports=("levels:4", "counts", "reals"))
    generator = torch.Generator().manual_seed(1)
    laws = ColumnLaws(law, 2)
    raw = torch.randn(laws.parameters_of_all, generator=generator)
    grid = torch.arange(-12, 12, 0.02)
    k, n, t = torch.meshgrid(torch.arange(4.0), torch.arange(300.0), grid, indexing="ij")
    log_p = laws.log_prob(raw, torch.stack([k, n, t], -1))
    p = log_p.double().exp() * 0.02
    assert p.sum() == pytest.approx(1, abs=1e-2)
    drawn = laws.sample(raw.expand(20000, -1), generator)
    for column, axis in ((0, 0), (1, 1)):
        exact = p.sum([a for a in range(3) if a != axis])
        seen = torch.bincount(drawn[:, column].long().clamp(max=299), minlength=len(exact))
        assert (seen / 20000 - exact).abs().max() < 0.02


def test_code_has_unit_size_and_tells_all():
    z = for_support(LAW)
    z.fit(some_x())
    z = z(some_x())
    code = ColumnCode(LAW)
    code.fit(z)
    seen = code(z)
    assert seen.shape == (400, code.size) == (400, 1 + 1 + 2 + 1 + 4 + 1)
    assert seen.isfinite().all()
    assert seen.std(0).max() < 4
    law = replace(LAW, x_shape=(1,), support="counts", column_supports=())
    counts = torch.from_numpy(np.random.default_rng(0).poisson(1e4, (500, 1)))
    code = ColumnCode(law)
    assert code(counts).std() < 0.02  # before it has seen data
    code.fit(counts)
    assert code(counts).std() == pytest.approx(1, rel=0.01)


@pytest.mark.parametrize("support", ["mixed", "counts"])
def test_networks_of_sbi_see_columns_well_scaled(support):
    law = LAW if support == "mixed" else Law("some", Box(a=(0, 1)), (2,), "counts")
    x = (
        some_x()
        if support == "mixed"
        else torch.from_numpy(np.random.default_rng(0).poisson((3, 1e4), (400, 2)))
    )
    seen = with_mask(law, scaled_for(law, x)(x))
    with torch.random.fork_rng():
        features = embedding(law, seen)[0](seen)
    assert features.isfinite().all()
    assert torch.allclose(features.std(0, correction=0), torch.ones(features.shape[1]), atol=1e-2)


@pytest.mark.parametrize("support", ["mixed", "counts"])
def test_nle_of_sbi_refuses_them_by_name(support):
    from physgen.sbi.networks import nle

    with pytest.raises(UsageError, match="sbi has no density for co"):
        nle(replace(LAW, support=support, column_supports=KINDS if support == "mixed" else ()))


def test_mixed_rows_are_kept_as_they_are(tmp_path):
    made = physgen.simulate(Events(), n=500, seed=1, out=tmp_path / "e.h5")
    again = physgen.Dataset(tmp_path / "e.h5")
    assert again.x.dtype == np.float64  # for counts
    assert np.array_equal(made.x, again.x)
    assert again.columns == ["n", "energy", "sort"]
    assert again.law.support_text == "counts,nonnegative,levels:3"
    told = str(physgen.inspect(tmp_path / "e.h5"))
    assert "n = counts, energy = nonnegative, sort = levels:3" in told
    assert "warnings" not in told


def test_counts_are_kept_as_integers_of_any_size(tmp_path):
    x = np.array([[0, 2**40], [7, 2**53]])
    physgen.dataset_of(np.zeros((2, 1)), x, {"a": (0, 1)}, support="counts", out=tmp_path / "c.h5")
    kept = physgen.Dataset(tmp_path / "c.h5").x
    assert kept.dtype == np.int64
    assert np.array_equal(kept, x)


def test_a_value_outside_is_told_with_its_row_and_column():
    with pytest.raises(SimulatorFailed) as raised:
        physgen.simulate(Spoilt(), n=20)
    told = "row 3: sort (column 2 of x) is no integer from 0 to 2 (1 of 20 rows)"
    assert told in str(raised.value)
    assert len(physgen.simulate(Spoilt(), n=20, on_error="skip")) == 19
    for x, what in (([[-1.0]], "no count"), ([[0.5]], "no count")):
        with pytest.raises(DataError, match=what):
            physgen.dataset_of([[0.5]], x, {"a": (0, 1)}, support="counts")


def test_a_simulator_that_declares_columns_passes_its_contract():
    assert check_simulator(Race()) == check_simulator(Events()) == []
    told = check_simulator(RaceOfReals())
    assert len(told) == 1
    assert "support = 'levels:2,reals'" in told[0]


def test_types_of_columns_tell_their_supports(caplog):
    rng = np.random.default_rng(0)
    n = 300
    columns = {
        "flag": rng.integers(2, size=n), "n": rng.poisson(50, n), "t": rng.normal(size=n),
        "shift": rng.integers(-5, 5, n),
    }  # fmt: skip
    theta = rng.random((n, 1))
    made = physgen.dataset_of(theta, columns, {"a": (0, 1)})
    assert made.law.column_supports == ("levels:2", "counts", "reals", "reals")
    assert "flag=levels:2,n=counts,t=reals,shift=reals, by the types" in caplog.text
    floats = {name: values.astype(float) for name, values in columns.items()}
    assert physgen.dataset_of(theta, floats, {"a": (0, 1)}).law.support == "reals"
    assert "3 columns of whole numbers, taken for reals" in caplog.text
    few = {"flag": floats["flag"], "n": floats["n"] % 20, "t": floats["t"]}
    physgen.dataset_of(theta, few, {"a": (0, 1)})
    assert "--support flag=levels:2,n=counts,t=reals if" in caplog.text  # which have no limit
    alone = physgen.dataset_of(theta, columns["n"], {"a": (0, 1)})
    assert (alone.law.support, alone.x.dtype) == ("counts", np.int64)


def test_supports_by_name_find_their_columns():
    rng = np.random.default_rng(0)
    x = {"t": rng.random(50), "k": rng.integers(9, size=50)}
    said = {"k": "levels:9", "t": "nonnegative"}
    made = physgen.dataset_of(rng.random((50, 1)), x, {"a": (0, 1)}, support=said)
    assert made.law.column_supports == ("nonnegative", "levels:9")
    for wrong, words in (({"t": "reals"}, "k missing"), ({**said, "u": "reals"}, "u unknown")):
        with pytest.raises(UsageError, match=words):
            physgen.dataset_of(rng.random((50, 1)), x, {"a": (0, 1)}, support=wrong)
    with pytest.raises(UsageError, match="expected one for each of t, k, all in one"):
        physgen.dataset_of(
            rng.random((50, 1)), x, {"a": (0, 1)}, support={"t": "reals", "u": "counts"}
        )


@pytest.mark.parametrize("ending", ["csv", "npz"])
def test_files_of_columns_come_and_go(tmp_path, ending):
    made = physgen.simulate(Events(), n=200, seed=2, out=tmp_path / "e.h5")
    out = tmp_path / f"e.{ending}"
    physgen.export(tmp_path / "e.h5", out=out, format=ending)
    if ending == "npz":  # it says its law
        back = physgen.import_("arrays", out, out=tmp_path / "b.h5")
        assert back.columns == made.columns
    else:
        back = physgen.import_(
            "arrays", out, out=tmp_path / "b.h5", theta="log_rate", prior={"log_rate": (0, 6)},
            support="counts,nonnegative,levels:3",
        )  # fmt: skip
    assert back.law.column_supports == made.law.column_supports
    assert np.allclose(back.x, made.x, rtol=1e-6)


def test_a_program_may_print_columns_of_several_kinds():
    command = Command("sh -c 'echo 1 2.5 {a}'", support="hit=levels:2,t=reals,a=nonnegative")
    assert command.x_shape == (3,)
    assert Law.of(command, prior={"a": (0, 1)}).support_text == "levels:2,reals,nonnegative"
    again = Command("sim {a}", support={"bits": ("levels:2", 3), "t": "reals"})
    assert again.support == "bits_0=levels:2,bits_1=levels:2,bits_2=levels:2,t=reals"
    with pytest.raises(ValueError, match="expected positive sizes"):
        Command("sim {a}")


@pytest.mark.parametrize("family", ["gan", "diffusion", "rbm"])
def test_families_that_cannot_say_what_to_take(family):
    with pytest.raises(UsageError, match=r"not for mixed x.*take autoregressive or cvae"):
        physgen.fit(family, physgen.simulate(Race(), n=100))


def test_the_race_is_a_law():
    race, theta = Race(), np.array([[0.3, 0.4]])

    def p(t, choice):
        return np.exp(race.log_prob(theta, np.array([[choice, t]])))[0]

    mass = [quad(p, 0, 20, args=(choice,), points=[1])[0] for choice in (0, 1)]
    assert sum(mass) == pytest.approx(1, abs=1e-7)
    drawn = race.sample(np.repeat(theta, 20000, 0), np.random.default_rng(0))
    assert stats.binomtest(int(drawn[:, 0].sum()), 20000, mass[1]).pvalue > 1e-4


def test_drawing_a_picture_has_a_panel_for_each_column():
    figure = physgen.simulate(Events(), n=50).plot()
    named = [ax.get_xlabel() for ax in figure.axes if ax.axison]
    assert named == ["n", "energy", "sort"]


@pytest.mark.slow
def test_choices_and_times_are_learnt_to_a_hundredth_of_a_nat():
    train, held = (physgen.simulate(Race(), n=n, seed=s) for n, s in ((6000, 1), (1000, 2)))
    model = physgen.fit("cvae", train, epochs=25, seed=1)
    found = physgen.validate(model, held, simulator=Race)
    gap, posterior = found["nll"], found["posterior"]
    assert gap["gap_total"] < 0.04
    assert posterior["mean_error"] < 0.1
    bare = physgen.simulate(RaceOfReals(), n=300)
    assert any("have no density" in line for line in broken_assumptions(bare.law, bare.x))


@pytest.mark.slow
@pytest.mark.parametrize("law", [BitsAndReals, PoissonCounts, Race])
def test_autoregression_learns_columns_to_the_exact_law_and_its_posterior(law):
    train, held = (physgen.simulate(law(), n=n, seed=s) for n, s in ((10_000, 1), (1000, 2)))
    model = physgen.fit("autoregressive", train, epochs=20, seed=1)
    found = physgen.validate(model, held, simulator=law)
    assert found["nll"]["gap_total"] < 0.06
    assert found["posterior"]["mean_error"] < 0.1
