"""Exports a trained detector to a SavedModel, with the flags of the TF Object Detection API's exporter.

    python tools/exporter_main_v2.py --pipeline_config_path pipelines/NAME.config --trained_checkpoint_dir runs/NAME \
        --output_directory exported

Writes saved_model/, checkpoint/, pipeline.config and the label map. Before anything appears in --output_directory, the
SavedModel is loaded in a fresh process and compared with the live model on real pictures: where boxes, classes, scores
or masks differ, nothing is written. Exit code: 0 done, 2 wrong use, or a model that differs.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from tfllv.detection import detector, export, pipeline
from tfllv.records import tool


def build_parser() -> argparse.ArgumentParser:
    """Returns the tool's parser."""
    parser = argparse.ArgumentParser(prog="exporter_main_v2.py", description=__doc__.split("\n")[0])
    parser.add_argument("--pipeline_config_path", required=True, metavar="FILE", help="what the model was trained with")
    parser.add_argument("--trained_checkpoint_dir", required=True, metavar="DIR", help="the --model_dir of training")
    parser.add_argument("--output_directory", required=True, metavar="DIR", help="a new or empty folder")
    parser.add_argument(
        "--input_type", default="image_tensor", metavar="NAME", help=f"one of {', '.join(detector.INPUT_TYPES)}"
    )
    parser.add_argument("--config_override", default="", metavar="TEXT", help="text of a configuration, merged on top")
    parser.add_argument("--override", nargs="+", action="extend", default=[], metavar="FIELD=VALUE", help="by dots")
    parser.add_argument("--use_side_inputs", nargs="?", const=True, default=False, type=tool.read_switch)
    parser.add_argument("--side_input_shapes", default="", metavar="1,2000,2057/1", help="-1 is any size")
    parser.add_argument("--side_input_types", default="", metavar="tf.float32,tf.int32")
    parser.add_argument("--side_input_names", default="", metavar="NAME,NAME")
    parser.add_argument("--label_map_path", metavar="FILE", help="default: that of the configuration's input readers")
    parser.add_argument("--verify_images", metavar="DIR", help="to compare on, 16 at most (default: samples)")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier export")
    return parser


def run(args: argparse.Namespace) -> int:
    """Exports; returns the exit code."""
    config = pipeline.load(args.pipeline_config_path, args.override)
    config.MergeFrom(pipeline.parse(args.config_override, source="--config_override"))
    checkpoint = export.find_checkpoint(args.trained_checkpoint_dir)
    output = export.check_output(args.output_directory, overwrite=args.overwrite)
    side_inputs = None
    if args.use_side_inputs:
        side_inputs = export.SideInputs(args.side_input_shapes, args.side_input_types, args.side_input_names)
    label_map = find_label_map(args.label_map_path, args.pipeline_config_path, config)
    pictures = export.read_pictures(args.verify_images)
    print(f"exporting {checkpoint}", flush=True)
    report = export.export(
        config,
        checkpoint,
        output,
        pictures,
        input_type=args.input_type,
        side_inputs=side_inputs,
        label_map=label_map,
    )
    print(report.line())
    print(f"written: {output}")
    if label_map is None:
        print("no label map was found to put beside it; tools/run_inference.py will need --label_map_path.")
    return 0


def find_label_map(path: str | None, pipeline_path: str, config: Any) -> pathlib.Path | None:
    """Returns the label map: the one given, or that of an input reader, from here or from the configuration's folder.

    Raises:
      ValueError: if it is no label map.
      OSError: if the one given cannot be read.
    """
    if path is not None:
        pipeline.label_map(path)
        return pathlib.Path(path)
    for reader in (*config.eval_input_reader, config.train_input_reader):
        for folder in ("", os.path.dirname(pipeline_path)):
            found = pathlib.Path(folder, reader.label_map_path)
            if reader.label_map_path and found.is_file():
                pipeline.label_map(found)
                return found
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tool."""
    return tool.main(build_parser(), run, argv)


if __name__ == "__main__":
    sys.exit(main())
