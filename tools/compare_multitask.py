"""Trains one network on two tasks and one on each alone, by the same budget, over several seeds, and compares them.

    python tools/compare_multitask.py --data camvid/train -o runs/compare_multitask

Every run is `tfllv train CONFIG` with another seed and `tasks`; all see the same pictures, and in validation the same
dark ones. A run that is finished is not made again, one that was stopped goes on. The table is written to
table.md, the figures to results.json.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
from typing import Any

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

TASKS = ("both", "enhancement", "segmentation")
# Figure -> (the task alone that has it too, heading, factor).
FIGURES = {
    "psnr": ("enhancement", "PSNR, dB", 1.0),
    "miou": ("segmentation", "mIoU, %", 100.0),
    "pixel_accuracy": ("segmentation", "pixel accuracy, %", 100.0),
}


def build_parser() -> argparse.ArgumentParser:
    """Returns the tool's parser."""
    parser = argparse.ArgumentParser(prog="compare_multitask.py", description=__doc__.split("\n")[0])
    parser.add_argument("--config", default=str(ROOT / "configs" / "multitask_camvid.yaml"), metavar="CONFIG")
    parser.add_argument("--data", required=True, metavar="DIR", help="as of tfllv train")
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True, metavar="DIR")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N", help="default: 0 1 2")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="as of tfllv train, for every run")
    return parser


def train(args: argparse.Namespace, seed: int, tasks: str) -> dict[str, float]:
    """Makes one run, unless it is finished, and returns its last validation."""
    folder = args.output / f"{tasks}-{seed}"
    if not (folder / "final.weights.h5").is_file():
        settings = [*args.set, f"seed={seed}", f"tasks={tasks}"]
        command = [sys.executable, "-m", "tfllv", "train", args.config, "--data", args.data, "--workdir", str(folder)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        done = subprocess.run([*command, "--tracker", "none", "--set", *settings], env=environment)
        if done.returncode:
            raise ValueError(f"the run in {folder} ended with {done.returncode}; the same command goes on from there.")
    # Four times the size of the weights, and not needed any more.
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [row["validation"] for row in rows if "validation" in row][-1]


def baseline(args: argparse.Namespace) -> dict[str, Any]:
    """Returns mIoU and pixel accuracy of saying the most frequent class of the training maps everywhere."""
    from tfllv import config as configs
    from tfllv.train import multitask

    config: Any = configs.load(args.config, [*args.set, f"images={args.data}"])
    source = multitask.validation(config)
    if source is None:
        raise ValueError("`val_images` must be given in the configuration.")
    frequent = int(multitask.source(config).count_classes().sum(0).argmax())
    counts = source.count_classes().sum(0)
    share = float(counts[frequent] / counts.sum())
    return {"class": frequent, "miou": share / int((counts > 0).sum()), "pixel_accuracy": share}


def table(runs: dict[str, dict[int, dict[str, float]]], constant: dict[str, Any]) -> str:
    """Lays the figures out in Markdown: a row a seed, both tasks together beside the task alone."""
    lines = ["| figure | seed | both tasks | this task alone | difference |", "|---|---|---|---|---|"]
    for name, (alone, heading, factor) in FIGURES.items():
        pairs = {
            seed: (factor * values[name], factor * runs[alone][seed][name]) for seed, values in runs["both"].items()
        }
        for seed, (both, single) in pairs.items():
            lines.append(f"| {heading} | {seed} | {both:.2f} | {single:.2f} | {both - single:+.2f} |")
        both, single = np.mean(list(pairs.values()), axis=0)
        lines.append(f"| {heading} | mean | {both:.2f} | {single:.2f} | {both - single:+.2f} |")
    dark = np.mean([values["dark_psnr"] for values in runs["both"].values()])
    gain = np.mean([values["psnr"] - values["dark_psnr"] for values in runs["both"].values()])
    times = np.mean([values["miou"] for values in runs["both"].values()]) / constant["miou"]
    lines += [
        "",
        f"Dark input: {dark:.2f} dB; both tasks are {gain:.2f} dB above it. The most frequent class everywhere: mIoU "
        f"{100 * constant['miou']:.2f} %, pixel accuracy {100 * constant['pixel_accuracy']:.2f} %; both tasks' mIoU is "
        f"{times:.1f} times that.",
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Runs the tool."""
    args = build_parser().parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    runs: dict[str, dict[int, dict[str, float]]] = {tasks: {} for tasks in TASKS}
    try:
        for seed in args.seeds:
            for tasks in TASKS:
                runs[tasks][seed] = train(args, seed, tasks)
        constant = baseline(args)
    except (ValueError, OSError) as error:
        print(f"compare_multitask.py: {error}", file=sys.stderr)
        return 2
    text = table(runs, constant)
    (args.output / "results.json").write_text(json.dumps({"runs": runs, "most_frequent": constant}, indent=2) + "\n")
    (args.output / "table.md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
