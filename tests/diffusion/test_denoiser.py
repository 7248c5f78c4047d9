from __future__ import annotations

import numpy as np
import pytest

from tfllv.diffusion import denoiser, schedules

PREDICTIONS = ("epsilon", "v", "x0")


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("time", [0, 500, 999])
def test_the_target_is_turned_back_into_the_signal(prediction, time, rng):
    schedule = schedules.make("linear")
    signal, noise = rng.standard_normal((2, 3, 4, 4, 3))
    alpha, sigma = schedule.alpha[time], schedule.sigma[time]
    noisy = alpha * signal + sigma * noise
    said = denoiser.target(prediction, signal, noise, alpha, sigma)
    np.testing.assert_allclose(denoiser.to_signal(prediction, said, noisy, alpha, sigma), signal, atol=1e-9)


def test_v_is_orthogonal_to_the_noisy_signal():
    # v is the derivative of alpha signal + sigma noise along the circle alpha = cos, sigma = sin.
    angle, step = 0.7, 1e-6
    noisy = [np.cos(a) * 2.0 + np.sin(a) * -1.5 for a in (angle - step, angle + step)]
    slope = (noisy[1] - noisy[0]) / (2 * step)
    assert denoiser.target("v", 2.0, -1.5, np.cos(angle), np.sin(angle)) == pytest.approx(slope, abs=1e-8)


def test_min_snr_weighs_the_signal_s_error_alike_whatever_is_predicted(rng):
    schedule = schedules.make("linear")
    snr = (schedule.alpha / schedule.sigma) ** 2
    signal, wrong, noise = rng.standard_normal((3, 50))
    for time in (0, 100, 300, 999):
        alpha, sigma = schedule.alpha[time], schedule.sigma[time]
        noisy = alpha * signal + sigma * noise
        found = []
        for prediction in PREDICTIONS:
            other = (noisy - alpha * wrong) / sigma  # the noise that an estimate `wrong` of the signal stands for
            error = denoiser.target(prediction, wrong, other, alpha, sigma) - denoiser.target(
                prediction, signal, noise, alpha, sigma
            )
            found.append(denoiser.loss_weights(prediction, schedule, "min_snr")[time] * np.mean(error**2))
        expected = min(snr[time], 5.0) * np.mean((wrong - signal) ** 2)
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_uniform_weights_are_one_and_unknown_words_are_refused():
    schedule = schedules.make("cosine")
    assert (denoiser.loss_weights("v", schedule) == 1).all()
    with pytest.raises(ValueError, match="`weighting` must be one of uniform, min_snr"):
        denoiser.loss_weights("v", schedule, "snr")
    for function in (denoiser.to_signal, denoiser.target):
        with pytest.raises(ValueError, match="`prediction` must be"):
            function("eps", 1.0, 1.0, 0.6, 0.8)


def test_diffused_signals_have_the_schedule_s_variance(rng):
    schedule = schedules.make("linear")
    signal = rng.standard_normal((2, 64, 64, 3)).astype(np.float32) * 0.5
    noise = rng.standard_normal(signal.shape).astype(np.float32)
    noisy, alpha, sigma = denoiser.diffuse(schedule, signal, noise, np.array([10, 800]))
    assert alpha.shape == sigma.shape == (2, 1, 1, 1)
    for index, time in enumerate((10, 800)):
        expected = 0.25 * schedule.alpha_bar[time] + 1 - schedule.alpha_bar[time]
        assert np.var(np.asarray(noisy)[index]) == pytest.approx(expected, rel=0.05)
