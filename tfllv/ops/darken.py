"""Synthetic darkening: a well-lit picture as it would look in the dark, by a named recipe and a seed.

    dark = darken(image, "statistical", seed=7)                                     # NumPy or tensors
    dataset.map(lambda image, n: darken(image, "statistical", tf.stack([7, n])))    # in tf.data

`tfllv darken` does the same to files. One implementation stands behind all of them, and a result depends on picture,
recipe, options and seed alone: it is the same to the last bit for an array, an eager tensor, in `tf.data`, in a batch
and for any number of threads. In `tf.data` it is a NumPy function, which lets go of Python's lock while it computes;
like every NumPy function it cannot be part of a SavedModel. TensorFlow is not imported unless tensors come in.
"""

from __future__ import annotations

import dataclasses
import numbers
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfllv import contracts

_MIN_INT64, _MAX_INT64 = -(2**63), 2**63 - 1
_FIRST_IMAGE_STREAM = 16  # the streams below are the recipes' own


@dataclasses.dataclass(frozen=True)
class Option:
    """One option of a recipe.

    Attributes:
      kind: `range`, a pair (low, high) that is drawn from, where a single number fixes the value; `choices`, one or
        more values to draw from; `choice`, one value; `flag`, a bool.
      default: the value that it has when it is not given.
      summary: what it is, with its unit.
      limits: of a range the least and the greatest value, of choices the values that may be chosen.
    """

    kind: str
    default: Any
    summary: str
    limits: tuple[float, ...] = ()

    def describe(self) -> str:
        """Returns what a value must be, for messages."""
        if self.kind == "flag":
            return "true or false"
        if self.kind == "range":
            return f"a number or a pair (low, high) with {self.limits[0]:g} <= low <= high <= {self.limits[1]:g}"
        several = "one or more" if self.kind == "choices" else "one"
        return f"{several} of {', '.join(str(limit) for limit in self.limits)}"

    def check(self, value: Any) -> Any:
        """Returns a value in its final form: a bool, a number, or a tuple; None if it does not fit."""
        if self.kind == "flag":
            return value if isinstance(value, bool) else None
        values = tuple(value) if isinstance(value, list | tuple) else (value,)
        if not values or any(isinstance(v, bool) or not isinstance(v, numbers.Real) for v in values):
            return None
        if self.kind == "range":
            low, high = float(values[0]), float(values[-1])
            return (low, high) if len(values) <= 2 and self.limits[0] <= low <= high <= self.limits[1] else None
        if any(v not in self.limits for v in values) or (self.kind == "choice" and len(values) > 1):
            return None
        whole = tuple(int(float(v)) for v in values)
        return whole if self.kind == "choices" else whole[0]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One row of the table.

    Attributes:
      summary: what it does, in a line.
      source: where it comes from, and what differs.
      options: name -> option.
    """

    summary: str
    source: str
    options: Mapping[str, Option]


RECIPES: dict[str, Recipe] = {
    "statistical": Recipe(
        "camera pipeline: linear light, mosaic, exposure, shot and read noise, demosaic, saturation, tone curve",
        "tanishk-ou/lowlight-synthesis, calibrated: noise after darkening, tone curve re-applied, mean level matched "
        "to LOL and ExDark. `reference=True` is the published order with the amounts of version 1 or 2.",
        {
            "level": Option(
                "range", (7.0, 40.0), "mean grey level of the result, of 255, drawn evenly in its logarithm", (0.1, 255)
            ),
            "shot": Option(
                "range",
                (1e-4, 3e-3),
                "variance of shot noise a unit of light, drawn evenly in its logarithm",
                (1e-9, 1),
            ),
            "read": Option("range", (1e-7, 1e-5), "variance of read noise, drawn evenly in its logarithm", (1e-12, 1)),
            "contrast": Option("range", (0.6, 1.0), "share of the tone curve in the result", (0, 1)),
            "saturation": Option("range", (0.9, 1.3), "factor on colour, about the luminance", (0, 3)),
            "reference": Option("flag", False, "the published order and amounts; the options above do not apply then"),
            "version": Option("choice", 2, "of the published amounts: 1 (constant) or 2 (drawn)", (1, 2)),
        },
    ),
    "gamma_noise": Recipe(
        "x ** gamma, then normal noise",
        "jesst0x/image-segmentation-in-dark, without its two JPEG stages, and seeded",
        {
            "gamma": Option("range", (3.0, 8.0), "exponent", (0.05, 50)),
            "variance": Option("range", (0.001, 0.01), "variance of the noise, of a picture on [-1, 1]", (0, 1)),
        },
    ),
    "photographic": Recipe(
        "blacks, shadows and brightness lowered independently, then noise",
        "dblasko/low-light-event-img-enhancer: its brightness and noise; blacks and shadows as in a photo editor",
        {
            "blacks": Option("range", (0.0, 0.1), "black point", (0, 0.9)),
            "shadows": Option(
                "range", (0.0, 0.6), "share that is taken from the darkest tones; white keeps all", (0, 1)
            ),
            "brightness": Option("range", (0.1, 0.2), "factor on all tones", (0, 1)),
            "dispersion": Option(
                "range", (0.01, 0.05), "noise, as a share of the result's standard deviation", (0, 10)
            ),
            "color_noise": Option("range", (1.0, 3.0), "standard deviation of colour noise, of 255", (0, 255)),
        },
    ),
    "raw": Recipe(
        "unprocess to a camera's raw colours, less light, shot and read noise, quantisation, white balance, gamma",
        "MAET (Cui et al., ICCV 2021, https://doi.org/10.1109/ICCV48922.2021.00259), with colour matrices whose rows "
        "sum to 1, so that grey stays grey, and steps of 12 to 16 bits",
        {
            "darkness": Option(
                "range", (0.01, 1.0), "share of light left; drawn from N(0.1, 0.08) cut to this pair", (1e-4, 1)
            ),
            "gamma": Option("range", (2.0, 3.5), "exponent to linear light and back", (0.5, 10)),
            "red_gain": Option("range", (1.9, 2.4), "white balance of red", (0.1, 10)),
            "blue_gain": Option("range", (1.5, 1.9), "white balance of blue", (0.1, 10)),
            "shot": Option(
                "range",
                (1e-4, 0.012),
                "variance of shot noise a unit of light, drawn evenly in its logarithm",
                (1e-9, 1),
            ),
            "bits": Option("choices", (12, 14, 16), "sensor depths to draw from", tuple(range(1, 17))),
        },
    ),
}


def darken(image: Any, recipe: str, seed: Any, **options: Any) -> Any:
    """Darkens one picture or a batch.

    Args:
      image: [H, W, 3] or [B, H, W, 3], float in [0, 1] (clipped to it) or uint8; a NumPy array or a tensor.
      recipe: a name of `RECIPES`.
      seed: a whole number n, which stands for [n, 0], or two of 64 bits, or a tensor of either shape. Picture i of a
        batch has the seed `image_seed(seed, i)`, so a batch is what its pictures are alone under these seeds.
      **options: of the recipe, see `RECIPES`.

    Returns:
      The dark picture or pictures, float32 in [0, 1] of the same shape; a tensor where `image` or `seed` is one. The
      same bits come of a uint8 picture and of its float32 version. No gradient flows through it.

    Raises:
      ValueError: if an argument is not as above, or a recipe or option is unknown.
    """
    settings = check_options(recipe, options)
    if not (_is_tensor(image) or _is_tensor(seed)):
        return _darken_array(contracts.check_image(image), recipe, _check_seed(seed), settings)
    import tensorflow as tf

    if tf.executing_eagerly():
        array = contracts.check_image(image.numpy() if _is_tensor(image) else image)
        return tf.constant(_darken_array(array, recipe, _check_seed(seed), settings))
    tensor = tf.convert_to_tensor(image)
    _check_symbolic(tensor)
    pair = _symbolic_seed(seed)

    def compute(array: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        return _darken_array(contracts.check_image(array), recipe, _check_seed(numbers), settings)

    dark = tf.numpy_function(compute, [tensor, pair], tf.float32, stateful=False)
    dark.set_shape(tensor.shape)
    return dark


def image_seed(seed: Any, index: int) -> tuple[int, int]:
    """Returns the seed of picture `index` of a batch that is darkened with `seed`."""
    from tfllv.ops import camera

    first, second = camera.Draws(_check_seed(seed)).bits(_FIRST_IMAGE_STREAM + index, 2).view(np.int64)
    return int(first), int(second)


def check_options(recipe: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns all options of a recipe: those given, checked, above the defaults.

    Args:
      recipe: a name of `RECIPES`.
      options: name -> value.

    Returns:
      name -> value in the table's order; ranges and choices as tuples.

    Raises:
      ValueError: if the recipe or an option is unknown, or a value does not fit.
    """
    if recipe not in RECIPES:
        raise ValueError(
            f"`recipe` must be one of {', '.join(RECIPES)}. Received: '{recipe}'; "
            f"{contracts.nearest_name(str(recipe), RECIPES)}"
        )
    known = RECIPES[recipe].options
    settings = {name: option.default for name, option in known.items()}
    for name, value in options.items():
        if name not in known:
            hint = contracts.nearest_name(name, known)
            raise ValueError(f"`{name}` is not an option of '{recipe}'. Received: {name}={value!r}; {hint}")
        settings[name] = known[name].check(value)
        if settings[name] is None:
            raise ValueError(f"`{name}` must be {known[name].describe()}. Received: {name}={value!r}.")
    if recipe == "statistical":
        _check_reference(options)
    return settings


