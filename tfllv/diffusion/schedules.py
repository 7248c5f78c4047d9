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
      end: the time at which samplers stop and take the estimate for the result.
    """

    def __init__(self, beta: np.ndarray, *, end: int = 0):
        """Takes the betas.

        Args:
          beta: [T] in (0, 1).
          end: from 0 to T - 1. A network is at its worst at the end of what it was trained with, so that it pays to
            train it on less noise than it will see.

        Raises:
          ValueError: if one is outside (0, 1).
        """
        beta = np.asarray(beta, np.float64)
        if beta.ndim != 1 or not len(beta) or not ((beta > 0) & (beta < 1)).all():
            raise ValueError(f"`beta` must be a row of numbers in (0, 1). Received: shape={beta.shape}.")
        self.beta, self.end = beta, end
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


def log_linear(steps: int = STEPS, *, first: float = 1.0, last: float = 100.0) -> np.ndarray:
    """Betas whose sigma / alpha grows by one factor a step, from `first` to `last`: log SNR is linear in time.

    The fixed form of the schedule of Kingma et al. (NeurIPS 2021, arXiv:2107.00630, Sec. 4). It ends early, in noise
    larger than the signal, for networks that diffuse the distance to a guess, which holds the detail already: in less
    noise, what a sampler of many steps follows is the network's own error.
    """
    left = 1 / (1 + np.geomspace(first, last, steps) ** 2)
    return 1 - left / np.concatenate([[1.0], left[:-1]])


SCHEDULES: dict[str, Callable[[], np.ndarray]] = {"linear": linear, "cosine": cosine, "log_linear": log_linear}
ENDS = {"log_linear": 73}  # where sigma / alpha is 1.4


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
    return Schedule(SCHEDULES[name](), end=ENDS.get(name, 0))


def spread_times(schedule: Schedule, steps: int, *, spacing: str = "time", start: int | None = None) -> np.ndarray:
    """Chooses the times that a sampler visits.

    Args:
      schedule: of T times.
      steps: network calls, from 1 to the times from `start` to the schedule's end.
      spacing: `time`, evenly spaced; or `log_snr`, evenly spaced in log(alpha / sigma), which a solver of few steps
        needs (Lu et al. 2022, arXiv:2211.01095, Sec. 4). Neighbours that would be one time are spread.
      start: the first, noisiest time; None: the last of the schedule.

    Returns:
      [steps] int, strictly falling, from `start` to the schedule's end (of one step: `start` alone).

    Raises:
      ValueError: if an argument is out of range.
    """
    start = len(schedule) - 1 if start is None else start
    end = schedule.end
    if not end <= start < len(schedule):
        raise ValueError(f"`start` must be a time from {end} to {len(schedule) - 1}. Received: {start}.")
    if isinstance(steps, bool) or not 1 <= steps <= start - end + 1:
        raise ValueError(f"`steps` must be from 1 to the {start - end + 1} times there are. Received: {steps}.")
    if spacing not in ("time", "log_snr"):
        raise ValueError(f"`spacing` must be time or log_snr. Received: '{spacing}'.")
    if spacing == "time":
        return np.round(np.linspace(start, end, steps)).astype(int)
    values = schedule.log_snr_half
    wanted = np.linspace(values[start], values[end], steps)
    between = np.arange(start, end - 1, -1)
    times = np.round(np.interp(wanted, values[between], between)).astype(int)
    times[0] = start
    for index in range(1, steps):  # no two alike, and room for all that follow
        times[index] = min(times[index], times[index - 1] - 1)
    for index in range(steps):
        times[index] = max(times[index], end + steps - 1 - index)
    return times
