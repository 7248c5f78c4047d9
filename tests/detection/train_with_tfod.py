"""Run by test_training.py in a process of its own: trains a tiny detector and writes what it saw as JSON.

python train_with_tfod.py FOLDER
"""

from __future__ import annotations

import importlib.util
import json
import pathlib
import sys
import warnings

import numpy as np

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))
SPEC = importlib.util.spec_from_file_location("tests_detection_scenes", HERE / "scenes.py")
scenes = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(scenes)

from tfllv.detection import batch_norm, compat, inputs, mask_features, pipeline, preprocessing, training  # noqa: E402

FAST = {"refresh_batch_norm": 2, "seconds_between_lines": 0.0}


class Recorder:
    """A tracker that keeps what it is told."""

    def __init__(self):
        self.points, self.shown = {}, []

    def scalars(self, step, values):
        self.points[step] = dict(values)

    def pictures(self, step, name, images):
        self.shown.append([name, list(images.shape), float(images.min()), float(images.max())])


def trainer(config, folder, lines, tracker=None, **options):
    return training.Trainer(
        config, folder, options=training.Options(**(FAST | options)), tracker=tracker, say=lines.append
    )


def train_and_resume(folder):
    """Three steps, then on to five; each a trainer of its own."""
    config, tracker = scenes.tiny(folder), Recorder()
    found = {"first": [], "second": [], "third": []}
    first = trainer(config, folder / "run", found["first"], tracker, num_train_steps=3, checkpoint_every_n=2)
    traces = count_traces(first)
    first.run()
    found |= {"losses": first.losses, "points": tracker.points, "shown": tracker.shown, "traces": len(traces)}
    found["files"] = sorted(path.name for path in (folder / "run").iterdir())
    found["same_config"] = pipeline.load(folder / "run" / "pipeline.config") == config
    kept = [variable.numpy() for variable in first.model.trainable_variables]
    second = trainer(config, folder / "run", found["second"], num_train_steps=5)
    second.restore()
    found["restored"] = all(
        np.array_equal(one, other.numpy()) for one, other in zip(kept, second.model.trainable_variables, strict=True)
    )
    found["slots"] = slots_equal(first, second)
    found["step"] = second.run()
    trainer(config, folder / "run", found["third"], num_train_steps=5).run()
    return found, second, config


def count_traces(run):
    """Counts how often the step is traced."""
    traces, step = [], run._replica_step

    def counted(features, labels):
        traces.append(1)
        return step(features, labels)

    run._replica_step = counted
    return traces


def slots_equal(first, second):
    one, other = (
        [run.optimizer.get_slot(variable, "momentum").numpy() for variable in run.model.trainable_variables]
        for run in (first, second)
    )
    return any(slot.any() for slot in one) and all(map(np.array_equal, one, other))


def stop_at_nan(run, folder):
    """A weight turned NaN: the run ends, and saves nothing."""
    before = sorted(path.name for path in (folder / "run").iterdir())
    weight = run.model.trainable_variables[0]
    weight.assign(np.full(weight.shape, np.nan, np.float32))
    run.restore, run.num_steps = lambda: None, 9
    try:
        run.run()
    except training.NotFiniteError as error:
        return str(error), sorted(path.name for path in (folder / "run").iterdir()) == before
    return "", False


def refresh(run):
    """Statistics of two batches: alone, and their mean, which the refresh gives."""

    class Fixed:
        def __init__(self, *batches):
            self.batches = list(batches)

        def get_next(self):
            return self.batches.pop(0)

    batches = [next(run._batches), next(run._batches)]
    alone = []
    refresher = run._refresh
    # The step is called outside its graph: the batches are Python's here.
    refresher._step = refresher._replicas
    for batch in batches:
        refresher.run(Fixed(batch), 1)
        alone.append([layer.moving_variance.numpy() for layer in refresher.layers])
    weights = [variable.numpy() for variable in run.model.trainable_variables]
    refresher.run(Fixed(*batches), 2)
    both = [layer.moving_variance.numpy() for layer in refresher.layers]
    same = [variable.numpy() for variable in run.model.trainable_variables]
    return {
        "layers": len(refresher.layers),
        "differ": not np.allclose(alone[0][-1], alone[1][-1], rtol=1e-4),
        "error": max(
            float(np.max(np.abs(b - (x + y) / 2) / (np.abs(b) + 1e-6))) for b, x, y in zip(both, *alone, strict=True)
        ),
        "momenta": sorted({round(float(layer.momentum), 4) for layer in refresher.layers}),
        "weights_kept": all(map(np.array_equal, weights, same)),
    }


