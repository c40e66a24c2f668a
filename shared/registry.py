"""The registry of trained networks: MLflow's model registry, read and written without ever unpickling anything.

One registered model per architecture, width and data set; versions in order of training; the alias `champion` on the
version with the lowest exact validation error. A version holds MLflow's pytorch flavor as a pt2 graph (no pickle), for
MLflow's own tools, and `weights.safetensors` with `card.json`, from which this project rebuilds the network.
"""

import hashlib
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

# isort: split
# before MLflow, whose settings it makes
from shared.versions import Version, check_reachable, client, impatient, names_a_version, resolve, versions

# isort: split
import mlflow
from mlflow.entities import LoggedModelOutput
from mlflow.exceptions import MlflowException

from shared import card as cards
from shared.card import Card
from shared.errors import UserError
from shared.labels import imagenet_wordnet_ids
from shared.models import check_name, create_model
from shared.store import tracking_uri
from shared.transforms import EvalTransform

__all__ = [
    "Served",
    "Version",
    "check_reachable",
    "client",
    "impatient",
    "load",
    "load_version",
    "names_a_version",
    "publish",
    "resolve",
    "save_weights",
    "tracking_uri",
    "untrained",
    "versions",
]

CHAMPION = "champion"
WEIGHTS_FILE = "weights.safetensors"


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """A network ready to answer, and where it comes from."""

    model: nn.Module
    card: Card
    version: Version | None
    """None for an architecture with random weights."""


def load(reference: str) -> Served:
    """The network of `models:/name@alias`, `models:/name/3`, a run id, or an architecture's name (random weights).

    Raises:
        UserError: no such version or architecture, or its files are damaged.
    """
    if not names_a_version(reference):
        return untrained(reference)
    return load_version(resolve(reference))


def load_version(version: Version) -> Served:
    """Rebuild a network from its card and weights.

    Raises:
        UserError: files are missing, damaged, or do not belong together.
    """
    try:
        folder = Path(mlflow.artifacts.download_artifacts(f"{version.uri}/extra_files", tracking_uri=tracking_uri()))
    except Exception as error:  # every artifact store has its own exceptions
        raise UserError(f"{version.uri}: its files cannot be fetched ({str(error).splitlines()[0]})") from error
    card = cards.read_card(folder / cards.FILE_NAME)
    weights = folder / WEIGHTS_FILE
    if _sha256(weights) != card.weights_sha256:
        raise UserError(f"{version.uri}: {WEIGHTS_FILE} does not match the digest in its card; register it again")
    model = card.build()
    try:
        model.load_state_dict(load_file(weights))
    except (SafetensorError, RuntimeError) as error:
        raise UserError(f"{version.uri}: weights do not fit {card.architecture}: {str(error)[:200]}") from error
    return Served(model=model, card=card, version=version)


def untrained(architecture: str) -> Served:
    """An architecture with random, but reproducible, weights and ImageNet's classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        check_name(architecture)
        transform = EvalTransform.from_timm(timm.get_pretrained_cfg(architecture))
        model = create_model(architecture, in_chans=transform.channels).eval()
    card = Card(
        architecture=architecture,
        width=1.0,
        classes=imagenet_wordnet_ids(),
        transform=transform,
        weights="random",
        weights_sha256="",
        data="none",
        data_digest="",
        metrics={},
        recipe={},
        code_version="",
        created="",
    )
    return Served(model=model, card=card, version=None)


def save_weights(model: nn.Module, path: Path) -> str:
    """Write safetensors; returns the file's SHA-256."""
    save_file({k: v.contiguous().cpu() for k, v in model.state_dict().items()}, path)
    return _sha256(path)


def publish(model: nn.Module, card: Card, *, name: str, run_id: str, tags: Mapping[str, str] | None = None) -> Version:
    """Log `model` and its card to a run and register them as the next version of `name`.

    The version appears only after all its files are stored. It becomes `champion` if its exact validation error is
    lower than the champion's on the same data, if it is the first whose error is known, or if there is no champion.

    Args:
        model: on the CPU, in eval mode, not wrapped.
        card: its weights_sha256 is filled in here.
        tags: of the version, beside those that say what the card says.
    """
    import mlflow.pytorch  # seconds to import, and only trainings need it
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    float32 = np.dtype("float32")
    channels, side = card.transform.channels, card.transform.crop or 224
    signature = ModelSignature(
        inputs=Schema([TensorSpec(float32, (-1, channels, -1, -1), "images")]),
        outputs=Schema([TensorSpec(float32, (-1, len(card.classes)), "logits")]),
    )
    api = client()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No complete tensor found")  # about tensors that share memory on a GPU
        card = replace(card, weights_sha256=save_weights(model, Path(folder) / WEIGHTS_FILE))
        (Path(folder) / cards.FILE_NAME).write_text(card.to_json())
        logged = mlflow.initialize_logged_model(
            name=card.architecture,
            source_run_id=run_id,
            experiment_id=api.get_run(run_id).info.experiment_id,
            model_type="degrid",
        )
        mlflow.pytorch.log_model(
            model,
            name=card.architecture,
            model_id=logged.model_id,
            signature=signature,
            # a batch above 1: an exported graph specialises on 1
            input_example=torch.zeros(2, channels, side, side),
            pip_requirements=[f"torch>={torch.__version__.split('+')[0]}", "torchvision", "timm"],
            extra_files=[str(Path(folder) / WEIGHTS_FILE), str(Path(folder) / cards.FILE_NAME)],
            serialization_format="pt2",
        )
    api.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])  # the run's page links to it
    own_tags = {"architecture": card.architecture, "data": card.data, "data_digest": card.data_digest}
    own_tags |= {key: f"{value:.6g}" for key, value in card.metrics.items()}
    try:
        api.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    made = api.create_model_version(
        name,
        f"models:/{logged.model_id}",
        run_id=run_id,
        tags={**(tags or {}), **own_tags},
        model_id=logged.model_id,  # a server refuses the source without it
    )
    _promote_if_better(api, made.name, int(made.version), card)
    return resolve(f"models:/{name}/{made.version}")


def _promote_if_better(api: mlflow.MlflowClient, name: str, number: int, card: Card) -> None:
    try:
        champion = api.get_model_version_by_alias(name, CHAMPION)
    except MlflowException:
        champion = None
    if champion is None or _is_better(card, champion.tags):
        api.set_registered_model_alias(name, CHAMPION, str(number))


def _is_better(card: Card, champion: Mapping[str, str]) -> bool:
    """An error that was measured beats one that was not; two are compared on the same data alone."""
    error = card.metrics.get("top1_error_pct")
    if error is None:
        return False
    if "top1_error_pct" not in champion:
        return True
    return champion["data_digest"] == card.data_digest and error < float(champion["top1_error_pct"])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
