"""The formats of an export: how each is written, and how it is run again for the check."""

import logging
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from shared.errors import UserError

Run = Callable[[Tensor], Tensor]

ONNX_LIMIT_BYTES = 2**31
"""Of one file: protobuf's."""


def trace(network: nn.Module, images: Tensor, any_size: bool) -> ExportedProgram:
    """The graph of a network in eval mode.

    Args:
        images: (2, C, H, W): a graph specialises on a batch of 1.
        any_size: height and width are free, as the batch size always is.
    """
    # for inequalities that it cannot simplify it logs pages, and keeps them as they are
    logging.getLogger("torch.fx.experimental.symbolic_shapes").setLevel(logging.ERROR)
    axes = {0: Dim.DYNAMIC} | ({2: Dim.DYNAMIC, 3: Dim.DYNAMIC} if any_size else {})
    return torch.export.export(network, (images,), dynamic_shapes=(axes,))


def write(program: ExportedProgram, path: Path, form: str, returns: str, any_size: bool) -> None:
    """`returns` and `any_size` name the output and the axes, where the format has names."""
    if form == "pt2":
        with path.open("wb") as file:  # given a path, torch insists on its ending
            torch.export.save(program, file)
        return
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    torch.onnx.export(
        program,
        (),
        path,
        dynamo=True,
        input_names=["images"],
        output_names=[returns],
        dynamic_shapes=({0: "batch"} | ({2: "height", 3: "width"} if any_size else {}),),
        external_data=False,
        verbose=False,
    )


def open_run(path: Path, form: str) -> Run:
    """What is in the file, as a function of (B, C, H, W), computed on the CPU by whoever will run it elsewhere."""
    if form == "pt2":
        with path.open("rb") as file:
            return torch.export.load(file).module()
    import onnxruntime

    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 4  # what fails is raised, too
    session = onnxruntime.InferenceSession(path, quiet, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def check_size(network: nn.Module, form: str) -> None:
    """Raises UserError where the weights do not fit into one file."""
    size = sum(tensor.nbytes for tensor in network.state_dict().values())
    if form == "onnx" and size >= ONNX_LIMIT_BYTES:
        raise UserError(f"--format onnx: {size / 1e9:.1f} GB of weights, and one file holds 2.1 GB; use --format pt2")
