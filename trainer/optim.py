"""The optimizer, and the learning rate as a pure function of the step."""

import math

import torch
from timm.optim import param_groups_weight_decay
from torch import nn

from trainer.config import Recipe
from trainer.data.sampling import Plan


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD; biases and normalisation are not decayed (arXiv:1706.02677 section 5.3 for the latter)."""
    config = recipe.optimizer
    groups = param_groups_weight_decay(model, config.weight_decay)
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=config.momentum, nesterov=config.nesterov)


def learning_rate(recipe: Recipe, plan: Plan, step: int) -> float:
    """The rate of update `step` (from 0): a linear warm-up, then a cosine to zero or drops at fixed epochs."""
    schedule = recipe.schedule
    warmup_steps = schedule.warmup_epochs * plan.steps_per_epoch
    if step < warmup_steps:
        return recipe.learning_rate * (step + 1) / (warmup_steps + 1)
    if schedule.name == "step":
        drops = int(step / plan.steps_per_epoch / schedule.step_epochs)
        return recipe.learning_rate * schedule.step_factor**drops
    progress = (step - warmup_steps) / max(1, plan.total_steps - warmup_steps)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
