"""Takes time fairly: every side in turn, round after round, medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def interleave(sides: dict[str, Callable[[], object]], *, rounds: int = 9, warm_up: int = 2) -> dict[str, float]:
    """Returns the median seconds of each side over `rounds` rounds in which the sides take turns."""
    for _ in range(warm_up):
        for call in sides.values():
            call()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, call in sides.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def rows(seconds: dict[str, float], *, against: str) -> list[dict]:
    """Lays medians out as table rows with the ratio to one side."""
    return [
        {"side": name, "median_ms": value * 1e3, f"{against} / side": seconds[against] / value}
        for name, value in seconds.items()
    ]
