"""Autoregression by second routes: sums over states, chains site by site, chi-squares."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

import physgen
from physgen.dataset import Meta, Rows, read, write
from physgen.errors import UsageError
from physgen.law import Law
from physgen.nn.transforms import Symmetries
from physgen.surrogates.autoregressive import Autoregressive, AutoregressiveConfig
from physgen.surrogates.autoregressive.chain import frontier, nearest_neighbours, parts
from physgen.surrogates.base import Likelihood, Surrogate
from physgen.testing import check_surrogate
from physgen.training import InMemory, Trainer, Training
from simulators.base import exact_log_prob
from simulators.prior import Box

BETA = Box(beta=(0.1, 0.7))


def ising(rows, columns, **options):
    return Law.of("ising", {"size": rows, "width": columns} | options)


def potts(*shape, levels=3, symmetries=("shift", "reflect")):
    return Law("potts", BETA, shape, "levels", symmetries, {}, levels)


def spins(*shape, symmetries=()):
    return Law("spins", BETA, shape, "spins", symmetries)


def model(law, scale=0.2, **options):
    made = Autoregressive.create(law, AutoregressiveConfig(**{"hidden": 16} | options), seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for w in made.parameters():
            w += scale * torch.randn(w.shape, generator=generator)
    return made.eval()


def states(law):
    values = range(law.levels) if law.levels else (-1, 1)
    x = np.array(list(itertools.product(values, repeat=law.size)), np.int8)
    return torch.from_numpy(x).view(-1, *law.x_shape)


def of_states(surrogate, at=0.4):
    """Log p of every state at one θ."""
    x = states(surrogate.law)
    theta = torch.full((len(x), len(surrogate.law.prior)), at, dtype=torch.float64)
    return surrogate.log_prob(theta, x)


CASES = {
    "2x2": (ising(2, 2), {}),
    "2x2, raster": (ising(2, 2), {"order": "raster"}),
    "3x3": (ising(3, 3), {}),
    "2x4, couplings": (ising(2, 4, theta="beta-xy"), {}),
    "4x2, a field": (ising(4, 2, theta="beta-h"), {}),
    "4x2, raster": (ising(4, 2), {"order": "raster"}),
    "4x4": (ising(4, 4), {}),
    "4x4, raster": (ising(4, 4), {"order": "raster"}),
    "4x4, all": (ising(4, 4), {"context": "all"}),
    "3x5": (ising(3, 5), {}),
    "3x5, all": (ising(3, 5), {"context": "all", "order": "raster"}),
    "3x5, checkerboard": (ising(3, 5), {"order": "checkerboard"}),
    "open 2x5, checkerboard": (spins(2, 5, symmetries=("flip",)), {"order": "checkerboard"}),
    "vector of 7": (spins(7), {}),
    "1 site": (spins(1), {}),
    "2x3x2": (spins(2, 3, 2, symmetries=("flip",)), {}),
    "3 levels, 2x4": (potts(2, 4), {}),
    "3 levels, 3x3": (potts(3, 3), {}),
    "3 levels, all": (potts(3, 3), {"context": "all"}),
    "5 levels, vector of 5": (potts(5, levels=5, symmetries=()), {}),
    "2 levels, 3x3": (potts(3, 3, levels=2), {}),
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


# --- normalised, whatever the weights ------------------------------------------------------------


def test_the_sum_over_all_states_is_1(case):
    law, options = case
    log_p = of_states(model(law, **options))
    assert abs(float(log_p.exp().sum()) - 1) < 2e-6
    assert len(log_p) < 3 or log_p.std() > 0.1, "the weights say nothing"


def test_a_site_that_sees_itself_is_found_by_that_sum():
    """The control: one parent too many."""
    leaky = model(spins(7))
    stage = leaky.stages[0]
    stage.parents[:, 0] = stage.sites
    assert abs(float(of_states(leaky).exp().sum()) - 1) > 0.01


@pytest.mark.parametrize("law", [ising(3, 3), ising(2, 4), potts(2, 3)])
def test_the_average_over_the_symmetries_is_normalised_and_symmetric(law):
    plain = model(law)
    log_p = of_states(plain.using(symmetrise=True))
    assert abs(float(log_p.exp().sum()) - 1) < 2e-6
    x = states(law)
    theta = torch.full((len(x), 1), 0.4, dtype=torch.float64)
    for image in Symmetries(law).images(x):
        again = plain.using(symmetrise=True).log_prob(theta, image)
        torch.testing.assert_close(again, log_p, rtol=0, atol=1e-5)


def test_log_p_is_exact_and_kept_in_float64(case):
    law, options = case
    surrogate = model(law, **options)
    assert check_surrogate(surrogate) == []
    x = states(law)[:11]
    theta = torch.from_numpy(law.prior.sample(len(x), np.random.default_rng(1)))
    value, stderr, kind = surrogate.log_prob_with_error(theta, x)
    assert (value.dtype, kind) == (torch.float64, Likelihood.EXACT)
    assert not stderr.any()


# --- what a site sees ----------------------------------------------------------------------------


def conditionals(surrogate, x, c):
    """Log odds of every site by its number in the chain, (B, N, K − 1)."""
    field = surrogate.field(surrogate.site.values(x))
    return torch.cat([s.raw(field, s.all, s.net.coefficients(c)) for s in surrogate.stages], 1)


def test_no_conditional_depends_on_its_own_or_a_later_site(case):
    law, options = case
    surrogate = model(law, **options)
    generator = torch.Generator().manual_seed(3)
    x = surrogate.sample(torch.full((4, len(law.prior)), 0.4), generator).flatten(1)
    c = torch.zeros(4, len(law.prior))
    before = conditionals(surrogate, x, c)
    chain = torch.cat([s.sites for s in surrogate.stages]).tolist()
    assert sorted(chain) == list(range(law.size))
    seen = 0
    for t, site in enumerate(chain):
        moved = x.clone()
        moved[:, site] = (x[:, site] + 1) % law.levels if law.levels else -x[:, site]
        after = conditionals(surrogate, moved, c)
        assert torch.equal(after[:, : t + 1], before[:, : t + 1])
        seen += bool((after[:, t + 1 :] != before[:, t + 1 :]).any())
    assert seen >= (law.size - 1) // 2, "nothing is seen at all"


def test_the_frontier_by_hand():
    """Columns relative to the site's own; 9 for none."""
    last, first = frontier(3, 3, torch.arange(9)).split(3, 1)
    assert last[0].tolist() == [9, 9, 9]
    assert last[4].tolist() == [1, 2, 3]
    assert last[8].tolist() == [5, 6, 7]
    assert first[8].tolist() == [2, 0, 1]


