"""Makes small sets of records from a handful of annotated photographs, to see whether a detector learns at all.

    python tools/make_learning_set.py --exdark_dir exdark --class_list exdark/imageclasslist.txt \
        --output_dir records/learning
    python tools/make_learning_set.py --coco_images coco/images --coco_annotations coco/instances.json \
        --exdark_dir exdark --output_dir records/learning_masks

Without COCO: every ExDark picture as it is, then scenes cut from them around an object, enlarged, maybe mirrored and
brightened or darkened. With COCO: scenes cut from its photographs likewise, then scenes in which its objects, cut out
by their masks, stand before ExDark pictures in the dark. In a made scene an object counts if at least `VISIBLE` of
it is seen, `SMALLEST` pixels wide and high; what is left of the others is painted over with grey, so that every object
in sight has its box. The same arguments give the same bytes.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from tfllv import contracts
from tfllv.records import coco, convert, exdark, files, images, label_map, masks, tool
from tfllv.records.detection import DetectionBuilder, Item, Thing
from tfllv.records.problems import Report, Where

SIDE = 320  # of a made scene, in pixels
SMALLEST = 24
VISIBLE = 0.6
GREY = 40  # level of what is painted over


@dataclasses.dataclass
class Scene:
    """A picture with its objects, in pixels.

    Attributes:
      pixels: [H, W, 3] uint8.
      things: (class id, class name, [4] float xmin ymin xmax ymax, [H, W] uint8 mask or None).
    """

    pixels: np.ndarray
    things: list[tuple[int, str, np.ndarray, np.ndarray | None]]


def read_scene(item: Item) -> Scene:
    """Reads a picture and its objects; crowds, and what has a mask of no pixel, are left out."""
    data = files.read(item.image) if isinstance(item.image, str) else item.image
    pixels = np.asarray(images.decode(data))
    height, width = pixels.shape[:2]
    things = []
    for thing in item.things:
        mask = masks.decode_mask(thing.segmentation, height, width) if thing.segmentation is not None else None
        if not thing.is_crowd and (mask is None or mask.any()):
            box = np.clip(np.asarray(thing.box, np.float64), 0, (width, height) * 2)
            things.append((thing.label, thing.text, box, mask))
    return Scene(pixels, things)


def cut_scene(scene: Scene, rng: np.random.Generator) -> Scene:
    """Cuts a square window around one object, which takes 35 to 80 % of it, and brings it to `SIDE` pixels."""
    height, width = scene.pixels.shape[:2]
    sizes = np.array([max(box[2:] - box[:2]) for _, _, box, _ in scene.things])
    label, name, box, _ = scene.things[int(rng.choice(np.flatnonzero(sizes >= SMALLEST)))]
    extent = max(box[2:] - box[:2])
    side = int(np.clip(extent / rng.uniform(0.35, 0.8), SMALLEST, min(height, width)))
    low = np.maximum(box[2:] - side, 0)
    high = np.minimum(box[:2], (width - side, height - side))
    left, top = (int(rng.uniform(min(a, b), max(a, b))) for a, b in zip(low, high, strict=True))
    left, top = int(np.clip(left, 0, width - side)), int(np.clip(top, 0, height - side))
    window = (slice(top, top + side), slice(left, left + side))
    flip = rng.random() < 0.5
    pixels = _fit(scene.pixels[window], flip, cv2.INTER_LINEAR)
    pixels = contracts.to_uint8(contracts.to_float(pixels) * np.float32(rng.uniform(0.7, 1.3)))
    kept, scale = [], SIDE / side
    for label, name, box, mask in scene.things:
        part = (np.clip(box - (left, top) * 2, 0, side)) * scale
        share = np.prod(part[2:] - part[:2]) / scale**2 / max(np.prod(box[2:] - box[:2]), 1)
        if share <= 0:
            continue
        if flip:
            part[[0, 2]] = SIDE - part[[2, 0]]
        small = None if mask is None else _fit(mask[window], flip, cv2.INTER_NEAREST)
        if small is not None:
            share = mask[window].sum() / mask.sum()
        kept.append((label, name, part, small, share))
    return _keep_visible(pixels, kept)


def paste_scene(
    background: Scene, scenes: Sequence[Scene], rng: np.random.Generator, number: tuple[int, int] = (2, 4)
) -> Scene:
    """Sets two to four objects of `scenes`, or `number`, cut out by their masks, before a window of another picture."""
    height, width = background.pixels.shape[:2]
    side = min(height, width)
    left, top = int(rng.integers(width - side + 1)), int(rng.integers(height - side + 1))
    pixels = _fit(background.pixels[top : top + side, left : left + side], rng.random() < 0.5, cv2.INTER_AREA)
    pixels = (pixels * 0.6).astype(np.uint8)
    choices = [(scene, thing) for scene in scenes for thing in scene.things if min(thing[2][2:] - thing[2][:2]) > 30]
    placed: list[list[Any]] = []
    for index in rng.choice(len(choices), int(rng.integers(number[0], number[1] + 1)), replace=False):
        scene, (label, name, _, mask) = choices[int(index)]
        assert mask is not None
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        cut = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        scale = rng.uniform(110, 230) / max(len(rows), len(columns), 1)
        size = tuple(max(int(extent * scale), 1) for extent in mask[cut].shape[::-1])
        picture = cv2.resize(scene.pixels[cut], size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        shape = cv2.resize(mask[cut], size, interpolation=cv2.INTER_NEAREST)
        if rng.random() < 0.5:
            picture, shape = picture[:, ::-1], shape[:, ::-1]
        y, x = (int(rng.integers(max(SIDE - extent, 0) + 1)) for extent in shape.shape)
        whole = np.zeros((SIDE, SIDE), np.uint8)
        part = whole[y : y + shape.shape[0], x : x + shape.shape[1]]
        part[:] = shape[: part.shape[0], : part.shape[1]]
        pixels[whole > 0] = picture[: part.shape[0], : part.shape[1]][part > 0]
        for other in placed:
            other[2] = other[2] & (1 - whole)
        placed.append([label, name, whole, int(whole.sum())])
    dark = contracts.to_uint8(contracts.to_float(pixels) ** np.float32(rng.uniform(1.1, 1.6)))
    return _keep_visible(
        dark, [(label, name, _box(mask), mask, mask.sum() / max(total, 1)) for label, name, mask, total in placed]
    )


def _fit(pixels: np.ndarray, flip: bool, interpolation: int) -> np.ndarray:
    made = cv2.resize(pixels, (SIDE, SIDE), interpolation=interpolation)
    return np.ascontiguousarray(made[:, ::-1] if flip else made)


def _box(mask: np.ndarray) -> np.ndarray:
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    if not len(rows):
        return np.zeros(4)
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float64)


def _keep_visible(pixels: np.ndarray, things: Sequence[tuple[int, str, np.ndarray, np.ndarray | None, float]]) -> Scene:
    """Keeps what is large and whole enough, and paints over the rest where no kept object is."""
    kept, free = [], np.zeros(pixels.shape[:2], bool)
    for label, name, box, mask, share in things:
        tight = _box(mask) if mask is not None else box
        if share >= VISIBLE and min(tight[2:] - tight[:2]) >= SMALLEST:
            kept.append((label, name, tight, mask))
        elif mask is not None:
            free |= mask > 0
        else:
            x0, y0, x1, y1 = np.rint(box).astype(int)
            free[y0:y1, x0:x1] = True
    for _, _, box, mask in kept:
        if mask is not None:
            free &= mask == 0
        else:
            x0, y0, x1, y1 = np.rint(box).astype(int)
            free[y0:y1, x0:x1] = False
    pixels = pixels.copy()
    pixels[free] = GREY
    return Scene(pixels, kept)


def _runs(mask: np.ndarray) -> dict[str, Any]:
    """A mask as COCO's run lengths down the columns."""
    flat = np.concatenate([[0], mask.T.ravel(), [0]]).astype(np.int8)
    edges = np.flatnonzero(np.diff(flat))
    counts = np.diff(np.concatenate([[0], edges, [mask.size]]))
    return {"size": list(mask.shape), "counts": [int(count) for count in counts]}


