"""What happens to a whole batch on its device: colours, erasing, mixing, and the same on any number of workers."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import beta, kstest
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from shared.photos import PHOTO_NAMES, photo
from trainer import recipes
from trainer.augment import ERASED_SCALE, BatchAugmentation
from trainer.data.loader import Batch
from trainer.data.sampling import COLOUR, uniforms

EVERYTHING = ("augment.color_jitter=0.4", "augment.grey=0.2", "augment.erasing=0.5", "augment.mixup=0.2",
              "augment.cutmix=1.0")  # fmt: skip


def augmentation(*overrides: str, classes: int = 10) -> BatchAugmentation:
    return BatchAugmentation(recipes.load("resnet18", [*overrides, "scaling.num_workers=1"]), num_classes=classes)


def batch(images: Tensor, first: int = 0) -> Batch:
    labels = torch.arange(first, first + len(images)) % 10
    return Batch(images=images, labels=labels, indices=range(first, first + len(images)), damaged=[])


def augmented(augment: BatchAugmentation, images: Tensor, first: int = 0) -> tuple[Tensor, Tensor]:
    return augment(batch(images, first), torch.device("cpu"), torch.channels_last)


def plain(inputs: Tensor) -> Tensor:
    """Normalised pictures -> 0 to 1."""
    transform = recipes.load("resnet18").augment.eval_transform
    return inputs * torch.tensor(transform.std).view(3, 1, 1) + torch.tensor(transform.mean).view(3, 1, 1)


def photos(count: int, size: int = 32) -> Tensor:
    pictures = [photo(PHOTO_NAMES[i % len(PHOTO_NAMES)]).resize((size, size)) for i in range(count)]
    return torch.stack([F.pil_to_tensor(picture) for picture in pictures])


def test_without_augmentation_pictures_are_normalised_and_no_more():
    images = photos(4)
    inputs, labels = augmented(augmentation(), images)
    assert torch.equal(inputs, recipes.load("resnet18").augment.eval_transform.normalize(images))
    assert labels.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("world_size", [2, 3, 5, 15])
def test_a_picture_is_augmented_alike_on_any_number_of_workers(world_size):
    augment, images = augmentation(*EVERYTHING), photos(60)
    whole = augmented(augment, images, first=120)
    share = 60 // world_size
    parts = [augmented(augment, images[r * share : (r + 1) * share], first=120 + r * share) for r in range(world_size)]
    for one, many in zip(whole, zip(*parts, strict=True), strict=True):
        torch.testing.assert_close(one, torch.cat(many), rtol=0, atol=1e-5)  # means are summed in another order


def test_another_update_is_augmented_differently():
    augment, images = augmentation(*EVERYTHING), photos(6)
    assert not torch.equal(augmented(augment, images, first=0)[0], augmented(augment, images, first=6)[0])


def test_colours_change_as_with_torchvision_in_every_order():
    augment, images = augmentation("augment.color_jitter=0.4"), photos(60)
    mine = plain(augmented(augment, images)[0])
    numbers = uniforms(0, np.arange(60), COLOUR, 5)
    orders = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    seen = set()
    for picture, result, of in zip(images, mine, numbers.tolist(), strict=True):
        expected = picture.float() / 255
        order = orders[int(of[3] * 6)]
        seen.add(order)
        for which in order:
            adjust = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation)[which]
            expected = adjust(expected, 0.6 + 0.8 * of[which])
        torch.testing.assert_close(result, expected, rtol=0, atol=2e-4)  # the grey weights sum to 0.9999
    assert len(seen) == 6


def test_as_many_pictures_turn_grey_as_asked_for():
    augment, images = augmentation("augment.grey=0.2"), photos(16, size=8).repeat(25, 1, 1, 1)
    result = plain(augmented(augment, images)[0])
    was_grey = (images[:, 0] == images[:, 1]).flatten(1).all(1)
    is_grey = (result.amax(1) - result.amin(1)).flatten(1).amax(1) < 1e-4
    share = is_grey[~was_grey].float().mean().item()
    assert share == pytest.approx(0.2, abs=4 * math.sqrt(0.16 / int((~was_grey).sum())))


def test_grey_networks_are_augmented_too():
    recipe = recipes.load("lenet5", ["augment.erasing=1", "augment.mixup=0.2", "augment.color_jitter=0.4"])
    images = torch.randint(0, 256, (6, 1, 28, 28), dtype=torch.uint8)
    inputs, shares = augmented(BatchAugmentation(recipe, num_classes=10), images)
    assert inputs.shape == images.shape
    assert inputs.isfinite().all()
    assert shares.shape == (6, 10)


def test_a_rectangle_of_mean_colour_is_wiped_out_as_often_as_asked_for():
    images = torch.full((400, 3, 32, 32), 255, dtype=torch.uint8)
    inputs = augmented(augmentation("augment.erasing=0.25"), images)[0]
    erased = (inputs == 0).all(dim=1)  # (B, H, W)
    areas = erased.flatten(1).float().mean(dim=1)
    touched = areas[areas > 0]
    assert len(touched) / 400 == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / 400))
    assert ERASED_SCALE[0] * 0.8 < touched.min() < touched.max() < ERASED_SCALE[1] * 1.05  # whole pixels
    for mask in erased[areas > 0]:
        rows, columns = mask.any(1).sum(), mask.any(0).sum()
        assert rows * columns == mask.sum(), "one rectangle"


def test_mixup_mixes_neighbours_by_the_shares_of_their_labels():
    images = torch.arange(20, dtype=torch.uint8).view(20, 1, 1, 1).expand(20, 3, 8, 8) * 10
    augment = augmentation("augment.mixup=0.8")
    inputs, shares = augmented(augment, images)
    assert shares.sum(dim=1).tolist() == pytest.approx([1.0] * 20)
    for i in range(20):
        assert set(shares[i].nonzero().flatten().tolist()) == {i % 10, (i ^ 1) % 10}
        kept = shares[i, i % 10]
        expected = (kept * images[i].float() + (1 - kept) * images[i ^ 1].float()) / 255
        torch.testing.assert_close(plain(inputs)[i], expected, rtol=0, atol=1e-5)
    assert torch.equal(shares[::2].amax(1), shares[1::2].amax(1)), "a pair shares its ratio"


def test_cutmix_takes_one_rectangle_from_the_neighbour():
    images = torch.arange(20, dtype=torch.uint8).view(20, 1, 1, 1).expand(20, 3, 32, 32) * 10
    augment = augmentation("augment.cutmix=1.0")
    inputs, shares = augmented(augment, images)
    pixels = (plain(inputs)[:, 0] * 25.5).round()
    for i in range(20):
        own = pixels[i] == i
        assert (own | (pixels[i] == (i ^ 1))).all()
        assert own.float().mean() == pytest.approx(shares[i, i % 10].item(), abs=1e-6)
        other = ~own
        assert other.any(1).sum() * other.any(0).sum() == other.sum(), "one rectangle"


def test_the_ratio_of_mixup_follows_its_distribution():
    images = torch.zeros(2000, 3, 1, 1, dtype=torch.uint8)
    for alpha in (0.2, 1.0):
        shares = augmented(augmentation(f"augment.mixup={alpha}"), images)[1]
        own = shares[torch.arange(0, 2000, 2), torch.arange(0, 2000, 2) % 10]
        assert kstest(own.double().numpy(), beta(alpha, alpha).cdf).pvalue > 0.001


def test_with_both_each_pair_draws_mixup_or_cutmix():
    images = torch.arange(200, dtype=torch.uint8).view(200, 1, 1, 1).expand(200, 3, 32, 32)
    augment = augmentation("augment.mixup=1.0", "augment.cutmix=1.0")
    pixels = (plain(augmented(augment, images)[0])[:, 0] * 255).double()
    flat = pixels.flatten(1).std(dim=1) < 1e-3  # a mean of two even pictures, not parts of both
    assert 70 < flat.sum() < 150
    assert torch.equal(flat[::2], flat[1::2])
