"""The objective of a diffusion model: noise is added to the bright picture's signal, and the network estimates it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from tfllv import contracts
from tfllv.diffusion import denoiser, samplers, schedules
from tfllv.objectives.supervised import _entry

CHECK_TIMES = 8  # validation measures the loss at this many times, always the same
CHECK_STEPS = 4  # and makes pictures in this many steps of DPM-Solver++


class Denoising:
    """Weighted squared error of a network's estimate, as a callable `(model, batch) -> (terms, outputs)`.

    Time and noise come with the batch, where they are a function of seed and step: so a step is the same on one device
    or many, in one part or several, and in a run that was stopped.

    Args:
      weighting: of the times; see `denoiser.loss_weights`.
      gamma: of `min_snr`.
      seed: of validation's noise.

    Raises:
      ValueError: if `weighting` is unknown.
    """

    def __init__(self, *, weighting: str = "uniform", gamma: float = 5.0, seed: int = 0):
        denoiser.loss_weights("v", schedules.make("linear"), weighting, gamma=gamma)
        self._weighting, self._gamma, self._seed = weighting, gamma, seed

    def __call__(
        self, model: Any, batch: Mapping[str, Any], *, training: bool = True
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Runs a network on a batch and returns its loss.

        Args:
          model: a `diffusion_unet.DiffusionUNet`.
          batch: `low` and `high`, float32 [B, H, W, 3] in [0, 1]; in training `noise`, `time` and `level` too.
          training: whether to learn; otherwise fixed times and noise are taken, and the output is a sample.

        Returns:
          The term `noise` (the weighted mean squared error) and the outputs: `image`, a picture of each dark one.

        Raises:
          ValueError: if a key is not in the batch.
        """
        low = ops.convert_to_tensor(_entry(batch, contracts.LOW, "batch"), "float32")
        high = ops.convert_to_tensor(_entry(batch, contracts.HIGH, "batch"), "float32")
        level = batch[contracts.LEVEL] if contracts.LEVEL in batch else model.level(low)
        base, condition = model.base(low, level), model.condition(low, level)
        signal = model.signal(high, base)
        if training:
            noise, time = (_entry(batch, key, "batch") for key in (contracts.NOISE, contracts.TIME))
            error, found = self._error(model, signal, condition, noise, time, batch.get(contracts.PERTURBATION))
            return {contracts.NOISE: error}, {contracts.IMAGE: model.picture(found, base)}
        schedule = schedules.make(model.schedule)
        # All times in one call, a picture's copies beside each other: the graph holds the network once.
        places = (np.linspace(0.02, 0.98, CHECK_TIMES) * (len(schedule) - 1)).round().astype(np.int32)
        many, beside = (ops.repeat(each, CHECK_TIMES, axis=0) for each in (signal, condition))
        time = ops.tile(ops.convert_to_tensor(places), ops.shape(low)[:1])
        noise = ops.concatenate([self._normal(low[:1], number) for number in range(CHECK_TIMES)])
        noise = ops.tile(noise, (ops.shape(low)[0], 1, 1, 1))
        terms = {contracts.NOISE: self._error(model, many, beside, noise, time)[0]}
        return terms, {contracts.IMAGE: self._sample(model, schedule, condition, base)}

    def _error(
        self, model: Any, signal: Any, condition: Any, noise: Any, time: Any, perturbation: Any = None
    ) -> tuple[Any, Any]:
        """Returns the weighted mean squared error of one estimate, and the signal it stands for.

        The perturbation is in what the network is given and not in what it should say.
        """
        schedule = schedules.make(model.schedule)
        noisy, alpha, sigma = denoiser.diffuse(schedule, signal, noise, time)
        if perturbation is not None:
            noisy = noisy + sigma * perturbation
        estimate = ops.cast(model.estimate(noisy, condition, time), "float32")
        wanted = denoiser.target(model.prediction, signal, noise, alpha, sigma)
        weights = denoiser.loss_weights(model.prediction, schedule, self._weighting, gamma=self._gamma)
        error = ops.mean(denoiser.at(weights, time) * ops.square(estimate - wanted))
        return error, denoiser.to_signal(model.prediction, estimate, noisy, alpha, sigma)

    def _sample(self, model: Any, schedule: Any, condition: Any, base: Any) -> Any:
        """Returns pictures made in a few steps, in a loop, so that the graph holds the network once."""
        times = schedules.spread_times(schedule, CHECK_STEPS, spacing="log_snr")
        rows = samplers.dpmpp2m_factors(schedule, times)
        rows = np.concatenate([rows, schedule.alpha[times][:, None], schedule.sigma[times][:, None]], axis=1)
        table = ops.convert_to_tensor(rows.astype(np.float32))
        visited = ops.convert_to_tensor(times.astype(np.int32))

        def take_step(step: Any, state: tuple[Any, Any]) -> tuple[Any, Any]:
            noisy, before = state
            kept, taken, back, alpha, sigma = (ops.take(table[:, column], step) for column in range(5))
            at = ops.broadcast_to(ops.take(visited, step), ops.shape(noisy)[:1])
            estimate = ops.cast(model.estimate(noisy, condition, at), "float32")
            signal = denoiser.to_signal(model.prediction, estimate, noisy, alpha, sigma)
            return kept * noisy + taken * signal + back * before, signal

        start = self._normal(base, CHECK_TIMES)
        signal, _ = ops.fori_loop(0, CHECK_STEPS, take_step, (start, ops.zeros_like(start)))
        return model.picture(signal, base)

    def _normal(self, like: Any, number: int) -> Any:
        """Fixed noise of an array's shape, the same for every picture of a batch."""
        _, height, width, _ = ops.shape(like)
        return keras.random.normal((1, height, width, 3), seed=1_000 * self._seed + number) + 0.0 * like

    def measures(self, batch: Mapping[str, Any], outputs: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what validation reports beside the loss: `psnr` in dB of the pictures, on 256 levels."""
        image = ops.floor(ops.clip(ops.cast(outputs[contracts.IMAGE], "float32"), 0, 1) * 255 + 0.5) / 255
        error = ops.mean(ops.square(image - batch[contracts.HIGH]), axis=(1, 2, 3))
        return {"psnr": ops.mean(-10.0 * ops.log10(ops.maximum(error, 1e-10)))}

    def pictures(self, batch: Mapping[str, Any], outputs: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what to show of a validation batch: dark, sampled and true picture side by side."""
        sides = [batch[contracts.LOW], ops.clip(outputs[contracts.IMAGE], 0, 1), batch[contracts.HIGH]]
        return {"samples": ops.concatenate(sides, axis=2)}
