"""The blocks of the conditional U-Net of a diffusion model; they give what the authors' code gives.

ConvNeXt blocks (Liu et al., CVPR 2022, arXiv:2201.03545) with wide 3x3 convolutions and the time added, and linear
attention (Shen et al., WACV 2021, arXiv:1812.01243). Only `keras.ops` is used. Features are [B, H, W, C].
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from tfllv.models.mirnet_blocks import Block, bounded

HEAD_WIDTH = 32  # channels of one attention head


def convolution(
    channels: int, filters: int, size: int, seeds: Iterator[int], dtype: Any, name: str, *, bias: bool = True
) -> Any:
    """A size x size convolution from PyTorch's own initial weights."""
    return keras.layers.Conv2D(
        filters,
        size,
        padding="same",
        use_bias=bias,
        kernel_initializer=bounded(channels * size * size, seeds),
        bias_initializer=bounded(channels * size * size, seeds),
        dtype=dtype,
        name=name,
    )


def dense(channels: int, units: int, seeds: Iterator[int], dtype: Any, name: str) -> Any:
    """A fully connected layer from PyTorch's own initial weights."""
    return keras.layers.Dense(
        units,
        kernel_initializer=bounded(channels, seeds),
        bias_initializer=bounded(channels, seeds),
        dtype=dtype,
        name=name,
    )


class PictureNorm(keras.layers.Layer):
    """Normalises a picture by its mean and variance over all places and channels; GroupNorm of one group.

    In float32 whatever the compute type: the sums are over many thousand values.
    """

    def build(self, input_shape: Any) -> None:
        """Makes gain and offset of every channel."""
        channels = (input_shape[-1],)
        self.gamma = self.add_weight(shape=channels, initializer="ones", name="gamma", autocast=False)
        self.beta = self.add_weight(shape=channels, initializer="zeros", name="beta", autocast=False)

    def call(self, x: Any) -> Any:
        """[B, H, W, C] -> the same."""
        x = ops.cast(x, "float32")
        centred = x - ops.mean(x, axis=(1, 2, 3), keepdims=True)
        variance = ops.mean(ops.square(centred), axis=(1, 2, 3), keepdims=True)
        return ops.cast(centred * ops.rsqrt(variance + 1e-5) * self.gamma + self.beta, self.compute_dtype)


class ConvNextBlock(Block):
    """Depthwise 7x7, the time added, then two 3x3 convolutions with norms, beside a skip.

    Args:
      channels: of the input.
      filters: of the output.
      seeds: gives a fresh seed for each tensor.
      time: width of the time embedding; None: the block does not see the time.
      dtype: a Keras dtype policy.
      name: the layer's name.
    """

    def __init__(
        self, channels: int, filters: int, seeds: Iterator[int], *, time: int | None, dtype: Any = None, name: str
    ):
        super().__init__(dtype=dtype, name=name)
        spatial = keras.layers.DepthwiseConv2D(
            7,
            padding="same",
            depthwise_initializer=bounded(49, seeds),
            bias_initializer=bounded(49, seeds),
            dtype=dtype,
            name="spatial",
        )
        self.spatial = self.add(spatial, channels)
        self.time: Any = None
        if time is not None:
            self.time = self.add(dense(time, channels, seeds, dtype, "time"), time)
        self.norm1 = self.add(PictureNorm(dtype=dtype, name="norm1"), channels)
        self.conv1 = self.add(convolution(channels, 2 * filters, 3, seeds, dtype, "conv1"), channels)
        self.norm2 = self.add(PictureNorm(dtype=dtype, name="norm2"), 2 * filters)
        self.conv2 = self.add(convolution(2 * filters, filters, 3, seeds, dtype, "conv2"), 2 * filters)
        self.skip: Any = None
        if channels != filters:
            self.skip = self.add(convolution(channels, filters, 1, seeds, dtype, "skip"), channels)

    def call(self, x: Any, time: Any = None) -> Any:
        """[B, H, W, channels] and [B, time] -> [B, H, W, filters]."""
        h = self.spatial(x)
        if self.time is not None:
            h = h + self.time(ops.gelu(time, approximate=False))[:, None, None]
        h = ops.gelu(self.conv1(self.norm1(h)), approximate=False)
        h = self.conv2(self.norm2(h))
        return h + (x if self.skip is None else self.skip(x))


