"""Training on Ray: the driver's side and the workers' side. The only package that knows Ray."""

from trainer.launch.driver import check, describe_world, in_submitted_job, run_on_workers, storage_path, train
from trainer.launch.tasks import map_tasks

__all__ = ["check", "describe_world", "in_submitted_job", "map_tasks", "run_on_workers", "storage_path", "train"]
