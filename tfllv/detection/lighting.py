"""How well a detector does in which light: class x ExDark's ten lighting types x indoor and outdoor, with intervals.

All cells share one set of bootstrap resamples of the pictures, so that cells and methods can be compared in pairs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tfllv.detection import average_precision
from tfllv.detection.average_precision import ClassMatches
from tfllv.detection.truth import Truth
from tfllv.records import exdark

RESAMPLES = 1000
LEVEL = 0.95
PLACES = ("indoor", "outdoor")
# Pictures below which no interval is given: resamples of so few are alike, and would seem sure.
FEWEST = 5


@dataclasses.dataclass(frozen=True)
class Part:
    """Some of the pictures.

    Attributes:
      lighting: a name of `exdark.LIGHTING`, or None for any.
      place: of `PLACES`, or None for both.
      images: [N] bool.
    """

    lighting: str | None
    place: str | None
    images: np.ndarray


def parts(truth: Truth) -> Iterator[Part]:
    """Yields the parts that hold pictures: all of them first, then by lighting, by place, and by both."""
    lighting = np.array([image.lighting for image in truth.images])
    indoor = np.array([-1 if image.indoor is None else int(image.indoor) for image in truth.images])
    for number, name in ((0, None), *enumerate(exdark.LIGHTING, 1)):
        for value, place in ((-1, None), (1, PLACES[0]), (0, PLACES[1])):
            images = (lighting == number if number else np.ones(len(lighting), bool)) & (
                indoor == value if place else np.ones(len(indoor), bool)
            )
            if images.any():
                yield Part(name, place, images)


def cells(
    truth: Truth,
    matches: Sequence[ClassMatches],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> list[dict[str, Any]]:
    """Measures each class, and all classes together, in each part.

    Args:
      truth: the ground truth.
      matches: of its classes, as `coco_metrics.evaluate` gives.
      resamples: of the bootstrap over pictures.
      seed: of the draws.
      level: of confidence.

    Returns:
      One row a cell that has objects: `class` (None: the mean over classes), `lighting`, `place`, `images` (those with
      such objects), `objects`, `AP`, `AP50` and `AP_interval`, `AP50_interval` (None below `FEWEST` images).

    Raises:
      ValueError: if `resamples` or `level` is out of range.
    """
    if resamples < 1:
        raise ValueError(f"`resamples` must be >= 1. Received: resamples={resamples}.")
    if not 0 < level < 1:
        raise ValueError(f"`level` must be in (0, 1). Received: level={level}.")
    weights = average_precision.resample_weights(len(truth.images), resamples, seed)
    rows = []
    for part in parts(truth):
        some = [each.part(part.images) for each in matches]
        drawn = [average_precision.resampled_precision(each, weights) for each in some]
        if any(each.truths.any() for each in some):
            rows.append(_row(None, part, some, average_precision.mean_over_classes(drawn), level))
        for each, values in zip(some, drawn, strict=True):
            if each.truths.any():
                rows.append(_row(truth.label_map[each.label], part, [each], values, level))
    return rows


def _row(
    name: str | None, part: Part, matches: Sequence[ClassMatches], drawn: np.ndarray, level: float
) -> dict[str, Any]:
    found = average_precision.mean_precision(matches)
    assert found is not None
    images = int((np.sum([each.truths for each in matches], axis=0) > 0).sum())
    row: dict[str, Any] = {"class": name, "lighting": part.lighting, "place": part.place, "images": images}
    row["objects"] = int(sum(each.truths.sum() for each in matches))
    for key, value, values in zip(("AP", "AP50"), found, drawn, strict=True):
        row[key] = value
        ends = average_precision.interval(values, value, level=level) if images >= FEWEST else None
        row[f"{key}_interval"] = None if ends is None else [min(max(end, 0.0), 1.0) for end in ends]
    return row


def table(rows: Sequence[dict[str, Any]], *, place: str | None = None, key: str = "AP50") -> str:
    """Returns a table of classes by lighting types as text, in percent, the interval under each number.

    Args:
      rows: as `cells` gives.
      place: `indoor`, `outdoor` or None for both.
      key: `AP` or `AP50`.
    """
    chosen = {(row["class"], row["lighting"]): row for row in rows if row["place"] == place}
    lights = [name for name in (None, *exdark.LIGHTING) if (None, name) in chosen]
    names = list(dict.fromkeys(name for name, _ in chosen))
    head = [f"{key}, %{'' if place is None else ', ' + place}", *("all" if name is None else name for name in lights)]
    lines = [head, ["images", *(str(chosen[None, light]["images"]) for light in lights)]]
    for name in names:
        found = [chosen.get((name, light)) for light in lights]
        lines.append(
            ["mean" if name is None else name, *("-" if row is None else f"{100 * row[key]:.1f}" for row in found)]
        )
        lines.append(["", *("" if row is None else _interval_text(row[f"{key}_interval"]) for row in found)])
    widths = [max(len(line[index]) for line in lines) for index in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(widths[0]) if index == 0 else cell.rjust(widths[index]) for index, cell in enumerate(line)
        ).rstrip()
        for line in lines
    )


def _interval_text(ends: Sequence[float] | None) -> str:
    return "?" if ends is None else f"{100 * ends[0]:.0f}-{100 * ends[1]:.0f}"
