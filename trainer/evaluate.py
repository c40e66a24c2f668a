"""`python -m trainer evaluate`: exact errors and gridding of any network on any data set."""

from dataclasses import asdict
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import nn

from shared import registry
from shared.transforms import EvalTransform
from trainer import recipes
from trainer.classification import classify
from trainer.config import Recipe
from trainer.data import EvalBatches, Samples, open_for_evaluation
from trainer.precision import choose_precision
from trainer.probes import PROBE_COUNT, Probes, gridding_metrics
from trainer.surroundings import World
from trainer.validation import EVAL_BATCH_SIZE


def evaluate(reference: str, overrides: list[str]) -> dict[str, Any]:
    """Evaluate `models:/name@alias`, `models:/name/3`, a run id or an architecture (with random weights).

    A registered network is evaluated on its own data set and with its own transform unless `overrides` say otherwise.

    Returns:
        model, data, data_digest, images, top1_error_pct, top5_error_pct, loss, damaged and gridding.

    Raises:
        UserError: unknown model, missing data, or classes that the model does not know.
    """
    served = registry.load(reference)
    card = served.card
    recipe = recipe_for(card.architecture, card.transform, card.recipe, overrides)
    samples = open_for_evaluation(recipe.data, served.card.classes)
    arguments = {"reference": reference, "recipe": asdict(recipe)}
    if recipe.scaling.num_workers == 1:
        device = torch.device("cuda" if torch.cuda.is_available() and recipe.scaling.use_gpu else "cpu")
        result = evaluate_worker(World(rank=0, size=1, device=device), arguments)
    else:
        from trainer import launch

        result = launch.run_on_workers(evaluate_worker, arguments, recipe)
    return {
        "model": served.version.uri if served.version else reference,
        "weights": served.card.weights,
        "data": recipe.data_name,
        "data_digest": samples.digest,
        **result,
    }


def evaluate_worker(world: World, arguments: dict[str, Any]) -> dict[str, Any]:
    """One worker's part of `evaluate`; the result is the same on all of them."""
    recipe = TypeAdapter(Recipe).validate_python(arguments["recipe"])
    served = registry.load(arguments["reference"])
    return measure(served.model, open_for_evaluation(recipe.data, served.card.classes), recipe, world)


def measure(model: nn.Module, samples: Samples, recipe: Recipe, world: World) -> dict[str, Any]:
    """images, top1_error_pct, top5_error_pct, loss, damaged and gridding of a network, over all workers."""
    precision = choose_precision(recipe.run.precision, world.device)
    model = model.to(world.device).to(memory_format=precision.memory_format)
    batches = EvalBatches(
        samples,
        recipe.augment.eval_transform,
        recipe.data,
        batch_size=EVAL_BATCH_SIZE,
        rank=world.rank,
        world_size=world.size,
        pin=world.device.type == "cuda",
    )
    [result] = classify([model], batches, recipe.augment.eval_transform, precision)
    probes = Probes(samples.probes(PROBE_COUNT), recipe.augment.eval_transform, precision)
    maps = probes.class_maps(model)
    return {
        "images": result.images,
        "top1_error_pct": result.top1_error_pct,
        "top5_error_pct": result.top5_error_pct,
        "loss": result.loss,
        "damaged": [samples.name(sample) for sample in result.damaged],
        "gridding": {} if maps is None else gridding_metrics(model, maps),
    }


def recipe_for(
    architecture: str, transform: EvalTransform, trained_with: dict[str, Any], overrides: list[str]
) -> Recipe:
    """What to evaluate with: the recipe that a network was trained with, or its architecture's, on one worker."""
    base = recipes.known(trained_with or recipes.settings_for(architecture))
    fields = asdict(transform)
    augment = {"eval_resize": fields.pop("resize"), "eval_size": fields.pop("crop"), **fields}
    settings = base | {
        "augment": base["augment"] | augment,
        "scaling": base["scaling"] | {"num_workers": 1},
        "run": base["run"] | {"precision": "auto"},  # what it was trained in may need another device
        "data": base["data"] | {"num_loader_workers": min(2, base["data"]["num_loader_workers"])},
    }
    return recipes.from_settings(settings, name=architecture, overrides=overrides)
