"""The converters' command lines, from files to records that read back."""

from __future__ import annotations

import importlib.util
import json
import pathlib
import subprocess
import sys

import cv2
import numpy as np
import pytest

from tfllv.records import label_map, salvage, schema, shards

ROOT = pathlib.Path(__file__).parents[2]


def load(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def call(name, *words):
    """Runs a tool in this process; `--beam_options` must stay last, so the number of workers goes first."""
    return load(name).main(["--workers", "1", *map(str, words)])


def records(folder, name):
    found = {}
    for shard in shards.read_manifest(str(folder), name)["shards"]:
        for payload, _ in salvage.read_records((folder / shard["name"]).read_bytes(), shard["name"]):
            record = schema.parse(payload)
            found[record[schema.SOURCE_ID][0].decode()] = record
    return found


def write_picture(path, width=40, height=30, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 255, (4, 5, 3)).astype(np.uint8)
    cv2.imwrite(str(path), cv2.resize(small, (width, height)))


@pytest.fixture
def exdark(tmp_path):
    root = tmp_path / "exdark"
    for index, name in enumerate(("Bicycle", "Bicycle", "Cat", "Cat")):
        image = f"2015_{index:05d}.{'png' if index == 1 else 'jpg'}"
        write_picture(root / "ExDark" / name / image, seed=index)
        path = root / "ExDark_Annno" / name / f"{image}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"% bbGt version=3\n{name} {index} 2 10 12 0\nPeople 35 1 9 6 0\n")
    return root


@pytest.fixture
def coco(tmp_path):
    root = tmp_path / "coco"
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 40, "height": 30} for i in (1, 2, 3)]
    for image in images:
        write_picture(root / image["file_name"], seed=image["id"])
    polygon = [2, 3, 20, 3, 20, 18]
    annotations = [
        {"image_id": i, "category_id": 1, "bbox": [2, 3, 18, 15], "segmentation": [polygon], "iscrowd": 0}
        for i in (1, 2, 3)
    ]
    document = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
    (root / "instances.json").write_text(json.dumps(document))
    return ("--train_image_dir", root, "--train_annotations_file", root / "instances.json")


def test_exdark(exdark, tmp_path, capsys):
    out = tmp_path / "out"
    words = (
        "--data_dir",
        exdark,
        "--output_dir",
        out,
        "--split",
        "random",
        "--train_fraction",
        "0.5",
        "--num_shards",
        "1",
    )
    assert call("create_exdark_tf_record", *words) == 0
    train, val = records(out, "exdark_train.record"), records(out, "exdark_val.record")
    assert len(train) == len(val) == 2 and not train.keys() & val.keys()
    found = train | val
    assert all(record[schema.FORMAT] == [b"jpeg"] for record in found.values())
    assert found["2015_00001"][schema.FILENAME] == [b"2015_00001.jpg"]
    stored = (exdark / "ExDark" / "Cat" / "2015_00002.jpg").read_bytes()
    assert found["2015_00002"][schema.ENCODED] == [stored], "a JPEG is copied"
    lines = (out / "annotations.csv").read_text().splitlines()
    assert lines[0] == "filename,width,height,class,xmin,ymin,xmax,ymax" and len(lines) == 9
    assert lines[1] == "2015_00000.jpg,40,30,Bicycle,0,2,10,14" and lines[2].endswith("People,35,1,40,7")
    assert label_map.read(out / "label_map.pbtxt")["Table"] == 12
    shown = capsys.readouterr()
    assert "4 x box clipped" in shown.err and "2 records" in shown.out
    assert len((out / "problems.txt").read_text().splitlines()) == 4
    assert call("create_exdark_tf_record", *words) == 0
    assert "there already" in capsys.readouterr().err
    assert len((out / "problems.txt").read_text().splitlines()) == 4
    assert (out / "annotations.csv").read_text().splitlines() == lines


