"""What the curve networks share: shrink the image, predict a curve map, enlarge it, bend every pixel along its curve.

SGZ, Zero-DCE and Zero-DCE++ are one topology: seven 3x3 convolutions with three skip concatenations predict a map r in
[-1, 1], and eight iterations of x <- x + r (x^2 - x) (Guo et al., CVPR 2020, arXiv:2001.06826, Eq. 2) brighten where r
is negative. The four steps are methods, so that a runner can tile the convolutions, smooth the map over the frames of
a video, or enlarge it strip by strip; `call` composes them. Only `keras.ops` is used: TensorFlow, JAX and PyTorch run
the same code and read the same weights file.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from tfllv import contracts

WIDTH = 32
ITERATIONS = 8
CONV_TYPES = ("dsc", "tc")


def _bounded(fan_in: int, seed: int) -> keras.initializers.Initializer:
    """The uniform initialiser of PyTorch's convolutions, which the authors trained from: +-1 / sqrt(fan_in)."""
    bound = fan_in**-0.5
    return keras.initializers.RandomUniform(-bound, bound, seed=seed)


class SeparableConvolution(keras.layers.Layer):
    """A depthwise 3x3 convolution, then a pointwise one, both with bias and nothing between them.

    Args:
      channels: input channels.
      filters: output channels.
      seeds: gives a fresh seed for each tensor.
    """

    def __init__(self, channels: int, filters: int, seeds: Iterator[int], **kwargs: Any):
        super().__init__(**kwargs)
        # DepthwiseConv2D and not Conv2D(groups=...): the latter's gradient is 40 times slower on a CPU.
        self.depthwise = keras.layers.DepthwiseConv2D(
            3,
            padding="same",
            depthwise_initializer=_bounded(9, next(seeds)),
            bias_initializer=_bounded(9, next(seeds)),
            dtype=self.dtype_policy,
            name="depthwise",
        )
        self.pointwise = keras.layers.Conv2D(
            filters,
            1,
            kernel_initializer=_bounded(channels, next(seeds)),
            bias_initializer=_bounded(channels, next(seeds)),
            dtype=self.dtype_policy,
            name="pointwise",
        )

    def build(self, input_shape: Any) -> None:
        """Makes the weights."""
        self.depthwise.build(input_shape)
        self.pointwise.build(input_shape)

    def call(self, inputs: Any) -> Any:
        """[B, H, W, channels] -> [B, H, W, filters]."""
        return self.pointwise(self.depthwise(inputs))


