"""Two processes connected by Gloo, as Ray Train connects its workers: shared by tests."""

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from trainer.surroundings import World

PATIENCE_S = 120
"""Far more than any work needs on a busy machine, far less than the half hour for which a collective waits."""


class TwoWorkers:
    def __init__(self, pipes: list[Connection]) -> None:
        self._pipes = pipes

    def run(self, work: Callable[..., Any], *arguments: Any) -> list[Any]:
        """What `work(world, *arguments)` returned, or raised, on each of them."""
        for pipe in self._pipes:
            pipe.send((work, arguments))
        for rank, pipe in enumerate(self._pipes):
            assert pipe.poll(PATIENCE_S), f"worker {rank} hangs"
        return [pipe.recv() for pipe in self._pipes]


@contextmanager
def two_workers(folder: Path) -> Iterator[TwoWorkers]:
    spawn = multiprocessing.get_context("spawn")
    ends = [spawn.Pipe() for _ in range(2)]
    processes = [
        spawn.Process(target=_serve, args=(rank, folder / "meeting point", end), daemon=True)
        for rank, (_, end) in enumerate(ends)
    ]
    for process in processes:
        process.start()
    try:
        yield TwoWorkers([pipe for pipe, _ in ends])
    finally:
        for process in processes:
            process.kill()
            process.join()


def _serve(rank: int, meeting_point: Path, pipe: Connection) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting_point}", rank=rank, world_size=2)
    world = World(rank=rank, size=2, device=torch.device("cpu"))
    while True:
        work, arguments = pipe.recv()
        try:
            answer = work(world, *arguments)
        except Exception as error:
            answer = error
        pipe.send(answer)
