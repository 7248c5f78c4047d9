"""How soon the command line answers."""

from __future__ import annotations

import subprocess
import sys

from benchmarks import timing


def startup() -> list[dict]:
    """`tfllv --help` against an interpreter that does nothing."""
    run = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "tfllv --help": [sys.executable, "-m", "tfllv", "--help"],
        "tfllv list": [sys.executable, "-m", "tfllv", "list"],
    }
    sides = {
        name: (lambda c=command: subprocess.run(c, check=True, capture_output=True)) for name, command in run.items()
    }
    return timing.rows(timing.interleave(sides), against="python -c pass")
