"""Scores maps of classes against their truths: mIoU, per-class IoU, pixel accuracy, and a page of pictures.

The figures are of all pixels of all pictures together, at the truths' own size; pixels without a true class (void) do
not count. The page shows the same pictures each time, evenly spread over the set.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfllv.metrics import segmentation as metrics

PROTOCOL = (
    "all pixels of all pictures together, at the truths' own size; void pixels do not count; mIoU is the mean over the "
    "classes that are in the truth or the prediction"
)
SHOWN = 8


def evaluate(
    pictures: Sequence[Any],
    read: Callable[[Any], tuple[np.ndarray, np.ndarray]],
    predict: Callable[[np.ndarray], np.ndarray],
    names: Sequence[str],
    *,
    draw: Callable[[np.ndarray, np.ndarray], bytes] | None = None,
) -> dict[str, Any]:
    """Returns a report for JSON.

    Args:
      pictures: what to score, in order.
      read: one of them -> ([H, W, 3] uint8 picture, [H, W] true classes, 255 void).
      predict: picture -> [H, W] classes.
      names: of the classes.
      draw: (picture, classes) -> an encoded picture for the page; None draws none.

    Returns:
      `miou`, `pixel_accuracy`, `most_frequent` (the same two of a map of the most frequent true class), `classes`
      (name, iou or None, pixels of the truth), `confusion`, `protocol`, `images`; and `shown`, not for JSON: (index,
      picture, prediction, truth), encoded.
    """
    count = len(names)
    confusion = np.zeros((count, count), np.int64)
    chosen = set(np.linspace(0, len(pictures) - 1, min(SHOWN, len(pictures))).round().astype(int).tolist())
    shown = []
    for index, item in enumerate(pictures):
        picture, truth = read(item)
        labels = predict(picture)
        confusion += metrics.confusion_matrix(truth, labels, count)
        if draw and index in chosen:
            shown.append((index, *[draw(picture, classes) for classes in (np.full_like(truth, -1), labels, truth)]))
    iou = metrics.class_iou(confusion)
    return {
        "images": len(pictures),
        "protocol": PROTOCOL,
        "miou": metrics.mean_iou(confusion),
        "pixel_accuracy": metrics.pixel_accuracy(confusion),
        "most_frequent": _most_frequent(confusion),
        "classes": [
            {
                "name": name,
                "iou": None if np.isnan(iou[index]) else float(iou[index]),
                "pixels": int(confusion[index].sum()),
            }
            for index, name in enumerate(names)
        ],
        "confusion": confusion.tolist(),
        "shown": shown,
    }


def _most_frequent(confusion: np.ndarray) -> dict[str, float]:
    """The figures of predicting the most frequent true class everywhere."""
    flat = np.zeros_like(confusion)
    pixels = confusion.sum(1)
    flat[:, int(pixels.argmax())] = pixels
    return {"miou": metrics.mean_iou(flat), "pixel_accuracy": metrics.pixel_accuracy(flat)}


def render(report: dict[str, Any], *, title: str, labels: Sequence[str]) -> str:
    """Returns the report as one HTML page that needs no other file.

    Args:
      report: of `evaluate`.
      title: of the page.
      labels: name of each picture, by index.
    """
    rows = "".join(
        f"<tr><td>{html.escape(row['name'])}</td><td class=n>{_percent(row['iou'])}</td>"
        f"<td class=n>{row['pixels']:,}</td></tr>"
        for row in report["classes"]
    )
    pictures = "".join(
        f"<figure><figcaption>{html.escape(labels[index])}</figcaption><div class=row>"
        + "".join(
            f'<div><img alt="{kind} of {html.escape(labels[index])}" src="data:image/png;base64,'
            f'{base64.b64encode(data).decode()}"><p>{kind}</p></div>'
            for kind, data in zip(("picture", "prediction", "truth"), encoded, strict=True)
        )
        + "</div></figure>"
        for index, *encoded in report["shown"]
    )
    base = report["most_frequent"]
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; }}
th, td {{ padding: .25rem .75rem; border-bottom: 1px solid #8886; text-align: left; }}
.n {{ text-align: right; font-variant-numeric: tabular-nums; }}
figure {{ margin: 2rem 0; }}
.row {{ display: flex; gap: .5rem; flex-wrap: wrap; }}
.row div {{ flex: 1 1 18rem; }}
.row p {{ margin: 0; }}
img {{ width: 100%; image-rendering: auto; }}
</style></head><body>
<h1>{html.escape(title)}</h1>
<p>{report["images"]} pictures: mIoU <b>{_percent(report["miou"])}</b>, pixel accuracy
<b>{_percent(report["pixel_accuracy"])}</b>. The most frequent class everywhere: mIoU {_percent(base["miou"])}, pixel
accuracy {_percent(base["pixel_accuracy"])}.</p>
<p>Protocol: {html.escape(report["protocol"])}.</p>
<table><thead><tr><th>class</th><th class=n>IoU</th><th class=n>true pixels</th></tr></thead>
<tbody>{rows}</tbody></table>
<h2>Pictures</h2>{pictures}
</body></html>
"""


def _percent(value: float | None) -> str:
    return "-" if value is None or np.isnan(value) else f"{100 * value:.2f} %"
