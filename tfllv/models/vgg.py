"""VGG-16's features, for perceptual losses and metrics (Simonyan and Zisserman, ICLR 2015, arXiv:1409.1556).

Up to the fourth of its five blocks: 7,635,264 frozen parameters. The weights are not shipped: `imagenet` downloads
them once through Keras, or a torchvision file is read.
"""

from __future__ import annotations

import os
from typing import Any

import keras
import numpy as np
from keras import ops

from tfllv.models import torch_file

LAYERS = ("block1_conv2", "block2_conv2", "block3_conv3", "block4_conv3")
_BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3))
# Keras's weights were trained on BGR in [0, 255] less means, torchvision's on RGB in [0, 1] by means and deviations.
_KERAS_MEANS = (103.939, 116.779, 123.68)
_TORCH_MEANS, _TORCH_DEVIATIONS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Where torchvision keeps the ten convolutions: places in its `features`, with activations and pools between.
_TORCH_PLACES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21)


class VGG16(keras.Model):
    """float32 [B, H, W, 3] in [0, 1], sides >= 8 -> list of four feature maps, after the activation; never trained.

    Args:
      weights: `imagenet` (downloaded once), `random`, a torchvision file (`.pth`, `.pt`), or a `.weights.h5` file of
        this class with Keras's weights.
      seed: of random weights.
      name: the model's name.

    Raises:
      ValueError: if `weights` is something else, or the file does not fit.
      OSError: if the file cannot be read or downloaded.
    """

    def __init__(self, *, weights: str = "imagenet", seed: int = 0, name: str = "vgg16"):
        super().__init__(name=name, trainable=False)
        source = os.fspath(weights)
        if source not in ("imagenet", "random") and not source.endswith((".pth", ".pt", ".weights.h5")):
            raise ValueError(
                "`weights` must be 'imagenet', 'random', a .pth, .pt or .weights.h5 file. "
                f"Received: weights='{source}'."
            )
        self.convolutions: list[Any] = []
        channels = 3
        for block, (filters, count) in enumerate(_BLOCKS, start=1):
            for index in range(1, count + 1):
                initializer = keras.initializers.HeNormal(seed=seed + len(self.convolutions))
                layer = keras.layers.Conv2D(
                    filters,
                    3,
                    padding="same",
                    activation="relu",
                    kernel_initializer=initializer,
                    name=f"block{block}_conv{index}",
                )
                layer.build((None, None, None, channels))
                self.convolutions.append(layer)
                channels = filters
        self.built = True
        self.torch = source.endswith((".pth", ".pt"))
        if source == "imagenet":
            self._assign_keras()
        elif self.torch:
            self._assign_torch(source)
        elif source != "random":
            self.load_weights(source)

    def call(self, images: Any, training: bool | None = None) -> list[Any]:
        """[B, H, W, 3] in [0, 1] -> features of `LAYERS` at 1, 1/2, 1/4 and 1/8 of each side."""
        x = ops.cast(images, "float32")
        if self.torch:
            x = (x - np.array(_TORCH_MEANS, np.float32)) / np.array(_TORCH_DEVIATIONS, np.float32)
        else:
            x = x[..., ::-1] * 255 - np.array(_KERAS_MEANS, np.float32)
        features = []
        for layer in self.convolutions:
            if layer.name.endswith("conv1") and layer is not self.convolutions[0]:
                x = ops.max_pool(x, 2, strides=2, data_format="channels_last")
            x = layer(x)
            if layer.name in LAYERS:
                features.append(x)
        return features

    def _assign_keras(self) -> None:
        published = keras.applications.VGG16(include_top=False, weights="imagenet")
        for layer in self.convolutions:
            layer.set_weights(published.get_layer(layer.name).get_weights())

    def _assign_torch(self, path: str) -> None:
        state = torch_file.read_state_dict(path)
        wanted: dict[str, tuple[Any, tuple[int, ...]]] = {}
        for layer, place in zip(self.convolutions, _TORCH_PLACES, strict=True):
            wanted[f"features.{place}.weight"] = (layer.kernel, (2, 3, 1, 0))
            wanted[f"features.{place}.bias"] = (layer.bias, (0,))
        for name, (variable, axes) in wanted.items():
            if name not in state or state[name].transpose(axes).shape != tuple(variable.shape):
                received = list(state[name].shape) if name in state else "none"
                raise ValueError(f"`{path}` must be a torchvision VGG-16. Received: {name} of shape {received}.")
        for name, (variable, axes) in wanted.items():
            variable.assign(np.ascontiguousarray(state[name].transpose(axes), np.float32))
