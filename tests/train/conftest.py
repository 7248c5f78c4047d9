"""The toy learner of `toy.py`, in this process and in others."""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

TOY = pathlib.Path(__file__).parent / "toy.py"
ROOT = TOY.parent.parent.parent


class ForkServer:
    """Runs of `main(words)` of a script, forked from a process that has imported it; see `fork_server.py`."""

    def __init__(self):
        self._process = subprocess.Popen(
            [sys.executable, str(TOY.with_name("fork_server.py"))],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def _ask(self, **order):
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def start(self, log, *words, script=TOY, **environment):
        """Returns the process id of a new run, whose output is added to the file `log`."""
        words = [str(word) for word in words]
        return self._ask(script=str(script), words=words, environment=environment, log=str(log))

    def wait(self, process):
        """Returns the exit code, negative after a signal."""
        return self._ask(wait=process)

    def close(self):
        """Ends the server."""
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


@pytest.fixture(scope="session")
def forks():
    """The server of forked runs."""
    server = ForkServer()
    yield server
    server.close()


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
