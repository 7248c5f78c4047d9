"""The denoiser: what a network's estimate means, and the loss it is trained with. Arrays of any backend.

A network estimates the noise (`epsilon`, Ho et al., NeurIPS 2020), the velocity v = alpha noise - sigma signal
(Salimans and Ho, ICLR 2022, arXiv:2202.00512) or the signal itself (`x0`); each gives the others where the noisy
picture alpha signal + sigma noise is at hand. Samplers know only the signal's estimate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from tfllv.diffusion.schedules import Schedule

WEIGHTINGS = ("uniform", "min_snr")

# (noisy signal, time) -> the signal, estimated.
Denoise = Callable[[Any, int], Any]


def to_signal(prediction: str, estimate: Any, noisy: Any, alpha: Any, sigma: Any) -> Any:
    """Turns a network's estimate into the signal's.

    Args:
      prediction: `epsilon`, `v` or `x0`.
      estimate: [...], what the network said.
      noisy: [...], alpha signal + sigma noise.
      alpha: of the noisy signal, broadcast to it.
      sigma: likewise.

    Raises:
      ValueError: if `prediction` is unknown.
    """
    if prediction == "epsilon":
        return (noisy - sigma * estimate) / alpha
    if prediction == "v":
        return alpha * noisy - sigma * estimate
    if prediction == "x0":
        return estimate
    raise ValueError(f"`prediction` must be epsilon, v or x0. Received: prediction='{prediction}'.")


def target(prediction: str, signal: Any, noise: Any, alpha: Any, sigma: Any) -> Any:
    """Returns what the network should say; arguments and errors as `to_signal`."""
    if prediction == "epsilon":
        return noise
    if prediction == "v":
        return alpha * noise - sigma * signal
    if prediction == "x0":
        return signal
    raise ValueError(f"`prediction` must be epsilon, v or x0. Received: prediction='{prediction}'.")


def loss_weights(prediction: str, schedule: Schedule, weighting: str = "uniform", *, gamma: float = 5.0) -> np.ndarray:
    """Returns what the squared error of the estimate is multiplied by at each time.

    Args:
      prediction: what the error is of.
      schedule: of T times.
      weighting: `uniform`, 1 everywhere; `min_snr`, the signal's error weighed by min(SNR, gamma) whatever is
        predicted (Hang et al., ICCV 2023, arXiv:2303.09556, Sec. 3.4), which keeps easy times from ruling the rest.
      gamma: of `min_snr`.

    Returns:
      [T] float32.

    Raises:
      ValueError: if `weighting` is unknown.
    """
    if weighting not in WEIGHTINGS:
        raise ValueError(f"`weighting` must be one of {', '.join(WEIGHTINGS)}. Received: weighting='{weighting}'.")
    if weighting == "uniform":
        return np.ones(len(schedule), np.float32)
    snr = schedule.alpha_bar / (1.0 - schedule.alpha_bar)
    # The signal's error is the noise's divided by SNR, and v's divided by SNR + 1.
    scale = {"epsilon": snr, "v": snr + 1.0, "x0": np.ones_like(snr)}[prediction]
    return (np.minimum(snr, gamma) / scale).astype(np.float32)


def diffuse(schedule: Schedule, signal: Any, noise: Any, time: Any) -> tuple[Any, Any, Any]:
    """Adds the noise of a time: returns (noisy, alpha, sigma).

    Args:
      schedule: of T times.
      signal: [B, H, W, C].
      noise: [B, H, W, C], standard normal.
      time: [B] whole numbers in [0, T).

    Returns:
      [B, H, W, C], [B, 1, 1, 1], [B, 1, 1, 1].
    """
    alpha, sigma = (at(values, time) for values in (schedule.alpha, schedule.sigma))
    return alpha * signal + sigma * noise, alpha, sigma


def at(values: np.ndarray, time: Any) -> Any:
    """Looks figures of a schedule up: [T] and [B] -> [B, 1, 1, 1] float32."""
    table = ops.convert_to_tensor(np.asarray(values, np.float32))
    return ops.reshape(ops.take(table, ops.cast(time, "int32"), axis=0), (-1, 1, 1, 1))
