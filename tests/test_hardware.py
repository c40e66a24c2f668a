"""Peaks of devices by their names, and the share of them that a training reaches."""

import pytest
import torch

from shared.models import describe
from trainer import memory, meters
from trainer.cost import Cost
from trainer.data.loader import Batch
from trainer.hardware import peak_of, peak_tflops
from trainer.meters import Meter
from trainer.rollcall import DivergedError
from trainer.step import StepResult

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "bf16", "tf32"),
    [
        ("NVIDIA H100 80GB HBM3", 989.5, 494.5),
        ("NVIDIA H100 PCIe", 756, 378),
        ("NVIDIA H100 NVL", 835.5, 417.5),
        ("NVIDIA H200", 989.5, 494.5),
        ("NVIDIA B200", 2250, 1125),
        ("NVIDIA GB200", 2500, 1250),
        ("NVIDIA A100-SXM4-40GB", 312, 156),
        ("NVIDIA A100 80GB PCIe", 312, 156),
        ("NVIDIA A10G", 70, 35),
        ("NVIDIA A10", 125, 62.5),
        ("NVIDIA L4", 121, 60),
        ("NVIDIA L40S", 362, 183),
        ("NVIDIA GeForce RTX 3090", 71, 35.6),
        ("Tesla V100-SXM2-16GB", None, 15.7),  # has no tf32: fp32 is computed in fp32
        ("Tesla T4", None, 8.1),
    ],
)
def test_a_known_device_has_the_dense_peak_of_its_data_sheet(name, bf16, tf32):
    assert (peak_of(name, "bf16"), peak_of(name, "tf32")) == (bf16, tf32)


@pytest.mark.parametrize(
    "name",
    ["NVIDIA A100-SXM4-40GB MIG 1g.5gb", "NVIDIA GeForce RTX 3090 Ti", "NVIDIA GeForce RTX 4090 Laptop GPU", "Another"],
)
def test_a_slice_a_namesake_and_an_unknown_device_have_none(name):
    assert peak_of(name, "bf16") is None


def test_a_cpu_has_no_peak():
    assert peak_tflops(CPU, "bf16") is None


def batches(sizes: list[int]) -> list[Batch]:
    return [
        Batch(images=torch.empty(4, 3, s, s, dtype=torch.uint8), labels=torch.zeros(4), indices=[], damaged=[])
        for s in sizes
    ]


def run(meter: Meter, sizes: list[int], loss: float = 1.0) -> None:
    for _ in meter.timed(batches(sizes)):
        meter.add(StepResult(loss=torch.tensor(loss), right=torch.tensor(1)))


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(meters.time, "perf_counter", lambda: now[0])
    return now


def cost(peak: float | None) -> Cost:
    return Cost(name="resnet50", num_classes=1000, width=1.0, in_chans=3, peak_tflops=peak)


def test_utilisation_is_the_networks_own_arithmetic_by_time_and_peak(clock):
    meter = Meter(4, CPU, cost=cost(peak_of("NVIDIA H100 80GB HBM3", "bf16")))
    run(meter, [224, 224])
    clock[0] = 0.002
    # 8 pictures, forward and twice that backward, two operations for each of 4.09 G multiply-accumulates
    assert meter.read(2)["perf/mfu_pct"] == pytest.approx(100 * 8 * 6 * 4.09e9 / 0.002 / 989.5e12)


def test_crops_that_grow_are_counted_at_their_own_size(clock):
    meter = Meter(4, CPU, cost=cost(100.0))
    run(meter, [128, 160])
    clock[0] = 1.0
    gmacs = sum(describe("resnet50", image_size=size).gmacs for size in (128, 160))
    assert meter.read(2)["perf/mfu_pct"] == pytest.approx(100 * 4 * 6 * gmacs / 1e3 / 100)


def test_a_device_without_a_known_peak_has_no_utilisation_and_speed_and_memory_all_the_same(clock):
    meter = Meter(4, CPU, cost=cost(None))
    run(meter, [32, 32])
    clock[0] = 2.0
    metrics = meter.read(2)
    assert "perf/mfu_pct" not in metrics
    assert metrics["perf/images_per_s"] == metrics["perf/images_per_s_per_worker"] == 4
    assert 0.05 < metrics["perf/host_memory_gb"] < 100


def test_a_loss_that_is_not_finite_is_seen_before_it_is_read():
    meter = Meter(4, CPU)
    meter.check(0)  # nothing yet
    run(meter, [32], loss=float("inf"))
    with pytest.raises(DivergedError, match="the loss became inf within the 1 updates before step 7"):
        meter.check(7)


def test_a_look_at_the_loss_does_not_change_it():
    meter = Meter(4, CPU)
    run(meter, [32], loss=3.0)
    meter.check(1)
    assert meter.read(1)["train/loss"] == 3.0


def test_the_growth_of_this_process_is_its_peak_of_memory():
    peak_gb = memory.watch_peak(CPU)
    before = peak_gb()
    block = bytearray(200_000_000)
    block[::4096] = b"x" * len(block[::4096])
    del block
    assert before + 0.15 < peak_gb() < before + 0.5
