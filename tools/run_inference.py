"""Finds objects in a folder of pictures with an exported detector, and draws them.

    python tools/run_inference.py --images_folder_dir photos --model_dir exported --save_detection --save_path found

Reads JPEG, PNG, WebP, BMP and TIFF of any size, in sub-folders too. Writes detections.json, which
tools/evaluate_detections.py reads, and with --save_detection the drawn pictures, under the names of the originals.
Needs TensorFlow, but not the TF Object Detection API. Exit code: 0 done, 1 some pictures were skipped, 2 wrong use.
"""

from __future__ import annotations

import argparse
import logging
import pathlib
import sys
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from tfllv import contracts, enhancers
from tfllv.detection import detector, inference, pipeline
from tfllv.records import tool

LABEL_MAP = "label_map.pbtxt"


def build_parser() -> argparse.ArgumentParser:
    """Returns the tool's parser."""
    parser = argparse.ArgumentParser(prog="run_inference.py", description=__doc__.split("\n")[0])
    parser.add_argument("--images_folder_dir", required=True, metavar="DIR", help="pictures, in sub-folders too")
    parser.add_argument("--model_dir", required=True, metavar="DIR", help="what tools/exporter_main_v2.py wrote")
    parser.add_argument("--label_map_path", metavar="FILE", help=f"default: the {LABEL_MAP} in --model_dir")
    parser.add_argument("--save_path", required=True, metavar="DIR", help="folder for all that is written")
    parser.add_argument(
        "--save_detection", nargs="?", const=True, default=False, type=tool.read_switch, help="write drawn pictures too"
    )
    parser.add_argument("--min_score", type=float, default=0.3, metavar="X", help="of what is drawn (default: 0.3)")
    parser.add_argument("--max_boxes", type=int, default=200, metavar="N", help="drawn in a picture (default: 200)")
    parser.add_argument("--enhance", metavar="NAME", help="brighten first, by a method of `tfllv list`; drawn on that")
    parser.add_argument("--overwrite", action="store_true", help="replace what an earlier run wrote to --save_path")
    return parser


def run(args: argparse.Namespace) -> int:
    """Runs inference; returns the exit code."""
    drawing = inference.Drawing(args.min_score, args.max_boxes)
    inference.check_target(args.save_path, overwrite=args.overwrite)
    pictures = inference.find_pictures(args.images_folder_dir, args.save_path)
    saved_model = detector.find_saved_model(args.model_dir)
    names = pipeline.label_map(_find_label_map(args.label_map_path, saved_model))
    if args.enhance is not None and args.enhance not in enhancers.METHODS:
        hint = contracts.nearest_name(args.enhance, enhancers.METHODS)
        raise ValueError(f"--enhance must be a method of `tfllv list`. Received: '{args.enhance}'; {hint}")
    # Everything a user can get wrong is found by now: TensorFlow, which takes seconds, is imported for work alone.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    enhance = enhancers.get(args.enhance).tiled if args.enhance else None
    summary = inference.run(
        detector.Detector(saved_model),
        pictures,
        args.images_folder_dir,
        args.save_path,
        names,
        drawing=drawing,
        save_drawn=args.save_detection,
        enhance=enhance,
    )
    print(summary.line())
    print(f"written: {pathlib.Path(args.save_path) / inference.DETECTIONS}")
    return summary.exit_code


def _find_label_map(path: str | None, saved_model: pathlib.Path) -> pathlib.Path:
    if path is not None:
        return pathlib.Path(path)
    for folder in (saved_model, saved_model.parent):
        if (folder / LABEL_MAP).is_file():
            return folder / LABEL_MAP
    raise FileNotFoundError(f"{saved_model.parent}: no {LABEL_MAP} is beside the model; give --label_map_path.")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tool."""
    return tool.main(build_parser(), run, argv)


if __name__ == "__main__":
    sys.exit(main())
