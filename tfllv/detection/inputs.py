"""Training batches: TFOD's decoding, augmentation and padding, with enhancement or darkening of the picture before.

Everything is TFOD's own functions; put together here, because `object_detection.inputs` leaves no place between
decoding and augmentation, normalises pictures before it makes them small, and translates 116 functions by AutoGraph,
none of which needs it: 15 of 20 seconds until the first batch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from tfllv.detection import compat
from tfllv.detection.preprocessing import Preprocessing


def preprocess(tensors: dict[str, Any], preprocessing: Preprocessing) -> dict[str, Any]:
    """Applies it to what TFOD's decoder gives, in a graph; see `Preprocessing`."""
    function = preprocessing.function()
    if function is None:
        return tensors
    import tensorflow as tf

    image = tensors["image"]
    key = tensors.get("source_id", "")
    done = tf.numpy_function(function, [tf.cast(image, tf.uint8), key], tf.uint8, stateful=False)
    return {**tensors, "image": tf.ensure_shape(done, (None, None, 3))}


def training_dataset(
    config: Any,
    model: Any,
    *,
    context: Any = None,
    preprocessing: Preprocessing | None = None,
    keep_padding: bool = False,
) -> Any:
    """Returns endless training batches as TFOD's `inputs.train_input` makes them.

    Args:
      config: a pipeline configuration; `train_config`, `train_input_reader` and `model` are read.
      model: the built detection model, for its scaling of pictures.
      context: of `distribute_datasets_from_function`: files and batch are shared out among the workers by it.
      preprocessing: of the picture.
      keep_padding: labels keep `max_number_of_boxes` rows, which a TPU and several replicas need; else as many as the
        picture of the batch with most boxes has. Padding has no weight, so the losses are the same, but each row of it
        is matched with every anchor.

    Returns:
      A `tf.data.Dataset` of (features, labels), both dicts of TFOD's `InputDataFields`.
    """
    compat.install()
    import tensorflow as tf
    from object_detection.builders import dataset_builder, decoder_builder

    reader = config.train_input_reader
    decoder = decoder_builder.build(reader)
    transform = _transform(config, model)
    before = preprocessing or Preprocessing()

    def example(record: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return transform(preprocess(decoder.decode(record), before))

    batch_size = config.train_config.batch_size
    if context is not None:
        batch_size = context.get_per_replica_batch_size(batch_size)
    records = dataset_builder.read_dataset(
        functools.partial(tf.data.TFRecordDataset, buffer_size=8 << 20),
        reader.tf_record_input_reader.input_path[:],
        reader,
        filename_shard_fn=dataset_builder.shard_function_for_context(context),
    )
    if reader.sample_1_of_n_examples > 1:
        records = records.shard(reader.sample_1_of_n_examples, 0)
    examples = records.map(tf.autograph.experimental.do_not_convert(example), tf.data.AUTOTUNE)
    batches = examples.batch(batch_size, drop_remainder=reader.drop_remainder).repeat()
    if not keep_padding:
        batches = batches.map(tf.autograph.experimental.do_not_convert(_trim))
    return batches.prefetch(max(reader.num_prefetch_batches, 1))


def _trim(features: dict[str, Any], labels: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Cuts the rows off that are padding in every picture of the batch; one is kept where no picture has a box."""
    import tensorflow as tf
    from object_detection.core.standard_fields import InputDataFields as Fields

    # Keypoints, tracks and dense poses come in more fields than are cut here.
    others = {Fields.groundtruth_keypoints, Fields.groundtruth_track_ids, Fields.groundtruth_dp_num_points}
    if Fields.num_groundtruth_boxes not in labels or others & labels.keys():
        return features, labels
    by_box = (
        Fields.groundtruth_boxes,
        Fields.groundtruth_classes,
        Fields.groundtruth_confidences,
        Fields.groundtruth_weights,
        Fields.groundtruth_area,
        Fields.groundtruth_is_crowd,
        Fields.groundtruth_group_of,
        Fields.groundtruth_difficult,
        Fields.groundtruth_instance_masks,
        Fields.groundtruth_instance_mask_weights,
    )
    rows = tf.maximum(tf.reduce_max(labels[Fields.num_groundtruth_boxes]), 1)
    return features, labels | {name: labels[name][:, :rows] for name in by_box if name in labels}


def scale_before_normalizing(model: Any) -> Callable[[Any], tuple[Any, Any]]:
    """Returns `model.preprocess`, for SSD models in another order: pictures are normalised when they are small.

    The values are the same to rounding, because SSD's normalisations are affine in each channel and the weights of a
    resized pixel add up to 1; on a photograph of 640x480 for a detector of 256 pixels it takes a fifth of the time.
    """
    import tensorflow as tf
    from object_detection.meta_architectures import ssd_meta_arch
    from object_detection.utils import shape_utils

    if not isinstance(model, ssd_meta_arch.SSDMetaArch):
        return model.preprocess

    def preprocess(images: Any) -> tuple[Any, Any]:
        resized, shapes = shape_utils.resize_images_and_return_shapes(images, model._image_resizer_fn)
        rows = tf.range(tf.shape(resized)[1])[:, tf.newaxis, tf.newaxis] < shapes[:, tf.newaxis, tf.newaxis, :1]
        columns = tf.range(tf.shape(resized)[2])[:, tf.newaxis] < shapes[:, tf.newaxis, tf.newaxis, 1:2]
        # What the resizer added holds its own value, which is not normalised.
        return tf.where(rows & columns, model._feature_extractor.preprocess(resized), resized), shapes

    return preprocess


def _transform(config: Any, model: Any) -> Callable[[dict[str, Any]], tuple[dict[str, Any], dict[str, Any]]]:
    """From a decoded record to (features, labels), padded to static shapes."""
    from object_detection import inputs
    from object_detection.builders import image_resizer_builder, preprocessor_builder
    from object_detection.utils import config_util

    train, reader = config.train_config, config.train_input_reader
    resizer = config_util.get_image_resizer_config(config.model)
    num_classes = config_util.get_number_of_classes(config.model)
    augmentations = [preprocessor_builder.build(step) for step in train.data_augmentation_options]
    transform = functools.partial(
        inputs.transform_input_data,
        model_preprocess_fn=scale_before_normalizing(model),
        image_resizer_fn=image_resizer_builder.build(resizer),
        num_classes=num_classes,
        data_augmentation_fn=functools.partial(inputs.augment_input_data, data_augmentation_options=augmentations),
        merge_multiple_boxes=train.merge_multiple_label_boxes,
        retain_original_image=train.retain_original_images,
        use_multiclass_scores=train.use_multiclass_scores,
        use_bfloat16=train.use_bfloat16,
        keypoint_type_weight=reader.keypoint_type_weight or None,
    )

    def apply(tensors: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        padded = inputs.pad_input_data_to_static_shapes(
            tensor_dict=transform(tensors),
            max_num_boxes=reader.max_number_of_boxes,
            num_classes=num_classes,
            spatial_image_shape=config_util.get_spatial_image_size(resizer),
            max_num_context_features=config_util.get_max_num_context_features(config.model),
            context_feature_length=config_util.get_context_feature_length(config.model),
        )
        return inputs._get_features_dict(padded, reader.include_source_id), inputs._get_labels_dict(padded)

    return apply
