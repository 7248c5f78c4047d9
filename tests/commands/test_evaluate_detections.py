"""`tfllv evaluate detections` and `tools/evaluate_detections.py`."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import cv2
import numpy as np
import pytest

from tfllv import cli
from tfllv.detection import detector, results
from tfllv.detection.detector import Found

ROOT = pathlib.Path(__file__).parent.parent.parent


@pytest.fixture
def exdark(tmp_path):
    """Six dark pictures with a bright square each, in ExDark's layout; detections: four right, one off, one none."""
    rows, images = ["Name | Class"], []
    for index in range(6):
        stem, left = f"2015_{index:05}", 5 + 3 * index
        pixels = np.full((40, 60, 3), 6, np.uint8)
        pixels[10:30, left : left + 20] = 90
        path = tmp_path / "exdark" / "ExDark" / "Cat" / f"{stem}.png"
        note = tmp_path / "exdark" / "ExDark_Annno" / "Cat" / f"{stem}.png.txt"
        for each in (path, note):
            each.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), pixels)
        note.write_text(f"% bbGt version=3\nCat {left} 10 20 20 0 0 0 0 0 0 0\n")
        rows.append(f"{stem}.png 6 {index % 2 + 1} {index % 2 + 1} 2")
        shift = 15 if index == 4 else 0
        box = [[10 / 40, (left + shift) / 60, 30 / 40, (left + shift + 20) / 60]] if index < 5 else []
        scores, classes = [0.9 - index / 10] * len(box), [1] * len(box)
        images.append(results.ImageDetections(f"Cat/{stem}.png", 60, 40, box, classes, scores))
    (tmp_path / "exdark" / "imageclasslist.txt").write_text("\n".join(rows) + "\n")
    results.write(tmp_path / "detections.json", results.Detections({1: "cat"}, tuple(images), "a model"))
    return tmp_path


def run(*words):
    return cli.main(["evaluate", "detections", *map(str, words)])


def test_a_file_is_scored_by_light_and_written_as_json_and_page(exdark, capsys):
    words = ["--detections", exdark / "detections.json", "--exdark_dir", exdark / "exdark", "--split", "all"]
    assert run(*words, "--output_dir", exdark / "report", "--resamples", 50) == 0
    text = capsys.readouterr().out
    assert "6 pictures, 6 objects, boxes" in text and "AP50, %, indoor" in text
    report = json.loads((exdark / "report" / "evaluation.json").read_text())
    # Four of six are found before anything false: the recalls of 0 to .66 at full precision, none beyond.
    assert report["metrics"]["bbox"]["AP50"] == pytest.approx(67 / 101)
    assert report["metrics"]["bbox"]["AR100"] == pytest.approx(4 / 6)
    assert sorted(os.listdir(exdark / "report")) == ["evaluation.json", "index.html"]
    assert f"written: {exdark / 'report' / 'index.html'}" in text


