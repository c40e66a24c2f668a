"""Is this the file that was meant? Digests of weights files, and the ones that their names promise."""

import hashlib
import re
import zipfile
from pathlib import Path
from typing import IO

from shared.errors import UserError

_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.(?:pth|pt|bin|safetensors)(?:\.tar|\.zip)?$")
OF_FILE = "sha256 of the file"
_DATE = re.compile(r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])")


def in_name(name: str) -> str:
    """The digest that a name like `resnet18-f37072fd.pth` ends with, PyTorch's convention; "" where there is none."""
    found = _IN_NAME.search(name)
    return found[1] if found and not _DATE.fullmatch(found[1]) else ""


def parse(text: str) -> str:
    """A checksum as a person gives it. Raises UserError where it is none."""
    digits = text.lower().removeprefix("sha256:").removeprefix("sha1:")
    if not re.fullmatch("[0-9a-f]{8,64}", digits):
        raise UserError(f"--checksum {text}: give the first 8 to 64 hexadecimal digits of the sha256, or a whole sha1")
    return digits


def digests(path: Path) -> dict[str, str]:
    """What is hashed and how -> hexadecimal digits; OF_FILE comes first.

    A zip that holds one file (and is not itself PyTorch's format) also has the digests of what is inside: the
    mirror's published digests do not say which of the two they are of.
    """
    with path.open("rb") as file:
        found = _both(file, "the file")
    member = packed_member(path)
    if member is not None:
        with zipfile.ZipFile(path) as archive, archive.open(member) as inner:
            found |= _both(inner, f"{member} inside")
    return found


def verify(path: Path, expected: str, called: str) -> str:
    """Which digest of `path` begins with `expected`, such as OF_FILE.

    Raises:
        UserError: none does, or the file cannot be read.
    """
    try:
        found = digests(path)
    except (OSError, zipfile.BadZipFile, EOFError) as error:
        raise UserError(f"{called} cannot be read ({error}); it is damaged or incomplete, so fetch it again") from error
    for what, digest in found.items():
        if digest.startswith(expected):
            return what
    raise UserError(
        f"{called} is not the file that was published: its checksum should begin with {expected}, but its sha256 is "
        f"{found[OF_FILE]} ({path.stat().st_size:,} bytes); it is damaged, incomplete or another file"
    )


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def packed_member(path: Path) -> str | None:
    """The one weights file that a plain zip holds. None for anything else; PyTorch's own format is a zip too."""
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        files = [info.filename for info in archive.infolist() if not info.is_dir()]
    return files[0] if len(files) == 1 and not files[0].endswith("data.pkl") else None


def _both(file: IO[bytes], what: str) -> dict[str, str]:
    hashes = {"sha256": hashlib.sha256(), "sha1": hashlib.sha1()}
    while block := file.read(1 << 20):
        for one in hashes.values():
            one.update(block)
    return {f"{name} of {what}": one.hexdigest() for name, one in hashes.items()}
