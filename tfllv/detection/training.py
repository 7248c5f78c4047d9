"""Training a TFOD detector: its model, losses and optimizer, in a loop of our own on `strategy.run`.

TFOD's own `train_loop` runs multiples of 100 steps, translates everything by AutoGraph, traces the step four times and
saves no matter what the loss is. This one runs exactly the steps asked for, traces the step once, goes on from the
newest checkpoint, refreshes the batch-norm statistics before it saves (`batch_norm`) and stops where a loss is not a
number. The step itself is TFOD's `eager_train_step`, so the losses are the same; labels come without their padding,
each row of which costs a comparison with all anchors (`inputs.training_dataset`), and on a CPU convolutions have
gradients that suit it (`gradients`).
"""

from __future__ import annotations

import copy
import dataclasses
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tfllv.detection import batch_norm, compat, fine_tuning, inputs, mask_features, pipeline, progress
from tfllv.detection.preprocessing import Preprocessing
from tfllv.records import files
from tfllv.train import gradients, stopping


class NotFiniteError(ArithmeticError):
    """A loss is NaN or infinite; nothing was saved since."""


@dataclasses.dataclass(frozen=True)
class Options:
    """How a run goes; what is trained stands in the configuration.

    Attributes:
      num_train_steps: the step to stop at; None: `train_config.num_steps`.
      checkpoint_every_n: steps between checkpoints.
      keep: number of checkpoints that are kept.
      record_summaries: pictures of the first batch go to the tracker, as well as the losses.
      refresh_batch_norm: training batches that the batch-norm statistics are taken from before each checkpoint; 0
        leaves the running averages.
      bfloat16: compute in bfloat16; weights and losses stay float32. `train_config.use_bfloat16` means TPUs alone, as
        in TFOD: the zoo's configurations have it.
      keep_padding: labels keep all `max_number_of_boxes` rows, as on a TPU or several devices they always do. The
        losses are the same to the bit either way; the gradients to rounding, because the graphs differ.
      preprocessing: enhancement or darkening of the pictures.
      seconds_between_lines: of progress.
    """

    num_train_steps: int | None = None
    checkpoint_every_n: int = 1000
    keep: int = 7
    record_summaries: bool = True
    refresh_batch_norm: int = 50
    bfloat16: bool = False
    keep_padding: bool = False
    preprocessing: Preprocessing = dataclasses.field(default_factory=Preprocessing)
    seconds_between_lines: float = 10.0


