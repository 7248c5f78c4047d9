"""Synthetic darkening: a well-lit picture as it would look in the dark, by a named recipe and a seed.

    dark = darken(image, "statistical", seed=7)                                     # eagerly, NumPy or tensors
    dataset.map(lambda image, n: darken(image, "statistical", tf.stack([7, n])))    # in tf.data

`tfllv darken` does the same to files. One implementation in TensorFlow stands behind all of them, and a result depends
on picture, recipe, options and seed alone: it is the same to the last bit eagerly, in `tf.data`, in a batch and for any
number of threads. TensorFlow is imported by the first call, not by this module.
"""

from __future__ import annotations

import dataclasses
import functools
import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfllv import contracts

_MIN_INT64, _MAX_INT64 = -(2**63), 2**63 - 1


@dataclasses.dataclass(frozen=True)
class Option:
    """One option of a recipe.

    Attributes:
      default: a pair (low, high), a tuple of choices, a bool, or None.
      summary: what it is, with its unit.
      limits: for a pair, the values that either end may have; for choices, what may be chosen.
    """

    default: Any
    summary: str
    limits: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One row of the table.

    Attributes:
      summary: what it does, in a line.
      source: where it comes from, and what differs.
      options: name -> option. A pair is drawn from evenly, by the seed; a single number fixes the value.
    """

    summary: str
    source: str
    options: Mapping[str, Option]


RECIPES: dict[str, Recipe] = {
    "statistical": Recipe(
        "camera pipeline: linear light, mosaic, exposure, shot and read noise, demosaic, saturation, tone curve",
        "tanishk-ou/lowlight-synthesis, calibrated: noise after darkening, tone curve re-applied, mean level matched to "
        "LOL and ExDark. `reference=True` is the published order with the amounts of version 1 or 2.",
        {
            "level": Option(
                (7.0, 40.0), "mean grey level of the result, of 255, drawn evenly in its logarithm", (0.1, 255)
            ),
            "shot": Option(
                (1e-4, 3e-3), "variance of shot noise a unit of light, drawn evenly in its logarithm", (1e-9, 1)
            ),
            "read": Option((1e-7, 1e-5), "variance of read noise, drawn evenly in its logarithm", (1e-12, 1)),
            "contrast": Option((0.6, 1.0), "share of the tone curve in the result", (0, 1)),
            "saturation": Option((0.9, 1.3), "factor on colour, about the luminance", (0, 3)),
            "reference": Option(False, "the published order and amounts; the options above do not apply then"),
            "version": Option(2, "of the published amounts: 1 (constant) or 2 (drawn); with reference=True", (1, 2)),
        },
    ),
    "gamma_noise": Recipe(
        "x ** gamma, then normal noise",
        "jesst0x/image-segmentation-in-dark, without its two JPEG stages, and seeded",
        {
            "gamma": Option((3.0, 8.0), "exponent", (0.05, 50)),
            "variance": Option((0.001, 0.01), "variance of the noise, of a picture on [-1, 1]", (0, 1)),
        },
    ),
    "photographic": Recipe(
        "blacks, shadows and brightness lowered independently, then noise",
        "dblasko/low-light-event-img-enhancer: its brightness and noise; blacks and shadows as in a photo editor",
        {
            "blacks": Option((0.0, 0.1), "black point", (0, 0.9)),
            "shadows": Option((0.0, 0.6), "share that is taken from the darkest tones; white keeps all", (0, 1)),
            "brightness": Option((0.1, 0.2), "factor on all tones", (0, 1)),
            "dispersion": Option((0.01, 0.05), "noise, as a share of the result's standard deviation", (0, 10)),
            "color_noise": Option((1.0, 3.0), "standard deviation of colour noise, of 255", (0, 255)),
        },
    ),
    "raw": Recipe(
        "unprocess to a camera's raw colours, less light, shot and read noise, quantisation, white balance, gamma",
        "MAET (Cui et al., ICCV 2021, https://doi.org/10.1109/ICCV48922.2021.00259), with colour matrices whose rows sum "
        "to 1, so that grey stays grey, and real 12 to 16 bit steps",
        {
            "darkness": Option((0.01, 1.0), "share of light left; drawn from N(0.1, 0.08) cut to this pair", (1e-4, 1)),
            "gamma": Option((2.0, 3.5), "exponent to linear light and back", (0.5, 10)),
            "red_gain": Option((1.9, 2.4), "white balance of red", (0.1, 10)),
            "blue_gain": Option((1.5, 1.9), "white balance of blue", (0.1, 10)),
            "shot": Option(
                (1e-4, 0.012), "variance of shot noise a unit of light, drawn evenly in its logarithm", (1e-9, 1)
            ),
            "bits": Option((12, 14, 16), "sensor depths to draw from", tuple(range(1, 17))),
        },
    ),
}


def darken(image: Any, recipe: str, seed: Any, **options: Any) -> Any:
    """Darkens one picture or a batch.

    Args:
      image: [H, W, 3] or [B, H, W, 3], float in [0, 1] (clipped to it) or uint8; a NumPy array or a tensor.
      recipe: a name of `RECIPES`.
      seed: an integer n, which stands for [n, 0], or two integers, or an integer tensor of either shape. Picture i of a
        batch has the seed `image_seed(seed, i)`, so a batch is what its pictures are alone under these seeds.
      **options: of the recipe, see `RECIPES`.

    Returns:
      The dark picture or pictures, float32 in [0, 1] of the same shape; NumPy for NumPy, else a tensor. No gradient
      flows through it. The work is done on the CPU even where there is an accelerator, for the sake of equal bits.

    Raises:
      ValueError: if an argument is not as above, or a recipe or option is unknown.
    """
    settings = check_options(recipe, options)
    import tensorflow as tf

    is_array = not tf.is_tensor(image)
    with tf.device("/CPU:0"):
        tensor = _to_tensor(image)
        pair = _to_pair(seed)
        function = _compile(recipe, tuple(settings.items()), tensor.shape.rank == 4)
        dark = function(tensor, pair)
    dark.set_shape(tensor.shape)
    return dark.numpy() if is_array and tf.executing_eagerly() else dark


def image_seed(seed: Any, index: Any) -> Any:
    """Returns the seed of picture `index` of a batch that is darkened with `seed`: a [2] int64 tensor."""
    import tensorflow as tf

    from tfllv.ops import camera

    with tf.device("/CPU:0"):
        return camera.fold(_to_pair(seed), index)


def check_options(recipe: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns all options of a recipe: those given, checked, above the defaults. Imports no TensorFlow.

    Args:
      recipe: a name of `RECIPES`.
      options: name -> a number, a pair (low, high), choices or a bool, as the option asks.

    Returns:
      name -> value in the table's order; pairs and choices as tuples.

    Raises:
      ValueError: if the recipe or an option is unknown, or a value does not fit.
    """
    if recipe not in RECIPES:
        raise ValueError(
            f"`recipe` must be one of {', '.join(RECIPES)}. Received: '{recipe}'; "
            f"{contracts.nearest_name(str(recipe), RECIPES)}"
        )
    known = RECIPES[recipe].options
    for name in options:
        if name not in known:
            raise ValueError(
                f"`{name}` is not an option of '{recipe}'. Received: {name}={options[name]}; "
                f"{contracts.nearest_name(name, known)}"
            )
    if recipe == "statistical":
        _check_reference(options)
    return {
        name: _check_value(name, options[name], option) if name in options else option.default
        for name, option in known.items()
    }