@pytest.fixture
def squares(monkeypatch):
    """Replaces the exported model by one that finds the square where it is brighter than 60, and only then."""

    class Squares:
        def __init__(self, folder):
            self.folder = folder

        def __call__(self, pixels):
            rows, columns = np.nonzero(pixels[..., 0] > 60)
            if not len(rows):
                return Found(np.zeros((0, 4), np.float32), np.zeros(0, int), np.zeros(0, np.float32))
            corners = [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
            box = np.array([corners], np.float32) / np.array([*pixels.shape[:2]] * 2, np.float32)
            return Found(box, np.array([6]), np.array([0.9], np.float32))

    monkeypatch.setattr(detector, "Detector", Squares)


def test_a_model_is_run_on_both_lights_and_the_drop_reported(exdark, squares, capsys):
    for path in sorted((exdark / "exdark" / "ExDark" / "Cat").iterdir()):
        pixels = cv2.imread(str(path))
        for folder, factor in (("normal", 2), ("low", 0.5)):
            (exdark / folder).mkdir(exist_ok=True)
            dark = factor == 0.5 and path.stem[-1] in "024"
            cv2.imwrite(
                str(exdark / folder / path.name), (pixels * (factor if dark or factor == 2 else 1)).astype("u1")
            )
    words = ["--model_dir", "model", "--exdark_dir", exdark / "exdark", "--split", "all", "--resamples", 100]
    words += ["--normal_light_dir", exdark / "normal", "--low_light_dir", exdark / "low"]
    assert run(*words, "--output_dir", exdark / "report") == 0
    report = json.loads((exdark / "report" / "evaluation.json").read_text())
    found = report["comparison"]["AP50"]
    assert found["before"] == pytest.approx(1) and found["after"] == pytest.approx(51 / 101)
    assert report["metrics"]["bbox"]["AP50"] == found["after"]
    assert "Normal and low light, 6 pictures in both" in capsys.readouterr().out
    assert "Normal and low light" in (exdark / "report" / "index.html").read_text()


def test_enhancers_are_compared_by_the_same_model(exdark, squares, capsys):
    for path in (exdark / "exdark" / "ExDark" / "Cat").iterdir():
        cv2.imwrite(str(path), cv2.imread(str(path)) // 2)
    words = ["--model_dir", "model", "--exdark_dir", exdark / "exdark", "--split", "all"]
    assert run(*words, "--compare_enhancers", "gamma", "--output_dir", exdark / "report") == 0
    report = json.loads((exdark / "report" / "evaluation.json").read_text())
    rows = {(row["method"], row["lighting"]): row["AP50"] for row in report["enhancers"]}
    assert rows["gamma", None]["before"] == 0 and rows["gamma", None]["after"] == pytest.approx(1)
    assert set(rows) == {("gamma", light) for light in (None, "Low", "Ambient")}
    assert "gamma: enhancing helps. AP 0.0 to 100.0" in capsys.readouterr().out
    assert "Does enhancing help this detector?" in (exdark / "report" / "index.html").read_text()


def test_detections_saved_before_are_compared_without_a_model(exdark, capsys):
    file = exdark / "detections.json"
    words = ["--detections", file, "--exdark_dir", exdark / "exdark", "--split", "all"]
    assert run(*words, "--compare_detections", f"again={file}", "--resamples", 100) == 0
    assert "again: no effect can be told from chance" in capsys.readouterr().out


def test_problems_of_the_ground_truth_are_named_and_change_the_exit_code(exdark, capsys):
    note = exdark / "exdark" / "ExDark_Annno" / "Cat" / "2015_00001.png.txt"
    note.write_text(note.read_text() + "Cat 50 30 40 5 0 0 0 0 0 0 0\n")
    words = ["--detections", exdark / "detections.json", "--exdark_dir", exdark / "exdark", "--split", "all"]
    assert run(*words, "--resamples", 5) == 1
    assert "2015_00001.png.txt:3: box: box clipped" in capsys.readouterr().err


@pytest.mark.slow
def test_the_commands_of_the_readme_run_as_they_stand(exdark, squares, monkeypatch, capsys):
    from tfllv.records import convert, detection, problems
    from tfllv.records import exdark as source

    monkeypatch.chdir(exdark)
    items = [item for part in source.read_exdark("exdark", problems.Report(), split="random").values() for item in part]
    plan = convert.SetPlan("exdark_test.record", items)
    build, options = detection.DetectionBuilder(), convert.RunOptions(num_shards=1, workers=1)
    convert.convert([plan], "records/exdark", build, source={}, options=options, say=lambda line: None)
    pathlib.Path("found").mkdir()
    pathlib.Path("detections.json").rename("found/detections.json")
    for name in ("day", "night"):
        pathlib.Path(name).symlink_to("exdark/ExDark/Cat")
    images = [{"id": i + 1, "file_name": f"2015_{i:05}.png", "width": 60, "height": 40} for i in range(6)]
    notes = [
        {"id": i + 1, "image_id": i + 1, "category_id": 6, "bbox": [5 + 3 * i, 10, 20, 20], "area": 400, "iscrowd": 0}
        for i in range(6)
    ]
    document = {"images": images, "annotations": notes, "categories": [{"id": 6, "name": "Cat"}]}
    pathlib.Path("instances.json").write_text(json.dumps(document))
    text = (ROOT / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = re.findall(r"^python tools/evaluate_detections\.py (.*)$", text, re.MULTILINE)
    assert len(lines) == 3
    for line in lines:
        assert run(*shlex.split(line, comments=True)) == 0, capsys.readouterr().err
        assert pathlib.Path("report/index.html").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "either `--detections` or `--model_dir` must be given. Received: neither."),
        (["--detections", "d.json"], "one of --records, --exdark_dir and --coco must be given. Received: none."),
        (["--detections", "d.json", "--coco", "x", "--records", "y"], "Received: --records, --coco."),
        (["--detections", "d.json", "--coco", "x", "--low_light_dir", "y"], "go together"),
        (["--detections", "d.json", "--coco", "x", "--compare_enhancers", "clahe"], "give --model_dir"),
        (["--model_dir", "m", "--coco", "x"], "`--image_dir` must name the pictures of --coco"),
        (["--model_dir", "m", "--exdark_dir", "x", "--compare_enhancers", "clae"], "did you mean 'clahe'?"),
        (["--detections", "absent.json", "--exdark_dir", "x"], "absent.json: there is no such file."),
        (["--model_dir", "m", "--exdark_dir", "x", "--masks"], "ExDark has none"),
        (["--model_dir", "m", "--exdark_dir", "x", "--compare_detections", "x"], "must be NAME=FILE"),
        (["--model_dir", "m", "--exdark_dir", "absent"], "`data_dir` must hold the folders"),
    ],
)
def test_wrong_use_is_one_line_and_exit_2(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("d.json").write_text("{}")
    assert run(*words) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_the_tool_scores_a_file_without_loading_tensorflow(exdark):
    code = (
        "import sys; sys.argv = sys.argv[1:]; import runpy\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules"
    )
    words = ["--detections", "detections.json", "--exdark_dir", "exdark", "--split", "all", "--resamples", "5"]
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT / "tools" / "evaluate_detections.py"), *words],
        cwd=exdark,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "AP50, %" in done.stdout
