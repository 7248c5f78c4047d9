"""Image files in and out: bytes of any common kind to upright RGB pixels, and back without a half-written file.

Read are JPEG, PNG, WebP, BMP and TIFF, told apart by content. Pixels are those that Pillow gives after its
`exif_transpose`, within one level; 16-bit PNG and TIFF stay at 16 bits. OpenCV decodes what it decodes right, because
it is up to twice as fast (6 megapixels: JPEG 20 ms against 41 ms); Pillow does the rest: CMYK, TIFF of up to 8 bits,
unusual bitmaps.

A colour profile is carried over to the output, not applied: the stored values are enhanced as they are and mean the
same colours afterwards, at any depth and without loss of gamut. Profiles that are not RGB are dropped, since grey and
CMYK pictures become RGB. So is carried the Exif block, with its orientation set to upright and without its thumbnail.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import pathlib
import secrets
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

from tfllv.inputs import png, tiff_tags
from tfllv.inputs.image_header import MAX_PIXELS, Header, read_header

__all__ = ["MAX_PIXELS", "SUFFIX_FORMATS", "Header", "Picture", "read_header", "read_image", "write_image"]

SUFFIX_FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WebP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}

# OpenCV 5 refuses broken data under these flags, earlier versions return what was decoded up to there.
_FLAGS = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
_LARGEST_SIDE = {"JPEG": 65535, "WebP": 16383}
_MAX_SEGMENT = 65_000  # bytes of metadata that one JPEG segment holds, less a margin for its own head


@dataclasses.dataclass(frozen=True)
class Picture:
    """One decoded image, upright.

    Attributes:
      pixels: [H, W, 3] uint8 or uint16, RGB.
      alpha: [H, W] of the same type, not premultiplied, or None.
      header: what the file said about itself.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None
    header: Header


def read_image(source: str | os.PathLike[str] | bytes, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Reads an image file: header first, then pixels, turned upright.

    Of an animation or a file of several pages the first picture is read; `header.several` says so.

    Args:
      source: a path, or the file's bytes.
      max_pixels: the most pixels a picture may have.

    Returns:
      The picture.

    Raises:
      ValueError: as `read_header`, or if the pixels are broken, cut short or of a kind that is not read.
      OSError: if the file cannot be read.
    """
    header = read_header(source, max_pixels=max_pixels)
    name = "image" if isinstance(source, bytes) else str(pathlib.Path(source))
    data = source if isinstance(source, bytes) else pathlib.Path(source).read_bytes()
    with _one_line(f"{name}: a {header.format} of {header.width}x{header.height} pixels in {len(data):,} bytes"):
        array, alpha = _decode_by_pillow(data, header) if _needs_pillow(header) else _decode_by_opencv(data, header)
    size = (array.shape[1], array.shape[0])
    if size != (header.upright_size if header.format == "TIFF" else (header.width, header.height)):
        raise ValueError(
            f"{name}: pixels of {size[0]}x{size[1]} found; expected {header.width}x{header.height} as in its header."
        )
    if header.format != "TIFF":  # both decoders turn a TIFF upright by themselves
        array = _turn(array, header.orientation)
        alpha = None if alpha is None else _turn(alpha, header.orientation)
    return Picture(array, alpha, header)


@contextlib.contextmanager
def _one_line(found: str) -> Iterator[None]:
    """Turns whatever a decoder raises into one ValueError that says what was found."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{found} is broken or cut short; expected a whole file ({reason}).") from None


def _needs_pillow(header: Header) -> bool:
    """Whether OpenCV reads this kind wrongly or not at all."""
    if header.format == "TIFF":
        return header.bit_depth <= 8  # it forgets alpha of grey and multiplies colours by alpha
    if header.format == "BMP":
        return header.details["depth"] in (16, 32) or header.details["compression"] in (1, 2)
    return header.layout == "cmyk"


def _decode_by_opencv(data: bytes, header: Header) -> tuple[np.ndarray, np.ndarray | None]:
    if header.format == "TIFF" and (header.details["planar"] != 1 and header.channels > 1):
        raise ValueError("16 bits in separate planes are not read; save it with interleaved samples")
    if header.format == "TIFF" and (header.layout not in ("grey", "rgb") or header.channels not in (1, 3, 4)):
        raise ValueError(f"16 bits, {header.layout}, {header.channels} channels are not read; save it as RGB or PNG")
    if header.format == "PNG":
        _check_chunks(data)
    array: Any = cv2.imdecode(np.frombuffer(data, np.uint8), _FLAGS)
    if array is None:
        raise ValueError("the decoder gave no pixels")
    if array.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"{array.dtype} samples found")
    if array.ndim == 2:
        if header.details.get("photometric") == 0:  # white is zero
            array = ~array
        return cv2.cvtColor(array, cv2.COLOR_GRAY2RGB), _grey_key_alpha(array, header)
    if array.shape[2] == 3:
        return cv2.cvtColor(array, cv2.COLOR_BGR2RGB), None
    alpha = np.ascontiguousarray(array[..., 3])
    pixels = cv2.cvtColor(array, cv2.COLOR_BGRA2RGB)
    if header.details.get("premultiplied"):
        top = np.iinfo(array.dtype).max
        scaled = pixels.astype(np.float32) * (top / np.maximum(alpha, 1).astype(np.float32))[..., None]
        pixels = np.minimum(scaled + 0.5, top).astype(array.dtype)
    return pixels, alpha if header.alpha else None


