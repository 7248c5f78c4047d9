from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tfllv.serve import engine, saved_model
from tfllv.serve.limits import Limits


@pytest.fixture(scope="module")
def enhance(export, tmp_path_factory):
    folder = export(tmp_path_factory.mktemp("enhance"))
    return saved_model.SavedModelEngine(folder, name="toy", version=1)


def test_an_enhancement_model_is_told_by_its_outputs(enhance):
    assert enhance.tasks == {engine.ENHANCE}
    assert enhance.facts["precision"] == "float32"
    assert enhance.signatures["serving_default"].inputs["image"] == engine.Tensor("float32", (-1, -1, -1, 3))
    assert enhance.signatures["serving_bytes"].inputs["image_bytes"] == engine.Tensor("str", (-1,))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pixels_go_in_and_come_out_in_their_own_type(enhance, dtype, toy):
    images = [toy.picture(seed=seed, dtype=dtype) for seed in range(3)]
    for image, result in zip(images, enhance.run(images), strict=True):
        assert result.image.dtype == dtype and result.labels is None and result.detections is None
        assert np.abs(result.image.astype(int) - np.round(image * 1.5)).max() <= 1
    assert np.array_equal(enhance.run(images[:1])[0].image, enhance.run(images)[0].image)


class Curved(tf.Module):
    """A curve network of one constant, `rise`; its estimate has `told` in place of it."""

    def __init__(self, told):
        super().__init__()
        self.rise, self.told = tf.Variable(-0.5), tf.Variable(told)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32, name="image")])
    def floats(self, image):
        for _ in range(8):
            image = image + self.rise * (image * image - image)
        return {"image": image}

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32, name="small")])
    def estimate(self, small):
        return {"curve": tf.ones_like(small) * self.told}


@pytest.fixture
def curved(tmp_path):
    """Saves a curve network in two halves, as `tfllv export` does, and loads it."""

    def save(told=-0.5, facts=None):
        module = Curved(told)
        both = {"serving_default": module.floats, "estimate": module.estimate}
        tf.saved_model.save(module, str(tmp_path / "1"), signatures=both)
        (tmp_path / "1" / "tfllv.json").write_text(json.dumps({"split": facts or {"scale_factor": 3}}))
        return saved_model.SavedModelEngine(tmp_path / "1", name="curved", version=1)

    return save


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_estimate_with_compiled_loops_around_it_stands_for_the_whole(curved, toy, dtype, monkeypatch):
    model = curved()
    assert "split" not in model.facts and model.copies == engine.Engine.copies
    images = [toy.picture(seed=seed, dtype=dtype) for seed in range(3)]
    top = np.iinfo(dtype).max
    whole = model.predict("serving_default", {"image": np.float32(np.stack(images) / top)}, Limits())["image"]
    monkeypatch.setitem(model._functions, "serving_default", None)  # not what is run
    for image, result, right in zip(images, model.run(images), whole, strict=True):
        assert result.image.dtype == dtype and result.image.shape == image.shape
        assert np.abs(result.image.astype(int) - np.round(right * top)).max() <= 1


def test_an_estimate_of_something_else_is_refused(curved):
    with pytest.raises(
        saved_model.BrokenModelError, match=r"`estimate` gives another picture than `image`, by \d+ lev"
    ):
        curved(told=-0.6)


@pytest.mark.parametrize("facts", [{"scale": 3}, {"scale_factor": "3"}, 3])
def test_halves_that_nobody_knows_are_left_alone(curved, toy, facts):
    model = curved(told=-0.6, facts=facts)
    image = toy.picture()
    right = model.predict("serving_default", {"image": np.float32(image[None] / 255)}, Limits())["image"][0]
    assert np.abs(model.run([image])[0].image.astype(int) - np.round(right * 255)).max() <= 1


def test_predict_runs_both_signatures(enhance, toy):
    image = np.full((1, 2, 2, 3), 0.2, np.float32)
    assert enhance.predict("serving_default", {"image": image}, Limits())["image"] == pytest.approx(
        0.3 * np.ones_like(image)
    )
    outputs = enhance.predict("serving_bytes", {"image_bytes": np.array([toy.png()], object)}, Limits())
    expected = np.round(toy.decode(toy.png()) * 1.5)
    assert np.abs(toy.decode(outputs["image_bytes"][0]) - expected).max() <= 1


def test_what_the_graph_refuses_is_the_client_s_fault(enhance, toy):
    with pytest.raises(toy.RefusalError) as caught:
        enhance.predict("serving_bytes", {"image_bytes": np.array([b"no picture"], object)}, Limits())
    assert caught.value.status == 400


def test_a_segmentation_model_gives_labels_and_names(export, tmp_path, toy):
    model = saved_model.SavedModelEngine(export(tmp_path, kind="segment"), name="toy", version=1)
    assert model.tasks == {engine.ENHANCE, engine.SEGMENT}
    assert model.classes == {0: "floor", 1: "wall", 2: "lamp", 3: "dark"}
    dark = np.zeros((8, 9, 3), np.uint8)
    (result,) = model.run([dark])
    assert result.labels.shape == (8, 9) and (result.labels == 3).all()


@pytest.mark.parametrize("layout", ["versions", "tfod"])
def test_a_detection_model_takes_one_picture_at_a_time(layout, export, tmp_path, toy):
    folder = export(tmp_path, kind="detect")
    (folder / "tfllv.json").unlink()
    if layout == "tfod":
        shutil.move(folder, tmp_path / "saved_model")
        folder = tmp_path / "saved_model"
    (tmp_path / "label_map.pbtxt").write_text(
        "item { id: 1 name: 'Cat' } item { id: 2 name: '/m/1' display_name: 'Dog' }"
    )
    model = saved_model.SavedModelEngine(folder, name="detector", version=1)
    assert (model.tasks, model.max_batch) == ({engine.DETECT}, 1)
    assert model.classes == {1: "Cat", 2: "Dog"}
    (result,) = model.run([np.full((8, 9, 3), 51, np.uint8)])
    assert result.detections["scores"] == pytest.approx([0.9, 0.2])
    assert result.detections["boxes"].shape == (2, 4)


def test_classes_of_a_detector_count_from_one(export, tmp_path):
    model = saved_model.SavedModelEngine(export(tmp_path, kind="detect"), name="detector", version=1)
    assert model.classes[1] == "floor"


@pytest.mark.parametrize("damage", ["graph", "weights", "nan", "facts", "label_map"])
def test_a_broken_model_is_refused_in_one_line(damage, export, tmp_path):
    folder = export(tmp_path, gain=float("nan") if damage == "nan" else 1.5)
    if damage == "graph":
        (folder / "saved_model.pb").write_bytes(b"\x0a\xff\xff")
    elif damage == "weights":
        shutil.rmtree(folder / "variables")
    elif damage == "facts":
        (folder / "tfllv.json").write_text("{")
    elif damage == "label_map":
        (folder / "tfllv.json").unlink()
        (tmp_path / "label_map.pbtxt").write_text("item {")
    with pytest.raises(saved_model.BrokenModelError) as caught:
        saved_model.SavedModelEngine(folder, name="toy", version=1)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)
