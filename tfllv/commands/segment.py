"""`tfllv segment PATH... -o OUT`: writes every pixel's class, as overlays, as class PNGs, and a legend."""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("paths", nargs="+", metavar="PATH", help="images, folders or globs")
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="a folder")
    parser.add_argument("--model", required=True, metavar="RUN", help="the folder of a `tfllv train` run with classes")
    parser.add_argument("--classes", metavar="FILE", help="text file with the classes' names, one a line")
    parser.add_argument(
        "--size", type=int, default=0, metavar="N", help="squeeze pictures to N x N (default: as trained)"
    )
    parser.add_argument(
        "--strength", type=float, default=0.5, metavar="X", help="of the overlay's colours (default: 0.5)"
    )
    parser.add_argument("-r", "--recursive", action="store_true", help="look into sub-folders too")
    parser.add_argument("--overwrite", action="store_true", help="replace outputs that exist")


def run(args: argparse.Namespace) -> int:
    """Segments; returns 0 if all inputs were done, 1 if any was not."""
    import tqdm

    from tfllv.commands.enhance import silence_decoders
    from tfllv.runner import plan

    if not 0 <= args.strength <= 1:
        raise ValueError(f"`--strength` must be in [0, 1]. Received: {args.strength}.")
    if args.size and args.size < 32:
        raise ValueError(f"`--size` must be at least 32. Received: {args.size}.")
    if pathlib.Path(args.output).suffix and not pathlib.Path(args.output).is_dir():
        raise ValueError(f"`--output` must be a folder. Received: '{args.output}'.")
    tasks = plan.plan_tasks(args.paths, args.output, recursive=args.recursive, overwrite=True)
    silence_decoders()
    from tfllv.runner import segmenter

    model = segmenter.Segmenter(args.model, size=args.size)
    names = segmenter.read_names(args.classes, model.classes)
    counts = [0] * model.classes
    failed = 0
    for task in tqdm.tqdm(tasks, unit="image", disable=None):
        try:
            if task.problem:
                raise ValueError(task.problem)
            found = _segment(model, task, args)
        except (ValueError, OSError) as error:
            print(f"{task.source}: {' '.join(str(error).split())}", file=sys.stderr)
            failed += 1
            continue
        counts = [total + new for total, new in zip(counts, found, strict=True)]
    if failed < len(tasks):
        _write_legend(pathlib.Path(args.output), names, counts)
    print(f"{len(tasks) - failed} images in '{args.output}'; {failed} failed")
    return 1 if failed else 0


def _segment(model: Any, task: Any, args: argparse.Namespace) -> list[int]:
    """Segments one file; returns the number of pixels of each class."""
    import numpy as np

    from tfllv import contracts
    from tfllv.inputs import image_files
    from tfllv.runner import segmenter

    if task.video:
        raise ValueError("a video: expected an image.")
    # Sub-folders stay; both outputs of a picture are named after the whole name, so that a.jpg and a.png do not meet.
    overlay = task.target.with_name(f"{task.target.name}_overlay.png")
    classes = task.target.with_name(f"{task.target.name}_classes.png")
    if not args.overwrite and (overlay.exists() or classes.exists()):
        raise FileExistsError(f"'{overlay}' exists; --overwrite replaces it.")
    picture = contracts.to_uint8(contracts.to_float(image_files.read_image(task.source).pixels))
    labels = model(picture)
    overlay.parent.mkdir(parents=True, exist_ok=True)
    image_files.write_bytes(classes, segmenter.encode_labels(labels))
    image_files.write_image(overlay, segmenter.draw_overlay(picture, labels, strength=args.strength))
    return np.bincount(labels.ravel(), minlength=model.classes).tolist()


def _write_legend(folder: pathlib.Path, names: list[str], counts: list[int]) -> None:
    import numpy as np

    from tfllv import contracts
    from tfllv.inputs import image_files
    from tfllv.ops import palette
    from tfllv.runner import segmenter

    shares = np.asarray(counts, np.float64) / max(1, sum(counts))
    image_files.write_image(folder / "legend.png", segmenter.draw_legend(names, shares))
    colours = contracts.to_uint8(palette.class_colors())
    rows = [
        {"class": index, "name": name, "rgb": colours[index].tolist(), "share": float(shares[index])}
        for index, name in enumerate(names)
    ]
    image_files.write_bytes(folder / "legend.json", json.dumps(rows, indent=1, ensure_ascii=False).encode())
