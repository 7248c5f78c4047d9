"""An exported detector: a SavedModel of TFOD's exporter, called on one picture. Needs TensorFlow, not TFOD.

detector = Detector("exported")          # or "exported/saved_model"
found = detector(pixels)                  # boxes, classes, scores, masks in their boxes
masks = ImageMasks(found, height, width)  # the same, each pasted into the picture when it is asked for
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfllv.inputs import image_files

SAVED_MODEL = "saved_model"
INPUT_TYPES = ("image_tensor", "float_image_tensor", "encoded_image_string_tensor", "tf_example")
OUTPUTS = ("detection_boxes", "detection_classes", "detection_scores", "num_detections")
MASKS = "detection_masks"
MASK_THRESHOLD = 0.5
# TFOD's resizers round the short side of a very long picture to nothing; at this ratio 128 pixels still become two.
_LONGEST = 64
_PARSERS = {"ParseSingleExample", "ParseExample", "ParseExampleV2"}


@dataclasses.dataclass(frozen=True)
class Found:
    """What a detector found in one picture, best first.

    Attributes:
      boxes: [N, 4] float32, ymin, xmin, ymax, xmax, normalised to the picture.
      classes: [N] int64, ids of the label map, from 1.
      scores: [N] float32 in [0, 1].
      masks: [N, h, w] float32 in [0, 1], each stretched to its box, or None where the model gives none.
    """

    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    masks: np.ndarray | None = None

    @classmethod
    def of(cls, outputs: Mapping[str, Any]) -> Found:
        """Takes the outputs of a detection model for a batch of one, without the padding after the last detection.

        Raises:
          ValueError: if an output is missing.
        """
        missing = [key for key in OUTPUTS if key not in outputs]
        if missing:
            raise ValueError(f"a detector gives {', '.join(OUTPUTS)}. Received: {', '.join(sorted(outputs))}.")
        count = int(np.asarray(outputs["num_detections"])[0])
        boxes, classes, scores = (np.asarray(outputs[key])[0][:count] for key in OUTPUTS[:3])
        masks = np.asarray(outputs[MASKS], np.float32)[0][:count] if MASKS in outputs else None
        return cls(boxes.astype(np.float32), np.rint(classes).astype(np.int64), scores.astype(np.float32), masks)


class ImageMasks(Sequence[np.ndarray]):
    """The masks of what was found, each made when it is asked for: a hundred at once would fill the memory.

    The same pixels as TFOD's `reframe_box_masks_to_image_masks`, cut at 0.5: bilinear, the centres of a mask's first
    and last pixel on its box's edges.
    """

    def __init__(self, found: Found, height: int, width: int):
        assert found.masks is not None
        self._boxes, self._masks, self._size = found.boxes, found.masks, (height, width)

    def __len__(self) -> int:
        return len(self._masks)

    def __getitem__(self, index: Any) -> Any:
        """Returns mask `index`, [H, W] bool; of a slice, a list."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        mask, (ymin, xmin, ymax, xmax) = self._masks[index], self._boxes[index]
        rows, row_weights = _positions(ymin, ymax, self._size[0], mask.shape[0])
        columns, column_weights = _positions(xmin, xmax, self._size[1], mask.shape[1])
        result = np.zeros(self._size, bool)
        if rows.stop > rows.start and columns.stop > columns.start:
            result[rows, columns] = row_weights @ mask @ column_weights.T > MASK_THRESHOLD
        return result


def _positions(low: float, high: float, pixels: int, samples: int) -> tuple[slice, np.ndarray]:
    """Which pixels along one axis lie in a box, and the weights with which each mixes the mask's samples."""
    extent = max(np.float32(high) - np.float32(low), np.float32(1e-4))
    # As TFOD: the first pixel is at 0 and the last at 1.
    places = (np.linspace(0, 1, pixels, dtype=np.float32) if pixels > 1 else np.array([0.5], np.float32)) - low
    places = places / extent * (samples - 1)
    inside = np.flatnonzero((places >= 0) & (places <= samples - 1))
    if not len(inside):
        return slice(0, 0), np.zeros((0, samples), np.float32)
    places = places[inside]
    below = np.minimum(places.astype(int), max(samples - 2, 0))
    weights = np.zeros((len(inside), samples), np.float32)
    lines = np.arange(len(inside))
    weights[lines, below] = 1 - (places - below)
    weights[lines, np.minimum(below + 1, samples - 1)] += places - below
    return slice(int(inside[0]), int(inside[-1]) + 1), weights


