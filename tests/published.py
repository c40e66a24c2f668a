"""State dicts as the world keeps them: the DRN authors' layout and pytorchcv's mirror of it."""

import re

import torch

from shared.models import create_model


def trained_like(architecture: str, **options) -> torch.nn.Module:
    """A network whose weights and statistics all differ from fresh ones."""
    torch.manual_seed(0)
    model = create_model(architecture, **options)
    for name, tensor in model.state_dict().items():
        if name.endswith("running_mean"):
            tensor.normal_()
        elif tensor.ndim == 1 and tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
    return model.eval()


def batch_norm(name: str) -> list[str]:
    return [f"{name}.{part}" for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")]


def official_names(letter: str, depths: tuple[int, ...], convolutions: int) -> list[str]:
    """The keys of the authors' files in their order, from the description of the architectures."""
    stem = ["layer0.0", "layer0.1"] if letter == "D" else ["conv1", "bn1"]
    names = [f"{stem[0]}.weight", *batch_norm(stem[1])]
    for level, depth in enumerate((1, 1, *depths, 1, 1), start=1):
        if letter == "D" and level in (1, 2, 7, 8):
            names += [f"layer{level}.0.weight", *batch_norm(f"layer{level}.1")]
            continue
        for block in range(depth):
            inside = convolutions if 3 <= level <= 6 else 2
            for i in range(1, inside + 1):
                names += [f"layer{level}.{block}.conv{i}.weight", *batch_norm(f"layer{level}.{block}.bn{i}")]
            dead = level == 7 and convolutions == 3  # C-58's, which is never used
            changes = level in (2, 3, 4, 5, 6) or dead
            if block == 0 and changes:
                shortcut = f"layer{level}.0.downsample"
                names += [f"{shortcut}.0.weight", *batch_norm(f"{shortcut}.1")]
    return [*names, "fc.weight", "fc.bias"]


ARCHITECTURES = {
    "drn_c_26": official_names("C", (2, 2, 2, 2), 2),
    "drn_c_58": official_names("C", (3, 4, 6, 3), 3),
    "drn_d_22": official_names("D", (2, 2, 2, 2), 2),
    "drn_d_54": official_names("D", (3, 4, 6, 3), 3),
}


def official_state(model: torch.nn.Module, architecture: str, *, counters: bool) -> dict[str, torch.Tensor]:
    state = model.state_dict()
    names = [name for name in ARCHITECTURES[architecture] if counters or not name.endswith("num_batches_tracked")]
    dead = torch.ones(3)
    return {name: dead if name.startswith("layer7.0.downsample") else state[name] for name in names}


def mirror_name(name: str) -> str:
    """pytorchcv's name of an official one."""
    levels = {"1": "stage1.unit", "2": "stage2.unit", "3": "stage3.unit"}
    name = re.sub(r"^(conv1|layer0\.0)\.", "features.init_block.conv.", name)
    name = re.sub(r"^(bn1|layer0\.1)\.", "features.init_block.bn.", name)
    name = re.sub(r"^layer([1278])\.([01])\.(?=[a-z_]+$)", r"layer\1.0.body.\2.", name)
    name = re.sub(r"\.(?:downsample)\.([01])\.", r".identity_conv.\1.", name)
    name = re.sub(r"\.(conv)(\d)\.", r".body.conv\2.0.", name)
    name = re.sub(r"\.bn(\d)\.", r".body.conv\1.1.", name)
    name = re.sub(r"\.0\.(?=[a-z_]+$)", ".conv.", name)
    name = re.sub(r"\.1\.(?=[a-z_]+$)", ".bn.", name)
    name = re.sub(
        r"^layer(\d)\.(\d+)",
        lambda m: f"features.{levels.get(m[1], f'stage4.level{m[1]}_unit')}{int(m[2]) + 1}",
        name,
    )
    return name.replace("fc.", "output.final_conv.")


def mirror_state(model: torch.nn.Module, architecture: str) -> dict[str, torch.Tensor]:
    official = official_state(model, architecture, counters=False)
    return {mirror_name(name): t for name, t in official.items() if not name.startswith("layer7.0.downsample")}


def assert_same(one: torch.nn.Module, other: torch.nn.Module) -> None:
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert (one(images) - other(images)).abs().max() == 0
