#!/usr/bin/env python3
"""Makes a set of dark pictures with one class each out of pictures with maps of classes, for `tfllv evaluate probe`.

    python tools/create_patch_classes.py --images camvid/val --masks camvid/valannot --num_classes 11 \
        --output patches --recipe statistical

A patch is taken where one class fills most of it; at most `--per_class` of each class, spread over the pictures, and
only of classes with enough of them. A picture is darkened whole before it is cut. Writes PNG files and `labels.csv`
(image, label, group: the picture, so that parts of one picture are never in two folds).
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))


def main(argv: list[str] | None = None) -> int:
    """Makes the set; returns 0, or 2 for wrong input."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", required=True, help="folder of pictures")
    parser.add_argument("--masks", required=True, help="folder of class PNGs")
    parser.add_argument("--num_classes", type=int, required=True, help="ids are 0 to num_classes - 1; others are void")
    parser.add_argument("--output", required=True, help="a folder that is not there yet")
    parser.add_argument(
        "--recipe", default="statistical", help="of `tfllv darken`; none leaves the pictures as they are"
    )
    parser.add_argument("--size", type=int, default=64, help="side of a patch in pixels")
    parser.add_argument("--share", type=float, default=0.6, help="of a patch that its class must fill")
    parser.add_argument("--per_class", type=int, default=120, help="most patches a class")
    parser.add_argument("--least", type=int, default=40, help="classes with fewer patches are left out")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        counts = create(args)
    except (ValueError, OSError) as error:
        print(f"create_patch_classes.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(f"{sum(counts.values())} patches in '{args.output}': " + ", ".join(f"{k} {v}" for k, v in counts.items()))
    return 0


def create(args: argparse.Namespace) -> dict[str, int]:
    """Writes the set; returns the number of patches of each class."""
    from tfllv import contracts
    from tfllv.inputs import files, image_files, labels
    from tfllv.ops import darken

    output = pathlib.Path(args.output)
    if output.exists():
        raise FileExistsError(f"`output` must not be there yet. Received: '{output}'.")
    images, masks = labels.find_maps(args.images, args.masks)
    # Every id that is no class is void here: no patch is of it.
    ids = labels.class_ids(args.num_classes, range(args.num_classes, 256))
    places = find_patches([labels.read_map(path, ids) for path in masks], args)
    rows = []
    for number, path in enumerate(images):
        if not places[number]:
            continue
        picture = files.read_pixels(path)
        if args.recipe != "none":
            picture = contracts.to_uint8(np.asarray(darken.darken(picture, args.recipe, seed=(args.seed, number))))
        for label, top, left in places[number]:
            name = f"{label:02d}/{path.stem}_{top}_{left}.png"
            (output / name).parent.mkdir(parents=True, exist_ok=True)
            image_files.write_image(output / name, picture[top : top + args.size, left : left + args.size])
            rows.append((name, f"{label:02d}", path.stem))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("image", "label", "group"), *sorted(rows)])
    image_files.write_bytes(output / "labels.csv", text.getvalue().encode())
    names = [row[1] for row in rows]
    return {name: names.count(name) for name in sorted(set(names))}


def find_patches(masks: list[np.ndarray], args: argparse.Namespace) -> list[list[tuple[int, int, int]]]:
    """Returns (class, top, left) of the chosen patches of each picture; patches do not overlap."""
    found: dict[int, list[tuple[int, int, int]]] = {}
    for number, mask in enumerate(masks):
        for top in range(0, mask.shape[0] - args.size + 1, args.size):
            for left in range(0, mask.shape[1] - args.size + 1, args.size):
                patch = mask[top : top + args.size, left : left + args.size].ravel()
                label, count = max(enumerate(np.bincount(patch, minlength=256)[: args.num_classes]), key=lambda x: x[1])
                if count >= args.share * patch.size:
                    found.setdefault(label, []).append((number, top, left))
    rng = np.random.default_rng(args.seed)
    places: list[list[tuple[int, int, int]]] = [[] for _ in masks]
    for label, spots in sorted(found.items()):
        if len(spots) < args.least:
            continue
        for index in rng.permutation(len(spots))[: args.per_class]:
            number, top, left = spots[index]
            places[number].append((label, top, left))
    return places


if __name__ == "__main__":
    sys.exit(main())
