"""The darkening recipes, in TensorFlow: (image [H, W, 3] float32 in [0, 1], seed [2] int64, options) -> dark image.

`tfllv.ops.darken` names them, checks their options and calls them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfllv.ops import camera

Options = Mapping[str, Any]

_GAMMA = 2.2  # of the camera that the statistical recipe imagines

# Of the statistical recipe as published.
_V1 = {"illumination": 0.01, "noise": 1e-4, "contrast": 0.8, "saturation": 1.2}
_SHOT, _READ = 0.01, 0.0005  # variance factors at a noise amount of 1

# Adobe's XYZ (D65) to camera RGB matrices of a Sony A7R, Olympus E-M10, Sony RX100 IV and Huawei Nexus 6P, the four
# that Brooks et al. 2019 and MAET draw from.
_XYZ_TO_CAMERA = np.array(
    [
        [[1.0234, -0.2969, -0.2266], [-0.5625, 1.6328, -0.0469], [-0.0703, 0.2188, 0.6406]],
        [[0.4913, -0.0541, -0.0202], [-0.6130, 1.3513, 0.2906], [-0.1564, 0.2151, 0.7183]],
        [[0.8380, -0.2630, -0.0639], [-0.2887, 1.0725, 0.2496], [-0.0627, 0.1427, 0.5438]],
        [[0.6596, -0.2079, -0.0562], [-0.4782, 1.3016, 0.1933], [-0.0970, 0.1581, 0.5181]],
    ]
)
_SRGB_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)

# Nodes and weights for the mean of a function of a normal variate (Gauss-Hermite, 5 points).
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(5)
_EXPOSURES = np.geomspace(1e-5, 1.0, 64)
_MEAN_UNIT = 1 << 20  # expected levels as whole numbers of 2^-20, so that their sum has no order


def gamma_noise(image: tf.Tensor, seed: tf.Tensor, options: Options) -> tf.Tensor:
    """Darkens by x ** gamma, then adds normal noise; the variance is that of the picture on [-1, 1]."""
    draws = camera.uniforms(camera.fold(seed, 1), 2)
    gamma = camera.between(draws[0], options["gamma"])
    deviation = 0.5 * tf.sqrt(camera.between(draws[1], options["variance"]))
    noise = camera.gaussian_noise(tf.shape(image), camera.fold(seed, 2), scale=deviation)
    return camera.clip(camera.power(image, gamma) + noise)


def statistical(image: tf.Tensor, seed: tf.Tensor, options: Options) -> tf.Tensor:
    """Camera pipeline: to linear light, mosaic, darker, noise, demosaic, colour, tone; or in the published order."""
    if options["reference"]:
        return _published(image, seed, options["version"])
    draws = camera.uniforms(camera.fold(seed, 1), 5)
    level = camera.between_logs(draws[0], options["level"]) * (1 / 255)
    shot = camera.between_logs(draws[1], options["shot"])
    read = camera.between_logs(draws[2], options["read"])
    contrast = camera.between(draws[3], options["contrast"])
    saturation = camera.between(draws[4], options["saturation"])
    exposure = _find_exposure(image, level, shot, read, contrast)
    raw = camera.power(camera.invert_tone(camera.mosaic(image)), _GAMMA) * exposure
    # Not clipped before the colours are filled in: a sensor's black level keeps noise below zero too.
    raw = camera.sensor_noise(raw, shot, read, camera.fold(seed, 2))
    planes = camera.clip(camera.saturate(camera.demosaic(raw), saturation))
    planes = _develop(planes, contrast)
    shape = tf.shape(image)
    return camera.join_cells(planes, shape[0], shape[1])


def _develop(linear: tf.Tensor, contrast: tf.Tensor) -> tf.Tensor:
    """Linear light to display values: gamma, then the tone curve mixed in by `contrast`."""
    encoded = camera.power(linear, 1.0 / _GAMMA)
    return encoded + (camera.apply_tone(encoded) - encoded) * contrast


def _find_exposure(
    image: tf.Tensor, level: tf.Tensor, shot: tf.Tensor, read: tf.Tensor, contrast: tf.Tensor
) -> tf.Tensor:
    """Returns the exposure, at most 1, at which the finished picture has the mean `level`.

    The expected result of each of 256 input levels, noise and clipping included, is tabulated at 64 exposures; the
    picture's own levels weight it. Between exposures the logarithm is interpolated.
    """
    counts = camera.count_levels(camera.sample(image, 64))
    coded = np.linspace(0, 1, 256)
    linear = (0.5 - np.sin(np.arcsin(1 - 2 * coded) / 3)).clip(0) ** _GAMMA
    signal = tf.constant(_EXPOSURES[:, None, None] * linear[None, :, None], tf.float32)
    # Demosaicing averages one to four samples of a colour: about half of the variance is left.
    deviation = tf.sqrt((signal * shot + read) * 0.5)
    nodes = tf.constant(_NODES[None, None, :], tf.float32)
    developed = _develop(camera.clip(signal + deviation * nodes), contrast)
    weights = _WEIGHTS / _WEIGHTS.sum()
    expected = tf.add_n([developed[..., i] * float(weight) for i, weight in enumerate(weights)])
    whole = tf.cast(expected * float(_MEAN_UNIT) + 0.5, tf.int64)
    sums = tf.reduce_sum(whole * counts[tf.newaxis], 1)
    means = tf.cast(sums, tf.float32) / (tf.cast(tf.reduce_sum(counts), tf.float32) * float(_MEAN_UNIT))
    upper = tf.clip_by_value(tf.reduce_sum(tf.cast(means < level, tf.int32)), 1, len(_EXPOSURES) - 1)
    low, high = means[upper - 1], means[upper]
    share = camera.clip((level - low) / tf.maximum(high - low, 1e-12))
    logs = tf.constant(np.log(_EXPOSURES), tf.float32)
    return tf.exp(logs[upper - 1] + (logs[upper] - logs[upper - 1]) * share)


def _published(image: tf.Tensor, seed: tf.Tensor, version: int) -> tf.Tensor:
    """The statistical recipe in its published order: noise first, no tone curve at the end, whole levels.

    Its split into base and detail by a bilateral filter is left out: it multiplies them again, which gives back the
    picture it started from.
    """
    amounts = _V1 if version == 1 else _draw_v2(seed)
    raw = camera.power(tf.maximum(camera.invert_tone(camera.mosaic(image)), 1e-8), _GAMMA)
    shot, read = amounts["noise"] * _SHOT, amounts["noise"] * _READ
    raw = camera.clip(camera.sensor_noise(raw, shot, read, camera.fold(seed, 2)))
    dark = camera.clip(camera.demosaic(raw)) * amounts["illumination"]
    dark = camera.clip(dark + (camera.apply_tone(dark) - dark) * amounts["contrast"])
    dark = camera.clip(camera.saturate(dark, amounts["saturation"]))
    dark = camera.power(tf.maximum(dark, 1e-8), 1.0 / _GAMMA)
    dark = tf.floor(camera.clip(dark) * 255.0) * (1 / 255)
    shape = tf.shape(image)
    return camera.join_cells(dark, shape[0], shape[1])


def _draw_v2(seed: tf.Tensor) -> dict[str, tf.Tensor]:
    """Draws the amounts of the recipe's second version."""
    draws = camera.uniforms(camera.fold(seed, 1), 3)
    betas = [camera.fold(seed, 3 + i) for i in range(9)]
    narrow = 1e-4 * tf.exp(float(np.log(3)) * camera.beta(betas[0], 2, 8))
    wide = 1e-4 * tf.exp(float(np.log(10)) * camera.beta(betas[1], 3, 3))
    # A beta variate, stretched until its mode 6/31 falls on 1e-4, in decades above 5e-5.
    decades = camera.beta(betas[2], 2.2, 6.0) * float(np.log10(2) * 31 / 6)
    return {
        "illumination": tf.where(draws[0] < 0.75, narrow, wide),
        "noise": 5e-5 * tf.exp(float(np.log(10)) * tf.minimum(decades, 2.0)),
        "contrast": _draw_weighted(draws[1], betas[3:6], (0.5, 0.6, 0.8, 1.0)),
        "saturation": _draw_weighted(draws[2], betas[6:9], (1.0, 1.1, 1.3, 1.5)),
    }


