"""Latents of x by second routes: the sampler, draws of the encoder; and what has none."""

import numpy as np
import pytest
import torch

from physgen.errors import DataError, UsageError
from physgen.law import Law
from physgen.registry import find
from physgen.surrogates.cvae import CVAE, CVAEConfig

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
