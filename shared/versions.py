"""What the registry lists, loaded from nothing but MLflow: a look at it should cost no import of torch."""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

# Set before MLflow is imported: nothing that is loaded here may run code that came with a model.
os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
os.environ.setdefault("MLFLOW_ALLOW_MODEL_CODE_EXECUTION", "false")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

import mlflow
from mlflow.entities.model_registry import ModelVersion

from shared.errors import UserError
from shared.store import shown_tracking_uri, tracking_uri

# Creating a SQLite store narrates thirty schema migrations, and every retry of a request is a line.
for _noisy in ("alembic", "mlflow.store.db.utils", "urllib3.connectionpool"):
    logging.getLogger(_noisy).setLevel(logging.ERROR)


def client() -> mlflow.MlflowClient:
    mlflow.set_tracking_uri(tracking_uri())
    return mlflow.MlflowClient()


@contextmanager
def impatient() -> Iterator[None]:
    """MLflow's client retries for minutes; inside, a server that does not answer is reported within seconds."""
    settings = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def check_reachable() -> None:
    """Raises UserError, within seconds, where MLflow does not answer."""
    try:
        with impatient():
            client().search_registered_models(max_results=1)
    except Exception as error:  # MLflow lets errors of SQLAlchemy, requests and urllib through
        reason = str(_root_cause(error)).strip().splitlines()[0][:160]
        raise UserError(
            f"MLflow at {shown_tracking_uri()} cannot be reached ({reason}); start it or set MLFLOW_TRACKING_URI"
        ) from error


def _root_cause(error: BaseException) -> BaseException:
    cause = error.__cause__ or error.__context__
    return _root_cause(cause) if cause else error


@dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    """One line of the registry, known without a download."""

    name: str
    number: int
    run_id: str
    source: str
    created_ms: int
    aliases: tuple[str, ...]
    tags: dict[str, str]

    @property
    def uri(self) -> str:
        return f"models:/{self.name}/{self.number}"

    @property
    def architecture(self) -> str:
        return self.tags.get("architecture", "")

    @property
    def top1_error_pct(self) -> float | None:
        return float(self.tags["top1_error_pct"]) if "top1_error_pct" in self.tags else None


def names_a_version(reference: str) -> bool:
    """Whether `reference` stands for something in the registry: models:/..., or a run id."""
    return reference.startswith("models:/") or re.fullmatch("[0-9a-f]{32}", reference) is not None


def versions() -> list[Version]:
    """All versions that this project wrote, newest first.

    Raises:
        mlflow.exceptions.MlflowException: the registry does not answer.
    """
    api = client()
    aliases = {m.name: m.aliases for m in api.search_registered_models(max_results=1000)}
    found = [_version(v, aliases.get(v.name, {})) for v in api.search_model_versions(max_results=10_000)]
    return sorted((v for v in found if v.architecture), key=lambda v: (v.created_ms, v.number), reverse=True)


def resolve(reference: str) -> Version:
    """`models:/name@alias`, `models:/name/3` or a run id -> the version it stands for.

    Raises:
        UserError: there is none; the message says what there is.
    """
    known = versions()
    if reference.startswith("models:/"):
        path = reference.removeprefix("models:/")
        name, _, alias = path.partition("@")
        number = ""
        if not alias:
            name, _, number = path.rpartition("/")
        match = [v for v in known if v.name == name and (alias in v.aliases or str(v.number) == number)]
    else:
        match = [v for v in known if v.run_id == reference]
    if not match:
        there = ", ".join(v.uri for v in known[:5]) or "the registry is empty"
        raise UserError(f"no registered version {reference!r}; there is: {there}")
    return match[0]


def _version(v: ModelVersion, aliases: dict[str, str]) -> Version:
    return Version(
        name=v.name,
        number=int(v.version),
        run_id=v.run_id or "",
        source=v.source,
        created_ms=v.creation_timestamp,
        aliases=tuple(sorted(alias for alias, number in aliases.items() if int(number) == int(v.version))),
        tags=dict(v.tags),
    )
