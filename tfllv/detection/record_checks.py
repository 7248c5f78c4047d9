"""A look into records before training: whole examples with boxes of known classes inside their picture."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tfllv.records import framing, schema

# Enough to meet a systematic fault, little enough to take a fraction of a second.
MOST_RECORDS = 200
MOST_BYTES_A_SHARD = 8 << 20
_CORNERS = (schema.XMIN, schema.YMIN, schema.XMAX, schema.YMAX)
# Normalised float32 coordinates of a box that touches the border may end a bit beyond it.
_TOLERANCE = 1e-5

Finding = tuple[str, str, str, str]


def check(shards: Sequence[str], ids: Mapping[str, int], reader: Any) -> Iterator[Finding]:
    """Checks the first records of each of some shards, and stops at the first fault of each kind.

    Args:
      shards: paths.
      ids: class name -> id: the label map.
      reader: the `input_reader` of the configuration: whether masks are read, and how many boxes.

    Yields:
      (shard, field, what was found, what to do).
    """
    kinds: set[str] = set()
    records = objects = 0
    for shard, number, data in _sample(shards):
        if isinstance(data, str):
            yield shard, f"record {number}", data, "salvage what is whole with `tfllv records salvage`"
            return
        try:
            features = schema.parse(data)
        except (ValueError, IndexError) as error:
            yield shard, f"record {number}", f"no tf.train.Example ({error})", "write the records anew"
            return
        records += 1
        objects += len(features.get(schema.XMIN, []))
        for kind, field, found, fix in _faults(features, ids, reader):
            if kind not in kinds:
                kinds.add(kind)
                name = schema.name_of(data)
                yield shard, f"record {number}{f' ({name})' if name else ''}: {field}", found, fix
    if records and not objects:
        yield shards[0], schema.XMIN, f"no box in {records} records", "write records with objects; training needs some"


def _sample(shards: Sequence[str]) -> Iterator[tuple[str, int, bytes | str]]:
    """(shard, index, payload) of the first records of some shards spread over all; a text in place of a damaged one."""
    chosen = shards[:: max(1, len(shards) // 10)][:10]
    each = max(1, MOST_RECORDS // max(len(chosen), 1))
    for shard in chosen:
        with open(shard, "rb") as file:
            data = file.read(MOST_BYTES_A_SHARD)
            is_part = bool(file.read(1))
        if not data:
            yield shard, 0, "an empty file"
        for index, found in enumerate(framing.scan(data)):
            if index == each:
                break
            if found.damage and is_part and "ends inside" in found.damage:
                break  # cut by this look, not in the file
            # TensorFlow stops at a broken header even where the record behind it is whole.
            damage = found.damage or ("its header is damaged" if found.header_damaged else "")
            yield shard, index, damage or found.payload


def _faults(
    features: Mapping[str, list[Any]], ids: Mapping[str, int], reader: Any
) -> Iterator[tuple[str, str, str, str]]:
    """(kind, field, found, fix) of one example."""
    if not features.get(schema.ENCODED):
        yield "picture", schema.ENCODED, "absent", "write the picture's bytes under this key"
    corners = [features.get(key, []) for key in _CORNERS]
    counts = {len(values) for values in corners}
    if len(counts) > 1:
        found = ", ".join(str(len(values)) for values in corners)
        yield "corners", "image/object/bbox", f"{found} values", "write as many of xmin, ymin, xmax and ymax"
        return
    yield from _box_faults(corners)
    yield from _class_faults(features, ids, len(corners[0]))
    if len(corners[0]) > reader.max_number_of_boxes:
        fix = f"set max_number_of_boxes of the reader, now {reader.max_number_of_boxes}, or the rest is left out"
        yield "number", "image/object/bbox", f"{len(corners[0])} boxes", fix
    if reader.load_instance_masks and len(features.get(schema.MASK, [])) != len(corners[0]):
        found = f"{len(features.get(schema.MASK, []))} masks for {len(corners[0])} boxes"
        yield "masks", schema.MASK, found, "write records with --include_masks, or set load_instance_masks: false"


def _box_faults(corners: Sequence[Sequence[float]]) -> Iterator[tuple[str, str, str, str]]:
    for index, (xmin, ymin, xmax, ymax) in enumerate(zip(*corners, strict=True)):
        found = f"({xmin:.4g}, {ymin:.4g}, {xmax:.4g}, {ymax:.4g})"
        field = f"image/object/bbox[{index}]"
        if not all(math.isfinite(value) for value in (xmin, ymin, xmax, ymax)):
            yield "finite", field, found, "coordinates must be numbers"
        elif max(xmin, ymin, xmax, ymax) > 1.5:
            yield "pixels", field, found, "coordinates are normalised: divide by the picture's width and height"
        elif min(xmin, ymin) < -_TOLERANCE or max(xmax, ymax) > 1 + _TOLERANCE:
            yield "inside", field, found, "the box leaves its picture: clip it to [0, 1]"
        elif xmin >= xmax or ymin >= ymax:
            yield "empty", field, found, "the box is empty or upside down: leave it out"


def _class_faults(
    features: Mapping[str, list[Any]], ids: Mapping[str, int], count: int
) -> Iterator[tuple[str, str, str, str]]:
    """TFOD looks a class up by its name where the record has names, and leaves the object out where it finds none."""
    texts, labels = features.get(schema.CLASS_TEXT, []), features.get(schema.CLASS_LABEL, [])
    by_name = bool(texts)
    if count and len(texts if by_name else labels) != count:
        found = f"{len(labels)} ids and {len(texts)} names for {count} boxes"
        yield "classes", "image/object/class", found, "write a class for each box"
        return
    for index in range(count):
        label = labels[index] if len(labels) == count else None
        if not by_name:
            if label not in ids.values():
                fix = "no id of the label map: take the one that the records were written with"
                yield "class", f"{schema.CLASS_LABEL}[{index}]", f"{label}", fix
            continue
        text = str(texts[index], "utf-8", "replace")
        if text not in ids:
            fix = "no class of the label map, its objects would be left out: take the one of these records"
            yield "class", f"{schema.CLASS_TEXT}[{index}]", f"'{text}'", fix
        elif label not in (None, ids[text]):
            fix = f"'{text}' has id {ids[text]} in the label map, which is taken: use the one of these records"
            yield "id", f"{schema.CLASS_LABEL}[{index}]", f"{label}", fix
