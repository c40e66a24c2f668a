"""Quick checks before anything heavy is imported: the ports are free, and something is where MLflow should be."""

import socket
import sqlite3
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from shared.errors import UserError
from shared.store import tracking_uri

_PATIENCE_S = 5
_DEFAULT_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


def check_port(host: str, port: int, option: str) -> None:
    """Raises UserError where nothing can listen there."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UserError(f"cannot listen on {host}:{port} ({reason}); choose another with {option}") from error


def check_store() -> None:
    """Raises UserError where the address of MLflow leads nowhere. Says nothing about what is registered."""
    uri = tracking_uri()
    parts = urlsplit(uri)
    where = f"{parts.hostname or ''}{parts.path}" if parts.password else uri
    try:
        if parts.scheme in ("http", "https"):
            with urllib.request.urlopen(
                f"{parts.scheme}://{_host(parts.netloc)}{parts.path}/health", timeout=_PATIENCE_S
            ):
                pass
        elif parts.scheme == "sqlite":
            _check_sqlite(Path(uri.removeprefix("sqlite:///")))
        elif (scheme := parts.scheme.partition("+")[0]) in _DEFAULT_PORTS:
            address = parts.hostname or "127.0.0.1", parts.port or _DEFAULT_PORTS[scheme]
            socket.create_connection(address, timeout=_PATIENCE_S).close()
    except urllib.error.HTTPError:
        return  # something answers; whether it wants a password is for MLflow to find out
    except (OSError, sqlite3.Error, ValueError) as error:
        raise UserError(
            f"MLflow at {where} cannot be reached ({error}); start it or set MLFLOW_TRACKING_URI"
        ) from error


def _check_sqlite(file: Path) -> None:
    if not file.exists():
        if not file.parent.is_dir():
            raise FileNotFoundError(f"there is no folder {file.parent}")
        return  # MLflow creates it
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=_PATIENCE_S)
    try:
        connection.execute("select count(*) from sqlite_master").fetchone()
    finally:
        connection.close()


def _host(netloc: str) -> str:
    return netloc.rpartition("@")[2]
