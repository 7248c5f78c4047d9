"""Converts ExDark, in its own layout, to TFRecords for the TF Object Detection API.

    python tools/create_exdark_tf_record.py --data_dir exdark --output_dir records

Writes exdark_train.record, exdark_val.record and exdark_test.record (sharded, each with a manifest), annotations.csv
and label_map.pbtxt. The default split is the official one: 3,000 train, 1,800 val, 2,563 test.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from tfllv.records import exdark, tool
from tfllv.records.convert import SetPlan
from tfllv.records.detection import DetectionBuilder
from tfllv.records.problems import Report


def build_parser() -> argparse.ArgumentParser:
    """Returns the tool's parser."""
    parser = argparse.ArgumentParser(prog="create_exdark_tf_record.py", description=__doc__.split("\n")[0])
    parser.add_argument("--data_dir", required=True, metavar="DIR", help="holds ExDark/ and ExDark_Annno/")
    parser.add_argument("--class_list", metavar="FILE", help="imageclasslist.txt (default: in --data_dir)")
    parser.add_argument("--split", choices=("official", "random"), default="official", help="default: official")
    parser.add_argument("--train_fraction", type=float, default=0.75, metavar="F", help="of --split random")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of --split random")
    parser.add_argument("--allow_missing", action="store_true", help="convert what is there of the official images")
    tool.add_box_arguments(parser)
    tool.add_run_arguments(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Converts; returns the exit code."""
    report = Report()
    parts = exdark.read_exdark(
        args.data_dir,
        report,
        class_list=args.class_list,
        split=args.split,
        train_fraction=args.train_fraction,
        seed=args.seed,
        allow_missing=args.allow_missing,
    )
    source = {"kind": "exdark", "data_dir": args.data_dir, "split": args.split}
    if args.split == "random":
        source |= {"train_fraction": args.train_fraction, "seed": args.seed}
    plans = [SetPlan(f"exdark_{split}.record", items) for split, items in parts.items()]
    build = DetectionBuilder(out_of_bounds=args.out_of_bounds, rows=True)
    return tool.write(args, plans, build, report, source, labels=exdark.CLASSES, table="annotations.csv")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tool."""
    return tool.main(build_parser(), run, argv)


if __name__ == "__main__":
    sys.exit(main())
