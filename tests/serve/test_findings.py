from __future__ import annotations

import numpy as np
import pytest

from tfllv.records import masks
from tfllv.serve import findings


@pytest.mark.parametrize("kind", ["random", "empty", "full", "corner"])
def test_run_lengths_are_coco_s(kind, rng):
    mask = {
        "random": rng.random((13, 17)) > 0.6,
        "empty": np.zeros((13, 17), bool),
        "full": np.ones((13, 17), bool),
        "corner": np.pad([[True]], ((0, 12), (0, 16))),
    }[kind]
    runs = findings.encode_runs(mask)
    assert sum(runs["counts"]) == mask.size
    assert np.array_equal(masks.decode_mask(runs, 13, 17), mask)


def test_detections_are_kept_best_first_above_the_score(toy):
    found = toy.Brighten()._one(toy.picture()).detections
    kept = findings.keep_detections(found, 0.3, 100)
    assert kept["scores"].tolist() == pytest.approx([0.9, 0.4])
    assert kept["classes"].tolist() == [2, 1]
    assert findings.keep_detections(found, 0.0, 100)["boxes"].max() == 1.0
    assert len(findings.keep_detections(found, 0.0, 1)["scores"]) == 1


def test_a_mask_over_its_box_is_put_into_the_picture():
    placed = findings.place_mask(np.ones((3, 3), np.float32), np.array([0.25, 0.5, 0.75, 1.0]), 8, 12)
    expected = np.zeros((8, 12), bool)
    expected[2:6, 6:12] = True
    assert np.array_equal(placed, expected)
    whole = np.eye(8, 12)
    assert np.array_equal(findings.place_mask(whole, np.array([0, 0, 1, 1]), 8, 12), whole > 0.5)
    assert not findings.place_mask(np.ones((3, 3)), np.array([0.5, 0.5, 0.5, 0.5]), 8, 12).any()


def test_labels_are_described_class_by_class(toy):
    labels = np.array([[1, 1, 1], [1, 0, 9]], np.uint8)
    content = findings.describe_labels(toy.Brighten(), labels)
    assert (content["width"], content["height"]) == (3, 2)
    assert [(entry["label"], entry["share"]) for entry in content["classes"]] == [
        ("floor", pytest.approx(1 / 6, abs=1e-6)),
        ("lamp", pytest.approx(4 / 6, abs=1e-6)),
        ("class 9", pytest.approx(1 / 6, abs=1e-6)),
    ]
    assert np.array_equal(masks.decode_mask(content["classes"][1]["mask"], 2, 3), labels == 1)


def test_an_overlay_colours_each_class_differently(toy):
    labels = np.zeros((24, 32), np.uint8)
    labels[:12] = 1
    drawn = findings.draw_labels(np.full((24, 32, 3), 40, np.uint8), labels)
    assert drawn.dtype == np.uint8 and len(np.unique(drawn.reshape(-1, 3), axis=0)) == 2


def test_a_map_of_classes_keeps_numbers_above_255():
    import cv2

    labels = np.array([[0, 300]], np.int32)
    decoded = cv2.imdecode(np.frombuffer(findings.encode_labels(labels), np.uint8), cv2.IMREAD_UNCHANGED)
    assert decoded.tolist() == [[0, 300]]
