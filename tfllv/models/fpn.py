"""The feature pyramid segmentation network that guides SGZ; frozen, used only through its gradient.

Feature pyramid: Lin et al., CVPR 2017, https://arxiv.org/abs/1612.03144; the head with two convolutions a level is that
of SGZ (Zheng and Gupta, WACVW 2022, https://arxiv.org/abs/2110.00970). 28,129,365 parameters with 21 classes, 4,621,333
of them in the head.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from tfllv import contracts
from tfllv.models import resnet

NUM_CLASSES = 21
_LEVELS = ("c2", "c3", "c4", "c5")
_PYRAMID_WIDTH = 256
_SMOOTH_WIDTH = 128
# Every convolution has its own seed, counted from the network's; the backbone uses the first 53.
_HEAD_SEED = 100


@keras.saving.register_keras_serializable(package="tfllv")
class ResizeLike(layers.Layer):
    """Resizes a map bilinearly to the height and width of another: half-pixel centres, no antialiasing."""

    def call(self, inputs: Any, like: Any) -> Any:
        """Returns `inputs` [B, h, w, C] as [B, H, W, C], H and W those of `like`."""
        _, height, width, _ = ops.shape(like)
        resized = ops.image.resize(inputs, (height, width), interpolation="bilinear", data_format="channels_last")
        return ops.cast(resized, self.compute_dtype)

    def compute_output_spec(self, inputs: Any, like: Any) -> Any:
        """Returns the shape and type of the result."""
        return keras.KerasTensor((*like.shape[:-1], inputs.shape[-1]), dtype=self.compute_dtype)


@keras.saving.register_keras_serializable(package="tfllv")
class FPN(keras.Model):
    """ResNet-50 feature pyramid with a linear head, frozen.

    Call it on RGB float32 [B, H, W, 3] in [0, 1]. It returns a dict: `logits` [B, H/4, W/4, num_classes], before the
    softmax, sides rounded up. No variable is trainable.

    Args:
      num_classes: classes of the head.
      reference: False normalises the picture as the backbone's weights expect it and uses the moving statistics of
        batch normalisation. True does as SGZ's published code: raw [0, 1] RGB, and batch statistics, so the logits of
        a picture depend on the others of its batch.
      variant: layout of the backbone; `v1` for `weights='imagenet'`, see `resnet.ResNet50`.
      weights: None or `imagenet`: the backbone's weights. The head is random either way, as in the published code;
        `load_weights` brings in a trained one.
      seed: seeds the random weights; the same seed gives the same network.
      name: name of the model.
      **options: further options of `keras.Model`.

    Raises:
      ValueError: if `num_classes` < 1, or as `resnet.ResNet50`.
    """

    def __init__(
        self,
        *,
        num_classes: int = NUM_CLASSES,
        reference: bool = False,
        variant: str = "v1.5",
        weights: str | None = None,
        seed: int = 0,
        name: str = "fpn",
        **options: Any,
    ) -> None:
        if num_classes < 1:
            raise ValueError(f"`num_classes` must be >= 1. Received: num_classes={num_classes}.")
        trained_on = "keras" if variant == "v1" else "torchvision"
        backbone = resnet.ResNet50(
            variant=variant,
            weights=weights,
            normalization=None if reference else trained_on,
            statistics="batch" if reference else "moving",
            seed=seed,
            name="backbone",
        )
        image = keras.Input((None, None, 3), name="image")
        logits = _head(backbone(image), num_classes, seed + _HEAD_SEED)
        super().__init__(inputs=image, outputs={contracts.LOGITS: logits}, name=name, **options)
        self.backbone = backbone
        self.trainable = False
        self._options = {"num_classes": num_classes, "reference": reference, "variant": variant, "seed": seed}

    def get_config(self) -> dict[str, Any]:
        """Returns the options, for saving; weights are saved beside them, so a reload downloads nothing."""
        return {**self._options, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> FPN:
        """Builds the network from `get_config`'s options."""
        return cls(**config)


def _head(features: dict[str, Any], num_classes: int, seed: int) -> Any:
    """Returns the logits at stride 4: top-down pyramid, two convolutions a level, all levels joined at the finest."""
    pyramid: dict[str, Any] = {}
    above = None
    for number, level in enumerate(reversed(_LEVELS)):
        x = _conv(features[level], _PYRAMID_WIDTH, 1, f"lateral_{level}", seed + number)
        if above is not None:
            x = layers.Add(name=f"add_{level}")([x, ResizeLike(name=f"up_{level}")(above, x)])
        pyramid[level] = above = x
    seed += len(_LEVELS)
    joined = []
    for number, level in enumerate(reversed(_LEVELS)):
        # No activation between the two, as published: together they are one linear 5x5 convolution.
        x = _conv(pyramid[level], _PYRAMID_WIDTH, 3, f"smooth_{level}_0", seed + 2 * number)
        x = _conv(x, _SMOOTH_WIDTH, 3, f"smooth_{level}_1", seed + 2 * number + 1)
        joined.append(x if level == _LEVELS[0] else ResizeLike(name=f"join_{level}")(x, pyramid[_LEVELS[0]]))
    x = layers.Concatenate(name="join")(joined)
    return _conv(x, num_classes, 3, "classify", seed + 2 * len(_LEVELS))


def _conv(x: Any, filters: int, kernel: int, name: str, seed: int) -> Any:
    return layers.Conv2D(
        filters,
        kernel,
        padding="same",
        kernel_initializer=keras.initializers.RandomNormal(0.0, 0.01, seed=seed),
        data_format="channels_last",
        name=name,
    )(x)
