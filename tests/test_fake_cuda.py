"""Every family on a device that says it is CUDA: no tensor stays behind on the CPU.

It computes on the CPU (`tests.fake_cuda`), so the numbers must be those of the CPU.
"""

import warnings

import numpy as np
import pytest
import torch

from physgen.law import Law
from physgen.registry import find
from physgen.surrogates.base import Surrogate
from physgen.training import InMemory, Trainer, Training
from tests.fake_cuda import fake_cuda
from tests.test_contract_surrogates import LAWS, TOYS

QUICK_RBM = {"ladder": 20, "chains": 16}
SMALL = {"network": "small"}
SHOWER = Law.of("shower-voxel")
LONG = Law.of("gaussian", {"size": 70, "parameters": 3})
CASES = {
    "autoregressive, checkerboard": ("autoregressive", {}, "lattice 4x6"),
    "autoregressive, odd torus": ("autoregressive", {}, "odd lattice 3x5"),
    "autoregressive, levels": ("autoregressive", {}, "levels"),
    "autoregressive, hurdle": ("autoregressive", {}, "hurdle"),
    "autoregressive, mixed": ("autoregressive", {}, "mixed"),
    "autoregressive, counts": ("autoregressive", {}, "counts"),
    "autoregressive, reals": ("autoregressive", {}, "vector"),
    "autoregressive, student": ("autoregressive", {"mixture": "student"}, "vector"),
    "autoregressive, causal": ("autoregressive", {"network": "causal", "window": 3}, "vector"),
    "autoregressive, shared": ("autoregressive", {"network": "shared"}, "vector"),
    "autoregressive, long": ("autoregressive", {}, LONG),
    "cvae, spins": ("cvae", {}, "lattice 4x6"),
    "cvae, hurdle": ("cvae", {}, "hurdle"),
    "cvae, compound Poisson": ("cvae", {"head": "compound-poisson"}, "hurdle"),
    "cvae, mixed": ("cvae", {}, "mixed"),
    "cvae, counts": ("cvae", {}, "counts"),
    "cvae, mixture": ("cvae", {"head": "mixture"}, "vector"),
    "cvae, student": ("cvae", {"head": "student"}, "vector"),
    "cvae, shower": ("cvae", {}, SHOWER),
    "diffusion, masked": ("diffusion", SMALL, "lattice 4x6"),
    "diffusion, random order": ("diffusion", SMALL | {"order": "random"}, "odd lattice 3x5"),
    "diffusion, gaussian": ("diffusion", SMALL | {"kernel": "gaussian"}, "lattice 4x6"),
    "diffusion, hurdle": ("diffusion", SMALL, "hurdle"),
    "diffusion, mixture": ("diffusion", SMALL, "vector"),
    "diffusion, independent": ("diffusion", SMALL | {"head": "independent"}, "vector"),
    "diffusion, shower": ("diffusion", SMALL, SHOWER),
    "flow": ("flow", {}, "vector"),
    "flow, affine": ("flow", {"transform": "affine", "tails": "gaussian"}, "vector"),
    "gan": ("gan", {}, "lattice 4x6"),
    "gan, wasserstein": ("gan", {"loss": "wasserstein", "critic_steps": 2}, "vector"),
    "rbm": ("rbm", QUICK_RBM, "odd lattice 3x5"),
    "rbm, dense": ("rbm", QUICK_RBM | {"layout": "dense", "hidden": 7}, "odd lattice 3x5"),
    "rbm, persistent": ("rbm", QUICK_RBM | {"divergence": "pcd"}, "odd lattice 3x5"),
    "tree": ("tree", {"hidden": 8, "context": 8}, SHOWER),
}
QUICK = ("autoregressive, levels", "autoregressive, causal", "cvae, counts", "flow, affine", "gan")
ROWS = 24


def model_of(case, rows=ROWS):
    """A surrogate of a case on the CPU, with rows to train on."""
    name, options, law = CASES[case]
    if name == "flow":
        pytest.importorskip("zuko")
    law = LAWS[law] if isinstance(law, str) else law
    simulator = TOYS[law.simulator]() if law.simulator in TOYS else law.build()
    theta = law.prior.sample(rows, np.random.default_rng(0))
    x = np.asarray(simulator.sample(theta, np.random.default_rng(1)))
    cls = find("surrogates", name)
    return cls.create(law, cls.Config(**options), seed=3), torch.tensor(theta), torch.tensor(x)


