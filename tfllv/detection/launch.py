"""Starting a training run on the hardware that is there, with a tracker."""

from __future__ import annotations

import os
import pathlib
import warnings
from collections.abc import Callable
from typing import Any

from tfllv.detection import compat, pipeline, training


def _print(line: str) -> None:
    # At once, also into a file or a pipe.
    print(line, flush=True)


def train(
    config: Any,
    model_dir: str | os.PathLike[str],
    *,
    options: training.Options | None = None,
    hardware: str = "local",
    tpu: str = "",
    tracker: str = "tensorboard",
    say: Callable[[str], None] = _print,
) -> training.Trainer:
    """Trains a detector on the hardware that is there.

    Args:
      config: a pipeline configuration.
      model_dir: see `training.Trainer`.
      options: how the run goes.
      hardware: `local`, all GPUs of this machine by MirroredStrategy, or its CPU; `multi_worker`, as TF_CONFIG says, by
        MultiWorkerMirroredStrategy; `tpu`.
      tpu: its name or address.
      tracker: a name of `tfllv.train.trackers.TRACKERS`; the other workers than the first have none.
      say: called with lines for the user.

    Returns:
      The trainer, after its last step.

    Raises:
      NotFiniteError: if a loss is NaN or infinite.
      ValueError: if configuration, checkpoint or an argument is wrong.
      OSError: if a file cannot be read or written, or there is no such TPU.
    """
    compat.install()
    import tensorflow as tf

    from tfllv.train import strategy as strategies
    from tfllv.train import trackers

    tf.get_logger().setLevel("ERROR")
    # TFOD tells its layers the mode by it, in every step.
    warnings.filterwarnings("ignore", message=".*set_learning_phase.*")
    devices = max(len(tf.config.list_logical_devices(kind)) for kind in ("GPU", "CPU")) if hardware == "local" else 0
    name = {"local": "mirrored" if devices > 1 else "one"}.get(hardware, hardware)
    strategy = strategies.make(name, tpu=tpu)
    folder = pathlib.Path(model_dir)
    writes = strategies.is_chief(strategy)
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"pipeline": pipeline.to_text(config)}
    follower = trackers.make(tracker if writes else "none", folder, settings)
    try:
        trainer = training.Trainer(
            config,
            folder,
            strategy=strategy,
            options=options,
            tracker=follower,
            say=say if writes else lambda line: None,
        )
        trainer.run()
    except tf.errors.OpError as error:
        # A damaged record, a picture that cannot be decoded, memory that ran out: the first line says which.
        reason = str(error.message).strip().splitlines()[0] if error.message else ""
        raise OSError(f"training stopped: {type(error).__name__}: {reason[:300]}") from error
    finally:
        follower.close()
    return trainer
