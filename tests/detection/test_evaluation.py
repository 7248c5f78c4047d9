"""The whole evaluation: report, text and files."""

from __future__ import annotations

import dataclasses
import json
import os
import re

import cv2
import numpy as np
import pytest

from tfllv.detection import evaluation, results
from tfllv.detection.detector import Found


def with_pictures(made):
    """The ground truth with a picture behind each entry, blue and dark, its number in the green channel."""

    def reader(index, image):
        pixels = np.full((image.height, image.width, 3), (60, index, 0), np.uint8)  # BGR
        return lambda: cv2.imencode(".png", pixels)[1].tobytes()

    images = [dataclasses.replace(image, read=reader(index, image)) for index, image in enumerate(made.images)]
    return dataclasses.replace(made, images=tuple(images))


@pytest.fixture(scope="module")
def case(synthetic):
    """(truth with pictures, detections, evaluation)."""
    made = with_pictures(synthetic.make_truth(24, masks=True))
    found = synthetic.detect(made, shift=0.2, miss=0.3, false=2, masks=True)
    return made, found, evaluation.evaluate(made, found, resamples=50, about={"step": 7})


def test_the_report_holds_the_numbers_of_pycocotools_for_boxes_and_masks(case, pycocotools):
    made, found, result = case
    assert list(result.report["metrics"]["bbox"].values()) == pycocotools(made, found).tolist()
    assert list(result.report["metrics"]["segm"].values()) == pycocotools(made, found, "segm").tolist()
    whole = result.report["cells"][0]
    assert whole["class"] is None and whole["AP"] == result.report["metrics"]["bbox"]["AP"]
    assert result.report["step"] == 7 and result.report["pictures"] == 24


def test_masks_are_scored_only_where_both_sides_have_them(case, synthetic):
    made, _, _ = case
    result = evaluation.evaluate(made, synthetic.detect(made, miss=0.2), resamples=5)
    assert list(result.report["metrics"]) == ["bbox"]


def test_the_text_holds_the_twelve_lines_and_a_table_for_each_place(case):
    text = evaluation.text(case[2].report)
    assert text.count("Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all") == 2
    assert re.findall(r"^AP50, %.*?  ", text, re.MULTILINE) == ["AP50, %  ", "AP50, %, indoor  ", "AP50, %, outdoor  "]
    assert "50 resamples, seed 0" in text


def test_a_set_without_lighting_gets_one_table(case):
    made, found, _ = case
    images = tuple(dataclasses.replace(image, lighting=0, indoor=None) for image in made.images)
    result = evaluation.evaluate(dataclasses.replace(made, images=images), found, resamples=5)
    text = evaluation.text(result.report)
    assert not result.report["has_lighting"] and text.count("AP50, %") == 1 and "Twilight" not in text


def test_the_files_are_written_whole_and_read_back(case, tmp_path):
    made, found, result = case
    page = evaluation.write(result, tmp_path / "eval", detections=found)
    assert sorted(os.listdir(tmp_path / "eval")) == ["detections.json", "evaluation.json", "index.html"]
    assert json.loads((tmp_path / "eval" / "evaluation.json").read_text()) == json.loads(json.dumps(result.report))
    again = evaluation.evaluate(made, results.read(tmp_path / "eval" / "detections.json"), resamples=50)
    assert again.report["metrics"] == result.report["metrics"] and again.report["cells"] == result.report["cells"]
    assert page.read_text().startswith("<!doctype html>")


def test_a_detector_sees_every_picture_and_its_findings_are_kept(synthetic):
    made = with_pictures(synthetic.make_truth(5))
    seen = []

    def detector(pixels):
        seen.append(int(pixels[0, 0, 1]))
        mask = np.ones((1, 4, 4), np.float32)
        return Found(np.array([[0.1, 0.2, 1.2, 0.9]], np.float32), np.array([5]), np.array([0.7], np.float32), mask)

    found = evaluation.detect(made, detector, model="m", progress=False)
    assert seen == [0, 1, 2, 3, 4] and found.model == "m"
    assert [image.file for image in found.images] == [image.file for image in made.images]
    entry = found.images[0]
    assert entry.boxes.tolist() == [[np.float32(0.1), np.float32(0.2), 1.0, np.float32(0.9)]]
    assert entry.masks[0]["size"] == [made.images[0].height, made.images[0].width]


def test_a_picture_is_enhanced_before_it_is_looked_at(synthetic):
    made = with_pictures(synthetic.make_truth(1))
    seen = []

    def detector(pixels):
        seen.append(pixels)
        return Found(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32))

    evaluation.detect(made, detector, enhance=lambda pixels: pixels + 9, progress=False)
    assert seen[0][0, 0].tolist() == [9, 9, 69]


def test_a_class_that_the_label_map_lacks_is_left_out_and_said(synthetic):
    made = with_pictures(synthetic.make_truth(2))
    box = np.array([[0, 0, 1, 1]], np.float32)
    found = evaluation.detect(
        made, lambda pixels: Found(box, np.array([77]), np.array([0.5], np.float32)), progress=False
    )
    result = evaluation.evaluate(made, found, resamples=5)
    assert result.report["notes"][0] == "1 classes of the detections are not in the ground truth, as 'class 77'"


def test_a_picture_of_another_size_than_its_annotations_say_is_named(synthetic):
    made = with_pictures(synthetic.make_truth(2))
    image = dataclasses.replace(made.images[1], width=5)
    with pytest.raises(ValueError, match=r"'2015_00001.jpg' has .* Expected: 5x"):
        evaluation.detect(
            dataclasses.replace(made, images=(image,)), lambda pixels: pytest.fail("looked at"), progress=False
        )
