"""Encoded pictures to upright pixels and back, inside a TensorFlow graph.

The pixels are those of `image_files.read_image`: JPEG by the accurate inverse transform, 16-bit PNG at 16 bits, turned
by the Exif orientation. Alpha is carried as further channels, none where the picture is opaque.
"""

from __future__ import annotations

import tensorflow as tf

from tfllv.export.graph_header import GraphHeader

_COMPRESSION = 3  # of PNG; the default, 6, takes twice the time for some per cent of the bytes


def decode(data: tf.Tensor, header: GraphHeader, dtype: tf.DType) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes one picture.

    Args:
      data: scalar string, as `graph_header.read_header` returns it.
      header: what it returns beside.
      dtype: tf.uint8, or tf.uint16 where the header says `deep`.

    Returns:
      [H, W, 3] and [H, W, 0 or 1] of that type: colours and alpha, upright.
    """

    def decode_png() -> tf.Tensor:
        return tf.cond(
            header.alpha,
            lambda: tf.io.decode_png(data, channels=4, dtype=dtype),
            lambda: tf.io.decode_png(data, channels=3, dtype=dtype),
        )

    def decode_jpeg() -> tf.Tensor:
        # The decoder's own view of the size: should the two parsers ever differ, nothing is allocated.
        size = tf.io.extract_jpeg_shape(data)[:2]
        same = tf.reduce_all(size == [header.height, header.width])
        agreed = tf.debugging.Assert(same, ["image_bytes: a JPEG with two sizes found; expected one:", size])
        with tf.control_dependencies([agreed]):
            return tf.io.decode_jpeg(tf.identity(data), channels=3, dct_method="INTEGER_ACCURATE")

    picture = decode_png() if dtype == tf.uint16 else tf.cond(header.jpeg, decode_jpeg, decode_png)
    picture = tf.ensure_shape(picture, [None, None, None])
    picture = tf.cond(header.orientation > 1, lambda: turn(picture, header.orientation), lambda: picture)
    return tf.ensure_shape(picture[..., :3], [None, None, 3]), picture[..., 3:]


def turn(picture: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Applies an Exif orientation to [H, W, C]: 5 to 8 swap the axes, then rows and columns are reversed as due."""
    picture = tf.cond(orientation >= 5, lambda: tf.transpose(picture, (1, 0, 2)), lambda: picture)
    rows, columns = (tf.reduce_any(orientation == numbers) for numbers in ([3, 4, 7, 8], [2, 3, 6, 7]))
    return tf.reverse(picture, axis=tf.boolean_mask([0, 1], tf.stack([rows, columns])))


def encode(pixels: tf.Tensor, alpha: tf.Tensor) -> tf.Tensor:
    """Encodes [H, W, 3] with its alpha, uint8 or uint16, as a PNG of that depth; returns a scalar string."""
    return tf.io.encode_png(tf.concat([pixels, alpha], -1), compression=_COMPRESSION)
