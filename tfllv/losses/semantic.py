"""The semantic loss of SGZ: the focal loss of a frozen segmentation network against its own decision."""

from __future__ import annotations

from typing import Any

from keras import ops

GAMMA = 2.0
EPSILON = 1e-7


def focal_self_label(logits: Any, *, gamma: float = GAMMA, epsilon: float = EPSILON) -> Any:
    """Asks that the segmentation network is sure of the class it sees at every position.

    The label is the network's own most probable class, so no annotation is needed (SGZ: Zheng and Gupta, WACVW 2022,
    https://arxiv.org/abs/2110.00970; focal loss: Lin et al., ICCV 2017, https://arxiv.org/abs/1708.02002, Eq. 4). The
    value is the mean over positions of -(1 - p)^gamma log p, p the largest softmax probability.

    Args:
      logits: [B, H, W, classes] float32, before the softmax.
      gamma: focusing exponent, >= 0; 0 gives the cross-entropy.
      epsilon: probabilities are kept inside [epsilon, 1 - epsilon].

    Returns:
      Scalar >= 0; near 0 where the network is sure everywhere.

    Raises:
      ValueError: if `logits` is not rank 4, `gamma` < 0 or `epsilon` is outside (0, 0.5).
    """
    if len(logits.shape) != 4:
        raise ValueError(f"`logits` must be [B, H, W, classes]. Received: shape={tuple(logits.shape)}.")
    if gamma < 0:
        raise ValueError(f"`gamma` must be >= 0. Received: gamma={gamma}.")
    if not 0 < epsilon < 0.5:
        raise ValueError(f"`epsilon` must be in (0, 0.5). Received: epsilon={epsilon}.")
    probabilities = ops.softmax(logits, axis=-1)
    label = ops.stop_gradient(ops.one_hot(ops.argmax(logits, axis=-1), logits.shape[-1], dtype=probabilities.dtype))
    # A maximum would share the gradient among equal classes; the label is one class, the first.
    probability = ops.clip(ops.sum(probabilities * label, axis=-1), epsilon, 1 - epsilon)
    return ops.mean(-((1 - probability) ** gamma) * ops.log(probability))
