"""Classification: cross-entropy of one class a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from tfllv import contracts


class Classification:
    """(network, batch) -> ({"cross_entropy": loss}, outputs).

    The network gives `logits` [B, C] for `low`; the batch holds `label` [B] int32.
    """

    def __call__(
        self, model: keras.Model, batch: Mapping[str, Any], *, training: bool = True
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Runs the network; returns the loss and its outputs."""
        outputs = model(batch[contracts.LOW], training=training)
        losses = keras.losses.sparse_categorical_crossentropy(
            batch[contracts.LABEL], outputs[contracts.LOGITS], from_logits=True
        )
        return {"cross_entropy": ops.mean(losses)}, outputs

    def pictures(self, batch: Mapping[str, Any], outputs: Mapping[str, Any]) -> dict[str, Any]:
        """Shows nothing: a class is no picture."""
        return {}