def _draw_weighted(draw: tf.Tensor, seeds: list[tf.Tensor], limits: tuple[float, float, float, float]) -> tf.Tensor:
    """Draws from the middle of three bands with probability 0.75, from the low one 0.1, from the high one 0.15."""
    middle = camera.between(camera.beta(seeds[0], 5, 5), limits[1:3])
    low = camera.between(camera.beta(seeds[1], 2, 6), limits[0:2])
    high = camera.between(camera.beta(seeds[2], 6, 2), limits[2:4])
    return tf.where(draw < 0.75, middle, tf.where(draw < 0.85, low, high))


def photographic(image: tf.Tensor, seed: tf.Tensor, options: Options) -> tf.Tensor:
    """A photo editor's sliders: blacks, shadows and brightness down, each by its own draw; then noise."""
    draws = camera.uniforms(camera.fold(seed, 1), 5)
    black = camera.between(draws[0], options["blacks"])
    shadow = camera.between(draws[1], options["shadows"])
    brightness = camera.between(draws[2], options["brightness"])
    dispersion = camera.between(draws[3], options["dispersion"])
    color_noise = camera.between(draws[4], options["color_noise"]) * (1 / 255)
    dark = tf.maximum(image - black, 0.0) / (1.0 - black)
    # Full effect at black, none at white. The factor is spread out so that no product of three is there to reorder.
    dark = dark * (brightness - (brightness * shadow) * tf.square(1.0 - dark))
    deviation = camera.standard_deviation(camera.sample(dark, 128)) * dispersion
    # Two independent noises of one value each are one noise of the summed variance.
    scale = tf.sqrt(tf.square(deviation) + tf.square(color_noise))
    return camera.clip(dark + camera.gaussian_noise(tf.shape(image), camera.fold(seed, 2), scale=scale))


