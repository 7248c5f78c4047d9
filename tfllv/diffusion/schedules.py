"""Noise schedules: how much of the signal and how much noise a diffused picture holds at each of T times.

x_t = alpha_t signal + sigma_t noise with alpha^2 + sigma^2 = 1 (Ho et al., NeurIPS 2020, arXiv:2006.11239, Eq. 4).
Everything is float64 and computed once; samplers and losses take single figures from here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from tfllv import contracts

STEPS = 1000


class Schedule:
    """A schedule by its betas, the share of noise that each step adds.

    Attributes:
      beta: [T].
      alpha_bar: [T], what is left of the signal's variance.
      alpha: [T], its root: what the signal is multiplied by.
      sigma: [T], the noise's standard deviation.
      log_snr_half: [T], log(alpha / sigma), falling; DPM-Solver's lambda.
    """

    def __init__(self, beta: np.ndarray):
        """Takes the betas.

        Args:
          beta: [T] in (0, 1).

        Raises:
          ValueError: if one is outside (0, 1).
        """
        beta = np.asarray(beta, np.float64)
        if beta.ndim != 1 or not len(beta) or not ((beta > 0) & (beta < 1)).all():
            raise ValueError(f"`beta` must be a row of numbers in (0, 1). Received: shape={beta.shape}.")
        self.beta = beta
        self.alpha_bar = np.cumprod(1.0 - beta)
        self.alpha = np.sqrt(self.alpha_bar)
        self.sigma = np.sqrt(1.0 - self.alpha_bar)
        self.log_snr_half = np.log(self.alpha / self.sigma)

    def __len__(self) -> int:
        return len(self.beta)


def linear(steps: int = STEPS, *, first: float = 1e-4, last: float = 0.02) -> np.ndarray:
    """Betas that grow evenly from `first` to `last`, as in the paper."""
    return np.linspace(first, last, steps)


def cosine(steps: int = STEPS, *, offset: float = 0.008, most: float = 0.9999) -> np.ndarray:
    """Betas whose alpha_bar falls as a squared cosine (Nichol and Dhariwal, ICML 2021, arXiv:2102.09672, Eq. 17)."""
    place = (np.arange(steps + 1) / steps + offset) / (1 + offset)
    left = np.cos(place * np.pi / 2) ** 2
    return np.clip(1 - left[1:] / left[:-1], 1e-4, most)


def log_linear(steps: int = STEPS, *, first: float = 0.5, last: float = 100.0) -> np.ndarray:
    """Betas whose sigma / alpha grows by one factor a step, from `first` to `last`: log SNR is linear in time.

    The fixed form of the schedule of Kingma et al. (NeurIPS 2021, arXiv:2107.00630, Sec. 4). It ends where the noise is
    as small as what a network leaves of its own error: below, a sampler would follow that error and not the picture.
    """
    left = 1 / (1 + np.geomspace(first, last, steps) ** 2)
    return 1 - left / np.concatenate([[1.0], left[:-1]])


SCHEDULES: dict[str, Callable[[], np.ndarray]] = {"linear": linear, "cosine": cosine, "log_linear": log_linear}


@functools.cache
def make(name: str) -> Schedule:
    """Returns the schedule of a name, always the same object.

    Raises:
      ValueError: if there is none; the message names the nearest.
    """
    if name not in SCHEDULES:
        raise ValueError(
            f"`schedule` must be one of {', '.join(SCHEDULES)}. Received: schedule='{name}'; "
            f"{contracts.nearest_name(name, SCHEDULES)}"
        )
    return Schedule(SCHEDULES[name]())


def spread_times(schedule: Schedule, steps: int, *, spacing: str = "time", start: int | None = None) -> np.ndarray:
    """Chooses the times that a sampler visits.

    Args:
      schedule: of T times.
      steps: network calls, >= 1 and <= T.
      spacing: `time`, evenly spaced; or `log_snr`, evenly spaced in log(alpha / sigma), which a solver of few steps
        needs (Lu et al. 2022, arXiv:2211.01095, Sec. 4). Neighbours that would be one time are spread.
      start: the first, noisiest time; None: the last of the schedule.

    Returns:
      [steps] int, strictly falling, from `start` to 0 (of one step: `start` alone).

    Raises:
      ValueError: if an argument is out of range.
    """
    start = len(schedule) - 1 if start is None else start
    if not 0 <= start < len(schedule):
        raise ValueError(f"`start` must be a time from 0 to {len(schedule) - 1}. Received: {start}.")
    if isinstance(steps, bool) or not 1 <= steps <= start + 1:
        raise ValueError(f"`steps` must be from 1 to the {start + 1} times there are. Received: {steps}.")
    if spacing not in ("time", "log_snr"):
        raise ValueError(f"`spacing` must be time or log_snr. Received: '{spacing}'.")
    if spacing == "time":
        return np.round(np.linspace(start, 0, steps)).astype(int)
    values = schedule.log_snr_half
    wanted = np.linspace(values[start], values[0], steps)
    times = np.round(np.interp(wanted, values[start::-1], np.arange(start, -1, -1.0))).astype(int)
    times[0] = start
    for index in range(1, steps):  # no two alike, and room for all that follow
        times[index] = min(times[index], times[index - 1] - 1)
    for index in range(steps):
        times[index] = max(times[index], steps - 1 - index)
    return times
