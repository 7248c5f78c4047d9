from __future__ import annotations

import numpy as np
import pytest

from tfllv import models
from tfllv.diffusion import denoiser, samplers, schedules
from tfllv.objectives import denoising

SCHEDULE = schedules.make("linear")


class Oracle:
    """A network that knows the answer: the signal is the dark picture itself."""

    schedule = "linear"

    def __init__(self, prediction):
        self.prediction = prediction

    def level(self, images):
        return np.mean(images, axis=(1, 2, 3))

    def base(self, images, level):
        return np.zeros_like(images)

    def condition(self, images, level):
        return images

    def signal(self, high, base):
        return high

    def picture(self, signal, base):
        return signal

    def estimate(self, noisy, condition, time):
        alpha, sigma = denoiser.at(SCHEDULE.alpha, time), denoiser.at(SCHEDULE.sigma, time)
        return denoiser.target(self.prediction, condition, (noisy - alpha * condition) / sigma, alpha, sigma)


@pytest.fixture
def batch(rng):
    low = rng.random((2, 8, 8, 3), dtype=np.float32)
    noise = rng.standard_normal(low.shape).astype(np.float32)
    return {"low": low, "high": low, "noise": noise, "time": np.array([5, 700], np.int32)}


@pytest.mark.parametrize("prediction", ["epsilon", "v", "x0"])
def test_the_loss_is_zero_at_perfection_and_the_sample_is_the_truth(batch, prediction):
    objective = denoising.Denoising()
    terms, _ = objective(Oracle(prediction), batch)
    assert float(terms["noise"]) < 1e-7
    terms, outputs = objective(Oracle(prediction), batch, training=False)
    assert float(terms["noise"]) < 1e-7
    np.testing.assert_allclose(outputs["image"], batch["high"], atol=1e-4)
    assert float(objective.measures(batch, outputs)["psnr"]) > 50


def test_the_loss_is_the_weighted_squared_error_by_hand(batch):
    network = models.build("diffusion_unet", n_feat=4, depth=2)
    alpha, sigma = (values[batch["time"]][:, None, None, None] for values in (SCHEDULE.alpha, SCHEDULE.sigma))
    noisy = (alpha * (2 * batch["high"] - 1) + sigma * batch["noise"]).astype(np.float32)
    said = np.asarray(network.estimate(noisy, 2 * batch["low"] - 1, batch["time"]))
    errors = ((said - batch["noise"]) ** 2).mean(axis=(1, 2, 3))
    terms, _ = denoising.Denoising()(network, batch)
    assert float(terms["noise"]) == pytest.approx(errors.mean(), rel=1e-4)
    snr = SCHEDULE.alpha_bar[batch["time"]] / (1 - SCHEDULE.alpha_bar[batch["time"]])
    terms, _ = denoising.Denoising(weighting="min_snr", gamma=2.0)(network, batch)
    assert float(terms["noise"]) == pytest.approx((np.minimum(snr, 2.0) / snr * errors).mean(), rel=1e-4)


@pytest.mark.parametrize("prediction", ["epsilon", "v", "x0"])
def test_a_perturbation_is_seen_and_is_not_part_of_the_target(batch, prediction):
    network = models.build("diffusion_unet", n_feat=4, depth=2, prediction=prediction)
    alpha, sigma = (values[batch["time"]][:, None, None, None] for values in (SCHEDULE.alpha, SCHEDULE.sigma))
    signal, shift = 2 * batch["high"] - 1, np.float32([0.3, -0.2, 0.1]) * np.ones((2, 8, 8, 1), np.float32)
    noisy = (alpha * signal + sigma * (batch["noise"] + shift)).astype(np.float32)
    said = np.asarray(network.estimate(noisy, 2 * batch["low"] - 1, batch["time"]))
    wanted = denoiser.target(prediction, signal, batch["noise"], alpha, sigma)
    terms, _ = denoising.Denoising()(network, batch | {"perturbation": shift})
    assert float(terms["noise"]) == pytest.approx(((said - wanted) ** 2).mean(), rel=1e-4)
    assert float(terms["noise"]) != float(denoising.Denoising()(network, batch)[0]["noise"])


def test_validation_is_the_same_each_time_and_for_any_batch(batch):
    network = models.build("diffusion_unet_small", n_feat=4)
    objective = denoising.Denoising()
    both = objective(network, batch, training=False)[1]["image"]
    np.testing.assert_array_equal(both, objective(network, batch, training=False)[1]["image"])
    alone = objective(network, {key: batch[key][1:] for key in ("low", "high")}, training=False)[1]["image"]
    np.testing.assert_allclose(alone[0], both[1], atol=1e-5)
    other = denoising.Denoising(seed=1)(network, batch, training=False)[1]["image"]
    assert np.abs(np.asarray(other) - both).max() > 1e-3


def test_a_part_of_a_picture_is_guessed_by_the_level_that_comes_with_it(batch):
    network = models.build("diffusion_unet_small", n_feat=4)
    objective = denoising.Denoising()
    plain = float(objective(network, batch)[0]["noise"])
    assert float(objective(network, batch | {"level": batch["low"].mean(axis=(1, 2, 3))})[0]["noise"]) == plain
    assert float(objective(network, batch | {"level": np.float32([0.01, 0.01])})[0]["noise"]) != plain


def test_validation_s_sample_is_that_of_the_sampler(batch):
    network = models.build("diffusion_unet_small", n_feat=4)
    objective, schedule = denoising.Denoising(), schedules.make(network.schedule)
    level = network.level(batch["low"])
    base, condition = network.base(batch["low"], level), network.condition(batch["low"], level)

    def denoise(noisy, time):
        said = network.estimate(noisy, condition, np.array([time, time]))
        return denoiser.to_signal(network.prediction, said, noisy, schedule.alpha[time], schedule.sigma[time])

    start = np.asarray(objective._normal(base, denoising.CHECK_TIMES))
    times = schedules.spread_times(schedule, denoising.CHECK_STEPS, spacing="log_snr")
    signal = samplers.sample_dpmpp2m(denoise, start, schedule, times=times)
    sampled = objective(network, batch, training=False)[1]["image"]
    np.testing.assert_allclose(sampled, network.picture(signal, base), atol=1e-4)


def test_pictures_show_dark_sample_and_truth_side_by_side(batch):
    shown = denoising.Denoising().pictures(batch, {"image": batch["high"] + 2})["samples"]
    assert shown.shape == (2, 8, 24, 3)
    np.testing.assert_array_equal(shown[:, :, 8:16], np.ones_like(batch["high"]))


def test_wrong_use_is_one_clear_error(batch):
    with pytest.raises(ValueError, match="`weighting` must be one of"):
        denoising.Denoising(weighting="snr")
    del batch["noise"]
    with pytest.raises(ValueError, match="`batch` must have the key 'noise'"):
        denoising.Denoising()(Oracle("v"), batch)
