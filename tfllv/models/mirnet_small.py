"""A small MIRNet that trains on a CPU: its blocks look at a small copy of the picture and draw a tone curve for every
place of it; the curves are enlarged and applied to all pixels.

The body is MIRNet's (Zamir et al., ECCV 2020, arXiv:2003.06792). What differs, and why:

- it sees the picture at about `work_size` pixels, whatever its size, so the whole-picture pooling of its attention is
  exact, its cost is bounded, and a 24-megapixel photograph is judged as its thumbnail is;
- a first guess is made without weights: the power of the picture that brings its mean to mid-grey;
- it predicts for every place and channel a piecewise linear curve of that guess with `knots` knots (of the kin of
  HDRNet, Gharbi et al. 2017, arXiv:1707.02880) instead of a picture, so that full-resolution detail is never lost.

The steps are methods, so that a runner can go through a large picture strip by strip; `call` composes them.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import keras
from keras import ops

from tfllv import contracts
from tfllv.models import mirnet, mirnet_blocks

UNSHUFFLE = 4  # side of the squares of the small copy whose pixels become channels of one place
MID_GREY = 0.45  # mean level of the guess; the well-exposed frames of SICE have 0.44
STRONGEST = 0.15  # least exponent of the guess: black is noise there
DARKEST = 1e-4  # values below are taken for it, so that the logarithm and its gradient stay finite


@keras.saving.register_keras_serializable(package="tfllv")
class MIRNetSmall(keras.Model):
    """float32 [B, H, W, 3] in [0, 1], any H and W >= 1 -> dict with `image` of the same shape, not clipped.

    Args:
      n_feat: channels of the body's finest stream.
      n_RRG: recursive residual groups.
      n_MSRB: multi-scale residual blocks in each.
      height: streams, each at half the resolution of the one before, >= 2.
      width: runs of the dual attention units in a multi-scale block, >= 2.
      knots: of each curve, >= 2.
      work_size: the longer side of the small copy in pixels, about: a picture is shrunk by a whole number.
      seed: of the initial weights.
      dtype: a Keras dtype policy for the body, such as `mixed_bfloat16`; curves and picture stay float32.
      name: the model's name.

    Raises:
      ValueError: if an option is out of range.
    """

    def __init__(
        self,
        *,
        n_feat: int = 24,
        n_RRG: int = 1,
        n_MSRB: int = 1,
        height: int = 3,
        width: int = 2,
        knots: int = 8,
        work_size: int = 128,
        seed: int = 0,
        dtype: Any = None,
        name: str | None = "mirnet_small",
    ):
        super().__init__(name=name, dtype="float32")
        self._options = {"n_feat": n_feat, "n_RRG": n_RRG, "n_MSRB": n_MSRB, "height": height, "width": width}
        self._options |= {"knots": knots, "work_size": work_size}
        mirnet.check_options(self._options, {"height": 2, "width": 2, "knots": 2, "work_size": 16})
        self.knots, self.work_size = knots, work_size
        self._seed = seed
        self._policy = None if dtype is None else keras.dtype_policies.get(dtype).name
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={-1: 3})
        seeds = itertools.count(100_000 * seed)
        self.act = mirnet_blocks.ScalarPReLU(dtype=dtype, name="act")
        self.conv_in = mirnet_blocks.convolution(6 * UNSHUFFLE**2, n_feat, 3, seeds, "float32", "conv_in")
        self.groups = [
            mirnet_blocks.RRG(
                n_feat, self.act, seeds, n_MSRB=n_MSRB, height=height, width=width, dtype=dtype, name=f"rrg{index}"
            )
            for index in range(n_RRG)
        ]
        self.conv_out = keras.layers.Conv2D(
            3 * knots,
            3,
            padding="same",
            # The curves begin near the guess itself.
            kernel_initializer=keras.initializers.RandomNormal(0.0, 1e-3, seed=next(seeds)),
            dtype="float32",
            name="conv_out",
        )
        self(keras.Input((None, None, 3), name=contracts.IMAGE))  # makes the weights; export needs the recorded call

    def get_config(self) -> dict[str, Any]:
        """The options, so that `.keras` files rebuild the network."""
        return {**self._options, "seed": self._seed, "dtype": self._policy, "name": self.name}

    def build(self, input_shape: Any) -> None:
        """Makes the weights; they depend on no side."""
        if self.conv_in.built:
            return
        channels = self._options["n_feat"]
        self.conv_in.build((None, None, None, 6 * UNSHUFFLE**2))
        for layer in [*self.groups, self.conv_out]:
            layer.build((None, None, None, channels))

    def compute_output_spec(self, images: Any, training: bool | None = None) -> dict[str, Any]:
        """Shapes and types of the outputs, without running the network."""
        return {contracts.IMAGE: keras.KerasTensor(images.shape, "float32")}

    def call(self, images: Any, training: bool | None = None) -> dict[str, Any]:
        """Enhances a batch.

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
        factor = self.factor(height, width)
        small = self.shrink(images, factor)
        exponent = self.exponent(small)
        curve = self.enlarge(self.curve_map(small, exponent), factor, height, width)
        return {contracts.IMAGE: self.apply_curve(images, exponent, curve)}

    def factor(self, height: Any, width: Any) -> Any:
        """Returns by how much a picture is shrunk: the whole number that brings its longer side near `work_size`."""
        return shrinking(height, width, self.work_size)

    def shrink(self, images: Any, factor: Any) -> Any:
        """Returns the mean of every `factor` x `factor` square; the border's are filled up with its last pixels.

        A strip of rows that starts at a multiple of the factor, and ends at one or at the border, gives exactly those
        rows of the whole result.

        Args:
          images: [B, H, W, C].
          factor: >= 1.

        Returns:
          [B, ceil(H / factor), ceil(W / factor), C].
        """
        for axis in (1, 2):
            side = ops.shape(images)[axis]
            if not (isinstance(side, int) and isinstance(factor, int) and side % factor == 0):
                place = ops.arange((side + factor - 1) // factor * factor, dtype="int32")
                images = ops.take(images, ops.minimum(place, side - 1), axis=axis)
        _, height, width, channels = ops.shape(images)
        squares = ops.reshape(images, (-1, height // factor, factor, width // factor, factor, channels))
        return ops.mean(squares, axis=(2, 4))

    def exponent(self, small: Any) -> Any:
        """Returns the power of a picture whose mean is about mid-grey: [B, 1, 1, 1] in [`STRONGEST`, 1]."""
        mean = ops.clip(ops.mean(small, axis=(1, 2, 3), keepdims=True), 1e-3, 0.9)
        return ops.clip(math.log(MID_GREY) / ops.log(mean), STRONGEST, 1.0)

    def curve_map(self, small: Any, exponent: Any) -> Any:
        """Predicts the curves: the body of the network, whose cost does not depend on the picture's size.

        Args:
          small: [B, h, w, 3], the picture shrunk.
          exponent: [B, 1, 1, 1].

        Returns:
          [B, h', w', 3 knots] float32, one place for `UNSHUFFLE` x `UNSHUFFLE` pixels of `small`: the heights of the
          curves above the diagonal, for each knot the three channels. h' and w' may reach beyond the border.
        """
        small = mirnet.reflect_to_multiple(small, UNSHUFFLE << (self._options["height"] - 1))
        guess = self._guess(small, exponent)
        features = ops.concatenate([guess - MID_GREY, ops.sqrt(ops.maximum(small, DARKEST)) - 0.3], axis=-1)
        _, height, width, channels = ops.shape(features)
        squares = (-1, height // UNSHUFFLE, UNSHUFFLE, width // UNSHUFFLE, UNSHUFFLE, channels)
        features = ops.transpose(ops.reshape(features, squares), (0, 1, 3, 2, 4, 5))
        features = ops.reshape(features, (-1, height // UNSHUFFLE, width // UNSHUFFLE, 6 * UNSHUFFLE**2))
        features = self.conv_in(features)
        for group in self.groups:
            features = group(features)
        return self.conv_out(ops.cast(features, "float32"))

    def enlarge(self, curve: Any, factor: Any, height: Any, width: Any, *, top: Any = 0, rows: Any = None) -> Any:
        """Enlarges a curve map to the picture's size, bilinearly with the places' centres aligned.

        Args:
          curve: [B, h', w', C], the whole map.
          factor: by which the picture was shrunk.
          height: of the whole picture, in pixels.
          width: of the whole picture, in pixels.
          top: first row wanted.
          rows: count of rows wanted; None: all from `top` on. A strip equals those rows of the whole.

        Returns:
          [B, rows, width, C] float32.
        """
        rows = height - top if rows is None else rows
        side = UNSHUFFLE * factor  # of a place, in pixels
        _, low, narrow, channels = ops.shape(curve)
        # Only the places around the strip; integer division rounds down, also below 0.
        first = ops.maximum((2 * top + 1 - side) // (2 * side), 0)
        first = ops.minimum(first, low - 1)
        last = ops.minimum((2 * (top + rows) - 1 - side) // (2 * side) + 2, low)
        band = curve[:, first : ops.maximum(last, first + 1)]
        count = ops.shape(band)[1]
        # Matrix products, columns then rows: quick on every backend, and their gradient is deterministic.
        across = _interpolation(0, width, 0, narrow, narrow, side)
        down = _interpolation(top, rows, first, count, low, side)
        flat = ops.reshape(ops.transpose(band, (0, 1, 3, 2)), (-1, narrow))
        wide = ops.reshape(ops.matmul(flat, ops.transpose(across)), (-1, count, channels, width))
        wide = ops.reshape(ops.transpose(wide, (0, 1, 3, 2)), (-1, count, width * channels))
        return ops.reshape(ops.matmul(down, wide), (-1, rows, width, channels))

    def apply_curve(self, images: Any, exponent: Any, curve: Any) -> Any:
        """Bends every value of the guess along the curve of its place and channel.

        Args:
          images: [B, H, W, 3] in [0, 1].
          exponent: [B, 1, 1, 1].
          curve: [B, H, W, 3 knots].

        Returns:
          [B, H, W, 3], about [0, 1].
        """
        guess = self._guess(images, exponent)
        result = guess
        for knot, rise in enumerate(ops.split(curve, self.knots, axis=-1)):
            result = result + rise * ops.relu(1.0 - ops.abs(guess * (self.knots - 1) - knot))
        return result

    def _guess(self, images: Any, exponent: Any) -> Any:
        return ops.exp(exponent * ops.log(ops.maximum(images, DARKEST)))


def shrinking(height: Any, width: Any, work_size: int) -> Any:
    """Returns the whole number, >= 1, that brings the longer side of a picture near `work_size`; tensors or numbers."""
    known = isinstance(height, int) and isinstance(width, int)
    longer = max(height, width) if known else ops.maximum(height, width)
    factor = (2 * longer + work_size) // (2 * work_size)
    return max(1, factor) if known else ops.maximum(factor, 1)


def _interpolation(top: Any, rows: Any, first: Any, count: Any, low: Any, side: Any) -> Any:
    """The [rows, count] matrix of linear interpolation from `low` places of `side` pixels, borders continued.

    Its rows are the pixels from `top` on, its columns the places from `first` on. In units of half a pixel, pixel i is
    at 2 i + 1 and place k at side (2 k + 1): whole numbers until the one division.
    """
    pixel = 2 * (top + ops.arange(rows, dtype="int32")) + 1
    pixel = ops.expand_dims(ops.clip(pixel, side, side * (2 * low - 1)), 1)
    place = ops.expand_dims(side * (2 * (first + ops.arange(count, dtype="int32")) + 1), 0)
    return ops.relu(1.0 - ops.cast(ops.abs(pixel - place), "float32") / ops.cast(2 * side, "float32"))
