"""Pictures of any size by a diffusion model: overlapping tiles, blended in the estimate at every step.

Every network call sees one tile. The estimates of all tiles are blended, with weights that fall to a tile's border,
before the sampler takes its step; so there is one noisy picture, not one a tile, and no seam to hide afterwards.

Tiles agree where they overlap, but not on what none of them can see: how bright the whole is. A picture of several
tiles is therefore sampled twice: first shrunk to one tile, then at its own size from a noise level that keeps what the
first has settled (`from_coarse`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import tensorflow as tf

from tfllv import contracts, enhancers, models
from tfllv.diffusion import denoiser, samplers, schedules
from tfllv.runner import networks

# The noise, against the signal, from which the second pass starts: it drowns what a tile decides, not what the means
# over the first pass's pixels say.
COARSE_NOISE = 2.0
OnStep = Callable[[int, int], None]  # (steps done, steps in all)


def tile_places(length: int, tile: int, overlap: int) -> list[int]:
    """Returns where tiles of one axis start: evenly, the first at 0, the last ending at `length`.

    Args:
      length: of the axis, >= 1.
      tile: side of a tile.
      overlap: least pixels that neighbours share, < tile.
    """
    if length <= tile:
        return [0]
    count = math.ceil((length - overlap) / (tile - overlap))
    return [round(index * (length - tile) / (count - 1)) for index in range(count)]


def blend_weights(tile: int, overlap: int) -> np.ndarray:
    """Returns the weights of a tile's pixels along one axis: 1 inside, falling to nearly 0 over `overlap` pixels."""
    ramp = np.minimum(np.arange(tile) + 0.5, tile - np.arange(tile) - 0.5) / max(overlap, 1)
    return np.sin(np.clip(ramp, 0.0, 1.0) * np.pi / 2).astype(np.float32) ** 2


class TiledEstimate:
    """The network's estimate for whole pictures, from overlapping tiles: (noisy, time) -> estimate.

    Args:
      run: (noisy tiles, condition tiles, time) -> estimates, [B, h, w, C] arrays.
      condition: [H, W, C], of the whole picture.
      tile: side of a tile in pixels; a picture that is no larger is one.
      overlap: least pixels that neighbours share.
      batch_size: tiles in one call.
    """

    def __init__(
        self,
        run: Callable[[np.ndarray, np.ndarray, int], np.ndarray],
        condition: np.ndarray,
        *,
        tile: int,
        overlap: int,
        batch_size: int = 16,
    ):
        self._run, self._condition, self._batch = run, condition, batch_size
        height, width = condition.shape[:2]
        self._tile = (min(tile, height), min(tile, width))
        rows, columns = tile_places(height, tile, overlap), tile_places(width, tile, overlap)
        self._places = [(top, left) for top in rows for left in columns]
        down, across = (blend_weights(side, overlap) for side in self._tile)
        self._weights = np.maximum(down[:, None] * across[None, :], 1e-6)[..., None]
        total = np.zeros((height, width, 1), np.float32)
        for place in self._places:
            total[self._window(place)] += self._weights
        self._total = total

    def _window(self, place: tuple[int, int]) -> tuple[slice, slice]:
        (top, left), (height, width) = place, self._tile
        return slice(top, top + height), slice(left, left + width)

    def __call__(self, noisy: np.ndarray, time: int) -> np.ndarray:
        """[H, W, 3] and a time -> [H, W, 3]."""
        if len(self._places) == 1:
            return self._run(noisy[None], self._condition[None], time)[0]
        result = np.zeros_like(noisy)
        for first in range(0, len(self._places), self._batch):
            places = self._places[first : first + self._batch]
            tiles = np.stack([noisy[self._window(place)] for place in places])
            beside = np.stack([self._condition[self._window(place)] for place in places])
            for place, estimate in zip(places, self._run(tiles, beside, time), strict=True):
                result[self._window(place)] += self._weights * estimate
        return result / self._total


