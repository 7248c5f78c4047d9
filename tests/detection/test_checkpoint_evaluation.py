"""Checkpoints of a training run are evaluated as they appear."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import threading
import time

import cv2
import numpy as np
import pytest

from tfllv.detection import checkpoint_evaluation, compat, pipeline
from tfllv.detection.detector import Found
from tfllv.records import framing, schema

ROOT = pathlib.Path(__file__).parent.parent.parent
needs_tfod = pytest.mark.skipif(
    not compat._is_found("object_detection"), reason="the TF Object Detection API is not installed"
)


def touch(folder, number):
    folder.mkdir(exist_ok=True)
    (folder / f"ckpt-{number}.data-00000-of-00001").write_bytes(b"")
    (folder / f"ckpt-{number}.index").write_bytes(b"")


class FakeDetector:
    """Finds one car in the same place of every picture; the step is the checkpoint's number."""

    built = 0

    def __init__(self, config):
        FakeDetector.built += 1

    def restore(self, checkpoint):
        return 10 * int(str(checkpoint).rpartition("-")[2])

    def __call__(self, pixels):
        return Found(np.array([[0.1, 0.1, 0.6, 0.6]], np.float32), np.array([1]), np.array([0.8], np.float32))


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A configuration with records of four pictures, and a detector that needs no TensorFlow."""
    monkeypatch.setattr(checkpoint_evaluation.live_detector, "LiveDetector", FakeDetector)
    monkeypatch.setattr(checkpoint_evaluation, "write_summaries", lambda report, folder: None)
    monkeypatch.setattr(checkpoint_evaluation, "_POLL_SECONDS", 0.02)
    FakeDetector.built = 0
    (tmp_path / "labels.pbtxt").write_text("item { id: 1 name: 'Car' }\n")
    for part in ("train", "eval"):
        (tmp_path / f"{part}.record").write_bytes(b"".join(framing.frame(record(part, i)) for i in range(4)))
    reader = '{{ label_map_path: "{0}/labels.pbtxt" tf_record_input_reader {{ input_path: "{0}/{1}.record" }} }}'
    return pipeline.parse(
        f"train_config {{ num_steps: 30 }} train_input_reader {reader.format(tmp_path, 'train')} "
        f"eval_input_reader {reader.format(tmp_path, 'eval')}"
    )


def record(part, index):
    picture = cv2.imencode(".png", np.full((40, 50, 3), index, np.uint8))[1].tobytes()
    return schema.serialize(
        {
            schema.ENCODED: picture,
            schema.HEIGHT: 40,
            schema.WIDTH: 50,
            schema.FILENAME: f"{part}{index}.png",
            schema.YMIN: [0.1],
            schema.XMIN: [0.1],
            schema.YMAX: [0.6],
            schema.XMAX: [0.6],
            schema.CLASS_LABEL: [1],
            schema.CLASS_TEXT: ["Car"],
            schema.LIGHTING: index + 1,
            schema.INDOOR: index % 2,
        }
    )


def run(config, tmp_path, **options):
    lines = []
    options = {"eval_timeout": 0, "resamples": 5, "progress": False, "say": lines.append} | options
    return checkpoint_evaluation.evaluate_checkpoints(config, tmp_path / "train", tmp_path / "out", **options), lines


def test_the_newest_checkpoint_is_evaluated_printed_and_written(config, tmp_path):
    touch(tmp_path / "train", 1)
    touch(tmp_path / "train", 2)
    reports, lines = run(config, tmp_path)
    assert [report["step"] for report in reports] == [20]
    assert reports[0]["metrics"]["bbox"]["AP50"] == pytest.approx(1)
    assert "ckpt-2, step 20" in lines[0] and "Average Precision" in lines[0] and "AP50, %, indoor" in lines[0]
    assert sorted(os.listdir(tmp_path / "out" / "eval")) == ["detections.json", "evaluation.json", "index.html"]


def test_a_set_that_carries_light_gets_its_table(config, tmp_path):
    touch(tmp_path / "train", 1)
    cells = run(config, tmp_path)[0][0]["cells"]
    assert {row["lighting"] for row in cells} == {None, "Low", "Ambient", "Object", "Single"}


def test_newer_checkpoints_are_evaluated_as_they_come_and_the_last_step_ends_it(config, tmp_path):
    touch(tmp_path / "train", 1)

    def train():
        time.sleep(0.3)
        touch(tmp_path / "train", 2)
        time.sleep(0.3)
        touch(tmp_path / "train", 3)

    thread = threading.Thread(target=train)
    thread.start()
    start = time.monotonic()
    reports, _ = run(config, tmp_path, eval_timeout=600)
    thread.join()
    assert [report["step"] for report in reports] == [10, 20, 30]
    assert time.monotonic() - start < 300 and FakeDetector.built == 1


def test_no_checkpoint_within_the_timeout_is_one_line(config, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"train: --checkpoint_dir: no checkpoint .* within 0.1 s"):
        run(config, tmp_path, eval_timeout=0.1)
    assert FakeDetector.built == 0
    with pytest.raises(ValueError, match="`eval_timeout` must be >= 0"):
        run(config, tmp_path, eval_timeout=-1)


def test_one_checkpoint_can_be_named(config, tmp_path):
    touch(tmp_path / "train", 1)
    touch(tmp_path / "train", 2)
    reports = checkpoint_evaluation.evaluate_checkpoints(
        config, tmp_path / "train" / "ckpt-1", tmp_path / "out", resamples=5, progress=False, say=lambda line: None
    )
    assert [report["step"] for report in reports] == [10]


def test_samples_and_training_pictures_are_chosen_by_options_and_configuration(config, tmp_path):
    def files(**options):
        return [image.file for image in checkpoint_evaluation.read_truth(config, **options).images]

    assert files() == [f"eval{index}.png" for index in range(4)]
    assert files(every=2) == ["eval0.png", "eval2.png"]
    assert files(on_train_data=True, every=5) == ["train0.png"]
    config.eval_input_reader[0].sample_1_of_n_examples = 3
    assert files() == ["eval0.png", "eval3.png"]
    touch(tmp_path / "train", 1)
    report = run(config, tmp_path, eval_on_train_data=True, sample_1_of_n_eval_on_train_examples=2)[0][0]
    assert report["pictures"] == 2 and report["data"] == "training"


def test_pictures_are_prepared_as_in_training(config, tmp_path):
    touch(tmp_path / "train", 1)
    seen = []
    run(config, tmp_path, prepare=lambda pixels: seen.append(int(pixels[0, 0, 0])) or pixels)
    assert seen == [0, 1, 2, 3]


def test_a_configuration_without_records_is_named(config):
    config.eval_input_reader[0].tf_record_input_reader.ClearField("input_path")
    with pytest.raises(ValueError, match=r"`eval_input_reader.tf_record_input_reader.input_path` must name records"):
        checkpoint_evaluation.read_truth(config)


@pytest.mark.slow
@needs_tfod
def test_a_checkpoint_scores_as_in_tfods_own_evaluation(tmp_path):
    script = pathlib.Path(__file__).parent / "evaluate_with_tfod.py"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]
    both = json.loads((tmp_path / "both.json").read_text())
    assert both["step"] == 7 and not both["ties"]
    assert 0.05 < both["ours"]["AP"] < 0.95
    names = [f"DetectionBoxes_{name}" for name in checkpoint_evaluation._SUMMARIES]
    for name, (key, value) in zip(names, both["ours"].items(), strict=True):
        assert both["theirs"][name] == pytest.approx(value, abs=1e-6), key
    assert any((tmp_path / "ours" / "eval").glob("events*"))
