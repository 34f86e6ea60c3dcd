"""Missing components of x: NaN, integrated out, against closed forms and integrals."""

import json
import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp, multivariate_normal

import physgen
import simulators.base as declared
from physgen.checks.two_sample.comparison import comparison
from physgen.dataset import Dataset, Meta, Rows, validated
from physgen.dataset.assumptions import broken_assumptions, float_type, relation
from physgen.dataset.joined import JoinedDataset
from physgen.dataset.missing import (
    depends_on_theta,
    imputed,
    masked_like,
    missing_in_words,
    missing_warnings,
    two_sample_p,
)
from physgen.errors import DataError, UsageError
from physgen.law import Law
from physgen.nn.embedding import with_mask
from physgen.nn.transforms import LogHurdle, Standardise
from physgen.sbi.networks import train
from physgen.surrogates.cvae import CVAE, CVAEConfig
from physgen.surrogates.diffusion import Diffusion, DiffusionConfig
from simulators.gaussian import LinearGaussian

NAN = np.nan


@dataclass(frozen=True)
class Gappy(LinearGaussian):
    """The linear Gaussian, a fifth of whose components are missing."""

    part: float = 0.2
    missing: ClassVar[bool] = True

    def sample(self, theta, rng):
        x = super().sample(theta, rng)
        return np.where(rng.random(x.shape) < self.part, NAN, x)


@dataclass(frozen=True)
class Correlated(Gappy):
    """The same with a noise that all components share, which latents must carry."""

    @property
    def covariance(self):
        v = np.linspace(0.5, 1.5, self.size)
        return self.noise**2 * np.eye(self.size) + np.outer(v, v)

    def sample(self, theta, rng):
        e = rng.standard_normal((len(theta), self.size))
        x = self.mean(theta) + e @ np.linalg.cholesky(self.covariance).T
        return np.where(rng.random(x.shape) < self.part, NAN, x)


def posterior(simulator, covariance, x):
    """Mean and widths of the untruncated posterior of each x: rows of A left out, (n, D) each."""
    found = []
    for row in x.astype(float):
        k = ~np.isnan(row)
        a, inverse = simulator.matrix[k], np.linalg.inv(covariance[np.ix_(k, k)])
        c = np.linalg.inv(a.T @ inverse @ a)
        mean = c @ a.T @ inverse @ (row[k] - simulator.offset[k])
        found.append((mean, np.sqrt(np.diag(c))))
    return (np.array(v) for v in zip(*found, strict=True))


def rows_of(simulator, n, seed=0):
    law, rng = Law.of(type(simulator), vars(simulator)), np.random.default_rng(seed)
    theta = law.prior.sample(n, rng)
    return law, theta, simulator.sample(theta, rng).astype(np.float32)


def dataset_of(simulator, n, seed=0):
    law, theta, x = rows_of(simulator, n, seed)
    return Dataset(Rows(x, theta, meta=Meta(law)))


# -- the law ---------------------------------------------------------------------------------


def test_a_simulator_declares_it_and_old_files_open():
    law = Law.of(Gappy)
    assert law.missing
    assert declared.missing(Gappy())
    assert not Law.of("gaussian").missing
    assert "missing" not in Law.of("gaussian").to_json()
    assert Law.from_json(json.loads(json.dumps(law.to_json()))) == law


@pytest.mark.parametrize("support", ["spins", "levels"])
def test_integers_have_no_nan(support):
    levels = 4 if support == "levels" else 0
    with pytest.raises(ValueError, match=f"missing: {support} are kept as integers"):
        replace(Law.of(Gappy), support=support, levels=levels)


