"""What must hold between the sections of a recipe; each field's own range stands in trainer.config."""

import torch

from shared.errors import UserError
from shared.models import check_name, create_model
from shared.models.phases import fold_phases
from shared.transforms import MODES
from trainer.config import AugmentConfig, Recipe
from trainer.precision import check_precision


def check_classes(recipe: Recipe, num_classes: int) -> None:
    """Raises UserError: the data set has too few classes for what the recipe does with them."""
    mixes = [name for name in ("mixup", "cutmix") if getattr(recipe.augment, name)]
    if mixes and num_classes < 2:
        raise UserError(
            f"augment.{mixes[0]}={getattr(recipe.augment, mixes[0]):g} mixes labels, and the data set has "
            f"{num_classes} class; set it to 0, or check data.path"
        )


def check_device(recipe: Recipe, device_type: str) -> None:
    """Raises UserError: the recipe needs what workers on this kind of device do not have."""
    check_precision(recipe.run.precision, device_type)
    if recipe.run.sync_batch_norm and device_type != "cuda":
        raise UserError(
            "run.sync_batch_norm=true needs GPUs (torch has no other implementation), and the workers have none; "
            "set it to false: running statistics are averaged before every evaluation in any case"
        )


def check(recipe: Recipe) -> None:
    """The rules that span fields. Raises UserError for the first one broken."""
    check_name(recipe.model.name)
    batch, workers = recipe.run.global_batch_size, recipe.scaling.num_workers
    if batch % workers:
        raise UserError(
            f"run.global_batch_size={batch} is not divisible by scaling.num_workers={workers}; "
            f"try {max(1, batch // workers) * workers} or {(batch // workers + 1) * workers}"
        )
    share, at_once = batch // workers, recipe.run.per_device_batch_size
    if at_once and share % recipe.run.parts(share):
        fits = next(size for size in range(at_once, 0, -1) if share % size == 0)
        raise UserError(
            f"run.per_device_batch_size={at_once} does not cut a worker's {share} images into equal parts "
            f"(run.global_batch_size={batch} over scaling.num_workers={workers}); try {fits}"
        )
    if recipe.run.parts(share) > 1 and recipe.run.compile not in ("off", "default"):
        raise UserError(
            f"run.compile={recipe.run.compile} keeps gradients where the next part of a batch overwrites them (CUDA "
            f"graphs), and run.per_device_batch_size={at_once} cuts batches into parts; set run.compile=default"
        )
    if recipe.optimizer.loss == "bce" and recipe.augment.label_smoothing:
        raise UserError(
            f"augment.label_smoothing={recipe.augment.label_smoothing:g} does nothing with optimizer.loss=bce, which "
            f"makes labels 0 or 1 at optimizer.bce_threshold={recipe.optimizer.bce_threshold:g}; set it to 0"
        )
    if (recipe.augment.mixup or recipe.augment.cutmix) and batch % (2 * workers):
        raise UserError(
            f"augment.mixup and augment.cutmix mix pairs: run.global_batch_size={batch} over scaling.num_workers="
            f"{workers} should be even for each; try {(batch // (2 * workers) + 1) * 2 * workers}"
        )
    if recipe.augment.min_scale > recipe.augment.max_scale:
        raise UserError(
            f"augment.min_scale={recipe.augment.min_scale} is above augment.max_scale={recipe.augment.max_scale}"
        )
    _check_growth(recipe.augment)
    if recipe.augment.eval_size > recipe.augment.eval_resize:
        raise UserError(
            f"augment.eval_size={recipe.augment.eval_size} is larger than augment.eval_resize="
            f"{recipe.augment.eval_resize}: the crop would leave the picture"
        )
    if recipe.schedule.warmup_epochs >= recipe.run.epochs:
        raise UserError(
            f"schedule.warmup_epochs={recipe.schedule.warmup_epochs:g} must be below run.epochs={recipe.run.epochs:g}"
        )
    if recipe.schedule.name == "step" and not recipe.schedule.milestones:
        raise UserError("schedule.name=step needs schedule.milestones, such as [30, 60]")
    if len(recipe.augment.mean) not in MODES or len(recipe.augment.mean) != len(recipe.augment.std):
        raise UserError(
            f"augment.mean={list(recipe.augment.mean)} and augment.std={list(recipe.augment.std)} need a number for "
            "each channel: three for colour, one for grey"
        )
    if recipe.optimizer.name in ("lamb", "lars") and recipe.run.precision == "fp16":
        raise UserError(
            f"optimizer.name={recipe.optimizer.name} would wait for the device after every update with run.precision="
            "fp16; use bf16, or sgd, adam or adamw"
        )
    if recipe.model.freeze_stages and not recipe.model.pretrained:
        raise UserError(
            f"model.freeze_stages={recipe.model.freeze_stages} would keep random weights; set model.pretrained"
        )
    if recipe.model.phase_folded_stages:
        with torch.device("meta"):
            fold_phases(create_model(recipe.model.name, **recipe.model_options), recipe.model.phase_folded_stages)


def _check_growth(augment: AugmentConfig) -> None:
    """Of the crops, from start_size to train_size."""
    if augment.grow_from >= augment.grow_until:
        raise UserError(
            f"augment.grow_from={augment.grow_from:g} must be below augment.grow_until={augment.grow_until:g}, within "
            "0 and 1: they are shares of the training"
        )
    growth = augment.train_size - (augment.start_size or augment.train_size)
    if growth < 0:
        raise UserError(
            f"augment.start_size={augment.start_size} is above augment.train_size={augment.train_size}, to which crops "
            "grow; lower it, or leave it out for one size throughout"
        )
    if growth % augment.size_step:
        divisors = [step for step in range(1, growth + 1) if growth % step == 0]
        nearest = min(divisors, key=lambda step: abs(step - augment.size_step))
        raise UserError(
            f"augment.start_size={augment.start_size} does not reach augment.train_size={augment.train_size} in steps "
            f"of augment.size_step={augment.size_step}; try augment.size_step={nearest}"
        )
