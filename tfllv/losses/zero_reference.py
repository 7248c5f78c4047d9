"""Losses that judge an enhanced picture without a reference: exposure, colour, structure and smoothness.

They are the terms of Zero-DCE (Guo et al., CVPR 2020, https://arxiv.org/abs/2001.06826, Eq. 5-8) as SGZ (Zheng and
Gupta, WACVW 2022, https://arxiv.org/abs/2110.00970) computes them. Pictures are float32 [B, H, W, C] in [0, 1]; every
loss is a scalar, unweighted, and at least 0. Where a side is shorter than the pooling patch, the patch is cut to that
side, so a 1x1 picture has a value as well.
"""

from __future__ import annotations

from typing import Any

from keras import ops

PATCH_SIZE = 4
EXPOSURE_PATCH_SIZE = 16
EXPOSURE_LEVEL = 0.6
NEIGHBOURS = (4, 8)

# Offsets (row, column) of the neighbours in the zero-padded map, whose own pixel is at (1, 1).
_CROSS = ((1, 0), (1, 2), (0, 1), (2, 1))
_DIAGONAL = ((0, 0), (0, 2), (2, 0), (2, 2))


def spatial_consistency(low: Any, enhanced: Any, *, patch_size: int = PATCH_SIZE, neighbours: int = 8) -> Any:
    """Asks that neighbouring regions differ after enhancement as much as they did before.

    Eq. 5 of Zero-DCE for `neighbours=4`; SGZ adds the four diagonals at half weight.

    Args:
      low: [B, H, W, C] float32 in [0, 1], the input.
      enhanced: [B, H, W, C] float32 in [0, 1], the output for it.
      patch_size: side of a region in pixels, >= 1.
      neighbours: 8, or 4 for the form of Zero-DCE.

    Returns:
      Scalar: the mean of `spatial_consistency_map`.

    Raises:
      ValueError: as `spatial_consistency_map`.
    """
    return ops.mean(spatial_consistency_map(low, enhanced, patch_size=patch_size, neighbours=neighbours))


def spatial_consistency_map(low: Any, enhanced: Any, *, patch_size: int = PATCH_SIZE, neighbours: int = 8) -> Any:
    """Returns the spatial consistency loss of every region, [B, H // patch_size, W // patch_size, 1].

    The border is padded with zeros, as in the reference, so a border region is also compared with black.

    Raises:
      ValueError: if a picture is not rank 4, the shapes differ, `patch_size` < 1 or `neighbours` is not 4 or 8.
    """
    _check_rank(low, "low")
    _check_rank(enhanced, "enhanced")
    if any(None not in sides and sides[0] != sides[1] for sides in zip(low.shape, enhanced.shape, strict=True)):
        raise ValueError(
            "`enhanced` must have the shape of `low`. "
            f"Received: low.shape={tuple(low.shape)}, enhanced.shape={tuple(enhanced.shape)}."
        )
    if neighbours not in NEIGHBOURS:
        raise ValueError(f"`neighbours` must be 4 or 8. Received: neighbours={neighbours}.")
    # Pooling and neighbour differences are linear: one difference map stands for both pictures.
    change = _pooled_luminance(low, patch_size) - _pooled_luminance(enhanced, patch_size)
    height, width = ops.shape(change)[1], ops.shape(change)[2]
    padded = ops.pad(change, [[0, 0], [1, 1], [1, 1], [0, 0]])

    def squared_differences(offsets: tuple[tuple[int, int], ...]) -> Any:
        shifted = [padded[:, row : row + height, column : column + width] for row, column in offsets]
        return sum(ops.square(change - neighbour) for neighbour in shifted)

    loss = squared_differences(_CROSS)
    if neighbours == 8:
        loss = loss + 0.5 * squared_differences(_DIAGONAL)
    return loss


