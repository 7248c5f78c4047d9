from __future__ import annotations

import io
import os
import stat
import struct
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from tfllv.inputs import image_files, tiff_tags
from tfllv.inputs.image_files import read_header, read_image, write_image


def smooth(height=40, width=56, seed=0, channels=3):
    noise = np.random.default_rng(seed).integers(0, 256, (5, 7, channels), np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def make_png(samples, colour, depth, *extra):
    """A PNG of any colour type and depth: [H, W, C] samples, no filter."""
    height, width = samples.shape[:2]
    if depth < 8:
        bits = np.unpackbits(samples.reshape(height, width, 1).astype(np.uint8), axis=-1)[..., -depth:]
        rows = np.packbits(bits.reshape(height, -1), axis=1)
    else:
        rows = samples.astype(">u2" if depth == 16 else np.uint8).reshape(height, -1)
    raw = b"".join(b"\0" + np.ascontiguousarray(row).tobytes() for row in rows)
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", head), *extra, chunk(b"IDAT", zlib.compress(raw)), chunk(b"IEND", b"")]
    )


def make_bomb(path, side=20000):
    """A valid grey PNG of side x side whose pixels are streamed into zlib, never held."""
    pack, parts, row = zlib.compressobj(9), [], b"\0" * (1 + side)
    for _ in range(side):
        parts.append(pack.compress(row))
    parts.append(pack.flush())
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"".join(parts)) + chunk(b"IEND", b"")
    )
    return path


def pillow_pixels(path):
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGBA")).astype(int)


def assert_like_pillow(path):
    picture, expected = read_image(path), pillow_pixels(path)
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.flags.c_contiguous
    assert picture.pixels.shape == (*expected.shape[:2], 3)
    np.testing.assert_allclose(picture.pixels, expected[..., :3], atol=1)
    if picture.alpha is None:
        assert (expected[..., 3] == 255).all()
    else:
        np.testing.assert_array_equal(picture.alpha, expected[..., 3])
    return picture


def pillow_modes():
    rgb = Image.fromarray(smooth())
    rgba = rgb.copy()
    rgba.putalpha(Image.fromarray(smooth(seed=1, channels=1)))
    return {
        "RGB": rgb,
        "RGBA": rgba,
        "L": rgb.convert("L"),
        "LA": rgba.convert("LA"),
        "P": rgb.quantize(16),
        "PA": rgba.quantize(16),
        "1": rgb.convert("1"),
        "CMYK": rgb.convert("CMYK"),
    }


WRITABLE = [
    *[("PNG", mode) for mode in ("RGB", "RGBA", "L", "LA", "P", "PA", "1")],
    *[("WEBP", mode) for mode in ("RGB", "RGBA", "L")],
    *[("BMP", mode) for mode in ("RGB", "RGBA", "L", "P", "1")],
    *[("TIFF", mode) for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "CMYK")],
    *[("JPEG", mode) for mode in ("RGB", "L", "CMYK")],
]


@pytest.mark.parametrize(("kind", "mode"), WRITABLE)
def test_every_kind_of_image_reads_as_pillow_reads_it(kind, mode, tmp_path):
    path = tmp_path / "image.any"
    pillow_modes()[mode].save(path, kind)
    picture = assert_like_pillow(path)
    assert picture.header.format.upper() == kind
    assert (picture.header.width, picture.header.height) == (56, 40)
    # Pillow writes a 32-bit BMP without the mask that would make its fourth channel alpha.
    assert (picture.alpha is not None) == (mode in ("RGBA", "LA", "PA") and kind != "BMP")


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "TIFF", "JPEG"])
def test_one_pixel_is_an_image(kind, tmp_path):
    path = tmp_path / "one"
    Image.new("RGB", (1, 1), (10, 200, 30)).save(path, kind)
    assert_like_pillow(path)


