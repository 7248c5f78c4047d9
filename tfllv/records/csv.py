"""A csv of boxes: `filename,width,height,class,xmin,ymin,xmax,ymax`, a line an object, columns in any order."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator
from typing import Any

from tfllv.records import files
from tfllv.records.detection import Item, Thing
from tfllv.records.problems import Report, Where, number, show_value, whole_number

COLUMNS = ("filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax")


def read_rows(path: str, needed: tuple[str, ...], report: Report) -> Iterator[tuple[Where, dict[str, str]]]:
    """Reads the rows of a csv with a header.

    Args:
      path: the file.
      needed: columns that must be there.
      report: rows of the wrong length are added to it and skipped.

    Yields:
      (place, column -> text).

    Raises:
      ValueError: naming file and line, if the header lacks a column or the text is not a csv.
      OSError: if the file cannot be read.
    """
    reader = csv.reader(io.StringIO(files.read_text(path), newline=""))
    header: list[str] | None = None
    try:
        for row in reader:
            where = Where(path, reader.line_num)
            if not any(cell.strip() for cell in row):
                continue
            if header is None:
                header = [cell.strip().lower() for cell in row]
                absent = [name for name in needed if name not in header]
                if absent:
                    raise ValueError(f"{where}: header: no column '{absent[0]}' found; expected {','.join(needed)}.")
            elif len(row) != len(header):
                detail = f"expected {len(header)} cells, found {len(row)}"
                report.add(where, "row", "row skipped", detail)
            else:
                yield where, {name: cell.strip() for name, cell in zip(header, row, strict=True)}
    except csv.Error as error:
        raise ValueError(f"{path}:{reader.line_num}: row: {error}.") from None
    if header is None:
        raise ValueError(f"{path}:1: header: the file is empty; expected {','.join(needed)}.")


def read_csv(
    path: str | os.PathLike[str], image_dir: str | os.PathLike[str], labels: dict[str, int] | None, report: Report
) -> tuple[list[Item], dict[str, int]]:
    """Reads pictures and their objects from a csv.

    Args:
      path: the csv.
      image_dir: the folder that `filename` is relative to.
      labels: class name -> id; None: the class names that are found, sorted, from 1.
      report: problems are added to it; such a row is skipped.

    Returns:
      The items, the picture itself is read later; and class name -> id.

    Raises:
      ValueError: naming file and line, if it is not such a csv.
      OSError: if it cannot be read.
    """
    rows = list(read_rows(str(path), COLUMNS, report))
    if labels is None:
        labels = {name: index for index, name in enumerate(sorted({row["class"] for _, row in rows} - {""}), 1)}
    things: dict[str, list[Thing]] = {}
    first: dict[str, tuple[Where, tuple[int, int]]] = {}
    for where, row in rows:
        read = _read_row(where, row, labels, report)
        if read is None:
            continue
        thing, size = read
        name = row["filename"]
        if first.setdefault(name, (where, size))[1] != size:
            detail = f"{size} for {show_value(name)}, {first[name][1]} in line {first[name][0].line}"
            report.add(where, "width", "object skipped: size", detail)
            continue
        things.setdefault(name, []).append(thing)
    items = [
        Item(
            key=name,
            image=files.join(str(image_dir), name),
            filename=os.path.basename(name),
            things=tuple(found),
            where=first[name][0],
            size=first[name][1],
        )
        for name, found in things.items()
    ]
    return items, labels


def _read_row(
    where: Where, row: dict[str, str], labels: dict[str, int], report: Report
) -> tuple[Thing, tuple[int, int]] | None:
    if not row["filename"] or "\0" in row["filename"]:
        report.add(where, "filename", "object skipped: filename", f"found {show_value(row['filename'])}")
        return None
    size: list[int | None] = [whole_number(row[name]) for name in ("width", "height")]
    for name, value in zip(("width", "height"), size, strict=True):
        if value is None or value < 1:
            report.add(where, name, "object skipped: size", f"expected pixels, found {show_value(row[name])}")
            return None
    if row["class"] not in labels:
        report.add(where, "class", "object skipped: class", f"{show_value(row['class'])} is not in the label map")
        return None
    box: list[float] = []
    for name in ("xmin", "ymin", "xmax", "ymax"):
        edge = number(row[name])
        if edge is None:
            report.add(where, name, "object skipped: number", f"expected pixels, found {show_value(row[name])}")
            return None
        box.append(edge)
    thing = Thing((box[0], box[1], box[2], box[3]), labels[row["class"]], row["class"], where)
    return thing, (size[0] or 0, size[1] or 0)


def write_csv(rows: list[list[Any]]) -> bytes:
    """Returns rows of `COLUMNS` as a csv with a header, sorted by file name."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    ordered = sorted(rows, key=lambda row: str(row[0]))
    writer.writerows(ordered)
    return out.getvalue().encode()
