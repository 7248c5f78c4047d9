"""A detector as it is in training: the configured model with a checkpoint's weights, in inference mode. Needs TFOD."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfllv.detection import compat, mask_features
from tfllv.detection.detector import Found

_STEP = "step/.ATTRIBUTES/VARIABLE_VALUE"
# Every feature extractor takes a picture of this side; it is there to make the variables, not to be looked at.
_PROBE = 256


class LiveDetector:
    """The model of a configuration; called on one picture, as `detector.Detector` is."""

    def __init__(self, config: Any, *, side_inputs: Mapping[str, np.ndarray] | None = None):
        """Builds the model.

        Args:
          config: a `TrainEvalPipelineConfig`.
          side_inputs: what models such as Context R-CNN take beside the picture; the same for every picture.

        Raises:
          ValueError: if the configuration asks for what is not done here.
          ImportError: if the TF Object Detection API is not installed.
        """
        if config.eval_config.use_moving_averages:
            raise ValueError(
                "`eval_config.use_moving_averages` must be false: averaged weights are not evaluated. Received: true."
            )
        compat.install()
        import tensorflow as tf
        from object_detection.builders import model_builder

        mask_features.register()
        model = model_builder.build(config.model, is_training=False)
        beside = {name: tf.constant(value) for name, value in (side_inputs or {}).items()}

        @tf.function(input_signature=[tf.TensorSpec([1, None, None, 3], tf.uint8)])
        def detect(pixels: Any) -> dict[str, Any]:
            images, shapes = model.preprocess(tf.cast(pixels, tf.float32))
            outputs = model.postprocess(model.predict(images, shapes, **beside), shapes)
            return {**outputs, "detection_classes": outputs["detection_classes"] + 1}  # TFOD counts from 0 inside

        self._model, self._detect = model, detect
        self(np.zeros((_PROBE, _PROBE, 3), np.uint8))

    def restore(self, checkpoint: str | pathlib.Path) -> int:
        """Takes the weights of a checkpoint; may be called again with a newer one.

        Args:
          checkpoint: its path without ending, as `train/ckpt-7`.

        Returns:
          The step it was written at; 0 where it does not say.

        Raises:
          ValueError: if it cannot be read, or does not hold the model's variables.
        """
        import tensorflow as tf

        try:
            reader = tf.train.load_checkpoint(str(checkpoint))
            step = int(reader.get_tensor(_STEP)) if reader.has_tensor(_STEP) else 0
            status = tf.train.Checkpoint(model=self._model).read(str(checkpoint)).expect_partial()
            status.assert_existing_objects_matched()
        except (AssertionError, ValueError, tf.errors.OpError) as error:
            raise ValueError(
                f"{checkpoint}: the checkpoint does not fit the configured model; give the configuration that it was "
                f"trained with ({' '.join(str(error).split())[:300]})."
            ) from None
        return step

    def __call__(self, pixels: np.ndarray) -> Found:
        """Finds objects in one picture, [H, W, 3] uint8 RGB."""
        import tensorflow as tf

        return Found.of(self._detect(tf.constant(pixels[None])))
