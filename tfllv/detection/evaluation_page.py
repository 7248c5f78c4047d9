"""The evaluation as one self-contained HTML page: `evaluation.html` filled in; it loads nothing.

Pictures are embedded once each, as they are; boxes lie over them as vector graphics, so that they can be switched off
and the picture brightened.
"""

from __future__ import annotations

import base64
import html
import pathlib
import string
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from tfllv.detection import coco_metrics, draw, lighting
from tfllv.detection.examples import Example
from tfllv.records import exdark

SIDE = 720  # pixels of an embedded picture's longer side
_SHOWN = 540  # how large it is on a common screen
_QUALITY = 80


def render(
    report: Mapping[str, Any], worst: Sequence[Example], false: Sequence[Example], label_map: Mapping[int, str]
) -> str:
    """Returns the page.

    Args:
      report: as `evaluation.evaluate` gives.
      worst: pictures with missed objects, in the order in which they are shown.
      false: pictures with false detections, likewise.
      label_map: class id -> name.
    """
    template = string.Template(pathlib.Path(__file__).with_name("evaluation.html").read_text(encoding="utf-8"))
    sections = _examples("misses", "Worst misses first", worst, label_map, report)
    sections += _examples("false", "Most confident false detections", false, label_map, report)
    return template.substitute(
        title=_escape(f"Detection on {_many(report['pictures'], 'picture')}"),
        about=_escape(_about(report)),
        contents="".join(f'<li><a href="#{key}">{name}</a></li>' for key, name in _contents(report, worst, false)),
        cards="".join(_card(row) for row in _cards(report)),
        metrics=_metrics(report["metrics"]),
        tables=_tables(report),
        more=_comparison(report) + _enhancers(report),
        examples=sections,
        protocol="".join(f"<dt>{_escape(k)}</dt><dd>{_escape(v)}</dd>" for k, v in _protocol(report)),
    )


def _about(report: Mapping[str, Any]) -> str:
    step = f", step {report['step']:,}" if report.get("step") else ""
    counts = ", ".join(_many(report[key], key.removesuffix("s")) for key in ("pictures", "objects", "detections"))
    return f"{report['model'] or 'detections'}{step}. {counts}. tfllv {report['tfllv']}, {report['created'][:10]}."


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def _escape(text: Any) -> str:
    return html.escape(str(text), quote=True)


def _percent(value: float | None) -> str:
    return "–" if value is None or value < 0 else f"{100 * value:.1f}"


def _range(ends: Sequence[float] | None) -> str:
    return "" if ends is None else f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}"


def _contents(report: Mapping[str, Any], worst: Sequence[Example], false: Sequence[Example]) -> list[tuple[str, str]]:
    found = [("metrics", "12 numbers"), ("light", "By light" if report["has_lighting"] else "By class")]
    found += [("lights-compared", "Normal and low light")] if report.get("comparison") else []
    found += [("enhancers", "Enhancers")] if report.get("enhancers") else []
    found += [("misses", "Misses")] if worst else []
    return found + ([("false", "False detections")] if false else []) + [("protocol", "Protocol")]


def _cards(report: Mapping[str, Any]) -> list[tuple[str, float, str]]:
    """(heading, value, what stands below) of the figures at the top."""
    whole = next((row for row in report["cells"] if row["class"] is None), None)
    rows = []
    for kind, values in report["metrics"].items():
        for key in ("AP50", "AP"):
            interval = _range(whole[f"{key}_interval"]) if whole and kind == "bbox" else ""
            below = f"{report['level']:.0%} interval {interval}" if interval else "mean over classes"
            rows.append((f"{key}, {coco_metrics.KINDS[kind]}", values[key], below))
    return rows


def _card(row: tuple[str, float, str]) -> str:
    heading, value, below = row
    return f'<div class="card"><span>{heading}</span><b>{_percent(value)}</b><small>{below}</small></div>'


def _metrics(metrics: Mapping[str, Mapping[str, float]]) -> str:
    """Returns the table of the 12 numbers, a column for boxes and one for masks."""
    head = "".join(f'<th scope="col">{coco_metrics.KINDS[kind].capitalize()}</th>' for kind in metrics)
    rows = []
    for key, (title, _, iou, area, most) in coco_metrics.METRICS.items():
        cells = "".join(f"<td>{_percent(values[key])}</td>" for values in metrics.values())
        what = f"{title}, overlap {iou.replace(':', ' to ')}, {area if area == 'all' else area + ' objects'}"
        what += "" if most == 100 else f", {_many(most, 'detection')} a picture"
        rows.append(f'<tr><th scope="row">{key.replace("_", " ")}<small>{what}</small></th>{cells}</tr>')
    return f'<thead><tr><th scope="col">%</th>{head}</tr></thead><tbody>{"".join(rows)}</tbody>'


def _tables(report: Mapping[str, Any]) -> str:
    """Returns the tables of classes by lighting types, one for each place and metric; the script shows one."""
    places = [place for place in (None, *lighting.PLACES) if any(row["place"] == place for row in report["cells"])]
    parts = [_table(report["cells"], place, key) for place in places for key in ("AP50", "AP")]
    choices = _choice("Metric", "metric", ["AP50", "AP"])
    choices += _choice("Place", "place", [place or "both" for place in places]) if len(places) > 1 else ""
    return f'<form class="choices">{choices}</form>{"".join(parts)}'


