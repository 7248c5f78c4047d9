from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tfllv.export import litert, verify
from tfllv.inputs import image_files

pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed (extra `[export]`)")


@pytest.fixture(scope="module")
def written(sgz, tmp_path_factory):
    """SGZ as a float32 file, compared in a process of its own."""
    path, agreement = litert.export(sgz, tmp_path_factory.mktemp("litert") / "new")
    assert path.name == "sgz-float32.tflite" and "`image` within" in agreement
    return path


def test_one_file_takes_any_size(written, sgz, rng):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(written))
    for size in [(40, 30), (1, 1), (97, 61)]:
        image = (rng.random((*size, 3)) * 0.4).astype(np.float32)
        found = interpreter.get_signature_runner("serving_default")(image=image[None])["image"][0]
        np.testing.assert_allclose(found, sgz.reference(image)["image"], rtol=0, atol=1e-5)


def test_an_existing_file_is_kept_without_overwrite(written, sgz):
    before = written.read_bytes()
    with pytest.raises(FileExistsError, match="--overwrite"):
        litert.export(sgz, written.parent)
    assert written.read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "share"), [("float16", 0.8), ("int8_dynamic", 1.1)])
def test_smaller_files_agree_well_enough(written, sgz, tmp_path, in_process, precision, share):
    path, agreement = litert.export(sgz, tmp_path, precision=precision)
    assert float(agreement.removeprefix("sgz `image` ").removesuffix(" dB")) >= verify.DECIBELS[precision]
    assert path.stat().st_size < share * written.stat().st_size


def test_int8_holds_whole_numbers_and_is_calibrated_on_the_folder_that_is_given(sgz, tmp_path, in_process):
    from ai_edge_litert.interpreter import Interpreter

    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in ("coffee", "temple", "cat"):
        pixels = image_files.read_image(verify.SAMPLES / f"{name}.jpg").pixels
        image_files.write_image(pictures / f"{name}.png", np.ascontiguousarray(pixels[::2, ::2]))
    images = litert.calibration_images(pictures)
    assert [max(image.shape) for image in images] == [226, 256, 256] and max(image.max() for image in images) <= 1
    path, agreement = litert.export(sgz, tmp_path / "new", precision="int8", calibration=pictures)
    assert float(agreement.removeprefix("sgz `image` ").removesuffix(" dB")) >= verify.DECIBELS["int8"]
    tensors = Interpreter(model_path=str(path)).get_tensor_details()
    kernels = [tensor["shape"] for tensor in tensors if tensor["dtype"] == np.int8 and len(tensor["shape"]) == 4]
    assert sum(np.prod(shape) for shape in kernels) >= 9_000
    with pytest.raises(FileNotFoundError, match="calibration"):
        litert.export(sgz, tmp_path, precision="int8", calibration=tmp_path / "none")


def test_a_conversion_that_loses_the_weights_is_caught(sgz, tmp_path, monkeypatch):
    """The converter's own trap: it reports success and writes a file that holds a graph without its weights."""
    model = sgz.model
    function = tf.function(lambda image: {"image": model(image)["image"]})
    concrete = function.get_concrete_function(image=tf.TensorSpec([1, 48, 48, 3], tf.float32, name="image"))
    data = tf.lite.TFLiteConverter.from_concrete_functions([concrete], model).convert()
    with pytest.raises(verify.MismatchError):
        verify.check_file(sgz, data, kind="litert", signature="serving_default", precision="float32")
    monkeypatch.setattr(litert, "convert", lambda *args: data)
    with pytest.raises(verify.MismatchError):
        litert.export(sgz, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_weights_of_another_network_are_caught(sgz, tmp_path, monkeypatch, in_process):
    from tfllv import models

    data = litert.convert(dataclasses.replace(sgz, model=models.build("sgz", scale_factor=12, seed=4)), "float32")
    monkeypatch.setattr(litert, "convert", lambda *args: data)
    with pytest.raises(verify.MismatchError, match=r"sgz `image`: off by 0\.\d+ found; expected 1e-05"):
        litert.export(sgz, tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_unknown_precision_is_refused(sgz, tmp_path):
    with pytest.raises(ValueError, match=r"for LiteRT\. Received: precision='bfloat16'"):
        litert.export(sgz, tmp_path, precision="bfloat16")


def test_the_same_photo_is_within_one_level_by_every_way(exported, written, compare_exports, tmp_path, in_process):
    pixels = image_files.read_image(verify.SAMPLES / "temple.jpg").pixels
    photo = tmp_path / "photo.jpg"
    image_files.write_image(photo, np.ascontiguousarray(pixels[100:283, 50:347]))
    found = compare_exports.compare(photo, saved_model=exported[0] / "1", litert=written)
    assert set(found) == {"SavedModel, bytes", "SavedModel, floats", "LiteRT"}
    assert max(found.values()) <= 1