class Trainer:
    """A detector in training.

    Args:
      config: a pipeline configuration; see `tfllv.detection.pipeline.load`.
      model_dir: checkpoints, the configuration as it was run and the tracker's files go here.
      strategy: a `tf.distribute.Strategy`; None: the default, one device.
      options: how the run goes.
      tracker: takes the losses; see `tfllv.train.trackers`.
      say: called with lines for the user.

    Attributes:
      model: the TFOD `DetectionModel`.
      step: the number of steps done, a variable.
      losses: the total loss of each step that this object ran.

    Raises:
      ValueError: if the configuration cannot be trained.
      OSError: if a file cannot be read.
    """

    def __init__(
        self,
        config: Any,
        model_dir: str | os.PathLike[str],
        *,
        strategy: Any = None,
        options: Options | None = None,
        tracker: Any = None,
        say: Callable[[str], None] = print,
    ):
        compat.install()
        import tensorflow as tf

        self._tf, self._say, self._tracker = tf, say, tracker
        self._given, self.config, self.options = config, copy.deepcopy(config), options or Options()
        self.model_dir = pathlib.Path(model_dir)
        self.strategy = strategy or tf.distribute.get_strategy()
        self.num_steps = self.options.num_train_steps or config.train_config.num_steps
        if not self.num_steps:
            raise ValueError("train_config.num_steps: 0 steps. Give --num_train_steps or set it in the configuration.")
        self.losses: list[float] = []
        self._names: list[str] = []
        self._stop = stopping.StopRequest(at_once=self.strategy.extended._in_multi_worker_mode())
        self._pace, self._some = progress.Pace(), 1
        with self.strategy.scope():
            self._build()
        self._train_step = tf.function(self._replicas, autograph=False)
        self._refresh = batch_norm.Refresh(self.model, self._forward)

    def _build(self) -> None:
        """Makes data, model, optimizer and checkpoints; the variables exist and have their values after it."""
        from object_detection.builders import model_builder, optimizer_builder

        tf, train = self._tf, self.config.train_config
        on_tpu = isinstance(self.strategy, tf.distribute.TPUStrategy)
        # TensorFlow hands batches to several replicas in static shapes alone.
        several = self.strategy.num_replicas_in_sync > 1 or self.strategy.extended._in_multi_worker_mode()
        train.use_bfloat16 = self.options.bfloat16 or (train.use_bfloat16 and on_tpu)
        tf.keras.mixed_precision.set_global_policy("mixed_bfloat16" if train.use_bfloat16 else "float32")
        mask_features.register()
        self.model = model_builder.build(self.config.model, is_training=True, add_summaries=False)
        self._batches = iter(
            self.strategy.distribute_datasets_from_function(
                lambda context: inputs.training_dataset(
                    self.config,
                    self.model,
                    context=context,
                    preprocessing=self.options.preprocessing,
                    keep_padding=self.options.keep_padding or on_tpu or several,
                )
            )
        )
        self.step = tf.Variable(
            0,
            trainable=False,
            dtype=tf.int64,
            name="global_step",
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )
        self.optimizer, (rate,) = optimizer_builder.build(train.optimizer, global_step=self.step)
        self._rate = rate if callable(rate) else lambda: rate
        self._make_variables()
        decay = batch_norm.decay_of(self.config)
        if decay is not None:
            batch_norm.apply_decay(self.model, decay)
        # The slots too, or the first step would be traced a second time without making variables.
        self.optimizer._create_all_weights(self.model.trainable_variables)
        if train.optimizer.use_moving_average:
            self.optimizer.shadow_copy(self.model)
        self._make_checkpoints()

    def _make_variables(self) -> None:
        """Runs the model forward once, so that the training step is traced once, with all variables there."""
        tf = self._tf
        features, labels = next(self._batches)
        if self._tracker is not None and self.options.record_summaries:
            self._show(features)
        self._set_training(False)
        if isinstance(self.strategy, tf.distribute.TPUStrategy):
            self.strategy.run(tf.function(self._forward, autograph=False), args=(features, labels))
            return
        local = self.strategy.experimental_local_results
        image = local(features["image"])[0][:1]
        self.model.predict(tf.zeros_like(image), local(features["true_image_shape"])[0][:1])

    def _show(self, features: Any) -> None:
        images = np.asarray(self.strategy.experimental_local_results(features["image"])[0][:3], np.float32)
        low, high = images.min(), images.max()
        self._tracker.pictures(0, "train_input_images", (images - low) / max(float(high - low), 1e-6))

    def _set_training(self, training: bool) -> None:
        # As TFOD's own steps do; the model asks both.
        self.model._is_training = training
        self._tf.keras.backend.set_learning_phase(training)

    def _make_checkpoints(self) -> None:
        tf = self._tf
        self._checkpoint = tf.train.Checkpoint(step=self.step, model=self.model, optimizer=self.optimizer)
        writes = self.strategy.extended.should_checkpoint
        # Every worker has to take part in saving, because averages are read across replicas; only the chief keeps it.
        folder = self.model_dir if writes else self.model_dir / f"temp_worker_{self._task():03d}"
        self._manager = tf.train.CheckpointManager(
            self._checkpoint, str(folder), max_to_keep=self.options.keep if writes else 1
        )
        self._temporary = None if writes else folder

    def _task(self) -> int:
        return self.strategy.cluster_resolver.task_id or 0

    def restore(self) -> bool:
        """Goes on from the newest checkpoint that can be read, or starts from `fine_tune_checkpoint`.

        Returns:
          Whether the run goes on.

        Raises:
          ValueError: if the checkpoint is not of this model.
        """
        state = self._tf.train.get_checkpoint_state(str(self.model_dir))
        for path in reversed(state.all_model_checkpoint_paths if state else []):
            try:
                self._checkpoint.restore(path).assert_existing_objects_matched()
            except AssertionError as error:
                reason = " ".join(str(error).split())[:200]
                raise ValueError(
                    f"{path}: --model_dir: a checkpoint of another model or optimizer; take an empty folder, or the "
                    f"configuration it was trained with ({reason})"
                ) from None
            except self._tf.errors.OpError as error:
                self._say(f"{path}: cannot be read, taking the one before ({' '.join(str(error).split())[:120]})")
                continue
            self._say(f"going on from step {int(self.step.numpy())} of {path}")
            return True
        if self.config.train_config.fine_tune_checkpoint:
            with self.strategy.scope():
                self._say(str(fine_tuning.load(self.model, self.config.train_config)))
        return False

    def run(self) -> int:
        """Trains up to the last step, and saves.

        Returns:
          The step that was reached: `num_steps`, or an earlier one where a signal stopped the run.

        Raises:
          NotFiniteError: if a loss is NaN or infinite.
        """
        self.model_dir.mkdir(parents=True, exist_ok=True)
        if self._temporary is None:
            files.write(str(self.model_dir / pipeline.FILE_NAME), [pipeline.to_text(self._given).encode()])
        with self.strategy.scope():
            self.restore()
            step = saved = int(self.step.numpy())
            if step >= self.num_steps:
                self._say(f"step {step} of {self.num_steps} is done already; give a larger --num_train_steps to go on")
            with self._stop.listening():
                while step < self.num_steps and not self._stop:
                    due = min(saved + self.options.checkpoint_every_n, self.num_steps)
                    step = self._run_some(step, due - step)
                    if step == due or self._stop:
                        self._save()
                        saved = step
        if self._temporary is not None:
            self._tf.io.gfile.rmtree(str(self._temporary))
        return step

    def _run_some(self, step: int, most: int) -> int:
        """Runs steps for about half the time between two lines of progress, and reports; returns the step reached."""
        count = min(most, self._some)
        start = time.perf_counter()
        rows = []
        for _ in range(count):
            rows.append(self._train_step(self._batches))
            if self._stop:
                break
        values = np.stack([row.numpy() for row in rows])
        seconds = time.perf_counter() - start
        self._check_finite(values, step)
        step += len(rows)
        self.losses += values[:, self._names.index(progress.TOTAL)].tolist()
        self._pace.add(len(rows), seconds)
        # The first call builds the graph, so its time says nothing about the next.
        share = self.options.seconds_between_lines / 2 / max(seconds / len(rows), 1e-6)
        self._some = max(1, min(int(share), 100)) if self._pace.steps else 1
        self._report(step, values)
        return step

    def _check_finite(self, values: np.ndarray, step: int) -> None:
        if not np.isfinite(values).all():
            row, column = np.argwhere(~np.isfinite(values))[0]
            raise NotFiniteError(
                f"{self._names[column]} is {values[row, column]} in step {step + int(row) + 1}. Nothing was saved "
                f"since the last checkpoint. Lower the learning rate, or set train_config.gradient_clipping_by_norm."
            )

    def _report(self, step: int, values: np.ndarray) -> None:
        """A line for the user where one is due, and a point of each curve for the tracker."""
        means = dict(zip(self._names, values.mean(0).tolist(), strict=True))
        means["learning_rate"] = float(self._rate())
        speed = self._pace.speed()
        if speed:
            means["steps_per_sec"] = speed
        if self._tracker is not None:
            self._tracker.scalars(step, means)
        if self._pace.line_is_due(self.options.seconds_between_lines, step == self.num_steps):
            self._say(progress.line(step, self.num_steps, means, speed, self.config.train_config.batch_size))

    def _save(self) -> None:
        self._refresh.run(self._batches, self.options.refresh_batch_norm)
        self._manager.save()

    def _replicas(self, batches: Any) -> Any:
        """One step on every replica: the losses, summed over them, in the order of `_names`."""
        with gradients.for_cpu():
            row = self.strategy.run(self._replica_step, args=batches.get_next())
        return self.strategy.reduce(self._tf.distribute.ReduceOp.SUM, row, axis=None)

    def _replica_step(self, features: Any, labels: Any) -> Any:
        from object_detection import model_lib_v2

        train = self.config.train_config
        losses = model_lib_v2.eager_train_step(
            self.model,
            features,
            labels,
            train.unpad_groundtruth_tensors,
            self.optimizer,
            training_step=self.step,
            add_regularization_loss=train.add_regularization_loss,
            clip_gradients_value=train.gradient_clipping_by_norm or None,
            num_replicas=self.strategy.num_replicas_in_sync,
        )
        self.step.assign_add(1)
        self._names = sorted(losses)
        return self._tf.stack([self._tf.cast(losses[name], self._tf.float32) for name in self._names])

    def _forward(self, features: Any, labels: Any) -> None:
        """The forward pass in training mode, for what it does to batch normalisation."""
        from object_detection import model_lib

        self._set_training(True)
        unpad = self.config.train_config.unpad_groundtruth_tensors
        model_lib.provide_groundtruth(self.model, model_lib.unstack_batch(labels, unpad_groundtruth_tensors=unpad))
        self.model.predict(features["image"], features["true_image_shape"], **self.model.get_side_inputs(features))
