"""JSON whose entries know their line: errors read `file:line: field`, and `json` forgets where things were."""

from __future__ import annotations

import bisect
import hashlib
import json
import re
from typing import Any

from tfllv.records import files
from tfllv.records.problems import Where, show_value

_SPACE = re.compile(r"[ \t\n\r]*")


class Document:
    """A JSON object whose lists of entries can say in which line each entry begins.

    Attributes:
      path: the file.
      values: top-level key -> value.
      digest: of the text.
    """

    def __init__(self, path: str) -> None:
        """Reads a file.

        Raises:
          ValueError: naming file and line, if it is not a JSON object.
          OSError: if it cannot be read.
        """
        self.path = path
        self.values: dict[str, Any] = {}
        self._offsets: dict[str, list[int]] = {}
        self._text = files.read_text(path)
        self.digest = hashlib.sha256(self._text.encode()).hexdigest()
        self._newlines: list[int] | None = None
        try:
            self._read_object()
        except RecursionError:
            raise ValueError(f"{path}:1: json: nested too deeply.") from None
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}:{error.lineno}: json: {error.msg}.") from None
        except ValueError as error:  # a number of more digits than Python converts
            raise ValueError(f"{path}:1: json: {error}.") from None

    def where(self, key: str, index: int | None = None) -> Where:
        """Returns the place of a top-level list, or of one entry of it."""
        offsets = self._offsets.get(key, [])
        offset = offsets[0 if index is None else index] if offsets else 0
        if self._newlines is None:
            self._newlines = [match.start() for match in re.finditer("\n", self._text)]
        return Where(self.path, bisect.bisect_left(self._newlines, offset) + 1)

    def entries(self, key: str) -> list[Any]:
        """Returns a top-level list.

        Raises:
          ValueError: naming file and line, if it is absent or not a list.
        """
        found = self.values.get(key)
        if not isinstance(found, list):
            raise ValueError(f"{self.path}:1: {key}: expected a list, found {show_value(found)}.")
        return found

    def _read_object(self) -> None:
        decoder, text = json.JSONDecoder(), self._text
        position = self._expect("{", 0)
        if text[position : position + 1] == "}":
            return
        while True:
            key, position = decoder.raw_decode(text, position)
            if not isinstance(key, str):
                raise json.JSONDecodeError("Expecting property name enclosed in double quotes", text, position)
            position = self._expect(":", self._skip(position))
            if text[position : position + 1] == "[":
                self.values[key], position = self._read_list(decoder, key, position)
            else:
                self.values[key], position = decoder.raw_decode(text, position)
            position = self._skip(position)
            if text[position : position + 1] == "}":
                return
            position = self._expect(",", position)

    def _read_list(self, decoder: json.JSONDecoder, key: str, position: int) -> tuple[list[Any], int]:
        found: list[Any] = []
        offsets = self._offsets[key] = []
        position = self._expect("[", position)
        while self._text[position : position + 1] != "]":
            if found:
                position = self._expect(",", position)
            offsets.append(position)
            value, position = decoder.raw_decode(self._text, position)
            found.append(value)
            position = self._skip(position)
        return found, position + 1

    def _expect(self, mark: str, position: int) -> int:
        position = self._skip(position)
        if self._text[position : position + 1] != mark:
            raise json.JSONDecodeError(f"Expecting '{mark}'", self._text, position)
        return self._skip(position + 1)

    def _skip(self, position: int) -> int:
        match = _SPACE.match(self._text, position)
        return match.end() if match else position
