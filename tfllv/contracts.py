"""The conventions every module shares, stated once.

Images are float32 `[..., H, W, 3]`, sRGB in [0, 1]; uint8 appears only at decode, export and the file boundary.
Masks are int32 `[B, H, W]` with `IGNORE_LABEL` for "no class". Boxes are `[ymin, xmin, ymax, xmax]`, normalised to
[0, 1]. Randomness is always a `seed` argument, never global state. This module imports NumPy only.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

# Keys of the dicts that networks return. Every network has IMAGE.
IMAGE = "image"
CURVE = "curve"
LOGITS = "logits"

# Keys of a batch dict.
LOW = "low"
HIGH = "high"
MASK = "mask"
LABEL = "label"
NAME = "name"
NOISE = "noise"  # [B, H, W, 3] standard normal, of a diffusion model's training
PERTURBATION = "perturbation"  # [B, H, W, 3] added to that noise in what is given to the network, not in the target
TIME = "time"  # [B] int32, the noise schedule's time
LEVEL = "level"  # [B] the mean of the whole dark picture, of which a batch may hold a part

IGNORE_LABEL = 255

# File name endings of the image types that are read; everything else is refused (checked by content as well).
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")

BT601_LUMA = (0.299, 0.587, 0.114)


def check_image(image: Any, name: str = "image") -> np.ndarray:
    """Checks that `image` is one image or one batch by the conventions above.

    Args:
      image: [H, W, 3] or [B, H, W, 3], float32 in [0, 1] or uint8. float64 and float16 are converted to float32.
      name: the argument's name, for the message.

    Returns:
      The image as a float32 or uint8 array, not copied where it already is one.

    Raises:
      ValueError: if rank, channels, size or type are wrong, or if a float image holds NaN or infinity.
    """
    array = np.asarray(image)
    if array.ndim not in (3, 4) or array.shape[-1] != 3 or 0 in array.shape:
        raise ValueError(
            f"`{name}` must be [H, W, 3] or [B, H, W, 3] with no empty side. Received: shape={array.shape}."
        )
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f":
        raise ValueError(
            f"`{name}` must be float32 in [0, 1] or uint8. Received: dtype={array.dtype}; divide by its maximum first."
        )
    array = np.asarray(array, np.float32)
    if not np.isfinite(array).all():
        raise ValueError(
            f"`{name}` must be finite. Received: {int((~np.isfinite(array)).sum())} NaN or infinite values."
        )
    return array


def to_float(image: np.ndarray) -> np.ndarray:
    """Returns a uint8 or float image as float32 in [0, 1]; float input is clipped, not copied when already inside."""
    if image.dtype == np.uint8:
        return np.multiply(image, np.float32(1 / 255), dtype=np.float32)
    if image.dtype == np.uint16:
        return np.multiply(image, np.float32(1 / 65535), dtype=np.float32)
    image = np.asarray(image, np.float32)
    if image.size and (image.min() < 0 or image.max() > 1):
        return np.clip(image, 0, 1)
    return image


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Returns a float image in [0, 1] as uint8, clipped and rounded half up; uint8 passes through."""
    if image.dtype == np.uint8:
        return image
    return (np.clip(image, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)


def to_type(image: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Returns a float image in [0, 1] as uint8 or uint16, clipped and rounded half up, or as float32."""
    if dtype == np.uint8:
        return to_uint8(image)
    if dtype == np.uint16:
        return (np.clip(image, 0, 1) * np.float32(65535) + np.float32(0.5)).astype(np.uint16)
    return image


def nearest_name(name: str, known: Any) -> str:
    """Returns a hint such as `did you mean 'sgz'?`, or the whole list where nothing is near."""
    import difflib

    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(names)}."


def fsync_folder(folder: str | os.PathLike[str]) -> None:
    """Flushes a folder's entries to disk, so that a rename in it survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
