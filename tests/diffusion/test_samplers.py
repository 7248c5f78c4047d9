"""The samplers on a Gaussian, whose denoiser and whose flow are known in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from tfllv.diffusion import samplers, schedules

MEAN, DEVIATION = 0.6, 0.35


def marginal(schedule, time):
    """(mean, deviation) of the noisy signal at a time."""
    alpha, sigma = schedule.alpha[time], schedule.sigma[time]
    return alpha * MEAN, np.sqrt((alpha * DEVIATION) ** 2 + sigma**2)


def denoiser(schedule):
    """The posterior mean of the signal N(MEAN, DEVIATION^2) given its noisy version."""

    def denoise(noisy, time):
        mean, deviation = marginal(schedule, time)
        return MEAN + schedule.alpha[time] * DEVIATION**2 / deviation**2 * (noisy - mean)

    return denoise


def flow(schedule, noisy, time):
    """Where the probability flow ends: the same quantile of the signal at time 0, and the last estimate there."""
    mean, deviation = marginal(schedule, time)
    mean0, deviation0 = marginal(schedule, 0)
    return denoiser(schedule)(mean0 + deviation0 * (noisy - mean) / deviation, 0)


def errors(name, counts):
    """The error of a deterministic sampler against the flow, on a schedule fine enough for any number of steps."""
    schedule = schedules.Schedule(schedules.linear(64_000, first=1e-4 / 64, last=0.02 / 64))
    noisy = np.linspace(-2, 2, 9)
    found = []
    for steps in counts:
        times = schedules.spread_times(schedule, steps + 1, spacing="log_snr")
        result = samplers.SAMPLERS[name](denoiser(schedule), noisy, schedule, times=times)
        found.append(np.abs(result - flow(schedule, noisy, len(schedule) - 1)).max())
    return np.array(found)


@pytest.mark.parametrize(("name", "order"), [("ddim", 1), ("dpmpp2m", 2)])
def test_the_error_falls_with_the_order_of_the_sampler(name, order):
    counts = np.array([40, 80, 160, 320])
    found = errors(name, counts)
    slope = -np.polyfit(np.log(counts), np.log(found), 1)[0]
    assert slope == pytest.approx(order, abs=0.15), found


def test_ten_second_order_steps_beat_ten_of_first_order():
    assert errors("dpmpp2m", [10])[0] < 0.5 * errors("ddim", [10])[0]


def test_ancestral_marginals_are_those_of_the_diffused_signal():
    schedule = schedules.make("linear")
    rng = np.random.default_rng(3)
    size, count = 20_000, 1000
    seen = {}

    def keep(step, steps, noisy, signal):
        if step + 1 < steps:
            seen[times[step + 1]] = (noisy.mean(), noisy.std())

    times = schedules.spread_times(schedule, count)
    mean, deviation = marginal(schedule, 999)
    start = mean + deviation * rng.standard_normal(size)
    samplers.sample_ddpm(
        denoiser(schedule), start, schedule, noise=lambda step: rng.standard_normal(size), times=times, on_step=keep
    )
    # Four standard errors of the sample's figures, and 1 %: a step's posterior takes its signal as known.
    for time in times[[count // 4, count // 2, 3 * count // 4, count - 1]]:
        mean, deviation = marginal(schedule, time)
        assert seen[time][0] == pytest.approx(mean, abs=4 * deviation / np.sqrt(size))
        assert seen[time][1] == pytest.approx(deviation, rel=0.01 + 4 / np.sqrt(2 * size))


def test_the_ancestral_step_is_the_posterior_of_the_paper(rng):
    # Eq. 7 of Ho et al.: mean by the two coefficients, variance beta (1 - abar') / (1 - abar).
    schedule = schedules.make("linear")
    noisy, fresh, signal = rng.standard_normal((3, 8))
    found = []
    samplers.sample_ddpm(
        lambda x, time: signal,
        noisy,
        schedule,
        noise=lambda step: fresh,
        times=[400, 399],
        on_step=lambda step, steps, x, estimate: found.append(x),
    )
    abar, before, beta = schedule.alpha_bar[400], schedule.alpha_bar[399], schedule.beta[400]
    mean = np.sqrt(before) * beta / (1 - abar) * signal + np.sqrt(1 - beta) * (1 - before) / (1 - abar) * noisy
    expected = mean + np.sqrt(beta * (1 - before) / (1 - abar)) * fresh
    np.testing.assert_allclose(found[0], expected, atol=1e-10)


@pytest.mark.parametrize("name", sorted(samplers.SAMPLERS))
def test_every_step_is_reported_and_the_last_estimate_is_the_result(name):
    schedule = schedules.make("cosine")
    seen = []
    result = samplers.sample(
        name,
        denoiser(schedule),
        np.zeros(3),
        schedule,
        steps=6,
        noise=lambda step: np.full(3, 0.1 * step),
        on_step=lambda *args: seen.append(args),
    )
    assert [args[:2] for args in seen] == [(step, 6) for step in range(6)]
    np.testing.assert_array_equal(seen[-1][3], result)


@pytest.mark.parametrize("name", sorted(samplers.SAMPLERS))
def test_a_perfect_denoiser_is_believed_in_one_step_and_in_many(name, rng):
    schedule = schedules.make("linear")
    signal = rng.standard_normal(5)
    for steps in (1, 2, 25):
        result = samplers.sample(
            name,
            lambda x, time: signal,
            rng.standard_normal(5),
            schedule,
            steps=steps,
            noise=lambda step: rng.standard_normal(5),
        )
        np.testing.assert_allclose(result, signal, atol=1e-12)


def test_ddim_with_eta_one_and_its_noise_is_the_ancestral_sampler():
    schedule = schedules.make("linear")
    times = schedules.spread_times(schedule, 20)
    options = {"times": times, "noise": lambda step: np.sin(step + np.arange(4.0))}
    one = samplers.sample_ddim(denoiser(schedule), np.ones(4), schedule, eta=1.0, **options)
    other = samplers.sample_ddpm(denoiser(schedule), np.ones(4), schedule, **options)
    still = samplers.sample_ddim(denoiser(schedule), np.ones(4), schedule, times=times)
    np.testing.assert_array_equal(one, other)
    assert np.abs(one - still).max() > 0.01


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("dpm", {"steps": 5}, "`sampler` must be one of"),
        ("ddim", {"steps": 0}, "`steps` must be a whole number"),
        ("ddim", {"steps": 1001}, "`steps` must be a whole number"),
        ("ddim", {"steps": 5, "eta": 1.5}, "`eta` must be in"),
    ],
)
def test_wrong_options_are_one_clear_error(name, options, message):
    schedule = schedules.make("linear")
    with pytest.raises(ValueError, match=message):
        samplers.sample(name, denoiser(schedule), np.zeros(2), schedule, noise=lambda step: np.zeros(2), **options)
    with pytest.raises(ValueError, match="`noise` must be given"):
        samplers.sample_ddim(denoiser(schedule), np.zeros(2), schedule, times=[5, 0], eta=0.5)
