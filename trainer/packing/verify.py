"""Whether a packed set is what its index says: every byte, every picture, every label."""

import hashlib
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from shared.errors import TrainingError, UserError
from trainer.packing import index
from trainer.packing.layout import FORMAT, read_json, shard_name
from trainer.packing.processes import in_parallel
from trainer.packing.shard import sha256

SHOWN = 5


class _Check(NamedTuple):
    path: str
    sha256: str
    rows: np.ndarray
    """The shard's part of the index."""


def verify(target: Path, num_processes: int) -> str:
    """Read all of a packed set; returns a sentence on what it holds.

    Raises:
        UserError: it is not a finished packed set.
        TrainingError: something in it is wrong.
    """
    plan = read_json(target / "pack.json")
    if plan is None or plan.get("format") != FORMAT or not index.is_complete(target):
        raise UserError(f"{target} is not a packed set that is finished; run `python -m trainer pack SOURCE {target}`")
    problems: list[str] = []
    with tqdm(total=sum(plan["shards"].values()), unit="shard", desc="verifying") as bar:
        for part in plan["shards"]:
            for found in in_parallel(check_shard, _checks(target / part), num_processes):
                problems += found
                bar.update()
    if problems:
        more = f" and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise TrainingError(
            f"{'; '.join(sorted(problems)[:SHOWN])}{more}; remove these files and pack again: what is missing is "
            "written again"
        )
    return f"{target} is as it was packed: {index.summary(target)}"


def _checks(folder: Path) -> Iterator[_Check]:
    content = read_json(folder / "index.json")
    path = folder / "index.npy"
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != content["index_sha256"]:
        raise TrainingError(f"{path} is not as it was packed; remove {folder / 'index.json'} and pack again")
    rows = np.load(path)
    rows = rows[np.lexsort((rows["offset"], rows["shard"]))]
    starts = np.searchsorted(rows["shard"], np.arange(len(content["shards"]) + 1))
    for number, shard in enumerate(content["shards"]):
        own = np.ascontiguousarray(rows[starts[number] : starts[number + 1]])
        yield _Check(str(folder / shard_name(number)), shard["sha256"], own)


def check_shard(check: _Check) -> list[str]:
    """What is wrong with a shard: a line, or none."""
    path = Path(check.path)
    try:
        if sha256(path) != check.sha256:
            return [f"{path} is not as it was packed"]
        if not np.array_equal(_members(path), check.rows[["offset", "label", "size"]].tolist()):
            return [f"{path} holds other pictures than the index says"]
    except FileNotFoundError:
        return [f"{path} is missing"]
    except (OSError, tarfile.TarError, ValueError) as error:
        return [f"{path} cannot be read ({error})"]
    return []


def _members(path: Path) -> list[tuple[int, int, int]]:
    found = []
    with tarfile.open(path, "r:") as tar:
        for picture, label in zip(*[iter(tar)] * 2, strict=True):
            file = tar.extractfile(label)
            if file is None or label.name != picture.name.partition(".")[0] + ".cls":
                raise ValueError(f"{label.name} follows {picture.name}")
            found.append((picture.offset_data, int(file.read()), picture.size))
    return found
