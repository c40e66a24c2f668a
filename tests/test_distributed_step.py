"""One update on two workers: the same as on one, whole or in parts."""

import pytest
import torch
from two_workers import two_workers

from shared.models import create_model
from trainer import recipes
from trainer.data.loader import Batch
from trainer.optim import make_optimizer
from trainer.precision import Precision
from trainer.step import TrainStep
from trainer.surroundings import World


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    with two_workers(tmp_path_factory.mktemp("workers")) as running:
        yield running


def updated(world: World, parts: int, compiled: str = "off") -> torch.Tensor:
    """The weights after one update of a batch of 8, of which each worker has its share."""
    torch.manual_seed(0)
    model = create_model("lenet5")
    at_once = 8 // world.size // parts
    settings = [f"run.per_device_batch_size={at_once}", f"run.compile={compiled}"]
    config = recipes.load("lenet5", ["run.global_batch_size=8", *settings])
    precision = Precision(device=world.device, dtype=torch.float32)
    step = TrainStep(model, make_optimizer(model, config), config, precision, world.rank, world.size)
    if compiled != "off":
        step.warm_up(image_size=28, num_channels=1)
    images = torch.randint(0, 256, (8, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    share = slice(world.rank * 8 // world.size, (world.rank + 1) * 8 // world.size)
    batch = Batch(images=images[share], labels=torch.arange(8)[share], indices=range(8)[share], damaged=[])
    step(batch, step=0, learning_rate=0.01)
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.fixture(scope="module")
def alone() -> torch.Tensor:
    return updated(World(rank=0, size=1, device=torch.device("cpu")), parts=1)


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_two_workers_make_the_update_of_one_with_the_whole_batch(workers, alone, parts):
    """Up to rounding: gradients are summed in another order. The network has no batch norm."""
    first, second = workers.run(updated, parts)
    assert torch.equal(first, second)
    torch.testing.assert_close(first, alone, rtol=1e-4, atol=1e-6)


def test_two_workers_with_a_compiled_network_make_the_same_update(workers, alone):
    """In two parts each, of which the first is not exchanged."""
    first, second = workers.run(updated, 2, "default")
    assert torch.equal(first, second)
    torch.testing.assert_close(first, alone, rtol=1e-4, atol=1e-6)
