"""Training crops: where they lie, what their pixels are, and how closely both follow torchvision's published recipe."""

import io
import random

import numpy as np
import pytest
import torch
from noise import encoded
from PIL import Image
from scipy.stats import ks_2samp
from torch.nn.functional import avg_pool2d
from torchvision import transforms as v1
from torchvision.transforms import functional as F1

from shared.photos import PHOTO_NAMES, photo
from trainer import recipes
from trainer.data.augment import NUMBERS, TrainTransform
from trainer.data.boxes import BOX_NUMBERS, CROP_RATIO, crop_box
from trainer.data.sampling import GEOMETRY, uniforms

SCALE = (0.08, 1.0)


def augment(*overrides: str):
    return recipes.load("resnet18", list(overrides)).augment


def numbers(count: int, seed: int = 0) -> list[list[float]]:
    return uniforms(seed, np.arange(count), GEOMETRY, NUMBERS).tolist()


def crop(transform: TrainTransform, stored: bytes | Image.Image, of: list[float]) -> torch.Tensor:
    """(C, H, W)."""
    out = torch.empty(1, transform.size, transform.size, len(transform.mode), dtype=torch.uint8).permute(0, 3, 1, 2)
    transform(stored, of, out)
    return out[0]


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (500, 120), (60, 700)])
def test_crops_are_distributed_as_torchvisions(size):
    """Area, aspect ratio and place; the last two sizes rarely fit a crop, and often take the one in the centre."""
    width, height = size
    ours = np.array([crop_box(width, height, of[:BOX_NUMBERS], SCALE) for of in numbers(2000)], dtype=float)
    torch.manual_seed(0)
    blank = torch.empty(3, height, width)
    theirs = np.array([v1.RandomResizedCrop.get_params(blank, SCALE, CROP_RATIO) for _ in range(2000)], dtype=float)
    theirs = theirs[:, [1, 0, 3, 2]]  # top, left, height, width -> as ours
    for what in (lambda b: b[:, 2] * b[:, 3], lambda b: b[:, 2] / b[:, 3], lambda b: b[:, 0], lambda b: b[:, 1]):
        assert (
            ks_2samp(what(ours), what(theirs), method="asymp").pvalue > 0.001
        )  # all numbers are fixed: this holds, or it does not


def test_exact_crops_are_torchvisions_to_the_last_bit():
    transform = TrainTransform(augment("augment.flip=false"), exact=True)
    for i, of in enumerate(numbers(20)):
        picture = photo(PHOTO_NAMES[i % len(PHOTO_NAMES)])
        left, top, width, height = crop_box(*picture.size, of[:BOX_NUMBERS], SCALE)
        expected = F1.pil_to_tensor(F1.resized_crop(picture, top, left, height, width, [224, 224]))
        assert torch.equal(crop(transform, picture, of), expected)
        jpeg = encoded(picture)
        assert torch.equal(crop(transform, jpeg, of), crop(transform, Image.open(io.BytesIO(jpeg)), of))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_fast_crops_differ_from_exact_ones_by_rounding(interpolation):
    """Where no DCT is scaled, the same pixels go through another implementation of the same filter."""
    config = augment("augment.train_size=96", "augment.max_scale=0.1", f"augment.interpolation={interpolation}")
    fast, exact = TrainTransform(config), TrainTransform(config, exact=True)
    for i, of in enumerate(numbers(20)):
        jpeg = encoded(photo(PHOTO_NAMES[i % len(PHOTO_NAMES)]).resize((500, 375)), quality=92)
        difference = (crop(fast, jpeg, of).int() - crop(exact, jpeg, of).int()).abs()
        assert difference.max() <= 1


def test_scaled_crops_keep_the_statistics_of_exact_ones():
    """At half the resolution the DCT averages 2 x 2 pixels before the filter does: crops become a trace softer.

    Tolerances: the mean of a channel within a quarter of a grey level, its standard deviation, which sharpness moves,
    within 2 %, of 200 crops of photographs of 1000 px, all of which are read at half or a quarter of it.
    """
    config = augment("augment.train_size=112", "augment.min_scale=0.2")
    fast, exact = TrainTransform(config), TrainTransform(config, exact=True)
    jpegs = [encoded(photo(name).resize((1000, 1000)), quality=90) for name in PHOTO_NAMES]
    pairs = [
        (crop(fast, jpegs[i % len(jpegs)], of).float(), crop(exact, jpegs[i % len(jpegs)], of).float())
        for i, of in enumerate(numbers(200))
    ]
    ours, theirs = (torch.stack(side) for side in zip(*pairs, strict=True))
    assert not torch.equal(ours, theirs)
    assert (ours.mean((0, 2, 3)) - theirs.mean((0, 2, 3))).abs().max() < 0.25
    assert (ours.std((0, 2, 3)) / theirs.std((0, 2, 3)) - 1).abs().max() < 0.02
    assert (ours.std((2, 3)) / theirs.std((2, 3)) - 1).mean().abs() < 0.02
    # a crop may begin half a pixel of the smaller picture earlier or later, which is one or two of the original
    assert (ours - theirs).abs().mean() < 3


