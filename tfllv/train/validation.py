"""Validation: the loss terms and measures of a learner over whole images, one at a time, and pictures to look at."""

from __future__ import annotations

import pathlib

import numpy as np
import tensorflow as tf

from tfllv import contracts
from tfllv.inputs import image_files, pipeline
from tfllv.metrics import segmentation
from tfllv.train import trackers
from tfllv.train.learner import Learner
from tfllv.train.step import EvaluateStep

_MOST_PICTURES = 8  # in the tracker, a validation


class Validator:
    """Runs a learner over the same validation images each time.

    Args:
      learner: network and objective.
      source: the images; `count` of them, evenly spread, are used.
      count: number of images.
      tracker: gets the means as `validation/NAME` and the pictures of the first images.

    Attributes:
      source: the images.
    """

    def __init__(self, learner: Learner, source: pipeline.ImageSource, *, count: int, tracker: trackers.Tracker):
        self.source = source
        self._learner, self._count, self._tracker = learner, count, tracker
        self._step = EvaluateStep(learner)

    def run(self, step: int) -> dict[str, float]:
        """Returns the mean loss terms, their sum as `total`, and the means of what the objective measures beside them.

        Where it has classes, `miou` and `pixel_accuracy` of all pixels of all images together are among them. Records
        them, and the pictures of `Learner.pictures`, under `step`.
        """
        rows: list[np.ndarray] = []
        measured: list[dict[str, float]] = []
        confusions: list[np.ndarray] = []
        pictures: dict[str, list[np.ndarray]] = {}
        spread = np.linspace(0, len(self.source) - 1, min(self._count, len(self.source)))
        for count, index in enumerate(spread.round().astype(int).tolist()):
            example = {key: self.source.read_centre(key, index) for key in self.source.keys}
            batch = {key: tf.constant(_network_input(value)[None]) for key, value in example.items()}
            terms, outputs = self._step(batch)
            rows.append(terms.numpy())
            measured.append(self._learner.measures(batch, outputs))
            classes = self._learner.classes(batch, outputs)
            if classes is not None:
                true, predicted, number = classes
                confusions.append(segmentation.confusion_matrix(np.asarray(true), np.asarray(predicted), number))
            if count < _MOST_PICTURES:
                for name, picture in self._learner.pictures(batch, outputs).items():
                    pictures.setdefault(name, []).append(np.asarray(picture)[0])
        means: np.ndarray = np.stack(rows).mean(0, dtype=np.float64)
        values = {"total": float(means.sum()), **dict(zip(self._step.names, means.tolist(), strict=True))}
        values |= {name: float(np.mean([row[name] for row in measured])) for name in measured[0]}
        if confusions:
            confusion = np.sum(confusions, axis=0)
            values |= {"miou": segmentation.mean_iou(confusion)}
            values |= {"pixel_accuracy": segmentation.pixel_accuracy(confusion)}
        self._tracker.scalars(step, {f"validation/{name}": value for name, value in values.items()})
        for name, rows_of in pictures.items():
            same = [picture for picture in rows_of if picture.shape == rows_of[0].shape]
            self._tracker.pictures(step, f"validation/{name}", np.stack(same))
        return values

    def draw(self, step: int, path: pathlib.Path) -> None:
        """Writes a grid of the first images' pictures, a row an image, as a PNG file and to the tracker.

        Raises:
          OSError: if the file cannot be written.
        """
        rows: list[np.ndarray] = []
        for index in range(min(_MOST_PICTURES, self._count, len(self.source))):
            example = {key: self.source.read_centre(key, index) for key in self.source.keys}
            batch = {key: tf.constant(_network_input(value)[None]) for key, value in example.items()}
            pictures = self._learner.pictures(batch, self._step(batch)[1])
            rows.append(np.concatenate([np.asarray(picture)[0] for picture in pictures.values()], axis=1))
        grid = np.concatenate([row for row in rows if row.shape[1] == rows[0].shape[1]])
        self._tracker.pictures(step, "samples", grid[None])
        path.parent.mkdir(parents=True, exist_ok=True)
        image_files.write_image(path, contracts.to_uint8(np.clip(grid, 0, 1)))


def _network_input(value: np.ndarray) -> np.ndarray:
    """Pictures as float32 in [0, 1]; maps of classes as they are."""
    return value if value.dtype.kind == "i" else contracts.to_float(value)
