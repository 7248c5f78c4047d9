"""Generated ground truth and detections, and pycocotools as its own users call it."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import pathlib

import numpy as np
import pytest

SYNTHETIC = pathlib.Path(__file__).parent / "synthetic.py"


@pytest.fixture(scope="session")
def synthetic():
    """The module `synthetic.py`."""
    spec = importlib.util.spec_from_file_location("tests_detection_synthetic", SYNTHETIC)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def pycocotools(tmp_path):
    """pycocotools(truth, detections, kind, file numbers=None) -> [12]: through files, `loadRes` and `summarize`."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    from tfllv.detection import results

    def evaluate(truth, detections, kind="bbox", *, only=None):
        ids = {image.file: number for number, image in enumerate(truth.images, 1)}
        notes = []
        for image in truth.images:
            for index, box in enumerate(image.boxes.tolist()):
                note = {"id": len(notes) + 1, "image_id": ids[image.file], "category_id": int(image.classes[index])}
                note |= {"bbox": box, "area": float(image.areas[index]), "iscrowd": int(image.crowd[index])}
                if image.masks is not None:
                    note["segmentation"] = dict(image.masks[index])
                notes.append(note)
        document = {
            "images": [
                {"id": ids[i.file], "file_name": i.file, "width": i.width, "height": i.height} for i in truth.images
            ],
            "annotations": notes,
            "categories": [{"id": number, "name": name} for number, name in truth.label_map.items()],
        }
        path = tmp_path / "truth.json"
        path.write_text(json.dumps(document))
        found = results.to_coco(detections, ids)
        if kind == "segm":
            found = [{key: value for key, value in one.items() if key != "bbox"} for one in found]
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO(path)
            evaluator = COCOeval(coco, coco.loadRes(found), kind)
            if only is not None:
                evaluator.params.imgIds = [ids[image.file] for image in np.array(truth.images)[only]]
            evaluator.evaluate()
            evaluator.accumulate()
            evaluator.summarize()
        return evaluator.stats

    return evaluate
