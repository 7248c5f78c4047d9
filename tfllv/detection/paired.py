"""One detector on two versions of the same pictures: normal and low light, or as they are and enhanced.

Both sides are compared picture by picture, so that what makes a picture hard cancels out: intervals by a paired
bootstrap, p-values by exchanging the two versions of pictures at random, which holds its level for few pictures too.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfllv.detection import average_precision, coco_metrics, lighting
from tfllv.detection.average_precision import ClassMatches
from tfllv.detection.results import Detections
from tfllv.detection.truth import Truth
from tfllv.inputs import files as image_folders
from tfllv.records import files

# More than for intervals alone: the smallest p-value, 1 / (B + 1), must survive the adjustment for dozens of tests.
RESAMPLES = 2000
SIGNIFICANT = 0.05
_KEYS = ("AP", "AP50")


@dataclasses.dataclass(frozen=True)
class Side:
    """One version of the pictures, measured in each light.

    Attributes:
      estimates: lighting or None for all -> (AP, AP50), or None where nothing is to be found.
      drawn: likewise -> [2, B] of the resamples.
      matches: likewise -> the matches of each class.
      images: likewise -> how many pictures hold objects.
      seed: of the draws.
    """

    estimates: Mapping[str | None, tuple[float, float] | None]
    drawn: Mapping[str | None, np.ndarray]
    matches: Mapping[str | None, Sequence[ClassMatches]]
    images: Mapping[str | None, int]
    seed: int


def measure(truth: Truth, detections: Detections, *, resamples: int = RESAMPLES, seed: int = 0) -> Side:
    """Measures the mean over classes on all pictures and in each light.

    Args:
      truth: the ground truth.
      detections: as `coco_metrics.align` gives.
      resamples: of the bootstrap; both sides of a pair need the same.
      seed: likewise.
    """
    if resamples < 1:
        raise ValueError(f"`resamples` must be >= 1. Received: resamples={resamples}.")
    matches = coco_metrics.evaluate(truth, detections).matches
    weights = average_precision.resample_weights(len(truth.images), resamples, seed)
    estimates, drawn, kept, images = {}, {}, {}, {}
    for part in lighting.parts(truth):
        if part.place is None:
            some = [each.part(part.images) for each in matches]
            kept[part.lighting] = some
            images[part.lighting] = int((np.sum([each.truths for each in some], axis=0) > 0).sum())
            estimates[part.lighting] = average_precision.mean_precision(some)
            drawn[part.lighting] = average_precision.mean_over_classes(
                [average_precision.resampled_precision(each, weights) for each in some]
            )
    return Side(estimates, drawn, kept, images, seed)


def difference(before: Side, after: Side, light: str | None, *, level: float = lighting.LEVEL) -> dict[str, Any] | None:
    """Returns how `after` differs from `before` in one light.

    Returns:
      AP and AP50 -> `before`, `after`, `difference`, `interval` (None below `lighting.FEWEST` pictures) and `p`; or
      None where nothing is to be found.
    """
    one, other = before.estimates[light], after.estimates[light]
    if one is None or other is None:
        return None
    changed = after.drawn[light] - before.drawn[light]
    rng = np.random.default_rng(before.seed)
    swaps = rng.random((changed.shape[1], len(before.matches[light][0].truths))) < 0.5
    swapped = average_precision.swapped_differences(before.matches[light], after.matches[light], swaps)
    row: dict[str, Any] = {}
    for index, key in enumerate(_KEYS):
        change = other[index] - one[index]
        ends = average_precision.interval(changed[index], change, level=level)
        row[key] = {"before": one[index], "after": other[index], "difference": change}
        row[key]["interval"] = list(ends) if ends and before.images[light] >= lighting.FEWEST else None
        row[key]["p"] = average_precision.p_value(swapped[index], change)
    return row


def compare_methods(
    truth: Truth,
    plain: Detections,
    enhanced: Mapping[str, Detections],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = lighting.LEVEL,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Tests whether enhancing changes what a detector finds.

    P-values are adjusted by Holm's method: over the methods for all pictures together, and over methods and lights for
    the lights. A change counts as one where the adjusted value is below .05.

    Args:
      truth: the ground truth.
      plain: detections in the pictures as they are.
      enhanced: name -> detections of the same detector in other versions of them; or of another detector.
      resamples: of the paired bootstrap, and exchanges of the test.
      seed: of its draws.
      level: of the intervals.

    Returns:
      A row a method and light (None: all): `method`, `lighting`, `images`, `AP` and `AP50` as `difference`, with
      `p_adjusted` and `verdict` (helps, hurts, unclear) by AP; and an answer in words a method.

    Raises:
      ValueError: if the sides do not hold the same pictures and classes.
    """
    truth, plain, _ = coco_metrics.align(truth, plain)
    before = measure(truth, plain, resamples=resamples, seed=seed)
    images = {part.lighting: int(part.images.sum()) for part in lighting.parts(truth) if part.place is None}
    rows = []
    for name, detections in enhanced.items():
        _, found, _ = coco_metrics.align(truth, detections)
        after = measure(truth, found, resamples=resamples, seed=seed)
        for light in before.estimates:
            row = difference(before, after, light, level=level)
            if row is not None:
                rows.append({"method": name, "lighting": light, "images": images[light], **row})
    _judge([row for row in rows if row["lighting"] is None])
    _judge([row for row in rows if row["lighting"] is not None])
    return rows, [_answer(name, [row for row in rows if row["method"] == name], level) for name in enhanced]