@pytest.mark.parametrize(
    "save", [{"progressive": True}, {"subsampling": 0}, {"quality": 5}, {"restart_marker_rows": 1}]
)
def test_jpeg_variants_read_as_pillow_reads_them(save, tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(smooth(33, 47)).save(path, **save)
    assert_like_pillow(path)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_tiff_compressions_read_as_pillow_reads_them(compression, tmp_path):
    path = tmp_path / "a.tif"
    Image.fromarray(smooth()).save(path, compression=compression)
    assert_like_pillow(path)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("keyed", [False, True])
def test_shallow_grey_png_is_spread_over_all_levels(depth, keyed, tmp_path):
    grey = np.random.default_rng(0).integers(0, 1 << depth, (5, 9))
    path = tmp_path / "a.png"
    path.write_bytes(make_png(grey, 0, depth, *([chunk(b"tRNS", struct.pack(">H", grey[0, 0]))] if keyed else [])))
    picture = read_image(path)
    np.testing.assert_array_equal(picture.pixels[..., 0], grey * 255 // ((1 << depth) - 1))
    if keyed:
        np.testing.assert_array_equal(picture.alpha, np.where(grey == grey[0, 0], 0, 255))
    assert (picture.alpha is not None) == keyed


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_16_bit_png_keeps_its_16_bits(colour, channels, tmp_path):
    samples = np.random.default_rng(0).integers(0, 65536, (6, 7, channels))
    path = tmp_path / "a.png"
    path.write_bytes(make_png(samples, colour, 16))
    picture = read_image(path)
    assert picture.pixels.dtype == np.uint16
    np.testing.assert_array_equal(picture.pixels, samples[..., :3] if channels > 2 else samples[..., [0] * 3])
    if channels in (2, 4):
        np.testing.assert_array_equal(picture.alpha, samples[..., -1])
    else:
        assert picture.alpha is None


def test_alpha_of_a_bitmap_is_read_where_its_header_has_a_mask(tmp_path):
    samples = smooth(4, 5, channels=4)
    masks = struct.pack("<IIII4s48x", 0xFF0000, 0xFF00, 0xFF, 0xFF000000, b"BGRs")
    head = struct.pack("<IiiHHIIiiII", 108, 5, -4, 1, 32, 3, 80, 0, 0, 0, 0) + masks
    path = tmp_path / "a.bmp"
    path.write_bytes(b"BM" + struct.pack("<IHHI", 14 + 108 + 80, 0, 0, 14 + 108) + head + samples.tobytes())
    picture = assert_like_pillow(path)
    np.testing.assert_array_equal(picture.pixels, samples[..., [2, 1, 0]])
    np.testing.assert_array_equal(picture.alpha, samples[..., 3])


@pytest.mark.parametrize("depth", [16, 24])
def test_bottom_up_and_shallow_bitmaps_read_as_pillow_reads_them(depth, tmp_path):
    rows = np.random.default_rng(0).integers(0, 256, (4, -(-5 * depth // 32) * 4), np.uint8)
    head = struct.pack("<IiiHHIIiiII", 40, 5, 4, 1, depth, 0, rows.size, 0, 0, 0, 0)
    path = tmp_path / "a.bmp"
    path.write_bytes(b"BM" + struct.pack("<IHHI", 54 + rows.size, 0, 0, 54) + head + rows.tobytes())
    assert_like_pillow(path)


def test_colour_key_of_a_png_becomes_alpha(tmp_path):
    rgb = smooth(4, 5)
    path = tmp_path / "a.png"
    path.write_bytes(make_png(rgb, 2, 8, chunk(b"tRNS", struct.pack(">HHH", *rgb[1, 2]))))
    assert assert_like_pillow(path).alpha[1, 2] == 0


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bit_tiff_keeps_its_16_bits(channels, tmp_path):
    samples = np.random.default_rng(0).integers(0, 65536, (6, 7, channels)).astype(np.uint16)
    path = tmp_path / "a.tif"
    cv2.imwrite(str(path), samples[..., [2, 1, 0, 3][:channels]] if channels > 1 else samples)
    picture = read_image(path)
    np.testing.assert_array_equal(picture.pixels, samples[..., :3] if channels > 1 else samples[..., [0] * 3])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_each_exif_orientation_comes_out_upright(kind, orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "image"
    Image.fromarray(smooth()).save(path, kind, exif=exif)
    picture = assert_like_pillow(path)
    assert picture.header.orientation == orientation
    assert picture.header.upright_size == (picture.pixels.shape[1], picture.pixels.shape[0])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("deep", [False, True])
def test_alpha_and_16_bits_turn_with_the_picture(orientation, deep, tmp_path):
    samples = np.random.default_rng(0).integers(0, 65536, (3, 5, 4)).astype(np.uint16)
    if not deep:
        samples = samples.astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.png"
    path.write_bytes(make_png(samples, 6, 16 if deep else 8, chunk(b"eXIf", exif.tobytes()[6:])))
    picture = read_image(path)
    joined = np.dstack([picture.pixels, picture.alpha])
    transposed = samples.transpose(1, 0, 2)
    expected = {
        1: samples,
        2: samples[:, ::-1],
        3: samples[::-1, ::-1],
        4: samples[::-1],
        5: transposed,
        6: transposed[:, ::-1],
        7: transposed[::-1, ::-1],
        8: transposed[::-1],
    }
    np.testing.assert_array_equal(joined, expected[orientation])


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_first_picture_of_several_is_read_and_said(kind, tmp_path):
    frames = [Image.fromarray(smooth(seed=seed)) for seed in range(3)]
    path = tmp_path / "several"
    frames[0].save(
        path, kind, save_all=True, append_images=frames[1:], **({"lossless": True} if kind == "WEBP" else {})
    )
    picture = read_image(path)
    assert picture.header.several
    np.testing.assert_array_equal(picture.pixels, smooth(seed=0))


def test_bomb_is_refused_without_memory_and_before_any_decoder(tmp_path, monkeypatch):
    path = make_bomb(tmp_path / "bomb.png")
    assert path.stat().st_size < 4 << 20

    def forbidden(*_):
        raise AssertionError("a decoder was called")

    monkeypatch.setattr(image_files.cv2, "imdecode", forbidden)
    monkeypatch.setattr(image_files, "_decode_by_pillow", forbidden)
    tracemalloc.start()
    with pytest.raises(
        ValueError, match=r"bomb\.png: a PNG of 20000x20000 pixels \(400\.0 megapixels\) found; expected"
    ):
        read_image(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_a_photo_of_24_megapixels_is_within_the_limit():
    header = struct.pack(">IIBBBBB", 6000, 4000, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"\0" * 80_000) + chunk(b"IEND", b"")
    assert read_header(data).width == 6000
    with pytest.raises(ValueError, match="at most 20 megapixels"):
        read_header(data, max_pixels=20_000_000)
    with pytest.raises(ValueError, match="`max_pixels` must be > 0"):
        read_header(data, max_pixels=0)


def as_kind(kind, **options):
    file = io.BytesIO()
    Image.fromarray(smooth(120, 160)).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.98])
def test_a_file_that_is_cut_short_is_named_in_one_line(kind, part, tmp_path, capfd):
    data = as_kind(kind)
    path = tmp_path / "cut.img"
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(ValueError) as error:
        read_image(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert "found" in message or "broken or cut short" in message
    assert "expected" in message


def test_a_damaged_byte_of_a_png_is_found_and_placed(tmp_path, capfd):
    data = bytearray(as_kind("PNG"))
    data[len(data) // 2] ^= 0xFF
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with pytest.raises(
        ValueError, match=r"a\.png: a PNG of 160x120 .*the chunk IDAT at byte 33 has checksum \w{8}, not"
    ):
        read_image(path)
    assert capfd.readouterr().err == "", "the decoder said something as well"


def lying(kind):
    data = bytearray(as_kind(kind))
    if kind == "JPEG":
        at = data.find(b"\xff\xc0")
        data[at + 5 : at + 9] = struct.pack(">HH", 9000, 9000)
    elif kind == "PNG":
        data[16:24] = struct.pack(">II", 9000, 9000)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif kind == "BMP":
        data[18:26] = struct.pack("<ii", 9000, 9000)
    elif kind == "WEBP":
        at = data.find(b"VP8 ") + 14
        data[at : at + 4] = struct.pack("<HH", 9000, 9000)
    return bytes(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP"])
def test_a_header_that_claims_more_than_the_file_holds_is_refused(kind, tmp_path, monkeypatch):
    path = tmp_path / "lie.img"
    path.write_bytes(lying(kind))
    if kind != "WEBP":  # nothing in its header bounds the size of what follows
        monkeypatch.setattr(image_files.cv2, "imdecode", lambda *_: pytest.fail("a decoder was called"))
    with pytest.raises(ValueError, match=r"lie\.img: .*9000x9000.*expected"):
        read_image(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 bytes found"),
        (b"GIF89a" + b"\0" * 20, "content that begins with 'GIF8' found"),
        (b"<svg>", "'<svg' found"),
        (b"\xff\xd8\xff", "header|scan"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF" + b"\0" * 100, "scan"),
        (b"\x89PNG\r\n\x1a\n", "inside its header"),
        (b"RIFF\x10\0\0\0WEBPJUNK\0\0\0\0", "expected VP8"),
        (b"BM" + b"\0" * 60, "second header"),
        (b"II*\0\x08\0\0\0\0\0\0\0\0\0", "0x0"),
        (b"II*\0\xff\xff\0\0", "inside its header"),
        (make_png(np.zeros((1, 0, 1)), 0, 8), "0x1"),
    ],
)
def test_what_is_not_an_image_is_named_with_what_was_found(data, message, tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message) as error:
        read_image(path)
    assert str(path) in str(error.value)
    assert "expected" in str(error.value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_random_damage_never_raises_anything_but_one_line(kind, tmp_path, capfd, recwarn):
    data = as_kind(kind)
    generator = np.random.default_rng(7)
    path = tmp_path / "damaged"
    refused = 0
    for _ in range(60):
        broken = bytearray(data)
        for place in generator.integers(0, min(len(data), 400), 3):
            broken[place] = generator.integers(0, 256)
        path.write_bytes(broken)
        try:
            read_image(path, max_pixels=1_000_000)
        except ValueError as error:
            refused += 1
            assert str(error).startswith(str(path)) and "\n" not in str(error)
    assert refused
    recwarn.clear()


def test_kinds_that_are_not_read_say_so(tmp_path):
    path = tmp_path / "a.tif"
    cv2.imwrite(str(path), np.zeros((4, 4, 3), np.float32))
    with pytest.raises(ValueError, match="TIFF of 32 bits"):
        read_image(path)
    data = bytearray(as_kind("JPEG"))
    data[data.find(b"\xff\xc0") + 1] = 0xC3
    with pytest.raises(ValueError, match="image: a lossless or hierarchical JPEG"):
        read_header(bytes(data))


def encode_tiff_16(channels, *extra, photometric=1):
    """A TIFF of 16 bits with one strip and any tags."""
    samples = np.random.default_rng(0).integers(0, 65536, (6, 7, channels)).astype("<u2")
    tags = [(256, "I", [7]), (257, "I", [6]), (258, "H", [16] * channels), (259, "H", [1]), (262, "H", [photometric])]
    tags += [(273, "I", [8]), (277, "H", [channels]), (278, "I", [6]), (279, "I", [samples.nbytes]), *extra]
    directory = tiff_tags._pack_directory(sorted(tags), 8 + samples.nbytes)
    return samples, struct.pack("<2sHI", b"II", 42, 8 + samples.nbytes) + samples.tobytes() + directory


def test_16_bit_tiff_whose_white_is_zero_is_turned_round(tmp_path):
    path = tmp_path / "a.tif"
    samples, data = encode_tiff_16(1, photometric=0)
    path.write_bytes(data)
    np.testing.assert_array_equal(read_image(path).pixels[..., 0], 65535 - samples[..., 0])


def test_premultiplied_alpha_of_a_16_bit_tiff_is_divided_out(tmp_path):
    path = tmp_path / "a.tif"
    samples, data = encode_tiff_16(4, (338, "H", [1]), photometric=2)
    path.write_bytes(data)
    picture = read_image(path)
    alpha = np.maximum(samples[..., 3:].astype(float), 1)
    np.testing.assert_allclose(
        picture.pixels, np.minimum(samples[..., :3].astype(float) * 65535 / alpha, 65535), atol=1
    )
    np.testing.assert_array_equal(picture.alpha, samples[..., 3])


@pytest.mark.parametrize(
    ("channels", "extra", "photometric", "message"),
    [
        (2, (338, "H", [2]), 1, "16 bits, grey, 2 channels are not read"),
        (4, (332, "H", [1]), 5, "16 bits, cmyk, 4 channels are not read"),
        (3, (284, "H", [2]), 2, "16 bits in separate planes are not read"),
    ],
)
def test_16_bit_tiffs_that_no_decoder_reads_right_are_refused(channels, extra, photometric, message, tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(encode_tiff_16(channels, extra, photometric=photometric)[1])
    with pytest.raises(ValueError, match=message):
        read_image(path)


def test_bytes_read_as_the_file_does(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), smooth())
    data = (tmp_path / "a.png").read_bytes()
    assert np.array_equal(read_image(data).pixels, read_image(tmp_path / "a.png").pixels)
    with pytest.raises(ValueError, match=r"^image: "):
        read_image(data[:-30])


def test_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / "none.png")


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".tiff"])
@pytest.mark.parametrize("deep", [False, True])
def test_alpha_and_depth_survive_a_round_trip(suffix, deep, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (300, 401, 3)).astype(np.uint8)
    alpha = smooth(300, 401, seed=1, channels=1)
    alpha[alpha == 0] = 1  # WebP may forget the colours of what cannot be seen
    if deep:
        pixels, alpha = pixels.astype(np.uint16) * 257, alpha.astype(np.uint16) * 257
    path = tmp_path / f"a{suffix}"
    lossless = read_header(as_kind("WEBP", lossless=True))
    assert write_image(path, pixels, alpha=alpha, like=lossless) == path.stat().st_size
    picture = read_image(path)
    kept = deep and suffix != ".webp"
    assert picture.pixels.dtype == (np.uint16 if kept else np.uint8)
    scale = 257 if deep and not kept else 1
    np.testing.assert_array_equal(picture.pixels, pixels // scale)
    np.testing.assert_array_equal(picture.alpha, alpha // scale)
    with Image.open(path) as image:
        assert image.mode == "RGBA"


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".bmp"])
def test_types_without_alpha_or_16_bits_get_8_opaque_ones(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    write_image(path, smooth().astype(np.uint16) * 257, alpha=np.zeros((40, 56), np.uint8), quality=100)
    picture = read_image(path)
    assert picture.alpha is None
    assert np.abs(picture.pixels.astype(int) - smooth()).mean() < (2 if "j" in suffix.lower() else 0.001)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("size", [0, 150_000])
def test_colour_profile_is_carried_over(suffix, size, tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes() + b"\0" * size
    profile = struct.pack(">I", len(profile)) + profile[4:]
    source = tmp_path / "in.png"
    Image.fromarray(smooth()).save(source, icc_profile=profile)
    path = tmp_path / f"out{suffix}"
    header = read_header(source)
    write_image(path, smooth(), like=header)
    assert header.icc_profile == profile
    assert read_header(path).icc_profile == profile
    with Image.open(path) as image:
        assert image.info["icc_profile"] == profile


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_a_broken_colour_profile_does_not_cost_the_picture(suffix, tmp_path):
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[36:40] = b"none"  # the signature, which PNG encoders check
    source = tmp_path / "in.jpg"
    Image.fromarray(smooth()).save(source, icc_profile=bytes(profile))
    write_image(tmp_path / f"out{suffix}", smooth(), like=read_header(source))
    assert read_image(tmp_path / f"out{suffix}").pixels.shape == (40, 56, 3)


def test_profiles_of_cmyk_and_grey_pictures_are_dropped(tmp_path):
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[16:20] = b"CMYK"
    path = tmp_path / "a.jpg"
    Image.fromarray(smooth()).convert("CMYK").save(path, icc_profile=bytes(profile))
    assert read_header(path).icc_profile is None


@pytest.mark.parametrize("order", [b"II", b"MM"])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_exif_is_carried_over_upright_and_without_its_thumbnail(suffix, order, tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "camera"
    exif.endian = "<" if order == b"II" else ">"
    exif.get_ifd(0x8769)[0x9003] = "2020:01:02 03:04:05"
    exif.get_ifd(1)[0x0201] = 100
    source = tmp_path / "in.jpg"
    Image.fromarray(smooth()).save(source, exif=exif)
    picture = read_image(source)
    path = tmp_path / f"out{suffix}"
    write_image(path, picture.pixels, like=picture.header)
    with Image.open(path) as image:
        carried = image.getexif()
        assert carried[0x0112] == 1
        assert carried[0x010F] == "camera"
        assert carried.get_ifd(0x8769)[0x9003] == "2020:01:02 03:04:05"
        assert not carried.get_ifd(1)
    assert read_image(path).pixels.shape == picture.pixels.shape == (56, 40, 3)


def test_lossless_webp_stays_lossless(tmp_path):
    path = tmp_path / "a.webp"
    write_image(path, smooth(), like=read_header(as_kind("WEBP", lossless=True)))
    np.testing.assert_array_equal(read_image(path).pixels, smooth())
    assert read_header(path).lossless


def test_quality_changes_the_size(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    for suffix in (".jpg", ".webp"):
        sizes = [write_image(tmp_path / f"a{suffix}", noise, quality=quality) for quality in (30, 95)]
        assert sizes[0] < sizes[1]


@pytest.mark.parametrize(
    ("name", "pixels", "options", "message"),
    [
        ("a.gif", np.zeros((2, 2, 3), np.uint8), {}, r"must end in one of .*'\.gif'"),
        ("a", np.zeros((2, 2, 3), np.uint8), {}, "must end in one of"),
        ("a.png", np.zeros((2, 2), np.uint8), {}, "`pixels` must be"),
        ("a.png", np.zeros((2, 2, 3), np.float32), {}, "`pixels` must be"),
        ("a.png", np.zeros((2, 2, 3), np.uint8), {"alpha": np.zeros((2, 3), np.uint8)}, "`alpha` must be"),
        ("a.jpg", np.zeros((2, 2, 3), np.uint8), {"quality": 0}, "`quality` must be"),
        ("a.webp", np.zeros((1, 16384, 3), np.uint8), {}, "at most 16383 pixels a side"),
    ],
)
def test_wrong_arguments_are_named_and_nothing_is_written(name, pixels, options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        write_image(tmp_path / name, pixels, **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_full_disk_leaves_the_old_file_and_nothing_else(call, tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match=r"cannot be written: No space left on device: '.*a\.png'"):
        write_image(path, smooth())
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_missing_folder_is_one_line_with_the_name(tmp_path):
    with pytest.raises(OSError, match=r"cannot be written: No such file.*none/a\.png'"):
        write_image(tmp_path / "none" / "a.png", smooth())


def test_written_file_has_the_usual_permissions(tmp_path):
    usual = tmp_path / "usual"
    usual.write_bytes(b"")
    write_image(tmp_path / "a.png", smooth())
    assert stat.S_IMODE((tmp_path / "a.png").stat().st_mode) == stat.S_IMODE(usual.stat().st_mode)


@pytest.mark.parametrize("name", ["lol", "sice", "lime", "dicm", "calibration"])
def test_real_photos_read_as_pillow_reads_them(name, shared):
    paths = sorted(
        path for path in (shared / "data" / name).rglob("*") if path.suffix.lower() in (".jpg", ".png", ".bmp")
    )
    if not paths:
        pytest.skip(f"no photo of {name} here")
    for path in paths[:3]:
        assert_like_pillow(path)
