"""Ground truth from COCO's annotations, ExDark's folders and TFRecords."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import struct

import cv2
import numpy as np
import pytest

from tfllv.detection import truth
from tfllv.records import coco, convert, detection, exdark, framing, schema
from tfllv.records.problems import Report

POLYGON = [2, 3, 20.5, 3, 20.5, 18, 11, 25.25, 2, 18]


@pytest.fixture
def coco_set(tmp_path):
    """Four pictures with a polygon each, one with a crowd as run lengths besides."""
    images, notes = [], []
    for index in range(4):
        width = 40 + index
        pixels = np.random.default_rng(index).integers(0, 255, (30, width, 3)).astype(np.uint8)
        cv2.imwrite(str(tmp_path / f"{index}.png"), pixels)
        images.append({"id": index + 5, "file_name": f"{index}.png", "width": width, "height": 30})
        notes.append({"id": index, "image_id": index + 5, "category_id": 3, "bbox": [2, 3, 18.5, 22.25], "area": 311.5})
        notes[-1] |= {"iscrowd": 0, "segmentation": [POLYGON]}
    counts = [30 * 25, 60, 30 * 40 - 30 * 25 - 60]
    notes.append({"id": 9, "image_id": 5, "category_id": 7, "bbox": [25, 0, 2, 30], "area": 60, "iscrowd": 1})
    notes[-1]["segmentation"] = {"counts": counts, "size": [30, 40]}
    categories = [{"id": 3, "name": "car"}, {"id": 7, "name": "lamp"}]
    path = tmp_path / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": notes, "categories": categories}))
    return path


@pytest.fixture
def exdark_set(tmp_path):
    """Three pictures of ExDark with their line in the list, and one without; one box leaves its picture."""
    for index, (name, box) in enumerate((("Bicycle", "3 2 20 22"), ("Cat", "30 10 30 8"), ("Cat", "1 1 9 9"))):
        stem = f"2015_{index:05}"
        (tmp_path / "ExDark" / name).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "ExDark" / name / f"{stem}.png"), np.full((40, 48, 3), 9 * index, np.uint8))
        note = tmp_path / "ExDark_Annno" / name / f"{stem}.jpg.txt"
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(f"% bbGt version=3\n{name} {box} 0 0 0 0 0 0 0\n")
    (tmp_path / "list.txt").write_text("Name | Class\n2015_00000.jpg 1 10 1 2\n2015_00001.png 6 3 2 2\n")
    return tmp_path


def write_records(folder, items, name="set.record", **options):
    build = detection.DetectionBuilder(**options)
    run = convert.RunOptions(num_shards=2, workers=1)
    convert.convert([convert.SetPlan(name, items)], folder, build, source={}, options=run, say=lambda line: None)
    return str(folder / f"{name}-?????-of-00002")


def by_name(found):
    return {image.file: image for image in found.images}


def test_coco_boxes_areas_and_crowds_stay_as_they_are_in_the_file(coco_set):
    report = Report()
    found = truth.from_coco(coco_set, report)
    assert not len(report) and found.label_map == {3: "car", 7: "lamp"} and not found.has_masks
    first = by_name(found)["0.png"]
    assert first.boxes.tolist() == [[2, 3, 18.5, 22.25], [25, 0, 2, 30]]
    assert (first.areas.tolist(), first.crowd.tolist(), first.classes.tolist()) == ([311.5, 60], [False, True], [3, 7])


def test_coco_masks_are_the_pixels_that_pycocotools_compares(coco_set):
    from pycocotools import mask as coco_mask
    from pycocotools.coco import COCO

    found = truth.from_coco(coco_set, Report(), masks_too=True)
    reference = COCO()
    reference.dataset = json.loads(coco_set.read_text())
    reference.createIndex()
    assert found.has_masks
    for number, image in zip((5, 6, 7, 8), found.images, strict=True):
        for note, runs in zip(reference.imgToAnns[number], image.masks, strict=True):
            assert np.array_equal(coco_mask.decode(dict(runs)), reference.annToMask(note))


def test_a_broken_mask_costs_its_object_alone_and_is_reported(coco_set):
    document = json.loads(coco_set.read_text())
    document["annotations"][1]["segmentation"] = {"counts": [5], "size": [30, 41]}
    coco_set.write_text(json.dumps(document))
    report = Report()
    found = truth.from_coco(coco_set, report, masks_too=True)
    assert [len(image.boxes) for image in found.images] == [2, 0, 1, 1]
    assert "run lengths that add up" in str(next(iter(report)))


def test_coco_pictures_are_read_from_their_folder_or_said_to_be_absent(coco_set):
    found = truth.from_coco(coco_set, Report(), image_dir=str(coco_set.parent))
    assert found.images[1].pixels().shape == (30, 41, 3)
    with pytest.raises(ValueError, match=r"0.png: the picture is not at hand; .* --image_dir"):
        truth.from_coco(coco_set, Report()).images[0].pixels()


@pytest.mark.parametrize("masks", [False, True])
def test_records_hold_the_boxes_and_masks_of_the_annotations_they_were_made_from(coco_set, tmp_path, masks):
    direct = truth.from_coco(coco_set, Report(), image_dir=str(coco_set.parent), masks_too=masks)
    items, labels = coco.read_coco(coco_set, coco_set.parent, Report(), masks=True)
    assert labels == {"car": 3, "lamp": 7}
    found = truth.from_records(write_records(tmp_path / "r", items, include_masks=True), masks_too=masks)
    assert found.label_map == direct.label_map
    for file, image in by_name(direct).items():
        other = by_name(found)[file]
        for name in ("boxes", "classes", "areas", "crowd"):
            assert np.array_equal(getattr(other, name), getattr(image, name)), name
        assert other.masks == image.masks
        assert (other.width, other.height) == (image.width, image.height)
        assert other.pixels().shape == image.pixels().shape


def test_exdark_folders_give_lighting_place_and_clipped_boxes(exdark_set):
    report = Report()
    found = truth.from_exdark(exdark_set, report, class_list=exdark_set / "list.txt", split="all")
    images = by_name(found)
    assert list(images) == ["2015_00000.png", "2015_00001.png", "2015_00002.png"]
    assert found.has_lighting and not found.has_masks
    assert [(i.lighting, i.indoor) for i in found.images] == [(10, True), (3, False), (0, None)]
    assert images["2015_00001.png"].boxes.tolist() == [[30, 10, 18, 8]]
    assert "box clipped" in report.kinds()
    assert images["2015_00002.png"].pixels()[0, 0].tolist() == [18, 18, 18]


def test_records_of_exdark_give_what_its_folders_give(exdark_set, tmp_path):
    direct = truth.from_exdark(exdark_set, Report(), class_list=exdark_set / "list.txt", split="all")
    parts = exdark.read_exdark(exdark_set, Report(), class_list=exdark_set / "list.txt", split="random")
    items = [item for part in parts.values() for item in part]
    found = truth.from_records(write_records(tmp_path / "r", items))
    for image in direct.images:
        other = by_name(found)[image.file.replace(".png", ".jpg")]
        assert np.array_equal(other.boxes, image.boxes)
        assert (other.lighting, other.indoor) == (image.lighting, image.indoor)


def test_an_unknown_split_and_one_without_pictures_are_named(exdark_set):
    with pytest.raises(ValueError, match="`split` must be one of train, val, test, all"):
        truth.from_exdark(exdark_set, Report(), split="dev")
    with pytest.raises(ValueError, match="3000/1800/2563"):
        truth.from_exdark(exdark_set, Report(), class_list=exdark_set / "list.txt", split="val")


def test_the_real_pictures_of_exdark_have_their_light(shared):
    folder = shared / "data" / "exdark"
    report = Report()
    found = truth.from_exdark(folder / "mini", report, class_list=folder / "imageclasslist.txt", split="all")
    assert len(found.images) == 5 and all(image.lighting and image.indoor is not None for image in found.images)


def test_lighting_is_added_to_any_source_by_the_name_without_ending(coco_set, exdark_set):
    found = truth.from_exdark(exdark_set, Report(), split="all")
    assert not found.has_lighting
    lit = truth.with_lighting(found, exdark_set / "list.txt", Report())
    assert [image.lighting for image in lit.images] == [10, 3, 0]
    with pytest.raises(ValueError, match=r"none of the 4 pictures is in this list, as '0.png'"):
        truth.with_lighting(truth.from_coco(coco_set, Report()), exdark_set / "list.txt", Report())


def foreign(tmp_path, **changes):
    """A record as TFOD's own scripts write it: no area, no crowds, `difficult`."""
    picture = cv2.imencode(".png", np.zeros((40, 50, 3), np.uint8))[1].tobytes()
    features = {
        schema.ENCODED: picture,
        schema.HEIGHT: 40,
        schema.WIDTH: 50,
        schema.FILENAME: "a.jpg",
        schema.YMIN: [0.1, 0.5],
        schema.XMIN: [0.2, 0.5],
        schema.YMAX: [0.4, 1.0],
        schema.XMAX: [0.6, 0.9],
        schema.CLASS_TEXT: ["car", "dog"],
        schema.CLASS_LABEL: [1, 2],
    }
    features = {key: value for key, value in (features | changes).items() if value is not None}
    path = tmp_path / "foreign.tfrecord"
    data = framing.frame(schema.serialize(features))
    path.write_bytes(data + framing.frame(schema.serialize(features)))
    return str(path)


