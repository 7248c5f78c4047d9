"""Segmentation losses: a class for every pixel, with pixels of no class left out and rare classes weighted up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from tfllv import contracts

BALANCES = ("none", "median", "log")


def cross_entropy(logits: Any, mask: Any, *, class_weights: Sequence[float] | np.ndarray | None = None) -> Any:
    """Weighted cross-entropy of every pixel's class, averaged over all pixels.

    The sum is divided by the number of pixels, those of no class included, not by the sum of the weights: so the loss
    of a batch is the mean of the losses of its parts, whatever is in them, and training on several replicas or in
    several parts is the same as on one.

    Args:
      logits: [B, H, W, C] float32, before the softmax.
      mask: [B, H, W] int, class ids 0 to C - 1, or `contracts.IGNORE_LABEL` where a pixel does not count.
      class_weights: [C], the weight of each class's pixels; None: 1 each.

    Returns:
      Scalar >= 0; 0 where no pixel has a class.

    Raises:
      ValueError: if the shapes do not belong together.
    """
    if len(logits.shape) != 4 or len(mask.shape) != 3:
        raise ValueError(
            f"`logits` must be [B, H, W, C] and `mask` [B, H, W]. Received: shapes {tuple(logits.shape)} and "
            f"{tuple(mask.shape)}."
        )
    weights = np.ones(logits.shape[-1]) if class_weights is None else np.asarray(class_weights)
    if weights.shape != (logits.shape[-1],):
        raise ValueError(
            f"`class_weights` must have one value for each of {logits.shape[-1]} classes. Received: {weights.shape}."
        )
    mask = ops.cast(mask, "int32")
    counts = ops.not_equal(mask, contracts.IGNORE_LABEL)
    labels = ops.where(counts, mask, 0)
    losses = ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    table = ops.convert_to_tensor(weights, losses.dtype)
    return ops.mean(losses * ops.take(table, labels) * ops.cast(counts, losses.dtype))


def balance(counts: np.ndarray, rule: str) -> np.ndarray:
    """Returns weights that make up for rare classes, scaled so that the mean over the counted pixels is 1.

    `median`: the median frequency over a class's own, its frequency being its share of the pixels of those pictures
    that have it (Eigen and Fergus, ICCV 2015, https://arxiv.org/abs/1411.4734). `log`: 1 / ln(1.02 + its share of all
    pixels) (ENet, Paszke et al., 2016, https://arxiv.org/abs/1606.02147), at most 50. `none`: 1 each.

    Args:
      counts: [N, C], the pixels of each class in each training picture; no class's pixels are in none of them.
      rule: of `BALANCES`.

    Returns:
      [C] float64 > 0; a class that never occurs has the greatest weight of the others.

    Raises:
      ValueError: if the rule is unknown, or no pixel has a class.
    """
    if rule not in BALANCES:
        raise ValueError(
            f"`rule` must be one of {', '.join(BALANCES)}. Received: rule='{rule}'; "
            f"{contracts.nearest_name(rule, BALANCES)}"
        )
    counts = np.asarray(counts, np.float64)
    total = counts.sum(0)
    if counts.ndim != 2 or not total.any():
        raise ValueError(f"`counts` must be [N, C] and have a pixel with a class. Received: shape={counts.shape}.")
    present = total > 0
    share = total / total.sum()
    weights = np.ones(len(total))
    if rule == "log":
        weights = 1 / np.log(1.02 + share)
    elif rule == "median":
        pixels = np.where(counts > 0, counts.sum(1, keepdims=True), 0).sum(0)
        frequency = total[present] / pixels[present]
        weights[present] = np.median(frequency) / frequency
    weights[~present] = weights[present].max()
    return weights / (weights * share).sum()
