from __future__ import annotations

import errno
import os
import pathlib
import pickle
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tfllv.train import checkpoints

ROOT = pathlib.Path(__file__).parent.parent.parent


def _arrays(step):
    return {"a": np.full((3, 4), step, np.float32), "b/0": np.array(step, np.int64)}


def test_a_checkpoint_comes_back_as_it_was(tmp_path, rng):
    arrays = {"x": rng.normal(size=(5, 6)).astype(np.float32), "none": np.zeros((0, 3)), "count": np.array(2**40)}
    kept = checkpoints.Checkpoints(tmp_path / "deep" / "folder")
    assert kept.load_latest() is None
    kept.save(12, arrays, {"best": float("inf"), "word": "é"})
    loaded, meta = kept.load_latest()
    assert meta == {"best": float("inf"), "word": "é", "step": 12}
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)


def test_the_newest_and_the_best_are_kept(tmp_path):
    kept = checkpoints.Checkpoints(tmp_path, keep=2)
    for step in (5, 10, 15, 20):
        kept.save(step, _arrays(step), {}, best=step == 10)
    assert kept.steps() == [15, 20]
    assert checkpoints.load(tmp_path / "best.npz")[1]["step"] == 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.npz", "step-000000015.npz", "step-000000020.npz"]


@pytest.mark.parametrize("damage", ["empty", "short", "flipped", "text", "pickle"])
def test_a_damaged_file_is_named_and_the_one_before_is_used(tmp_path, capsys, damage):
    kept = checkpoints.Checkpoints(tmp_path, keep=3)
    for step in (1, 2):
        kept.save(step, _arrays(step), {})
    path = kept.path(2)
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    payloads = {
        "empty": b"",
        "short": path.read_bytes()[:200],
        "flipped": bytes(content),
        "text": b"x" * 500,
        "pickle": pickle.dumps([1]),
    }
    path.write_bytes(payloads[damage])
    arrays, meta = kept.load_latest()
    assert meta["step"] == 1 and arrays["a"][0, 0] == 1
    message = capsys.readouterr().err
    assert "step-000000002.npz' is no readable checkpoint" in message and message.count("\n") == 1


def test_objects_are_not_unpickled(tmp_path):
    np.savez(tmp_path / "step-000000001.npz", meta=np.array([print], dtype=object))
    with pytest.raises(ValueError, match="is no readable checkpoint"):
        checkpoints.load(tmp_path / "step-000000001.npz")


@pytest.mark.parametrize("call", ["fsync", "replace", "write"])
def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch, call):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    def write(file):
        file.write(b"ne")
        if call == "write":
            fail()

    if call == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    elif call == "replace":
        monkeypatch.setattr(pathlib.Path, "replace", fail)
    with pytest.raises(
        OSError, match=r"cannot write '.*file': No space left on device; what was saved before is intact"
    ):
        checkpoints.write_atomically(path, write)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"cannot write '.*': (Not a directory|File exists); what was saved"):
        checkpoints.Checkpoints(tmp_path / "file").save(1, _arrays(1), {})


WRITER = """
import sys, numpy as np
from tfllv.train import checkpoints
kept = checkpoints.Checkpoints(sys.argv[1], keep=2)
step = (kept.steps() or [0])[-1]
print("ready", flush=True)
while True:
    step += 1
    kept.save(step, {"a": np.full((200, 300), step, np.float32)}, {"mark": step}, best=step % 3 == 0)
"""


def _kill_while_saving(folder, kills):
    """Kills a writer at random instants; after each, whatever is there must be complete. Returns the newest steps."""
    chance = random.Random(0)
    newest = []
    command = [sys.executable, "-c", WRITER, str(folder)]
    for _ in range(kills):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)})
        process.stdout.readline()
        time.sleep(chance.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        kept = checkpoints.Checkpoints(folder)
        for path in [*map(kept.path, kept.steps()), *folder.glob("best.npz")]:
            arrays, meta = checkpoints.load(path)
            assert (arrays["a"] == meta["mark"]).all()
        newest.append((kept.steps() or [0])[-1])
    checkpoints.clean(folder)
    assert not list(folder.glob(".*"))
    return newest


def test_kills_at_random_instants_leave_only_complete_checkpoints(tmp_path):
    newest = _kill_while_saving(tmp_path, 10)
    assert newest == sorted(newest) and newest[-1] > 5


@pytest.mark.slow
def test_two_hundred_kills_at_random_instants_leave_only_complete_checkpoints(tmp_path):
    newest = _kill_while_saving(tmp_path, 200)
    assert newest == sorted(newest) and newest[-1] > 100
