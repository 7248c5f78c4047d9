"""Evaluates a detector and explains the result: COCO's numbers, tables by light, examples; printed, JSON and a page.

`evaluate` gives a report, the dict that is written as JSON:

- `metrics`: `bbox` and, where both sides have masks, `segm` -> the 12 numbers, -1 where COCO has no value.
- `cells`: the rows of `lighting.cells`: the mean over classes and each class, in each light and place.
- `pictures`, `objects`, `detections`: counts. `notes`: what was left out. `model`, `step`: what was evaluated.
- `comparison`, `enhancers`: as `paired.py` gives them, where they were asked for.
- `protocol`, `tfllv`, `created`, `resamples`, `seed`, `level`.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import tfllv
from tfllv.detection import coco_metrics, evaluation_page, examples, lighting, paired, results
from tfllv.detection.detector import Found, ImageMasks
from tfllv.detection.results import Detections, ImageDetections
from tfllv.detection.truth import Truth
from tfllv.records import files

REPORT, PAGE, DETECTIONS = "evaluation.json", "index.html", "detections.json"
PROTOCOL = (
    "COCO's: average precision over overlaps .50 to .95 and 101 recalls, 100 detections a picture, mean over the "
    "classes that have objects; crowds count neither way, difficult objects like any other."
)
PROTOCOL_INTERVAL = "{level:.0%} basic bootstrap over pictures, {resamples:,} resamples, seed {seed}"


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What was measured, and what to show of it.

    Attributes:
      report: the numbers; see above.
      worst: pictures with missed objects, worst first.
      false: further pictures with false detections, the most confident first.
      label_map: class id -> name.
    """

    report: dict[str, Any]
    worst: tuple[examples.Example, ...]
    false: tuple[examples.Example, ...]
    label_map: Mapping[int, str]


def evaluate(
    truth: Truth,
    detections: Detections,
    *,
    allow_missing: bool = False,
    resamples: int = lighting.RESAMPLES,
    seed: int = 0,
    level: float = lighting.LEVEL,
    min_score: float = examples.MIN_SCORE,
    count: int = 24,
    about: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Evaluates detections.

    Args:
      truth: the ground truth.
      detections: what was found, under its own names of pictures and ids of classes.
      allow_missing: as `coco_metrics.align`.
      resamples: of the bootstrap.
      seed: of the bootstrap.
      level: of confidence.
      min_score: what a detection must score to count in the examples; the numbers count all.
      count: the most examples of misses; a quarter of it, of false detections.
      about: further entries of the report.

    Raises:
      ValueError: as `coco_metrics.align`, or if an option is out of range.
    """
    truth, detections, notes = coco_metrics.align(truth, detections, allow_missing=allow_missing)
    worst = examples.find_worst(truth, detections, count=count, min_score=min_score)
    boxes = coco_metrics.evaluate(truth, detections)
    scores = {"bbox": boxes.named()}
    if truth.has_masks and all(image.masks is not None for image in detections.images if len(image.boxes)):
        scores["segm"] = coco_metrics.evaluate(truth, detections, kind="segm", with_matches=False).named()
    report = {
        "tfllv": tfllv.__version__,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "model": detections.model,
        **(about or {}),
        "pictures": len(truth.images),
        "objects": int(sum((~image.crowd).sum() for image in truth.images)),
        "detections": sum(len(image.boxes) for image in detections.images),
        "metrics": scores,
        "cells": lighting.cells(truth, boxes.matches, resamples=resamples, seed=seed, level=level),
        "has_lighting": truth.has_lighting,
        "min_score": min_score,
        "notes": notes,
        "protocol": PROTOCOL,
        "protocol_interval": PROTOCOL_INTERVAL.format(level=level, resamples=resamples, seed=seed),
        "resamples": resamples,
        "seed": seed,
        "level": level,
    }
    shown = {example.truth.file for example in worst}
    false = examples.find_false(truth, detections, count=count, min_score=min_score)
    unseen = [example for example in false if example.truth.file not in shown]
    return Evaluation(report, tuple(worst), tuple(unseen[: count // 4]), truth.label_map)


def detect(
    truth: Truth,
    detector: Callable[[np.ndarray], Found],
    *,
    enhance: Callable[[np.ndarray], np.ndarray] | None = None,
    model: str = "",
    progress: bool | None = None,
) -> Detections:
    """Runs a detector over the pictures of a ground truth.

    Args:
      truth: the ground truth, with its pictures at hand.
      detector: [H, W, 3] uint8 -> `Found`.
      enhance: what is done to a picture first: [H, W, 3] uint8 -> the same.
      model: as `Detections.model`.
      progress: whether a bar is shown; None shows it on a terminal.

    Raises:
      ValueError: naming the picture, if it cannot be decoded or is not as large as its annotations say.
      OSError: if it cannot be read.
    """
    from tqdm import tqdm

    shown = sys.stderr.isatty() if progress is None else progress
    found, used = [], set()
    for image in tqdm(truth.images, unit="image", disable=not shown, file=sys.stderr, leave=False):
        pixels = image.pixels()
        if pixels.shape[:2] != (image.height, image.width):
            raise ValueError(
                f"'{image.file}' has {pixels.shape[1]}x{pixels.shape[0]} pixels. "
                f"Expected: {image.width}x{image.height}, as its annotations say."
            )
        entry = to_entry(image.file, detector(pixels if enhance is None else enhance(pixels)), pixels.shape)
        used |= set(entry.classes.tolist())
        found.append(entry)
    names = {number: f"class {number}" for number in used} | dict(truth.label_map)
    return Detections(names, tuple(found), model)


def to_entry(file: str, found: Found, shape: tuple[int, ...]) -> ImageDetections:
    """Returns what was found in one picture of `shape` as an entry of a detections file."""
    masks = None
    if found.masks is not None:
        masks = tuple(results.encode_mask(mask) for mask in ImageMasks(found, *shape[:2]))
    boxes, scores = np.clip(found.boxes, 0, 1), np.clip(found.scores, 0, 1)
    return ImageDetections(file, shape[1], shape[0], boxes, found.classes, scores, masks)


def text(report: Mapping[str, Any]) -> str:
    """Returns what is printed: the 12 numbers of boxes and masks, then the tables."""
    parts = []
    for kind, values in report["metrics"].items():
        title = f"{report['pictures']} pictures, {report['objects']} objects, {coco_metrics.KINDS[kind]}"
        parts.append(f"{title}\n{coco_metrics.text(values)}")
    if report["has_lighting"]:
        places = {row["place"] for row in report["cells"]}
        parts += [lighting.table(report["cells"], place=place) for place in (None, *lighting.PLACES) if place in places]
    else:
        parts.append(lighting.table(report["cells"]))
    parts += [f"Intervals: {report['protocol_interval']}.", paired.text(report), *report["notes"]]
    return "\n\n".join(part for part in parts if part)


def write(
    evaluation: Evaluation, folder: str | os.PathLike[str], *, detections: Detections | None = None
) -> pathlib.Path:
    """Writes evaluation.json, index.html and, where given, detections.json, each whole or not at all.

    Returns:
      The page's path.

    Raises:
      OSError: if a file cannot be written.
    """
    folder = pathlib.Path(folder)
    page = evaluation_page.render(evaluation.report, evaluation.worst, evaluation.false, evaluation.label_map)
    data = json.dumps(evaluation.report, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    if detections is not None:
        results.write(folder / DETECTIONS, detections)
    files.write(str(folder / REPORT), [data.encode("utf-8", "surrogatepass")])
    files.write(str(folder / PAGE), [page.encode("utf-8", "surrogatepass")])
    return folder / PAGE
