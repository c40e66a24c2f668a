"""Training from weights that exist: which ones, what of them is kept, and what is frozen."""

import logging
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from shared.errors import UserError
from shared.models import create_model
from trainer.config import Recipe

log = logging.getLogger(__name__)

# MLflow takes seconds to load, and most trainings start from nothing: what needs it is imported inside.


def check(recipe: Recipe) -> None:
    """What can be said without fetching any weights.

    Raises:
        UserError: no such version or source, or fewer stages than are to be frozen.
    """
    with torch.device("meta"):
        freeze(create_model(recipe.model.name, **recipe.model_options), recipe.model.freeze_stages)
    source = recipe.model.pretrained
    if source:
        from shared import registry
        from trainer.importing.sources import locate

        if registry.names_a_version(source):
            registry.resolve(source)
        else:
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
    from shared import registry
    from trainer import importing
    from trainer.importing.fitting import fit

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


def load_pretrained(model: nn.Module, recipe: Recipe, classes: tuple[str, ...]) -> None:
    """Give `model` the weights of recipe.model.pretrained; its classifiers keep theirs where the classes differ."""
    from shared import registry

    served = registry.load(recipe.model.pretrained)
    state = served.model.state_dict()
    if served.card.classes != classes:
        own = model.state_dict()
        state |= {key: own[key] for key in own if key.startswith(_classifiers(model))}
    model.load_state_dict(state)


def freeze(model: nn.Module, stages: int) -> list[nn.Module]:
    """Take the first stages out of training: no gradients for their weights.

    Args:
        stages: 0 freezes nothing, 1 the stem and layer1, 2 also layer2, and so on.

    Returns:
        The frozen modules, which the caller keeps in eval mode, so that their BN statistics stay too.

    Raises:
        UserError: the network has fewer stages.
    """
    if stages == 0:
        return []
    names = [name for name, _ in model.named_children()]
    last = f"layer{stages}"
    if last not in names:
        there = sum(name.startswith("layer") and name != "layer0" for name in names)
        raise UserError(f"model.freeze_stages={stages}: {type(model).__name__} has {there} stages; lower it")
    frozen = [child for _, child in model.named_children()][: names.index(last) + 1]
    for module in frozen:
        module.requires_grad_(False)
    return frozen


def _classifiers(model: nn.Module) -> tuple[str, ...]:
    """Prefixes of the parameters of the classifier and of the auxiliary ones."""
    network: Any = model  # timm's interface is a convention, not a type
    last = network.get_classifier()
    return (*(f"{name}." for name, module in model.named_modules() if module is last), "aux", "AuxLogits")