def _judge(rows: Sequence[dict[str, Any]]) -> None:
    """Adds adjusted p-values and verdicts to the rows of one family of tests."""
    adjusted = average_precision.adjust([row["AP"]["p"] for row in rows])
    for entry, p in zip((row["AP"] for row in rows), adjusted, strict=True):
        told = "helps" if entry["difference"] > 0 else "hurts"
        entry |= {"p_adjusted": p, "verdict": told if p < SIGNIFICANT else "unclear"}


def _answer(name: str, rows: Sequence[dict[str, Any]], level: float) -> str:
    whole = next((row["AP"] for row in rows if row["lighting"] is None), None)
    if whole is None:
        return f"{name}: there is nothing to be found"
    verdict = {
        "helps": "enhancing helps",
        "hurts": "enhancing hurts",
        "unclear": "no effect can be told from chance",
    }[whole["verdict"]]
    text = f"{name}: {verdict}. AP {100 * whole['before']:.1f} to {100 * whole['after']:.1f} "
    text += f"({100 * whole['difference']:+.1f} points"
    if whole["interval"]:
        low, high = (100 * end for end in whole["interval"])
        text += f", {level:.0%} interval {low:+.1f} to {high:+.1f}"
    text += f", adjusted p {_p_text(whole['p_adjusted'])}"
    parts = []
    for word in ("helps", "hurts"):
        lights = [row["lighting"] for row in rows if row["lighting"] and row["AP"]["verdict"] == word]
        parts += [f"it {word} in {', '.join(lights)}"] if lights else []
    return f"{text})" + (f"; by light, {' and '.join(parts)}" if parts else "")


def _p_text(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "below 0.001"


def pair_folders(
    truth: Truth, normal: str | os.PathLike[str], low: str | os.PathLike[str]
) -> tuple[Truth, Truth, list[str]]:
    """Finds the pictures of a ground truth in two folders, by name without ending.

    Args:
      truth: the ground truth; it holds for both.
      normal: the folder of pictures in normal light, sub-folders too.
      low: the folder of the same pictures in low light.

    Returns:
      The ground truth with normal pictures, with dark ones, and lines on what was left out.

    Raises:
      ValueError: if no picture is in both, or a name stands twice in a folder.
      OSError: if a folder is missing or holds no picture.
    """
    found = [_by_stem(normal, "--normal_light_dir"), _by_stem(low, "--low_light_dir")]
    stems = {image.file: pathlib.PurePath(image.file).stem for image in truth.images}
    kept = [image for image in truth.images if all(stems[image.file] in side for side in found)]
    if not kept:
        raise ValueError(
            f"--normal_light_dir and --low_light_dir must hold pictures of the ground truth, as "
            f"'{truth.images[0].file}'. Received: {normal}, {low}: none is in both."
        )
    notes = []
    if len(kept) < len(truth.images):
        notes.append(f"{len(truth.images) - len(kept)} pictures are not in both folders and are left out")
    sides = []
    for side in found:
        images = [dataclasses.replace(image, read=_reader(side[stems[image.file]])) for image in kept]
        sides.append(dataclasses.replace(truth, images=tuple(images)))
    return sides[0], sides[1], notes


def _reader(path: pathlib.Path) -> Any:
    return lambda: files.read(str(path))


def _by_stem(folder: str | os.PathLike[str], option: str) -> dict[str, pathlib.Path]:
    found: dict[str, pathlib.Path] = {}
    for path in image_folders.find_images(pathlib.Path(folder), name=option.lstrip("-"), option=option):
        if path.stem in found:
            raise ValueError(f"{option} must hold each name once. Received: '{found[path.stem]}' and '{path}'.")
        found[path.stem] = path
    return found


def compare_lights(
    truth: Truth,
    normal: Detections,
    low: Detections,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = lighting.LEVEL,
) -> dict[str, Any]:
    """Returns what darkness costs: `pictures`, and AP and AP50 as `difference`, from normal to low light."""
    truth, normal, _ = coco_metrics.align(truth, normal)
    _, low, _ = coco_metrics.align(truth, low)
    before, after = (measure(truth, side, resamples=resamples, seed=seed) for side in (normal, low))
    row = difference(before, after, None, level=level)
    if row is None:
        raise ValueError("the pictures must hold objects. Received: none in either folder.")
    return {"pictures": len(truth.images), **row}


def text(report: Mapping[str, Any]) -> str:
    """Returns what is printed of `comparison` and `answers` of a report; empty where there is neither."""
    lines = []
    if report.get("comparison"):
        found = report["comparison"]
        lines.append(f"Normal and low light, {found['pictures']} pictures in both")
        for key in ("AP50", "AP"):
            row = found[key]
            ends = "" if row["interval"] is None else ", ".join(f"{100 * end:+.1f}" for end in row["interval"])
            lines.append(
                f"  {key:<5} normal {100 * row['before']:.1f}  low {100 * row['after']:.1f}  "
                f"drop {-100 * row['difference']:.1f}" + (f"  (change {ends})" if ends else "")
            )
    if report.get("answers"):
        lines += ["Does enhancing help this detector?", *(f"  {answer}" for answer in report["answers"])]
    return "\n".join(lines)
