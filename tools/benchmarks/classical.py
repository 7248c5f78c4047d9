"""The classical methods' speed."""

from __future__ import annotations

import numpy as np

from benchmarks import timing
from tfllv import enhancers


def retinex() -> list[dict]:
    """Every classical method at 600x400; multi-scale Retinex may cost five times single-scale."""
    image = (np.random.default_rng(0).random((400, 600, 3), dtype=np.float32) * 0.3).astype(np.float32)
    names = [name for name, method in enhancers.METHODS.items() if method.kind == "classical"]
    made = {name: enhancers.get(name) for name in names}
    sides = {name: (lambda e=enhancer: e(image)) for name, enhancer in made.items()}
    return timing.rows(timing.interleave(sides, rounds=7), against="ssr")
