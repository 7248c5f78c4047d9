"""The header of an encoded picture, read inside a TensorFlow graph, so that a bomb is refused before it is decoded.

`inputs.image_header` does this for files in Python; a signature that takes encoded pictures needs it as part of the
SavedModel, because TensorFlow's own decoders allocate whatever a header claims. JPEG (ITU-T T.81) and PNG (W3C, third
edition) are known; everything else is refused, since `tf.io.decode_png` would otherwise decode any type it can tell.
Bytes are taken out with `tf.strings.substr`, so that no copy of the file is made.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

MAX_SIDE = 65_535
_WINDOW = 4096  # bytes looked at in one step of the walk over JPEG segments
_MAX_STEPS = 512  # of that walk; a colour profile has 255 segments at most, and the rest are some dozens
_DEFLATE_RATIO = 1032  # the most bytes that one byte of deflate can stand for
_PNG_SAMPLES = (1, 0, 3, 1, 2, 0, 4)  # by colour type; 0: no such type
_FRAME = 19  # bytes kept of a frame header: its marker, and what stands behind its length up to four components
_MAX_TAGS = 256  # entries of an Exif directory looked at; cameras write some dozens


class GraphHeader(NamedTuple):
    """Facts of one encoded picture, all scalar tensors.

    Attributes:
      jpeg: bool, JPEG or PNG.
      height: int32, rows as stored.
      width: int32, columns as stored.
      deep: bool, 16 bits a sample.
      alpha: bool, whether the file carries transparency.
      orientation: int32, Exif orientation, 1 to 8.
    """

    jpeg: tf.Tensor
    height: tf.Tensor
    width: tf.Tensor
    deep: tf.Tensor
    alpha: tf.Tensor
    orientation: tf.Tensor


def read_header(data: tf.Tensor, max_pixels: int) -> tuple[tf.Tensor, GraphHeader]:
    """Checks one encoded picture by its header; no pixel is decoded.

    Args:
      data: scalar string, the encoded picture.
      max_pixels: the most pixels it may have.

    Returns:
      `data`, which is there only once the check has passed (decode this one), and the header.

    Raises:
      tf.errors.InvalidArgumentError: when run, in one line that says what was found and what was expected.
    """
    length = tf.strings.length(data)
    start = _bytes_at(data, 0, 64)
    jpeg = tf.reduce_all(start[:3] == [0xFF, 0xD8, 0xFF])
    png = tf.reduce_all(start[:8] == [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A])
    known = tf.debugging.Assert(
        jpeg | png,
        [
            _join(
                "image_bytes: ", length, " bytes that are neither JPEG nor PNG found; expected an encoded JPEG or PNG."
            )
        ],
    )
    with tf.control_dependencies([known]):
        data = tf.identity(data)
    facts, needed = tf.cond(jpeg, lambda: _read_jpeg(data), lambda: _read_png(data, start))
    header = GraphHeader(jpeg, *facts)
    with tf.control_dependencies(_checks(header, length, needed, max_pixels)):
        return tf.identity(data), GraphHeader(*(tf.identity(value) for value in header))


def _checks(header: GraphHeader, length: tf.Tensor, needed: tf.Tensor, max_pixels: int) -> list[tf.Operation]:
    pixels = tf.cast(header.height, tf.int64) * tf.cast(header.width, tf.int64)
    kind = tf.where(header.jpeg, "JPEG", "PNG")
    found = _join("image_bytes: a ", kind, " of ", header.width, "x", header.height, " pixels")
    fits = (pixels <= max_pixels) & (tf.maximum(header.height, header.width) <= MAX_SIDE)
    return [
        tf.debugging.Assert(pixels > 0, [_join(found, " found; expected an ordinary picture with a whole header.")]),
        tf.debugging.Assert(
            fits, [_join(found, " found; expected at most ", max_pixels, " pixels and ", MAX_SIDE, " a side.")]
        ),
        tf.debugging.Assert(
            tf.cast(length, tf.int64) >= needed,
            [
                _join(
                    found, " is cut short or its header lies: ", length, " bytes found; expected at least ", needed, "."
                )
            ],
        ),
    ]


def _read_png(data: tf.Tensor, start: tf.Tensor) -> tuple[tuple[tf.Tensor, ...], tf.Tensor]:
    """IHDR stands first or the file is no PNG; returns the facts and the bytes that the pixels need at least."""
    head = tf.reduce_all(start[8:16] == [0, 0, 0, 13, 0x49, 0x48, 0x44, 0x52])
    width, height = _big_endian(start[16:20]), _big_endian(start[20:24])
    depth, colour = start[24], start[25]
    samples = tf.gather(_PNG_SAMPLES, tf.clip_by_value(colour, 0, 6))
    ordinary = head & (samples > 0) & (colour <= 6) & tf.reduce_any(depth == [1, 2, 4, 8, 16])
    height = tf.where(ordinary, height, 0)
    row = (tf.cast(width, tf.int64) * tf.cast(samples * depth, tf.int64) + 7) // 8
    needed = tf.cast(height, tf.int64) * row // _DEFLATE_RATIO
    transparent, orientation = _walk_png(data)
    facts = (height, width, depth == 16, (colour == 4) | (colour == 6) | transparent, orientation)
    return facts, needed


def _walk_png(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Looks at the chunks before the pixels: is there tRNS, and which orientation does eXIf give?"""
    length = tf.strings.length(data)

    def going(position: tf.Tensor, step: tf.Tensor, *_: tf.Tensor) -> tf.Tensor:
        return (position >= 0) & (position + 12 <= length) & (step < _MAX_STEPS)

    def walk(position: tf.Tensor, step: tf.Tensor, transparent: tf.Tensor, orientation: tf.Tensor) -> tuple:
        chunk = tf.strings.substr(data, position, 8)
        name, size = tf.strings.substr(chunk, 4, 4), _big_endian(_bytes_at(chunk, 0, 4))
        orientation = tf.cond(name == b"eXIf", lambda: _exif_orientation(data, position + 8), lambda: orientation)
        over = (name == b"IDAT") | (name == b"IEND") | (size < 0) | (size > length)
        return tf.where(over, -1, position + 12 + size), step + 1, transparent | (name == b"tRNS"), orientation

    found = tf.while_loop(going, walk, (33, 0, False, 1), parallel_iterations=1)
    return found[2], found[3]


