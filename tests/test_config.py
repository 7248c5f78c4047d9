from __future__ import annotations

import dataclasses
import pathlib

import pytest

from tfllv import config
from tfllv.config import LossWeights, TrainConfig, ZeroReferenceConfig

REFERENCE_TABLE = {
    "lowlight_images_path": "data/train_data/",
    "lr": 1e-3,
    "weight_decay": 1e-3,
    "grad_clip_norm": 0.1,
    "num_epochs": 100,
    "train_batch_size": 6,
    "val_batch_size": 8,
    "num_workers": 4,
    "display_iter": 10,
    "snapshot_iter": 10,
    "scale_factor": 1,
    "snapshots_folder": "weight/",
    "load_pretrain": False,
    "pretrain_dir": "weight/Epoch99",
    "num_of_SegClass": 21,
    "conv_type": "dsc",
    "patch_size": 4,
    "exp_level": 0.6,
}
CONFIGS = sorted((pathlib.Path(__file__).parent.parent / "configs").glob("*.yaml"))


@pytest.mark.parametrize(("name", "value"), REFERENCE_TABLE.items())
def test_every_hyper_parameter_of_the_sgz_table_is_a_field_with_its_default(name, value):
    default = getattr(ZeroReferenceConfig(), name)
    assert default == value
    assert type(default) is type(value)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_load_and_round_trip(path):
    loaded = config.load(path)
    assert config.from_yaml(loaded.to_yaml()) == loaded
    assert path.read_text().startswith("# ")


def test_sgz_yaml_is_the_table():
    loaded = config.load(next(path for path in CONFIGS if path.stem == "sgz"))
    assert {name: getattr(loaded, name) for name in REFERENCE_TABLE} == REFERENCE_TABLE


@pytest.mark.parametrize("text", ["False", "false", "'False'", "no", "off", "0"])
def test_false_in_any_spelling_is_false(text):
    assert config.from_yaml(f"load_pretrain: {text}").load_pretrain is False
    assert config.from_yaml("", overrides=[f"load_pretrain={text}"]).load_pretrain is False


def test_values_are_converted_by_the_declared_type():
    loaded = config.from_yaml("lr: 1e-4\nseed: 1e3\nsemantic: off\nmodel: sgz\nweights: {tv: 200}\nexclude: [a, b]\n")
    assert (loaded.lr, loaded.seed, loaded.semantic, loaded.exclude) == (1e-4, 1000, "off", ("a", "b"))
    assert isinstance(loaded.seed, int)
    assert loaded.weights == LossWeights(tv=200.0)


def test_overrides_win_and_reach_into_groups():
    loaded = config.from_yaml(
        "lr: 1\nweights: {tv: 1, col: 2}", overrides=["weights.tv=3", "lr=5", "lr=0.5", "exclude=a.jpg,18-25"]
    )
    assert (loaded.lr, loaded.weights.tv, loaded.weights.col) == (0.5, 3.0, 2.0)
    assert loaded.exclude == ("a.jpg", "18-25")


def test_changed_fields_survive_a_round_trip():
    changed = ZeroReferenceConfig(lr=3e-5, semantic="off", exclude=("7-9", "a b.jpg"), weights=LossWeights(exp=0.25))
    assert config.from_yaml(changed.to_yaml()) == changed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 0\nlr_: 1e-4", r"f\.yaml:2: unknown key `lr_`; did you mean 'lr'\?"),
        ("num_epoch: 3", r"f\.yaml:1: unknown key `num_epoch`; did you mean 'num_epochs'\?"),
        ("weights:\n  tvv: 3", r"f\.yaml:2: unknown key `weights\.tvv`; did you mean 'tv'\?"),
        ("\nlr: fast", r"f\.yaml:2: `lr` must be a number\. Received: 'fast'\."),
        ("lr: .nan", r"f\.yaml:1: `lr` must be"),
        ("lr: 0", r"f\.yaml:1: `lr` must be more than 0\. Received: lr=0\.0\."),
        ("exp_level: 1.5", r"`exp_level` must be at most 1\."),
        ("seed: 1.5", r"`seed` must be a whole number\."),
        ("load_pretrain: maybe", r"`load_pretrain` must be true or false\. Received: 'maybe'\."),
        ("conv_type: dcs", r"`conv_type` must be one of dsc, tc\. Received: conv_type='dcs'\. did you mean 'dsc'\?"),
        ("weights: 3", r"f\.yaml:1: `key: value` lines are expected\. Received: '3'\."),
        ("lr: [1, 2]", r"`lr` must be a number\. Received: a list or mapping\."),
        ("lr: 1\nlr: 2", r"f\.yaml:2: the key `lr` stands here a second time"),
        ("- lr", r"f\.yaml:1: `key: value` lines are expected\. Received: a list\."),
        ("lr: [1", r"f\.yaml:\d+: not YAML: "),
        ("experiment: zero_referense", r"`experiment` must be .* did you mean 'zero_reference'\?"),
    ],
)
def test_a_mistake_names_file_line_and_way_out(text, message):
    with pytest.raises(ValueError, match=message) as error:
        config.from_yaml(text, source="f.yaml")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("lr", "--set needs `key=value`. Received: 'lr'."),
        ("=3", "--set needs `key=value`. Received: '=3'."),
        ("wights.tv=1", "--set: unknown key `wights`; did you mean 'weights'?"),
        ("lr=", "--set: `lr` must be a number. Received: ''."),
        ("train_batch_size=0", "--set: `train_batch_size` must be at least 1. Received: train_batch_size=0."),
    ],
)
def test_a_wrong_override_is_named(word, message):
    with pytest.raises(ValueError) as error:
        config.from_yaml("", overrides=[word])
    assert str(error.value) == message


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"must be a YAML file\. Received: '.*none\.yaml', which is not a file"):
        config.load(tmp_path / "none.yaml")


@pytest.mark.parametrize("change", [{"lr": -1.0}, {"precision": "float64"}, {"seed": True}, {"exclude": ["a"]}])
def test_objects_made_in_python_are_checked_too(change):
    with pytest.raises(ValueError, match=f"`{next(iter(change))}` must be"):
        TrainConfig(**change)


def test_configs_are_frozen_and_replace_checks():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig().lr = 1.0
    assert TrainConfig().replace(lr=0.5).lr == 0.5
    with pytest.raises(ValueError, match="`keep` must be at least 1"):
        TrainConfig().replace(keep=0)