def test_a_dataset_keeps_nan_and_refuses_infinity(tmp_path):
    made = physgen.simulate(Gappy(), n=50, out=tmp_path / "a.h5")
    assert np.isnan(made.x).any()
    assert 0.1 < np.isnan(physgen.read(tmp_path / "a.h5").x).mean() < 0.3
    law, theta, x = rows_of(Gappy(), 4)
    x[2, 1] = np.inf
    with pytest.raises(DataError, match="row 2: x is infinite"):
        validated(Rows(x, theta), law)
    x[2, 1] = NAN
    with pytest.raises(DataError, match="x is not finite"):
        validated(Rows(x, theta), replace(law, missing=False))
    low = replace(law, support="nonnegative")
    with pytest.raises(DataError, match=r"x is negative \(1 of 1 rows\)"):
        validated(Rows(np.float32([[1, NAN, -1, 0, 0]])), low)
    assert np.isnan(validated(Rows(np.float32([[1, NAN, 1, 0, 0]])), low).x).sum() == 1


def test_masked_arrays_keep_their_mask():
    x = np.ma.masked_array(np.ones((3, 5)), mask=np.eye(3, 5, dtype=bool))
    assert np.isnan(Dataset(Rows(x)).x).sum() == 3
    assert Dataset(Rows(np.ma.masked_array(np.ones((3, 5), int)))).x.dtype.kind == "i"


def test_rows_with_missing_components_are_known_again():
    """And so is a row of which the part before has another type, after one that shares theta."""
    law, theta, x = rows_of(Gappy(), 30)
    first = Dataset(Rows(x, theta, meta=Meta(law)))
    _, others, more = rows_of(Gappy(), 30, seed=1)
    others[10:20], more[11:20] = theta[:10], x[1:10]
    wide = Dataset(Rows(more.astype(float), others, meta=Meta(replace(law, dtype="float64"))))
    with pytest.raises(UsageError, match=r"row 11 is row 1 of .* 10 rows share"):
        JoinedDataset([first, wide])


def test_joined_rows_may_be_missing_if_those_of_one_may(tmp_path):
    law, theta, x = rows_of(Gappy(), 30)
    a = Dataset(Rows(x, theta, meta=Meta(law)))
    _, theta, x = rows_of(Gappy(), 30, seed=1)
    b = Dataset(Rows(np.nan_to_num(x), theta, meta=Meta(replace(law, missing=False))))
    for parts in ([a, b], [b, a]):
        assert physgen.dataset.JoinedDataset(parts).law.missing


# -- what is said of data --------------------------------------------------------------------


def test_relations_are_found_where_rows_are_complete():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 4))
    x[:, 3] = 2 * x[:, 0] + 5
    gone = rng.random(400) < 0.3
    x[gone, 0] = x[gone, 3] = NAN
    x[rng.random(400) < 0.3, 1] = NAN
    assert relation(x).names((4,)) == ["x[3] = 2 x[0] + 5"]
    x[5, 3] = x[5, 0] = 7.0  # one row that breaks it, complete or not
    assert relation(x).kept.all()
    few = np.where(rng.random((400, 4)) < 0.99, NAN, x)
    few[:, 2] = np.where(np.isnan(few[:, 2]), NAN, 3.0)
    assert relation(few).kept.tolist() == [True, True, False, True]


def test_types_and_tails_do_not_mind_nan():
    x = np.random.default_rng(0).standard_normal((300, 3))
    x[::3, 1] = NAN
    assert float_type(x) == "float32"
    assert float_type(x + 1e9) == "float64"
    law = replace(Law.of(Gappy), x_shape=(3,))
    assert list(broken_assumptions(law, x)) == []
    x[:, 2] = np.where(np.arange(300) % 2, NAN, np.random.default_rng(1).standard_cauchy(300) ** 3)
    x[:, 0] = NAN
    said = " ".join(broken_assumptions(law, x))
    assert "x[0] is missing in all rows" in said
    assert "x[2] has heavy tails" in said


