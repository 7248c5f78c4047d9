"""Small records and configurations for the tests of detection training."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import numpy as np

from tfllv.records import framing, images, label_map, masks, schema

NAMES = {"Bicycle": 1, "Boat": 2, "Bottle": 3}


def example(index: int, *, side: int = 64, boxes: Sequence[Sequence[float]] = ((0.25, 0.25, 0.75, 0.75),), **changes):
    """One record: noise with bright squares where the boxes (xmin, ymin, xmax, ymax) are, classes 1, 2, ... in turn."""
    rng = np.random.default_rng(index)
    pixels = rng.integers(0, 60, (side, side, 3)).astype(np.uint8)
    regions = []
    for number, (xmin, ymin, xmax, ymax) in enumerate(boxes):
        window = slice(int(ymin * side), int(ymax * side)), slice(int(xmin * side), int(xmax * side))
        pixels[window] = 80 + 60 * (number % 3)
        mask = np.zeros((side, side), np.uint8)
        mask[window] = 1
        regions.append(masks.encode_mask(masks.Region(mask), side, side))
    names = list(NAMES)
    features = {
        schema.ENCODED: images.encode(pixels, "png").data,
        schema.FORMAT: "png",
        schema.HEIGHT: side,
        schema.WIDTH: side,
        schema.FILENAME: f"{index}.png",
        schema.SOURCE_ID: f"picture {index}",
        schema.XMIN: [box[0] for box in boxes],
        schema.YMIN: [box[1] for box in boxes],
        schema.XMAX: [box[2] for box in boxes],
        schema.YMAX: [box[3] for box in boxes],
        schema.CLASS_TEXT: [names[number % 3] for number in range(len(boxes))],
        schema.CLASS_LABEL: [number % 3 + 1 for number in range(len(boxes))],
        schema.MASK: regions,
    }
    return schema.serialize({key: value for key, value in (features | changes).items() if value is not None})


def write_records(path: pathlib.Path, examples: Sequence[bytes]) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(framing.frame(data) for data in examples))
    return path


def write_label_map(path: pathlib.Path, names: dict[str, int] | None = None) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(label_map.write(names or NAMES))
    return path


def reader_overrides(records: str, names: str) -> list[str]:
    """The overrides that make a configuration read some records in training and evaluation."""
    return [
        f"{reader}.{field}"
        for reader in ("train_input_reader", "eval_input_reader")
        for field in (f"tf_record_input_reader.input_path={records}", f"label_map_path={names}")
    ]


# As the TF2 zoo writes its files: a heading, colons before braces, placeholders, semicolons and commas here and there.
ZOO_EFFICIENTDET = """
 # SSD with EfficientNet-b0 + BiFPN feature extractor,
# Train on TPU-8

model {
  ssd {
    inplace_batchnorm_update: true
    freeze_batchnorm: false
    num_classes: 90
    add_background_class: false
    box_coder {
      faster_rcnn_box_coder { y_scale: 10.0 x_scale: 10.0 height_scale: 5.0 width_scale: 5.0 }
    }
    matcher {
      argmax_matcher {
        matched_threshold: 0.5
        unmatched_threshold: 0.5
        ignore_thresholds: false
        negatives_lower_than_unmatched: true
        force_match_for_each_row: true
        use_matmul_gather: true
      }
    }
    similarity_calculator { iou_similarity { } }
    encode_background_as_zeros: true
    anchor_generator {
      multiscale_anchor_generator {
        min_level: 3
        max_level: 7
        anchor_scale: 4.0
        aspect_ratios: [1.0, 2.0, 0.5]
        scales_per_octave: 3
      }
    }
    image_resizer {
      keep_aspect_ratio_resizer {
        min_dimension: 512
        max_dimension: 512
        pad_to_max_dimension: true
        }
    }
    box_predictor {
      weight_shared_convolutional_box_predictor {
        depth: 64
        class_prediction_bias_init: -4.6
        conv_hyperparams {
          force_use_bias: true
          activation: SWISH
          regularizer { l2_regularizer { weight: 0.00004 } }
          initializer { random_normal_initializer { stddev: 0.01 mean: 0.0 } }
          batch_norm { scale: true decay: 0.99 epsilon: 0.001 }
        }
        num_layers_before_predictor: 3
        kernel_size: 3
        use_depthwise: true
      }
    }
    feature_extractor {
      type: 'ssd_efficientnet-b0_bifpn_keras'
      bifpn { min_level: 3 max_level: 7 num_iterations: 3 num_filters: 64 }
      conv_hyperparams {
        force_use_bias: true
        activation: SWISH
        regularizer { l2_regularizer { weight: 0.00004 } }
        initializer { truncated_normal_initializer { stddev: 0.03 mean: 0.0 } }
        batch_norm {
          scale: true,
          decay: 0.99,
          epsilon: 0.001,
        }
      }
    }
    loss {
      classification_loss { weighted_sigmoid_focal { alpha: 0.25 gamma: 1.5 } }
      localization_loss { weighted_smooth_l1 { } }
      classification_weight: 1.0
      localization_weight: 1.0
    }
    normalize_loss_by_num_matches: true
    normalize_loc_loss_by_codesize: true
    post_processing {
      batch_non_max_suppression {
        score_threshold: 1e-8
        iou_threshold: 0.5
        max_detections_per_class: 100
        max_total_detections: 100
      }
      score_converter: SIGMOID
    }
  }
}

