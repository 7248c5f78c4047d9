"""The module `toy.py`, a client of its engine, and a server that ends with its test."""

from __future__ import annotations

import importlib.util
import json
import pathlib

import pytest

HERE = pathlib.Path(__file__).parent


@pytest.fixture(scope="session")
def toy():
    """The module `toy.py`."""
    spec = importlib.util.spec_from_file_location("tests_serve_toy", HERE / "toy.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def client(toy):
    """Makes a Flask client: `client(*engines, **limits)`."""
    from tfllv.serve import app

    made = []

    def make(*engines, **options):
        service = toy.make_service(*engines, **options)
        made.append(service)
        return app.create_app(service).test_client()

    yield make
    for service in made:
        service.registry.close()


@pytest.fixture
def server(toy):
    """Makes a real server: `server(*engines, **limits)`."""
    made = []

    def make(*engines, **options):
        made.append(toy.Running(*engines, **options))
        return made[-1]

    yield make
    for running in made:
        running.close()


@pytest.fixture(scope="session")
def export():
    """Writes a tiny SavedModel in the layout of `tfllv export`: `export(folder, version, gain=..., kind=...)`."""
    import tensorflow as tf

    def save(folder, version=1, *, gain=1.5, kind="enhance"):
        class Toy(tf.Module):
            def __init__(self):
                super().__init__()
                self.gain = tf.Variable(gain)

            @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32, name="image")])
            def floats(self, image):
                outputs = {"image": tf.clip_by_value(image * self.gain, 0.0, 1.0)}
                if kind == "segment":
                    outputs["logits"] = tf.concat([image, 1 - image[..., :1]], -1)
                return outputs

            @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
            def encoded(self, image_bytes):
                def one(data):
                    image = tf.image.convert_image_dtype(
                        tf.io.decode_image(data, 3, expand_animations=False), tf.float32
                    )
                    image = tf.image.convert_image_dtype(self.floats(image[None])["image"][0], tf.uint8, saturate=True)
                    return tf.io.encode_png(image)

                return {"image_bytes": tf.map_fn(one, image_bytes)}

            @tf.function(input_signature=[tf.TensorSpec([1, None, None, 3], tf.uint8, name="input_tensor")])
            def detect(self, input_tensor):
                level = tf.reduce_mean(tf.cast(input_tensor, tf.float32)) / 255
                return {
                    "detection_boxes": tf.constant([[[0.1, 0.2, 0.5, 0.6], [0.0, 0.0, 1.0, 1.0]]]),
                    "detection_scores": tf.stack([[0.9, level]]),
                    "detection_classes": tf.constant([[1.0, 2.0]]),
                    "num_detections": tf.constant([2.0]),
                }

        toy_model = Toy()
        signatures = (
            {"serving_default": toy_model.detect}
            if kind == "detect"
            else {"serving_default": toy_model.floats, "serving_bytes": toy_model.encoded}
        )
        target = pathlib.Path(folder) / str(version)
        tf.saved_model.save(toy_model, str(target), signatures=signatures)
        facts = {"name": "toy", "kind": kind, "precision": "float32", "classes": ["floor", "wall", "lamp", "dark"]}
        (target / "tfllv.json").write_text(json.dumps(facts))
        return target

    return save
