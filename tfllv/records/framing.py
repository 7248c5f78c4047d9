"""The TFRecord container: records framed by their length and two checksums, and the way back into step after damage.

A record is: length (uint64), masked crc32c of those 8 bytes (uint32), payload, masked crc32c of the payload (uint32),
little-endian (https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details).
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator

import google_crc32c

HEADER = 12
OVERHEAD = 16  # header and the payload's checksum
_MASK_DELTA = 0xA282EAD8


def masked_crc(data: bytes) -> int:
    """Returns the masked crc32c of bytes, as TFRecord files store it."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def frame(payload: bytes) -> bytes:
    """Returns a payload as a record."""
    length = struct.pack("<Q", len(payload))
    return b"".join((length, struct.pack("<I", masked_crc(length)), payload, struct.pack("<I", masked_crc(payload))))


@dataclasses.dataclass(frozen=True)
class Found:
    """One stretch of a shard.

    Attributes:
      offset: where it begins, in bytes.
      payload: the record's bytes; of a damaged one what stands in its place, maybe nothing.
      damage: '' for a whole record whose payload is right, otherwise what is wrong.
      header_damaged: the length or its checksum was wrong; the payload was found all the same where `damage` is ''.
    """

    offset: int
    payload: bytes
    damage: str = ""
    header_damaged: bool = False


def scan(data: bytes) -> Iterator[Found]:
    """Walks a shard, over damage as well: a broken stretch is one `Found`, then the next whole record follows.

    After one flipped byte at most one record is damaged. A flip in a length or in its checksum loses nothing: the
    record then ends where the next valid header begins, and its own checksum tells whether that is right.

    Args:
      data: the file's content.

    Yields:
      The records and the damaged stretches, in order.
    """
    position, size = 0, len(data)
    while position < size:
        length = _length_at(data, position)
        if length is None:
            following = _next_header(data, position + 1)
            yield _without_header(data, position, following)
            position = following
            continue
        end = position + OVERHEAD + length
        if end > size:
            # The header is valid: 2 ** -32 says it is a real one, so the file was cut short behind it.
            yield Found(position, data[position + HEADER :], _cut(length, size - position))
            return
        payload = data[position + HEADER : end - 4]
        wrong = struct.unpack_from("<I", data, end - 4)[0] != masked_crc(payload)
        yield Found(position, payload, "the payload does not match its checksum" if wrong else "")
        position = end


def _cut(length: int, found: int) -> str:
    return f"the file ends inside a record of {length + OVERHEAD:,} bytes: {found:,} bytes found"


def _length_at(data: bytes, position: int) -> int | None:
    if position + HEADER > len(data):
        return None
    length, crc = struct.unpack_from("<QI", data, position)
    return length if masked_crc(data[position : position + 8]) == crc else None


def _next_header(data: bytes, position: int) -> int:
    """Returns where the next valid header stands whose record fits into the file, or the file's end."""
    size = len(data)
    # A length below 2 ** 40 has three zero bytes on top: this leaves almost nothing to compute checksums for.
    zeros = data.find(b"\0\0\0", position + 5)
    while 0 <= zeros <= size - OVERHEAD + 5:
        length = _length_at(data, zeros - 5)
        if length is not None and zeros - 5 + OVERHEAD + length <= size:
            return zeros - 5
        zeros = data.find(b"\0\0\0", zeros + 1)
    return size


def _without_header(data: bytes, position: int, following: int) -> Found:
    """The stretch between a broken header and the next whole one: a record of exactly this size, if its sum agrees."""
    if following - position >= OVERHEAD:
        payload = data[position + HEADER : following - 4]
        if struct.unpack_from("<I", data, following - 4)[0] == masked_crc(payload):
            return Found(position, payload, header_damaged=True)
    damage = f"{following - position:,} bytes without a valid header"
    return Found(position, data[position + HEADER : following], damage)
