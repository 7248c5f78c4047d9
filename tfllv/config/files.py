"""Experiment files: YAML with line numbers, and dotted overrides."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import yaml

from tfllv import contracts
from tfllv.config.experiments import ALIASES, EXPERIMENTS, TrainConfig
from tfllv.config.fields import check, convert, field_types, place_of


def load(path: str | pathlib.Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Reads an experiment file and applies overrides.

    Args:
      path: a YAML file with a mapping; its `experiment` key says which class of `EXPERIMENTS` it is.
      overrides: `key=value` or `group.key=value`, the value as YAML would have it; later ones win.

    Returns:
      The configuration, checked.

    Raises:
      ValueError: naming file, line and the nearest known key for an unknown key, or what was expected for a value.
      OSError: if the file cannot be read.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"`config` must be a YAML file. Received: '{path}', which is not a file.")
    return from_yaml(path.read_text(encoding="utf-8"), overrides=overrides, source=str(path))


def from_yaml(text: str, *, overrides: Sequence[str] = (), source: str = "text") -> TrainConfig:
    """Reads an experiment from YAML text; see `load`. `source` stands for the file's name in messages."""
    root = _compose(text, source)
    nodes = [(source, root)] if root is not None else []
    nodes += [("--set", _override_node(word)) for word in overrides]
    name = TrainConfig.experiment
    for where, node in nodes:
        for key, value in _pairs(node, where):
            if key.value == "experiment":
                name = convert("experiment", value, str, where)
    if name not in EXPERIMENTS:
        raise ValueError(
            f"`experiment` must be a known experiment. Received: '{name}'; {contracts.nearest_name(name, EXPERIMENTS)}"
        )
    config: Any = EXPERIMENTS[name]()
    for where, node in nodes:
        config = _apply(config, node, where, "")
    return config


def _compose(text: str, source: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise ValueError(f"{source}:{line}: not YAML: {error.problem}.") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{source}: not YAML: {error}.") from None


def _override_node(word: str) -> yaml.Node:
    """Turns `a.b=c` into the mapping node {a: {b: c}}."""
    key, equals, text = word.partition("=")
    if not equals or not key.strip():
        raise ValueError(f"--set needs `key=value`. Received: '{word}'.")
    node = _compose(text, f"--set {key}") or yaml.ScalarNode("tag:yaml.org,2002:str", "")
    for part in reversed(key.strip().split(".")):
        node = yaml.MappingNode("tag:yaml.org,2002:map", [(yaml.ScalarNode("tag:yaml.org,2002:str", part), node)])
    return node


def _pairs(node: yaml.Node, where: str) -> list[tuple[Any, Any]]:
    if not isinstance(node, yaml.MappingNode):
        raise ValueError(
            f"{place_of(node, where)}: `key: value` lines are expected. Received: "
            + (f"'{node.value}'." if isinstance(node, yaml.ScalarNode) else "a list.")
        )
    return node.value


def _apply(config: Any, node: yaml.Node, where: str, prefix: str) -> Any:
    """Returns `config` with the values of a mapping node put in."""
    hints = field_types(type(config))
    metadata = {field.name: field.metadata for field in dataclasses.fields(config)}
    changes: dict[str, Any] = {}
    aliases = ALIASES.get(type(config), {})
    seen: set[str] = set()
    for key, value in _pairs(node, where):
        given, place = str(key.value), place_of(key, where)
        name = aliases.get(given, given)
        if name not in hints:
            raise ValueError(
                f"{place}: unknown key `{prefix}{name}`; {contracts.nearest_name(name, [*hints, *aliases])}"
            )
        if name in seen:
            also = f", which is `{prefix}{name}`," if given != name else ""
            raise ValueError(f"{place}: the key `{prefix}{given}`{also} stands here a second time; remove one.")
        seen.add(name)
        if dataclasses.is_dataclass(hints[name]):
            changes[name] = _apply(getattr(config, name), value, where, f"{prefix}{name}.")
            continue
        changes[name] = convert(prefix + name, value, hints[name], where)
        try:
            check(prefix + name, changes[name], hints[name], metadata[name])
        except ValueError as error:
            raise ValueError(f"{place_of(value, where)}: {error}") from None
    return dataclasses.replace(config, **changes)
