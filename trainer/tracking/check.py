"""What can be known about MLflow before anything is written into it."""

from uuid import uuid4

from shared.errors import UserError, in_one_line
from shared.registry import client, impatient
from shared.store import shown_tracking_uri


def check_experiment(name: str) -> bool:
    """Whether the experiment exists. If it does, it takes changes: one was made, and taken back.

    Raises:
        UserError: it does not, or it is deleted.
    """
    try:
        with impatient():
            api = client()
            experiment = api.get_experiment_by_name(name)
            if experiment is not None and experiment.lifecycle_stage == "active":
                tag = f"degrid.check.{uuid4().hex}"  # its own: other trainings may begin now, too
                api.set_experiment_tag(experiment.experiment_id, tag, "")
                api.delete_experiment_tag(experiment.experiment_id, tag)
    except Exception as error:  # MLflow lets errors of SQLAlchemy, requests and urllib through
        raise UserError(
            f"MLflow at {shown_tracking_uri()} does not let experiment {name!r} be changed ({in_one_line(error)}); "
            "see to its permissions, or choose another run.experiment"
        ) from error
    if experiment is not None and experiment.lifecycle_stage != "active":
        raise UserError(f"run.experiment={name} is a deleted one; restore it in MLflow, or choose another name")
    return experiment is not None
