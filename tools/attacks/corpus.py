"""Files made to hurt: each one small, and claiming or unpacking to far more."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib

import cv2
import numpy as np


def chunk(name: bytes, data: bytes) -> bytes:
    """A PNG chunk."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, packed: bytes, *extra: bytes, colour: int = 2, depth: int = 8) -> bytes:
    """A PNG with any header over any pixel data."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(extra) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def zeros(size: int) -> bytes:
    """`size` zeros, packed by deflate at its best ratio, without packing them: one packed megabyte, many times."""
    pack = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = pack.compress(bytes(1 << 20)) + pack.flush(zlib.Z_FULL_FLUSH)
    pack = zlib.compressobj(9, zlib.DEFLATED, -15)
    last = pack.compress(bytes(size & ((1 << 20) - 1))) + pack.flush()
    checksum = size % 65521 << 16 | 1  # Adler-32 of zeros
    return b"\x78\xda" + block * (size >> 20) + last + struct.pack(">I", checksum)


def jpeg(width: int, height: int, *, progressive: bool = False) -> bytes:
    """A small JPEG whose header claims another size."""
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive)])[1].tobytes()
    at = data.index(b"\xff\xc2" if progressive else b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def tiff(width: int, height: int, *, strips: int = 1, count: int = 16) -> bytes:
    """A TIFF of one strip whose directory claims a size, and maybe countless strips."""
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    tags += [(273, 4, strips, 8), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, strips, count)]
    body = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8) + body + bytes(count)


def bmp_runs(width: int, height: int) -> bytes:
    """A BMP in run lengths, empty but for its header."""
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, 0, 0, 0, 256, 0) + bytes(1024)
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + 2, 0, 0, 14 + len(head)) + head + b"\0\1"


def webp(width: int, height: int) -> bytes:
    """An extended WebP whose canvas is huge."""
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"VP8X" + struct.pack("<I", 10) + bytes(4) + size + b"VP8 " + struct.pack("<I", 0)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def zip_of_zips(depth: int = 5) -> bytes:
    """A zip in a zip in a zip, with 10 MB of zeros at its core."""
    data = bytes(10 << 20)
    for level in range(depth):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for number in range(4):
                archive.writestr(f"{level}-{number}", data)
        data = file.getvalue()
    return data


def bombs() -> dict[str, bytes]:
    """Name -> file; every one must be refused."""
    noise = np.random.default_rng(0).integers(0, 255, (600, 800, 3)).astype(np.uint8)
    whole = {kind: cv2.imencode(kind, noise)[1].tobytes() for kind in (".png", ".jpg", ".webp", ".bmp", ".tiff")}
    progressive = cv2.imencode(".jpg", noise, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    last = progressive.rindex(b"\xff\xda")
    found = {
        "PNG 20000x20000, real": png(20000, 20000, zeros(20000 * 60001)),
        "PNG 20000x20000, empty": png(20000, 20000, zlib.compress(b"")),
        "PNG 7000x7000, 100 bytes": png(7000, 7000, bytes(100)),
        "PNG 2**31-1 wide": png(2**31 - 1, 1, zlib.compress(b"")),
        "PNG 0x0": png(0, 0, zlib.compress(b"")),
        "PNG, 250000 chunks": png(8, 8, b"", *[chunk(b"tEXt", b"")] * 250_000),
        "JPEG 65500x65500": jpeg(65500, 65500),
        "JPEG 7000x7000, 1 KB": jpeg(7000, 7000),
        "JPEG 65500x65500, progressive": jpeg(65500, 65500, progressive=True),
        "JPEG, 5000 scans": progressive[:-2] + progressive[last:-2][:200] * 5000 + b"\xff\xd9",
        "WebP 16777216x16777216": webp(1 << 24, 1 << 24),
        "BMP 30000x30000, run lengths": bmp_runs(30000, 30000),
        "TIFF 100000x100000": tiff(100_000, 100_000),
        "TIFF, 2**30 strips": tiff(100, 100, strips=1 << 30),
        "zip of zips": zip_of_zips(),
        "gzip of zeros": gzip.compress(bytes(100 << 20)),
        "GIF 65535x65535": b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b";",
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg" width="1e9" height="1e9"/>',
        "pickle": b"\x80\x04\x95\x1e\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
    }
    for kind, data in whole.items():
        for percent in (1, 50, 90):
            found[f"{kind[1:].upper()}, cut at {percent} %"] = data[: len(data) * percent // 100]
    return found
