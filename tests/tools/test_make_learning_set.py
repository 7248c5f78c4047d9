"""Learning sets hold what they say: whole pictures, made scenes with boxes in place, the same bytes every time."""

from __future__ import annotations

import importlib.util
import pathlib

import numpy as np
import pytest

from tfllv.records import framing, images, schema

PATH = pathlib.Path(__file__).parents[2] / "tools" / "make_learning_set.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("make_learning_set", PATH)
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["make_learning_set"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def records(folder):
    payloads = [
        found.payload
        for path in sorted(folder.glob("*-of-*"))
        if path.suffix != ".json"
        for found in framing.scan(path.read_bytes())
    ]
    return [schema.parse(payload) for payload in payloads]


def check_boxes(record, smallest=0.0):
    for low, high, size in ((schema.XMIN, schema.XMAX, schema.WIDTH), (schema.YMIN, schema.YMAX, schema.HEIGHT)):
        for one, other in zip(record[low], record[high], strict=True):
            assert 0 <= one < other <= 1
            assert (other - one) * record[size][0] >= smallest - 1e-3


def test_exdark_gives_its_pictures_as_they_are_and_scenes_cut_from_them(tool, shared, tmp_path):
    words = ["--exdark_dir", str(shared / "data" / "exdark" / "mini"), "--num_scenes", "7", "--num_shards", "2"]
    for name in ("one", "two"):
        assert tool.main([*words, "--output_dir", str(tmp_path / name)]) == 0
    found = records(tmp_path / "one")
    whole = [record for record in found if record[schema.SOURCE_ID][0].startswith(b"2015_")]
    made = [record for record in found if record[schema.SOURCE_ID][0].startswith(b"cut_")]
    assert len(found) == 12 and len(made) == 7 and len(whole) == 5
    for record in made:
        assert record[schema.WIDTH] == [tool.SIDE] and record[schema.XMIN]
        check_boxes(record, tool.SMALLEST)
    for path in (tmp_path / "one").glob("learning.record-*"):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_coco_gives_scenes_with_masks_that_fill_their_boxes(tool, shared, tmp_path):
    pytest.importorskip("pycocotools")
    coco = shared / "data" / "coco"
    words = ["--exdark_dir", str(shared / "data" / "exdark" / "mini"), "--num_scenes", "4", "--num_shards", "1"]
    words += ["--coco_images", str(coco / "images"), "--output_dir", str(tmp_path)]
    assert tool.main([*words, "--coco_annotations", str(coco / "annotations" / "instances_2images.json")]) == 0
    found = records(tmp_path)
    assert len(found) == 4 and all(record[schema.XMIN] for record in found)
    for record in found:
        check_boxes(record, tool.SMALLEST)
        for index, data in enumerate(record[schema.MASK]):
            mask = np.asarray(images.decode(data))[..., 0] > 0
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            assert rows[0] / tool.SIDE == pytest.approx(record[schema.YMIN][index], abs=1e-6)
            assert (columns[-1] + 1) / tool.SIDE == pytest.approx(record[schema.XMAX][index], abs=1e-6)


def test_scenes_of_few_objects_stand_before_the_dark(tool, shared, tmp_path, capsys):
    pytest.importorskip("pycocotools")
    coco = shared / "data" / "coco"
    words = ["--exdark_dir", str(shared / "data" / "exdark" / "mini"), "--num_scenes", "5", "--num_shards", "1"]
    words += ["--output_dir", str(tmp_path), "--max_objects", "2"]
    assert tool.main(words) == 2
    assert "--max_objects" in capsys.readouterr().err
    words += ["--coco_images", str(coco / "images")]
    assert tool.main([*words, "--coco_annotations", str(coco / "annotations" / "instances_2images.json")]) == 0
    found = records(tmp_path)
    assert len(found) == 5
    for record in found:
        assert 1 <= len(record[schema.XMIN]) <= 2
        check_boxes(record, tool.SMALLEST)


def test_what_is_hidden_too_far_is_painted_over_and_has_no_box(tool):
    pixels = np.full((40, 60, 3), 200, np.uint8)
    seen, hidden = np.array([2.0, 2.0, 30.0, 38.0]), np.array([28.0, 10.0, 58.0, 36.0])
    scene = tool._keep_visible(pixels, [(1, "Car", seen, None, 1.0), (2, "Bus", hidden, None, 0.4)])
    assert [thing[1] for thing in scene.things] == ["Car"]
    assert (scene.pixels[20, 40:50] == tool.GREY).all()
    assert (scene.pixels[20, 28:30] == 200).all()  # a kept object is not painted over


def test_half_of_coco_is_refused(tool, shared, tmp_path, capsys):
    words = ["--exdark_dir", str(shared / "data" / "exdark" / "mini"), "--output_dir", str(tmp_path / "x")]
    assert tool.main([*words, "--coco_images", "somewhere"]) == 2
    assert "belong together" in capsys.readouterr().err and not (tmp_path / "x").exists()
