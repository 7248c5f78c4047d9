"""Batches of images from files, in an order that is a pure function of (seed, step).

Image number g of the endless stream belongs to step g // batch_size and to epoch g // n; its place in the epoch is
drawn by a permutation of (seed, epoch), its crop and flips by (seed, g). So a run can start at any step without
decoding what came before, and one, two or ten readers that share the work see the same batches.
"""

from __future__ import annotations

import hashlib
import pathlib
import threading
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from tfllv import contracts
from tfllv.inputs import files, image_header, transforms

_DECODING = {"channels": 3, "dct_method": "INTEGER_ACCURATE"}
# Around a square cut out of a JPEG: a pixel's colour depends on its neighbours' by up to two pixels.
_MARGIN = 8


class ImageSource:
    """Images by index, decoded on first use and kept in memory while they fit.

    Attributes:
      names: [N] what each example is called: the path of its first picture.
      keys: the keys of an example.
      changes: transforms of its own, made after crop, flips and turns.
    """

    def __init__(
        self, columns: Mapping[str, Sequence[pathlib.Path]], *, size: int, fit: str = "resize", cache_mb: int = 2000
    ):
        """Checks every file's header.

        Args:
          columns: key -> N paths; `{"low": [...]}` or `{"low": [...], "high": [...]}`, pictures of a row as a pair.
          size: side of the images in pixels.
          fit: `resize` makes every image [size, size, 3], `crop` keeps it and only enlarges sides that are too short.
          cache_mb: memory for decoded images, in 10**6 bytes.

        Raises:
          ValueError: naming the file, if one is not an image; or if the columns differ in length.
        """
        lengths = {key: len(paths) for key, paths in columns.items()}
        if len(set(lengths.values())) != 1 or not all(lengths.values()):
            raise ValueError(f"`columns` must be of one length, at least 1. Received: {lengths}.")
        headers = self._check_columns(columns)
        self._in_graph = fit == "crop" and _fit_for_graph(headers, size=size, cache_mb=cache_mb)
        self._sides = np.array([(h.height, h.width) for h in headers[: len(next(iter(columns.values())))]], np.int32)
        self.keys = tuple(columns)
        self.changes: list[transforms.Transform] = []
        self.names = [str(path) for path in next(iter(columns.values()))]
        self.size, self.fit = size, fit
        self.failure: Exception | None = None
        self._columns = {key: list(paths) for key, paths in columns.items()}
        self._free = cache_mb * 10**6
        self._kept: dict[tuple[str, int], np.ndarray] = {}
        self._lock = threading.Lock()

    def _check_columns(self, columns: Mapping[str, Sequence[pathlib.Path]]) -> list[image_header.Header]:
        return [_check_header(path) for paths in columns.values() for path in paths]

    def __len__(self) -> int:
        return len(self.names)

    def fingerprint(self) -> str:
        """Returns a word that changes when the list of files changes (not their folder)."""
        text = "\n".join(pathlib.Path(name).name for name in self.names)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def read(self, key: str, index: int) -> np.ndarray:
        """Returns the picture `key` of example `index` as [H, W, 3] uint8."""
        kept = self._kept.get((key, index))
        if kept is not None:
            return kept
        image = self._open(key, self._columns[key][index])
        with self._lock:
            if image.nbytes <= self._free and (key, index) not in self._kept:
                self._free -= image.nbytes
                self._kept[key, index] = image
        return image

    def _open(self, key: str, path: pathlib.Path) -> np.ndarray:
        return files.fit(files.read_pixels(path), self.size, mode=self.fit)

    def read_centre(self, key: str, index: int) -> np.ndarray:
        """Returns the middle [size, size, 3] of a picture: what validation sees, without chance."""
        image = self.read(key, index)
        top, left = ((side - self.size) // 2 for side in image.shape[:2])
        return image[top : top + self.size, left : left + self.size]

    def _read_all(self, index: int) -> list[np.ndarray]:
        try:
            return [self.read(key, int(index)) for key in self._columns]
        except (ValueError, OSError) as error:
            self.failure = error
            raise

    def load(self, index: tf.Tensor, seed: tf.Tensor | None = None) -> transforms.Example:
        """The same as a `tf.data` map: index -> {key: uint8 picture, "name": path}.

        With a seed, the square of each picture that `transforms.random_crop` cuts out; of a JPEG that is read anew each
        time, little more than this square is decoded.
        """
        if self._in_graph:
            return self._decode(index, seed)
        example = self._load_whole(index)
        return example if seed is None else transforms.random_crop(self.size)(example, seed)

    def _decode(self, index: tf.Tensor, seed: tf.Tensor | None) -> transforms.Example:
        files_of = {key: tf.io.read_file(tf.constant([*map(str, self._columns[key])])[index]) for key in self._columns}
        example = {contracts.NAME: tf.constant(self.names)[index]}
        if seed is None:
            return example | {key: tf.io.decode_jpeg(file, **_DECODING) for key, file in files_of.items()}
        sides = tf.constant(self._sides)[index]
        corner = tf.stack(transforms.draw_corner(seed, sides[0], sides[1], self.size))
        return example | {key: _decode_square(file, sides, corner, self.size) for key, file in files_of.items()}

    def _load_whole(self, index: tf.Tensor) -> transforms.Example:
        sides = [self.size, self.size] if self.fit == "resize" else [None, None]
        pictures = tf.numpy_function(self._read_all, [index], [tf.uint8] * len(self._columns), stateful=False)
        example = {
            key: tf.ensure_shape(picture, sides if key == contracts.MASK else [*sides, 3])
            for key, picture in zip(self._columns, pictures, strict=True)
        }
        example[contracts.NAME] = tf.constant(self.names)[index]
        return example


def _fit_for_graph(headers: Sequence[image_header.Header], *, size: int, cache_mb: int) -> bool:
    """Whether TensorFlow can decode all files itself, without Python's lock, and they are too many to be kept anyway.

    The pixels are the same bits (`files.read_pixels`): upright three-channel JPEG, large enough to be cut.
    """
    plain = all(h.format == "JPEG" and h.channels == 3 and h.orientation == 1 for h in headers)
    large = all(min(h.width, h.height) >= size for h in headers)
    return plain and large and sum(3 * h.width * h.height for h in headers) > cache_mb * 10**6


def _decode_square(file: tf.Tensor, sides: tf.Tensor, corner: tf.Tensor, size: int) -> tf.Tensor:
    """Decodes [size, size, 3] at `corner` of a JPEG of [2] `sides`, to the bits that cutting the whole would give."""
    start = tf.maximum(corner - _MARGIN, 0)
    end = tf.minimum(corner + (size + _MARGIN), sides)
    around = tf.io.decode_and_crop_jpeg(file, tf.concat([start, end - start], 0), **_DECODING)
    return tf.slice(around, tf.concat([corner - start, [0]], 0), [size, size, 3])


def _check_header(path: pathlib.Path) -> image_header.Header:
    try:
        return image_header.read_header(path)
    except ValueError as error:
        raise ValueError(f"{error} Remove the file or `exclude` it.") from None


def permutation(seed: int | tf.Tensor, epoch: int | tf.Tensor, count: int) -> tf.Tensor:
    """Returns the order of epoch `epoch`: [count] int64, a pure function of its arguments."""
    key = tf.stack([tf.cast(seed, tf.int64), tf.cast(epoch, tf.int64)])
    return tf.random.experimental.stateless_shuffle(tf.range(count, dtype=tf.int64), key, alg="philox")


def batch_indices(count: int, *, seed: int, step: int, batch_size: int) -> np.ndarray:
    """Returns which examples step `step` trains on: [batch_size] int64."""
    numbers = np.arange(step * batch_size, (step + 1) * batch_size)
    orders = {epoch: permutation(seed, epoch, count).numpy() for epoch in sorted(set((numbers // count).tolist()))}
    return np.array([orders[number // count][number % count] for number in numbers.tolist()])


def total_steps(count: int, *, num_epochs: int, batch_size: int) -> int:
    """Returns the steps that show every one of `count` examples `num_epochs` times, rounded up."""
    return -(-count * num_epochs // batch_size)


def _stream(count: int, *, seed: int, start: int, stop: int) -> tf.data.Dataset:
    """Returns the pairs (number in the stream, index of the example) from `start` to before `stop`."""
    epochs = tf.data.Dataset.range(start // count, -(-stop // count))
    indices = epochs.flat_map(lambda epoch: tf.data.Dataset.from_tensor_slices(permutation(seed, epoch, count)))
    indices = indices.skip(start % count).take(stop - start)
    return tf.data.Dataset.zip(tf.data.Dataset.range(start, stop), indices)


def training_batches(
    source: ImageSource,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    stop_step: int,
    augment: bool = False,
    num_workers: int = 4,
    shard: tuple[int, int] = (0, 1),
    parts: int = 1,
) -> tf.data.Dataset:
    """Returns the batches of steps `start_step` to before `stop_step`.

    Args:
      source: the images.
      batch_size: images a step, over all shards.
      seed: of order, crops and flips.
      start_step: first step; what came before is not decoded.
      stop_step: one past the last step.
      augment: random flips and quarter turns.
      num_workers: threads that decode.
      shard: (i, k): only the i-th of k equal, consecutive pieces of each batch.
      parts: the piece comes as so many consecutive batches (one a replica).

    Returns:
      A dataset of {key: [b, size, size, 3] float32 in [0, 1], "name": [b] string}, b = batch_size / (k * parts).

    Raises:
      ValueError: if the batch cannot be divided so.
    """
    place, shards = shard
    if batch_size % (shards * parts):
        raise ValueError(
            f"`train_batch_size` must be a multiple of the {shards * parts} replicas. Received: {batch_size}."
        )
    piece = batch_size // shards
    stream = _stream(len(source), seed=seed, start=start_step * batch_size, stop=stop_step * batch_size)
    if shards > 1:
        stream = stream.filter(lambda number, index: number % batch_size // piece == place)
    changes = [*([transforms.random_dihedral()] if augment else []), *source.changes]

    def make(number: tf.Tensor, index: tf.Tensor) -> transforms.Example:
        key = tf.stack([tf.constant(seed, tf.int64), number])
        example = source.load(index, key if source.fit == "crop" else None)
        for change in changes:
            example = change(example, key)
        return example

    dataset = stream.map(make, num_parallel_calls=num_workers, deterministic=True)
    dataset = dataset.batch(piece // parts, drop_remainder=True, num_parallel_calls=2, deterministic=True)
    return dataset.map(transforms.to_float, num_parallel_calls=2, deterministic=True).prefetch(2)
