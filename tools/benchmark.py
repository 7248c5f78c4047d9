"""Measures the figures of the README: `make bench`, or `python tools/benchmark.py [NAME ...]`.

Each benchmark is a function in tools/benchmarks/ that returns rows. Times are medians of at least five rounds in which
all sides take turns in one process, so that a noisy machine slows them alike; ratios are what holds elsewhere.
Results go to runs/bench/NAME.json and to the screen.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pathlib
import platform
import sys
import time

ROOT = pathlib.Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT)]
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Benchmark -> (module in tools/benchmarks, function).
BENCHMARKS = {
    "startup": ("command_line", "startup"),
    "inner_call": ("enhance", "inner_call"),
    "sgz": ("enhance", "sgz"),
    "levels": ("enhance", "levels"),
    "png": ("enhance", "png"),
    "folder": ("enhance", "folder"),
    "large_photo": ("enhance", "large_photo"),
    "inputs": ("inputs", "inputs"),
    "retinex": ("classical", "retinex"),
    "records": ("records", "conversion"),
    "darken": ("darken", "darken"),
    "detections": ("detections", "evaluation"),
    "detection_training": ("detection_training", "detection_training"),
    "engine": ("engine", "engine"),
    "diffusion": ("diffusion", "diffusion"),
    "mirnet": ("mirnet", "mirnet"),
    "multitask": ("multitask", "multitask"),
}


def table(rows: list[dict]) -> str:
    """Lays rows out in columns, numbers to three significant digits."""

    def text(value: object) -> str:
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, *[[text(row.get(name, "")) for name in names] for row in rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def main() -> int:
    """Runs the named benchmarks, or all."""
    parser = argparse.ArgumentParser(description="Measure the figures of the README.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; default: all")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "runs" / "bench")
    args = parser.parse_args()
    unknown = [name for name in args.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"unknown benchmark {unknown[0]}; known: {', '.join(BENCHMARKS)}")
    args.output.mkdir(parents=True, exist_ok=True)
    for name in args.names or BENCHMARKS:
        module, function = BENCHMARKS[name]
        start = time.perf_counter()
        rows = getattr(importlib.import_module(f"benchmarks.{module}"), function)()
        record = {
            "benchmark": name,
            "command": f"python tools/benchmark.py {name}",
            "machine": {"cores": os.cpu_count(), "processor": platform.processor() or platform.machine()},
            "seconds": time.perf_counter() - start,
            "rows": rows,
        }
        (args.output / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")
        print(f"\n{name} ({record['seconds']:.0f} s)\n{table(rows)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
