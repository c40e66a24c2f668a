"""Runs above other runs: what a study and a sweep have in common."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from trainer import tracking
from trainer.tracking import Child

log = logging.getLogger(__name__)


def begun(parent: str) -> dict[str, Child]:
    """The trainings below a parent that began, by name; those that only waited are removed.

    A command that was killed leaves them behind; one that ends by itself does not.
    """
    found = tracking.children(parent)
    for child in found.values():
        if child.status == "SCHEDULED":
            tracking.end_run(child.run_id, "KILLED")
    return {name: child for name, child in found.items() if child.status != "SCHEDULED"}


@contextmanager
def under(parent: str, command: str) -> Iterator[None]:
    """The block trains below `parent`, which ends as the block does; if it was cut short, a line says how to go on.

    Args:
        command: of `python -m trainer` that has --resume.
    """
    status = "FAILED"
    try:
        yield
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit):  # Ray Train turns Ctrl-C into the latter
        status = "KILLED"
        raise
    finally:
        tracking.end_run(parent, status)
        if status != "FINISHED":
            log.warning("the %s is %s; go on with: python -m trainer %s --resume %s", command, status, command, parent)
