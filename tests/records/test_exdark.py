from __future__ import annotations

import pathlib
from collections import Counter

import pytest

from tfllv.records import exdark, label_map, schema
from tfllv.records.problems import Report

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def official_list(tmp_path):
    """write(n): an official list of 7,363 lines whose first ones are the tree's pictures."""
    path = tmp_path / "imageclasslist.txt"
    splits = [1] * 3000 + [2] * 1800 + [3] * 2563
    lines = [
        f"2015_{i:05d}.{'JPG' if i == 0 else 'jpg'} {1 + i % 12} {1 + i % 10} {1 + i % 2} {s}"
        for i, s in enumerate(splits)
    ]
    path.write_text("Name | Class | Light | In/Out | Train/Val/Test\n" + "\r\n".join(lines) + "\n")
    return path


def test_pictures_and_annotations_are_matched_by_stem(exdark_tree):
    report = Report()
    found = exdark.find_images(exdark_tree, report)
    assert list(found) == [f"2015_{i:05d}" for i in range(8)] and len(report) == 0
    assert found["2015_00005"][0].endswith("Cat/2015_00005.jpg")
    assert found["2015_00005"][1].endswith("2015_00005.JPEG.txt")


def test_what_has_no_partner_is_reported(exdark_tree, write_picture):
    write_picture(exdark_tree / "ExDark" / "Cat" / "alone.jpg")
    write_picture(exdark_tree / "ExDark" / "Cat" / "2015_00000.jpg")
    (exdark_tree / "ExDark_Annno" / "Cat" / "nothing.jpg.txt").write_text("% bbGt version=3\n")
    report = Report()
    assert len(exdark.find_images(exdark_tree, report)) == 8
    assert report.kinds() == {"picture skipped": 1, "annotation file skipped": 1, "image skipped": 1}


def test_the_official_split_is_that_of_the_list(exdark_tree, official_list):
    report = Report()
    parts = exdark.read_exdark(exdark_tree, report, class_list=official_list, allow_missing=True)
    assert {split: len(items) for split, items in parts.items()} == {"train": 8}
    item = parts["train"][3]
    extra = dict(item.extra)
    assert extra[schema.LIGHTING] == 4 and extra[schema.LIGHTING_TEXT] == "Single" and extra[schema.INDOOR] == 0
    assert extra[schema.IMAGE_CLASS_TEXT] == ("Bus",) and extra[schema.SPLIT] == "train"
    assert [thing.text for thing in item.things] == ["Bicycle", "People"]
    assert item.things[0].box == (3, 2, 13, 14) and item.things[0].label == 1 and str(item.things[0].where)[-2:] == ":2"
    assert report.kinds() == {"official pictures missing": 1} and "7,355 of 7,363" in str(next(iter(report)))


def test_missing_pictures_are_an_error_unless_allowed(exdark_tree, official_list):
    with pytest.raises(ValueError, match=r"7,355 of the 7,363 .* 2015_00008.jpg; 8 were found.*--allow_missing"):
        exdark.read_exdark(exdark_tree, Report(), class_list=official_list)


def test_a_list_that_is_not_the_official_one_is_refused(exdark_tree, official_list):
    official_list.write_text("\n".join(official_list.read_text().splitlines()[:-1]))
    with pytest.raises(ValueError, match=r"3000/1800/2563 .* found 3000/1800/2562"):
        exdark.read_exdark(exdark_tree, Report(), class_list=official_list, allow_missing=True)


