from __future__ import annotations

import errno
import json
import os
import signal

import keras
import numpy as np
import pytest

from tfllv.train import loop
from tfllv.train.learner import Learner


class Interrupt:
    """A tracker that sends this process a signal at a step."""

    def __init__(self, step):
        self.step = step

    def scalars(self, step, values):
        if step == self.step and "train/total" in values:
            os.kill(os.getpid(), signal.SIGTERM)

    def pictures(self, step, name, images):
        pass

    def close(self):
        pass


class Record(Interrupt):
    """A tracker that remembers."""

    def __init__(self):
        self.curves, self.images = {}, {}

    def scalars(self, step, values):
        for name, value in values.items():
            self.curves.setdefault(name, []).append((step, value))

    def pictures(self, step, name, images):
        self.images[step, name] = images


@pytest.fixture(scope="module")
def whole(toy, tmp_path_factory):
    """Final states of uninterrupted runs, by their options."""
    folder = tmp_path_factory.mktemp("whole")
    paths = toy.make_images(folder / "images")
    states = {}

    def get(**fields):
        key = json.dumps(fields, sort_keys=True)
        if key not in states:
            trainer = toy.make_loop(folder / str(len(states)), paths, **fields)
            trainer.run()
            states[key] = toy.state(trainer)
        return states[key]

    return get


def _assert_equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


AVERAGED = {"ema_decay": 0.9, "schedule": "cosine", "warmup_steps": 5, "accumulate_steps": 2}


@pytest.mark.parametrize(
    ("steps", "fields"), [((1,), {}), pytest.param((7, 8, 19), {}, marks=pytest.mark.slow), ((6, 12), AVERAGED)]
)
def test_a_run_that_was_stopped_ends_with_the_same_bits(toy, images, tmp_path, whole, steps, fields, capsys):
    for step in steps:
        trainer = toy.make_loop(tmp_path / "run", images, tracker=Interrupt(step), **fields)
        with pytest.raises(loop.StoppedError, match=f"stopped at step {step}; the same command goes on from there"):
            trainer.run()
    trainer = toy.make_loop(tmp_path / "run", images, **fields)
    trainer.run()
    assert f"going on from step {steps[-1]} of" in capsys.readouterr().out
    _assert_equal(toy.state(trainer), whole(**fields))


def test_two_runs_give_the_same_bits_and_another_seed_other_ones(toy, images, tmp_path, whole):
    trainer = toy.make_loop(tmp_path / "run", images, net={"seed": 0})
    trainer.run()
    _assert_equal(toy.state(trainer), whole())
    other = toy.make_loop(tmp_path / "other", images, seed=1)
    other.run()
    assert any((toy.state(other)[name] != value).any() for name, value in whole().items())


def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_is_used(toy, images, tmp_path, whole, capsys):
    trainer = toy.make_loop(tmp_path / "run", images, tracker=Interrupt(7))
    with pytest.raises(loop.StoppedError):
        trainer.run()
    newest = trainer.checkpoints.path(7)
    newest.write_bytes(newest.read_bytes()[:-100])
    trainer = toy.make_loop(tmp_path / "run", images)
    trainer.run()
    captured = capsys.readouterr()
    assert "step-000000007.npz' is no readable checkpoint" in captured.err
    assert "going on from step 6 of" in captured.out
    _assert_equal(toy.state(trainer), whole())


def test_the_loss_falls_and_everything_is_written(toy, images, tmp_path, capsys):
    record = Record()
    trainer = toy.make_loop(tmp_path, images, tracker=record, num_steps=0, num_epochs=12, snapshot_iter=5, lr=0.05)
    values = trainer.run()
    assert trainer.stop_step == 21
    first, last = (record.curves["train/total"][i][1] for i in (0, -1))
    assert last < first / 2
    assert values["total"] == pytest.approx(values["level"] + values["shape"])
    assert [path.name for path in sorted((tmp_path / "weight").iterdir())] == [
        "Epoch11.weights.h5",
        "Epoch4.weights.h5",
        "Epoch9.weights.h5",
    ]
    assert record.images[21, "validation/before_after"].shape == (2, 16, 32, 3)
    assert set(record.curves) >= {"train/level", "train/gradient_norm", "train/lr", "validation/total"}
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("step 3/21  epoch 1.71  ") and "images/s" in lines[2] and " left  total " in lines[2]
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "validation" not in row] == list(range(1, 22))
    assert len(trainer.checkpoints.steps()) == 2 and (tmp_path / "checkpoints" / "best.npz").exists()


def test_final_weights_load_into_a_fresh_network_and_are_the_average(toy, images, tmp_path):
    trainer = toy.make_loop(tmp_path, images, ema_decay=0.9)
    trainer.run()
    net = toy.Net(seed=9)
    net.load_weights(tmp_path / "final.weights.h5")
    for weight, average in zip(net.trainable_variables, trainer.optimizer.averages, strict=True):
        np.testing.assert_array_equal(weight.numpy(), average.numpy())
    raw = [variable.numpy() for variable in trainer.learner.net.trainable_variables]
    assert any((value != average.numpy()).any() for value, average in zip(raw, trainer.optimizer.averages, strict=True))


