"""Small generated data sets in the layouts of the real ones."""

from __future__ import annotations

import dataclasses
import json

import cv2
import numpy as np
import pytest

from tfllv.records import convert, detection, problems, shards


def picture_bytes(kind: str, width: int, height: int, seed: int) -> bytes:
    """A smooth picture of its own, encoded."""
    small = np.random.default_rng(seed).integers(0, 255, (4, 5, 3)).astype(np.uint8)
    return cv2.imencode(f".{kind}", cv2.resize(small, (width, height)))[1].tobytes()


@pytest.fixture
def write_picture():
    """write_picture(path, width, height, seed): writes a picture of the type of the path's ending."""

    def write(path, width=40, height=30, seed=0):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture_bytes(path.suffix[1:].lower(), width, height, seed))
        return path

    return write


@pytest.fixture
def exdark_tree(tmp_path, write_picture):
    """Eight pictures of two classes in ExDark's layout; one is a PNG, one changed its ending."""
    root = tmp_path / "exdark"
    for index in range(8):
        name = "Bicycle" if index < 4 else "Cat"
        stem = f"2015_{index:05d}"
        image = f"{stem}.png" if index == 2 else f"{stem}.jpg"
        note = f"{stem}.JPEG.txt" if index == 5 else f"{image}.txt"
        write_picture(root / "ExDark" / name / image, seed=index)
        path = root / "ExDark_Annno" / name / note
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"% bbGt version=3\n{name} {index} 2 10 12 0 0 0 0 0 0 0\nPeople 1 1 5 6 0 0 0 0 0 0 0\n")
    return root


@pytest.fixture
def coco_tree(tmp_path, write_picture):
    """Six pictures with polygons, one crowd as run lengths and one as compressed run lengths."""
    root = tmp_path / "coco"
    images, annotations = [], []
    for index in range(6):
        name = f"{index:012d}.jpg"
        write_picture(root / "images" / name, 40 + index, 30, seed=index)
        images.append({"id": index + 1, "file_name": name, "width": 40 + index, "height": 30})
        polygon = [2, 3, 20.5, 3, 20.5, 18, 11, 25.25, 2, 18]
        annotations.append(
            {"image_id": index + 1, "category_id": 3, "bbox": [2, 3, 18.5, 22.25], "area": 311.5, "iscrowd": 0}
            | {"segmentation": [polygon], "id": index * 2}
        )
        counts = [30 * 25, 60, 30 * (40 + index) - 30 * 25 - 60]
        annotations.append(
            {"image_id": index + 1, "category_id": 90, "bbox": [25, 0, 2, 30], "area": 60, "iscrowd": 1}
            | {"segmentation": {"counts": counts, "size": [30, 40 + index]}, "id": index * 2 + 1}
        )
    categories = [{"id": 3, "name": "car"}, {"id": 90, "name": "toothbrush"}]
    document = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    path = root / "instances.json"
    path.write_text(json.dumps(document, indent=1))
    return root


@dataclasses.dataclass(frozen=True)
class NumberBuilder:
    """Builds records of plain numbers, for tests of everything but pictures."""

    size: int = 50

    def __call__(self, item):
        if item.filename == "bad":
            return shards.Built(None, (problems.Problem(item.where, "image", "picture skipped", item.key),))
        from tfllv.records import schema

        data = np.random.default_rng(int(item.key)).bytes(self.size)
        return shards.Built(schema.serialize({schema.SOURCE_ID: item.key, schema.ENCODED: data}), (), ((item.key,),))


@pytest.fixture
def numbers():
    """numbers(count): items for `NumberBuilder`."""

    def make(count, bad=()):
        return [
            detection.Item(str(i), b"", "bad" if i in bad else str(i), (), problems.Where("list", i + 1))
            for i in range(count)
        ]

    return make


@pytest.fixture
def write_numbers(tmp_path, numbers):
    """write_numbers(count, ...): writes a set `n` of plain records, returns its folder; `outcome` is the last one."""

    def write(count=20, *, bad=(), folder="set", size=50, num_shards=4, **options):
        plan = convert.SetPlan("n", numbers(count, bad))
        run = convert.RunOptions(num_shards=num_shards, workers=1, **options)
        path = tmp_path / folder
        write.outcome = convert.convert(
            [plan], path, NumberBuilder(size), source={}, options=run, say=lambda line: None
        )
        return path

    return write
