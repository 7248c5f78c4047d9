"""Zero-DCE (Guo et al., CVPR 2020, arXiv:2001.06826) and Zero-DCE++ (Li et al., TPAMI 2021, arXiv:2103.00860)."""

from __future__ import annotations

from typing import Any

import keras

from tfllv.models.curve import ITERATIONS, CurveNetwork


@keras.saving.register_keras_serializable(package="tfllv")
class ZeroDCE(CurveNetwork):
    """Zero-DCE: plain 3x3 convolutions at full size, 79,416 parameters, a 3-channel curve map for each iteration.

    Args:
      seed: of the initial weights: kernels N(0, 0.02), biases uniform +-1 / sqrt(fan_in), as the authors trained.
      dtype: a Keras dtype policy for the convolutions, such as `mixed_bfloat16`.
      name: the model's name.
    """

    def __init__(self, *, seed: int = 0, dtype: Any = None, name: str | None = "zero_dce"):
        super().__init__(
            scale_factor=1,
            conv_type="tc",
            curve_channels=3 * ITERATIONS,
            kernel_stddev=0.02,
            seed=seed,
            dtype=dtype,
            name=name,
        )


@keras.saving.register_keras_serializable(package="tfllv")
class ZeroDCEPP(CurveNetwork):
    """Zero-DCE++: depthwise separable convolutions on a shrunk image, 10,561 parameters, the topology of SGZ.

    Args:
      scale_factor: the map is predicted at 1 / scale_factor of each side, >= 1.
      seed: of the initial weights (uniform +-1 / sqrt(fan_in)).
      dtype: a Keras dtype policy for the convolutions, such as `mixed_bfloat16`.
      name: the model's name.

    Raises:
      ValueError: if an option is out of range.
    """

    def __init__(self, *, scale_factor: int = 12, seed: int = 0, dtype: Any = None, name: str | None = "zero_dce_pp"):
        super().__init__(scale_factor=scale_factor, conv_type="dsc", seed=seed, dtype=dtype, name=name)
