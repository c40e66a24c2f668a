"""Packing: the same bytes however it was done and however often it was killed."""

import io
import multiprocessing
import random
import shutil
import tarfile
import time
from pathlib import Path

import pytest
from noise import contents, encoded, noise
from PIL import Image

from shared.errors import TrainingError
from trainer.__main__ import main
from trainer.config import DataConfig
from trainer.data import open_for_evaluation
from trainer.data.shards import ShardSamples
from trainer.packing import index
from trainer.packing.pack import Settings, pack
from trainer.packing.pictures import stored
from trainer.packing.verify import verify

SMALL = Settings(shard_mb=1)


def training_part(path: Path) -> ShardSamples:
    return ShardSamples(DataConfig(source="shards", path=str(path)), "train")


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """60 training pictures of about 50 kB in three classes, 6 for validation; three are not what they seem."""
    root = tmp_path_factory.mktemp("source")
    for part, count in (("train", 60), ("val", 6)):
        for i in range(count):
            path = root / part / "abc"[i % 3] / f"{i:02}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(noise(i, mode="L" if i % 7 == 0 else "RGB")))
    (root / "train" / "a" / "03.JPEG").write_bytes(encoded(noise(3), "PNG"))
    (root / "train" / "b" / "04.JPEG").write_bytes(encoded(noise(4, mode="CMYK")))
    (root / "train" / "c" / "05.JPEG").write_bytes(encoded(noise(5))[:20_000])
    return root


@pytest.fixture(scope="module")
def packed(source, tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("target")
    pack(source, target, SMALL, num_processes=1)
    return target


def test_packing_does_not_depend_on_the_number_of_processes(source, packed, tmp_path):
    pack(source, tmp_path, SMALL, num_processes=2)
    assert contents(tmp_path) == contents(packed)
    assert len(list((packed / "train").glob("*.tar"))) > 1


def test_pictures_that_are_what_they_seem_are_copied_and_others_are_listed(source, packed):
    samples = training_part(packed)
    files = sorted((source / "train").rglob("*.JPEG"))
    damaged = files.index(source / "train" / "c" / "05.JPEG")
    del files[damaged]
    changed = {"03.JPEG", "04.JPEG"}
    assert len(samples) == len(files) == 59
    for i, path in enumerate(files):
        picture = Image.open(io.BytesIO(samples.encoded(i)))
        assert (samples.encoded(i) == path.read_bytes()) == (path.name not in changed)
        assert (picture.format, picture.size) == ("JPEG", (300, 200))
        assert samples.classes[samples.labels[i]] == path.parent.name
    assert (packed / "report.txt").read_text().splitlines() == [
        "re-encoded\ttrain/a/03.JPEG\tis PNG and called .jpeg",
        "re-encoded\ttrain/b/04.JPEG\tis CMYK",
        "left out\ttrain/c/05.JPEG\t" + (packed / "report.txt").read_text().strip().rpartition("\t")[2],
    ]


def test_shards_are_tars_that_webdataset_reads_with_shuffled_training_pictures(packed):
    members = []
    for path in sorted((packed / "train").glob("*.tar")):
        with tarfile.open(path) as tar:
            members += list(tar)
    keys = [member.name.partition(".")[0] for member in members]
    assert keys[::2] == keys[1::2], "a picture and its class are neighbours"
    assert [member.name.partition(".")[2] for member in members] == ["jpg", "cls"] * 59
    assert len(set(keys)) == 59
    assert keys[::2] != sorted(keys[::2])
    assert {(member.mtime, member.uid, member.gid, member.mode) for member in members} == {(0, 0, 0, 0o644)}


def test_pictures_are_scaled_to_the_shorter_side_and_never_up():
    small = stored(encoded(noise(0, (300, 200))), "a.jpg", shorter_side=100, quality=80)
    assert Image.open(io.BytesIO(small.data)).size == (150, 100)
    as_it_is = encoded(noise(0, (300, 90)))
    assert stored(as_it_is, "a.jpg", shorter_side=100, quality=80).data == as_it_is
    png = encoded(noise(1), "PNG")
    assert stored(png, "a.png", shorter_side=0, quality=80) == (png, "png", "")


def _attempt(source: Path, target: Path, num_processes: int, started) -> None:
    started.set()
    pack(source, target, SMALL, num_processes)


def test_packing_killed_at_ten_random_moments_ends_in_the_same_bytes(source, packed, tmp_path):
    moments = random.Random(0)
    server = multiprocessing.get_context("forkserver")  # attempts are forked where everything is imported already
    server.set_forkserver_preload(["trainer.packing.pack"])
    half_done = 0
    for attempt in range(10):
        if (tmp_path / "train" / "index.json").exists():  # it was fast: begin anew
            for path in tmp_path.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        started = server.Event()
        process = server.Process(target=_attempt, args=(source, tmp_path, 1 + attempt % 2, started))
        process.start()
        assert started.wait(60)
        time.sleep(moments.uniform(0, 1.5) if attempt % 2 else moments.uniform(0, 0.25))
        process.kill()
        process.join()
        half_done += (tmp_path / "pack.json").exists() and not (tmp_path / "val" / "index.json").exists()
    assert half_done >= 3, "most attempts were interrupted at work"
    pack(source, tmp_path, SMALL, num_processes=2)
    assert contents(tmp_path) == contents(packed)


def test_a_finished_set_is_left_alone(source, packed, capsys):
    before = {path: path.stat().st_mtime_ns for path in packed.rglob("*") if path.is_file()}
    assert main(["pack", str(source), str(packed), "--shard-mb", "1"]) == 0
    assert "is complete, nothing to do: train 59 pictures in " in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in packed.rglob("*") if path.is_file()} == before


