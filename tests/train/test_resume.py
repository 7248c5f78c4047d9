"""Whole runs that are killed, in processes of their own."""

from __future__ import annotations

import random
import signal
import subprocess

import numpy as np
import pytest

from tfllv.train import checkpoints


def _finish(process):
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors[-2000:]


def _kill_until_done(start, words, folder, kills, seconds):
    """Starts a run again and again, killing it at random instants once it trains; returns where it stood each time."""
    chance = random.Random(1)
    stood = []
    for _ in range(kills):
        process = start(*words)
        before = checkpoints.Checkpoints(folder).steps()
        while process.poll() is None and checkpoints.Checkpoints(folder).steps() == before:
            try:
                process.wait(0.01)
            except subprocess.TimeoutExpired:
                continue
        try:
            process.wait(chance.uniform(0, seconds))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.communicate()
        stood.append((checkpoints.Checkpoints(folder).steps() or [0])[-1])
    _finish(start(*words))
    return stood


@pytest.mark.slow
@pytest.mark.parametrize("kills", [8])
def test_a_run_killed_at_random_instants_ends_with_the_same_bits(toy, images, start, tmp_path, kills):
    settings = ("--dropout", 0.2, "--set", "num_steps=400", "checkpoint_steps=1", "snapshot_iter=7", "ema_decay=0.9")
    whole = (tmp_path / "whole", images[0].parent, tmp_path / "whole.npz", *settings)
    killed = (tmp_path / "killed", images[0].parent, tmp_path / "killed.npz", *settings)
    _finish(start(*whole))
    stood = _kill_until_done(start, killed, tmp_path / "killed" / "checkpoints", kills, seconds=0.5)
    assert stood == sorted(stood) and len(set(stood)) > kills // 2 and stood[-1] < 400
    with np.load(tmp_path / "whole.npz") as one, np.load(tmp_path / "killed.npz") as other:
        assert one.files == other.files
        for name in one.files:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)
