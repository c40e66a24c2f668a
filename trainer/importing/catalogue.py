"""What can be had: pretrained weights by architecture and source, with their published errors.

torchvision and timm say themselves what they have. The DRN files are those of the paper's authors, and a mirror of them
with renamed keys (the authors' server has been reported down).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import timm
import torch
import torchvision
from torchvision.models import WeightsEnum

from shared.errors import UserError
from shared.models import ARCHITECTURES, create_model
from shared.transforms import EvalTransform
from trainer.importing import checksums
from trainer.importing.drn_files import DRN_FILES, MIRROR_ROOT, OFFICIAL_ROOT, DRNFile

SOURCES = ("torchvision", "timm", "official", "mirror")

TORCHVISION_DEFAULT = "IMAGENET1K_V1"
"""The classic training, with which the DRN paper's errors can be compared; V2 are later and longer recipes."""

A_TROUS = "ResNet weights, a-trous"


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """Weights that can be imported."""

    architecture: str
    source: str
    """What the command takes, in full: torchvision:IMAGENET1K_V1, timm:a1_in1k, official, mirror, a URL or a path."""

    weights: str
    """What the card of the version will say about where they come from."""

    transform: EvalTransform
    url: str = ""
    checksum: str = ""
    """What the file's sha256 or sha1 begins with; "" where nothing is known."""

    path: str = ""
    """Of a file that is already here."""

    timm_name: str = ""
    """The name under which timm's loader knows them."""

    top1_error_pct: float | None = None
    top5_error_pct: float | None = None
    """Published; None where they are not, or are another network's."""

    size_mb: float | None = None
    note: str = ""


def resnet_of(architecture: str) -> str:
    """The ResNet whose weights DRN-A takes; any other architecture takes its own."""
    return architecture.replace("drn_a_", "resnet")


def find(architecture: str, source: str) -> Offer:
    """The offer that `torchvision`, `torchvision:TAG`, `timm`, `timm:TAG`, `official` or `mirror` stands for.

    Raises:
        UserError: that source has no such weights; the message says what there is.
    """
    name, _, tag = source.partition(":")
    offers = list(_offers_of(architecture, name))
    if not tag:
        offers = [offer for offer in offers if _is_default(offer)]
    else:
        offers = [offer for offer in offers if offer.source == source]
    if offers:
        return offers[0]
    there = [offer.source for part in SOURCES for offer in _offers_of(architecture, part)]
    has = f"there are: {', '.join(there[:8])}" if there else "none are known; give a file or a URL"
    raise UserError(f"no weights {source!r} for {architecture}; {has}")


def listing(architecture: str | None = None) -> list[Offer]:
    """All offers for one architecture, or the default of each source for each of the project's architectures."""
    if architecture is not None:
        found = [offer for part in SOURCES for offer in _offers_of(architecture, part)]
    else:
        found = [o for name in ARCHITECTURES for part in SOURCES for o in _offers_of(name, part)]
        found = [o for o in found if o.source.startswith("torchvision") or _is_default(o)]
    return found


def recognise(architecture: str, digests: Mapping[str, str], called: str) -> Offer | None:
    """The published weights that a file is, by its digests; None for any other file.

    Raises:
        UserError: they are another network's. DRN-B and DRN-C cannot be told apart by the shapes of their tensors.
    """
    for file in DRN_FILES:
        if any(digest.startswith((file.sha256, file.mirror_sha1)) for digest in digests.values()):
            if file.architecture != architecture:
                raise UserError(f"{called} is the published {file.architecture}; import it as that")
            return _drn(file, "official" if digests[checksums.OF_FILE].startswith(file.sha256) else "mirror")
    for offer in _offers_of(architecture, "torchvision"):
        if digests[checksums.OF_FILE].startswith(offer.checksum):
            return offer
    return None


def label(architecture: str, file_name: str) -> str:
    """What the card says of weights from a file that nobody knows.

    A file for DRN-A holds a ResNet's weights, unless its name says otherwise: no others are published.
    """
    if architecture == resnet_of(architecture) or "drn" in file_name.lower():
        return file_name
    return f"{A_TROUS} ({file_name})"


def default_transform(architecture: str) -> EvalTransform:
    """What weights from a file most likely expect: torchvision's classic preparation, else what timm says."""
    offers = [*_offers_of(architecture, "torchvision")]
    return offers[0].transform if offers else EvalTransform.from_timm(timm.get_pretrained_cfg(architecture))


