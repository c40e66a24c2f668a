"""The networks. Importing this package registers DRN-A, B, C and D with timm."""

from shared.models.dense import class_maps
from shared.models.drn import DRN
from shared.models.zoo import ARCHITECTURES, create_model, describe, max_dilation, output_stride

__all__ = ["ARCHITECTURES", "DRN", "class_maps", "create_model", "describe", "max_dilation", "output_stride"]