def test_the_csv_that_exdark_gives_converts_to_the_same_boxes(exdark, tmp_path):
    out, half = tmp_path / "out", ("--train_fraction", "0.5")
    write_picture(exdark / "ExDark" / "Bicycle" / "2015_00001.jpg", seed=1)
    (exdark / "ExDark" / "Bicycle" / "2015_00001.png").unlink()
    assert call("create_exdark_tf_record", "--data_dir", exdark, "--output_dir", out, "--split", "random", *half) == 0
    flat = tmp_path / "flat"
    for path in (exdark / "ExDark").glob("*/*"):
        flat.mkdir(exist_ok=True)
        (flat / path.name).write_bytes(path.read_bytes())
    words = ("--csv_input", out / "annotations.csv", "--image_dir", flat, "--output_dir", tmp_path / "csv")
    assert call("create_csv_tf_record", *words, "--label_map_path", ROOT / "pipelines" / "exdark_label_map.pbtxt") == 0
    first = records(out, "exdark_train.record") | records(out, "exdark_val.record")
    second = records(tmp_path / "csv", "annotations.record")
    assert len(first) == len(second) == 4
    for key, record in first.items():
        for name in (schema.ENCODED, schema.XMIN, schema.YMAX, schema.CLASS_LABEL, schema.CLASS_TEXT):
            assert record[name] == second[f"{key}.jpg"][name]


def test_coco_with_masks_classes_and_darkness(coco, tmp_path):
    words = ("--include_masks", "--semantic_masks", "--darken", "gamma_noise", "--max_images", "2")
    assert call("create_coco_tf_record", *coco, *words, "--output_dir", tmp_path / "out") == 0
    found = records(tmp_path / "out", "coco_train.record")
    assert found.keys() == {"1", "2"}
    for record in found.values():
        assert record[schema.DARKEN_RECIPE] == [b"gamma_noise"] and len(record[schema.MASK]) == 1
        assert {schema.PAIRED_ENCODED, schema.SEMANTIC_ENCODED} <= record.keys()
    assert shards.read_manifest(str(tmp_path / "out"), "coco_train.record")["options"]["darken"] == "gamma_noise"


def test_choosing_pictures_by_a_file_of_ids(coco, tmp_path, capsys):
    ids = tmp_path / "ids.txt"
    ids.write_text("3\n\n1\n")
    assert call("create_coco_tf_record", *coco, "--image_ids", ids, "--output_dir", tmp_path / "out") == 0
    assert records(tmp_path / "out", "coco_train.record").keys() == {"1", "3"}
    ids.write_text("3\nx\n")
    assert call("create_coco_tf_record", *coco, "--image_ids", ids, "--output_dir", tmp_path / "out") == 2
    assert "ids.txt:2: id:" in capsys.readouterr().err