def test_records_of_other_scripts_are_read_and_doubled_names_told_apart(tmp_path):
    found = truth.from_records(foreign(tmp_path))
    assert found.label_map == {1: "car", 2: "dog"}
    assert [image.file for image in found.images] == ["a.jpg", "a.jpg (2)"]
    assert found.images[0].boxes.tolist() == [[10, 4, 20, 12], [25, 20, 20, 20]]
    assert found.images[0].areas.tolist() == [240, 400]
    assert not found.images[0].crowd.any() and not found.has_lighting


def test_difficult_objects_count_like_any_other_as_in_tfod(tmp_path, monkeypatch):
    monkeypatch.setitem(schema.FEATURES, "image/object/difficult", ("int64", True))
    path = foreign(tmp_path, **{"image/object/difficult": [1, 1]})
    image = truth.from_records(path).images[0]
    assert len(image.boxes) == 2 and not image.crowd.any()


def test_classes_without_ids_are_looked_up_by_name(tmp_path):
    path = foreign(tmp_path, **{schema.CLASS_LABEL: None})
    assert truth.from_records(path, labels={4: "dog", 9: "car"}).images[0].classes.tolist() == [9, 4]
    with pytest.raises(ValueError, match="class 'dog' is not in the label map"):
        truth.from_records(path, labels={9: "car"})


