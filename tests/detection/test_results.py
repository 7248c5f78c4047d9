"""Saved detections."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tfllv.detection import results

NAMES = {1: "Bicycle", 3: "Bottle"}


def found(file="a.png", count=3, *, masks=False, seed=0, width=50, height=40):
    rng = np.random.default_rng(seed)
    corners = rng.random((count, 2, 2))
    boxes = np.concatenate([corners.min(1), corners.max(1)], axis=1)
    runs = tuple(results.encode_mask(rng.random((height, width)) > 0.5) for _ in range(count)) if masks else None
    return results.ImageDetections(file, width, height, boxes, rng.choice([1, 3], count), rng.random(count), runs)


def same(a, b):
    assert (a.file, a.width, a.height, a.masks) == (b.file, b.width, b.height, b.masks)
    for name in ("boxes", "classes", "scores"):
        assert np.array_equal(getattr(a, name), getattr(b, name)), name


@pytest.mark.parametrize("masks", [False, True])
def test_a_file_returns_what_was_written_to_the_last_bit(tmp_path, masks):
    images = (found("a.png", masks=masks), found("ü/b.jpg", 0), found("c.png", 7, masks=masks, seed=2))
    results.write(tmp_path / "new" / "d.json", results.Detections(NAMES, images, "a model"))
    back = results.read(tmp_path / "new" / "d.json")
    assert (back.label_map, back.model, len(back.images)) == (NAMES, "a model", 3)
    for one, other in zip(images, back.images, strict=True):
        same(one, other)


def test_float32_arrays_of_a_model_keep_their_values(tmp_path):
    scores = np.array([0.9, 1 / 3], np.float32)
    image = results.ImageDetections("a", 5, 5, np.array([[0.1, 0.2, 0.3, 0.4]] * 2, np.float32), [1, 1], scores)
    results.write(tmp_path / "d.json", results.Detections(NAMES, (image,)))
    assert (results.read(tmp_path / "d.json").images[0].scores == scores).all()


def test_a_set_without_pictures_can_be_written_and_read(tmp_path):
    results.write(tmp_path / "d.json", results.Detections(NAMES, ()))
    assert results.read(tmp_path / "d.json").images == ()


def test_nothing_is_left_of_a_file_that_cannot_be_written(tmp_path):
    image = found()
    object.__setattr__(image, "scores", np.array([np.nan] * 3))
    with pytest.raises(ValueError, match="not JSON compliant"):
        results.write(tmp_path / "d.json", results.Detections(NAMES, (image,)))
    assert not list(tmp_path.iterdir())


def document(**changes):
    entry = {"file": "a.png", "width": 50, "height": 40, "boxes": [[0, 0, 1, 1]], "classes": [1], "scores": [0.5]}
    return {"label_map": {"1": "Bicycle"}, "images": [entry | changes]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"d\.json:1: expected a detections file"),
        ([], r"COCO results are read with the ground truth"),
        ({"images": []}, "label_map: expected"),
        ({"label_map": {"a": "x"}, "images": []}, "label_map: expected"),
        ({"label_map": {"1": "x"}, "images": [7]}, r"images\[0\]: expected .* found 7"),
        (document(boxes=[[0, 0, 1]]), r"images\[0\]\.boxes: expected \[N, 4\] finite numbers"),
        (document(boxes=[[0, 0, 1, 1], [0]]), r"boxes: expected"),
        (document(boxes=[[0, 0, 1, float("nan")]]), r"boxes: expected .* finite"),
        (document(boxes="x"), r"boxes: expected"),
        (document(scores=[0.5, 0.4]), r"expected as many of each"),
        (document(scores=[1.5]), r"scores in \[0, 1\], found 1.5"),
        (document(classes=[2]), r"classes: expected ids of the label map, found 2"),
        (document(classes=[1.5]), r"classes: expected ids of the label map, found 1.5"),
        (document(width=0), r"width, height: expected whole numbers"),
        (document(width="50"), r"width, height: expected whole numbers"),
        (document(masks=[{"size": [40, 50], "counts": "zzz"}]), r"masks\[0\]: expected compressed run lengths"),
        (document(masks=[{"size": [50, 40], "counts": [2000]}]), r"masks\[0\]: expected run lengths of size"),
        (document(masks=[{"size": [40, 50], "counts": [2001]}]), r"masks\[0\]: expected run lengths that add up"),
        (document(masks=[[1, 2]]), r"masks\[0\]: expected run lengths"),
        (document(masks=7), r"masks: expected a list"),
    ],
)
def test_a_bad_file_is_named_with_its_place_in_one_line(tmp_path, content, message):
    path = tmp_path / "d.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ValueError, match=message) as error:
        results.read(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_stands_twice_is_refused(tmp_path):
    results.write(tmp_path / "d.json", results.Detections(NAMES, (found("a"), found("a"))))
    with pytest.raises(ValueError, match="expected each file once, found 'a' twice"):
        results.read(tmp_path / "d.json")


def test_nested_lists_without_end_are_refused(tmp_path):
    (tmp_path / "d.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="nested too deep"):
        results.read(tmp_path / "d.json")


@pytest.mark.parametrize("masks", [False, True])
def test_coco_results_keep_their_boxes_through_detections(masks):
    rng = np.random.default_rng(1)
    images = [{"id": 7, "file_name": "a.jpg", "width": 333, "height": 517}]
    images.append({"id": 2, "file_name": "empty.jpg", "width": 10, "height": 10})
    given = [
        {"image_id": 7, "category_id": 1, "score": float(score), "bbox": box}
        | ({"segmentation": results.encode_mask(rng.random((517, 333)) > 0.9)} if masks else {})
        for score, box in zip(
            np.sort(rng.random(50))[::-1], np.round(rng.random((50, 4)) * 200, 2).tolist(), strict=True
        )
    ]
    detections = results.from_coco(given, images, NAMES)
    assert results.to_coco(detections, {"a.jpg": 7, "empty.jpg": 2}) == given


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({}, r"results\[0\]: expected image_id"),
        ({"image_id": 8, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}, "no picture of id 8"),
        ({"image_id": 7, "category_id": 2, "bbox": [0, 0, 1, 1], "score": 1}, "no category of id 2"),
        ({"image_id": 7, "category_id": 1, "bbox": [0, 0, 1], "score": 1}, "a.jpg: bbox: expected"),
    ],
)
def test_bad_coco_results_are_named(entry, message):
    with pytest.raises(ValueError, match=message):
        results.from_coco([entry], [{"id": 7, "file_name": "a.jpg", "width": 9, "height": 9}], NAMES)


def test_pictures_outside_the_ground_truth_give_no_coco_results():
    detections = results.Detections(NAMES, (found("a"), found("b", seed=3)))
    assert {entry["image_id"] for entry in results.to_coco(detections, {"b": 4})} == {4}
