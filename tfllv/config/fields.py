"""Fields of an experiment: declared with bounds, converted from text by their type, checked wherever they are set."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any, Literal, Self

import yaml

from tfllv import contracts

_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")


def setting(default: Any, *, low: float | None = None, above: float | None = None, high: float | None = None) -> Any:
    """A field with bounds: `low` and `high` are included, `above` is not."""
    return dataclasses.field(default=default, metadata={"low": low, "above": above, "high": high})


def field_types(cls: type) -> dict[str, Any]:
    """Returns the declared type of each field."""
    return typing.get_type_hints(cls)


@dataclasses.dataclass(frozen=True)
class Checked:
    """Checks every field's type, choice and bounds, wherever the object is made."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            check(field.name, getattr(self, field.name), field_types(type(self))[field.name], field.metadata)

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as plain values: dicts, lists, numbers, words."""
        return _plain(dataclasses.asdict(self))

    def to_yaml(self) -> str:
        """Returns the fields as YAML; `from_yaml` of it gives an equal object."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, width=120)

    def replace(self, **changes: Any) -> Self:
        """Returns a copy with some fields changed, checked again."""
        return dataclasses.replace(self, **changes)


def convert(name: str, node: yaml.Node, kind: Any, where: str) -> Any:
    """Converts the text of a node by the declared type."""
    if typing.get_origin(kind) is tuple:
        if isinstance(node, yaml.SequenceNode):
            return tuple(convert(name, item, str, where) for item in node.value)
        if isinstance(node, yaml.ScalarNode):
            return tuple(part.strip() for part in node.value.split(",") if part.strip())
    if not isinstance(node, yaml.ScalarNode):
        raise ValueError(f"{place_of(node, where)}: `{name}` must be {_describe(kind)}. Received: a list or mapping.")
    text = node.value.strip()
    if kind is str or typing.get_origin(kind) is Literal:
        return text
    try:
        if kind is bool:
            return {**dict.fromkeys(_TRUE, True), **dict.fromkeys(_FALSE, False)}[text.lower()]
        if kind is int:
            number = float(text) if not text.lstrip("+-").isdigit() else int(text)
            if number != int(number):
                raise ValueError
            return int(number)
        return float(text)
    except (KeyError, ValueError, OverflowError):
        raise ValueError(
            f"{place_of(node, where)}: `{name}` must be {_describe(kind)}. Received: '{node.value}'."
        ) from None


def _describe(kind: Any) -> str:
    if typing.get_origin(kind) is Literal:
        return "one of " + ", ".join(typing.get_args(kind))
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
    return names.get(kind, "a list of words")


def check(name: str, value: Any, kind: Any, bounds: types.MappingProxyType | dict) -> None:
    """Raises ValueError unless `value` has the declared type and lies within the bounds."""
    origin = typing.get_origin(kind)
    if origin is Literal:
        right = value in typing.get_args(kind)
    elif origin is tuple:
        right = isinstance(value, tuple) and all(isinstance(item, str) for item in value)
    elif kind is float:
        right = isinstance(value, int | float) and not isinstance(value, bool) and value == value
    else:
        right = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if not right:
        hint = f" {contracts.nearest_name(str(value), typing.get_args(kind))}" if origin is Literal else ""
        raise ValueError(f"`{name}` must be {_describe(kind)}. Received: {name}={value!r}.{hint}")
    for bound, words, wrong in (
        ("low", "at least", lambda limit: value < limit),
        ("above", "more than", lambda limit: value <= limit),
        ("high", "at most", lambda limit: value > limit),
    ):
        limit = bounds.get(bound)
        if limit is not None and wrong(limit):
            raise ValueError(f"`{name}` must be {words} {limit}. Received: {name}={value!r}.")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


def place_of(node: yaml.Node, where: str) -> str:
    """Returns file and line of a node, for messages."""
    return f"{where}:{node.start_mark.line + 1}" if node.start_mark is not None and where != "--set" else where