def test_a_lost_shard_is_written_again(source, packed, tmp_path):
    shutil.copytree(packed, tmp_path / "set")
    (tmp_path / "set" / "train" / "000001.tar").unlink()
    pack(source, tmp_path / "set", SMALL, num_processes=1)
    assert contents(tmp_path / "set") == contents(packed)


def test_going_on_keeps_what_is_right_and_repeats_what_is_not(source, packed, tmp_path, monkeypatch):
    with monkeypatch.context() as interrupted:
        interrupted.setattr(index, "write", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pack(source, tmp_path, SMALL, num_processes=1)
    flip_a_bit(tmp_path / "train" / "000001.tar")
    before = (tmp_path / "train" / "000000.tar").stat().st_mtime_ns
    pack(source, tmp_path, SMALL, num_processes=1)
    assert contents(tmp_path) == contents(packed)
    assert (tmp_path / "train" / "000000.tar").stat().st_mtime_ns == before


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[700] ^= 1
    path.write_bytes(data)


def test_verifying_reads_every_byte(packed, tmp_path):
    shutil.copytree(packed, tmp_path / "set")
    assert "is as it was packed: train 59 pictures" in verify(tmp_path / "set", num_processes=1)
    flip_a_bit(tmp_path / "set" / "train" / "000000.tar")
    with pytest.raises(TrainingError, match=r"train/000000.tar is not as it was packed; remove these files"):
        verify(tmp_path / "set", num_processes=1)


@pytest.mark.parametrize("victim", ["train/000001.tar", "train/index.npy"])
def test_verifying_notices_what_is_missing(packed, tmp_path, victim, capsys):
    shutil.copytree(packed, tmp_path / "set")
    (tmp_path / "set" / victim).unlink()
    assert main(["pack", "--verify", str(tmp_path / "set"), "--num-processes", "1"]) == 1
    assert f"{victim} is" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{source}", "{packed}", "--shorter-side", "64"], "from other files or with other settings (settings="),
        (["{source}/train", "{packed}"], "was packed from other files or with other settings"),
        (["{source}", "{source}"], "holds other files (train, val)"),
        (["{source}", "s3://bucket/set"], "is an address; pack into a folder and upload that"),
        (["/nowhere", "{packed}"], "/nowhere is not a folder"),
        (["{source}"], "pack needs SOURCE and TARGET"),
        (["--verify", "{source}"], "is not a packed set that is finished"),
        (["{source}", "{packed}", "--quality", "101"], "--quality 101 is not between 1 and 95"),
    ],
)  # fmt: skip
def test_a_mistake_is_answered_in_one_line(source, packed, capsys, arguments, message):
    assert main(["pack", *(a.format(source=source, packed=packed) for a in arguments)]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error


def test_a_source_that_cannot_be_read_is_not_damage(source, tmp_path):
    shutil.copytree(source, tmp_path / "source")
    (tmp_path / "source" / "train" / "a" / "bad_sector.JPEG").symlink_to("/proc/self/mem")  # reads as EIO
    with pytest.raises(TrainingError, match=r"bad_sector.JPEG cannot be read \(Input/output error\); run the command"):
        pack(tmp_path / "source", tmp_path / "target", SMALL, num_processes=1)


def test_class_folders_alone_are_a_validation_part(source, tmp_path):
    pack(source / "val", tmp_path, Settings(), num_processes=1)
    samples = open_for_evaluation(DataConfig(source="shards", path=str(tmp_path)), ("a", "b", "c"))
    assert samples.labels.tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.slow
def test_a_cluster_packs_the_same_bytes(source, packed, tmp_path, monkeypatch):
    from trainer.launch import cluster

    cluster.connect()
    monkeypatch.setenv("RAY_ADDRESS", "auto")  # it is connected already
    pack(source, tmp_path, SMALL, num_processes=1)
    assert contents(tmp_path) == contents(packed)
