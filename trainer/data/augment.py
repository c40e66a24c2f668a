"""Training augmentation of one picture, drawn from its own seed."""

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from trainer.config import AugmentConfig


class TrainTransform:
    """(picture, seed) -> (3, train_size, train_size), uint8. The same seed always gives the same pixels."""

    def __init__(self, config: AugmentConfig) -> None:
        size = config.train_size
        interpolation = v2.InterpolationMode(config.interpolation)
        steps: list[torch.nn.Module] = []
        if config.pad:
            steps += [v2.Resize(size, interpolation), v2.RandomCrop(size, padding=config.pad, pad_if_needed=True)]
        else:
            steps += [v2.RandomResizedCrop(size, (config.min_scale, config.max_scale), interpolation=interpolation)]
        if config.flip:
            steps += [v2.RandomHorizontalFlip()]
        if config.color_jitter:
            steps += [v2.ColorJitter(config.color_jitter, config.color_jitter, config.color_jitter)]
        if config.grey:
            steps += [v2.RandomGrayscale(config.grey)]
        # PIL's enhancers are several times faster than torch's on one small picture, so the tensor comes last
        self._transform = v2.Compose([*steps, v2.PILToTensor()])

    def __call__(self, picture: Image.Image, seed: int) -> Tensor:
        # torchvision draws from torch's global generator: borrow it, and leave it as it was for dropout
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return self._transform(picture)