def color_constancy(enhanced: Any) -> Any:
    """Asks that the three channels have the same mean over the picture (the grey-world assumption).

    Eq. 7 of Zero-DCE as its code has it: the root of the summed fourth powers of the differences between channel means,
    averaged over the batch. The reference's gradient is NaN on an exactly grey picture; here it is 0 there, the limit.

    Args:
      enhanced: [B, H, W, 3] float32 in [0, 1].

    Returns:
      Scalar; 0 for grey pictures.

    Raises:
      ValueError: if `enhanced` is not rank 4 with 3 channels.
    """
    _check_rank(enhanced, "enhanced")
    if enhanced.shape[-1] != 3:
        raise ValueError(f"`enhanced` must have 3 channels. Received: shape={tuple(enhanced.shape)}.")
    # Small differences of means are raised to the 4th power: pixels must lie innermost, where TensorFlow sums pairwise
    # (one running float32 sum over 256x256 pixels puts the loss off by 1e-4).
    mean = ops.mean(ops.transpose(enhanced, (0, 3, 1, 2)), axis=(2, 3))
    red, green, blue = mean[:, 0], mean[:, 1], mean[:, 2]
    total = (red - green) ** 4 + (red - blue) ** 4 + (green - blue) ** 4
    # The root's slope at 0 is infinite, and infinity times 0 is NaN: the root never sees the zero.
    positive = total > 0
    root = ops.sqrt(ops.where(positive, total, ops.ones_like(total)))
    return ops.mean(ops.where(positive, root, ops.zeros_like(root)))


def exposure_control(enhanced: Any, *, level: float = EXPOSURE_LEVEL, patch_size: int = EXPOSURE_PATCH_SIZE) -> Any:
    """Asks that every region is as bright as `level`: mean squared distance, Eq. 6 of Zero-DCE as its code has it.

    Args:
      enhanced: [B, H, W, C] float32 in [0, 1].
      level: the wanted brightness, in [0, 1].
      patch_size: side of a region in pixels, >= 1; an incomplete region at the border is left out.

    Returns:
      Scalar; 0 where every region has the mean `level`.

    Raises:
      ValueError: if `enhanced` is not rank 4, `level` is outside [0, 1] or `patch_size` < 1.
    """
    _check_rank(enhanced, "enhanced")
    if not 0 <= level <= 1:
        raise ValueError(f"`level` must be in [0, 1]. Received: level={level}.")
    return ops.mean(ops.square(_pooled_luminance(enhanced, patch_size) - level))


def total_variation(curve: Any) -> Any:
    """Asks that the curve map is smooth: squared differences of vertical and horizontal neighbours.

    Eq. 8 of Zero-DCE as its code has it: 2 (sum dh^2 / ((H - 1) W) + sum dw^2 / (H (W - 1))) / B, summed over the
    channels, not averaged. A side of one pixel has no neighbours and adds 0.

    Args:
      curve: [B, H, W, C] float32, the curve map.

    Returns:
      Scalar; 0 for a flat map.

    Raises:
      ValueError: if `curve` is not rank 4.
    """
    _check_rank(curve, "curve")
    vertical = ops.square(curve[:, 1:] - curve[:, :-1])
    horizontal = ops.square(curve[:, :, 1:] - curve[:, :, :-1])
    return 2.0 * (_sum_over_positions(vertical) + _sum_over_positions(horizontal))


def _sum_over_positions(squares: Any) -> Any:
    """Returns the mean over batch and positions of the sum over channels; 0 where there are no positions."""
    batch, height, width, _ = ops.shape(squares)
    count = ops.maximum(ops.cast(batch * height * width, squares.dtype), 1)
    return ops.sum(squares) / count


def _pooled_luminance(image: Any, patch_size: int) -> Any:
    """Returns the channel mean averaged over `patch_size` squares, [B, H // patch_size, W // patch_size, 1]."""
    if patch_size < 1:
        raise ValueError(f"`patch_size` must be >= 1. Received: patch_size={patch_size}.")
    luminance = ops.mean(image, axis=-1, keepdims=True)
    # A side that is not known before the graph runs cannot be compared with the patch: it is taken to be long enough.
    size = tuple(min(patch_size, side) if isinstance(side, int) else patch_size for side in image.shape[1:3])
    return ops.average_pool(luminance, pool_size=size, strides=size, padding="valid", data_format="channels_last")


def _check_rank(image: Any, name: str) -> None:
    if len(image.shape) != 4:
        raise ValueError(f"`{name}` must be [B, H, W, C]. Received: shape={tuple(image.shape)}.")
