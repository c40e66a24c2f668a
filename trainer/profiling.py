"""Where the time of an update goes: torch's profiler around a few of them, on rank 0."""

import logging
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from torch.profiler import ProfilerActivity, profile, record_function, schedule

from shared.errors import UserError, in_one_line
from trainer.config import Recipe
from trainer.data.loader import Batch
from trainer.surroundings import Hooks, World

log = logging.getLogger(__name__)

MAX_UPDATES = 20
"""A trace grows by several MB with each update of a deep network, and browsers show some 100 MB."""

WARM_UP = 2
"""Updates before, in which the profiler runs and nothing is kept: its first ones are slower."""

TABLE_ROWS = 30
FOLDER = "profile"


def check(recipe: Recipe, total_steps: int) -> None:
    """Raises UserError where run.profile_steps is not a range of updates of this training."""
    steps = recipe.run.profile_steps
    if not steps:
        return
    shown = f"run.profile_steps={list(steps)}"
    if len(steps) != 2 or steps[0] > steps[1]:
        raise UserError(f"{shown} should be the first and the last update to profile, such as [11, 15]")
    if steps[1] > total_steps:
        raise UserError(f"{shown} ends after the last update, {total_steps}; profile earlier ones, or train longer")
    if steps[1] - steps[0] >= MAX_UPDATES:
        raise UserError(f"{shown} are {steps[1] - steps[0] + 1} updates; a trace should hold at most {MAX_UPDATES}")


def profiled(batches: Iterator[Batch], recipe: Recipe, world: World, hooks: Hooks, done: int) -> Iterator[Batch]:
    """The batches of the updates after `done`; rank 0 keeps a profile of those from run.profile_steps.

    It holds the wait for each batch as well. Writing it takes seconds, after the last of them.
    """
    if world.rank or not recipe.run.profile_steps:
        return batches
    first, last = recipe.run.profile_steps
    first = max(first, done + 1)  # a resumed run profiles what is left
    return batches if first > last else _profiled(batches, world, hooks, range(first, last + 1), done)


def _profiled(batches: Iterator[Batch], world: World, hooks: Hooks, updates: range, done: int) -> Iterator[Batch]:
    warm_up = min(WARM_UP, updates[0] - 1 - done)
    yield from islice(batches, updates[0] - 1 - warm_up - done)
    on_gpu = [ProfilerActivity.CUDA] if world.device.type == "cuda" else []
    profiler = profile(
        activities=[ProfilerActivity.CPU, *on_gpu],
        schedule=schedule(wait=0, warmup=warm_up, active=len(updates), repeat=1),
    )
    profiler.start()
    try:
        for update in range(updates[0] - warm_up, updates[-1] + 1):
            with record_function(f"update {update}"):  # what follows the yield included: the update itself
                yield next(batches)
            profiler.step()
    finally:
        profiler.stop()
    try:
        _deliver(profiler, hooks, updates, "self_device_time_total" if on_gpu else "self_cpu_time_total")
    except (OSError, RuntimeError) as error:  # a profile that is lost must not end a training
        log.warning("updates %d to %d could not be profiled: %s", updates[0], updates[-1], in_one_line(error))
    yield from batches


def _deliver(profiler: profile, hooks: Hooks, updates: range, most_expensive: str) -> None:
    """Keep the trace, for Perfetto or chrome://tracing, and a table of the most expensive operations."""
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / f"updates_{updates[0]}_to_{updates[-1]}.json.gz"
        profiler.export_chrome_trace(str(trace))
        table = trace.with_name(f"updates_{updates[0]}_to_{updates[-1]}.txt")
        rows = profiler.key_averages().table(sort_by=most_expensive, row_limit=TABLE_ROWS, max_name_column_width=60)
        table.write_text(rows)
        for path in (trace, table):
            hooks.log_file(path, FOLDER)
