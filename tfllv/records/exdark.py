"""ExDark, the Exclusively Dark Image Dataset, in its own layout (https://github.com/cs-chan/Exclusively-Dark-Image-Dataset).

`ExDark/<Class>/<image>`, `ExDark_Annno/<Class>/<image>.txt` and `imageclasslist.txt`. 427 images changed their ending
after the list was made, so everything is matched by the name without it, which is unique.

An annotation file is `% bbGt version=3`, then a line an object: class, left, top, width, height, seven zeros.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import random
from collections import Counter

from tfllv import contracts
from tfllv.records import files, schema
from tfllv.records.detection import Item, Thing
from tfllv.records.problems import Report, Where, number, show_value, whole_number

_NAMES = ("Bicycle", "Boat", "Bottle", "Bus", "Car", "Cat", "Chair", "Cup", "Dog", "Motorbike", "People", "Table")
CLASSES = {name: index for index, name in enumerate(_NAMES, 1)}
LIGHTING = ("Low", "Ambient", "Object", "Single", "Weak", "Strong", "Screen", "Window", "Shadow", "Twilight")
SPLITS = ("train", "val", "test")
OFFICIAL_COUNTS = {"train": 3000, "val": 1800, "test": 2563}

_BY_LOWER = {name.lower(): name for name in CLASSES}
_IMAGE_FOLDER, _ANNOTATION_FOLDERS = "ExDark", ("ExDark_Annno", "ExDark_Anno")


@dataclasses.dataclass(frozen=True)
class Listed:
    """A line of `imageclasslist.txt`.

    Attributes:
      name: the file name that the list has; its ending may have changed since.
      label: 1 to 12.
      lighting: 1 to 10, see `LIGHTING`.
      indoor: whether it was taken indoors.
      split: of `SPLITS`.
    """

    name: str
    label: int
    lighting: int
    indoor: bool
    split: str


def read_class_list(path: str | os.PathLike[str], report: Report) -> dict[str, Listed]:
    """Reads `imageclasslist.txt`.

    Args:
      path: the file.
      report: problems are added to it; such a line is skipped.

    Returns:
      Stem -> line.

    Raises:
      ValueError: if the file is not UTF-8.
      OSError: if it cannot be read.
    """
    found: dict[str, Listed] = {}
    for line, text in enumerate(files.read_text(str(path)).splitlines(), 1):
        words, where = text.split(), Where(str(path), line)
        if not words or "|" in text:
            continue
        numbers = [whole_number(word) for word in words[1:]]
        limits = (("class", 12), ("light", 10), ("in/out", 2), ("train/val/test", 3))
        if len(words) != 5:
            report.add(where, "line", "list line skipped", f"expected 5 words, found {show_value(text)}")
            continue
        wrong = [
            (name, word)
            for (name, most), value, word in zip(limits, numbers, words[1:], strict=True)
            if value is None or not 1 <= value <= most
        ]
        stem = pathlib.PurePath(words[0]).stem
        if wrong:
            report.add(where, wrong[0][0], "list line skipped", f"{show_value(wrong[0][1])} is out of range")
        elif stem in found:
            report.add(where, "name", "list line skipped", f"{show_value(stem)} stands twice")
        else:
            label, lighting, place, part = (value or 0 for value in numbers)
            found[stem] = Listed(words[0], label, lighting, place == 1, SPLITS[part - 1])
    return found


def check_official(listed: dict[str, Listed], path: str | os.PathLike[str]) -> None:
    """Checks that a list is the official one: 7,363 images, 3,000 + 1,800 + 2,563.

    Raises:
      ValueError: if it is not.
    """
    counts = Counter(line.split for line in listed.values())
    if dict(counts) != OFFICIAL_COUNTS:
        found = "/".join(str(counts[split]) for split in SPLITS)
        raise ValueError(
            f"{path}: expected the official split 3000/1800/2563 of 7,363 images, found {found} of {len(listed):,}; "
            "take the dataset's own imageclasslist.txt, or give --split random."
        )


def read_annotation(path: str, report: Report) -> tuple[Thing, ...]:
    """Reads the objects of one image; a line that is wrong is reported and skipped.

    Args:
      path: an annotation file.
      report: problems are added to it.

    Returns:
      The objects, boxes as in the file (not checked against the picture's size).
    """
    try:
        lines = files.read_text(path).splitlines()
    except (OSError, ValueError) as error:
        report.add(Where(path, 1), "file", "annotation file skipped", str(error))
        return ()
    if not lines or not lines[0].startswith("%"):
        report.add(Where(path, 1), "header", "no bbGt header", f"found {show_value(lines[0] if lines else '')}")
    things = []
    for line, text in enumerate(lines, 1):
        words, where = text.split(), Where(path, line)
        if not words or words[0].startswith("%"):
            continue
        name = _BY_LOWER.get(words[0].lower())
        if name is None:
            report.add(where, "class", "object skipped: class", f"{show_value(words[0])} is none of the 12 classes")
            continue
        values = [number(word) for word in words[1:5]]
        if len(values) < 4 or None in values:
            fields = dict(zip(("left", "top", "width", "height"), [*values, *[None] * 4], strict=False))
            field = next(key for key, value in fields.items() if value is None)
            report.add(where, field, "object skipped: number", f"expected four numbers, found {show_value(text)}")
            continue
        left, top, width, height = (value or 0.0 for value in values)
        things.append(Thing((left, top, left + width, top + height), CLASSES[name], name, where))
    return tuple(things)


def find_images(data_dir: str | os.PathLike[str], report: Report) -> dict[str, tuple[str, str]]:
    """Finds the images and their annotation files, both by stem.

    Args:
      data_dir: the folder that holds `ExDark` and `ExDark_Annno`.
      report: images without an annotation file, annotation files without an image and doubles are added to it.

    Returns:
      Stem -> (image path, annotation path), sorted.

    Raises:
      ValueError: if a folder is missing or holds no image.
    """
    root = pathlib.Path(data_dir)
    folder = next((root / name for name in _ANNOTATION_FOLDERS if (root / name).is_dir()), None)
    if folder is None or not (root / _IMAGE_FOLDER).is_dir():
        raise ValueError(f"`data_dir` must hold the folders ExDark and ExDark_Annno. Received: {root}.")
    images = _by_stem(root / _IMAGE_FOLDER, contracts.IMAGE_SUFFIXES, report, "image")
    notes = _by_stem(folder, (".txt",), report, "annotation")
    for stem in sorted(images.keys() - notes.keys()):
        report.add(Where(images[stem]), "annotation", "picture skipped", "it has no annotation file")
    for stem in sorted(notes.keys() - images.keys()):
        report.add(Where(notes[stem], 1), "image", "annotation file skipped", "it has no picture")
    found = {stem: (images[stem], notes[stem]) for stem in sorted(images.keys() & notes.keys())}
    if not found:
        raise ValueError(f"`data_dir` must hold images with annotation files of their names. Received: {root}.")
    return found


def _by_stem(folder: pathlib.Path, suffixes: tuple[str, ...], report: Report, what: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in sorted(folder.glob("*/*")):
        if path.suffix.lower() not in suffixes or path.name.startswith("."):
            continue
        stem = path.stem
        if what == "annotation":  # 2015_00001.png.txt, or 2015_00001.txt
            inner = pathlib.PurePath(stem)
            stem = inner.stem if inner.suffix.lower() in contracts.IMAGE_SUFFIXES else stem
        if stem in found:
            report.add(Where(str(path)), "name", f"{what} skipped", f"{stem} is also {found[stem]}")
        else:
            found[stem] = str(path)
    return found


def read_exdark(
    data_dir: str | os.PathLike[str],
    report: Report,
    *,
    class_list: str | os.PathLike[str] | None = None,
    split: str = "official",
    train_fraction: float = 0.75,
    seed: int = 0,
    allow_missing: bool = False,
) -> dict[str, list[Item]]:
    """Reads the dataset's annotations and splits it.

    Args:
      data_dir: the folder that holds `ExDark`, `ExDark_Annno` and, by default, `imageclasslist.txt`.
      report: problems are added to it.
      class_list: where `imageclasslist.txt` is; default: in `data_dir`. A random split does without, then lighting,
        indoor and image class are absent from the records.
      split: `official` (3,000 train, 1,800 val, 2,563 test), or `random`: train and val, class by class.
      train_fraction: of the random split.
      seed: of the random split.
      allow_missing: take what is there where images of the official list are absent.

    Returns:
      Split -> items; the picture itself is read later.

    Raises:
      ValueError: if the layout, the list or an option is wrong, or images are missing.
      OSError: if a file cannot be read.
    """
    if split not in ("official", "random"):
        raise ValueError(f"`split` must be official or random. Received: split='{split}'.")
    if not 0 < train_fraction < 1:
        raise ValueError(f"`train_fraction` must be between 0 and 1. Received: train_fraction={train_fraction}.")
    path = pathlib.Path(class_list) if class_list else pathlib.Path(data_dir) / "imageclasslist.txt"
    found = find_images(data_dir, report)
    listed = read_class_list(path, report) if split == "official" or class_list or path.is_file() else {}
    if split == "official":
        check_official(listed, path)
        _check_complete(found, listed, Where(str(path)), report, allow_missing)
        parts = {name: [stem for stem in found if stem in listed and listed[stem].split == name] for name in SPLITS}
    else:
        parts = split_at_random(found, train_fraction, seed)
    return {
        name: [_item(stem, *found[stem], listed.get(stem), name, report) for stem in stems]
        for name, stems in parts.items()
        if stems
    }


def _check_complete(
    found: dict[str, tuple[str, str]], listed: dict[str, Listed], path: Where, report: Report, allow_missing: bool
) -> None:
    for stem in sorted(found.keys() - listed.keys()):
        report.add(Where(found[stem][0]), "name", "picture skipped", "it is not in the official list")
    missing = sorted(listed.keys() - found.keys())
    if missing and not allow_missing:
        raise ValueError(
            f"{len(missing):,} of the 7,363 official images or their annotations are missing, the first is "
            f"{listed[missing[0]].name}; {len(found):,} were found. Give --allow_missing to convert those."
        )
    if missing:
        report.add(path, "images", "official pictures missing", f"{len(missing):,} of 7,363 are not there")


def split_at_random(found: dict[str, tuple[str, str]], train_fraction: float, seed: int) -> dict[str, list[str]]:
    """Splits stems into train and val, class folder by class folder, the same for the same seed."""
    folders: dict[str, list[str]] = {}
    for stem in sorted(found):
        folders.setdefault(pathlib.PurePath(found[stem][0]).parent.name, []).append(stem)
    parts: dict[str, list[str]] = {"train": [], "val": []}
    for name, stems in sorted(folders.items()):
        random.Random(f"{seed} {name}").shuffle(stems)
        count = round(len(stems) * train_fraction)
        parts["train"] += stems[:count]
        parts["val"] += stems[count:]
    return parts


def _item(stem: str, image: str, annotation: str, line: Listed | None, split: str, report: Report) -> Item:
    extra: list[tuple[str, object]] = [(schema.SPLIT, split)]
    if line is not None:
        extra += [
            (schema.IMAGE_CLASS_LABEL, (line.label,)),
            (schema.IMAGE_CLASS_TEXT, (list(CLASSES)[line.label - 1],)),
            (schema.LIGHTING, line.lighting),
            (schema.LIGHTING_TEXT, LIGHTING[line.lighting - 1]),
            (schema.INDOOR, int(line.indoor)),
        ]
    return Item(
        key=stem,
        image=image,
        filename=f"{stem}.jpg",
        things=read_annotation(annotation, report),
        where=Where(image),
        extra=tuple(extra),
    )