class Detector:
    """A loaded detector.

    Attributes:
      folder: the SavedModel's folder.
      input_type: one of `INPUT_TYPES`, told from the graph.
      side_inputs: names of the further inputs, in order; most models have none.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        """Loads a detector.

        Args:
          folder: the exporter's output folder, or the `saved_model` in it.

        Raises:
          FileNotFoundError: if there is no SavedModel.
          ValueError: if it is no detector.
        """
        self.folder = find_saved_model(folder)
        import tensorflow as tf

        try:
            self._model = tf.saved_model.load(str(self.folder))  # holds the variables; the signature does not
        except (tf.errors.OpError, OSError, ValueError, RuntimeError) as error:
            raise ValueError(f"{self.folder}: not a SavedModel that loads: {' '.join(str(error).split())}") from None
        self._call = self._model.signatures.get("serving_default")
        if self._call is None or not set(OUTPUTS) <= set(self._call.structured_outputs):
            found = sorted(self._call.structured_outputs) if self._call else []
            raise ValueError(f"{self.folder}: a detector gives {', '.join(OUTPUTS)}. Found: {', '.join(found)}.")
        specs = self._call.structured_input_signature[1]
        self._input = "input_tensor" if "input_tensor" in specs else next(iter(specs))
        self.side_inputs = [name for name in specs if name != self._input]
        self.input_type = self._tell_input_type(specs[self._input].dtype.name)

    def _tell_input_type(self, dtype: str) -> str:
        if dtype != "string":
            return "image_tensor" if dtype == "uint8" else "float_image_tensor"
        graph = self._call.graph.as_graph_def()
        operations = {node.op for node in graph.node}
        operations.update(node.op for function in graph.library.function for node in function.node_def)
        return "tf_example" if operations & _PARSERS else "encoded_image_string_tensor"

    def __call__(self, pixels: np.ndarray, **side_inputs: Any) -> Found:
        """Finds objects in one picture of any size.

        Args:
          pixels: [H, W, 3] uint8, RGB.
          **side_inputs: by name, where the model has any.

        Returns:
          What was found. Boxes may leave a picture longer than 1:64, which is widened for the model.

        Raises:
          ValueError: if the picture is not as above, or a side input is missing.
        """
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or 0 in pixels.shape:
            raise ValueError(f"`pixels` must be [H, W, 3] uint8. Received: shape={pixels.shape}, dtype={pixels.dtype}.")
        if set(side_inputs) != set(self.side_inputs):
            raise ValueError(f"side inputs must be {self.side_inputs}. Received: {sorted(side_inputs)}.")
        import tensorflow as tf

        padded = widen(pixels)
        inputs = {name: tf.constant(value) for name, value in side_inputs.items()}
        inputs[self._input] = tf.constant(encode(padded, self.input_type))
        found = Found.of(self._call(**inputs))
        if padded is pixels:
            return found
        scale = np.array([a / b for a, b in zip(padded.shape[:2], pixels.shape[:2], strict=True)] * 2, np.float32)
        return Found(found.boxes * scale, found.classes, found.scores, found.masks)


def find_saved_model(folder: str | os.PathLike[str]) -> pathlib.Path:
    """Returns the folder of the SavedModel in an exporter's output folder, or of `folder` if it is one.

    Raises:
      FileNotFoundError: if there is none.
    """
    folder = pathlib.Path(folder)
    for path in (folder / SAVED_MODEL, folder):
        if (path / "saved_model.pb").is_file():
            return path
    raise FileNotFoundError(
        f"{folder}: no {SAVED_MODEL}/saved_model.pb is in it; give the output folder of tools/exporter_main_v2.py."
    )


def widen(pixels: np.ndarray) -> np.ndarray:
    """Returns the picture, with black beside its short side where it is longer than TFOD's resizers can take."""
    height, width = pixels.shape[:2]
    least = -(-max(height, width) // _LONGEST)
    if min(height, width) >= least:
        return pixels
    padded = np.zeros((max(height, least), max(width, least), 3), np.uint8)
    padded[:height, :width] = pixels
    return padded


def encode(pixels: np.ndarray, input_type: str) -> Any:
    """Returns one picture as a detector of an input type takes it, a batch of one.

    Args:
      pixels: [H, W, 3] uint8, RGB.
      input_type: of `INPUT_TYPES`.
    """
    if input_type == "image_tensor":
        return pixels[None]
    if input_type == "float_image_tensor":
        return pixels[None].astype(np.float32)
    data = image_files.encode_image(".png", pixels)
    if input_type == "tf_example":
        import tensorflow as tf

        feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[data]))
        data = tf.train.Example(features=tf.train.Features(feature={"image/encoded": feature})).SerializeToString()
    return np.array([data], object)
