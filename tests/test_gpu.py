"""The same numbers on CUDA: run with `pytest -m gpu` where there is a GPU."""

import numpy as np
import pytest
import torch

from physgen.law import Law
from physgen.registry import find, targets
from physgen.testing import check_surrogate
from physgen.training import InMemory, Trainer, Training

pytestmark = pytest.mark.gpu
LAW = Law.of("ising", {"size": 8})
REALS = Law.of("gaussian", {"size": 5, "parameters": 3})
SHOWERS = {name: Law.of(name) for name in ("shower", "shower-voxel")}


VARIANTS = {name: (name, {}) for name in sorted(targets("surrogates"))} | {
    "diffusion, gaussian": ("diffusion", {"kernel": "gaussian"}),
    "rbm": ("rbm", {"ladder": 100, "chains": 64}),
    "rbm, dense": ("rbm", {"layout": "dense", "hidden": 30, "ladder": 100, "chains": 64}),
    "gan, wasserstein": ("gan", {"loss": "wasserstein", "critic_steps": 2}),
}


@pytest.fixture(params=VARIANTS)
def create(request):
    """Makes a surrogate of a family, in a configuration of it."""
    name, options = VARIANTS[request.param]
    cls = find("surrogates", name)
    law = LAW if "spins" in cls.supports else REALS
    return lambda: cls.create(law, cls.Config(**options))


def rows(n, law=LAW):
    rng = np.random.default_rng(5)
    theta = law.prior.sample(n, rng)
    return torch.from_numpy(theta), torch.from_numpy(law.build().sample(theta, rng))


def test_contract_is_kept_on_cuda(create):
    assert check_surrogate(create().cuda().eval()) == []


def test_log_prob_on_cuda_is_that_on_the_cpu(create):
    surrogate = create().eval()
    if surrogate.likelihood == "none":
        pytest.skip(f"{surrogate.name} has no likelihood")
    theta, x = rows(97, surrogate.law)
    on_cpu = surrogate.log_prob(theta, x, draws=7)
    on_cuda = surrogate.cuda().log_prob(theta, x, draws=7)
    torch.testing.assert_close(on_cuda, on_cpu, rtol=1e-4, atol=1e-2)


def test_training_in_bf16_lowers_the_loss(create):
    device = torch.device("cuda")
    surrogate = create().to(device)
    theta, x = (t.to(device) for t in rows(2000, surrogate.law))
    config = Training(epochs=5)
    epochs = list(Trainer(surrogate, InMemory(theta, x), InMemory(theta, x), config))
    assert epochs[-1].val < epochs[0].val or surrogate.likelihood == "none"  # a game has no goal
    assert all(w.dtype == torch.float32 for w in surrogate.parameters())


@pytest.mark.parametrize("sampler", ["ancestral", "heun", "dpm-solver"])
def test_diffusion_draws_on_cuda(sampler):
    diffusion = find("surrogates", "diffusion")
    model = diffusion.create(LAW, diffusion.Config(kernel="gaussian")).cuda().eval()
    x = model.using(sampler=sampler, steps=16).sample(
        torch.full((5, 1), 0.4), torch.Generator("cuda").manual_seed(0)
    )
    assert x.device.type == "cuda"
    assert (x.abs() == 1).all()


@pytest.mark.parametrize("estimator", ["bound", "path", "ode"])
def test_diffusion_scores_on_cuda_as_on_the_cpu(estimator):
    diffusion = find("surrogates", "diffusion")
    model = diffusion.create(LAW, diffusion.Config(kernel="gaussian")).eval()
    model = model.using(estimator=estimator, steps=16)
    theta, x = rows(7)
    on_cpu = model.log_prob(theta, x, draws=3)
    on_cuda = model.cuda().log_prob(theta, x, draws=3)
    torch.testing.assert_close(on_cuda, on_cpu, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("name", SHOWERS)
@pytest.mark.parametrize("family", ["cvae", "diffusion", "autoregressive"])
def test_showers_on_cuda_are_those_of_the_cpu(name, family):
    """Trained a little, drawn on the device, and scored there as on the CPU."""
    if (name, family) == ("shower-voxel", "autoregressive"):
        pytest.skip("one cell after another of 576")
    cls, law, device = find("surrogates", family), SHOWERS[name], torch.device("cuda")
    rng = np.random.default_rng(5)
    theta = law.prior.sample(2000, rng)
    x = torch.from_numpy(law.build().sample(theta, rng))
    model = cls.create(law, cls.Config())
    model.transform.fit(x)
    model = model.to(device)
    data = InMemory(torch.from_numpy(theta).to(device), x.to(device))
    epochs = list(Trainer(model, data, data, Training(epochs=3)))
    assert epochs[-1].val < epochs[0].val
    drawn = model.eval().sample(data.theta[:50], torch.Generator("cuda").manual_seed(0))
    assert drawn.device.type == "cuda"
    assert (drawn >= 0).all()
    on_cuda = model.log_prob(data.theta[:7], data.x[:7], draws=5)
    on_cpu = model.cpu().log_prob(data.theta[:7].cpu(), data.x[:7].cpu(), draws=5)
    torch.testing.assert_close(on_cuda, on_cpu, rtol=1e-3, atol=0.1)
