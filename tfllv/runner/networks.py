"""Enhancers made from networks: the graph that is run, timed and exported, and the class that calls it.

`CurveGraph` is what the signature of a curve network (SGZ, Zero-DCE, Zero-DCE++) computes. It gives what the Keras
model gives, and is quicker and smaller for four reasons, each exact up to rounding:

- the bias of a depthwise convolution is folded into the pointwise one behind it;
- a convolution over concatenated inputs is the sum of one over each, so nothing is concatenated;
- the picture is worked through in strips of rows small enough for the processor's cache, which also bounds the memory;
- the convolutions may run in bfloat16 (the picture and the curve stay float32).

Arrays take a quicker way where the map is predicted at a fraction of the size: only that is TensorFlow's work, and what
is done to every pixel is `ops.curve_loops`'.
"""

from __future__ import annotations

import pathlib
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfllv import contracts, enhancers, models
from tfllv.runner import split, strips

PRECISIONS = ("float32", "bfloat16")
# A strip's activations are 32 channels wide; this many pixels measured best between cache misses and halo rows.
STRIP_PIXELS = 60_000
# Bending alone is 3 channels wide, so its strips may be higher; each one costs two interpolation matrices.
BEND_FACTOR = 5
# What the published protocols run at: Zero-DCE++ and the authors' test of SGZ predict the curve at 1/12 of each side.
DEFAULT_OPTIONS: dict[str, dict[str, Any]] = {"sgz": {"scale_factor": 12}}
# A mean change of the curve map above this between two frames is a cut, not flicker.
SCENE_CUT = 0.05


