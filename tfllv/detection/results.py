"""Saved detections: one JSON file that inference writes and evaluation reads.

    {"label_map": {"1": "Bicycle", ...},
     "model": "exported/saved_model",
     "images": [{"file": "2015_00001.png", "width": 500, "height": 375,
                 "boxes": [[ymin, xmin, ymax, xmax], ...],      normalised to [0, 1]
                 "classes": [1, ...],                           ids of the label map
                 "scores": [0.93, ...],
                 "masks": [{"size": [375, 500], "counts": "..."}, ...]}, ...]}

`masks` holds COCO's compressed run lengths and is absent where the model gives none. Numbers are written with all their
digits, so that a file scores exactly as the arrays it was written from.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tfllv.records import files
from tfllv.records.problems import show_value, whole_number

# Pixel coordinates are rounded so far down the decimals that boxes of a COCO file return as they stood there.
_DECIMALS = 9


@dataclasses.dataclass(frozen=True)
class ImageDetections:
    """What was found in one picture.

    Attributes:
      file: the picture's file, as evaluation matches it with the ground truth: by name, or by name without ending.
      width: in pixels, upright.
      height: in pixels, upright.
      boxes: [N, 4] float64, (ymin, xmin, ymax, xmax), normalised.
      classes: [N] int64, ids of the label map.
      scores: [N] float64 in [0, 1].
      masks: N run lengths `{"size": [height, width], "counts": str}`, or None where the model gives no masks.
    """

    file: str
    width: int
    height: int
    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    masks: tuple[Mapping[str, Any], ...] | None = None

    def __post_init__(self) -> None:
        _set(self, "boxes", np.asarray(self.boxes, np.float64).reshape(-1, 4))
        _set(self, "classes", np.asarray(self.classes, np.int64).reshape(-1))
        _set(self, "scores", np.asarray(self.scores, np.float64).reshape(-1))
        counts = {"boxes": len(self.boxes), "classes": len(self.classes), "scores": len(self.scores)}
        counts |= {} if self.masks is None else {"masks": len(self.masks)}
        if len(set(counts.values())) > 1:
            raise ValueError(f"{self.file}: expected as many of each. Received: {counts}.")
        if not (np.isfinite(self.boxes).all() and np.isfinite(self.scores).all()):
            raise ValueError(f"{self.file}: boxes and scores must be finite. Received: NaN or infinity.")


def _set(target: Any, name: str, value: Any) -> None:
    object.__setattr__(target, name, value)


@dataclasses.dataclass(frozen=True)
class Detections:
    """What was found in a set of pictures.

    Attributes:
      label_map: class id -> name.
      images: one entry a picture, each file once.
      model: what found them, for the reader.
    """

    label_map: Mapping[int, str]
    images: tuple[ImageDetections, ...]
    model: str = ""


def write(path: str | os.PathLike[str], detections: Detections) -> None:
    """Writes a detections file, whole or not at all; one line a picture.

    Raises:
      OSError: if it cannot be written.
    """
    label_map = {str(key): detections.label_map[key] for key in sorted(detections.label_map)}
    head = f'{{"label_map": {_json(label_map)},\n "model": {_json(detections.model)},\n "images": ['
    lines = ",\n  ".join(_json(_entry(image)) for image in detections.images)
    body = f"\n  {lines}\n ]}}\n" if detections.images else "]}\n"
    files.write(str(path), [(head + body).encode("utf-8", "surrogatepass")])


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _entry(image: ImageDetections) -> dict[str, Any]:
    entry: dict[str, Any] = {"file": image.file, "width": int(image.width), "height": int(image.height)}
    entry |= {"boxes": image.boxes.tolist(), "classes": image.classes.tolist(), "scores": image.scores.tolist()}
    return entry if image.masks is None else entry | {"masks": [dict(mask) for mask in image.masks]}


def read(path: str | os.PathLike[str]) -> Detections:
    """Reads a detections file.

    Raises:
      ValueError: naming the file and the entry, if it is no such file, a class is not in its label map, or a picture
        stands twice.
      OSError: if it cannot be read.
    """
    try:
        document = json.loads(files.read_text(str(path)))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{error.lineno}: expected a detections file, found {error.msg}.") from None
    except RecursionError:
        raise ValueError(f"{path}: expected a detections file, found lists nested too deep.") from None
    if not isinstance(document, dict) or not isinstance(document.get("images"), list):
        hint = "; COCO results are read with the ground truth they belong to" if isinstance(document, list) else ""
        raise ValueError(f'{path}: expected {{"label_map": ..., "images": [...]}}, found {show_value(document)}{hint}.')
    label_map = _label_map(document.get("label_map"), str(path))
    images = []
    for index, entry in enumerate(document["images"]):
        images.append(_image(entry, f"{path}: images[{index}]", label_map))
    doubled = _first_doubled(image.file for image in images)
    if doubled is not None:
        raise ValueError(f"{path}: images: expected each file once, found {show_value(doubled)} twice.")
    return Detections(label_map, tuple(images), str(document.get("model") or ""))


def _label_map(value: Any, where: str) -> dict[int, str]:
    pairs = [(whole_number(key), name) for key, name in value.items()] if isinstance(value, dict) else []
    found = {key: name for key, name in pairs if key is not None and key > 0 and isinstance(name, str)}
    if not pairs or len(found) != len(pairs):
        raise ValueError(f'{where}: label_map: expected {{"1": "name", ...}}, found {show_value(value)}.')
    return found


def _image(entry: Any, where: str, label_map: Mapping[int, str]) -> ImageDetections:
    if not isinstance(entry, dict) or not isinstance(entry.get("file"), str) or not entry["file"]:
        raise ValueError(f'{where}: expected {{"file": ..., "boxes": ...}}, found {show_value(entry)}.')
    width, height = entry.get("width"), entry.get("height")
    if type(width) is not int or type(height) is not int or min(width, height) < 1:
        raise ValueError(f"{where}: width, height: expected whole numbers from 1, found {show_value([width, height])}.")
    boxes = _numbers(entry.get("boxes"), f"{where}.boxes", (None, 4))
    scores = _numbers(entry.get("scores"), f"{where}.scores", (None,))
    classes = _numbers(entry.get("classes"), f"{where}.classes", (None,))
    unknown = [number for number in classes.tolist() if number not in label_map]
    if unknown:
        raise ValueError(f"{where}.classes: expected ids of the label map, found {show_value(unknown[0])}.")
    if len(scores) and not (scores.min() >= 0 and scores.max() <= 1):
        raise ValueError(f"{where}.scores: expected scores in [0, 1], found {scores.min():g} to {scores.max():g}.")
    masks = _masks(entry["masks"], f"{where}.masks", height, width) if entry.get("masks") is not None else None
    try:
        return ImageDetections(entry["file"], width, height, boxes, classes.astype(np.int64), scores, masks)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _numbers(value: Any, where: str, shape: tuple[int | None, ...]) -> np.ndarray:
    try:
        array = np.asarray(value if isinstance(value, list) else None)
    except ValueError:  # lists of different lengths inside
        array = np.array(None)
    if isinstance(value, list) and not value:
        return np.zeros([0 if side is None else side for side in shape])
    fits = array.ndim == len(shape) and all(w in (None, f) for w, f in zip(shape, array.shape, strict=True))
    if not fits or array.dtype.kind not in "if" or not np.isfinite(array).all():
        text = "[N]" if len(shape) == 1 else f"[N, {shape[1]}]"
        raise ValueError(f"{where}: expected {text} finite numbers, found {show_value(value)}.")
    return array.astype(np.float64)


def _masks(value: Any, where: str, height: int, width: int) -> tuple[Mapping[str, Any], ...]:
    from tfllv.records import masks

    if not isinstance(value, list):
        raise ValueError(f"{where}: expected a list of run lengths, found {show_value(value)}.")
    for index, mask in enumerate(value):
        try:
            masks.read_runs(mask, height, width)
        except ValueError as error:
            raise ValueError(f"{where}[{index}]: {error}.") from None
    return tuple(value)


def _first_doubled(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """Encodes one mask as COCO's compressed run lengths.

    Args:
      mask: [H, W]; nonzero is inside.

    Returns:
      `{"size": [H, W], "counts": str}`.
    """
    from pycocotools import mask as coco_mask

    runs = coco_mask.encode(np.asfortranarray(np.asarray(mask) != 0, np.uint8))
    return {"size": [int(side) for side in runs["size"]], "counts": runs["counts"].decode("ascii")}


def to_coco(detections: Detections, image_ids: Mapping[str, int]) -> list[dict[str, Any]]:
    """Converts detections to COCO's results, best first within a picture.

    Args:
      detections: the detections.
      image_ids: file -> id of the picture; pictures that it lacks are left out.

    Returns:
      Entries with `image_id`, `category_id`, `bbox` (left, top, width, height in pixels), `score` and, where the model
      gives masks, `segmentation`.
    """
    results = []
    for image in detections.images:
        if image.file not in image_ids:
            continue
        boxes = to_pixels(image.boxes, image.width, image.height)
        for index in np.argsort(-image.scores, kind="stable").tolist():
            entry: dict[str, Any] = {"image_id": image_ids[image.file], "category_id": int(image.classes[index])}
            entry |= {"bbox": boxes[index].tolist(), "score": float(image.scores[index])}
            results.append(entry if image.masks is None else entry | {"segmentation": dict(image.masks[index])})
    return results


def to_pixels(boxes: np.ndarray, width: int, height: int, *, decimals: int = _DECIMALS) -> np.ndarray:
    """Converts [N, 4] (ymin, xmin, ymax, xmax), normalised, to COCO's (left, top, width, height) in pixels."""
    ymin, xmin, ymax, xmax = (np.asarray(boxes, np.float64) * (height, width, height, width)).T
    return np.round(np.stack([xmin, ymin, xmax - xmin, ymax - ymin], axis=1), decimals)


