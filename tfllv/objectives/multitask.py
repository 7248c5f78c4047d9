"""The objective of two tasks: the picture against its bright truth and every pixel's class, weighed or learned.

Learned weights are those of Kendall, Gal and Cipolla, CVPR 2018, https://arxiv.org/abs/1705.07115: each task has a
variable s = log sigma^2, and the loss is Eq. 7 with s in place of sigma, ½ e^-s L + ½ s for the picture and
e^-s L + ½ s for the classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfllv import contracts
from tfllv.losses import segmentation as losses
from tfllv.objectives import supervised
from tfllv.objectives.supervised import _entry
from tfllv.ops import palette

WEIGHTINGS = ("fixed", "uncertainty")


class Multitask:
    """Weighted losses of enhancement and segmentation, as a callable `(model, batch) -> (terms, outputs)`.

    A network with one of the two outputs alone is trained on that task alone.

    Args:
      enhancement: weight of each term of the picture by name, as `supervised.Supervised` takes them.
      segmentation: weight of the cross-entropy of the classes.
      class_weights: weight of each class's pixels; None: 1 each. See `segmentation.balance` of the losses.
      weighting: `fixed`, or `uncertainty`: learned weights on top of those.
      features: of the perceptual term, as `supervised.Supervised`.
      seed: of random features.

    Attributes:
      log_variances: task -> s above, where weights are learned.

    Raises:
      ValueError: if a weight or `weighting` is not one of those above.
    """

    def __init__(
        self,
        *,
        enhancement: Mapping[str, float] | None = None,
        segmentation: float = 1.0,
        class_weights: Sequence[float] | np.ndarray | None = None,
        weighting: str = "fixed",
        features: Any = "imagenet",
        seed: int = 0,
    ):
        if not 0 < segmentation < float("inf"):
            raise ValueError(f"`segmentation` must be finite and > 0. Received: segmentation={segmentation}.")
        if weighting not in WEIGHTINGS:
            hint = contracts.nearest_name(weighting, WEIGHTINGS)
            raise ValueError(f"`weighting` must be one of {', '.join(WEIGHTINGS)}. Received: '{weighting}'; {hint}")
        self._picture = supervised.Supervised(weights=enhancement, features=features, seed=seed)
        self._segmentation = segmentation
        self.class_weights = None if class_weights is None else np.asarray(class_weights, np.float32)
        self.log_variances: dict[str, Any] = {}
        if weighting == "uncertainty":
            for task in (contracts.IMAGE, contracts.LOGITS):
                self.log_variances[task] = keras.Variable(0.0, name=f"log_variance_{task}")

    @property
    def variables(self) -> list[Any]:
        """What a checkpoint must hold beside the network."""
        return list(self.log_variances.values())

    @property
    def trainable_variables(self) -> list[Any]:
        """What is trained beside the network."""
        return self.variables

    def __call__(
        self, model: Any, batch: Mapping[str, Any], *, training: bool = True
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Runs a network on a batch and returns its loss.

        Args:
          model: picture -> dict with `image` [B, H, W, 3], `logits` [B, H, W, C], or one of them.
          batch: `low` and `high`, float32 [B, H, W, 3] in [0, 1], and `mask`, int [B, H, W].
          training: handed to the network.

        Returns:
          The weighted terms by name, scalars whose sum is the loss: those of the picture, `segmentation`, and
          `uncertainty`, the ½ s of both tasks, which may be negative. And the network's outputs.

        Raises:
          ValueError: if something is missing in the batch, or weights are learned for a network of one task.
        """
        low = ops.convert_to_tensor(_entry(batch, contracts.LOW, "batch"), keras.config.floatx())
        outputs = model(low, training=training)
        terms: dict[str, Any] = {}
        if contracts.IMAGE in outputs:
            truth = ops.convert_to_tensor(_entry(batch, contracts.HIGH, "batch"), keras.config.floatx())
            found = self._picture.terms(ops.cast(outputs[contracts.IMAGE], keras.config.floatx()), truth)
            terms |= {name: self._scale(contracts.IMAGE, 0.5) * term for name, term in found.items()}
        if contracts.LOGITS in outputs:
            mask = _entry(batch, contracts.MASK, "batch")
            logits = ops.cast(outputs[contracts.LOGITS], keras.config.floatx())
            term = losses.cross_entropy(logits, mask, class_weights=self.class_weights)
            terms["segmentation"] = self._scale(contracts.LOGITS, 1.0) * self._segmentation * term
        if self.log_variances:
            if not {contracts.IMAGE, contracts.LOGITS} <= set(outputs):
                raise ValueError("`weighting='uncertainty'` needs a network of both tasks. Received: one of a single.")
            terms["uncertainty"] = 0.5 * sum(ops.convert_to_tensor(s) for s in self.log_variances.values())
        return terms, outputs

    def _scale(self, task: str, factor: float) -> Any:
        if not self.log_variances:
            return 1.0
        return factor * ops.exp(-ops.convert_to_tensor(self.log_variances[task]))

    def measures(self, batch: Mapping[str, Any], outputs: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what validation reports beside the loss of each picture, higher is better.

        Returns:
          `psnr` of the result and `dark_psnr` of what went in, in dB; empty where the network has no picture.
        """
        if contracts.IMAGE not in outputs:
            return {}
        dark = self._picture.measures(batch, {contracts.IMAGE: batch[contracts.LOW]})
        return {**self._picture.measures(batch, outputs), "dark_psnr": dark["psnr"]}

    def pictures(self, batch: Mapping[str, Any], outputs: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what to show of a batch, [B, H, W', 3]: input, result and truth, and true and predicted classes."""
        shown = {}
        if contracts.IMAGE in outputs:
            row = [batch[contracts.LOW], outputs[contracts.IMAGE], batch[contracts.HIGH]]
            shown["enhancement"] = np.concatenate([ops.convert_to_numpy(picture) for picture in row], axis=2)
        classes = self.classes(batch, outputs)
        if classes is not None:
            maps = [palette.colorize(ops.convert_to_numpy(mask)) for mask in classes[:2]]
            shown["classes"] = np.concatenate([ops.convert_to_numpy(batch[contracts.LOW]), *maps], axis=2)
        return shown

    def classes(self, batch: Mapping[str, Any], outputs: Mapping[str, Any]) -> tuple[Any, Any, int] | None:
        """Returns true and predicted classes, [B, H, W] int32 each, and their number; None without `logits`."""
        if contracts.LOGITS not in outputs:
            return None
        logits = outputs[contracts.LOGITS]
        return batch[contracts.MASK], ops.argmax(logits, axis=-1), logits.shape[-1]
