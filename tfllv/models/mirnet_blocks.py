"""The blocks of MIRNet: selective kernel fusion, dual attention, anti-aliased resampling, the multi-scale block.

Zamir et al., ECCV 2020, arXiv:2003.06792. Every block gives what the authors' code gives, PyTorch's sampling included,
and shares its parts as that code does: the dual attention units of a stream are one unit, a resampler serves every
path between the same two scales, and one PReLU slope serves all dual attention units of a network. Only `keras.ops` is
used. Features are [B, H, W, C]; no convolution has a bias.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras import ops

# Channels in the squeezed middle of the channel attention (C / 8) and of the fusion (C / 8, at least 4).
ATTENTION_REDUCTION = 8
FUSION_REDUCTION = 8
FUSION_LEAST = 4


class Block(keras.layers.Layer):
    """A layer made of others, each of which knows its input channels beforehand; `add` registers them in order."""

    def __init__(self, *, dtype: Any, name: str):
        super().__init__(dtype=dtype, name=name)
        self._parts: list[tuple[Any, int]] = []

    def add(self, layer: Any, channels: int) -> Any:
        """Registers and returns a sub-layer that is built for `channels` input channels, once if it is shared."""
        self._parts.append((layer, channels))
        return layer

    def build(self, input_shape: Any) -> None:
        """Makes the weights of all parts; they depend on no side."""
        for layer, channels in self._parts:
            if not layer.built:
                layer.build((None, None, None, channels))


class ScalarPReLU(keras.layers.Layer):
    """max(x, 0) + a min(x, 0) with one learned slope a, 0.25 at first, as PyTorch's default PReLU."""

    def build(self, input_shape: Any) -> None:
        """Makes the slope."""
        self.slope = self.add_weight(
            shape=(1,), initializer=keras.initializers.Constant(0.25), name="slope", trainable=True
        )

    def call(self, x: Any) -> Any:
        """Any shape -> the same."""
        return ops.relu(x) - self.slope * ops.relu(-x)


def bounded(fan_in: int, seeds: Iterator[int]) -> keras.initializers.Initializer:
    """The uniform initialiser of PyTorch's convolutions: +-1 / sqrt(fan_in)."""
    return keras.initializers.RandomUniform(-(fan_in**-0.5), fan_in**-0.5, seed=next(seeds))


def convolution(channels: int, filters: int, size: int, seeds: Iterator[int], dtype: Any, name: str) -> Any:
    """A size x size convolution without bias, padded by zeros."""
    return keras.layers.Conv2D(
        filters,
        size,
        padding="same",
        use_bias=False,
        kernel_initializer=bounded(channels * size * size, seeds),
        dtype=dtype,
        name=name,
    )


