"""The one list of feature keys, and `tf.train.Example` to and from bytes without TensorFlow.

The first group of keys is that of the TF Object Detection API, letter for letter; the second is ours. Bytes are those
that protocol buffers write deterministically (map entries sorted by key, lists packed), so equal content gives equal
files on every machine and in every number of workers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

# TFOD's keys. `encoded` is the picture that a model reads: of a pair, the dark one.
ENCODED = "image/encoded"
FORMAT = "image/format"
HEIGHT = "image/height"
WIDTH = "image/width"
FILENAME = "image/filename"
SOURCE_ID = "image/source_id"
SHA256 = "image/key/sha256"
IMAGE_CLASS_TEXT = "image/class/text"
IMAGE_CLASS_LABEL = "image/class/label"
YMIN = "image/object/bbox/ymin"
XMIN = "image/object/bbox/xmin"
YMAX = "image/object/bbox/ymax"
XMAX = "image/object/bbox/xmax"
CLASS_TEXT = "image/object/class/text"
CLASS_LABEL = "image/object/class/label"
IS_CROWD = "image/object/is_crowd"
AREA = "image/object/area"
MASK = "image/object/mask"

# Ours; TFOD's decoder ignores them.
LIGHTING = "image/lighting/label"  # int64, ExDark's 1 (Low) to 10 (Twilight)
LIGHTING_TEXT = "image/lighting/text"
INDOOR = "image/indoor"  # int64, 1 indoor, 0 outdoor
SPLIT = "image/split"  # bytes: train, val or test
SCENE = "image/scene"  # bytes: pairs of one scene never fall into two splits
PAIRED_ENCODED = "image/paired/encoded"  # the bright picture of the same scene, same size
PAIRED_FORMAT = "image/paired/format"
PAIRED_FILENAME = "image/paired/filename"
SEMANTIC_ENCODED = "image/segmentation/class/encoded"  # PNG, uint8: a class id a pixel, 0 background, 255 ignore
SEMANTIC_FORMAT = "image/segmentation/class/format"
DARKEN_RECIPE = "image/darken/recipe"  # bytes: how `encoded` was made from `paired/encoded`
DARKEN_SEED = "image/darken/seed"  # int64

# Key -> (kind, whether a record holds a list of them). Every key that is ever written is in this table.
FEATURES: dict[str, tuple[str, bool]] = {
    ENCODED: ("bytes", False),
    FORMAT: ("bytes", False),
    HEIGHT: ("int64", False),
    WIDTH: ("int64", False),
    FILENAME: ("bytes", False),
    SOURCE_ID: ("bytes", False),
    SHA256: ("bytes", False),
    IMAGE_CLASS_TEXT: ("bytes", True),
    IMAGE_CLASS_LABEL: ("int64", True),
    YMIN: ("float", True),
    XMIN: ("float", True),
    YMAX: ("float", True),
    XMAX: ("float", True),
    CLASS_TEXT: ("bytes", True),
    CLASS_LABEL: ("int64", True),
    IS_CROWD: ("int64", True),
    AREA: ("float", True),
    MASK: ("bytes", True),
    LIGHTING: ("int64", False),
    LIGHTING_TEXT: ("bytes", False),
    INDOOR: ("int64", False),
    SPLIT: ("bytes", False),
    SCENE: ("bytes", False),
    PAIRED_ENCODED: ("bytes", False),
    PAIRED_FORMAT: ("bytes", False),
    PAIRED_FILENAME: ("bytes", False),
    SEMANTIC_ENCODED: ("bytes", False),
    SEMANTIC_FORMAT: ("bytes", False),
    DARKEN_RECIPE: ("bytes", False),
    DARKEN_SEED: ("int64", False),
}

_SMALL = [bytes([value]) for value in range(0x80)]
_FIELD_OF_KIND = {"bytes": 1, "float": 2, "int64": 3}
_KIND_OF_FIELD = {field: kind for kind, field in _FIELD_OF_KIND.items()}


def serialize(features: Mapping[str, Any]) -> bytes:
    """Returns the bytes of a `tf.train.Example`.

    Args:
      features: key of `FEATURES` -> value: one `bytes`, `str`, `int` or `float`, or a list of them for list features.

    Returns:
      What `tf.train.Example(...).SerializeToString(deterministic=True)` gives.

    Raises:
      ValueError: if a key is not in the table, or a value is not of its kind.
    """
    entries = []
    for key in sorted(features):
        if key not in FEATURES:
            raise ValueError(f"`features` must have keys of the schema. Received: key='{key}'.")
        kind, several = FEATURES[key]
        values = features[key] if several else [features[key]]
        feature = _block(_FIELD_OF_KIND[kind], _list(kind, key, values))
        entries.append(_block(1, _block(1, key.encode()) + _block(2, feature)))
    return _block(1, b"".join(entries))


def _list(kind: str, key: str, values: Sequence[Any]) -> bytes:
    try:
        if kind == "bytes":
            return b"".join(_block(1, v.encode() if isinstance(v, str) else bytes(memoryview(v))) for v in values)
        if len(values) == 0:
            return b""
        if kind == "float":
            return _block(1, np.asarray(values, "<f4").tobytes())
        return _block(1, b"".join(_varint(int(v) & 0xFFFFFFFFFFFFFFFF) for v in values))
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"`{key}` must hold {kind} values. Received: {str(values)[:80]} ({error}).") from None


def _block(field: int, body: bytes) -> bytes:
    """A length-delimited field."""
    return _SMALL[field << 3 | 2] + _varint(len(body)) + body


def _varint(value: int) -> bytes:
    if value < 0x80:
        return _SMALL[value]
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def parse(data: bytes) -> dict[str, list[Any]]:
    """Reads the bytes of a `tf.train.Example`; keys outside the schema are read as well.

    Args:
      data: a record's payload.

    Returns:
      Key -> list of `bytes`, `int` or `float`.

    Raises:
      ValueError: if the bytes are not an Example.
    """
    found: dict[str, list[Any]] = {}
    for _, features in _fields(data, only=1):
        for _, entry in _fields(features, only=1):
            key, feature = b"", b""
            for field, body in _fields(entry):
                key, feature = (body, feature) if field == 1 else (key, body)
            found[str(key, "utf-8")] = _values(feature)
    return found


def replace(data: bytes, changes: Mapping[str, bytes]) -> bytes:
    """Returns a `tf.train.Example` with other values for some features of one `bytes` each; all others stay.

    Args:
      data: a record's payload; keys outside the schema are kept.
      changes: key -> its new value.

    Raises:
      ValueError: if the bytes are not an Example.
    """
    entries = {}
    for _, features in _fields(data, only=1):
        for _, entry in _fields(features, only=1):
            key = next((str(body, "utf-8") for field, body in _fields(entry) if field == 1), "")
            entries[key] = bytes(entry)
    for key, value in changes.items():
        entries[key] = _block(1, key.encode()) + _block(2, _block(_FIELD_OF_KIND["bytes"], _block(1, value)))
    return _block(1, b"".join(_block(1, entries[key]) for key in sorted(entries)))


def _values(feature: Any) -> list[Any]:
    values: list[Any] = []
    for field, body in _fields(feature):
        kind = _KIND_OF_FIELD.get(field)
        for number, item in _fields(body, raw=kind):
            if number != 1:
                continue
            if kind == "bytes":
                values.append(bytes(item))
            elif kind == "float":
                if len(item) % 4:
                    raise ValueError(f"a float list of {len(item)} bytes found; expected a multiple of 4.")
                values += np.frombuffer(item, "<f4").tolist()
            elif kind == "int64":
                values += _signed(item)
    return values


def _signed(data: Any) -> list[int]:
    values, position = [], 0
    while position < len(data):
        value, position = _read_varint(data, position)
        values.append(value - (1 << 64) if value >> 63 else value)
    return values


def _fields(data: Any, *, only: int | None = None, raw: str | None = None) -> Iterator[tuple[int, Any]]:
    """Walks a message: (field number, body); unpacked numbers are handed out as their bytes."""
    view, position = memoryview(data), 0
    while position < len(view):
        tag, position = _read_varint(view, position)
        start, wire = position, tag & 7
        if wire == 2:
            length, start = _read_varint(view, position)
            position = start + length
        elif wire == 0:
            _, position = _read_varint(view, position)
        elif wire in (1, 5):
            position += 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire} found at byte {start}; expected a tf.train.Example.")
        if position > len(view):
            raise ValueError(f"a field of {position - start} bytes found at byte {start} of {len(view)}; it is cut.")
        if wire != 2 and raw is None:
            raise ValueError(f"wire type {wire} found at byte {start}; expected a tf.train.Example.")
        if only is None or tag >> 3 == only:
            yield tag >> 3, view[start:position]


def _read_varint(data: Any, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise ValueError(f"a number that does not end found at byte {position}; expected a tf.train.Example.")
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position


def name_of(data: bytes) -> str:
    """Returns the name of a record: its source id and file name; '' where the bytes cannot be read."""
    try:
        found = parse(data)
        parts = [found.get(key, [b""])[0] for key in (SOURCE_ID, FILENAME)]
        return " ".join(dict.fromkeys(str(part, "utf-8", "replace") for part in parts if part))
    except (ValueError, struct.error, IndexError, TypeError):
        return ""


def key_of(data: bytes) -> str:
    """Returns a record's key, its `image/source_id`; '' where the bytes cannot be read."""
    try:
        return str(parse(data).get(SOURCE_ID, [b""])[0], "utf-8", "replace")
    except (ValueError, IndexError, TypeError):
        return ""


def spec() -> dict[str, Any]:
    """Returns the feature specification for `tf.io.parse_example` (imports TensorFlow).

    Lists are `RaggedFeature`s; single features have an empty or zero default, so that any record of any source parses.
    """
    import tensorflow as tf

    types = {"bytes": (tf.string, ""), "float": (tf.float32, 0.0), "int64": (tf.int64, 0)}
    return {
        key: tf.io.RaggedFeature(types[kind][0]) if several else tf.io.FixedLenFeature((), *types[kind])
        for key, (kind, several) in FEATURES.items()
    }
