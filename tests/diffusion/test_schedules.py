from __future__ import annotations

import numpy as np
import pytest

from tfllv.diffusion import schedules


@pytest.fixture(scope="module")
def golden(goldens):
    with np.load(goldens / "diffusion_unet8_io.npz") as file:
        return {key: file[key] for key in ("betas_linear", "betas_cos")}


def test_betas_are_those_of_the_published_code(golden):
    np.testing.assert_allclose(schedules.linear(), golden["betas_linear"], rtol=0, atol=1e-8)
    # Its cosine is computed in float32: the quotients of neighbours carry that rounding.
    np.testing.assert_allclose(schedules.cosine(), golden["betas_cos"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", sorted(schedules.SCHEDULES))
def test_signal_and_noise_keep_unit_variance_and_the_signal_only_falls(name):
    schedule = schedules.make(name)
    assert len(schedule) == 1000
    np.testing.assert_allclose(schedule.alpha**2 + schedule.sigma**2, 1, atol=1e-12)
    assert (np.diff(schedule.alpha) < 0).all() and (np.diff(schedule.log_snr_half) < 0).all()
    assert schedule.alpha[0] > 0.5 and schedule.alpha[-1] < 0.011
    assert schedules.make(name) is schedule


def test_log_linear_grows_by_one_factor_between_its_ends():
    ratio = np.exp(-schedules.make("log_linear").log_snr_half)
    np.testing.assert_allclose(ratio[[0, -1]], [1, 100], rtol=1e-9)
    np.testing.assert_allclose(ratio[1:] / ratio[:-1], 100 ** (1 / 999), rtol=1e-9)
    assert ratio[schedules.make("log_linear").end] == pytest.approx(1.4, rel=2e-3)


@pytest.mark.parametrize("spacing", ["time", "log_snr"])
@pytest.mark.parametrize(("steps", "start"), [(1, None), (2, None), (10, None), (1000, None), (7, 300), (301, 300)])
def test_times_fall_strictly_from_the_start_to_zero(spacing, steps, start):
    times = schedules.spread_times(schedules.make("linear"), steps, spacing=spacing, start=start)
    assert len(times) == steps
    assert times[0] == (999 if start is None else start)
    assert (np.diff(times) < 0).all()
    assert steps == 1 or times[-1] == 0


@pytest.mark.parametrize("spacing", ["time", "log_snr"])
@pytest.mark.parametrize("steps", [2, 10, 927])
def test_times_stop_at_the_schedule_s_end(spacing, steps):
    schedule = schedules.make("log_linear")
    times = schedules.spread_times(schedule, steps, spacing=spacing)
    assert len(times) == steps and times[0] == 999 and times[-1] == schedule.end == 73
    assert (np.diff(times) < 0).all()
    with pytest.raises(ValueError, match="from 1 to the 927 times there are"):
        schedules.spread_times(schedule, 928, spacing=spacing)
    with pytest.raises(ValueError, match="`start` must be a time from 73 to 999"):
        schedules.spread_times(schedule, 1, start=72)


def test_log_snr_spacing_is_even_in_log_snr():
    schedule = schedules.make("linear")
    gaps = np.diff(schedule.log_snr_half[schedules.spread_times(schedule, 11, spacing="log_snr")])
    assert gaps[:7].max() < 1.1 * gaps[:7].min()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "`steps` must be from 1"),
        ({"steps": 1001}, "the 1000 times"),
        ({"steps": 5, "start": 1000}, "`start` must be a time"),
        ({"steps": 5, "spacing": "even"}, "`spacing` must be"),
    ],
)
def test_wrong_times_are_one_clear_error(options, message):
    with pytest.raises(ValueError, match=message):
        schedules.spread_times(schedules.make("linear"), **options)


def test_an_unknown_schedule_names_the_nearest_and_bad_betas_are_refused():
    with pytest.raises(ValueError, match="did you mean 'linear'"):
        schedules.make("liner")
    with pytest.raises(ValueError, match="`beta` must be"):
        schedules.Schedule(np.array([0.1, 1.0]))
