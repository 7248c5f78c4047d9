from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfllv import cli
from tfllv import config as configs
from tfllv.inputs import multitask as inputs
from tfllv.inputs import pipeline
from tfllv.metrics import segmentation
from tfllv.objectives import multitask as objectives
from tfllv.ops import darken
from tfllv.train import experiments, loop, multitask
from tfllv.train.learner import Learner

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def scenes(tmp_path, rng):
    """CamVid's layout: nine pictures of flat patches, a class a colour; class 4 is void."""
    colors = np.array([(200, 60, 40), (40, 180, 60), (60, 80, 220), (230, 220, 60), (128, 128, 128)], np.uint8)
    for folder, count in (("train", 6), ("val", 3)):
        for index in range(count):
            ids = np.kron(rng.integers(0, 5, (3, 4)), np.ones((12, 12))).astype(np.uint8)
            for name, pixels in ((folder, colors[ids]), (f"{folder}annot", ids)):
                (tmp_path / name).mkdir(exist_ok=True)
                Image.fromarray(pixels).save(tmp_path / name / f"{index}.png")
    return tmp_path


def make_config(scenes, **changes):
    settings = {
        "images": str(scenes / "train"),
        "masks": "trainannot",
        "val_images": "val",
        "val_masks": "valannot",
        "num_classes": 4,
        "void": ("4",),
        "image_size": 32,
        "train_batch_size": 2,
        "num_steps": 6,
        "width": 2,
        "display_iter": 2,
    }
    return configs.MultitaskConfig(experiment="multitask", **{**settings, **changes})


class Tiny(keras.Model):
    """One convolution a task, in place of the large network."""

    def __init__(self, seed=0):
        super().__init__()
        glorot = keras.initializers.GlorotUniform
        self.picture = keras.layers.Conv2D(3, 1, kernel_initializer=glorot(seed))
        self.classes = keras.layers.Conv2D(4, 3, padding="same", kernel_initializer=glorot(seed + 1))
        self(np.zeros((1, 8, 8, 3), np.float32))

    def call(self, images, training=False):
        return {"image": images + self.picture(images), "logits": self.classes(10 * images)}


def make_loop(config, workdir, objective=None):
    workdir.mkdir(exist_ok=True)
    learner = Learner(Tiny(), objective or objectives.Multitask())
    return loop.Loop(
        learner, multitask.source(config), config, workdir=workdir, validation=multitask.validation(config)
    )


# Data.


def test_batches_are_dark_bright_and_classes_of_the_same_place(scenes):
    config = make_config(scenes, image_fit="crop")
    source = multitask.source(config)
    colors = {}
    for batch in pipeline.training_batches(source, batch_size=4, seed=3, stop_step=20):
        assert set(batch) == {"low", "high", "mask", "name"}
        assert batch["low"].dtype == batch["high"].dtype == tf.float32 and batch["mask"].dtype == tf.int32
        assert float(tf.reduce_mean(batch["low"])) < 0.5 * float(tf.reduce_mean(batch["high"]))
        levels = np.rint(batch["high"].numpy() * 255).astype(int)
        for label in (0, 1, 2, 3, 255):
            colors.setdefault(label, set()).update(map(tuple, levels[batch["mask"].numpy() == label]))
    assert {label: len(found) for label, found in colors.items()} == dict.fromkeys((0, 1, 2, 3, 255), 1)


def test_pictures_are_darkened_anew_in_each_epoch_and_by_the_step_alone(scenes):
    source = multitask.source(make_config(scenes))
    whole = list(pipeline.training_batches(source, batch_size=6, seed=1, stop_step=3))
    assert np.abs(whole[0]["low"].numpy().mean() - whole[1]["low"].numpy().mean()) > 1e-4
    (again,) = pipeline.training_batches(
        multitask.source(make_config(scenes)), batch_size=6, seed=1, start_step=2, stop_step=3
    )
    np.testing.assert_array_equal(whole[2]["low"], again["low"])