def test_parts_of_a_batch_give_the_step_of_the_whole(toy, images, tmp_path):
    # Without batch norm, which sees a part at a time.
    states = []
    for parts in (1, 2, 4):
        learner = Learner(toy.Net(dropout=0.0, norm=False), toy.objective)
        trainer = toy.make_loop(tmp_path / str(parts), images, learner=learner, accumulate_steps=parts)
        trainer.run()
        states.append(toy.state(trainer))
    for other in states[1:]:
        for name, value in states[0].items():
            np.testing.assert_allclose(other[name], value, atol=1e-5, err_msg=name)


def test_parts_must_divide_the_batch(toy, images, tmp_path):
    trainer = toy.make_loop(tmp_path, images, accumulate_steps=3)
    with pytest.raises(ValueError, match=r"`accumulate_steps` must divide the 4 images .* Received: 3"):
        trainer.run()


def test_a_loss_that_is_not_finite_stops_the_run_and_names_term_step_and_files(toy, images, tmp_path):
    def poisoned(net, batch, *, training=True):
        terms, outputs = toy.objective(net, batch, training=training)
        trained = net.last.bias[0] * 0 + keras.ops.cast(trainer.optimizer.updates < 5, "float32")
        return {**terms, "dust": keras.ops.log(trained)}, outputs

    trainer = toy.make_loop(tmp_path, images, learner=Learner(toy.Net(), poisoned), display_iter=4)
    with pytest.raises(loop.NotFiniteError, match="`dust` is -inf") as error:
        trainer.run()
    message = str(error.value)
    assert " at step 5, batch: " in message and "\n" not in message
    wanted = loop.pipeline.batch_indices(len(images), seed=0, step=5, batch_size=4)
    assert all(trainer.source.names[index] in message for index in wanted)
    # The newest checkpoint is from before, and the weights were not touched by the step.
    assert trainer.checkpoints.steps()[-1] <= 5
    assert all(np.isfinite(value).all() for value in toy.state(trainer).values())


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_learns_with_float32_weights(toy, images, tmp_path, precision):
    record = Record()
    trainer = toy.make_loop(tmp_path, images, precision=precision, tracker=record, lr=0.05, num_steps=25)
    trainer.run()
    assert trainer.learner.net.first.compute_dtype == precision
    assert {variable.dtype for variable in trainer.learner.net.trainable_variables} == {"float32"}
    curve = [value for _, value in record.curves["train/total"]]
    assert curve[-1] < curve[0] / 2
    assert trainer.optimizer.scale.numpy() == (2.0**15 if precision == "float16" else 1.0)


def test_a_full_disk_is_one_line_and_leaves_the_old_checkpoint(toy, images, tmp_path, monkeypatch, whole):
    trainer = toy.make_loop(tmp_path, images, tracker=Interrupt(8))
    with pytest.raises(loop.StoppedError):
        trainer.run()
    before = {path.name: path.read_bytes() for path in (tmp_path / "checkpoints").iterdir()}

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"cannot write '.*step-000000009\.npz': No space left on device; what was saved"):
        toy.make_loop(tmp_path, images).run()
    assert {path.name: path.read_bytes() for path in (tmp_path / "checkpoints").iterdir()} == before
    monkeypatch.undo()
    trainer = toy.make_loop(tmp_path, images)
    trainer.run()
    _assert_equal(toy.state(trainer), whole())


def test_a_disk_that_is_full_at_a_snapshot_is_one_line(toy, images, tmp_path, monkeypatch):
    trainer = toy.make_loop(tmp_path, images, snapshot_iter=1, num_steps=4)

    def full(path):
        path.write_bytes(b"half")
        raise RuntimeError("Disable slist failed\nerrno = 28, error message = 'No space left on device'")

    monkeypatch.setattr(trainer.learner.net, "save_weights", full)
    with pytest.raises(OSError, match=r"cannot write '.*Epoch0\.weights\.h5': No space left on device; what"):
        trainer.run()
    assert not list((tmp_path / "weight").iterdir())


def test_a_checkpoint_of_another_network_is_refused(toy, images, tmp_path):
    toy.make_loop(tmp_path, images, num_steps=2).run()
    with pytest.raises(ValueError, match=r"`workdir` must hold a run of the same network .* use a new --workdir"):
        toy.make_loop(tmp_path, images, ema_decay=0.9).run()


def test_changed_settings_are_told(toy, images, tmp_path, capsys):
    toy.make_loop(tmp_path, images, num_steps=2).run()
    toy.make_loop(tmp_path, images[:-1], num_steps=3, lr=0.5).run()
    assert "changed since that step: lr, num_steps, the list of images." in capsys.readouterr().err


def test_a_file_that_breaks_during_the_run_is_named(toy, images, tmp_path):
    trainer = toy.make_loop(tmp_path, images)
    images[3].unlink()
    with pytest.raises((ValueError, OSError), match=r"3\.png"):
        trainer.run()


def test_validation_takes_pictures_of_different_sizes(toy, images, tmp_path):
    class Whole(loop.pipeline.ImageSource):
        def read_centre(self, key, index):
            return self.read(key, index)[: 10 + index]

    record = Record()
    trainer = toy.make_loop(tmp_path, images, tracker=record)
    trainer.validator.source = Whole({"low": images[:3]}, size=toy.SIZE, fit="crop")
    trainer.config = trainer.config.replace(val_batch_size=3)
    values = trainer.validate()
    assert values["total"] > 0
    # The tracker gets the first picture, beside its result, and others of its size.
    assert record.images[0, "validation/before_after"].shape == (1, 10, 36, 3)
