"""Segmentation metrics from a confusion matrix, which pictures add up in: so a set's figures are not means of means."""

from __future__ import annotations

import numpy as np

from tfllv import contracts


def confusion_matrix(truth: np.ndarray, prediction: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts pixels by true and predicted class; pixels whose truth is `contracts.IGNORE_LABEL` do not count.

    Args:
      truth: class ids of any shape.
      prediction: class ids of the same shape.
      num_classes: ids are 0 to num_classes - 1.

    Returns:
      [num_classes, num_classes] int64, rows the truth.

    Raises:
      ValueError: if the shapes differ or an id is out of range.
    """
    truth, prediction = np.asarray(truth), np.asarray(prediction)
    if truth.shape != prediction.shape:
        raise ValueError(
            f"`prediction` must have the shape of `truth`, {truth.shape}. Received: shape={prediction.shape}."
        )
    counted = truth != contracts.IGNORE_LABEL
    pairs = {"truth": truth[counted].astype(np.int64), "prediction": prediction[counted].astype(np.int64)}
    for name, ids in pairs.items():
        wrong = (ids < 0) | (ids >= num_classes)
        if wrong.any():
            raise ValueError(f"`{name}` must have ids 0 to {num_classes - 1}. Received: {int(ids[wrong][0])}.")
    joint = num_classes * pairs["truth"] + pairs["prediction"]
    return np.bincount(joint, minlength=num_classes**2).reshape(num_classes, num_classes)


def class_iou(confusion: np.ndarray) -> np.ndarray:
    """Returns each class's intersection over union: [C] in [0, 1], NaN for a class neither true nor predicted."""
    hits = np.diag(confusion).astype(np.float64)
    union = confusion.sum(0) + confusion.sum(1) - hits
    return np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)


def mean_iou(confusion: np.ndarray) -> float:
    """Returns the mean of `class_iou` over the classes that have one; NaN where none has."""
    values = class_iou(confusion)
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def pixel_accuracy(confusion: np.ndarray) -> float:
    """Returns the share of pixels whose class is right, in [0, 1]; NaN where no pixel counts."""
    total = confusion.sum()
    return float(np.diag(confusion).sum() / total) if total else float("nan")