def test_random_squares_are_cut_out_of_picture_and_map_alike(scenes):
    config = make_config(scenes, image_fit="crop", crop_from=12, crop_to=36, image_size=16)
    source = multitask.source(config)
    colors, shares = {}, []
    (again,) = pipeline.training_batches(multitask.source(config), batch_size=4, seed=3, start_step=7, stop_step=8)
    for step, batch in enumerate(pipeline.training_batches(source, batch_size=4, seed=3, stop_step=20)):
        assert batch["high"].shape == batch["low"].shape == (4, 16, 16, 3) and batch["mask"].shape == (4, 16, 16)
        if step == 7:
            np.testing.assert_array_equal(batch["low"], again["low"])
        # Where a square is made larger or smaller, the colours at the border of two classes are mixed, never the ids.
        levels = np.rint(batch["high"].numpy() * 255).astype(int)
        for label in (0, 1, 2, 3, 255):
            where = batch["mask"].numpy() == label
            colors.setdefault(label, []).extend(map(tuple, levels[where]))
        shares += [len(np.unique(mask)) for mask in batch["mask"].numpy()]
    assert set(shares) >= {2, 5}  # near and far
    for label, color in enumerate([(200, 60, 40), (40, 180, 60), (60, 80, 220), (230, 220, 60)]):
        assert np.mean([found == color for found in colors[label]]) > 0.6


def test_a_tint_colours_dark_and_bright_pictures_and_keeps_classes(scenes):
    plain, tinted = (
        next(iter(pipeline.training_batches(multitask.source(config), batch_size=6, seed=3, stop_step=1)))
        for config in (make_config(scenes), make_config(scenes, tint=0.2))
    )
    np.testing.assert_array_equal(plain["mask"], tinted["mask"])
    factors = tinted["high"] / np.maximum(plain["high"], 1e-3)
    free = tinted["high"].numpy() < 1
    for picture in range(6):
        for channel in range(3):
            found = factors.numpy()[picture, ..., channel][free[picture, ..., channel]]
            assert found.max() - found.min() < 1e-4 and 0.81 < found.mean() < 1.23
    assert factors.numpy().std() > 0.02


def test_wrong_squares_are_named(scenes):
    for changes in ({"crop_from": 40, "crop_to": 20}, {"crop_to": 4}, {"crop_to": 40, "image_fit": "resize"}):
        with pytest.raises(ValueError, match="`crop_from` and `crop_to` must be at least 8, in this order, and with"):
            multitask.source(make_config(scenes, **{"image_fit": "crop", **changes}))


def test_validation_sees_the_same_dark_picture_in_every_run(scenes):
    for seed in (0, 7):
        source = multitask.validation(make_config(scenes, seed=seed))
        high, low, mask = (source.read_centre(key, 1) for key in ("high", "low", "mask"))
        np.testing.assert_array_equal(low, darken.darken(high, "statistical", (0, 1)))
        assert high.shape == (32, 32, 3) and mask.shape == (32, 32) and mask.dtype == np.int32


def test_dark_pictures_made_ahead_are_taken_as_they_are(scenes, capsys):
    assert cli.main(["darken", str(scenes / "train"), "-o", str(scenes / "dark"), "--recipe", "gamma_noise"]) == 0
    source = multitask.source(make_config(scenes, dark="dark", image_fit="crop"))
    assert source.read_centre("low", 2).tobytes() != source.read_centre("high", 2).tobytes()
    stored = np.asarray(Image.open(next(iter(sorted((scenes / "dark").rglob("2.png"))))))
    np.testing.assert_array_equal(source.read_centre("low", 2), stored)
    (batch,) = pipeline.training_batches(source, batch_size=2, seed=0, stop_step=1)
    assert batch["low"].shape == (2, 32, 32, 3)


def test_classes_are_counted_without_void(scenes):
    source = multitask.source(make_config(scenes, image_fit="crop"))
    counts = source.count_classes()
    for index in range(6):
        ids = np.asarray(Image.open(scenes / "trainannot" / f"{index}.png"))
        np.testing.assert_array_equal(counts[index], np.bincount(ids.ravel(), minlength=5)[:4])
    assert isinstance(source, inputs.MultitaskSource)


