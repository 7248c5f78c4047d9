"""Features of an encoder for a set of pictures, kept in files: the costly part of a probe is done once."""

from __future__ import annotations

import concurrent.futures
import hashlib
import io
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfllv.inputs import files, image_files

BATCH = 16
_CHUNK = 16 * BATCH  # pictures a file of the cache
COLOURS = "colours"


class Colours:
    """In an encoder's place, what needs none: mean and deviation of each colour, their squares and logarithms.

    Classes that it tells apart are told by colour and brightness.
    """

    def get_config(self) -> dict[str, Any]:
        """As an encoder's."""
        return {"kind": COLOURS}

    def get_weights(self) -> list[np.ndarray]:
        """None."""
        return []

    def __call__(self, pictures: Any, training: bool = False) -> dict[str, Any]:
        """Returns [B, H, W, 3] in [0, 1] as {"c5": [B, 1, 1, 18]}."""
        from keras import ops

        spread = [function(pictures, axis=(1, 2), keepdims=True) for function in (ops.mean, ops.std)]
        values = ops.concatenate(spread, axis=-1)
        return {"c5": ops.concatenate([values, ops.square(values), ops.log(values + 1e-3)], axis=-1)}


def build_encoder(weights: str, *, seed: int = 0) -> Any:
    """Returns the ResNet-50 encoder with weights as `encoder_weights.load_encoder` takes them, for pictures in [0, 1].

    Or, for `colours`, what needs no encoder.

    Raises:
      ValueError, OSError: by `load_encoder`.
    """
    if weights == COLOURS:
        return Colours()
    from tfllv.models import encoder_weights, resnet

    variant = encoder_weights.variant_of(weights)
    normalization = "keras" if variant == "v1" else "torchvision"
    backbone = resnet.ResNet50(variant=variant, normalization=normalization, seed=seed)
    encoder_weights.load_encoder(backbone, weights)
    return backbone


def digest(encoder: Any) -> str:
    """Returns a word that changes with any weight of an encoder, or its layout."""
    total = hashlib.sha256(repr(sorted(encoder.get_config().items())).encode())
    for value in encoder.get_weights():
        total.update(np.ascontiguousarray(value).tobytes())
    return total.hexdigest()[:16]


def read_pictures(paths: Sequence[pathlib.Path], size: int) -> np.ndarray:
    """Returns N pictures, each whole, resized to a square (Lanczos): [N, size, size, 3] uint8."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return np.stack(list(pool.map(lambda path: files.fit(files.read_pixels(path), size, mode="resize"), paths)))


def extract(
    encoder: Any,
    paths: Sequence[pathlib.Path],
    *,
    size: int = 224,
    cache: str | os.PathLike[str] | None = None,
    progress: Callable[[int], Any] | None = None,
) -> np.ndarray:
    """Returns the mean of the last feature map for each picture: [N, 2048] float32 (18 for `Colours`).

    Args:
      encoder: float32 [B, size, size, 3] in [0, 1] -> a dict with `c5`.
      paths: N pictures.
      size: side in pixels that every picture is resized to.
      cache: folder where features are kept, by the encoder's weights and the pictures' names, sizes and times; a call
        that was stopped goes on where it was. None keeps none.
      progress: called with the number of pictures done by each step.

    Raises:
      ValueError, OSError: naming a picture that cannot be read.
    """
    import tensorflow as tf

    from tfllv.models import encoder_weights, resnet

    frozen = encoder_weights.make_folded(encoder) if isinstance(encoder, resnet.ResNet50) else encoder

    @tf.function(input_signature=[tf.TensorSpec([None, size, size, 3], tf.uint8)])
    def run(batch: Any) -> Any:
        return tf.reduce_mean(
            tf.cast(frozen(tf.cast(batch, tf.float32) / 255, training=False)["c5"], tf.float32), (1, 2)
        )

    folder = None if cache is None else pathlib.Path(cache)
    word = digest(encoder) if folder else ""
    found = []
    for start in range(0, len(paths), _CHUNK):
        chunk = paths[start : start + _CHUNK]
        file = None if folder is None else folder / f"{_name(word, chunk, size)}.npy"
        rows = _read_cached(file, len(chunk))
        if rows is None:
            parts = [chunk[i : i + BATCH] for i in range(0, len(chunk), BATCH)]
            rows = np.concatenate([run(read_pictures(part, size)).numpy() for part in parts])
            _keep(file, rows)
        found.append(rows)
        if progress:
            progress(len(chunk))
    return np.concatenate(found)


def _name(word: str, paths: Sequence[pathlib.Path], size: int) -> str:
    facts = [(os.path.abspath(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    return hashlib.sha256(repr((word, size, facts)).encode()).hexdigest()[:32]


def _read_cached(file: pathlib.Path | None, count: int) -> np.ndarray | None:
    """Returns a chunk's features, or None where they are not there, or damaged."""
    if file is None or not file.is_file():
        return None
    try:
        rows = np.load(file, allow_pickle=False)
    except (ValueError, OSError, EOFError):
        return None
    return rows if rows.ndim == 2 and len(rows) == count and np.isfinite(rows).all() else None


def _keep(file: pathlib.Path | None, rows: np.ndarray) -> None:
    if file is None:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    np.save(buffer, rows)
    image_files.write_bytes(file, buffer.getvalue())
