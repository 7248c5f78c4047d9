from __future__ import annotations

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tfllv.models import resnet
from tfllv.train import replicas

ROOT = pathlib.Path(__file__).parents[2]

# Trains a network with batch normalisation on one device and on two; writes how far apart they are. In a process of its
# own: TensorFlow must be told of the second device before it starts.
SCRIPT = """
import json, sys
import keras, numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from tfllv import models
from tfllv.models import resnet
from tfllv.objectives.multitask import Multitask
from tfllv.train import optimizer, replicas, step, strategy
from tfllv.train.learner import Learner

full, kind, steps = sys.argv[1] == "full", sys.argv[2], int(sys.argv[3])
where = strategy.make(kind)  # several machines must find each other first
side = 64 if full else 16
rng = np.random.default_rng(0)
levels = np.linspace(0, 0.6, 4).reshape(4, 1, 1, 1)  # the halves of the batch differ in their statistics
batch = {
    "low": (rng.uniform(0, 0.3, (4, side, side, 3)) + levels).astype(np.float32),
    "high": rng.uniform(0, 1, (4, side, side, 3)).astype(np.float32),
    "mask": rng.integers(0, 5, (4, side, side)).astype(np.int32),
}

def small():
    image = keras.Input((None, None, 3))
    x = image
    for index in range(3):
        init = keras.initializers.HeNormal(index)
        x = keras.layers.Conv2D(8, 3, padding="same", use_bias=False, kernel_initializer=init)(x)
        x = keras.layers.Activation("relu")(resnet.BatchNorm(synchronized=True, momentum=0.9)(x))
    heads = {"image": 3, "logits": 5}
    init = keras.initializers.HeNormal(7)
    return keras.Model(image, {k: keras.layers.Conv2D(n, 1, kernel_initializer=init)(x) for k, n in heads.items()})

def train(where, batch=batch):
    with where.scope():
        net = models.build("resnet_unet", num_classes=5, synchronized=True) if full else small()
        replicas.synchronize(net)
        learner = Learner(net, Multitask())
        trained = [variable.value for variable in learner.trained]
        # A large epsilon: Adam's first step is else the sign of the gradient, also where that is rounding alone.
        adam = optimizer.Adam(trained, optimizer.Schedule(1e-3))
    run = step.TrainStep(learner, adam, where)
    count = where.num_replicas_in_sync
    share = 4 // count

    def part(context):
        start = share * context.replica_id_in_sync_group
        return {k: tf.constant(v[start : start + share]) for k, v in batch.items()}

    given = where.experimental_distribute_values_from_function(part)
    with step.reproducible_sums():
        rows = [run(given, term_norms=True).numpy()]
        rows += [run(given).numpy() for _ in range(steps - 1)]
    return net, np.stack(rows)

one, rows = train(tf.distribute.get_strategy())
two, pairs = train(where)
# What rounding alone does: the same batch in another order.
turned = train(tf.distribute.get_strategy(), {k: v[::-1] for k, v in batch.items()})[1] if full else rows

def apart(kind):
    return max(float(np.abs(a.numpy() - b.numpy()).max()) for a, b in zip(getattr(one, kind), getattr(two, kind)))

print(json.dumps({
    "weights": apart("trainable_variables"),
    "moving": apart("non_trainable_variables"),
    "rows": float(np.abs(rows / pairs - 1)[:, :-1].max()),
    "first": np.abs(rows / pairs - 1)[0, :-1].tolist(),
    "rounding": np.abs(rows / turned - 1)[0, :-1].tolist(),
    "moved": float(np.abs(np.stack(rows)[0] - rows[-1]).max()),
}))
"""


def start(net, kind, steps, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, net, kind, str(steps)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def result(process):
    output, errors = process.communicate(timeout=1200)
    assert process.returncode == 0, errors[-3000:]
    return json.loads(output.splitlines()[-1])


def check_small(found):
    assert found["weights"] < 1e-5 and found["moving"] < 1e-5 and found["rows"] < 1e-5, found
    assert found["moved"] > 1e-3


@pytest.mark.slow
def test_two_replicas_with_the_statistics_of_a_batch_learn_what_one_does():
    check_small(result(start("small", "mirrored", 4)))


@pytest.mark.slow
def test_two_processes_with_the_statistics_of_a_batch_learn_what_one_does():
    sockets = [socket.socket() for _ in range(2)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    workers = [
        start(
            "small",
            "multi_worker",
            4,
            TF_CONFIG=json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}}),
        )
        for index in range(2)
    ]
    for worker in workers:
        check_small(result(worker))


def test_outside_of_a_replica_there_is_one_set_of_statistics():
    value = tf.constant([[1.0, 2.0]])
    np.testing.assert_array_equal(replicas.gather(value), value[tf.newaxis])


def test_gathered_statistics_are_those_of_the_whole_batch():
    rng = np.random.default_rng(0)
    # Means far from 0, where the mean of squares less the square of the mean would lose digits.
    batch = (rng.normal(1000, 1, (6, 5, 5, 3)) + rng.normal(0, 3, (6, 1, 1, 3))).astype(np.float32)
    layer = resnet.BatchNorm(synchronized=True)
    parts = np.split(batch, 3)
    layer.gather = lambda own: np.stack([[p.mean((0, 1, 2)), p.var((0, 1, 2))] for p in parts])
    mean, variance = layer._moments(tf.constant(parts[0]), None)
    np.testing.assert_allclose(mean, batch.mean((0, 1, 2), dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(variance, batch.var((0, 1, 2), dtype=np.float64), rtol=1e-4)


@pytest.mark.slow
def test_the_whole_network_takes_its_first_step_on_two_replicas_as_on_one():
    found = result(start("full", "mirrored", 1))
    # Through 53 normalisations of random weights, rounding grows: loss terms, then the gradient's norm.
    assert max(found["first"][:-1]) < 1e-5 and found["first"][-1] < 4 * found["rounding"][-1] < 0.01, found
