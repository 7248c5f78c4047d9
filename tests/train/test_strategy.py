from __future__ import annotations

import json
import socket

import numpy as np
import pytest
import tensorflow as tf

from tfllv.train import strategy


def _finish(process):
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-2000:]


def _difference(one, other):
    with np.load(one) as a, np.load(other) as b:
        assert a.files == b.files
        return max(float(np.abs(a[name].astype(np.float64) - b[name]).max()) for name in a.files)


def _free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def test_unknown_strategies_are_named():
    with pytest.raises(ValueError, match=r"`strategy` must be one of one, .* did you mean 'mirrored'\?"):
        strategy.make("miror")


def test_one_device_is_the_default_strategy_and_the_chief():
    made = strategy.make("one")
    assert made is tf.distribute.get_strategy()
    assert strategy.is_chief(made)


def test_a_missing_tpu_is_one_line(monkeypatch):
    def connect(name):
        raise ValueError(f"Could not lookup TPU metadata\nfrom name '{name}'")

    monkeypatch.setattr(tf.distribute.cluster_resolver.TPUClusterResolver, "connect", connect)
    with pytest.raises(OSError, match=r"`strategy=tpu` needs a TPU\. Received: tpu='nowhere'") as error:
        strategy.make("tpu", tpu="nowhere")
    assert "\n" not in str(error.value)


def test_two_replicas_take_the_steps_of_one(toy, images, start, tmp_path):
    folder = images[0].parent
    settings = ("--set", "ema_decay=0.9", "schedule=cosine", "weight_decay=0.01")
    plain = start(tmp_path / "plain", folder, tmp_path / "plain.npz", *settings)
    two = start(*(tmp_path / "two", folder, tmp_path / "two.npz", "--strategy", "mirrored", "--replicas", 2), *settings)
    other = start(tmp_path / "other", folder, tmp_path / "other.npz", *settings, "weight_decay=0.02")
    for process in (plain, two, other):
        _finish(process)
    assert _difference(tmp_path / "plain.npz", tmp_path / "two.npz") <= 1e-5
    # The comparison can tell a small change.
    assert _difference(tmp_path / "plain.npz", tmp_path / "other.npz") > 1e-5


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one_and_resume(toy, images, start, tmp_path):
    folder = images[0].parent
    plain = start(tmp_path / "plain", folder, tmp_path / "plain.npz", "--set", "ema_decay=0.9")
    _finish(plain)

    def both(*words):
        cluster = {"worker": [f"127.0.0.1:{port}" for port in _free_ports(2)]}
        workers = []
        for index in range(2):
            task = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
            out = tmp_path / f"worker{index}.npz"
            workers.append(start(tmp_path / "both", folder, out, "--strategy", "multi_worker", *words, TF_CONFIG=task))
        for worker in workers:
            _finish(worker)

    both("--set", "ema_decay=0.9", "num_steps=7")
    both("--set", "ema_decay=0.9")
    for index in range(2):
        assert _difference(tmp_path / "plain.npz", tmp_path / f"worker{index}.npz") <= 1e-5
