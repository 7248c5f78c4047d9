"""The darkening recipes: (image [H, W, 3] uint8 or float32 in [0, 1], draws, options) -> dark image, float32.

`tfllv.ops.darken` names them, checks their options and calls them. Stream 0 of the draws decides about the picture as a
whole, stream 1 is the noise. A recipe leaves its input unchanged and gives the same bits for a uint8 picture and for
the same picture in float32.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tfllv.ops import camera, camera_loops

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
_NODES, _WEIGHTS = _NODES.astype(np.float32), _WEIGHTS / _WEIGHTS.sum()
_EXPOSURES = np.geomspace(1e-5, 1.0, 17).astype(np.float32)
_LOG_EXPOSURES = np.log(_EXPOSURES)


def gamma_noise(image: np.ndarray, draws: camera.Draws, options: Options) -> np.ndarray:
    """Darkens by x ** gamma, then adds normal noise; the variance is that of the picture on [-1, 1]."""
    uniforms = draws.uniforms(0, 2)
    gamma = camera.between(uniforms[0], options["gamma"])
    variance = 0.25 * camera.between(uniforms[1], options["variance"])
    dark = camera.curve(image, lambda values: camera.power(values, gamma))
    return draws.add_noise(1, dark, variance=variance, clip=True)


def statistical(image: np.ndarray, draws: camera.Draws, options: Options) -> np.ndarray:
    """Camera pipeline: to linear light, mosaic, darker, noise, demosaic, colour, tone; or in the published order."""
    if options["reference"]:
        return _published(image, draws, options["version"])
    uniforms = draws.uniforms(0, 5)
    level = camera.between_logs(uniforms[0], options["level"]) / 255
    shot = camera.between_logs(uniforms[1], options["shot"])
    read = camera.between_logs(uniforms[2], options["read"])
    contrast = camera.between(uniforms[3], options["contrast"])
    saturation = camera.between(uniforms[4], options["saturation"])
    exposure = np.float32(_find_exposure(image, level, shot, read, contrast))
    light = camera.curve(image, lambda values: _linearize(values) * exposure)
    # Not clipped before the colours are filled in: a sensor's black level keeps noise below zero too.
    raw = draws.add_noise(1, light.mosaic(), variance=read, shot=shot)
    return _develop(raw, light.values, saturation=saturation, contrast=contrast)


def _develop(
    raw: np.ndarray,
    result: np.ndarray,
    *,
    saturation: float,
    contrast: float,
    light: float = 1.0,
    published: bool = False,
) -> np.ndarray:
    """Fills in the colours of a mosaic and finishes the picture, in `result`; see `camera_loops.develop`."""
    settings = np.array([light, saturation, contrast], np.float32)
    camera_loops.develop(raw, result, settings, np.float32(1 / _GAMMA), published)
    return result


def _linearize(values: np.ndarray) -> np.ndarray:
    return camera.power(camera.invert_tone(values), _GAMMA)


@functools.lru_cache(maxsize=1)
def _linear_levels() -> np.ndarray:
    return _linearize(np.linspace(0, 1, 256, dtype=np.float32))


def _find_exposure(image: np.ndarray, level: float, shot: float, read: float, contrast: float) -> float:
    """Returns the exposure, at most 1, at which the finished picture has the mean `level`.

    The expected result of each of 256 input levels, noise and clipping included, is tabulated at exposures a stop
    apart; the picture's own levels weight it. Between them the logarithms of both are interpolated.
    """
    counts = camera.count_levels(image)
    means = np.empty(len(_EXPOSURES))
    camera_loops.expect_means(
        _linear_levels(),
        counts,
        _EXPOSURES,
        _NODES,
        _WEIGHTS,
        # Demosaicing averages one to four samples of a colour: about half of the variance is left.
        np.float32(shot / 2),
        np.float32(read / 2),
        np.float32(1 / _GAMMA),
        np.float32(contrast),
        means,
    )
    return float(np.exp(np.interp(np.log(level), np.log(np.maximum(means, 1e-9)), _LOG_EXPOSURES)))


def _published(image: np.ndarray, draws: camera.Draws, version: int) -> np.ndarray:
    """The statistical recipe in its published order: noise first, no tone curve at the end, whole levels.

    Its split into base and detail by a bilateral filter is left out: it multiplies them again, which gives back the
    picture it started from.
    """
    amounts = _V1 if version == 1 else _draw_v2(draws)
    shot, read = amounts["noise"] * _SHOT, amounts["noise"] * _READ
    light = camera.curve(image, _linearize)
    raw = draws.add_noise(1, light.mosaic(), variance=read, shot=shot, clip=True)
    return _develop(
        raw,
        light.values,
        saturation=amounts["saturation"],
        contrast=amounts["contrast"],
        light=amounts["illumination"],
        published=True,
    )


def _draw_v2(draws: camera.Draws) -> dict[str, float]:
    """Draws the amounts of the recipe's second version."""
    from scipy import special

    uniforms = draws.uniforms(0, 7)
    if uniforms[0] < 0.75:
        decades = np.log10(3) * special.betaincinv(2, 8, uniforms[1])
    else:
        decades = special.betaincinv(3, 3, uniforms[1])
    # A beta variate, stretched until its mode 6/31 falls on 1e-4, in decades above 5e-5.
    stretched = special.betaincinv(2.2, 6, uniforms[2]) * np.log10(2) * 31 / 6
    return {
        "illumination": float(1e-4 * 10**decades),
        "noise": float(5e-5 * 10 ** min(stretched, 2)),
        "contrast": _draw_weighted(uniforms[3:5], (0.5, 0.6, 0.8, 1.0)),
        "saturation": _draw_weighted(uniforms[5:7], (1.0, 1.1, 1.3, 1.5)),
    }


