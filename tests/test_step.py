"""One update, the optimizer and the schedule."""

import math

import pytest
import torch

from shared.models import create_model
from trainer import recipes
from trainer.data.loader import Batch
from trainer.data.sampling import Plan
from trainer.losses import total_loss
from trainer.optim import learning_rate, make_optimizer, set_learning_rate
from trainer.precision import Precision
from trainer.step import TrainStep

CPU = Precision(device=torch.device("cpu"), dtype=torch.float32)
PLAN = Plan(num_samples=1000, global_batch_size=100, epochs=20)


def batch_of(images: torch.Tensor, labels: torch.Tensor, first: int = 0) -> Batch:
    return Batch(images=images, labels=labels, indices=range(first, first + len(images)), damaged=[])


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
    config = recipe("optimizer.base_lr=0.4", "schedule.name=step", "schedule.milestones=[5, 10, 15]", "run.epochs=20")
    rates = [learning_rate(config, PLAN, step) for step in (0, 49, 50, 99, 100, 199)]
    assert rates == pytest.approx([0.4, 0.4, 0.04, 0.04, 0.004, 0.0004])


def test_the_rate_of_cifar_resnets_drops_at_the_updates_of_the_paper():
    config = recipes.load("cifar_resnet20")
    plan = Plan(num_samples=50_000, global_batch_size=128, epochs=config.run.epochs)
    rates = [learning_rate(config, plan, step) for step in (0, 31_999, 32_000, 47_999, 48_000, 63_999)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_the_rate_of_imagenet_drops_with_the_first_update_of_epochs_30_and_60():
    config = recipes.load("resnet50")
    plan = Plan(num_samples=1_281_167, global_batch_size=256, epochs=config.run.epochs)
    for epoch, rate in ((30, 0.01), (60, 0.001)):
        drop = round(epoch * plan.steps_per_epoch)
        assert learning_rate(config, plan, drop - 1) == pytest.approx(10 * rate)
        assert learning_rate(config, plan, drop) == pytest.approx(rate)


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_a_polynomial_falls_to_zero_after_its_warmup(power):
    config = recipe(
        "optimizer.base_lr=0.4", "schedule.name=polynomial", f"schedule.power={power}", "schedule.warmup_epochs=5",
        "run.epochs=20",
    )  # fmt: skip
    rates = [learning_rate(config, PLAN, step) for step in (0, 49, 50, 125, 200)]
    assert rates == pytest.approx([0.4 / 51, 0.4 * 50 / 51, 0.4, 0.4 * 0.5**power, 0.0])


def test_accumulating_parts_gives_the_update_of_the_whole_batch():
    """Up to rounding: sums are made in another order. The network has no batch norm, which would see only a part."""
    weights, results = [], []
    for parts in (1, 4):
        torch.manual_seed(0)
        model = create_model("lenet5")
        config = recipes.load("lenet5", ["run.global_batch_size=8", f"run.per_device_batch_size={8 // parts}"])
        step = TrainStep(model, make_optimizer(model, config), config, CPU, rank=0, world_size=1)
        images = torch.randint(0, 256, (8, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
        results += [step(batch_of(images, torch.arange(8)), step=0, learning_rate=0.01)]
        weights += [torch.cat([p.detach().flatten() for p in model.parameters()])]
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-6)
    assert results[0].loss.item() == pytest.approx(results[1].loss.item(), rel=1e-5)
    assert results[0].right == results[1].right


def test_a_long_gradient_is_scaled_down_to_its_limit():
    changes = []
    for overrides in ((), ("optimizer.clip_norm=0.01",)):
        torch.manual_seed(0)
        model = create_model("lenet5")
        config = recipes.load(
            "lenet5", ["optimizer.name=sgd", "optimizer.momentum=0", "optimizer.weight_decay=0", *overrides]
        )
        before = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
        step = TrainStep(model, make_optimizer(model, config), config, CPU, rank=0, world_size=1)
        step(
            batch_of(torch.randint(0, 256, (8, 1, 28, 28), dtype=torch.uint8), torch.arange(8)),
            step=0,
            learning_rate=1.0,
        )
        changes.append(torch.cat([p.detach().flatten() for p in model.parameters()]) - before)
    assert changes[0].norm() > 0.01
    assert changes[1].norm().item() == pytest.approx(0.01, rel=1e-3)
    assert torch.cosine_similarity(changes[0], changes[1], dim=0).item() == pytest.approx(1, abs=1e-3)


def test_a_constant_rate_stays():
    config = recipe("optimizer.base_lr=0.4", "schedule.name=constant", "run.epochs=20")
    assert {learning_rate(config, PLAN, step) for step in range(200)} == {0.4}


def test_the_learning_rate_is_stated_per_256_images():
    assert recipe("run.global_batch_size=512", "optimizer.base_lr=0.1").learning_rate == pytest.approx(0.2)


def test_a_network_learns_a_batch_by_heart():
    torch.manual_seed(0)
    model = create_model("resnet18", width=0.125, num_classes=4)
    config = recipe("optimizer.base_lr=0.05")
    step = TrainStep(model, make_optimizer(model, config), config, CPU, rank=0, world_size=1)
    images = torch.randint(0, 256, (8, 3, 64, 64), dtype=torch.uint8)
    labels = torch.tensor([0, 1, 2, 3] * 2)
    losses = [step(batch_of(images, labels), step=i, learning_rate=0.05).loss.item() for i in range(30)]
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
        losses.append(step(batch_of(images, torch.tensor([0, 1, 2, 3] * 2)), step=0, learning_rate=0.1).loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=0.02)  # bf16 has 8 bits of mantissa


def test_dropout_depends_on_the_step_alone():
    torch.manual_seed(0)
    config = recipe("model.drop_rate=0.5")
    model = create_model("resnet18", width=0.125, num_classes=4, drop_rate=0.5)
    model.train()
    images = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    labels = torch.tensor([0, 1, 2, 3])
    step = TrainStep(model, make_optimizer(model, config), config, CPU, rank=0, world_size=1)
    losses = [step(batch_of(images, labels), step=i, learning_rate=0.0).loss.item() for i in (0, 1, 0)]
    assert losses[0] == losses[2] != losses[1]


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "lamb", "lars"])
def test_every_optimizer_lowers_the_loss_of_a_batch(name):
    torch.manual_seed(0)
    model = create_model("lenet5")
    config = recipes.load("lenet5", [f"optimizer.name={name}"])
    step = TrainStep(model, make_optimizer(model, config), config, CPU, rank=0, world_size=1)
    images = torch.randint(0, 256, (8, 1, 28, 28), dtype=torch.uint8)
    losses = [step(batch_of(images, torch.arange(8)), step=i, learning_rate=0.002).loss.item() for i in range(20)]
    assert losses[-1] < losses[0]


