"""Runs an op that is written for one image on one image or on a batch, and cuts large images into strips of rows."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, Concatenate, ParamSpec

import numpy as np

from tfllv import contracts

Options = ParamSpec("Options")

# 2 ** 18 pixels of three float32 channels are 3 MiB: temporaries of that size stay in the cache and are soon reused.
STRIP_PIXELS = 2**18


def per_image(
    function: Callable[Concatenate[np.ndarray, Options], np.ndarray],
) -> Callable[Concatenate[Any, Options], np.ndarray]:
    """Makes an op on one float32 [H, W, 3] image take every image of `contracts`, batches included.

    The images of a batch are handled one by one, so a batch gives the same bits as its images alone. uint8 is read as
    levels of 255, and floats outside [0, 1] are clipped before the op runs. The input is never written to.

    Args:
      function: [H, W, 3] float32 in [0, 1] -> the same. It checks its own options.

    Returns:
      A function of [H, W, 3] or [B, H, W, 3] that raises ValueError by `contracts.check_image`.
    """

    @functools.wraps(function)
    def wrapper(image: Any, *args: Options.args, **kwargs: Options.kwargs) -> np.ndarray:
        array = contracts.check_image(image)
        if array.ndim == 3:
            return function(contracts.to_float(array), *args, **kwargs)
        result = np.empty(array.shape, np.float32)
        for index, single in enumerate(array):
            result[index] = function(contracts.to_float(single), *args, **kwargs)
        return result

    return wrapper


def row_strips(height: int, width: int) -> Iterator[slice]:
    """Yields slices of rows, in order, each of at most `STRIP_PIXELS` pixels (and at least one row)."""
    rows = max(1, STRIP_PIXELS // max(1, width))
    for top in range(0, height, rows):
        yield slice(top, min(height, top + rows))
