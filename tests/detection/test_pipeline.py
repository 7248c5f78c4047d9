"""A pipeline.config is read, changed and refused without TensorFlow."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

from tfllv.detection import compat, pipeline

pytestmark = pytest.mark.skipif(
    not compat._is_found("object_detection"), reason="the TF Object Detection API is not installed"
)
PIPELINES = pathlib.Path(__file__).parents[2] / "pipelines"

CONFIG = """
model { ssd { num_classes: 3
  anchor_generator { multiscale_anchor_generator { aspect_ratios: [1.0, 2.0, 0.5] } } } }
train_config { batch_size: 2 fine_tune_checkpoint_version: V2
  data_augmentation_options { random_horizontal_flip { } }
  optimizer { momentum_optimizer { learning_rate { cosine_decay_learning_rate { learning_rate_base: 0.08 } } } } }
eval_input_reader { label_map_path: "a.pbtxt" }
"""


@pytest.fixture
def config():
    return pipeline.parse(CONFIG)


def test_overrides_set_numbers_words_switches_lists_and_messages(config):
    for override in (
        "train_config.batch_size=8",
        "train_config.fine_tune_checkpoint=zoo/ckpt-0",
        "train_config.use_bfloat16=true",
        "train_config.fine_tune_checkpoint_version=V1",
        "train_config.optimizer.momentum_optimizer.learning_rate.cosine_decay_learning_rate.learning_rate_base=1e-3",
        "train_input_reader.tf_record_input_reader.input_path=a.record,b.record",
        "model.ssd.anchor_generator.multiscale_anchor_generator.aspect_ratios[1]=3",
        "train_config.data_augmentation_options={ random_image_scale { } }",
        "eval_input_reader.shuffle=false",
        "eval_input_reader[1].label_map_path='b.pbtxt'",
    ):
        pipeline.apply_override(config, override)
    train = config.train_config
    assert (train.batch_size, train.fine_tune_checkpoint, train.use_bfloat16) == (8, "zoo/ckpt-0", True)
    assert train.fine_tune_checkpoint_version == 1
    rate = train.optimizer.momentum_optimizer.learning_rate.cosine_decay_learning_rate
    assert rate.learning_rate_base == pytest.approx(1e-3)
    assert list(config.train_input_reader.tf_record_input_reader.input_path) == ["a.record", "b.record"]
    assert list(pipeline.model(config).anchor_generator.multiscale_anchor_generator.aspect_ratios) == [1, 3, 0.5]
    (augmentation,) = train.data_augmentation_options
    assert augmentation.WhichOneof("preprocessing_step") == "random_image_scale"
    assert [reader.label_map_path for reader in config.eval_input_reader] == ["a.pbtxt", "b.pbtxt"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train_config.batchsize=8", "unknown field `train_config.batchsize`; did you mean 'batch_size'?"),
        ("train_config.batch_size=many", "must be a whole number of 0 or more. Received: 'many'"),
        ("train_config.batch_size=5000000000", "must be a whole number"),
        ("train_config.use_bfloat16=maybe", "must be true or false. Received: 'maybe'"),
        ("train_config.fine_tune_checkpoint_version=V3", "must be one of UNKNOWN, V1, V2"),
        ("train_config.optimizer.momentum_optimizer.momentum_value=x", "did you mean 'momentum_optimizer_value'?"),
        ("train_config.gradient_clipping_by_norm=wide", "must be a number"),
        ("model.ssd.anchor_generator=4", "holds fields, not a value"),
        ("train_config.batch_size.x=1", "holds a value, not fields"),
        ("train_config[0].batch_size=1", "leave the number out"),
        ("train_config.batch_size[0]=1", "leave the number out"),
        ("eval_input_reader[4].shuffle=true", "holds 1 messages"),
        ("model.ssd.anchor_generator.multiscale_anchor_generator.aspect_ratios[7]=1", "holds 3 values"),
        ("train_config={ batch_sze: 3 }", "did you mean 'batch_size'?"),
        ("train_config.batch_size", "needs field.field=value"),
    ],
)
def test_an_override_that_fits_nothing_is_refused_in_one_line(config, override, message):
    with pytest.raises(ValueError, match="--override") as caught:
        pipeline.apply_override(config, override)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_one_of_several_readers_must_be_named(config):
    pipeline.apply_override(config, "eval_input_reader[1].shuffle=true")
    with pytest.raises(ValueError, match=r"say eval_input_reader\[0\]"):
        pipeline.apply_override(config, "eval_input_reader.shuffle=true")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model { ssd {\n num_clases: 3 } }", "x.config:2: .*num_clases.*did you mean 'num_classes'"),
        ("model {", "x.config:1: Expected"),
        ('train_config {\n  batch_size: "two" }', "x.config:2: .*Couldn't parse integer"),
    ],
)
def test_a_faulty_file_is_refused_with_its_line(tmp_path, text, message):
    (tmp_path / "x.config").write_text(text)
    with pytest.raises(ValueError, match=message):
        pipeline.load(tmp_path / "x.config")


def test_what_is_no_text_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        pipeline.load(tmp_path / "absent.config")
    (tmp_path / "x.config").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not UTF-8"):
        pipeline.load(tmp_path / "x.config")
    with pytest.raises(ValueError, match="must hold an architecture"):
        pipeline.model(pipeline.parse(""))


def test_text_and_back_is_the_same_configuration(config):
    assert pipeline.parse(pipeline.to_text(config)) == config


def test_label_maps_give_names_by_id_and_prefer_the_display_name(tmp_path):
    assert pipeline.label_map(PIPELINES / "exdark_label_map.pbtxt")[12] == "Table"
    (tmp_path / "map.pbtxt").write_text('item { name: "/m/01g317" id: 1 display_name: "person" }')
    assert pipeline.label_map(tmp_path / "map.pbtxt") == {1: "person"}


def test_a_configuration_is_read_without_tensorflow():
    code = (
        "import sys; from tfllv.detection import pipeline; pipeline.parse('train_config { batch_size: 2 }');"
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PIPELINES.parent)
