"""Reading pictures that nobody vouches for: uploads of the demo, files given to `evaluate` and `figures`.

Every check happens on the header, before a pixel is decoded: a 17 kB PNG can hold 144 megapixels.
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from shared.errors import UserError

MAX_PIXELS = 40_000_000
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")


def read_picture(source: Path | bytes, *, draft_size: int = 1024, name: str | None = None) -> Image.Image:
    """The picture as 8-bit RGB, upright.

    EXIF rotation is applied, 16-bit values are rescaled, transparency is laid on white, CMYK and palettes are
    converted, and of an animation the first frame is taken.

    Args:
        source: a file, or its contents.
        draft_size: JPEGs are decoded at a reduced size that is still at least this many pixels a side.
        name: how messages call the picture; by default the file's name.

    Raises:
        UserError: not a picture of a known format, larger than MAX_PIXELS, or damaged.
    """
    called = name or (source.name if isinstance(source, Path) else "this file")
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise UserError(
                    f"{called} has {width} x {height} pixels; at most {MAX_PIXELS // 1_000_000} megapixels are read: "
                    "scale it down first"
                )
            picture.draft("RGB", (draft_size, draft_size))
            picture.load()
            return _on_white(_eight_bit(ImageOps.exif_transpose(picture)))
    except UserError:
        raise
    except Image.DecompressionBombError as error:  # Pillow's own bound, which is checked while the header is read
        raise UserError(
            f"{called} has too many pixels; at most {MAX_PIXELS // 1_000_000} megapixels are read: scale it down first"
        ) from error
    except Image.UnidentifiedImageError as error:
        raise UserError(f"{called} is not a picture of a known format; use {', '.join(FORMATS)}") from error
    except FileNotFoundError as error:
        raise UserError(f"{called} does not exist") from error
    # Pillow's decoders raise all of these on damaged files.
    except (OSError, SyntaxError, ValueError, EOFError, IndexError) as error:
        raise UserError(f"{called} is damaged and cannot be decoded ({error})") from error


def _eight_bit(picture: Image.Image) -> Image.Image:
    if picture.mode not in ("I", "F") and not picture.mode.startswith("I;16"):
        return picture
    values = np.asarray(picture, dtype=np.float64)
    if picture.mode == "F":  # no fixed range: stretch
        low, high = np.nanmin(values), np.nanmax(values)
        scaled = (np.nan_to_num(values, nan=low) - low) / max(high - low, 1e-12) * 255
    else:
        scaled = values / (257 if values.max(initial=0) > 255 else 1)
    return Image.fromarray(np.clip(scaled, 0, 255).astype(np.uint8))


def _on_white(picture: Image.Image) -> Image.Image:
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return picture.convert("RGB")