train_config: {
  fine_tune_checkpoint: "PATH_TO_BE_CONFIGURED/ckpt-0"
  fine_tune_checkpoint_version: V2
  fine_tune_checkpoint_type: "classification"
  batch_size: 128
  sync_replicas: true
  startup_delay_steps: 0
  replicas_to_aggregate: 8
  use_bfloat16: true
  num_steps: 300000
  data_augmentation_options { random_horizontal_flip { } }
  data_augmentation_options {
    random_scale_crop_and_pad_to_square { output_size: 512 scale_min: 0.1 scale_max: 2.0 }
  }
  optimizer {
    momentum_optimizer: {
      learning_rate: {
        cosine_decay_learning_rate {
          learning_rate_base: 8e-2
          total_steps: 300000
          warmup_learning_rate: .001
          warmup_steps: 2500
        }
      }
      momentum_optimizer_value: 0.9
    }
    use_moving_average: false
  }
  max_number_of_boxes: 100
  unpad_groundtruth_tensors: false
}

train_input_reader: {
  label_map_path: "PATH_TO_BE_CONFIGURED/label_map.txt"
  tf_record_input_reader { input_path: "PATH_TO_BE_CONFIGURED/train2017-?????-of-00256.tfrecord" }
}

eval_config: {
  metrics_set: "coco_detection_metrics"
  use_moving_averages: false
  batch_size: 1;
}

eval_input_reader: {
  label_map_path: "PATH_TO_BE_CONFIGURED/label_map.txt"
  shuffle: false
  num_epochs: 1
  tf_record_input_reader { input_path: "PATH_TO_BE_CONFIGURED/val2017-?????-of-00032.tfrecord" }
}
"""

ZOO_MASK_RCNN = """
# Mask R-CNN with Inception Resnet v2 (no atrous)
model {
  faster_rcnn {
    number_of_stages: 3
    num_classes: 90
    image_resizer { fixed_shape_resizer { height: 1024 width: 1024 } }
    feature_extractor { type: 'faster_rcnn_inception_resnet_v2_keras' }
    first_stage_anchor_generator {
      grid_anchor_generator {
        scales: [0.25, 0.5, 1.0, 2.0]
        aspect_ratios: [0.5, 1.0, 2.0]
        height_stride: 16
        width_stride: 16
      }
    }
    first_stage_box_predictor_conv_hyperparams {
      op: CONV
      regularizer { l2_regularizer { weight: 0.0 } }
      initializer { truncated_normal_initializer { stddev: 0.01 } }
    }
    first_stage_nms_score_threshold: 0.0
    first_stage_nms_iou_threshold: 0.7
    first_stage_max_proposals: 300
    first_stage_localization_loss_weight: 2.0
    first_stage_objectness_loss_weight: 1.0
    initial_crop_size: 17
    maxpool_kernel_size: 1
    maxpool_stride: 1
    second_stage_box_predictor {
      mask_rcnn_box_predictor {
        use_dropout: false
        dropout_keep_probability: 1.0
        fc_hyperparams {
          op: FC
          regularizer { l2_regularizer { weight: 0.0 } }
          initializer { variance_scaling_initializer { factor: 1.0 uniform: true mode: FAN_AVG } }
        }
        mask_height: 33
        mask_width: 33
        mask_prediction_conv_depth: 0
        mask_prediction_num_conv_layers: 4
        conv_hyperparams {
          op: CONV
          regularizer { l2_regularizer { weight: 0.0 } }
          initializer { truncated_normal_initializer { stddev: 0.01 } }
        }
        predict_instance_masks: true
      }
    }
    second_stage_post_processing {
      batch_non_max_suppression {
        score_threshold: 0.0
        iou_threshold: 0.6
        max_detections_per_class: 100
        max_total_detections: 100
      }
      score_converter: SOFTMAX
    }
    second_stage_localization_loss_weight: 2.0
    second_stage_classification_loss_weight: 1.0
    second_stage_mask_prediction_loss_weight: 4.0
    resize_masks: false
  }
}

