"""SGZ: zero-shot enhancement by a light curve network (Zheng and Gupta, WACV Workshops 2022, arXiv:2110.00970)."""

from __future__ import annotations

from typing import Any

import keras

from tfllv.models.curve import CurveNetwork


@keras.saving.register_keras_serializable(package="tfllv")
class SGZ(CurveNetwork):
    """The enhancer of SGZ: 10,561 parameters, one 3-channel curve map for all eight iterations.

    `call`, `shrink`, `curve_map`, `enlarge` and `apply_curve` are described at `CurveNetwork`. The reference crops
    the image to multiples of `scale_factor`; here every size keeps its own.

    Args:
      scale_factor: the map is predicted at 1 / scale_factor of each side, >= 1. The authors train at 1, test at 12.
      conv_type: `dsc`, depthwise separable, or `tc`, plain 3x3 (67,299 parameters).
      seed: of the initial weights (uniform +-1 / sqrt(fan_in), PyTorch's own, as the authors trained).
      dtype: a Keras dtype policy for the convolutions, such as `mixed_bfloat16`.
      name: the model's name.

    Raises:
      ValueError: if an option is out of range.
    """

    def __init__(
        self,
        *,
        scale_factor: int = 1,
        conv_type: str = "dsc",
        seed: int = 0,
        dtype: Any = None,
        name: str | None = "sgz",
    ):
        super().__init__(scale_factor=scale_factor, conv_type=conv_type, seed=seed, dtype=dtype, name=name)
