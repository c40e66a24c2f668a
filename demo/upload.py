"""The picture that a visitor hands in. Nothing of it is trusted."""

from functools import lru_cache
from pathlib import Path
from unittest.mock import patch

import gradio as gr
from gradio.data_classes import ImageData
from PIL import Image

from shared.errors import UserError
from shared.images import MAX_PIXELS, read_picture

MAX_FILE_BYTES = 20_000_000
MAX_ASPECT = 20
"""Longer to shorter side. Networks see a square of the shorter side: scaling a thin strip up to it fills the memory."""


# Gradio writes a .pyi file beside every module that defines a component
with patch("gradio.component_meta.create_or_modify_pyi"):

    class PictureInput(gr.Image):
        """gr.Image whose pictures are read by shared.images: upright RGB, checked before a pixel is decoded."""

        is_template = True

        def preprocess(self, payload: ImageData | None) -> Image.Image | None:
            if payload is None:
                return None
            # a data: URL would slip past the limit on the size of files
            if not payload.path or (payload.url or "").startswith("data:"):
                raise gr.Error("Send the picture as a file.", print_exception=False)
            try:
                return read_upload(Path(payload.path), payload.orig_name or "This file")
            except UserError as error:
                raise gr.Error(str(error), duration=20, print_exception=False) from error


# Gradio names uploaded files after their contents, so a path never changes its meaning.
@lru_cache(maxsize=2)
def read_upload(path: Path, name: str) -> Image.Image:
    """Raises UserError where it is no usable picture; `name` is what messages call it."""
    # JPEGs are decoded in full: a draft would not be what the network saw in validation
    picture = read_picture(path, draft_size=MAX_PIXELS, name=name)
    if max(picture.size) > MAX_ASPECT * min(picture.size):
        raise UserError(
            f"{name} is {picture.width} x {picture.height} pixels: more than {MAX_ASPECT} times as long as wide; "
            "cut out the part of interest first"
        )
    return picture
