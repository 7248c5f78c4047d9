"""Sharded TFRecord files and their manifest: names, writing, resuming, checking.

A set `NAME` is the files `NAME-00000-of-00010` ... and `NAME.manifest.json`. While it is made, everything lies in the
hidden folder `.NAME.partial`; shards take their names when all of them are whole, the manifest comes last. A set
without its manifest is not finished.
"""

from __future__ import annotations

import dataclasses
import hashlib
import platform
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from typing import Any

import tfllv
from tfllv.records import files, framing
from tfllv.records.problems import Problem, Where

VERSION = 1  # of the manifest


@dataclasses.dataclass(frozen=True)
class Built:
    """What one item became.

    Attributes:
      record: the serialised example, or None where the item had to be skipped.
      problems: what was wrong with it.
      rows: lines of a table that the source collects (a csv of boxes), as JSON values.
    """

    record: bytes | None
    problems: tuple[Problem, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = ()


@dataclasses.dataclass(frozen=True)
class ShardTask:
    """All that a worker needs to write one shard, on any machine.

    Attributes:
      folder: where the unfinished shard lies.
      name: the shard's name.
      items: its items, in order; each has a `key`. Iterated once, maybe lazily.
      build: the pure function from an item to `Built`.
      fingerprint: of items and options; a shard with the same one needs not be written again.
    """

    folder: str
    name: str
    items: Iterable[Any]
    build: Callable[[Any], Built]
    fingerprint: str


def shard_name(name: str, index: int, count: int) -> str:
    """Returns `NAME-00003-of-00010`."""
    return f"{name}-{index:05d}-of-{count:05d}"


def manifest_path(folder: str, name: str) -> str:
    """Returns where the manifest of the set `name` lies."""
    return files.join(folder, f"{name}.manifest.json")


def partial_folder(folder: str, name: str) -> str:
    """Returns the folder of the unfinished set."""
    return files.join(folder, f".{name}.partial")


def write_shard(task: ShardTask) -> str:
    """Writes one shard and, after it, its state file; does nothing where both are there and right.

    Returns:
      "written", or "kept" where an earlier run had finished this shard.
    """
    path = files.join(task.folder, task.name)
    if kept_state(task.folder, task.name, task.fingerprint) is not None:
        return "kept"
    files.remove(_state_path(task.folder, task.name))
    state: dict[str, Any] = {"name": task.name, "fingerprint": task.fingerprint, "bytes": 0, "keys": []}
    digest = hashlib.sha256()
    problems: list[Problem] = []
    rows: list[tuple[Any, ...]] = []

    def chunks() -> Iterator[bytes]:
        for item in task.items:
            built = task.build(item)
            problems.extend(built.problems)
            rows.extend(built.rows)
            if built.record is None:
                continue
            chunk = framing.frame(built.record)
            digest.update(chunk)
            state["bytes"] += len(chunk)
            state["keys"].append(item.key)
            yield chunk

    files.write(path, chunks())
    state |= {"sha256": digest.hexdigest(), "count": len(state["keys"]), "rows": rows}
    state["problems"] = [dataclasses.astuple(problem) for problem in problems]
    # Not flushed to disk: what it says of the shard is checked before the shard is kept.
    files.write_json(_state_path(task.folder, task.name), state, durable=False)
    return "written"


def _state_path(folder: str, name: str) -> str:
    return files.join(folder, f"{name}.state.json")


def kept_state(folder: str, name: str, fingerprint: str, *, content: bool = True) -> dict[str, Any] | None:
    """Returns the state of a finished shard of the unfinished set, or None where it must be written (again).

    Args:
      folder: of the unfinished set.
      name: of the shard.
      fingerprint: of its task.
      content: whether to compare the shard's content with its state; False: it was written a moment ago.
    """
    state = files.read_json(_state_path(folder, name))
    if not isinstance(state, dict) or state.get("fingerprint") != fingerprint:
        return None
    # A run that was stopped while it published has moved some shards already.
    for path in (files.join(folder, name), files.join(files.parent(folder), name)):
        if files.exists(path) and (not content or _measure(path, True) == (state.get("bytes"), state.get("sha256"))):
            return state
    return None


def problems_of(state: dict[str, Any]) -> list[Problem]:
    """Returns the problems that a shard's state holds."""
    return [Problem(Where(*where), *rest) for where, *rest in state["problems"]]


def publish(folder: str, name: str, states: list[dict[str, Any]], about: dict[str, Any]) -> dict[str, Any]:
    """Gives the finished shards their names and writes the manifest, last.

    Args:
      folder: the set's folder.
      name: the set's name.
      states: of all shards, in order.
      about: more entries of the manifest: source, options, fingerprint.

    Returns:
      The manifest.
    """
    files.remove(manifest_path(folder, name))
    names = [state["name"] for state in states]
    for stray in shards_of(folder, name):
        if stray not in names:
            files.remove(files.join(folder, stray))
    for shard in names:
        if files.exists(files.join(partial_folder(folder, name), shard)):
            files.move(files.join(partial_folder(folder, name), shard), files.join(folder, shard))
    kept = ("name", "count", "bytes", "sha256", "keys")
    manifest = {
        "manifest_version": VERSION,
        "name": name,
        "count": sum(state["count"] for state in states),
        "bytes": sum(state["bytes"] for state in states),
        "shards": [{key: state[key] for key in kept} for state in states],
        "versions": versions(),
        **about,
    }
    files.write_json(manifest_path(folder, name), manifest)
    return manifest


def clean_up(folder: str, name: str) -> None:
    """Removes what is left of the making of a set, after it was published."""
    files.remove_folder(partial_folder(folder, name))


def shards_of(folder: str, name: str) -> list[str]:
    """Returns the names of the shards of a set that lie in a folder, of any number of shards."""
    pattern = re.compile(re.escape(name) + r"-\d{5}-of-\d{5}")
    return [found for found in files.listing(folder) if pattern.fullmatch(found)]


def versions() -> dict[str, str]:
    """Returns the versions of what shapes the bytes of a record."""
    import importlib.metadata

    found = {"tfllv": tfllv.__version__, "python": platform.python_version()}
    for package in ("numpy", "opencv-python-headless", "pillow", "pycocotools"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def read_manifest(folder: str, name: str) -> dict[str, Any]:
    """Reads a set's manifest.

    Raises:
      ValueError: if it is absent (the set is not finished) or not a manifest.
    """
    path = manifest_path(folder, name)
    if not files.exists(path):
        raise ValueError(f"{path} is missing: the set '{name}' is not finished or was not written by tfllv.")
    manifest = files.read_json(path)
    try:
        shards = manifest["shards"]
        whole = all({"name", "count", "bytes", "sha256", "keys"} <= set(shard) for shard in shards)
        if not whole or manifest["manifest_version"] != VERSION:
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{path} is not a manifest of version {VERSION}; write the set again.") from None
    return manifest


def check(folder: str, manifest: dict[str, Any], *, content: bool = True) -> list[str]:
    """Compares the shards with their manifest.

    Args:
      folder: the set's folder.
      manifest: as `read_manifest` gives it.
      content: whether to compare the content (sha256) as well, not only presence and size.

    Returns:
      One line a shard that is missing, short, long or altered.
    """

    def check_one(shard: dict[str, Any]) -> str:
        path = files.join(folder, shard["name"])
        if not files.exists(path):
            return f"{path} is missing: {shard['count']} records"
        size, digest = _measure(path, content)
        if size != shard["bytes"]:
            return f"{path} is {'short' if size < shard['bytes'] else 'long'}: {size:,} of {shard['bytes']:,} bytes"
        if content and digest != shard["sha256"]:
            return f"{path} is altered: its sha256 is not that of the manifest"
        return ""

    with futures.ThreadPoolExecutor() as pool:  # hashing lets other threads run
        return [line for line in pool.map(check_one, manifest["shards"]) if line]


def _measure(path: str, content: bool) -> tuple[int, str]:
    if files.is_remote(path):
        data = files.read(path)
        return len(data), hashlib.sha256(data).hexdigest()
    with open(path, "rb") as stream:
        if not content:
            return stream.seek(0, 2), ""
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return stream.tell(), digest


def locate(path: str) -> tuple[str, str]:
    """Splits what a user names (a manifest, a shard, a pattern, `FOLDER/NAME`) into folder and set name.

    Raises:
      ValueError: if a folder is named that holds no set, or several.
    """
    local = not files.is_remote(path)
    names = [found.removesuffix(".manifest.json") for found in files.listing(path)] if local else []
    if names:
        sets = [name for name, found in zip(names, files.listing(path), strict=True) if found != name]
        if len(sets) == 1:
            return path, sets[0]
        raise ValueError(f"{path} holds {len(sets)} sets; name one: {', '.join(sets) or 'a shard or pattern'}.")
    folder, _, name = path.rpartition("/")
    name = re.sub(r"(\.manifest\.json|-[\d?*]+-of-[\d?*]+|-?\*)$", "", name)
    return folder or ("/" if path.startswith("/") else "."), name