def test_the_frontier_of_one_colour_is_the_last_and_first_row_of_it():
    (even, odd) = parts(4, 4, checkerboard=True, periodic=True, whole=False)
    assert even.sites.tolist() == [0, 2, 5, 7, 8, 10, 13, 15]
    at = even.sites.tolist().index(10)
    assert even.parents[at].tolist() == [2, 7, 8, 5, 2, 7, 0, 5]
    assert odd.sites.tolist() == [1, 3, 4, 6, 9, 11, 12, 14]
    assert sorted(odd.parents[0].tolist()) == [0, 2, 5, 13]
    assert odd.at_once


def test_neighbours_of_an_open_lattice_are_missing_beyond_its_edge():
    assert nearest_neighbours(2, 3, periodic=False)[0].tolist() == [6, 6, 1, 3]
    assert nearest_neighbours(2, 3, periodic=True)[0].tolist() == [3, 2, 1, 3]


def exact_table(law, at=0.4):
    """Exact p of every state, as an array with an axis for each site."""
    x = states(law)
    log_p = exact_log_prob(law.build())(np.full((len(x), 1), at), x.numpy())
    return np.exp(log_p).reshape([2] * law.size)


def of_sites(table, sites):
    """p of every state of some sites alone."""
    return table.sum(tuple(i for i in range(table.ndim) if i not in sites))


