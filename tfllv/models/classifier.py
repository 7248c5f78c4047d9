"""An encoder with a linear classifier behind the mean of its last feature map."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from tfllv import contracts


@keras.saving.register_keras_serializable(package="tfllv")
class Classifier(keras.Model):
    """float32 [B, H, W, 3] in [0, 1] -> a dict with `logits` [B, classes], before the softmax.

    Args:
      backbone: an encoder such as `resnet.ResNet50`; its `c5` is pooled.
      classes: their number.
      name: name of the model.
    """

    def __init__(self, backbone: keras.Model, classes: int, *, name: str = "classifier") -> None:
        image = keras.Input((None, None, 3), name=contracts.IMAGE)
        pooled = layers.GlobalAveragePooling2D(name="pool")(backbone(image)["c5"])
        # All classes alike at the start, whatever the features' scale.
        logits = layers.Dense(classes, kernel_initializer="zeros", dtype="float32", name="head")(pooled)
        super().__init__(inputs=image, outputs={contracts.LOGITS: logits}, name=name)
        self.backbone, self.classes = backbone, classes

    def get_config(self) -> dict[str, Any]:
        """Returns the options, for saving."""
        return {
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "classes": self.classes,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Classifier:
        """Builds the network from `get_config`'s options."""
        return cls(keras.saving.deserialize_keras_object(config["backbone"]), config["classes"], name=config["name"])
