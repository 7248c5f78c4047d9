"""COCO's instance annotations (https://cocodataset.org/#format-data): boxes, polygons, run lengths, crowds."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Collection
from typing import Any

from tfllv import contracts
from tfllv.records import files
from tfllv.records.detection import Item, Thing
from tfllv.records.json_lines import Document
from tfllv.records.problems import Report, Where, number, show_value, whole_number


def read_coco(
    path: str | os.PathLike[str],
    image_dir: str | os.PathLike[str],
    report: Report,
    *,
    labels: dict[str, int] | None = None,
    image_ids: Collection[int] | None = None,
    max_images: int = 0,
    masks: bool = False,
    semantic_masks: bool = False,
) -> tuple[list[Item], dict[str, int]]:
    """Reads pictures and their objects from an annotation file.

    Args:
      path: `instances_*.json`.
      image_dir: the folder of the pictures.
      report: problems are added to it; such an object or picture is skipped.
      labels: class name -> id; None: the file's own categories and ids. Classes that it lacks are left out silently:
        that is how one chooses classes.
      image_ids: take only these pictures.
      max_images: take only so many, the first by id; 0: all.
      masks: keep the segmentations.
      semantic_masks: check that class ids fit into a map of them.

    Returns:
      The items, the picture itself is read later; and class name -> id.

    Raises:
      ValueError: naming file and line, if it is not such a file; or if an id of `image_ids` is not in it.
      OSError: if it cannot be read.
    """
    if max_images < 0:
        raise ValueError(f"`max_images` must be >= 0. Received: max_images={max_images}.")
    document = Document(str(path))
    categories = _read_categories(document, report)
    chosen = _choose_classes(document, categories, labels, semantic_masks=semantic_masks)
    pictures = _read_pictures(document, report)
    _choose(pictures, image_ids, max_images, str(path))
    things = _read_things(document, pictures, categories, chosen, report, keep=masks or semantic_masks)
    items = [
        Item(
            key=str(image_id),
            image=files.join(str(image_dir), name),
            filename=name,
            things=tuple(things.get(image_id, ())),
            where=where,
            size=size,
            digest=document.digest if masks or semantic_masks else "",
        )
        for image_id, (name, size, where) in pictures.items()
    ]
    return items, chosen


def _read_categories(document: Document, report: Report) -> dict[int, str]:
    found: dict[int, str] = {}
    for index, entry in enumerate(document.entries("categories")):
        identity = whole_number(entry.get("id")) if isinstance(entry, dict) else None
        name = entry.get("name") if isinstance(entry, dict) else None
        where = document.where("categories", index)
        if identity is None or not isinstance(name, str) or not name:
            report.add(where, f"categories[{index}]", "category skipped", f"found {show_value(entry)}")
        elif identity in found or name in found.values():
            report.add(where, f"categories[{index}]", "category skipped", f"{show_value(entry)} stands twice")
        else:
            found[identity] = name
    return found


def _choose_classes(
    document: Document, categories: dict[int, str], labels: dict[str, int] | None, *, semantic_masks: bool
) -> dict[str, int]:
    chosen = labels or {name: identity for identity, name in categories.items()}
    if min(chosen.values(), default=1) < 1:
        where = document.where("categories")
        raise ValueError(
            f"{where}: categories: an id below 1 found, but 0 is the background; give a label map of names."
        )
    if semantic_masks and max(chosen.values(), default=0) >= contracts.IGNORE_LABEL:
        raise ValueError(f"`labels` must be below {contracts.IGNORE_LABEL} for semantic masks; give a label map.")
    return chosen


def _read_pictures(document: Document, report: Report) -> dict[int, tuple[str, tuple[int, int], Where]]:
    found: dict[int, tuple[str, tuple[int, int], Where]] = {}
    for index, entry in enumerate(document.entries("images")):
        where, field = document.where("images", index), f"images[{index}]"
        if not isinstance(entry, dict):
            report.add(where, field, "picture skipped", f"found {show_value(entry)}")
            continue
        values = {key: whole_number(entry.get(key)) for key in ("id", "width", "height")}
        name = entry.get("file_name")
        wrong = [key for key, value in values.items() if value is None or (key != "id" and value < 1)]
        if not isinstance(name, str) or not _is_safe(name):
            wrong.append("file_name")
        if wrong:
            detail = f"found {show_value(entry.get(wrong[0]))}"
            report.add(where, f"{field}.{wrong[0]}", "picture skipped", detail)
            continue
        identity, width, height = (value or 0 for value in values.values())
        if identity in found:
            report.add(where, f"{field}.id", "picture skipped", f"id {identity} stands twice")
            continue
        found[identity] = (str(name), (width, height), where)
    return dict(sorted(found.items()))


def _is_safe(name: str) -> bool:
    """Whether a file name of the annotations stays inside the folder of pictures."""
    path = pathlib.PurePosixPath(name)
    return bool(name) and "\0" not in name and not path.is_absolute() and ".." not in path.parts


def _choose(pictures: dict[int, Any], image_ids: Collection[int] | None, max_images: int, path: str) -> None:
    if image_ids is not None:
        absent = sorted(set(image_ids) - pictures.keys())
        if absent:
            raise ValueError(f"`image_ids` must be ids of {path}. Received: {absent[0]}, which is not there.")
    kept = [identity for identity in pictures if image_ids is None or identity in image_ids]
    for identity in pictures.keys() - set(kept[: max_images or None]):
        del pictures[identity]


def _read_things(
    document: Document,
    pictures: dict[int, Any],
    categories: dict[int, str],
    labels: dict[str, int],
    report: Report,
    *,
    keep: bool,
) -> dict[int, list[Thing]]:
    found: dict[int, list[Thing]] = {}
    left_out = {whole_number(entry.get("id")) for entry in document.entries("images") if isinstance(entry, dict)}
    for index, entry in enumerate(document.entries("annotations")):
        field = f"annotations[{index}]"
        if not isinstance(entry, dict):
            report.add(document.where("annotations", index), field, "object skipped: entry", show_value(entry))
            continue
        image_id, category = whole_number(entry.get("image_id")), whole_number(entry.get("category_id"))
        if image_id not in pictures:
            if image_id not in left_out:
                detail = f"no picture of id {show_value(entry.get('image_id'))}"
                report.add(document.where("annotations", index), f"{field}.image_id", "object skipped: picture", detail)
            continue
        if category not in categories:
            detail = f"no category of id {show_value(entry.get('category_id'))}"
            report.add(document.where("annotations", index), f"{field}.category_id", "object skipped: class", detail)
            continue
        name = categories[category]
        if name not in labels:
            continue
        thing = _read_thing(document.where("annotations", index), field, entry, name, labels[name], report, keep)
        if thing is not None:
            found.setdefault(image_id, []).append(thing)
    return found


def _read_thing(
    where: Where, field: str, entry: dict[str, Any], name: str, label: int, report: Report, keep: bool
) -> Thing | None:
    box = entry.get("bbox")
    values = [number(value) if not isinstance(value, str) else None for value in box] if isinstance(box, list) else []
    if len(values) != 4 or None in values:
        report.add(where, f"{field}.bbox", "object skipped: number", f"expected four numbers, found {show_value(box)}")
        return None
    left, top, width, height = (value or 0.0 for value in values)
    area, crowd = entry.get("area"), whole_number(entry.get("iscrowd", 0))
    if crowd not in (0, 1):
        report.add(where, f"{field}.iscrowd", "object skipped: crowd", f"found {show_value(entry.get('iscrowd'))}")
        return None
    if area is not None and (isinstance(area, str) or number(area) is None or (number(area) or 0) < 0):
        report.add(where, f"{field}.area", "object skipped: area", f"found {show_value(area)}")
        return None
    return Thing(
        box=(left, top, left + width, top + height),
        label=label,
        text=name,
        where=where,
        field=f"{field}.bbox",
        is_crowd=bool(crowd),
        area=None if area is None else number(area),
        segmentation=entry.get("segmentation") if keep else None,
    )
