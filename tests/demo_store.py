"""A registry with tiny networks, and the demo running against it: shared by the tests of the demo."""

import atexit
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
import uvicorn

from demo.app import create_app
from demo.serving import Serving
from shared import registry
from shared.card import Card
from shared.registry import Version
from shared.transforms import EvalTransform

CLASSES = ("n02123045", "coffee_cup", "rocket", "coin")


def publish_tiny(architecture: str, *, error_pct: float = 50.0, seed: int = 0) -> Version:
    """The next version of a network with an eighth of the channels and four classes."""
    api = registry.client()
    experiment = api.get_experiment_by_name("tiny")
    assert experiment is not None
    card = Card(
        architecture=architecture,
        width=0.125,
        classes=CLASSES,
        transform=EvalTransform(resize=72, crop=64),
        weights="trained",
        weights_sha256="",
        data="four",
        data_digest="4",
        metrics={"top1_error_pct": error_pct, "ghd": 0.25},
        recipe={},
        code_version="",
        created="2025-01-01T00:00:00Z",
    )
    torch.manual_seed(seed)
    run_id = api.create_run(experiment.experiment_id).info.run_id
    return registry.publish(card.build(), card, name=f"{architecture}-four", run_id=run_id)


def copy_of_trio(folder: Path) -> str:
    """Tracking URI of a store of its own that holds drn_a_18, drn_b_26 and drn_c_26, registered in this order."""
    shutil.copy(_stores()["trio"], folder / "mlflow.db")
    return f"sqlite:///{folder / 'mlflow.db'}"


def copy_of_empty(folder: Path) -> str:
    shutil.copy(_stores()["empty"], folder / "mlflow.db")
    return f"sqlite:///{folder / 'mlflow.db'}"


@cache
def _stores() -> dict[str, Path]:
    """Made once: creating a store and publishing take seconds. Copies share the files of the versions."""
    folder = Path(tempfile.mkdtemp(prefix="degrid-test-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    files = {"trio": folder / "mlflow.db", "empty": folder / "empty.db"}
    with environment("MLFLOW_TRACKING_URI", f"sqlite:///{files['trio']}"):
        registry.client().create_experiment("tiny", artifact_location=(folder / "artifacts").as_uri())
        shutil.copy(files["trio"], files["empty"])
        for seed, architecture in enumerate(("drn_a_18", "drn_b_26", "drn_c_26")):
            publish_tiny(architecture, seed=seed)
    return files


@contextmanager
def environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def running_demo(folder: Path, *, reference: str | None = None) -> Iterator[tuple[str, Serving]]:
    """The demo in a thread: its address, and what it serves."""
    with environment("GRADIO_TEMP_DIR", str(folder / "gradio")):
        serving = Serving(reference, poll_s=0.5)
        serving.start()
        port = free_port()
        app = create_app(serving, mlflow_ui="http://127.0.0.1:5000", scratch=folder)
        server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        try:
            wait_until(lambda: server.started and len(serving.state.trio) == 3)
            yield f"http://127.0.0.1:{port}", serving
        finally:
            serving.stop()
            server.should_exit = True
            thread.join(timeout=10)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition: Callable[[], object], *, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
