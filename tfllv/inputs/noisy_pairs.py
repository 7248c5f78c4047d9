"""Pairs for a diffusion model: squares of many sizes shrunk to one, with the noise and the time of each example.

Noise and time are drawn here, by (seed, number of the example) like crops and flips, so that a training step is a
function of seed and step alone, on any number of devices and after any stop.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import tensorflow as tf

from tfllv import contracts
from tfllv.inputs import pairs, transforms
from tfllv.records import pairs as records
from tfllv.records import problems

_SALT = 7919  # between the draws of one example, as `transforms` does
FIELDS = (1, 2, 4, 8)  # places along a side of the fields of a perturbation: half a picture, a quarter, ...


def find_named_pairs(
    bright: str | pathlib.Path, dark: str | pathlib.Path, *, annotation: str | pathlib.Path = ""
) -> dict[str, list[pathlib.Path]]:
    """Returns the pictures of two folders as columns {"low": paths, "high": paths}, matched by name without ending.

    Every bright picture must have a dark one; what the dark folder holds beside them is left out.

    Args:
      bright: folder of well-lit pictures.
      dark: folder of dark ones, the condition.
      annotation: a JSON file whose `filename` lists the pictures to take; or COCO's, whose `images` have `file_name`;
        empty: all.

    Raises:
      ValueError: naming what is missing and how many, or if the annotation is none.
      OSError: if the annotation cannot be read.
    """
    for name, folder in (("input_image_dir", bright), ("conditional_image_dir", dark)):
        if not pathlib.Path(folder).is_dir():
            raise ValueError(f"`{name}` must be a folder of pictures. Received: '{folder}', which is none.")
    found = {pair.key: pair for pair in records.read_folders(dark, bright, problems.Report())}
    stems = {pathlib.Path(name).stem for name in (read_names(annotation) if annotation else _picture_names(bright))}
    missing = sorted(stems - found.keys())
    if missing:
        raise ValueError(
            f"`conditional_image_dir` and `input_image_dir` must both have every picture asked for. Received: "
            f"no pair '{missing[0]}' in '{dark}' and '{bright}' ({len(missing)} of {len(stems)} missing); add them, or "
            f"name those to take in an `annotation`."
        )
    chosen = [found[stem] for stem in sorted(stems)]
    return {
        contracts.LOW: [pathlib.Path(pair.low) for pair in chosen],
        contracts.HIGH: [pathlib.Path(pair.high) for pair in chosen],
    }


def _picture_names(bright: str | pathlib.Path) -> list[str]:
    names = [
        path.name
        for path in pathlib.Path(bright).iterdir()
        if path.suffix.lower() in contracts.IMAGE_SUFFIXES and not path.name.startswith(".")
    ]
    if not names:
        raise ValueError(f"`input_image_dir` must hold pictures. Received: '{bright}', which holds none.")
    return names


def read_names(annotation: str | pathlib.Path) -> list[str]:
    """Returns the file names that a JSON file lists under `filename`, or COCO's `images` under `file_name`.

    Raises:
      ValueError: if it is no such file.
      OSError: if it cannot be read.
    """
    try:
        content = json.loads(pathlib.Path(annotation).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{annotation}: not JSON: {' '.join(str(error).split())}.") from None
    try:
        names = content["filename"] if "filename" in content else [row["file_name"] for row in content["images"]]
    except (KeyError, TypeError):
        names = None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError(
            f"{annotation}: `annotation` must list file names under `filename`, or be a COCO file with `images`. "
            f"Received: {sorted(content) if isinstance(content, dict) else type(content).__name__}."
        )
    return names


class NoisyPairs(pairs.PairedSource):
    """Pairs of which random squares are taken, shrunk to `size`, and given noise, a time and their picture's level."""

    def __init__(
        self,
        columns: Mapping[str, Sequence[pathlib.Path]],
        *,
        size: int,
        times: int,
        crop_from: int = 0,
        crop_to: int = 0,
        cache_mb: int = 2000,
        flip: bool = False,
        exposure: float = 0.0,
        cast: float = 0.0,
        perturbation: float = 0.0,
    ):
        """Checks every file's header, and that the pictures of a pair have one size.

        Args:
          columns: {"low": N paths, "high": N paths}.
          size: side of an example in pixels.
          times: of the noise schedule.
          crop_from: least side of the square that is shrunk to `size`, drawn log-evenly; 0 for `size`.
          crop_to: largest side; 0 for `crop_from`. A smaller picture gives what it has.
          cache_mb: as `ImageSource`.
          flip: mirrors half of the examples, left to right.
          exposure: scales the dark pictures; see `transforms.random_exposure`; 0 leaves them.
          cast: colours both pictures; see `transforms.random_cast`; 0 leaves them.
          perturbation: deviation of fields of low frequencies that are added to an example's noise; 0: none.

        Raises:
          ValueError: naming the files, if one is no image or the sizes of a pair differ; or if a side is wrong.
        """
        least = crop_from or size
        most = crop_to or least
        if not size <= least <= most:
            raise ValueError(
                f"`crop_from` and `crop_to` must be at least `image_size`, in this order. "
                f"Received: crop_from={least}, crop_to={most}, image_size={size}."
            )
        super().__init__(columns, size=size, fit="crop", cache_mb=cache_mb)
        self._in_graph = False  # the squares are cut and shrunk by OpenCV
        self.fit = "keep"  # the pipeline must not cut by itself
        self.changes = [_random_square(size, least, most)]
        self.changes += [transforms.random_mirror()] if flip else []
        self.changes += [_with_level(transforms.random_cast(cast))] if cast else []
        self.changes += [_with_level(transforms.random_exposure(exposure))] if exposure else []
        self.changes.append(_add_noise(size, times, perturbation))

    def _open(self, key: str, path: pathlib.Path) -> np.ndarray:
        from tfllv.inputs import files

        return files.fit(files.read_pixels(path), self.size, mode="crop")

    def load(self, index: tf.Tensor, seed: tf.Tensor | None = None) -> transforms.Example:
        """The pair, and `level`, the mean of the dark picture in [0, 1]."""
        example = super().load(index, seed)
        return example | {contracts.LEVEL: tf.reduce_mean(tf.cast(example[contracts.LOW], tf.float32)) * (1 / 255)}

    def read_centre(self, key: str, index: int) -> np.ndarray:
        """Returns the picture's largest middle square, shrunk to `size`: what validation sees."""
        image = self.read(key, index)
        side = min(image.shape[:2])
        top, left = ((length - side) // 2 for length in image.shape[:2])
        return _shrink(image[top : top + side, left : left + side], self.size)


def _shrink(square: np.ndarray, size: int) -> np.ndarray:
    """Shrinks [s, s, 3] uint8 to [size, size, 3] by the mean over each pixel's area."""
    if len(square) == size:
        return np.ascontiguousarray(square)
    return cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA)