def _check_reference(options: Mapping[str, Any]) -> None:
    """The published amounts and those of the calibrated recipe do not mix."""
    published = options.get("reference") is True
    for name in options:
        if name != "reference" and (name == "version") != published:
            raise ValueError(
                f"`{name}` is for reference={name == 'version'}. Received: {name}={options[name]}, "
                f"reference={published}; leave one of the two away."
            )


def _check_value(name: str, value: Any, option: Option) -> Any:
    if isinstance(option.default, bool):
        if not isinstance(value, bool):
            raise ValueError(f"`{name}` must be true or false. Received: {name}={value!r}.")
        return value
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not values or any(isinstance(v, bool) or not isinstance(v, numbers.Real) for v in values):
        raise ValueError(f"`{name}` must be {_describe(option)}. Received: {name}={value!r}.")
    if not isinstance(option.default, tuple) or len(option.default) != 2:
        right = all(v in option.limits for v in values) and (isinstance(option.default, tuple) or len(values) == 1)
        if not right:
            raise ValueError(f"`{name}` must be {_describe(option)}. Received: {name}={value!r}.")
        return tuple(int(v) for v in values) if isinstance(option.default, tuple) else int(values[0])
    low, high = (float(v) for v in (values[0], values[-1]))
    if len(values) > 2 or not option.limits[0] <= low <= high <= option.limits[1]:
        raise ValueError(f"`{name}` must be {_describe(option)}. Received: {name}={value!r}.")
    return low, high


