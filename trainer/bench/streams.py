"""What is compared: endless streams of pictures, from torchvision's loader, from ours, and from the decoder alone.

A stream yields the number of pictures of every batch that arrives. It begins when it is asked for the first one.
"""

import json
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import simplejpeg
from torch.utils.data import DataLoader, RandomSampler
from torchvision import datasets, transforms

from shared.transforms import IMAGENET_MEAN, IMAGENET_STD
from trainer import recipes
from trainer.config import Recipe
from trainer.data import train_batches
from trainer.data.folder import FolderSamples
from trainer.data.shards import ShardSamples

BATCH_SIZE = 32
"""Per process that trains: torchvision's default, and that of the ImageNet recipes here (256 for 8 GPUs)."""

_ENDLESS = 10**12


def reference_set(root: Path) -> datasets.ImageFolder:
    """The data set of torchvision's published recipe."""
    return datasets.ImageFolder(
        str(root),
        transforms.Compose(
            [
                transforms.RandomResizedCrop(224),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(mean=IMAGENET_MEAN, std=IMAGENET_STD),
            ]
        ),
    )


def reference(root: Path, num_processes: int) -> Iterator[int]:
    """torchvision's published recipe on class folders."""
    dataset = reference_set(root)
    # as with shuffle=True, only that one epoch follows the other without new processes
    sampler = RandomSampler(dataset, num_samples=_ENDLESS // len(dataset) * len(dataset))
    for images, _ in DataLoader(dataset, BATCH_SIZE, sampler=sampler, num_workers=num_processes):
        yield len(images)


def ours(source: str, root: Path, num_processes: int) -> Iterator[int]:
    """The training stream of this project, from class folders ("folder") or a packed set ("shards").

    Args:
        root: holds train/.
    """
    recipe = loading_recipe(source, root, num_processes)
    samples = open_training(recipe)
    for batch in train_batches(samples, recipe, rank=0, world_size=1, first_step=0, last_step=_ENDLESS, pin=False):
        yield len(batch.images)


def loading_recipe(source: str, root: Path, num_processes: int, *overrides: str) -> Recipe:
    """resnet50's: random resized crops of 224 px and flips, as the reference."""
    return recipes.load(
        "resnet50",
        [
            f"data.source={source}",
            f"data.path={json.dumps(str(root), ensure_ascii=False)}",
            f"data.num_loader_workers={num_processes}",
            f"run.global_batch_size={BATCH_SIZE}",
            "scaling.num_workers=1",
            *overrides,
        ],
    )


def open_training(recipe: Recipe) -> FolderSamples | ShardSamples:
    """The training part alone: there is no validation here."""
    if recipe.data.source == "shards":
        return ShardSamples(recipe.data, "train")
    return FolderSamples(Path(recipe.data.path, "train"))


def decoder(root: Path, part: int, num_parts: int) -> Iterator[int]:
    """The decoder and nothing else, in one process: pictures (every `num_parts`-th) lie in memory, and each is decoded
    as a whole.
    """
    pictures = [path.read_bytes() for path in sorted(root.rglob("*.jpg"))[part::num_parts]]
    for data in cycle(pictures):
        simplejpeg.decode_jpeg(data)
        yield 1
