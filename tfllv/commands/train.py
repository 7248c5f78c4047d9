"""`tfllv train CONFIG`: trains a network; the same command again goes on where a run stopped."""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
from typing import Any

WEIGHTS = ".weights.h5"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("config", metavar="CONFIG", help="an experiment file, such as configs/sgz.yaml")
    parser.add_argument("--data", metavar="DIR", help="folder of training images (default: the config's)")
    parser.add_argument("--workdir", metavar="DIR", help="where everything is written (default: runs/NAME)")
    parser.add_argument(
        "--set", metavar="KEY=VALUE", nargs="+", action="extend", default=[], help="change fields, as in lr=1e-4"
    )
    parser.add_argument(
        "--strategy", default="one", choices=("one", "mirrored", "multi_worker", "tpu"), help="devices (default: one)"
    )
    parser.add_argument("--tpu", default="", metavar="NAME", help="the TPU, for --strategy tpu")
    parser.add_argument("--init_from", metavar="FILE", help="start from a weights file or another run's folder")
    parser.add_argument(
        "--tracker", default="tensorboard", choices=("tensorboard", "wandb", "none"), help="default: tensorboard"
    )
    parser.add_argument(
        "--deterministic", action="store_true", help="the same bits every time, also on a GPU, where it is slower"
    )


def run(args: argparse.Namespace) -> int:
    """Trains; returns 0 when done, 1 when a value was not finite, 130 when stopped."""
    from tfllv import config as configs

    overrides = [*args.set, *(["deterministic=true"] if args.deterministic else [])]
    config = configs.load(args.config, overrides)
    workdir = pathlib.Path(args.workdir or pathlib.Path("runs") / pathlib.Path(args.config).stem)
    from tfllv.train import experiments

    experiment = experiments.EXPERIMENTS[config.experiment]
    if args.data:
        config = config.replace(**{experiment.data_field: args.data})
    return _train(config, experiment, workdir, args)


def _train(config: Any, experiment: Any, workdir: pathlib.Path, args: argparse.Namespace) -> int:
    import keras
    import tensorflow as tf

    from tfllv.train import checkpoints, loop, trackers
    from tfllv.train import strategy as strategies

    strategy = strategies.make(args.strategy, tpu=args.tpu)
    source, validation = experiment.source(config), experiment.validation(config)
    workdir.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(config.seed)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    with strategy.scope():
        learner = experiment.learner(config)
        start = args.init_from or experiment.start(config)
        if start:
            learner.net.load_weights(resolve_weights(start, workdir))
    chief = strategies.is_chief(strategy)
    if chief:
        text = config.to_yaml().encode()
        checkpoints.write_atomically(workdir / "config.yaml", lambda file: file.write(text))
    tracker = trackers.make(args.tracker, workdir, config.to_dict()) if chief else trackers.NoTracker()
    trainer = loop.Loop(
        learner,
        source,
        config,
        workdir=workdir,
        strategy=strategy,
        tracker=tracker,
        validation=validation,
    )
    print(f"{len(source)} images, {trainer.stop_step} steps, working folder '{workdir}'", flush=True)
    try:
        values = trainer.run()
    except loop.NotFiniteError as error:
        print(f"tfllv train: {error}", file=sys.stderr)
        return 1
    except loop.StoppedError as error:
        print(f"tfllv train: {error}", file=sys.stderr)
        return 130
    measured = f", PSNR {values['psnr']:.2f} dB" if "psnr" in values else ""
    print(f"done: {workdir / f'final{WEIGHTS}'}, validation loss {values['total']:.6g}{measured}")
    return 0


def resolve_weights(name: str | os.PathLike[str], workdir: pathlib.Path) -> pathlib.Path:
    """Returns the weights file that a name stands for: a file, with or without its ending, or a run's folder.

    Raises:
      FileNotFoundError: if there is none, here or in the working folder.
    """
    for base in (pathlib.Path(name), workdir / name):
        for path in (base, base.with_name(base.name + WEIGHTS), base / f"final{WEIGHTS}"):
            if path.is_file():
                return path
    raise FileNotFoundError(
        f"`init_from` must be a weights file or a finished run's folder. Received: '{name}', neither here nor in "
        f"'{workdir}'."
    )
