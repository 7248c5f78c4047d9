"""Trains one registered network on the engine and saves what it learned.

python registered.py CONFIG.yaml WORKDIR OUT.npz [--strategy NAME] [--replicas N] [--floatx TYPE]
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

from tfllv import config as configs

# Imported here so that a fork of this module starts at once.
from tfllv.models import diffusion_unet, mirnet, mirnet_small, pix2pix, resnet_unet, sgz, zero_dce  # noqa: F401
from tfllv.objectives import adversarial, denoising, multitask, supervised, zero_reference  # noqa: F401
from tfllv.train import experiments, loop
from tfllv.train import strategy as strategies


def main(words=None):
    """Trains; saves every variable of network and objective, before and after."""
    parser = argparse.ArgumentParser()
    parser.add_argument("config")
    parser.add_argument("workdir", type=pathlib.Path)
    parser.add_argument("out")
    parser.add_argument("--strategy", default="one")
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--floatx", default="float32")
    parser.add_argument("--set", nargs="*", default=[])
    args = parser.parse_args(words)
    keras.config.set_floatx(args.floatx)
    device = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(device, [tf.config.LogicalDeviceConfiguration()] * args.replicas)
    strategy = strategies.make(args.strategy)
    config = configs.load(args.config, args.set)
    row = experiments.EXPERIMENTS[config.experiment]
    keras.utils.set_random_seed(config.seed)
    args.workdir.mkdir(parents=True, exist_ok=True)
    with strategy.scope():
        learner = row.learner(config)
    run = loop.Loop(learner, row.source(config), config, workdir=args.workdir, strategy=strategy)
    before = {f"before/{name}": array for name, array in run._arrays().items() if not name.startswith("optimizer")}
    run._save = lambda epoch_ended: None  # of tens of millions of parameters
    run._train()
    after = {name: array for name, array in run._arrays().items() if not name.startswith("optimizer")}
    np.savez(args.out, **before, **after)


if __name__ == "__main__":
    sys.exit(main())
