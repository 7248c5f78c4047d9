"""`tfllv evaluate KIND ...`: scores results. A table of kinds; each is a module with `add_arguments` and `run`."""

from __future__ import annotations

import argparse
import importlib

KINDS: dict[str, tuple[str, str]] = {
    "restoration": ("score pictures against their truths, by every protocol", "tfllv.commands.evaluate_restoration"),
    "detections": ("score what a detector found, by class and light", "tfllv.commands.evaluate_detections"),
    "leakage": ("find pictures of one scene in two sets, such as training and test", "tfllv.commands.evaluate_leakage"),
    "probe": ("classify pictures by encoders' features, one protocol for all of them", "tfllv.commands.evaluate_probe"),
    "segmentation": (
        "score a network's maps of classes: mIoU, IoU of each class",
        "tfllv.commands.evaluate_segmentation",
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the kinds and their arguments."""
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    for name, (summary, module) in KINDS.items():
        child = kinds.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        importlib.import_module(module).add_arguments(child)


def run(args: argparse.Namespace) -> int:
    """Runs one kind and returns its exit code."""
    return importlib.import_module(KINDS[args.kind][1]).run(args)
