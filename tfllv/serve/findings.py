"""What a model found, as JSON and as pictures: boxes, masks as run lengths, maps of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from tfllv import contracts
from tfllv.detection import draw
from tfllv.serve.engine import Engine

_MASK_LEVEL = 0.5
_OVERLAY = 0.5  # share of the class's colour in an overlay


def encode_runs(mask: np.ndarray) -> dict[str, Any]:
    """Encodes a mask as COCO's run lengths: down the columns, beginning with a run of 0, which may be empty.

    Args:
      mask: [H, W] of any type; not 0 is inside.

    Returns:
      `{"size": [H, W], "counts": [...]}`.
    """
    flat = np.concatenate([[False], np.asarray(mask, bool).ravel(order="F"), [False]])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], edges, [mask.size]]))
    if len(counts) > 1 and counts[-1] == 0:
        counts = counts[:-1]
    return {"size": list(mask.shape), "counts": counts.tolist()}


def keep_detections(found: Mapping[str, np.ndarray], min_score: float, limit: int) -> dict[str, np.ndarray]:
    """Keeps the detections of at least `min_score`, best first, at most `limit`; boxes are cut at the picture."""
    scores = np.asarray(found["scores"], np.float64)
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= min_score][:limit]
    kept = {key: np.asarray(value)[order] for key, value in found.items()}
    kept["boxes"] = np.clip(np.asarray(kept["boxes"], np.float64), 0, 1)
    kept["classes"] = np.asarray(kept["classes"]).astype(np.int64)
    return kept


def place_mask(mask: np.ndarray, box: np.ndarray, height: int, width: int) -> np.ndarray:
    """Puts a mask that covers its box into the picture.

    Args:
      mask: [h, w], in [0, 1], over the box; or already [height, width].
      box: ymin, xmin, ymax, xmax, normalised.
      height: of the picture.
      width: of the picture.

    Returns:
      [height, width] bool.
    """
    if mask.shape == (height, width):
        return mask > _MASK_LEVEL
    result = np.zeros((height, width), bool)
    top, left = int(box[0] * height), int(box[1] * width)
    bottom, right = min(int(np.ceil(box[2] * height)), height), min(int(np.ceil(box[3] * width)), width)
    if bottom > top and right > left:
        enlarged: Any = cv2.resize(
            mask.astype(np.float32), (right - left, bottom - top), interpolation=cv2.INTER_LINEAR
        )
        result[top:bottom, left:right] = enlarged > _MASK_LEVEL
    return result


def describe_detections(engine: Engine, found: Mapping[str, np.ndarray], height: int, width: int) -> dict[str, Any]:
    """The answer of `/detect`: boxes are [ymin, xmin, ymax, xmax], normalised."""
    entries = []
    for index, number in enumerate(found["classes"].tolist()):
        entry = {
            "class_id": number,
            "label": engine.classes.get(number, f"class {number}"),
            "score": round(float(found["scores"][index]), 6),
            "box": [round(float(edge), 6) for edge in found["boxes"][index]],
        }
        if "masks" in found:
            entry["mask"] = encode_runs(place_mask(found["masks"][index], found["boxes"][index], height, width))
        entries.append(entry)
    return {**_head(engine, height, width), "detections": entries}


class _PlacedMasks(Sequence[np.ndarray]):
    """The masks in the picture, each made when it is asked for: all at once they could take gigabytes."""

    def __init__(self, found: Mapping[str, np.ndarray], height: int, width: int):
        self._masks, self._boxes, self._size = found["masks"], found["boxes"], (height, width)

    def __len__(self) -> int:
        return len(self._masks)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        return place_mask(self._masks[index], self._boxes[index], *self._size)


def draw_detections(engine: Engine, pixels: np.ndarray, found: Mapping[str, np.ndarray]) -> np.ndarray:
    """Draws them on [H, W, 3] uint8."""
    masks: Any = _PlacedMasks(found, *pixels.shape[:2]) if "masks" in found else None
    return draw.draw_detections(
        pixels, found["boxes"], found["classes"], found["scores"], engine.classes, masks=masks, min_score=0.0
    )


def describe_labels(engine: Engine, labels: np.ndarray) -> dict[str, Any]:
    """The answer of `/segment`: each class that occurs, with its share and its mask."""
    numbers, counts = np.unique(labels, return_counts=True)
    entries = [
        {
            "class_id": int(number),
            "label": engine.classes.get(int(number), f"class {number}"),
            "share": round(float(count / labels.size), 6),
            "mask": encode_runs(labels == number),
        }
        for number, count in zip(numbers, counts, strict=True)
    ]
    return {**_head(engine, *labels.shape), "classes": entries}


def draw_labels(pixels: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Lays the classes' colours over [H, W, 3] uint8."""
    result = contracts.to_float(pixels)
    for number in np.unique(labels):
        color = np.asarray(draw.class_color(int(number)), np.float32) / 255
        inside = labels == number
        result[inside] = (1 - _OVERLAY) * result[inside] + _OVERLAY * color
    return contracts.to_uint8(result)


def encode_labels(labels: np.ndarray) -> bytes:
    """Encodes a map of classes as a grey PNG whose levels are class numbers: 8 bits, or 16 where they are needed."""
    deep = labels.max(initial=0) > 255
    done, data = cv2.imencode(".png", labels.astype(np.uint16 if deep else np.uint8))
    assert done
    return data.tobytes()


def _head(engine: Engine, height: int, width: int) -> dict[str, Any]:
    return {"model": engine.name, "version": engine.version, "width": width, "height": height}