def trained(model, theta, x, device):
    """A step of training, all that follows, x that is drawn, and log p with its slope by θ."""
    model = model.to(device)
    theta, x = theta.to(device), x.to(device)
    model.fit_transform(x, theta)
    data = InMemory(theta, x)
    config = Training(epochs=1, batch_size=ROWS, augment=False)
    list(Trainer(model, data, data, config))
    model.finalize()
    drawn = model.eval().sample(theta[:5].cpu(), torch.Generator(device).manual_seed(1))
    assert drawn.device == model.device
    if model.likelihood == "none":
        return [drawn.cpu()]
    at = theta[:5].cpu().requires_grad_()
    log_p = model.log_prob(at, x[:5], draws=2)
    log_p.sum().backward()
    more = model.using(symmetrise=True).log_prob(theta[:3], x[:3].cpu(), draws=2)
    return [drawn.cpu(), log_p.detach(), at.grad, more]


@pytest.mark.parametrize(
    "case", [c if c in QUICK else pytest.param(c, marks=pytest.mark.slow) for c in CASES]
)
def test_all_of_a_family_runs_on_the_device_and_gives_what_the_cpu_gives(case, monkeypatch):
    # What numba does on a CPU alone has random numbers of its own: few rows of a chain of
    # energies, an RBM's sweeps and gradient.
    monkeypatch.setattr("physgen.nn.energy_chain.FEW", 0)
    monkeypatch.setattr("physgen.surrogates.rbm.gibbs.noise_is_given", lambda: True)
    monkeypatch.setattr(find("surrogates", "rbm"), "objectives", Surrogate.objectives)
    expected = trained(*model_of(case), torch.device("cpu"))
    model, theta, x = model_of(case)
    with warnings.catch_warnings(), fake_cuda() as device:
        warnings.filterwarnings("ignore", "CUDA is not available")  # of autocast
        found = trained(model, theta, x, device)
    assert {w.device for w in model.state_dict().values()} == {device}
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)  # a CPU's convolutions differ


@pytest.mark.parametrize("sampler", ["ancestral", "heun", "dpm-solver"])
def test_samplers_of_a_diffusion_run_on_the_device(sampler):
    model, theta, _ = model_of("diffusion, gaussian")
    with fake_cuda() as device:
        model = model.to(device).eval().using(sampler=sampler, steps=3)
        assert model.sample(theta[:3], 1).device == device


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ["bound", "path", "ode"])
def test_estimators_of_a_diffusion_run_on_the_device(estimator):
    model, theta, x = model_of("diffusion, gaussian")
    with fake_cuda() as device:
        model = model.to(device).eval().using(estimator=estimator, steps=3)
        assert model.log_prob(theta[:2], x[:2], draws=1).isfinite().all()


def test_log_p_is_in_full_precision_on_cuda_alone(monkeypatch):
    seen, (model, theta, x) = [], model_of("autoregressive, causal")
    inner = type(model)._log_prob

    def looked(self, *args):
        seen.append(torch.backends.cudnn.allow_tf32)
        return inner(self, *args)

    monkeypatch.setattr(type(model), "_log_prob", looked)
    model.eval().log_prob(theta[:2], x[:2])
    with fake_cuda() as device:
        model.to(device).log_prob(theta[:2], x[:2])
    assert seen == [True, False]
    assert torch.backends.cudnn.allow_tf32


def test_symmetries_wait_for_the_device_once_a_batch():
    from physgen.nn.transforms import Symmetries

    looks = []
    with fake_cuda(looked=looks.append) as device:
        x = torch.ones(5, 4, 6, device=device)
        Symmetries(LAWS["lattice 4x6"])(x, torch.Generator(device).manual_seed(1))
    assert len(looks) <= 1


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: x + torch.ones(3),
        lambda x: torch.ones(3).copy_(x) * x,
        lambda x: x.numpy(),
        lambda x: np.asarray(x),
        lambda x: torch.from_numpy(np.ones(3)) @ x,
        lambda x: x.normal_(generator=torch.Generator()),
        lambda x: torch.rand(3, generator=torch.Generator(), device=x.device),
        lambda x: torch.rand(3, generator=torch.Generator(x.device)),
        lambda x: torch.ones(3)[x.long()],
        lambda x: torch.cat([x, torch.ones(3)]),
        lambda x: torch.nn.functional.linear(x, torch.ones(3, 3)),
    ],
)
def test_what_cuda_refuses_is_refused(wrong):
    with fake_cuda() as device, pytest.raises((RuntimeError, TypeError)):
        wrong(torch.zeros(3, device=device))


def test_what_cuda_allows_is_allowed():
    with fake_cuda() as device:
        x = torch.arange(3.0, device=device)
        assert (x * torch.tensor(2.0)).device == device  # a number
        assert x[torch.tensor([0, 2])].tolist() == [0, 2]
        assert x[[0, 2]].cpu().numpy().tolist() == [0, 2]
        assert float(x.sum()) == 3
        x.copy_(torch.ones(3))
        assert torch.zeros(3).copy_(x).device == torch.device("cpu")
    assert torch.ones(1).device == torch.device("cpu")
