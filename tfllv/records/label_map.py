"""TFOD's label maps (`*.pbtxt`) without protocol buffers."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from tfllv.records import files

_TOKEN = re.compile(
    r"""\s+|\#[^\n]*|(?P<word>[A-Za-z_]\w*)|(?P<number>-?\d+)"""
    r"""|(?P<text>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|(?P<mark>[{}:;,])"""
)


def read(path: str | os.PathLike[str]) -> dict[str, int]:
    """Reads a label map.

    `display_name`, where an item has one, is a second name of the same id (TFOD's COCO map has codes as names).

    Args:
      path: the file, in the text format of `StringIntLabelMap`.

    Returns:
      Class name -> id, in the file's order.

    Raises:
      ValueError: naming file and line, if the text is not a label map, an id is below 1, or a name or id is doubled.
      OSError: if the file cannot be read.
    """
    text = files.read_text(str(path))
    names: dict[str, int] = {}
    ids: set[int] = set()
    item: dict[str, str] = {}
    depth, key = 0, ""
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        line = text.count("\n", 0, position) + 1
        if match is None:
            raise ValueError(f"{path}:{line}: item: expected a label map, found {text[position : position + 20]!r}.")
        position = match.end()
        kind, token = match.lastgroup, match.group()
        if token == "{":
            depth, key = depth + 1, ""
            item = {} if depth == 1 else item
        elif token == "}":
            depth -= 1
            if depth < 0:
                raise ValueError(f"{path}:{line}: item: a }} without its {{ found.")
            if depth == 0:
                _add(item, names, ids, f"{path}:{line}")
        elif kind == "word" and not key:
            key = token
        elif kind in ("number", "text", "word"):
            if depth == 1:
                item[key] = token if kind != "text" else _unquote(token)
            key = ""
    if depth:
        raise ValueError(f"{path}:{text.count(chr(10)) + 1}: item: the file ends inside an item.")
    if not names:
        raise ValueError(f"{path}:1: item: no item found; expected item {{ id: 1 name: 'Bicycle' }}.")
    return names


def _unquote(token: str) -> str:
    return re.sub(r"\\(.)", r"\1", token[1:-1])


def _add(item: Mapping[str, str], names: dict[str, int], ids: set[int], place: str) -> None:
    number, found = item.get("id", ""), [item[key] for key in ("name", "display_name") if item.get(key)]
    if not re.fullmatch(r"\d{1,9}", number) or int(number) < 1:
        raise ValueError(f"{place}: id: expected a number of 1 or more, found '{number}'.")
    if not found:
        raise ValueError(f"{place}: name: the item of id {number} has no name.")
    if int(number) in ids or any(name in names for name in found):
        raise ValueError(f"{place}: item: id {number} or name '{found[0]}' stands twice.")
    ids.add(int(number))
    names.update(dict.fromkeys(found, int(number)))


def write(names: Mapping[str, int]) -> str:
    """Returns a label map's text: one item an id, in the order of ids."""
    return "".join(
        f'item {{\n  id: {number}\n  name: "{_quote(name)}"\n}}\n'
        for name, number in sorted(names.items(), key=lambda pair: pair[1])
    )


def _quote(name: str) -> str:
    return name.replace("\\", "\\\\").replace('"', '\\"')
