"""The 12 numbers of COCO's evaluation, by pycocotools or, where installed, by faster-coco-eval, which gives the same.

Detections and ground truth meet by the names of pictures and classes, not by ids that each side numbered its own way.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfllv.detection.average_precision import ClassMatches
from tfllv.detection.results import Detections, ImageDetections, to_coco
from tfllv.detection.truth import Truth

# Key of the report -> how pycocotools prints it, in its order.
METRICS = {
    "AP": ("Average Precision", "(AP)", "0.50:0.95", "all", 100),
    "AP50": ("Average Precision", "(AP)", "0.50", "all", 100),
    "AP75": ("Average Precision", "(AP)", "0.75", "all", 100),
    "AP_small": ("Average Precision", "(AP)", "0.50:0.95", "small", 100),
    "AP_medium": ("Average Precision", "(AP)", "0.50:0.95", "medium", 100),
    "AP_large": ("Average Precision", "(AP)", "0.50:0.95", "large", 100),
    "AR1": ("Average Recall", "(AR)", "0.50:0.95", "all", 1),
    "AR10": ("Average Recall", "(AR)", "0.50:0.95", "all", 10),
    "AR100": ("Average Recall", "(AR)", "0.50:0.95", "all", 100),
    "AR_small": ("Average Recall", "(AR)", "0.50:0.95", "small", 100),
    "AR_medium": ("Average Recall", "(AR)", "0.50:0.95", "medium", 100),
    "AR_large": ("Average Recall", "(AR)", "0.50:0.95", "large", 100),
}
KINDS = {"bbox": "boxes", "segm": "masks"}
BACKENDS = ("pycocotools", "faster-coco-eval")


@dataclasses.dataclass(frozen=True)
class Scores:
    """What an evaluation of boxes or masks gives.

    Attributes:
      kind: `bbox` or `segm`.
      stats: [12], in the order of `METRICS`; -1 where there is nothing to measure it on, as COCO has it.
      matches: for each class of the label map, in the order of ids, what was found in which picture; () where they
        were not asked for.
    """

    kind: str
    stats: np.ndarray
    matches: tuple[ClassMatches, ...]

    def named(self) -> dict[str, float]:
        """Returns the 12 numbers by the keys of `METRICS`."""
        return dict(zip(METRICS, self.stats.tolist(), strict=True))


def align(truth: Truth, detections: Detections, *, allow_missing: bool = False) -> tuple[Truth, Detections, list[str]]:
    """Brings detections to the ground truth's pictures and class ids.

    A picture is found by its name, else by its name without folder, else without ending too (ExDark changed endings of
    427 files); a class by its name, whatever the case.

    Args:
      truth: the ground truth.
      detections: what was found.
      allow_missing: leave out pictures without an entry in `detections`, instead of refusing.

    Returns:
      The ground truth of the pictures that are scored; the detections in them, in the same order and by its names and
      ids; and lines on what was left out.

    Raises:
      ValueError: if pictures are missing, differ in size, cannot be told apart, or no class has a name in common.
    """
    notes: list[str] = []
    numbers = _match_classes(truth.label_map, detections.label_map, notes)
    places = _match_files([image.file for image in truth.images], [image.file for image in detections.images])
    missing = [image.file for image in truth.images if image.file not in places]
    if missing and (not allow_missing or len(missing) == len(truth.images)):
        raise ValueError(
            f"the detections must have an entry for each of the {len(truth.images)} pictures. Received: none for "
            f"{len(missing)}, the first is '{missing[0]}'; --allow_missing scores the others."
        )
    if missing:
        notes.append(f"{len(missing)} pictures without an entry in the detections are left out, as '{missing[0]}'")
    extra = len(detections.images) - len(places)
    if extra:
        notes.append(f"{extra} pictures of the detections are not in the ground truth and are left out")
    kept = tuple(image for image in truth.images if image.file in places)
    found = []
    for image in kept:
        one = detections.images[places[image.file]]
        if (one.width, one.height) != (image.width, image.height):
            raise ValueError(
                f"'{image.file}' has {image.width}x{image.height} pixels by the ground truth. Received: detections in "
                f"{one.width}x{one.height}; both must be of the same, unturned picture."
            )
        found.append(_renumber(one, image.file, numbers))
    return dataclasses.replace(truth, images=kept), Detections(truth.label_map, tuple(found), detections.model), notes


def _match_classes(truth: Mapping[int, str], found: Mapping[int, str], notes: list[str]) -> dict[int, int]:
    by_name = {name.casefold(): number for number, name in truth.items()}
    numbers = {number: by_name[name.casefold()] for number, name in found.items() if name.casefold() in by_name}
    if not numbers:
        raise ValueError(
            "detections and ground truth must share class names. Received: "
            f"{', '.join(list(found.values())[:5])} ... and {', '.join(list(truth.values())[:5])} ...: none in common."
        )
    unknown = [name for number, name in found.items() if number not in numbers]
    if unknown:
        notes.append(f"{len(unknown)} classes of the detections are not in the ground truth, as '{unknown[0]}'")
    never = [name for number, name in truth.items() if number not in numbers.values()]
    if never:
        notes.append(f"{len(never)} classes of the ground truth are none of the model's, as '{never[0]}'")
    return numbers


def _match_files(wanted: Sequence[str], present: Sequence[str]) -> dict[str, int]:
    """Name of the ground truth -> index of the detections; by the strictest rule under which a name has a partner."""
    places: dict[str, int] = {}
    rules = (str, lambda name: pathlib.PurePath(name).name, lambda name: pathlib.PurePath(name).stem)
    for rule in rules:
        index: dict[str, list[int]] = {}
        for number, name in enumerate(present):
            index.setdefault(rule(name), []).append(number)
        for name in wanted:
            partners = index.get(rule(name), []) if name not in places else []
            if len(partners) > 1:
                raise ValueError(
                    f"'{name}' must have one entry in the detections. Received: '{present[partners[0]]}' and "
                    f"'{present[partners[1]]}'."
                )
            if partners:
                places[name] = partners[0]
    taken: dict[int, str] = {}
    for name, place in places.items():
        if place in taken:
            raise ValueError(
                f"'{taken[place]}' and '{name}' must differ in name. Received: '{present[place]}' for both."
            )
        taken[place] = name
    return places


def _renumber(found: ImageDetections, file: str, numbers: Mapping[int, int]) -> ImageDetections:
    kept = [index for index, number in enumerate(found.classes.tolist()) if number in numbers]
    return ImageDetections(
        file,
        found.width,
        found.height,
        found.boxes[kept],
        np.array([numbers[int(found.classes[index])] for index in kept], np.int64),
        found.scores[kept],
        None if found.masks is None else tuple(found.masks[index] for index in kept),
    )


def evaluate(
    truth: Truth,
    detections: Detections,
    *,
    kind: str = "bbox",
    backend: str | None = None,
    with_matches: bool = True,
) -> Scores:
    """Scores detections by COCO's protocol.

    Args:
      truth: the ground truth.
      detections: one entry for each picture of it, in its order and by its names and ids, as `align` gives.
      kind: `bbox` or `segm`.
      backend: one of `BACKENDS`; None: faster-coco-eval where installed.
      with_matches: give `matches` too. They are pycocotools' in either case; the other does not give them.

    Raises:
      ValueError: if an argument is wrong, or masks are asked for and one side has none.
      ImportError: if the backend is not installed.
    """
    if kind not in KINDS:
        raise ValueError(f"`kind` must be one of {', '.join(KINDS)}. Received: kind='{kind}'.")
    if [image.file for image in truth.images] != [image.file for image in detections.images]:
        raise ValueError("`detections` must be brought to the ground truth by `align` first. Received: other pictures.")
    if not truth.images:
        raise ValueError("`truth` must hold pictures. Received: none.")
    maskless = [image.file for image in detections.images if image.masks is None and len(image.boxes)]
    if kind == "segm" and (maskless or not truth.has_masks):
        side = f"detections without, as in '{maskless[0]}'" if maskless else "a ground truth without"
        raise ValueError(f"masks are needed on both sides to score them. Received: {side}.")
    if backend is None:
        backend = BACKENDS[1] if importlib.util.find_spec("faster_coco_eval") else BACKENDS[0]
    if backend not in BACKENDS:
        raise ValueError(f"`backend` must be one of {', '.join(BACKENDS)}. Received: backend='{backend}'.")
    documents = _coco_documents(truth, detections, kind)
    with contextlib.redirect_stdout(io.StringIO()):  # both report every stage there
        evaluator = _evaluator(backend, kind, *documents)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
        stats = np.asarray(evaluator.stats[: len(METRICS)], np.float64)
        if with_matches and backend != BACKENDS[0]:
            evaluator = _evaluator(BACKENDS[0], kind, *documents)
            evaluator.params.areaRng = evaluator.params.areaRng[:1]
            evaluator.evaluate()
    return Scores(kind, stats, _matches(evaluator, len(truth.images)) if with_matches else ())


def _coco_documents(truth: Truth, detections: Detections, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both sides as COCO documents. Ids begin at 1: the matcher takes 0 for "no match"."""
    ids = {image.file: number for number, image in enumerate(truth.images, 1)}
    common: dict[str, Any] = {
        "images": [{"id": ids[image.file], "width": image.width, "height": image.height} for image in truth.images],
        "categories": [{"id": number, "name": name} for number, name in sorted(truth.label_map.items())],
    }
    objects: list[dict[str, Any]] = []
    for image in truth.images:
        rows = zip(
            image.boxes.tolist(), image.classes.tolist(), image.areas.tolist(), image.crowd.tolist(), strict=True
        )
        for index, (box, number, area, crowd) in enumerate(rows):
            entry = {"id": len(objects) + 1, "image_id": ids[image.file], "category_id": number, "bbox": box}
            entry |= {"area": area, "iscrowd": int(crowd)}
            if kind == "segm" and image.masks is not None:
                entry["segmentation"] = dict(image.masks[index])
            objects.append(entry)
    found = to_coco(detections, ids)
    for index, entry in enumerate(found, 1):
        entry |= {"id": index, "iscrowd": 0, "area": entry["bbox"][2] * entry["bbox"][3]}
    if kind == "segm" and found:
        from pycocotools import mask as coco_mask

        areas = coco_mask.area([entry["segmentation"] for entry in found]).tolist()
        for entry, area in zip(found, areas, strict=True):
            entry["area"] = area  # small, medium and large by the mask, as the official results without boxes
    return common | {"annotations": objects}, common | {"annotations": found}


