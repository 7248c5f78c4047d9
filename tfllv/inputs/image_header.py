"""What an image file says about itself, read from its bytes before any pixel is decoded.

Five types are known: JPEG, PNG, WebP, BMP and TIFF, told apart by content, never by name. Reading a header allocates
no pixels, so a small file that claims a huge picture is refused at once, and so is one that is too short for what it
claims. The parsers follow ITU-T T.81, the PNG specification (W3C, third edition), RFC 9649 (WebP), the Windows bitmap
headers, TIFF 6.0 with BigTIFF, and Exif 2.32.
"""

from __future__ import annotations

import dataclasses
import mmap
import os
import pathlib
import struct
import zlib

from tfllv.inputs import tiff_tags
from tfllv.inputs.tiff_tags import Buffer

# 199.8 megapixels is the largest picture a phone takes today; it must pass, a bomb of twice that must not.
MAX_PIXELS = 200_000_000
MAX_SIDE = 1 << 20
FORMATS = ("JPEG", "PNG", "WebP", "BMP", "TIFF")

_MAX_BLOCKS = 100_000  # segments or chunks walked at most; 200 megapixels of PNG in pieces of 8 KB have 50,000
_MAX_PROFILE = 16 << 20  # bytes of an unpacked colour profile; printer profiles reach 3 MB
_DEFLATE_RATIO = 1032  # the most bytes that one byte of deflate can stand for


