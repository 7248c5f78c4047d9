"""Counts and times for `/metrics`, in the Prometheus text format (version 0.0.4)."""

from __future__ import annotations

import bisect
import threading
from collections.abc import Callable, Mapping

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_SIZES = (1.0, 2.0, 4.0, 8.0, 16.0)


class Metrics:
    """All figures of a server; every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counters: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
        self._histograms: dict[str, dict[tuple[tuple[str, str], ...], tuple[list[int], list[float]]]] = {}
        self._gauges: dict[str, Callable[[], float]] = {}
        self._help: dict[str, str] = {}

    def describe(self, name: str, text: str, gauge: Callable[[], float] | None = None) -> None:
        """Names a figure; a gauge is read when it is asked for."""
        self._help[name] = text
        if gauge:
            self._gauges[name] = gauge

    def count(self, name: str, labels: Mapping[str, str] | None = None, amount: float = 1.0) -> None:
        """Adds to a counter."""
        key = _key(labels)
        with self._lock:
            series = self._counters.setdefault(name, {})
            series[key] = series.get(key, 0.0) + amount

    def observe(self, name: str, value: float, labels: Mapping[str, str] | None = None) -> None:
        """Adds a value to a histogram; of seconds, or of sizes where the name ends in `_size`."""
        edges, key = _edges(name), _key(labels)
        with self._lock:
            series = self._histograms.setdefault(name, {})
            buckets, total = series.setdefault(key, ([0] * (len(edges) + 1), [0.0]))
            buckets[bisect.bisect_left(edges, value)] += 1
            total[0] += value

    def value(self, name: str, labels: Mapping[str, str] | None = None) -> float:
        """What a counter stands at."""
        with self._lock:
            return self._counters.get(name, {}).get(_key(labels), 0.0)

    def render(self) -> str:
        """The page."""
        lines: list[str] = []
        for name, read in self._gauges.items():
            lines += [*self._head(name, "gauge"), f"{name} {read():g}"]
        with self._lock:
            for name, series in self._counters.items():
                lines += self._head(name, "counter")
                lines += [f"{name}{_show(key)} {amount:.17g}" for key, amount in series.items()]
            for name, histogram in self._histograms.items():
                lines += self._head(name, "histogram")
                for key, (buckets, total) in histogram.items():
                    below = 0
                    for edge, number in zip([*_edges(name), float("inf")], buckets, strict=True):
                        below += number
                        bound = "+Inf" if edge == float("inf") else f"{edge:g}"
                        lines.append(f"{name}_bucket{_show((*key, ('le', bound)))} {below}")
                    lines += [f"{name}_sum{_show(key)} {total[0]:.9g}", f"{name}_count{_show(key)} {below}"]
        return "\n".join(lines) + "\n"

    def _head(self, name: str, kind: str) -> list[str]:
        return [f"# HELP {name} {self._help.get(name, name)}", f"# TYPE {name} {kind}"]


def _edges(name: str) -> tuple[float, ...]:
    return _SIZES if name.endswith("_size") else _SECONDS


def _key(labels: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items())) if labels else ()


def _show(key: tuple[tuple[str, str], ...]) -> str:
    if not key:
        return ""
    escaped = ((name, value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")) for name, value in key)
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped) + "}"
