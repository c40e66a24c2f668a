"""Decoding: Pillow's pixels, and no file, however damaged, ends more than itself."""

import io
import random
import struct
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from noise import encoded, noise
from PIL import Image

from shared.photos import PHOTO_NAMES, photo
from shared.transforms import EvalTransform
from trainer import recipes
from trainer.config import DataConfig
from trainer.data import EvalBatches, open_data, train_batches
from trainer.data import decode as decoding
from trainer.data.boxes import Box
from trainer.data.decode import DAMAGED, decode, decode_region

DAMAGED_FILES = 300


def pillow(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def kinds_of_files() -> dict[str, bytes]:
    picture = photo(PHOTO_NAMES[0]).resize((333, 251))
    subsampled = {f"4:{n}": encoded(picture, subsampling=i) for i, n in enumerate(("4:4", "2:2", "2:0"))}
    return subsampled | {
        "progressive": encoded(picture, progressive=True),
        "grey": encoded(picture.convert("L")),
        "CMYK": encoded(picture.convert("CMYK")),
        "PNG": encoded(picture, "PNG"),
        "PNG with a palette": encoded(picture.quantize(16), "PNG"),
        "with EXIF": encoded(picture, exif=b"Exif\x00\x00" + bytes(200)),
        "one pixel": encoded(picture.resize((1, 1))),
        "trailing bytes": encoded(picture) + b"something else",
    }


@pytest.mark.parametrize(("kind", "data"), kinds_of_files().items())
def test_pixels_are_pillows_to_the_last_bit(kind, data):
    assert np.array_equal(np.asarray(decode(data)), np.asarray(pillow(data)))
    transform = EvalTransform()
    assert torch.equal(transform.pixels(decode(data)), transform.pixels(pillow(data)))


def test_the_fast_decoder_is_in_use_here():
    assert decoding._same_as_pillow()


def test_where_the_decoders_disagree_pillow_decodes(monkeypatch):
    monkeypatch.setattr(decoding, "_same_as_pillow", lambda: False)
    monkeypatch.setattr(decoding.simplejpeg, "decode_jpeg", lambda *_, **__: pytest.fail("should not be asked"))
    data = encoded(noise(1))
    assert np.array_equal(np.asarray(decode(data)), np.asarray(pillow(data)))


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_a_scaled_region_lies_where_it_should(scale):
    """The left edge of a bright square on black is found within one of the pixels that the decoder gives."""
    pixels = np.zeros((803, 901, 3), dtype=np.uint8)
    pixels[200:600, 300:700] = 255
    data = encoded(Image.fromarray(pixels))
    out = torch.empty(1, 400 // scale, 400 // scale, 3, dtype=torch.uint8).permute(0, 3, 1, 2)
    decode_region(data, lambda *_: Box(300, 200, 400, 400), False, out)
    assert (out[:, :, 1:-1, 1:-1] > 250).all()
    decode_region(data, lambda *_: Box(155, 200, 400, 400), False, out)
    bright = (out[0, 0, out.shape[2] // 2] > 127).nonzero().flatten()
    assert bright[0] * scale == pytest.approx(300 - 155, abs=scale)


def damaged_files() -> list[bytes]:
    """300 of them: cut off, flipped bits, wrong headers, nothing, text, dimensions that no memory holds."""
    dice = random.Random(0)
    whole = [encoded(noise(i, (60 + i, 50))) for i in range(8)] + [
        encoded(photo(n).resize((90, 60))) for n in PHOTO_NAMES[:8]
    ]
    files = [
        b"",
        b"\xff\xd8",
        b"\xff\xd8\xff\xd9",
        b"not a picture\n" * 50,
        b"GIF89a",
        b"<html>404</html>",
        bytes(1000),
    ]
    while len(files) < DAMAGED_FILES:
        data = bytearray(dice.choice(whole))
        kind = len(files) % 5
        if kind == 0:
            data = data[: dice.randrange(len(data) - 1)]
        elif kind == 1:
            for _ in range(dice.randrange(1, 20)):
                data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        elif kind == 2:
            for i in range(dice.randrange(2, 40)):
                data[i] = dice.randrange(256)
        elif kind == 3:  # the frame header says so
            at = data.index(b"\xff\xc0")
            data[at + 5 : at + 9] = struct.pack(">HH", dice.choice((65_500, 30_000, 0)), dice.choice((65_500, 40_000)))
        else:
            at = dice.randrange(20, len(data) - 20)
            data[at : at + 10] = dice.randbytes(10)
        files.append(bytes(data))
    return files


def fate(read, data: bytes) -> bool:
    """Whether it can be read; anything else than DAMAGED is an error of ours."""
    try:
        read(data)
    except DAMAGED:
        return False
    return True


def test_300_damaged_files_are_read_or_refused_as_pillow_does():
    region = torch.empty(1, 16, 16, 3, dtype=torch.uint8).permute(0, 3, 1, 2)
    readers = (pillow, decode, lambda data: decode_region(data, lambda w, h: Box(0, 0, w, h), False, region))
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fates = [[fate(read, data) for read in readers] for data in damaged_files()]
    assert all(len(set(one)) == 1 for one in fates)
    refused = sum(not one[0] for one in fates)
    assert 150 < refused < 290, "some flipped bits leave a picture that can be read"
    assert time.perf_counter() - start < 60, "no hang"


def test_damaged_files_are_counted_and_replaced_within_their_class(tmp_path: Path):
    files = damaged_files()
    good = {"train": 30, "val": 30}
    for part, count in good.items():
        for i in range(count):
            path = tmp_path / part / "ab"[i % 2] / f"good{i:03}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(noise(i, (40, 40))))
        for i, data in enumerate(files):
            (tmp_path / part / "ab"[i % 2] / f"bad{i:03}.jpg").write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        unreadable = sum(not fate(pillow, data) for data in files)
        recipe = recipes.load(
            "resnet18",
            ["data.source=folder", f"data.path={tmp_path}", "augment.train_size=16", "run.global_batch_size=30",
             "scaling.num_workers=1", "data.num_loader_workers=2"],
        )  # fmt: skip
        data = open_data(recipe.data)
        trained = list(train_batches(data.train, recipe, rank=0, world_size=1, first_step=0, last_step=11, pin=False))
        config = DataConfig(source="folder", num_loader_workers=2)
        batches = list(
            EvalBatches(
                data.val, EvalTransform(resize=16, crop=16), config, batch_size=32, rank=0, world_size=1, pin=False
            )
        )
    assert len({sample for batch in trained for sample in batch.damaged}) == unreadable
    assert all(len(batch.images) == 30 for batch in trained)
    counted = sum(int((batch.labels >= 0).sum()) for batch in batches)
    assert counted == len(data.val) - unreadable
    assert len({sample for batch in batches for sample in batch.damaged}) == unreadable
