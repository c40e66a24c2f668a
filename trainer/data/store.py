"""Ranges of bytes from a local folder or an object store, read with patience.

A store that does not answer is asked again, after 0.1 s at first and every 30 s in the end, for `retry_s` in all; then
the run ends with one line. What a store answers for certain (no such file, no permission) is not asked again.
"""

import logging
import os
import random
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

from shared.errors import TrainingError, UserError, in_one_line

log = logging.getLogger(__name__)

RETRY_S = 300.0
FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 30.0
SAID_FROM_S = 3.0
"""Shorter waits are not worth a line."""

CONNECT_S, ANSWER_S = 10, 30
"""Patience with one request; the clients' own settings would wait for many minutes."""

_OPEN_FILES = 64

Answer = TypeVar("Answer")


class Store(Protocol):
    root: str
    """Folder or address, without password."""

    is_remote: bool

    def read(self, name: str) -> bytes:
        """A whole file.

        Raises:
            FileNotFoundError, PermissionError
            TrainingError: no answer within `retry_s`.
        """

    def range(self, name: str, offset: int, size: int) -> bytes:
        """`size` bytes of a file, from `offset` on; raises as `read`."""


def open_store(root: str, retry_s: float = RETRY_S) -> Store:
    """`root`: a folder, or an address such as s3://bucket/prefix."""
    if "://" not in root or root.startswith("file://"):
        return _Folder(Path(root.removeprefix("file://")), retry_s)
    return _ObjectStore(root, retry_s)


def persist(read: Callable[[], Answer], address: str, retry_s: float, is_final: Callable[[Exception], bool]) -> Answer:
    """Call `read` until it succeeds or fails for good (`is_final`).

    Raises:
        TrainingError: it went on failing for `retry_s`.
    """
    deadline, wait_s = time.monotonic() + retry_s, FIRST_WAIT_S
    while True:
        try:
            return read()
        except Exception as error:
            if is_final(error):
                raise
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TrainingError(
                    f"{address} could not be read for {retry_s:g} s ({in_one_line(error)}); mend the store or the "
                    "mount and go on with --resume, or raise data.retry_s"
                ) from error
            if wait_s >= SAID_FROM_S:
                log.warning("%s cannot be read (%s); trying again for %.0f s", address, in_one_line(error), left_s)
        # a store that comes back is not asked by all processes at once; SystemRandom leaves the program's numbers alone
        time.sleep(min(wait_s * random.SystemRandom().uniform(0.5, 1), left_s))
        wait_s = min(2 * wait_s, LONGEST_WAIT_S)


def shown(address: str) -> str:
    """The address without what may be secret in it: user, password and query."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" if parts.scheme else address


class _Folder:
    is_remote = False

    def __init__(self, root: Path, retry_s: float) -> None:
        self.root = str(root)
        self._retry_s = retry_s
        self._file = lru_cache(_OPEN_FILES)(_OpenFile)

    def read(self, name: str) -> bytes:
        return self._persist(name, Path(self.root, name).read_bytes)

    def range(self, name: str, offset: int, size: int) -> bytes:
        path = os.path.join(self.root, name)

        def attempt() -> bytes:
            try:
                data = os.pread(self._file(path).descriptor, size, offset)
            except OSError:
                self._file.cache_clear()  # after a mount comes back, old descriptors stay stale
                raise
            return _whole(data, size)

        return self._persist(name, attempt)

    def _persist(self, name: str, read: Callable[[], bytes]) -> bytes:
        def is_final(error: Exception) -> bool:
            # while a mount is away its files seem to be missing
            return isinstance(error, PermissionError) or (
                isinstance(error, FileNotFoundError) and os.path.isdir(self.root) and bool(os.listdir(self.root))
            )

        return persist(read, os.path.join(self.root, name), self._retry_s, is_final)


class _OpenFile:
    """A descriptor that is closed when nobody reads from it any more."""

    def __init__(self, path: str) -> None:
        self.descriptor = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


class _ObjectStore:
    is_remote = True

    def __init__(self, root: str, retry_s: float) -> None:
        self._address = root.rstrip("/")
        self.root = shown(self._address)
        self._retry_s = retry_s
        self._client: Any = None
        self._process = -1
        self._connected()  # an unknown scheme is noticed here

    def read(self, name: str) -> bytes:
        return self._persist(name, lambda: self._connected().cat_file(f"{self._address}/{name}"))

    def range(self, name: str, offset: int, size: int) -> bytes:
        def attempt() -> bytes:
            data = self._connected().cat_file(f"{self._address}/{name}", start=offset, end=offset + size)
            return _whole(data, size)

        return self._persist(name, attempt)

    def _persist(self, name: str, read: Callable[[], bytes]) -> bytes:
        def is_final(error: Exception) -> bool:
            return isinstance(error, (FileNotFoundError, PermissionError))

        return persist(read, f"{self.root}/{name}", self._retry_s, is_final)

    def _connected(self) -> Any:
        """This process's client: connections and event loops do not survive a fork."""
        if self._process != os.getpid():
            self._client, self._process = _connect(self._address), os.getpid()
        return self._client


def _connect(address: str) -> Any:
    import fsspec  # not at the top: most sets are local

    scheme = urlsplit(address).scheme
    options: dict[str, Any] = {}
    if scheme in ("s3", "s3a"):
        patience = {"connect_timeout": CONNECT_S, "read_timeout": ANSWER_S, "retries": {"max_attempts": 0}}
        options = {"config_kwargs": patience}
    elif scheme in ("http", "https"):
        import aiohttp

        options = {"client_kwargs": {"timeout": aiohttp.ClientTimeout(sock_connect=CONNECT_S, sock_read=ANSWER_S)}}
    try:
        client = fsspec.filesystem(scheme, skip_instance_cache=True, **options)
    except ImportError as error:
        raise UserError(f"{scheme}:// needs another package ({error}); install it with pip") from error
    except ValueError as error:
        raise UserError(f"{shown(address)}: {scheme}:// is not known ({error}); use s3, gs, http or https") from error
    if hasattr(client, "retries"):
        client.retries = 1  # `persist` does it, and knows when to end
    return client


def _whole(data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise OSError(f"{len(data):,} bytes came instead of {size:,}")
    return data