class DiffusionEnhancer(enhancers.Enhancer):
    """A diffusion model as an enhancer; see `enhancers.Enhancer`.

    The result is a function of picture, weights, options and seed: not of the batch or of other pictures.

    Attributes:
      model: the Keras model.
      on_step: called after each network call on a picture with (steps done, steps in all); None: not.
    """

    def __init__(
        self,
        name: str,
        model: Any,
        *,
        sampler: str = "dpmpp2m",
        steps: int = 10,
        eta: float = 0.0,
        temperature: float | None = None,
        seed: int | None = None,
        tile: int = 64,
        overlap: int | None = None,
        coarse: bool = True,
        batch_size: int = 16,
    ):
        """Checks the options; see `diffusion_enhancer`."""
        super().__init__(name, self._enhance)
        schedule = schedules.make(model.schedule)
        samplers.check(sampler, steps, schedule)
        if not 0 <= eta <= 1:
            raise ValueError(f"`eta` must be in [0, 1]. Received: eta={eta}.")
        if temperature is None:
            temperature = 0.0 if seed is None else 1.0
        seed = 0 if seed is None else seed
        if not 0 <= temperature <= 1:
            raise ValueError(f"`temperature` must be in [0, 1]. Received: temperature={temperature}.")
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ValueError(f"`seed` must be a whole number >= 0. Received: seed={seed}.")
        if isinstance(tile, bool) or not isinstance(tile, int) or tile < model.multiple:
            raise ValueError(f"`tile` must be a whole number >= {model.multiple}. Received: tile={tile}.")
        if overlap is not None and not 0 <= overlap < tile:
            raise ValueError(f"`overlap` must be from 0 to below `tile`, {tile}. Received: overlap={overlap}.")
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"`batch_size` must be a whole number >= 1. Received: batch_size={batch_size}.")
        self.model = model
        self._batch, self._temperature = batch_size, np.float32(temperature)
        self.on_step: OnStep | None = None
        self._schedule = schedule
        self._sampler, self._steps, self._eta, self._seed = sampler, steps, float(eta), seed
        self._tile, self._overlap, self._coarse = tile, overlap, bool(coarse)
        self._estimate = tf.function(
            model.estimate,
            input_signature=[
                tf.TensorSpec([None, None, None, 3]),
                tf.TensorSpec([None, None, None, model.condition_channels]),
                tf.TensorSpec([None], tf.int32),
            ],
        )

    def _enhance(self, image: np.ndarray) -> np.ndarray:
        if image.ndim == 4:
            return np.stack([self._enhance(each) for each in image])
        side, tile = max(image.shape[:2]), self._tile
        level = np.float32(image.mean(dtype=np.float64))
        if side <= tile or not self._coarse:
            return self._sample(image, level, self._noise(image.shape, 0), None, (0, self._steps))
        # Twice: shrunk to one tile, then from there on.
        start = self.from_coarse()
        end = self._schedule.end
        share = (start - end + 1) / (len(self._schedule) - end)
        if samplers.SPACING[self._sampler] == "log_snr":
            values = self._schedule.log_snr_half
            share = (values[end] - values[start]) / (values[end] - values[-1])
        fine = max(1, round(self._steps * share))
        total = self._steps + fine
        small = _resize(image, tile / side)
        found = self._sample(small, level, self._noise(small.shape, 1), None, (0, total))
        guess = cv2.resize(found - self._base(small, level), image.shape[1::-1], interpolation=cv2.INTER_CUBIC)
        signal = guess / np.float32(self.model.spread)
        noisy = self._schedule.alpha[start] * signal + self._schedule.sigma[start] * self._noise(image.shape, 0)
        return self._sample(image, level, noisy.astype(np.float32), (start, fine), (self._steps, total))

    def from_coarse(self) -> int:
        """Returns the time from which the second pass of a large picture starts."""
        return int(np.argmin(np.abs(self._schedule.log_snr_half + math.log(COARSE_NOISE))))

    def _base(self, image: np.ndarray, level: np.float32) -> np.ndarray:
        return np.asarray(self.model.base(tf.constant(image[None]), tf.constant([level])))[0]

    def _noise(self, shape: tuple[int, ...], stream: int, step: int = -1) -> np.ndarray:
        """Normal noise of deviation `temperature`, a function of seed, pass, step and size alone."""
        rng = np.random.default_rng((self._seed, stream, step + 1))
        return self._temperature * rng.standard_normal(shape, np.float32)

    def _run(self, noisy: np.ndarray, condition: np.ndarray, time: int) -> np.ndarray:
        return self._estimate(noisy, condition, np.full(len(noisy), time, np.int32)).numpy()

    def _sample(
        self,
        image: np.ndarray,
        level: np.float32,
        noisy: np.ndarray,
        part: tuple[int, int] | None,
        progress: tuple[int, int],
    ) -> np.ndarray:
        """Samples one picture, [H, W, 3] -> the same, clipped.

        Args:
          image: the dark picture.
          level: the mean of the whole picture.
          noisy: the noisy signal to start from.
          part: (time, steps) to start from; None: the schedule's end, all steps.
          progress: (steps done before, steps in all) of the picture, for `on_step`.
        """
        schedule, model = self._schedule, self.model
        condition = np.asarray(model.condition(tf.constant(image[None]), tf.constant([level])))[0]
        overlap = self._tile // 2 if self._overlap is None else min(self._overlap, self._tile - 1)
        estimate = TiledEstimate(self._run, condition, tile=self._tile, overlap=overlap, batch_size=self._batch)

        def denoise(noisy: np.ndarray, time: int) -> np.ndarray:
            alpha, sigma = np.float32(schedule.alpha[time]), np.float32(schedule.sigma[time])
            return denoiser.to_signal(model.prediction, estimate(noisy, time), noisy, alpha, sigma)

        def count(step: int, steps: int, noisy: Any, signal: Any) -> None:
            if self.on_step is not None:
                self.on_step(progress[0] + step + 1, progress[1])

        start, steps = part or (None, self._steps)
        stream = 2 if part is None else 3
        signal = samplers.sample(
            self._sampler,
            denoise,
            noisy,
            schedule,
            steps=steps,
            noise=lambda step: self._noise(image.shape, stream, step),
            eta=self._eta,
            start=start,
            on_step=count,
        )
        picture = model.picture(np.asarray(signal, np.float32), self._base(image, level))
        return np.clip(picture, 0.0, 1.0).astype(np.float32)

    def tiled(self, image: np.ndarray, tile: int | None = None) -> np.ndarray:
        """Enhances one image of any size; see `Enhancer.tiled`. `tile` replaces the option, 0 takes the whole at once.

        The size of the tiles is part of the result: it says how much of the picture the network sees at a time.
        """
        kept = self._tile
        try:
            if tile is not None:
                self._tile = tile or max(image.shape[:2])
            return contracts.to_type(self._enhance(contracts.to_float(image)), image.dtype)
        finally:
            self._tile = kept


