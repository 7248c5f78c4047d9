"""The comparison as one self-contained HTML page, and both files in their folder.

The page is `comparison.html` filled in. Pictures are embedded once each; the slider borrows them from the thumbnails.
"""

from __future__ import annotations

import base64
import html
import json
import math
import os
import pathlib
import shutil
import string
import tempfile
from typing import Any

from tfllv import contracts, metrics
from tfllv.evaluate.comparison import INPUT, REFERENCE, SCORES, Comparison

PAGE, DATA = "index.html", "compare.json"

# A column of the table: key of the row, heading, unit, and whether higher is better (None: neither).
_Column = tuple[str, str, str, bool | None]
_COLUMNS: tuple[_Column, ...] = (
    ("psnr", "PSNR", "dB", True),
    ("ssim", "SSIM", "", True),
    ("niqe", "NIQE", "", False),
    ("median_seconds", "Time", "ms", False),
    ("throughput_mp_per_s", "Throughput", "MP/s", True),
    ("peak_memory_mb", "Memory", "MB (added)", False),
    ("parameters", "Parameters", "", None),
    ("macs", "MACs", "at 600×400", None),
)


def write(comparison: Comparison, folder: str | os.PathLike[str], *, overwrite: bool = False) -> pathlib.Path:
    """Writes index.html and compare.json; a reader sees each of them whole or not at all.

    A new folder appears by one rename with both files in it. In a folder that exists only these two files are
    replaced, each by a rename; nothing else in it is touched.

    Args:
      comparison: what `comparison.compare` gave.
      folder: where to.
      overwrite: allow a folder that exists.

    Returns:
      The page's path.

    Raises:
      ValueError: by `check_target`.
    """
    folder = check_target(folder, overwrite=overwrite)
    data = json.dumps(_finite(comparison.report), indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    files = {DATA: data, PAGE: render(comparison)}
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = pathlib.Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for name, text in files.items():
            with (scratch / name).open("w", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        if folder.exists():
            for name in files:
                os.replace(scratch / name, folder / name)
            contracts.fsync_folder(folder)
        else:
            scratch.chmod(0o755)  # mkdtemp makes folders that only their owner can open
            scratch.rename(folder)
        contracts.fsync_folder(folder.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder / PAGE


def check_target(folder: str | os.PathLike[str], *, overwrite: bool = False) -> pathlib.Path:
    """Returns the output folder as a path, if it may be written.

    Raises:
      ValueError: if it is a file, or exists and `overwrite` is not set.
    """
    path = pathlib.Path(os.path.abspath(folder))
    if path.exists() and not path.is_dir():
        raise ValueError(f"`output` must be a folder. Received: '{folder}', which is a file.")
    if path.exists() and not overwrite:
        raise ValueError(f"`output` must be a new folder. Received: '{folder}', which exists; pass --overwrite.")
    return path


def _finite(value: Any) -> Any:
    """Returns a report that JSON can hold: infinity (equal pictures) becomes the text "inf"."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return "inf" if isinstance(value, float) and math.isinf(value) else value


def render(comparison: Comparison) -> str:
    """Returns the page of a comparison: HTML with its style, script and pictures inside; it loads nothing."""
    report = comparison.report
    template = string.Template(pathlib.Path(__file__).with_name("comparison.html").read_text(encoding="utf-8"))
    methods = [row["name"] for row in report["methods"] if row["name"] not in (INPUT, REFERENCE)]
    columns = [column for column in _COLUMNS if any(row.get(column[0]) is not None for row in report["methods"])]
    count = len(report["images"])
    machine = report["machine"]
    where = f"{machine['system']}, {_many(machine['cores'], 'core')}"
    return template.substitute(
        title=f"{_many(len(methods), 'method')} on {_many(count, 'picture')}",
        about=_escape(
            f"tfllv {report['tfllv']}, {report['created'][:10]}, {where}, "
            f"Python {machine['python']}, NumPy {machine['numpy']}"
        ),
        contents="".join(
            f'<li><a href="#picture-{k}">{_escape(image["name"])}</a></li>' for k, image in enumerate(report["images"])
        ),
        head="".join(_heading(index, *column[1:3]) for index, column in enumerate(columns)),
        rows=_rows(report["methods"], columns),
        directions=_escape(_directions(columns)),
        protocol="".join(f"<dt>{_escape(k)}</dt><dd>{_escape(v)}</dd>" for k, v in report["protocol"].items()),
        left_out=_left_out(report),
        pictures="".join(
            _picture(index, image, encoded, report)
            for index, (image, encoded) in enumerate(zip(report["images"], comparison.pictures, strict=True))
        ),
    )


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def _escape(text: Any) -> str:
    return html.escape(str(text), quote=True)


def _code(name: str) -> str:
    """Returns a method's name as code that may break after an underscore."""
    return f"<code>{_escape(name).replace('_', '_<wbr>')}</code>"


def _heading(index: int, name: str, unit: str) -> str:
    below = f'<span class="unit">{_escape(unit)}</span>' if unit else ""
    return (
        f'<th scope="col" aria-sort="none"><button type="button" data-column="{index + 1}">{name}'
        f'<span class="arrow" aria-hidden="true"></span></button>{below}</th>'
    )


def _directions(columns: list[_Column]) -> str:
    """Returns the sentence that says which way each column is better."""
    ways = []
    for wanted, word in ((True, "Higher"), (False, "lower")):
        names = [name if name.isupper() else name.lower() for _, name, _, higher in columns if higher is wanted]
        if names:
            ways.append(f"{word} is better for {', '.join(names)}")
    return f"{'; '.join(ways)}. The best method of a column is marked."


def _rows(rows: list[dict[str, Any]], columns: list[_Column]) -> str:
    """Returns the table's body; in each column with a direction the best method is marked."""
    best: dict[str, float] = {}
    for key, _, _, higher in columns:
        values = [row[key] for row in rows if row["name"] not in (INPUT, REFERENCE) and row.get(key) is not None]
        if higher is not None and len(values) > 1:
            best[key] = max(values) if higher else min(values)
    lines = []
    for row in rows:
        baseline = row["name"] in (INPUT, REFERENCE)
        cells = []
        for key, *_ in columns:
            value = row.get(key)
            text = _number(key, value)
            if key == "peak_memory_mb" and value is not None:
                text += f' <span class="unit">({value - row["loaded_memory_mb"]:,.0f})</span>'
            if not baseline and value is not None and best.get(key) == value:
                text = f'<strong>{text}<span class="hidden"> (best)</span></strong>'
            order = "" if value is None else repr(float(value))
            cells.append(f'<td data-value="{order}">{text}</td>')
        name = f'<th scope="row">{_code(row["name"])}<small>{_escape(row["summary"])}</small></th>'
        kind = ' class="baseline"' if baseline else ""
        lines.append(f"<tr{kind}>{name}{''.join(cells)}</tr>")
    return "\n".join(lines)


def _number(key: str, value: float | None) -> str:
    """Returns a figure with as many digits as it is worth."""
    if value is None:
        return '<span class="none">–</span>'
    if math.isinf(value):
        return "∞"
    if key == "median_seconds":
        milliseconds = 1000 * value
        return (
            f"{milliseconds:,.0f}"
            if milliseconds >= 100
            else f"{milliseconds:.2g}"
            if milliseconds < 10
            else f"{milliseconds:.1f}"
        )
    if key == "macs":
        return f"{value / 1e9:.3g} G" if value >= 1e9 else f"{value / 1e6:.3g} M"
    digits = {"psnr": 2, "ssim": 3, "niqe": 2, "throughput_mp_per_s": 1}.get(key, 0)
    return f"{value:,.{digits}f}"


def _left_out(report: dict[str, Any]) -> str:
    """Returns the lists of what was skipped and what failed; empty where there is neither."""
    parts = []
    for key, heading in (("skipped", "Not compared"), ("failed", "Failed")):
        rows = [(row.get("method") or row.get("what"), row["reason"]) for row in report[key]]
        if rows:
            items = "".join(f"<li><code>{_escape(what)}</code>: {_escape(reason)}</li>" for what, reason in rows)
            parts.append(f'<h3>{heading}</h3><ul class="{key}">{items}</ul>')
    return "".join(parts)


def _picture(index: int, image: dict[str, Any], encoded: dict[str, bytes], report: dict[str, Any]) -> str:
    """Returns the section of one picture: the slider, which the script fills, and a figure a version."""
    methods = [row["name"] for row in report["methods"] if row["name"] in encoded]
    right = _default_right(image["results"], methods)
    width, height = image["width"], image["height"]
    left_options, right_options = (
        "".join(f"<option{' selected' if name == chosen else ''}>{_escape(name)}</option>" for name in methods)
        for chosen in (INPUT, right)
    )
    figures = "".join(_figure(name, image, encoded[name], name == right) for name in methods)
    notes = "".join(f'<p class="note">{_escape(note)}</p>' for note in image["notes"])
    return f"""
<section class="picture" id="picture-{index}" aria-labelledby="heading-{index}">
<h3 id="heading-{index}">{_escape(image["name"])} <small>{width}×{height}</small></h3>
<div class="slider" hidden style="--ratio: {width} / {height}; --wide: {width / height:.4f}; --natural: {width}px">
<div class="stage">
<img class="right" alt=""><img class="left" alt="">
<span class="tag tag-left"></span><span class="tag tag-right"></span>
<input type="range" min="0" max="100" step="1" value="50" aria-label="Divider between the left and the right version">
<span class="bar" aria-hidden="true"></span>
</div>
<div class="choice">
<label>Left <select class="choose-left">{left_options}</select></label>
<label>Right <select class="choose-right">{right_options}</select></label>
</div>
</div>
<div class="versions">{figures}</div>
{notes}</section>"""


def _default_right(results: dict[str, dict[str, Any]], methods: list[str]) -> str:
    """Returns the version first shown on the right: SGZ, else the nearest to the truth, else the first method."""
    choices = [name for name in methods if name not in (INPUT, REFERENCE)]
    if "sgz" in choices or not choices:
        return "sgz" if choices else INPUT
    return max(choices, key=lambda name: results[name].get("psnr") or 0)


def _figure(name: str, image: dict[str, Any], data: bytes, pressed: bool) -> str:
    scores = []
    for key in SCORES:
        value = image["results"][name].get(key)
        if value is not None:
            scores.append(f"<span>{metrics.METRICS[key].name} <b>{_number(key, value)}</b></span>")
    shown = f"{name}: {image['name']}"
    source = f"data:image/webp;base64,{base64.b64encode(data).decode('ascii')}"
    return (
        f'<figure><button type="button" data-version="{_escape(name)}" aria-pressed="{str(pressed).lower()}">'
        f'<img src="{source}" alt="{_escape(shown)}" width="{image["width"]}" height="{image["height"]}">'
        f"</button><figcaption>{_code(name)}"
        f'<span class="scores">{"".join(scores)}</span></figcaption></figure>'
    )
