"""Files on this machine or, where Apache Beam is installed, on any store that it reaches (`gs://`, `s3://`, ...)."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import secrets
from collections.abc import Iterable
from typing import Any

from tfllv import contracts

_REMOTE = re.compile(r"[a-z][a-z0-9+.-]+://")


def is_remote(path: str) -> bool:
    """Whether a path is a URL of a store and not a file of this machine."""
    return bool(_REMOTE.match(path))


def join(folder: str, name: str) -> str:
    """Returns the path of `name` in `folder`."""
    return f"{folder.rstrip('/')}/{name}" if is_remote(folder) else str(pathlib.Path(folder) / name)


def read(path: str) -> bytes:
    """Returns a file's content.

    Raises:
      OSError: if it cannot be read.
    """
    if not is_remote(path):
        return pathlib.Path(path).read_bytes()
    with _beam().open(path, compression_type="uncompressed") as stream:
        return bytes(stream.read())


def write(path: str, chunks: Iterable[bytes], *, durable: bool = True) -> None:
    """Writes a file: whole or not at all.

    The bytes go to a temporary name in the same folder, are flushed to disk, and take their name in one step; then
    the folder is flushed. On a remote store, an object appears when it is closed.

    Args:
      path: the file; its folder is made where absent.
      chunks: the content.
      durable: whether to wait for the disk; without, a power cut may take the file or its content.

    Raises:
      OSError: if it cannot be written; nothing is left then.
    """
    if is_remote(path):
        with _beam().create(path, compression_type="uncompressed") as stream:
            for chunk in chunks:
                stream.write(chunk)
        return
    target = pathlib.Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "wb") as stream:
            for chunk in chunks:
                stream.write(chunk)
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if durable:
        contracts.fsync_folder(target.parent)


def write_json(path: str, value: Any, *, durable: bool = True) -> None:
    """Writes a value as JSON with sorted keys, so that equal values give equal bytes; `durable` as for `write`."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
    write(path, [text.encode("utf-8", "surrogatepass"), b"\n"], durable=durable)


def read_json(path: str) -> Any:
    """Returns a JSON file's value, or None where the file is absent or broken."""
    try:
        return json.loads(read(path))
    except (OSError, ValueError):
        return None


def exists(path: str) -> bool:
    """Whether a file is there."""
    return _beam().exists(path) if is_remote(path) else os.path.exists(path)


def listing(folder: str) -> list[str]:
    """Returns the names of the files in a folder, sorted; none where it is absent."""
    if is_remote(folder):
        found = _beam().match([folder.rstrip("/") + "/*"])[0].metadata_list
        return sorted(item.path.rpartition("/")[2] for item in found)
    return sorted(item.name for item in pathlib.Path(folder).iterdir()) if os.path.isdir(folder) else []


def move(source: str, target: str) -> None:
    """Renames a file within a store, over one that exists; flush the folder afterwards, once for all."""
    if is_remote(target):
        if exists(target):
            _beam().delete([target])
        _beam().rename([source], [target])
        return
    os.replace(source, target)


def parent(path: str) -> str:
    """Returns the folder that a file or folder lies in."""
    return path.rstrip("/").rpartition("/")[0] if is_remote(path) else str(pathlib.Path(path).parent)


def remove(path: str) -> None:
    """Removes a file; does nothing where it is absent."""
    if not is_remote(path):
        pathlib.Path(path).unlink(missing_ok=True)
    elif exists(path):
        _beam().delete([path])


def remove_folder(folder: str) -> None:
    """Removes a folder of files; does nothing where it is absent."""
    for name in listing(folder):
        remove(join(folder, name))
    if not is_remote(folder) and os.path.isdir(folder):
        os.rmdir(folder)


def _beam() -> Any:
    try:
        from apache_beam.io.filesystems import FileSystems
    except ImportError:
        raise ValueError("a path with :// needs Apache Beam: pip install 'tfllv[beam]'.") from None
    return FileSystems


def read_text(path: str) -> str:
    """Returns a text file's content, without a byte order mark.

    Raises:
      ValueError: naming file and line, if it is not UTF-8.
      OSError: if it cannot be read.
    """
    data = read(path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}:{line}: encoding: byte {data[error.start]:#04x} found; expected UTF-8.") from None
