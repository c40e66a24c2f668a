"""Number formats, compilation and the rules about devices."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from shared.errors import UserError
from shared.models import create_model
from trainer import recipes
from trainer.compiling import check_compiler
from trainer.data.loader import Batch
from trainer.optim import make_optimizer
from trainer.precision import Precision, choose_precision, exact_fp32
from trainer.recipes.rules import check_classes, check_device
from trainer.step import TrainStep

CPU = torch.device("cpu")


def tiny(*overrides: str):
    return recipes.load("tiny_drn_c_26", ["run.global_batch_size=8", "model.width=0.125", *overrides])


def step_of(config, dtype=torch.float32):
    torch.manual_seed(0)
    model = create_model(config.model.name, num_classes=4, **config.model_options).train()
    return TrainStep(model, make_optimizer(model, config), config, Precision(device=CPU, dtype=dtype), 0, 1)


def batch(size=32):
    images = torch.randint(0, 256, (8, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return Batch(images=images, labels=torch.arange(8) % 4, indices=range(8), damaged=[])


class HostReads(TorchDispatchMode):
    """Counts how often a value is read out of a tensor: on a device each waits for everything before it."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["augment.mixup=0.2", "augment.cutmix=1", "augment.erasing=0.5", "augment.grey=0.2", "optimizer.loss=bce"],
        ["optimizer.clip_norm=1.0", "run.per_device_batch_size=4", "optimizer.nesterov=true"],
    ],
)
def test_an_update_never_reads_a_value_from_the_device(settings):
    step = step_of(tiny(*settings))
    step(batch(), step=0, learning_rate=0.1)  # what is made once may be made now
    with HostReads() as reads:
        step(batch(), step=1, learning_rate=0.1)
    assert reads.count == 0


def test_warming_up_changes_nothing_that_training_depends_on():
    step = step_of(tiny())
    before = {name: value.clone() for name, value in step.model.state_dict().items()}
    step.warm_up(image_size=32, num_channels=3)
    assert all(torch.equal(value, before[name]) for name, value in step.model.state_dict().items())
    assert not step.optimizer.state
    assert all(parameter.grad is None for parameter in step.model.parameters())


@pytest.mark.parametrize("setting", ["fp16", "tf32"])
def test_what_only_gpus_compute_is_refused_on_a_cpu(setting):
    with pytest.raises(UserError, match=f"run.precision={setting} needs a GPU.* use auto, bf16 or fp32"):
        check_device(tiny(f"run.precision={setting}"), "cpu")
    check_device(tiny(f"run.precision={setting}"), "cuda")


def test_sync_batch_norm_is_refused_on_a_cpu():
    with pytest.raises(UserError, match=r"run\.sync_batch_norm=true needs GPUs"):
        check_device(tiny("run.sync_batch_norm=true"), "cpu")


def test_tf32_is_only_used_where_it_was_asked_for():
    """torch's own default lets convolutions use it. The switches exist on machines without a GPU, too."""
    choose_precision("fp32", CPU)
    assert not torch.backends.cudnn.allow_tf32
    with torch.backends.cudnn.flags(allow_tf32=True):
        with exact_fp32():
            assert not torch.backends.cudnn.allow_tf32
            assert not torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cudnn.allow_tf32


def test_compiling_without_a_compiler_is_refused(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match=r"run\.compile=default needs a C.. compiler, and no-such-compiler"):
        check_compiler("default", "cpu")
    check_compiler("off", "cpu")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["run.compile=reduce-overhead", "run.per_device_batch_size=4"], "overwrites them .*set run.compile=default"),
        (
            ["optimizer.loss=bce", "augment.label_smoothing=0.1"],
            "label_smoothing=0.1 does nothing .*set it to 0",
        ),
    ],
)
def test_settings_that_spoil_each_other_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        tiny(*settings, "scaling.num_workers=1")


def test_labels_of_one_class_are_not_mixed():
    with pytest.raises(UserError, match=r"augment\.cutmix=1 mixes labels, and the data set has 1 class"):
        check_classes(tiny("augment.cutmix=1"), num_classes=1)


def test_synchronised_batch_norm_keeps_the_names_and_numbers_of_a_checkpoint():
    from timm.layers import convert_sync_batchnorm

    model = create_model("drn_c_26", width=0.125, num_classes=4)
    converted = convert_sync_batchnorm(create_model("drn_c_26", width=0.125, num_classes=4))
    converted.load_state_dict(model.state_dict())
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(converted.eval()(images), model.eval()(images))


@pytest.mark.gpu
@pytest.mark.parametrize("setting", ["bf16", "fp16", "tf32", "fp32"])
def test_a_gpu_learns_in_every_precision_and_the_host_never_waits_for_it(setting):
    config = tiny(f"run.precision={setting}", "augment.mixup=0.2", "augment.erasing=0.5", "optimizer.clip_norm=5")
    device = torch.device("cuda")
    precision = choose_precision(setting, device)
    torch.manual_seed(0)
    model = create_model(config.model.name, num_classes=4, **config.model_options).train()
    model = model.to(device).to(memory_format=precision.memory_format)
    step = TrainStep(model, make_optimizer(model, config), config, precision, 0, 1)
    losses = [step(batch().pin_memory(), step=0, learning_rate=0.05).loss]
    torch.cuda.set_sync_debug_mode("error")
    try:
        losses += [step(batch().pin_memory(), step=i, learning_rate=0.05).loss for i in range(1, 20)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert losses[-1] < losses[0]
