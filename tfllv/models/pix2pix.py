"""pix2pix: translation of pictures by a conditional adversarial network (Isola et al., CVPR 2017, arXiv:1611.07004).

`Pix2Pix` is the generator, a U-Net; `PatchGAN` judges pictures while it is trained, and is not needed afterwards. Both
follow the authors' code but for two things: normalisation is of each picture by itself, which is what batch norm does
at their batch of 1, so that a picture's result does not depend on its neighbours; and there is no dropout, whose noise
a restoration must not have.
"""

from __future__ import annotations

import itertools
from typing import Any

import keras
from keras import ops

from tfllv import contracts
from tfllv.models import mirnet

SLOPE = 0.2  # of the encoder's leaky ReLU
MOST = 8  # no level is wider than this many times the first


class _Unit(keras.layers.Layer):
    """Activation, a 4x4 convolution that halves or doubles the sides, normalisation of each channel of each picture."""

    def __init__(
        self,
        channels: int,
        filters: int,
        seed: int,
        *,
        up: bool = False,
        activation: str | None,
        norm: bool = True,
        bias: bool = False,
        stride: int = 2,
        dtype: Any = None,
        name: str,
    ):
        super().__init__(dtype=dtype, name=name)
        self._channels, self._filters, self._activation, self._stride = channels, filters, activation, stride
        kind = keras.layers.Conv2DTranspose if up else keras.layers.Conv2D
        self.conv = kind(
            filters,
            4,
            strides=stride,
            padding="same" if stride == 2 else "valid",
            use_bias=bias,
            kernel_initializer=keras.initializers.RandomNormal(0.0, 0.02, seed=seed),
            dtype=dtype,
            name="conv",
        )
        self.norm: Any = None
        if norm:
            gamma = keras.initializers.RandomNormal(1.0, 0.02, seed=seed + 1)
            self.norm = keras.layers.GroupNormalization(
                groups=-1, epsilon=1e-5, gamma_initializer=gamma, dtype=dtype, name="norm"
            )

    def build(self, input_shape: Any) -> None:
        """Makes the weights."""
        self.conv.build((None, None, None, self._channels))
        if self.norm is not None:
            self.norm.build((None, None, None, self._filters))

    def call(self, x: Any) -> Any:
        """[B, H, W, channels] -> half, double, or (stride 1) one less of each side, `filters` channels."""
        if self._activation == "leaky":
            x = ops.leaky_relu(x, SLOPE)
        elif self._activation == "relu":
            x = ops.relu(x)
        if self._stride == 1:
            x = ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])
        x = self.conv(x)
        return x if self.norm is None else self.norm(x)


