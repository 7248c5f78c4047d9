"""The conditional U-Net of a diffusion model: a noisy picture, a dark one and a time -> an estimate of the noise.

The network of `DiffusionUNet` is the ConvNeXt-style U-Net that conditional restoration in the dark was published with
(the blocks are of Liu et al., CVPR 2022, arXiv:2201.03545; linear attention of Shen et al., WACV 2021,
arXiv:1812.01243): condition concatenated, sinusoidal time embedding. At its defaults it gives what the authors' code
gives. What its estimate means (`prediction`) and how much noise a time has (`schedule`) belong to trained weights, so
they are options here; what is done with the estimate is `tfllv.diffusion`'s.

`DiffusionUNetSmall` is the same network made for a CPU, with what helps where a picture is seen in tiles: it works on
squares of pixels, and it diffuses not the picture but its distance from a first guess, the power of the whole dark
picture that brings its mean to mid-grey.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any, Literal

import keras
from keras import ops

from tfllv import contracts
from tfllv.diffusion import schedules
from tfllv.models import mirnet, mirnet_small
from tfllv.models.diffusion_blocks import ConvNextBlock, Level, LinearAttention, convolution, dense

TIME_WIDTH = 4  # the time embedding is this many times wider than the network
PREDICTIONS = ("epsilon", "v", "x0")
Prediction = Literal["epsilon", "v", "x0"]


@keras.saving.register_keras_serializable(package="tfllv")
class DiffusionUNet(keras.Model):
    """A noisy picture beside a dark one -> an estimate; and, called with a dark picture alone, dict with `image`.

    Sides that do not fit are continued by reflection, and the result is cut back; on multiples of `multiple` this
    equals the reference, which takes no others.

    Args:
      n_feat: channels of the first level, even, >= 4; they double at each.
      depth: levels, each of half the sides of the one before, >= 2.
      heads: of each attention.
      patch: side of the squares whose pixels are channels of one place; the work falls with its square.
      first_skip: the last block sees the first level's result too, which the reference computes and never uses.
      tone_guess: diffuses the distance to a guess of the bright picture instead of the picture; see `base`.
      prediction: what the estimate is: the noise (`epsilon`), alpha noise - sigma signal (`v`), or the signal (`x0`).
      schedule: the noise schedule that the weights were trained with; a key of `schedules.SCHEDULES`.
      seed: of the initial weights (uniform +-1 / sqrt(fan_in), PyTorch's own, as the authors trained).
      dtype: a Keras dtype policy for the body, such as `mixed_bfloat16`; norms, time embedding, the last convolution
        and the estimate stay float32.
      name: the model's name.

    Attributes:
      multiple: what the sides are brought to a multiple of.
      prediction: as the option.
      schedule: as the option.
      spread: one unit of the signal, in pictures' units; see `signal`.
      condition_channels: of `condition`.

    Raises:
      ValueError: if an option is out of range or unknown.
    """

    def __init__(
        self,
        *,
        n_feat: int = 32,
        depth: int = 4,
        heads: int = 4,
        patch: int = 1,
        first_skip: bool = False,
        tone_guess: bool = False,
        prediction: Prediction = "epsilon",
        schedule: str = "linear",
        seed: int = 0,
        dtype: Any = None,
        name: str | None = "diffusion_unet",
    ):
        super().__init__(name=name, dtype="float32")
        sizes = {"n_feat": n_feat, "depth": depth, "heads": heads, "patch": patch}
        mirnet.check_options(sizes, {"n_feat": 4, "depth": 2})
        if n_feat % 2:
            raise ValueError(f"`n_feat` must be even: the time embedding has sines and cosines. Received: {n_feat}.")
        for option, value, known in (
            ("prediction", prediction, PREDICTIONS),
            ("schedule", schedule, tuple(schedules.SCHEDULES)),
        ):
            if value not in known:
                raise ValueError(
                    f"`{option}` must be one of {', '.join(known)}. Received: {option}='{value}'; "
                    f"{contracts.nearest_name(str(value), known)}"
                )
        self._options: dict[str, Any] = {**sizes, "first_skip": bool(first_skip), "tone_guess": bool(tone_guess)}
        self._options |= {"prediction": prediction, "schedule": schedule, "seed": seed}
        self._policy = None if dtype is None else keras.dtype_policies.get(dtype).name
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={-1: 3})
        self.prediction, self.schedule = prediction, schedule
        self.multiple = patch << (depth - 1)
        self.spread = 0.2 if tone_guess else 0.5
        self.condition_channels = 6 if tone_guess else 3
        self._make_layers(itertools.count(100_000 * seed), dtype)
        self(keras.Input((None, None, 3), name=contracts.IMAGE))  # makes the weights; export needs the recorded call

    def _make_layers(self, seeds: Iterator[int], dtype: Any) -> None:
        n_feat, depth, heads, patch = (self._options[name] for name in ("n_feat", "depth", "heads", "patch"))
        time = TIME_WIDTH * n_feat
        common: dict[str, Any] = {"time": time, "dtype": dtype}
        given = patch * patch * (3 + self.condition_channels)
        widths = [given, *(n_feat << level for level in range(depth))]
        last = depth - 1
        self.time1 = dense(n_feat, time, seeds, "float32", "time1")
        self.time2 = dense(time, time, seeds, "float32", "time2")
        self.down = [
            Level(
                widths[level],
                widths[level + 1],
                heads,
                seeds,
                resample="down" if level < last else None,
                name=f"down{level}",
                **common,
            )
            for level in range(depth)
        ]
        wide = widths[-1]
        self.middle1 = ConvNextBlock(wide, wide, seeds, name="middle1", **common)
        self.middle_attention = LinearAttention(wide, heads, seeds, dtype=dtype, name="middle_attention")
        self.middle2 = ConvNextBlock(wide, wide, seeds, name="middle2", **common)
        self.up = [
            Level(2 * widths[level + 1], widths[level], heads, seeds, resample="up", name=f"up{level}", **common)
            for level in range(last, 0, -1)
        ]
        joined = 2 * n_feat if self._options["first_skip"] else n_feat
        self.last = ConvNextBlock(joined, n_feat, seeds, time=None, dtype=dtype, name="last")
        self.out = convolution(n_feat, 3 * patch * patch, 1, seeds, "float32", "out")

    def get_config(self) -> dict[str, Any]:
        """The options, so that `.keras` files rebuild the network."""
        return {**self._options, "dtype": self._policy, "name": self.name}

    def build(self, input_shape: Any) -> None:
        """Makes the weights; they depend on no side."""
        if self.time1.built:
            return
        n_feat = self._options["n_feat"]
        self.time1.build((None, n_feat))
        self.time2.build((None, TIME_WIDTH * n_feat))
        for layer in [*self.down, self.middle1, self.middle_attention, self.middle2, *self.up, self.last]:
            layer.build(None)
        self.out.build((None, None, None, n_feat))

    def compute_output_spec(self, images: Any, training: bool | None = None) -> dict[str, Any]:
        """Shapes and types of the outputs, without running the network."""
        return {contracts.IMAGE: keras.KerasTensor(images.shape, "float32")}

    def call(self, images: Any, training: bool | None = None) -> dict[str, Any]:
        """Estimates the bright pictures in one look, from the end of the diffusion: what a sampler sees first.

        It is a blurred, for `epsilon` also an inexact estimate (the noise estimate's error is divided by the little
        that is left of the signal); `tfllv.diffusion.samplers` makes pictures.

        Args:
          images: [B, H, W, 3] float32 in [0, 1], B, H, W >= 1.
          training: ignored; the network does the same in both modes.

        Returns:
          `image`: [B, H, W, 3] float32, not clipped.

        Raises:
          ValueError: if `images` is not rank 4 with 3 channels, or not of a floating type.
        """
        kind = keras.backend.standardize_dtype(images.dtype)
        if "float" not in kind:
            raise ValueError(f"`images` must be float32 in [0, 1]. Received: dtype={kind}; divide by its maximum.")
        images = ops.cast(images, "float32")
        levels = schedules.make(self.schedule)
        end = len(levels) - 1
        level = self.level(images)
        time = ops.full(ops.shape(images)[:1], end, dtype="int32")
        estimate = self.estimate(ops.zeros_like(images), self.condition(images, level), time)
        alpha, sigma = float(levels.alpha[end]), float(levels.sigma[end])
        factor = {"epsilon": -sigma / alpha, "v": -sigma, "x0": 1.0}[self.prediction]
        return {contracts.IMAGE: self.picture(factor * estimate, self.base(images, level))}

    def level(self, images: Any) -> Any:
        """Returns the mean of each picture, [B, H, W, 3] -> [B]; a part is guessed with the mean of its whole."""
        return ops.mean(ops.cast(images, "float32"), axis=(1, 2, 3))

    def base(self, images: Any, level: Any) -> Any:
        """Returns what the signal is counted from: mid-grey, or with `tone_guess` a guess of the bright picture.

        Args:
          images: [B, H, W, 3] float32 in [0, 1], dark pictures or parts of them.
          level: [B], the mean of each whole picture.

        Returns:
          [B, H, W, 3] in [0, 1]; the guess is the power of the picture that brings its mean near mid-grey.
        """
        if not self._options["tone_guess"]:
            return ops.full_like(images, 0.5)
        mean = ops.reshape(ops.clip(level, 1e-3, 0.9), (-1, 1, 1, 1))
        exponent = ops.clip(math.log(mirnet_small.MID_GREY) / ops.log(mean), mirnet_small.STRONGEST, 1.0)
        return ops.exp(exponent * ops.log(ops.maximum(images, mirnet_small.DARKEST)))

    def condition(self, images: Any, level: Any) -> Any:
        """Returns the channels that go beside the noisy signal: [B, H, W, 3] in [-1, 1], 6 with `tone_guess`."""
        if not self._options["tone_guess"]:
            return 2.0 * images - 1.0
        root = ops.sqrt(ops.maximum(images, mirnet_small.DARKEST))
        return ops.concatenate([2.0 * self.base(images, level) - 1.0, 2.0 * root - 1.0], axis=-1)

    def signal(self, high: Any, base: Any) -> Any:
        """Returns what is diffused, about [-1, 1]: (picture - base) / spread."""
        return (high - base) * (1.0 / self.spread)

    def picture(self, signal: Any, base: Any) -> Any:
        """Returns the picture of a signal, not clipped."""
        return base + self.spread * signal

    def estimate(self, noisy: Any, condition: Any, time: Any) -> Any:
        """Runs the network.

        Args:
          noisy: [B, H, W, 3], alpha signal + sigma noise.
          condition: [B, H, W, 3 or 6], by `condition`.
          time: [B] whole numbers from 0, the last of which is nearly all noise.

        Returns:
          [B, H, W, 3] float32: what `prediction` says.
        """
        _, height, width, _ = ops.shape(noisy)
        x = ops.concatenate([ops.cast(noisy, "float32"), ops.cast(condition, "float32")], axis=-1)
        x = self._to_squares(mirnet.reflect_to_multiple(x, self.multiple))
        time = self._embed(time)
        skips = []
        for level in self.down:
            skip, x = level(x, time)
            skips.append(skip)
        x = self.middle2(self.middle_attention(self.middle1(x, time)), time)
        for level in self.up:
            x = level(ops.concatenate([x, skips.pop()], axis=-1), time)[1]
        if self._options["first_skip"]:
            x = ops.concatenate([x, skips.pop()], axis=-1)
        return self._to_pixels(self.out(ops.cast(self.last(x), "float32")))[:, :height, :width]

    def _embed(self, time: Any) -> Any:
        """[B] -> [B, 4 n_feat]: sines, then cosines, of geometrically spaced frequencies (Vaswani et al. 2017)."""
        half = self._options["n_feat"] // 2
        frequencies = ops.exp(ops.arange(half, dtype="float32") * (-math.log(10000.0) / (half - 1)))
        angles = ops.cast(time, "float32")[:, None] * frequencies
        waves = ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)
        return self.time2(ops.gelu(self.time1(waves), approximate=False))

    def _to_squares(self, x: Any) -> Any:
        """[B, H, W, C] -> [B, H / patch, W / patch, patch patch C]."""
        side = self._options["patch"]
        if side == 1:
            return x
        _, height, width, channels = ops.shape(x)
        x = ops.reshape(x, (-1, height // side, side, width // side, side, channels))
        return ops.reshape(
            ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, height // side, width // side, side * side * channels)
        )

    def _to_pixels(self, x: Any) -> Any:
        """[B, h, w, patch patch 3] -> [B, h patch, w patch, 3]."""
        side = self._options["patch"]
        if side == 1:
            return x
        _, height, width, _ = ops.shape(x)
        x = ops.transpose(ops.reshape(x, (-1, height, width, side, side, 3)), (0, 1, 3, 2, 4, 5))
        return ops.reshape(x, (-1, height * side, width * side, 3))


@keras.saving.register_keras_serializable(package="tfllv")
class DiffusionUNetSmall(DiffusionUNet):
    """`DiffusionUNet` for a CPU: fewer channels, squares of 2x2 pixels, a guess of the tone, the signal as estimate.

    The distance to the guess is smooth, so a narrow network can say it, which it cannot of the noise of every pixel.

    Args:
      n_feat: as `DiffusionUNet`, like all others.
      depth: levels.
      heads: of each attention.
      patch: side of the squares.
      first_skip: the last block sees the first level's result.
      tone_guess: diffuses the distance to the guess.
      prediction: what the estimate is.
      schedule: the noise schedule.
      seed: of the initial weights.
      dtype: a Keras dtype policy for the body.
      name: the model's name.
    """

    def __init__(
        self,
        *,
        n_feat: int = 16,
        depth: int = 3,
        heads: int = 1,
        patch: int = 2,
        first_skip: bool = True,
        tone_guess: bool = True,
        prediction: Prediction = "x0",
        schedule: str = "log_linear",
        seed: int = 0,
        dtype: Any = None,
        name: str | None = "diffusion_unet_small",
    ):
        super().__init__(
            n_feat=n_feat,
            depth=depth,
            heads=heads,
            patch=patch,
            first_skip=first_skip,
            tone_guess=tone_guess,
            prediction=prediction,
            schedule=schedule,
            seed=seed,
            dtype=dtype,
            name=name,
        )
