"""What every worker runs: plain PyTorch, from the first batch to the last checkpoint."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence

import torch
from timm.layers import convert_sync_batchnorm
from torch import nn

from shared.models import create_model
from shared.models.phases import fold_phases
from trainer.batch_norm import average_batch_norm
from trainer.checkpoint import State
from trainer.config import Recipe
from trainer.data import DataSet, open_data, train_batches
from trainer.data.loader import Batch
from trainer.data.sampling import Plan
from trainer.ema import Networks
from trainer.logbook import Logbook
from trainer.meters import Damage, Meter, check_validation
from trainer.optim import learning_rate, make_optimizer
from trainer.precision import choose_precision
from trainer.profiling import Profiler
from trainer.rollcall import DivergedError, StoppedError, all_or_none
from trainer.saving import Saver
from trainer.step import TrainStep
from trainer.surroundings import Hooks, World
from trainer.transfer import freeze, load_pretrained
from trainer.validation import Validator

log = logging.getLogger(__name__)


def train(
    recipe: Recipe,
    world: World,
    hooks: Hooks,
    run_id: str,
    resume_from: State | None = None,
    make_batches: Callable[..., Iterator[Batch]] = train_batches,
) -> State:
    """Train `recipe` to its end, from a saved state if there is one; returns the final state.

    Args:
        make_batches: called as `train_batches`; a benchmark gives batches that lie ready.

    Raises:
        UserError: the data set is missing or malformed.
        StoppedError: the storage of one worker failed, or too many pictures are damaged. What was done is saved.
        DivergedError: the loss is not finite, or above run.max_loss. The last checkpoint stays the last.
    """
    data = open_data(recipe.data)
    plan = make_plan(recipe, data)
    precision = choose_precision(recipe.run.precision, world.device)

    torch.manual_seed(recipe.run.seed)  # every worker starts from the same weights
    model = build_model(recipe, data, pretrained=resume_from is None)
    model = model.to(world.device).to(memory_format=precision.memory_format)
    frozen = freeze(model, recipe.model.freeze_stages)
    optimizer = make_optimizer(model, recipe)
    train_step = TrainStep(model, optimizer, recipe, precision, world.rank, world.size)
    networks = Networks(model, recipe.optimizer.ema_decay)
    saver = Saver(run_id, data, networks, train_step, world, hooks)
    state, done = resume_from, 0
    if state is not None:
        saver.restore(state)
        done = state.step

    batches = make_batches(
        data.train,
        recipe,
        rank=world.rank,
        world_size=world.size,
        first_step=done,
        last_step=plan.total_steps,
        pin=world.device.type == "cuda",
    )
    validator = Validator(recipe, world, data, precision)
    damage = Damage(data.train, "training")
    meter = Meter.of(recipe, data, precision)
    profiler = Profiler(recipe, world, hooks)
    logbook = Logbook(recipe, plan, hooks, best_top1_error_pct=state.best_top1_error_pct if state else math.inf)

    def evaluate_and_save() -> State:
        meter.check(done)
        average_batch_norm(networks)
        evaluation = validator.run(networks, f"{recipe.name}, epoch {done / plan.steps_per_epoch:.3g}")
        check_validation(evaluation.results["raw"].loss, done)
        all_or_none(damage.gather)
        logbook.evaluated(done, evaluation, damage, validator.damage)
        state = saver.save(done, evaluation, logbook.best_top1_error_pct)
        _train_mode(model, frozen)
        meter.restart()
        return state

    if recipe.run.compile != "off":
        _train_mode(model, frozen)
        _compile(train_step, validator, networks, recipe, world)
    _train_mode(model, frozen)
    meter.restart()
    try:
        if state and plan.evaluates_after(done) and not state.metrics:  # it was stopped while evaluating
            state = evaluate_and_save()
        for step, batch in enumerate(meter.timed(_in_step(batches, damage)), done):
            rate = learning_rate(recipe, plan, step)
            with profiler.update(step + 1):
                meter.add(train_step(batch, step=step, learning_rate=rate))
            done = step + 1
            networks.update_average(done)
            if done % recipe.run.log_every_steps == 0 or done == plan.total_steps:
                logbook.trained(done, rate, meter.read(done))
            if plan.evaluates_after(done):
                state = evaluate_and_save()
    except DivergedError:
        raise
    except StoppedError as stop:  # all workers are here, after the same update
        meter.check(done)
        if done > (state.step if state else 0):
            saver.save_at_stop(done, logbook.best_top1_error_pct, stop)
        raise
    assert state is not None  # the last update finishes the last epoch
    return state


def _in_step(batches: Iterator[Batch], damage: Damage) -> Iterator[Batch]:
    """This worker's batches, each as soon as every worker has its own.

    Raises:
        StoppedError: one of them cannot have it: its storage failed, or too many pictures are damaged.
    """

    def checked() -> Batch | None:
        batch = next(batches, None)  # None on all workers at once: they have equally many
        if batch is not None:
            damage.add(batch.damaged)
        return batch

    while (batch := all_or_none(checked)) is not None:
        yield batch


def _compile(train_step: TrainStep, validator: Validator, networks: Networks, recipe: Recipe, world: World) -> None:
    """Before the first batch, so that nobody takes the minutes of compiling for a slow training.

    Raises:
        UserError: the network cannot be compiled.
    """
    began = time.perf_counter()
    for size in recipe.augment.train_sizes:
        train_step.warm_up(size, len(recipe.augment.mean))
    validator.warm_up(networks)
    if world.rank == 0:
        log.warning("compiled %s in %.0f s", recipe.model.name, time.perf_counter() - began)


def make_plan(recipe: Recipe, data: DataSet) -> Plan:
    return Plan(num_samples=len(data.train), global_batch_size=recipe.run.global_batch_size, epochs=recipe.run.epochs)


def build_model(recipe: Recipe, data: DataSet, *, pretrained: bool) -> nn.Module:
    """The recipe's network with a class for each of the data set's.

    Args:
        pretrained: with the weights that the recipe starts from, if any; a checkpoint would overwrite them.
    """
    model = create_model(recipe.model.name, num_classes=len(data.train.classes), **recipe.model_options)
    if pretrained and recipe.model.pretrained:
        load_pretrained(model, recipe, data.train.classes)
    if recipe.run.sync_batch_norm:
        model = convert_sync_batchnorm(model)
    return fold_phases(model, recipe.model.phase_folded_stages)


def _train_mode(model: nn.Module, frozen: Sequence[nn.Module]) -> None:
    model.train()
    for module in frozen:
        module.eval()
