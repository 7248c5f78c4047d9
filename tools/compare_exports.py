"""Runs the same photographs through the command line, a SavedModel and a LiteRT file; exits 1 if they differ.

    tfllv export sgz -o serving/sgz && tfllv export sgz -o serving/sgz --format litert
    python tools/compare_exports.py photo.jpg --saved_model serving/sgz/1 --litert serving/sgz/sgz-float32.tflite

The command line's 8-bit picture is what the others are compared with, in levels of 255; one level is the limit, because
a value that lies on the edge between two levels may be rounded either way.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
import tempfile

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from tfllv import cli, contracts
from tfllv.export import signatures, verify
from tfllv.inputs import image_files

LIMIT = 1


def compare(
    photo: pathlib.Path, *, saved_model: pathlib.Path, litert: pathlib.Path, method: str = "sgz"
) -> dict[str, int]:
    """Returns the largest difference from the command line's result, in levels of 255, by name.

    Args:
      photo: an image file that the signature takes.
      saved_model: a version's folder.
      litert: a float32 file of the same network and weights.
      method: of the command line; the same network.

    Raises:
      RuntimeError: if the command line fails.
    """
    with tempfile.TemporaryDirectory() as work:
        bright = pathlib.Path(work) / "bright.png"
        if cli.main(["enhance", str(photo), "-o", str(bright), "--method", method]):
            raise RuntimeError(f"tfllv enhance {photo} failed")
        expected = contracts.to_uint8(contracts.to_float(image_files.read_image(bright).pixels)).astype(int)
    image = contracts.to_float(image_files.read_image(photo).pixels)[None]
    served = {"kind": "saved_model", "path": saved_model}
    calls = [
        {**served, "signature": signatures.BYTES, "inputs": [[photo.read_bytes()]]},
        {**served, "signature": signatures.FLOATS, "inputs": [image]},
        {"kind": "litert", "path": litert, "signature": signatures.FLOATS, "inputs": [image]},
    ]
    (strings,), (floats,), (light,) = verify.run_fresh(calls)
    first = strings[f"{signatures.IMAGE_BYTES}-0"][..., :3]
    found = {
        "SavedModel, bytes": contracts.to_uint8(contracts.to_float(first)),
        "SavedModel, floats": contracts.to_uint8(floats[contracts.IMAGE][0]),
        "LiteRT": contracts.to_uint8(light[contracts.IMAGE][0]),
    }
    return {name: int(np.abs(pixels.astype(int) - expected).max()) for name, pixels in found.items()}


def main() -> int:
    """Prints a line a photograph."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", nargs="+", type=pathlib.Path, metavar="PHOTO")
    parser.add_argument("--saved_model", type=pathlib.Path, required=True, help="a version's folder")
    parser.add_argument("--litert", type=pathlib.Path, required=True, help="a float32 .tflite file")
    parser.add_argument("--method", default="sgz", help="of `tfllv enhance` (default: sgz)")
    args = parser.parse_args()
    worst = 0
    for photo in args.photos:
        found = compare(photo, saved_model=args.saved_model, litert=args.litert, method=args.method)
        worst = max(worst, *found.values())
        print(f"{photo}: " + ", ".join(f"{name} {levels}" for name, levels in found.items()), flush=True)
    print(f"largest difference from the command line: {worst} of 255 levels; the limit is {LIMIT}")
    return int(worst > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