def _choice(legend: str, name: str, values: Sequence[str]) -> str:
    inputs = "".join(
        f'<label><input type="radio" name="{name}" value="{value}"{" checked" * (not index)}>{value}</label>'
        for index, value in enumerate(values)
    )
    return f"<fieldset><legend>{legend}</legend>{inputs}</fieldset>"


def _table(rows: Sequence[Mapping[str, Any]], place: str | None, key: str) -> str:
    found = {(row["class"], row["lighting"]): row for row in rows if row["place"] == place}
    lights = [light for light in (None, *exdark.LIGHTING) if (None, light) in found]
    names = list(dict.fromkeys(name for name, _ in found))
    head = "".join(
        f'<th scope="col">{light or "All"}<small>{_many(found[None, light]["images"], "picture")}</small></th>'
        for light in lights
    )
    body = []
    for name in names:
        cells = "".join(_cell(found.get((name, light)), key) for light in lights)
        line = ' class="mean"' if name is None else ""
        body.append(f'<tr{line}><th scope="row">{_escape(name or "Mean of classes")}</th>{cells}</tr>')
    return (
        f'<div class="table light" data-place="{place or "both"}" data-metric="{key}" tabindex="0" role="region" '
        f'aria-label="{key}, {place or "indoor and outdoor"}"><table><thead><tr><th scope="col">{key}, %</th>{head}'
        f"</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _cell(row: Mapping[str, Any] | None, key: str) -> str:
    if row is None:
        return '<td class="none">–</td>'
    interval = row[f"{key}_interval"]
    below = f"{100 * interval[0]:.0f}–{100 * interval[1]:.0f}" if interval else "no interval"
    title = f"{_many(row['objects'], 'object')} in {_many(row['images'], 'picture')}"
    few = " few" if row["images"] < 10 else ""
    return (
        f'<td class="heat{few}" style="--share: {row[key]:.3f}" title="{title}">{_percent(row[key])}'
        f"<small>{below}</small></td>"
    )


def _comparison(report: Mapping[str, Any]) -> str:
    """Returns the section on normal against low light; empty where it was not asked for."""
    found = report.get("comparison")
    if not found:
        return ""
    body = "".join(
        f'<tr><th scope="row">{key}</th><td>{_percent(found[key]["before"])}</td>'
        f"<td>{_percent(found[key]['after'])}</td>{_difference(found[key])}</tr>"
        for key in ("AP50", "AP")
    )
    return (
        '<h2 id="lights-compared">Normal and low light</h2><p class="hint">The same pictures in both lights, paired by '
        f"name: {found['pictures']}.</p>"
        '<div class="table"><table><thead><tr><th scope="col">%</th><th scope="col">Normal</th><th scope="col">Low'
        f'</th><th scope="col">Change, points</th></tr></thead><tbody>{body}</tbody></table></div>'
    )


def _difference(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return '<td class="none">–</td>'
    p = row.get("p_adjusted", row["p"])
    below = f"p {f'{p:.3f}' if p >= 0.001 else '&lt; .001'}"
    if row["interval"]:
        low, high = (100 * end for end in row["interval"])
        below = f"{low:+.1f} to {high:+.1f}<br>{below}"
    return f'<td class="{row.get("verdict", "")}">{100 * row["difference"]:+.1f}<small>{below}</small></td>'


def _enhancers(report: Mapping[str, Any]) -> str:
    """Returns the section on enhancing before detection; empty where it was not asked for."""
    rows = report.get("enhancers")
    if not rows:
        return ""
    lights = [light for light in (None, *exdark.LIGHTING) if any(row["lighting"] == light for row in rows)]
    names = list(dict.fromkeys(row["method"] for row in rows))
    found = {(row["method"], row["lighting"]): row for row in rows}
    counts = {row["lighting"]: row["images"] for row in rows}
    head = "".join(
        f'<th scope="col">{light or "All"}<small>{_many(counts[light], "picture")}</small></th>' for light in lights
    )
    body = "".join(
        f'<tr><th scope="row"><code>{_escape(name)}</code></th>'
        + "".join(_difference(found[name, light]["AP"] if (name, light) in found else None) for light in lights)
        + "</tr>"
        for name in names
    )
    answers = "".join(f"<li>{_escape(answer)}.</li>" for answer in report["answers"])
    return (
        f'<h2 id="enhancers">Does enhancing help this detector?</h2><ul class="answers">{answers}</ul>'
        '<p class="hint">Change of AP, in points, from the pictures as they are to the enhanced ones. '
        "Intervals by paired bootstrap over pictures; p-values by exchanging versions of pictures at random, adjusted "
        "for the number of tests (Holm); coloured below .05.</p>"
        '<div class="table" tabindex="0" role="region" aria-labelledby="enhancers"><table><thead><tr>'
        f'<th scope="col">Change of AP</th>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _protocol(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [("Numbers", report["protocol"]), ("Intervals", report["protocol_interval"] + ".")]
    rows.append(
        (
            "Examples",
            f"Detections of {report['min_score']:g} or more, matched at an overlap of .5; pictures in the order "
            "of the area that their missed objects cover.",
        )
    )
    return rows + [("Left out", note) for note in report["notes"]]


def _examples(
    key: str, heading: str, found: Sequence[Example], label_map: Mapping[int, str], report: Mapping[str, Any]
) -> str:
    if not found:
        return ""
    figures = "".join(_figure(example, label_map) for example in found)
    return f'<h2 id="{key}">{heading}</h2>{_legend(report)}<div class="examples">{figures}</div>'


def _legend(report: Mapping[str, Any]) -> str:
    return (
        '<p class="hint legend"><span class="key missed"></span>missed object <span class="key found"></span>found '
        f'object <span class="key false"></span>false detection, from a score of {report["min_score"]:g}</p>'
    )


def _figure(example: Example, label_map: Mapping[int, str]) -> str:
    truth = example.truth
    missed = _names(truth.classes[example.missed], label_map)
    false = _names(example.found.classes[example.false], label_map)
    light = exdark.LIGHTING[truth.lighting - 1] if truth.lighting else ""
    place = "" if truth.indoor is None else lighting.PLACES[0 if truth.indoor else 1]
    about = ", ".join(part for part in (light, place) if part)
    lines = [f"missed: {missed}"] if missed else []
    lines += [f"false: {false}"] if false else []
    return (
        f'<figure><div class="stage" style="--ratio: {truth.width} / {truth.height}">{_picture(example)}'
        f'<svg viewBox="0 0 {truth.width} {truth.height}" aria-hidden="true">{_marks(example, label_map)}</svg></div>'
        f"<figcaption><code>{_escape(truth.file)}</code>"
        f"{f'<span>{_escape(about)}</span>' if about else ''}"
        f"{''.join(f'<span>{_escape(line)}</span>' for line in lines)}</figcaption></figure>"
    )


def _names(classes: np.ndarray, label_map: Mapping[int, str]) -> str:
    counts: dict[str, int] = {}
    for number in classes.tolist():
        name = label_map.get(number, f"class {number}")
        counts[name] = counts.get(name, 0) + 1
    return ", ".join(name if count == 1 else f"{count} {name}" for name, count in counts.items())


def _picture(example: Example) -> str:
    """Returns the picture as an image element; where it is not at hand or broken, what is wrong."""
    truth = example.truth
    try:
        pixels = truth.pixels()
    except (OSError, ValueError) as error:
        return f'<p class="absent">{_escape(error)}</p>'
    scale = min(1.0, SIDE / max(pixels.shape[:2]))
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    small = pixels if scale == 1 else cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".webp", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, _QUALITY])
    source = base64.b64encode(data.tobytes()).decode("ascii")
    return (
        f'<img src="data:image/webp;base64,{source}" alt="{_escape(truth.file)}" width="{size[0]}" height="{size[1]}">'
    )


def _marks(example: Example, label_map: Mapping[int, str]) -> str:
    """Returns the boxes: found objects' detections below, false ones and missed objects above."""
    truth, found = example.truth, example.found
    size = max(truth.width, truth.height) / _SHOWN  # of a pixel on the page, in the picture's
    parts = []
    for kind, chosen in (("found", ~example.false), ("false", example.false)):
        for index in np.flatnonzero(chosen):
            ymin, xmin, ymax, xmax = found.boxes[index] * (truth.height, truth.width, truth.height, truth.width)
            number = int(found.classes[index])
            text = f"{label_map.get(number, f'class {number}')} {found.scores[index]:.2f}"
            parts.append(_mark(kind, (xmin, ymin, xmax - xmin, ymax - ymin), text, size, truth.width, number))
    for index in np.flatnonzero(example.missed):
        number = int(truth.classes[index])
        text = label_map.get(number, f"class {number}")
        parts.append(_mark("missed", tuple(truth.boxes[index]), text, size, truth.width, number))
    return "".join(parts)


def _mark(kind: str, box: Sequence[float], text: str, size: float, width: int, number: int) -> str:
    """Returns one box with its label, which stands above it, or within where there is no room."""
    left, top, wide, high = (float(value) for value in box)
    label_width, label_height = (7.2 * len(text) + 10) * size, 18 * size
    x = max(0.0, min(left, width - label_width))
    y = top - label_height if top >= label_height else top
    red, green, blue = draw.class_color(number)
    return (
        f'<g class="{kind}" style="--class: rgb({red} {green} {blue})">'
        f'<rect class="frame" x="{left:.1f}" y="{top:.1f}" '
        f'width="{wide:.1f}" height="{high:.1f}"/><rect class="tag" x="{x:.1f}" y="{y:.1f}" width="{label_width:.1f}" '
        f'height="{label_height:.1f}"/><text x="{x + 5 * size:.1f}" y="{y + 13.2 * size:.1f}" '
        f'font-size="{12.5 * size:.1f}">{_escape(text)}</text></g>'
    )
