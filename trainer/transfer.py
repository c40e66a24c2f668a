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

# shared.registry is imported where it is needed: it loads MLflow, which most trainings never ask for weights.


def pin(recipe: Recipe) -> Recipe:
    """The recipe with model.pretrained as one numbered version, imported if need be; checked to fit.

    Every worker then starts from the same weights, and the run says which.

    Raises:
        UserError: no such version or source, or weights of another architecture.
    """
    from shared import registry

    source = recipe.model.pretrained
    if not source:
        return recipe
    if registry.names_a_version(source):
        version = registry.resolve(source)
    else:
        from trainer import importing

        version = importing.ensure(recipe.model.name, source)
    served = registry.load_version(version)
    with torch.device("meta"):
        model = create_model(recipe.model.name, num_classes=len(served.card.classes), **recipe.model_options)
    _check_fit(model, served.model.state_dict(), recipe, version.uri)
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


def _check_fit(model: nn.Module, state: dict[str, torch.Tensor], recipe: Recipe, uri: str) -> None:
    own = {key: value.shape for key, value in model.state_dict().items()}
    given = {key: value.shape for key, value in state.items()}
    wrong = sorted(key for key in own.keys() | given.keys() if own.get(key) != given.get(key))
    if wrong:
        raise UserError(
            f"model.pretrained={uri} does not fit {recipe.model.name} of width {recipe.model.width:g}: "
            f"{len(wrong)} of {len(own)} tensors differ, the first is {wrong[0]} "
            f"({_shape(given.get(wrong[0]))} there, {_shape(own.get(wrong[0]))} here)"
        )


def _shape(shape: torch.Size | None) -> str:
    return "absent" if shape is None else " x ".join(map(str, shape)) or "a number"
