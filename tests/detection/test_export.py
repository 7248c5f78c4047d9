"""What is exported is what was trained: verified in a fresh process, published whole or not at all."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from tfllv.detection import compat, detector, export, results
from tfllv.detection.detector import Found
from tfllv.inputs import image_files

ROOT = pathlib.Path(__file__).parents[2]
needs_tfod = pytest.mark.skipif(
    not compat._is_found("object_detection"), reason="the TF Object Detection API is not installed"
)


def checkpoint(folder, *names, state=None):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / f"{name}.index").write_bytes(b"")
        (folder / f"{name}.data-00000-of-00001").write_bytes(b"")
    if state is not None:
        (folder / "checkpoint").write_text(f'model_checkpoint_path: "{state}"\nall_model_checkpoint_paths: "ckpt-9"\n')
    return folder


def found(count=6, *, masks=False, seed=0):
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 0.5, (count, 2))
    boxes = np.concatenate([low, low + 0.3], axis=1).astype(np.float32)
    scores = np.sort(rng.uniform(0.1, 0.9, count))[::-1].astype(np.float32)
    return Found(boxes, rng.integers(1, 4, count), scores, rng.random((count, 5, 5), np.float32) if masks else None)


def change(one, name, index, value):
    array = getattr(one, name).copy()
    array[index] = value
    return dataclasses.replace(one, **{name: array})


class TestTheCheckpoint:
    def test_that_the_state_file_names_is_taken(self, tmp_path):
        folder = checkpoint(tmp_path / "run", "ckpt-3", "ckpt-12", state="ckpt-3")
        assert export.find_checkpoint(folder) == folder / "ckpt-3"

    def test_of_a_folder_that_was_moved_is_found_by_its_name(self, tmp_path):
        folder = checkpoint(tmp_path / "run", "ckpt-3", "ckpt-12", state="/elsewhere/run/ckpt-3")
        assert export.find_checkpoint(folder) == folder / "ckpt-3"

    def test_without_a_state_file_is_the_one_of_the_highest_number(self, tmp_path):
        folder = checkpoint(tmp_path / "run", "ckpt-3", "ckpt-12")
        assert export.find_checkpoint(folder) == folder / "ckpt-12"

    def test_may_be_named_itself(self, tmp_path):
        folder = checkpoint(tmp_path / "run", "ckpt-3", "ckpt-12")
        assert export.find_checkpoint(folder / "ckpt-3") == folder / "ckpt-3"

    @pytest.mark.parametrize("name", ["empty", "absent"])
    def test_that_is_absent_is_missed_by_its_option(self, tmp_path, name):
        (tmp_path / "empty").mkdir()
        with pytest.raises(FileNotFoundError, match="--trained_checkpoint_dir"):
            export.find_checkpoint(tmp_path / name)

    def test_without_its_data_is_refused(self, tmp_path):
        folder = checkpoint(tmp_path / "run", "ckpt-3")
        (folder / "ckpt-3.data-00000-of-00001").unlink()
        with pytest.raises(FileNotFoundError, match=r"\.data file is missing"):
            export.find_checkpoint(folder)


class TestTheOutput:
    def test_may_be_new_or_empty(self, tmp_path):
        assert export.check_output(tmp_path / "new", overwrite=False) == tmp_path / "new"
        assert export.check_output(tmp_path, overwrite=False) == tmp_path

    def test_that_holds_an_export_is_replaced_only_where_asked(self, tmp_path):
        (tmp_path / "saved_model").mkdir()
        with pytest.raises(ValueError, match="--overwrite"):
            export.check_output(tmp_path, overwrite=False)
        assert export.check_output(tmp_path, overwrite=True) == tmp_path

    def test_that_holds_anything_else_is_never_replaced(self, tmp_path):
        (tmp_path / "thesis.tex").write_text("")
        with pytest.raises(ValueError, match=r"holds more than an export \('thesis.tex'\)"):
            export.check_output(tmp_path, overwrite=True)
        with pytest.raises(ValueError, match="must be a folder"):
            export.check_output(tmp_path / "thesis.tex", overwrite=True)


def test_of_many_pictures_some_evenly_spread_are_compared_on(tmp_path):
    for index in range(9):
        image_files.write_image(tmp_path / f"{index}.png", np.full((2, 2, 3), index, np.uint8))
    assert [int(pixels[0, 0, 0]) for pixels in export.read_pictures(tmp_path, most=3)] == [0, 4, 8]
    assert len(export.read_pictures(None)) == 6


class TestComparison:
    def test_passes_equal_detections_in_any_order(self):
        one = found(masks=True)
        turned = Found(*(getattr(one, name)[::-1] for name in ("boxes", "classes", "scores", "masks")))
        report = export.compare([one, one], [one, turned])
        assert report == export.Report(2, 12, 0.0, 0.0, 0.0)

    def test_reports_the_largest_differences(self):
        one = found(masks=True)
        other = change(one, "boxes", (2, 1), one.boxes[2, 1] + 5e-6)
        other = change(other, "masks", (3, 1, 1), one.masks[3, 1, 1] - 5e-4)
        report = export.compare([one], [other])
        assert report.boxes == pytest.approx(5e-6, rel=0.01) and report.masks == pytest.approx(5e-4, rel=0.01)
        assert report.line().startswith("6 detections in 1 picture")

    @pytest.mark.parametrize(
        ("name", "index", "value"),
        [("boxes", (2, 1), 0.9), ("classes", 0, 7), ("scores", 1, 0.2), ("masks", (0, 2, 2), 3.0)],
    )
    def test_refuses_what_differs(self, name, index, value):
        one = found(masks=True)
        with pytest.raises(ValueError, match="picture 1: the exported model differs from the live one"):
            export.compare([one, one], [one, change(one, name, index, value)])

    def test_refuses_detections_too_few_or_too_many(self):
        one = found()
        less = Found(one.boxes[1:], one.classes[1:], one.scores[1:])
        for pair in ((one, less), (less, one), (one, found(0)), (found(0), one)):
            with pytest.raises(ValueError, match="differs"):
                export.compare([pair[0]], [pair[1]])

    def test_refuses_masks_of_one_alone(self):
        one = found(masks=True)
        with pytest.raises(ValueError, match="masks of one alone"):
            export.compare([one], [dataclasses.replace(one, masks=None)])

    def test_lets_the_last_of_a_full_list_differ_where_scores_are_tied(self):
        one = found(20)
        tied = change(one, "scores", 18, one.scores[19])
        other = change(change(tied, "boxes", 19, [0.1, 0.1, 0.2, 0.2]), "classes", 19, 3)
        assert export.compare([tied], [other]).detections == 20
        with pytest.raises(ValueError, match="differs"):
            export.compare([tied], [change(other, "classes", slice(15, None), 5)])


class TestSideInputs:
    def test_are_tried_with_values_of_their_shape_and_type(self):
        values = export.SideInputs("1,-1,7/1", "tf.float32,tf.int32", "context,size").examples()
        assert values["context"].shape == (1, 1, 7) and values["context"].dtype == np.float32
        assert values["size"].tolist() == [1] and values["size"].dtype == np.int32

    @pytest.mark.parametrize(
        ("shapes", "types", "names", "message"),
        [
            ("1", "tf.float32,tf.int32", "a", "as many inputs"),
            ("one", "tf.float32", "a", "--side_input_shapes"),
            ("1", "__import__('os').system('true')", "a", "--side_input_types"),
            ("1", "tf.float32", "", "as many inputs"),
        ],
    )
    def test_that_are_wrong_are_refused_and_never_evaluated(self, shapes, types, names, message):
        with pytest.raises(ValueError, match=message):
            export.SideInputs(shapes, types, names)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """What `export_small_detector.py` did: its folder and its words."""
    folder = tmp_path_factory.mktemp("export")
    script = pathlib.Path(__file__).with_name("export_small_detector.py")
    run = subprocess.run(
        [sys.executable, "-W", "ignore", script, folder], capture_output=True, text=True, check=False, timeout=600
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return folder, json.loads(run.stdout.splitlines()[-1])


@needs_tfod
class TestAnExport:
    def test_is_published_with_tfods_layout_and_the_label_map_once_it_is_verified(self, exported):
        folder, said = exported
        assert said["good"].startswith("12 detections in 3 pictures, live and re-loaded: the same classes")
        assert sorted(os.listdir(folder / "good")) == [
            "checkpoint",
            "label_map.pbtxt",
            "pipeline.config",
            "saved_model",
        ]
        assert (folder / "good" / "saved_model" / "saved_model.pb").is_file()
        assert (folder / "good" / "checkpoint" / "ckpt-0.index").is_file()

    def test_whose_weights_were_lost_is_refused_and_what_was_there_stays_to_the_byte(self, exported):
        _, said = exported
        assert said["broken"].startswith("ValueError: picture 0: the exported model differs from the live one")
        assert "\n" not in said["broken"]
        assert said["before"] == said["after"] and "saved_model/saved_model.pb" in said["after"]
        assert not [name for name in said["left"] if name.startswith(".")]

    @pytest.mark.parametrize("kind", detector.INPUT_TYPES)
    def test_of_each_input_type_is_told_apart_and_finds_the_same(self, exported, kind):
        told, line = exported[1][kind]
        assert told == kind
        assert line.startswith("8 detections in 2 pictures, live and re-loaded: the same classes")

    def test_takes_side_inputs(self, exported):
        names, line = exported[1]["side"]
        assert names == ["bias"] and line.startswith("4 detections in 1 picture,")


def tool(*words):
    spec = importlib.util.spec_from_file_location("exporter_main_v2", ROOT / "tools" / "exporter_main_v2.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main([str(word) for word in words])


@needs_tfod
@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--pipeline_config_path", "absent.config"], "absent.config: --pipeline_config_path: no such file"),
        (["--trained_checkpoint_dir", "nothing"], "nothing: --trained_checkpoint_dir: no checkpoint"),
        (["--input_type", "image_tensors"], "did you mean 'image_tensor'?"),
        (["--config_override", "model { sdd { } }"], "did you mean 'ssd'?"),
        (["--override", "model.ssd.num_clases=3"], "num_classes"),
        (["--label_map_path", "absent.pbtxt"], "absent.pbtxt"),
        (["--verify_images", "nowhere"], "--verify_images"),
        (["--use_side_inputs", "--input_type", "tf_example"], "as many inputs"),
        (["--output_directory", "full"], "--overwrite"),
    ],
)
def test_wrong_use_is_one_line_and_exit_2_before_tensorflow_is_imported(tmp_path, monkeypatch, capsys, more, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compat, "install", lambda: pytest.fail("TensorFlow was imported"))
    (tmp_path / "p.config").write_text("model { ssd { num_classes: 3 } }")
    checkpoint(tmp_path / "run", "ckpt-1")
    checkpoint(tmp_path / "full", "ckpt-1")
    words = ["--pipeline_config_path", "p.config", "--trained_checkpoint_dir", "run", "--output_directory", "out"]
    assert tool(*words, *more) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()


SAVE_RANDOM_WEIGHTS = """
import sys
from tfllv.detection import compat, mask_features, pipeline
compat.install()
import tensorflow as tf
from object_detection.builders import model_builder
mask_features.register()
model = model_builder.build(pipeline.load(sys.argv[1]).model, is_training=False)
images, shapes = model.preprocess(tf.zeros([1, 256, 256, 3]))
model.postprocess(model.predict(images, shapes), shapes)
tf.train.Checkpoint(model=model).save(sys.argv[2] + "/ckpt")
"""


@needs_tfod
@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "input_type"),
    [("ssd_efficientdet_d0_256x256_smoke", "tf_example"), ("mask_rcnn_resnet50_fpn_256x256_smoke", "image_tensor")],
)
def test_a_real_model_exports_with_equal_results_and_its_masks_are_drawn(shared, tmp_path, config, input_type):
    """Random weights are the hardest case: scores are nearly tied, so any difference changes the order."""
    path = ROOT / "pipelines" / f"{config}.config"
    pictures = shared / "data" / "exdark" / "mini" / "ExDark" / "Bus"
    (tmp_path / "run").mkdir()
    begin = [sys.executable, "-W", "ignore"]
    subprocess.run([*begin, "-c", SAVE_RANDOM_WEIGHTS, path, tmp_path / "run"], check=True, cwd=ROOT)
    words = ["--pipeline_config_path", path, "--trained_checkpoint_dir", tmp_path / "run", "--input_type", input_type]
    words += ["--output_directory", tmp_path / "out", "--label_map_path", ROOT / "pipelines" / "coco_label_map.pbtxt"]
    run = subprocess.run(
        [*begin, ROOT / "tools" / "exporter_main_v2.py", *words, "--verify_images", pictures],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert "detections in 2 pictures, live and re-loaded: the same classes" in run.stdout
    assert (", masks by " in run.stdout) == config.startswith("mask")
    words = ["--images_folder_dir", pictures, "--model_dir", tmp_path / "out", "--save_path", tmp_path / "found"]
    words += ["--save_detection", "--min_score", "0"]
    subprocess.run([*begin, ROOT / "tools" / "run_inference.py", *words], check=True)
    saved = results.read(tmp_path / "found" / "detections.json")
    assert all((image.masks is not None) == config.startswith("mask") for image in saved.images)
    assert all(len(image.scores) for image in saved.images)
    assert (tmp_path / "found" / saved.images[0].file).is_file()
