"""Where the training runs: one device, all local GPUs, several machines, or a TPU; the loop is the same for all."""

from __future__ import annotations

import tensorflow as tf

from tfllv import contracts

STRATEGIES = ("one", "mirrored", "multi_worker", "tpu")


def make(name: str = "one", *, tpu: str = "") -> tf.distribute.Strategy:
    """Returns the distribution strategy.

    Args:
      name: `one` device; `mirrored`, all GPUs of this machine (or all logical CPUs where there is none);
        `multi_worker`, as the variable TF_CONFIG says, one process a machine; `tpu`.
      tpu: the TPU's name or address; empty for a local one.

    Raises:
      ValueError: if the name is unknown.
      OSError: if there is no such TPU.
    """
    if name not in STRATEGIES:
        raise ValueError(
            f"`strategy` must be one of {', '.join(STRATEGIES)}. Received: strategy='{name}'; "
            f"{contracts.nearest_name(name, STRATEGIES)}"
        )
    if name == "one":
        return tf.distribute.get_strategy()
    if name == "multi_worker":
        return tf.distribute.MultiWorkerMirroredStrategy()
    if name == "tpu":
        try:
            resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect(tpu or "local")
        except (ValueError, RuntimeError, OSError, tf.errors.OpError) as error:
            reason = " ".join(str(error).split())
            raise OSError(f"`strategy=tpu` needs a TPU. Received: tpu='{tpu}': {reason}") from None
        return tf.distribute.TPUStrategy(resolver)
    gpus = tf.config.list_logical_devices("GPU")
    if gpus:
        return tf.distribute.MirroredStrategy([device.name for device in gpus])
    # Between CPUs a sum on one of them is as fast as collectives, whose keys clash when a process makes two strategies.
    cpus = [device.name for device in tf.config.list_logical_devices("CPU")]
    return tf.distribute.MirroredStrategy(cpus, cross_device_ops=tf.distribute.ReductionToOneDevice())


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether this process is the one that writes files."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.task_type:
        return True
    return resolver.task_type == "chief" or (
        resolver.task_type == "worker" and resolver.task_id == 0 and "chief" not in resolver.cluster_spec().jobs
    )
