"""In which numbers a network is computed, and how its batches lie in memory."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from shared.errors import UserError
from shared.transforms import EvalTransform

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32, "tf32": torch.float32}


@dataclass(frozen=True, kw_only=True, slots=True)
class Precision:
    """How a network is executed on a device. Weights are float32 throughout; `dtype` is what layers compute in."""

    device: torch.device
    dtype: torch.dtype

    tf32: bool = False
    """float32 products are rounded to TF32 (10 bits of mantissa), as GPUs since Ampere multiply them fast."""

    @property
    def name(self) -> str:
        """bf16, fp16, tf32 or fp32."""
        return "tf32" if self.tf32 else next(name for name, dtype in _DTYPES.items() if dtype == self.dtype)

    @property
    def memory_format(self) -> torch.memory_format:
        # Measured on a CPU with AMX: bf16 gains a factor of 1.8 from channels_last, fp32 next to nothing
        fast = self.dtype != torch.float32 or self.device.type == "cuda"
        return torch.channels_last if fast else torch.contiguous_format

    def autocast(self) -> AbstractContextManager[None]:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)


def choose_precision(setting: str, device: torch.device) -> Precision:
    """`auto` is bf16 where the hardware multiplies it natively; elsewhere it would be emulated, and slow.

    Sets torch's switches for this process. By default its convolutions use TF32 where nobody asked for it; and as
    all batches have the same shape, trying every algorithm of cuDNN's once is worth its time.

    Raises:
        UserError: the device has no such arithmetic.
    """
    check_precision(setting, device.type)
    if setting == "auto":
        native = torch.cuda.is_bf16_supported(False) if device.type == "cuda" else _cpu_multiplies_bf16()
        setting = "bf16" if native else "fp32"
    _set_tf32(setting == "tf32")
    torch.backends.cudnn.benchmark = True
    return Precision(device=device, dtype=_DTYPES[setting], tf32=setting == "tf32")


def check_precision(setting: str, device_type: str) -> None:
    """Raises UserError: run.precision is one that this kind of device has not."""
    if device_type != "cuda" and setting in ("fp16", "tf32"):
        raise UserError(f"run.precision={setting} needs a GPU, and the workers have none; use auto, bf16 or fp32")


@contextmanager
def exact_fp32() -> Iterator[None]:
    """float32 without TF32, whatever the training computes in: for scores that must not depend on the hardware."""
    before = torch.backends.cudnn.allow_tf32
    _set_tf32(False)
    try:
        yield
    finally:
        _set_tf32(before)


def prepare(images: Tensor, transform: EvalTransform, precision: Precision) -> Tensor:
    """(B, C, H, W) uint8 on the host -> normalised float32 on the device, in the memory format of the network."""
    moved = images.to(precision.device, non_blocking=True, memory_format=precision.memory_format)
    return transform.normalize(moved)


def _set_tf32(allowed: bool) -> None:
    # not by the newer fp32_precision: torch 2.15's own export and compilation fail after it has been set
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def _cpu_multiplies_bf16() -> bool:
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
