"""A learner is a network and an objective: what is trained and what for, without data, device or file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras

from tfllv import contracts

Terms = dict[str, Any]
Objective = Callable[..., tuple[Terms, dict[str, Any]]]


class Learner(keras.Model):
    """Joins a network and an objective; `tfllv.train.loop` trains it, and so does Keras's `fit` on any backend.

    Attributes:
      net: image -> dict of tensors; its weights are what is saved and shipped.
      objective: `objective(net, batch, training=True) -> (terms, outputs)`, terms a dict of weighted scalar losses.
    """

    def __init__(self, net: keras.Model, objective: Objective, *, name: str = "learner"):
        super().__init__(name=name)
        self.net = net
        self.objective = objective

    def terms(self, batch: Mapping[str, Any], *, training: bool = True) -> tuple[Terms, dict[str, Any]]:
        """Returns the weighted loss terms by name, scalars of Keras's float type, and the network's outputs.

        Raises:
          ValueError: if the objective gives no term.
        """
        terms, outputs = self.objective(self.net, batch, training=training)
        if not terms:
            raise ValueError("`objective` must give at least one loss term. Received: none.")
        return {name: keras.ops.cast(term, keras.config.floatx()) for name, term in terms.items()}, outputs

    @property
    def trained(self) -> list[Any]:
        """What the optimizer changes: the network's variables, and the objective's own where it has any."""
        return [*self.net.trainable_variables, *getattr(self.objective, "trainable_variables", [])]

    def measures(self, batch: Mapping[str, Any], outputs: Mapping[str, Any]) -> dict[str, float]:
        """Returns what the objective measures beside its terms, such as `psnr`; nothing where it measures nothing."""
        measure: Any = getattr(self.objective, "measures", None)
        return {name: float(value) for name, value in measure(batch, outputs).items()} if measure else {}

    def classes(self, batch: Mapping[str, Any], outputs: Mapping[str, Any]) -> tuple[Any, Any, int] | None:
        """Returns true and predicted classes, [B, H, W] each, and their number, where the objective has them."""
        classes: Any = getattr(self.objective, "classes", None)
        return classes(batch, outputs) if classes else None

    def pictures(self, batch: Mapping[str, Any], outputs: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what to show of a batch: name -> [B, H, W', 3] in [0, 1].

        The objective's own `pictures(batch, outputs)`, where it has one; else input and result side by side.
        """
        draw: Any = getattr(self.objective, "pictures", None)
        if draw:
            return draw(batch, outputs)
        return {"before_after": keras.ops.concatenate([batch[contracts.LOW], outputs[contracts.IMAGE]], 2)}

    def call(self, batch: Mapping[str, Any], training: bool = False) -> dict[str, Any]:
        """Runs network and objective; the sum of the terms is added as the model's loss, for `fit`."""
        terms, outputs = self.terms(batch, training=training)
        self.add_loss(sum(terms.values()))
        return outputs
