"""Pairs of a dark and a bright picture of one scene: LOL's layout, two folders, or a csv.

Pairs are matched by name, never by order; both pictures must have one size; pairs of one scene stay in one split.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

from tfllv import contracts
from tfllv.records import files, images, schema
from tfllv.records.csv import read_rows
from tfllv.records.problems import Report, Where, show_value
from tfllv.records.shards import Built

SPLITS = ("train", "val", "test")
_LOW, _HIGH = ("low", "input", "dark"), ("high", "normal", "target", "bright")
_SPLIT_WORDS = {"our485": "train", "train": "train", "val": "val", "valid": "val", "eval15": "test", "test": "test"}
_PREFIX = re.compile(r"^(low|normal|high)(?=[-_]?\d)")  # LOL-v2: low00001.png and normal00001.png


@dataclasses.dataclass(frozen=True)
class Pair:
    """One pair, before its pictures are read.

    Attributes:
      key: unique in its set.
      low: path of the dark picture.
      high: path of the bright one.
      where: of the pair in the input.
      scene: pairs of one scene never fall into two splits; '' where the source does not say.
      split: of `SPLITS`, or '' where the source does not say.
    """

    key: str
    low: str
    high: str
    where: Where
    scene: str = ""
    split: str = ""

    def files(self) -> list[str]:
        """Returns the paths that the record depends on."""
        return [self.low, self.high]


@dataclasses.dataclass(frozen=True)
class PairBuilder:
    """Builds records of pairs; JPEG and PNG are copied, since a target that is encoded again is another target."""

    def __call__(self, pair: Pair) -> Built:
        """Builds one record: `image/encoded` is the dark picture, `image/paired/encoded` the bright one.

        Args:
          pair: the two paths.

        Returns:
          The record, or none where a picture cannot be used or the sizes differ, with the problems found.
        """
        report = Report()
        read = [_read(path, pair.where, field, report) for field, path in (("low", pair.low), ("high", pair.high))]
        low, high = read
        if low is None or high is None:
            return Built(None, tuple(report))
        if (low.width, low.height) != (high.width, high.height):
            detail = f"low has {low.width}x{low.height} pixels, high {high.width}x{high.height}"
            report.add(pair.where, "high", "pair skipped: size", f"{pair.key}: {detail}")
            return Built(None, tuple(report))
        features = {
            schema.ENCODED: low.data,
            schema.FORMAT: low.kind,
            schema.HEIGHT: low.height,
            schema.WIDTH: low.width,
            schema.FILENAME: os.path.basename(pair.low),
            schema.SOURCE_ID: pair.key,
            schema.SHA256: hashlib.sha256(low.data).hexdigest(),
            schema.PAIRED_ENCODED: high.data,
            schema.PAIRED_FORMAT: high.kind,
            schema.PAIRED_FILENAME: os.path.basename(pair.high),
            schema.SCENE: pair.scene,
            schema.SPLIT: pair.split,
        }
        return Built(schema.serialize(features), tuple(report))


def _read(path: str, where: Where, field: str, report: Report) -> images.Encoded | None:
    try:
        return images.take(files.read(path), lossless=True)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        report.add(where, field, "pair skipped: picture", f"{path}: {reason}")
        return None


def read_folders(
    low_dir: str | os.PathLike[str], high_dir: str | os.PathLike[str], report: Report, *, split: str = ""
) -> list[Pair]:
    """Reads pairs from two folders, matched by name without its ending (and without LOL-v2's `low` and `normal`).

    Args:
      low_dir: the dark pictures.
      high_dir: the bright ones.
      report: pictures without a partner are added to it.
      split: of the pairs, or ''.

    Returns:
      The pairs, sorted by name.

    Raises:
      ValueError: if a folder does not exist.
    """
    found = [_by_name(pathlib.Path(folder), report) for folder in (low_dir, high_dir)]
    low, high = found
    for side, other, what in ((low, high, "high"), (high, low, "low")):
        for name in sorted(side.keys() - other.keys()):
            report.add(Where(side[name]), what, "pair skipped: no partner", f"no {what} picture of the name '{name}'")
    return [Pair(name, low[name], high[name], Where(low[name]), split=split) for name in sorted(low.keys() & high)]


def _by_name(folder: pathlib.Path, report: Report) -> dict[str, str]:
    if not folder.is_dir():
        raise ValueError(f"`low_dir` and `high_dir` must be folders of pictures. Received: {folder}.")
    found: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in contracts.IMAGE_SUFFIXES or path.name.startswith("."):
            continue
        name = _PREFIX.sub("", path.stem)
        if name in found:
            report.add(Where(str(path)), "name", "pair skipped: name", f"{found[name]} has the same name")
        else:
            found[name] = str(path)
    return found


def read_layout(data_dir: str | os.PathLike[str], report: Report) -> list[Pair]:
    """Reads LOL's layout: folders `low` and `high` (or `normal`), beside each other or one level down by split.

    `our485`, `train` are train; `val`, `valid` are val; `eval15`, `test` are test; in any case of letters.

    Raises:
      ValueError: if there are no such folders.
    """
    root = pathlib.Path(data_dir)
    if not root.is_dir():
        raise ValueError(f"`data_dir` must be a folder. Received: {root}.")
    pairs: list[Pair] = []
    for place in [root, *sorted(path for path in root.iterdir() if path.is_dir())]:
        children = {path.name.lower(): path for path in place.iterdir() if path.is_dir()}
        low, high = (next((children[n] for n in names if n in children), None) for names in (_LOW, _HIGH))
        if low is None and high is None:
            continue
        if low is None or high is None:
            report.add(Where(str(place)), "folder", "folder skipped", "it holds low or high, but not both")
            continue
        split = _SPLIT_WORDS.get(place.name.lower(), "")
        for pair in read_folders(low, high, report, split=split):
            key = pair.key if place == root else f"{place.name}/{pair.key}"
            pairs.append(dataclasses.replace(pair, key=key))
    if not pairs:
        raise ValueError(
            f"`data_dir` must hold folders low and high with pictures of the same names. Received: {root}."
        )
    return pairs


def read_pairs_csv(
    path: str | os.PathLike[str], image_dir: str | os.PathLike[str] | None, report: Report, *, split: str = ""
) -> list[Pair]:
    """Reads a csv of pairs: columns low and high, and maybe scene.

    Args:
      path: the csv.
      image_dir: the folder that low and high are relative to; None: the csv's own.
      report: problems are added to it; such a row is skipped.
      split: of the pairs, or ''.

    Returns:
      The pairs.

    Raises:
      ValueError: naming file and line, if it is not such a csv.
      OSError: if it cannot be read.
    """
    folder = str(image_dir) if image_dir else str(pathlib.Path(path).parent)
    pairs: dict[str, Pair] = {}
    for where, row in read_rows(str(path), ("low", "high"), report):
        empty = next((name for name in ("low", "high") if not row[name] or "\0" in row[name]), "")
        if empty:
            report.add(where, empty, "pair skipped: name", f"found {show_value(row[empty])}")
        elif row["low"] in pairs:
            report.add(where, "low", "pair skipped: name", f"{show_value(row['low'])} stands twice")
        else:
            low, high = (files.join(folder, row[name]) for name in ("low", "high"))
            pairs[row["low"]] = Pair(row["low"], low, high, where, row.get("scene", ""), split)
    return list(pairs.values())


def split_by_scene(pairs: Sequence[Pair], *, val_fraction: float, seed: int = 0) -> list[Pair]:
    """Gives pairs that have no split one, train or val, all pairs of a scene the same.

    Args:
      pairs: with scenes; a pair without a scene is one of its own.
      val_fraction: of the scenes, in [0, 1).
      seed: chooses the scenes.

    Returns:
      The pairs, in order.

    Raises:
      ValueError: if `val_fraction` is out of range.
    """
    if not 0 <= val_fraction < 1:
        raise ValueError(f"`val_fraction` must be in [0, 1). Received: val_fraction={val_fraction}.")
    scenes = {pair.scene or pair.key for pair in pairs if not pair.split}
    ordered = sorted(scenes, key=lambda scene: hashlib.sha256(f"{seed} {scene}".encode()).digest())
    chosen = set(ordered[: round(len(ordered) * val_fraction)])
    return [
        pair
        if pair.split
        else dataclasses.replace(pair, split="val" if (pair.scene or pair.key) in chosen else "train")
        for pair in pairs
    ]


def by_split(pairs: Iterable[Pair]) -> dict[str, list[Pair]]:
    """Returns split -> pairs, the empty ones left out."""
    found: dict[str, list[Any]] = {split: [] for split in SPLITS}
    for pair in pairs:
        found[pair.split].append(pair)
    return {split: each for split, each in found.items() if each}
