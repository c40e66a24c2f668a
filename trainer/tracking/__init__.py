"""MLflow as the trainer writes it: one run per training, whoever restarts it.

The driver creates the run and ends it; rank 0 writes into it by its id. MLflow is checked before a training starts;
after that nothing here may stop it.
"""

from trainer.tracking.check import check_experiment
from trainer.tracking.log import RunLog, log_card, log_figure, log_summary, tag
from trainer.tracking.runs import (
    CHECKPOINTS_TAG,
    Child,
    children,
    create_parent,
    create_run,
    end_run,
    fail_run,
    find_interrupted,
    find_parent,
    history,
    import_run,
    last_values,
)

__all__ = [
    "CHECKPOINTS_TAG",
    "Child",
    "RunLog",
    "check_experiment",
    "children",
    "create_parent",
    "create_run",
    "end_run",
    "fail_run",
    "find_interrupted",
    "find_parent",
    "history",
    "import_run",
    "last_values",
    "log_card",
    "log_figure",
    "log_summary",
    "tag",
]
