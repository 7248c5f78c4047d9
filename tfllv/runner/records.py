"""Enhances the pictures of a set of TFRecords; boxes, masks, classes and everything else stay as they are.

A set is written as every set is (`tfllv.records.convert`): shard by shard under temporary names, with a manifest, and
a run that was stopped goes on where it was.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tfllv import contracts
from tfllv.records import convert, files, framing, images, schema, shards
from tfllv.records.problems import Problem, Report, Where

FORMATS = ("jpeg", "png")


def is_set(path: str | os.PathLike[str]) -> bool:
    """Whether a path means TFRecords: a manifest, a shard, or `FOLDER/NAME` of a set that is there."""
    text = os.fspath(path)
    if text.endswith(".manifest.json") or ".record" in os.path.basename(text) or text.endswith(".tfrecord"):
        return True
    return os.path.isfile(f"{text}.manifest.json")


@dataclasses.dataclass(frozen=True)
class _Record:
    """One record of a shard, with the shard's size and time: a set is written anew when its input has changed."""

    key: str
    shard: str
    offset: int
    size: int

    def files(self) -> Sequence[str]:
        return [self.shard]

    def payload(self) -> bytes:
        with open(self.shard, "rb") as stream:
            stream.seek(self.offset + framing.HEADER)
            return stream.read(self.size)


@dataclasses.dataclass(frozen=True)
class EnhancedBuilder:
    """The function from a record to the same one with an enhanced picture.

    Attributes:
      method: name of the enhancer.
      settings: what else shapes its result, as text: options, and a digest of its weights.
      image_format: of the new pictures, `jpeg` (quality 95) or `png`.
    """

    method: str
    settings: str
    image_format: str
    enhance: dataclasses.InitVar[Callable[[np.ndarray], np.ndarray]]

    def __post_init__(self, enhance: Callable[[np.ndarray], np.ndarray]) -> None:
        """Keeps the function out of the fields, which stand in the manifest."""
        if self.image_format not in FORMATS:
            raise ValueError(
                f"`image_format` must be one of {', '.join(FORMATS)}. Received: image_format='{self.image_format}'."
            )
        object.__setattr__(self, "_enhance", enhance)

    def __call__(self, record: _Record) -> shards.Built:
        """Builds the record; one whose picture cannot be read is left out and reported."""
        payload = record.payload()
        try:
            picture = images.decode(schema.parse(payload).get(schema.ENCODED, [b""])[0])
            result = contracts.to_uint8(np.asarray(self._enhance(picture)))  # type: ignore[attr-defined]
            encoded = images.encode(result, self.image_format)
        except (ValueError, IndexError) as error:
            where = Where(f"{record.shard}: record '{record.key}'")
            return shards.Built(None, (Problem(where, "image/encoded", "not a picture", f"{error}; left out"),))
        changes = {
            schema.ENCODED: encoded.data,
            schema.FORMAT: encoded.kind.encode(),
            schema.SHA256: hashlib.sha256(encoded.data).hexdigest().encode(),
        }
        return shards.Built(schema.replace(payload, changes))


def enhance_set(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    builder: EnhancedBuilder,
    *,
    overwrite: bool = False,
    say: Callable[[str], None] = print,
) -> tuple[int, Report]:
    """Writes a set of the same name, shards and records into another folder.

    Args:
      path: a manifest, a shard, `FOLDER/NAME`, or a folder that holds one set.
      output: the folder.
      builder: what makes the new records.
      overwrite: replace a set that was made from other input or options.
      say: called with lines of progress.

    Returns:
      The number of records written, and what was wrong with those left out.

    Raises:
      ValueError: if the set is damaged or missing, or `output` is its own folder.
      OSError: if a file cannot be read or written.
    """
    folder, name = shards.locate(os.fspath(path))
    if os.path.realpath(folder) == os.path.realpath(output):
        raise ValueError(f"`--output` must be another folder than the records'. Received: '{output}'.")
    found = shards.shards_of(folder, name) or ([name] if os.path.isfile(files.join(folder, name)) else [])
    if not found:
        raise ValueError(f"`PATH` must name TFRecords. Received: '{path}', where none are.")
    parts = [tuple(_records(files.join(folder, shard))) for shard in found]
    report = Report()
    outcome = convert.convert(
        [convert.SetPlan(name, parts=parts)],
        output,
        builder,
        source={"kind": "enhanced records", "set": name},
        report=report,
        options=convert.RunOptions(workers=1, overwrite=overwrite),  # a network spreads over all cores by itself
        say=say,
    )
    return sum(manifest["count"] for manifest in outcome.manifests.values()), outcome.report


def _records(shard: str) -> Iterator[_Record]:
    for index, found in enumerate(framing.scan(files.read(shard))):
        if found.damage:
            raise ValueError(
                f"{shard}: record at byte {found.offset:,}: {found.damage}; take the whole records with "
                "`tfllv records salvage`."
            )
        key = schema.key_of(found.payload) or f"{os.path.basename(shard)}:{index}"
        yield _Record(key, shard, found.offset, len(found.payload))
