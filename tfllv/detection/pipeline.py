"""TFOD's pipeline.config and label map, read and changed without importing TensorFlow.

    config = pipeline.load("pipelines/mine.config", ["train_config.batch_size=8"])
    pipeline.model(config).num_classes                   # whichever of `ssd`, `faster_rcnn`, ... the model is
    pipeline.label_map("pipelines/exdark_label_map.pbtxt")    # {1: "Bicycle", ...}

An override names a field by dots, as the file nests it, and gives its value as the file would: a number, a word,
true or false, a list with commas between its items, or a whole message in braces. Of a field that holds several
messages one is chosen by its number, `eval_input_reader[1].shuffle=true`; without a number the only one is meant.
"""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from tfllv import contracts
from tfllv.detection import compat
from tfllv.records import label_map as label_maps

FILE_NAME = "pipeline.config"
_STEP = re.compile(r"(?P<name>\w+)(?:\[(?P<index>\d+)\])?\Z")
_TRUE, _FALSE = ("true", "t", "1"), ("false", "f", "0")


def load(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Any:
    """Reads a pipeline.config and applies overrides.

    Args:
      path: the file, in the text format that TFOD reads.
      overrides: `field.field=value`; later ones win.

    Returns:
      A `TrainEvalPipelineConfig` message.

    Raises:
      ValueError: naming file, line and the nearest known field where the text is not a configuration, or the override
        and what was expected of it.
      OSError: if the file cannot be read.
      ImportError: if the TF Object Detection API is not installed.
    """
    file = pathlib.Path(path)
    if not file.is_file():
        raise FileNotFoundError(
            f"{path}: --pipeline_config_path: no such file; give the path of a pipeline.config, as pipelines/*.config."
        )
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: byte {error.start}: not UTF-8 text; a pipeline.config is expected.") from None
    config = parse(text, source=str(path))
    for override in overrides:
        apply_override(config, override)
    return config


def parse(text: str, *, source: str = "text") -> Any:
    """Reads a configuration from its text; see `load`. `source` stands for the file's name in messages."""
    config = compat.protos("pipeline").TrainEvalPipelineConfig()
    _merge(text, config, source)
    return config


def to_text(config: Any) -> str:
    """Returns the text of a configuration; `parse` of it gives an equal one."""
    from google.protobuf import text_format

    return text_format.MessageToString(config)


def label_map(path: str | os.PathLike[str]) -> dict[int, str]:
    """Reads a label map: id -> name, in the file's order; an item's `display_name` is preferred, as TFOD does.

    Raises:
      ValueError: naming file and line, if the text is not a label map, or an id or name stands twice.
      OSError: if the file cannot be read.
    """
    return {number: name for name, number in label_maps.read(path).items()}


def model(config: Any) -> Any:
    """Returns the message of the configured architecture: `config.model.ssd`, `config.model.faster_rcnn`, ...

    Raises:
      ValueError: if the configuration names no model.
    """
    name = config.model.WhichOneof("model")
    if name is None:
        raise ValueError("`model` must hold an architecture, as `model { ssd { ... } }`. Received: none.")
    return getattr(config.model, name)


def apply_override(config: Any, override: str) -> None:
    """Sets one field of a configuration in place.

    Args:
      config: the message.
      override: `field.field=value`.

    Raises:
      ValueError: if there is no such field, naming the nearest, or the value is not of its type.
    """
    key, equals, text = override.partition("=")
    steps = [_STEP.match(part.strip()) for part in key.split(".")]
    if not equals or not all(steps):
        raise ValueError(f"--override needs field.field=value, as train_config.batch_size=8. Received: '{override}'.")
    message, place = config, ""
    for step in steps[:-1]:
        assert step is not None
        field = _field(message, step["name"], place)
        place = f"{place}{step['name']}."
        if field.message_type is None:
            raise ValueError(
                f"--override {key.strip()}: `{place[:-1]}` holds a value, not fields. Received: '{override}'."
            )
        message = _descend(message, field, step["index"], place[:-1])
    last = steps[-1]
    assert last is not None
    _assign(message, _field(message, last["name"], place), last["index"], text.strip(), key.strip())


def _field(message: Any, name: str, place: str) -> Any:
    field = message.DESCRIPTOR.fields_by_name.get(name)
    if field is None:
        hint = contracts.nearest_name(name, message.DESCRIPTOR.fields_by_name)
        raise ValueError(f"--override: unknown field `{place}{name}`; {hint}")
    return field


def _descend(message: Any, field: Any, index: str | None, place: str) -> Any:
    """Returns the message that a field holds, or the one of several that is meant."""
    held = getattr(message, field.name)
    if not field.is_repeated:
        if index is not None:
            raise ValueError(
                f"--override: `{place}` holds one message. Received: {place}[{index}]; leave the number out."
            )
        held.SetInParent()
        return held
    if index is None and len(held) > 1:
        raise ValueError(f"--override: `{place}` holds {len(held)} messages. Received: no number; say {place}[0].")
    number = int(index or 0)
    if number == len(held):
        return held.add()
    if number > len(held):
        raise ValueError(f"--override: `{place}` holds {len(held)} messages. Received: {place}[{number}].")
    return held[number]


def _assign(message: Any, field: Any, index: str | None, text: str, key: str) -> None:
    if field.message_type is not None:
        _assign_message(message, field, index, text, key)
    elif not field.is_repeated:
        if index is not None:
            raise ValueError(f"--override: `{key}`: the field holds one value; leave the number out.")
        setattr(message, field.name, _convert(field, text, key))
    else:
        items = [item.strip() for item in text.removeprefix("[").removesuffix("]").split(",")]
        values = [_convert(field, item, key) for item in items if item]
        if index is None:
            message.ClearField(field.name)
            getattr(message, field.name).extend(values)
            return
        held = getattr(message, field.name)
        if len(values) == 1 and int(index) < len(held):
            held[int(index)] = values[0]
        else:
            raise ValueError(f"--override: `{key}`: the field holds {len(held)} values. Received: '{text}'.")


def _assign_message(message: Any, field: Any, index: str | None, text: str, key: str) -> None:
    if not (text.startswith("{") and text.endswith("}")):
        known = ", ".join(field.message_type.fields_by_name)
        raise ValueError(
            f"--override: `{key}` holds fields, not a value. Received: '{text}'; name one of {known}, or give all in "
            "braces."
        )
    if index is None:
        message.ClearField(field.name)
    target = _descend(message, field, index, key)
    target.Clear()
    target.SetInParent()
    _merge(text[1:-1], target, f"--override {key}")


def _convert(field: Any, text: str, key: str) -> Any:
    """Converts a word by the type that the field declares."""
    kind = field.cpp_type
    try:
        if kind == field.CPPTYPE_BOOL:
            return {**dict.fromkeys(_TRUE, True), **dict.fromkeys(_FALSE, False)}[text.lower()]
        if kind == field.CPPTYPE_ENUM:
            return field.enum_type.values_by_name[text].number
        if kind in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
            return float(text)
        if kind == field.CPPTYPE_STRING:
            return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text
        return _whole(field, text)
    except (KeyError, ValueError, OverflowError):
        raise ValueError(f"--override: `{key}` must be {_describe(field)}. Received: '{text}'.") from None


def _whole(field: Any, text: str) -> int:
    number = int(text)
    bits = 64 if field.cpp_type in (field.CPPTYPE_INT64, field.CPPTYPE_UINT64) else 32
    unsigned = field.cpp_type in (field.CPPTYPE_UINT32, field.CPPTYPE_UINT64)
    low, high = (0, 1 << bits) if unsigned else (-1 << bits - 1, 1 << bits - 1)
    if not low <= number < high:
        raise OverflowError
    return number


def _describe(field: Any) -> str:
    if field.cpp_type == field.CPPTYPE_ENUM:
        return "one of " + ", ".join(field.enum_type.values_by_name)
    if field.cpp_type == field.CPPTYPE_BOOL:
        return "true or false"
    if field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return "a number"
    unsigned = field.cpp_type in (field.CPPTYPE_UINT32, field.CPPTYPE_UINT64)
    return "a whole number of 0 or more" if unsigned else "a whole number"


def _merge(text: str, message: Any, source: str) -> None:
    from google.protobuf import text_format

    try:
        text_format.Merge(text, message)
    except text_format.ParseError as error:
        line = error.GetLine()
        what = str(error).split(" : ", 1)[-1].strip().rstrip(".")
        place = f"{source}:{line}" if line and not source.startswith("--") else source
        raise ValueError(f"{place}: {what}.{_hint(what, message)}") from None


def _hint(what: str, message: Any) -> str:
    """The nearest field to an unknown one, where the parser's message names both it and the message it stands in."""
    found = re.search(r'Message type "([\w.]+)" has no field named "(\w+)"', what)
    if found is None:
        return ""
    try:
        descriptor = message.DESCRIPTOR.file.pool.FindMessageTypeByName(found[1])
    except KeyError:
        return ""
    return f" {contracts.nearest_name(found[2], descriptor.fields_by_name)}"
