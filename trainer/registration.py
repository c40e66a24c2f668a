"""From the final state of a training to a version in the registry."""

from dataclasses import asdict
from datetime import UTC, datetime

from shared import registry
from shared.card import Card
from shared.registry import Version
from trainer import tracking
from trainer.checkout import code_version
from trainer.checkpoint import State
from trainer.config import Recipe


def register(recipe: Recipe, state: State) -> Version:
    """Make a version of the final weights, once: a run that has a version already keeps it."""
    existing = [version for version in registry.versions() if version.run_id == state.run_id]
    if existing:
        return existing[0]
    card = Card(
        architecture=recipe.model.name,
        width=recipe.model.width,
        classes=tuple(state.classes),
        transform=recipe.augment.eval_transform,
        weights=_description(recipe, state),
        weights_sha256="",
        data=recipe.data_name,
        data_digest=state.data_digest,
        metrics=state.metrics,
        recipe=asdict(recipe),
        code_version=code_version(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    model = card.build()
    model.load_state_dict(state.weights_to_register)
    tracking.log_card(state.run_id, card)
    return registry.publish(model, card, name=recipe.registered_name, run_id=state.run_id)


def _description(recipe: Recipe, state: State) -> str:
    trained = f"trained from {recipe.model.pretrained}" if recipe.model.pretrained else "trained"
    if state.to_register == "raw":
        return trained
    return f"{trained}, exponential moving average of decay {recipe.optimizer.ema_decay}"
