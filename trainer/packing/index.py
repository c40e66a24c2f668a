"""The last step of packing: one index of all shards, and a report."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shared.errors import TrainingError
from trainer.packing.layout import (
    FORMAT,
    INDEX_DTYPE,
    PARTS,
    PackedItem,
    part_path,
    read_json,
    replacing,
    shard_name,
    write_json,
)


def is_complete(target: Path) -> bool:
    plan = read_json(target / "pack.json")
    return plan is not None and all((target / part / "index.json").is_file() for part in plan["shards"])


def write(target: Path, plan: Mapping[str, Any], classes: Mapping[str, tuple[str, ...]]) -> None:
    """Join what the shards say of themselves. Each part's index.json comes last: where it is, all is there."""
    packed = {part: [_read_shard(target / part, n) for n in range(plan["shards"][part])] for part in classes}
    report = [f"{line.replace('	', f'	{part}/', 1)}\n" for part in packed for line in _report(packed[part])]
    with replacing(target / "report.txt") as file:
        file.write("".join(report).encode(errors="surrogateescape"))
    for part, shards in packed.items():
        _write_part(target / part, shards, classes[part])


def remove_parts(target: Path) -> None:
    for part in PARTS:
        shutil.rmtree(target / part / "parts", ignore_errors=True)


def check_restored(target: Path, missing: Mapping[str, list[int]]) -> None:
    """A shard that was written again into a finished set must be the one that was lost.

    Raises:
        TrainingError: it is not.
    """
    for part, numbers in missing.items():
        known = read_json(target / part / "index.json")["shards"]
        for number in numbers:
            if read_json(part_path(target / part, number))["shard"] != known[number]:
                raise TrainingError(
                    f"{target / part / shard_name(number)} differs from the one that was lost (another version of "
                    f"Pillow?); remove {target} and pack it again"
                )


def report_lines(target: Path) -> list[str]:
    path = target / "report.txt"
    return path.read_text(errors="surrogateescape").splitlines() if path.is_file() else []


def summary(target: Path) -> str:
    """What a packed set holds, in one sentence."""
    found = {part: read_json(target / part / "index.json") for part in PARTS}
    sizes = [
        f"{part} {i['pictures']:,} pictures in {len(i['shards']):,} shards, {_bytes(i) / 1e6:,.1f} MB"
        for part, i in found.items()
        if i is not None
    ]
    lines = report_lines(target)
    left_out = sum(line.startswith("left out") for line in lines)
    notes = [f"{left_out} left out"] if left_out else []
    notes += [f"{len(lines) - left_out} re-encoded"] if len(lines) > left_out else []
    return "; ".join(sizes) + (f" ({', '.join(notes)}: see {target / 'report.txt'})" if notes else "")


def _bytes(found: Mapping[str, Any]) -> int:
    return sum(shard["bytes"] for shard in found["shards"])


def _report(shards: list[dict[str, Any]]) -> list[str]:
    return [line for _, line in sorted((number, line) for shard in shards for number, line in shard["report"])]


def _read_shard(folder: Path, number: int) -> dict[str, Any]:
    content = read_json(part_path(folder, number))
    pictures = np.array(content["pictures"], dtype=np.int64).reshape(-1, len(PackedItem._fields))
    return {**content, "pictures": np.column_stack([pictures, np.full(len(pictures), number)])}


def _write_part(folder: Path, shards: list[dict[str, Any]], classes: tuple[str, ...]) -> None:
    rows = np.concatenate([shard["pictures"] for shard in shards])
    if not len(rows):
        raise TrainingError(f"no picture for {folder} could be decoded; see {folder.parent / 'report.txt'}")
    rows = rows[np.argsort(rows[:, 0])]
    index = np.empty(len(rows), dtype=INDEX_DTYPE)
    for column, name in enumerate([*PackedItem._fields, "shard"]):
        if name != "number":
            index[name] = rows[:, column]
    path = folder / "index.npy"
    with replacing(path) as file:
        np.save(file, index)
    content = {
        "format": FORMAT,
        "pictures": len(index),
        "index_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "shards": [shard["shard"] for shard in shards],
        "classes": list(classes),
    }
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    write_json(folder / "index.json", {**content, "digest": digest})