def _offers_of(architecture: str, source: str) -> Iterator[Offer]:
    if source == "torchvision" and resnet_of(architecture) in torchvision.models.list_models():
        for weights in torchvision.models.get_model_weights(resnet_of(architecture)):
            if not math.isnan(weights.meta["_metrics"]["ImageNet-1K"]["acc@1"]):  # features without a classifier
                yield _torchvision(architecture, weights)
    elif source == "timm":
        for name in timm.list_pretrained(f"{resnet_of(architecture)}.*"):
            if timm.get_pretrained_cfg(name).num_classes:  # 0: features without a classifier
                yield _timm(architecture, name)
    elif source in ("official", "mirror"):
        yield from (_drn(file, source) for file in DRN_FILES if file.architecture == architecture)


def _is_default(offer: Offer) -> bool:
    name, _, tag = offer.source.partition(":")
    if name == "torchvision":
        return tag == TORCHVISION_DEFAULT
    if name == "timm":  # DRN-A's own default is what timm.create_model("drn_a_18", pretrained=True) loads
        default = timm.get_pretrained_cfg(offer.architecture)
        return offer.timm_name in (f"{offer.architecture}.{default.tag}", str(default.hf_hub_id).removeprefix("timm/"))
    return True


def _torchvision(architecture: str, weights: WeightsEnum) -> Offer:
    errors = weights.meta["_metrics"]["ImageNet-1K"]
    preset = weights.transforms()
    transform = EvalTransform(
        resize=preset.resize_size[0],
        crop=preset.crop_size[0],
        interpolation=preset.interpolation.value,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
    )
    if architecture in ("googlenet", "inception_v3"):
        # torchvision builds their pretrained networks with transform_input=True, which comes to this
        transform = EvalTransform(
            resize=transform.resize, crop=transform.crop, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
        )
    return _labelled(
        architecture,
        source=f"torchvision:{weights.name}",
        weights=f"torchvision {weights.name}",
        url=weights.url,
        checksum=checksums.in_name(weights.url),
        transform=transform,
        top1_error_pct=round(100 - errors["acc@1"], 3),
        top5_error_pct=round(100 - errors["acc@5"], 3),
        size_mb=round(weights.meta["_file_size"] * 2**20 / 1e6, 1),
    )


def _timm(architecture: str, name: str) -> Offer:
    tag = name.partition(".")[2]
    return _labelled(
        architecture,
        source=f"timm:{tag}",
        weights=f"timm {name}",
        timm_name=name,
        transform=EvalTransform.from_timm(timm.get_pretrained_cfg(name)),
        size_mb=_size_mb(architecture),
    )


def _drn(file: DRNFile, source: str) -> Offer:
    official = source == "official"
    name = file.official_name if official else file.mirror_name
    return Offer(
        architecture=file.architecture,
        source=source,
        weights=f"official DRN, {name}" if official else f"official DRN, mirrored as {name}",
        url=f"{OFFICIAL_ROOT if official else MIRROR_ROOT}/{name}",
        checksum=file.sha256 if official else file.mirror_sha1,
        transform=EvalTransform(),
        top1_error_pct=file.top1_error_pct,
        top5_error_pct=file.top5_error_pct,
        size_mb=_size_mb(file.architecture),
        note="server reported down; the mirror has the same" if official else "",
    )


def _labelled(architecture: str, *, weights: str, top1_error_pct: float | None = None, **fields: Any) -> Offer:
    """An offer; for DRN-A it says that the weights, and the published error, are those of a ResNet."""
    if architecture == resnet_of(architecture):
        return Offer(architecture=architecture, weights=weights, top1_error_pct=top1_error_pct, **fields)
    fields.pop("top5_error_pct", None)
    strided = "" if top1_error_pct is None else f"; {resnet_of(architecture)} itself has {top1_error_pct:.2f} %"
    return Offer(architecture=architecture, weights=f"{A_TROUS} ({weights})", note=f"{A_TROUS}{strided}", **fields)


@cache
def _size_mb(architecture: str) -> float:
    """Of its weights in float32, counted on the meta device."""
    with torch.device("meta"):
        model = create_model(architecture)
    return round(sum(4 * tensor.numel() for tensor in model.state_dict().values()) / 1e6, 1)
