"""Training from weights that exist, on a worker: what of them is kept, and what is frozen."""

from typing import Any

from torch import nn

from shared.errors import UserError
from shared.models.inception import is_auxiliary
from trainer.config import Recipe


def load_pretrained(model: nn.Module, recipe: Recipe, classes: tuple[str, ...]) -> None:
    """Give `model` the weights of recipe.model.pretrained; its classifiers keep theirs where the classes differ."""
    from shared import registry  # it loads MLflow, and most trainings start from nothing

    served = registry.load(recipe.model.pretrained)
    state = served.model.state_dict()
    if served.card.classes != classes:
        own = model.state_dict()
        state |= {key: own[key] for key in own if _is_in_classifier(model, key)}
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


def _is_in_classifier(model: nn.Module, parameter: str) -> bool:
    network: Any = model  # timm's interface is a convention, not a type
    last = next(name for name, module in model.named_modules() if module is network.get_classifier())
    return parameter.startswith(f"{last}.") or is_auxiliary(parameter)
