"""Training from weights that exist, on the driver: which ones `model.pretrained` stands for."""

import logging
from dataclasses import replace

import torch

from shared import registry
from shared.models import create_model
from trainer import importing
from trainer.config import Recipe
from trainer.importing.fitting import fit
from trainer.importing.sources import locate
from trainer.transfer import freeze

log = logging.getLogger(__name__)


def check(recipe: Recipe) -> None:
    """What can be said without fetching any weights.

    Raises:
        UserError: no such version or source, or fewer stages than are to be frozen.
    """
    with torch.device("meta"):
        freeze(create_model(recipe.model.name, **recipe.model_options), recipe.model.freeze_stages)
    source = recipe.model.pretrained
    if registry.names_a_version(source):
        registry.resolve(source)
    elif source:
        locate(recipe.model.name, source)


def pin(recipe: Recipe) -> Recipe:
    """The recipe with model.pretrained as one numbered version, imported if need be; checked to fit.

    Every worker then starts from the same weights, and the run says which.

    Raises:
        UserError: no such version or source, or weights of another architecture.
    """
    source = recipe.model.pretrained
    if not source:
        return recipe
    if registry.names_a_version(source):
        version = registry.resolve(source)
    else:
        version = importing.ensure(recipe.model.name, source)
    served = registry.load_version(version)
    fit(served.model.state_dict(), recipe.model.name, f"model.pretrained={version.uri}", **recipe.model_options)
    expected = served.card.transform
    if (expected.mean, expected.std) != (recipe.augment.mean, recipe.augment.std):
        log.warning(
            "%s was trained with mean %s and std %s; this recipe feeds it mean %s and std %s",
            *(version.uri, expected.mean, expected.std, recipe.augment.mean, recipe.augment.std),
        )
    return replace(recipe, model=replace(recipe.model, pretrained=version.uri))
