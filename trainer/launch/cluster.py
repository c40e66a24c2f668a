"""The Ray that everything runs on, and what it has to give."""

import logging
import os
import socket
from dataclasses import dataclass

import ray
from ray.exceptions import RayError

from shared.errors import UserError
from trainer.config import ScalingConfig

WORKERS_PER_LOCAL_CORE = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Resources:
    """What each worker of a training gets."""

    use_gpu: bool
    cpus_per_worker: float


def _check_answers(address: str | None) -> None:
    """Knock at the head's door: ray.init() would wait for it for minutes, and without a word."""
    host, _, port = (address or "").rpartition(":")
    if not port.isdigit():  # none, "auto" or "local"
        return
    try:
        socket.create_connection((host.removeprefix("ray://").strip("[]"), int(port)), timeout=5).close()
    except OSError as error:
        raise UserError(f"no Ray answers at RAY_ADDRESS={address} ({error}); start it or unset RAY_ADDRESS") from error


def connect() -> None:
    """Connect to RAY_ADDRESS, or start a local Ray that ends with this process; once.

    Raises:
        UserError: no Ray answers at RAY_ADDRESS.
    """
    if ray.is_initialized():
        return
    address = os.environ.get("RAY_ADDRESS")
    _check_answers(address)
    try:
        ray.init(
            # not the default: that would join, or wait minutes for, whatever head last ran on this machine
            address=address or "local",
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.WARNING,
        )
    except (ConnectionError, RayError, RuntimeError, ValueError) as error:
        raise UserError(
            f"no Ray answers at RAY_ADDRESS={address} ({str(error).splitlines()[0]}); start it or unset RAY_ADDRESS"
        ) from error


def share_out(scaling: ScalingConfig, trainings: int = 1) -> Resources:
    """`connect`, and see what each worker gets there.

    Args:
        trainings: so many at once share the CPU cores; GPUs belong to one worker each.

    Raises:
        UserError: no Ray answers at RAY_ADDRESS, or it is too small.
    """
    connect()
    address = os.environ.get("RAY_ADDRESS")
    total = ray.cluster_resources()
    use_gpu = total.get("GPU", 0) > 0 if scaling.use_gpu == "auto" else scaling.use_gpu
    unit = "GPU" if use_gpu else "CPU"
    # on one's own machine a few workers may share a core: that is slow, not wrong
    per_unit = 1 if address or use_gpu else WORKERS_PER_LOCAL_CORE
    limit = int(total.get(unit, 0) * per_unit)
    if scaling.num_workers > limit:
        where = f"the cluster at {address}" if address else "this machine"
        raise UserError(
            f"scaling.num_workers={scaling.num_workers} is more than {where} can run: {limit} on "
            f"{total.get(unit, 0):g} {unit}s; lower it, or add nodes"
        )
    if use_gpu:
        return Resources(use_gpu=True, cpus_per_worker=1)
    # the workers share out the cores; OMP_NUM_THREADS follows
    share = total["CPU"] / scaling.num_workers / trainings
    return Resources(use_gpu=False, cpus_per_worker=int(share) if share >= 1 else round(share - 5e-5, 4))
