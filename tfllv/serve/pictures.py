"""A picture as it comes and as it goes: content checked, header before pixels, options read, result encoded."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from tfllv import contracts
from tfllv.inputs import image_files
from tfllv.inputs.image_header import FORMATS, Header, read_header
from tfllv.serve.limits import Limits
from tfllv.serve.refusals import RefusalError

OUTPUT_FORMATS = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
_NO_LIMIT = 1 << 62
# A progressive JPEG has about ten scans. Each one is a pass over all pixels, whatever the few bytes that it takes.
_MAX_SCANS = 100


@dataclasses.dataclass(frozen=True)
class Rendering:
    """How a result is written.

    Attributes:
      format: a key of `OUTPUT_FORMATS`.
      quality: of JPEG and WebP, 1 to 100.
      strength: share of the enhanced picture in the result, in [0, 1]; the rest is the input.
    """

    format: str = "png"
    quality: int = 95
    strength: float = 1.0

    @property
    def media_type(self) -> str:
        """The result's Content-Type."""
        return OUTPUT_FORMATS[self.format]

    @property
    def suffix(self) -> str:
        """The ending of its file name."""
        return ".jpg" if self.format == "jpeg" else f".{self.format}"


def read_rendering(values: Mapping[str, str]) -> Rendering:
    """Reads `format`, `quality` and `strength` from query and form.

    Raises:
      RefusalError: 400, if one is unknown or out of range.
    """
    kind = values.get("format", "png").lower()
    kind = "jpeg" if kind == "jpg" else kind
    if kind not in OUTPUT_FORMATS:
        raise RefusalError(
            400, "bad_parameter", f"`format` must be one of {', '.join(OUTPUT_FORMATS)}. Received: '{kind[:40]}'."
        )
    quality = read_number(values, "quality", 95, 1, 100)
    if quality != int(quality):
        raise RefusalError(400, "bad_parameter", f"`quality` must be a whole number. Received: {quality}.")
    return Rendering(kind, int(quality), read_number(values, "strength", 1.0, 0.0, 1.0))


def read_number(values: Mapping[str, str], name: str, default: float, low: float, high: float) -> float:
    """Reads one number of a request.

    Raises:
      RefusalError: 400, if it is no number from `low` to `high`.
    """
    text = values.get(name)
    if text is None or text == "":
        return default
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not low <= number <= high:
        raise RefusalError(
            400, "bad_parameter", f"`{name}` must be a number from {low:g} to {high:g}. Received: '{text[:40]}'."
        )
    return number


def read_flag(values: Mapping[str, str], name: str) -> bool:
    """Reads a yes or no of a request; absent is no.

    Raises:
      RefusalError: 400, if it is neither.
    """
    text = values.get(name, "0").lower()
    if text not in ("0", "1", "false", "true", "no", "yes", ""):
        raise RefusalError(400, "bad_parameter", f"`{name}` must be 1 or 0. Received: '{text[:40]}'.")
    return text in ("1", "true", "yes")


def check_upload(data: bytes, limits: Limits) -> Header:
    """Checks an upload without decoding a pixel.

    Args:
      data: the file's bytes.
      limits: `max_bytes` and `max_pixels` are used.

    Returns:
      Its header.

    Raises:
      RefusalError: 400 if it is empty, 413 if it is too large, 415 if its type is not read, 422 if it is broken.
    """
    if not data:
        raise RefusalError(400, "empty_file", "`image` must be a picture. Received: 0 bytes.")
    if len(data) > limits.max_bytes:
        raise RefusalError(
            413, "too_large", f"`image` must have at most {limits.max_bytes:,} bytes. Received: {len(data):,}."
        )
    if not _known_type(data):
        raise RefusalError(
            415,
            "unknown_type",
            f"`image` must be a picture of type {', '.join(FORMATS[:-1])} or {FORMATS[-1]}, by its content. Received: "
            f"{len(data):,} bytes that begin with {data[:4].decode('latin-1')!r}.",
        )
    try:
        header = read_header(data, max_pixels=_NO_LIMIT)
    except ValueError as error:
        raise RefusalError(422, "broken_image", str(error)) from None
    if header.width * header.height > limits.max_pixels:
        raise RefusalError(
            413,
            "too_many_pixels",
            f"`image` must have at most {limits.max_pixels / 1e6:g} megapixels. Received: {header.width}x"
            f"{header.height}, {header.width * header.height / 1e6:.1f} megapixels.",
        )
    if header.format == "JPEG" and data.count(b"\xff\xda") > _MAX_SCANS:
        raise RefusalError(
            422, "broken_image", f"`image` must be a JPEG of at most {_MAX_SCANS} scans. Received: more."
        )
    return header


def _known_type(data: bytes) -> bool:
    return (
        data[:3] == b"\xff\xd8\xff"
        or data[:8] == b"\x89PNG\r\n\x1a\n"
        or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")
        or data[:2] == b"BM"
        or data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
    )


def decode(data: bytes, limits: Limits) -> image_files.Picture:
    """Decodes an upload that `check_upload` let pass, as `tfllv enhance` decodes a file.

    Raises:
      RefusalError: 422, if its pixels are broken.
    """
    try:
        return image_files.read_image(data, max_pixels=limits.max_pixels)
    except ValueError as error:
        raise RefusalError(422, "broken_image", str(error)) from None


def blend(before: np.ndarray, after: np.ndarray, strength: float) -> np.ndarray:
    """Mixes input and result: [H, W, 3] uint8 or uint16 both; `strength` is the share of `after`, in [0, 1]."""
    if strength == 1.0:
        return after
    mixed = contracts.to_float(before) * np.float32(1 - strength) + contracts.to_float(after) * np.float32(strength)
    return contracts.to_type(mixed, before.dtype)


def encode(
    pixels: np.ndarray, rendering: Rendering, *, alpha: np.ndarray | None = None, like: Header | None = None
) -> bytes:
    """Encodes a result as `tfllv enhance` writes it: alpha, 16 bits, colour profile and Exif as the type can hold them.

    Raises:
      RefusalError: 422, if the type cannot hold the size.
    """
    try:
        return image_files.encode_image(rendering.suffix, pixels, alpha=alpha, quality=rendering.quality, like=like)
    except ValueError as error:
        raise RefusalError(422, "cannot_encode", str(error)) from None
