"""LPIPS, the learned perceptual distance, by its authors' own package: `pip install tfllv[lpips]`.

The package brings PyTorch and, when first used, fetches torchvision's AlexNet weights. It is not re-implemented here:
the number is defined by those weights and by the linear layers that the package carries.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from tfllv.metrics import fidelity


@functools.cache
def _network() -> Any:
    try:
        import lpips as package
    except (ImportError, RuntimeError) as error:  # a PyTorch that does not fit the package is a RuntimeError
        raise ImportError(f"LPIPS needs the extra: pip install 'tfllv[lpips]' ({error}).") from None
    try:
        return package.LPIPS(net="alex", version="0.1", verbose=False).eval()
    except OSError as error:  # a download that fails is a URLError
        raise OSError(f"LPIPS needs torchvision's AlexNet weights, which could not be had: {error}.") from None


def lpips(image: np.ndarray, truth: np.ndarray) -> float:
    """Returns the LPIPS distance of an image from its truth: AlexNet, version 0.1, averaged over the picture.

    Zhang et al. 2018 (arXiv:1801.03924), Eq. 1, as the authors' package computes it on images in [-1, 1].

    Args:
      image: [H, W, 3] uint8, or float in [0, 1], which is rounded to 256 levels.
      truth: an image of the same shape, at least 64x64: the network's layers need that.

    Returns:
      A number >= 0; 0 where the images are equal.

    Raises:
      ValueError: if shapes differ or are not as above.
      ImportError: if the package is not installed.
      OSError: if the network's weights cannot be had.
    """
    pair = fidelity.paired(image, truth, quantize=True)
    if pair[0].ndim != 3 or pair[0].shape[2] != 3 or min(pair[0].shape[:2]) < 64:
        raise ValueError(f"`image` must be [H, W, 3] of at least 64x64 pixels. Received: shape={pair[0].shape}.")
    network = _network()
    import torch

    with torch.inference_mode():
        left, right = (torch.from_numpy((2 * x - 1).astype(np.float32).transpose(2, 0, 1)[None].copy()) for x in pair)
        return float(network(left, right).item())
