"""A network as one plain graph, for the converters: no strips, no loops, any size of picture.

The converters read a SavedModel. They are never handed a Keras model or a bare function, because
`TFLiteConverter.from_concrete_functions` then writes a file without its weights and reports success.
"""

from __future__ import annotations

import contextlib
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from tfllv import contracts
from tfllv.export import product, signatures


class PlainGraph(tf.Module):
    """picture -> dict, by the Keras model itself; `image` is clipped to [0, 1].

    Args:
      what: the network.
      name: of the input.
      batch: of the input; None: any.
    """

    def __init__(self, what: product.Product, *, name: str = contracts.IMAGE, batch: int | None = 1):
        super().__init__(name="plain_graph")
        model, kind = what.model, what.kind
        self.weights = [variable.value for variable in model.variables]

        def run(images: tf.Tensor) -> dict[str, tf.Tensor]:
            outputs = model(images)
            found = {}
            if contracts.IMAGE in outputs:
                found[contracts.IMAGE] = tf.clip_by_value(outputs[contracts.IMAGE], 0.0, 1.0)
            if kind == product.SEGMENT:
                found[contracts.LOGITS] = outputs[contracts.LOGITS]
            return found

        spec = tf.TensorSpec([batch, None, None, 3], tf.float32, name=name)
        self.function = tf.function(run, input_signature=[spec])


@contextlib.contextmanager
def saved(what: product.Product, **options: Any) -> Iterator[pathlib.Path]:
    """Gives a temporary SavedModel of the plain graph; its one signature is `serving_default`."""
    graph = PlainGraph(what, **options)
    with tempfile.TemporaryDirectory() as folder:
        functions = {signatures.FLOATS: graph.function.get_concrete_function()}
        tf.saved_model.save(graph, folder, signatures=functions)
        yield pathlib.Path(folder)