def test_two_sample_p_is_that_of_scipy():
    rng = np.random.default_rng(0)
    values, masks = rng.normal(size=500).round(1), rng.random((500, 3)) < 0.3
    masks[:, 2] = values + rng.normal(size=500) > 1
    for j, p in enumerate(two_sample_p(values, masks)):
        inside = masks[:, j]
        exact = ks_2samp(values[inside], values[~inside], method="asymp").pvalue
        assert p == pytest.approx(exact, rel=0.1, abs=1e-12)
    assert two_sample_p(values, np.arange(500)[:, None] < 5)[0] == 1


def test_a_mask_that_depends_on_theta_is_told():
    law, theta, x = rows_of(Gappy(), 2000)
    assert list(missing_warnings(law, theta, x)) == []
    x[(theta[:, 1] > 0) & (np.arange(2000) % 2 > 0), 3] = NAN
    d, i, p = next(depends_on_theta(theta, x))
    assert (d, i) == (1, 3)
    assert p < 1e-10
    (line,) = missing_warnings(law, theta, x)
    assert "x[3] on theta2, p = " in line
    false = sum(bool(list(depends_on_theta(*rows_of(Gappy(), 300, s)[1:]))) for s in range(30))
    assert false <= 1


def test_how_much_is_missing_is_told():
    x = np.array([[1, NAN], [NAN, NAN], [1, 2], [1, 2]])
    assert missing_in_words(x) == (
        "37.5% of the components missing, 50.0% of the rows complete, 1 without any"
    )
    assert missing_in_words(np.ones((3, 2))) == ""
    assert np.array_equal(np.isnan(masked_like(np.ones((4, 2)), x)), np.isnan(x))
    assert imputed(x, np.array([5.0, 6.0])).tolist() == [[1, 6], [5, 6], [1, 2], [1, 2]]


# -- maps ------------------------------------------------------------------------------------


@pytest.mark.parametrize("heavy", [False, True])
def test_reals_are_scaled_by_what_is_there(heavy):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2000, 3)) * [1, 10, 100] + 5
    x = x / rng.random((2000, 1)) ** 2 if heavy else x
    x[rng.random(x.shape) < 0.3] = NAN
    law = replace(Law.of(Gappy), x_shape=(3,), dtype="float64")
    transform = Standardise(law)
    transform.fit(torch.from_numpy(x))
    assert bool(transform.heavy.any()) == heavy
    if not heavy:
        np.testing.assert_allclose(transform.mean, np.nanmean(x, 0))
        np.testing.assert_allclose(transform.std, np.nanstd(x, 0))
    z = transform(torch.from_numpy(x))
    assert np.array_equal(z.isnan(), np.isnan(x))
    row = torch.from_numpy(x[(~np.isnan(x)).sum(1) == 2][:1]).requires_grad_()
    slope = torch.autograd.grad(transform(row).nan_to_num().sum(), row)[0]
    there = ~row.isnan()
    assert (slope[~there] == 0).all()  # and not NaN
    expected = slope[there].log().sum().item()
    assert transform.log_det(row).item() == pytest.approx(expected, rel=1e-5)
    whole = transform.log_det(row.nan_to_num(5.0)).item()
    assert abs(whole - expected) > 0.1  # the control: with the volume of what is missing


def test_hurdles_show_what_is_missing_as_neither():
    law = replace(Law.of(Gappy), x_shape=(3,), support="nonnegative")
    transform = LogHurdle(law)
    x, gone = torch.from_numpy(np.random.default_rng(0).random((2, 300, 3), np.float32))
    x = x.masked_fill(gone < 0.3, torch.nan)
    x[0] = torch.tensor([0.0, NAN, 2.0])
    transform.fit(x)
    z = transform(x)[:1]
    assert z[0, 0] == -math.inf
    assert z[0, 1].isnan()
    from physgen.nn.blocks import seen

    assert seen(law, z)[0, :3, 0, 0].tolist() == [-1, 0, 1]
    assert transform.log_det(x[:1]).item() == pytest.approx(-math.log(2.0))


