from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from tfllv.records import images


@pytest.fixture
def pixels(rng):
    return cv2.resize(rng.integers(0, 255, (4, 5, 3)).astype(np.uint8), (64, 48))


def saved(pixels, kind, mode=None, **options):
    stream = io.BytesIO()
    image = Image.fromarray(pixels)
    if mode == "P":
        image, mode = image.convert("L").convert("RGB").quantize(64, dither=Image.Dither.NONE), None
    (image.convert(mode) if mode else image).save(stream, kind, **options)
    return stream.getvalue()


def test_a_jpeg_is_copied_byte_for_byte(pixels):
    for mode in ("RGB", "L"):
        data = saved(pixels, "JPEG", mode)
        assert images.take(data) == images.Encoded(data, "jpeg", 64, 48)
        assert images.take(data, lossless=True).data == data


def test_a_jpeg_keeps_its_stored_pixels_whatever_its_orientation(pixels):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(pixels, "JPEG", exif=exif)
    assert images.take(data) == images.Encoded(data, "jpeg", 64, 48)


@pytest.mark.parametrize(
    ("kind", "mode"), [("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "P"), ("PNG", "L"), ("BMP", "RGB")]
)
def test_other_types_become_a_jpeg_in_rgb(pixels, kind, mode):
    data = saved(pixels, kind, mode)
    taken = images.take(data)
    assert (taken.kind, taken.width, taken.height) == ("jpeg", 64, 48)
    result = Image.open(io.BytesIO(taken.data))
    assert result.mode == "RGB"
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), float)
    assert np.abs(np.asarray(result, float) - expected).mean() < 4


def test_a_cmyk_jpeg_becomes_rgb(pixels):
    data = saved(pixels, "JPEG", "CMYK")
    taken = images.take(data)
    assert taken.data != data and Image.open(io.BytesIO(taken.data)).mode == "RGB"


def test_sixteen_bits_become_eight(rng):
    deep = rng.integers(0, 65535, (20, 30)).astype(np.uint16)
    data = cv2.imencode(".png", deep)[1].tobytes()
    assert np.abs(images.decode(data)[..., 0].astype(float) - deep / 257).max() <= 1


def test_a_target_stays_lossless(pixels):
    data = saved(pixels, "PNG")
    assert images.take(data, lossless=True) == images.Encoded(data, "png", 64, 48)
    taken = images.take(saved(pixels, "PNG", "RGBA"), lossless=True)
    assert taken.kind == "png"
    np.testing.assert_array_equal(images.decode(taken.data), pixels)
    np.testing.assert_array_equal(images.decode(images.take(saved(pixels, "BMP"), lossless=True).data), pixels)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("lossless", [False, True])
def test_a_picture_that_is_cut_short_or_no_picture_is_a_value_error(pixels, kind, lossless):
    data = saved(pixels, kind)
    for broken in (b"", b"x" * 100, data[:10], data[: len(data) // 2], data[:-20]):
        with pytest.raises(ValueError, match="not a whole picture"):
            images.take(broken, lossless=lossless)


def test_a_bomb_is_refused_from_its_header():
    from tfllv.records import masks

    data = masks.encode_mask(masks.Region(np.ones((1, 1), np.uint8)), 20_000, 20_000)
    with pytest.raises(ValueError, match="not a whole picture"):
        images.take(data)


def test_other_types_of_file_are_refused(pixels):
    with pytest.raises(ValueError, match="not a whole picture"):
        images.take(saved(pixels, "GIF"))


def test_encoding_is_refused_for_unknown_types(pixels):
    np.testing.assert_array_equal(images.decode(images.encode(pixels, "png").data), pixels)
    with pytest.raises(ValueError, match="`kind`"):
        images.encode(pixels, "gif")