def fine_tune(folder):
    """From three classes to two."""
    lines = []
    scenes.write_label_map(folder / "two.pbtxt", {"Bicycle": 1, "Boat": 2})
    config = scenes.tiny(
        folder / "other",
        "model.ssd.num_classes=2",
        f"train_input_reader.label_map_path={folder / 'two.pbtxt'}",
        f"train_config.fine_tune_checkpoint={folder / 'run' / 'ckpt-3'}",
        'train_config.fine_tune_checkpoint_type="detection"',
        "train_config.fine_tune_checkpoint_version=V2",
    )
    run = trainer(config, folder / "tuned", lines, num_train_steps=1)
    run.restore()
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(folder / "run" / "ckpt-3"))
    stored = [reader.get_tensor(name) for name in reader.get_variable_to_shape_map() if "_feature_extractor" in name]
    sums = sorted(float(np.sum(array)) for array in stored if array.dtype == np.float32 and array.ndim == 4)
    kernels = [v for v in run.model._feature_extractor.variables if len(v.shape) == 4]
    taken = sorted(float(np.sum(variable.numpy())) for variable in kernels)
    run.run()
    config.train_config.fine_tune_checkpoint_type = "full"
    try:
        trainer(config, folder / "full", []).restore()
        refused = ""
    except ValueError as error:
        refused = str(error)
    return {"lines": lines, "taken": bool(taken) and set(taken) <= set(sums), "refused": refused}


def decays(config):
    """The configured decay in EfficientNet's own layers."""
    from object_detection.builders import model_builder

    zoo = pipeline.parse(scenes.ZOO_EFFICIENTDET)
    zoo.model.ssd.feature_extractor.conv_hyperparams.batch_norm.decay = 0.9
    model = model_builder.build(zoo.model, is_training=True, add_summaries=False)
    before = sorted({layer.momentum for layer in batch_norm.layers(model)})
    changed = batch_norm.apply_decay(model, batch_norm.decay_of(zoo))
    return {
        "before": before,
        "changed": changed,
        "after": sorted({round(layer.momentum, 6) for layer in batch_norm.layers(model)}),
    }


def proposals():
    """What the second stage makes of three crops, with our extractors and TFOD's."""
    import tensorflow as tf
    from object_detection.builders import hyperparams_builder, model_builder
    from object_detection.protos import hyperparams_pb2

    table = model_builder.FASTER_RCNN_KERAS_FEATURE_EXTRACTOR_CLASS_MAP
    before = dict(table)  # training has registered already
    mask_features.register()
    settings = hyperparams_builder.KerasLayerHyperparams(hyperparams_pb2.Hyperparams())
    crops = tf.constant(np.random.default_rng(0).normal(size=(3, 7, 7, 16)).astype(np.float32))
    ours, tfods = (
        table[f"{kind}_rcnn_resnet50_fpn_keras"](True, conv_hyperparams=settings)
        .get_box_classifier_feature_extractor_model("second")(crops)
        .numpy()
        for kind in ("mask", "faster")
    )
    vectors = ours[..., :1024]
    return {
        "shape": list(ours.shape),
        "shape_of_tfods": list(tfods.shape),
        "crops_are_kept": bool(np.array_equal(ours[..., 1024:], crops.numpy())),
        "vectors_are_the_same_everywhere": bool((vectors == vectors[:, :1, :1]).all()),
        "vectors_differ": bool((vectors[0] != vectors[1]).any()),
        "types": sorted(name for name in table if name.startswith("mask_rcnn")),
        "types_are_kept": table == before,
    }


