"""Evaluates one checkpoint by this project and by TFOD itself: `evaluate_with_tfod.py FOLDER` writes FOLDER/both.json.

A script of its own, because TFOD needs legacy Keras, which no other test should see.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import sys

from tfllv.detection import checkpoint_evaluation, compat, evaluation, live_detector, pipeline, results
from tfllv.inputs import files
from tfllv.records import framing, images, schema

# A small SSD.
CONFIG = """
model { ssd {
  num_classes: 2
  box_coder { faster_rcnn_box_coder { y_scale: 10.0 x_scale: 10.0 height_scale: 5.0 width_scale: 5.0 } }
  matcher { argmax_matcher { matched_threshold: 0.5 unmatched_threshold: 0.5 ignore_thresholds: false
    negatives_lower_than_unmatched: true force_match_for_each_row: true use_matmul_gather: true } }
  similarity_calculator { iou_similarity { } }
  anchor_generator { ssd_anchor_generator { num_layers: 6 min_scale: 0.2 max_scale: 0.9 aspect_ratios: [1.0, 2.0] } }
  image_resizer { keep_aspect_ratio_resizer { min_dimension: 96 max_dimension: 96 pad_to_max_dimension: true } }
  box_predictor { convolutional_box_predictor { num_layers_before_predictor: 0 kernel_size: 1 box_code_size: 4
    class_prediction_bias_init: -2
    conv_hyperparams { activation: RELU_6 regularizer { l2_regularizer { weight: 0.00004 } }
      initializer { random_normal_initializer { stddev: 0.3 } } } } }
  feature_extractor { type: 'ssd_mobilenet_v2_keras' min_depth: 8 depth_multiplier: 0.35 use_depthwise: true
    override_base_feature_extractor_hyperparams: true
    conv_hyperparams { activation: RELU_6 regularizer { l2_regularizer { weight: 0.00004 } }
      initializer { variance_scaling_initializer { factor: 2.0 mode: FAN_IN } }
      batch_norm { decay: 0.9 epsilon: 0.001 } } }
  loss { classification_loss { weighted_sigmoid_focal { alpha: 0.25 gamma: 1.5 } }
    localization_loss { weighted_smooth_l1 { } } classification_weight: 1.0 localization_weight: 1.0 }
  post_processing { batch_non_max_suppression { score_threshold: 1e-8 iou_threshold: 0.5
    max_detections_per_class: 50 max_total_detections: 50 } score_converter: SIGMOID }
} }
train_config { batch_size: 1 num_steps: 7
  optimizer { adam_optimizer { learning_rate { constant_learning_rate { learning_rate: 0.001 } } }
    use_moving_average: false } }
eval_config { metrics_set: "coco_detection_metrics" use_moving_averages: false batch_size: 1 }
eval_input_reader { label_map_path: "FOLDER/labels.pbtxt" shuffle: false num_epochs: 1
  tf_record_input_reader { input_path: "FOLDER/set.record" } }
"""


def main(folder: pathlib.Path) -> None:
    compat.install()
    import numpy as np
    import tensorflow as tf

    tf.keras.utils.set_random_seed(0)
    text = CONFIG.replace("FOLDER", str(folder))
    (folder / "pipeline.config").write_text(text)
    (folder / "labels.pbtxt").write_text("item { id: 1 name: 'cup' }\nitem { id: 2 name: 'rocket' }\n")
    config = pipeline.load(folder / "pipeline.config")
    detector = live_detector.LiveDetector(config)
    for variable in detector._model._box_predictor.trainable_variables:  # untrained, all scores would nearly tie
        if "Class" in variable.name and "kernel" in variable.name:
            variable.assign(variable * 3000)
    step = tf.Variable(7, dtype=tf.int64)
    tf.train.Checkpoint(step=step, model=detector._model).write(str(folder / "train" / "ckpt-1"))
    samples = files.find_images(pathlib.Path(live_detector.__file__).parent.parent / "samples")
    records = [record(path.name, images.decode(path.read_bytes()), detector) for path in samples]
    (folder / "set.record").write_bytes(b"".join(map(framing.frame, records)))
    lines: list[str] = []
    reports = checkpoint_evaluation.evaluate_checkpoints(
        config, folder / "train", folder / "ours", eval_timeout=0, resamples=20, progress=False, say=lines.append
    )
    scores = np.concatenate([image.scores for image in results.read(folder / "ours/eval/detections.json").images])
    ties = int((np.diff(np.sort(scores)) < 1e-6).sum())
    document = {
        "ties": ties,
        "spread": float(np.ptp(scores)),
        "ours": reports[0]["metrics"]["bbox"],
        "step": reports[0]["step"],
        "text": lines[0],
    }
    document["theirs"] = by_tfod(folder)
    (folder / "both.json").write_text(json.dumps(document))


def record(name, pixels, detector):
    """A record whose objects are some of what the model finds, moved a little, so that scores lie between 0 and 1."""
    height, width = pixels.shape[:2]
    entry = evaluation.to_entry(name, detector(pixels), pixels.shape)
    boxes = results.to_pixels(entry.boxes, width, height)
    chosen = [i for i in range(0, len(boxes), 3) if min(boxes[i, 2:]) > 8][:8]
    moved = entry.boxes[chosen] * 0.97 + 0.005
    ymin, xmin, ymax, xmax = moved.T
    return schema.serialize(
        {
            schema.ENCODED: images.encode(pixels, "png").data,
            schema.FORMAT: "png",
            schema.FILENAME: name,
            schema.SOURCE_ID: name,
            schema.HEIGHT: height,
            schema.WIDTH: width,
            schema.YMIN: ymin,
            schema.XMIN: xmin,
            schema.YMAX: ymax,
            schema.XMAX: xmax,
            schema.CLASS_LABEL: entry.classes[chosen],
            schema.CLASS_TEXT: [("cup", "rocket")[number - 1] for number in entry.classes[chosen]],
        }
    )


def by_tfod(folder):
    """The same checkpoint by TFOD's `eval_continuously`: its 12 numbers, in order."""
    import tensorflow as tf
    from object_detection import model_lib_v2

    pointer = folder / "train" / "checkpoint"
    pointer.write_text('model_checkpoint_path: "ckpt-1"\n')
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        model_lib_v2.eval_continuously(
            str(folder / "pipeline.config"),
            model_dir=str(folder / "theirs"),
            checkpoint_dir=str(folder / "train"),
            wait_interval=1,
            timeout=1,
        )
    values = {}
    for path in (folder / "theirs").rglob("events*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                if value.tag.startswith("DetectionBoxes_") and "ByCategory" not in value.tag:
                    values[value.tag] = float(tf.make_ndarray(value.tensor))
    return values


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