@keras.saving.register_keras_serializable(package="tfllv")
class Pix2Pix(keras.Model):
    """float32 [B, H, W, 3] in [0, 1], any H and W >= 1 -> dict with `image` of the same shape, in [0, 1].

    Sides that are no multiple of 2^depth are continued by reflection, and the result is cut back.

    Args:
      n_feat: channels of the first level; they double at each, up to 8 times.
      depth: levels, each of half the sides of the one before, >= 2. The authors use 8 for pictures of 256 pixels.
      seed: of the initial weights (normal, deviation 0.02).
      dtype: a Keras dtype policy, such as `mixed_bfloat16`; the last convolution stays float32.
      name: the model's name.

    Raises:
      ValueError: if an option is out of range.
    """

    def __init__(
        self, *, n_feat: int = 64, depth: int = 8, seed: int = 0, dtype: Any = None, name: str | None = "pix2pix"
    ):
        super().__init__(name=name, dtype="float32")
        mirnet.check_options({"n_feat": n_feat, "depth": depth}, {"depth": 2})
        self._options = {"n_feat": n_feat, "depth": depth, "seed": seed, "name": name}
        self._policy = None if dtype is None else keras.dtype_policies.get(dtype).name
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={-1: 3})
        widths = [n_feat * min(2**level, MOST) for level in range(depth)]
        start = 10_000 * seed
        self.down = [
            _Unit(
                widths[level - 1] if level else 3,
                widths[level],
                start + 4 * level,
                activation="leaky" if level else None,
                norm=0 < level < depth - 1,
                dtype=dtype,
                name=f"down{level}",
            )
            for level in range(depth)
        ]
        self.up = [
            _Unit(
                widths[level] if level == depth - 1 else 2 * widths[level],
                widths[level - 1] if level else 3,
                start + 4 * level + 2,
                up=True,
                activation="relu",
                norm=level > 0,
                bias=level == 0,
                dtype=dtype if level else "float32",
                name=f"up{level}",
            )
            for level in range(depth)
        ]
        self(keras.Input((None, None, 3), name=contracts.IMAGE))  # makes the weights; export needs the recorded call

    def get_config(self) -> dict[str, Any]:
        """The options, so that `.keras` files rebuild the network."""
        return {**self._options, "dtype": self._policy}

    def build(self, input_shape: Any) -> None:
        """Makes the weights; they depend on no side."""
        for layer in [*self.down, *self.up]:
            if not layer.built:
                layer.build(None)

    def compute_output_spec(self, images: Any, training: bool | None = None) -> dict[str, Any]:
        """Shapes and types of the outputs, without running the network."""
        return {contracts.IMAGE: keras.KerasTensor(images.shape, "float32")}

    def call(self, images: Any, training: bool | None = None) -> dict[str, Any]:
        """Translates a batch.

        Args:
          images: [B, H, W, 3] float32 in [0, 1], B, H, W >= 1.
          training: ignored; the network does the same in both modes.

        Returns:
          `image`: [B, H, W, 3] float32 in [0, 1].

        Raises:
          ValueError: if `images` is not rank 4 with 3 channels, or not of a floating type.
        """
        kind = keras.backend.standardize_dtype(images.dtype)
        if "float" not in kind:
            raise ValueError(f"`images` must be float32 in [0, 1]. Received: dtype={kind}; divide by its maximum.")
        _, height, width, _ = ops.shape(images)
        x = 2.0 * mirnet.reflect_to_multiple(images, 2 ** len(self.down)) - 1.0
        skips = []
        for layer in self.down:
            x = layer(x)
            skips.append(x)
        x = self.up[-1](x)
        for layer, skip in zip(self.up[-2::-1], skips[-2::-1], strict=True):
            x = layer(ops.concatenate([skip, x], axis=-1))
        return {contracts.IMAGE: 0.5 + 0.5 * ops.tanh(ops.cast(x, "float32")[:, :height, :width])}


class PatchGAN(keras.Model):
    """Judges for every 70x70 window whether a picture is the truth for an input: [B, H, W, 6] -> logits.

    2,768,705 parameters at the default. Pictures must be at least 24 pixels wide and high.

    Args:
      n_feat: channels of the first level.
      levels: of halved sides; 3 sees 70x70 pixels, as the paper recommends.
      seed: of the initial weights (normal, deviation 0.02).
      name: the model's name.
    """

    def __init__(self, *, n_feat: int = 64, levels: int = 3, seed: int = 0, name: str = "patch_gan"):
        super().__init__(name=name, dtype="float32")
        mirnet.check_options({"n_feat": n_feat, "levels": levels}, {})
        widths = [6, *(n_feat * min(2**level, MOST) for level in range(levels + 1)), 1]
        last = len(widths) - 2
        self.units = [
            _Unit(
                channels,
                filters,
                10_000 * seed + 5_000 + 4 * index,
                activation="leaky" if index else None,
                norm=0 < index < last,
                bias=index in (0, last),
                stride=2 if index < levels else 1,
                name=f"unit{index}",
            )
            for index, (channels, filters) in enumerate(itertools.pairwise(widths))
        ]
        for unit in self.units:
            unit.build(None)
        self.built = True

    def call(self, pictures: Any, training: bool | None = None) -> Any:
        """[B, H, W, 6] in [0, 1], input and picture -> [B, H', W', 1] logits, above 0 for a truth."""
        x = 2.0 * pictures - 1.0
        for unit in self.units:
            x = unit(x)
        return x