def test_bad_input_is_one_line_that_names_the_file(scenes):
    mask = scenes / "trainannot" / "3.png"
    good = mask.read_bytes()
    Image.new("L", (7, 8)).save(mask)
    with pytest.raises(ValueError, match=r"`masks` must have their pictures' sizes.*3\.png of 7x8 .* of 48x36"):
        multitask.source(make_config(scenes))
    Image.new("L", (48, 36), 9).save(mask)
    with pytest.raises(ValueError, match=r"3\.png: expected class ids 0 to 3; found 9"):
        multitask.learner(make_config(scenes))
    mask.unlink()
    with pytest.raises(ValueError, match=r"`masks` must have a map for each picture.*none for .*3\.png"):
        multitask.source(make_config(scenes))
    mask.write_bytes(good)
    with pytest.raises(ValueError, match="`masks` must be a folder of maps"):
        multitask.source(make_config(scenes, masks=""))
    with pytest.raises(ValueError, match="`void` must be ids from 0 to 255"):
        multitask.source(make_config(scenes, void=("sky",)))
    with pytest.raises(ValueError, match="did you mean 'statistical'"):
        multitask.source(make_config(scenes, darken="statistcal"))


# Training.


def test_training_lowers_both_losses_and_reports_both_tasks(scenes, tmp_path):
    config = make_config(scenes, num_steps=60, lr=0.02, weight_decay=0.0, grad_clip_norm=0.0)
    trainer = make_loop(config, tmp_path / "run")
    before = trainer.validate()
    after = trainer.run()
    assert after["charbonnier"] < 0.8 * before["charbonnier"]
    assert after["segmentation"] < 0.95 * before["segmentation"]
    assert after["psnr"] > after["dark_psnr"] and 0 <= after["miou"] <= 1


def test_validation_adds_pixels_up_over_all_images(scenes, tmp_path):
    trainer = make_loop(make_config(scenes), tmp_path / "run")
    found = trainer.validate()
    confusion = np.zeros((4, 4), np.int64)
    source = multitask.validation(make_config(scenes))
    for index in range(3):
        low, mask = (source.read_centre(key, index) for key in ("low", "mask"))
        predicted = trainer.learner.net(low[None])["logits"].numpy().argmax(-1)[0]
        confusion += segmentation.confusion_matrix(mask, predicted, 4)
    assert found["miou"] == pytest.approx(segmentation.mean_iou(confusion))
    assert found["pixel_accuracy"] == pytest.approx(segmentation.pixel_accuracy(confusion))


