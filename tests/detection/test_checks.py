"""What would fail in training is said in one line each, without TensorFlow."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

from tfllv.detection import checks, compat, pipeline
from tfllv.records import label_map, schema

pytestmark = pytest.mark.skipif(
    not compat._is_found("object_detection"), reason="the TF Object Detection API is not installed"
)
SCENES = importlib.util.spec_from_file_location("tests_detection_scenes", pathlib.Path(__file__).parent / "scenes.py")
scenes = importlib.util.module_from_spec(SCENES)
SCENES.loader.exec_module(scenes)
ROOT = pathlib.Path(__file__).parents[2]
SMOKE = ROOT / "pipelines" / "ssd_efficientdet_d0_256x256_smoke.config"
RATE = "train_config.optimizer.momentum_optimizer.learning_rate.cosine_decay_learning_rate"


@pytest.fixture
def world(tmp_path):
    """Records and a label map that a configuration can be in order with."""
    scenes.write_records(tmp_path / "a.record", [scenes.example(index) for index in range(3)])
    scenes.write_label_map(tmp_path / "map.pbtxt")
    return tmp_path


def load(world, text=scenes.ZOO_EFFICIENTDET, *more):
    """The zoo's configuration with its placeholders filled in, for the three classes of the records."""
    config = pipeline.parse(text)
    kind = config.model.WhichOneof("model")
    for override in (
        *scenes.reader_overrides(str(world / "a.record"), str(world / "map.pbtxt")),
        f"model.{kind}.num_classes=3",
        "train_config.fine_tune_checkpoint=",
        *more,
    ):
        pipeline.apply_override(config, override)
    return config


def found(config, **run):
    return [str(problem) for problem in checks.check(config, "x.config", checks.Run(**run))]


def write_checkpoint(world, keys):
    """The index of a checkpoint, as far as the checks look into it."""
    (world / "ckpt-0.index").write_bytes(b"\0".join(key.encode() for key in keys))
    return str(world / "ckpt-0")


@pytest.mark.parametrize("name", scenes.ZOO)
def test_a_zoo_configuration_with_its_placeholders_filled_in_has_no_problem(world, name):
    assert found(load(world, scenes.ZOO[name])) == []


@pytest.mark.parametrize("name", scenes.ZOO)
def test_a_zoo_configuration_as_downloaded_lacks_its_placeholders_alone(name):
    lines = found(pipeline.parse(scenes.ZOO[name]))
    assert len(lines) == 3 and all("PATH_TO_BE_CONFIGURED" in line for line in lines), lines


