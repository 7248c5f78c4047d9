"""Converts pairs of dark and bright pictures to TFRecords.

    python tools/create_pairs_tf_record.py --data_dir LOL --output_dir records
    python tools/create_pairs_tf_record.py --low_dir dark --high_dir bright --val_fraction 0.1 --output_dir records
    python tools/create_pairs_tf_record.py --train_csv train.csv --val_csv val.csv --output_dir records

Writes pairs_train.record, pairs_val.record, pairs_test.record (as given): image/encoded is the dark picture,
image/paired/encoded the bright one. Pairs without a split are split by scene, so that none is in both.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import sys
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from tfllv import contracts
from tfllv.records import near_duplicates, pairs, tool
from tfllv.records.convert import SetPlan
from tfllv.records.problems import Report, Where


def build_parser() -> argparse.ArgumentParser:
    """Returns the tool's parser."""
    parser = argparse.ArgumentParser(prog="create_pairs_tf_record.py", description=__doc__.split("\n")[0])
    parser.add_argument("--data_dir", metavar="DIR", help="LOL's layout: our485/{low,high}, eval15/{low,high}")
    parser.add_argument("--low_dir", metavar="DIR", help="dark pictures; their names pair them")
    parser.add_argument("--high_dir", metavar="DIR", help="bright pictures")
    parser.add_argument("--csv_input", metavar="FILE", help="columns low,high and maybe scene; to be split")
    for split in pairs.SPLITS:
        parser.add_argument(f"--{split}_csv", metavar="FILE", help=f"likewise, all of it is {split}")
    parser.add_argument("--image_dir", metavar="DIR", help="what the csv's names are relative to (default: the csv)")
    parser.add_argument("--val_fraction", type=float, default=0.0, metavar="F", help="of scenes without a split")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of that split")
    parser.add_argument("--guard_dir", nargs="+", default=[], metavar="DIR", help="pictures that must not be in train")
    parser.add_argument(
        "--near_duplicates",
        choices=("report", "drop"),
        default="report",
        help="training pairs of a scene of val, test or --guard_dir: report them (default), or leave them out",
    )
    parser.add_argument("--output_name", default="pairs", metavar="NAME", help="first part of the sets' names")
    tool.add_run_arguments(parser)
    return parser


def read(args: argparse.Namespace, report: Report) -> list[pairs.Pair]:
    """Reads the pairs of the one source that was given."""
    tables = {split: getattr(args, f"{split}_csv") for split in pairs.SPLITS if getattr(args, f"{split}_csv")}
    sources = [args.data_dir, args.low_dir or args.high_dir, args.csv_input, bool(tables)]
    if sum(map(bool, sources)) != 1 or bool(args.low_dir) != bool(args.high_dir):
        raise ValueError("give one source: --data_dir, or --low_dir and --high_dir, or --csv_input, or --train_csv ...")
    if args.data_dir:
        return pairs.read_layout(args.data_dir, report)
    if args.low_dir:
        return pairs.read_folders(args.low_dir, args.high_dir, report)
    if args.csv_input:
        return pairs.read_pairs_csv(args.csv_input, args.image_dir, report)
    return [
        pair
        for split, table in tables.items()
        for pair in pairs.read_pairs_csv(table, args.image_dir, report, split=split)
    ]


def guard(args: argparse.Namespace, found: list[pairs.Pair], report: Report) -> list[pairs.Pair]:
    """Looks for training pairs whose scene is held out, in the other splits or in `--guard_dir`."""
    train = [pair for pair in found if pair.split == "train"]
    others = [pair for pair in found if pair.split != "train"]
    held_out = [(pair.high, pair.where) for pair in others]
    for folder in args.guard_dir:
        named = [
            path for path in sorted(pathlib.Path(folder).rglob("*")) if path.suffix.lower() in contracts.IMAGE_SUFFIXES
        ]
        if not named:
            raise ValueError(f"`--guard_dir` must hold pictures. Received: {folder}.")
        held_out += [(str(path), Where(str(path))) for path in named]
    train, _ = near_duplicates.guard(train, held_out, report, drop=args.near_duplicates == "drop")
    return train + others


def run(args: argparse.Namespace) -> int:
    """Converts; returns the exit code."""
    report = Report()
    found = read(args, report)
    scenes = near_duplicates.scenes_of(found)
    found = [dataclasses.replace(pair, scene=scene) for pair, scene in zip(found, scenes, strict=True)]
    found = pairs.split_by_scene(found, val_fraction=args.val_fraction, seed=args.seed)
    found = guard(args, found, report)
    parts = pairs.by_split(found)
    plans = [SetPlan(f"{args.output_name}_{split}.record", each) for split, each in parts.items()]
    given = ("data_dir", "low_dir", "high_dir", "csv_input", "train_csv", "val_csv", "test_csv", "guard_dir", "seed")
    source = {"kind": "pairs"} | {name: getattr(args, name) for name in given if getattr(args, name)}
    return tool.write(args, plans, pairs.PairBuilder(), report, source)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tool."""
    return tool.main(build_parser(), run, argv)


if __name__ == "__main__":
    sys.exit(main())
