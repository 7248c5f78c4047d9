"""Pictures and maps of classes out of TFRecords, by index, as `tools/create_coco_tf_record.py` writes them.

A shard is not read from front to back: where its records begin is found once, by their lengths, and a record is read
when its turn comes. So order, crops and resuming are those of `pipeline`, as for pictures in files.
"""

from __future__ import annotations

import dataclasses
import io
import os
import pathlib
import struct
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from tfllv import contracts
from tfllv.inputs import files, image_header, labels, multitask
from tfllv.records import framing, reader, schema, shards


@dataclasses.dataclass(frozen=True)
class Entry:
    """One record: its shard, where it begins, its length in bytes, and its key, such as COCO's image id."""

    path: str
    offset: int
    length: int
    key: str

    def __str__(self) -> str:
        return f"{self.path}#{self.key}"

    def read(self) -> dict[str, list[Any]]:
        """Returns the record's features.

        Raises:
          ValueError: if its bytes are damaged.
        """
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            found = next(framing.scan(file.read(self.length + framing.OVERHEAD)), None)
        if found is None or found.damage:
            damage = found.damage if found else "the file ends before it"
            raise ValueError(f"{self}: {damage}. Take the whole records with `tfllv records salvage`.")
        return schema.parse(found.payload)


def find_entries(path: str | os.PathLike[str], *, ids: Collection[str] = ()) -> list[Entry]:
    """Returns the records of a set, in its order.

    Args:
      path: a set, as `reader.check_set` takes it.
      ids: only records of these keys; none: all.

    Raises:
      ValueError: if a shard is missing or short, if an id is not in the set, or if nothing remains.
    """
    folder, name = shards.locate(os.fspath(path))
    manifest = shards.read_manifest(folder, name)
    paths = reader.check_set(path, check="size")
    found = []
    for shard, file in zip(manifest["shards"], paths, strict=True):
        starts = _starts(file)
        if len(starts) != len(shard["keys"]):
            raise ValueError(f"{file}: expected {len(shard['keys'])} records; found {len(starts)}.")
        found += [Entry(file, *start, key) for start, key in zip(starts, shard["keys"], strict=True)]
    if ids:
        absent = sorted(set(ids) - {entry.key for entry in found})
        if absent:
            raise ValueError(f"`image_ids` must be ids of '{path}'. Received: {absent[0]}, which is not there.")
        found = [entry for entry in found if entry.key in ids]
    if not found:
        raise ValueError(f"`images` must hold a record. Received: '{path}', which holds none.")
    return found


def _starts(path: str) -> list[tuple[int, int]]:
    """Returns offset and length of each record of a shard, by the lengths alone."""
    found, position, size = [], 0, os.path.getsize(path)
    with open(path, "rb") as file:
        while position < size:
            file.seek(position)
            (length,) = struct.unpack("<Q", file.read(framing.HEADER)[:8].ljust(8, b"\xff"))
            if position + length + framing.OVERHEAD > size:
                raise ValueError(f"{path}: a record at byte {position} goes beyond the file's {size} bytes.")
            found.append((position, length))
            position += length + framing.OVERHEAD
    return found


class RecordScenes(multitask.MultitaskSource):
    """As `MultitaskSource`, from records; where these were written with `--darken`, their dark pictures are taken.

    Args:
      entries: N records.
      **options: of `MultitaskSource`.

    Raises:
      ValueError: naming the record, if it has no map of classes, or one of another size; the first is looked at at
        once, the others when they are read.
    """

    def __init__(self, entries: Sequence[Entry], **options: Any):
        first = entries[0].read()
        if not _bytes(first, schema.SEMANTIC_ENCODED):
            raise ValueError(
                f"{entries[0]}: expected a map of classes; found none. Write the records with --semantic_masks."
            )
        dark = entries if _bytes(first, schema.PAIRED_ENCODED) else ()
        super().__init__(entries, entries, dark, **options)  # type: ignore[arg-type]

    def _check_columns(self, columns: Mapping[str, Sequence[Any]]) -> list[image_header.Header]:
        return []  # a header is read with its record

    def _open(self, key: str, path: Any) -> np.ndarray:
        features = path.read()
        if key == contracts.MASK:
            return self._open_map(path, features)
        paired = _bytes(features, schema.PAIRED_ENCODED)
        data = _bytes(features, schema.ENCODED) if key == contracts.LOW or not paired else paired
        return files.fit(_decode(data, str(path)), self.size, mode=self.fit)

    def _open_map(self, entry: Entry, features: Mapping[str, list[Any]]) -> np.ndarray:
        mask = labels.read_map(io.BytesIO(_bytes(features, schema.SEMANTIC_ENCODED)), self.ids, name=str(entry))
        expected = tuple(int(features[key][0]) for key in (schema.HEIGHT, schema.WIDTH))
        if mask.shape != expected:
            raise ValueError(
                f"{entry}: expected a map of {expected[1]}x{expected[0]}, as its picture; found "
                f"{mask.shape[1]}x{mask.shape[0]}."
            )
        return labels.fit_map(mask, self.size, mode=self.fit)


def _bytes(features: Mapping[str, list[Any]], key: str) -> bytes:
    return (features.get(key) or [b""])[0]


def _decode(data: bytes, name: str) -> np.ndarray:
    """Decodes a picture as it is stored, whatever its Exif orientation: maps are drawn on stored pixels."""
    try:
        image_header.read_header(data)  # refuses what is no picture, or too large
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        raise ValueError(f"{name}: expected a picture; found one that cannot be decoded.")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def read_ids(path: str | os.PathLike[str]) -> list[str]:
    """Returns the ids in a text file, one a line; empty lines and what follows a `#` are left out.

    Raises:
      ValueError: if it holds none.
      OSError: if it cannot be read.
    """
    lines = pathlib.Path(path).read_text(encoding="utf-8").splitlines()
    ids = [word for line in lines if (word := line.partition("#")[0].strip())]
    if not ids:
        raise ValueError(f"`image_ids` must be a file with an id a line. Received: '{path}', which holds none.")
    return ids