@pytest.mark.parametrize("path", sorted((ROOT / "pipelines").glob("*.config")), ids=lambda path: path.stem)
def test_the_projects_configurations_lack_their_files_alone(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = found(pipeline.load(path))
    fields = {"fine_tune_checkpoint", "input_path", "label_map_path"}
    assert all(line.split(": ")[1].rpartition(".")[2] in fields for line in lines), lines
    heading = path.read_text().split("model {")[0]
    assert "--pipeline_config_path" in heading and "Expected:" in heading and "Cost:" in heading


@pytest.mark.parametrize(
    ("override", "field", "fix"),
    [
        ("model.ssd.image_resizer.keep_aspect_ratio_resizer.max_dimension=640", None, ""),
        ("model.ssd.image_resizer.keep_aspect_ratio_resizer.max_dimension=600", "max_dimension: 600", "set 640"),
        ("model.ssd.image_resizer.keep_aspect_ratio_resizer.max_dimension=128", "max_dimension: 128", "set 256"),
        ("model.ssd.image_resizer={fixed_shape_resizer{height: 512 width: 500}}", "width: 500", "set 512"),
        ("model.ssd.image_resizer.keep_aspect_ratio_resizer.pad_to_max_dimension=false", "pad_to_max", "set pad_to"),
        ("model.ssd.num_classes=90", "model.ssd.num_classes: 90", "set 3"),
        ("train_config.batch_size=0", "train_config.batch_size: 0", "set 1 or more"),
        ("train_config.batch_size=32", f"{RATE}.learning_rate_base: 0.08", "set 0.02"),
        (f"{RATE}.learning_rate_base=nan", "learning_rate_base: nan", "above 0"),
        (
            "train_config.optimizer={adam_optimizer{learning_rate{constant_learning_rate{learning_rate:0.08}}}}",
            "",
            "Adam",
        ),
        ("train_config.optimizer={}", "train_config.optimizer: none", "learning rate"),
        (f"{RATE}.warmup_learning_rate=1", "warmup_learning_rate: 1", "at most"),
        (f"{RATE}.warmup_steps=300000", "warmup_steps: 300000", "less than total_steps"),
        (f"{RATE}.total_steps=1000", f"{RATE}.total_steps: 1000", "set 300000"),
        ("train_config.num_steps=15000", f"{RATE}.total_steps: 300000", "set 15000"),
        ("train_config.num_steps=0", "train_config.num_steps: 0", "--num_train_steps"),
        (
            "train_input_reader.label_map_path=none.pbtxt",
            "label_map_path: 'none.pbtxt', no such file",
            "name the label",
        ),
        ("train_input_reader.tf_record_input_reader.input_path=b-*", "input_path: 'b-*', no such file", "name the rec"),
        ("train_input_reader.load_instance_masks=true", None, ""),
        ("train_input_reader={label_map_path: 'x'}", "tf_record_input_reader: none", "write"),
        ("train_config.fine_tune_checkpoint=zoo/ckpt-0", "fine_tune_checkpoint: 'zoo/ckpt-0'", "unpack"),
        ("model={}", "model: no architecture", "write model"),
    ],
)
def test_each_fault_is_one_line_with_its_field_value_and_way_out(world, override, field, fix):
    lines = found(load(world, scenes.ZOO_EFFICIENTDET, override))
    if field is None:
        assert lines == []
    else:
        assert any(field in line and fix in line and line.startswith("x.config: ") for line in lines), lines
        assert not any("\n" in line for line in lines)


def test_a_few_steps_of_a_long_schedule_are_a_trial_and_more_than_it_are_not(world):
    config = load(world)
    assert found(config, num_train_steps=8) == []
    (line,) = found(config, num_train_steps=400000)
    assert "total_steps: 300000; the rate is 0 from there to step 400000" in line


def test_workers_share_out_batch_and_files(world):
    lines = found(load(world), num_workers=3)
    assert any("batch_size: 128; set a multiple of the 3 workers" in line for line in lines)
    assert any("input_path: 1 files; write them as 3 shards" in line for line in lines)


def test_evaluation_is_checked_for_what_it_reads(world):
    config = load(world, scenes.ZOO_EFFICIENTDET, "train_config.batch_size=0")
    assert found(config, trains=False, reads="eval") == []
    del config.eval_input_reader[:]
    assert "eval_input_reader: none" in found(config, trains=False, reads="eval")[0]


@pytest.mark.parametrize(
    ("keys", "overrides", "message"),
    [
        (
            ("_CHECKPOINTABLE_OBJECT_GRAPH", "model/_feature_extractor/x"),
            ('fine_tune_checkpoint_type="detection"',),
            "",
        ),
        (("_CHECKPOINTABLE_OBJECT_GRAPH", "model/_feature_extractor/x"), (), 'whole detector: set "detection"'),
        (("_CHECKPOINTABLE_OBJECT_GRAPH", "feature_extractor/x"), (), ""),
        (
            ("_CHECKPOINTABLE_OBJECT_GRAPH", "feature_extractor/x"),
            ("fine_tune_checkpoint_type=detection",),
            'holds no detector: set "classification"',
        ),
        (("FeatureExtractor/Conv/weights",), (), "TensorFlow 1 checkpoint"),
        (("_CHECKPOINTABLE_OBJECT_GRAPH",), ("fine_tune_checkpoint_type=detector",), 'set "detection"'),
        (("_CHECKPOINTABLE_OBJECT_GRAPH",), ("fine_tune_checkpoint_version=V1",), "version: V1; set V2"),
    ],
)
def test_the_starting_checkpoint_must_fit_its_type(world, keys, overrides, message):
    config = load(world, scenes.ZOO_EFFICIENTDET, f"train_config.fine_tune_checkpoint={write_checkpoint(world, keys)}")
    for override in overrides:
        pipeline.apply_override(config, f"train_config.{override}")
    lines = found(config)
    assert (lines == []) if not message else (len(lines) == 1 and message in lines[0]), lines


def test_a_folder_in_place_of_a_checkpoint_is_answered_with_what_is_in_it(world):
    write_checkpoint(world, ["_CHECKPOINTABLE_OBJECT_GRAPH"])
    (line,) = found(load(world, scenes.ZOO_EFFICIENTDET, f"train_config.fine_tune_checkpoint={world}"))
    assert f"did you mean {world / 'ckpt-0'}?" in line


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boxes": [(10, 20, 40, 60)]}, "bbox[0]: (10, 20, 40, 60); coordinates are normalised"),
        ({"boxes": [(0.1, 0.1, 1.2, 0.5)]}, "the box leaves its picture"),
        ({"boxes": [(0.1, 0.1, 0.5, 0.5), (0.5, 0.1, 0.4, 0.5)]}, "bbox[1]: (0.5, 0.1, 0.4, 0.5); the box is empty"),
        ({schema.XMIN: [float("nan")]}, "coordinates must be numbers"),
        ({schema.XMIN: []}, "0, 1, 1, 1 values"),
        ({schema.CLASS_TEXT: ["Lamp"]}, "class/text[0]: 'Lamp'; no class of the label map"),
        ({schema.CLASS_TEXT: ["Boat"]}, "'Boat' has id 2 in the label map"),
        ({schema.CLASS_TEXT: None, schema.CLASS_LABEL: [7]}, "class/label[0]: 7; no id of the label map"),
        ({schema.CLASS_TEXT: None, schema.CLASS_LABEL: None}, "0 ids and 0 names for 1 boxes"),
        ({schema.ENCODED: None}, "image/encoded: absent"),
        ({"boxes": [(0.0, 0.0, 0.5, 0.5)] * 101}, "101 boxes; set max_number_of_boxes"),
    ],
)
def test_a_record_that_would_spoil_training_is_named(world, changes, message):
    scenes.write_records(world / "a.record", [scenes.example(0), scenes.example(1, **changes)])
    (line,) = found(load(world))
    assert line.startswith(f"{world / 'a.record'}: record 1 (picture 1 1.png): ") and message in line, line


