"""Class maps: the classifier applied at every position, before any pooling."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


def class_maps(model: nn.Module, images: Tensor) -> Tensor:
    """The logit of every class at every cell of the last feature map.

    Average pooling and a linear classifier commute, so the mean of a map over its cells is the class's logit.

    Args:
        model: any network of timm's interface whose head is global average pooling and one linear layer or 1x1
            convolution (ResNet and DRN are).
        images: (B, 3, H, W), normalised.

    Returns:
        (B, classes, H / output_stride, W / output_stride).

    Raises:
        ValueError: the network has no such head.
    """
    network: Any = model  # timm's interface is a convention, not a type
    features = network.forward_features(images)
    classifier = network.get_classifier()
    if isinstance(classifier, nn.Linear) and features.ndim == 4 and features.shape[1] == classifier.in_features:
        return F.conv2d(features, classifier.weight[:, :, None, None], classifier.bias)
    if isinstance(classifier, nn.Conv2d) and classifier.kernel_size == (1, 1):
        return classifier(features)
    raise ValueError(f"{type(model).__name__} has no class maps: its head is not pooling and one linear layer")