def raw(image: tf.Tensor, seed: tf.Tensor, options: Options) -> tf.Tensor:
    """Back to a camera's raw colours, less light, shot and read noise, whole steps, and forward again, as MAET."""
    draws = camera.uniforms(camera.fold(seed, 1), 7)
    gamma = camera.between(draws[0], options["gamma"])
    red_gain = camera.between(draws[1], options["red_gain"])
    blue_gain = camera.between(draws[2], options["blue_gain"])
    darkness = _draw_darkness(draws[3], options["darkness"])
    log_shot = tf.math.log(camera.between_logs(draws[4], options["shot"]))
    log_read = 2.18 * log_shot + 1.20 + 0.26 * camera.normal(camera.fold(seed, 3))
    steps = tf.gather(
        tf.constant([2.0**bits - 1 for bits in options["bits"]], tf.float32),
        tf.cast(draws[5] * float(len(options["bits"])), tf.int32),
    )
    to_camera, from_camera = _camera_matrices(tf.cast(draws[6] * float(len(_XYZ_TO_CAMERA)), tf.int32))
    gain = 0.8 + 0.1 * camera.normal(camera.fold(seed, 4))
    light = tf.stack([1.0 / red_gain, 1.0, 1.0 / blue_gain]) * (gain * darkness)
    planes = camera.power(tf.transpose(image, [2, 0, 1]), gamma)
    planes = camera.clip(camera.mix_colors(planes, to_camera * light[:, tf.newaxis]))
    planes = camera.sensor_noise(planes, tf.exp(log_shot), tf.exp(log_read), camera.fold(seed, 2))
    planes = tf.round(camera.clip(planes) * steps) / steps
    balance = tf.stack([red_gain, 1.0, blue_gain])
    planes = camera.clip(camera.mix_colors(planes, from_camera * balance[tf.newaxis]))
    return tf.transpose(camera.power(planes, 1.0 / gamma), [1, 2, 0])


def _draw_darkness(draw: tf.Tensor, limits: tuple[float, float]) -> tf.Tensor:
    """Draws from N(0.1, 0.08) cut to `limits`, by the inverse of its distribution function."""
    from scipy import special

    low, high = (float(special.ndtr((limit - 0.1) / 0.08)) for limit in limits)
    # In float32 a share of 1 would be infinitely far out.
    quantile = tf.math.ndtri(tf.minimum(camera.between(draw, (low, high)), 1 - 2.0**-24))
    return tf.clip_by_value(0.1 + 0.08 * quantile, limits[0], limits[1])


def _camera_matrices(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the matrices from linear sRGB to the colours of camera `index`, white staying white, and back."""
    to_camera = _XYZ_TO_CAMERA @ _SRGB_TO_XYZ
    to_camera = to_camera / to_camera.sum(-1, keepdims=True)
    return (
        tf.gather(tf.constant(to_camera, tf.float32), index),
        tf.gather(tf.constant(np.linalg.inv(to_camera), tf.float32), index),
    )


FUNCTIONS: dict[str, Callable[[tf.Tensor, tf.Tensor, Options], tf.Tensor]] = {
    "gamma_noise": gamma_noise,
    "statistical": statistical,
    "photographic": photographic,
    "raw": raw,
}