train_config: {
  batch_size: 16
  num_steps: 200000
  optimizer {
    momentum_optimizer: {
      learning_rate: {
        cosine_decay_learning_rate {
          learning_rate_base: 0.008
          total_steps: 200000
          warmup_learning_rate: 0.0
          warmup_steps: 5000
        }
      }
      momentum_optimizer_value: 0.9
    }
    use_moving_average: false
  }
  gradient_clipping_by_norm: 10.0
  fine_tune_checkpoint_version: V2
  fine_tune_checkpoint: "PATH_TO_BE_CONFIGURED/inception_resnet_v2.ckpt-1"
  fine_tune_checkpoint_type: "classification"
  data_augmentation_options { random_horizontal_flip { } }
}

train_input_reader: {
  label_map_path: "PATH_TO_BE_CONFIGURED/label_map.txt"
  tf_record_input_reader { input_path: "PATH_TO_BE_CONFIGURED/train2017-?????-of-00256.tfrecord" }
  load_instance_masks: true
  mask_type: PNG_MASKS
}

eval_config: {
  metrics_set: "coco_detection_metrics"
  metrics_set: "coco_mask_metrics"
  eval_instance_masks: true
  use_moving_averages: false
  batch_size: 1
  include_metrics_per_category: true
}

eval_input_reader: {
  label_map_path: "PATH_TO_BE_CONFIGURED/label_map.txt"
  shuffle: false
  num_epochs: 1
  tf_record_input_reader { input_path: "PATH_TO_BE_CONFIGURED/val2017-?????-of-00032.tfrecord" }
  load_instance_masks: true
  mask_type: PNG_MASKS
}
"""

ZOO_CENTERNET = """
# CenterNet meta-architecture from the "Objects as Points" paper with the hourglass backbone.
model {
  center_net {
    num_classes: 90
    feature_extractor {
      type: "hourglass_104"
      bgr_ordering: true
      channel_means: [104.01362025, 114.03422265, 119.9165958 ]
      channel_stds: [73.6027665 , 69.89082075, 70.9150767 ]
    }
    image_resizer {
      keep_aspect_ratio_resizer { min_dimension: 512 max_dimension: 512 pad_to_max_dimension: true }
    }
    object_detection_task {
      task_loss_weight: 1.0
      offset_loss_weight: 1.0
      scale_loss_weight: 0.1
      localization_loss { l1_localization_loss { } }
    }
    object_center_params {
      object_center_loss_weight: 1.0
      min_box_overlap_iou: 0.7
      max_box_predictions: 100
      classification_loss { penalty_reduced_logistic_focal_loss { alpha: 2.0 beta: 4.0 } }
    }
  }
}

train_config: {
  batch_size: 128
  num_steps: 140000
  data_augmentation_options { random_horizontal_flip { } }
  optimizer {
    adam_optimizer: {
      epsilon: 1e-7  # Match tf.keras.optimizers.Adam's default.
      learning_rate: {
        manual_step_learning_rate {
          initial_learning_rate: 1e-3
          schedule { step: 90000 learning_rate: 1e-4 }
          schedule { step: 120000 learning_rate: 1e-5 }
        }
      }
    }
    use_moving_average: false
  }
  max_number_of_boxes: 100
  unpad_groundtruth_tensors: false
  fine_tune_checkpoint_version: V2
  fine_tune_checkpoint: "PATH_TO_BE_CONFIGURED/ckpt-1"
  fine_tune_checkpoint_type: "detection"
}

