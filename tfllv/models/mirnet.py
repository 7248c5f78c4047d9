"""MIRNet: learning enriched features for image restoration (Zamir et al., ECCV 2020, arXiv:2003.06792).

The authors' network: 31,787,419 parameters with the parts it shares. It pools over the whole picture, so a tile gives
another result than the picture it was cut from.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from tfllv import contracts
from tfllv.models import mirnet_blocks


@keras.saving.register_keras_serializable(package="tfllv")
class MIRNet(keras.Model):
    """float32 [B, H, W, 3] in [0, 1], any H and W >= 1 -> dict with `image` of the same shape, not clipped.

    Sides that are no multiple of 2^(height - 1) are continued by reflection, and the result is cut back; on multiples
    this equals the reference, which takes no others.

    Args:
      n_feat: channels of the full-resolution stream.
      n_RRG: recursive residual groups.
      n_MSRB: multi-scale residual blocks in each.
      height: streams, each at half the resolution of the one before, >= 2.
      width: runs of the dual attention units in a multi-scale block, >= 2.
      seed: of the initial weights (uniform +-1 / sqrt(fan_in), PyTorch's own, as the authors trained).
      dtype: a Keras dtype policy for the body, such as `mixed_bfloat16`; the first and last convolution and the picture
        stay float32.
      name: the model's name.

    Raises:
      ValueError: if an option is out of range.
    """

    def __init__(
        self,
        *,
        n_feat: int = 64,
        n_RRG: int = 3,
        n_MSRB: int = 2,
        height: int = 3,
        width: int = 2,
        seed: int = 0,
        dtype: Any = None,
        name: str | None = "mirnet",
    ):
        super().__init__(name=name, dtype="float32")
        self._options = {"n_feat": n_feat, "n_RRG": n_RRG, "n_MSRB": n_MSRB, "height": height, "width": width}
        # With one stream or one run, some of the fusion's weights would be dead.
        check_options(self._options, {"height": 2, "width": 2})
        self._seed = seed
        self._policy = None if dtype is None else keras.dtype_policies.get(dtype).name
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={-1: 3})
        seeds = itertools.count(100_000 * seed)
        self.act = mirnet_blocks.ScalarPReLU(dtype=dtype, name="act")  # one slope for every dual attention unit
        self.conv_in = mirnet_blocks.convolution(3, n_feat, 3, seeds, "float32", "conv_in")
        self.groups = [
            mirnet_blocks.RRG(
                n_feat, self.act, seeds, n_MSRB=n_MSRB, height=height, width=width, dtype=dtype, name=f"rrg{index}"
            )
            for index in range(n_RRG)
        ]
        self.conv_out = mirnet_blocks.convolution(n_feat, 3, 3, seeds, "float32", "conv_out")
        self(keras.Input((None, None, 3), name=contracts.IMAGE))  # makes the weights; export needs the recorded call

    def get_config(self) -> dict[str, Any]:
        """The options, so that `.keras` files rebuild the network."""
        return {**self._options, "seed": self._seed, "dtype": self._policy, "name": self.name}

    @property
    def multiple(self) -> int:
        """What the sides of a picture are brought to a multiple of."""
        return 1 << (self._options["height"] - 1)

    def build(self, input_shape: Any) -> None:
        """Makes the weights; they depend on no side."""
        if self.conv_in.built:
            return
        channels = self._options["n_feat"]
        self.conv_in.build((None, None, None, 3))
        for layer in [*self.groups, self.conv_out]:
            layer.build((None, None, None, channels))

    def compute_output_spec(self, images: Any, training: bool | None = None) -> dict[str, Any]:
        """Shapes and types of the outputs, without running the network."""
        return {contracts.IMAGE: keras.KerasTensor(images.shape, "float32")}

    def call(self, images: Any, training: bool | None = None) -> dict[str, Any]:
        """Restores a batch.

        Args:
          images: [B, H, W, 3] float32 in [0, 1], B, H, W >= 1.
          training: ignored; the network does the same in both modes.

        Returns:
          `image`: [B, H, W, 3] float32, about [0, 1], not clipped.

        Raises:
          ValueError: if `images` is not rank 4 with 3 channels, or not of a floating type.
        """
        kind = keras.backend.standardize_dtype(images.dtype)
        if "float" not in kind:
            raise ValueError(f"`images` must be float32 in [0, 1]. Received: dtype={kind}; divide by its maximum.")
        _, height, width, _ = ops.shape(images)
        padded = reflect_to_multiple(images, self.multiple)
        features = self.conv_in(padded)
        for group in self.groups:
            features = group(features)
        residual = self.conv_out(ops.cast(features, "float32"))
        return {contracts.IMAGE: images + residual[:, :height, :width]}


def check_options(options: Mapping[str, int], least: Mapping[str, int]) -> None:
    """Raises ValueError unless every option is a whole number of at least `least`, 1 where that says nothing."""
    for name, value in options.items():
        bound = least.get(name, 1)
        if isinstance(value, bool) or int(value) != value or value < bound:
            raise ValueError(f"`{name}` must be a whole number >= {bound}. Received: {name}={value}.")


def reflect_to_multiple(images: Any, multiple: int) -> Any:
    """Continues the bottom and right by reflection, without repeating the border, up to multiples of `multiple`.

    Args:
      images: [B, H, W, C]; a side may be shorter than what is added, down to 1: reflection then goes back and forth.
      multiple: >= 1.

    Returns:
      [B, H', W', C].
    """
    for axis in (1, 2):
        side = ops.shape(images)[axis]
        if isinstance(side, int) and side % multiple == 0:
            continue
        period = 2 * side - 2 if not isinstance(side, int) else max(2 * side - 2, 1)
        if not isinstance(side, int):
            period = ops.maximum(period, 1)
        place = ops.arange((side + multiple - 1) // multiple * multiple, dtype="int32") % period
        images = ops.take(images, ops.minimum(place, period - place), axis=axis)
    return images
