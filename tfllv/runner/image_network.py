"""Enhancers made from restoration networks: picture -> picture, whole or, where the network allows it, in strips.

MIRNet pools over the whole picture, so it is never tiled: a tile would be restored as if it were a picture of its own.
`mirnet_small` pools over a small copy, whatever the size of the picture: its curves are predicted once and applied
strip by strip, which gives the same result in bounded memory; to arrays, by `split.ToneSplit`.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfllv import contracts, enhancers, models
from tfllv.runner import networks, split, strips

# A strip's curves are 24 channels wide.
STRIP_PIXELS = 200_000


class ImageGraph(tf.Module):
    """The inference graph of a restoration network; its result is clipped to [0, 1].

    Args:
      model: image -> dict with `image`; with the steps of `mirnet_small.MIRNetSmall`, it is run in strips. Where it has
        a `margin`, the picture gets mirrored surroundings of so many pixels, which are cut off the result.

    Attributes:
      split: what stands around the network where arrays are enhanced in strips; None where they are not.
    """

    def __init__(self, model: Any):
        super().__init__(name="image_graph")
        self._model = model
        self.split = split.ToneSplit(model.work_size) if hasattr(model, "apply_curve") else None
        self._signatures: dict[str, Any] = {}

    def enhance(self, images: tf.Tensor, strip_pixels: int = STRIP_PIXELS) -> tf.Tensor:
        """Enhances a batch: [B, H, W, 3] float32 in [0, 1], uint8 or uint16 -> the same shape and type."""
        return self.signature("enhance", images.dtype)(images, tf.constant(strip_pixels))

    def enhance_array(self, images: np.ndarray) -> np.ndarray:
        """Does what `enhance` does to NumPy pictures; where it is run in strips, several times as fast."""
        if self.split is None:
            return self.enhance(tf.constant(images)).numpy()
        return self.split.bend(images, self.estimate(self.split.shrink(images)))

    def estimate(self, small: np.ndarray) -> dict[str, np.ndarray]:
        """Estimates from small copies what `split` bends by: `exponent` [B, 1, 1, 1] and `curve` [B, h, w, C]."""
        found = self.signature("estimate", tf.float32)(tf.constant(small))
        return {key: value.numpy() for key, value in found.items()}

    def signature(self, name: str, dtype: tf.DType) -> Any:
        """Returns `enhance` or `estimate` for one image type; traced once, for every batch and size."""
        key = f"{name}_{dtype.name}"
        if key not in self._signatures:
            images = tf.TensorSpec([None, None, None, 3], dtype, name="images")
            strip = tf.TensorSpec([], tf.int32, name="strip_pixels")
            step, specs = {"enhance": (self._enhance, (images, strip)), "estimate": (self._estimate, (images,))}[name]
            self._signatures[key] = tf.function(step).get_concrete_function(*specs)
        return self._signatures[key]

    def _enhance(self, images: tf.Tensor, strip_pixels: tf.Tensor) -> tf.Tensor:
        if self.split is None:
            margin = getattr(self._model, "margin", 0)
            surrounded = mirror_around(networks.to_float(images), margin)
            height, width = tf.shape(images)[1], tf.shape(images)[2]
            inner = self._model(surrounded)[contracts.IMAGE][:, margin : margin + height, margin : margin + width]
            return tf.ensure_shape(networks.from_float(inner, images.dtype), images.shape)
        small = self._shrink(images, strip_pixels)
        found = self._estimate(small)
        return self._apply(images, found[split.EXPONENT], found[split.CURVE], strip_pixels)

    def _shrink(self, images: tf.Tensor, strip_pixels: tf.Tensor) -> tf.Tensor:
        height, width = tf.shape(images)[1], tf.shape(images)[2]
        factor = self._model.factor(height, width)

        def shrink(index: tf.Tensor, top: tf.Tensor, bottom: tf.Tensor) -> tf.Tensor:
            return self._model.shrink(networks.to_float(images[index : index + 1, top:bottom]), factor)

        rows = strips.rows_for(images, strip_pixels, multiple=factor)
        narrow = (width + factor - 1) // factor
        return strips.map_strips(images, rows, shrink, width=narrow, channels=3, dtype=tf.float32)

    def _estimate(self, small: tf.Tensor) -> dict[str, tf.Tensor]:
        exponent = self._model.exponent(small)
        return {split.EXPONENT: exponent, split.CURVE: self._model.curve_map(small, exponent)}

    def _apply(self, images: tf.Tensor, exponent: tf.Tensor, curve: tf.Tensor, strip_pixels: tf.Tensor) -> tf.Tensor:
        height, width = tf.shape(images)[1], tf.shape(images)[2]
        factor = self._model.factor(height, width)

        def bend(index: tf.Tensor, top: tf.Tensor, bottom: tf.Tensor) -> tf.Tensor:
            one = slice(index, index + 1)
            strip = self._model.enlarge(curve[one], factor, height, width, top=top, rows=bottom - top)
            bent = self._model.apply_curve(networks.to_float(images[one, top:bottom]), exponent[one], strip)
            return networks.from_float(bent, images.dtype)

        rows = strips.rows_for(images, strip_pixels)
        result = strips.map_strips(images, rows, bend, width=width, channels=3, dtype=images.dtype)
        return tf.ensure_shape(result, images.shape)


def mirror_around(images: tf.Tensor, margin: int) -> tf.Tensor:
    """Continues pictures beyond their borders by mirror images: [B, H, W, C] -> [B, H + 2 m, W + 2 m, C], any size."""
    if not margin:
        return images
    for axis in (1, 2):
        side = tf.shape(images)[axis]
        place = tf.math.floormod(tf.range(-margin, side + margin), 2 * side)
        images = tf.gather(images, tf.minimum(place, 2 * side - 1 - place), axis=axis)
    return images


class ImageEnhancer(enhancers.Enhancer):
    """A restoration network as an enhancer; see `enhancers.Enhancer`.

    Attributes:
      model: the Keras model.
      graph: the `ImageGraph` that is run.
    """

    def __init__(self, name: str, model: Any):
        super().__init__(name, self._enhance)
        self.model = model
        self.graph = ImageGraph(model)

    def _enhance(self, image: np.ndarray) -> np.ndarray:
        return self.graph.enhance_array(image) if image.ndim == 4 else self.graph.enhance_array(image[None])[0]

    def __call__(self, image: Any) -> np.ndarray:
        """Enhances one image or one batch; see `Enhancer.__call__`."""
        return self._enhance(contracts.check_image(image))

    def tiled(self, image: np.ndarray, tile: int | None = None) -> np.ndarray:
        """Enhances one image of any size; see `Enhancer.tiled`.

        The strips of a network that is run in such are as high as they are quickest, and a network that is not takes
        the picture as it is, with memory by its size, whatever `tile` says.
        """
        return self._enhance(image)

    def stream(self, *, smoothing: float = 0.9) -> Callable[[np.ndarray], np.ndarray]:
        """Smooths exponent and curves over the frames of a video; a cut starts afresh. Other networks: frame by frame.

        Args:
          smoothing: weight of the past, in [0, 1).

        Raises:
          ValueError: if `smoothing` is out of range.
        """
        if not 0 <= smoothing < 1:
            raise ValueError(f"`smoothing` must be in [0, 1). Received: smoothing={smoothing}.")
        between = self.graph.split
        if between is None:
            return self.__call__
        past: dict[str, np.ndarray] = {}

        def enhance_frame(frame: np.ndarray) -> np.ndarray:
            images = frame[None]
            now = self.graph.estimate(between.shrink(images))
            same = past and past[split.CURVE].shape == now[split.CURVE].shape
            if same and _distance(past, now) < networks.SCENE_CUT:
                mixed = {key: smoothing * past[key] + (1 - smoothing) * new for key, new in now.items()}
                now = {key: value.astype(np.float32) for key, value in mixed.items()}
            past.update(now)
            return between.bend(images, now)[0]

        return enhance_frame


def _distance(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> float:
    """The larger of the mean changes of exponent and curves."""
    return max(float(np.abs(value - other[key]).mean()) for key, value in one.items())


def image_enhancer(
    name: str, *, weights: str | None = None, precision: str = "float32", **options: Any
) -> ImageEnhancer:
    """Makes the enhancer of a restoration network; called by `enhancers.get`.

    Args:
      name: a key of `models.MODELS` whose network maps picture to picture, such as `mirnet_small`.
      weights: a `.weights.h5` file; None: those shipped with the package.
      precision: `float32`, or `bfloat16` for the network's body.
      **options: of the network.

    Raises:
      ValueError: if there are no weights for it, or they are of another network; or `precision` is unknown.
    """
    return ImageEnhancer(name, _build(name, weights, precision, options))


def _build(network: str, weights: str | None, precision: str, options: Mapping[str, Any]) -> Any:
    if precision not in networks.PRECISIONS:
        raise ValueError(
            f"`precision` must be one of {', '.join(networks.PRECISIONS)}. Received: precision='{precision}'."
        )
    dtype = {} if precision == "float32" else {"dtype": f"mixed_{precision}"}
    model = models.build(network, **dtype, **options)
    networks.load_weights(model, network, weights)
    return model


def multitask_enhancer(
    name: str, *, weights: str | None = None, precision: str = "float32", **options: Any
) -> ImageEnhancer:
    """Makes the enhancer of the multi-task network; called by `enhancers.get`.

    Args:
      name: `multitask`.
      weights: a `.weights.h5` file of `resnet_unet`; its number of classes, width and blocks are read from it.
      precision: as `image_enhancer`.
      **options: of the network, such as `variant=v1` where its encoder came from Keras Applications.

    Raises:
      ValueError: if there are no weights, or they are of another network; or `precision` is unknown.
    """
    from tfllv.models import encoder_weights

    if weights is None:
        raise ValueError(
            f"`weights` must be given: none are shipped for '{name}'. Train them with `tfllv train "
            "configs/multitask_camvid.yaml`, then pass the run's final.weights.h5."
        )
    if pathlib.Path(weights).is_file() and weights.endswith(encoder_weights.KERAS_SUFFIX):
        options = {**encoder_weights.network_options(weights), **options}
    if options.get("tasks") == "segmentation":
        raise ValueError(f"`weights` must be of a network that gives a picture. Received: {weights}, which segments.")
    return ImageEnhancer(name, _build(enhancers.METHODS[name].network, weights, precision, options))
