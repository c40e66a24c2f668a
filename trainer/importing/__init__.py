"""Published weights to registered versions: the path that `python -m trainer import` takes, top to bottom."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from timm.data import ImageNetInfo, infer_imagenet_subset
from torch import nn

from shared import registry
from shared.card import Card
from shared.models.zoo import check_name
from shared.registry import Version
from trainer import tracking
from trainer.checkout import code_version
from trainer.config import Recipe
from trainer.data import Samples, open_for_evaluation
from trainer.evaluate import measure, recipe_for
from trainer.importing.catalogue import Offer, listing
from trainer.importing.checksums import sha256
from trainer.importing.download import shown
from trainer.importing.fitting import fit
from trainer.importing.sources import Weights, fetch, locate
from trainer.loop import World

__all__ = ["Offer", "as_row", "ensure", "import_weights", "listing", "summary", "table"]

FIGURES = ("top1_error_pct", "top5_error_pct")

log = logging.getLogger(__name__)


def import_weights(architecture: str, source: str, settings: Sequence[str] = (), *, checksum: str = "") -> Version:
    """Fetch, check, measure (if data is given) and register published weights.

    Args:
        source: torchvision, timm (either with :TAG), official, mirror, an http(s) URL, or a file.
        settings: `section.key=value`; data.path says where to measure the error.
        checksum: what the file's sha256, or its whole sha1, must be; at least 8 digits.

    Raises:
        UserError: one line on what is wrong; nothing is registered then.
    """
    check_name(architecture)
    offer = locate(architecture, source, checksum)
    recipe = recipe_for(architecture, offer.transform, {}, list(settings))
    registry.check_reachable()
    samples = open_for_evaluation(recipe.data, None) if _says_where_to_measure(settings) else None

    weights = fetch(offer)
    model, count = fit(weights.state, architecture, weights.called, **recipe.model_options)
    recipe = replace(recipe, data=replace(recipe.data, name=_data_name(recipe, settings, count)))
    card = _card(recipe, weights.offer, _class_names(count, samples))
    if samples is not None:
        if samples.classes != card.classes:
            samples = open_for_evaluation(recipe.data, card.classes)
        card = replace(card, data_digest=samples.digest, metrics=_measured(model, samples, recipe))

    tags = _tags(weights)
    with tracking.import_run(recipe, card, weights.offer.source, tags) as run_id:
        return registry.publish(model, card, name=recipe.registered_name, run_id=run_id, tags=tags)


def ensure(architecture: str, source: str) -> Version:
    """The newest version of the same architecture that came from the same source, imported now if there is none.

    Raises:
        UserError: as import_weights.
    """
    check_name(architecture)
    offer = locate(architecture, source)
    for version in registry.versions():
        if version.architecture == architecture and _comes_from(version, offer):
            return version
    return import_weights(architecture, source)


def as_row(offer: Offer) -> dict[str, Any]:
    """An offer as `--list --json` shows it."""
    row = asdict(offer)
    return {
        key: row[key] for key in ("architecture", "source", *FIGURES, "size_mb", "weights", "url", "checksum", "note")
    }


def table(offers: Sequence[Offer]) -> str:
    """What `--list` prints."""
    lines = [f"{'architecture':<13} {'source':<26} {'top-1/top-5 error':>17} {'size':>9}"]
    for o in offers:
        errors = "" if o.top1_error_pct is None else f"{o.top1_error_pct:.2f} / {o.top5_error_pct:.2f} %"
        lines.append(f"{o.architecture:<13} {o.source:<26} {errors:>17} {o.size_mb:>6,.0f} MB  {o.note}".rstrip())
    return "\n".join(lines)


def summary(version: Version) -> dict[str, Any]:
    """What was registered, and how its measured error compares with the published one."""
    tags = version.tags
    return {
        "version": version.uri,
        "weights": tags["weights"],
        "source": tags["source"],
        "source_sha256": tags["source_sha256"],
        "top1_error_pct": version.top1_error_pct,
        "top5_error_pct": _number(tags, "top5_error_pct"),
        "images": int(float(tags["images"])) if "images" in tags else None,
        "published_top1_error_pct": _number(tags, "published_top1_error_pct"),
        "published_top5_error_pct": _number(tags, "published_top5_error_pct"),
        "run_id": version.run_id,
    }


def _comes_from(version: Version, offer: Offer) -> bool:
    if offer.path:  # the same file may lie elsewhere, and another one under the same name
        return version.tags.get("source_sha256") == sha256(Path(offer.path))
    # what a query selects is not recorded, as it may hold a secret
    return version.tags.get("source") == offer.source and not urlsplit(offer.url).query


def _says_where_to_measure(settings: Sequence[str]) -> bool:
    return any(setting.startswith(("data.path=", "data.source=")) for setting in settings)


def _data_name(recipe: Recipe, settings: Sequence[str], classes: int) -> str:
    """The data set that the weights know: as set, as in the architecture's recipe, or by the number of classes."""
    if any(setting.startswith("data.name=") for setting in settings):
        return recipe.data.name
    if any(setting.startswith("data.source=") for setting in settings):
        return recipe.data.source
    if recipe.data_name != "imagenet":
        return recipe.data_name
    subset = infer_imagenet_subset({"num_classes": classes})
    return {"imagenet-1k": "imagenet", None: f"{classes}-classes"}.get(subset, subset)


def _class_names(count: int, samples: Samples | None) -> tuple[str, ...]:
    """From the data, if the number is right; else those of ImageNet or one of its subsets; else numbers."""
    if samples is not None and len(samples.classes) == count:
        return tuple(samples.classes)
    subset = infer_imagenet_subset({"num_classes": count})
    return tuple(ImageNetInfo(subset).label_names()) if subset else tuple(f"class_{i}" for i in range(count))


def _card(recipe: Recipe, offer: Offer, classes: tuple[str, ...]) -> Card:
    return Card(
        architecture=recipe.model.name,
        width=recipe.model.width,
        classes=classes,
        transform=recipe.augment.eval_transform,
        weights=offer.weights,
        weights_sha256="",
        data=recipe.data_name,
        data_digest="",
        metrics={},
        recipe={},
        code_version=code_version(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _measured(model: nn.Module, samples: Samples, recipe: Recipe) -> dict[str, float]:
    device = torch.device("cuda" if torch.cuda.is_available() and recipe.scaling.use_gpu else "cpu")
    result = measure(model, samples, recipe, World(rank=0, size=1, device=device))
    if damaged := result["damaged"]:
        log.warning("%d pictures are damaged and left out (first %s)", len(damaged), damaged[0])
    figures = {key: float(result[key]) for key in (*FIGURES, "loss", "images")}
    return figures | result["gridding"]


def _tags(weights: Weights) -> dict[str, str]:
    """What the version, and the run that registers it, say about where the weights come from."""
    offer = weights.offer
    tags = {"weights": offer.weights, "source": offer.source, "source_sha256": weights.sha256}
    if offer.url:
        tags["source_url"] = shown(offer.url)
    if weights.verified_by:
        tags["source_verified_by"] = f"{weights.verified_by}: {offer.checksum}"
    for name in FIGURES:
        if (published := getattr(offer, name)) is not None:
            tags[f"published_{name}"] = f"{published:g}"
    return tags


def _number(tags: dict[str, str], key: str) -> float | None:
    return float(tags[key]) if key in tags else None