def _read_jpeg(data: tf.Tensor) -> tuple[tuple[tf.Tensor, ...], tf.Tensor]:
    """Walks the segments up to the first scan; returns the facts and the bytes that the pixels need at least."""
    length = tf.strings.length(data)

    def going(position: tf.Tensor, step: tf.Tensor, *_: tf.Tensor) -> tf.Tensor:
        return (position >= 0) & (position + 4 <= length) & (step < _MAX_STEPS)

    def walk(position: tf.Tensor, step: tf.Tensor, frame: tf.Tensor, exif: tf.Tensor) -> tuple:
        at, marker = _next_marker(data, position)
        head = _bytes_at(data, at + 2, 20)
        is_frame = (marker >= 0xC0) & (marker <= 0xCF) & tf.reduce_all(marker != [0xC4, 0xC8, 0xCC])
        frame = tf.where(is_frame, tf.concat([[marker], head[2:]], 0), frame)
        is_exif = (marker == 0xE1) & (exif == 0) & tf.reduce_all(head[2:8] == [0x45, 0x78, 0x69, 0x66, 0, 0])
        exif = tf.where(is_exif, at + 10, exif)
        after = tf.where(marker > 0, at + 2 + tf.maximum(head[0] * 256 + head[1], 2), at)
        return tf.where((marker == 0xDA) | (marker == 0xD9), -1, after), step + 1, frame, exif

    start = (2, 0, tf.zeros([_FRAME], tf.int32), 0)
    _, _, frame, exif = tf.while_loop(going, walk, start, parallel_iterations=1)
    orientation = tf.cond(exif > 0, lambda: _exif_orientation(data, exif), lambda: 1)
    height, width, needed = _frame_facts(frame)
    return (height, width, tf.constant(False), tf.constant(False), orientation), needed


