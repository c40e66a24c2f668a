"""What every worker runs: plain PyTorch, from the first batch to the last checkpoint."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence

import torch
from PIL import Image
from timm.layers import convert_sync_batchnorm
from torch import nn

from shared.models import create_model
from shared.models.phases import fold_phases
from trainer.batch_norm import average_batch_norm
from trainer.checkpoint import State
from trainer.classification import classify
from trainer.config import Recipe
from trainer.data import DataSet, EvalBatches, open_data, train_batches
from trainer.data.loader import Batch
from trainer.data.sampling import Plan
from trainer.logbook import Logbook
from trainer.meters import Damage, Meter
from trainer.optim import learning_rate, make_optimizer
from trainer.precision import Precision, choose_precision
from trainer.probes import PROBE_COUNT, Probes, draw, gridding_metrics
from trainer.rollcall import StoppedError, all_or_none
from trainer.saving import Saver
from trainer.step import TrainStep
from trainer.surroundings import Hooks, World
from trainer.transfer import freeze, load_pretrained

log = logging.getLogger(__name__)

EVAL_BATCH_SIZE = 64
"""Independent of the number of workers, so that every picture is evaluated in the same company."""


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
        TrainingError: the loss is not finite, or above run.max_loss.
    """
    data = open_data(recipe.data)
    plan = make_plan(recipe, data)
    precision = choose_precision(recipe.run.precision, world.device)

    torch.manual_seed(recipe.run.seed)  # every worker starts from the same weights
    model = build_model(recipe, data, pretrained=resume_from is None)
    if recipe.run.sync_batch_norm:
        model = convert_sync_batchnorm(model)
    model = model.to(world.device).to(memory_format=precision.memory_format)
    frozen = freeze(model, recipe.model.freeze_stages)
    optimizer = make_optimizer(model, recipe)
    train_step = TrainStep(model, optimizer, recipe, precision, world.rank, world.size)
    if recipe.run.compile != "off":
        _compile(train_step, recipe, world)
    saver = Saver(run_id, data, model, optimizer, world, hooks)
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
    meter = Meter(recipe.run.global_batch_size, world.device, recipe.run.max_loss)
    logbook = Logbook(recipe, plan, hooks, best_top1_error_pct=state.best_top1_error_pct if state else math.inf)

    def evaluate_and_save() -> State:
        average_batch_norm(model)
        metrics, picture = validator.run(model, f"{recipe.name}, epoch {done / plan.steps_per_epoch:.3g}")
        all_or_none(damage.gather)
        logbook.evaluated(done, metrics, picture, damage, validator.damage)
        state = saver.save(done, metrics, logbook.best_top1_error_pct)
        _train_mode(model, frozen)
        meter.restart()
        return state

    _train_mode(model, frozen)
    try:
        if state and plan.evaluates_after(done) and not state.metrics:  # it was stopped while evaluating
            state = evaluate_and_save()
        for step, batch in enumerate(meter.timed(_in_step(batches, damage)), done):
            rate = learning_rate(recipe, plan, step)
            meter.add(train_step(batch, step=step, learning_rate=rate))
            done = step + 1
            if done % recipe.run.log_every_steps == 0 or done == plan.total_steps:
                logbook.trained(done, rate, meter.read(done))
            if plan.evaluates_after(done):
                state = evaluate_and_save()
    except StoppedError as stop:  # all workers are here, after the same update
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


def _compile(train_step: TrainStep, recipe: Recipe, world: World) -> None:
    """Before the first batch, so that nobody takes the minutes of compiling for a slow training."""
    began = time.perf_counter()
    train_step.warm_up(recipe.augment.train_size, len(recipe.augment.mean))
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
    return fold_phases(model, recipe.model.phase_folded_stages)


def _train_mode(model: nn.Module, frozen: Sequence[nn.Module]) -> None:
    model.train()
    for module in frozen:
        module.eval()


class Validator:
    """Exact errors on the validation part, and gridding on its probe pictures."""

    def __init__(self, recipe: Recipe, world: World, data: DataSet, precision: Precision) -> None:
        self.precision = precision
        self.transform = recipe.augment.eval_transform
        self.batches = EvalBatches(
            data.val,
            self.transform,
            recipe.data,
            batch_size=min(EVAL_BATCH_SIZE, recipe.run.global_batch_size),
            rank=world.rank,
            world_size=world.size,
            pin=world.device.type == "cuda",
        )
        # one worker is enough for the probes, and on a small machine the others would be in its way
        self.probes = Probes(data.val.probes(PROBE_COUNT), self.transform, precision) if world.rank == 0 else None
        self.damage = Damage(data.val, "validation")

    def run(self, model: nn.Module, title: str) -> tuple[dict[str, float], Image.Image | None]:
        """The metrics of a card, and a picture of class maps. Rank 0 alone measures gridding and draws."""
        result = classify(model, self.batches, self.transform, self.precision)
        all_or_none(lambda: self.damage.add(result.damaged))
        metrics = {
            "top1_error_pct": result.top1_error_pct,
            "top5_error_pct": result.top5_error_pct,
            "loss": result.loss,
            "images": float(result.images),
        }
        maps = self.probes.class_maps(model) if self.probes else None
        if self.probes is None or maps is None:
            return metrics, None
        return metrics | gridding_metrics(model, maps), draw(self.probes.pixels, maps, title)
