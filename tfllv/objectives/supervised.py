"""The supervised objective: a network's picture against the truth, by any weighted sum of losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras import ops

from tfllv import contracts
from tfllv.losses import supervised as losses
from tfllv.models import vgg

# MIRNet (Zamir et al., ECCV 2020, Eq. 8) trains on the Charbonnier loss alone.
WEIGHTS = {"charbonnier": 1.0, "l1": 0.0, "mse": 0.0, "log_mse": 0.0, "ssim": 0.0, "perceptual": 0.0}


class Supervised:
    """Weighted losses between `image` and `high`, as a callable `(model, batch) -> (terms, outputs)`.

    Args:
      weights: weight of each term by name; what is left out keeps its default. A term of weight 0 is not computed.
      features: the network of the perceptual term: what `vgg.VGG16` takes as weights (`imagenet` is downloaded once),
        or any model from a picture to a list of feature maps. Not made where that term is off.
      seed: of random features.

    Raises:
      ValueError: if a weight is unknown, negative, not finite, or none is above 0; or a file does not fit.
      OSError: if a weights file cannot be read or downloaded.
    """

    def __init__(self, *, weights: Mapping[str, float] | None = None, features: Any = "imagenet", seed: int = 0):
        self.weights = _merge_weights(weights or {})
        self.features: Any = None
        if self.weights["perceptual"]:
            self.features = features if callable(features) else vgg.VGG16(weights=features, seed=seed)

    def __call__(
        self, model: Any, batch: Mapping[str, Any], *, training: bool = True
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Runs a network on a batch and returns its loss.

        Args:
          model: picture -> dict with `image` [B, H, W, 3].
          batch: `low` and `high`, float32 [B, H, W, 3] in [0, 1]; other keys are not read.
          training: handed to the network.

        Returns:
          The weighted loss terms by name, float32 scalars whose sum is the loss, and the network's outputs.

        Raises:
          ValueError: if `low` or `high` is not in the batch, or `image` not in the outputs.
        """
        low = ops.convert_to_tensor(_entry(batch, contracts.LOW, "batch"), "float32")
        truth = ops.convert_to_tensor(_entry(batch, contracts.HIGH, "batch"), "float32")
        outputs = model(low, training=training)
        return self.terms(ops.cast(_entry(outputs, contracts.IMAGE, "outputs"), "float32"), truth), outputs

    def terms(self, image: Any, truth: Any) -> dict[str, Any]:
        """Returns the weighted terms of a picture, [B, H, W, 3], against its truth."""
        computations = {
            "charbonnier": lambda: losses.charbonnier(image, truth),
            "l1": lambda: losses.l1(image, truth),
            "mse": lambda: losses.mse(image, truth),
            "log_mse": lambda: losses.log_mse(image, truth),
            "ssim": lambda: losses.ssim(image, truth),
            "perceptual": lambda: losses.perceptual(self.features(image), self.features(truth)),
        }
        return {name: self.weights[name] * term() for name, term in computations.items() if self.weights[name]}

    def measures(self, batch: Mapping[str, Any], outputs: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what validation reports beside the loss, higher is better.

        Returns:
          `psnr`: the mean PSNR in dB over the batch's pictures, RGB, clipped and rounded to 256 levels.
        """
        image = ops.floor(ops.clip(ops.cast(outputs[contracts.IMAGE], "float32"), 0, 1) * 255 + 0.5) / 255
        return {"psnr": -losses.log_mse(image, batch[contracts.HIGH], epsilon=1e-10)}


def _merge_weights(weights: Mapping[str, float]) -> dict[str, float]:
    for name, value in weights.items():
        if name not in WEIGHTS:
            hint = contracts.nearest_name(name, WEIGHTS)
            raise ValueError(f"`weights` must name loss terms. Received: '{name}'; {hint}")
        if not 0 <= value < float("inf"):
            raise ValueError(f"`weights` must be finite and >= 0. Received: {name}={value}.")
    merged = {name: float(weights.get(name, default)) for name, default in WEIGHTS.items()}
    if not any(merged.values()):
        raise ValueError("`weights` must leave at least one term above 0. Received: all 0.")
    return merged


def _entry(mapping: Mapping[str, Any], key: str, name: str) -> Any:
    if key not in mapping:
        raise ValueError(f"`{name}` must have the key '{key}'. Received: {', '.join(sorted(mapping))}.")
    return mapping[key]