def test_masks_that_are_asked_for_must_be_there(world):
    scenes.write_records(world / "a.record", [scenes.example(0, **{schema.MASK: None})])
    config = load(world, scenes.ZOO_MASK_RCNN)
    (line,) = found(config)
    assert "0 masks for 1 boxes; write records with --include_masks" in line


def test_records_without_any_box_and_damaged_ones_are_named(world):
    scenes.write_records(world / "a.record", [scenes.example(0, boxes=[])])
    assert "no box in 1 records" in found(load(world))[0]
    whole = scenes.write_records(world / "a.record", [scenes.example(0), scenes.example(1)]).read_bytes()
    (world / "a.record").write_bytes(whole[:-9])
    assert "record 1: the file ends inside a record" in found(load(world))[0]
    (world / "a.record").write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    assert "record 0: its header is damaged" in found(load(world))[0]
    (world / "a.record").write_bytes(b"")
    assert "an empty file" in found(load(world))[0]


def test_a_box_that_touches_the_border_and_a_picture_without_one_are_in_order(world):
    scenes.write_records(
        world / "a.record", [scenes.example(0, boxes=[(0.0, 0.0, 1.0, 1.0)]), scenes.example(1, boxes=[])]
    )
    assert found(load(world)) == []


def test_a_display_name_in_the_records_is_a_class_too(world):
    (world / "map.pbtxt").write_text('item { id: 1 name: "/m/1" display_name: "Bicycle" } item { id: 3 name: "x" }')
    assert label_map.read(world / "map.pbtxt") == {"/m/1": 1, "Bicycle": 1, "x": 3}
    assert found(load(world)) == []


def test_the_tool_says_all_problems_and_imports_no_tensorflow(world):
    command = [sys.executable, "-X", "importtime", str(ROOT / "tools" / "model_main_tf2.py")]
    command += ["--pipeline_config_path", str(SMOKE), "--model_dir", str(world / "run")]
    run = subprocess.run(
        [*command, "--override", "train_config.batch_size=0"],
        capture_output=True,
        text=True,
        cwd=world,
        env={**os.environ},
    )
    lines = [line for line in run.stderr.splitlines() if not line.startswith("import time")]
    assert run.returncode == 2 and lines[-1].startswith("3 problems; nothing was started"), run.stderr
    assert " tensorflow\n" not in run.stderr and not (world / "run").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--num_train_steps", "0"), "--num_train_steps must be 1 or more. Received: 0."),
        (("--enhance", "clahee"), "did you mean 'clahe'?"),
        (("--darken", "night"), "--darken must be a recipe"),
        (("--refresh_batch_norm", "-1"), "--refresh_batch_norm must be 0 or more"),
        (("--override", "train_config.batchsize=8"), "did you mean 'batch_size'?"),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_2(world, words, message):
    command = [sys.executable, str(ROOT / "tools" / "model_main_tf2.py"), "--pipeline_config_path", str(SMOKE)]
    run = subprocess.run(
        [*command, "--model_dir", str(world / "run"), *words], capture_output=True, text=True, cwd=world
    )
    assert run.returncode == 2 and message in run.stderr and run.stderr.count("\n") == 1, run.stderr
