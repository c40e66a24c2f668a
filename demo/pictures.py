"""Arrays to PNG: lossless, nearest neighbour, one perceptually uniform colour map, a colour bar with numbers."""

import base64
import io
from functools import cache

import numpy as np
from matplotlib import colormaps
from PIL import Image, ImageDraw, ImageFont

SIDE = 560
"""Pixels along the longer side: twice what the page shows, so that dense screens stay sharp."""

_BAR_HEIGHT = 40
_GAP = 8
_FONT_SIZE = 24


def heat_map(values: np.ndarray, *, low: float, high: float, logarithmic: bool = False) -> Image.Image:
    """(H, W) -> an inferno picture of about SIDE pixels, with the colour bar from `low` to `high` below.

    Every cell is a square of the same whole number of pixels. Values outside the limits take the colour at the end.
    """
    if logarithmic:
        cells = _coloured(np.log10(np.maximum(values, low)), np.log10(low), np.log10(high))
        middle = float(np.sqrt(low * high))
    else:
        cells = _coloured(values, low, high)
        middle = (low + high) / 2
    factor = max(1, SIDE // max(values.shape))
    enlarged = cells.resize((cells.width * factor, cells.height * factor), Image.Resampling.NEAREST)
    picture = Image.new("RGBA", (enlarged.width, enlarged.height + _GAP + _BAR_HEIGHT))
    picture.paste(enlarged)
    picture.paste(_colour_bar(enlarged.width, (low, middle, high)), (0, enlarged.height + _GAP))
    return picture


def png_data_url(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _coloured(values: np.ndarray, low: float, high: float) -> Image.Image:
    span = high - low
    scaled = (values.astype(np.float64) - low) / span if span > 0 else np.zeros(values.shape)
    return Image.fromarray(_lookup_table()[np.clip(np.nan_to_num(scaled) * 255, 0, 255).round().astype(np.uint8)])


def _colour_bar(width: int, numbers: tuple[float, float, float]) -> Image.Image:
    """The numbers stand on the bar itself, so that they read the same on a light and on a dark page."""
    bar = _coloured(np.broadcast_to(np.linspace(0, 1, width), (_BAR_HEIGHT, width)), 0, 1)
    draw = ImageDraw.Draw(bar)
    font = ImageFont.load_default(_FONT_SIZE)
    places = ((12, "lm", "white"), (width // 2, "mm", "white"), (width - 12, "rm", "black"))
    for value, (x, anchor, colour) in zip(numbers, places, strict=True):
        draw.text((x, _BAR_HEIGHT // 2), f"{value:.3g}", fill=colour, font=font, anchor=anchor)
    return bar


@cache
def _lookup_table() -> np.ndarray:
    """(256, 3), uint8."""
    return (colormaps["inferno"](np.arange(256))[:, :3] * 255).round().astype(np.uint8)
