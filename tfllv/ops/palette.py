"""Colours for maps of classes: always the same colour for the same id."""

from __future__ import annotations

import colorsys

import numpy as np

from tfllv import contracts

VOID = (0.5, 0.5, 0.5)


def class_colors() -> np.ndarray:
    """Returns the colour of each id: [256, 3] float32 in [0, 1]; `contracts.IGNORE_LABEL` is mid-grey.

    Neighbouring ids are far apart: hues follow the golden ratio, brightness and saturation change every few ids.
    """
    colors = [
        colorsys.hsv_to_rgb(
            (0.58 + index * 0.618034) % 1, (0.85, 0.55, 0.7)[index % 3], (0.95, 0.65, 0.8)[index // 3 % 3]
        )
        for index in range(256)
    ]
    colors[contracts.IGNORE_LABEL] = VOID
    return np.asarray(colors, np.float32)


def colorize(mask: np.ndarray) -> np.ndarray:
    """Returns class ids, [..., H, W] of 0 to 255, as colours: [..., H, W, 3] float32 in [0, 1]."""
    return class_colors()[np.asarray(mask)]
