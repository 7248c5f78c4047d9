"""The signatures of an exported network: pictures as floats, and pictures as encoded bytes.

`serving_default` takes `image`, float32 [B, H, W, 3] in [0, 1], any B, H and W, and gives `image` and the network's
further outputs. `serving_bytes` takes `image_bytes`, strings [B], each a JPEG or PNG of its own size, checked by its
header before it is decoded and turned upright by its Exif block; it gives `image_bytes`, PNG strings, and for a
segmenter `labels_bytes`, grey PNG strings of class numbers. The suffix `_bytes` makes TF Serving's REST interface
carry them in base64.

Curve networks that work on a small copy have a third, `estimate`: `small` [B, h, w, 3] float32 in [0, 1] -> `curve`,
and `exponent` of some. With the loops of `runner.split` around it, `tfllv serve` is several times as fast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfllv import contracts
from tfllv.export import graph_header, graph_pixels
from tfllv.runner import split

FLOATS = "serving_default"
BYTES = "serving_bytes"
IMAGE_BYTES = "image_bytes"
LABELS = "labels"
LABELS_BYTES = "labels_bytes"
# A signature allocates for whoever calls it. Where the graph works in strips, 50 megapixels are what most cameras make;
# a network that looks at the whole picture takes kilobytes a pixel, and 2.5 megapixels hold a frame of 1920x1080.
MAX_PIXELS = 50_000_000
MAX_PIXELS_WHOLE = 2_500_000

Step = Callable[[tf.Tensor], dict[str, tf.Tensor]]


class Signatures(tf.Module):
    """What is saved: the signatures and the variables that they use.

    Args:
      step: [B, H, W, 3] float32 in [0, 1], uint8 or uint16 -> dict with `image` of the same shape and type, or
        `labels`, an integer [B, H, W], or both, and maybe more.
      owner: what holds the step's variables and constants.
      max_pixels: the most pixels of an encoded picture.
      estimate: [B, h, w, 3] float32 -> dict, of the signature of that name; None: there is none.

    Raises:
      ValueError: if `max_pixels` is not positive.
    """

    def __init__(self, step: Step, owner: Any, *, max_pixels: int, estimate: Step | None = None):
        super().__init__(name="signatures")
        if max_pixels <= 0:
            raise ValueError(f"`max_pixels` must be > 0. Received: max_pixels={max_pixels}.")
        self._step, self._owner, self._max_pixels = step, owner, max_pixels
        floats = tf.TensorSpec([None, None, None, 3], tf.float32, name=contracts.IMAGE)
        encoded = tf.TensorSpec([None], tf.string, name=IMAGE_BYTES)
        self.floats = tf.function(self._floats, input_signature=[floats])
        self.bytes = tf.function(self._bytes, input_signature=[encoded])
        small = tf.TensorSpec([None, None, None, 3], tf.float32, name=split.SMALL)
        self.estimate = None if estimate is None else tf.function(estimate, input_signature=[small])

    def signatures(self) -> dict[str, Any]:
        """Name -> concrete function, for `tf.saved_model.save`."""
        found = {FLOATS: self.floats.get_concrete_function(), BYTES: self.bytes.get_concrete_function()}
        return found if self.estimate is None else {**found, split.ESTIMATE: self.estimate.get_concrete_function()}

    def _floats(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._step(image)

    def _bytes(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = self.floats.get_concrete_function().structured_outputs
        pairs = ((contracts.IMAGE, IMAGE_BYTES), (LABELS, LABELS_BYTES))
        types = {encoded: tf.TensorSpec([], tf.string) for key, encoded in pairs if key in outputs}
        # One after the other: each may take all the memory that `max_pixels` allows.
        return tf.map_fn(self._one, image_bytes, fn_output_signature=types, parallel_iterations=1)

    def _one(self, data: tf.Tensor) -> dict[str, tf.Tensor]:
        data, header = graph_header.read_header(data, self._max_pixels)

        def run(dtype: tf.DType) -> dict[str, tf.Tensor]:
            pixels, alpha = graph_pixels.decode(data, header, dtype)
            outputs = self._step(pixels[None])
            encoded = {}
            if contracts.IMAGE in outputs:
                encoded[IMAGE_BYTES] = graph_pixels.encode(outputs[contracts.IMAGE][0], alpha)
            if LABELS in outputs:
                labels = tf.cast(outputs[LABELS][0][..., None], tf.uint8)
                encoded[LABELS_BYTES] = graph_pixels.encode(labels, labels[..., :0])
            return encoded

        return tf.cond(header.deep, lambda: run(tf.uint16), lambda: run(tf.uint8))
