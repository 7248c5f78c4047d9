from __future__ import annotations

import json
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

from tfllv import cli, models
from tfllv.export import encoder, verify
from tfllv.models import encoder_weights, resnet

SMALL = {"num_classes": 3, "width": 1}


@pytest.fixture(scope="module")
def network():
    return models.build("resnet_unet", **SMALL, seed=4)


def test_plain_encoder_is_made_of_keras_own_layers_and_gives_the_same(network):
    plain = encoder_weights.make_plain(network.backbone)
    assert type(plain) is keras.Model or type(plain).__module__.startswith("keras")
    assert all(type(layer).__module__.startswith("keras.") for layer in plain._flatten_layers())
    assert "tfllv" not in plain.to_json()
    image = np.random.default_rng(0).uniform(size=(2, 37, 50, 3)).astype(np.float32)
    expected = network.backbone(image)
    found = plain(image)
    assert list(found) == list(resnet.STAGES)
    for name, features in found.items():
        np.testing.assert_array_equal(features, expected[name])


def test_weights_of_a_whole_network_or_from_pytorch_give_an_encoder(tmp_path, network):
    network.save_weights(tmp_path / "final.weights.h5")
    loaded = encoder.load(tmp_path / "final.weights.h5", **SMALL)
    for one, other in zip(network.backbone.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="`encoder` needs --weights or --workdir"):
        encoder.load(None)
    with pytest.raises(FileNotFoundError, match=r"`weights` must be a file. Received: 'absent\.pt'"):
        encoder.load("absent.pt", **SMALL)


def test_other_formats_are_refused(tmp_path, capsys):
    assert cli.main(["export", "encoder", "-o", str(tmp_path / "out"), "--format", "litert"]) == 2
    assert "`encoder` is written as" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


STRANGER = """
import json, pathlib, sys
import numpy as np

import keras
encoder = keras.models.model_from_json(pathlib.Path("encoder/1/encoder.json").read_text())
encoder.load_weights("encoder/1/encoder.weights.h5")

image = np.load("image.npy")
np.savez("features.npz", **{name: np.asarray(value) for name, value in encoder(image).items()})
assert "tfllv" not in sys.modules and "torch" not in sys.modules
"""


@pytest.mark.slow
def test_the_command_writes_files_that_other_projects_read(tmp_path, network, capsys):
    network.save_weights(tmp_path / "final.weights.h5")
    words = ["export", "encoder", "--weights", str(tmp_path / "final.weights.h5"), "-o", str(tmp_path / "encoder")]
    assert cli.main([*words, "--set", "num_classes=3", "--set", "width=1"]) == 0
    assert "encoder/1: encoder saved_model" in capsys.readouterr().out
    folder = tmp_path / "encoder" / "1"
    names = {"encoder.keras", "encoder.json", "encoder.weights.h5", "saved_model", "tfllv.json"}
    assert {path.name for path in folder.iterdir()} == names
    assert list(json.loads((folder / "tfllv.json").read_text())["maps"]) == list(resnet.STAGES)
    image = np.random.default_rng(1).uniform(size=(1, 45, 33, 3)).astype(np.float32)
    np.save(tmp_path / "image.npy", image)
    subprocess.run([sys.executable, "-I", "-c", STRANGER], cwd=tmp_path, check=True, capture_output=True)
    with np.load(tmp_path / "features.npz") as found:
        for name, expected in network.backbone(image).items():
            np.testing.assert_allclose(found[name], expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.slow
def test_an_encoder_whose_files_do_not_agree_is_not_published(tmp_path, network, monkeypatch):
    other = models.build("resnet_unet", **SMALL, seed=5)
    monkeypatch.setattr(encoder_weights, "make_plain", lambda backbone: other.backbone)
    with pytest.raises(verify.MismatchError, match="Nothing was published"):
        encoder.export(network.backbone, tmp_path / "encoder")
    assert not (tmp_path / "encoder").exists()


def test_a_runs_folder_tells_the_options_of_its_network(tmp_path):
    from tfllv import config as configs
    from tfllv.commands import export

    settings = {"width": 2, "num_classes": 5, "tasks": "segmentation", "encoder": "imagenet", "shared_blocks": 2}
    config = configs.MultitaskConfig(experiment="multitask", **settings)
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    (tmp_path / "final.weights.h5").touch()
    options, path = export.read_workdir(tmp_path, "resnet_unet")
    # The weights that training began with are not needed any more, but their layout of the encoder is.
    del settings["encoder"]
    assert options == {**settings, "frozen_stages": 0, "variant": "v1"}
    assert path == tmp_path / "final.weights.h5"


def test_the_readme_loads_the_encoder_in_three_lines(tmp_path, network, monkeypatch):
    readme = (pathlib.Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    section = re.search(r"^## One network for two tasks\n(.*?)(?=^## )", readme, re.MULTILINE | re.DOTALL)[1]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
    assert len([line for line in code.splitlines() if line and not line.startswith("import ")]) == 3
    plain = encoder_weights.make_plain(network.backbone)
    (tmp_path / "encoder" / "1").mkdir(parents=True)
    (tmp_path / "encoder" / "1" / "encoder.json").write_text(plain.to_json())
    plain.save_weights(tmp_path / "encoder" / "1" / "encoder.weights.h5")
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(2).uniform(size=(1, 40, 41, 3)).astype(np.float32)
    names = {"images": images}
    exec(code, names)
    for name, expected in network.backbone(images).items():
        np.testing.assert_array_equal(names["features"][name], expected)
