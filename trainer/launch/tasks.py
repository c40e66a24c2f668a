"""Jobs that are not trainings, as Ray's tasks."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from shared.errors import TrainingError, UserError
from trainer.launch.cluster import connect

Job = TypeVar("Job")
Result = TypeVar("Result")


def map_tasks(work: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
    """The results of `work` for each job, on a CPU core each, in the order in which they are ready.

    Raises:
        UserError: no Ray answers.
        TrainingError: raised by `work`, or a job was lost too often.
    """
    connect()
    task = ray.remote(num_cpus=1)(work)
    waiting = iter(jobs)
    room = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
    running = [task.remote(job) for job in islice(waiting, room)]
    try:
        while running:
            done, running = ray.wait(running)
            running += [task.remote(job) for job in islice(waiting, len(done))]
            yield from ray.get(done)
    except RayTaskError as error:
        if isinstance(error.cause, (TrainingError, UserError)):
            raise error.cause from error
        raise
    except RayError as error:
        raise TrainingError(f"Ray lost a job ({str(error).splitlines()[0]}); run the command again to go on") from error
    finally:
        for reference in running:
            ray.cancel(reference)