@pytest.mark.parametrize(
    ("shape", "order"), [((4, 4), "checkerboard"), ((4, 4), "raster"), ((3, 5), "raster")]
)
def test_the_frontier_says_all_that_the_past_does(shape, order):
    """By enumeration: states of the past that share a frontier share the exact conditional."""
    law = ising(*shape)
    spread, control = 0.0, 0.0
    stages, table = model(law, order=order).stages, exact_table(law)
    past: list[int] = []
    for stage in stages:
        for site, parents in zip(stage.sites.tolist(), stage.parents.tolist(), strict=True):
            if past:
                together = of_sites(table, [*past, site])
                order_of = sorted([*past, site])
                joint = np.moveaxis(together, order_of.index(site), -1).reshape(-1, 2)
                odds = np.log(joint[:, 1] / joint[:, 0])
                bits = np.arange(len(odds))[:, None] >> np.arange(len(past))[::-1] & 1
                seen = [sorted(past).index(p) for p in set(parents) if p in past]
                spread = max(spread, within(odds, bits[:, seen]))
                control = max(control, within(odds, bits[:, seen[1:]]))
            if not stage.at_once:
                past.append(site)
    assert spread < 1e-9 < 0.1 < control


def within(odds, key):
    """The largest spread of values that share a key."""
    number = key @ (1 << np.arange(key.shape[1])) if key.shape[1] else np.zeros(len(key), int)
    order = np.argsort(number, kind="stable")
    first = np.flatnonzero(np.diff(number[order], prepend=-1))
    return (
        np.maximum.reduceat(odds[order], first) - np.minimum.reduceat(odds[order], first)
    ).max()


# --- samples -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("law", "options"),
    [
        (ising(2, 4), {}),
        (ising(2, 3), {}),
        (ising(2, 3), {"context": "all"}),
        (spins(6), {}),
        (potts(2, 2), {}),
        (potts(4, symmetries=()), {}),
    ],
)
def test_samples_follow_log_p(law, options):
    surrogate = model(law, **options)
    p = of_states(surrogate).exp().numpy()
    assert p_value(surrogate, p) > 1e-3
    wrong = model(law, scale=0.25, **options)
    assert p_value(wrong, p) < 1e-6, "the control: other weights"


def p_value(surrogate, p, n=20_000):
    """Chi-square of samples against the law p over all states."""
    theta = torch.full((n, 1), 0.4)
    x = surrogate.sample(theta, torch.Generator().manual_seed(5))
    base = max(2, surrogate.law.levels)
    values = surrogate.site.values(x).numpy()
    code = values @ base ** np.arange(surrogate.law.size)[::-1]
    return chisquare(np.bincount(code, minlength=len(p)), n * p / p.sum()).pvalue


def test_drawing_site_by_site_is_what_whole_evaluations_give(case):
    """The same uniform numbers, one evaluation of all conditionals for each site."""
    law, options = case
    surrogate = model(law, **options)
    generator = torch.Generator().manual_seed(7)
    c = torch.rand(29, len(law.prior), generator=generator)
    u = torch.rand(29, law.size, generator=generator)
    values = torch.zeros(29, law.size, dtype=torch.long)
    with torch.no_grad():
        for stage in surrogate.stages:
            for t, site in enumerate(stage.sites.tolist()):
                field = surrogate.field(values)
                odds = stage.raw(field, stage.all, stage.net.coefficients(c))[:, t]
                p = torch.cat([torch.zeros(29, 1), odds], 1).softmax(1)
                values[:, site] = (u[:, [site]] >= p.cumsum(1)[:, :-1]).sum(1)
        assert torch.equal(surrogate.draw(c, u), values)


# --- symmetry ------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"order": "raster"}, {"context": "all"}])
def test_a_declared_flip_is_exact(options):
    law = ising(4, 4)
    surrogate = model(law, **options)
    x = states(law)[:5000:7]
    theta = torch.full((len(x), 1), 0.3, dtype=torch.float64)
    a, b = (surrogate.log_prob(theta, y) for y in (x, -x))
    torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_without_it_there_is_none():
    law = ising(4, 4, theta="beta-h")
    surrogate = model(law)
    x = states(law)[:5000:7]
    theta = torch.full((len(x), 2), 0.3, dtype=torch.float64)
    a, b = (surrogate.log_prob(theta, y) for y in (x, -x))
    assert (a - b).abs().max() > 0.1


# --- the gradient in closed form ----------------------------------------------------------------

GRADIENTS = {
    "checkerboard": (ising(4, 6), {"sites": 5}),
    "no flip, all sites": (ising(4, 4, theta="beta-h"), {"sites": 0, "blocks": 2}),
    "no blocks": (ising(3, 5), {"blocks": 0}),
    "levels": (potts(3, 4, levels=4), {"context": "all", "sites": 7, "hidden": 70}),
}


