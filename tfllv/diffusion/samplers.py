"""Samplers: from noise to a signal, as free functions over any denoiser.

A denoiser is a function (noisy signal, time) -> the signal, estimated; how it comes by it (a network, a formula, tiles
of a large picture) is not known here. Noise comes from the caller, one array at a time, so that a run is a function of
what it is given. Arrays may be of NumPy or of any backend: only +, - and * by numbers are used.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfllv import contracts
from tfllv.diffusion.denoiser import Denoise
from tfllv.diffusion.schedules import Schedule, spread_times

# Called after each step with (number of the step from 0, steps in all, noisy signal, the signal's estimate).
OnStep = Callable[[int, int, Any, Any], None]
# Falling times to visit.
Times = Sequence[int] | np.ndarray
# Gives the standard normal noise of a step, of the signal's shape.
Noise = Callable[[int], Any]


def sample_ddpm(
    denoise: Denoise,
    noisy: Any,
    schedule: Schedule,
    *,
    noise: Noise,
    times: Times | None = None,
    on_step: OnStep | None = None,
) -> Any:
    """Samples ancestrally: every step draws from the posterior of the one before (Ho et al. 2020, Eq. 7, Alg. 2).

    With fewer times than the schedule has, the posterior between the times that are visited is taken (Nichol and
    Dhariwal 2021, Sec. 4).

    Args:
      denoise: (noisy signal, time) -> signal.
      noisy: the noisy signal at `times[0]`.
      schedule: of T times.
      noise: step -> standard normal array; asked for in every step but the last.
      times: falling times to visit; None: all, from the last.
      on_step: called after each step.

    Returns:
      The signal.
    """
    return sample_ddim(denoise, noisy, schedule, noise=noise, eta=1.0, times=_all(schedule, times), on_step=on_step)


def sample_ddim(
    denoise: Denoise,
    noisy: Any,
    schedule: Schedule,
    *,
    times: Times,
    eta: float = 0.0,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
) -> Any:
    """Samples by denoising diffusion implicit models (Song et al., ICLR 2021, arXiv:2010.02502, Eq. 12 and 16).

    Args:
      denoise: (noisy signal, time) -> signal.
      noisy: the noisy signal at `times[0]`.
      schedule: of T times.
      times: falling times to visit.
      eta: 0: no new noise, first order in the step; 1: the ancestral sampler.
      noise: step -> standard normal array; not needed where `eta` is 0.
      on_step: called after each step.

    Returns:
      The signal.

    Raises:
      ValueError: if `eta` is outside [0, 1], or above 0 without `noise`.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"`eta` must be in [0, 1]. Received: eta={eta}.")
    if eta and noise is None:
        raise ValueError(f"`noise` must be given where `eta` is above 0. Received: eta={eta}.")
    for step, time in enumerate(times):
        signal = denoise(noisy, int(time))
        if step + 1 == len(times):
            noisy = signal
        else:
            a, s, b, q = *_figures(schedule, time), *_figures(schedule, times[step + 1])
            fresh = eta * q / s * math.sqrt(max(0.0, 1.0 - (a / b) ** 2))
            kept = math.sqrt(max(0.0, q * q - fresh * fresh)) / s  # of the noise that is in the signal now
            noisy = (b - a * kept) * signal + kept * noisy
            if fresh and noise is not None:
                noisy = noisy + fresh * noise(step)
        if on_step is not None:
            on_step(step, len(times), noisy, signal)
    return noisy


