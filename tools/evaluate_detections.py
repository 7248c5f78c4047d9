"""Scores detections and explains them: COCO's numbers, tables by class and light, a page with the worst misses first.

    python tools/evaluate_detections.py --detections found/detections.json --exdark_dir exdark --output_dir report

Reads a detections file of tools/run_inference.py, or runs an exported model. Needs neither TensorFlow nor the TF Object
Detection API for a file. Exit code: 0 done, 1 the ground truth had problems (they are named), 2 wrong use.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from tfllv.commands import evaluate_detections
from tfllv.records import tool


def build_parser() -> argparse.ArgumentParser:
    """Returns the tool's parser."""
    parser = argparse.ArgumentParser(prog="evaluate_detections.py", description=__doc__.split("\n")[0])
    evaluate_detections.add_arguments(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tool."""
    return tool.main(build_parser(), evaluate_detections.run, argv)


if __name__ == "__main__":
    sys.exit(main())
