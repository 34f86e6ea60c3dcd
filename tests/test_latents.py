"""Latents of x by second routes: the sampler, draws, a field whose latents are known."""

import json
from dataclasses import dataclass

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner

import physgen
from physgen.checks.estimate import evenly_ranked
from physgen.checks.latent_space import Along, edited, latent_map, ridge, told_by_latents
from physgen.checks.two_sample.features import observables_of
from physgen.cli import main
from physgen.dataset import Meta, Rows
from physgen.errors import DataError, UsageError
from physgen.law import Law
from physgen.registry import find
from physgen.surrogates.base import Likelihood, Surrogate
from physgen.surrogates.cvae import CVAE, CVAEConfig
from physgen.verbs.products import LatentCodes
from simulators.field.modes import coloured, whitened

LATTICE = Law.of("ising", {"size": 4})
MAP = Law.of("gaussian-field", {"size": 4})
VECTOR = Law.of("gaussian", {"size": 3})


def stirred(law, scale=0.3, **options):
    """A CVAE with weights far from the tidy ones of the start; no global random numbers."""
    model, g = CVAE.create(law, CVAEConfig(latent_dim=2, channels=5, **options)), torch.Generator()
    with torch.no_grad():
        for w in model.parameters():
            w += scale * torch.randn(w.shape, generator=g.manual_seed(w.numel()))
    return model.eval()


def rows(law, n, seed=0):
    rng = np.random.default_rng(seed)
    theta = law.prior.sample(n, rng)
    return theta, law.build().sample(theta, rng)


@pytest.mark.parametrize("law", [LATTICE, MAP, VECTOR], ids=lambda law: law.simulator)
def test_decoding_standard_normal_latents_is_sampling(law):
    model, (theta, _) = stirred(law), rows(law, 7)
    g = torch.Generator().manual_seed(3)
    levels = [torch.randn((7, *shape), generator=g) for shape in model.latent_shapes[::-1]]
    latent = torch.cat([v.flatten(1) for v in levels[::-1]], 1)
    drawn = model.decode(theta, latent, g)
    assert torch.equal(drawn, model.sample(theta, 3))
    assert not torch.equal(drawn, model.decode(theta, -latent, torch.Generator().manual_seed(3)))


@pytest.mark.parametrize("law", [LATTICE, MAP, VECTOR], ids=lambda law: law.simulator)
def test_codes_are_the_mean_of_the_encoders_draws(law):
    """Of one level; below it others follow what was drawn. Another x has another mean."""
    model, (theta, x), n = stirred(law, levels=1), rows(law, 2), 20_000
    code, many = model.encode(theta, x), np.zeros(n, int)
    assert code.shape == (2, np.prod(model.latent_shapes[0]))
    drawn = model.encode(theta[many], x[many], 3)
    assert torch.equal(drawn, model.encode(theta[many], x[many], torch.Generator().manual_seed(3)))
    far = abs(drawn.mean(0) - code) / drawn.std(0) * n**0.5
    assert far[0].max() < 5
    assert far[1].max() > 10


def test_codes_do_not_depend_on_who_else_is_in_the_batch():
    model, (theta, x) = stirred(LATTICE), rows(LATTICE, 9)
    alone = torch.cat([model.encode(theta[i : i + 1], x[i : i + 1]) for i in range(9)])
    assert torch.allclose(model.encode(theta, x), alone, atol=1e-5)


def test_families_without_latents_and_shapes_that_do_not_fit_are_refused():
    family = find("surrogates", "diffusion")
    without, (theta, x) = family.create(LATTICE, family.Config()), rows(LATTICE, 3)
    with pytest.raises(UsageError, match=r"diffusion: has no latents of x; expected .* cvae"):
        without.encode(theta, x)
    model = stirred(LATTICE)
    size = model.encode(theta, x).shape[1]
    with pytest.raises(UsageError, match="no latents"):
        without.decode(theta, np.zeros((3, size)))
    with pytest.raises(DataError, match=rf"latent: expected shape \(3, {size}\), got \(3, 1\)"):
        model.decode(theta, np.zeros((3, 1)))
    with pytest.raises(DataError, match="latent: expected finite"):
        model.decode(theta, np.full((3, size), np.nan))
    with pytest.raises(DataError, match="x: expected shape"):
        model.encode(theta, x[:2])


# --- what they say, of a field whose latents are its white modes ---------------------------------


@dataclass(frozen=True)
class Plain:
    """No options."""


