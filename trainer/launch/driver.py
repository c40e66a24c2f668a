"""The driver: starts workers with Ray Train and shows their progress."""

import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

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
from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError

from shared import store
from shared.errors import TrainingError, UserError, in_one_line
from trainer import checkpoint, loop, progress
from trainer.board import Board, Progress
from trainer.compiling import check_compiler
from trainer.config import Recipe, ScalingConfig
from trainer.launch import storage, worker
from trainer.launch.cluster import Resources, share_out
from trainer.recipes.rules import check_device

log = logging.getLogger(__name__)

News = Callable[[], tuple[Progress | None, list[str]]]
Shown = Callable[[News], AbstractContextManager[None]]
"""Shows what is new while its context is open."""


def check(recipe: Recipe) -> None:
    """Connect to Ray and see whether this recipe can ever run there.

    Raises:
        UserError: no Ray answers, it is too small, or checkpoints cannot be stored.
    """
    device_type = "cuda" if share_out(recipe.scaling).use_gpu else "cpu"
    check_device(recipe, device_type)
    if "RAY_ADDRESS" not in os.environ:  # else the workers, which are elsewhere, look for one when they begin
        check_compiler(recipe.run.compile, device_type)
    nodes = _num_nodes()
    if nodes > 1 and not recipe.run.storage_path:
        raise UserError(
            f"the cluster has {nodes} nodes, so checkpoints need a place that all of them reach: set run.storage_path "
            "to a shared folder or an s3:// URI"
        )
    storage.check(storage_path(recipe))


def describe_world(scaling: ScalingConfig) -> dict[str, Any]:
    """workers, device (GPU or CPU), nodes, and cores of all nodes together.

    Raises:
        UserError: as `check`.
    """
    resources = share_out(scaling)
    return {
        "workers": scaling.num_workers,
        "device": "GPU" if resources.use_gpu else "CPU",
        "nodes": _num_nodes(),
        "cores": int(ray.cluster_resources().get("CPU", 0)),
        "threads_per_worker": max(1, int(resources.cpus_per_worker)),
    }


def _num_nodes() -> int:
    return sum(node["Alive"] for node in ray.nodes())


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
    train_jobs(jobs, checkpoints, storage_path(first), share_out(first.scaling), register=True, shown=progress.shown)


def train_jobs(
    jobs: Sequence[tuple[Recipe, str]],
    checkpoints: str,
    place: str,
    resources: Resources,
    *,
    register: bool,
    shown: Shown,
) -> None:
    """`train` with everything decided that only the driver of a command can decide."""
    first = jobs[0][0]
    _fit(
        worker.train_jobs,
        {"jobs": [(asdict(recipe), run_id) for recipe, run_id in jobs], "register": register},
        first.scaling.num_workers,
        resources,
        run_config={
            "name": checkpoints,
            "storage_path": place,
            "failure_config": ray.train.FailureConfig(max_failures=first.run.max_failures),
            "checkpoint_config": ray.train.CheckpointConfig(num_to_keep=2),
        },
        shown=shown,
    )


def last_state(recipe: Recipe, checkpoints: str) -> checkpoint.State:
    """The newest of the states kept under a name.

    Raises:
        TrainingError: there is none.
    """
    folder = f"{storage_path(recipe)}/{checkpoints}"
    try:
        latest = ray.train.Result.from_path(folder).checkpoint
    except (OSError, RuntimeError) as error:
        raise TrainingError(f"{folder} holds no checkpoint ({in_one_line(error)})") from error
    if latest is None:
        raise TrainingError(f"{folder} holds no checkpoint")
    with latest.as_directory() as local:
        return checkpoint.load(Path(local))


def run_on_workers(work: Callable[[loop.World, dict[str, Any]], Any], arguments: dict[str, Any], recipe: Recipe) -> Any:
    """Call `work(world, arguments)` on every worker, with torch.distributed ready; returns rank 0's result.

    Raises:
        UserError, TrainingError: as `train`.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = storage_path(recipe) if recipe.run.storage_path else folder
        with storage.borrowed(place) as name:
            _, answer = _fit(
                worker.do_work,
                {"work": work, "arguments": arguments},
                recipe.scaling.num_workers,
                share_out(recipe.scaling),
                run_config={"name": name, "storage_path": place},
                shown=progress.shown,
            )
    return answer


def storage_path(recipe: Recipe) -> str:
    """Where this recipe's checkpoints go: an address or an absolute path, as other processes have other folders."""
    if recipe.run.storage_path:
        path = recipe.run.storage_path
        return path if "://" in path else str(Path(path).absolute())
    # A submitted job runs in a copy of the checkout that Ray deletes
    return str((Path.home() / "degrid" if in_submitted_job() else store.ROOT) / "runs")


def in_submitted_job() -> bool:
    """Whether this is the driver of `ray job submit`, which runs in a temporary copy of the working directory."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


def _fit(
    on_each_worker: Callable[[dict[str, Any]], None],
    config: dict[str, Any],
    num_workers: int,
    resources: Resources,
    *,
    run_config: dict[str, Any],
    shown: Shown,
) -> tuple[ray.train.Result, Any]:
    """Run `on_each_worker` on all workers; returns Ray's result and rank 0's answer."""
    board = ray.remote(num_cpus=0)(Board).remote()
    torch_trainer = ray.train.torch.TorchTrainer(
        on_each_worker,
        train_loop_config=config | {"board": board, "environment": environment()},
        scaling_config=ray.train.ScalingConfig(
            num_workers=num_workers,
            use_gpu=resources.use_gpu,
            resources_per_worker={"CPU": resources.cpus_per_worker, **({"GPU": 1} if resources.use_gpu else {})},
        ),
        run_config=ray.train.RunConfig(**run_config),
    )
    log.warning("starting %d workers on %s", num_workers, "GPUs" if resources.use_gpu else "CPU cores")
    failure: Exception | None = None
    result: ray.train.Result | None = None
    with shown(lambda: ray.get(board.news.remote(), timeout=5)):
        try:
            result = torch_trainer.fit()
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


def environment() -> dict[str, str]:
    """What processes on other machines need to find the MLflow of this one."""
    found = {k: v for k, v in os.environ.items() if k.startswith("MLFLOW_")}
    return found | {"MLFLOW_TRACKING_URI": store.tracking_uri()}
