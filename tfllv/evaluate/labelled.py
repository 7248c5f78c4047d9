"""Sets of pictures with one class each, for probes: ExDark, a folder of class folders, or a CSV file."""

from __future__ import annotations

import csv
import dataclasses
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from tfllv.inputs import files, labels
from tfllv.records import exdark

SPLITS = exdark.SPLITS
COLUMNS = ("image", "label")
OPTIONAL_COLUMNS = ("split", "group", "lighting")


@dataclasses.dataclass(frozen=True)
class LabelledSet:
    """N pictures, in a fixed order.

    Attributes:
      paths: N files.
      labels: [N] class numbers.
      classes: their names.
      splits: [N] `train`, `val` or `test`; empty where the set has no split.
      groups: [N] which pictures belong together (parts of one photograph): never in two folds; None: none do.
      lighting: [N] names of lighting types, or "".
    """

    paths: tuple[pathlib.Path, ...]
    labels: np.ndarray
    classes: tuple[str, ...]
    splits: np.ndarray
    groups: np.ndarray | None
    lighting: np.ndarray

    def __len__(self) -> int:
        return len(self.paths)


def read(source: str | os.PathLike[str]) -> LabelledSet:
    """Reads a set.

    Args:
      source: ExDark's folder (with `imageclasslist.txt` and `ExDark/`), a CSV file with columns image and label, and
        where wanted split, group and lighting (images relative to it), or a folder with a folder for each class.

    Raises:
      ValueError: naming file and line, if something is missing or fewer than two classes are there.
      OSError: if it cannot be read.
    """
    path = pathlib.Path(source)
    if path.suffix.lower() == ".csv":
        return _read_csv(path)
    if (path / "imageclasslist.txt").is_file():
        return _read_exdark(path)
    return _read_folders(path)


def _read_exdark(folder: pathlib.Path) -> LabelledSet:
    rows: list[tuple[pathlib.Path, int, str, str]] = []
    for split in SPLITS:
        try:
            found = labels.find_exdark(folder, split)
        except ValueError as error:
            if "which has none" in str(error):
                continue
            raise
        rows += [(path, label, split, exdark.LIGHTING[light - 1]) for path, label, light in zip(*found, strict=True)]
    if not rows:
        raise ValueError(f"`data` must hold ExDark's pictures. Received: '{folder}', which has none of the list's.")
    paths, numbers, splits, lighting = zip(*rows, strict=True)
    return _make(paths, np.array(numbers), tuple(exdark.CLASSES), splits, None, lighting, folder)


def _read_folders(folder: pathlib.Path) -> LabelledSet:
    paths = files.find_images(folder)
    names = [path.relative_to(folder).parts[0] if path.parent != folder else "" for path in paths]
    if "" in names:
        raise ValueError(
            f"`data` must be ExDark's folder, a CSV file, or a folder with a folder for each class. Received: "
            f"'{folder}', where {paths[names.index('')].name} stands in none."
        )
    classes = sorted(set(names))
    numbers = np.array([classes.index(name) for name in names])
    return _make(paths, numbers, classes, (), None, [""] * len(paths), folder)


def _read_csv(path: pathlib.Path) -> LabelledSet:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        header = list(reader.fieldnames or ())
        missing = [name for name in COLUMNS if name not in header]
        if missing:
            raise ValueError(f"{path}:1: expected the columns image and label; found {', '.join(header) or 'none'}.")
        rows = list(reader)
    for line, row in enumerate(rows, start=2):
        if any(row[name] is None or not row[name].strip() for name in COLUMNS):
            raise ValueError(f"{path}:{line}: expected an image and a label; found an empty cell.")
        if not (path.parent / row["image"]).is_file():
            raise ValueError(f"{path}:{line}: expected an image file; found '{row['image']}', which does not exist.")
        if "split" in header and row["split"] not in SPLITS:
            raise ValueError(f"{path}:{line}: expected a split of {', '.join(SPLITS)}; found '{row['split']}'.")
    classes = sorted({row["label"] for row in rows})
    numbers = np.array([classes.index(row["label"]) for row in rows], np.int64)
    paths = [path.parent / row["image"] for row in rows]
    column = {name: [row[name] or "" for row in rows] if name in header else None for name in OPTIONAL_COLUMNS}
    lighting = column["lighting"] or [""] * len(rows)
    return _make(paths, numbers, classes, column["split"] or (), column["group"], lighting, path)


def _make(
    paths: Sequence[pathlib.Path],
    numbers: np.ndarray,
    classes: Sequence[str],
    splits: Sequence[str],
    groups: Sequence[str] | None,
    lighting: Sequence[str],
    source: pathlib.Path,
) -> LabelledSet:
    if len(set(numbers.tolist())) < 2:
        raise ValueError(f"`data` must hold pictures of two classes or more. Received: '{source}' with fewer.")
    return LabelledSet(
        tuple(paths),
        numbers,
        tuple(classes),
        np.array(splits, dtype=str),
        None if groups is None else np.array(groups, dtype=str),
        np.array(lighting, dtype=str),
    )
