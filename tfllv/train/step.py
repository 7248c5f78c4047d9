"""One training step and one evaluation step, as graphs: what runs on each replica."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from tfllv.train import gradients, replicas
from tfllv.train.learner import Learner
from tfllv.train.optimizer import Adam

Batch = dict[str, tf.Tensor]

EXTRAS = ("gradient_norm", "lr")


@contextlib.contextmanager
def reproducible_sums() -> Iterator[None]:
    """Keeps TensorFlow from adding three or more tensors at once, which on a CPU gives other bits each time.

    The kernel of AddN starts with whichever input's memory is free first, so the order of the additions depends on the
    timing, also under `enable_op_determinism` (measured on SGZ: all gradients differ between runs). A step therefore
    adds gradients in pairs, and the graph rewriter that would join the pairs again is off while it runs, which costs
    no measurable time.
    """
    name = "arithmetic_optimization"
    before = tf.config.optimizer.get_experimental_options().get(name, True)
    tf.config.optimizer.set_experimental_options({name: False})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({name: before})


class TrainStep:
    """A distributed batch -> one update of the weights, and a row of figures.

    The row is [terms..., gradient norm before clipping, learning rate], of the whole batch: each replica
    divides its loss by the number of replicas, and sums follow.

    Attributes:
      names: the loss terms' names, in the row's order; known after the first call.
    """

    def __init__(
        self,
        learner: Learner,
        optimizer: Adam,
        strategy: tf.distribute.Strategy,
        *,
        accumulate_steps: int = 1,
        jit_compile: bool = False,
    ):
        self.names: list[str] = []
        self._norms = tf.zeros([0])
        self._learner, self._optimizer, self._strategy = learner, optimizer, strategy
        self._parts = accumulate_steps
        self._replicas = strategy.num_replicas_in_sync
        self._jit = jit_compile and self._replicas == 1
        self._moving = [
            variable.value for variable in learner.net.non_trainable_variables if variable.value.dtype.is_floating
        ]
        self._graph = tf.function(self._distributed, autograph=False)

    def __call__(self, batch: Any, *, term_norms: bool = False) -> tf.Tensor:
        """Takes the step; the row is computed when its values are read.

        Args:
          batch: a distributed batch.
          term_norms: also computes what `term_norms` returns, by a backward pass for each term; the update is the same.
        """
        row, norms = self._graph(batch, term_norms)
        if term_norms:
            self._norms = norms
        return row

    def term_norms(self) -> dict[str, float]:
        """Returns the norm of each term's own gradient at the last step that was asked for it, before clipping."""
        norms = self._norms.numpy().tolist()
        return dict(zip(self.names, norms, strict=True)) if norms else {}

    def _distributed(self, batch: Any, term_norms: bool) -> tuple[tf.Tensor, tf.Tensor]:
        def step(batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
            return self._replica(batch, term_norms)

        run = tf.function(step, autograph=False, jit_compile=True) if self._jit else step
        results = self._strategy.run(run, args=(batch,))
        row, norms = (self._strategy.experimental_local_results(result)[0] for result in results)
        return row, norms

    def _replica(self, batch: Batch, term_norms: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """The step on one replica; row and norms are the same on all."""
        terms, found = self._accumulate(batch, term_norms)
        count = len(self._optimizer.weights)
        alone = [found[start : start + count] for start in range(count, len(found), count)]
        if self._replicas > 1:
            (terms,) = replicas.sum_values([terms])
            alone = [replicas.sum_values(part) for part in alone]
            self._average_moving()
        rate = self._optimizer.schedule(self._optimizer.updates)
        norms = [tf.linalg.global_norm(part) / self._optimizer.scale for part in alone]
        norm, _ = self._optimizer.apply(found[:count], tf.reduce_all(tf.math.is_finite(terms)))
        return tf.concat([terms, [norm, rate]], 0), tf.stack(norms) if norms else tf.zeros([0])

    def _gradients(self, batch: Batch, term_norms: bool) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Returns ([terms] loss terms / replicas, gradients of their scaled sum) of one part of a batch.

        With `term_norms`, the gradients of each term alone follow those of the sum.
        """
        terms, _ = self._learner.terms(batch, training=True)
        self.names = list(terms)
        stacked = tf.stack(list(terms.values())) / self._replicas
        losses = [tf.reduce_sum(stacked), *(tf.unstack(stacked) if term_norms else [])]
        found = []
        with gradients.for_cpu():
            for loss in losses:
                # Sums in pairs, not by GradientTape: see `reproducible_sums`.
                found += tf.gradients(
                    loss * self._optimizer.scale,
                    self._optimizer.weights,
                    aggregation_method=tf.AggregationMethod.EXPERIMENTAL_TREE,
                    unconnected_gradients=tf.UnconnectedGradients.ZERO,
                )
        return stacked, [tf.convert_to_tensor(gradient) for gradient in found]

    def _accumulate(self, batch: Batch, term_norms: bool) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """The same for a whole batch, which is run in parts, one after the other.

        Raises:
          ValueError: if the batch cannot be divided so.
        """
        parts = self._parts
        if parts == 1:
            return self._gradients(batch, term_norms)
        size = next(iter(batch.values())).shape[0]
        if size is not None and size % parts:
            raise ValueError(
                f"`accumulate_steps` must divide the {size} images that a replica gets a step. Received: {parts}."
            )
        pieces = {key: tf.reshape(value, [parts, -1, *value.shape[1:]]) for key, value in batch.items()}
        first = self._gradients({key: value[0] for key, value in pieces.items()}, term_norms)

        def add(index: tf.Tensor, terms: tf.Tensor, sums: list[tf.Tensor]) -> tuple[Any, ...]:
            more, found = self._gradients({key: value[index] for key, value in pieces.items()}, term_norms)
            return index + 1, terms + more, [total + new for total, new in zip(sums, found, strict=True)]

        # A loop in the graph, one part at a time: unrolled, TensorFlow would run the parts side by side.
        _, terms, sums = tf.while_loop(
            lambda index, *_: index < parts, add, (1, *first), parallel_iterations=1, maximum_iterations=parts - 1
        )
        return terms / parts, [total / parts for total in sums]

    def _average_moving(self) -> None:
        """Makes the moving statistics of batch norm the same on all replicas: the mean of theirs."""
        if not self._moving:
            return
        means = [total / self._replicas for total in replicas.sum_values(self._moving)]

        def update(strategy: tf.distribute.Strategy, values: list[Any]) -> None:
            for variable, value in zip(self._moving, values, strict=True):
                strategy.extended.update(variable, lambda local, new: local.assign(new), args=(value,), group=False)

        replica: Any = tf.distribute.get_replica_context()
        replica.merge_call(update, args=(means,))


class EvaluateStep:
    """A batch -> ([terms], the network's outputs), without a gradient, on one device.

    Attributes:
      names: the loss terms' names, in order; known after the first call.
    """

    def __init__(self, learner: Learner):
        self.names: list[str] = []
        self._learner = learner
        self._graph = tf.function(self._evaluate, autograph=False, reduce_retracing=True)

    def __call__(self, batch: Batch) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Runs the learner on one batch."""
        return self._graph(batch)

    def _evaluate(self, batch: Batch) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        terms, outputs = self._learner.terms(batch, training=False)
        self.names = list(terms)
        return tf.stack(list(terms.values())), outputs
