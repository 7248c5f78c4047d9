from __future__ import annotations

import dataclasses
import json
import os

import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from absl.testing import flagsaver
from tensorflow.python.tools import saved_model_cli

from tfllv import models
from tfllv.export import product, saved_model, serving_files, verify
from tfllv.inputs import image_files
from tfllv.runner import split


def run_bytes(loaded, *files):
    found = loaded.signatures["serving_bytes"](image_bytes=tf.constant(list(files)))
    return found["image_bytes"].numpy()


def test_the_folder_is_what_tf_serving_reads(exported):
    folder, agreement = exported
    assert sorted(path.name for path in folder.iterdir()) == ["1", "README.md", "batching.config", "models.config"]
    assert (folder / "1" / "saved_model.pb").is_file()
    assert "`image` within" in agreement and "`image_bytes` within" in agreement
    facts = json.loads((folder / "1" / serving_files.FACTS).read_text())
    assert facts.pop("tfllv")
    assert facts == {
        "name": "sgz",
        "kind": "enhance",
        "precision": "float32",
        "outputs": ["image"],
        "max_pixels": 3_000_000,
        "split": {"scale_factor": 12},
    }


def test_the_readme_tells_of_every_signature(exported):
    text = " ".join((exported[0] / "README.md").read_text().split())
    for words in (
        "- `serving_default` takes `image`, float32 [B, H, W, 3]",
        "- `serving_bytes` takes `image_bytes`, JPEG or PNG files [B]",
        "- `estimate` takes `small`, float32 [B, h, w, 3]",
        "it gives `curve`: the network alone",
    ):
        assert words in text


def test_tf_servings_own_protocols_read_the_configuration(exported):
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    text = (exported[0] / "models.config").read_text()
    found = text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config
    assert [(model.name, model.base_path, model.model_platform) for model in found] == [
        ("night", "/models/night", "tensorflow")
    ]


def test_saved_model_cli_shows_every_signature(exported, capsys):
    # The command itself, in this process: in its own it spends 7 s on importing TensorFlow.
    with flagsaver.flagsaver():
        flags.FLAGS(["saved_model_cli", f"--dir={exported[0] / '1'}", "--all"])
        saved_model_cli.show()
    shown = capsys.readouterr().out
    for words in (
        "signature_def['serving_default']",
        "inputs['image'] tensor_info:\n        dtype: DT_FLOAT\n        shape: (-1, -1, -1, 3)",
        "outputs['image'] tensor_info:\n        dtype: DT_FLOAT\n        shape: (-1, -1, -1, 3)",
        "signature_def['estimate']",
        "inputs['small'] tensor_info:\n        dtype: DT_FLOAT\n        shape: (-1, -1, -1, 3)",
        "outputs['curve'] tensor_info:\n        dtype: DT_FLOAT",
        "signature_def['serving_bytes']",
        "inputs['image_bytes'] tensor_info:\n        dtype: DT_STRING\n        shape: (-1)",
        "outputs['image_bytes'] tensor_info:\n        dtype: DT_STRING\n        shape: (-1)",
    ):
        assert words in shown


def test_the_estimate_with_the_loops_around_it_is_the_whole(exported, loaded, rng):
    facts = json.loads((exported[0] / "1" / serving_files.FACTS).read_text())
    between = split.from_facts(facts["split"])
    images = (rng.random((2, 97, 130, 3)) * 0.4).astype(np.float32)
    found = loaded.signatures["estimate"](small=tf.constant(between.shrink(images)))
    bent = between.bend(images, {key: value.numpy() for key, value in found.items()})
    expected = loaded.signatures["serving_default"](image=tf.constant(images))["image"]
    np.testing.assert_allclose(bent, expected, rtol=0, atol=1e-5)


def test_floats_of_any_batch_and_size_are_the_networks_own(loaded, sgz, rng):
    for shape in [(1, 1, 1, 3), (2, 37, 50, 3), (1, 200, 31, 3)]:
        images = (rng.random(shape) * 0.4).astype(np.float32)
        found = loaded.signatures["serving_default"](image=tf.constant(images))["image"].numpy()
        expected = np.stack([sgz.reference(image)["image"] for image in images])
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_files_of_several_sizes_and_kinds_in_one_batch_give_what_the_command_line_writes(loaded, encoded):
    from tfllv import enhancers

    enhance = enhancers.get("sgz").tiled
    names = ["turned_6", "rgba", "deep", "one_pixel", "cmyk", "turned_png_3"]
    files = [encoded.good()[name] for name in names]
    files.append((verify.SAMPLES / "cat.jpg").read_bytes())
    for name, data, result in zip([*names, "cat"], files, run_bytes(loaded, *files), strict=True):
        given, found = image_files.read_image(data), image_files.read_image(result)
        expected = enhance(given.pixels)
        assert found.header.format == "PNG" and found.pixels.dtype == expected.dtype, name
        levels = 257 if expected.dtype == np.uint16 else 1
        assert np.abs(found.pixels.astype(int) - expected).max() <= levels, name
        if given.alpha is not None:
            np.testing.assert_array_equal(found.alpha, given.alpha, name)


