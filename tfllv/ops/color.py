"""Intensity maps of an image, and the ways to give an image a new intensity."""

from __future__ import annotations

import cv2
import numpy as np

from tfllv.ops import batches

# Linear sRGB to CIE XYZ (IEC 61966-2-1), each row divided by its sum: relative to the D65 white point.
_XYZ = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
_TO_XYZ = (_XYZ / _XYZ.sum(axis=1, keepdims=True)).astype(np.float32)
_FROM_XYZ = np.linalg.inv(_XYZ / _XYZ.sum(axis=1, keepdims=True)).astype(np.float32)


def luma(image: np.ndarray) -> np.ndarray:
    """Returns the BT.601 luma Y = 0.299 R + 0.587 G + 0.114 B of gamma-coded RGB.

    Args:
      image: [H, W, 3] float32 in [0, 1].

    Returns:
      [H, W] float32 in [0, 1].
    """
    return cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)


def channel_mean(image: np.ndarray) -> np.ndarray:
    """Returns (R + G + B) / 3 of an [H, W, 3] float32 image, as [H, W] float32."""
    third = np.full((1, 3), 1 / 3, np.float32)
    return cv2.transform(np.ascontiguousarray(image), third)


def channel_max(image: np.ndarray) -> np.ndarray:
    """Returns the largest of R, G and B of an [H, W, 3] float32 image, as [H, W] float32."""
    return np.maximum(np.maximum(image[..., 0], image[..., 1]), image[..., 2])


def shift_intensity(image: np.ndarray, old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Adds `new - old` to every channel and clips: with the luma as intensity, Cr and Cb stay (but colours pale).

    Args:
      image: [H, W, 3] float32 in [0, 1].
      old: [H, W] float32, the image's intensity.
      new: [H, W] float32 in [0, 1].

    Returns:
      [H, W, 3] float32 in [0, 1].
    """
    result = image + (new - old)[..., None]
    return np.clip(result, 0, 1, out=result)


def scale_intensity(image: np.ndarray, old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Gives an image a new intensity and keeps the ratios R : G : B, so that hue and saturation stay.

    The factor `new / old` is lowered to 1 / max(R, G, B) where a channel would leave [0, 1], as in step 7 of MSRCP
    (Petro, Sbert and Morel 2014, https://doi.org/10.5201/ipol.2014.107). A black pixel (all channels below 2 ** -20, a
    sixteenth of a 16-bit level) becomes the grey `new`.

    Args:
      image: [H, W, 3] float32 in [0, 1].
      old: [H, W] float32, the image's intensity, zero only where all channels are.
      new: [H, W] float32 in [0, 1].

    Returns:
      [H, W, 3] float32 in [0, 1].
    """
    top = channel_max(image)
    lit = (top >= 2**-20) & (old > 0)
    factor = np.divide(new, old, out=np.zeros_like(old), where=lit)
    np.minimum(factor, np.divide(1, top, out=np.zeros_like(top), where=lit), out=factor)
    result = image * factor[..., None]
    result[~lit] = new[~lit][:, None]
    return np.minimum(result, 1, out=result)


def lightness(image: np.ndarray) -> np.ndarray:
    """Returns L / 100 of CIE Lab (D65), for sRGB.

    Args:
      image: [H, W, 3] float32 in [0, 1].

    Returns:
      [H, W] float32 in [0, 1]; 1 for white only.
    """
    result = np.empty(image.shape[:2], np.float32)
    for rows in batches.row_strips(*image.shape[:2]):
        luminance = cv2.transform(_to_linear(image[rows]), _TO_XYZ[1:2])
        np.clip(1.16 * _compress(luminance) - 0.16, 0, 1, out=result[rows])
    return result


def shift_lightness(image: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Adds `shift` to L / 100 of CIE Lab and leaves a and b alone.

    Written out, because OpenCV's float conversion to Lab and back is off by more than one level of 255. With a and b
    fixed, the same amount is added to the three compressed coordinates f(X), f(Y), f(Z).

    Args:
      image: [H, W, 3] float32 in [0, 1], sRGB.
      shift: [H, W] float32.

    Returns:
      [H, W, 3] float32, clipped to [0, 1].
    """
    compressed = _compress(cv2.transform(_to_linear(image), _TO_XYZ))
    compressed += (shift * np.float32(1 / 1.16))[..., None]
    return _from_linear(cv2.transform(_expand(compressed), _FROM_XYZ))


def _to_linear(coded: np.ndarray) -> np.ndarray:
    """Undoes the sRGB transfer function."""
    power = cv2.pow((coded + np.float32(0.055)) * np.float32(1 / 1.055), 2.4)
    return np.where(coded <= 0.04045, coded * np.float32(1 / 12.92), power)


def _from_linear(linear: np.ndarray) -> np.ndarray:
    """Applies the sRGB transfer function, after clipping to [0, 1]."""
    linear = np.clip(linear, 0, 1)
    power = cv2.pow(linear, 1 / 2.4)
    coded = np.where(linear <= 0.0031308, linear * np.float32(12.92), np.float32(1.055) * power - np.float32(0.055))
    return np.clip(coded, 0, 1, out=coded)


def _compress(value: np.ndarray) -> np.ndarray:
    """The f of CIE Lab: a cube root with a straight line near black."""
    root = cv2.pow(np.maximum(value, 0), 1 / 3)
    return np.where(value > (6 / 29) ** 3, root, value * np.float32(841 / 108) + np.float32(4 / 29))


def _expand(value: np.ndarray) -> np.ndarray:
    """The inverse of `_compress`."""
    return np.where(value > 6 / 29, value**3, (value - np.float32(4 / 29)) * np.float32(108 / 841))
