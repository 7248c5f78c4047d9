"""The toy learner of `toy.py`, in this process and in others."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

TOY = pathlib.Path(__file__).parent / "toy.py"
ROOT = TOY.parent.parent.parent


@pytest.fixture(scope="session")
def toy():
    """The module `toy.py`."""
    spec = importlib.util.spec_from_file_location("tests_train_toy", TOY)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def images(toy, tmp_path):
    """The paths of the toy's images."""
    return toy.make_images(tmp_path / "images")


@pytest.fixture
def start(tmp_path):
    """Starts `toy.py` in a process of its own: start(*words, **environment) -> Popen."""
    running = []

    def start_toy(*words, **environment):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
        process = subprocess.Popen(
            [sys.executable, str(TOY), *map(str, words)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield start_toy
    for process in running:
        process.kill()
        process.wait()
        process.stderr.close()