def _describe(option: Option) -> str:
    if isinstance(option.default, tuple) and len(option.default) == 2:
        return f"a number or a pair (low, high) with {option.limits[0]:g} <= low <= high <= {option.limits[1]:g}"
    several = "one or more" if isinstance(option.default, tuple) else "one"
    return f"{several} of {', '.join(str(limit) for limit in option.limits)}"


def _to_tensor(image: Any) -> Any:
    import tensorflow as tf

    if not tf.is_tensor(image):
        image = tf.constant(contracts.check_image(image))
    shape = image.shape
    if shape.rank not in (3, 4) or shape[-1] not in (3, None) or 0 in shape:
        raise ValueError(
            f"`image` must be [H, W, 3] or [B, H, W, 3] of known rank with no empty side. Received: shape={shape}."
        )
    if image.dtype == tf.uint8:
        image = tf.cast(image, tf.float32) * np.float32(1 / 255)  # as `contracts.to_float`
    elif not image.dtype.is_floating:
        raise ValueError(f"`image` must be float in [0, 1] or uint8. Received: dtype={image.dtype.name}.")
    return tf.ensure_shape(tf.cast(image, tf.float32), [*shape[:-1], 3])


def _to_pair(seed: Any) -> Any:
    """Returns a seed as a [2] int64 tensor."""
    import tensorflow as tf

    if tf.is_tensor(seed):
        if not seed.dtype.is_integer or seed.shape.rank not in (0, 1) or (seed.shape.rank == 1 and seed.shape != [2]):
            raise ValueError(
                f"`seed` must be an integer or two. Received: a tensor of {seed.dtype.name}, shape={seed.shape}."
            )
        seed = tf.cast(seed, tf.int64)
        return tf.stack([seed, tf.zeros_like(seed)]) if seed.shape.rank == 0 else seed
    given = np.asarray(seed, dtype=object).ravel().tolist() if np.ndim(seed) <= 1 else []
    whole = [v for v in given if isinstance(v, numbers.Integral) and not isinstance(v, bool)]
    if len(whole) != len(given) or len(given) != (2 if np.ndim(seed) else 1):
        raise ValueError(f"`seed` must be an integer or two integers. Received: seed={seed!r}.")
    if not all(_MIN_INT64 <= int(v) <= _MAX_INT64 for v in whole):
        raise ValueError(f"`seed` must fit into 64 bits. Received: seed={seed!r}.")
    return tf.constant([int(v) for v in [*whole, 0][:2]], tf.int64)


@functools.lru_cache(maxsize=64)
def _compile(recipe: str, settings: tuple[tuple[str, Any], ...], batched: bool) -> Any:
    """Returns the graph of a recipe with its options, for one picture or a batch of any size."""
    import tensorflow as tf

    from tfllv.ops import camera, dark_recipes

    options, function = dict(settings), dark_recipes.FUNCTIONS[recipe]
    seed = tf.TensorSpec([2], tf.int64)

    def darken_one(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        # An optimiser that knew the seed would compute with it ahead, and merge what it got with the next constants.
        seed = tf.raw_ops.PlaceholderWithDefault(input=seed, shape=[2])
        return tf.ensure_shape(function(camera.clip(tf.stop_gradient(image)), seed, options), [None, None, 3])

    # Stays a call of its own in every graph, so that what is known there about the shape changes nothing inside.
    one = tf.function(
        darken_one,
        input_signature=[tf.TensorSpec([None, None, 3], tf.float32), seed],
        autograph=False,
        experimental_attributes={"_noinline": True},
    )
    if not batched:
        return one

    def darken_batch(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        numbers = tf.range(tf.shape(images, tf.int64)[0])
        return tf.map_fn(
            lambda item: one(item[0], camera.fold(seed, item[1])),
            (images, numbers),
            fn_output_signature=tf.TensorSpec([None, None, 3], tf.float32),
        )

    return tf.function(
        darken_batch, input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32), seed], autograph=False
    )