def both_gradients(surrogate, rows, batch=37):
    """Mean loss and half its gradient, in closed form and by autograd, and autograd's elsewhere.

    Elsewhere is another θ: a control that the numbers tell the difference.
    """
    generator = np.random.default_rng(3)
    theta = torch.from_numpy(surrogate.law.prior.sample(batch, generator))
    (objective,) = surrogate.objectives()

    def by_autograd(theta):
        loss = surrogate.loss(theta, rows, torch.Generator().manual_seed(4)).mean()
        return loss.detach(), torch.autograd.grad(loss / 2, objective.parameters)

    value = objective.gradient(theta, rows, torch.Generator().manual_seed(4), 1.0, 0.5)
    found = [w.grad for w in objective.parameters]
    return (value, found), by_autograd(theta), by_autograd(theta.flip(0))


@pytest.mark.parametrize("name", GRADIENTS)
def test_the_gradient_in_closed_form_is_that_of_autograd(name):
    law, options = GRADIENTS[name]
    surrogate, rng = model(law, 0.1, **options).train(), np.random.default_rng(2)
    values = range(law.levels) if law.levels else (-1, 1)
    x = torch.from_numpy(rng.choice(np.array(values, np.int8), (37, *law.x_shape)))
    (value, found), (loss, expected), (_, other) = both_gradients(surrogate, x)
    torch.testing.assert_close(value, loss, atol=0, rtol=1e-6)
    for a, b, c in zip(found, expected, other, strict=True):
        size = float(b.abs().max())
        torch.testing.assert_close(a, b, atol=1e-5 * size, rtol=1e-4)
        assert (b - c).abs().max() > 1e-3 * size


@pytest.mark.parametrize(
    ("law", "options"),
    [(spins(5), {"hidden": 200}), (Law("r", BETA, (5,), "reals", (), {}), {})],
)
def test_what_it_does_not_know_is_left_to_autograd(law, options):
    (objective,) = model(law, **options).objectives()
    assert objective.gradient is None


def test_a_loss_of_ones_own_is_left_to_autograd():
    class Own(Autoregressive):
        """One whose loss may be another."""

        name = "own"

    config = AutoregressiveConfig()
    for cls, closed in ((Autoregressive, True), (Own, False)):
        (objective,) = cls.create(spins(3), config).objectives()
        assert (objective.gradient is not None) == closed


def test_a_training_down_it_is_that_of_autograd(monkeypatch):
    law, rng = ising(4, 4), np.random.default_rng(0)
    theta = torch.from_numpy(law.prior.sample(70, rng))
    x = torch.from_numpy(law.build().sample(theta.numpy(), rng))

    def trained():
        surrogate, data = model(law), InMemory(theta, x)
        run = Trainer(surrogate, data, data, Training(epochs=3, batch_size=32))
        return run.parts[0][0].gradient, [epoch.val for epoch in run]

    gradient, losses = trained()
    monkeypatch.setattr(Autoregressive, "objectives", Surrogate.objectives)
    none, expected = trained()
    assert gradient
    assert none is None
    assert losses == pytest.approx(expected, rel=1e-5)
    assert losses[0] > losses[-1] + 0.01


def test_weights_that_want_no_gradient_get_none():
    surrogate, x = model(ising(4, 4)).train(), torch.ones(5, 4, 4)
    frozen, *others = surrogate.parameters()
    frozen.requires_grad_(False)
    (objective,) = surrogate.objectives()
    value = objective.gradient
    assert value
    value(torch.full((5, 1), 0.4), x, torch.Generator(), 1.0, 1.0)
    assert frozen.grad is None
    assert all(w.grad is not None for w in others)


def test_other_precision_is_left_to_autograd():
    surrogate, data = model(spins(5)), InMemory(torch.full((4, 1), 0.4), states(spins(5))[:4])
    for precision, closed in (("auto", True), ("fp32", True), ("bf16", False)):
        ((objective, *_),) = Trainer(surrogate, data, data, Training(precision=precision)).parts
        assert (objective.gradient is not None) == closed


