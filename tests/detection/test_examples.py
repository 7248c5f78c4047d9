"""Which pictures are looked at first."""

from __future__ import annotations

import contextlib
import dataclasses
import io

import numpy as np
import pytest

from tfllv.detection import coco_metrics, examples


def test_misses_and_false_detections_are_those_of_pycocotools_at_half_overlap(synthetic):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    made = synthetic.make_truth(40, crowd=0.15, objects=8)
    found = synthetic.detect(made, shift=0.3, miss=0.2, false=3)
    sides = []
    with contextlib.redirect_stdout(io.StringIO()):
        for document in coco_metrics._coco_documents(made, found, "bbox"):
            sides.append(COCO())
            sides[-1].dataset = document
            sides[-1].createIndex()
        evaluator = COCOeval(*sides, "bbox")
        evaluator.params.areaRng = evaluator.params.areaRng[:1]
        evaluator.evaluate()
    missed, false = np.zeros(40, int), np.zeros(40, int)
    for entry in filter(None, evaluator.evalImgs):
        scores = dict(zip(entry["dtIds"], entry["dtScores"], strict=True))
        for match, ignored in zip(entry["gtMatches"][0], entry["gtIgnore"], strict=True):
            missed[entry["image_id"] - 1] += not ignored and scores.get(int(match), 0) < 0.3
        for match, ignored, score in zip(entry["dtMatches"][0], entry["dtIgnore"][0], entry["dtScores"], strict=True):
            false[entry["image_id"] - 1] += score >= 0.3 and not match and not ignored
    compared = [examples.compare(one, other) for one, other in zip(made.images, found.images, strict=True)]
    assert missed.sum() > 10 and false.sum() > 10
    assert [int(example.missed.sum()) for example in compared] == missed.tolist()
    assert [int(example.false.sum()) for example in compared] == false.tolist()


def test_the_largest_misses_come_first_and_pictures_without_any_not_at_all(synthetic):
    made = synthetic.make_truth(30)
    worst = examples.find_worst(made, synthetic.detect(made, miss=0.4), count=100)
    shares = [example.missed_share for example in worst]
    assert shares == sorted(shares, reverse=True) and shares[-1] > 0 and 0 < len(worst) < 30
    assert examples.find_worst(made, synthetic.detect(made, miss=0.4), count=3)[0].truth.file == worst[0].truth.file
    perfect = synthetic.detect(made)
    assert all(not example.missed.any() for example in examples.find_worst(made, perfect, min_score=0.0))


def test_the_share_is_of_the_picture(synthetic):
    made = synthetic.make_truth(1, objects=1)
    image = made.images[0]
    example = examples.compare(image, synthetic.detect(made, miss=1.0).images[0])
    assert example.missed_share == pytest.approx(np.prod(image.boxes[0, 2:]) / (image.width * image.height))


def test_a_detection_below_the_score_finds_nothing_and_is_not_false(synthetic):
    made = synthetic.make_truth(1)
    found = synthetic.detect(made).images[0]
    low = dataclasses.replace(found, scores=np.full(len(found.scores), 0.29))
    example = examples.compare(made.images[0], low)
    assert example.missed.all() and not len(example.false)


def test_the_most_confident_false_detection_comes_first(synthetic):
    made = synthetic.make_truth(30)
    wrong = examples.find_false(made, synthetic.detect(made, false=1), count=5)
    scores = [example.found.scores[example.false].max() for example in wrong]
    assert len(scores) == 5 and scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("options", [{"count": -1}, {"min_score": 1.5}])
def test_options_out_of_range_are_named(synthetic, options):
    made = synthetic.make_truth(1)
    with pytest.raises(ValueError, match="`count` must be >= 0 and `min_score`"):
        examples.find_worst(made, synthetic.detect(made), **options)