class CurveGraph(tf.Module):
    """The inference graph of a curve network.

    Args:
      model: a `tfllv.models.curve.CurveNetwork` with its weights.
      precision: `float32`, or `bfloat16` for the convolutions.

    Attributes:
      split: what stands around the network where arrays are enhanced.
      strip_pixels: of a strip, where none are asked for.

    Raises:
      ValueError: if `precision` is unknown.
    """

    strip_pixels = STRIP_PIXELS

    def __init__(self, model: Any, *, precision: str = "float32"):
        super().__init__(name="curve_graph")
        if precision not in PRECISIONS:
            raise ValueError(f"`precision` must be one of {', '.join(PRECISIONS)}. Received: precision='{precision}'.")
        self._model = model
        self.split = split.CurveSplit(model.scale_factor)
        self._dtype = tf.as_dtype(precision)
        self._layers = [_Layer(*fold(layer), self._dtype) for layer in model.convolutions]
        self._signatures: dict[str, Any] = {}

    def enhance(self, images: tf.Tensor, strip_pixels: int = STRIP_PIXELS) -> tf.Tensor:
        """Enhances a batch: [B, H, W, 3] float32 in [0, 1], uint8 or uint16 -> the same shape and type."""
        return self.signature("enhance", images.dtype)(images, tf.constant(strip_pixels))

    def enhance_array(self, images: np.ndarray, strip_pixels: int = STRIP_PIXELS) -> np.ndarray:
        """Does what `enhance` does to NumPy pictures; at a `scale_factor` above 1 several times as fast."""
        if self.split.scale_factor == 1:
            return self.enhance(tf.convert_to_tensor(images), strip_pixels).numpy()
        return self.bend(images, self.curve_map(images, strip_pixels), strip_pixels)

    def curve_map(self, images: np.ndarray, strip_pixels: int = STRIP_PIXELS) -> np.ndarray:
        """Predicts the curve map alone: [B, H, W, 3] -> [B, ceil(H / s), ceil(W / s), C] float32 in [-1, 1]."""
        small = tf.convert_to_tensor(self.split.shrink(images))
        return self.signature("predict", tf.float32)(small, tf.constant(strip_pixels)).numpy()

    def estimate(self, small: tf.Tensor) -> dict[str, tf.Tensor]:
        """What `split` takes of the network: [B, h, w, 3] float32 -> `curve` [B, h, w, C] in [-1, 1]."""
        return {split.CURVE: self.signature("predict", tf.float32)(small, tf.constant(self.strip_pixels))}

    def bend(self, images: np.ndarray, curve: np.ndarray, strip_pixels: int = STRIP_PIXELS) -> np.ndarray:
        """Applies a curve map made by `curve_map`: [B, H, W, 3] -> the same shape and type.

        `strip_pixels` counts where the map is as large as the picture, at `scale_factor` 1.
        """
        if self.split.scale_factor > 1:
            return self.split.bend(images, {split.CURVE: curve})
        given = [tf.convert_to_tensor(each) for each in (images, curve)]
        return self.signature("bend", given[0].dtype)(*given, tf.constant(strip_pixels)).numpy()

    def signature(self, name: str, dtype: tf.DType) -> Any:
        """Returns `enhance`, `predict` or `bend` for an image type; traced once for any batch and size."""
        key = f"{name}_{dtype.name}"
        if key not in self._signatures:
            images = tf.TensorSpec([None, None, None, 3], dtype, name="images")
            curve = tf.TensorSpec([None, None, None, self._model.curve_channels], tf.float32, name="curve")
            strip = tf.TensorSpec([], tf.int32, name="strip_pixels")
            function, specs = {
                "enhance": (self._enhance, (images, strip)),
                "predict": (self._predict_map, (images, strip)),
                "bend": (self._bend, (images, curve, strip)),
            }[name]
            self._signatures[key] = tf.function(function).get_concrete_function(*specs)
        return self._signatures[key]

    def _enhance(self, images: tf.Tensor, strip_pixels: tf.Tensor) -> tf.Tensor:
        if self._model.scale_factor > 1:
            curve = self._predict_map(self._shrink(images, strip_pixels), strip_pixels)
            return self._bend(images, curve, strip_pixels)

        def enhance_strip(index: tf.Tensor, top: tf.Tensor, bottom: tf.Tensor) -> tf.Tensor:
            curve, strip = self._predict(images[index : index + 1], top, bottom)
            return self._apply(strip, curve)

        return self._pictures(images, strips.rows_for(images, strip_pixels), enhance_strip)

    def _shrink(self, images: tf.Tensor, strip_pixels: tf.Tensor) -> tf.Tensor:
        scale = self._model.scale_factor
        width = (tf.shape(images)[2] + scale - 1) // scale

        def shrink_strip(index: tf.Tensor, top: tf.Tensor, bottom: tf.Tensor) -> tf.Tensor:
            return self._model.shrink(to_float(images[index : index + 1, top:bottom]))

        rows = strips.rows_for(images, BEND_FACTOR * strip_pixels, multiple=scale)
        return strips.map_strips(images, rows, shrink_strip, width=width, channels=3, dtype=tf.float32)

    def _predict_map(self, small: tf.Tensor, strip_pixels: tf.Tensor) -> tf.Tensor:
        def predict_strip(index: tf.Tensor, top: tf.Tensor, bottom: tf.Tensor) -> tf.Tensor:
            return self._predict(small[index : index + 1], top, bottom)[0]

        rows = strips.rows_for(small, strip_pixels)
        width, channels = tf.shape(small)[2], self._model.curve_channels
        return strips.map_strips(small, rows, predict_strip, width=width, channels=channels, dtype=tf.float32)

    def _bend(self, images: tf.Tensor, curve: tf.Tensor, strip_pixels: tf.Tensor) -> tf.Tensor:
        height, width = tf.shape(images)[1], tf.shape(images)[2]

        def bend_strip(index: tf.Tensor, top: tf.Tensor, bottom: tf.Tensor) -> tf.Tensor:
            one = slice(index, index + 1)
            strip = self._model.enlarge(curve[one], height, width, top=top, rows=bottom - top)
            return self._apply(images[one, top:bottom], strip)

        return self._pictures(images, strips.rows_for(images, BEND_FACTOR * strip_pixels), bend_strip)

    @staticmethod
    def _pictures(images: tf.Tensor, rows: tf.Tensor, function: Callable[..., tf.Tensor]) -> tf.Tensor:
        width = tf.shape(images)[2]
        result = strips.map_strips(images, rows, function, width=width, channels=3, dtype=images.dtype)
        return tf.ensure_shape(result, images.shape)

    def _apply(self, strip: tf.Tensor, curve: tf.Tensor) -> tf.Tensor:
        return from_float(self._model.apply_curve(to_float(strip), curve), strip.dtype)

    def _predict(self, picture: tf.Tensor, top: tf.Tensor, bottom: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Predicts the map of rows top..bottom of one picture; returns it and those rows of the picture."""
        halo = self._model.halo
        first = tf.maximum(top - halo, 0)  # at the picture's own border the convolutions pad by zeros, as they must
        context = picture[:, first : bottom + halo]
        curve = self._convolve(tf.cast(to_float(context), self._dtype))
        inner = slice(top - first, bottom - first)
        return curve[:, inner], context[:, inner]

    def _convolve(self, x: tf.Tensor) -> tf.Tensor:
        one, two, three, four, five, six, seven = self._layers
        x1 = tf.nn.relu(one(x))
        x2 = tf.nn.relu(two(x1))
        x3 = tf.nn.relu(three(x2))
        x4 = tf.nn.relu(four(x3))
        x5 = tf.nn.relu(five(x3, x4))
        x6 = tf.nn.relu(six(x2, x5))
        return tf.tanh(tf.cast(seven(x1, x6), tf.float32))


class CurveEnhancer(enhancers.Enhancer):
    """A curve network as an enhancer; see `enhancers.Enhancer`.

    Attributes:
      model: the Keras model.
      graph: the `CurveGraph` that is run.
    """

    def __init__(self, name: str, model: Any, *, precision: str = "float32", runtime: str = "tensorflow"):
        super().__init__(name, self._enhance)
        self.model = model
        if runtime == "openvino":
            from tfllv.runner import openvino

            self.graph: CurveGraph = openvino.OpenVinoGraph(model, precision=precision)
        else:
            self.graph = CurveGraph(model, precision=precision)

    def _enhance(self, image: np.ndarray, strip_pixels: int | None = None) -> np.ndarray:
        batch = image if image.ndim == 4 else image[None]
        result = self.graph.enhance_array(batch, strip_pixels or self.graph.strip_pixels)
        return result if image.ndim == 4 else result[0]

    def __call__(self, image: Any) -> np.ndarray:
        """Enhances one image or one batch; see `Enhancer.__call__`."""
        return self._enhance(contracts.check_image(image))

    def tiled(self, image: np.ndarray, tile: int | None = None) -> np.ndarray:
        """Enhances one image of any size; convolutions are in strips of tile x tile pixels. See `Enhancer.tiled`."""
        if tile is None:
            return self._enhance(image)
        return self._enhance(image, tile * tile if tile else int(np.prod(image.shape[:2])))

    def stream(self, *, smoothing: float = 0.9) -> Callable[[np.ndarray], np.ndarray]:
        """Smooths the curve map over the frames of a video, so that it does not flicker; a cut starts afresh."""
        if not 0 <= smoothing < 1:
            raise ValueError(f"`smoothing` must be in [0, 1). Received: smoothing={smoothing}.")
        past: np.ndarray | None = None

        def enhance_frame(frame: np.ndarray) -> np.ndarray:
            nonlocal past
            images = frame[None]
            curve = self.graph.curve_map(images)
            if past is not None and past.shape == curve.shape and _distance(curve, past) < SCENE_CUT:
                curve = (smoothing * past + (1 - smoothing) * curve).astype(np.float32)
            past = curve
            return self.graph.bend(images, curve)[0]

        return enhance_frame


def curve_enhancer(
    name: str,
    *,
    weights: str | None = None,
    precision: str = "float32",
    runtime: str = "tensorflow",
    **options: Any,
) -> CurveEnhancer:
    """Makes the enhancer of a curve network; called by `enhancers.get`.

    Args:
      name: `sgz`, `zero_dce` or `zero_dce_pp`.
      weights: a `.weights.h5` file; None: those shipped with the package.
      precision: `float32` or `bfloat16`.
      runtime: `tensorflow` or `openvino`, which runs the convolutions; `enhancers.get` checks it.
      **options: of the network, such as `scale_factor`.

    Raises:
      ValueError: if there are no weights for it, or they are of another network.
    """
    model = models.build(name, **{**DEFAULT_OPTIONS.get(name, {}), **options})
    load_weights(model, name, weights)
    return CurveEnhancer(name, model, precision=precision, runtime=runtime)


def load_weights(model: Any, name: str, weights: str | None) -> None:
    """Loads `weights`, or those shipped for `name`, into `model`.

    Raises:
      ValueError: if none are shipped and none given, or the file does not fit.
      FileNotFoundError: if the file does not exist.
    """
    path = pathlib.Path(weights) if weights else models.shipped_weights(name)
    if path is None:
        raise ValueError(
            f"`weights` must be given: none are shipped for '{name}'. Convert published ones with "
            f"`tfllv import-weights {name} FILE.pth -o {name}.weights.h5`, then pass that file."
        )
    if not path.name.endswith(".weights.h5"):
        raise ValueError(
            f"`weights` must end in .weights.h5. Received: {path.name}; convert .pth files with `tfllv import-weights`."
        )
    if not path.is_file():
        raise FileNotFoundError(f"`weights` must be a file. Received: {path}, which does not exist.")
    try:
        with warnings.catch_warnings():
            # Keras only warns where a file lacks a part of the network, and leaves that part as it was made.
            warnings.simplefilter("error", UserWarning)
            model.load_weights(str(path))
    except (ValueError, OSError, KeyError, UserWarning) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"`weights` must fit '{name}' as it was built. Received: {path}: {reason}") from error


class _Layer(tf.Module):
    """One folded convolution over one or two inputs, summed instead of concatenated."""

    def __init__(self, depthwise: np.ndarray | None, kernel: np.ndarray, bias: np.ndarray, dtype: tf.DType):
        super().__init__()
        self._depthwise = None if depthwise is None else tf.constant(depthwise, dtype)
        self._kernel = tf.constant(kernel, dtype)
        self._bias = tf.constant(bias, dtype)

    def __call__(self, *inputs: tf.Tensor) -> tf.Tensor:
        start, total = 0, None
        for number, x in enumerate(inputs):
            part = slice(start, start + x.shape[-1])
            start = part.stop
            if self._depthwise is not None:
                x = tf.nn.depthwise_conv2d(x, self._depthwise[:, :, part], [1, 1, 1, 1], "SAME")
            x = tf.nn.conv2d(x, self._kernel[:, :, part], 1, "SAME")
            if number == len(inputs) - 1:  # bias before sum: the order in which the runtime fuses all three
                x = tf.nn.bias_add(x, self._bias)
            total = x if total is None else x + total
        return total


def fold(layer: Any) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """Takes a Keras convolution's weights; moves the depthwise bias b into the pointwise one: W (d + b) = W d + W b.

    Returns:
      The depthwise kernel [3, 3, channels, 1], None for a plain convolution; the kernel behind it, [1, 1, channels,
      filters], or the plain one, [3, 3, channels, filters]; the bias, [filters].
    """
    if not hasattr(layer, "depthwise"):
        return None, np.asarray(layer.kernel), np.asarray(layer.bias)
    kernel = np.asarray(layer.pointwise.kernel)
    bias = np.asarray(layer.pointwise.bias) + np.asarray(layer.depthwise.bias) @ kernel[0, 0]
    return np.asarray(layer.depthwise.kernel), kernel, bias


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).mean())


def to_float(images: tf.Tensor) -> tf.Tensor:
    """Returns uint8 or uint16 images as float32 in [0, 1]; float images pass through."""
    if images.dtype.is_floating:
        return images
    return tf.cast(images, tf.float32) * (1.0 / float(images.dtype.max or 1))


def from_float(images: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Returns float images clipped to [0, 1], as `dtype`; whole types are rounded half up."""
    if dtype.is_floating:
        return tf.clip_by_value(images, 0.0, 1.0)
    return tf.cast(tf.clip_by_value(images, 0.0, 1.0) * dtype.max + 0.5, dtype)
