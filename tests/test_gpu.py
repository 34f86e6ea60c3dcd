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


@pytest.fixture(params=sorted(targets("surrogates")))
def family(request):
    return find("surrogates", request.param)


def rows(n):
    rng = np.random.default_rng(5)
    theta = LAW.prior.sample(n, rng)
    return torch.from_numpy(theta), torch.from_numpy(LAW.build().sample(theta, rng))


def test_contract_is_kept_on_cuda(family):
    assert check_surrogate(family.create(LAW, family.Config()).cuda().eval()) == []


def test_log_prob_on_cuda_is_that_on_the_cpu(family):
    surrogate = family.create(LAW, family.Config()).eval()
    theta, x = rows(97)
    on_cpu = surrogate.log_prob(theta, x, draws=7).value
    on_cuda = surrogate.cuda().log_prob(theta, x, draws=7).value
    torch.testing.assert_close(on_cuda, on_cpu, rtol=1e-4, atol=1e-2)


def test_training_in_bf16_lowers_the_loss(family):
    device = torch.device("cuda")
    surrogate = family.create(LAW, family.Config()).to(device)
    theta, x = (t.to(device) for t in rows(2000))
    config = Training(epochs=5)
    epochs = list(Trainer(surrogate, InMemory(theta, x), InMemory(theta, x), config))
    assert epochs[-1].val < epochs[0].val
    assert all(w.dtype == torch.float32 for w in surrogate.parameters())
