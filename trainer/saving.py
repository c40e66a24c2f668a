"""Checkpoints of a training: after every epoch, and where it has to stop within one."""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from shared.errors import TrainingError, in_one_line
from trainer import checkpoint
from trainer.batch_norm import average_batch_norm, gather_batch_norm, restore_batch_norm
from trainer.checkpoint import State
from trainer.data import DataSet
from trainer.ema import Networks
from trainer.rollcall import StoppedError, all_or_none
from trainer.step import TrainStep
from trainer.surroundings import Hooks, World
from trainer.validation import Evaluation

log = logging.getLogger(__name__)


class Saver:
    """Saves what training changes, and puts it back. All workers call each method together."""

    def __init__(
        self,
        run_id: str,
        data: DataSet,
        networks: Networks,
        train_step: TrainStep,
        world: World,
        hooks: Hooks,
    ) -> None:
        self._run_id = run_id
        self._data = data
        self._networks = networks
        self._optimizer = train_step.optimizer
        self._scaler = train_step.scaler
        self._world = world
        self._hooks = hooks

    def restore(self, state: State) -> None:
        """Call it after DistributedDataParallel has given every worker rank 0's running statistics."""
        self._networks["raw"].load_state_dict(state.model)
        if state.ema is not None:
            self._networks["ema"].load_state_dict(state.ema)
        self._optimizer.load_state_dict(state.optimizer)
        if state.scaler:
            self._scaler.load_state_dict(state.scaler)
        if state.batch_norm is not None and len(state.batch_norm) == self._world.size:
            restore_batch_norm(self._networks, state.batch_norm, self._world.rank)

    def save(self, done: int, evaluation: Evaluation, best_top1_error_pct: float) -> State:
        """The state after `done` updates, and what its evaluation gave."""
        state = self._state(done, best_top1_error_pct)
        state = replace(state, metrics=evaluation.metrics, to_register=evaluation.to_register)
        with tempfile.TemporaryDirectory() as folder:
            self._write(state, Path(folder))
            self._hooks.save(state.metrics, Path(folder))
        return state

    def save_at_stop(self, done: int, best_top1_error_pct: float, stop: StoppedError) -> None:
        """The state of a training that ends here. What stopped it may be the very storage that is needed now.

        Raises:
            StoppedError: it cannot be kept; the line gives both reasons. Earlier checkpoints stay as they are.
        """
        batch_norm = gather_batch_norm(self._networks)
        average_batch_norm(self._networks)
        state = replace(self._state(done, best_top1_error_pct), batch_norm=batch_norm)
        with tempfile.TemporaryDirectory() as folder:

            @_named(done)
            def write() -> None:
                self._write(state, Path(folder))

            @_named(done)
            def keep() -> None:
                self._hooks.save(state.metrics, Path(folder))

            try:
                all_or_none(write)  # without a file rank 0 would not call `hooks.save`, where the others wait for it
                all_or_none(keep)
            except StoppedError as error:
                raise StoppedError(f"{stop}; {error}") from stop
        if self._world.rank == 0:
            log.warning("stopped after update %d, which is saved", done)

    def _state(self, done: int, best_top1_error_pct: float) -> State:
        return State(
            run_id=self._run_id,
            step=done,
            best_top1_error_pct=best_top1_error_pct,
            metrics={},
            classes=list(self._data.train.classes),
            data_digest=self._data.val.digest,
            model=self._networks["raw"].state_dict(),
            ema=self._networks["ema"].state_dict() if "ema" in self._networks else None,
            optimizer=self._optimizer.state_dict(),
            scaler=self._scaler.state_dict(),
        )

    def _write(self, state: State, folder: Path) -> None:
        if self._world.rank == 0:
            checkpoint.save(folder, state)


@contextmanager
def _named(step: int) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever the storage's client raises
        raise TrainingError(f"update {step} could not be saved ({in_one_line(error)})") from error