def test_bombs_are_refused_by_the_signature_itself(loaded, encoded):
    for data, words in encoded.bad().values():
        with pytest.raises(tf.errors.InvalidArgumentError, match=words):
            run_bytes(loaded, data)
    with pytest.raises(tf.errors.InvalidArgumentError, match="20000x20000"):
        run_bytes(loaded, encoded.good()["rgba"], encoded.bad()["bomb"][0])


def test_the_next_free_version_is_taken(tmp_path):
    for name in ("1", "7", "12x"):
        (tmp_path / name).mkdir()
    for expected in ("8", "9"):
        with saved_model.writing(tmp_path) as temporary:
            (temporary / "inner").mkdir(parents=True)
            (temporary / "inner" / "file").write_text("content")
            assert saved_model.publish(temporary, tmp_path).name == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "12x", "7", "8", "9"]


@pytest.mark.slow
def test_a_saved_model_that_lost_its_weights_is_not_published(sgz, tmp_path):
    other = models.build("sgz", scale_factor=12, seed=5)
    lost = dataclasses.replace(sgz, model=other)
    with pytest.raises(verify.MismatchError, match=r"sgz `image`: off by 0\.\d+ found; expected 1e-05"):
        saved_model.export(lost, tmp_path / "sgz")
    assert not (tmp_path / "sgz").exists()


@pytest.mark.parametrize("before", [False, True])
def test_nothing_is_left_of_an_export_that_failed(sgz, tmp_path, monkeypatch, before):
    def refuse(what, folder):
        assert (folder / serving_files.FACTS).is_file()
        raise verify.MismatchError("off")

    folder = tmp_path / "sgz"
    if before:
        (folder / "1").mkdir(parents=True)
    monkeypatch.setattr(tf.saved_model, "save", lambda module, path, signatures: os.makedirs(path))
    monkeypatch.setattr(saved_model, "check", refuse)
    with pytest.raises(verify.MismatchError, match="off"):
        saved_model.export(sgz, folder)
    assert folder.exists() == before
    assert not before or [path.name for path in folder.iterdir()] == ["1"]


def test_nan_shape_and_size_are_looked_at():
    good = np.full((4, 5, 3), 0.5, np.float32)
    for found, words in (
        (good[:2], "shape"),
        (np.where(good > 0, np.nan, good), "60 values are NaN"),
        (good + 2e-5, "off by 2e-05"),
    ):
        with pytest.raises(verify.MismatchError, match=words):
            verify.compare_all("x", [(good, good), (found, good)], "float32")
    with pytest.raises(verify.MismatchError, match=r"PSNR 34\.0 dB found; expected 35 dB"):
        verify.compare_all("x", [(good + 0.02, good)], "int8")
    assert verify.compare_all("x", [(good + 0.003, good)], "bfloat16") == "x 50.5 dB"
    labels = np.arange(1000).reshape(20, 50)
    assert verify.compare_all("x", [(labels, labels)], "float32") == "x 100.00% equal"
    with pytest.raises(verify.MismatchError, match="98"):
        verify.compare_all("x", [(np.where(labels < 15, 3000, labels), labels)], "bfloat16")
    with pytest.raises(verify.MismatchError, match="16,000 bytes found; expected 285,898 to"):
        verify.check_size("x", 16_000, 79_416, "float32")


def test_unknown_precision_and_diffusion_are_refused_in_one_line():
    with pytest.raises(ValueError, match="`precision` must be one of float32, bfloat16"):
        product.load("sgz", precision="int8")
    with pytest.raises(ValueError, match="`diffusion_unet_small` is not exported: a diffusion model is run many times"):
        product.load("diffusion_unet_small")
    with pytest.raises(ValueError, match="did you mean 'sgz'"):
        product.load("sg")