def _resize(image: np.ndarray, scale: float) -> np.ndarray:
    """Shrinks [H, W, 3] by the mean over each pixel's area, to at least one pixel a side."""
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def diffusion_enhancer(
    name: str,
    *,
    weights: str | None = None,
    precision: str = "float32",
    model: str = "diffusion_unet_small",
    sampler: str = "dpmpp2m",
    steps: int = 10,
    eta: float = 0.0,
    temperature: float | None = None,
    seed: int | None = None,
    tile: int = 64,
    overlap: int | None = None,
    coarse: bool = True,
    batch_size: int = 16,
    **options: Any,
) -> DiffusionEnhancer:
    """Makes the enhancer of a diffusion model; called by `enhancers.get`.

    Args:
      name: `diffusion`.
      weights: a `.weights.h5` file; None: those shipped with the package.
      precision: `float32`, or `bfloat16` for the network's body.
      model: a diffusion network of `models.MODELS`.
      sampler: a key of `samplers.SAMPLERS`.
      steps: network calls a picture (a tile), from 1 to the schedule's times.
      eta: of `ddim`, 0 to 1.
      temperature: the noise's deviation, 0 to 1. At 1 the result is one of all bright pictures that fit, drawn by
        chance; at 0 it is close to the middle of them, and the same whatever the seed. None: 1 where a seed is given,
        else 0.
      seed: of the noise; None: 0.
      tile: side of a tile in pixels; best the size that was trained on.
      overlap: least pixels that tiles share; None: half a tile.
      coarse: sample a picture of several tiles small first.
      batch_size: tiles in one network call; the result does not depend on it.
      **options: of the network.

    Raises:
      ValueError: if there are no weights for it, or they are of another network; or an option is wrong.
    """
    if precision not in networks.PRECISIONS:
        raise ValueError(
            f"`precision` must be one of {', '.join(networks.PRECISIONS)}. Received: precision='{precision}'."
        )
    dtype = {} if precision == "float32" else {"dtype": f"mixed_{precision}"}
    net = models.build(model, **dtype, **options)
    if not hasattr(net, "estimate"):
        raise ValueError(f"`model` must be a diffusion network, such as diffusion_unet. Received: model='{model}'.")
    made = DiffusionEnhancer(
        name,
        net,
        sampler=sampler,
        steps=steps,
        eta=eta,
        temperature=temperature,
        seed=seed,
        tile=tile,
        overlap=overlap,
        coarse=coarse,
        batch_size=batch_size,
    )
    networks.load_weights(net, model, weights)
    return made