def _evaluator(backend: str, kind: str, truth: dict[str, Any], found: dict[str, Any]) -> Any:
    try:
        if backend == BACKENDS[0]:
            from pycocotools.coco import COCO
            from pycocotools.cocoeval import COCOeval
        else:
            from faster_coco_eval import COCO
            from faster_coco_eval import COCOeval_faster as COCOeval
    except ImportError as error:
        raise ImportError(f"scoring detections needs {backend}: pip install {backend} ({error}).") from None
    sides = []
    for document in (truth, found):
        side = COCO()
        side.dataset = document
        side.createIndex()
        sides.append(side)
    return COCOeval(*sides, kind)


def _matches(evaluator: Any, images: int) -> tuple[ClassMatches, ...]:
    """Takes what pycocotools matched, of objects of any size, out of its lists: classes x sizes x pictures."""
    params, found = evaluator.params, []
    for number, label in enumerate(params.catIds):
        first = number * len(params.areaRng) * images
        entries = [(i, e) for i, e in enumerate(evaluator.evalImgs[first : first + images]) if e is not None]
        truths = np.zeros(images, np.int64)
        for index, entry in entries:
            truths[index] = np.count_nonzero(entry["gtIgnore"] == 0)
        counts = [len(entry["dtScores"]) for _, entry in entries]
        scores = np.concatenate([np.zeros(0), *(entry["dtScores"] for _, entry in entries)])
        order = np.argsort(-scores, kind="mergesort")
        image = np.repeat(np.array([index for index, _ in entries], np.int64), counts)[order]
        none = np.zeros((len(params.iouThrs), 0), bool)
        matched = np.concatenate([none, *(entry["dtMatches"] != 0 for _, entry in entries)], axis=1)[:, order]
        ignored = np.concatenate([none, *(entry["dtIgnore"].astype(bool) for _, entry in entries)], axis=1)[:, order]
        found.append(ClassMatches(int(label), truths, image, scores[order], matched & ~ignored, ~ignored))
    return tuple(found)


def text(values: Mapping[str, float]) -> str:
    """Returns the 12 lines that pycocotools prints, of `Scores.named`."""
    lines = []
    for key, (title, short, iou, area, most) in METRICS.items():
        lines.append(
            f" {title:<18} {short} @[ IoU={iou:<9} | area={area:>6s} | maxDets={most:>3d} ] = {values[key]:0.3f}"
        )
    return "\n".join(lines)
