"""Draws detections on a picture: boxes, masks, and labels that stay inside it and off each other.

NumPy and OpenCV alone: neither TensorFlow nor TFOD is imported.
"""

from __future__ import annotations

import colorsys
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from tfllv import contracts

MASK_OPACITY = 0.4
_SMALLEST_TEXT = 8  # pixels; below, letters cannot be read and a label is left out
_DARK = (16, 16, 16)
_DIMMEST = 120.0  # luma, of 255, of a class's colour; also bright enough for dark letters on it

Rectangle = tuple[int, int, int, int]


@dataclasses.dataclass(frozen=True)
class _Style:
    """Sizes in pixels that suit one picture."""

    line: int
    casing: int
    text: int

    @classmethod
    def of(cls, height: int, width: int) -> _Style:
        side = (height * width) ** 0.5
        line = max(1, round(side / 280))
        return cls(line, casing=0 if side < 200 else max(1, line // 3), text=max(12, round(side / 38)))


@functools.cache
def _font() -> Any:
    return cv2.FontFace("sans")  # travels inside OpenCV, with accents, Greek, Cyrillic and Chinese


def class_color(number: int) -> tuple[int, int, int]:
    """Returns the colour of a class: RGB, bright enough for dark pictures, far from those of neighbouring ids.

    Twelve hues, as ExDark has classes, each next to two paler or stronger ones; further dozens lie between. Blue and
    violet, dark to the eye, are mixed with white up to a luma of 120.

    Args:
      number: the class id, any integer.

    Returns:
      Red, green and blue, 0 to 255 each.
    """
    dozen, place = divmod(number - 1, 12)
    turn = 5 * place % 12  # ids in a row lie far apart on the circle
    hue = (turn + 0.4 + dozen * 0.6180339887 % 1.0) / 12 % 1.0
    color = 255 * np.asarray(colorsys.hsv_to_rgb(hue, (0.9, 0.45)[turn % 2], (1.0, 0.88)[turn // 2 % 2]))
    luma = color @ contracts.BT601_LUMA
    color += max(0.0, (_DIMMEST - luma) / (255 - luma)) * (255 - color)
    red, green, blue = (int(channel) for channel in np.rint(color))
    return red, green, blue


def draw_detections(
    image: np.ndarray,
    boxes: np.ndarray,
    classes: Sequence[int] | np.ndarray,
    scores: Sequence[float] | np.ndarray,
    names: Mapping[int, str],
    *,
    masks: Sequence[np.ndarray] | np.ndarray | None = None,
    min_score: float = 0.3,
    max_boxes: int = 200,
) -> np.ndarray:
    """Draws the best detections, each with its class and score.

    Lines and letters are sized by the picture. A better detection is drawn over a worse one. A label stands above its
    box, inside or below it: where it is whole and covers no other label, as far as there is room; its letters shrink to
    the picture's width, and where they could not be read then (below 8 pixels) there is none.

    Args:
      image: [H, W, 3] uint8, RGB; not changed.
      boxes: [N, 4] float, ymin, xmin, ymax, xmax, normalised to [0, 1]; what lies outside is cut off.
      classes: [N] class ids.
      scores: [N] in [0, 1].
      names: id -> name; an id without one is drawn as `class 7`.
      masks: N masks of [H, W] bool, or None.
      min_score: detections below are not drawn.
      max_boxes: the most that are drawn, best first.

    Returns:
      [H, W, 3] uint8.

    Raises:
      ValueError: if the arguments' shapes or types are not as above.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4) if np.size(boxes) == 0 else np.asarray(boxes, np.float64)
    classes, scores = np.asarray(classes, np.int64), np.asarray(scores, np.float64)
    _check(image, boxes, classes, scores, masks)
    height, width = image.shape[:2]
    style = _Style.of(height, width)
    order = [i for i in np.argsort(-scores, kind="stable") if scores[i] >= min_score and np.isfinite(boxes[i]).all()]
    order = order[: max(max_boxes, 0)]
    result = np.ascontiguousarray(image).copy()
    places = {i: _to_pixels(boxes[i], height, width) for i in order}
    for i in reversed(order):
        color = class_color(int(classes[i]))
        if masks is not None:
            _draw_mask(result, np.asarray(masks[i]), color, style)
        _draw_box(result, places[i], color, style)
    taken: list[Rectangle] = []
    for i in order:
        number = int(classes[i])
        text = f"{names.get(number, f'class {number}')} {int(100 * scores[i])}%"
        _draw_label(result, places[i], text, class_color(number), style, taken, [places[j] for j in order])
    return result


def _check(image: np.ndarray, boxes: np.ndarray, classes: np.ndarray, scores: np.ndarray, masks: Any) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise ValueError(f"`image` must be [H, W, 3] uint8. Received: shape={image.shape}, dtype={image.dtype}.")
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"`boxes` must be [N, 4]. Received: shape={boxes.shape}.")
    number = len(boxes)
    if classes.shape != (number,) or scores.shape != (number,):
        raise ValueError(
            f"`classes` and `scores` must be [{number}], as there are boxes. "
            f"Received: shapes {classes.shape} and {scores.shape}."
        )
    if masks is not None and (len(masks) != number or any(np.shape(mask) != image.shape[:2] for mask in masks[:1])):
        found = np.shape(masks[0]) if len(masks) else ()
        raise ValueError(f"`masks` must be {number} of {image.shape[:2]}. Received: {len(masks)} of {found}.")


def _to_pixels(box: np.ndarray, height: int, width: int) -> Rectangle:
    """Left, top, right and bottom pixel of a box, inside the picture."""
    ymin, xmin, ymax, xmax = np.clip(box, 0, 1)
    left, right = (min(int(x * width), width - 1) for x in (xmin, xmax))
    top, bottom = (min(int(y * height), height - 1) for y in (ymin, ymax))
    return left, top, max(left, right), max(top, bottom)


def _draw_box(image: np.ndarray, place: Rectangle, color: tuple[int, int, int], style: _Style) -> None:
    """Draws the frame within the box, on a thin dark casing, so that it shows on bright ground too."""
    left, top, right, bottom = place
    for inset, width, shade in ((0, style.line + 2 * style.casing, _DARK), (style.casing, style.line, color)):
        if shade is _DARK and not style.casing:
            continue
        x0, y0, x1, y1 = left + inset, top + inset, right - inset + 1, bottom - inset + 1
        image[y0 : min(y0 + width, y1), x0:x1] = shade
        image[max(y1 - width, y0) : y1, x0:x1] = shade
        image[y0:y1, x0 : min(x0 + width, x1)] = shade
        image[y0:y1, max(x1 - width, x0) : x1] = shade


def _draw_mask(image: np.ndarray, mask: np.ndarray, color: tuple[int, int, int], style: _Style) -> None:
    """Blends the colour over the mask and draws its outline."""
    mask = mask.astype(bool, copy=False)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    part, inside = image[window], np.ascontiguousarray(mask[window])
    tint = MASK_OPACITY * np.asarray(color, np.float32)
    part[inside] = ((1 - MASK_OPACITY) * part[inside] + tint + 0.5).astype(np.uint8)
    outlines, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    offset = (int(columns[0]), int(rows[0]))
    cv2.drawContours(image, outlines, -1, color, max(1, style.line // 2), cv2.LINE_8, offset=offset)


def _draw_label(
    image: np.ndarray,
    box: Rectangle,
    text: str,
    color: tuple[int, int, int],
    style: _Style,
    taken: list[Rectangle],
    boxes: Sequence[Rectangle],
) -> None:
    """Writes a label on a ground of the class's colour, and notes its place in `taken`."""
    height, width = image.shape[:2]
    fitted = _fit_text(text, style.text, width, height)
    if fitted is None:
        return
    size, pad, (left, top, text_width, text_height) = fitted
    label = (text_width + 2 * pad, text_height + 2 * pad)
    # A label over a large box hides little of it; over a small one, the object.
    small = [(x0, y0, x1, y1) for x0, y0, x1, y1 in boxes if (x1 - x0) * (y1 - y0) < 4 * label[0] * label[1]]
    place = _place_label(box, label, (width, height), taken, small)
    taken.append(place)
    x0, y0, x1, y1 = place
    image[y0:y1, x0:x1] = color
    origin = (x0 + pad - left, y0 + pad - top)
    cv2.putText(image, text, origin, _DARK, _font(), size, 500)


def _fit_text(text: str, size: int, width: int, height: int) -> tuple[int, int, Rectangle] | None:
    """The size at which a text fits the picture, its padding, and where it lies from its origin; None below 8 px."""
    while size >= _SMALLEST_TEXT:
        pad = max(1, round(size / 6))
        # The widest of lines, so that measuring wraps none; the height is the font's, the same for any letters.
        left, _, text_width, _ = cv2.getTextSize((1 << 20, size), text, (0, 0), _font(), size, 500)
        extent = (left, -round(0.97 * size), text_width, round(1.2 * size))
        if text_width + 2 * pad <= width and extent[3] + 2 * pad <= height:
            return size, pad, extent
        size = min(size - 1, int(size * min(1.0, width / (text_width + 2 * pad))))
    return None


def _place_label(
    box: Rectangle, label: tuple[int, int], picture: tuple[int, int], taken: Sequence[Rectangle], small: list[Rectangle]
) -> Rectangle:
    """The place near the box where a label (width, height) covers little of earlier labels and of small boxes."""
    (left, top, right, bottom), (wide, high) = box, label
    aligned, beside = (left, right + 1 - wide, (left + right + 1 - wide) // 2), (right + 1, left - wide)
    close, far = (top - high, bottom + 1, top, bottom + 1 - high), (top - 2 * high, bottom + 1 + high)
    wanted = [(x, y) for y in close for x in aligned] + [(x, y) for x in beside for y in close]
    wanted += [(x, y) for y in far for x in aligned + beside]
    best, least = (0, 0, wide, high), float("inf")
    for rank, (x, y) in enumerate(wanted):
        if least <= 0.01 * rank * wide * high:
            break  # no later place can cost less
        x, y = min(max(x, 0), picture[0] - wide), min(max(y, 0), picture[1] - high)
        place = (x, y, x + wide, y + high)
        # A pixel of a box may be covered rather than the label put far away; another label only if all is full.
        cost = 0.01 * rank * wide * high + 0.5 * sum(_overlap(place, other) for other in small)
        cost += 5 * sum(_overlap(place, other) for other in taken)
        if cost < least:
            best, least = place, cost
    return best


def _overlap(first: Rectangle, second: Rectangle) -> int:
    """Pixels that two rectangles share."""
    wide = min(first[2], second[2]) - max(first[0], second[0])
    high = min(first[3], second[3]) - max(first[1], second[1])
    return max(wide, 0) * max(high, 0)