def test_right_answers_are_counted_before_the_update():
    torch.manual_seed(0)
    model = create_model("lenet5")
    config = recipes.load("lenet5")
    step = TrainStep(model, make_optimizer(model, config), config, CPU, rank=0, world_size=1)
    images = torch.randint(0, 256, (8, 1, 28, 28), dtype=torch.uint8)
    with torch.no_grad():
        answers = model(config.augment.eval_transform.normalize(images)).argmax(dim=1)
    assert step(batch_of(images, answers), step=0, learning_rate=0.1).right == 8
    assert step(batch_of(images, (answers + 1) % 10), step=0, learning_rate=0.1).right <= 8


@pytest.mark.parametrize("loss", ["bce", "cross_entropy"])
def test_mixed_pictures_have_no_training_error_and_depend_on_their_position_alone(loss):
    config = recipes.load("lenet5", ["augment.mixup=0.2", "augment.cutmix=1.0", f"optimizer.loss={loss}"])
    images = torch.randint(0, 256, (8, 1, 28, 28), dtype=torch.uint8)
    losses = []
    for i in (0, 1, 0):
        torch.manual_seed(0)
        model = create_model("lenet5")
        step = TrainStep(model, make_optimizer(model, config), config, CPU, rank=0, world_size=1)
        result = step(batch_of(images, torch.arange(8), first=8 * i), step=i, learning_rate=0.1)
        assert result.right is None
        losses.append(result.loss.item())
    assert losses[0] == losses[2] != losses[1]


def test_auxiliary_classifiers_count_by_the_weight_of_their_paper():
    loss = torch.nn.CrossEntropyLoss()
    logits, labels = torch.randn(3, 5, 10), torch.arange(5)
    expected = loss(logits[0], labels) + 0.3 * (loss(logits[1], labels) + loss(logits[2], labels))
    torch.testing.assert_close(total_loss(tuple(logits), labels, loss, aux_weight=0.3), expected)


def test_the_body_of_a_pretrained_network_learns_more_slowly_than_its_head():
    model = create_model("resnet18", width=0.125, num_classes=4)
    config = recipe("optimizer.body_lr_factor=0.1")
    optimizer = make_optimizer(model, config)
    set_learning_rate(optimizer, 0.5)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert {rates[id(p)] for p in model.fc.parameters()} == {0.5}
    assert {rates[id(p)] for name, p in model.named_parameters() if not name.startswith("fc")} == {0.05}
