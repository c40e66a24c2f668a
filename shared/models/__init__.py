"""The networks. Importing this package registers those that timm lacks with timm."""

from shared.models.dense import class_maps, has_class_maps
from shared.models.drn import DRN
from shared.models.zoo import (
    ARCHITECTURES,
    check_input,
    check_name,
    create_model,
    describe,
    max_dilation,
    output_stride,
)

__all__ = [
    "ARCHITECTURES",
    "DRN",
    "check_input",
    "check_name",
    "class_maps",
    "create_model",
    "describe",
    "has_class_maps",
    "max_dilation",
    "output_stride",
]
