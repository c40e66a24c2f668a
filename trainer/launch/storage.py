"""Where checkpoints go: a folder or an address, through Arrow's clients, which are the ones that Ray Train uses."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from uuid import uuid4

from pyarrow.fs import FileSelector, FileSystem, FileType

from shared.errors import UserError, in_one_line


def check(storage: str) -> None:
    """Write a small file there, and delete it again.

    Raises:
        UserError: that does not work; the line names the place.
    """
    try:
        with borrowed(storage) as name:
            filesystem, root = FileSystem.from_uri(storage)
            filesystem.create_dir(f"{root}/{name}")
            with filesystem.open_output_stream(f"{root}/{name}/state") as file:
                file.write(b"a checkpoint")
    except (OSError, ValueError, NotImplementedError) as error:  # Arrow's own errors are among them
        raise UserError(
            f"run.storage_path={storage} cannot be written ({in_one_line(error)}); choose another"
        ) from error


@contextmanager
def borrowed(storage: str) -> Iterator[str]:
    """The name of a folder below `storage` that nobody else uses. Afterwards it is gone, with all that it holds, and so
    are the folders above it that did not exist before and are still empty.
    """
    filesystem, root = FileSystem.from_uri(storage)
    missing = _missing(filesystem, root)
    name = uuid4().hex
    try:
        yield name
    finally:
        with suppress(OSError):
            filesystem.delete_dir(f"{root}/{name}")
        for folder in missing:
            with suppress(OSError):
                if not filesystem.get_file_info(FileSelector(folder)):
                    filesystem.delete_dir(folder)


def _missing(filesystem: FileSystem, folder: str) -> list[str]:
    """Those of a folder and its parents that do not exist, deepest first."""
    missing = []
    while folder.strip("/") and filesystem.get_file_info(folder).type is FileType.NotFound:
        missing.append(folder)
        folder = folder.rpartition("/")[0]
    return missing
