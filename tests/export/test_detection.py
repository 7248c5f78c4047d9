from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from tfllv.export import detection, serving_files, verify

LABEL_MAP = 'item { id: 1 name: "Bicycle" }\nitem { id: 2 name: "n02" display_name: "Cat" }\n'


class Toy(tf.Module):
    """A graph with TFOD's names: one picture of 8 bits in, boxes and scores that depend on it out."""

    @tf.function(input_signature=[tf.TensorSpec([1, None, None, 3], tf.uint8, name="input_tensor")])
    def detect(self, input_tensor):
        level = tf.reduce_mean(tf.cast(input_tensor, tf.float32), (1, 2)) / 255
        height = tf.cast(tf.shape(input_tensor)[1], tf.float32) / 1000
        boxes = tf.stack([level[:, 0], level[:, 1], level[:, 2], tf.ones([1]) * height], -1)
        return {
            "detection_boxes": tf.tile(boxes[:, None], (1, 2, 1)),
            "detection_classes": tf.constant([[1.0, 2.0]]),
            "detection_scores": tf.stack([level[:, 0], level[:, 1]], -1),
            "detection_masks": tf.tile(level[:, None, None, :1], (1, 2, 3, 3)),
            "num_detections": tf.constant([2.0]),
            "raw_detection_boxes": tf.zeros([1, 500, 4]),
        }


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A folder as TFOD's exporter writes it."""
    folder = tmp_path_factory.mktemp("detector")
    toy = Toy()
    tf.saved_model.save(toy, str(folder / "saved_model"), signatures={"serving_default": toy.detect})
    (folder / "label_map.pbtxt").write_text(LABEL_MAP)
    return folder


def test_a_detector_gets_both_signatures_and_its_classes(source, in_process, tmp_path, encoded):
    version, agreement = detection.export(detection.load(source), "night", tmp_path / "night")
    assert version == tmp_path / "night" / "1" and "`detection_boxes` within" in agreement
    facts = json.loads((version / serving_files.FACTS).read_text())
    assert facts["kind"] == "detect" and facts["classes"] == {"1": "Bicycle", "2": "Cat"}
    assert sorted(path.name for path in (tmp_path / "night").iterdir()) == [
        "1",
        "README.md",
        "batching.config",
        "models.config",
    ]
    found = tf.saved_model.load(str(version)).signatures
    original = tf.saved_model.load(str(source / "saved_model")).signatures["serving_default"]
    pixels = np.stack([encoded.picture(), 255 - encoded.picture()])
    floats = found["serving_default"](image=tf.constant(pixels / np.float32(255)))
    assert sorted(floats) == sorted(detection.OUTPUTS)
    for index in range(2):
        expected = original(input_tensor=tf.constant(pixels[index : index + 1]))
        for key, value in floats.items():
            np.testing.assert_array_equal(value[index], expected[key][0], key)
    files = [encoded.save(pixels[0], "PNG"), encoded.good()["turned_6"]]
    strings = found["serving_bytes"](image_bytes=tf.constant(files))
    np.testing.assert_array_equal(strings["detection_boxes"][0], floats["detection_boxes"][0])
    assert float(strings["detection_boxes"][1, 0, 3]) == pytest.approx(0.061)  # turned: as high as it was wide
    with pytest.raises(tf.errors.InvalidArgumentError, match="20000x20000"):
        found["serving_bytes"](image_bytes=tf.constant([encoded.bad()["bomb"][0]]))


@pytest.mark.slow
def test_a_detector_that_finds_something_else_is_not_published(source, in_process, tmp_path, monkeypatch):
    right = detection.Source.detect

    def detect(self, pixels):
        return {key: value * 0.9 if key == "detection_scores" else value for key, value in right(self, pixels).items()}

    monkeypatch.setattr(detection.Source, "detect", detect)
    with pytest.raises(verify.MismatchError, match="night `detection_scores`: off by"):
        detection.export(detection.load(source), "night", tmp_path / "night")
    assert not (tmp_path / "night").exists()


def test_what_is_no_detector_is_refused(source, exported, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"must hold saved_model\.pb"):
        detection.load(tmp_path)
    with pytest.raises(ValueError, match=r"must be a detector, giving detection_boxes.*Received: \['image'\]"):
        detection.load(exported[0] / "1")
