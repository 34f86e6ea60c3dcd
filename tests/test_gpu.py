"""The same numbers on CUDA: run with `pytest -m gpu` where there is a GPU."""

import warnings

import numpy as np
import pytest
import torch

from physgen.law import Law
from physgen.registry import find, targets
from physgen.testing import check_surrogate
from physgen.training import InMemory, Trainer, Training
from simulators.ising import Ising
from tests.test_fake_cuda import CASES, model_of

pytestmark = pytest.mark.gpu
LAW = Law.of("ising", {"size": 8})
REALS = Law.of("gaussian", {"size": 5, "parameters": 3})
SHOWERS = {name: Law.of(name) for name in ("shower", "shower-voxel")}


VARIANTS = {name: (name, {}) for name in sorted(targets("surrogates")) if name != "flow"} | {
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


@pytest.mark.parametrize("case", CASES)
def test_every_kind_of_x_is_trained_drawn_and_scored_on_cuda_as_on_the_cpu(case):
    model, theta, x = model_of(case, rows=400)
    device = torch.device("cuda")
    model, theta, x = model.to(device), theta.to(device), x.to(device)
    model.fit_transform(x, theta)
    data = InMemory(theta, x)
    epochs = list(Trainer(model, data, data, Training(epochs=2, batch_size=100)))
    assert np.isfinite([epoch.val for epoch in epochs]).all()
    model.finalize()
    drawn = model.eval().sample(theta[:5], torch.Generator(device).manual_seed(1))
    assert drawn.device == model.device
    assert drawn.isfinite().all()
    if model.likelihood == "none":
        return
    at = theta[:5].cpu().requires_grad_()
    on_cuda = model.log_prob(at, x[:5], draws=2)
    (slope,) = torch.autograd.grad(on_cuda.sum(), at)
    again = model.log_prob(theta[:5], x[:5], draws=2)
    assert torch.equal(again, on_cuda.detach())  # it is deterministic
    on_cpu = model.cpu().log_prob(at, x[:5].cpu(), draws=2)
    torch.testing.assert_close(on_cuda, on_cpu, rtol=1e-3, atol=0.05)
    (expected,) = torch.autograd.grad(on_cpu.sum(), at)
    torch.testing.assert_close(slope, expected, rtol=0.02, atol=0.02 * float(expected.abs().max()))


@pytest.mark.parametrize("options", [{"precision": "fp32"}, {"precision": "bf16"}])
def test_training_again_gives_the_same_epochs_nearly(options):
    """Kernels that add in any order differ in the last digits alone."""
    found = []
    for _ in range(2):
        model, theta, x = model_of("cvae, spins", rows=400)
        data = InMemory(theta.cuda(), x.cuda())
        config = Training(epochs=3, batch_size=100, **options)
        found.append([epoch.val for epoch in Trainer(model.cuda(), data, data, config)])
    assert found[0] == pytest.approx(found[1], rel=1e-2)


def test_a_compiled_loss_is_that_of_the_eager_one():
    found = []
    for compiled in (False, True):
        model, theta, x = model_of("cvae, spins", rows=400)
        data = InMemory(theta.cuda(), x.cuda())
        config = Training(epochs=2, batch_size=100, precision="fp32", compile=compiled)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the compiler
            found.append([e.val for e in Trainer(model.cuda(), data, data, config)])
    assert found[0] == pytest.approx(found[1], rel=0.05)


@pytest.mark.parametrize("kind", ["beta", "beta-h", "beta-xy"])
@pytest.mark.parametrize("sampler", ["checkerboard", "swendsen-wang"])
@pytest.mark.parametrize("size", [4, 16, 34, 64])
def test_ising_lattices_of_a_gpu_are_those_of_the_cpu(sampler, size, kind):
    ising = Ising(size, theta=kind, sampler=sampler, sweeps=5)
    theta = ising.prior.sample(70, np.random.default_rng(0))
    there, here = (s.sample(theta, np.random.default_rng(1)) for s in (ising.on("cuda"), ising))
    np.testing.assert_array_equal(there, here)


@pytest.mark.parametrize("sampler", ["checkerboard", "swendsen-wang"])
def test_ising_lattices_of_a_gpu_follow_the_exact_law(sampler):
    ising = Ising(16, sampler=sampler).on("cuda")
    theta = ising.prior.sample(20_000, np.random.default_rng(0))
    x = ising.sample(theta, np.random.default_rng(1))
    assert [v for v in ising.verify(theta, x) if not v.passed] == []
