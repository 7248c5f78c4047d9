"""PNG files: every decoder reads them back without loss, with profile, Exif block and alpha."""

from __future__ import annotations

import io
import pathlib
import struct
import zlib

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageCms

from tfllv.inputs import image_files, png


def read_chunks(data):
    position, found = 8, []
    while position < len(data):
        size, name = struct.unpack_from(">I4s", data, position)
        content = data[position + 8 : position + 8 + size]
        assert zlib.crc32(name + content) == struct.unpack_from(">I", data, position + 8 + size)[0]
        found.append((name, content))
        position += 12 + size
    return found


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (33, 47), (700, 600)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("alpha", [False, True])
def test_pixels_come_back_without_loss(size, dtype, alpha, rng):
    pixels = rng.integers(0, np.iinfo(dtype).max, (*size, 3), endpoint=True).astype(dtype)
    mask = rng.integers(1, np.iinfo(dtype).max, size, endpoint=True).astype(dtype) if alpha else None
    data = png.encode(pixels, alpha=mask)
    read = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert read.dtype == dtype
    assert np.array_equal(read[..., 2::-1], pixels)
    expected = pixels if mask is None else np.concatenate([pixels, mask[..., None]], axis=2)
    assert np.array_equal(tf.io.decode_png(data, dtype=tf.as_dtype(dtype)), expected)
    if dtype == np.uint8:
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), expected)
    picture = image_files.read_image(data)
    assert np.array_equal(picture.pixels, pixels)
    assert (picture.alpha is None) == (mask is None)


def test_every_chunk_has_its_checksum_and_place(rng):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = b"MM\0*\0\0\0\x08\0\0\0\0\0\0"
    pixels = rng.integers(0, 255, (900, 800, 3)).astype(np.uint8)
    chunks = read_chunks(png.encode(pixels, exif=exif, icc_profile=profile))
    names = [name for name, _ in chunks]
    assert names[:3] == [b"IHDR", b"iCCP", b"eXIf"]
    assert set(names[3:-1]) == {b"IDAT"}
    assert names[-1] == b"IEND"
    assert chunks[2][1] == exif
    assert zlib.decompress(chunks[1][1].split(b"\0", 1)[1][1:]) == profile
    data = b"".join(content for name, content in chunks if name == b"IDAT")
    assert len(zlib.decompress(data)) == 900 * (1 + 3 * 800)


def test_photographs_are_at_most_a_tenth_larger_than_opencv_s():
    for path in sorted((pathlib.Path(image_files.__file__).parents[1] / "samples").glob("*.jpg")):
        pixels = image_files.read_image(path).pixels
        assert len(png.encode(pixels)) < 1.1 * len(cv2.imencode(".png", pixels[..., ::-1])[1]), path.name


@pytest.mark.parametrize("damage", ["short", "signature", "length"])
def test_what_is_no_profile_is_left_out(damage):
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    if damage == "signature":
        profile[36:40] = b"none"
    profile = bytes(profile[:100] if damage == "short" else profile[:-1] if damage == "length" else profile)
    data = png.encode(np.zeros((2, 2, 3), np.uint8), icc_profile=profile)
    assert b"iCCP" not in [name for name, _ in read_chunks(data)]
