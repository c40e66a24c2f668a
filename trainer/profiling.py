"""Where the time of an update goes: torch's profiler around a few of them, on rank 0."""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from torch.profiler import ProfilerActivity, profile, record_function, schedule

from shared.errors import UserError, in_one_line
from trainer.config import Recipe
from trainer.data.sampling import Plan
from trainer.surroundings import Hooks, World

log = logging.getLogger(__name__)

MAX_UPDATES = 20
"""A trace grows by several MB with each update of a deep network, and browsers show some 100 MB."""

WARM_UP = 2
"""Updates before, in which the profiler runs and nothing is kept: its first ones are slower."""

TABLE_ROWS = 30
FOLDER = "profile"


def check(recipe: Recipe, plan: Plan) -> None:
    """Raises UserError where run.profile_steps is not a range of updates of this training, between two evaluations."""
    steps = recipe.run.profile_steps
    if not steps:
        return
    shown = f"run.profile_steps={list(steps)}"
    if len(steps) != 2 or steps[0] > steps[1]:
        raise UserError(f"{shown} should be the first and the last update to profile, such as [11, 15]")
    first, last = steps
    if last > plan.total_steps:
        raise UserError(f"{shown} ends after the last update, {plan.total_steps}; profile earlier ones")
    if last - first >= MAX_UPDATES:
        raise UserError(f"{shown} are {last - first + 1} updates; a trace should hold at most {MAX_UPDATES}")
    between = next((step for step in range(first, last) if plan.evaluates_after(step)), None)
    if between is not None:
        raise UserError(
            f"{shown} would hold the evaluation after update {between}; end there, or begin with {between + 1}"
        )


class Profiler:
    """On rank 0 it records the updates of run.profile_steps, and keeps them in the run after the last one."""

    def __init__(self, recipe: Recipe, world: World, hooks: Hooks) -> None:
        first, last = recipe.run.profile_steps or (1, 0)
        self._updates = range(first, last + 1) if world.rank == 0 else range(0)
        self._on_gpu = world.device.type == "cuda"
        self._hooks = hooks
        self._running: profile | None = None

    def update(self, number: int) -> AbstractContextManager[None]:
        """Around the update of that number, the first of a training being 1."""
        if self._updates and self._updates[0] - WARM_UP <= number <= self._updates[-1]:
            return self._recorded(number)
        return nullcontext()

    @contextmanager
    def _recorded(self, number: int) -> Iterator[None]:
        if self._running is None:
            self._running = self._started(number)
        try:
            with record_function(f"update {number}"):
                yield
            self._running.step()
        finally:
            if number == self._updates[-1]:
                self._running.stop()
        if number == self._updates[-1]:
            self._keep(self._running)
            self._running, self._updates = None, range(0)  # a trace takes much memory

    def _started(self, number: int) -> profile:
        """A profiler whose first update is that one: in a run that is resumed among them, of those that are left."""
        self._updates = range(max(number, self._updates[0]), self._updates[-1] + 1)
        running = profile(
            activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self._on_gpu else [])],
            schedule=schedule(wait=0, warmup=self._updates[0] - number, active=len(self._updates), repeat=1),
        )
        running.start()
        return running

    def _keep(self, finished: profile) -> None:
        try:
            self._write(finished)
        except (OSError, RuntimeError) as error:  # a profile that is lost must not end a training
            log.warning("%s could not be kept: %s", self._title(), in_one_line(error))

    def _write(self, finished: profile) -> None:
        """The trace, for Perfetto or chrome://tracing, and a table of the most expensive operations."""
        most_expensive = "self_device_time_total" if self._on_gpu else "self_cpu_time_total"
        with tempfile.TemporaryDirectory() as folder:
            trace, table = (Path(folder) / f"{self._title()}.{kind}" for kind in ("json.gz", "txt"))
            finished.export_chrome_trace(str(trace))
            rows = finished.key_averages()
            table.write_text(rows.table(sort_by=most_expensive, row_limit=TABLE_ROWS, max_name_column_width=60))
            for path in (trace, table):
                self._hooks.log_file(path, FOLDER)

    def _title(self) -> str:
        return f"updates_{self._updates[0]}_to_{self._updates[-1]}"
