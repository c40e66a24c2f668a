"""ImageNet's 1000 classes: WordNet ids, their indices, and words a person can read."""

import re
from functools import cache

from timm.data import ImageNetInfo

WORDNET_ID = re.compile(r"n\d{8}")


@cache
def imagenet_wordnet_ids() -> tuple[str, ...]:
    """The 1000 WordNet ids in the order of the class indices."""
    return tuple(ImageNetInfo().label_names())


@cache
def imagenet_index() -> dict[str, int]:
    """WordNet id -> class index, 0 to 999."""
    return {wordnet_id: i for i, wordnet_id in enumerate(imagenet_wordnet_ids())}


def readable(class_name: str) -> str:
    """A class name as a person would write it: WordNet ids become words, underscores become spaces."""
    if WORDNET_ID.fullmatch(class_name) and class_name in imagenet_index():
        return _imagenet_words()[class_name]
    return class_name.replace("_", " ")


@cache
def _imagenet_words() -> dict[str, str]:
    # "tench, Tinca tinca" -> "tench": the first lemma is the common name
    return {k: v.split(",")[0] for k, v in ImageNetInfo().label_descriptions(as_dict=True).items()}
