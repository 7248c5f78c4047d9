"""What is written here is read by the TF Object Detection API itself."""

from __future__ import annotations

import hashlib
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from tfllv.records import coco, convert, detection, exdark, images, masks
from tfllv.records.problems import Report

SCRIPT = pathlib.Path(__file__).with_name("decode_with_tfod.py")
pytest.importorskip("object_detection", reason="the TF Object Detection API is not installed")


def decode(items, folder, **options):
    run = convert.RunOptions(workers=1, num_shards=2)
    build = detection.DetectionBuilder(**options)
    convert.convert([convert.SetPlan("t", items)], folder, build, source={}, options=run, say=lambda line: None)
    shards = sorted(map(str, folder.glob("t-*")))
    subprocess.run([sys.executable, str(SCRIPT), str(folder / "x.npz"), *shards], check=True, capture_output=True)
    found: dict[str, dict[str, np.ndarray]] = {}
    with np.load(folder / "x.npz", allow_pickle=True) as archive:
        for name in archive.files:
            number, key = name.split("/")
            found.setdefault(number, {})[key] = archive[name]
    return {str(record["source_id"].item(), "utf-8"): record for record in found.values()}


def check(item, record):
    picture = images.take(pathlib.Path(item.image).read_bytes())
    assert record["filename"].item().decode() == item.filename
    assert record["key"].item().decode() == hashlib.sha256(picture.data).hexdigest()
    assert record["image"].shape == (picture.height, picture.width, 3)
    np.testing.assert_array_equal(record["image"], images.decode(picture.data))
    scale = np.array([picture.height, picture.width] * 2)
    boxes = record["groundtruth_boxes"] * scale
    np.testing.assert_allclose(boxes, [[t.box[1], t.box[0], t.box[3], t.box[2]] for t in item.things], atol=1e-3)
    assert record["groundtruth_classes"].tolist() == [t.label for t in item.things]
    assert record["groundtruth_is_crowd"].tolist() == [t.is_crowd for t in item.things]


def check_masks(item, record):
    for thing, mask in zip(item.things, record["groundtruth_instance_masks"], strict=True):
        expected = masks.decode_mask(thing.segmentation, *mask.shape)
        np.testing.assert_array_equal(mask, expected)
    np.testing.assert_allclose(record["groundtruth_area"], [thing.area for thing in item.things], rtol=1e-6)


def test_boxes_classes_crowds_and_masks_of_generated_pictures(coco_tree, tmp_path):
    items, _ = coco.read_coco(coco_tree / "instances.json", coco_tree / "images", Report(), masks=True)
    found = decode(items, tmp_path / "out", include_masks=True, semantic_masks=True)
    assert len(found) == len(items) == 6
    for item in items:
        check(item, found[item.key])
        check_masks(item, found[item.key])


@pytest.mark.slow
def test_the_real_pictures_of_coco_and_exdark(shared, tmp_path):
    folder = shared / "data" / "coco"
    items, _ = coco.read_coco(
        folder / "annotations" / "instances_2images.json", folder / "images", Report(), masks=True
    )
    found = decode(items, tmp_path / "coco", include_masks=True)
    for item in items:
        check(item, found[item.key])
        check_masks(item, found[item.key])
    folder = shared / "data" / "exdark"
    parts = exdark.read_exdark(folder / "mini", Report(), class_list=folder / "imageclasslist.txt", allow_missing=True)
    items = [item for each in parts.values() for item in each]
    found = decode(items, tmp_path / "exdark")
    for item in items:
        check(item, found[item.key])
        assert found[item.key]["groundtruth_image_classes"].tolist() == [dict(item.extra)["image/class/label"][0]]
