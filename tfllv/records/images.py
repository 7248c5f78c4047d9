"""Picture files for records: a JPEG is copied byte for byte, everything else becomes a JPEG or PNG in RGB.

Pixels stay as they are stored: an Exif orientation is not applied, because TensorFlow's decoder ignores it and boxes
are drawn on stored pixels.
"""

from __future__ import annotations

import dataclasses
import io
import warnings
from typing import Any

import cv2
import numpy as np

MAX_PIXELS = 100_000_000
_PNG_END = b"IEND\xaeB`\x82"
_KINDS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")


@dataclasses.dataclass(frozen=True)
class Encoded:
    """A picture as it goes into a record.

    Attributes:
      data: a JPEG or PNG file.
      kind: `jpeg` or `png`, as TFOD writes it.
      width: pixels.
      height: pixels.
    """

    data: bytes
    kind: str
    width: int
    height: int


def take(data: bytes, *, lossless: bool = False, quality: int = 95) -> Encoded:
    """Takes a picture file into a record.

    Grey and RGB JPEGs are copied; they are decoded at an eighth of their size, which finds a file cut short or broken.
    Other types (PNG, WebP, BMP, TIFF, CMYK) are decoded, alpha is dropped, and become a JPEG.

    Args:
      data: the file.
      lossless: they become a PNG instead, and a PNG of 8-bit grey or RGB is copied: for pictures that are targets.
      quality: of a JPEG that has to be made.

    Returns:
      The picture.

    Raises:
      ValueError: if it is not a picture of the kinds above, too large, or broken.
    """
    with _one_line(len(data)):
        image = _open(data)
        if image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L"):
            width, height = image.size
            image.draft("L", (width // 8, height // 8))
            image.decodermaxblock = len(data)  # in one piece: at each piece's end the decoder steps back a row
            image.load()
            return Encoded(data, "jpeg", width, height)
        pixels = _pixels(image, data)
        if image.format == "PNG" and _PNG_END not in data:
            raise ValueError("the file ends before the PNG's last chunk")
        if lossless and image.format == "PNG" and image.mode in ("RGB", "L") and "transparency" not in image.info:
            return Encoded(data, "png", pixels.shape[1], pixels.shape[0])
        return encode(pixels, "png" if lossless else "jpeg", quality=quality)


def decode(data: bytes) -> np.ndarray:
    """Decodes a picture file to [H, W, 3] uint8 RGB, as stored.

    Raises:
      ValueError: as `take`.
    """
    with _one_line(len(data)):
        return _pixels(_open(data), data)


def size(data: bytes) -> tuple[int, int]:
    """Returns a picture's (width, height) from its header.

    Raises:
      ValueError: as `take`.
    """
    with _one_line(len(data)):
        width, height = _open(data).size
        return width, height


def encode(pixels: np.ndarray, kind: str, *, quality: int = 95) -> Encoded:
    """Encodes [H, W, 3] uint8 RGB as `jpeg` or `png`.

    Raises:
      ValueError: if the type is unknown or cannot hold the size.
    """
    options = {"jpeg": [cv2.IMWRITE_JPEG_QUALITY, quality], "png": [cv2.IMWRITE_PNG_COMPRESSION, 4]}
    if kind not in options:
        raise ValueError(f"`kind` must be jpeg or png. Received: kind='{kind}'.")
    done, data = cv2.imencode(f".{kind}", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options[kind])
    if not done:
        raise ValueError(f"a {kind} of {pixels.shape[1]}x{pixels.shape[0]} pixels could not be made.")
    return Encoded(data.tobytes(), kind, pixels.shape[1], pixels.shape[0])


class _one_line:  # noqa: N801 - reads as a statement where it is used
    """Turns whatever a decoder raises into one ValueError, and its warnings (a decompression bomb) into errors."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.caught = warnings.catch_warnings()

    def __enter__(self) -> None:
        self.caught.__enter__()
        warnings.simplefilter("error")

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.caught.__exit__(kind, error, trace)
        if isinstance(error, Exception) and not isinstance(error, MemoryError):
            reason = " ".join(str(error).split())[:160]
            raise ValueError(f"not a whole picture of a known type ({self.length:,} bytes): {reason}") from None


def _open(data: bytes) -> Any:
    from PIL import Image

    image = Image.open(io.BytesIO(data), formats=_KINDS)
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width}x{image.height} pixels found; expected {MAX_PIXELS / 1e6:g} megapixels at most")
    return image


def _pixels(image: Any, data: bytes) -> np.ndarray:
    """Decodes an opened picture: 16 bits by OpenCV, which scales them to 8, others by Pillow; alpha is dropped."""
    if image.mode.startswith("I"):
        found: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if found is None:
            raise ValueError("the decoder gave no pixels")
        return np.asarray(cv2.cvtColor(found, cv2.COLOR_BGR2RGB))
    image.load()
    return np.asarray(image.convert("RGB"))
