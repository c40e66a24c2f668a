"""Where runs and versions are kept. Apart from the registry so that a check of the address imports no torch."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or a SQLite file in the checkout (absolute: Ray's workers change directory)."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{ROOT / 'mlflow.db'}"


def shown_tracking_uri() -> str:
    """The same without a password, for messages."""
    scheme, separator, rest = tracking_uri().partition("://")
    return scheme + separator + rest.rpartition("@")[2]
