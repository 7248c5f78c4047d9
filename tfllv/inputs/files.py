"""Finding, choosing and fitting image files for training."""

from __future__ import annotations

import concurrent.futures
import csv
import fnmatch
import pathlib
import re
from collections.abc import Sequence

import numpy as np
from PIL import Image

from tfllv import contracts
from tfllv.inputs import image_files

_RANGE = re.compile(r"^(\d+)-(\d+)$")


def find_images(folder: str | pathlib.Path, *, name: str = "data", option: str = "") -> list[pathlib.Path]:
    """Returns the images of a folder and its sub-folders, sorted by path.

    Args:
      folder: where to look; a trailing slash makes no difference.
      name: the argument's name, for messages.
      option: the command line option that sets it, for messages.

    Raises:
      FileNotFoundError: if the folder is missing or holds no image.
      NotADirectoryError: if it is a file.
    """
    folder = pathlib.Path(folder)
    name = f"`{name}` ({option})" if option else f"`{name}`"
    if not folder.exists():
        raise FileNotFoundError(f"{name} must be a folder of images. Received: '{folder}', which does not exist.")
    if not folder.is_dir():
        raise NotADirectoryError(f"{name} must be a folder of images. Received: '{folder}', which is a file.")
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in contracts.IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )
    if not paths:
        raise FileNotFoundError(
            f"{name} must be a folder of images. Received: '{folder}', which holds none of "
            f"{', '.join(contracts.IMAGE_SUFFIXES)}."
        )
    return paths


def select(
    paths: Sequence[pathlib.Path],
    folder: str | pathlib.Path,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> list[pathlib.Path]:
    """Chooses images by entries; with `include`, only what it names remains, then what `exclude` names goes.

    An entry is a file name or glob (`7.jpg`, `night/*`), a range of numbered files (`18-25`: 18.jpg ... 25.jpg), or a
    CSV file with a header: every image named in it, or in one column of it (`pairs.csv:low`). A CSV with a `scene`
    column names whole scenes: all numbered files between a scene's lowest and highest number (unless a column is
    given), because the frames of a scene that stand in no row show the same place.

    Args:
      paths: images under `folder`.
      folder: what globs are relative to.
      include: entries; none takes all.
      exclude: entries.

    Returns:
      The images that remain, in the same order.

    Raises:
      ValueError: if an entry names no image, or none remains.
    """
    kept = list(paths)
    if include:
        wanted = set().union(*(_matches(entry, paths, pathlib.Path(folder), "include") for entry in include))
        kept = [path for path in kept if path in wanted]
    if exclude:
        unwanted = set().union(*(_matches(entry, paths, pathlib.Path(folder), "exclude") for entry in exclude))
        kept = [path for path in kept if path not in unwanted]
    if not kept:
        raise ValueError(f"`include` and `exclude` must leave an image. Received: {len(paths)} images, none left.")
    return kept


def select_dark(paths: Sequence[pathlib.Path], max_level: float) -> list[pathlib.Path]:
    """Chooses the images whose mean level is at most `max_level`, in [0, 1]; 1 takes all without reading any.

    Raises:
      ValueError: if none remains, or a file is no image.
    """
    if max_level >= 1:
        return list(paths)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        levels = list(pool.map(lambda path: float(read_pixels(path).mean()) / 255, paths))
    kept = [path for path, level in zip(paths, levels, strict=True) if level <= max_level]
    if not kept:
        raise ValueError(
            f"`max_level` must leave an image. Received: max_level={max_level}, but the darkest of {len(paths)} images "
            f"has a mean level of {min(levels):.3f}."
        )
    return kept


def _matches(entry: str, paths: Sequence[pathlib.Path], folder: pathlib.Path, name: str) -> set[pathlib.Path]:
    """Returns the images that one entry names."""
    span = _RANGE.match(entry)
    table = re.match(r"^(.+\.csv)(?::(\w+))?$", entry, re.IGNORECASE)
    if span:
        found = _numbered(paths, int(span[1]), int(span[2]))
    elif table:
        found = _tabled(pathlib.Path(table[1]), table[2], paths)
    else:
        found = {
            path
            for path in paths
            if fnmatch.fnmatch(path.name, entry) or fnmatch.fnmatch(path.relative_to(folder).as_posix(), entry)
        }
    if not found:
        raise ValueError(f"`{name}` must name images of '{folder}'. Received: '{entry}', which names none.")
    return found


def _numbered(paths: Sequence[pathlib.Path], low: int, high: int) -> set[pathlib.Path]:
    return {path for path in paths if path.stem.isdigit() and low <= int(path.stem) <= high}


def _tabled(table: pathlib.Path, column: str | None, paths: Sequence[pathlib.Path]) -> set[pathlib.Path]:
    """Returns the images named in a CSV; whole scenes where it has a `scene` column and no column was asked for."""
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if column and rows and column not in rows[0]:
        raise ValueError(f"`{table}` must have the column asked for. Received: '{column}'; it has {list(rows[0])}.")
    names: set[str] = set()
    scenes: dict[str, list[int]] = {}
    for row in rows:
        for key, cell in row.items():
            if key == "scene" or (column and key != column) or not isinstance(cell, str):
                continue
            part = pathlib.PurePosixPath(cell)
            if part.suffix.lower() in contracts.IMAGE_SUFFIXES:
                names.add(part.name)
                if part.stem.isdigit() and not column:
                    scenes.setdefault(row.get("scene") or cell, []).append(int(part.stem))
    found = {path for path in paths if path.name in names}
    return found.union(*(_numbered(paths, min(numbers), max(numbers)) for numbers in scenes.values()))


def read_pixels(path: pathlib.Path) -> np.ndarray:
    """Reads an image file as [H, W, 3] uint8 sRGB, upright; alpha is dropped, 16 bits are rounded to 8.

    JPEG pixels are bit-equal to `tf.io.decode_jpeg(..., dct_method="INTEGER_ACCURATE")`.

    Raises:
      ValueError: naming the file, if it is no image, too large or damaged.
      OSError: if it cannot be read.
    """
    pixels = image_files.read_image(path).pixels
    return pixels if pixels.dtype == np.uint8 else contracts.to_uint8(contracts.to_float(pixels))


def fit(image: np.ndarray, size: int, *, mode: str) -> np.ndarray:
    """Makes a uint8 image ready to be stored: `resize` to [size, size, 3] by Lanczos, `crop` to sides >= size.

    Lanczos with a support of 3 source pixels, widened when shrinking, as the SGZ reference's data loader.
    """
    height, width = image.shape[:2]
    if mode == "resize":
        target = (size, size)
    else:
        scale = max(1.0, size / min(height, width))
        target = (max(size, round(width * scale)), max(size, round(height * scale)))
    if target == (width, height):
        return image
    return np.asarray(Image.fromarray(image).resize(target, Image.Resampling.LANCZOS))
