"""Evaluates the checkpoints of a training run as they appear: what `tools/model_main_tf2.py --checkpoint_dir` does.

Pictures go through the model one by one, in inference mode and at their own size, as they will in the exported model.
TFOD's own evaluation waits at least 300 s after each checkpoint; here the next is looked for every few seconds, and the
run ends as soon as the checkpoint of the last training step has been evaluated.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tfllv.detection import evaluation, export, lighting, live_detector, pipeline
from tfllv.detection.truth import Truth, from_records

FOLDER = "eval"
_POLL_SECONDS = 2.0
# The names under which TFOD writes the 12 numbers for TensorBoard.
_SUMMARIES = (
    "Precision/mAP",
    "Precision/mAP@.50IOU",
    "Precision/mAP@.75IOU",
    "Precision/mAP (small)",
    "Precision/mAP (medium)",
    "Precision/mAP (large)",
    "Recall/AR@1",
    "Recall/AR@10",
    "Recall/AR@100",
    "Recall/AR@100 (small)",
    "Recall/AR@100 (medium)",
    "Recall/AR@100 (large)",
)
_GROUPS = {"bbox": "DetectionBoxes", "segm": "DetectionMasks"}


def evaluate_checkpoints(
    config: Any,
    checkpoint_dir: str | os.PathLike[str],
    model_dir: str | os.PathLike[str],
    *,
    eval_timeout: float = 3600,
    num_train_steps: int | None = None,
    sample_1_of_n_eval_examples: int | None = None,
    eval_on_train_data: bool = False,
    sample_1_of_n_eval_on_train_examples: int = 5,
    prepare: Callable[[np.ndarray], np.ndarray] | None = None,
    resamples: int = lighting.RESAMPLES,
    progress: bool | None = None,
    say: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """Evaluates the newest checkpoint, then each newer one, until training has ended or no more come.

    Writes evaluation.json, index.html, detections.json and TensorBoard's summaries into `model_dir`/eval; the files are
    of the newest checkpoint.

    Args:
      config: a `TrainEvalPipelineConfig`, as `pipeline.load` gives.
      checkpoint_dir: the training folder, or one checkpoint in it without its ending, which is evaluated alone.
      model_dir: where results go.
      eval_timeout: seconds to wait for another checkpoint; 0 evaluates what is there.
      num_train_steps: the last training step; None takes it from the configuration.
      sample_1_of_n_eval_examples: take one picture of so many; None takes it from the configuration.
      eval_on_train_data: evaluate on the training pictures instead.
      sample_1_of_n_eval_on_train_examples: as above, of the training pictures.
      prepare: picture -> picture of the same size, uint8, before the model sees it: what training did on the fly.
      resamples: of the bootstrap.
      progress: whether a bar is shown; None shows it on a terminal.
      say: prints the results.

    Returns:
      The report of each checkpoint, as `evaluation.evaluate` gives.

    Raises:
      ValueError: if the configuration names no records, or records or checkpoint do not fit it.
      OSError: if there is no checkpoint within `eval_timeout`, or a file cannot be read or written.
    """
    truth = read_truth(
        config,
        on_train_data=eval_on_train_data,
        every=sample_1_of_n_eval_on_train_examples if eval_on_train_data else sample_1_of_n_eval_examples,
    )
    last = num_train_steps or config.train_config.num_steps
    detector = None
    reports = []
    for checkpoint in wait_for_checkpoints(checkpoint_dir, eval_timeout):
        detector = detector or live_detector.LiveDetector(config)
        step = detector.restore(checkpoint)
        found = evaluation.detect(truth, detector, enhance=prepare, model=str(checkpoint), progress=progress)
        about = {"step": step, "data": "training" if eval_on_train_data else "evaluation"}
        result = evaluation.evaluate(truth, found, resamples=resamples, about=about)
        folder = pathlib.Path(model_dir) / FOLDER
        page = evaluation.write(result, folder, detections=found)
        write_summaries(result.report, folder)
        say(f"{checkpoint}, step {step}\n\n{evaluation.text(result.report)}\n\nwritten: {page}")
        reports.append(result.report)
        if last and step >= last:
            break
    return reports


def read_truth(config: Any, *, on_train_data: bool = False, every: int | None = None) -> Truth:
    """Reads the pictures that a configuration evaluates on; arguments as `evaluate_checkpoints`.

    Raises:
      ValueError: if it names no records, or they do not fit.
      OSError: if a file cannot be read.
    """
    name = "train_input_reader" if on_train_data else "eval_input_reader"
    reader = config.train_input_reader if on_train_data else next(iter(config.eval_input_reader), None)
    if reader is None or not reader.tf_record_input_reader.input_path:
        raise ValueError(f"`{name}.tf_record_input_reader.input_path` must name records. Received: none.")
    labels = pipeline.label_map(reader.label_map_path) if reader.label_map_path else None
    paths: Sequence[str] = list(reader.tf_record_input_reader.input_path)
    return from_records(
        paths, labels=labels, every=every or reader.sample_1_of_n_examples or 1, masks_too=reader.load_instance_masks
    )


def wait_for_checkpoints(folder: str | os.PathLike[str], timeout: float) -> Iterator[pathlib.Path]:
    """Yields the newest checkpoint, then each newer one that appears within `timeout` seconds of the one before.

    Raises:
      FileNotFoundError: if none appears.
    """
    if timeout < 0:
        raise ValueError(f"`eval_timeout` must be >= 0. Received: eval_timeout={timeout}.")
    before: pathlib.Path | None = None
    deadline = time.monotonic() + timeout
    while True:
        newest = before
        with contextlib.suppress(FileNotFoundError):
            newest = export.find_checkpoint(folder)
        if newest is not None and newest != before:
            yield newest
            before, deadline = newest, time.monotonic() + timeout
            if not pathlib.Path(folder).is_dir():
                return
        elif time.monotonic() >= deadline:
            break
        else:
            time.sleep(min(_POLL_SECONDS, max(0.0, deadline - time.monotonic())))
    if before is None:
        raise FileNotFoundError(
            f"{folder}: --checkpoint_dir: no checkpoint (ckpt-N.index and .data) within {timeout:g} s; give the "
            "--model_dir of a training run."
        )


def write_summaries(report: dict[str, Any], folder: pathlib.Path) -> None:
    """Writes the 12 numbers for TensorBoard under the names that TFOD gives them."""
    import tensorflow as tf

    with tf.summary.create_file_writer(str(folder)).as_default(step=report["step"]) as writer:
        for kind, values in report["metrics"].items():
            for name, value in zip(_SUMMARIES, values.values(), strict=True):
                tf.summary.scalar(f"{_GROUPS[kind]}_{name}", value)
        writer.close()