def test_what_others_tell_is_refused_where_it_would_be_lost():
    law, _, x = rows_of(Gappy(), 300)
    x[:, 3] = 2 * x[:, 0] + 5
    model = CVAE.create(law, CVAEConfig())
    model.fit_transform(torch.from_numpy(x))  # both sides are missing together
    x[7, 0], x[7, 3] = NAN, 6.0
    with pytest.raises(DataError, match=r"x\[3\] = 2 x\[0\] \+ 5, and in 1 of 300 rows one side"):
        model.fit_transform(torch.from_numpy(x))
    x[:, 2] = NAN
    with pytest.raises(DataError, match=r"1 of 5 components are missing in all rows, x\[2\]"):
        model.fit_transform(torch.from_numpy(x))


# -- families --------------------------------------------------------------------------------


def small(support="reals"):
    """An untrained model whose latents matter, on x of two components."""
    law = replace(Law.of(Gappy, {"size": 2}), support=support)
    model = CVAE.create(law, CVAEConfig(latent_dim=1, levels=1, channels=8), seed=3)
    rng = np.random.default_rng(0)
    x = (
        np.exp(rng.standard_normal((400, 2)))
        if support == "nonnegative"
        else (3 * rng.standard_normal((400, 2)))
    )
    model.fit_transform(torch.from_numpy(x).float())
    with torch.no_grad():
        for weight in model.decoder.parameters():
            weight.mul_(2.0)
    return model.eval()


@pytest.mark.parametrize("support", [pytest.param("reals", marks=pytest.mark.slow), "nonnegative"])
def test_a_cvae_integrates_out_what_is_missing(support):
    """Against the integral of its own density over the missing component."""
    model = small(support)
    if support == "reals":
        grid, atom = torch.linspace(-40, 40, 401), []
        step = torch.full((401,), 80 / 400)
    else:
        log = torch.linspace(-12, 12, 401)
        grid, step, atom = log.exp(), log.exp() * 24 / 400, [torch.zeros(1)]
    second = torch.cat([grid, *atom])
    weight = torch.cat([step, *(torch.ones(1) for _ in atom)])
    theta = torch.tensor([[0.3, -0.7]], dtype=torch.float64)
    for first in (0.4, 1.7):
        x = torch.stack([torch.full_like(second, first), second], 1)
        every = model.log_prob(theta.expand(len(x), -1), x, draws=500)
        integral = (every + weight.log()).logsumexp(0)
        alone = model.log_prob(theta, torch.tensor([[first, NAN]]), draws=4000)
        assert alone.item() == pytest.approx(integral.item(), abs=0.06)
    filled = model.log_prob(theta, torch.tensor([[1.7, 0.0]]), draws=4000)
    assert abs(filled.item() - integral.item()) > 0.2  # the control


@pytest.mark.parametrize("family", [CVAE, Diffusion])
def test_of_nothing_log_p_is_zero_and_gradients_are_none(family):
    law, theta, x = rows_of(Gappy(), 300)
    model = family.create(law, family.Config(), seed=1)
    model.fit_transform(torch.from_numpy(x))
    t, x = torch.from_numpy(theta[:3]), torch.from_numpy(x[:3])
    x[0] = NAN
    found = model.log_prob_with_error(t, x, draws=8)
    assert found.value[0] == 0
    assert found.stderr[0] == 0
    assert found.value.isfinite().all()
    t, x = t.requires_grad_(), x.requires_grad_()
    by_theta, by_x = torch.autograd.grad(model.log_prob(t, x, draws=8).sum(), (t, x))
    assert by_theta.isfinite().all()
    assert by_x.isfinite().all()
    assert (by_x[x.isnan()] == 0).all()
    assert model.sample(theta[:5], 0).isfinite().all()