class CurveNetwork(keras.Model):
    """Base of the curve networks: float32 [B, H, W, 3] in [0, 1], any H and W >= 1 -> dict of `image` and `curve`.

    Sides that `scale_factor` does not divide are continued by their last row and column, and the result is cut back;
    on multiples this equals the reference, which crops. `image` is not clipped: a curve with r in [-1, 1] maps [0, 1]
    into itself, so only rounding (1e-7) can leave it, and training needs the gradient there.

    Args:
      scale_factor: the curve map is predicted at 1 / scale_factor of each side, >= 1.
      conv_type: `dsc` (depthwise separable) or `tc` (plain 3x3).
      curve_channels: 3 (one map for all iterations) or 24 (a map for each).
      kernel_stddev: initialises plain kernels from N(0, kernel_stddev); None: uniform +-1 / sqrt(fan_in).
      seed: of the initial weights.
      dtype: a Keras dtype policy for the convolutions, such as `mixed_bfloat16`; the last one, the map and the image
        stay float32.
      name: the model's name.

    Attributes:
      halo: pixels of the shrunk image around a pixel of the curve map that it depends on.
    """

    halo = 7

    def __init__(
        self,
        *,
        scale_factor: int,
        conv_type: str,
        curve_channels: int = 3,
        kernel_stddev: float | None = None,
        seed: int = 0,
        dtype: Any = None,
        name: str | None = None,
    ):
        super().__init__(name=name, dtype="float32")
        if isinstance(scale_factor, bool) or int(scale_factor) != scale_factor or scale_factor < 1:
            raise ValueError(f"`scale_factor` must be a whole number >= 1. Received: scale_factor={scale_factor}.")
        if conv_type not in CONV_TYPES:
            raise ValueError(f"`conv_type` must be one of {', '.join(CONV_TYPES)}. Received: conv_type='{conv_type}'.")
        self.scale_factor = int(scale_factor)
        self.conv_type = conv_type
        self.curve_channels = curve_channels
        self._kernel_stddev = kernel_stddev
        self._seed = seed
        self._policy = None if dtype is None else keras.dtype_policies.get(dtype).name
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={-1: 3})
        seeds = itertools.count(1000 * seed)
        self.conv1 = self._convolution(3, WIDTH, seeds, dtype, "conv1")
        self.conv2 = self._convolution(WIDTH, WIDTH, seeds, dtype, "conv2")
        self.conv3 = self._convolution(WIDTH, WIDTH, seeds, dtype, "conv3")
        self.conv4 = self._convolution(WIDTH, WIDTH, seeds, dtype, "conv4")
        self.conv5 = self._convolution(2 * WIDTH, WIDTH, seeds, dtype, "conv5")
        self.conv6 = self._convolution(2 * WIDTH, WIDTH, seeds, dtype, "conv6")
        self.conv7 = self._convolution(2 * WIDTH, curve_channels, seeds, "float32", "conv7")
        self(keras.Input((None, None, 3), name=contracts.IMAGE))  # makes the weights; export needs the recorded call

    def _convolution(self, channels: int, filters: int, seeds: Iterator[int], dtype: Any, name: str) -> Any:
        if self.conv_type == "dsc":
            return SeparableConvolution(channels, filters, seeds, dtype=dtype, name=name)
        kernel = _bounded(9 * channels, next(seeds))
        if self._kernel_stddev is not None:
            kernel = keras.initializers.RandomNormal(stddev=self._kernel_stddev, seed=next(seeds))
        return keras.layers.Conv2D(
            filters,
            3,
            padding="same",
            kernel_initializer=kernel,
            bias_initializer=_bounded(9 * channels, next(seeds)),
            dtype=dtype,
            name=name,
        )

    def get_config(self) -> dict[str, Any]:
        """The options, so that `.keras` files rebuild the network; only those the subclass takes."""
        options = {"scale_factor": self.scale_factor, "conv_type": self.conv_type, "seed": self._seed}
        options |= {"dtype": self._policy, "name": self.name}
        taken = inspect.signature(type(self)).parameters
        return {name: value for name, value in options.items() if name in taken}

    @property
    def convolutions(self) -> list[Any]:
        """The seven convolutions, in order: `SeparableConvolution` (`dsc`) or `keras.layers.Conv2D` (`tc`)."""
        return [self.conv1, self.conv2, self.conv3, self.conv4, self.conv5, self.conv6, self.conv7]

    def build(self, input_shape: Any) -> None:
        """Makes the weights; they depend on no side."""
        if self.conv1.built:
            return
        channels = (3, WIDTH, WIDTH, WIDTH, 2 * WIDTH, 2 * WIDTH, 2 * WIDTH)
        for layer, count in zip(self.convolutions, channels, strict=True):
            layer.build((*input_shape[:-1], count))

    def compute_output_spec(self, images: Any, training: bool | None = None) -> dict[str, Any]:
        """Shapes and types of the outputs, without running the network."""
        curve = (*images.shape[:-1], self.curve_channels)
        return {
            contracts.IMAGE: keras.KerasTensor(images.shape, "float32"),
            contracts.CURVE: keras.KerasTensor(curve, "float32"),
        }

    def call(self, images: Any, training: bool | None = None) -> dict[str, Any]:
        """Enhances a batch.

        Args:
          images: [B, H, W, 3] float32 in [0, 1], B, H, W >= 1.
          training: ignored; the network does the same in both modes.

        Returns:
          `image`: [B, H, W, 3] float32; `curve`: [B, H, W, curve_channels] float32 in [-1, 1], negative brightens.

        Raises:
          ValueError: if `images` is not rank 4 with 3 channels, or not of a floating type.
        """
        kind = keras.backend.standardize_dtype(images.dtype)
        if "float" not in kind:
            raise ValueError(f"`images` must be float32 in [0, 1]. Received: dtype={kind}; divide by its maximum.")
        shape = ops.shape(images)
        curve = self.enlarge(self.curve_map(self.shrink(images)), shape[1], shape[2])
        return {contracts.IMAGE: self.apply_curve(images, curve), contracts.CURVE: curve}

    def shrink(self, images: Any) -> Any:
        """Samples the image at 1 / `scale_factor` of each side, bilinearly at pixel centres, without antialiasing.

        The sample for output pixel i is at s i + (s - 1) / 2: the mean of two pixels for an even s, one pixel for an
        odd one. A strip of rows that starts at a multiple of s gives exactly the rows of the whole result.

        Args:
          images: [B, H, W, C].

        Returns:
          [B, ceil(H / s), ceil(W / s), C].
        """
        for axis in (1, 2):
            images = _sample(images, axis, self.scale_factor)
        return images

    def curve_map(self, small: Any) -> Any:
        """Predicts the curve map: the convolutional part, whose cost is all but the whole at `scale_factor` 1.

        Each output pixel depends on `halo` pixels around it; the border is padded by zeros.

        Args:
          small: [B, h, w, 3], from `shrink`.

        Returns:
          [B, h, w, curve_channels] float32 in [-1, 1].
        """
        x1 = ops.relu(self.conv1(small))
        x2 = ops.relu(self.conv2(x1))
        x3 = ops.relu(self.conv3(x2))
        x4 = ops.relu(self.conv4(x3))
        x5 = ops.relu(self.conv5(ops.concatenate([x3, x4], axis=-1)))
        x6 = ops.relu(self.conv6(ops.concatenate([x2, x5], axis=-1)))
        return ops.tanh(self.conv7(ops.concatenate([x1, x6], axis=-1)))

    def enlarge(self, curve: Any, height: Any, width: Any, *, top: Any = 0, rows: Any = None) -> Any:
        """Enlarges a curve map to the image's size, bilinearly with the corners aligned.

        Row i of the result is at i (h - 1) / (h s - 1) in the map, which is exact at both ends; Keras's own resizing
        aligns pixel centres instead. A strip costs by its own rows only and equals those rows of the whole.

        Args:
          curve: [B, h, w, C], the whole map, h = ceil(height / s), w = ceil(width / s).
          height: of the whole image, in pixels.
          width: of the whole image, in pixels.
          top: first row wanted.
          rows: count of rows wanted; None: all from `top` on.

        Returns:
          [B, rows, width, C] float32.
        """
        rows = height - top if rows is None else rows
        if self.scale_factor == 1:
            return curve[:, top : top + rows]
        batch, low, narrow, channels = _sides(curve)
        last = low * self.scale_factor - 1
        first = top * (low - 1) // last
        band = curve[:, first : (top + rows - 1) * (low - 1) // last + 2]
        count = _sides(band)[1]
        # Two small matrix products, columns then rows: exact, quick on every backend, and their gradient is
        # deterministic, which that of a gather is not on a GPU.
        across = _interpolation(0, width, 0, narrow, narrow, self.scale_factor)
        down = _interpolation(top, rows, first, count, low, self.scale_factor)
        flat = ops.reshape(ops.transpose(band, (0, 1, 3, 2)), (batch * count * channels, narrow))
        wide = ops.reshape(ops.matmul(flat, ops.transpose(across)), (batch, count, channels, width))
        wide = ops.reshape(ops.transpose(wide, (0, 1, 3, 2)), (batch, count, width * channels))
        return ops.reshape(ops.matmul(down, wide), (batch, rows, width, channels))

    def apply_curve(self, images: Any, curve: Any) -> Any:
        """Bends every value along its curve: eight times x <- x + r (x^2 - x).

        Args:
          images: [B, H, W, 3] in [0, 1].
          curve: [B, H, W, 3], used by every iteration, or [B, H, W, 24], three channels for each.

        Returns:
          [B, H, W, 3], in [0, 1] up to rounding.
        """
        # As x (1 - r + r x): one pass over the picture less for each step, memory being what bounds it, and 0 stays 0.
        # Products, no power: a power lowers badly on phones.
        if self.curve_channels == 3:
            offset = 1.0 - curve
            for _ in range(ITERATIONS):
                images = images * (offset + curve * images)
            return images
        for step in ops.split(curve, ITERATIONS, axis=-1):
            images = images * (1.0 - step + step * images)
        return images


def _sides(images: Any) -> tuple[Any, Any, Any, Any]:
    """The sides as whole numbers where they are known, else as scalar tensors."""
    batch, height, width, channels = ops.shape(images)
    return batch, height, width, channels


def _sample(images: Any, axis: int, scale: int) -> Any:
    """Takes every `scale`-th sample of one axis, at the centre of each group; the last pixel continues the border."""
    if scale == 1:
        return images
    side = ops.shape(images)[axis]
    start = scale * ops.arange((side + scale - 1) // scale, dtype="int32")
    taken = ops.take(images, ops.minimum(start + (scale - 1) // 2, side - 1), axis=axis)
    if scale % 2:
        return taken
    return 0.5 * (taken + ops.take(images, ops.minimum(start + scale // 2, side - 1), axis=axis))


def _interpolation(top: Any, rows: Any, first: Any, count: Any, low: Any, scale: int) -> Any:
    """The [rows, count] matrix of linear interpolation with aligned corners, from `low` points to `low * scale`.

    Its rows are the output points from `top` on, its columns the input points from `first` on. Entry (i, k) is
    max(0, 1 - |i (low - 1) - k last| / last), last = low * scale - 1: whole numbers until the one division, so that
    it is more exact than float32 coordinates; they stay below 2^31 for sides up to 65,535.
    """
    last = low * scale - 1
    point = ops.expand_dims(top + ops.arange(rows, dtype="int32"), 1) * (low - 1)
    knot = ops.expand_dims(first + ops.arange(count, dtype="int32"), 0) * last
    return ops.relu(1.0 - ops.cast(ops.abs(point - knot), "float32") / ops.cast(last, "float32"))