def from_coco(
    results: Sequence[Mapping[str, Any]],
    images: Sequence[Mapping[str, Any]],
    label_map: Mapping[int, str],
    *,
    model: str = "",
) -> Detections:
    """Converts COCO's results to detections.

    Args:
      results: entries as `to_coco` gives; `segmentation`, if any, holds run lengths.
      images: the `images` of the annotation file, with `id`, `file_name`, `width` and `height`; each gets an entry.
      label_map: category id -> name.
      model: as `Detections.model`.

    Raises:
      ValueError: naming the entry, if it is not as above or of an unknown picture or category.
    """
    by_id: dict[int, list[Mapping[str, Any]]] = {image["id"]: [] for image in images}
    for index, entry in enumerate(results):
        if not isinstance(entry, Mapping) or not {"image_id", "category_id", "bbox", "score"} <= entry.keys():
            raise ValueError(
                f"results[{index}]: expected image_id, category_id, bbox, score; {show_value(entry)} found."
            )
        if entry["image_id"] not in by_id:
            raise ValueError(f"results[{index}].image_id: no picture of id {show_value(entry['image_id'])}.")
        if entry["category_id"] not in label_map:
            raise ValueError(f"results[{index}].category_id: no category of id {show_value(entry['category_id'])}.")
        by_id[entry["image_id"]].append(entry)
    found = [_from_entries(image, by_id[image["id"]]) for image in images]
    return Detections(dict(label_map), tuple(found), model)


def _from_entries(image: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> ImageDetections:
    width, height, where = int(image["width"]), int(image["height"]), str(image["file_name"])
    pixels = _numbers([list(entry["bbox"]) for entry in entries], f"{where}: bbox", (None, 4))
    left, top, wide, high = pixels.T
    boxes = np.stack([top / height, left / width, (top + high) / height, (left + wide) / width], axis=1)
    segmented = [entry.get("segmentation") for entry in entries]
    masks = None
    if segmented and any(segmented):
        masks = _masks(segmented, f"{where}: segmentation", height, width)
    scores = _numbers([entry["score"] for entry in entries], f"{where}: score", (None,))
    classes = np.array([entry["category_id"] for entry in entries], np.int64)
    return ImageDetections(where, width, height, boxes, classes, scores, masks)