def _draw_weighted(uniforms: np.ndarray, edges: tuple[float, float, float, float]) -> float:
    """Draws from the middle of three bands with probability 0.75, from the low one 0.1, from the high one 0.15."""
    from scipy import special

    band, a, b = (1, 5, 5) if uniforms[0] < 0.75 else (0, 2, 6) if uniforms[0] < 0.85 else (2, 6, 2)
    return float(camera.between(special.betaincinv(a, b, uniforms[1]), (edges[band], edges[band + 1])))


def photographic(image: np.ndarray, draws: camera.Draws, options: Options) -> np.ndarray:
    """A photo editor's sliders: blacks, shadows and brightness down, each by its own draw; then noise."""
    names = ("blacks", "shadows", "brightness", "dispersion", "color_noise")
    black, shadow, brightness, dispersion, color_noise = (
        camera.between(uniform, options[name]) for uniform, name in zip(draws.uniforms(0, 5), names, strict=True)
    )

    def lower(values: np.ndarray) -> np.ndarray:
        values -= np.float32(black)
        np.maximum(values, np.float32(0), out=values)
        values *= np.float32(1 / (1 - black))
        kept = np.float32(1) - values
        kept *= kept
        kept *= np.float32(-shadow)
        kept += np.float32(1)  # 1 - shadow at black, 1 at white
        values *= kept
        values *= np.float32(brightness)
        return values

    dark = camera.curve(image, lower)
    counts, levels = camera.count_levels(image), dark.table.astype(np.float64)
    mean = np.average(levels, weights=counts)
    spread = np.average((levels - mean) ** 2, weights=counts)
    # Two independent noises of one value each are one noise of the summed variance.
    variance = float(spread * dispersion**2 + (color_noise / 255) ** 2)
    return draws.add_noise(1, dark, variance=variance, clip=True)


def raw(image: np.ndarray, draws: camera.Draws, options: Options) -> np.ndarray:
    """Back to a camera's raw colours, less light, shot and read noise, whole steps, and forward again, as MAET."""
    from scipy import special

    uniforms = draws.uniforms(0, 9)
    gamma = camera.between(uniforms[0], options["gamma"])
    red_gain = camera.between(uniforms[1], options["red_gain"])
    blue_gain = camera.between(uniforms[2], options["blue_gain"])
    light = _draw_darkness(uniforms[3], options["darkness"]) * (0.8 + 0.1 * special.ndtri(uniforms[4]))
    shot = camera.between_logs(uniforms[5], options["shot"])
    read = float(np.exp(2.18 * np.log(shot) + 1.20 + 0.26 * special.ndtri(uniforms[6])))
    bits = options["bits"][int(uniforms[7] * len(options["bits"]))]
    to_camera, from_camera = _camera_matrices(int(uniforms[8] * len(_XYZ_TO_CAMERA)))
    balance = np.array([red_gain, 1, blue_gain])
    colors = camera.curve(image, lambda values: camera.power(values, gamma))
    block = 3 * camera_loops.RUN
    steps = 2**bits - 1
    camera_loops.see_raw(
        *colors.flat(),
        (to_camera / balance[:, None] * max(light, 0)).astype(np.float32),
        (from_camera * balance / steps).astype(np.float32),
        draws.runs(1, -(-image.size // block) * block),
        np.float32(shot),
        np.float32(read),
        np.float32(steps),
        np.float32(1 / gamma),
    )
    return colors.values


def _draw_darkness(uniform: float, limits: tuple[float, float]) -> float:
    """Draws from N(0.1, 0.08) cut to the limits."""
    from scipy import special

    shares = [special.ndtr((limit - 0.1) / 0.08) for limit in limits]
    quantile = special.ndtri(camera.between(uniform, (shares[0], shares[1])))
    return float(np.clip(0.1 + 0.08 * quantile, *limits))


@functools.lru_cache(maxsize=len(_XYZ_TO_CAMERA))
def _camera_matrices(index: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the matrices from linear sRGB to the colours of camera `index`, white staying white, and back."""
    to_camera = _XYZ_TO_CAMERA[index] @ _SRGB_TO_XYZ
    to_camera /= to_camera.sum(-1, keepdims=True)
    return to_camera, np.linalg.inv(to_camera)


FUNCTIONS: dict[str, Callable[[np.ndarray, camera.Draws, Options], np.ndarray]] = {
    "gamma_noise": gamma_noise,
    "statistical": statistical,
    "photographic": photographic,
    "raw": raw,
}