def _random_square(size: int, least: int, most: int) -> transforms.Transform:
    """Cuts one random square out of both pictures and shrinks it; its side is drawn log-evenly."""

    def cut(low: np.ndarray, high: np.ndarray, draws: np.ndarray) -> list[np.ndarray]:
        longest = min(most, *low.shape[:2])
        shortest = min(least, longest)
        side = round(shortest * (longest / shortest) ** float(draws[0]))
        top, left = (int(draw * (length - side + 1)) for draw, length in zip(draws[1:], low.shape[:2], strict=True))
        return [_shrink(image[top : top + side, left : left + side], size) for image in (low, high)]

    def apply(example: transforms.Example, seed: tf.Tensor) -> transforms.Example:
        draws = tf.random.stateless_uniform([3], seed + tf.constant([0, 9 * _SALT], tf.int64), alg="philox")
        given = [example[contracts.LOW], example[contracts.HIGH], draws]
        found = tf.numpy_function(cut, given, [tf.uint8, tf.uint8], stateful=False)
        low, high = (tf.ensure_shape(image, [size, size, 3]) for image in found)
        return example | {contracts.LOW: low, contracts.HIGH: high}

    return apply


def _with_level(change: transforms.Transform) -> transforms.Transform:
    """Scales `level` as a change scales the dark picture."""

    def apply(example: transforms.Example, seed: tf.Tensor) -> transforms.Example:
        changed = change(example, seed)
        before, after = (tf.reduce_mean(transforms.to_float(each)[contracts.LOW]) for each in (example, changed))
        return changed | {contracts.LEVEL: example[contracts.LEVEL] * after / tf.maximum(before, 1e-6)}

    return apply


def _random_fields(size: int, seed: tf.Tensor) -> tf.Tensor:
    """Returns the sum of normal noise of `FIELDS` x `FIELDS` places, each enlarged to [size, size, 3]."""
    total = tf.zeros([size, size, 3])
    for number, side in enumerate(FIELDS):
        further = seed + tf.constant([0, (number + 2) * _SALT], tf.int64)
        field = tf.random.stateless_normal([side, side, 3], further, alg="philox")
        total += tf.image.resize(field, [size, size], method="bicubic")
    return total


def _add_noise(size: int, times: int, perturbation: float) -> transforms.Transform:
    """Adds `noise`, standard normal, `time`, even over the schedule, and `perturbation`, of low frequencies."""

    def apply(example: transforms.Example, seed: tf.Tensor) -> transforms.Example:
        draw = seed + tf.constant([0, 10 * _SALT], tf.int64)
        noise = tf.random.stateless_normal([size, size, 3], draw, alg="philox")
        time = tf.random.stateless_uniform(
            [], draw + tf.constant([0, _SALT], tf.int64), maxval=times, dtype=tf.int32, alg="philox"
        )
        example = example | {contracts.NOISE: noise, contracts.TIME: time}
        if perturbation:
            example[contracts.PERTURBATION] = perturbation * _random_fields(size, draw)
        return example

    return apply
