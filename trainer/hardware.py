"""What a device can do at best, as its maker states it: the measure for the speed of a training."""

import re
from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True, slots=True)
class Peak:
    """Dense TFLOPS (10^12 operations a second, a multiply-accumulate being two), accumulated in fp32.

    Without sparsity, which doubles the figures that data sheets print largest. Half precision and TF32 are those of
    tensor cores; None where the device has none for it.
    """

    fp32: float
    tf32: float | None = None
    fp16: float | None = None
    bf16: float | None = None


def _same_for_both_halves(half: float, tf32: float, fp32: float) -> Peak:
    return Peak(fp32=fp32, tf32=tf32, fp16=half, bf16=half)


# Pattern of the device's name -> peak; the first that is found counts. From NVIDIA's data sheets, for GeForce and RTX
# from the appendices of the white papers on the architectures (GA102, Ada, RTX Blackwell), and AMD's for the MI300X.
_PEAKS: dict[str, Peak] = {
    r"P100-PCIE": Peak(fp32=9.3),
    r"P100-SXM2": Peak(fp32=10.6),
    r"V100S-PCIE": Peak(fp32=16.4, fp16=130),
    r"V100-PCIE": Peak(fp32=14, fp16=112),
    r"V100-SXM[23]": Peak(fp32=15.7, fp16=125),
    r"Tesla T4": Peak(fp32=8.1, fp16=65),
    r"A10G": _same_for_both_halves(70, 35, 35),
    r"A10": _same_for_both_halves(125, 62.5, 31.2),
    r"A30": _same_for_both_halves(165, 82, 10.3),
    r"A40": _same_for_both_halves(149.7, 74.8, 37.4),
    r"A100": _same_for_both_halves(312, 156, 19.5),
    r"RTX A6000": _same_for_both_halves(154.8, 77.4, 38.7),
    r"L4": _same_for_both_halves(121, 60, 30.3),
    r"L40": _same_for_both_halves(181, 90.5, 90.5),
    r"L40S": _same_for_both_halves(362, 183, 91.6),
    r"H100 PCIe": _same_for_both_halves(756, 378, 51),
    r"H100 NVL": _same_for_both_halves(835.5, 417.5, 60),
    r"H100": _same_for_both_halves(989.5, 494.5, 67),  # SXM: "NVIDIA H100 80GB HBM3"
    r"H200 NVL": _same_for_both_halves(835.5, 417.5, 60),
    r"(H200|GH200)": _same_for_both_halves(989.5, 494.5, 67),
    r"B200": _same_for_both_halves(2250, 1125, 75),
    r"GB200": _same_for_both_halves(2500, 1250, 80),
    r"RTX 3080": _same_for_both_halves(59.5, 29.8, 29.8),
    r"RTX 3090": _same_for_both_halves(71, 35.6, 35.6),
    r"RTX 4080": _same_for_both_halves(97.5, 48.7, 48.7),
    r"RTX 4090": _same_for_both_halves(165.2, 82.6, 82.6),
    r"RTX 5090": _same_for_both_halves(209.5, 104.8, 104.8),
    r"MI300X": _same_for_both_halves(1307.4, 653.7, 163.4),
}
# A slice of a device, and cards that share a name with a faster one
_OTHERS = re.compile(r"\bMIG\b|Laptop|Max-Q|RTX \d+ (Ti|SUPER|D)\b")


def peak_tflops(device: torch.device, precision: str) -> float | None:
    """For fp32, tf32, fp16 or bf16; None for a CPU, and where it is not known."""
    if device.type != "cuda":
        return None
    return peak_of(torch.cuda.get_device_name(device), precision)


def peak_of(name: str, kind: str) -> float | None:
    """By the device's name, for fp32, tf32, fp16 or bf16."""
    if _OTHERS.search(name):
        return None
    peak = next((peak for pattern, peak in _PEAKS.items() if re.search(rf"\b{pattern}\b", name)), None)
    if peak is None:
        return None
    value: float | None = getattr(peak, kind)
    return peak.fp32 if value is None and kind == "tf32" else value


def device_name(device: torch.device) -> str:
    """For people: what a worker computes on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}"
