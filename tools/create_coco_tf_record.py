"""Converts COCO instances, or a detection set of TensorFlow Datasets, to TFRecords.

    python tools/create_coco_tf_record.py --train_image_dir train2017 \
        --train_annotations_file annotations/instances_train2017.json --include_masks --output_dir records
    python tools/create_coco_tf_record.py --tfds voc/2012 --output_dir records

Writes coco_train.record, coco_val.record, coco_test.record (as given), each sharded and with a manifest, and
label_map.pbtxt. With --darken, image/encoded is the dark picture and image/paired/encoded the clean one.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from tfllv.records import coco, tfds, tool
from tfllv.records.convert import SetPlan
from tfllv.records.detection import DARK_FORMATS, DetectionBuilder
from tfllv.records.problems import Report

SPLITS = ("train", "val", "test")


def build_parser() -> argparse.ArgumentParser:
    """Returns the tool's parser."""
    parser = argparse.ArgumentParser(prog="create_coco_tf_record.py", description=__doc__.split("\n")[0])
    for split in SPLITS:
        parser.add_argument(f"--{split}_image_dir", metavar="DIR", help=f"pictures of the {split} set")
        parser.add_argument(f"--{split}_annotations_file", metavar="FILE", help=f"instances of the {split} set")
    parser.add_argument("--tfds", metavar="NAME", help="a prepared set instead, such as coco/2017 or voc/2012")
    parser.add_argument("--tfds_data_dir", default="", metavar="DIR", help="where it is prepared")
    parser.add_argument("--tfds_splits", nargs="+", default=["train"], metavar="SPLIT", help="default: train")
    parser.add_argument("--label_map_path", metavar="FILE", help="default: the file's own categories and ids")
    parser.add_argument("--include_masks", action="store_true", help="write image/object/mask, a PNG an object")
    parser.add_argument("--semantic_masks", action="store_true", help="write one map of class ids a picture")
    parser.add_argument("--darken", default="", metavar="RECIPE", help="darken the pictures, see tfllv darken --help")
    parser.add_argument("--dark_format", choices=DARK_FORMATS, default="png", help="of the dark pictures")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of --darken")
    parser.add_argument("--max_images", type=int, default=0, metavar="N", help="of each set, the first by id")
    parser.add_argument("--image_ids", metavar="FILE", help="take only these: a text file, an id a line")
    parser.add_argument("--output_name", default="coco", metavar="NAME", help="first part of the sets' names")
    tool.add_box_arguments(parser)
    tool.add_run_arguments(parser)
    return parser


def read_ids(path: str | None) -> set[int] | None:
    """Reads a file of image ids."""
    if not path:
        return None
    ids = set()
    for line, text in enumerate(pathlib.Path(path).read_text(encoding="utf-8").splitlines(), 1):
        if text.strip() and not text.strip().isdecimal():
            raise ValueError(f"{path}:{line}: id: expected a number, found {text.strip()!r}.")
        ids |= {int(text)} if text.strip() else set()
    return ids


def read_files(args: argparse.Namespace, report: Report) -> tuple[list[SetPlan], dict[str, int], dict[str, Any]]:
    """Reads the annotation files: sets, class ids, and what the manifest says of the source."""
    labels, plans, source = tool.read_labels(args.label_map_path), [], {"kind": "coco"}
    for split in SPLITS:
        image_dir, annotations = getattr(args, f"{split}_image_dir"), getattr(args, f"{split}_annotations_file")
        if bool(image_dir) != bool(annotations):
            raise ValueError(f"`--{split}_image_dir` and `--{split}_annotations_file` must be given together.")
        if not image_dir:
            continue
        items, labels = coco.read_coco(
            annotations,
            image_dir,
            report,
            labels=labels,
            image_ids=read_ids(args.image_ids),
            max_images=args.max_images,
            masks=args.include_masks,
            semantic_masks=args.semantic_masks,
        )
        plans.append(SetPlan(f"{args.output_name}_{split}.record", items))
        source |= {f"{split}_image_dir": image_dir, f"{split}_annotations_file": annotations}
    if not plans:
        raise ValueError("give --train_image_dir and --train_annotations_file (or val, test), or --tfds.")
    return plans, labels or {}, source


def read_tfds(args: argparse.Namespace) -> tuple[list[SetPlan], dict[str, int], dict[str, Any]]:
    """Plans a set of TensorFlow Datasets, likewise."""
    refused = [
        name for name in ("include_masks", "semantic_masks", "image_ids", "label_map_path") if getattr(args, name)
    ]
    if refused:
        raise ValueError(f"`--{refused[0]}` must not be given with --tfds, whose sets hold boxes only.")
    plans, labels = [], {}
    for split in args.tfds_splits:
        options = {"data_dir": args.tfds_data_dir, "num_shards": args.num_shards, "max_images": args.max_images}
        parts, labels = tfds.read_tfds(args.tfds, split, **options)
        plans.append(SetPlan(f"{args.output_name}_{split}.record", parts=parts))
    return plans, labels, {"kind": "tfds", "name": args.tfds, "splits": args.tfds_splits}


def run(args: argparse.Namespace) -> int:
    """Converts; returns the exit code."""
    report = Report()
    plans, labels, source = read_tfds(args) if args.tfds else read_files(args, report)
    build = DetectionBuilder(
        include_masks=args.include_masks,
        semantic_masks=args.semantic_masks,
        out_of_bounds=args.out_of_bounds,
        darken=args.darken,
        seed=args.seed,
        dark_format=args.dark_format,
    )
    return tool.write(args, plans, build, report, source, labels=labels)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tool."""
    return tool.main(build_parser(), run, argv)


if __name__ == "__main__":
    sys.exit(main())
