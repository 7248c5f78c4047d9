#!/usr/bin/env python3
"""Scores one detector on several versions of the same pictures, side by side: normal light, dark, restored.

    python tools/compare_conditions.py --model_dir runs/exported --records normal=records/normal/coco_val.record \
        dark=records/dark/coco_val.record restored=records/restored/coco_val.record --count 6 --output_dir runs/compared

Prints a table of AP, AP50 and AR of boxes, and of masks where model and records have them, by pycocotools. Writes
`comparison.json` and one page, `index.html`, with the first `--count` pictures as each version shows them: the truth,
and what was found, drawn. Records must hold the same pictures under the same names. Exit code: 0 done, 2 wrong use.
"""

from __future__ import annotations

import argparse
import base64
import dataclasses
import html
import json
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from tfllv.records import tool

METRICS = ("AP", "AP50", "AR100")


def build_parser() -> argparse.ArgumentParser:
    """Returns the tool's parser."""
    parser = argparse.ArgumentParser(prog="compare_conditions.py", description=__doc__.split("\n")[1])
    parser.add_argument("--model_dir", required=True, metavar="DIR", help="an exported model")
    parser.add_argument(
        "--records", required=True, nargs="+", metavar="NAME=PATH", help="versions of one set of records"
    )
    parser.add_argument("--label_map_path", metavar="FILE", help="names of classes (default: those the records name)")
    parser.add_argument("--output_dir", required=True, metavar="DIR", help="for comparison.json and index.html")
    parser.add_argument("--count", type=int, default=6, metavar="N", help="pictures on the page (default: 6)")
    parser.add_argument("--min_score", type=float, default=0.3, metavar="X", help="of what is drawn (default: 0.3)")
    return parser


def run(args: argparse.Namespace) -> int:
    """Scores, prints and writes; returns 0."""
    from tfllv.detection import coco_metrics, detector, evaluation, pipeline
    from tfllv.detection import truth as truths
    from tfllv.inputs import image_files

    paths = _versions(args.records)
    labels = pipeline.label_map(args.label_map_path) if args.label_map_path else None
    sets = {name: truths.from_records(path, labels=labels, masks_too=True) for name, path in paths.items()}
    _check_same(sets)
    model = detector.Detector(args.model_dir)
    report: dict[str, Any] = {"model": args.model_dir, "records": paths, "versions": {}}
    columns: dict[str, list[bytes]] = {}
    for name, truth in sets.items():
        found = evaluation.detect(truth, model, model=args.model_dir)
        aligned, detections, _ = coco_metrics.align(truth, found)
        scores = {"bbox": coco_metrics.evaluate(aligned, detections, with_matches=False).named()}
        if aligned.has_masks and all(image.masks is not None for image in detections.images if len(image.boxes)):
            scores["segm"] = coco_metrics.evaluate(aligned, detections, kind="segm", with_matches=False).named()
        report["versions"][name] = {"pictures": len(truth.images), "metrics": scores}
        columns[name] = [
            draw(image, entry, found.label_map, args.min_score)
            for image, entry in list(zip(truth.images, found.images, strict=True))[: args.count]
        ]
    first = next(iter(sets.values()))
    truth_column = [draw_truth(image, first.label_map) for image in first.images[: args.count]]
    print(text(report))
    folder = pathlib.Path(args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    page = render(report, {"truth": truth_column, **columns}, [image.file for image in first.images[: args.count]])
    image_files.write_bytes(folder / "comparison.json", json.dumps(report, indent=1).encode())
    image_files.write_bytes(folder / "index.html", page.encode())
    print(f"written: {folder / 'index.html'}")
    return 0


def _versions(words: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in words:
        name, equals, path = word.partition("=")
        if not (name and equals and path) or name in found:
            raise ValueError(f"`--records` must be NAME=PATH, each name once. Received: '{word}'.")
        found[name] = path
    return found


def _check_same(sets: Mapping[str, Any]) -> None:
    """Raises ValueError unless all versions hold the same pictures."""
    (first, truth), *others = sets.items()
    names = {image.file for image in truth.images}
    for name, other in others:
        differing = names ^ {image.file for image in other.images}
        if differing:
            raise ValueError(
                f"`--records` must hold the same pictures. Received: '{sorted(differing)[0]}' in one of {first} and "
                f"{name} only ({len(differing)} such)."
            )
    order = sorted(names)
    for name, other in sets.items():
        by_name = {image.file: image for image in other.images}
        sets[name] = dataclasses.replace(other, images=tuple(by_name[file] for file in order))  # type: ignore[index]


def draw(image: Any, entry: Any, names: Mapping[int, str], min_score: float) -> bytes:
    """Returns a JPEG of a picture with what was found in it."""
    from pycocotools import mask as coco_masks

    from tfllv.detection import draw as drawing
    from tfllv.inputs import image_files

    masks = None if entry.masks is None else [coco_masks.decode(dict(mask)).astype(bool) for mask in entry.masks]
    pixels = drawing.draw_detections(
        image.pixels(), entry.boxes, entry.classes, entry.scores, names, masks=masks, min_score=min_score
    )
    return image_files.encode_image(".jpg", pixels, quality=88)


def draw_truth(image: Any, names: Mapping[int, str]) -> bytes:
    """Returns a JPEG of a picture with its objects."""
    from tfllv.detection import results

    left, top, width, height = image.boxes.T if len(image.boxes) else np.zeros((4, 0))
    sizes = [image.height, image.width] * 2
    boxes = np.stack([top, left, top + height, left + width], 1) / sizes
    entry = results.ImageDetections(
        image.file, image.width, image.height, boxes, image.classes, np.ones(len(boxes)), image.masks
    )
    return draw(image, entry, names, 0.0)


def text(report: Mapping[str, Any]) -> str:
    """Returns the table of all versions."""
    kinds = {kind for version in report["versions"].values() for kind in version["metrics"]}
    lines = []
    for kind in sorted(kinds):
        lines.append(f"{'boxes' if kind == 'bbox' else 'masks':<16}" + "".join(f"{name:>10}" for name in METRICS))
        for name, version in report["versions"].items():
            values = version["metrics"].get(kind, {})
            lines.append(f"{name:<16}" + "".join(f"{values.get(key, float('nan')):>10.4f}" for key in METRICS))
        lines.append("")
    return "\n".join(lines).rstrip()


def render(report: Mapping[str, Any], columns: Mapping[str, Sequence[bytes]], files: Sequence[str]) -> str:
    """Returns the page; it needs no other file."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    rows = "".join(
        "<tr>"
        + "".join(
            f'<td><img alt="{html.escape(file)}, {html.escape(name)}" src="data:image/jpeg;base64,'
            f'{base64.b64encode(pictures[index]).decode()}"></td>'
            for name, pictures in columns.items()
        )
        + "</tr>"
        for index, file in enumerate(files)
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>One detector, {len(report["versions"])} versions of its pictures</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem; }}
pre {{ overflow-x: auto; }}
table {{ border-collapse: collapse; width: 100%; table-layout: fixed; }}
th {{ text-align: left; }}
td {{ padding: .25rem .5rem .25rem 0; vertical-align: top; }}
img {{ width: 100%; }}
</style></head><body>
<h1>One detector, {len(report["versions"])} versions of its pictures</h1>
<p>Model: {html.escape(str(report["model"]))}. Scored by pycocotools.</p>
<pre>{html.escape(text(report))}</pre>
<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>
</body></html>
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tool."""
    return tool.main(build_parser(), run, argv)


if __name__ == "__main__":
    sys.exit(main())