def test_lines_of_the_list_that_are_wrong_are_reported(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("a.jpg 13 1 1 1\nb.jpg 1 0 1 1\nc.jpg 1 1 1\nd.jpg 1 1 x 1\ne.jpg 1 1 1 1\ne.png 1 1 1 1\n")
    report = Report()
    assert list(exdark.read_class_list(path, report)) == ["e"]
    assert [str(p).removeprefix(f"{path}:").split(": list")[0] for p in report] == [
        "1: class",
        "2: light",
        "3: line",
        "4: in/out",
        "6: name",
    ]


def test_the_random_split_depends_on_the_seed_and_covers_each_class(exdark_tree):
    splits = [
        exdark.read_exdark(exdark_tree, Report(), split="random", train_fraction=0.75, seed=seed) for seed in (0, 0, 1)
    ]
    keys = [[item.key for item in parts["train"]] for parts in splits]
    assert keys[0] == keys[1] != keys[2]
    assert {split: len(items) for split, items in splits[0].items()} == {"train": 6, "val": 2}
    assert Counter(key < "2015_00004" for key in keys[0]) == {True: 3, False: 3}
    assert schema.LIGHTING not in dict(splits[0]["train"][0].extra)


@pytest.mark.parametrize(
    ("text", "field", "kind"),
    [
        ("Bycicle 1 2 3 4 0", "class", "object skipped: class"),
        ("Cat 1 2 3", "height", "object skipped: number"),
        ("Cat 1 nan 3 4", "top", "object skipped: number"),
        ("Cat 1 2 1e400 4", "width", "object skipped: number"),
        ("Cat x 2 3 4", "left", "object skipped: number"),
    ],
)
def test_a_wrong_line_is_named_and_skipped(tmp_path, text, field, kind):
    path = tmp_path / "a.txt"
    path.write_text(f"% bbGt version=3\nCat 1 2 3 4 0 0 0 0 0 0 0\n{text}\n")
    report = Report()
    assert len(exdark.read_annotation(str(path), report)) == 1
    assert [str(problem).startswith(f"{path}:3: {field}: {kind}: ") for problem in report] == [True]


def test_a_binary_annotation_file_is_reported(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"% bbGt version=3\n\xff\xfe")
    report = Report()
    assert exdark.read_annotation(str(path), report) == () and "a.txt:2: encoding" in str(next(iter(report)))


def test_wrong_arguments(exdark_tree, tmp_path):
    with pytest.raises(ValueError, match="`split`"):
        exdark.read_exdark(exdark_tree, Report(), split="own")
    with pytest.raises(ValueError, match="`train_fraction`"):
        exdark.read_exdark(exdark_tree, Report(), split="random", train_fraction=1)
    with pytest.raises(ValueError, match="`data_dir`"):
        exdark.read_exdark(tmp_path, Report(), split="random")
    with pytest.raises(OSError, match="imageclasslist"):
        exdark.read_exdark(exdark_tree, Report())


def test_the_label_map_of_the_pipelines_is_the_dataset(exdark_tree):
    assert label_map.read(ROOT / "pipelines" / "exdark_label_map.pbtxt") == exdark.CLASSES
    assert exdark.CLASSES["Bicycle"] == 1 and exdark.CLASSES["Table"] == 12 and len(exdark.CLASSES) == 12


def test_the_real_list_and_the_real_pictures(shared):
    folder = shared / "data" / "exdark"
    report = Report()
    listed = exdark.read_class_list(folder / "imageclasslist.txt", report)
    exdark.check_official(listed, "list")
    assert len(listed) == 7363 and len(report) == 0
    assert [Counter(line.label for line in listed.values())[i] for i in (1, 2, 12)] == [652, 679, 505]
    assert [Counter(line.lighting for line in listed.values())[i] for i in (1, 2, 10)] == [241, 2098, 416]
    assert sum(line.indoor for line in listed.values()) == 2822
    parts = exdark.read_exdark(folder / "mini", report, class_list=folder / "imageclasslist.txt", allow_missing=True)
    things = {item.key: item.things for items in parts.values() for item in items}
    assert {key: len(found) for key, found in things.items()} == {
        "2015_00003": 3,
        "2015_02057": 2,
        "2015_02154": 1,
        "2015_02446": 9,
        "2015_05885": 2,
    }
    assert things["2015_05885"][1].box == (112, 134, 399, 350)
