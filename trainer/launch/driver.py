"""The driver: starts workers with Ray Train and shows their progress."""

import logging
import os
import socket
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

# Ray reads these when it is imported. report() waits for a poll of the controller, every 2 s by default: long for
# small trainings.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
if "RAY_ADDRESS" not in os.environ:
    # nobody reclaims a laptop, and the watcher is one more process that imports for seconds
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")

import ray
import ray.train
import ray.train.torch
from ray.exceptions import RayError
from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError

from shared import store
from shared.errors import TrainingError, UserError
from trainer import loop, progress
from trainer.board import Board
from trainer.compiling import check_compiler
from trainer.config import Recipe, ScalingConfig
from trainer.launch import worker
from trainer.recipes.rules import check_device

log = logging.getLogger(__name__)

WORKERS_PER_LOCAL_CORE = 4


def check(recipe: Recipe) -> None:
    """Connect to Ray and see whether this recipe can ever run there.

    Raises:
        UserError: no Ray answers, it is too small, or checkpoints cannot be stored.
    """
    device_type = "cuda" if _connect(recipe.scaling).use_gpu else "cpu"
    check_device(recipe, device_type)
    if "RAY_ADDRESS" not in os.environ:  # else the workers, which are elsewhere, look for one when they begin
        check_compiler(recipe.run.compile, device_type)
    storage = storage_path(recipe)
    nodes = sum(node["Alive"] for node in ray.nodes())
    if nodes > 1 and not recipe.run.storage_path:
        raise UserError(
            f"the cluster has {nodes} nodes, so checkpoints need a place that all of them reach: set run.storage_path "
            "to a shared folder or an s3:// URI"
        )
    if "://" not in storage:
        try:
            Path(storage).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"run.storage_path={storage} cannot be written ({error.strerror}); choose another"
            ) from error


def train(jobs: Sequence[tuple[Recipe, str]], checkpoints: str) -> None:
    """Train and register recipes, each into the run of its id, one after the other on one group of workers.

    Starting workers takes most of a minute (imports, mainly), so several small trainings share them.

    Args:
        checkpoints: name under which the checkpoints are kept; one that was used before goes on from its last one.

    Raises:
        UserError: as `check`.
        TrainingError: a training failed; the message is its cause.
    """
    first = jobs[0][0]
    _fit(
        worker.train_jobs,
        {"jobs": [(asdict(recipe), run_id) for recipe, run_id in jobs]},
        first.scaling,
        run_config={
            "name": checkpoints,
            "storage_path": storage_path(first),
            "failure_config": ray.train.FailureConfig(max_failures=first.run.max_failures),
            "checkpoint_config": ray.train.CheckpointConfig(num_to_keep=2),
        },
    )


def run_on_workers(work: Callable[[loop.World, dict[str, Any]], Any], arguments: dict[str, Any], recipe: Recipe) -> Any:
    """Call `work(world, arguments)` on every worker, with torch.distributed ready; returns rank 0's result.

    Raises:
        UserError, TrainingError: as `train`.
    """
    with tempfile.TemporaryDirectory() as folder:
        _, answer = _fit(
            worker.do_work,
            {"work": work, "arguments": arguments},
            recipe.scaling,
            run_config={"name": uuid4().hex, "storage_path": recipe.run.storage_path or folder},
        )
    return answer


def storage_path(recipe: Recipe) -> str:
    """Where this recipe's checkpoints go."""
    if recipe.run.storage_path:
        return recipe.run.storage_path
    # A submitted job runs in a copy of the checkout that Ray deletes
    return str((Path.home() / "degrid" if in_submitted_job() else store.ROOT) / "runs")


def in_submitted_job() -> bool:
    """Whether this is the driver of `ray job submit`, which runs in a temporary copy of the working directory."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


@dataclass(frozen=True, kw_only=True, slots=True)
class _Resources:
    use_gpu: bool
    cpus_per_worker: float


def _fit(
    on_each_worker: Callable[[dict[str, Any]], None],
    config: dict[str, Any],
    scaling: ScalingConfig,
    *,
    run_config: dict[str, Any],
) -> tuple[ray.train.Result, Any]:
    """Run `on_each_worker` on all workers; returns Ray's result and rank 0's answer."""
    resources = _connect(scaling)
    board = ray.remote(num_cpus=0)(Board).remote()
    environment = {k: v for k, v in os.environ.items() if k.startswith("MLFLOW_")}
    environment["MLFLOW_TRACKING_URI"] = store.tracking_uri()
    trainer = ray.train.torch.TorchTrainer(
        on_each_worker,
        train_loop_config=config | {"board": board, "environment": environment},
        scaling_config=ray.train.ScalingConfig(
            num_workers=scaling.num_workers,
            use_gpu=resources.use_gpu,
            resources_per_worker={"CPU": resources.cpus_per_worker, **({"GPU": 1} if resources.use_gpu else {})},
        ),
        run_config=ray.train.RunConfig(**run_config),
    )
    log.warning("starting %d workers on %s", scaling.num_workers, "GPUs" if resources.use_gpu else "CPU cores")
    failure: Exception | None = None
    result: ray.train.Result | None = None
    with progress.shown(lambda: ray.get(board.news.remote(), timeout=5)):
        try:
            result = trainer.fit()
        except TrainingFailedError as error:
            failure = error
    verdict = ray.get(board.verdict.remote())
    if verdict is not None:
        raise verdict
    if failure is not None:
        raise TrainingError(_cause(failure)) from failure
    assert result is not None
    return result, ray.get(board.answer.remote())


def _cause(error: Exception) -> str:
    """The first worker's own error in one line; Ray's message holds the tracebacks of all."""
    if isinstance(error, WorkerGroupError) and error.worker_failures:
        rank, failure = min(error.worker_failures.items())
        cause = getattr(failure, "cause", None) or failure
        return f"worker {rank} failed: {type(cause).__name__}: {str(cause).strip().splitlines()[-1]}"
    return str(error).strip().splitlines()[-1]


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


def _connect(scaling: ScalingConfig) -> _Resources:
    """`connect`, and see what each worker gets there.

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
        return _Resources(use_gpu=True, cpus_per_worker=1)
    # the workers share out the cores; OMP_NUM_THREADS follows
    share = total["CPU"] / scaling.num_workers
    return _Resources(use_gpu=False, cpus_per_worker=int(share) if share >= 1 else round(share - 5e-5, 4))
