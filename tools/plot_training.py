"""Draws the loss curves of a training run: `python tools/plot_training.py WORKDIR -o curves.png`."""

from __future__ import annotations

import argparse
import json
import pathlib

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

NOT_TERMS = ("step", "epoch", "total", "lr", "gradient_norm", "images_per_second")


def read_log(workdir: pathlib.Path) -> list[dict]:
    """Reads the training rows of a run's log.jsonl."""
    lines = (workdir / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if "total" in row]


def main() -> None:
    """Draws the total and each term against the step."""
    parser = argparse.ArgumentParser(description=__doc__.split(":", maxsplit=1)[0] + ".")
    parser.add_argument("workdir", type=pathlib.Path)
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True)
    args = parser.parse_args()
    rows = read_log(args.workdir)
    steps = [row["step"] for row in rows]
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    axes.plot(steps, [row["total"] for row in rows], "k", linewidth=2, label="total")
    for name in rows[0]:
        if name not in NOT_TERMS and "/" not in name and isinstance(rows[0][name], float):
            axes.plot(steps, [row[name] for row in rows], label=name)
    scale = "log" if min(row["total"] for row in rows) > 0 else "linear"  # the logarithm of an error may be negative
    axes.set(xlabel="step", ylabel="weighted loss", yscale=scale, title=f"training of {args.workdir.name}")
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.savefig(args.output, dpi=100)


if __name__ == "__main__":
    main()
