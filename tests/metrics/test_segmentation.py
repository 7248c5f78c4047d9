from __future__ import annotations

import numpy as np
import pytest

from tfllv.metrics import segmentation


def test_confusion_counts_pixels_by_truth_and_prediction():
    truth = np.array([[0, 0, 1, 255], [2, 1, 1, 255]])
    prediction = np.array([[0, 1, 1, 2], [2, 1, 0, 0]])
    confusion = segmentation.confusion_matrix(truth, prediction, 4)
    np.testing.assert_array_equal(confusion, [[1, 1, 0, 0], [1, 2, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]])
    np.testing.assert_allclose(segmentation.class_iou(confusion), [1 / 3, 2 / 4, 1, np.nan])
    assert segmentation.mean_iou(confusion) == pytest.approx((1 / 3 + 1 / 2 + 1) / 3)
    assert segmentation.pixel_accuracy(confusion) == pytest.approx(4 / 6)


def test_iou_agrees_with_keras_over_a_set(rng):
    import keras

    metric, total = keras.metrics.MeanIoU(5, ignore_class=255), np.zeros((5, 5), np.int64)
    for _ in range(3):
        truth, prediction = rng.integers(0, 5, (2, 9, 7))
        truth[rng.uniform(size=truth.shape) < 0.2] = 255
        metric.update_state(truth, prediction)
        total += segmentation.confusion_matrix(truth, prediction, 5)
    assert segmentation.mean_iou(total) == pytest.approx(float(metric.result()), rel=1e-6)


def test_nothing_that_counts_gives_no_number():
    empty = segmentation.confusion_matrix(np.full((2, 2), 255), np.zeros((2, 2), int), 3)
    assert np.isnan(segmentation.mean_iou(empty)) and np.isnan(segmentation.pixel_accuracy(empty))


def test_wrong_maps_are_named():
    with pytest.raises(ValueError, match="`prediction` must have the shape of `truth`"):
        segmentation.confusion_matrix(np.zeros((2, 2), int), np.zeros((2, 3), int), 3)
    with pytest.raises(ValueError, match=r"`truth` must have ids 0 to 2\. Received: 3"):
        segmentation.confusion_matrix(np.array([3]), np.array([0]), 3)
