"""A large file over HTTP: resumed where it broke off, kept only when complete and right."""

import fcntl
import json
import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import requests
from tqdm import tqdm

from shared.errors import UserError
from trainer.importing import checksums

log = logging.getLogger(__name__)

ATTEMPTS = 5
RETRY_WAIT_S = 1.0
TIMEOUT_S = (10.0, 60.0)
"""For a connection, and between two pieces of an answer."""


class _CutOffError(Exception):
    """The transfer ended too early; what has arrived stays in the partial file."""


def download(url: str, target: Path, *, checksum: str = "") -> None:
    """Fetch `url` to `target`, or keep what is there where `checksum` (its first digits, if known) holds.

    Until it is complete and right the file is `target`.partial. A process that finds another one at work waits for it.

    Raises:
        UserError: no answer, no such file, broken off too often, wrong checksum, or a folder that cannot be written.
    """
    partial = target.with_name(target.name + ".partial")
    notes = partial.with_name(partial.name + ".json")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(partial) as file:
            if _is_there(target, checksum):
                return
            try:
                _fetch(url, file, notes, checksum)
            except KeyboardInterrupt:
                log.warning("stopped after %s bytes; run the command again to go on", f"{file.tell():,}")
                raise
            file.flush()
            notes.unlink(missing_ok=True)
            if checksum:
                _verify_or_remove(partial, checksum, shown(url))
            os.replace(partial, target)
    except OSError as error:
        raise UserError(
            f"{target} cannot be written ({error.strerror or error}); set TORCH_HOME to a folder with room for it"
        ) from error


def shown(url: str) -> str:
    """The address without what may be secret in it: user, password and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


@contextmanager
def _alone(partial: Path) -> Iterator[BinaryIO]:
    """The partial file, open for appending and locked; an empty one is removed in the end."""
    while True:
        with partial.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.warning("another process is downloading %s; waiting for it", partial.stem)
                fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_at(partial, file):  # the other process has finished and renamed it
                continue
            try:
                yield file
            finally:
                file.flush()
                if _is_at(partial, file) and file.tell() == 0:
                    partial.unlink()
            return


def _is_at(path: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _is_there(target: Path, checksum: str) -> bool:
    """Whether there is nothing to do. Without a checksum nobody knows whether the old file is still the right one."""
    if not checksum or not target.exists():
        return False
    try:
        checksums.verify(target, checksum, str(target))
    except UserError as error:
        log.warning("%s; downloading it again", error)
        return False
    return True


def _fetch(url: str, file: BinaryIO, notes: Path, checksum: str) -> None:
    """Fill the partial file, with a few more attempts where the transfer breaks off."""
    for attempt in range(ATTEMPTS):
        time.sleep(RETRY_WAIT_S * attempt)
        try:
            _request(url, file, notes, checksum)
            return
        except _CutOffError as error:
            problem = error
        except requests.RequestException as error:
            if attempt == 0:  # never got through: more likely a wrong address than a moment's trouble
                raise UserError(
                    f"{shown(url)} cannot be fetched ({_root_cause(error)}); check the address and the network, or "
                    "fetch the file elsewhere and give its path as SOURCE"
                ) from error
            problem = _CutOffError(f"got {file.tell():,} bytes, then {_root_cause(error)}")
    raise UserError(f"{shown(url)} broke off: {problem}; run the command again to go on") from problem


def _request(url: str, file: BinaryIO, notes: Path, checksum: str) -> None:
    """One request, for the rest of the file where its beginning is known to be of the same file.

    Raises:
        _CutOffError: the answer ended too early, or the server is too busy; another request may get further.
        UserError: the server has no such file.
        requests.RequestException: no connection.
    """
    headers = {"Accept-Encoding": "identity"}  # lengths are those of the file
    validator = _validator(notes, url)
    start = file.tell()
    if start and (validator or checksum):
        headers["Range"] = f"bytes={start}-"
        if validator:
            headers["If-Range"] = validator
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            if answer.headers.get("Content-Range", "") == f"bytes */{start}":
                return  # everything had arrived before
            _empty(file)
            raise _CutOffError("the server's file has changed")
        if answer.status_code in (408, 429, 500, 502, 503, 504):
            raise _CutOffError(f"the server answers {answer.status_code} {answer.reason}")
        if not answer.ok:
            raise UserError(
                f"{shown(url)}: the server answers {answer.status_code} {answer.reason}; check the address, or fetch "
                "the file elsewhere and give its path as SOURCE"
            )
        continues = re.match(rf"bytes {start}-\d+/", answer.headers.get("Content-Range", "")) is not None
        if answer.status_code != requests.codes.partial_content or not continues:
            _empty(file)
            start = 0
        notes.write_text(json.dumps({"url": shown(url), "validator": _strong_validator(answer)}))
        length = answer.headers.get("Content-Length", "")
        _receive(answer, file, start, start + int(length) if length.isdigit() else None)


def _receive(answer: requests.Response, file: BinaryIO, start: int, total: int | None) -> None:
    bar = tqdm(initial=start, total=total, unit="B", unit_scale=True, leave=False, disable=None)  # None: in a terminal
    with bar:
        try:
            for block in answer.iter_content(1 << 16):
                file.write(block)
                bar.update(len(block))
        except requests.RequestException as error:
            got = f"got {file.tell():,} of {total:,} bytes" if total else f"got {file.tell():,} bytes"
            raise _CutOffError(got) from error


def _validator(notes: Path, url: str) -> str:
    """What the server called the version of the file that the partial one belongs to."""
    try:
        saved = json.loads(notes.read_text())
    except (OSError, ValueError):
        return ""
    return str(saved["validator"]) if saved.get("url") == shown(url) else ""


def _strong_validator(answer: requests.Response) -> str:
    etag = answer.headers.get("ETag", "")
    # a weak one promises the same meaning, not the same bytes
    return etag if etag and not etag.startswith("W/") else answer.headers.get("Last-Modified", "")


def _empty(file: BinaryIO) -> None:
    file.seek(0)
    file.truncate()


def _verify_or_remove(partial: Path, checksum: str, called: str) -> None:
    try:
        checksums.verify(partial, checksum, called)
    except UserError:
        partial.unlink()
        raise


def _root_cause(error: BaseException) -> str:
    cause = error.__cause__ or error.__context__
    return _root_cause(cause) if cause else str(error).splitlines()[0][:200]
