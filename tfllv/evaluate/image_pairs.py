"""Finds which picture belongs to which truth: by name in two folders, or as a CSV file says."""

from __future__ import annotations

import csv
import dataclasses
import os
import pathlib
from collections.abc import Iterable

from tfllv.inputs import files, image_files

COLUMNS = ("low", "high")


@dataclasses.dataclass(frozen=True)
class ImagePair:
    """A picture to score, and its truth.

    Attributes:
      name: of the pair: the picture's path in its folder, or the cell of the CSV.
      picture: the file that is scored, or enhanced and then scored.
      truth: the file it is scored against.
      scene: what the CSV says of it, or empty.
    """

    name: str
    picture: pathlib.Path
    truth: pathlib.Path
    scene: str = ""


class _Folder:
    """The images of a folder by path and by name, both without their ending."""

    def __init__(self, folder: str | os.PathLike[str], argument: str):
        self.folder, self.argument = pathlib.Path(folder), argument
        self.files = files.find_images(self.folder, name=argument)
        self._by_path: dict[str, list[pathlib.Path]] = {}
        self._by_stem: dict[str, list[pathlib.Path]] = {}
        for file in self.files:
            self._by_path.setdefault(self.path_of(file), []).append(file)
            self._by_stem.setdefault(file.stem, []).append(file)

    def path_of(self, file: pathlib.Path) -> str:
        return file.relative_to(self.folder).with_suffix("").as_posix()

    def find(self, name: str) -> pathlib.Path | None:
        """Returns the image of that path (without ending), else the one of that name anywhere below the folder."""
        found = self._by_path.get(name) or self._by_stem.get(pathlib.PurePosixPath(name).name, [])
        if len(found) > 1:
            raise ValueError(f"`{self.argument}` must hold one image for '{name}'. Received: {_join(found)}.")
        return found[0] if found else None


def pair_folders(
    pictures: str | os.PathLike[str], truths: str | os.PathLike[str], *, argument: str = "pred"
) -> tuple[list[ImagePair], list[str]]:
    """Pairs the images of two folders by name; the ending (`.png`, `.jpg`) does not count, sub-folders may.

    Args:
      pictures: the folder to score.
      truths: the folder of truths.
      argument: what the first is called in messages.

    Returns:
      The pairs in order of the pictures' paths, and a line for each picture or truth that has no counterpart.

    Raises:
      ValueError: if two files stand for one name, or nothing pairs.
      OSError: if a folder is missing or holds no image.
    """
    left, right = _Folder(pictures, argument), _Folder(truths, "truth")
    pairs, missing = [], []
    taken: dict[pathlib.Path, pathlib.Path] = {}
    for file in left.files:
        truth = right.find(left.path_of(file))
        if truth is None:
            missing.append(f"{file} has no truth in {right.folder}")
        elif truth in taken:
            raise ValueError(f"`{argument}` must hold one image for {truth}. Received: {_join([taken[truth], file])}.")
        else:
            taken[truth] = file
            pairs.append(ImagePair(file.relative_to(left.folder).as_posix(), file, truth))
    missing += [f"{file} has no picture in {left.folder}" for file in right.files if file not in taken]
    return _some(pairs, missing), missing


def pair_table(
    table: str | os.PathLike[str],
    *,
    pictures: str | os.PathLike[str] | None = None,
    truths: str | os.PathLike[str] | None = None,
    low: str | os.PathLike[str] | None = None,
) -> tuple[list[ImagePair], list[str]]:
    """Pairs the rows of a CSV file with the columns `low` and `high`, and `scene` if it has one.

    Args:
      table: the file, with a header.
      pictures: a folder of results, one for each cell of `low`, found by its path or name without ending; None takes
        the dark pictures themselves.
      truths: what the cells of `high` are relative to; None: the table's folder.
      low: what the cells of `low` are relative to; None: the table's folder.

    Returns:
      As `pair_folders`, in order of the rows.

    Raises:
      ValueError: if the file is no such table, or nothing pairs.
      OSError: if the file or a folder is missing.
    """
    table = pathlib.Path(table)
    low_root, high_root = (pathlib.Path(root) if root else table.parent for root in (low, truths))
    results = _Folder(pictures, "pred") if pictures else None
    pairs, missing = [], []
    for number, row in read_rows(table, COLUMNS):
        picture: pathlib.Path | None = low_root / row["low"]
        if results is not None:
            picture = results.find(pathlib.PurePosixPath(row["low"]).with_suffix("").as_posix())
        truth = high_root / row["high"]
        if picture is None or not picture.is_file():
            missing.append(
                f"{table}:{number}: no picture for {row['low']} in {results.folder if results else low_root}"
            )
        elif not truth.is_file():
            missing.append(f"{table}:{number}: there is no {truth}")
        else:
            pairs.append(ImagePair(row["low"], picture, truth, row.get("scene") or ""))
    return _some(pairs, missing), missing


def read_rows(table: pathlib.Path, columns: Iterable[str]) -> list[tuple[int, dict[str, str]]]:
    """Returns the rows of a CSV file with their line numbers.

    Raises:
      ValueError: if a column is missing, a cell of it is empty, or the file is no text.
    """
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            names = list(reader.fieldnames or ())
            rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{table}: not a CSV file ({error}).") from None
    for column in columns:
        if column not in names:
            raise ValueError(f"{table} must have the columns {', '.join(columns)}. Received: {names}.")
        for number, row in rows:
            if not row[column]:
                raise ValueError(f"{table}:{number}: `{column}` must name a file. Received: an empty cell.")
    return rows


def check_sizes(pairs: Iterable[ImagePair]) -> list[tuple[ImagePair, str]]:
    """Compares the sizes of both pictures of each pair, from their headers alone.

    Returns:
      (pair, reason) for each that has an unreadable header.

    Raises:
      ValueError: if sizes differ, naming both files; nothing is ever resized to fit.
    """
    unreadable = []
    for pair in pairs:
        try:
            sizes = [image_files.read_header(file).upright_size for file in (pair.picture, pair.truth)]
        except (ValueError, OSError) as error:
            unreadable.append((pair, " ".join(str(error).split())))
            continue
        if sizes[0] != sizes[1]:
            (w, h), (truth_w, truth_h) = sizes
            raise ValueError(
                f"both pictures of a pair must have one size; nothing is resized. Received: {pair.picture} is {w}x{h}, "
                f"{pair.truth} is {truth_w}x{truth_h}."
            )
    return unreadable


def _some(pairs: list[ImagePair], missing: list[str]) -> list[ImagePair]:
    if not pairs:
        raise ValueError(f"no picture has a truth: {_join(missing)}.")
    return pairs


def _join(items: Iterable[object], most: int = 4) -> str:
    words = [str(item) for item in items]
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")