class White(Surrogate):
    """A Gaussian field itself: its latents are its white modes, which tell all of it.

    The control decodes maps that are a fifth too large.
    """

    name = "white"
    likelihood = Likelihood.NONE
    Config = Plain
    latent_shapes = ((1, 4, 4),)
    gain = 1.0

    def _scale(self, c):
        field = self.law.build()
        theta = self.law.prior.from_coordinates(c.double().numpy())
        return np.exp(0.5 * field.log_power(theta))[:, field.shells.shell]

    def _loss(self, c, z, generator, progress):
        raise NotImplementedError

    def _sample(self, c, generator):
        return self._decode(c, torch.randn(len(c), 16, generator=generator), generator)

    def _encode(self, c, z, generator):
        return torch.from_numpy(whitened(z.numpy(), self._scale(c))).flatten(1)

    def _decode(self, c, latent, generator):
        white = latent.double().view(-1, 4, 4).numpy()
        return torch.from_numpy(self.gain * coloured(white, self._scale(c)))


@pytest.fixture(scope="module")
def white():
    """The field, rows of it, their latents and its scalar observables."""
    model, (theta, x) = White(MAP, Plain()), rows(MAP, 3000)
    every = observables_of(MAP.build(), x)
    scalars = {name: o for name, o in every.items() if o(x[:1]).ndim == 1}
    return model, theta, x, model.encode(theta, x).numpy(), scalars


def test_latents_tell_what_they_carry_and_shuffled_ones_nothing(white):
    model, theta, x, v, scalars = white
    np.testing.assert_allclose(model.decode(theta, v).numpy(), x, atol=1e-4)
    values = {name: o(x) for name, o in scalars.items()} | {"a": theta[:, 0]}
    told = told_by_latents(model, theta, v, values)["observables"]
    assert told["mean"]["linear"].value > 0.9  # √P of the zero mode is no straight line in θ
    assert 0.3 < told["variance"]["all"].value < 0.9  # most is the zero mode's
    assert abs(told["variance"]["linear"].value) < 0.03
    assert np.isnan(told["a"]["all"].value)  # θ tells all of it
    for name in scalars:
        value, error = told[name]["shuffled"]
        assert abs(value) < 5 * error + 0.01


def test_an_edit_follows_the_exact_expectation_and_a_random_one_does_not_move(white):
    model, theta, x, v, scalars = white
    found, pictures = edited(model, theta, x, v, scalars, Along("mean", 2.0, 5))
    assert pictures.shape == (4, 5, 4, 4)
    other = found["others"]["variance"]
    for place in (*other["error"], other["true"]):
        assert abs(place.value) < 4 * place.se
    for ends in (other["unmoved"][0], other["unmoved"][-1]):
        assert ends.value < -8 * ends.se  # the control
    assert found["moved"].value > 20 * found["moved"].se
    assert abs(found["moved_at_random"].value) < 1e-3
    log_power = MAP.build().log_power(theta[evenly_ranked(theta[:, 0], found["rows"])])[:, 0]
    ends = [place.value for place in found["chosen"]]
    per_step = np.exp(0.5 * log_power).mean() / 4  # √(P₀/N)
    assert ends[-1] - ends[0] == pytest.approx(4 * per_step, rel=1e-3)
    assert "exact" not in found["others"]["peaks"]


def test_an_edit_by_a_decoder_that_is_wrong_is_off(white):
    _, theta, x, v, scalars = white
    wrong = White(MAP, Plain())
    wrong.gain = 1.2
    other = edited(wrong, theta, x, v, scalars, Along("mean"))[0]["others"]["variance"]
    assert all(place.value > 5 * place.se for place in other["error"])
    assert abs(other["true"].value) < 4 * other["true"].se


def test_the_map_is_that_of_the_singular_vectors():
    rng = np.random.default_rng(0)
    for shape in ((200, 7), (20, 50), (30, 1)):
        v = rng.normal(size=shape) * rng.uniform(0.1, 3, shape[1])
        found, part = latent_map(v)
        u, s, _ = np.linalg.svd(v - v.mean(0), full_matrices=False)
        k = min(2, shape[1])
        np.testing.assert_allclose(abs(found[:, :k]), abs(u * s)[:, :k], atol=1e-9)
        np.testing.assert_allclose(part[:k], (s**2 / (s**2).sum())[:k], rtol=1e-9)


def test_a_ridge_is_least_squares_where_rows_are_many_and_noise_gets_none():
    rng = np.random.default_rng(0)
    a, w = rng.normal(size=(500, 4)) * [1, 10, 0.1, 1], np.array([1.0, 0.2, 3.0, 0.0])
    np.testing.assert_allclose(ridge(a, a @ w + 1e-6 * rng.normal(size=500)), w, atol=1e-5)
    wide = rng.normal(size=(50, 45))
    y = rng.normal(size=50)
    assert np.linalg.norm(ridge(wide, y)) < 0.3 * np.linalg.norm(np.linalg.lstsq(wide, y)[0])