def sample_dpmpp2m(
    denoise: Denoise,
    noisy: Any,
    schedule: Schedule,
    *,
    times: Times,
    on_step: OnStep | None = None,
) -> Any:
    """Samples by DPM-Solver++ (2M), a second-order multistep solver (Lu et al. 2022, arXiv:2211.01095, Alg. 2).

    The first step is of first order, and so is the last, which goes to no noise at all.

    Args:
      denoise: (noisy signal, time) -> signal.
      noisy: the noisy signal at `times[0]`.
      schedule: of T times.
      times: falling times to visit.
      on_step: called after each step.

    Returns:
      The signal.
    """
    before: Any = None
    for step, (time, (kept, taken, back)) in enumerate(zip(times, dpmpp2m_factors(schedule, times), strict=True)):
        signal = denoise(noisy, int(time))
        if step + 1 == len(times):
            noisy = signal
        elif before is None:
            noisy = float(kept) * noisy + float(taken) * signal
        else:
            noisy = float(kept) * noisy + float(taken) * signal + float(back) * before
        before = signal
        if on_step is not None:
            on_step(step, len(times), noisy, signal)
    return noisy


def dpmpp2m_factors(schedule: Schedule, times: Times) -> np.ndarray:
    """Returns DPM-Solver++ (2M)'s steps as sums: [steps, 3], the factors of noisy signal, estimate, estimate before."""
    factors = np.zeros((len(times), 3))
    factors[-1] = (0.0, 1.0, 0.0)
    for step in range(len(times) - 1):
        now, then = schedule.log_snr_half[times[step]], schedule.log_snr_half[times[step + 1]]
        ahead = -schedule.alpha[times[step + 1]] * math.expm1(now - then)
        half = 0.0 if step == 0 else 0.5 * (then - now) / (now - schedule.log_snr_half[times[step - 1]])
        kept = schedule.sigma[times[step + 1]] / schedule.sigma[times[step]]
        factors[step] = (kept, ahead * (1 + half), -ahead * half)
    return factors


SAMPLERS: dict[str, Callable[..., Any]] = {"ddpm": sample_ddpm, "ddim": sample_ddim, "dpmpp2m": sample_dpmpp2m}
# Where a sampler's times lie; solvers of high order need them evenly spaced in log(alpha / sigma).
SPACING = {"ddpm": "time", "ddim": "time", "dpmpp2m": "log_snr"}


def sample(
    name: str,
    denoise: Denoise,
    noisy: Any,
    schedule: Schedule,
    *,
    steps: int,
    noise: Noise,
    eta: float = 0.0,
    start: int | None = None,
    on_step: OnStep | None = None,
) -> Any:
    """Samples by name with the times that suit it.

    Args:
      name: a key of `SAMPLERS`.
      denoise: (noisy signal, time) -> signal.
      noisy: the noisy signal at `start`.
      schedule: of T times.
      steps: network calls, from 1 to T - the schedule's end.
      noise: step -> standard normal array.
      eta: of `ddim`.
      start: the first time; None: the schedule's last, where the signal is all noise.
      on_step: called after each step.

    Returns:
      The signal.

    Raises:
      ValueError: if a name or number is wrong.
    """
    check(name, steps, schedule)
    times = spread_times(schedule, steps, spacing=SPACING[name], start=start)
    options: dict[str, Any] = {"times": times, "on_step": on_step}
    known = inspect.signature(SAMPLERS[name]).parameters
    options |= {key: value for key, value in (("noise", noise), ("eta", eta)) if key in known}
    return SAMPLERS[name](denoise, noisy, schedule, **options)


def check(name: str, steps: int, schedule: Schedule) -> None:
    """Raises ValueError unless there is a sampler of that name and the steps are from 1 to the times it may visit."""
    if name not in SAMPLERS:
        raise ValueError(
            f"`sampler` must be one of {', '.join(SAMPLERS)}. Received: sampler='{name}'; "
            f"{contracts.nearest_name(str(name), SAMPLERS)}"
        )
    most = len(schedule) - schedule.end
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or not 1 <= steps <= most:
        raise ValueError(f"`steps` must be a whole number from 1 to {most}. Received: steps={steps}.")


def _all(schedule: Schedule, times: Times | None) -> Times:
    return range(len(schedule) - 1, schedule.end - 1, -1) if times is None else times


def _figures(schedule: Schedule, time: int) -> tuple[float, float]:
    return float(schedule.alpha[time]), float(schedule.sigma[time])
