"""Conversion to TFRecords against the TF Object Detection API's own converter."""

from __future__ import annotations

import importlib
import json
import os
import pathlib
import sys
import tempfile

import cv2
import numpy as np

from benchmarks import timing

ROOT = pathlib.Path(__file__).resolve().parents[2]
_ANNOTATIONS = "data/coco/annotations/instances_val2017_subset500.json"
_COPIES = 3  # of 500 pictures, so that starting the workers is not what is measured


def conversion() -> list[dict]:
    """COCO instances with masks, by both converters, from the same files; TensorFlow's import is not counted.

    Annotations are those of 500 pictures of val2017 where the research data is there, else generated ones, three times
    over; the pictures are JPEGs made from the bundled samples in the sizes that the annotations say.
    """
    converter = _tfods_converter()
    from tfllv.records import coco, convert, detection, problems

    with tempfile.TemporaryDirectory() as work:
        folder = pathlib.Path(work)
        count = _write_source(folder)
        runs = iter(range(1000))

        def ours(workers: int) -> None:
            items, _ = coco.read_coco(folder / "instances.json", folder, problems.Report(), masks=True)
            options = convert.RunOptions(num_shards=10, workers=workers)
            plan, build = convert.SetPlan("coco.record", items), detection.DetectionBuilder(include_masks=True)
            target = folder / f"ours{next(runs)}"
            convert.convert([plan], target, build, source={}, options=options, say=lambda line: None)

        def theirs() -> None:
            target = folder / f"theirs{next(runs)}"
            target.mkdir()
            converter(str(folder / "instances.json"), str(folder), str(target / "coco.record"), True, 10)

        sides = {"TFOD": theirs, "tfllv, 1 process": lambda: ours(1), "tfllv": lambda: ours(0)}
        seconds = timing.interleave(sides, rounds=5, warm_up=0)
    found = timing.rows(seconds, against="TFOD")
    return [row | {"records_per_s": count / (row["median_ms"] / 1e3)} for row in found]


def _tfods_converter():
    """Returns the function that TFOD's create_coco_tf_record.py calls; it runs on one processor."""
    from tfllv.detection import compat

    compat.install()
    module = importlib.import_module("object_detection.dataset_tools.create_coco_tf_record")
    module.logger.setLevel("ERROR")
    return module._create_tf_record_from_coco_annotations


def _write_source(folder: pathlib.Path) -> int:
    shared = pathlib.Path(os.environ.get("TFLLV_SHARED", ROOT.parent / "shared")) / _ANNOTATIONS
    document = json.loads(shared.read_text()) if shared.is_file() else _generated()
    sources = {"images": document["images"], "annotations": document["annotations"]}
    for copy in range(1, _COPIES):
        step = copy * 10_000_000
        document["images"] = document["images"] + [
            image | {"id": image["id"] + step, "file_name": f"{copy}-{image['file_name']}"}
            for image in sources["images"]
        ]
        document["annotations"] = document["annotations"] + [
            note | {"id": note["id"] + step, "image_id": note["image_id"] + step} for note in sources["annotations"]
        ]
    (folder / "instances.json").write_text(json.dumps(document))
    samples = [cv2.imread(str(path)) for path in sorted((ROOT / "tfllv" / "samples").glob("*.jpg"))]
    for index, image in enumerate(document["images"]):
        picture = cv2.resize(samples[index % len(samples)], (image["width"], image["height"]))
        cv2.imwrite(str(folder / image["file_name"]), picture)
    print(f"{len(document['images'])} pictures, {len(document['annotations'])} objects", file=sys.stderr)
    return len(document["images"])


def _generated() -> dict:
    """Eight star-shaped objects a picture, 40 points each."""
    rng = np.random.default_rng(0)
    images = [{"id": i + 1, "file_name": f"{i}.jpg", "width": 640, "height": 480} for i in range(500)]
    annotations = []
    for index in range(500 * 8):
        radius = rng.uniform(10, 60) * rng.uniform(0.6, 1, 40)
        angle = np.sort(rng.uniform(0, 2 * np.pi, 40))
        points = np.stack(
            [rng.uniform(70, 570) + radius * np.cos(angle), rng.uniform(70, 410) + radius * np.sin(angle)]
        )
        left, top = points.min(axis=1)
        width, height = np.ptp(points, axis=1)
        note = {"id": index, "image_id": index // 8 + 1, "category_id": 1, "iscrowd": 0, "area": width * height}
        annotations.append(note | {"bbox": [left, top, width, height], "segmentation": [points.T.ravel().tolist()]})
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