def _check_reference(options: Mapping[str, Any]) -> None:
    """The published amounts and those of the calibrated recipe do not mix."""
    published = options.get("reference", False)
    for name, value in options.items():
        if name != "reference" and (name == "version") != published:
            raise ValueError(
                f"`{name}` is for reference={name == 'version'}. Received: {name}={value!r}, reference={published}; "
                "leave one of the two away."
            )


def _darken_array(image: np.ndarray, recipe: str, seed: tuple[int, int], settings: Mapping[str, Any]) -> np.ndarray:
    from tfllv.ops import camera, dark_recipes

    image = image if image.dtype == np.uint8 else contracts.to_float(image)
    if image.ndim == 3:
        return dark_recipes.FUNCTIONS[recipe](image, camera.Draws(seed), settings)
    result = np.empty(image.shape, np.float32)
    for index, single in enumerate(image):
        result[index] = dark_recipes.FUNCTIONS[recipe](single, camera.Draws(image_seed(seed, index)), settings)
    return result


def _is_tensor(value: Any) -> bool:
    tensorflow = sys.modules.get("tensorflow")  # who has a tensor has imported it
    return tensorflow is not None and bool(tensorflow.is_tensor(value))


def _check_seed(seed: Any) -> tuple[int, int]:
    given = np.asarray(seed)
    if given.dtype.kind not in "iu" or given.shape not in ((), (2,)):
        raise ValueError(f"`seed` must be a whole number of 64 bits, or two. Received: seed={seed!r}.")
    whole = [int(number) for number in given.reshape(-1)] + [0]
    if not all(_MIN_INT64 <= number <= _MAX_INT64 for number in whole):
        raise ValueError(f"`seed` must fit into 64 bits with its sign. Received: seed={seed!r}.")
    return whole[0], whole[1]


def _check_symbolic(image: Any) -> None:
    """Checks what a graph knows about an image; values are checked when they come."""
    shape = image.shape
    if shape.rank not in (None, 3, 4) or (shape.rank and shape[-1] not in (None, 3)):
        raise ValueError(f"`image` must be [H, W, 3] or [B, H, W, 3]. Received: shape={shape}.")
    if image.dtype.name != "uint8" and not image.dtype.is_floating:
        raise ValueError(f"`image` must be float in [0, 1] or uint8. Received: dtype={image.dtype.name}.")


def _symbolic_seed(seed: Any) -> Any:
    import tensorflow as tf

    if not tf.is_tensor(seed):
        return tf.constant(_check_seed(seed), tf.int64)
    if not seed.dtype.is_integer or (seed.shape.rank is not None and seed.shape not in ([], [2])):
        raise ValueError(
            f"`seed` must be a whole number, or two. Received: a tensor of {seed.dtype.name}, shape={seed.shape}."
        )
    return seed