def padding(config, run):
    """The losses of a batch with all rows of its labels, and with those alone that hold a box."""
    from object_detection import model_lib, model_lib_v2

    features, labels = next(iter(inputs.training_dataset(config, run.model, keep_padding=True)))
    _, cut = inputs._trim(features, labels)
    _, given = next(iter(inputs.training_dataset(config, run.model)))
    run._set_training(True)
    losses = []
    for each in (labels, cut):
        lists = model_lib.unstack_batch(dict(each), unpad_groundtruth_tensors=False)
        found, _ = model_lib_v2._compute_losses_and_predictions_dicts(run.model, features, lists)
        losses.append({name: float(value) for name, value in found.items()})
    return {
        "rows": [each["groundtruth_boxes"].shape[1] for each in (labels, cut, given)],
        "boxes": int(labels["num_groundtruth_boxes"].numpy().max()),
        "losses": losses,
    }


def order():
    """How far pictures that are resized before they are normalised are from TFOD's, and how many shapes differ."""
    import tensorflow as tf
    from object_detection.builders import model_builder

    config = pipeline.load(HERE.parents[1] / "pipelines" / "ssd_efficientdet_d0_256x256_smoke.config")
    errors, shapes = [], 0
    for fill in ([], [1.0, 2.0, 3.0]):
        config.model.ssd.image_resizer.keep_aspect_ratio_resizer.per_channel_pad_value[:] = fill
        model = model_builder.build(config.model, is_training=True, add_summaries=False)
        for size in ((300, 410), (410, 300), (90, 100)):
            images = tf.constant(np.random.default_rng(0).uniform(0, 255, (2, *size, 3)), tf.float32)
            (one, shape), (two, same) = model.preprocess(images), inputs.scale_before_normalizing(model)(images)
            errors.append(float(np.abs(one - two).max()))
            shapes += int((shape.numpy() != same.numpy()).any())
    return {"error": max(errors), "shapes": shapes}


def on_the_fly(config, run):
    """The first batch, as it is and darkened, then enhanced; and what the functions themselves make of its pictures."""
    from tfllv import contracts, enhancers
    from tfllv.ops import darken
    from tfllv.records import images, schema
    from tfllv.records.detection import seed_of

    before = preprocessing.Preprocessing("clahe", "photographic", 5)
    plain, done, again = (
        next(iter(inputs.training_dataset(config, run.model, preprocessing=each)))[0]["image"].numpy()
        for each in (None, before, before)
    )
    expected = []
    for index in range(8):
        pixels = images.decode(schema.parse(scenes.example(index))[schema.ENCODED][0])
        dark = darken.darken(contracts.to_float(pixels), "photographic", seed_of(5, f"picture {index}"))
        expected.append(enhancers.get("clahe")(contracts.to_uint8(np.asarray(dark))))
    # MobileNet scales to [-1, 1].
    wanted = np.stack(expected).astype(np.float32) * (2 / 255) - 1
    apart = np.abs(done[:, None] - wanted[None]).max((2, 3, 4))
    return {
        "changed": float(np.abs(plain - done).max()),
        "again": bool(np.array_equal(done, again)),
        "error": float(apart.min(1).max()),
    }


def main(folder):
    """Runs all of it."""
    warnings.simplefilter("ignore")
    compat.install()
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")
    tf.keras.utils.set_random_seed(1)
    found, run, config = train_and_resume(folder)
    found["fly"] = on_the_fly(config, run)
    found["padding"] = padding(config, run)
    found["order"] = order()
    found["refresh"] = refresh(run)
    found["nan"], found["nothing_saved"] = stop_at_nan(run, folder)
    found["tuned"] = fine_tune(folder)
    found["decays"] = decays(config)
    found["mask_features"] = proposals()
    (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