@dataclasses.dataclass(frozen=True, kw_only=True)
class Header:
    """The facts of one image file.

    Attributes:
      format: one of `FORMATS`.
      width: columns as stored, before the orientation is applied.
      height: rows as stored.
      channels: samples of a pixel as stored; 1 for grey and palette.
      bit_depth: bits of a sample (of a colour for a palette: the index's bits).
      layout: `grey`, `rgb`, `palette` or `cmyk` (also YCCK).
      alpha: whether the file carries transparency of any kind.
      orientation: Exif orientation, 1 to 8; 1 where absent or out of range.
      several: whether it is an animation or has several pages; the first picture is the one that is read.
      lossless: whether the pixels were stored without loss.
      icc_profile: the RGB colour profile, or None.
      exif: the Exif block, from its byte-order mark, with orientation 1 and no thumbnail; None where absent.
      details: what only the decoder of this format asks for.
    """

    format: str
    width: int
    height: int
    channels: int
    bit_depth: int
    layout: str
    alpha: bool = False
    orientation: int = 1
    several: bool = False
    lossless: bool = True
    icc_profile: bytes | None = dataclasses.field(default=None, repr=False)
    exif: bytes | None = dataclasses.field(default=None, repr=False)
    details: dict[str, int] = dataclasses.field(default_factory=dict, repr=False)

    @property
    def upright_size(self) -> tuple[int, int]:
        """(width, height) after the orientation is applied."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)

    @property
    def pixel_bytes(self) -> int:
        """Bytes of the decoded picture, with its alpha."""
        return self.width * self.height * (4 if self.alpha else 3) * (2 if self.bit_depth > 8 else 1)


def read_header(source: str | os.PathLike[str] | bytes, *, max_pixels: int = MAX_PIXELS) -> Header:
    """Reads what an image file says about itself; decodes no pixel.

    Args:
      source: a path, or the file's bytes.
      max_pixels: the most pixels a picture may have, > 0.

    Returns:
      The header.

    Raises:
      ValueError: in one line that names the file, what was found and what was expected, if the type is not one of
        `FORMATS`, the picture is larger than `max_pixels`, or the file is too short for what its header claims.
      OSError: if the file cannot be read.
    """
    if max_pixels <= 0:
        raise ValueError(f"`max_pixels` must be > 0. Received: max_pixels={max_pixels}.")
    if isinstance(source, bytes):
        return _parse(source, "image", max_pixels)
    path = pathlib.Path(source)
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise ValueError(f"{path}: 0 bytes found; expected {_expected()}.")
        # Mapped, not read: a header needs a few kilobytes of what may be a file of gigabytes.
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _parse(data, str(path), max_pixels)


def _expected() -> str:
    return f"an image of type {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"


def _parse(data: Buffer, name: str, max_pixels: int) -> Header:
    start = data[:16]
    try:
        if start[:3] == b"\xff\xd8\xff":
            return _parse_jpeg(data, max_pixels)
        if start[:8] == b"\x89PNG\r\n\x1a\n":
            return _parse_png(data, max_pixels)
        if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
            return _parse_webp(data, max_pixels)
        if start[:2] == b"BM":
            return _parse_bmp(data, max_pixels)
        if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return _parse_tiff(data, max_pixels)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    except (struct.error, IndexError):
        raise ValueError(
            f"{name}: the file ends inside its header: {len(data):,} bytes found; expected more."
        ) from None
    seen = start[:4].decode("latin-1")
    raise ValueError(f"{name}: content that begins with {seen!r} found; expected {_expected()}.")


def _check_size(kind: str, width: int, height: int, max_pixels: int) -> None:
    if width <= 0 or height <= 0:
        raise ValueError(f"a {kind} of {width}x{height} pixels found; expected at least 1x1.")
    if width * height > max_pixels or max(width, height) > MAX_SIDE:
        raise ValueError(
            f"a {kind} of {width}x{height} pixels ({width * height / 1e6:.1f} megapixels) found; expected at most "
            f"{max_pixels / 1e6:g} megapixels and {MAX_SIDE} a side."
        )


def _check_length(kind: str, width: int, height: int, found: int, needed: int) -> None:
    if found < needed:
        raise ValueError(
            f"a {kind} of {width}x{height} pixels is cut short or its header lies: {found:,} bytes found; expected at "
            f"least {needed:,}."
        )


def _rgb_profile(profile: bytes | None) -> bytes | None:
    """Returns the profile if it is whole and one of RGB: others (CMYK, grey) do not fit the picture handed out."""
    size = int.from_bytes(profile[:4], "big") if profile else 0
    return profile[:size] if profile and 128 < size <= len(profile) and profile[16:20] == b"RGB " else None


_JPEG_FRAMES = {0xC0: True, 0xC1: True, 0xC2: False, 0xC9: False, 0xCA: False}  # marker -> sequential Huffman
_JPEG_REFUSED = {0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF}  # lossless and hierarchical


def _parse_jpeg(data: Buffer, max_pixels: int) -> Header:
    position, frame, exif = 2, b"", b""
    profile: dict[int, bytes] = {}
    sequential = False
    for _ in range(_MAX_BLOCKS):
        position = data.find(b"\xff", position)
        if position < 0:
            break
        while data[position] == 0xFF:  # any number of fill bytes may precede a marker
            position += 1
        marker = data[position]
        position += 1
        if marker in (0x00, 0x01, 0xD8) or 0xD0 <= marker <= 0xD7:  # these carry no length
            continue
        if marker == 0xD9:
            break
        (length,) = struct.unpack_from(">H", data, position)
        body = data[position + 2 : position + max(length, 2)]
        position += max(length, 2)
        if marker in _JPEG_REFUSED:
            raise ValueError(
                f"a lossless or hierarchical JPEG (marker FF{marker:02X}) found; expected an ordinary one."
            )
        if marker in _JPEG_FRAMES:
            frame, sequential = body, _JPEG_FRAMES[marker]
            height, width = struct.unpack_from(">HH", frame, 1)
            _check_size("JPEG", width, height, max_pixels)
        elif marker == 0xE1 and body[:6] == b"Exif\0\0" and not exif:
            exif = body[6:]
        elif marker == 0xE2 and body[:12] == b"ICC_PROFILE\0" and len(body) > 14:
            profile[body[12]] = body[14:]
        elif marker == 0xDA:
            return _jpeg_header(frame, sequential, len(data) - position, exif, profile)
    raise ValueError(f"a JPEG without a scan found ({len(data):,} bytes); expected a whole file.")


def _jpeg_header(frame: bytes, sequential: bool, found: int, exif: bytes, profile: dict[int, bytes]) -> Header:
    depth, height, width, channels = struct.unpack_from(">BHHB", frame)
    if depth != 8 or channels not in (1, 3, 4):
        raise ValueError(
            f"a JPEG of {depth} bits and {channels} channels found; expected 8 bits and 1, 3 or 4 channels."
        )
    if sequential:
        # Every 8x8 block costs at least two bits: one for its DC code, one for "end of block".
        sampling = [(code >> 4, code & 15) for code in frame[7 : 6 + 3 * channels : 3]]
        across, down = (max(max(pair[axis] for pair in sampling), 1) for axis in (0, 1))
        units = -(-width // (8 * across)) * -(-height // (8 * down))
        blocks = units * sum(h * v for h, v in sampling) if channels > 1 else -(-width // 8) * -(-height // 8)
        _check_length("JPEG", width, height, found, blocks // 4)
    orientation, clean = tiff_tags.read_exif(exif)
    return Header(
        format="JPEG",
        width=width,
        height=height,
        channels=channels,
        bit_depth=8,
        layout={1: "grey", 3: "rgb", 4: "cmyk"}[channels],
        orientation=orientation,
        lossless=False,
        icc_profile=_rgb_profile(b"".join(profile[key] for key in sorted(profile))) if channels == 3 else None,
        exif=clean,
    )


_PNG_COLOURS = {0: (1, "grey"), 2: (3, "rgb"), 3: (1, "palette"), 4: (2, "grey"), 6: (4, "rgb")}


def _parse_png(data: Buffer, max_pixels: int) -> Header:
    size, name, width, height, depth, colour = struct.unpack_from(">I4sIIBB", data, 8)
    if name != b"IHDR" or size != 13:
        raise ValueError(f"a PNG that begins with the chunk {name!r} found; expected IHDR.")
    _check_size("PNG", width, height, max_pixels)
    if colour not in _PNG_COLOURS or depth not in (1, 2, 4, 8, 16):
        raise ValueError(f"a PNG of colour type {colour} and {depth} bits found; expected type 0, 2, 3, 4 or 6.")
    channels, layout = _PNG_COLOURS[colour]
    position, packed, ended = 33, 0, False
    kept: dict[bytes, bytes] = {}
    for _ in range(_MAX_BLOCKS):
        if position + 8 > len(data):
            break
        size, name = struct.unpack_from(">I4s", data, position)
        if name == b"IEND":
            ended = True
            break
        if name == b"IDAT":
            packed += size
        elif name in (b"iCCP", b"eXIf", b"tRNS", b"acTL"):
            kept[name] = data[position + 8 : position + 8 + size]
        position += 12 + size
    if not ended:
        raise ValueError(
            f"a PNG of {width}x{height} pixels is cut short: {len(data):,} bytes found; expected at least "
            f"{max(position, len(data)) + 12:,}."
        )
    _check_length("PNG", width, height, packed, height * -(-width * channels * depth // 8) // _DEFLATE_RATIO)
    orientation, exif = tiff_tags.read_exif(kept.get(b"eXIf", b""))
    return Header(
        format="PNG",
        width=width,
        height=height,
        channels=channels,
        bit_depth=depth,
        layout=layout,
        alpha=colour in (4, 6) or b"tRNS" in kept,
        orientation=orientation,
        several=b"acTL" in kept,
        icc_profile=_unpack_profile(kept.get(b"iCCP", b"")) if layout != "grey" else None,
        exif=exif,
        # The one grey level that is transparent: decoders give alpha for such an RGB or palette, not for such a grey.
        details={"grey_key": struct.unpack(">H", kept[b"tRNS"])[0]} if b"tRNS" in kept and colour == 0 else {},
    )


def _unpack_profile(chunk: bytes) -> bytes | None:
    _, _, rest = chunk.partition(b"\0")
    try:
        return _rgb_profile(zlib.decompressobj().decompress(rest[1:], _MAX_PROFILE))
    except zlib.error:
        return None  # a broken profile does not make the picture unreadable


def _parse_webp(data: Buffer, max_pixels: int) -> Header:
    (length,) = struct.unpack_from("<I", data, 4)
    chunks: dict[bytes, tuple[int, int]] = {}
    position, end = 12, min(length + 8, len(data))
    for _ in range(_MAX_BLOCKS):
        if position + 8 > end:
            break
        name, size = struct.unpack_from("<4sI", data, position)
        chunks.setdefault(name, (position + 8, size))
        position += 8 + size + (size & 1)
    width, height, alpha = _webp_size(data, chunks)
    _check_size("WebP", width, height, max_pixels)
    _check_length("WebP", width, height, len(data), length + 8)
    parts = {name: data[start : start + size] for name, (start, size) in chunks.items() if name in (b"ICCP", b"EXIF")}
    exif = parts.get(b"EXIF", b"")
    orientation, clean = tiff_tags.read_exif(exif[6:] if exif[:6] == b"Exif\0\0" else exif)
    return Header(
        format="WebP",
        width=width,
        height=height,
        channels=4 if alpha else 3,
        bit_depth=8,
        layout="rgb",
        alpha=alpha,
        orientation=orientation,
        several=b"ANIM" in chunks,
        lossless=b"VP8L" in chunks,
        icc_profile=_rgb_profile(parts.get(b"ICCP")),
        exif=clean,
    )


def _webp_size(data: Buffer, chunks: dict[bytes, tuple[int, int]]) -> tuple[int, int, bool]:
    if b"VP8X" in chunks:
        start = chunks[b"VP8X"][0]
        low, middle, high, rest = struct.unpack_from("<HBHB", data, start + 4)
        return (low | middle << 16) + 1, (high | rest << 16) + 1, bool(data[start] & 0x10)
    if b"VP8L" in chunks:
        mark, bits = struct.unpack_from("<BI", data, chunks[b"VP8L"][0])
        if mark == 0x2F:
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1)
    if b"VP8 " in chunks:
        mark, width, height = struct.unpack_from("<3sHH", data, chunks[b"VP8 "][0] + 3)
        if mark == b"\x9d\x01\x2a":
            return width & 0x3FFF, height & 0x3FFF, False
    raise ValueError(f"a WebP with the chunks {sorted(chunks)} found; expected VP8, VP8L or VP8X with its size.")


def _parse_bmp(data: Buffer, max_pixels: int) -> Header:
    offset, size = struct.unpack_from("<II", data, 10)
    compression = 0
    if size == 12:
        width, height, _, depth = struct.unpack_from("<HHHH", data, 18)
    elif size in (40, 52, 56, 64, 108, 124):
        width, height, _, depth, compression = struct.unpack_from("<iiHHI", data, 18)
    else:
        raise ValueError(f"a BMP whose second header has {size} bytes found; expected 12, 40, 52, 56, 64, 108 or 124.")
    height = abs(height)  # negative: rows from top to bottom
    _check_size("BMP", width, height, max_pixels)
    if depth not in (1, 4, 8, 16, 24, 32) or compression not in (0, 1, 2, 3, 6):
        raise ValueError(f"a BMP of {depth} bits and compression {compression} found; expected an ordinary one.")
    if compression in (0, 3, 6):
        _check_length("BMP", width, height, len(data), offset + height * (-(-width * depth // 32) * 4))
    mask = struct.unpack_from("<I", data, 66)[0] if size >= 56 and compression in (3, 6) else 0
    return Header(
        format="BMP",
        width=width,
        height=height,
        channels=1 if depth <= 8 else 3 + bool(mask),
        bit_depth=min(depth, 8),
        layout="palette" if depth <= 8 else "rgb",
        alpha=bool(mask),
        details={"depth": depth, "compression": compression},
    )


_PHOTOMETRIC = {0: "grey", 1: "grey", 2: "rgb", 3: "palette", 5: "cmyk", 6: "rgb", 8: "rgb"}


def _parse_tiff(data: Buffer, max_pixels: int) -> Header:
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    (start,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    tags, following = tiff_tags.read_directory(data, start, order, big)

    def value(tag: int, default: int) -> int:
        values = tags[tag][1] if tag in tags else ()
        return int(values[0]) if values else default

    width, height, samples = value(256, 0), value(257, 0), value(277, 1)
    _check_size("TIFF", width, height, max_pixels)
    depth, photometric, sample_format = value(258, 1), value(262, -1), value(339, 1)
    if photometric not in _PHOTOMETRIC or depth not in (1, 2, 4, 8, 16) or sample_format != 1:
        raise ValueError(
            f"a TIFF of {depth} bits, photometric {photometric} and sample format {sample_format} found; expected "
            "1 to 16 bits, unsigned, grey, RGB, palette or CMYK."
        )
    offsets, counts = (next((tags[tag][1] for tag in pair if tag in tags), ()) for pair in ((273, 324), (279, 325)))
    needed = max((offset + count for offset, count in zip(offsets, counts, strict=False)), default=len(data) + 1)
    _check_length("TIFF", width, height, len(data), needed)
    extra = tags.get(338, (0, ()))[1]
    profile = tags.get(34675, (0, (b"",)))[1]
    layout = _PHOTOMETRIC[photometric]
    return Header(
        format="TIFF",
        width=width,
        height=height,
        channels=samples,
        bit_depth=depth,
        layout=layout,
        alpha=any(kind in (1, 2) for kind in extra),
        orientation=value(274, 1) if value(274, 1) in range(1, 9) else 1,
        several=bool(struct.unpack_from(order + ("Q" if big else "I"), data, following)[0]),
        icc_profile=_rgb_profile(profile[0] if isinstance(profile[0], bytes) else bytes(profile))
        if layout == "rgb"
        else None,
        details={"photometric": photometric, "planar": value(284, 1), "premultiplied": int(1 in extra)},
    )