class LinearAttention(Block):
    """x + attention of its norm, at a cost linear in the places: the keys' softmax is over places, queries have none.

    Args:
      channels: of input and output.
      heads: of `HEAD_WIDTH` channels each.
      seeds: gives a fresh seed for each tensor.
      dtype: a Keras dtype policy.
      name: the layer's name.
    """

    def __init__(self, channels: int, heads: int, seeds: Iterator[int], *, dtype: Any = None, name: str):
        super().__init__(dtype=dtype, name=name)
        self._heads = heads
        hidden = heads * HEAD_WIDTH
        self.norm = self.add(PictureNorm(dtype=dtype, name="norm"), channels)
        self.project = self.add(convolution(channels, 3 * hidden, 1, seeds, dtype, "project", bias=False), channels)
        self.join = self.add(convolution(hidden, channels, 1, seeds, dtype, "join"), hidden)

    def call(self, x: Any) -> Any:
        """[B, H, W, channels] -> the same."""
        _, height, width, _ = ops.shape(x)
        projected = ops.reshape(self.project(self.norm(x)), (-1, height * width, 3, self._heads, HEAD_WIDTH))
        query, key, value = (projected[:, :, index] for index in range(3))
        # Keras's own softmax warns of pictures of one place, where it is rightly 1.
        key = ops.cast(key, "float32")
        key = ops.exp(key - ops.max(key, axis=1, keepdims=True))
        key = ops.cast(key / ops.sum(key, axis=1, keepdims=True), self.compute_dtype)
        context = ops.einsum("bnhd,bnhe->bhde", key, value)
        found = ops.einsum("bnhd,bhde->bnhe", query * HEAD_WIDTH**-0.5, context)
        return x + self.join(ops.reshape(found, (-1, height, width, self._heads * HEAD_WIDTH)))


class Level(Block):
    """Two blocks, an attention and, where asked, a change of the sides by 2.

    Args:
      channels: of the input.
      filters: of the output.
      heads: of the attention.
      seeds: gives a fresh seed for each tensor.
      resample: `down` (4x4, stride 2), `up` (transposed 4x4, stride 2) or None.
      time: width of the time embedding.
      dtype: a Keras dtype policy.
      name: the layer's name.
    """

    def __init__(
        self,
        channels: int,
        filters: int,
        heads: int,
        seeds: Iterator[int],
        *,
        resample: str | None,
        time: int,
        dtype: Any = None,
        name: str,
    ):
        super().__init__(dtype=dtype, name=name)
        self.block1 = self.add(ConvNextBlock(channels, filters, seeds, time=time, dtype=dtype, name="block1"), channels)
        self.block2 = self.add(ConvNextBlock(filters, filters, seeds, time=time, dtype=dtype, name="block2"), filters)
        self.attention = self.add(LinearAttention(filters, heads, seeds, dtype=dtype, name="attention"), filters)
        self.resample: Any = None
        if resample is not None:
            kind = keras.layers.Conv2D if resample == "down" else keras.layers.Conv2DTranspose
            layer = kind(
                filters,
                4,
                strides=2,
                padding="same",
                kernel_initializer=bounded(16 * filters, seeds),
                bias_initializer=bounded(16 * filters, seeds),
                dtype=dtype,
                name=resample,
            )
            self.resample = self.add(layer, filters)

    def call(self, x: Any, time: Any) -> tuple[Any, Any]:
        """[B, H, W, channels] -> (before, after the change of the sides)."""
        x = self.attention(self.block2(self.block1(x, time), time))
        return x, x if self.resample is None else self.resample(x)
