"""Whole runs that are killed, in processes of their own."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import random
import signal
import statistics
import time

import numpy as np
import pytest

from tfllv.train import checkpoints

STEPS = 300
SETTINGS = ("--dropout", 0.2, "--set", f"num_steps={STEPS}", "checkpoint_steps=1", "snapshot_iter=7", "ema_decay=0.9")
RUNNING = 0.4  # seconds of steps and saves, about 30 of each


@dataclasses.dataclass
class Kills:
    """Runs of the toy that are killed at random instants, and what the kills met."""

    server: object
    images: pathlib.Path
    folder: pathlib.Path
    chance: random.Random
    found: dict[str, int] = dataclasses.field(default_factory=lambda: dict.fromkeys(("start", "step", "save"), 0))
    unreadable: list[str] = dataclasses.field(default_factory=list)
    starts: list[float] = dataclasses.field(default_factory=list)

    def finish(self, name):
        """Lets the run `name` go to its end, and returns its final state."""
        assert self.server.wait(self._start(name)) == 0, (self.folder / f"{name}.log").read_text()[-2000:]
        with np.load(self.folder / f"{name}.npz") as file:
            return {key: file[key] for key in file.files}

    def kill(self, name):
        """Goes on with the run `name` and kills it: a third while it starts, the rest in steps and saves.

        Returns:
          Whether it had ended before.
        """
        kept = checkpoints.Checkpoints(self.folder / name / "checkpoints")
        before = kept.steps()
        if STEPS in before:
            return True
        process, begun = self._start(name), time.perf_counter()
        if self.starts and self.chance.random() < 1 / 3:
            time.sleep(self.chance.uniform(0, statistics.median(self.starts)))
        else:
            while kept.steps() == before:
                time.sleep(0.005)
                assert time.perf_counter() - begun < 600, (self.folder / f"{name}.log").read_text()[-2000:]
            self.starts.append(time.perf_counter() - begun)
            time.sleep(self.chance.uniform(0, RUNNING))
        os.kill(process, signal.SIGKILL)
        code = self.server.wait(process)
        if code == 0:
            return True
        assert code == -signal.SIGKILL, (self.folder / f"{name}.log").read_text()[-2000:]
        half = list((self.folder / name).rglob(f".writing-{process}-*"))
        self.found["save" if half else "start" if kept.steps() == before else "step"] += 1
        for path in kept.folder.glob("step-*.npz"):  # what a killed writer began has another name
            try:
                checkpoints.load(path)
            except ValueError:
                self.unreadable.append(path.name)
        return False

    def _start(self, name):
        words = (self.folder / name, self.images, self.folder / f"{name}.npz", *SETTINGS)
        return self.server.start(self.folder / f"{name}.log", *words)


def _kill(kills, count):
    """Kills runs, each again and again until it ends, `count` times in all; returns the final state of each."""
    states = []
    while sum(kills.found.values()) < count:
        name = f"killed{len(states)}"
        while sum(kills.found.values()) < count and not kills.kill(name):
            pass
        states.append(kills.finish(name))
    return states


@pytest.mark.slow
@pytest.mark.parametrize("count", [200])
def test_runs_killed_at_random_instants_end_with_the_same_bits(forks, images, tmp_path, count):
    kills = Kills(forks, images[0].parent, tmp_path, random.Random(1))
    whole = kills.finish("whole")
    states = _kill(kills, count)
    print(f"\n{count} kills of {len(states)} runs: {kills.found}; unreadable checkpoints: {kills.unreadable}")
    assert not kills.unreadable
    assert not list(tmp_path.rglob(".*"))  # what killed writers left behind is gone
    assert min(kills.found.values()) > count // 20
    for state in states:
        assert state.keys() == whole.keys()
        for name, array in whole.items():
            np.testing.assert_array_equal(state[name], array, err_msg=name)
