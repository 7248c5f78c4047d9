"""Adam on plain TensorFlow variables: clipping, both weight decays, loss scaling, moving average, exact state.

Keras's optimizers are not used because a step that must not count (a gradient that is not finite) has to leave every
bit of the state alone, and because their state cannot be restored to 0 ULP without their own file format.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfllv.train import replicas

_SCALE_START, _SCALE_GROWS_AFTER, _SCALE_MOST = 2.0**15, 2000, 2.0**24


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Learning rate by update number: linear warm-up to `lr`, then constant, a cosine to `lr_end`, or falling in steps.

    Attributes:
      lr: the rate after warm-up.
      kind: `constant`, `cosine` or `step`.
      steps: number of the update at which the cosine ends.
      warmup_steps: updates until `lr` is reached.
      lr_end: where the cosine ends.
      gamma: factor of one step down.
      batch_images: images an update.
      step_images: images until the next step down: so it falls at an epoch's end where a batch spans two.
    """

    lr: float
    kind: str = "constant"
    steps: int = 1
    warmup_steps: int = 0
    lr_end: float = 0.0
    gamma: float = 1.0
    batch_images: int = 1
    step_images: int = 1

    def __call__(self, update: tf.Tensor) -> tf.Tensor:
        """Returns the rate of update number `update`, counted from 0, a scalar of Keras's float type."""
        at = tf.cast(update, keras.config.floatx())
        rate = tf.constant(self.lr, at.dtype)
        if self.kind == "cosine":
            done = (at - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
            wave = 0.5 + 0.5 * tf.cos(math.pi * tf.clip_by_value(done, 0.0, 1.0))
            rate = self.lr_end + (self.lr - self.lr_end) * wave
        elif self.kind == "step":
            falls = tf.cast(update, tf.int64) * self.batch_images // self.step_images
            rate *= tf.pow(self.gamma, tf.cast(falls, at.dtype))
        if self.warmup_steps:
            rate *= tf.minimum((at + 1) / self.warmup_steps, 1.0)
        return rate


class Adam:
    """Adam (Kingma and Ba 2015, algorithm 1), bias-corrected as in torch.optim.Adam.

    `apply` is called in replica context with each replica's own gradients of (its loss / number of replicas); they are
    summed over the replicas, then clipped, so every replica takes the same step. If any value is not finite the step
    changes nothing but the loss scale.

    Attributes:
      updates: int64, the number of steps taken.
      scale: what the loss is multiplied by before the gradient; 1 without loss scaling.
      averages: the moving averages of the weights, empty where `ema_decay` is 0.
    """

    def __init__(
        self,
        weights: Sequence[tf.Variable],
        schedule: Schedule,
        *,
        weight_decay: float = 0.0,
        decoupled: bool = False,
        clip_norm: float = 0.0,
        ema_decay: float = 0.0,
        loss_scaling: bool = False,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
    ):
        """Makes the state; call it in the strategy's scope.

        Args:
          weights: trainable variables of Keras's float type.
          schedule: learning rate by update number.
          weight_decay: L2 added to the gradient, after clipping, or decoupled.
          decoupled: shrink the weights by `lr * weight_decay` instead (Loshchilov and Hutter 2019).
          clip_norm: the largest global norm of the gradient, 0 for none. As in torch, scaled by c / (norm + 1e-6).
          ema_decay: 0 for no moving average. It is warmed up as min(decay, (1 + t) / (10 + t)).
          loss_scaling: dynamic, for float16: halved on overflow, doubled after 2000 good steps.
          beta_1: decay of the mean.
          beta_2: decay of the squared mean.
          epsilon: added to the root.
        """
        self.weights = list(weights)
        self.schedule = schedule
        self.loss_scaling = loss_scaling
        self._decay, self._decoupled, self._clip = weight_decay, decoupled, clip_norm
        self._ema, self._betas, self._epsilon = ema_decay, (beta_1, beta_2), epsilon
        self.updates = tf.Variable(0, dtype=tf.int64, trainable=False, name="updates")
        scale = tf.constant(_SCALE_START if loss_scaling else 1.0, keras.config.floatx())
        self.scale = tf.Variable(scale, trainable=False, name="scale")
        self._good = tf.Variable(0, dtype=tf.int64, trainable=False, name="good_steps")

        def like(weight: tf.Variable, start: tf.Tensor, name: str) -> tf.Variable:
            return tf.Variable(start, trainable=False, name=f"{name}/{weight.name.split(':')[0]}")

        self._means = [like(weight, tf.zeros_like(weight), "mean") for weight in self.weights]
        self._squares = [like(weight, tf.zeros_like(weight), "square") for weight in self.weights]
        self.averages = [like(weight, tf.identity(weight), "average") for weight in self.weights] if ema_decay else []

    @property
    def variables(self) -> list[tf.Variable]:
        """The whole state, in a fixed order."""
        return [self.updates, self.scale, self._good, *self._means, *self._squares, *self.averages]

    def apply(self, gradients: Sequence[tf.Tensor], allowed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Takes one step.

        Args:
          gradients: of the scaled loss, one for each weight.
          allowed: bool, the same on all replicas; False makes it a step that changes nothing, loss scale included.

        Returns:
          (global norm before clipping, bool whether the gradient was finite).
        """
        replica = tf.distribute.get_replica_context()
        alone = replica.num_replicas_in_sync == 1
        if not alone:
            gradients = replicas.sum_values(gradients)
        norm = tf.linalg.global_norm(gradients) / self.scale
        finite = tf.math.is_finite(norm)
        counts = tf.logical_and(finite, allowed)
        factor = 1.0 / self.scale
        if self._clip:
            factor *= tf.minimum(self._clip / (norm + 1e-6), 1.0)
        # The numbers that all weights share are computed once: a network has hundreds of weights.
        numbers = self._numbers(tf.where(counts, factor, 0.0), counts)
        arguments = (list(gradients), numbers, counts, allowed)
        if alone:
            self._update(None, *arguments)
        else:
            replica.merge_call(self._update, args=arguments)
        return norm, finite

    def _update(
        self,
        strategy: tf.distribute.Strategy | None,
        gradients: Sequence[tf.Tensor],
        numbers: dict[str, tf.Tensor],
        counts: tf.Tensor,
        allowed: tf.Tensor,
    ) -> None:
        """Changes the state on every device; `strategy` is None where there is one replica."""

        def run(function: Callable[..., None], variable: tf.Variable, *args: Any) -> None:
            if strategy is None:
                function(variable, *args)
            else:
                strategy.extended.update(variable, function, args=args, group=False)

        averages = self.averages or [None] * len(self.weights)
        for *state, gradient, average in zip(
            self.weights, self._means, self._squares, gradients, averages, strict=True
        ):
            run(self._update_weight, *state, gradient, numbers, average)
        # The counters go last, because the updates above read them; automatic control dependencies keep the order.
        run(_count, self.updates, counts)
        if self.loss_scaling:
            run(_rescale, self.scale, self._good, counts, allowed)

    def _numbers(self, factor: tf.Tensor, counts: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the scalars of one update. A step that does not count gets lr 0 and betas 1: no bit changes."""
        on = tf.cast(counts, factor.dtype)
        time = tf.cast(self.updates, factor.dtype) + 1.0
        decays = [tf.constant(beta, factor.dtype) for beta in self._betas]
        powers = [tf.pow(beta, time) for beta in decays]
        betas = [tf.where(counts, beta, 1.0) for beta in decays]
        numbers = {"factor": factor, "lr": self.schedule(self.updates) * on}
        numbers |= {"beta1": betas[0], "beta2": betas[1], "beta1_power": powers[0], "beta2_power": powers[1]}
        # The kernel adds epsilon to sqrt(v) before the bias correction; torch adds it after, hence the factor.
        numbers["epsilon"] = self._epsilon * tf.sqrt(1.0 - powers[1])
        if self._decay and self._decoupled:
            numbers["shrink"] = numbers["lr"] * self._decay
        if self._ema:
            numbers["approach"] = (1.0 - tf.minimum(time / (9.0 + time), self._ema)) * on
        return numbers

    def _update_weight(
        self,
        weight: tf.Variable,
        mean: tf.Variable,
        square: tf.Variable,
        gradient: tf.Tensor,
        numbers: dict[str, tf.Tensor],
        average: tf.Variable | None,
    ) -> None:
        """Changes one weight on one device."""
        # 0 where the factor is 0, even for a gradient that is not finite.
        gradient = tf.math.multiply_no_nan(tf.convert_to_tensor(gradient), numbers["factor"])
        if "shrink" in numbers:
            weight.assign_sub(weight * numbers["shrink"])
        elif self._decay:
            gradient += weight * self._decay
        handles = {"var": weight.handle, "m": mean.handle, "v": square.handle}
        rates = {name: numbers[name] for name in ("lr", "beta1", "beta2", "beta1_power", "beta2_power", "epsilon")}
        tf.raw_ops.ResourceApplyAdam(**handles, **rates, grad=gradient)
        if average is not None:
            average.assign_sub((average - weight) * numbers["approach"])


def _count(updates: tf.Variable, counts: tf.Tensor) -> None:
    updates.assign_add(tf.cast(counts, tf.int64))


def _rescale(scale: tf.Variable, good: tf.Variable, counts: tf.Tensor, allowed: tf.Tensor) -> None:
    """Halves the loss scale after an overflow, doubles it after a long run of good steps."""
    run = tf.where(counts, good + 1, 0)
    grow = run >= _SCALE_GROWS_AFTER
    new = tf.where(counts, tf.where(grow, tf.minimum(scale * 2.0, _SCALE_MOST), scale), scale * 0.5)
    scale.assign(tf.where(allowed, new, scale))
    good.assign(tf.where(allowed, tf.where(grow, tf.zeros_like(run), run), good))
