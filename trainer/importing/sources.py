"""What SOURCE stands for, and how its weights get here: from a file, over HTTP, or by timm's loader."""

import hashlib
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import torch
from torch import Tensor

from shared.errors import UserError
from trainer.importing import catalogue, checksums, download, files, hub
from trainer.importing.catalogue import Offer

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """Tensors that have arrived, under the names of their file."""

    state: dict[str, Tensor]
    offer: Offer
    """With all that is known of it now: a file may have turned out to be a published one."""

    called: str
    sha256: str
    """Of the file; "" where timm does not say which it was."""

    verified_by: str
    """Which digest was compared with what is published or was given; "" for none."""


def locate(architecture: str, source: str, checksum: str = "") -> Offer:
    """The offer that SOURCE stands for; nothing is fetched.

    Raises:
        UserError: it is none of the known sources, no URL and no file.
    """
    expected = checksums.parse(checksum) if checksum else ""
    if source.partition(":")[0] in catalogue.SOURCES:
        offer = catalogue.find(architecture, source)
        return replace(offer, checksum=expected or offer.checksum)
    is_url = urlsplit(source).scheme in ("http", "https")
    if not is_url and not Path(source).is_file():
        raise UserError(
            f"SOURCE {source!r} is no file, no http(s) address and none of {', '.join(catalogue.SOURCES)}; "
            f"`python -m trainer import {architecture} --list` shows what there is"
        )
    name = _name_of(source) if is_url else Path(source).name
    return Offer(
        architecture=architecture,
        source=download.shown(source) if is_url else str(Path(source).resolve()),
        url=source if is_url else "",
        path="" if is_url else source,
        weights=catalogue.label(architecture, name),
        transform=catalogue.default_transform(architecture),
        checksum=expected or checksums.in_name(name),
    )


def fetch(offer: Offer) -> Weights:
    """The tensors of an offer, once its checksum holds.

    Raises:
        UserError: they cannot be fetched, or are not what was published.
    """
    if offer.timm_name:
        state, sha256 = hub.read(offer.timm_name)
        return Weights(state=state, offer=offer, called=f"timm's {offer.timm_name}", sha256=sha256, verified_by="")
    path = Path(offer.path) if offer.path else _downloaded(offer)
    verified_by = checksums.verify(path, offer.checksum, str(path)) if offer.checksum else ""
    digests = checksums.digests(path)
    sha256 = digests[checksums.OF_FILE]
    if offer.url and not offer.checksum:
        log.warning("no checksum is known for %s; --checksum %s holds it to what came", offer.source, sha256)
    published = catalogue.recognise(offer.architecture, digests, path.name)
    if published is not None:
        offer = replace(published, source=offer.source, url=offer.url, path=offer.path)
    return Weights(state=files.read(path), offer=offer, called=path.name, sha256=sha256, verified_by=verified_by)


def _downloaded(offer: Offer) -> Path:
    """The file in torch.hub's folder, where torchvision keeps its own under the same names."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    if not offer.checksum:  # another address may have another file of that name
        folder /= hashlib.sha256(offer.url.encode()).hexdigest()[:12]
    target = folder / _name_of(offer.url)
    download.download(offer.url, target, checksum=offer.checksum)
    return target


def _name_of(url: str) -> str:
    name = Path(unquote(urlsplit(url).path)).name
    return name if name.strip(".") else "weights"
