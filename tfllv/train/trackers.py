"""Where scalars and pictures of a run go: TensorBoard, Weights & Biases, or nowhere."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from tfllv import contracts

TRACKERS = ("tensorboard", "wandb", "none")


class Tracker(Protocol):
    """What the loop asks of a tracker."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Records values by name."""

    def pictures(self, step: int, name: str, images: np.ndarray) -> None:
        """Records images: [B, H, W, 3] float32 in [0, 1]."""

    def close(self) -> None:
        """Writes what is pending."""


class NoTracker:
    """Records nothing."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Does nothing."""

    def pictures(self, step: int, name: str, images: np.ndarray) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


class TensorBoard:
    """Event files in `WORKDIR/tensorboard`, for `tensorboard --logdir WORKDIR`."""

    def __init__(self, workdir: pathlib.Path):
        import tensorflow as tf

        self._summary = tf.summary
        self._writer = tf.summary.create_file_writer(str(workdir / "tensorboard"))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes one point of each curve."""
        with self._writer.as_default(step=step):
            for name, value in values.items():
                self._summary.scalar(name, value)

    def pictures(self, step: int, name: str, images: np.ndarray) -> None:
        """Writes the images of a batch."""
        with self._writer.as_default(step=step):
            self._summary.image(name, np.clip(images, 0, 1), max_outputs=len(images))
        self._writer.flush()

    def close(self) -> None:
        """Closes the event file."""
        self._writer.close()


class WandB:
    """Weights & Biases; works offline with WANDB_MODE=offline, which is the default where no key is set."""

    def __init__(self, workdir: pathlib.Path, config: Mapping[str, Any]):
        try:
            import wandb
        except ImportError:
            raise ValueError(
                "`tracker=wandb` needs the package wandb. Received: none installed; pip install 'tfllv[wandb]'."
            ) from None
        self._wandb = wandb
        online = "WANDB_API_KEY" in os.environ or "WANDB_MODE" in os.environ
        self._run = wandb.init(
            dir=str(workdir),
            project="tfllv",
            name=workdir.name,
            config=dict(config),
            mode=None if online else "offline",
        )

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Logs one point of each curve."""
        self._run.log(dict(values), step=step)

    def pictures(self, step: int, name: str, images: np.ndarray) -> None:
        """Logs the images of a batch."""
        pictures = [self._wandb.Image(contracts.to_uint8(image)) for image in images]
        self._run.log({name: pictures}, step=step)

    def close(self) -> None:
        """Ends the run."""
        self._run.finish()


def make(name: str, workdir: pathlib.Path, config: Mapping[str, Any]) -> Tracker:
    """Returns the tracker `name`.

    Raises:
      ValueError: if the name is unknown, or its package is missing.
    """
    if name not in TRACKERS:
        raise ValueError(
            f"`tracker` must be one of {', '.join(TRACKERS)}. Received: tracker='{name}'; "
            f"{contracts.nearest_name(name, TRACKERS)}"
        )
    if name == "tensorboard":
        return TensorBoard(workdir)
    return WandB(workdir, config) if name == "wandb" else NoTracker()
