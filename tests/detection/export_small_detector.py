"""Exports a detector of one convolution with TFOD's exporter; prints what happened as JSON. Run by test_export.py.

    python export_small_detector.py FOLDER

The detector gives one box a quarter of the picture, scored by the quarter's brightness, with a mask. Everything of the
exporter is in use but a real model's architecture, of which a graph takes half a minute.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import sys
import zlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent))

import numpy as np

from tfllv.detection import compat, detector, export

compat.install()

import tensorflow as tf  # noqa: E402
from object_detection import exporter_lib_v2  # noqa: E402
from object_detection.builders import model_builder  # noqa: E402
from object_detection.core import model as detection_model  # noqa: E402

FOLDER = pathlib.Path(sys.argv[1])
QUARTERS = [[0.0, 0.0, 0.5, 0.5], [0.0, 0.5, 0.5, 1.0], [0.5, 0.0, 1.0, 0.5], [0.5, 0.5, 1.0, 1.0]]


class Quarters(detection_model.DetectionModel):
    """The small detector; `gain` is the value its weights are made with, before a checkpoint replaces it."""

    def __init__(self, gain=0.1):
        super().__init__(num_classes=2)
        self._layer = tf.keras.layers.Conv2D(1, 1, kernel_initializer=tf.keras.initializers.Constant(gain))

    def preprocess(self, inputs):
        shape = tf.shape(inputs)
        return tf.image.resize(inputs, (8, 8)) / 255.0, tf.tile(shape[None, 1:], [shape[0], 1])

    def predict(self, images, true_shapes, **side_inputs):
        return {"features": self._layer(images) + side_inputs.get("bias", 0.0)}

    def postprocess(self, prediction, true_shapes):
        features = prediction["features"]
        scores = tf.reshape(tf.nn.avg_pool2d(features, 4, 4, "VALID"), [-1, 4])
        order = tf.argsort(scores, direction="DESCENDING")
        batch = tf.shape(scores)[0]
        boxes = tf.tile(tf.constant([QUARTERS]), [batch, 1, 1])
        return {
            "detection_boxes": tf.gather(boxes, order, batch_dims=1),
            "detection_scores": tf.gather(scores, order, batch_dims=1),
            "detection_classes": tf.cast(order % 2, tf.float32),
            "detection_masks": tf.tile(tf.transpose(features, [0, 3, 1, 2]), [1, 4, 1, 1]),
            "num_detections": tf.fill([batch], 4.0),
        }

    def loss(self, *args):
        raise NotImplementedError

    regularization_losses = updates = restore_map = restore_from_objects = loss


def save_checkpoint(folder):
    model = Quarters(gain=0.3)
    model.predict(*model.preprocess(tf.zeros([1, 8, 8, 3])))
    tf.train.Checkpoint(model=model).save(str(folder / "ckpt"))
    return export.find_checkpoint(folder)


def break_weights(write):
    """A conversion that loses the weights and reports success."""

    def write_without_weights(config, checkpoint, folder, input_type, side_inputs):
        write(config, checkpoint, folder, input_type, side_inputs)
        model = Quarters(gain=0.0)
        module = exporter_lib_v2.DETECTION_MODULE_MAP[input_type](model, False, [])
        function = module.__call__.get_concrete_function()
        shutil.rmtree(folder / "saved_model")
        tf.saved_model.save(module, str(folder / "saved_model"), signatures=function)

    return write_without_weights


def run(name, **options):
    """Exports; returns the report's line or the error."""
    try:
        report = export.export(CONFIG, CHECKPOINT, FOLDER / name, PICTURES, label_map=LABEL_MAP, **options)
    except ValueError as error:
        return f"ValueError: {error}"
    return report.line()


def tree(folder):
    """Every file with its content's checksum."""
    return {str(path.relative_to(folder)): zlib.crc32(path.read_bytes()) for path in folder.rglob("*.*")}


model_builder.build = lambda *args, **kwargs: Quarters()
exporter_lib_v2.INPUT_BUILDER_UTIL_MAP["model_build"] = model_builder.build
CONFIG = compat.protos().TrainEvalPipelineConfig()
CHECKPOINT = save_checkpoint(FOLDER / "trained")
LABEL_MAP = FOLDER / "label_map.pbtxt"
LABEL_MAP.write_text('item { id: 1 name: "left" }\nitem { id: 2 name: "right" }\n', encoding="utf-8")
PICTURES = [*export.read_pictures(None)[:2], np.full((1, 300, 3), 90, np.uint8)]
RESULT = {"good": run("good")}

write = export.write_export
export.write_export = break_weights(write)
RESULT["before"] = tree(FOLDER / "good")
RESULT["broken"] = run("good")
RESULT["after"] = tree(FOLDER / "good")
export.write_export = write

for kind in detector.INPUT_TYPES:
    export.write_export(CONFIG, CHECKPOINT, FOLDER / kind, kind, None)
    loaded = detector.Detector(FOLDER / kind)
    live = export.run_live(CONFIG, CHECKPOINT, PICTURES[:2], {})
    RESULT[kind] = [loaded.input_type, export.compare(live, [loaded(each) for each in PICTURES[:2]]).line()]

side = export.SideInputs("1", "tf.float32", "bias")
export.write_export(CONFIG, CHECKPOINT, FOLDER / "side", "image_tensor", side)
loaded = detector.Detector(FOLDER / "side")
live = export.run_live(CONFIG, CHECKPOINT, PICTURES[:1], side.examples())
RESULT["side"] = [loaded.side_inputs, export.compare(live, [loaded(PICTURES[0], **side.examples())]).line()]
RESULT["left"] = sorted(os.listdir(FOLDER))
print(json.dumps(RESULT))
