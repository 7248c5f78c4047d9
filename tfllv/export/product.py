"""What is exported: a network with its weights, the graph that is run, and what says how good a copy must be."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfllv import contracts, models
from tfllv.export import signatures
from tfllv.models import curve
from tfllv.runner import image_network, networks, split

ENHANCE, SEGMENT, DETECT = "enhance", "segment", "detect"
# Networks of the table that are no picture -> picture by themselves, and what to do instead.
NOT_EXPORTED = {
    name: "a diffusion model is run many times for one picture, by a sampler that is not part of a graph; use "
    f"`tfllv enhance --method {name}`"
    for name in ("diffusion_unet", "diffusion_unet_small")
}


@dataclasses.dataclass(frozen=True)
class Product:
    """A network on its way out.

    Attributes:
      name: its key in `models.MODELS`.
      kind: `enhance` or `segment`.
      precision: `float32` or `bfloat16`, of the graph.
      model: the Keras model in float32, with its weights: what every copy is compared with.
      step: the graph: images of any type -> dict, see `signatures.Signatures`.
      owner: what holds the graph's variables and constants.
      bounded: whether the graph works in strips, so that large pictures are no burden.
      facts: what `tfllv.json` holds beside name, kind and precision.
      estimate: the network on a small copy, of one whose loops over all pixels `runner.split` knows; see `signatures`.
    """

    name: str
    kind: str
    precision: str
    model: Any
    step: signatures.Step
    owner: Any
    bounded: bool
    facts: dict[str, Any]
    estimate: signatures.Step | None = None

    @property
    def max_pixels(self) -> int:
        """The most pixels of an encoded picture, unless something else is said."""
        return signatures.MAX_PIXELS if self.bounded else signatures.MAX_PIXELS_WHOLE

    def reference(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Runs the Keras model on [H, W, 3] float32; `image` is clipped to [0, 1], as every export clips it."""
        margin = getattr(self.model, "margin", 0) if self.kind == ENHANCE else 0
        image = np.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode="symmetric")
        inner = tuple(slice(margin, side - margin) for side in image.shape[:2])
        outputs = {key: np.asarray(value)[0][inner] for key, value in self.model(image[None]).items()}
        if contracts.IMAGE in outputs:
            outputs[contracts.IMAGE] = np.clip(outputs[contracts.IMAGE], 0, 1)
        if self.kind == SEGMENT:
            outputs[signatures.LABELS] = outputs[contracts.LOGITS].argmax(-1)
        return outputs


def load(
    name: str, *, weights: str | pathlib.Path | None = None, precision: str = "float32", **options: Any
) -> Product:
    """Builds a network for export.

    Args:
      name: a key of `models.MODELS`.
      weights: a `.weights.h5` file; None: those shipped with the package.
      precision: `float32`, or `bfloat16` for all but the last layer.
      **options: of the network; what `tfllv enhance` runs it with is the default.

    Raises:
      ValueError: if the name, an option or the precision is unknown, or there are no weights that fit.
    """
    if precision not in networks.PRECISIONS:
        raise ValueError(
            f"`precision` must be one of {', '.join(networks.PRECISIONS)}. Received: precision='{precision}'."
        )
    models.entry(name)
    if name in NOT_EXPORTED:
        raise ValueError(f"`{name}` is not exported: {NOT_EXPORTED[name]}.")
    options = {**networks.DEFAULT_OPTIONS.get(name, {}), **options}
    model = models.build(name, **options)
    networks.load_weights(model, name, None if weights is None else str(weights))
    if isinstance(model, curve.CurveNetwork):
        graph: Any = networks.CurveGraph(model, precision=precision)
        step = _graph_step(graph, networks.STRIP_PIXELS)
        if model.scale_factor == 1:
            return Product(name, ENHANCE, precision, model, step, graph, True, {"halo": model.halo})
        facts = {split.FACTS: split.to_facts(graph.split)}
        return Product(name, ENHANCE, precision, model, step, graph, True, facts, graph.estimate)
    body = model
    if precision != "float32":
        body = models.build(name, dtype=f"mixed_{precision}", **options)
        body.set_weights(model.get_weights())
    outputs = body(np.zeros((1, 8, 8, 3), np.float32))
    if contracts.LOGITS in outputs:
        return Product(name, SEGMENT, precision, model, _segment_step(body), _Variables(body, body), False, {})
    graph = image_network.ImageGraph(body)
    step = _graph_step(graph, image_network.STRIP_PIXELS)
    product = Product(name, ENHANCE, precision, model, step, _Variables(body, graph), graph.split is not None, {})
    if graph.split is None:
        return product
    facts = {split.FACTS: split.to_facts(graph.split)}
    return dataclasses.replace(product, facts=facts, estimate=graph.signature("estimate", tf.float32))


class _Variables(tf.Module):
    """Holds a Keras model's variables alone: its layers and their own functions need not be saved."""

    def __init__(self, model: Any, graph: Any):
        super().__init__(name="variables")
        self.weights = [variable.value for variable in model.variables]
        self._keep: Callable[[], Any] = lambda: graph  # a closure, so that it is not saved


def _graph_step(graph: Any, strip_pixels: int) -> signatures.Step:
    def step(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {contracts.IMAGE: graph.signature("enhance", images.dtype)(images, tf.constant(strip_pixels))}

    return step


def _segment_step(model: Any) -> signatures.Step:
    def step(images: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = dict(model(networks.to_float(images)))
        outputs[signatures.LABELS] = tf.argmax(outputs[contracts.LOGITS], -1, output_type=tf.int32)
        if contracts.IMAGE in outputs:
            outputs[contracts.IMAGE] = networks.from_float(outputs[contracts.IMAGE], images.dtype)
        return outputs

    return step
