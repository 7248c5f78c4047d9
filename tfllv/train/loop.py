"""The training loop, on `strategy.run`: it knows nothing of what is trained.

A run is (learner, source, config) and a working folder. Everything that a later step depends on (weights, optimizer,
moving average, loss scale, random states, step) is in each checkpoint, and the data is a function of (seed, step): so
a run that was killed at any instant and started again ends with the same bits as one that was not.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tfllv.config import TrainConfig
from tfllv.inputs import pipeline, transforms
from tfllv.train import checkpoints, norms, stopping, trackers
from tfllv.train import strategy as strategies
from tfllv.train.learner import Learner
from tfllv.train.optimizer import Adam, Schedule
from tfllv.train.step import EXTRAS, TrainStep, reproducible_sums
from tfllv.train.validation import Validator

WEIGHTS = ".weights.h5"


class NotFiniteError(ArithmeticError):
    """A loss or gradient became NaN or infinite; the message names the term, the step and the batch's files."""


class StoppedError(Exception):
    """The run was asked to stop (Ctrl-C, SIGTERM) and has saved its state."""


class Loop:
    """One run in one working folder.

    Attributes:
      step: number of steps done.
      stop_step: where the run ends.
      validator: what `validate` runs.
    """

    def __init__(
        self,
        learner: Learner,
        source: pipeline.ImageSource,
        config: TrainConfig,
        *,
        workdir: pathlib.Path,
        strategy: tf.distribute.Strategy | None = None,
        tracker: trackers.Tracker | None = None,
        validation: pipeline.ImageSource | None = None,
    ):
        """Makes the optimizer; the learner must have been built in the strategy's scope.

        Args:
          learner: network and objective.
          source: the training images.
          config: the engine's settings.
          workdir: where checkpoints, snapshots and curves go.
          strategy: default one device.
          tracker: default none.
          validation: the images for validation; default the training images.
        """
        self.learner, self.source, self.config = learner, source, config
        self.workdir = workdir
        self.strategy = strategy or tf.distribute.get_strategy()
        self.tracker = tracker or trackers.NoTracker()
        self.chief = strategies.is_chief(self.strategy)
        self.checkpoints = checkpoints.Checkpoints(workdir / "checkpoints", keep=config.keep)
        self.step = 0
        self.best = float("inf")
        self.stop_step = config.num_steps or pipeline.total_steps(
            len(source), num_epochs=config.num_epochs, batch_size=config.train_batch_size
        )
        self._trained = [variable.value for variable in learner.trained]
        schedule = Schedule(
            config.lr,
            config.schedule,
            self.stop_step,
            config.warmup_steps,
            config.lr_end,
            gamma=config.lr_gamma,
            batch_images=config.train_batch_size,
            step_images=config.lr_step_size * len(source),
        )
        with self.strategy.scope():
            self.optimizer = Adam(
                self._trained,
                schedule,
                weight_decay=config.weight_decay,
                decoupled=config.decoupled_weight_decay,
                clip_norm=config.grad_clip_norm,
                ema_decay=config.ema_decay,
                loss_scaling=config.precision == "float16",
                beta_1=config.beta_1,
            )
        self._train_step = TrainStep(
            learner,
            self.optimizer,
            self.strategy,
            accumulate_steps=config.accumulate_steps,
            jit_compile=config.jit_compile,
        )
        self.validator = Validator(learner, validation or source, count=config.val_batch_size, tracker=self.tracker)
        self._stop = stopping.StopRequest()
        self._validated: tuple[int, dict[str, float]] = (-1, {})
        self._waited = 0  # validations since the best one
        if config.patience and self.strategy.extended._in_multi_worker_mode():
            raise ValueError("`patience` must be 0 with several machines, of which one validates. Received: both.")
        if config.refresh_norms and self.strategy.num_replicas_in_sync > 1:
            raise ValueError("`refresh_norms` must be 0 with several replicas. Received: both.")

    # The run.

    def run(self) -> dict[str, float]:
        """Trains from the newest checkpoint, or from the start, to the end.

        Returns:
          The last validation's terms, with their sum as `total`.

        Raises:
          NotFiniteError: if a loss or gradient is not finite.
          StoppedError: after Ctrl-C or SIGTERM, with the state saved.
          OSError: if something cannot be written; the newest checkpoint is intact.
        """
        if self.chief:
            for folder in (self.checkpoints.folder, self.workdir / self.config.snapshots_folder, self.workdir):
                checkpoints.clean(folder)
        self.restore()
        with self._stop.listening(), reproducible_sums():
            if self.step < self.stop_step:
                self._train()
            if self._patience_ended() and self.chief:
                self._take_best()
            step, values = self._validated
            if step != self.step:
                values = self.validate()
            if self.chief:
                self.save_weights(self.workdir / f"final{WEIGHTS}")
        self.tracker.close()
        return values

    def _train(self) -> None:
        batches = iter(self._batches())
        pending: list[tf.Tensor] = []
        since, start = time.perf_counter(), self.step
        while self.step < self.stop_step:
            try:
                options = {"term_norms": True} if self.config.term_gradients and self._shows(self.step + 1) else {}
                pending.append(self._train_step(next(batches), **options))
            except tf.errors.OpError:
                if self.source.failure is not None:
                    raise ValueError(str(self.source.failure)) from None
                raise
            self.step += 1
            ended = self._epoch(self.step) > self._epoch(self.step - 1) or self.step == self.stop_step
            shows = self._shows(self.step)
            saves = (ended and self._rests()) or self.step % self.config.checkpoint_steps == 0
            if not (shows or saves or self._stop):
                continue
            values = self._read(pending)
            pending = []
            if self.step == self.stop_step and self.config.refresh_norms:
                self._refresh_norms()
            if shows:
                self._report(values, (self.step - start) / (time.perf_counter() - since))
                since, start = time.perf_counter(), self.step
            if saves or self._stop:
                self._save(ended)
            if self._stop:
                raise StoppedError(f"stopped at step {self.step}; the same command goes on from there.")

    def _refresh_norms(self) -> None:
        """Computes the statistics of batch normalisation for the final weights, over the batches that would follow."""
        batches = pipeline.training_batches(
            self.source,
            batch_size=self.config.train_batch_size,
            seed=self.config.seed,
            start_step=self.step,
            stop_step=self.step + self.config.refresh_norms,
            augment=self.config.augment,
            num_workers=self.config.num_workers,
        )
        with self.averaged():
            norms.refresh(self.learner, batches.map(transforms.without_name))

    def _rests(self) -> bool:
        """Whether something is due at this epoch's end: a checkpoint of a large network takes as long as many steps."""
        every = (self.config.snapshot_iter, self.config.sample_every)
        return self.step == self.stop_step or any(n and self._epoch(self.step) % n == 0 for n in every)

    def _shows(self, step: int) -> bool:
        return step % self.config.display_iter == 0 or step == self.stop_step

    def _epoch(self, step: int) -> int:
        return step * self.config.train_batch_size // len(self.source)

    def _batches(self) -> tf.data.Dataset:
        """Returns the distributed dataset of the steps that remain; names stay on the host."""

        def make(context: tf.distribute.InputContext) -> tf.data.Dataset:
            shards = context.num_input_pipelines
            dataset = pipeline.training_batches(
                self.source,
                batch_size=self.config.train_batch_size,
                seed=self.config.seed,
                start_step=self.step,
                stop_step=self.stop_step,
                augment=self.config.augment,
                num_workers=self.config.num_workers,
                shard=(context.input_pipeline_id, shards),
                parts=max(1, context.num_replicas_in_sync // shards),
            )
            return dataset.map(transforms.without_name)

        return self.strategy.distribute_datasets_from_function(make)

    def _read(self, pending: list[tf.Tensor]) -> dict[str, float]:
        """Waits for the steps in flight; returns their mean; NotFiniteError for the first bad one."""
        rows = np.stack([row.numpy() for row in pending]).astype(np.float64)
        names = [*self._train_step.names, *EXTRAS]
        fine = np.isfinite(rows)
        if self.optimizer.loss_scaling:
            # An overflowing gradient is normal with float16: the loss scale has been halved and the step left out.
            fine[:, -2] = self.optimizer.scale.numpy() > 1e-6
            rows[:, -2] = np.where(np.isfinite(rows[:, -2]), rows[:, -2], 0)
        if not fine.all():
            row = int(np.argmin(fine.all(1)))
            step = self.step - len(pending) + row
            what = ", ".join(f"`{name}` is {rows[row, i]}" for i, name in enumerate(names) if not fine[row, i])
            indices = pipeline.batch_indices(
                len(self.source), seed=self.config.seed, step=step, batch_size=self.config.train_batch_size
            )
            files = ", ".join(self.source.names[index] for index in indices)
            raise NotFiniteError(f"stopped: {what} at step {step}, batch: {files}. A lower `lr` or `exclude` may help.")
        values = dict(zip(names, rows.mean(0).tolist(), strict=True))
        if self.config.term_gradients:
            values |= {f"gradient/{name}": norm for name, norm in self._train_step.term_norms().items()}
        return {"total": sum(values[name] for name in self._train_step.names), **values}

    def _report(self, values: dict[str, float], speed: float) -> None:
        """Prints the progress line and records the scalars."""
        if not self.chief:
            return
        images = speed * self.config.train_batch_size
        left = round((self.stop_step - self.step) / speed)
        terms = "  ".join(f"{name} {value:.4g}" for name, value in values.items() if name != "lr")
        epoch = self.step * self.config.train_batch_size / len(self.source)
        print(
            f"step {self.step}/{self.stop_step}  epoch {epoch:.2f}  {images:.1f} images/s  "
            f"{left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left  {terms}",
            flush=True,
        )
        self.tracker.scalars(self.step, {f"train/{name}": value for name, value in values.items()})
        self._log({"step": self.step, "epoch": round(epoch, 4), **values})

    def _log(self, row: dict[str, Any]) -> None:
        with (self.workdir / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def _save(self, epoch_ended: bool) -> None:
        """Writes the checkpoint, and at every `snapshot_iter`-th epoch's end a snapshot after a validation."""
        best = False
        epoch = self._epoch(self.step) - 1
        if epoch_ended and (self._epoch(self.step) % self.config.snapshot_iter == 0 or self.step == self.stop_step):
            values = self.validate()
            score = -values["psnr"] if "psnr" in values else values["total"]
            best, self.best = score < self.best, min(score, self.best)
            self._waited = 0 if best else self._waited + 1
            if self.chief:
                folder = self.workdir / self.config.snapshots_folder
                self.save_weights(folder / f"Epoch{max(0, epoch)}{WEIGHTS}")
        every, last = self.config.sample_every, self.step == self.stop_step
        if self.chief and every and epoch_ended and (last or self._epoch(self.step) % every == 0):
            with self.averaged():
                self.validator.draw(self.step, self.workdir / "samples" / f"Epoch{max(0, epoch)}.png")
        if self.chief:
            self.checkpoints.save(self.step, self._arrays(), self._meta(), best=best)
        if self._patience_ended():
            self.stop_step = self.step

    def _patience_ended(self) -> bool:
        return 0 < self.config.patience <= self._waited

    def _take_best(self) -> None:
        """Puts the state of the best validation in place of the last; the step stays."""
        arrays, meta = checkpoints.load(self.checkpoints.folder / "best.npz")
        for name, variable in self._state().items():
            variable.assign(arrays[name])
        self._validated = (-1, {})
        print(f"no better validation for {self._waited}; the weights of step {meta['step']} are taken", flush=True)

    # Validation.

    def validate(self) -> dict[str, float]:
        """Returns and records the means over the validation images; see `validation.Validator`."""
        if not self.chief:
            return {"total": float("inf")}
        with self.averaged():
            values = self.validator.run(self.step)
        self._log({"step": self.step, "validation": values})
        self._validated = (self.step, values)
        return values

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Puts the moving averages in the network's place, where there are any, and the weights back afterwards."""
        if not self.optimizer.averages:
            yield
            return
        kept = [weight.numpy() for weight in self._trained]
        try:
            for weight, average in zip(self._trained, self.optimizer.averages, strict=True):
                weight.assign(average.numpy())
            yield
        finally:
            for weight, value in zip(self._trained, kept, strict=True):
                weight.assign(value)

    # Files.

    def save_weights(self, path: pathlib.Path) -> None:
        """Writes the network's weights (their moving average, where there is one) for `load_weights`, atomically."""
        part = path.with_name(f"{checkpoints.TEMPORARY}{path.name}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with self.averaged():
                self.learner.net.save_weights(part)
            content = part.read_bytes()
        except (OSError, RuntimeError) as error:  # HDF5 raises either on a full disk, in many lines
            reason = "No space left on device" if "No space left" in str(error) else str(error).partition("\n")[0]
            raise OSError(f"cannot write '{path}': {reason}; what was saved before is intact.") from None
        finally:
            part.unlink(missing_ok=True)
        checkpoints.write_atomically(path, lambda file: file.write(content))

    def _state(self) -> dict[str, Any]:
        """Returns every variable that a later step depends on, by name, in a fixed order."""
        net = [variable.value for variable in self.learner.net.variables]
        extra = [variable.value for variable in getattr(self.learner.objective, "variables", [])]
        everything = [("net", net), ("objective", extra), ("optimizer", self.optimizer.variables)]
        return {f"{group}/{i:05d}": variable for group, items in everything for i, variable in enumerate(items)}

    def _arrays(self) -> dict[str, np.ndarray]:
        return {name: variable.numpy() for name, variable in self._state().items()}

    def _meta(self) -> dict[str, Any]:
        return {
            "best": self.best,
            "waited": self._waited,
            "config": self.config.to_dict(),
            "data": self.source.fingerprint(),
        }

    def restore(self) -> bool:
        """Goes to the newest readable checkpoint; returns whether there was one.

        Raises:
          ValueError: if it is of another network.
        """
        found = self.checkpoints.load_latest()
        if found is None:
            return False
        arrays, meta = found
        state = self._state()
        shapes = {name: tuple(variable.shape) for name, variable in state.items()}
        if shapes != {name: array.shape for name, array in arrays.items()}:
            raise ValueError(
                f"`workdir` must hold a run of the same network and optimizer. Received: '{self.workdir}', whose "
                f"checkpoint at step {meta['step']} has other arrays; use a new --workdir."
            )
        for name, variable in state.items():
            variable.assign(arrays[name])
        self.step, self.best, self._waited = int(meta["step"]), float(meta["best"]), int(meta.get("waited", 0))
        if self._patience_ended():
            self.stop_step = self.step
        if self.chief:
            print(f"going on from step {self.step} of '{self.workdir}'", flush=True)
            self._warn_changes(meta)
        return True

    def _warn_changes(self, meta: dict[str, Any]) -> None:
        now = json.loads(json.dumps(self.config.to_dict()))
        changed = [key for key, value in now.items() if meta["config"].get(key) != value]
        if meta["data"] != self.source.fingerprint():
            changed.append("the list of images")
        if changed:
            print(f"tfllv train: changed since that step: {', '.join(changed)}.", file=sys.stderr, flush=True)
