"""Scoring detections: COCO's numbers, and the table of classes by light by place with bootstrap intervals."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import pathlib
import tempfile
from typing import Any

from benchmarks import timing

ROOT = pathlib.Path(__file__).resolve().parents[2]
_EXDARK = pathlib.Path(os.environ.get("TFLLV_SHARED", ROOT.parent / "shared")) / "data" / "exdark"
_IMAGES = 1500
_DETECTIONS = 100  # a picture, the most that count


def evaluation() -> list[dict]:
    """1,500 pictures with 100 detections each: what `tfllv evaluate detections` does, less drawing examples.

    Boxes, classes, lights and places are ExDark's own where the research data is there, else generated; detections are
    generated: four fifths of the objects, moved a little, and false ones.
    """
    from tfllv.detection import coco_metrics, lighting, results

    synthetic = _load("synthetic", ROOT / "tests" / "detection" / "synthetic.py")
    truth = _read_truth(synthetic)
    found = synthetic.detect(truth, shift=0.15, miss=0.2, false=_DETECTIONS - 3)
    matches = coco_metrics.evaluate(truth, found, backend="pycocotools").matches
    backends = coco_metrics.BACKENDS[: 2 if importlib.util.find_spec("faster_coco_eval") else 1]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "detections.json"
        results.write(path, found)
        sides: dict[str, Any] = {
            f"12 numbers by {name}": lambda name=name: coco_metrics.evaluate(
                truth, found, backend=name, with_matches=False
            )
            for name in backends
        }
        sides["table, 1,000 resamples"] = lambda: lighting.cells(truth, matches)
        sides["reading the file"] = lambda: results.read(path)
        seconds = timing.interleave(sides, rounds=5, warm_up=0)
    cells = len(lighting.cells(truth, matches, resamples=1))
    counts = {"pictures": len(truth.images), "objects": sum(len(image.boxes) for image in truth.images)}
    counts |= {"detections": sum(len(image.boxes) for image in found.images), "cells": cells}
    return [{"side": name, "median_s": value, **counts} for name, value in seconds.items()]


def _load(name: str, path: pathlib.Path) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _read_truth(synthetic: Any) -> Any:
    from tfllv.detection import truth as truths
    from tfllv.records import exdark
    from tfllv.records.problems import Report

    boxes = _EXDARK / "boxes_trainval_coco_style.json"
    if not boxes.is_file():
        return synthetic.make_truth(
            _IMAGES, labels={number: name for name, number in exdark.CLASSES.items()}, objects=7
        )
    count = len(json.loads(boxes.read_text())["images"])
    truth = truths.from_coco(boxes, Report(), labels={number: name for name, number in exdark.CLASSES.items()})
    truth = truths.with_lighting(truth, _EXDARK / "imageclasslist.txt", Report())
    return dataclasses.replace(truth, images=truth.images[:: count // _IMAGES][:_IMAGES])
