"""Checking shards record by record, and taking whole records out of damaged ones."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

from tfllv.records import files, framing, schema, shards


@dataclasses.dataclass(frozen=True)
class Damage:
    """A stretch of a shard that is not a whole record.

    Attributes:
      shard: the file.
      record: its number in the shard, from 0.
      offset: where it begins, bytes.
      name: of the record: its key by the manifest, or what its own bytes still say; '' where neither is known. A
        stretch in whose place several records stood has all their keys.
      what: what is wrong.
      lost: whether the record is lost; a broken header alone loses nothing.
    """

    shard: str
    record: int
    offset: int
    name: str
    what: str
    lost: bool

    def __str__(self) -> str:
        name = f" ({self.name})" if self.name else ""
        state = "lost" if self.lost else "whole all the same"
        return f"{self.shard}: record {self.record}{name} at byte {self.offset:,}: {self.what}; {state}"


@dataclasses.dataclass
class Findings:
    """What `verify` or `salvage` found.

    Attributes:
      records: whole records.
      lines: problems of whole shards: missing, short, altered, of the wrong count.
      damages: damaged records.
      shards: how many shards were read.
      manifest: whether there was one to compare with.
    """

    records: int = 0
    lines: list[str] = dataclasses.field(default_factory=list)
    damages: list[Damage] = dataclasses.field(default_factory=list)
    shards: int = 0
    manifest: bool = False

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.lines and not self.damages


def read_records(
    data: bytes, shard: str, keys: list[str] | None = None
) -> Iterator[tuple[bytes | None, Damage | None]]:
    """Walks a shard's records over any damage.

    Args:
      data: the shard's content.
      shard: its name, for the findings.
      keys: the records' keys in order, where the manifest has them.

    Yields:
      (payload, None), (payload, damage) where only a header was broken, or (None, damage) of a lost record.
    """
    found = list(framing.scan(data))
    hurt = [index for index, stretch in enumerate(found) if stretch.damage or stretch.header_damaged]
    names = _names(found, keys or []) if hurt else {}
    for index, stretch in enumerate(found):
        if not stretch.damage and not stretch.header_damaged:
            yield stretch.payload, None
            continue
        what = stretch.damage or "its header is damaged"
        damage = Damage(shard, index, stretch.offset, names[index], what, bool(stretch.damage))
        yield (None if stretch.damage else stretch.payload), damage


def _names(found: list[framing.Found], keys: list[str]) -> dict[int, str]:
    """Names all stretches. Whole records stand where their keys are; what is lost is whatever keys lie between them."""
    names: dict[int, str] = {}
    position, waiting = 0, []
    for index, stretch in enumerate(found):
        if stretch.damage:
            waiting.append(index)
            continue
        names[index] = schema.key_of(stretch.payload)
        if names[index] in keys[position:]:
            following = keys.index(names[index], position)
            names |= _share(waiting, keys[position:following], found)
            position, waiting = following + 1, []
    return names | _share(waiting, keys[position:], found)


def _share(stretches: list[int], keys: list[str], found: list[framing.Found]) -> dict[int, str]:
    """Gives lost keys to the damaged stretches in whose place they stood."""
    if len(keys) == len(stretches):
        return dict(zip(stretches, keys, strict=True))
    if len(stretches) == 1 and keys:
        return {stretches[0]: ", ".join(keys)}
    return {index: schema.name_of(found[index].payload) for index in stretches}


def _targets(path: str) -> tuple[list[str], dict[str, list[str]], list[str]]:
    """Resolves what a user names: (paths of shards, shard name -> keys, problems of whole shards)."""
    local = pathlib.Path(path)
    if local.is_file() and not path.endswith(".manifest.json"):
        folder, name = shards.locate(path)
        known = _keys(folder, name)
        return [path], known, []
    folder, name = shards.locate(path)
    manifest = files.read_json(shards.manifest_path(folder, name))
    if manifest is None:
        found = [files.join(folder, shard) for shard in shards.shards_of(folder, name)]
        if not found:
            raise ValueError(f"`path` must name a shard, a set or its folder. Received: {path}, where nothing is.")
        return found, {}, []
    manifest = shards.read_manifest(folder, name)
    lines = shards.check(folder, manifest)
    present = [files.join(folder, shard["name"]) for shard in manifest["shards"]]
    return [shard for shard in present if files.exists(shard)], _keys(folder, name), lines


def _keys(folder: str, name: str) -> dict[str, list[str]]:
    manifest: Any = files.read_json(shards.manifest_path(folder, name))
    try:
        return {shard["name"]: list(shard["keys"]) for shard in manifest["shards"]}
    except (KeyError, TypeError):
        return {}


def verify(path: str) -> Findings:
    """Checks a set against its manifest, and every record against its checksums.

    Args:
      path: a manifest, a shard, `FOLDER/NAME`, or a folder that holds one set.

    Returns:
      What was found. Without a manifest a shard that ends early between two records cannot be told from a whole one.

    Raises:
      ValueError: if nothing is there.
      OSError: if a file cannot be read.
    """
    paths, keys, lines = _targets(str(path))
    findings = Findings(lines=lines, manifest=bool(keys))
    for shard in paths:
        _walk(shard, keys, findings)
    return findings


def _walk(shard: str, keys: dict[str, list[str]], findings: Findings) -> list[bytes]:
    name = pathlib.PurePath(shard).name
    whole: list[bytes] = []
    for payload, damage in read_records(files.read(shard), shard, keys.get(name)):
        if damage is not None:
            findings.damages.append(damage)
        if payload is not None:
            whole.append(payload)
    findings.shards += 1
    findings.records += len(whole)
    if name in keys:
        seen = {schema.key_of(payload) for payload in whole} if len(whole) < len(keys[name]) else set(keys[name])
        seen |= {key for damage in findings.damages for key in damage.name.split(", ") if damage.shard == shard}
        absent = [key for key in keys[name] if key not in seen]
        if absent:
            more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
            findings.lines.append(f"{shard}: {len(absent)} of {len(keys[name])} records are absent: {absent[0]}{more}")
    return whole


def salvage(path: str, output: str) -> Findings:
    """Writes the whole records of damaged shards to new ones of the same names, with a new manifest.

    Args:
      path: as `verify`.
      output: a folder; it must not hold shards of the set.

    Returns:
      What was found, lost records named.

    Raises:
      ValueError: if nothing is there, or `output` holds shards of the same name.
      OSError: if a file cannot be read or written.
    """
    paths, keys, lines = _targets(str(path))
    _, name = shards.locate(str(path))
    taken = [shard for shard in paths if files.exists(files.join(output, pathlib.PurePath(shard).name))]
    if taken:
        raise ValueError(f"`output` must be a folder without these shards. Received: {output}, which has {taken[0]}.")
    findings = Findings(lines=lines, manifest=bool(keys))
    states = []
    for shard in paths:
        whole = _walk(shard, keys, findings)
        states.append(_rewrite(output, name, pathlib.PurePath(shard).name, whole))
    about = {
        "source": {"kind": "salvage", "path": str(path)},
        "lost": [str(damage) for damage in findings.damages if damage.lost],
        "missing": findings.lines,
    }
    shards.publish(output, name, states, about)
    shards.clean_up(output, name)
    return findings


def _rewrite(output: str, name: str, shard: str, records: list[bytes]) -> dict[str, Any]:
    import hashlib

    data = b"".join(framing.frame(record) for record in records)
    folder = shards.partial_folder(output, name)
    files.write(files.join(folder, shard), [data])
    return {
        "name": shard,
        "count": len(records),
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "keys": [schema.key_of(record) for record in records],
    }
