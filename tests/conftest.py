import pytest
import torch


def pytest_addoption(parser):
    parser.addoption("--device", default="cpu", help="device on which surrogates are tested")


LONG = ("test_every_block_of_the_readme_runs", "test_examples_run_and_are_short")
"""Tests that take minutes begin first, so that no worker waits for them at the end."""


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: not item.name.startswith(LONG))


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
