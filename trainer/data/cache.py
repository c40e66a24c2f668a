"""A bounded folder of blocks on the local disk, least recently used out first, shared by all processes.

A block is a file that appears whole (written aside and renamed). How much lies there is written in `usage`, which is
changed under a lock; a process that dies at the wrong moment leaves it too high at worst, and the next clearing counts
again. Nothing here can make a read fail: a full or read-only disk means that blocks are fetched again.
"""

import fcntl
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

log = logging.getLogger(__name__)

KEPT_AFTER_CLEARING = 0.9
"""Share of the limit. Clearing looks at every block, so it makes room for many."""

FREE_BYTES = 5 * 10**9
"""The cache leaves so much of the disk to others."""

TOUCHED_EVERY_S = 60.0


class Cache:
    """Blocks by key, `folder/name`."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._blocks = folder / "blocks"
        self._usage = folder / "usage"
        self._lock = folder / "lock"
        self._said = False

    def read(self, key: str, block_size: int, offset: int, size: int) -> bytes | None:
        """A part of a block, or None where the block is not there, or not `block_size` long."""
        try:
            descriptor = os.open(self._blocks / key, os.O_RDONLY)
        except OSError:
            return None
        try:
            status = os.fstat(descriptor)
            if status.st_size != block_size:
                return None
            if time.time() - status.st_mtime > TOUCHED_EVERY_S:  # the time of modification stands for that of use
                os.utime(descriptor)
            data = os.pread(descriptor, size, offset)
        except OSError:
            return None
        finally:
            os.close(descriptor)
        return data if len(data) == size else None

    def write(self, key: str, data: bytes) -> None:
        path = self._blocks / key
        partial = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not self._makes_room(len(data), partial):
                return
            with partial.open("r+b") as file:
                file.write(data)
            os.replace(partial, path)
        except OSError as error:
            if not self._said:
                log.warning("%s cannot keep what is read (%s); see data.cache_path", self._blocks, error.strerror)
                self._said = True
            with suppress(OSError):
                partial.unlink()

    def _makes_room(self, size: int, partial: Path) -> bool:
        """Reserve `size` bytes, removing old blocks where needed: `partial` has that size from then on, empty as it
        is, so that another process that counts what is there counts it, too.
        """
        if size > self.limit_bytes * KEPT_AFTER_CLEARING:
            return False
        with self._locked():
            used = self._read_usage()
            limit = self.limit_bytes
            if used is not None:  # what lies here may stay; what is added leaves FREE_BYTES
                limit = min(limit, used + shutil.disk_usage(self._blocks).free - FREE_BYTES)
            if used is None or used + size > limit:
                used = self._clear(int(max(0, min(limit, self.limit_bytes) * KEPT_AFTER_CLEARING - size)))
                if size > shutil.disk_usage(self._blocks).free - FREE_BYTES:
                    self._write_usage(used)
                    return False
            with partial.open("wb") as file:
                file.truncate(size)
            self._write_usage(used + size)
            return True

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._blocks.mkdir(parents=True, exist_ok=True)
        with self._lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _clear(self, keep_bytes: int) -> int:
        """Remove the blocks used longest ago until at most `keep_bytes` are left; returns how many those are."""
        found = []
        for folder, _, names in os.walk(self._blocks):
            for name in names:
                path = os.path.join(folder, name)
                try:
                    status = os.stat(path)
                except FileNotFoundError:  # renamed by its writer
                    continue
                found.append((status.st_mtime, status.st_size, path))
        used = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if used <= keep_bytes:
                break
            Path(path).unlink(missing_ok=True)
            used -= size
        return used

    def _read_usage(self) -> int | None:
        try:
            return int(self._usage.read_text())
        except (OSError, ValueError):
            return None

    def _write_usage(self, used: int) -> None:
        self._usage.write_text(str(used))