def test_strict_writes_nothing_and_exits_1(coco, tmp_path, capsys):
    path = coco[-1]
    document = json.loads(path.read_text())
    document["annotations"][0]["bbox"] = [2, 3, 0, 5]
    path.write_text(json.dumps(document))
    words = ("create_coco_tf_record", *coco, "--output_dir", tmp_path / "out")
    assert call(*words, "--strict") == 1
    shown = capsys.readouterr()
    assert "annotations[0].bbox: object skipped: empty box" in shown.err and "1 x object skipped" in shown.err
    assert [path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")] == ["problems.txt"]
    assert call(*words) == 0
    assert records(tmp_path / "out", "coco_train.record")["1"][schema.XMIN] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--output_dir", "x"), "give --train_image_dir"),
        (("--train_image_dir", "x", "--output_dir", "x"), "must be given together"),
        (("--tfds", "coco/2017", "--include_masks", "--output_dir", "x"), "--include_masks"),
        (("--train_image_dir", "x", "--train_annotations_file", "absent.json", "--output_dir", "x"), "absent.json"),
        (("--darken", "nigt", "--tfds", "x", "--output_dir", "x"), ""),
    ],
)
def test_wrong_use_is_one_line_and_exit_2(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("create_coco_tf_record", *words) == 2
    shown = capsys.readouterr().err
    assert message in shown and shown.count("\n") == 1 and list(tmp_path.iterdir()) == []


@pytest.fixture
def lol(tmp_path):
    root = tmp_path / "lol"
    for split, names in (("our485", "abcd"), ("eval15", "e")):
        for name in names:
            write_picture(root / split / "low" / f"{name}.png", seed=ord(name) + 50)
            write_picture(root / split / "high" / f"{name}.png", seed=ord("e") if name == "b" else ord(name))
    return root


def test_pairs_of_lol_report_or_drop_what_is_in_the_test_set(lol, tmp_path, capsys):
    assert call("create_pairs_tf_record", "--data_dir", lol, "--output_dir", tmp_path / "kept") == 0
    assert "1 x near-duplicate of a test picture" in capsys.readouterr().err
    assert len(records(tmp_path / "kept", "pairs_train.record")) == 4
    words = ("--data_dir", lol, "--near_duplicates", "drop", "--output_dir", tmp_path / "out")
    assert call("create_pairs_tf_record", *words) == 0
    assert records(tmp_path / "out", "pairs_train.record").keys() == {"our485/a", "our485/c", "our485/d"}
    record = records(tmp_path / "out", "pairs_test.record")["eval15/e"]
    assert record[schema.ENCODED] == [(lol / "eval15" / "low" / "e.png").read_bytes()]
    assert record[schema.PAIRED_ENCODED] == [(lol / "eval15" / "high" / "e.png").read_bytes()]


def test_pairs_of_two_folders_are_split_by_scene_and_guarded(lol, tmp_path):
    folder = lol / "our485"
    words = ("--low_dir", folder / "low", "--high_dir", folder / "high", "--val_fraction", "0.5")
    assert call("create_pairs_tf_record", *words, "--output_dir", tmp_path / "out") == 0
    train, val = (records(tmp_path / "out", f"pairs_{split}.record") for split in ("train", "val"))
    assert len(train) == len(val) == 2 and not train.keys() & val.keys()
    guard = ("--guard_dir", lol / "eval15" / "high", "--near_duplicates", "drop", "--output_dir", tmp_path / "guarded")
    assert call("create_pairs_tf_record", *words[:4], *guard) == 0
    assert records(tmp_path / "guarded", "pairs_train.record").keys() == {"a", "c", "d"}


def test_pairs_of_a_csv(lol, tmp_path, capsys):
    for split, names in (("train", "ac"), ("val", "d")):
        lines = [f"{name},our485/low/{name}.png,our485/high/{name}.png" for name in names]
        (lol / f"{split}.csv").write_text("scene,low,high\n" + "\n".join(lines))
    words = ("--train_csv", lol / "train.csv", "--val_csv", lol / "val.csv")
    assert call("create_pairs_tf_record", *words, "--output_dir", tmp_path / "out") == 0
    assert {r[schema.SCENE][0] for r in records(tmp_path / "out", "pairs_train.record").values()} == {b"a", b"c"}
    assert call("create_pairs_tf_record", *words, "--data_dir", lol, "--output_dir", tmp_path / "x") == 2
    assert "one source" in capsys.readouterr().err


@pytest.mark.parametrize("tool", ["exdark", "csv", "coco", "pairs"])
def test_a_tool_starts_without_tensorflow(tool):
    path = ROOT / "tools" / f"create_{tool}_tf_record.py"
    code = f"import runpy, sys; sys.argv = ['x', '--help']\ntry: runpy.run_path({str(path)!r}, run_name='__main__')\n"
    code += "except SystemExit: assert 'tensorflow' not in sys.modules and 'cv2' in sys.modules"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0 and "--output_dir" in run.stdout, run.stderr
