"""Class maps: the classifier applied at every position, before any pooling."""

from typing import Any

import torch.nn.functional as F
from timm.layers import ClassifierHead
from torch import Tensor, nn


def has_class_maps(model: nn.Module) -> bool:
    """Whether the network's head is global average pooling and one linear layer or 1x1 convolution."""
    network: Any = model  # timm's interface is a convention, not a type
    classifier = network.get_classifier()
    if isinstance(classifier, nn.Conv2d):
        return classifier.kernel_size == (1, 1)
    channels = network.feature_info[-1]["num_chs"] if getattr(network, "feature_info", None) else None
    # transformers pool tokens, ConvNeXt normalises between pooling and classifier
    pools = isinstance(getattr(network, "global_pool", None), nn.Module)
    pools |= isinstance(getattr(network, "head", None), ClassifierHead)
    channels_first = getattr(network, "output_fmt", "NCHW") == "NCHW"
    return isinstance(classifier, nn.Linear) and classifier.in_features == channels and pools and channels_first


def class_maps(model: nn.Module, images: Tensor) -> Tensor:
    """The logit of every class at every cell of the last feature map.

    Average pooling and a linear classifier commute, so the mean of a map over its cells is the class's logit.

    Args:
        model: a network that has_class_maps: ResNets, DRNs, GoogLeNet, Inception v3, the networks for CIFAR.
        images: (B, C, H, W), normalised.

    Returns:
        (B, classes, H / output_stride, W / output_stride).

    Raises:
        ValueError: the network has no class maps.
    """
    if not has_class_maps(model):
        raise ValueError(f"{type(model).__name__} has no class maps: its head is not pooling and one linear layer")
    network: Any = model
    features = network.forward_features(images)
    classifier = network.get_classifier()
    if isinstance(classifier, nn.Linear):
        return F.conv2d(features, classifier.weight[:, :, None, None], classifier.bias)
    return classifier(features)