def test_each_terms_gradient_norm_is_logged_and_changes_nothing(scenes, tmp_path):
    config = make_config(scenes, num_steps=4, display_iter=4, grad_clip_norm=0.0)
    with_norms, without = (make_loop(config.replace(term_gradients=on), tmp_path / str(on)) for on in (True, False))
    for trainer in (with_norms, without):
        trainer.run()
    for one, other in zip(with_norms.learner.net.get_weights(), without.learner.net.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    rows = [json.loads(line) for line in (tmp_path / "True" / "log.jsonl").read_text().splitlines()]
    assert {"gradient/charbonnier", "gradient/segmentation"} <= set(rows[0])
    assert not any(
        "gradient/" in key for key in json.loads((tmp_path / "False" / "log.jsonl").read_text().splitlines()[0])
    )


@pytest.mark.parametrize("parts", [1, 2])
def test_the_norms_are_those_of_the_terms_gradients(scenes, tmp_path, parts):
    from tfllv.train.step import reproducible_sums

    config = make_config(scenes, grad_clip_norm=0.0, accumulate_steps=parts, train_batch_size=4)
    trainer = make_loop(config, tmp_path / "run", objectives.Multitask(weighting="uncertainty"))
    (batch,) = pipeline.training_batches(trainer.source, batch_size=4, seed=0, stop_step=1)
    batch = {key: value for key, value in batch.items() if key != "name"}
    with tf.GradientTape(persistent=True) as tape:
        terms, _ = trainer.learner.terms(batch)
    expected = {
        name: float(tf.linalg.global_norm([g for g in tape.gradient(term, trainer._trained) if g is not None]))
        for name, term in terms.items()
    }
    with reproducible_sums():
        trainer._train_step(batch, term_norms=True)
    assert trainer._train_step.term_norms() == pytest.approx(expected, rel=1e-4)


def test_learned_weights_are_trained_and_resume_exactly(scenes, tmp_path):
    def run(folder, *stops):
        for stop in stops:
            trainer = make_loop(make_config(scenes), tmp_path / folder, objectives.Multitask(weighting="uncertainty"))
            trainer.stop_step = stop
            trainer.run()
        return trainer

    whole, parts = run("whole", 6), run("parts", 3, 6)
    assert all(abs(float(value)) > 0 for value in whole.learner.objective.variables)
    for one, other in zip(whole._state().values(), parts._state().values(), strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_the_shipped_configuration_is_read_and_its_options_reach_the_network(scenes):
    config = configs.load(ROOT / "configs" / "multitask_camvid.yaml", ["encoder=none", "frozen_stages=2"])
    config = config.replace(images=str(scenes / "train"))
    learner = multitask.learner(config)
    options = learner.net.get_config()
    assert (options["num_classes"], options["width"], options["shared_blocks"]) == (11, 8, 3)
    assert options["frozen_stages"] == 2 and not options["synchronized"]
    assert learner.objective.class_weights.shape == (11,)
    assert experiments.EXPERIMENTS["multitask"].data_field == "images"


# The real network, in processes of its own.

RUN = """
import sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * int(sys.argv[1]))
from tfllv import cli
sys.exit(cli.main(sys.argv[2:]))
"""


def train(scenes, workdir, *settings, replicas=1):
    settings = [
        "image_size=64",
        "train_batch_size=4",
        "lr=1e-4",
        "display_iter=1",
        "num_classes=4",
        "void=4",
        *settings,
    ]
    words = ["train", str(ROOT / "configs" / "multitask_camvid.yaml"), "--data", str(scenes / "train")]
    words += ["--workdir", str(workdir), "--tracker", "none", "--set", "width=1", *settings]
    words += ["--strategy", "mirrored"] if replicas > 1 else []
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(replicas), *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [json.loads(line) for line in (workdir / "log.jsonl").read_text().splitlines()]
    return [row for row in rows if "total" in row]


@pytest.mark.slow
def test_two_replicas_take_the_steps_of_one_with_the_statistics_of_a_batch(scenes, tmp_path):
    one = train(scenes, tmp_path / "one", "num_steps=3", "term_gradients=false")
    two = train(scenes, tmp_path / "two", "num_steps=3", "term_gradients=false", replicas=2)
    for first, second in zip(one, two, strict=True):
        for key in ("charbonnier", "segmentation", "gradient_norm"):
            assert second[key] == pytest.approx(first[key], rel=2e-3), (first["step"], key)


@pytest.mark.slow
def test_the_norms_of_two_replicas_are_those_of_one(images, start, tmp_path):
    settings = ("--set", "num_steps=3", "term_gradients=true", "display_iter=1")
    plain = start(tmp_path / "one", images[0].parent, tmp_path / "one.npz", *settings)
    words = (tmp_path / "two", images[0].parent, tmp_path / "two.npz", "--strategy", "mirrored", "--replicas", 2)
    for process in (plain, start(*words, *settings)):
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors[-2000:]
    one, two = (
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    )
    for first, second in zip(one, two, strict=True):
        if "total" in first:
            for key in ("gradient_norm", "gradient/level", "gradient/shape"):
                assert second[key] == pytest.approx(first[key], rel=1e-4)


@pytest.mark.slow
def test_a_stopped_run_of_the_real_network_ends_with_the_same_bits(scenes, tmp_path):
    train(scenes, tmp_path / "whole", "num_steps=4", "checkpoint_steps=2")
    # Three checkpoints, of which the first stands for a run that was killed after it.
    train(scenes, tmp_path / "parts", "num_steps=4", "checkpoint_steps=2", "keep=2")
    (tmp_path / "parts" / "checkpoints" / "step-000000004.npz").unlink()
    train(scenes, tmp_path / "parts", "num_steps=4", "checkpoint_steps=2")
    with (
        np.load(tmp_path / "whole" / "checkpoints" / "step-000000004.npz") as one,
        np.load(tmp_path / "parts" / "checkpoints" / "step-000000004.npz") as other,
    ):
        assert one.files == other.files and len(one.files) > 300
        for name in one.files:
            if name != "meta":
                np.testing.assert_array_equal(one[name], other[name], err_msg=name)