def test_a_diffusion_bounds_what_is_there():
    """Before training it is a normal law of independent components, and its bound is exact."""
    law, theta, x = rows_of(Gappy(), 2000)
    model = Diffusion.create(law, DiffusionConfig(head="independent")).eval()
    model.fit_transform(torch.from_numpy(x))
    mean, width = np.nanmean(x, 0), np.nanstd(x, 0)
    found = model.log_prob_with_error(theta[:50], x[:50], draws=400)
    z = (x[:50] - mean) / width
    expected = np.nansum(-0.5 * z**2 - np.log(width * math.sqrt(2 * math.pi)) + 0 * z, 1)
    off = found.value.numpy() - expected
    error = found.stderr.numpy()
    assert (abs(off) < 5 * error + 0.01).all()
    assert abs(off.mean()) < 4 * np.sqrt((error**2).mean() / 50)
    whole = Diffusion.create(law, DiffusionConfig(head="independent")).eval()
    whole.transform = model.transform
    filled = whole.log_prob(theta[:50], imputed(x[:50], mean), draws=64).numpy()
    assert abs((filled - expected).mean()) > 0.5  # the control
    with pytest.raises(UsageError, match="or that are missing; use the bound"):
        model.using(estimator="ode").log_prob(theta[:2], x[:2])


@pytest.mark.parametrize("family", ["gan", "autoregressive"])
def test_others_refuse_in_one_line(family):
    data = dataset_of(Gappy(), 200)
    if family == "autoregressive":
        meta = Meta(replace(data.law, support="nonnegative"))
        data = Dataset(Rows(np.abs(data.x), data.theta, meta=meta))
    with pytest.raises(UsageError, match=f"{family}: cannot leave out missing components"):
        physgen.fit(family, data, epochs=1)


def test_a_model_of_complete_x_refuses_nan():
    law, theta, x = rows_of(LinearGaussian(), 200)
    model = CVAE.create(law, CVAEConfig())
    model.fit_transform(torch.from_numpy(x))
    x[1, 2] = NAN
    with pytest.raises(DataError, match="x: has NaN, and this cvae was trained on x without"):
        model.log_prob(theta, x)
    for bad in (np.inf, -np.inf):
        with pytest.raises(DataError, match="x: expected finite numbers, got inf"):
            model.log_prob(theta, np.where(np.isnan(x), bad, x))
    for bad in (np.inf, NAN):
        with pytest.raises(DataError, match="theta: expected finite numbers, got nan or inf"):
            model.log_prob(np.where(np.arange(len(x))[:, None] == 3, bad, theta), np.nan_to_num(x))
    with pytest.raises(DataError, match=r"row 1: x is not finite .* train on a dataset whose law"):
        physgen.infer(model, x)
    with pytest.raises(UsageError, match="has no mask for any; train anew"):
        physgen.fit("cvae", dataset_of(Gappy(), 200), from_=model, epochs=1)
    other = CVAE.create(Law.of(Gappy), CVAEConfig()).at(law)
    assert other.law.missing


# -- networks of sbi -------------------------------------------------------------------------


def test_networks_see_the_mask(tmp_path):
    law, theta, x = rows_of(Gappy(), 150)
    z = torch.tensor([[1.0, NAN, math.inf]])
    assert with_mask(law, z).tolist() == [[[1, 0, 0], [1, 0, 0]]]
    network = train("npe", law, theta, x, epochs=2)
    x = x[:4].copy()
    x[0] = NAN
    found = network.log_density(theta[:4], x)
    assert np.isfinite(found).all()
    network.save(tmp_path / "n.pt")
    again = type(network).load(tmp_path / "n.pt", torch.device("cpu"))
    np.testing.assert_allclose(again.log_density(theta[:4], x), found, rtol=1e-5)
    other = np.where(np.isnan(x), np.nanmean(x, 0), x)
    assert not np.allclose(network.log_density(theta[:4], other), found)  # the mask matters
    complete = train("npe", Law.of("gaussian"), theta, np.nan_to_num(x[:1].repeat(150, 0)) +
                     np.random.default_rng(0).normal(size=(150, 5)), epochs=2)  # fmt: skip
    with pytest.raises(DataError, match="network was trained on x without missing"):
        complete.log_density(theta[:4], x)


