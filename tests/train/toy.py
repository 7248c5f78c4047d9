"""A small learner and its images, for the engine's tests; as a program, one run in a process of its own.

python toy.py WORKDIR IMAGES OUT.npz [--strategy NAME] [--replicas N] [--set KEY=VALUE ...]
"""

from __future__ import annotations

import argparse
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from tfllv import config as configs
from tfllv.inputs import pipeline
from tfllv.train import loop, trackers
from tfllv.train import strategy as strategies
from tfllv.train.learner import Learner

SIZE = 16
COUNT = 7


class Net(keras.Model):
    """Two convolutions with dropout and synchronised batch norm between: everything that holds state."""

    def __init__(self, dtype=None, dropout=0.2, seed=0, norm=True):
        super().__init__()
        glorot = keras.initializers.GlorotUniform
        # No bias before batch norm: its gradient is 0 but for rounding, which Adam would blow up to full steps.
        self.first = keras.layers.Conv2D(
            4, 3, padding="same", use_bias=not norm, kernel_initializer=glorot(seed + 1), dtype=dtype
        )
        self.norm = keras.layers.BatchNormalization(synchronized=True, dtype="float32") if norm else None
        self.drop = keras.layers.Dropout(dropout, seed=seed + 3)
        self.last = keras.layers.Conv2D(3, 1, kernel_initializer=glorot(seed + 2), dtype="float32")
        self(np.zeros((1, SIZE, SIZE, 3), np.float32))

    def call(self, images, training=False):
        features = keras.ops.cast(self.first(images), "float32")
        features = self.norm(features, training=training) if self.norm else features
        return {"image": self.last(self.drop(keras.ops.tanh(features), training=training))}


def objective(net, batch, *, training=True):
    """Two smooth terms."""
    outputs = net(batch["low"], training=training)
    level = keras.ops.mean(keras.ops.square(outputs["image"] - 0.6))
    return {"level": 3 * level, "shape": keras.ops.mean(keras.ops.square(outputs["image"] - 2 * batch["low"]))}, outputs


def make_images(folder):
    """Writes the images; returns their paths."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{i}.png" for i in range(COUNT)]
    for path in paths:
        Image.fromarray(rng.integers(0, 90, (SIZE + 4, SIZE + 2, 3), dtype=np.uint8)).save(path)
    return paths


def make_config(**fields):
    """Returns a configuration for 20 steps in four and a bit epochs."""
    small = {"image_size": SIZE, "image_fit": "crop", "augment": True, "num_steps": 20, "train_batch_size": 4}
    small |= {"lr": 1e-2, "display_iter": 1, "checkpoint_steps": 3, "snapshot_iter": 100, "val_batch_size": 2}
    return configs.ZeroReferenceConfig(**{**small, **fields})


def make_loop(workdir, paths, *, net=None, strategy="one", tracker=None, learner=None, **fields):
    """Returns a loop on the toy learner."""
    config = make_config(**fields)
    pathlib.Path(workdir).mkdir(parents=True, exist_ok=True)
    strategy = strategies.make(strategy)
    with strategy.scope():
        dtype = None if config.precision == "float32" else f"mixed_{config.precision}"
        learner = learner or Learner(Net(dtype=dtype, **(net or {})), objective)
    source = pipeline.ImageSource({"low": paths}, size=SIZE, fit=config.image_fit)
    workdir = pathlib.Path(workdir)
    return loop.Loop(
        learner, source, config, workdir=workdir, strategy=strategy, tracker=tracker or trackers.NoTracker()
    )


def state(trainer):
    """Returns every array of a loop's state."""
    return trainer._arrays()


def main(words=None):
    """Makes one run and saves its final state."""
    parser = argparse.ArgumentParser()
    parser.add_argument("workdir", type=pathlib.Path)
    parser.add_argument("images", type=pathlib.Path)
    parser.add_argument("out")
    parser.add_argument("--strategy", default="one")
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--set", nargs="*", default=[])
    args = parser.parse_args(words)
    device = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(device, [tf.config.LogicalDeviceConfiguration()] * args.replicas)
    fields = configs.from_yaml("", overrides=args.set).to_dict() if args.set else {}
    fields = {word.split("=")[0]: fields[word.split("=")[0]] for word in args.set}
    paths = sorted(args.images.glob("*.png"))
    trainer = make_loop(args.workdir, paths, strategy=args.strategy, net={"dropout": args.dropout}, **fields)
    trainer.run()
    np.savez(args.out, **state(trainer))


if __name__ == "__main__":
    sys.exit(main())
