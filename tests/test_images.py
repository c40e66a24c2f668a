"""Odd pictures from strangers: each is read as upright 8-bit RGB or refused with one clear line."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared.errors import UserError
from shared.images import read_picture


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    return buffer.getvalue()


def colour_of(picture: Image.Image) -> tuple[int, ...]:
    return picture.getpixel((picture.width // 2, picture.height // 2))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_every_listed_format_is_read_as_rgb(kind):
    picture = read_picture(encoded(Image.new("RGB", (40, 30), (200, 60, 20)), kind))
    assert (picture.mode, picture.size) == ("RGB", (40, 30))
    assert np.allclose(colour_of(picture), (200, 60, 20), atol=6)  # JPEG and WebP are lossy


def test_a_text_file_named_png_is_refused_with_its_name(tmp_path: Path):
    file = tmp_path / "holiday.png"
    file.write_text("this is no picture")
    with pytest.raises(UserError, match=r"holiday\.png is not a picture of a known format"):
        read_picture(file)


def test_an_svg_is_refused():
    with pytest.raises(UserError, match="known format"):
        read_picture(b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>')


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(UserError, match=r"nowhere\.png does not exist"):
        read_picture(tmp_path / "nowhere.png")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [12_000, 30_000])
def test_a_huge_png_is_refused_before_it_is_decoded(side):
    """The file announces its pixels and holds none: decoding it would be a different error."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    huge = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    with pytest.raises(UserError, match="at most 40 megapixels"):
        read_picture(huge)


def test_a_truncated_jpeg_is_called_damaged():
    whole = encoded(Image.effect_noise((200, 200), 80).convert("RGB"), "JPEG")
    with pytest.raises(UserError, match="damaged"):
        read_picture(whole[: len(whole) // 2])


def test_a_single_pixel_is_a_picture():
    assert read_picture(encoded(Image.new("RGB", (1, 1), "red"), "PNG")).size == (1, 1)


def test_a_strip_is_read_at_its_own_size():
    assert read_picture(encoded(Image.new("RGB", (20_000, 2)), "PNG")).size == (20_000, 2)


def test_exif_rotation_is_applied():
    picture = Image.new("RGB", (40, 20), "blue")
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    assert read_picture(encoded(picture, "JPEG", exif=exif)).size == (20, 40)


def test_an_animation_is_its_first_frame():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    picture = read_picture(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert colour_of(picture) == (255, 0, 0)


def test_a_sixteen_bit_png_is_rescaled_not_clipped():
    ramp = np.linspace(0, 65_535, 256, dtype=np.uint16)[None].repeat(4, axis=0)
    picture = np.asarray(read_picture(encoded(Image.fromarray(ramp), "PNG")))
    assert np.abs(picture[0, :, 0].astype(int) - np.arange(256)).max() <= 1


def test_transparency_is_laid_on_white():
    assert colour_of(read_picture(encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 0)), "PNG"))) == (255, 255, 255)
    half = read_picture(encoded(Image.new("RGBA", (4, 4), (255, 0, 0, 128)), "PNG"))
    assert np.allclose(colour_of(half), (255, 127, 127), atol=1)


def test_a_transparent_palette_is_laid_on_white():
    picture = Image.new("P", (4, 4), 0)
    picture.putpalette([0, 0, 0, 255, 0, 0])
    assert colour_of(read_picture(encoded(picture, "PNG", transparency=0))) == (255, 255, 255)


def test_a_cmyk_jpeg_becomes_rgb():
    picture = read_picture(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG"))
    assert picture.mode == "RGB"
    red, green, blue = colour_of(picture)
    assert red > 200
    assert max(green, blue) < 60


def test_grey_has_three_equal_channels():
    assert colour_of(read_picture(encoded(Image.new("L", (4, 4), 77), "PNG"))) == (77, 77, 77)


def test_large_jpegs_are_decoded_at_a_reduced_size_where_that_is_allowed():
    content = encoded(Image.new("RGB", (4000, 3000), "green"), "JPEG")
    assert read_picture(content, draft_size=1024).size == (2000, 1500)
    assert read_picture(content, draft_size=10_000).size == (4000, 3000)
