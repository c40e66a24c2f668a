"""Training on Ray: the driver's side and the workers' side. The only package that knows Ray.

`launch.sweep` is imported by the one command that needs Ray Tune: workers should not load it.
"""

from trainer.launch.driver import (
    check,
    describe_world,
    in_submitted_job,
    last_state,
    run_on_workers,
    storage_path,
    train,
)
from trainer.launch.tasks import map_tasks

__all__ = [
    "check",
    "describe_world",
    "in_submitted_job",
    "last_state",
    "map_tasks",
    "run_on_workers",
    "storage_path",
    "train",
]