def _check_chunks(data: bytes) -> None:
    """Compares the checksums of a PNG's critical chunks, at a tenth of the cost of decoding; names what is damaged."""
    view, position = memoryview(data), 8
    while position + 12 <= len(view):
        size, name = struct.unpack_from(">I4s", view, position)
        if name == b"IEND":
            return
        if name[:1].isupper():
            found = zlib.crc32(view[position + 4 : position + 8 + size])
            (expected,) = struct.unpack_from(">I", view, position + 8 + size)
            if found != expected:
                raise ValueError(
                    f"the chunk {str(name, 'latin-1')} at byte {position} has checksum {found:08x}, not {expected:08x}"
                )
        position += 12 + size


def _grey_key_alpha(grey: Any, header: Header) -> np.ndarray | None:
    """Alpha of a grey PNG in which one level is transparent; OpenCV leaves it out."""
    if "grey_key" not in header.details:
        return None
    key, top = header.details["grey_key"], np.iinfo(grey.dtype).max
    if header.bit_depth < 8:  # levels were spread over 0 to 255 by the decoder
        key = key * 255 // ((1 << header.bit_depth) - 1)
    return np.where(grey == key, 0, top).astype(grey.dtype)


def _decode_by_pillow(data: bytes, header: Header) -> tuple[np.ndarray, np.ndarray | None]:
    # The plugin classes, not Image.open: no type but the one that was found, and no second, smaller pixel limit.
    from PIL import BmpImagePlugin, JpegImagePlugin, TiffImagePlugin

    plugins: dict[str, Any] = {
        "BMP": BmpImagePlugin.BmpImageFile,
        "JPEG": JpegImagePlugin.JpegImageFile,
        "TIFF": TiffImagePlugin.TiffImageFile,
    }
    with plugins[header.format](io.BytesIO(data)) as image:
        image.load()
        if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
            array = np.asarray(image.convert("RGBA"))
            return np.ascontiguousarray(array[..., :3]), np.ascontiguousarray(array[..., 3])
        return np.array(image.convert("RGB")), None


def _turn(array: np.ndarray, orientation: int) -> np.ndarray:
    """Applies an Exif orientation: 2 to 4 flip or turn by 180 degrees, 5 to 8 swap the axes as well."""
    if orientation >= 5:
        array = cv2.transpose(array)
    flip = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    return array if flip is None else cv2.flip(array, flip)


def write_image(
    path: str | os.PathLike[str],
    pixels: np.ndarray,
    *,
    alpha: np.ndarray | None = None,
    quality: int = 95,
    like: Header | None = None,
) -> int:
    """Writes an image file: whole or not at all.

    The suffix chooses the type. PNG and TIFF keep 16 bits, the others get 8. PNG, WebP and TIFF keep alpha; JPEG and
    BMP have none. WebP is lossless where `like` is. The bytes go to a temporary name in the same folder, are flushed
    to disk, and take their name in one step.

    Args:
      path: the file; its folder exists.
      pixels: [H, W, 3] uint8 or uint16, RGB, upright.
      alpha: [H, W], uint8 or uint16, or None.
      quality: of JPEG and WebP, 1 to 100.
      like: the header of the input, whose colour profile and Exif block are carried over.

    Returns:
      The number of bytes written.

    Raises:
      ValueError: if the suffix, an array or the quality is not as above, or the type cannot hold the size.
      OSError: if the file cannot be written; nothing is left then.
    """
    path = pathlib.Path(path)
    data = encode_image(path.suffix, pixels, alpha=alpha, quality=quality, like=like)
    write_bytes(path, data)
    return len(data)