# --- the verb ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("latents")
    theta, x = rows(LATTICE, 200)
    physgen.save(stirred(LATTICE, stages=1), folder / "cvae.pt")
    physgen.save(physgen.Dataset(Rows(x, theta, meta=Meta(LATTICE))), folder / "test.h5")
    return folder


def run(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.mark.slow
def test_the_verb_writes_latents_that_load_report_and_inspect_open(files):
    out = files / "latents.h5"
    done = run(
        "latents", files / "cvae.pt", files / "test.h5", "-o", out, "--along", "magnetisation",
        "--places", 3,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "200 rows of" in done.output
    assert "magnetisation moves by" in done.output
    codes, _ = physgen.load(out)
    model, _ = physgen.load(files / "cvae.pt")
    data = physgen.read(files / "test.h5")
    assert isinstance(codes, LatentCodes)
    np.testing.assert_array_equal(
        codes["arrays"]["latents"], model.encode(data.theta, data.x).numpy()
    )
    names = [o["name"] for o in codes["observables"]]
    column = codes["arrays"]["observables"][:, names.index("magnetisation")]
    np.testing.assert_allclose(column, data.x.mean((1, 2)))
    memory = physgen.latents(model, data, along="magnetisation", places=3)
    assert memory["edit"] == codes["edit"]
    with h5py.File(out) as file:
        assert file["latents"].shape == codes["arrays"]["latents"].shape
        assert file.attrs["schema"].decode() == "physgen/latents/1"
    page = physgen.report(out, out=files / "latents.html").html
    for part in ("A map", "What they say", "had it stayed", "bond energy per spin"):
        assert part in page
    assert "None" not in page.split("Provenance")[0]
    assert codes.figures()["others"]
    assert physgen.inspect(out)["schema"] == "physgen/latents/1"
    plain = physgen.latents(model, data, rows=slice(0, 120))
    assert plain["edit"] is None
    assert len(plain["arrays"]["latents"]) == 120
    assert 'id="edit"' not in physgen.report(plain).html
    assert 'id="edit"' in page


def test_bad_input_of_the_verb_gets_one_line(files, tmp_path):
    model, data, out = files / "cvae.pt", files / "test.h5", tmp_path / "out.h5"
    family = find("surrogates", "autoregressive")
    physgen.save(family.create(LATTICE, family.Config()), tmp_path / "ar.pt")
    physgen.simulate("ising", size=6, n=5, out=tmp_path / "other.h5")
    physgen.simulate("gaussian", n=5, out=tmp_path / "vector.h5")
    for words, message in (
        ((model, data, "--along", "colour"), "expected one of energy, magnetisation"),
        ((model, data, "--along", "energy", "--places", 4), "places: expected an odd number"),
        ((model, data, "--along", "energy", "--reach", -1), "reach: expected a positive number"),
        ((tmp_path / "ar.pt", data), "autoregressive: has no latents of x"),
        ((model, tmp_path / "vector.h5"), "x: expected shape"),
        ((model, data, "--rows", "0:99"), "rows: expected at least 100"),
        ((model, model), "cvae.pt"),
    ):
        done = run("latents", *words, "-o", out, "-q")
        assert done.exit_code in (2, 3), done.output
        assert done.output.count("\n") == 1, done.output
        assert message in done.output
        assert not out.exists()
    out.write_text("precious")
    assert "exists" in run("latents", model, data, "-o", out).output
    physgen.latents(model, data, out=tmp_path / "latents.h5")
    assert run("infer", model, tmp_path / "latents.h5", "-o", tmp_path / "p.h5").exit_code == 3


@pytest.mark.slow
def test_a_direction_that_is_noise_is_told(files):
    """Where weights were never trained; and of the field whose latents tell all."""
    model, data = physgen.load(files / "cvae.pt")[0], physgen.read(files / "test.h5")
    found = physgen.latents(model, data, along="energy", places=3)
    assert "tell nothing of energy" in found["warnings"][0]
    assert "its direction is noise" in physgen.report(found).html
    told = White(MAP, Plain())
    theta, x = rows(MAP, 300)
    assert not physgen.latents(told, Rows(x, theta, meta=Meta(MAP)), along="mean")["warnings"]


def test_latents_of_missing_or_unknown_x_are_encoded_all_the_same():
    law = Law("none", LATTICE.prior, (3,), "reals", missing=True)
    model, rng = stirred(law), np.random.default_rng(0)
    theta = law.prior.sample(120, rng)
    x = np.where(rng.random((120, 3)) < 0.2, np.nan, rng.normal(size=(120, 3)))
    found = physgen.latents(model, Rows(x, theta, meta=Meta(law)), along="mean", places=3)
    assert np.isfinite(found["arrays"]["latents"]).all()
    assert json.dumps(found["edit"])