# --- training ------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [500, pytest.param(2000, marks=pytest.mark.slow)])
def test_a_step_on_some_sites_has_the_loss_of_all_of_them_as_its_mean(steps):
    law = ising(4, 4)
    surrogate = model(law, sites=3)
    rng = np.random.default_rng(8)
    theta = torch.from_numpy(law.prior.sample(5, rng))
    x = torch.from_numpy(law.build().sample(theta.numpy(), rng))
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        whole = surrogate.loss(theta, x, generator)
        torch.testing.assert_close(whole.double(), -surrogate.log_prob(theta, x))
        surrogate.train()
        some = torch.stack([surrogate.loss(theta, x, generator) for _ in range(steps)])
    z = (some.mean(0) - whole) / (some.std(0) / steps**0.5)
    assert z.abs().max() < 4
    assert (some.std(0) > 0.1).all()


def scored(surrogate, theta, x):
    return surrogate.log_prob(torch.from_numpy(theta), torch.from_numpy(x)).numpy()


def trained(law, theta, x, epochs=8, **options):
    """A surrogate after a few seconds of training."""
    made = Autoregressive.create(law, AutoregressiveConfig(**{"hidden": 32} | options), seed=0)
    rows = [InMemory(torch.from_numpy(theta[i::2]), torch.from_numpy(x[i::2])) for i in (0, 1)]
    config = Training(epochs=epochs, warm_up_steps=20, ema=0.98)
    for _ in Trainer(made, *rows, config):
        pass
    return made.eval()


@pytest.mark.parametrize(
    ("options", "n", "most"),
    [
        ({}, 8000, 0.1),
        pytest.param({}, 16_000, 0.05, marks=pytest.mark.slow),
        pytest.param({"order": "raster"}, 16_000, 0.05, marks=pytest.mark.slow),
        pytest.param({"context": "all"}, 16_000, 0.05, marks=pytest.mark.slow),
    ],
)
def test_it_learns_the_ising_law(options, n, most):
    law = ising(4, 4)
    simulator = law.build()
    rng = np.random.default_rng(10)
    theta = law.prior.sample(n, rng)
    surrogate = trained(law, theta, simulator.sample(theta, rng), **options)
    theta = law.prior.sample(2000, rng)
    x = simulator.sample(theta, rng)
    gap = exact_log_prob(simulator)(theta, x) - scored(surrogate, theta, x)
    assert -4 * gap.std() / 2000**0.5 < gap.mean() < most, "nats in all"
    blank = Autoregressive.create(law, AutoregressiveConfig())
    assert (exact_log_prob(simulator)(theta, x) - scored(blank, theta, x)).mean() > 1


@pytest.mark.slow
def test_it_learns_levels():
    """Potts, q = 3, on a 2 × 3 torus, whose law is a table."""
    law = potts(2, 3)
    x = states(law).numpy()
    equal = sum((x == np.roll(x, 1, axis)).sum((1, 2)) for axis in (1, 2))
    assert len(x) == 3**6
    rng = np.random.default_rng(11)

    def draw(n):
        theta = law.prior.sample(n, rng)
        p = np.exp(theta * equal)
        p /= p.sum(1, keepdims=True)
        rows = (rng.random((n, 1)) > p.cumsum(1)).sum(1).clip(max=len(x) - 1)
        return theta, x[rows], np.log(p[np.arange(n), rows])

    surrogate = trained(law, *draw(16_000)[:2])
    theta, x, log_p = draw(2000)
    gap = log_p - scored(surrogate, theta, x)
    assert -4 * gap.std() / 2000**0.5 < gap.mean() < 0.05, "nats in all"


