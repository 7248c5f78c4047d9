from __future__ import annotations

import io
import pathlib

import numpy as np
import pytest
from PIL import Image

from tfllv.records import coco, detection, images, schema
from tfllv.records.problems import Report, Where

WHERE = Where("list", 7)


def thing(*box, **options):
    return detection.Thing(tuple(map(float, box)), 1, "a", WHERE, **options)


@pytest.mark.parametrize(
    ("box", "kind", "result"),
    [
        ((0, 0, 40, 30), None, (0, 0, 40, 30)),
        ((-2, 1, 41, 31), "box clipped", (0, 1, 40, 30)),
        ((39.5, 1, 41, 3), "box clipped", (39.5, 1, 40, 3)),
        ((40, 1, 45, 3), "object skipped: box outside", None),
        ((-5, 1, 0, 3), "object skipped: box outside", None),
        ((5, 1, 5, 3), "object skipped: empty box", None),
        ((5, 9, 8, 3), "object skipped: empty box", None),
        ((5, 1, 5 + 1e-9, 3), "object skipped: empty box", None),
        ((5, float("nan"), 8, 3), "object skipped: empty box", None),
        ((5, 1, float("inf"), 3), "object skipped: empty box", None),
    ],
)
def test_boxes_are_kept_clipped_or_dropped(box, kind, result):
    report = Report()
    kept = detection.check_boxes((thing(*box),), 40, 30, report)
    assert [t.box for t in kept] == ([result] if result else [])
    assert list(report.kinds()) == ([kind] if kind else [])
    assert all(str(problem).startswith("list:7: box: ") for problem in report)


def test_boxes_that_leave_the_picture_can_be_dropped_as_tfod_does():
    report = Report()
    assert detection.check_boxes((thing(-2, 1, 4, 5), thing(1, 1, 2, 2)), 40, 30, report, "drop") == [thing(1, 1, 2, 2)]
    assert report.kinds() == {"object skipped: box leaves the picture": 1}


@pytest.fixture
def item(coco_tree):
    items, _ = coco.read_coco(coco_tree / "instances.json", coco_tree / "images", Report(), masks=True)
    return items[1]


def built(item, **options):
    result = detection.DetectionBuilder(**options)(item)
    return (schema.parse(result.record) if result.record else None), [str(problem) for problem in result.problems]


def test_a_record_holds_the_picture_and_its_objects(item):
    record, problems = built(item)
    data = pathlib.Path(item.image).read_bytes()
    assert record[schema.ENCODED] == [data] and record[schema.FORMAT] == [b"jpeg"] and not problems
    assert record[schema.HEIGHT] == [30] and record[schema.WIDTH] == [41] and record[schema.SOURCE_ID] == [b"2"]
    np.testing.assert_allclose(record[schema.XMIN], [2 / 41, 25 / 41], rtol=1e-6)
    np.testing.assert_allclose(record[schema.YMAX], [25.25 / 30, 1], rtol=1e-6)
    assert record[schema.CLASS_LABEL] == [3, 90] and record[schema.CLASS_TEXT] == [b"car", b"toothbrush"]
    assert record[schema.IS_CROWD] == [0, 1] and record[schema.AREA] == [311.5, 60]
    assert schema.MASK not in record and schema.PAIRED_ENCODED not in record


def test_masks_of_instances_and_of_classes(item):
    record, _ = built(item, include_masks=True, semantic_masks=True)
    decoded = [np.asarray(Image.open(io.BytesIO(png))) for png in record[schema.MASK]]
    assert [mask.shape for mask in decoded] == [(30, 41)] * 2
    assert decoded[1].sum() == 60 and decoded[1][:, 25:27].all()
    classes = np.asarray(Image.open(io.BytesIO(record[schema.SEMANTIC_ENCODED][0])))
    assert set(np.unique(classes)) == {0, 3, 255}, "background, car, crowd"
    assert (classes == 3).sum() == decoded[0].sum()


def test_an_object_without_a_usable_mask_is_skipped_where_masks_are_wanted(item):
    import dataclasses

    broken = dataclasses.replace(item.things[0], segmentation=[[1, 2]])
    item = dataclasses.replace(item, things=(broken, item.things[1]))
    record, problems = built(item, include_masks=True)
    assert record[schema.CLASS_LABEL] == [90] and len(record[schema.MASK]) == 1
    assert len(problems) == 1 and "annotations[2].bbox.segmentation: object skipped: mask" in problems[0]
    assert built(item)[0][schema.CLASS_LABEL] == [3, 90]


def test_a_picture_without_objects_is_kept(item):
    import dataclasses

    record, problems = built(dataclasses.replace(item, things=()), include_masks=True, semantic_masks=True)
    assert record[schema.XMIN] == [] and record[schema.MASK] == [] and not problems


@pytest.mark.parametrize("harm", ["absent", "cut", "size"])
def test_a_picture_that_cannot_be_used_is_skipped_and_named(item, harm, tmp_path):
    import dataclasses

    if harm == "absent":
        item = dataclasses.replace(item, image=str(tmp_path / "absent.jpg"))
    elif harm == "cut":
        item = dataclasses.replace(item, image=pathlib.Path(item.image).read_bytes()[:-100])
    else:
        item = dataclasses.replace(item, size=(30, 41))
    record, problems = built(item)
    assert record is None and len(problems) == 1 and "picture skipped: 000000000001.jpg" in problems[0]


def test_darkening_puts_the_dark_picture_beside_the_clean_one(item):
    record, _ = built(item, darken="gamma_noise", seed=3)
    clean, dark = (images.decode(record[key][0]) for key in (schema.PAIRED_ENCODED, schema.ENCODED))
    assert record[schema.PAIRED_ENCODED] == [pathlib.Path(item.image).read_bytes()]
    assert record[schema.FORMAT] == [b"png"] and record[schema.PAIRED_FORMAT] == [b"jpeg"]
    assert dark.shape == clean.shape and dark.mean() < clean.mean() / 2
    assert record[schema.DARKEN_RECIPE] == [b"gamma_noise"]
    from tfllv import contracts
    from tfllv.ops import darken

    expected = darken.darken(contracts.to_float(clean), "gamma_noise", record[schema.DARKEN_SEED][0])
    np.testing.assert_array_equal(dark, contracts.to_uint8(expected))
    assert built(item, darken="gamma_noise", seed=3)[0] == record
    assert built(item, darken="gamma_noise", seed=4)[0][schema.ENCODED] != record[schema.ENCODED]
    assert built(item, darken="gamma_noise", dark_format="jpeg")[0][schema.FORMAT] == [b"jpeg"]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"out_of_bounds": "x"}, "out_of_bounds"),
        ({"dark_format": "gif"}, "dark_format"),
        ({"darken": "nigt"}, "recipe"),
    ],
)
def test_wrong_options_are_refused(options, word):
    with pytest.raises(ValueError, match=word):
        detection.DetectionBuilder(**options)


def test_seeds_of_pictures_differ_and_stay():
    seeds = {detection.seed_of(seed, str(key)) for seed in range(3) for key in range(100)}
    assert len(seeds) == 300 and max(seeds) < 2**31
    assert detection.seed_of(0, "a") == 1740032305