@pytest.mark.parametrize("method", ["nle", "abc"])
def test_methods_of_whole_x_refuse(method):
    data = dataset_of(Gappy(), 600)
    with pytest.raises(UsageError, match=f"{method}: .* npe"):
        physgen.infer(data, data.x[:2], method=method)


# -- verbs -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_fit_says_what_log_p_is(caplog):
    caplog.set_level("INFO")
    data = dataset_of(Gappy(), 1500)
    model = physgen.fit("cvae", data, epochs=1)
    assert "log p is that of the others, which leaves out what the mask itself says" in caplog.text
    assert "depends on theta" not in caplog.text
    assert model.info["held_out"]["auc"] > 0
    x = data.x.copy()
    x[(data.theta[:, 0] > 0.5), 2] = NAN
    bad = physgen.fit("cvae", Dataset(Rows(x, data.theta, meta=data.meta)), epochs=1)
    assert any("which components are missing depends on theta" in w for w in bad.info["warnings"])


@pytest.mark.slow
def test_all_verbs_take_it(tmp_path):
    data = dataset_of(Gappy(parameters=1), 300)
    model = physgen.fit("cvae", data, epochs=1)
    drawn = physgen.sample(model, n=60)
    assert np.isfinite(drawn.x).all()  # what is drawn is whole
    scores = physgen.validate(model, data[:40], draws=8, observations=4)
    assert scores["nll"]["rows"] == 40
    found = [v["js"] for v in scores["observables"].values()]  # of a vector a number, its mean
    assert np.isfinite([js["value"] if isinstance(js, dict) else js for js in found]).all()
    assert "missing" in physgen.inspect(data)
    found = physgen.infer(model, data.x[:3], samples=5)
    assert np.isfinite(found.theta).all()
    measured = comparison(drawn.rows, data.rows[:60], steps=20)
    assert any("means of the reference stand in their place" in w for w in measured["warnings"])
    data.plot()


@pytest.mark.slow
@pytest.mark.parametrize("simulator", [Gappy(noise=0.2), Correlated(noise=0.3)])
def test_posteriors_are_those_of_what_is_there(simulator):
    """Within a tenth of a width of the closed form; filling in means is not."""
    covariance = getattr(simulator, "covariance", simulator.noise**2 * np.eye(5))
    model = physgen.fit("cvae", dataset_of(simulator, 10_000), epochs=15)
    theta = np.random.default_rng(7).uniform(-1, 1, (60, 2))
    x = simulator.sample(theta, np.random.default_rng(8)).astype(np.float32)
    x = x[(~np.isnan(x)).sum(1) >= 4]
    mean, width = posterior(simulator, covariance, x)
    narrow = (abs(mean) + 4 * width < 2).all(1)
    x, mean, width = x[narrow], mean[narrow], width[narrow]

    def error(x):
        found = physgen.infer(model, x, samples=1)
        return abs((found.mean - mean) / width).mean(), (found.sd / width).mean()

    off, ratio = error(x)
    assert off < 0.12
    assert ratio == pytest.approx(1, abs=0.08)
    middle = simulator.offset.astype(np.float32)  # the mean over the prior
    assert error(np.where(np.isnan(x), middle, x))[0] > 2 * off


def test_the_exact_law_leaves_out_what_is_missing():
    simulator, (_, theta, x) = Gappy(), rows_of(Gappy(), 20)
    for t, row, value in zip(theta, x, simulator.log_prob(theta, x), strict=True):
        k = ~np.isnan(row)
        mean = simulator.mean(t[None])[0, k]
        law = multivariate_normal(mean, simulator.noise**2) if k.any() else None
        assert value == pytest.approx(law.logpdf(row[k]) if law else 0.0, rel=1e-5)
