from __future__ import annotations

import json
import pathlib

import pytest

from tfllv.records import coco, detection, label_map
from tfllv.records.json_lines import Document
from tfllv.records.problems import Report

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def read(coco_tree):
    """read(change, ...): changes the document, reads it; problems without the path."""

    def call(change=lambda document: None, **options):
        path = coco_tree / "instances.json"
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document, indent=1))
        report = Report()
        items, labels = coco.read_coco(path, coco_tree / "images", report, **options)
        return items, labels, [str(problem).removeprefix(f"{path}:") for problem in report]

    return call


def test_pictures_objects_and_classes(read):
    items, labels, problems = read(masks=True)
    assert labels == {"car": 3, "toothbrush": 90} and not problems
    assert [item.key for item in items] == ["1", "2", "3", "4", "5", "6"]
    car, crowd = items[0].things
    assert car.box == (2, 3, 20.5, 25.25) and car.area == 311.5 and not car.is_crowd
    assert crowd.is_crowd and crowd.label == 90 and crowd.segmentation["size"] == [30, 40]


def test_choosing_pictures_and_classes(read):
    assert [item.key for item in read(max_images=2)[0]] == ["1", "2"]
    assert [item.key for item in read(image_ids={5, 3, 4}, max_images=2)[0]] == ["3", "4"]
    items, _, problems = read(labels={"toothbrush": 1})
    assert {thing.label for item in items for thing in item.things} == {1} and not problems
    with pytest.raises(ValueError, match=r"`image_ids`.*99"):
        read(image_ids={1, 99})
    with pytest.raises(ValueError, match="`max_images`"):
        read(max_images=-1)


def replace(key, index, field, value):
    return lambda document: document[key][index].__setitem__(field, value)


@pytest.mark.parametrize(
    ("change", "start"),
    [
        (replace("annotations", 4, "bbox", [1, 2, 3]), "annotations[4].bbox: object skipped: number"),
        (replace("annotations", 4, "bbox", [1, 2, "3", 4]), "annotations[4].bbox: object skipped: number"),
        (replace("annotations", 4, "bbox", [1, 2, float("nan"), 4]), "annotations[4].bbox: object skipped: number"),
        (replace("annotations", 4, "bbox", [1, 2, 10**400, 4]), "annotations[4].bbox: object skipped: number"),
        (replace("annotations", 4, "bbox", None), "annotations[4].bbox: object skipped: number"),
        (replace("annotations", 4, "category_id", 7), "annotations[4].category_id: object skipped: class"),
        (replace("annotations", 4, "image_id", 77), "annotations[4].image_id: object skipped: picture"),
        (replace("annotations", 4, "iscrowd", 2), "annotations[4].iscrowd: object skipped: crowd"),
        (replace("annotations", 4, "area", -1), "annotations[4].area: object skipped: area"),
        (replace("images", 2, "width", 0), "images[2].width: picture skipped"),
        (replace("images", 2, "id", True), "images[2].id: picture skipped"),
        (replace("images", 2, "id", 2), "images[2].id: picture skipped: id 2 stands twice"),
        (replace("images", 2, "file_name", "../../etc/passwd"), "images[2].file_name: picture skipped"),
        (lambda document: document["annotations"].__setitem__(4, 5), "annotations[4]: object skipped: entry"),
        (lambda document: document["categories"].append({"id": 3, "name": "x"}), "categories[2]: category skipped"),
    ],
)
def test_what_is_wrong_is_named_with_its_line_and_skipped(read, coco_tree, change, start):
    _, _, problems = read(change)
    assert any(line.partition(": ")[2].startswith(start) for line in problems), problems
    lines = (coco_tree / "instances.json").read_text().splitlines()
    number = int(problems[0].partition(":")[0])
    assert lines[number - 1].strip() in ("{", "5,"), "the line where the entry begins"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", ":1: json: Expecting '{'"),
        ('{"images": [1,\n 2,\n}', ":3: json:"),
        ('{"images": [],\n "annotations": {}', ":2: json:"),
        ("{}", ":1: categories: expected a list"),
        ('{"categories": 3}', ":1: categories: expected a list, found 3"),
        ('{"a":' + "[" * 100_000, "nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", ":1: json: "),
        ('{"categories": [{"id": 0, "name": "x"}], "images": [], "annotations": []}', "0 is the background"),
        ("\xff", "expected UTF-8|Expecting"),
    ],
)
def test_a_document_that_cannot_be_used_is_one_error_with_its_line(tmp_path, text, message):
    path = tmp_path / "x.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=message) as caught:
        coco.read_coco(path, tmp_path, Report())
    assert str(caught.value).startswith(str(path))


def test_classes_that_do_not_fit_a_semantic_mask_are_refused(read):
    with pytest.raises(ValueError, match="below 255"):
        read(lambda document: document["categories"].append({"id": 300, "name": "x"}), semantic_masks=True)


def test_the_document_is_what_json_reads(coco_tree):
    path = coco_tree / "instances.json"
    assert Document(str(path)).values == json.loads(path.read_text())
    path.write_text(' {"a" : [ ] , "b":{"c":[1]},"d" :[1 ,[2]] } ')
    assert Document(str(path)).values == {"a": [], "b": {"c": [1]}, "d": [1, [2]]}


def test_the_35_real_boxes_that_leave_their_pictures_are_clipped(shared):
    """33 reach beyond the right or lower edge, 2 begin at a negative coordinate; none of 16,586 has to be dropped."""
    path = shared / "data" / "exdark" / "boxes_trainval_coco_style.json"
    labels = label_map.read(ROOT / "pipelines" / "exdark_label_map.pbtxt")
    report = Report()
    items, _ = coco.read_coco(path, "", report, labels=labels)
    assert len(items) == 4799 and len(report) == 0
    things = [thing for item in items for thing in detection.check_boxes(item.things, *item.size, report)]
    assert len(things) == 16586 and report.kinds() == {"box clipped": 35}
    assert all(0 <= t.box[0] < t.box[2] and 0 <= t.box[1] < t.box[3] for t in things)
    assert {thing.label for thing in things} == set(range(1, 13))
    dropped = [t for item in items for t in detection.check_boxes(item.things, *item.size, Report(), "drop")]
    assert len(dropped) == 16586 - 35


def test_the_label_map_of_the_pipelines_is_the_real_one(shared):
    path = shared / "data" / "coco" / "annotations" / "instances_val2017_subset500.json"
    report = Report()
    items, labels = coco.read_coco(path, "", report)
    assert label_map.read(ROOT / "pipelines" / "coco_label_map.pbtxt") == labels and len(labels) == 80
    assert len(items) == 500 and sum(len(item.things) for item in items) == 4086 and len(report) == 0
    assert sum(thing.is_crowd for item in items for thing in item.things) == 44
