from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import tensorflow as tf

from tfllv.train import trackers


def _events(folder):
    """Returns {tag: [(step, value)]} of the event files in a folder."""
    found = {}
    for path in sorted((folder / "tensorboard").glob("events*")):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, tf.make_ndarray(value.tensor)))
    return found


def test_tensorboard_holds_curves_and_pictures(tmp_path):
    tracker = trackers.make("tensorboard", tmp_path, {})
    for step in (1, 2):
        tracker.scalars(step, {"train/total": 0.5 * step})
    tracker.pictures(2, "validation/before_after", np.full((3, 4, 8, 3), 1.5, np.float32))
    tracker.close()
    events = _events(tmp_path)
    assert [(step, float(value)) for step, value in events["train/total"]] == [(1, 0.5), (2, 1.0)]
    step, pictures = events["validation/before_after"][0]
    assert step == 2 and pictures[:2].tolist() == [b"8", b"4"] and len(pictures) == 2 + 3
    assert (tf.io.decode_png(pictures[2]) == 255).numpy().all()


def test_wandb_gets_the_same_and_is_offline_without_a_key(tmp_path, monkeypatch):
    calls = []

    class Run:
        def log(self, values, step):
            calls.append((step, values))

        def finish(self):
            calls.append("finished")

    def init(**options):
        calls.append(options)
        return Run()

    module = types.SimpleNamespace(init=init, Image=lambda image: (image.dtype, image.shape))
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    tracker = trackers.make("wandb", tmp_path / "run", {"lr": 0.1})
    tracker.scalars(3, {"a": 1.0})
    tracker.pictures(3, "p", np.zeros((2, 4, 5, 3), np.float32))
    tracker.close()
    assert calls[0]["mode"] == "offline" and calls[0]["name"] == "run" and calls[0]["config"] == {"lr": 0.1}
    assert calls[1:] == [(3, {"a": 1.0}), (3, {"p": [(np.uint8, (4, 5, 3))] * 2}), "finished"]


def test_wandb_that_is_not_installed_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match=r"`tracker=wandb` needs the package wandb\. .* pip install 'tfllv\[wandb\]'"):
        trackers.make("wandb", tmp_path, {})


def test_none_records_nothing_and_unknown_ones_are_named(tmp_path):
    tracker = trackers.make("none", tmp_path, {})
    tracker.scalars(1, {"a": 1.0})
    tracker.pictures(1, "p", np.zeros((1, 2, 2, 3), np.float32))
    tracker.close()
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="did you mean 'tensorboard'"):
        trackers.make("tensorbord", tmp_path, {})
