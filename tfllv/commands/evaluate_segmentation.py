"""`tfllv evaluate segmentation IMAGES MASKS --model RUN`: mIoU, per-class IoU, pixel accuracy, and a page."""

from __future__ import annotations

import argparse
import json
import pathlib
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("images", metavar="IMAGES", help="folder of pictures")
    parser.add_argument("masks", metavar="MASKS", help="folder of their maps of classes, PNG, by the same names")
    parser.add_argument("--model", required=True, metavar="RUN", help="the folder of a `tfllv train` run with classes")
    parser.add_argument("--void", type=int, nargs="*", default=[], metavar="ID", help="ids of no class beside 255")
    parser.add_argument("--classes", metavar="FILE", help="text file with the classes' names, one a line")
    parser.add_argument("--darken", metavar="RECIPE", help="darken the pictures first by a recipe of `tfllv darken`")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the darkening (default: 0)")
    parser.add_argument(
        "--size", type=int, default=0, metavar="N", help="squeeze pictures to N x N (default: as trained)"
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="FILE.json, and FILE.html beside it; replaced if there")


def run(args: argparse.Namespace) -> int:
    """Prints the figures; returns 0."""
    from tfllv.commands.evaluate_restoration import check_output
    from tfllv.inputs import labels

    check_output(args.output)
    images, masks = labels.find_maps(args.images, args.masks)
    from tfllv.evaluate import segmentation
    from tfllv.runner import segmenter

    model = segmenter.Segmenter(args.model, size=args.size)
    names = segmenter.read_names(args.classes, model.classes)
    report = segmentation.evaluate(
        list(range(len(images))),
        _reader(images, masks, model.classes, args),
        model,
        names,
        draw=_draw if args.output else None,
    )
    report |= {"model": args.model, "data": args.images, "darken": args.darken, "seed": args.seed}
    if args.output:
        _write(report, pathlib.Path(args.output), [path.name for path in images])
    _print(report)
    return 0


def _reader(images: list[pathlib.Path], masks: list[pathlib.Path], classes: int, args: argparse.Namespace) -> Any:
    """Returns index -> (picture, truth)."""
    import numpy as np

    from tfllv import contracts
    from tfllv.inputs import files, labels
    from tfllv.ops import darken

    ids = labels.class_ids(classes, args.void)

    def read(index: int) -> tuple[Any, Any]:
        picture, truth = files.read_pixels(images[index]), labels.read_map(masks[index], ids)
        if picture.shape[:2] != truth.shape:
            raise ValueError(
                f"{masks[index]}: expected a map of its picture's size, {picture.shape[1]}x{picture.shape[0]}; found "
                f"{truth.shape[1]}x{truth.shape[0]}."
            )
        if args.darken:
            picture = contracts.to_uint8(np.asarray(darken.darken(picture, args.darken, seed=(args.seed, index))))
        return picture, truth.astype(np.int16)

    return read


def _draw(picture: Any, classes: Any) -> bytes:
    """Returns a PNG: the picture alone where all classes are -1, else the classes over it."""
    import numpy as np

    from tfllv.inputs import image_files
    from tfllv.runner import segmenter

    if (classes >= 0).all():
        picture = segmenter.draw_overlay(picture, np.asarray(classes, np.uint8), strength=0.6)
    return image_files.encode_image(".png", picture)


def _write(report: dict[str, Any], path: pathlib.Path, names: list[str]) -> None:
    from tfllv.evaluate import segmentation
    from tfllv.inputs import image_files

    page = segmentation.render(report, title=f"Segmentation of {report['data']}", labels=names)
    figures = {key: value for key, value in report.items() if key != "shown"}
    image_files.write_bytes(path, json.dumps(figures, indent=1).encode())
    image_files.write_bytes(path.with_suffix(".html"), page.encode())


def _print(report: dict[str, Any]) -> None:
    for row in report["classes"]:
        share = "-" if row["iou"] is None else f"{100 * row['iou']:.2f}"
        print(f"{row['name']:<20}{share:>8}")
    base = report["most_frequent"]
    print(
        f"{report['images']} pictures: mIoU {100 * report['miou']:.2f} %, pixel accuracy "
        f"{100 * report['pixel_accuracy']:.2f} % (the most frequent class everywhere: {100 * base['miou']:.2f} %, "
        f"{100 * base['pixel_accuracy']:.2f} %)"
    )