def test_half_of_the_crops_are_flipped():
    plain = TrainTransform(augment("augment.flip=false", "augment.train_size=32"))
    flipping = TrainTransform(augment("augment.train_size=32"))
    jpeg = encoded(photo(PHOTO_NAMES[0]).resize((60, 60)))
    flipped = 0
    for of in numbers(400):
        before, after = crop(plain, jpeg, of), crop(flipping, jpeg, of)
        assert torch.equal(after, before.flip(2)) or torch.equal(after, before)
        flipped += torch.equal(after, before.flip(2))
    assert 160 < flipped < 240  # four standard deviations


def test_padded_crops_are_those_of_cifar():
    """Every shift by up to 4 pixels, each as often as the others, black where the picture ends."""
    config = augment("augment.crop=padded", "augment.pad=4", "augment.train_size=32", "augment.flip=false")
    transform = TrainTransform(config)
    picture = photo(PHOTO_NAMES[1]).resize((32, 32))
    padded = F1.pad(F1.pil_to_tensor(picture), [4])
    shifts = {(x, y): padded[:, y : y + 32, x : x + 32].numpy().tobytes() for x in range(9) for y in range(9)}
    seen = [crop(transform, picture, of).contiguous().numpy().tobytes() for of in numbers(2000)]
    counts = [seen.count(shifted) for shifted in shifts.values()]
    assert sum(counts) == 2000
    assert 5 <= min(counts) <= max(counts) <= 50  # 24.7 on average, standard deviation 4.9


def test_a_centre_crop_is_the_crop_of_evaluation():
    config = augment("augment.crop=centre", "augment.flip=false", "augment.eval_resize=224")
    for stored in (photo(PHOTO_NAMES[3]), encoded(photo(PHOTO_NAMES[3]))):
        picture = Image.open(io.BytesIO(stored)) if isinstance(stored, bytes) else stored
        assert torch.equal(crop(TrainTransform(config), stored, numbers(1)[0]), config.eval_transform.pixels(picture))


@pytest.mark.parametrize("kind", ["resized", "padded", "centre"])
def test_a_smaller_crop_shows_the_same_part_of_the_picture(kind):
    """Where 2 x 2 pixels become one, padding is half as wide.

    Tolerance: a crop may begin one pixel of 112 earlier or later, which changes squares of 8 x 8 px by up to 3.3 grey
    levels; without padding in proportion it would be 7 to 45.
    """
    config = augment("augment.train_size=224", f"augment.crop={kind}", "augment.pad=28")
    whole, half = TrainTransform(config, exact=True), TrainTransform(config, size=112, exact=True)
    for i, of in enumerate(numbers(16)):
        picture = photo(PHOTO_NAMES[i])
        large, small = (crop(transform, picture, of).float() for transform in (whole, half))
        assert (avg_pool2d(large, 16) - avg_pool2d(small, 8)).abs().mean() < 4


def test_crops_grow_along_a_line_in_steps():
    """Four shares of the training in which the size is at its start, between, between, and at its end."""
    grows = ["augment.start_size=128", "augment.grow_from=0.2", "augment.grow_until=0.8"]
    config = augment(*grows)
    assert config.train_sizes == (128, 160, 192, 224)
    shares = (0, 0.2, 0.29, 0.31, 0.49, 0.51, 0.69, 0.71, 0.8, 1, 1.5)
    sizes = [128, 128, 128, 160, 160, 192, 192, 224, 224, 224, 224]
    assert [config.train_size_at(share) for share in shares] == sizes
    assert {augment().train_size_at(share) for share in shares} == {224}


GREY = ["augment.mean=[0.5]", "augment.std=[0.5]"]


@pytest.mark.parametrize("channels", [[], GREY], ids=["colour", "grey"])
@pytest.mark.parametrize("policy", ["rand-m6-mstd0.5-inc1", "original-mstd0.5", "trivial"])
def test_automatic_augmentation_depends_on_its_numbers_alone(policy, channels):
    transform = TrainTransform(augment(f"augment.auto_augment={policy}", "augment.crop=centre", *channels))
    picture = photo(PHOTO_NAMES[0])
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    of = numbers(8)
    first = [crop(transform, picture, numbers) for numbers in of]
    assert all(torch.equal(crop(transform, picture, n), pixels) for n, pixels in zip(of, first, strict=True))
    assert len({pixels.contiguous().numpy().tobytes() for pixels in first}) > 4
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    assert before[:2] == after[:2], "the generators of the program are left alone"
    assert torch.equal(before[2], after[2])
