from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tfllv.serve import pictures
from tfllv.serve.limits import Limits


def refusal_of(toy, function, *args):
    with pytest.raises(toy.RefusalError) as caught:
        function(*args)
    return caught.value


@pytest.mark.parametrize(
    ("data", "status", "error"),
    [
        (b"", 400, "empty_file"),
        (b"PK\x03\x04 a zip", 415, "unknown_type"),
        (b"<svg onload=alert(1)>", 415, "unknown_type"),
        (b"GIF89a", 415, "unknown_type"),
        (b"\x89PNG\r\n\x1a\n", 422, "broken_image"),
        (b"\xff\xd8\xff\xd9", 422, "broken_image"),
        (b"BM", 422, "broken_image"),
    ],
)
def test_what_cannot_be_a_picture_is_refused_by_kind(data, status, error, toy):
    refusal = refusal_of(toy, pictures.check_upload, data, Limits())
    assert (refusal.status, refusal.error) == (status, error)
    assert "\n" not in refusal.detail


def test_bytes_and_pixels_are_limited(toy):
    data = toy.png()
    assert refusal_of(toy, pictures.check_upload, data, Limits(max_bytes=len(data) - 1)).error == "too_large"
    assert refusal_of(toy, pictures.check_upload, data, Limits(max_pixels=24 * 32 - 1)).error == "too_many_pixels"
    assert pictures.check_upload(data, Limits(max_bytes=len(data), max_pixels=24 * 32)).width == 32


def test_a_bomb_is_refused_by_its_header(toy):
    rows = zlib.compress(b"\0" * 20001 * 2000, 9) * 10
    head = struct.pack(">IIBBBBB", 20000, 20000, 8, 0, 0, 0, 0)
    chunks = b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in ((b"IHDR", head), (b"IDAT", rows), (b"IEND", b""))
    )
    refusal = refusal_of(toy, pictures.check_upload, b"\x89PNG\r\n\x1a\n" + chunks, Limits())
    assert (refusal.status, refusal.error) == (413, "too_many_pixels")


def test_a_jpeg_of_countless_scans_is_refused(toy):
    file = io.BytesIO()
    Image.fromarray(toy.picture()).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    assert pictures.check_upload(data, Limits()).format == "JPEG"
    last = data.rindex(b"\xff\xda")
    assert refusal_of(toy, pictures.check_upload, data[:-2] + data[last:-2] * 120, Limits()).error == "broken_image"


def test_broken_pixels_behind_a_good_header_are_refused(toy):
    data = bytearray(toy.png(toy.picture(200, 200)))
    data[len(data) // 2] ^= 255
    pictures.check_upload(bytes(data), Limits())
    assert refusal_of(toy, pictures.decode, bytes(data), Limits()).status == 422


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"format": "gif"}, "`format` must be one of png, jpeg, webp"),
        ({"quality": "0"}, "`quality` must be a number from 1 to 100"),
        ({"quality": "50.5"}, "whole number"),
        ({"strength": "nan"}, "`strength` must be a number from 0 to 1"),
        ({"strength": "1e999"}, "`strength`"),
        ({"strength": "a" * 1000}, "Received: 'aaaa"),
    ],
)
def test_wrong_options_are_named(values, message, toy):
    refusal = refusal_of(toy, pictures.read_rendering, values)
    assert refusal.status == 400
    assert message in refusal.detail
    assert len(refusal.detail) < 200


def test_options_have_defaults_and_jpg_is_jpeg():
    assert pictures.read_rendering({}) == pictures.Rendering("png", 95, 1.0)
    assert pictures.read_rendering({"format": "JPG", "quality": "60", "strength": "0.5"}) == pictures.Rendering(
        "jpeg", 60, 0.5
    )
    assert pictures.read_rendering({"format": "jpg"}).suffix == ".jpg"


def test_flags_are_yes_or_no(toy):
    assert pictures.read_flag({"draw": "1"}, "draw") and not pictures.read_flag({}, "draw")
    assert refusal_of(toy, pictures.read_flag, {"draw": "2"}, "draw").status == 400


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_strength_mixes_input_and_result(dtype, toy):
    before, after = toy.picture(dtype=dtype), toy.picture(seed=1, dtype=dtype)
    assert np.array_equal(pictures.blend(before, after, 1.0), after)
    assert np.array_equal(pictures.blend(before, after, 0.0), before)
    half = pictures.blend(before, after, 0.5).astype(float)
    assert half.dtype == float and np.abs(half - (before.astype(float) + after) / 2).max() <= 0.51
