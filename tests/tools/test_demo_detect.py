"""The detection demo: its scenes are what their boxes say, and its page shows what was found."""

from __future__ import annotations

import csv
import importlib.util
import pathlib
import re
import sys

import numpy as np
import pytest

from tfllv.detection import pipeline, results
from tfllv.inputs import image_files
from tfllv.records import label_map

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def demo():
    spec = importlib.util.spec_from_file_location("demo_detect", ROOT / "tools" / "demo_detect.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_a_scene_is_dark_holds_its_boxes_and_is_the_same_for_the_same_seed(demo):
    photographs = demo.read_photographs()
    names = set()
    for seed in range(12):
        scene = demo.hang_scene(photographs, seed=seed)
        assert scene.pixels.shape == (demo.HEIGHT, demo.WIDTH, 3) and scene.pixels.mean() < 100
        assert 1 <= len(scene.things) <= 3
        for name, (left, top, right, bottom) in scene.things:
            assert 0 <= left < right <= demo.WIDTH and 0 <= top < bottom <= demo.HEIGHT
            assert (right - left) * (bottom - top) > 400
            names.add(name)
    assert names == set(demo.NAMES)
    again = demo.hang_scene(photographs, seed=3)
    assert (again.pixels == demo.hang_scene(photographs, seed=3).pixels).all()


def test_a_box_is_where_the_object_was_hung(demo, monkeypatch):
    """Photographs that are black but for a white object: in the picture, the box is what is bright."""
    photographs = {}
    for name, (_, (left, top, right, bottom)) in demo.OBJECTS.items():
        photographs[name] = np.zeros_like(demo.read_photographs()[name])
        photographs[name][top:bottom, left:right] = 255
    monkeypatch.setattr(demo.darken, "darken", lambda image, recipe, seed, **options: image)
    for seed in range(8):
        scene = demo.hang_scene(photographs, seed=seed)
        for _, (left, top, right, bottom) in scene.things:
            inside = scene.pixels[top + 2 : bottom - 2, left + 2 : right - 2]
            assert inside.min() > 240


def test_the_overrides_fit_the_pipeline(demo, tmp_path):
    config = pipeline.load(ROOT / demo.PIPELINE, demo.overrides(tmp_path, 240))
    assert config.model.ssd.num_classes == len(demo.NAMES) == 5
    assert config.train_config.num_steps == 240
    (path,) = config.eval_input_reader[0].tf_record_input_reader.input_path
    assert path == f"{tmp_path}/records/unseen.record-?????-of-?????"


def test_the_page_counts_what_was_found_and_names_what_was_missed(demo, tmp_path):
    demo.write_scenes(tmp_path / "unseen", range(2, 4))
    (tmp_path / "label_map.pbtxt").write_text(label_map.write(demo.NAMES))
    demo.write_records(tmp_path, "unseen")
    with (tmp_path / "unseen.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    entries = []
    (tmp_path / "found").mkdir()
    for file in sorted({row["filename"] for row in rows}):
        mine = [row for row in rows if row["filename"] == file]
        kept = [*mine[1:], mine[1]] if file == "002.png" else mine
        boxes = [
            [int(row[key]) / side for key, side in (("ymin", 288), ("xmin", 384), ("ymax", 288), ("xmax", 384))]
            for row in kept
        ]
        numbers = [demo.NAMES[row["class"]] for row in kept]
        entries.append(results.ImageDetections(file, 384, 288, boxes, numbers, [0.9] * len(kept)))
        image_files.write_image(tmp_path / "found" / file, image_files.read_image(tmp_path / "unseen" / file).pixels)
    names = {number: name for name, number in demo.NAMES.items()}
    results.write(tmp_path / "found" / "detections.json", results.Detections(names, tuple(entries)))
    page = demo.write_page(tmp_path, 0.876, 240, 32, 300.0).read_text(encoding="utf-8")
    missed = next(row["class"] for row in rows if row["filename"] == "002.png")
    assert f"{len(rows) - 1} of {len(rows)} objects found in 2 dark scenes" in page
    assert f"missed: {missed}; 1 false" in page and "all found" in page and "87.6" in page
    assert page.count("<figure>") == 2 and page.count("<img ") == 4
    assert not re.search(r"""(src|href)="(?!data:)""", page) and "$" not in page


def test_a_step_that_fails_is_named_and_ends_the_demo(demo, tmp_path, capsys):
    assert demo.main(["--output", str(tmp_path / "runs"), "--steps", "0", "--scenes", "1", "--unseen", "1"]) == 1
    assert "failed with exit code" in capsys.readouterr().err
