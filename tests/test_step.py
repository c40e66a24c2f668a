"""One update, the optimizer and the schedule."""

import math

import pytest
import torch

from shared.models import create_model
from trainer import recipes
from trainer.data.sampling import Plan
from trainer.optim import learning_rate, make_optimizer
from trainer.step import Precision, TrainStep

CPU = Precision(device=torch.device("cpu"), dtype=torch.float32)
PLAN = Plan(num_samples=1000, global_batch_size=100, epochs=20)


def recipe(*overrides: str):
    return recipes.load("tiny_drn_c_26", ["run.global_batch_size=256", *overrides])


def test_norm_and_bias_are_not_decayed():
    model = create_model("drn_c_26", width=0.125, num_classes=3)
    names = {parameter: name for name, parameter in model.named_parameters()}
    decayed = {names[p] for g in make_optimizer(model, recipe()).param_groups if g["weight_decay"] for p in g["params"]}
    free = set(names.values()) - decayed
    assert free == {name for name in names.values() if "bn" in name or name.endswith("bias") or "downsample.1" in name}


def test_cosine_with_warmup_follows_its_closed_form():
    config = recipe("optimizer.base_lr=0.4", "schedule.warmup_epochs=2", "run.epochs=20")
    rates = [learning_rate(config, PLAN, step) for step in range(200)]
    assert rates[0] == pytest.approx(0.4 / 21)
    assert rates[19] == pytest.approx(0.4 * 20 / 21)
    assert rates[20] == pytest.approx(0.4)
    assert rates[110] == pytest.approx(0.2)
    assert rates[199] == pytest.approx(0.4 * 0.5 * (1 + math.cos(math.pi * 179 / 180)))


def test_step_schedule_drops_at_its_epochs():
    config = recipe("optimizer.base_lr=0.4", "schedule.name=step", "schedule.step_epochs=5", "run.epochs=20")
    rates = [learning_rate(config, PLAN, step) for step in (0, 49, 50, 99, 100, 199)]
    assert rates == pytest.approx([0.4, 0.4, 0.04, 0.04, 0.004, 0.0004])


def test_the_learning_rate_is_stated_per_256_images():
    assert recipe("run.global_batch_size=512", "optimizer.base_lr=0.1").learning_rate == pytest.approx(0.2)


def test_a_network_learns_a_batch_by_heart():
    torch.manual_seed(0)
    model = create_model("resnet18", width=0.125, num_classes=4)
    config = recipe("optimizer.base_lr=0.05")
    step = TrainStep(model, make_optimizer(model, config), config, CPU, rank=0, world_size=1)
    images = torch.randint(0, 256, (8, 3, 64, 64), dtype=torch.uint8)
    labels = torch.tensor([0, 1, 2, 3] * 2)
    losses = [step(images, labels, step=i, learning_rate=0.05).item() for i in range(30)]
    assert losses[-1] < 0.1 < losses[0]


def test_bf16_computes_the_same_loss_to_its_precision():
    losses = []
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        model = create_model("resnet18", width=0.125, num_classes=4)
        precision = Precision(device=torch.device("cpu"), dtype=dtype)
        config = recipe()
        step = TrainStep(model, make_optimizer(model, config), config, precision, rank=0, world_size=1)
        images = torch.randint(0, 256, (8, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
        losses.append(step(images, torch.tensor([0, 1, 2, 3] * 2), step=0, learning_rate=0.1).item())
    assert losses[0] == pytest.approx(losses[1], rel=0.02)  # bf16 has 8 bits of mantissa


def test_dropout_depends_on_the_step_alone():
    torch.manual_seed(0)
    config = recipe("model.drop_rate=0.5")
    model = create_model("resnet18", width=0.125, num_classes=4, drop_rate=0.5)
    model.train()
    images = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    labels = torch.tensor([0, 1, 2, 3])
    step = TrainStep(model, make_optimizer(model, config), config, CPU, rank=0, world_size=1)
    losses = [step(images, labels, step=i, learning_rate=0.0).item() for i in (0, 1, 0)]
    assert losses[0] == losses[2] != losses[1]
