"""Converts a csv of boxes to TFRecords for the TF Object Detection API.

    python tools/create_csv_tf_record.py --csv_input boxes.csv --image_dir images --output_dir records

The csv has the columns filename,width,height,class,xmin,ymin,xmax,ymax, a line an object, boxes in pixels.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from tfllv.records import csv, tool
from tfllv.records.convert import SetPlan
from tfllv.records.detection import DetectionBuilder
from tfllv.records.problems import Report


def build_parser() -> argparse.ArgumentParser:
    """Returns the tool's parser."""
    parser = argparse.ArgumentParser(prog="create_csv_tf_record.py", description=__doc__.split("\n")[0])
    parser.add_argument("--csv_input", required=True, metavar="FILE", help="the csv")
    parser.add_argument("--image_dir", required=True, metavar="DIR", help="the folder of the pictures")
    parser.add_argument("--label_map_path", metavar="FILE", help="default: the csv's classes, sorted, from 1")
    parser.add_argument("--output_name", metavar="NAME", help="of the set (default: the csv's name + .record)")
    tool.add_box_arguments(parser)
    tool.add_run_arguments(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Converts; returns the exit code."""
    report = Report()
    items, labels = csv.read_csv(args.csv_input, args.image_dir, tool.read_labels(args.label_map_path), report)
    name = args.output_name or f"{pathlib.PurePath(args.csv_input).stem}.record"
    source = {"kind": "csv", "csv_input": args.csv_input, "image_dir": args.image_dir}
    build = DetectionBuilder(out_of_bounds=args.out_of_bounds)
    return tool.write(args, [SetPlan(name, items)], build, report, source, labels=labels)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tool."""
    return tool.main(build_parser(), run, argv)


if __name__ == "__main__":
    sys.exit(main())