def test_one_of_so_many_records_is_taken(tmp_path):
    path = foreign(tmp_path)
    assert len(truth.from_records([path, path], every=3).images) == 2
    with pytest.raises(ValueError, match="`every` must be >= 1"):
        truth.from_records(path, every=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({schema.CLASS_LABEL: [1, 7]}, "class id 7 is not in the label map"),
        ({schema.YMIN: [0.1]}, "as many of each corner expected"),
        ({schema.CLASS_LABEL: [1]}, "as many of each expected"),
        ({schema.WIDTH: None}, "feature 'image/width' is missing"),
        ({schema.MASK: None}, "image/object/mask is missing"),
        ({schema.MASK: [b"x", b"y"]}, "a mask of 50x40 expected, found no picture"),
    ],
)
def test_a_bad_record_is_named_with_its_shard_and_place(tmp_path, changes, message):
    path = foreign(tmp_path, **changes)
    with pytest.raises(ValueError, match=message) as error:
        truth.from_records(path, labels={1: "car", 2: "dog"}, masks_too=schema.MASK in changes)
    assert str(error.value).startswith(f"{path}: record at byte 0: ")


def test_a_damaged_shard_is_named_with_the_way_out(tmp_path):
    path = foreign(tmp_path)
    data = bytearray(pathlib.Path(path).read_bytes())
    data[40] ^= 1
    pathlib.Path(path).write_bytes(data)
    with pytest.raises(ValueError, match=r"record at byte 0: .* `tfllv records salvage`"):
        truth.from_records(path)


def test_a_missing_shard_is_noticed(tmp_path, coco_set):
    items, _ = coco.read_coco(coco_set, coco_set.parent, Report())
    pattern = write_records(tmp_path / "r", items)
    (tmp_path / "r" / "set.record-00001-of-00002").unlink()
    with pytest.raises(ValueError, match="1 of 2 shards found"):
        truth.from_records(pattern)
    with pytest.raises(ValueError, match=r"must name TFRecords. Received: '.*nothing"):
        truth.from_records(str(tmp_path / "nothing"))


def test_a_set_is_found_by_pattern_name_folder_manifest_and_shard(tmp_path, coco_set):
    items, _ = coco.read_coco(coco_set, coco_set.parent, Report())
    pattern = write_records(tmp_path / "r", items)
    names = ("r", "r/set.record", "r/set.record.manifest.json", "r/set.record*")
    whole = truth.find_shards(pattern)
    assert len(whole) == 2
    for name in names:
        assert truth.find_shards(str(tmp_path / name)) == whole, name
    assert truth.find_shards(whole[1]) == whole[1:]


def test_a_picture_that_stands_twice_is_refused(coco_set):
    found = truth.from_coco(coco_set, Report())
    with pytest.raises(ValueError, match=r"each file once. Received: '0.png' twice"):
        dataclasses.replace(found, images=(found.images[0], found.images[0]))


def test_a_broken_picture_is_named(tmp_path):
    path = foreign(tmp_path, **{schema.ENCODED: struct.pack("<I", 7)})
    with pytest.raises(ValueError, match=r"a.jpg: not a whole picture"):
        truth.from_records(path).images[0].pixels()