def _next_marker(data: tf.Tensor, position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Finds the next marker that has a length; returns where its FF is, and its code, or where to go on, and 0."""
    window = _bytes_at(data, position, _WINDOW)
    codes = window[1:]
    without = (codes == 0xFF) | (codes <= 1) | ((codes >= 0xD0) & (codes <= 0xD8))
    hit = (window[:-1] == 0xFF) & ~without
    index = tf.argmax(hit, output_type=tf.int32)
    found = tf.reduce_any(hit)
    return position + tf.where(found, index, _WINDOW - 1), tf.where(found, codes[index], 0)


def _frame_facts(frame: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Height, width (0 where the kind is not decoded) and least bytes of the scans, from [marker, frame header]."""
    marker, depth, channels = frame[0], frame[1], frame[6]
    ordinary = tf.reduce_any(marker == [0xC0, 0xC1, 0xC2, 0xC9, 0xCA]) & (depth == 8)
    ordinary &= tf.reduce_any(channels == [1, 3, 4])
    height = tf.where(ordinary, frame[2] * 256 + frame[3], 0)
    width = frame[4] * 256 + frame[5]
    sampling = tf.where(tf.range(4) < channels, frame[8::3], 0)
    across, down = sampling // 16, sampling % 16
    units = _divide_up(width, 8 * tf.maximum(tf.reduce_max(across), 1))
    units *= _divide_up(height, 8 * tf.maximum(tf.reduce_max(down), 1))
    blocks = tf.where(channels > 1, units * tf.reduce_sum(across * down), _divide_up(width, 8) * _divide_up(height, 8))
    # A block of 8x8 costs one bit for its DC code and, unless the scans are progressive, one for "end of block".
    # Arithmetic coding has no such bound.
    sequential = (marker == 0xC0) | (marker == 0xC1)
    bits = tf.where(sequential, 2, tf.where(marker == 0xC2, 1, 0))
    return height, width, tf.cast(blocks, tf.int64) * tf.cast(bits, tf.int64) // 8


def _exif_orientation(data: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    """Reads tag 274 of the first directory of the Exif block that begins at `start`; 1 where there is none."""
    mark = _bytes_at(data, start, 8)
    little, big = (tf.reduce_all(mark[:4] == order) for order in ([0x49, 0x49, 42, 0], [0x4D, 0x4D, 0, 42]))

    def number(values: tf.Tensor) -> tf.Tensor:
        """Bytes along the last axis to a whole number, in the block's order; at most four of them."""
        size = values.shape[-1]
        powers = [256**k for k in range(size)]
        return tf.reduce_sum(values * tf.where(little, powers, list(reversed(powers))), -1)

    directory = start + tf.clip_by_value(number(mark[4:8]), 0, 1 << 24)
    count = tf.minimum(number(_bytes_at(data, directory, 2)), _MAX_TAGS)
    entries = tf.reshape(_bytes_at(data, directory + 2, 12 * _MAX_TAGS), (_MAX_TAGS, 12))
    kind = number(entries[:, 2:4])
    value = tf.where(kind == 4, number(entries[:, 8:12]), tf.where(kind == 1, entries[:, 8], number(entries[:, 8:10])))
    is_tag = (
        (number(entries[:, :2]) == 274) & (tf.range(_MAX_TAGS) < count) & tf.reduce_any(kind[:, None] == [1, 3, 4], 1)
    )
    orientation = tf.reduce_max(tf.where(is_tag, value, 0))
    return tf.where((little | big) & (orientation >= 1) & (orientation <= 8), orientation, 1)


def _bytes_at(data: tf.Tensor, position: tf.Tensor | int, count: int) -> tf.Tensor:
    """Returns [count] int32, bytes of `data` from `position` on; behind its end there are zeros."""
    inside = tf.clip_by_value(position, 0, tf.strings.length(data))
    # The decoder refuses an empty string.
    piece = tf.strings.join([tf.strings.substr(data, inside, count), b"\0"])
    return tf.cast(tf.io.decode_raw(piece, tf.uint8, fixed_length=count), tf.int32)


def _big_endian(values: tf.Tensor) -> tf.Tensor:
    """Four bytes to an int32; negative from 2^31 on."""
    return tf.reduce_sum(values * [1 << 24, 1 << 16, 1 << 8, 1])


def _divide_up(value: tf.Tensor, by: tf.Tensor | int) -> tf.Tensor:
    return (value + by - 1) // by


def _join(*parts: tf.Tensor | str | int) -> tf.Tensor:
    texts = [
        part if isinstance(part, str) or part.dtype == tf.string else tf.strings.as_string(part)
        for part in (str(p) if isinstance(p, int) else p for p in parts)
    ]
    return tf.strings.join(texts)
