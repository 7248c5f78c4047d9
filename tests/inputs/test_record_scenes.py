from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import cv2
import numpy as np
import pytest

from tfllv import config as configs
from tfllv.inputs import pipeline, record_scenes
from tfllv.train import multitask

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    """Five pictures, a square of class 3 on each at another place; and their records, plain and darkened."""
    root = tmp_path_factory.mktemp("coco")
    images, notes = [], []
    for index in range(5):
        name = f"{index + 100:012d}.png"
        pixels = np.full((40, 50, 3), (40 * index, 120, 200), np.uint8)
        pixels[5 + index : 25 + index, 10:30] = (20, 20 + 40 * index, 220)
        (root / "images").mkdir(exist_ok=True)
        cv2.imwrite(str(root / "images" / name), pixels)
        images.append({"id": index + 100, "file_name": name, "width": 50, "height": 40})
        corners = [10, 5 + index, 30, 5 + index, 30, 25 + index, 10, 25 + index]
        note = {"id": index, "image_id": index + 100, "category_id": 3, "area": 400, "iscrowd": 0}
        notes.append(note | {"bbox": [10, 5 + index, 20, 20], "segmentation": [corners]})
    document = {"images": images, "annotations": notes, "categories": [{"id": 3, "name": "car"}]}
    (root / "instances.json").write_text(json.dumps(document))
    for name, words in (("plain", []), ("dark", ["--darken", "gamma_noise"])):
        write(root, name, "--semantic_masks", *words)
    write(root, "boxes")
    return root


def write(root, name, *words):
    tool = [sys.executable, str(ROOT / "tools" / "create_coco_tf_record.py"), "--num_shards", "2", "--workers", "1"]
    tool += ["--train_image_dir", str(root / "images"), "--train_annotations_file", str(root / "instances.json")]
    done = subprocess.run([*tool, "--output_dir", str(root / name), *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def make_config(coco, name, **changes):
    settings = {"images": str(coco / name / "coco_train.record"), "num_classes": 91, "image_size": 32}
    return configs.MultitaskConfig(experiment="multitask", **{**settings, "image_fit": "crop", **changes})


def test_records_give_the_pictures_and_maps_of_the_files(coco):
    source = multitask.source(make_config(coco, "plain"))
    assert len(source) == 5
    for index in range(5):
        name = source.names[index].rpartition("#")[2]
        expected = cv2.imread(str(coco / "images" / f"{int(name):012d}.png"))[..., ::-1]
        high, mask = source.read_centre("high", index), source.read_centre("mask", index)
        # A PNG became a JPEG of quality 95.
        assert np.abs(high.astype(int) - expected).mean() < 3
        inside = np.all(expected[..., 0:1] == 220, axis=-1)
        np.testing.assert_array_equal(mask, np.where(inside, 3, 0))
        assert source.read_centre("low", index).mean() < 0.5 * high.mean() / 255


def test_batches_start_at_any_step(coco):
    def batches(start):
        source = multitask.source(make_config(coco, "plain"))
        return list(pipeline.training_batches(source, batch_size=2, seed=4, start_step=start, stop_step=4))

    for one, other in zip(batches(0)[2:], batches(2), strict=True):
        assert one["mask"].shape == (2, 32, 32)
        for key in ("low", "high", "mask", "name"):
            np.testing.assert_array_equal(one[key], other[key])


def test_dark_pictures_of_records_are_taken(coco):
    source = multitask.source(make_config(coco, "dark"))
    low, high = source.read_centre("low", 0), source.read_centre("high", 0)
    assert low.dtype == np.uint8 and low.mean() < 0.5 * high.mean()
    (batch,) = pipeline.training_batches(source, batch_size=5, seed=0, stop_step=1)
    assert float(np.mean(batch["low"])) < 0.5 * float(np.mean(batch["high"]))


def test_a_list_of_ids_chooses_records_and_files(coco, tmp_path):
    (tmp_path / "ids.txt").write_text("101\n\n104  # the last\n")
    chosen = multitask.source(make_config(coco, "plain", image_ids=str(tmp_path / "ids.txt")))
    assert [name.rpartition("#")[2] for name in chosen.names] == ["101", "104"]
    folder = {"images": str(coco / "images"), "masks": str(tmp_path / "masks")}
    for path in (coco / "images").iterdir():
        (tmp_path / "masks").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "masks" / path.name), np.zeros((40, 50), np.uint8))
    files = multitask.source(make_config(coco, "plain", image_ids=str(tmp_path / "ids.txt"), **folder))
    assert [pathlib.Path(name).stem for name in files.names] == [f"{101:012d}", f"{104:012d}"]
    (tmp_path / "ids.txt").write_text("7\n")
    for settings in ({}, folder):
        with pytest.raises(ValueError, match="Received: 7, which is not there"):
            multitask.source(make_config(coco, "plain", image_ids=str(tmp_path / "ids.txt"), **settings))


def test_records_without_a_map_say_how_to_write_them(coco):
    with pytest.raises(
        ValueError, match=r"coco_train\.record-.*#10\d: expected a map of classes; found none.*--semantic"
    ):
        multitask.source(make_config(coco, "boxes"))
    with pytest.raises(ValueError, match="`image_ids` must be a file with an id a line"):
        path = coco / "empty.txt"
        path.write_text("# none\n")
        record_scenes.read_ids(path)


def test_a_class_out_of_range_names_the_record(coco):
    source = multitask.source(make_config(coco, "plain", num_classes=3))
    with pytest.raises(ValueError, match=r"#10\d: expected class ids 0 to 2; found 3"):
        source.read("mask", 0)


def test_a_damaged_record_is_named_and_a_short_shard_refused(coco, tmp_path):
    folder = tmp_path / "broken"
    folder.mkdir()
    for path in (coco / "plain").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    shard = sorted(folder.glob("*-of-*"))[0]
    data = bytearray(shard.read_bytes())
    data[60] ^= 1
    shard.write_bytes(bytes(data))
    entries = record_scenes.find_entries(folder / "coco_train.record")
    with pytest.raises(ValueError, match=r"#10\d: .*checksum.*salvage"):
        entries[0].read()
    shard.write_bytes(bytes(data[:-3]))
    with pytest.raises(ValueError, match="is short"):
        record_scenes.find_entries(folder / "coco_train.record")


def test_the_shipped_configuration_names_a_folder_of_records():
    config = configs.load(ROOT / "configs" / "multitask_coco25k.yaml")
    assert (config.masks, config.darken, config.num_classes, config.weighting) == ("", "statistical", 91, "uncertainty")