def to_item(scene: Scene, key: str) -> Item:
    """Returns a scene as the record writer takes it."""
    where = Where(key)
    things = tuple(
        Thing(tuple(box.tolist()), label, name, where, segmentation=None if mask is None else _runs(mask))
        for label, name, box, mask in scene.things
    )
    return Item(key, images.encode(scene.pixels, "png").data, f"{key}.png", things, where)


def make_items(args: argparse.Namespace, report: Report) -> tuple[list[Item], dict[str, int]]:
    """Returns the scenes and the classes that are in them."""
    pictures = exdark.read_exdark(args.exdark_dir, report, class_list=args.class_list, split="random")
    whole = sorted((item for part in pictures.values() for item in part), key=lambda item: item.key)
    scenes = [read_scene(item) for item in whole]
    if args.coco_annotations is None:
        made = [cut_scene(scenes[i % len(scenes)], _rng(args.seed, i)) for i in range(args.num_scenes)]
        items = [*whole, *[to_item(scene, f"cut_{index:03}") for index, scene in enumerate(made)]]
        return items, dict(exdark.CLASSES)
    photographs, labels = coco.read_coco(
        args.coco_annotations, args.coco_images, report, labels=label_map.read(args.label_map), masks=True
    )
    sources = [read_scene(item) for item in photographs]
    made = []
    for index in range(args.num_scenes):
        rng = _rng(args.seed, index)
        if args.max_objects:
            made.append(paste_scene(scenes[index % len(scenes)], sources, rng, (1, args.max_objects)))
        elif index % 2 == 0:
            made.append(cut_scene(sources[index // 2 % len(sources)], rng))
        else:
            made.append(paste_scene(scenes[index // 2 % len(scenes)], sources, rng))
    return [to_item(scene, f"scene_{index:03}") for index, scene in enumerate(made)], labels


def _rng(seed: int, index: int) -> np.random.Generator:
    return np.random.default_rng([seed, index])


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line's parser."""
    root = pathlib.Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--exdark_dir", required=True, metavar="DIR", help="holds ExDark and ExDark_Annno")
    parser.add_argument("--class_list", metavar="FILE", help="imageclasslist.txt; without it no lighting types")
    parser.add_argument("--coco_images", metavar="DIR", help="photographs with masks")
    parser.add_argument("--coco_annotations", metavar="FILE", help="their instances")
    parser.add_argument("--label_map", default=str(root / "pipelines" / "coco_label_map.pbtxt"), metavar="FILE")
    parser.add_argument("--num_scenes", type=int, default=11, metavar="N", help="scenes to make (default: %(default)s)")
    parser.add_argument(
        "--max_objects", type=int, metavar="N", help="COCO: scenes before ExDark alone, of 1 to N objects"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the scenes")
    tool.add_run_arguments(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Makes the records; returns the exit code."""
    if (args.coco_annotations is None) != (args.coco_images is None):
        raise ValueError("--coco_images and --coco_annotations belong together. Received: one of them.")
    if args.max_objects is not None and (args.max_objects < 1 or args.coco_annotations is None):
        raise ValueError(
            f"--max_objects must be 1 or more, and goes with --coco_annotations. Received: {args.max_objects}."
        )
    report = Report()
    items, labels = make_items(args, report)
    with_masks = args.coco_annotations is not None
    plan = convert.SetPlan("learning.record", items)
    source = {"kind": "learning", "seed": args.seed, "num_scenes": args.num_scenes}
    build = DetectionBuilder(include_masks=with_masks)
    return tool.write(args, [plan], build, report, source, labels=labels)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tool."""
    return tool.main(build_parser(), run, argv)


if __name__ == "__main__":
    sys.exit(main())
