from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import tensorflow as tf

from tfllv import config as configs
from tfllv.inputs import pipeline
from tfllv.train import diffusion, experiments, loop, optimizer

TINY = ("n_feat=4", "depth=2", "heads=1")


@pytest.fixture
def table(tmp_path, rng):
    """Six pairs in a csv and in two folders, 24x20."""
    rows = ["low,high"]
    for index in range(6):
        high = cv2.resize(rng.integers(60, 250, (4, 4, 3)).astype(np.uint8), (24, 20), interpolation=cv2.INTER_CUBIC)
        for kind, pixels in (("low", (255 * (high / 255.0) ** 2 * 0.3).astype(np.uint8)), ("high", high)):
            (tmp_path / kind).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / kind / f"{index}.png"), pixels)
        rows.append(f"low/{index}.png,high/{index}.png")
    (tmp_path / "train.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return tmp_path / "train.csv"


def make_config(table, **changes):
    settings = {
        "pairs": str(table),
        "model": "diffusion_unet_small",
        "options": TINY,
        "image_size": 16,
        "crop_to": 20,
        "train_batch_size": 4,
        "num_steps": 4,
        "lr": 3e-3,
        "ema_decay": 0.9,
        "schedule": "constant",
        "sample_every": 0,
        "val_batch_size": 2,
        "display_iter": 100,
        "checkpoint_steps": 2,
    }
    return configs.DiffusionConfig(experiment="diffusion", **{**settings, **changes})


def make_loop(config, workdir):
    workdir.mkdir(exist_ok=True)
    row = experiments.EXPERIMENTS["diffusion"]
    return loop.Loop(
        row.learner(config), row.source(config), config, workdir=workdir, validation=row.validation(config)
    )


@pytest.mark.slow
def test_training_lowers_the_loss(tmp_path, table):
    trainer = make_loop(make_config(table, num_steps=60), tmp_path / "run")
    before = trainer.validate()
    after = trainer.run()
    assert set(after) == {"total", "noise", "psnr"}
    assert after["noise"] < 0.8 * before["noise"]


@pytest.mark.slow
def test_a_stopped_run_ends_with_the_same_bits(tmp_path, table):
    whole = make_loop(make_config(table, exposure=0.3, cast=0.5, input_perturbation=0.2, flip=True), tmp_path / "whole")
    whole.run()
    first = make_loop(make_config(table, exposure=0.3, cast=0.5, input_perturbation=0.2, flip=True), tmp_path / "parts")
    first.stop_step = 2
    first.run()
    second = make_loop(
        make_config(table, exposure=0.3, cast=0.5, input_perturbation=0.2, flip=True), tmp_path / "parts"
    )
    second.run()
    for one, other in zip(whole._state().values(), second._state().values(), strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


@pytest.mark.slow
def test_a_batch_in_parts_is_the_batch_at_once(tmp_path, table):
    means = []
    for parts in (1, 2):
        trainer = make_loop(make_config(table, num_steps=1, accumulate_steps=parts), tmp_path / str(parts))
        trainer.run()
        means.append([mean.numpy() for mean in trainer.optimizer._means])  # a tenth of the gradient
    assert max(np.abs(mean).max() for mean in means[0]) > 1e-3
    for one, other in zip(*means, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.slow
def test_sample_grids_are_written_and_logged_every_so_many_epochs(tmp_path, table):
    seen = []

    class Tracker:
        def scalars(self, step, values):
            pass

        def pictures(self, step, name, images):
            seen.append((step, name, images.shape))

        def close(self):
            pass

    config = make_config(table, num_steps=0, num_epochs=4, train_batch_size=6, sample_every=2, snapshot_iter=100)
    (tmp_path / "run").mkdir()
    row = experiments.EXPERIMENTS["diffusion"]
    trainer = loop.Loop(row.learner(config), row.source(config), config, workdir=tmp_path / "run", tracker=Tracker())
    trainer.run()
    assert sorted(path.name for path in (tmp_path / "run" / "samples").iterdir()) == ["Epoch1.png", "Epoch3.png"]
    assert cv2.imread(str(tmp_path / "run" / "samples" / "Epoch1.png")).shape == (2 * 16, 3 * 16, 3)
    assert [(step, shape) for step, name, shape in seen if name == "samples"] == [
        (2, (1, 32, 48, 3)),
        (4, (1, 32, 48, 3)),
    ]


def test_the_rate_falls_by_gamma_every_so_many_epochs():
    # 10 images in batches of 4: epochs of 2.5 steps, two of them are 5 steps.
    schedule = optimizer.Schedule(1e-4, "step", gamma=0.9, batch_images=4, step_images=20)
    rates = [float(schedule(tf.constant(update, tf.int64))) for update in (0, 4, 5, 9, 10)]
    np.testing.assert_allclose(rates, [1e-4, 1e-4, 0.9e-4, 0.9e-4, 0.81e-4], rtol=1e-6)


@pytest.mark.slow
def test_the_rate_of_a_run_falls_at_its_epochs(tmp_path, table):
    config = make_config(
        table, schedule="step", lr_gamma=0.5, lr_step_size=1, num_steps=4, train_batch_size=3, display_iter=1
    )
    make_loop(config, tmp_path / "run").run()
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    rates = [row["lr"] for row in rows if "lr" in row]
    np.testing.assert_allclose(rates, [3e-3, 3e-3, 1.5e-3, 1.5e-3], rtol=1e-5)


def test_two_folders_are_pairs_and_what_the_dark_one_holds_beside_is_left_out(table):
    folder = table.parent
    cv2.imwrite(str(folder / "low" / "extra.png"), np.zeros((9, 9, 3), np.uint8))
    config = make_config("", input_image_dir=str(folder / "high"), conditional_image_dir=str(folder / "low"))
    source = diffusion.source(config)
    assert len(source) == 6
    annotation = folder / "names.json"
    annotation.write_text(json.dumps({"filename": ["1.png", "4.png"]}))
    named = diffusion.source(config.replace(annotation=str(annotation)))
    assert [name.rsplit("/", 1)[1] for name in named.names] == ["1.png", "4.png"]
    assert len(diffusion.source(config.replace(exclude=("0.png",)))) == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pairs": ""}, "must be given"),
        ({"input_image_dir": "x", "conditional_image_dir": "y"}, "must be given"),
        ({"crop_to": 8}, "`crop_from` and `crop_to` must be at least `image_size`"),
    ],
)
def test_wrong_sources_are_one_clear_error(table, changes, message):
    with pytest.raises(ValueError, match=message) as error:
        diffusion.source(make_config(table, **changes))
    assert "\n" not in str(error.value)


def test_a_network_that_is_none_of_diffusion_is_refused(table):
    with pytest.raises(ValueError, match="`model` must be a diffusion network"):
        diffusion.learner(make_config(table, model="sgz", options=()))


def test_options_of_the_published_code_are_fields_under_its_names():
    config = configs.from_yaml(
        "experiment: diffusion\ninput_image_dir: a\nconditional_image_dir: b\nannotation: c.json\ncheckpoint_dir: d/\n"
        "weight_path: e.weights.h5\nbatch_size: 3\nepoch: 7\nweight_decay: 0.1\nlearning_rate: 5e-5\nlr_step_size: 11\n"
        "lr_gamma: 0.9\nsample_every: 13\ncheckpoint_epoch: 17\n"
    )
    assert (config.input_image_dir, config.conditional_image_dir, config.annotation) == ("a", "b", "c.json")
    assert (config.snapshots_folder, config.start_from) == ("d/", "e.weights.h5")
    assert (config.train_batch_size, config.num_epochs, config.snapshot_iter, config.sample_every) == (3, 7, 17, 13)
    assert (config.lr, config.weight_decay, config.lr_step_size, config.lr_gamma) == (5e-5, 0.1, 11, 0.9)
    assert config.schedule == "step"
    with pytest.raises(ValueError, match="`learning_rate`, which is `lr`, stands here a second time"):
        configs.from_yaml("experiment: diffusion\nlr: 1\nlearning_rate: 2\n")


def test_batches_do_not_depend_on_where_a_run_began(table):
    source = diffusion.source(make_config(table, exposure=0.5))
    options = {"batch_size": 4, "seed": 3, "stop_step": 4}
    late = next(iter(pipeline.training_batches(source, start_step=3, **options)))
    early = list(pipeline.training_batches(source, **options))[3]
    for key in ("low", "high", "noise", "time", "level"):
        np.testing.assert_array_equal(late[key], early[key])
