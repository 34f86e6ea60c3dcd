import pytest
import torch


def pytest_addoption(parser):
    parser.addoption("--device", default="cpu", help="device on which surrogates are tested")


@pytest.fixture(scope="session")
def device(request):
    return torch.device(request.config.getoption("--device"))


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Two workers share two cores: threads that wait for each other would take far longer."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def torch_state():
    """No test may depend on, or change, torch's global random numbers, threads or dtype."""
    before = torch.random.get_rng_state(), torch.get_default_dtype()
    yield
    assert torch.equal(torch.random.get_rng_state(), before[0]), "torch's global RNG was used"
    assert torch.get_default_dtype() == before[1]