def test_levels_of_ones_own_simulator_go_through_files(tmp_path):
    law = potts(2, 3, symmetries=())

    def make(shard):
        rng = np.random.default_rng(shard.seed)
        return Rows(rng.integers(3, size=(len(shard), 2, 3)), law.prior.sample(len(shard), rng))

    write(tmp_path / "data.h5", 300, Meta(law, {"kind": "simulator"}, 3, {}), make)
    physgen.fit(
        "autoregressive", tmp_path / "data.h5", out=tmp_path / "m.pt", device="cpu", epochs=1
    )
    physgen.sample(tmp_path / "m.pt", out=tmp_path / "drawn.h5", n=100, device="cpu")
    drawn = read(tmp_path / "drawn.h5")
    assert drawn.meta.law == law
    assert drawn.x.dtype == np.int8
    assert np.unique(drawn.x).tolist() == [0, 1, 2]


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("law", "options", "told"),
    [
        (spins(7), {"order": "checkerboard"}, "order checkerboard: not for x of shape"),
        (spins(4, 4), {"context": "frontier"}, "context frontier: not for x that is no lattice"),
        (spins(7, symmetries=("shift",)), {"context": "frontier"}, "context frontier"),
        (potts(9, 9, levels=1000), {}, "separate networks, .* expected at most 64, got 81"),
        (potts(3, levels=1000), {"network": "shared"}, "network: expected separate for levels"),
    ],
)
def test_what_it_cannot_do_is_told_in_one_line(law, options, told):
    with pytest.raises(UsageError, match=told) as caught:
        Autoregressive.create(law, AutoregressiveConfig(**options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", [{"hidden": 0}, {"blocks": -1}, {"sites": -1}])
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="expected at least"):
        AutoregressiveConfig(**wrong)


# --- other sizes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "size"), [({"context": "all"}, 6), ({}, 5)])
def test_chains_of_another_kind_are_refused_at_another_size(options, size):
    with pytest.raises(UsageError, match="do not fit x of shape"):
        model(ising(4, 4), **options).at(ising(size, size))


@pytest.mark.parametrize("law", [ising(8, 6), potts(5, 3)])
def test_a_larger_torus_keeps_all_that_a_smaller_one_knew(law):
    small = model(law)
    rows, columns = law.x_shape
    back = small.at(replace(law, x_shape=(2 * rows + 2, columns + 4))).at(law)
    x = small.sample(torch.full((9, 1), 0.4), 1)
    theta = torch.full((9, 1), 0.3, dtype=torch.float64)
    torch.testing.assert_close(back.log_prob(theta, x), small.log_prob(theta, x))


def test_a_site_of_a_larger_torus_is_drawn_as_one_with_the_same_neighbours():
    """From two columns on either side; controls are other sites, and a column further."""
    field = {"theta": "beta-h"}
    small = model(ising(8, 4, **field)).at(ising(8, 8, **field))
    assert not small.stages[0].net.enter.weight.view(16, 2, 8)[..., 3:6].any()
    large = small.at(ising(16, 16, **field))
    generator = torch.Generator().manual_seed(4)
    x = 2.0 * torch.randint(2, (7, 8, 8), generator=generator) - 1

    def odds(one, x):
        found = torch.zeros(len(x), one.law.size)
        stage = one.stages[0]
        of_chain = conditionals(one, x.flatten(1), torch.zeros(len(x), 2))[:, : len(stage.sites)]
        found[:, stage.sites] = of_chain[..., 0]
        return found.view(x.shape)

    here, there = [2, 3, 4, 5, 6, 7], [2, 3, 12, 13, 14, 15]
    expected = odds(small, x)[:, here][..., here[:4]]
    found = odds(large, x.repeat(1, 2, 2))
    torch.testing.assert_close(found[:, there][..., there[:4]], expected)
    assert (found[:, there][..., 1:5] - expected).abs().max() > 0.1
    further = odds(small.at(ising(16, 16, **field)), x.repeat(1, 2, 2).roll(1, 2))
    assert (further[:, there][..., there[:4]] - expected).abs().max() > 0.1


@pytest.mark.slow
def test_a_tuning_at_twice_the_size_is_worth_more_than_a_beginning():
    """Total nats of 300 lattices, over models of as many epochs on the same rows."""
    data = [
        physgen.simulate("ising", n=n, size=size, seed=1) for size, n in ((8, 2000), (16, 500))
    ]
    small = physgen.fit("autoregressive", data[0], epochs=10, seed=1)
    given = {"epochs": 10, "batch_size": 64, "seed": 1}
    tuned = physgen.fit("autoregressive", data[1], from_=small, learning_rate=1e-3, **given)
    anew = physgen.fit("autoregressive", data[1], **given)
    test = physgen.simulate("ising", n=300, size=16, seed=2).read()
    exact = exact_log_prob(test.meta.law.build())(test.theta, test.x)
    gap, other = (exact - one.log_prob(test.theta, test.x).numpy() for one in (tuned, anew))
    better = other - gap
    assert better.mean() > 5 * better.std() / 300**0.5
    assert gap.mean() < 1