def encode_image(
    suffix: str,
    pixels: np.ndarray,
    *,
    alpha: np.ndarray | None = None,
    quality: int = 95,
    like: Header | None = None,
) -> bytes:
    """Encodes a picture as the type of `suffix`; arguments and errors as `write_image`."""
    kind = SUFFIX_FORMATS.get(suffix.lower())
    if kind is None:
        raise ValueError(f"`path` must end in one of {', '.join(SUFFIX_FORMATS)}. Received: suffix='{suffix}'.")
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype not in (np.uint8, np.uint16) or 0 in pixels.shape:
        raise ValueError(
            f"`pixels` must be [H, W, 3] uint8 or uint16. Received: shape={pixels.shape}, dtype={pixels.dtype}."
        )
    if alpha is not None and (alpha.shape != pixels.shape[:2] or alpha.dtype not in (np.uint8, np.uint16)):
        raise ValueError(
            f"`alpha` must be {pixels.shape[:2]} uint8 or uint16. Received: shape={alpha.shape}, dtype={alpha.dtype}."
        )
    if not 1 <= quality <= 100:
        raise ValueError(f"`quality` must be from 1 to 100. Received: quality={quality}.")
    if max(pixels.shape) > _LARGEST_SIDE.get(kind, max(pixels.shape)):
        raise ValueError(
            f"a {kind} has at most {_LARGEST_SIDE[kind]} pixels a side; write a .png. Received: shape={pixels.shape}."
        )
    deep = pixels.dtype == np.uint16 and kind in ("PNG", "TIFF")
    pixels = _to_depth(pixels, deep)
    alpha = None if alpha is None or kind in ("JPEG", "BMP") else _to_depth(alpha, deep)
    profile = like.icc_profile if like else None
    if kind == "TIFF":
        return tiff_tags.encode_tiff(pixels, alpha=alpha, icc_profile=profile)
    if kind == "PNG":
        return png.encode(pixels, alpha=alpha, exif=like.exif if like else None, icc_profile=profile)
    if kind == "JPEG" and len(profile or b"") > _MAX_SEGMENT:
        return _encode_jpeg_by_pillow(pixels, quality, like)
    return _encode_by_opencv(kind, suffix.lower(), pixels, alpha, quality, like)


def _to_depth(array: np.ndarray, deep: bool) -> np.ndarray:
    if deep:
        return array if array.dtype == np.uint16 else array.astype(np.uint16) * 257
    return array if array.dtype == np.uint8 else ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _encode_by_opencv(
    kind: str, suffix: str, pixels: np.ndarray, alpha: np.ndarray | None, quality: int, like: Header | None
) -> bytes:
    array = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR if alpha is None else cv2.COLOR_RGB2BGRA)
    if alpha is not None:
        array[..., 3] = alpha
    options = []
    if kind == "JPEG":
        options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    elif kind == "WebP":  # above 100 means without loss
        options = [cv2.IMWRITE_WEBP_QUALITY, 101 if like and like.format == "WebP" and like.lossless else quality]
    kinds, blocks = [], []
    for number, block in (
        (cv2.IMAGE_METADATA_EXIF, like.exif if like else None),
        (cv2.IMAGE_METADATA_ICCP, like.icc_profile if like else None),
    ):
        if block and kind != "BMP" and (kind != "JPEG" or len(block) <= _MAX_SEGMENT):
            kinds.append(number)
            blocks.append(np.frombuffer(block, np.uint8))
    data: Any
    done, data = cv2.imencodeWithMetadata(suffix, array, kinds, blocks, options) if kinds else (False, None)
    if not done:  # the picture matters more than a profile that the encoder finds broken
        done, data = cv2.imencode(suffix, array, options)
    if not done:
        raise ValueError(f"`pixels` cannot be encoded as {kind}. Received: shape={pixels.shape}.")
    return data.tobytes()


def _encode_jpeg_by_pillow(pixels: np.ndarray, quality: int, like: Header | None) -> bytes:
    """Pillow spreads a large colour profile over several segments, OpenCV does not."""
    from PIL import Image

    file = io.BytesIO()
    exif = (like.exif if like else None) or b""
    Image.fromarray(pixels).save(
        file,
        "JPEG",
        quality=quality,
        icc_profile=like.icc_profile if like else None,
        exif=b"Exif\0\0" + exif if 0 < len(exif) <= _MAX_SEGMENT else b"",
    )
    return file.getvalue()


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes a file whole or not at all: a temporary name in the same folder, flushed, then renamed.

    Raises:
      OSError: if the folder is missing, read-only or full; nothing is left then.
    """
    commit_bytes(stage_bytes(path, data), path)


def stage_bytes(path: str | os.PathLike[str], data: bytes) -> pathlib.Path:
    """Writes `data` beside `path` under a temporary name; returns that name, for `commit_bytes`."""
    # Not derived from the name, which may already be as long as a name can be; hidden, so that no folder scan sees it.
    temporary = pathlib.Path(path).parent / f".tfllv-{secrets.token_hex(8)}.tmp"
    with _clean(temporary, path), open(temporary, "xb") as file:
        file.write(data)
    return temporary


def commit_bytes(temporary: pathlib.Path, path: str | os.PathLike[str]) -> None:
    """Flushes what `stage_bytes` wrote to disk and gives it its name, in one step."""
    with _clean(temporary, path):
        with open(temporary, "rb+") as file:  # a flush is of the file, whoever wrote it
            os.fsync(file.fileno())
        os.replace(temporary, path)


@contextlib.contextmanager
def _clean(temporary: pathlib.Path, path: str | os.PathLike[str]) -> Iterator[None]:
    """Removes the temporary file if anything fails, and names the file that was to be written."""
    try:
        yield
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(error.errno, f"cannot be written: {error.strerror}", os.fspath(path)) from None
        raise