class SKFF(Block):
    """Selective kernel feature fusion: a weighted sum of branches, weights by a softmax across them (Sec. 3.1).

    Args:
      channels: of every branch.
      branches: their number.
      seeds: gives a fresh seed for each tensor.
      dtype: a Keras dtype policy.
      name: the layer's name.
    """

    def __init__(self, channels: int, branches: int, seeds: Iterator[int], *, dtype: Any = None, name: str = "skff"):
        super().__init__(dtype=dtype, name=name)
        squeezed = max(channels // FUSION_REDUCTION, FUSION_LEAST)
        self.squeeze = self.add(convolution(channels, squeezed, 1, seeds, dtype, "squeeze"), channels)
        self.act = self.add(ScalarPReLU(dtype=dtype, name="act"), squeezed)
        self.expand = [
            self.add(convolution(squeezed, channels, 1, seeds, dtype, f"expand{index}"), squeezed)
            for index in range(branches)
        ]

    def call(self, features: Sequence[Any]) -> Any:
        """[B, H, W, C] of each branch -> [B, H, W, C]."""
        total = features[0]
        for feature in features[1:]:
            total = total + feature
        descriptor = self.act(self.squeeze(ops.mean(total, axis=(1, 2), keepdims=True)))
        logits = ops.stack([layer(descriptor) for layer in self.expand])
        shares = ops.softmax(logits, axis=0)  # across the branches, for each channel
        fused = features[0] * shares[0]
        for index, feature in enumerate(features[1:], start=1):
            fused = fused + feature * shares[index]
        return fused


class DAU(Block):
    """Dual attention unit: spatial and channel attention on two convolutions, added to the input (Sec. 3.2).

    Args:
      channels: in and out.
      act: the activation between the convolutions, shared by all units of a network.
      seeds: gives a fresh seed for each tensor.
      dtype: a Keras dtype policy.
      name: the layer's name.
    """

    def __init__(self, channels: int, act: Any, seeds: Iterator[int], *, dtype: Any = None, name: str = "dau"):
        super().__init__(dtype=dtype, name=name)
        squeezed = max(channels // ATTENTION_REDUCTION, 1)
        self.conv1 = self.add(convolution(channels, channels, 3, seeds, dtype, "conv1"), channels)
        self.act = self.add(act, channels)
        self.conv2 = self.add(convolution(channels, channels, 3, seeds, dtype, "conv2"), channels)
        self.spatial = self.add(convolution(2, 1, 5, seeds, dtype, "spatial"), 2)
        self.squeeze = self.add(convolution(channels, squeezed, 1, seeds, dtype, "squeeze"), channels)
        self.expand = self.add(convolution(squeezed, channels, 1, seeds, dtype, "expand"), squeezed)
        self.join = self.add(convolution(2 * channels, channels, 1, seeds, dtype, "join"), 2 * channels)

    def call(self, x: Any) -> Any:
        """[B, H, W, C] -> [B, H, W, C]."""
        y = self.conv2(self.act(self.conv1(x)))
        pooled = ops.concatenate([ops.max(y, axis=-1, keepdims=True), ops.mean(y, axis=-1, keepdims=True)], axis=-1)
        by_place = y * ops.sigmoid(self.spatial(pooled))
        squeezed = ops.relu(self.squeeze(ops.mean(y, axis=(1, 2), keepdims=True)))
        by_channel = y * ops.sigmoid(self.expand(squeezed))
        return self.join(ops.concatenate([by_place, by_channel], axis=-1)) + x


def blur_pool(x: Any) -> Any:
    """Halves the sides behind the filter [1, 2, 1] x [1, 2, 1] / 16, the border reflected (Zhang 2019, BlurPool).

    Args:
      x: [B, H, W, C], H and W even.

    Returns:
      [B, H / 2, W / 2, C].
    """
    # Reflected, the pixel before the first is the second; for an even side nothing beyond the last is read.
    x = ops.concatenate([x[:, 1:2], x], axis=1)
    x = ops.concatenate([x[:, :, 1:2], x], axis=2)
    taps = ops.cast(ops.convert_to_tensor([[1, 2, 1], [2, 4, 2], [1, 2, 1]]), x.dtype) / 16
    kernel = ops.tile(ops.reshape(taps, (3, 3, 1, 1)), (1, 1, x.shape[-1], 1))
    return ops.depthwise_conv(x, kernel, strides=2, padding="valid", data_format="channels_last")


def double(x: Any) -> Any:
    """Doubles the sides bilinearly, pixel centres aligned and the border continued (`align_corners=False`).

    Args:
      x: [B, H, W, C].

    Returns:
      [B, 2 H, 2 W, C].
    """
    for axis in (1, 2):
        _, height, width, channels = ops.shape(x)
        count = (height, width)[axis - 1]
        first, last = ((x[:, :1], x[:, -1:]), (x[:, :, :1], x[:, :, -1:]))[axis - 1]
        before = ops.concatenate([first, x], axis=axis)
        after = ops.concatenate([x, last], axis=axis)
        if axis == 1:
            before, after = before[:, :count], after[:, 1:]
            sides = (-1, 2 * height, width, channels)
        else:
            before, after = before[:, :, :count], after[:, :, 1:]
            sides = (-1, height, 2 * width, channels)
        pair = ops.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis=axis + 1)
        x = ops.reshape(pair, sides)
    return x


class Halve(Block):
    """Residual down-sampling: sides / 2, channels times 2 (Sec. 3.3)."""

    def __init__(self, channels: int, seeds: Iterator[int], *, dtype: Any = None, name: str = "halve"):
        super().__init__(dtype=dtype, name=name)
        self.conv1 = self.add(convolution(channels, channels, 1, seeds, dtype, "conv1"), channels)
        self.act1 = self.add(ScalarPReLU(dtype=dtype, name="act1"), channels)
        self.conv2 = self.add(convolution(channels, channels, 3, seeds, dtype, "conv2"), channels)
        self.act2 = self.add(ScalarPReLU(dtype=dtype, name="act2"), channels)
        self.conv3 = self.add(convolution(channels, 2 * channels, 1, seeds, dtype, "conv3"), channels)
        self.skip = self.add(convolution(channels, 2 * channels, 1, seeds, dtype, "skip"), channels)

    def call(self, x: Any) -> Any:
        """[B, H, W, C] -> [B, H / 2, W / 2, 2 C]."""
        top = self.act2(self.conv2(self.act1(self.conv1(x))))
        return self.conv3(blur_pool(top)) + self.skip(blur_pool(x))


class Double(Block):
    """Residual up-sampling: sides times 2, channels / 2 (Sec. 3.3)."""

    def __init__(self, channels: int, seeds: Iterator[int], *, dtype: Any = None, name: str = "double"):
        super().__init__(dtype=dtype, name=name)
        self.conv1 = self.add(convolution(channels, channels, 1, seeds, dtype, "conv1"), channels)
        self.act1 = self.add(ScalarPReLU(dtype=dtype, name="act1"), channels)
        transposed = keras.layers.Conv2DTranspose(
            channels,
            3,
            strides=2,
            padding="valid",
            use_bias=False,
            kernel_initializer=bounded(9 * channels, seeds),
            dtype=dtype,
            name="conv2",
        )
        self.conv2 = self.add(transposed, channels)
        self.act2 = self.add(ScalarPReLU(dtype=dtype, name="act2"), channels)
        self.conv3 = self.add(convolution(channels, channels // 2, 1, seeds, dtype, "conv3"), channels)
        self.skip = self.add(convolution(channels, channels // 2, 1, seeds, dtype, "skip"), channels)

    def call(self, x: Any) -> Any:
        """[B, H, W, C] -> [B, 2 H, 2 W, C / 2]."""
        # PyTorch's padding 1 with output_padding 1 leaves out the first row and column, and keeps the last.
        top = self.act2(self.conv2(self.act1(self.conv1(x)))[:, 1:, 1:])
        # A 1x1 convolution and an interpolation may change places: so the convolution runs on a quarter of the pixels.
        return self.conv3(top) + double(self.skip(x))


class Chain(Block):
    """Several blocks one after the other: a resampler of 4 times is two of 2 times."""

    def __init__(self, blocks: Sequence[tuple[Any, int]], *, dtype: Any = None, name: str = "chain"):
        super().__init__(dtype=dtype, name=name)
        self.steps = [self.add(block, channels) for block, channels in blocks]

    def call(self, x: Any) -> Any:
        """Runs them."""
        for step in self.steps:
            x = step(x)
        return x


def halvings(channels: int, times: int, seeds: Iterator[int], *, dtype: Any = None, name: str) -> Chain:
    """Down-sampling by 2 ** times."""
    widths = [channels << index for index in range(times)]
    steps = [(Halve(width, seeds, dtype=dtype, name=f"step{i}"), width) for i, width in enumerate(widths)]
    return Chain(steps, dtype=dtype, name=name)


def doublings(channels: int, times: int, seeds: Iterator[int], *, dtype: Any = None, name: str) -> Chain:
    """Up-sampling by 2 ** times."""
    widths = [channels >> index for index in range(times)]
    steps = [(Double(width, seeds, dtype=dtype, name=f"step{i}"), width) for i, width in enumerate(widths)]
    return Chain(steps, dtype=dtype, name=name)


class MSRB(Block):
    """Multi-scale residual block: parallel streams of halved resolution that exchange features (Sec. 3).

    Args:
      channels: of the full-resolution stream; stream j has channels * 2^j at 1 / 2^j of each side.
      act: the activation of the dual attention units, shared by all of a network.
      seeds: gives a fresh seed for each tensor.
      height: number of streams.
      width: how often the dual attention units run; between two runs every stream fuses all.
      dtype: a Keras dtype policy.
      name: the layer's name.
    """

    def __init__(
        self,
        channels: int,
        act: Any,
        seeds: Iterator[int],
        *,
        height: int = 3,
        width: int = 2,
        dtype: Any = None,
        name: str = "msrb",
    ):
        super().__init__(dtype=dtype, name=name)
        self.width = width
        self.widths = widths = [channels << stream for stream in range(height)]
        # One unit a stream, run `width` times: the reference repeats the module, not its definition.
        self.attention = [
            self.add(DAU(count, act, seeds, dtype=dtype, name=f"dau{stream}"), count)
            for stream, count in enumerate(widths)
        ]
        self.fusion = [
            self.add(SKFF(count, height, seeds, dtype=dtype, name=f"skff{stream}"), count)
            for stream, count in enumerate(widths)
        ]
        # Streams (from, to) -> resampler.
        self.down, self.up, self.last_up = {}, {}, {}
        for low in range(height):
            for high in range(low + 1, height):
                down = halvings(widths[low], high - low, seeds, dtype=dtype, name=f"down{low}_{high}")
                self.down[f"{low}_{high}"] = self.add(down, widths[low])
                up = doublings(widths[high], high - low, seeds, dtype=dtype, name=f"up{high}_{low}")
                self.up[f"{high}_{low}"] = self.add(up, widths[high])
        for stream in range(1, height):
            up = doublings(widths[stream], stream, seeds, dtype=dtype, name=f"last_up{stream}")
            self.last_up[f"{stream}"] = self.add(up, widths[stream])
        self.conv_out = self.add(convolution(channels, channels, 3, seeds, dtype, "conv_out"), channels)

    def call(self, x: Any) -> Any:
        """[B, H, W, C] -> [B, H, W, C]; H and W multiples of 2 ** (height - 1)."""
        streams: list[Any] = []
        for index, unit in enumerate(self.attention):
            streams.append(unit(self._resample(streams[-1], index - 1, index) if index else x))
        count = range(len(streams))
        for _ in range(1, self.width):
            fused = [self.fusion[to]([self._resample(streams[of], of, to) for of in count]) for to in count]
            streams = [unit(feature) for unit, feature in zip(self.attention, fused, strict=True)]
        full = [self.last_up[f"{index}"](stream) if index else stream for index, stream in enumerate(streams)]
        return self.conv_out(self.fusion[0](full)) + x  # the fusion of stream 0 serves a second time

    def _resample(self, feature: Any, of: int, to: int) -> Any:
        if of == to:
            return feature
        return (self.down if of < to else self.up)[f"{of}_{to}"](feature)


class RRG(Block):
    """Recursive residual group: multi-scale blocks and a convolution, added to the input (Sec. 3)."""

    def __init__(
        self,
        channels: int,
        act: Any,
        seeds: Iterator[int],
        *,
        n_MSRB: int = 2,
        height: int = 3,
        width: int = 2,
        dtype: Any = None,
        name: str = "rrg",
    ):
        super().__init__(dtype=dtype, name=name)
        options: dict[str, Any] = {"height": height, "width": width, "dtype": dtype}
        self.blocks = [
            self.add(MSRB(channels, act, seeds, name=f"msrb{index}", **options), channels) for index in range(n_MSRB)
        ]
        self.conv_out = self.add(convolution(channels, channels, 3, seeds, dtype, "conv_out"), channels)

    def call(self, x: Any) -> Any:
        """[B, H, W, C] -> [B, H, W, C]."""
        y = x
        for block in self.blocks:
            y = block(y)
        return self.conv_out(y) + x
