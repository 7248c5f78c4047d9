"""COCO's 12 numbers: pycocotools' own, to the last bit."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from tfllv.detection import coco_metrics, results, truth
from tfllv.records.problems import Report


def score(made, found, kind="bbox", **options):
    made, found, _ = coco_metrics.align(made, found)
    return coco_metrics.evaluate(made, found, kind=kind, **options)


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize(("shift", "miss", "false"), [(0.0, 0.0, 0.0), (0.3, 0.2, 2.0), (0.1, 0.5, 8.0)])
def test_all_twelve_numbers_are_those_of_pycocotools_to_the_last_bit(synthetic, pycocotools, kind, shift, miss, false):
    masks = kind == "segm"
    made = synthetic.make_truth(masks=masks, crowd=0.15)
    found = synthetic.detect(made, shift=shift, miss=miss, false=false, masks=masks)
    expected = pycocotools(made, found, kind)
    assert np.array_equal(score(made, found, kind, backend="pycocotools").stats, expected)
    if false:
        assert 0 < expected[0] < 1


def test_the_official_annotations_of_coco_score_as_in_pycocotools(shared, pycocotools, synthetic, tmp_path):
    path = shared / "data" / "coco" / "annotations" / "instances_val2017_subset500.json"
    report = Report()
    whole = truth.from_coco(path, report, masks_too=True)
    assert not len(report)
    part = dataclasses.replace(whole, images=whole.images[:40])
    found = synthetic.detect(part, shift=0.2, miss=0.1, false=5)
    assert np.array_equal(score(part, found, backend="pycocotools").stats, pycocotools(part, found))
    names = {image.file for image in part.images}
    entries = {image["id"]: image for image in json.loads(path.read_text())["images"] if image["file_name"] in names}
    notes = [note for note in json.loads(path.read_text())["annotations"] if note["image_id"] in entries]
    assert sum(len(image.boxes) for image in part.images) == len(notes)
    assert {tuple(box) for image in part.images for box in image.boxes.tolist()} == {tuple(n["bbox"]) for n in notes}
    assert sorted(a for image in part.images for a in image.areas) == sorted(n["area"] for n in notes)


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_perfect_detections_score_one_and_none_at_all_score_zero(synthetic, kind):
    made = synthetic.make_truth(masks=True)
    perfect = score(made, synthetic.detect(made, masks=True), kind).named()
    assert perfect["AP"] == perfect["AP50"] == perfect["AR100"] == pytest.approx(1, abs=1e-12)
    nothing = score(made, synthetic.detect(made, miss=1.0, masks=True), kind).named()
    assert nothing["AP"] == nothing["AR100"] == 0


def test_a_class_without_objects_is_left_out_of_the_mean(synthetic):
    made = synthetic.make_truth()
    found = synthetic.detect(made, miss=0.3)
    more = dataclasses.replace(made, label_map={**made.label_map, 9: "Cup"})
    assert score(more, found).stats[0] == score(made, found).stats[0]


def test_a_set_without_objects_has_no_score_which_coco_writes_as_minus_one(synthetic):
    made = synthetic.make_truth(objects=0)
    assert (score(made, synthetic.detect(made, false=2)).stats == -1).all()


def test_a_detection_in_a_crowd_counts_neither_for_nor_against(synthetic):
    made = synthetic.make_truth(1)
    image = dataclasses.replace(made.images[0], crowd=np.array([True, False, False, False]))
    alone = dataclasses.replace(made, images=(image,))
    found = synthetic.detect(made).images[0]
    without = [index for index in range(4) if index != 0]
    fewer = results.ImageDetections(
        found.file, found.width, found.height, found.boxes[without], found.classes[without], found.scores[without]
    )
    both = [score(alone, results.Detections(made.label_map, (one,))).stats for one in (found, fewer)]
    assert np.array_equal(*both)


def test_the_printed_lines_are_those_of_pycocotools(synthetic, pycocotools, capsys):
    made = synthetic.make_truth()
    found = synthetic.detect(made, miss=0.2, shift=0.2)
    from pycocotools.cocoeval import COCOeval

    evaluator = COCOeval(iouType="bbox")
    mine = score(made, found)
    evaluator.eval = {"precision": np.full((10, 101, 1, 4, 3), -1.0), "recall": np.full((10, 1, 4, 3), -1.0)}
    evaluator.summarize()
    theirs = capsys.readouterr().out.splitlines()
    ours = coco_metrics.text(mine.named()).splitlines()
    assert [line.rsplit("=", 1)[0] for line in ours] == [line.rsplit("=", 1)[0] for line in theirs]
    assert [line.rsplit("= ", 1)[1] for line in ours] == [f"{value:.3f}" for value in mine.stats]


def test_faster_coco_eval_gives_the_same_numbers(synthetic):
    pytest.importorskip("faster_coco_eval")
    for kind in coco_metrics.KINDS:
        made = synthetic.make_truth(30, masks=True, crowd=0.1)
        found = synthetic.detect(made, shift=0.2, miss=0.2, false=4, masks=True)
        fast, slow = (score(made, found, kind, backend=backend) for backend in coco_metrics.BACKENDS[::-1])
        assert np.array_equal(fast.stats, slow.stats)
        for one, other in zip(fast.matches, slow.matches, strict=True):
            assert all(np.array_equal(vars(one)[name], vars(other)[name]) for name in vars(one))


def rename(found, names):
    images = tuple(dataclasses.replace(image, file=name) for image, name in zip(found.images, names, strict=True))
    return dataclasses.replace(found, images=images)


@pytest.mark.parametrize("name", ["night/2015_{:05d}.jpg", "2015_{:05d}.JPEG", "/a/b/2015_{:05d}.png"])
def test_pictures_are_found_in_other_folders_and_with_other_endings(synthetic, name):
    made = synthetic.make_truth()
    found = synthetic.detect(made, miss=0.2)
    moved = rename(found, [name.format(index) for index in range(12)])
    assert np.array_equal(score(made, moved).stats, score(made, found).stats)


def test_a_picture_that_could_be_either_of_two_is_refused(synthetic):
    made = synthetic.make_truth(2)
    found = rename(synthetic.detect(made), ["a/2015_00000.jpg", "b/2015_00000.jpg"])
    with pytest.raises(ValueError, match=r"'2015_00000.jpg' must have one entry .* 'a/2015_00000.jpg' and 'b/"):
        coco_metrics.align(made, found)


def test_two_pictures_that_only_one_entry_fits_are_refused(synthetic):
    made = synthetic.make_truth(2)
    images = tuple(dataclasses.replace(i, file=f"{f}/x.jpg") for i, f in zip(made.images, "ab", strict=True))
    found = rename(synthetic.detect(made), ["x.jpg", "y.jpg"])
    with pytest.raises(ValueError, match="must differ in name"):
        coco_metrics.align(dataclasses.replace(made, images=images), found, allow_missing=True)


def test_missing_pictures_are_refused_unless_allowed_and_said(synthetic):
    made = synthetic.make_truth()
    found = synthetic.detect(made)
    fewer = dataclasses.replace(found, images=found.images[2:])
    with pytest.raises(ValueError, match=r"none for 2, the first is '2015_00000.jpg'; --allow_missing"):
        coco_metrics.align(made, fewer)
    kept, aligned, notes = coco_metrics.align(made, fewer, allow_missing=True)
    assert [image.file for image in kept.images] == [image.file for image in aligned.images]
    assert len(kept.images) == 10 and notes == [
        "2 pictures without an entry in the detections are left out, as '2015_00000.jpg'"
    ]


def test_pictures_of_another_size_are_refused(synthetic):
    made = synthetic.make_truth()
    found = synthetic.detect(made)
    turned = dataclasses.replace(found.images[0], width=found.images[0].height, height=found.images[0].width)
    with pytest.raises(ValueError, match=r"'2015_00000.jpg' has .* pixels by the ground truth"):
        coco_metrics.align(made, dataclasses.replace(found, images=(turned, *found.images[1:])))


def test_classes_meet_by_name_whatever_their_ids(synthetic):
    made = synthetic.make_truth()
    found = synthetic.detect(made, miss=0.2, false=2)
    shifted = dataclasses.replace(
        found,
        label_map={0 + number + 40: name.upper() for number, name in found.label_map.items()} | {1: "person"},
        images=tuple(dataclasses.replace(image, classes=image.classes + 40) for image in found.images),
    )
    kept, aligned, notes = coco_metrics.align(made, shifted)
    assert np.array_equal(coco_metrics.evaluate(kept, aligned).stats, score(made, found).stats)
    assert notes == ["1 classes of the detections are not in the ground truth, as 'person'"]


def test_class_names_without_any_in_common_are_refused_instead_of_scoring_zero(synthetic):
    made = synthetic.make_truth()
    found = dataclasses.replace(synthetic.detect(made), label_map={1: "a", 2: "b", 5: "c"})
    with pytest.raises(ValueError, match=r"a, b, c .* none in common"):
        coco_metrics.align(made, found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "boxes"}, "`kind` must be one of bbox, segm"),
        ({"backend": "x"}, "`backend` must be one of"),
        ({"kind": "segm"}, "masks are needed on both sides"),
    ],
)
def test_wrong_arguments_are_named(synthetic, options, message):
    made = synthetic.make_truth()
    with pytest.raises(ValueError, match=message):
        score(made, synthetic.detect(made), **options)


def test_detections_of_other_pictures_are_refused(synthetic):
    made = synthetic.make_truth()
    with pytest.raises(ValueError, match="`align` first"):
        coco_metrics.evaluate(made, dataclasses.replace(synthetic.detect(made), images=()))
