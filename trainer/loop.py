"""What every worker runs: plain PyTorch, from the first batch to the last checkpoint."""

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image
from torch import nn

from shared.models import create_model
from trainer import checkpoint
from trainer.board import Progress
from trainer.classification import average_batch_norm, classify
from trainer.config import Recipe
from trainer.data import DataSet, EvalBatches, open_data, train_batches
from trainer.data.sampling import Plan
from trainer.meters import Damage, Meter
from trainer.optim import learning_rate, make_optimizer
from trainer.probes import PROBE_COUNT, Probes, draw, gridding_metrics
from trainer.step import Precision, TrainStep, choose_precision
from trainer.transfer import freeze, load_pretrained

EVAL_BATCH_SIZE = 64
"""Independent of the number of workers, so that every picture is evaluated in the same company."""


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """This worker among the others."""

    rank: int
    size: int
    device: torch.device


class Hooks(Protocol):
    """What the loop needs from its surroundings. Only `save` does anything on workers other than rank 0."""

    def log(self, metrics: dict[str, float], step: int) -> None: ...

    def log_image(self, key: str, image: Image.Image, step: int) -> None: ...

    def tag(self, key: str, value: str) -> None: ...

    def progress(self, news: Progress) -> None: ...

    def save(self, metrics: dict[str, float], folder: Path) -> None:
        """Keep rank 0's `folder` as the latest checkpoint. All workers call it, and wait for each other."""


def train(
    recipe: Recipe, world: World, hooks: Hooks, run_id: str, resume_from: checkpoint.State | None = None
) -> checkpoint.State:
    """Train `recipe` to its end, from a saved state if there is one; returns the final state.

    Raises:
        UserError: the data set is missing or malformed.
        TrainingError: the loss is not finite, or too many pictures are damaged.
    """
    data = open_data(recipe.data)
    plan = make_plan(recipe, data)
    precision = choose_precision(recipe.run.precision, world.device)

    torch.manual_seed(recipe.run.seed)  # every worker starts from the same weights
    model = build_model(recipe, data, pretrained=resume_from is None)
    model = model.to(world.device).to(memory_format=precision.memory_format)
    frozen = freeze(model, recipe.model.freeze_stages)
    optimizer = make_optimizer(model, recipe)
    first_step, best = 0, math.inf
    state = resume_from
    if state is not None:
        checkpoint.restore(state, model, optimizer)
        first_step, best = state.step, state.best_top1_error_pct

    batches = train_batches(
        data.train,
        recipe,
        rank=world.rank,
        world_size=world.size,
        first_step=first_step,
        last_step=plan.total_steps,
        pin=world.device.type == "cuda",
    )
    train_step = TrainStep(model, optimizer, recipe, precision, world.rank, world.size)
    validator = Validator(recipe, world, data, precision)
    damage = Damage(data.train, "training")
    meter = Meter(recipe.run.global_batch_size, world.device)
    error: float | None = None
    news: Progress | None = None
    _train_mode(model, frozen)
    for step, batch in enumerate(meter.timed(batches), first_step):
        damage.add(batch.damaged)
        rate = learning_rate(recipe, plan, step)
        meter.add(train_step(batch, step=step, learning_rate=rate))
        done = step + 1

        if done % recipe.run.log_every_steps == 0 or done == plan.total_steps:
            metrics = meter.read(done)
            hooks.log({"train/lr": rate, "train/epoch": done / plan.steps_per_epoch, **metrics}, done)
            news = Progress(
                title=recipe.name,
                step=done,
                total_steps=plan.total_steps,
                loss=metrics["train/loss"],
                images_per_s=metrics["perf/images_per_s"],
                seconds_left=(plan.total_steps - done) * metrics["perf/step_time_s"],
                top1_error_pct=error,
            )
            hooks.progress(news)

        if plan.evaluates_after(done):
            average_batch_norm(model)
            metrics, picture = validator.run(model, f"{recipe.name}, epoch {done / plan.steps_per_epoch:.3g}")
            error = metrics["top1_error_pct"]
            best = min(best, error)
            if news is not None:
                hooks.progress(replace(news, top1_error_pct=error))
            damage.gather()
            hooks.log(_grouped(metrics, best), done)
            if picture is not None:
                hooks.log_image("class_maps", picture, done)
            hooks.tag("damaged_pictures", _summary(damage, validator.damage))
            state = checkpoint.State(
                run_id=run_id,
                step=done,
                best_top1_error_pct=best,
                metrics=metrics,
                classes=list(data.train.classes),
                data_digest=data.val.digest,
                model=model.state_dict(),
                optimizer=optimizer.state_dict(),
            )
            _save_checkpoint(state, world, hooks)
            _train_mode(model, frozen)
            meter.restart()
    assert state is not None  # the last update finishes the last epoch
    return state


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
    return model


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
        self.damage.add(result.damaged)
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


def _grouped(metrics: dict[str, float], best: float) -> dict[str, float]:
    """The names under which MLflow's UI groups them."""
    gridding = ("ghd", "v")
    grouped = {f"gridding/{k}" if k in gridding else f"val/{k}": v for k, v in metrics.items()}
    return {**grouped, "val/top1_error_pct_best": best}


def _summary(*parts: Damage) -> str:
    names = [name for part in parts for name in part.names(20)]
    return f"{sum(len(part) for part in parts)}" + (f": {', '.join(names)}" if names else "")


def _save_checkpoint(state: checkpoint.State, world: World, hooks: Hooks) -> None:
    with tempfile.TemporaryDirectory() as folder:
        if world.rank == 0:
            checkpoint.save(Path(folder), state)
        hooks.save(state.metrics, Path(folder))