train_input_reader: {
  label_map_path: "PATH_TO_BE_CONFIGURED/label_map.txt"
  tf_record_input_reader { input_path: "PATH_TO_BE_CONFIGURED/train2017-?????-of-00256.tfrecord" }
}

eval_config: {
  metrics_set: "coco_detection_metrics"
  use_moving_averages: false
  batch_size: 1;
}

eval_input_reader: {
  label_map_path: "PATH_TO_BE_CONFIGURED/label_map.txt"
  shuffle: false
  num_epochs: 1
  tf_record_input_reader { input_path: "PATH_TO_BE_CONFIGURED/val2017-?????-of-00032.tfrecord" }
}
"""

ZOO = {"efficientdet": ZOO_EFFICIENTDET, "mask_rcnn": ZOO_MASK_RCNN, "centernet": ZOO_CENTERNET}

# A detector small enough to be built, traced and trained a few steps in seconds.
TINY = """
model { ssd {
  num_classes: 3
  image_resizer { fixed_shape_resizer { height: 64 width: 64 } }
  box_coder { faster_rcnn_box_coder { y_scale: 10.0 x_scale: 10.0 height_scale: 5.0 width_scale: 5.0 } }
  matcher { argmax_matcher { matched_threshold: 0.5 unmatched_threshold: 0.5 ignore_thresholds: false
    negatives_lower_than_unmatched: true force_match_for_each_row: true use_matmul_gather: true } }
  similarity_calculator { iou_similarity { } }
  encode_background_as_zeros: true
  anchor_generator { ssd_anchor_generator { num_layers: 6 min_scale: 0.2 max_scale: 0.95 aspect_ratios: 1.0 } }
  box_predictor { convolutional_box_predictor { min_depth: 0 max_depth: 0 num_layers_before_predictor: 0
    use_dropout: false kernel_size: 1 box_code_size: 4 apply_sigmoid_to_scores: false
    conv_hyperparams { activation: RELU_6 regularizer { l2_regularizer { weight: 0.00004 } }
      initializer { random_normal_initializer { stddev: 0.01 mean: 0.0 } } } } }
  feature_extractor { type: "ssd_mobilenet_v1_keras" min_depth: 4 depth_multiplier: 0.1
    override_base_feature_extractor_hyperparams: true
    conv_hyperparams { activation: RELU_6 regularizer { l2_regularizer { weight: 0.00004 } }
      initializer { truncated_normal_initializer { stddev: 0.3 mean: 0.0 } }
      batch_norm { train: true scale: true center: true decay: 0.97 epsilon: 0.001 } } }
  loss { classification_loss { weighted_sigmoid_focal { alpha: 0.75 gamma: 2.0 } }
    localization_loss { weighted_smooth_l1 { delta: 1.0 } } classification_weight: 1.0 localization_weight: 1.0 }
  normalize_loss_by_num_matches: true
  normalize_loc_loss_by_codesize: true
  post_processing { batch_non_max_suppression { score_threshold: 1e-8 iou_threshold: 0.6
    max_detections_per_class: 10 max_total_detections: 10 } score_converter: SIGMOID }
} }
train_config { batch_size: 4 num_steps: 100 max_number_of_boxes: 4 unpad_groundtruth_tensors: false
  optimizer { momentum_optimizer { momentum_optimizer_value: 0.9 learning_rate { cosine_decay_learning_rate {
    learning_rate_base: 0.004 total_steps: 100 warmup_learning_rate: 0.001 warmup_steps: 10 } } }
    use_moving_average: false } }
train_input_reader { shuffle: false max_number_of_boxes: 4 tf_record_input_reader { } }
eval_config { metrics_set: "coco_detection_metrics" use_moving_averages: false batch_size: 1 }
eval_input_reader { shuffle: false num_epochs: 1 tf_record_input_reader { } }
"""


def tiny(folder: pathlib.Path, *overrides: str, shards: int = 2, examples: int = 4):
    """The configuration TINY with records of its own in a folder: `shards` files of `examples` pictures each."""
    from tfllv.detection import pipeline

    for shard in range(shards):
        made = [example(shard * examples + index) for index in range(examples)]
        write_records(folder / f"data-{shard:05}-of-{shards:05}", made)
    names = write_label_map(folder / "map.pbtxt")
    config = pipeline.parse(TINY)
    for override in (*reader_overrides(f"{folder}/data-?????-of-?????", str(names)), *overrides):
        pipeline.apply_override(config, override)
    return config
